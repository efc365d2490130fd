"""What each technique costs at its default: time, memory and passes of a step, beside `none`.

    BLUESTAB_DATA=FOLDER python benchmarks/technique_cost.py [--rounds 5] [--steps 12] [NAME ...]

MiniLM on BIOSSES, 16 pairs per step, one CPU thread. Every round trains each arm in a process of
its own, one after the other, so that a slow minute of the machine meets all of them; those that
hold on to earlier tasks go on from a run on the same task (3 steps), as one of them. Printed are
medians over rounds. Seconds: of the CPU, so that what else runs counts little; mean over
the steps of a run but the first, since some techniques change on the way. Memory: highest resident
memory of the process over what it held before the network was loaded, so weights, gradients,
optimizer state and activations together; in one more process, whose allocator keeps nothing back,
as the usual one does. What may read the whole table of word embeddings trains all of it, `none` the
rows of its items (`embedding_rows.py` has both for `none`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bluestab.core.paths import conf_dir

if TYPE_CHECKING:
    from bluestab.training.assemble import Assembly

TASK = ["task=biosses", "model=minilm", "optim.batch_size=16", "device=cpu", "trainer.threads=1"]


def resident(what: str) -> float:
    """MB of this process: VmRSS now, or VmHWM at its highest (Linux)."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith(what + ":"))
    return int(line.split()[1]) / 1024


def trained_before(store: str) -> str:
    """Folder of a run that techniques can hold on to."""
    line = [*TASK, "optim.steps=3", "keep=last", "keep_path_integral=true", f"store={store}"]
    command = [sys.executable, "-m", "bluestab", "run", *line]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    (weights,) = Path(store).glob("*/checkpoint/last")
    return str(weights.parents[1])


def trained(line: list[str], steps: int) -> tuple[Assembly, dict[str, float]]:
    """One training in this process, and its CPU seconds of a step and MB. Raises ConfigError."""
    import torch
    from pytorch_lightning import Callback

    from bluestab.core.config import compose, resolved
    from bluestab.training.assemble import assemble
    from bluestab.training.check import check

    run = check(resolved(compose([*line, f"optim.steps={steps}", f"trainer.eval_every={steps}"])))
    ends: list[float] = []

    class Clock(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            ends.append(time.process_time())

    torch.set_num_threads(1)
    at_first = resident("VmRSS")
    assembly = assemble(run, device=torch.device("cpu"), progress=lambda *_: None)
    assembly.trainer.callbacks.append(Clock())  # type: ignore[attr-defined]
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1)
    return assembly, {"seconds": seconds, "memory": resident("VmHWM") - at_first}


def measure(technique: str, steps: int, before: str) -> dict[str, Any]:
    """One training in this process. (before: the run that a technique which remembers goes on
    from.)"""
    from bluestab.core.errors import ConfigError
    from bluestab.testing.technique_arms import technique_class

    line = [*TASK, f"technique={technique}"]
    if technique != "none" and technique_class(technique).remembers:
        line.append(f"model.init_from={before}")
    try:
        assembly, found = trained(line, steps)
    except ConfigError as error:
        return {"refused": str(error)}
    return {**found, "passes": assembly.module.forwards / assembly.module.batches}


EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""What is freed leaves the process at once (glibc): its memory is that of its tensors; slower."""


def elsewhere(technique: str, steps: int, before: str, **env: str) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--steps", str(steps), "--here", before, technique]
    env = {**os.environ, **env}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="techniques; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measure(asked.names[0], asked.steps, asked.here)))
        return
    if "BLUESTAB_DATA" not in os.environ:
        print("left out: BIOSSES (set BLUESTAB_DATA)")
        return
    with tempfile.TemporaryDirectory() as store:
        compare(asked, trained_before(store))


def compare(asked: argparse.Namespace, before: str) -> None:
    """Print the table."""
    every = sorted(file.stem for file in (conf_dir() / "technique").glob("*.yaml"))
    names = ["none", *(name for name in asked.names or every if name != "none")]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(asked.rounds):
        for name in names:
            found[name].append(elsewhere(name, asked.steps, before))
    rounds = f"medians of {asked.rounds}" if asked.rounds > 1 else "one round"
    print(f"MiniLM, BIOSSES, 16 pairs, 1 thread, {asked.steps} steps, {rounds}")
    print(f"{'technique':16} {'s/step':>7} {'ratio':>6} {'MB':>6} {'ratio':>6} {'passes/step':>11}")
    base: dict[str, float] = {}
    for name, runs in found.items():
        if "refused" in runs[0]:
            print(f"{name:16} refused: {runs[0]['refused']}")
            continue
        row = {what: statistics.median(run[what] for run in runs) for what in runs[0]}
        row["memory"] = elsewhere(name, 3, before, **EXACT)["memory"]
        base = base or row
        seconds, memory = row["seconds"] / base["seconds"], row["memory"] / base["memory"]
        print(
            f"{name:16} {row['seconds']:7.3f} {seconds:6.2f} {row['memory']:6.0f} {memory:6.2f} "
            f"{row['passes']:11.2f}"
        )


if __name__ == "__main__":
    main()
