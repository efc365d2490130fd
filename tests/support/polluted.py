"""An environment that leads SLURM's commands astray: options, and a job around the shell."""

from __future__ import annotations

POLLUTION = {
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_ARRAY_INX": "0-1",
    "SBATCH_OUTPUT": "/dev/null",
    "SBATCH_JOB_NAME": "another",
    "SBATCH_BEGIN": "now+1hour",
    "SQUEUE_PARTITION": "nowhere",
    "SQUEUE_USERS": "nobody",
    "SQUEUE_NAMES": "another",
    "SQUEUE_STATES": "PENDING",
    "SACCT_FEDERATION": "1",
    "SCANCEL_STATE": "SUSPENDED",
    "SLURM_JOB_ID": "1",
    "SLURM_JOBID": "1",
    "SLURM_ARRAY_JOB_ID": "1",
    "SLURM_ARRAY_TASK_ID": "99",
    "SLURM_RESTART_COUNT": "9",
    "SLURM_NTASKS": "7",
    "SLURM_CPUS_PER_TASK": "64",
    "SLURM_MEM_PER_NODE": "1",
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x80000000",
    "SLURM_CPU_BIND_TYPE": "mask_cpu:",
    "SLURM_CPU_BIND_LIST": "0x80000000",
}
