#!/bin/bash

# Parameters
#SBATCH --array=0-19%8
#SBATCH --comment=/shared/runs/.slurm/s.1
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-node=1
#SBATCH --job-name=s
#SBATCH --licenses=x
#SBATCH --mem=16G
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/.slurm/s.1/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --reservation=class
#SBATCH --signal=USR2@120
#SBATCH --time=2:00:00

# setup
module load cuda

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/.slurm/s.1/%A_%a_%t_log.out --cpus-per-task=4 /opt/bluestab/bin/python -u -m bluestab.sweeps.slurm.task /shared/runs/.slurm/s.1 --first=1000
