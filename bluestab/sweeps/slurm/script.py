"""The batch script of an array. Its text is submitit's; ours are the values and the command."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError, did_you_mean

OPTIONS: tuple[str, ...] = (
    *("partition", "account", "qos", "time", "mem", "cpus_per_task", "gpus_per_node", "gres"),
    *("constraint", "nodelist", "exclude", "reservation", "nice", "mail_type", "mail_user"),
    *("setup", "srun_args", "additional_parameters"),
)
"""Knobs of the launcher that become options of sbatch, under its names."""

OURS = frozenset(
    (
        *("array", "comment", "job_name", "output", "error", "requeue", "signal", "open_mode"),
        *("nodes", "ntasks", "ntasks_per_node"),
    )
)
"""Options of sbatch that are not for a person to set. A task has one node, on which a run has all
its `trainer.devices`, and is one process there, which starts those of the devices."""

SHAPE = re.compile(r"-N.*|-n.*|--nodes(=.*)?|--ntasks(-per-\w+)?(=.*)?")
"""Options of srun that ask for several nodes or processes, as some of OURS do."""

SUBMIT_LIMIT = re.compile(r"\w*Submit\w*Limit")
"""How SLURM calls a limit on the jobs of a user, account or QOS that are in the queue at once; a
task of an array counts as one (slurm.schedmd.com/resource_limits.html)."""

SIGNAL_DELAY = 120
"""Seconds before the time limit at which a task is told to stop."""


def batch_script(
    folder: Path,
    *,
    knobs: Mapping[str, Any],
    first: int,
    tasks: int,
    parallel: int | None,
    job_name: str,
    python: str | None,
) -> str:
    """The script of an array of `tasks` tasks that work on the orders in `folder`.

    knobs     options by SLURM's names, as in conf/hydra/launcher/slurm.yaml; null: left out
    first     number of its first task among those of the submission
    parallel  tasks that may run at once; python: command that starts the interpreter
    """
    from submitit.slurm import slurm

    options = {name: value for name, value in knobs.items() if value is not None}
    more = {**(options.pop("additional_parameters", None) or {}), "requeue": True}
    if "reservation" in options:
        more["reservation"] = options.pop("reservation")
    if "nice" in options:
        more["nice"] = options.pop("nice")
    steps = list(options.pop("srun_args", None) or [])
    if "cpus_per_task" in options:  # srun has not taken this over from sbatch since 22.05
        steps.append(f"--cpus-per-task={options['cpus_per_task']}")
    interpreter = python or shlex.quote(sys.executable)
    orders = shlex.quote(str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return slurm._make_sbatch_string(
            command=f"{interpreter} -u -m bluestab.sweeps.slurm.task {orders} --first={first}",
            folder=folder,
            job_name=job_name,
            map_count=tasks,
            array_parallelism=parallel or tasks,
            comment=str(folder),
            wckey=None,  # type: ignore[arg-type]  # submitit writes its own name into accounting
            stderr_to_stdout=True,
            srun_args=steps or None,
            additional_parameters=more,
            **{"time": None, "signal_delay_s": SIGNAL_DELAY, **options},
        )


def option_problems(knobs: Mapping[str, Any]) -> list[str]:
    """What is wrong with the knobs of `OPTIONS`, as far as it can be told without SLURM."""
    problems = _taken_options(knobs.get("additional_parameters") or {})
    problems += [
        f"hydra.launcher.srun_args has {argument}: {ONE_NODE}"
        for argument in knobs.get("srun_args") or []
        if SHAPE.fullmatch(str(argument).strip())
    ]
    for name in str(knobs.get("partition") or "").split(","):
        if name.endswith("*"):
            problems.append(
                f"hydra.launcher.partition has {name}: the star is how sinfo marks the partition "
                f"that jobs go to unless they name one; say {name.rstrip('*')}"
            )
    return problems


ONE_NODE = "a task has one node, and a run has all its trainer.devices there"


def _taken_options(options: Mapping[str, Any]) -> list[str]:
    """Of `additional_parameters`: anything that a knob, or we, already decide."""
    from submitit.slurm import slurm

    options_of_sbatch = {"mem_per_cpu", "mem_per_gpu", "cpus_per_gpu", "gpus_per_task"}
    options_of_sbatch |= {"dependency", "exclusive"}
    inner = set(inspect.signature(slurm._make_sbatch_string).parameters) - options_of_sbatch
    problems = []
    for name in options:
        plain, path = name.replace("-", "_"), f"hydra.launcher.additional_parameters.{name}"
        if plain in OPTIONS or plain == "array_parallelism":
            problems.append(f"{path}: say hydra.launcher.{plain}")
        elif plain in ("nodes", "ntasks", "ntasks_per_node"):
            problems.append(f"{path}: {ONE_NODE}; bluestab decides that itself")
        elif plain in OURS | inner:
            problems.append(f"{path}: bluestab decides that itself")
    return problems


def gpus(knobs: Mapping[str, Any]) -> int:
    """How many GPUs a task is asked for with, by `gpus_per_node` (`2`, `a100:2`), else by `gres`
    (`gpu:a100:1,gpu:v100:1`)."""
    if knobs["gpus_per_node"] is not None:
        asked = [f"gpu:{one}" for one in str(knobs["gpus_per_node"]).split(",")]
    else:
        asked = [one.removeprefix("gres/") for one in str(knobs["gres"] or "").split(",")]
    numbers = [one.rpartition(":")[2] for one in asked if one.partition(":")[0] == "gpu"]
    return sum(int(number) if number.isdigit() else 1 for number in numbers)


def known_options(script: str) -> set[str]:
    """Names of the options that a script sets, for messages and tests."""
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH --")]
    return {line.removeprefix("#SBATCH --").partition("=")[0] for line in lines}


def refused(said: str, script: str) -> ConfigError:
    """sbatch's refusal, with what it may be about."""
    options = sorted(known_options(script))
    name = next((w for w in said.replace("'", " ").split() if w.startswith("--")), "")
    name = name.lstrip("-").partition("=")[0]
    if SUBMIT_LIMIT.search(said):
        return ConfigError(
            f"{said}; jobs that are in the queue already leave no room for one more: `squeue --me` "
            "shows yours; try again when some have ended"
        )
    return ConfigError(
        f"{said}; the script sets {', '.join(options)}"
        + (did_you_mean(name, options) if name and name not in options else "")
        + "; hydra.launcher.dry_run=true prints it"
    )
