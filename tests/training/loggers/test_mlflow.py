"""MLflow: files, a server, and a server that is not there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.store.store import Store
from bluestab.testing.corpora import ANY_FILE
from bluestab.testing.loggers import no_text
from tests.conftest import Say
from tests.support.logged_runs import RUN, curve, needs
from tests.training.test_execute import done

Make = Callable[..., Any]


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
