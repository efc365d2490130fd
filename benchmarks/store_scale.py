"""How long `bluestab status` and `bluestab report` take on a store of many runs, and their memory.

    python benchmarks/store_scale.py [N_RUNS=10000] [FOLDER]

Makes a store of generated runs (10 seeds per cell; three tasks, three models, techniques with
knobs, some runs failed or crashed) in a temporary folder, or in FOLDER, where it stays. Scores are
drawn, not trained: only their number matters here.
"""

from __future__ import annotations

import copy
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bluestab.core.keys import cell_of, key_of
from bluestab.core.types import RECORD_SCHEMA, RunRecord
from bluestab.store.store import Store

TEMPLATE = Path(__file__).parent.parent / "tests/assets/records/schema2/done.json"
SEEDS = 10
TASKS = {"biosses": "pearson", "gad": "accuracy", "ncbi_disease": "entity_f1"}
MODELS = ("minilm", "base", "electra")


def arms() -> Iterator[dict[str, Any]]:
    """Techniques with their knobs, and learning rates, without end."""
    rates = (1e-5, 2e-5, 3e-5, 5e-5)
    plain: list[list[Any]] = [[]]
    llrd = [
        [["llrd", {"kind": "Llrd", "decay": d, "convention": "zhang"}]] for d in (0.8, 0.9, 0.95)
    ]
    freeze = [
        [["freeze", {"kind": "Freeze", "depth": k, "embeddings": True, "eval_mode": True}]]
        for k in range(1, 6)
    ]
    reinit = [[["reinit", {"kind": "Reinit", "blocks": k}]] for k in range(1, 4)]
    both = [a + b for a, b in itertools.product(freeze, llrd)]
    for steps in itertools.count(100, 100):
        for rate in rates:
            for technique in (*plain, *llrd, *freeze, *reinit, *both):
                yield {"technique": technique, "lr": rate, "steps": steps}


def records(n_runs: int) -> Iterator[RunRecord]:
    """Runs of `n_runs / 10` cells."""
    template = json.loads(TEMPLATE.read_text())
    draw = random.Random(0)
    choices = itertools.cycle(itertools.product(TASKS, MODELS))
    streams = {subject: arms() for subject in itertools.product(TASKS, MODELS)}
    for _ in range(n_runs // SEEDS):
        task, model = next(choices)
        arm = next(streams[task, model])
        centre = draw.uniform(0.5, 0.9)
        for seed in range(SEEDS):
            yield _record(template, task, model, arm, seed, centre, draw)


def _record(
    template: dict[str, Any],
    task: str,
    model: str,
    arm: dict[str, Any],
    seed: int,
    centre: float,
    draw: random.Random,
) -> RunRecord:
    made = copy.deepcopy(template)
    result, measured = made["result"], made["measured"]
    config, metric = result["config"], TASKS[task]
    config["task"] |= {"name": task, "metric": metric}
    config["model"] = f"sha256:{model.encode().hex():0>64}"
    config["technique"] = arm["technique"]
    config["optim"] |= {"lr": arm["lr"], "steps": arm["steps"]}
    config["seeds"] = {"init": seed, "order": seed, "dropout": seed, "split": 0}
    kind = draw.choices(("done", "diverged", "crashed"), weights=(97, 2, 1))[0]
    values = {at: draw.gauss(centre, 0.05) for at in ("last", "best")}
    if draw.random() < 0.1:
        values["last"] = draw.uniform(0.0, 0.3)
    result |= {"key": key_of(config), "cell": cell_of(config), "status": kind, "metric": metric}
    measured["names"] = {
        "task": task,
        "model": model,
        "technique": [name for name, _ in arm["technique"]],
        "seed": seed,
    }
    if kind == "done":
        result["metrics"] = {
            at: {s: {metric: v, "a": v, "b": v} for s in ("validation", "test")}
            for at, v in values.items()
        }
        result["degenerate"] = {at: v <= result["failed_below"] for at, v in values.items()}
        result["score"] = values
    else:
        result |= {"metrics": None, "degenerate": None, "effects": None}
        result["score"] = dict.fromkeys(values, 0.0) if kind == "diverged" else None
        result["error"] = {"type": "Error", "message": "drawn, not met"}
    return RunRecord(RECORD_SCHEMA, result, measured)


def _predictions(n_rows: int) -> bytes:
    """A file of predictions, of test items at last and best."""
    file = io.BytesIO()
    pq.write_table(pa.table({"id": [str(i) for i in range(n_rows)]}), file)
    return file.getvalue()


def make(root: Path, n_runs: int) -> None:
    """A store of finished and crashed runs and the manifest of one sweep of them all."""
    os.fsync = lambda _: None  # a power failure may have this store
    store = Store(root)
    predictions = {"done": _predictions(40), "diverged": _predictions(0), "crashed": b""}
    runs = []
    for record in records(n_runs):
        with store.building(record.key) as work:
            (work / "config.yaml").write_text("# as it would be\n" * 60)
            (work / "curve.csv").write_text("step,train_loss\n" + "1,0.5\n" * 10)
            (work / "log.txt").write_text("a line\n")
            (work / "predictions.parquet").write_bytes(predictions[record.status])
            (store.keep_crash if record.status == "crashed" else store.finish)(work, record)
        runs.append({"key": record.key, "overrides": [f"seed={record.measured['names']['seed']}"]})
    store.write_manifest("scale", {"name": "scale", "command": "bluestab run -m", "runs": runs})


def measure(name: str, *arguments: str) -> None:
    """Wall time and peak memory of one command in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "bluestab", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, said
    seconds = time.perf_counter() - started
    print(f"{name:40} {seconds:6.2f} s  {usage.ru_maxrss / 1024:6.0f} MB", flush=True)


def main() -> None:
    n_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(folder) / "runs"
        if not root.exists():
            make(root, n_runs)
        out = str(Path(folder) / "report")
        print(f"{n_runs} runs, {n_runs // SEEDS} cells")
        (root / ".index.parquet").unlink(missing_ok=True)
        measure("bluestab status, first time", "status", str(root))
        measure("bluestab status, again", "status", str(root))
        (root / ".index.parquet").unlink(missing_ok=True)
        measure("bluestab report, first time", "report", str(root), "--out", out)
        measure("bluestab report, again", "report", str(root), "--out", out)


if __name__ == "__main__":
    main()
