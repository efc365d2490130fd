"""No logger can fail a run or change it; wrong knobs and missing packages are named."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.core.errors import ConfigError
from bluestab.training.loggers import base
from bluestab.training.loggers.base import Log, Logger, scores_of
from tests.support.logged_runs import RUN, needs
from tests.training.test_execute import done, kept

Make = Callable[..., Any]


class Bad(Logger):
    def __init__(self, where: str) -> None:
        self.where = where

    def begin(self, info: Any) -> Log:
        outer = self

        class Opened(Log):
            def rows(self, rows: Any) -> None:
                outer.fail("rows")

            def end(self, record: Any) -> None:
                outer.fail("end")

        self.fail("begin")
        return Opened()

    def fail(self, where: str) -> None:
        if where != self.where.partition(":")[0]:
            return
        if self.where.endswith("hang"):
            threading.Event().wait(60)
        raise SystemExit(3) if self.where.endswith("exit") else OSError("<no> route [red]")


@pytest.mark.parametrize("where", ["begin", "rows:exit", "end", "begin:hang"])
def test_a_logger_that_fails_never_fails_the_run(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from dataclasses import replace

    monkeypatch.setattr(base, "PATIENCE", 0.2)
    run = make_run(*RUN)
    plain = done(replace(run, loggers={}), tmp_path / "plain")
    record = done(replace(run, loggers={"bad": Bad(where)}), tmp_path / "bad")
    assert record.status == "done"
    assert kept(tmp_path / "bad", run.key) == kept(tmp_path / "plain", plain.key)
    said = (tmp_path / "bad" / run.key / "log.txt").read_text()
    if where.endswith("hang"):
        assert "logger bad did not answer for 0.2 s and is left behind" in said
    else:
        assert "logger bad failed and hears no more of this run: " in said


def test_loggers_decide_nothing(make_run: Make, tmp_path: Path) -> None:
    keys = {make_run(*RUN, f"logger={name}").key for name in ("none", "csv")}
    assert len(keys) == 1


def test_a_missing_package_is_a_sentence(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    for name, package in (("mlflow", "mlflow"), ("wandb", "wandb"), ("tensorboard",) * 2):
        with pytest.raises(ConfigError, match=rf"logger={name} needs the Python package {package}"):
            make_run(*RUN, f"logger={name}")


def test_wrong_knobs_are_named(make_run: Make) -> None:
    needs("mlflow")
    for override, said in (
        ("logger.mlflow.uri=localhost", "logger.mlflow.uri is 'localhost': expected http://HOST"),
        ("logger.mlflow.experiment=''", "logger.mlflow.experiment is '': expected a name"),
    ):
        with pytest.raises(ConfigError) as caught:
            make_run(*RUN, "logger=mlflow", override)
        assert said in str(caught.value)
    with pytest.raises(ConfigError, match=r"logger.x._target_ is 'os.system', outside the allowed"):
        make_run(*RUN, edit=lambda cfg: cfg["logger"].update(x={"_target_": "os.system"}))


def test_scores_have_names() -> None:
    row = {"step": 3, "train_loss": 0.5, "accuracy": 1.0, "ece": None, "grad_norm_top": 2.0,
           "x": float("nan")}  # fmt: skip
    assert scores_of(row) == {"train_loss": 0.5, "validation/accuracy": 1.0, "grad_norm_top": 2.0}
