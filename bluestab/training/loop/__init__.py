"""The steps of a training, its evaluations, its checkpoints, and the parts they are made of."""
