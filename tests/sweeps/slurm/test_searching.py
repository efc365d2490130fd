"""A search on SLURM is submitted once, and its tasks share it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import BluestabError, ConfigError
from bluestab.store.store import Store
from bluestab.sweeps.slurm import scheduler, task
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.submission import submissions
from tests.support import simulated_search
from tests.support.simulated_slurm import calls, launcher, squeue


@pytest.fixture
def make_search(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    for module in ("search.worker", "search.plan", "search.confirm"):
        monkeypatch.setattr(f"bluestab.sweeps.{module}.compose", simulated_search.compose_once)
    return partial(simulated_search.plan, tmp_path / "runs", n_trials=3, seeds=1)


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("sqlite:///s.db", "SQLite on a disk that machines share loses data"),
        ("postgresql://me:s3cret@h/db", r"me:\*\*\*@h/db.*put it into ~/.pgpass"),
    ],
)
def test_a_storage_that_tasks_cannot_share(make_search: Any, storage: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        launcher().search(make_search(storage=storage))
    assert "s3cret" not in str(error.value)


def test_a_search_is_submitted_once(
    make_search: Any,
    site: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As many tasks as workers; the journal is named from the root of the disk."""
    search = make_search(workers=3, storage="my.journal")
    launcher(wait=False).search(search)
    assert "submitted as job 12 (3 tasks)" in capsys.readouterr().out
    (one,) = submissions(Store(search.root), "s")
    assert one.is_search
    assert (one.tasks, one.keys, one.content["launcher"]["workers_per_task"]) == (3, set(), 1)
    assert "--array=0-2" in (one.folder / "script-0.sh").read_text()
    assert (tmp_path / "my.journal").is_file()
    kept = json.loads((Path(search.root) / "searches" / "s" / "search.json").read_text())
    assert kept["storage"] == str(tmp_path / "my.journal")

    launcher(wait=False).search(search)
    assert "job 12 (3 tasks) works on it already; attached" in capsys.readouterr().out
    assert calls(site, "sbatch") == 1

    site["squeue"] = scheduler.SchedulerError("away")
    with pytest.raises(BluestabError, match="SLURM does not answer"):
        launcher(wait=False).search(search)


def test_tasks_share_a_search_and_crashes_are_theirs(
    make_search: Any,
    site: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    search = make_search(workers=1)
    launcher(wait=False).search(search)
    (one,) = submissions(Store(search.root), "s")
    monkeypatch.setenv("BLUESTAB_JOB", "12_0.0")
    simulated_search.acts(Path(search.root), s0="crash")
    assert task.work(one, 0, "12_0.0", simulated_search.execute) == 1
    assert "3 points crashed here" in capsys.readouterr().out
    assert task.work(one, 1, "12_1.0", simulated_search.execute) == 0, "what crashed is the other's"
    site["squeue"] = squeue(ArrayTask("12_0", "FAILED"))
    simulated_search.acts(Path(search.root))
    launcher(wait=False).search(search)  # a new command tries them again
    assert "3 points that crashed are tried again" in capsys.readouterr().out
    assert (
        task.work(submissions(Store(search.root), "s")[-1], 0, "13_0.0", simulated_search.execute)
        == 0
    )
    assert "[3/3]" not in capsys.readouterr().out, "they were told as those of job 12_0"


def test_a_dry_search_writes_nothing(
    make_search: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher(dry_run=True, workers_per_task=2).search(make_search(workers=5))
    out = capsys.readouterr().out
    assert "--array=0-2%3" in out
    assert "# a search in 3 tasks; nothing was submitted" in out
    assert not (tmp_path / "runs").exists()
