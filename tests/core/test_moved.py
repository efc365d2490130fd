"""Old names of modules give the same modules: for stored configs, own plug-ins, batch scripts."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from bluestab.core.instantiate import load_class
from bluestab.core.moved import MOVED, new_name

ROOT = Path(__file__).parents[2]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("old", MOVED)
def test_every_name_of_the_table_has_a_module_behind_it(old: str) -> None:
    assert new_name(f"bluestab.{old}") == f"bluestab.{MOVED[old]}"
    assert find_spec(f"bluestab.{MOVED[old]}") is not None


def test_what_has_not_moved_is_left_alone() -> None:
    for name in ("bluestab", "bluestab.stats", "bluestab.techniques.llrd", "torch", "bluestab.api"):
        assert new_name(name) is None
    assert new_name("bluestab.run") is None  # the function of the Python API


def test_an_old_name_is_the_same_module_and_says_so_once() -> None:
    said = python(
        "import sys\n"
        "from bluestab.claims import Claims\n"
        "import bluestab.claims as old\n"
        "from bluestab.store import claims as new\n"
        "import bluestab.loggers.csv, bluestab.training.loggers.csv\n"
        "assert old is new and Claims is new.Claims\n"
        "assert new.__spec__.name == new.__name__ == 'bluestab.store.claims'\n"
        "assert bluestab.loggers.csv is bluestab.training.loggers.csv\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert said.count("bluestab.claims is now bluestab.store.claims") == 1


def test_a_module_that_is_not_there_is_still_an_import_error() -> None:
    for name in ("bluestab.loggers.nosuch", "bluestab.nosuch"):
        with pytest.raises(ModuleNotFoundError, match="nosuch"):
            import_module(name)


@pytest.mark.filterwarnings("ignore:bluestab.:DeprecationWarning")
@pytest.mark.parametrize(
    ("target", "slot"),
    [
        ("bluestab.models.Model", "bluestab.models.description.Model"),
        ("bluestab.loggers.csv.Csv", "bluestab.training.loggers.base.Logger"),
        ("bluestab.tasks.own_texts.OwnMultiLabel", "bluestab.tasks.base.Task"),
        ("bluestab.techniques.llrd.Llrd", "bluestab.techniques.base.Technique"),
    ],
)
def test_targets_of_stored_configs_are_found(target: str, slot: str) -> None:
    module, _, name = slot.rpartition(".")
    expected = getattr(import_module(module), name)
    assert issubclass(load_class(target, expected, "config"), expected)


@pytest.mark.filterwarnings("ignore:bluestab.:DeprecationWarning")
def test_an_own_launcher_as_it_used_to_be_written_is_one() -> None:
    code = (
        "from bluestab.launchers.base import Backend\n"
        "from bluestab.workers import begin, close\n"
        "class Pbs(Backend):\n"
        "    def launch(self, sweep): begin(sweep); close(sweep)\n"
        "from bluestab.types import Built, RunRecord\n"
        "from bluestab.loggers.base import Logger, Told\n"
        "from bluestab.sweeps.launchers.base import Backend as New\n"
        "assert issubclass(Pbs, New)\n"
    )
    python(code)


def test_a_batch_script_that_waits_in_a_queue_still_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bluestab.cluster.task", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--first" in done.stdout
