"""What the commands of SLURM may take from the environment: where they find the cluster, no more.

sbatch, squeue, scancel, sacct and srun read options from variables (their manuals, INPUT
ENVIRONMENT VARIABLES), and sbatch's win over the lines of the script. A shell's start-up file, or
the job that an interactive shell is a part of, would silently change what is submitted and what is
seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS = ("SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "SCONTROL_", "SINFO_", "SALLOC_", "SRUN_")
JOB = ("SLURM_", "SLURMD_")  # of the job that the caller is a part of, and options of srun
KEPT = frozenset(("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"))
"""Where the cluster is, and who asks."""

KNOBS: Mapping[str, str] = {
    "SBATCH_ACCOUNT": "account",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_CONSTRAINT": "constraint",
}
"""Variables that stand in for a knob that is null."""


def cleaned(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a command of SLURM: without options, and without a job around it."""
    kept = {
        name: value
        for name, value in environment.items()
        if name in KEPT or not name.startswith((*OPTIONS, *JOB))
    }
    if clusters := environment.get("SBATCH_CLUSTERS"):  # the same for those who look
        kept["SLURM_CLUSTERS"] = clusters
    return kept


def knobs_from(
    environment: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[dict[str, str], list[str]]:
    """Values for knobs that are null in `options`, from SBATCH_*; and what a person must be told:
    what was taken, and what was left out."""
    asked = {n: v for n, v in environment.items() if n.startswith("SBATCH_") and v}
    asked.pop("SBATCH_CLUSTERS", None)
    taken = {
        knob: asked.pop(name)
        for name, knob in KNOBS.items()
        if name in asked and options.get(knob) is None
    }
    told = [f"SBATCH_{k.upper()}={v} stands for hydra.launcher.{k}" for k, v in taken.items()]
    same = {name for name, knob in KNOBS.items() if asked.get(name) == str(options.get(knob))}
    if left := sorted(set(asked) - same):
        told.append(
            f"left out: {', '.join(f'{name}={asked[name]}' for name in left)}; the script goes by "
            "the knobs of hydra.launcher, additional_parameters among them"
        )
    return taken, told
