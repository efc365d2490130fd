"""Seconds from the command to the first optimizer step, beside a bare import of the libraries.

python benchmarks/start.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

IMPORTS = "import torch, transformers.models.bert.modeling_bert, datasets, pytorch_lightning"
RUN = """
import sys, time, os
from bluestab.training.loop.lightning_trainer import Steps
def stop(self, *a, **k):
    print(time.time())
    sys.stdout.flush()
    os._exit(0)
Steps.on_train_batch_{edge} = stop
from bluestab.cli import main
sys.argv = ["bluestab", "run", *{overrides!r}]
main()
"""


def first_step(store: str, edge: str) -> float:
    """Seconds from the start of the process to the start or end of the first optimizer step."""
    overrides = ["model=minilm", "optim.steps=2", "task.train_size=16", f"store={store}"]
    start = time.time()
    code = RUN.format(overrides=overrides, edge=edge)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) - start


def bare_imports() -> float:
    start = time.time()
    code = f"{IMPORTS}\nimport time, os; print(time.time(), flush=True); os._exit(0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) - start


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory() as folder:
        first_step(folder, "end")  # warms the file cache
        rounds = [
            (first_step(folder, "start"), first_step(folder, "end"), bare_imports())
            for _ in range(5)
        ]
    begun, done, bare = map(statistics.median, zip(*rounds, strict=True))
    print(f"command to the start of the first optimizer step: {begun:.2f} s (median of 5)")
    print(f"command to its end:                               {done:.2f} s")
    print(f"importing the libraries alone:                    {bare:.2f} s")
    print(f"ratio start / import: {begun / bare:.2f}")


if __name__ == "__main__":
    main()
