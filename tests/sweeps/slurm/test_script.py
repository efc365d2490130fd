"""The batch script is the recorded one; its options are sbatch's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bluestab.sweeps.launchers import slurm
from bluestab.sweeps.slurm.script import (
    batch_script,
    gpus,
    known_options,
    option_problems,
    refused,
)


def problems_of(additional_parameters: dict[str, object]) -> list[str]:
    return option_problems({"additional_parameters": additional_parameters})


RECORD = Path(__file__).parents[2] / "assets" / "slurm_script.sh"


def test_the_script_is_the_recorded_one() -> None:
    """When submitit writes another text, look at it; then BLUESTAB_RECORD=1 writes it down."""
    text = batch_script(
        Path("/shared/runs/.slurm/s.1"),
        knobs={
            **dict.fromkeys(slurm.OPTIONS),
            **{"partition": "gpu", "time": "2:00:00", "mem": "16G", "gpus_per_node": 1},
            **{"cpus_per_task": 4, "setup": ["module load cuda"], "reservation": "class"},
            **{"additional_parameters": {"licenses": "x"}, "signal_delay_s": 120},
        },
        first=1000,
        tasks=20,
        parallel=8,
        job_name="s",
        python="/opt/bluestab/bin/python",
    )
    if os.environ.get("BLUESTAB_RECORD"):
        RECORD.write_text(text)
    assert text == RECORD.read_text()
    assert known_options(text) >= {"partition", "time", "mem", "requeue", "licenses", "array"}


def test_every_option_of_the_yaml_is_one_of_sbatch() -> None:
    """A knob that reached nothing would be a lie."""
    folder = Path("/runs/.slurm/s.1")
    lists = {"setup": ["true"], "srun_args": ["--x"], "additional_parameters": {"y": 1}}
    knobs = {name: lists.get(name, "7") for name in slurm.OPTIONS}
    text = batch_script(
        folder, knobs=knobs, first=0, tasks=1, parallel=None, job_name="s", python=None
    )
    plain = {name.replace("_", "-") for name in slurm.OPTIONS} - {
        k.replace("_", "-") for k in lists
    }
    assert known_options(text) >= plain
    assert "\ntrue\n" in text
    assert " --x " in text


def test_options_that_are_decided_elsewhere() -> None:
    (ours,) = problems_of({"comment": "x"})
    (knob,) = problems_of({"cpus-per-task": 3})
    assert "decides that itself" in ours
    assert "say hydra.launcher.cpus_per_task" in knob
    assert problems_of({"licenses": "x"}) == []


def test_a_refused_option_is_not_suggested_in_its_own_place() -> None:
    """`--mem` is set, and refused for its value."""
    script = "#SBATCH --mem=9999G\n#SBATCH --memory-x=1\n#SBATCH --partition=gpu\n"
    assert "did you mean" not in str(refused("sbatch says: invalid value for --mem", script))
    said = str(refused("sbatch says: unrecognized option '--partitio=gpu'", script))
    assert "did you mean 'partition'?" in said


def test_what_no_knob_sets_may_be_set() -> None:
    """And where a knob is named, there is one."""
    assert problems_of({"mem_per_cpu": "2G", "exclusive": True, "dependency": "after:1"}) == []
    for name in ("nodes", "ntasks-per-node", "command", "use_srun"):
        (said,) = problems_of({name: 2})
        assert said.endswith("bluestab decides that itself")
    (said,) = problems_of({"mail-user": "me"})
    assert said.endswith("say hydra.launcher.mail_user")


@pytest.mark.parametrize(
    "argument", ["--nodes=2", "-N2", "-N 2", "--ntasks=8", "-n8", "--nodes", "--ntasks-per-gpu=2"]
)
def test_a_task_has_one_node(argument: str) -> None:
    """Whichever way more are asked for."""
    (said,) = option_problems({"srun_args": ["--label", argument]})
    assert said == (
        f"hydra.launcher.srun_args has {argument}: a task has one node, and a run has all its "
        "trainer.devices there"
    )
    assert option_problems({"srun_args": ["--no-kill", "--nice=3", "--network=x"]}) == []


def test_the_star_of_sinfo_is_no_part_of_a_name() -> None:
    (said,) = option_problems({"partition": "gpu,main*"})
    assert said.startswith("hydra.launcher.partition has main*: ")
    assert said.endswith("; say main")
    assert option_problems({"partition": "gpu,main"}) == []


@pytest.mark.parametrize(
    ("per_node", "gres", "n"),
    [
        *[(None, None, 0), (0, None, 0), (2, None, 2), ("a100:2", None, 2), ("a100", None, 1)],
        *[("a100:1,v100:2", None, 3), (None, "gpu:2", 2), (None, "gpu", 1), (None, "gpu:a100", 1)],
        *[(None, "gpu:a100:2,shard:4", 2), (None, "gres/gpu:3", 3), (None, "shard:4", 0)],
    ],
)
def test_gpus_however_they_are_asked_for(per_node: object, gres: object, n: int) -> None:
    assert gpus({"gpus_per_node": per_node, "gres": gres}) == n
