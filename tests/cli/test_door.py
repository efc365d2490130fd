"""The first ten minutes, as transcripts: what is typed, what comes back, at any width."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from bluestab.report.frames.results import read_results
from bluestab.report.terminal.closing_table import print_outcome
from tests.report.test_report import RECORDS, stored
from tests.support.refusals import GAD, refused, tree

Say = Callable[..., Any]
NO_DRY_STEP = "hydra.launcher.dry_step=false"  # takes seconds


def test_the_closing_table_fits_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = stored(tmp_path, RECORDS)
    found = read_results(store, store.manifest(None))
    for columns in ("80", "100", "120", "200", ""):
        monkeypatch.setenv("COLUMNS", columns)
        print_outcome(found)
        said = capsys.readouterr().out
        assert "…" not in said
        lines = said.splitlines()
        heading = next(i for i, line in enumerate(lines) if {"arm", "mean"} <= set(line.split()))
        table = lines[heading : heading + 3]
        assert max(map(cell_len, table)) <= int(columns or 10_000)
        assert ("no room here for" in said) == (columns in ("80", "100"))


def test_check_names_every_arm_and_the_weights_that_are_missing(
    cli: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two arms of one technique have two names; what cannot start is not well."""
    monkeypatch.setattr("bluestab.training.dry_run_step.local_copy", lambda *_: None)
    sweep = ("-m", *GAD, "model=bert_base_uncased", "optim.bias_correction=true,false")
    said = cli("check", *sweep, "sweep.seeds=2", NO_DRY_STEP, COLUMNS="80")
    assert said.code == 2
    assert "…" not in said.out
    rows = [line.split("  ")[0] for line in said.out.splitlines() if line.startswith("none")]
    assert rows == ["none", "none, bias_correction=False"]
    assert "4 runs in 2 cells, 0 done; nothing was started\n" in said.out
    assert "all is well" not in said.out
    assert said.err.splitlines()[0] == (
        "bluestab: the weights of model 'bert_base_uncased' are not on this machine (4 of 4 runs "
        "to do need them); bring it with: bluestab fetch model=bert_base_uncased"
    )
    assert said.err.splitlines()[1].startswith("all that this command needs, data and models: ")
    assert tree(Path.cwd()) == set()


@pytest.mark.slow
def test_check_looks_for_the_device_of_the_runs(cli: Say) -> None:
    """But not where another machine will do them: those of a sweep, a single one is done here."""
    here = ("check", *GAD, "device=cuda:77", NO_DRY_STEP)
    said = cli(*here)
    assert (said.code, "all is well" in said.out) == (2, False)
    assert "device is cuda:77" in said.err
    assert cli(*here, "hydra/launcher=slurm").code == 2
    assert cli(*here, "-m", "sweep.seeds=1", "hydra/launcher=slurm").code == 0


@pytest.mark.slow
def test_keys_of_the_task_that_is_chosen(cli: Say) -> None:
    said = refused(cli, ("run", "task=classification", "task.labl=x", "task.train=x.csv"))
    assert "did you mean 'task.label'?" in said
