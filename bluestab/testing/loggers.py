"""What every logger promises, tried on any of them.

Its knobs have rules; it decides nothing, neither the key of a run nor a byte of its result; it
writes down a run from its beginning to its end without failing; and no text of an item, no path of
the data and no name of the machine is in what it wrote.
"""

from __future__ import annotations

import inspect
import math
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError
from bluestab.core.types import RunRecord
from bluestab.store.records import to_json
from bluestab.store.store import Store
from bluestab.testing.corpora import ANY_FILE, TEXT
from bluestab.testing.plugins import Suite, node, yaml_of
from bluestab.training.check import Run, check
from bluestab.training.execute import execute_one
from bluestab.training.loggers.base import RunInfo

SHORT = (
    *("task=gad", "model=tiny", "device=cpu", "optim.batch_size=8", "optim.steps=4"),
    "trainer.eval_every=2",
)
"""A run of four steps, evaluated twice."""


class LoggerSuite(Suite):
    """logger     its name, which is that of its yaml and the key inside it
    overrides  what it needs here: knobs, as on the command line
    folder     below the store, where it writes; None: it writes no files there
    """

    logger: ClassVar[str]
    overrides: ClassVar[tuple[str, ...]] = ()
    folder: ClassVar[str | None] = None

    @pytest.fixture(scope="class")
    @classmethod
    def name(cls) -> str:
        """The logger that is tried."""
        return cls.logger

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder of the store."""
        return tmp_path_factory.mktemp("logged") / "runs"

    @pytest.fixture(scope="class")
    @classmethod
    def written(cls, logged: RunRecord, root: Path) -> Path | None:
        """The folder of what it wrote."""
        return None if cls.folder is None else root / cls.folder

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, small_corpora: Path, root: Path, name: str) -> Run:
        """A run with it; skips where a package that it needs is missing."""
        try:
            return composed(root, f"logger={name}", *cls.overrides)
        except ConfigError as error:
            if "needs the Python package" not in str(error):
                raise
            pytest.skip(str(error))

    @pytest.fixture(scope="class")
    @classmethod
    def logged(cls, run: Run, root: Path) -> RunRecord:
        """What became of that run."""
        return done(run, root)

    @pytest.fixture
    def told(self, run: Run, tmp_path: Path) -> RunInfo:
        """A run as loggers know it."""
        names = {"task": "gad", "model": "tiny", "technique": "none", "seed": "0"}
        tags = {**names, "cell": run.cell, "key": run.key}
        return RunInfo(run.key, None, "gad", tags, {"optim.lr": 1e-3}, tmp_path / "store", tmp_path)

    def test_every_knob_has_a_rule(self, run: Run, name: str) -> None:
        logger = run.loggers[name]
        knobs = inspect.signature(type(logger)).parameters
        assert all(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in knobs.values())
        assert logger.rules().keys() <= set(knobs)
        written = node(yaml_of("logger", name))[name].keys() - {"_target_"}
        assert written == set(knobs), "knobs live in the yaml alone"

    def test_it_decides_nothing(
        self, run: Run, logged: RunRecord, root: Path, tmp_path: Path
    ) -> None:
        assert composed(root, "logger=none").key == run.key == logged.key
        plain = done(replace(run, loggers={}), tmp_path / "plain")
        assert logged.status == plain.status == "done"
        assert kept(root, logged) == kept(tmp_path / "plain", plain)

    def test_it_hears_all_of_a_run(self, logged: RunRecord, root: Path, name: str) -> None:
        log = (root / logged.key / "log.txt").read_text()
        assert f"logger {name}" not in log, "a failure would be said there"

    def test_it_takes_what_a_run_may_tell(
        self, run: Run, logged: RunRecord, told: RunInfo, name: str
    ) -> None:
        """Undefined scores, numbers that are none, and the end of a run that crashed."""
        told.store.mkdir()
        opened = run.loggers[name].begin(told)
        rows: list[dict[str, Any]] = [{"step": 2, "train_loss": math.nan, "accuracy": None}]
        opened.rows(rows)
        opened.rows([*rows, {"step": 4, "train_loss": 0.5, "accuracy": 1.0}])
        crashed = {**logged.result, "status": "crashed", "metrics": None, "score": None}
        opened.end(replace(logged, result={**crashed, "degenerate": None}))

    def test_no_text_leaves(self, written: Path | None) -> None:
        if written is None:
            pytest.skip("it names no folder of its own")
        no_text(written)


def composed(root: Path, *overrides: str) -> Run:
    """A short run on small corpora."""
    return check(resolved(compose([*ANY_FILE, *SHORT, *overrides, f"store={root}"])))


def done(run: Run, root: Path) -> RunRecord:
    """The record of a run, in a store there."""
    store = Store(root)
    store.make_writable()
    return execute_one(run, store, lambda *_: None)


def kept(root: Path, record: RunRecord) -> dict[str, bytes]:
    """What must be equal between two repetitions of a run: everything but when and where."""
    files = ("curve.csv", "predictions.parquet")
    found = {name: (root / record.key / name).read_bytes() for name in files}
    return {**found, "result": to_json(record.result).encode()}


def no_text(folder: Path) -> None:
    """No three words of any item are in what a logger wrote, no folder of data, no host's name."""
    words = TEXT.split()
    needles = [" ".join(words[i : i + 3]).encode() for i in range(len(words) - 2)]
    needles += [os.environ["BLUESTAB_DATA"].encode(), socket.gethostname().encode() + b"/"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        assert not [n for n in needles if n in content], path
