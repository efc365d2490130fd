"""The launcher `pool` against `local`: the same sweeps, one after the other, whole commands timed.

    python benchmarks/pool.py [--workers 2] [--repeat 1] [--steps 40]

24 runs of `tiny` (short: start-up and hand-over count) and 12 of `minilm` on BIOSSES (arithmetic
counts; needs BLUESTAB_DATA). Prints seconds and the ratio local / pool; results must be equal.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bluestab.store.records import to_json
from bluestab.store.store import Store

SWEEPS = {
    "24 runs of tiny (NCBI-disease, 200 sentences, 20 steps)": [
        "task=ncbi_disease", "model=tiny", "task.train_size=200", "task.validation_size=50",
        "task.test_size=50", "task.max_length=64", "optim.steps=20", "technique=none,llrd,reinit",
        "sweep.seeds=8",
    ],
    "12 runs of minilm (BIOSSES, {steps} steps, bf16)": [
        "task=biosses", "model=minilm", "trainer.precision=bf16", "optim.steps={steps}",
        "technique=none,llrd,reinit", "sweep.seeds=4",
    ],
}  # fmt: skip


def seconds(overrides: list[str], store: Path, *launcher: str) -> float:
    """Wall-clock time of one sweep into an empty store, from the command to its end."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "bluestab", "run", "-m", *overrides, f"store={store}", *launcher,
         "device=cpu"],
        cwd=store.parent, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - start


def results(root: Path) -> dict[str, str]:
    store = Store(root)
    return {key: to_json(store.read(key).result) for key in sorted(store.keys())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_args()
    if "BLUESTAB_DATA" in os.environ:
        os.environ["BLUESTAB_DATA"] = str(Path(os.environ["BLUESTAB_DATA"]).absolute())
    for name, sweep in SWEEPS.items():
        if "task=biosses" in sweep and "BLUESTAB_DATA" not in os.environ:
            print("left out: BIOSSES (set BLUESTAB_DATA)")
            continue
        overrides = [override.format(steps=asked.steps) for override in sweep]
        ratios = []
        for turn in range(asked.repeat):
            with tempfile.TemporaryDirectory() as folder:
                pool, local = Path(folder) / "pool", Path(folder) / "local"
                launcher = ("hydra/launcher=pool", f"hydra.launcher.workers={asked.workers}")
                p = seconds(overrides, pool, *launcher)
                s = seconds(overrides, local, "hydra/launcher=local")
                assert results(pool) == results(local), "launchers must not change results"
            ratios.append(s / p)
            title = name.format(steps=asked.steps)
            print(f"{title}: local {s:.1f} s, pool {p:.1f} s, ratio {ratios[turn]:.2f}", flush=True)
        if asked.repeat > 1:
            print(f"  median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
