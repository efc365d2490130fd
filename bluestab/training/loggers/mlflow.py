"""MLflow: a parent run per sweep, below it one per run, in a file store or on a server.

The parent's id is kept in the store, under a lock, so that all workers of a sweep find one parent;
a run that goes on after a kill goes on in its own MLflow run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.paths import real
from bluestab.core.rules import Rule
from bluestab.core.types import RunRecord
from bluestab.store.files import alone, write_text
from bluestab.training.loggers.base import Log, Logger, Rows, RunInfo, results_of, scores_of

LONGEST = 500  # characters of a parameter's value that every kind of MLflow store takes
MOST = 100  # parameters in one request


class MlFlow(Logger):
    """uri: of a server or file store, None: <store>/mlruns; experiment: its name."""

    needs: ClassVar[str | None] = "mlflow"

    def __init__(self, *, uri: str | None, experiment: str) -> None:
        self.uri = uri
        self.experiment = experiment

    def rules(self) -> Mapping[str, Rule]:
        text = (lambda v: isinstance(v, str) and bool(v.strip()), "a name")
        return {
            "uri": (
                lambda v: v is None or (isinstance(v, str) and ":" in v),
                "http://HOST:PORT, file:FOLDER, or null",
            ),
            "experiment": text,
        }

    def begin(self, info: RunInfo) -> Log:
        # a dead server must not be asked for minutes, and MLflow itself reports to its makers
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        uri = self.uri or (real(info.store) / "mlruns").as_uri()
        if uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        folder = info.store / ".loggers"
        digest = hashlib.sha256(f"{uri} {self.experiment} {info.sweep}".encode()).hexdigest()[:16]
        with _locked(folder / f"mlflow-{digest}") as known:
            experiment = _experiment(client, self.experiment)
            parent = None
            if info.sweep is not None:
                parent = _known_run(client, known.get("parent"))
                if parent is None:
                    tags = {"bluestab.sweep": info.sweep, "bluestab.kind": "sweep"}
                    made = client.create_run(experiment, tags=tags, run_name=info.sweep)
                    parent = known["parent"] = str(made.info.run_id)
                    client.set_terminated(parent)  # a folder: nothing runs in it
            own = _known_run(client, known.get(info.key))
            if own is None:
                tags = {f"bluestab.{name}": value for name, value in info.tags.items()}
                tags |= {"bluestab.arm": info.arm, "bluestab.kind": "run"}
                if parent is not None:
                    tags |= {"mlflow.parentRunId": parent, "bluestab.sweep": str(info.sweep)}
                made = client.create_run(experiment, tags=tags, run_name=info.title)
                own = known[info.key] = str(made.info.run_id)
                _log_knobs(client, own, info.knobs)
            else:
                client.update_run(own, status="RUNNING")
        return _MlflowRun(client, own)


class _MlflowRun(Log):
    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run

    def rows(self, rows: Rows) -> None:
        self._log(scores_of(rows[-1]), rows[-1]["step"])

    def end(self, record: RunRecord) -> None:
        self._log(results_of(record), record.result["steps"] or 0)
        self._client.set_tag(self._run, "bluestab.status", record.status)
        crashed = record.status == "crashed"
        self._client.set_terminated(self._run, "FAILED" if crashed else "FINISHED")

    def _log(self, values: Mapping[str, float], step: int) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _known_run(client: Any, run: str | None) -> str | None:
    """The run if it is still there."""
    if run is None:
        return None
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        if client.get_run(run).info.lifecycle_stage == "active":
            return run
    return None


def _log_knobs(client: Any, run: str, knobs: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    found = [Param(name, str(value)[:LONGEST]) for name, value in knobs.items()]
    for start in range(0, len(found), MOST):
        client.log_batch(run, params=found[start : start + MOST])


@contextmanager
def _locked(path: Path) -> Iterator[dict[str, str]]:
    """The ids that are known, for one process at a time; what is added is kept."""
    with alone(path.parent):
        kept = path.with_suffix(".json")
        known: dict[str, str] = {}
        with suppress(OSError, ValueError):
            known = dict(json.loads(kept.read_text()))
        try:
            yield known
        finally:
            write_text(kept, json.dumps(known))
