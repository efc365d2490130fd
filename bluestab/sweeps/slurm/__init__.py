"""A sweep on a SLURM cluster: what is submitted, what a task does, what becomes of it."""
