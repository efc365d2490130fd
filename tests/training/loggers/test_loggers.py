"""Each logger against the real thing; none can disturb a run, and no text leaves."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.paths import conf_dir  # noqa: E402
from bluestab.core.types import RunRecord  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.testing.corpora import ANY_FILE  # noqa: E402
from bluestab.testing.loggers import LoggerSuite, no_text  # noqa: E402
from bluestab.training.loggers import base  # noqa: E402
from bluestab.training.loggers.base import Log, Logger, flat, scores_of  # noqa: E402
from tests.conftest import Say  # noqa: E402
from tests.store.test_artefacts import SHORT  # noqa: E402
from tests.training.test_execute import done, kept  # noqa: E402

Make = Callable[..., Any]

RUN = ("task=gad", "model=tiny", *SHORT)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not what is tested here, unless a test says so."""
    monkeypatch.setattr(base, "PATIENCE", 300.0)


def needs(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name}: the extra 'loggers' is not installed")


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- each of them -------------------------------------------------------------------------------

FOLDERS = {"csv": None, "mlflow": "mlruns", "tensorboard": "tensorboard", "wandb": "wandb"}
"""Logger -> where below the store it writes."""


class TestLoggers(LoggerSuite):
    """Every yaml in conf/logger."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def without_a_server(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
            patch.setattr(base, "PATIENCE", 300.0)
            yield

    @pytest.fixture(scope="class", params=FOLDERS)
    @classmethod
    def name(cls, request: pytest.FixtureRequest) -> str:
        return request.param  # type: ignore[no-any-return]

    @pytest.fixture(scope="class")
    @classmethod
    def written(cls, logged: RunRecord, root: Path, name: str) -> Path | None:
        folder = FOLDERS[name]
        return None if folder is None else root / folder


def test_every_logger_is_here() -> None:
    yamls = {file.stem for file in (conf_dir() / "logger").glob("*.yaml")}
    assert yamls - {"none"} == set(FOLDERS)


# --- what cannot happen to a run -----------------------------------------------------------------


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


def test_csv_grows_while_the_run_trains(make_run: Make, tmp_path: Path) -> None:
    seen: list[int] = []

    def look(*_: Any) -> None:
        found = list((tmp_path / "runs" / ".work").glob("*/curve.csv"))
        seen.append(len(curve(found[0].parent)) if found else 0)

    record = done(make_run(*RUN), tmp_path / "runs", progress=look)
    whole = curve(tmp_path / "runs" / record.key)
    assert len(whole) == 6
    assert set(range(6)) <= set(seen)
    seen.clear()
    done(make_run(*RUN, "logger=none"), tmp_path / "runs2", progress=look)
    assert set(seen) == {0}


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
    assert flat({"a": {"b": 1, "c": [1]}, "d": None}) == {"a.b": 1, "a.c": [1], "d": None}


# --- TensorBoard ---------------------------------------------------------------------------------


def test_tensorboards_own_reader(cli: Say, small: Path) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said = cli("run", "-m", *RUN, *ANY_FILE, "technique=none,llrd", "sweep.seeds=1",
               "sweep.name=boards", "logger=[csv,tensorboard]")  # fmt: skip
    assert said.code == 0, said.err
    folders = sorted(Path("runs/tensorboard/boards").iterdir())
    store = Store("runs")
    assert len(folders) == 2
    assert [f.name.split("_seed_")[0] for f in folders] == ["technique=llrd", "technique=none"]
    for folder in folders:
        (key,) = [k for k in sorted(store.keys()) if k.startswith(folder.name[-8:])]
        events = EventAccumulator(str(folder))
        events.Reload()
        rows = curve(store.root / key)
        for tag, column in (("train_loss", "train_loss"), ("validation/accuracy", "accuracy")):
            found = [(e.step, e.value) for e in events.Scalars(tag)]
            assert found == [
                (int(r["step"]), pytest.approx(float(r[column]), rel=1e-6)) for r in rows
            ]
        (final,) = events.Scalars("test/last/accuracy")
        record = store.read(key)
        assert final.value == pytest.approx(record.result["metrics"]["last"]["test"]["accuracy"])
    no_text(Path("runs/tensorboard"))


# --- MLflow --------------------------------------------------------------------------------------


def check_mlflow(client: Any, n_runs: int, store: Store, sweep: str) -> None:
    """One parent, its children with tags, parameters, curves and test scores."""
    experiment = client.get_experiment_by_name("bluestab")
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parents = [r for r in runs if r.data.tags["bluestab.kind"] == "sweep"]
    assert [p.data.tags["bluestab.sweep"] for p in parents] == [sweep]
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) == n_runs == len(runs) - 1
    for child in children:
        tags, key = child.data.tags, child.data.tags["bluestab.key"]
        record = store.read(key)
        assert tags["bluestab.seed"] == str(record.measured["names"]["seed"])
        assert tags["bluestab.arm"] in ("technique=none", "technique=llrd")
        assert tags["bluestab.cell"] == record.result["cell"]
        assert child.info.status == "FINISHED"
        assert child.data.params["optim.lr"] == str(record.result["config"]["optim"]["lr"])
        expected = record.result["metrics"]["last"]["test"]["accuracy"]
        assert child.data.metrics["test/last/accuracy"] == pytest.approx(expected)
        rows = curve(store.root / key)
        history = client.get_metric_history(child.info.run_id, "train_loss")
        assert sorted((m.step, m.value) for m in history) == [
            (int(r["step"]), pytest.approx(float(r["train_loss"]))) for r in rows
        ]


def test_mlflow_file_store(cli: Say, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    line = ("run", "-m", *RUN, *ANY_FILE, "technique=none,llrd", "sweep.name=flow",
            "logger=[csv,mlflow]")  # fmt: skip
    assert cli(*line, "sweep.seeds=1").code == 0
    assert cli(*line, "sweep.seeds=2").code == 0, "goes on below the same parent"
    client = MlflowClient(tracking_uri=Path("runs/mlruns").resolve().as_uri())
    check_mlflow(client, 4, Store("runs"), "flow")
    no_text(Path("runs/mlruns"))
    assert cli("store", "verify").code == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server on loopback: `mlflow` of this environment, or BLUESTAB_TEST_MLFLOW."""
    command = os.environ.get("BLUESTAB_TEST_MLFLOW") or shutil.which("mlflow")
    if command is None or (command == shutil.which("mlflow") and not _whole(command)):
        pytest.skip("mlflow with its server is not installed; name one in BLUESTAB_TEST_MLFLOW")
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [command, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with socket.socket() as ask:
                if ask.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the server ended"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _whole(command: str) -> bool:
    asked = subprocess.run([command, "server", "--help"], capture_output=True, check=False)
    return asked.returncode == 0 and importlib.util.find_spec("flask") is not None


@pytest.mark.slow
def test_mlflow_server(cli: Say, server: str) -> None:
    """Two workers share one parent."""
    needs("mlflow")
    from mlflow.tracking import MlflowClient

    said = cli("run", "-m", *RUN, *ANY_FILE, "technique=none,llrd", "sweep.name=served",
               "sweep.seeds=2", "logger=mlflow", f"logger.mlflow.uri={server}",
               "hydra/launcher=pool", "hydra.launcher.workers=2")  # fmt: skip
    assert said.code == 0, said.err
    check_mlflow(MlflowClient(tracking_uri=server), 4, Store("runs"), "served")


def test_mlflow_server_that_is_not_there(make_run: Make, tmp_path: Path) -> None:
    needs("mlflow")
    run = make_run(*RUN, "logger=mlflow", "logger.mlflow.uri=http://127.0.0.1:9")
    record = done(run, tmp_path / "runs")
    assert record.status == "done"
    assert "logger mlflow failed" in (tmp_path / "runs" / record.key / "log.txt").read_text()


# --- wandb ---------------------------------------------------------------------------------------


def histories(raw: bytes) -> Iterator[Any]:
    """What was logged, out of wandb's file: its records in blocks, as LevelDB writes logs."""
    from wandb.proto import wandb_internal_pb2

    assert raw[:4] == b":W&B"
    at, held = 7, b""
    while at + 7 <= len(raw):
        if 32768 - at % 32768 < 7:  # no room for a head: the block ends in zeros
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(raw[at + 4 : at + 6], "little"), raw[at + 6]
        held += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            held = b""
            if record.WhichOneof("record_type") == "history":
                yield record.history.item


def test_wandb_offline(make_run: Make, tmp_path: Path) -> None:
    """What it wrote, read back by its own protocol; nothing of the machine is in it."""
    needs("wandb")
    record = done(make_run(*RUN, "logger=wandb"), tmp_path / "runs")
    log = (tmp_path / "runs" / record.key / "log.txt").read_text()
    assert "logger wandb" not in log
    (file,) = (tmp_path / "runs" / "wandb").rglob("*.wandb")
    found = [
        {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in items}
        for items in histories(file.read_bytes())
    ]
    rows = curve(tmp_path / "runs" / record.key)
    assert [row["train_loss"] for row in found] == [
        pytest.approx(float(r["train_loss"])) for r in rows
    ]
    content = b"".join(p.read_bytes() for p in file.parent.rglob("*") if p.is_file())
    assert socket.gethostname().encode() + b'"' not in content
    assert os.getcwd().encode() not in content
    no_text(tmp_path / "runs" / "wandb")
