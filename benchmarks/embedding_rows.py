"""A training step with all rows of the word embeddings, and with those of the run's items alone.

    BLUESTAB_DATA=FOLDER python benchmarks/embedding_rows.py [--rounds 5] [--steps 12]

MiniLM with bf16 and parts of four where the processor computes in it, one CPU thread, on 64 items
of three tasks, read to 128 word pieces. Every round trains each in a process of its own, one after
the other. Printed are medians over rounds: CPU seconds of a step, the mean of all but the first,
and MB of weights, gradients and moments as every record counts them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

from technique_cost import trained

SETTINGS = {
    "BIOSSES, 16 pairs": ("task=biosses", "optim.batch_size=16"),
    "NCBI-disease, 16 sentences": ("task=ncbi_disease", "optim.batch_size=16"),
    "NCBI-disease, 8 sentences": ("task=ncbi_disease", "optim.batch_size=8"),
    "HoC, 8 abstracts": ("task=hoc", "optim.batch_size=8"),
}
COMMON = ("model=minilm", "device=cpu", "task.train_size=64", "task.max_length=128")


def measure(line: list[str], steps: int) -> dict[str, float]:
    """One training in this process."""
    assembly, found = trained(line, steps)
    held = assembly.module.ledger.report()
    n_bytes = sum(held[part] for part in ("weights", "gradients", "moments"))
    return {"seconds": found["seconds"], "MB": n_bytes / 2**20}


def elsewhere(line: list[str], steps: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--steps", str(steps), "--here", *line]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--here", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measure(asked.here, asked.steps)))
        return
    if "BLUESTAB_DATA" not in os.environ:
        print("left out: BIOSSES, NCBI-disease and HoC (set BLUESTAB_DATA)")
        return
    print(f"{'':28} {'all: s/step':>12} {'MB':>5} {'used: s/step':>13} {'MB':>5} {'ratio':>6}")
    for name, own in SETTINGS.items():
        found: dict[str, list[dict[str, float]]] = {"all": [], "used": []}
        for _ in range(asked.rounds):
            for rows, runs in found.items():
                line = [*COMMON, *own, f"trainer.embedding_rows={rows}"]
                runs.append(elsewhere(line, asked.steps))
        whole, used = (
            {what: statistics.median(run[what] for run in runs) for what in runs[0]}
            for runs in found.values()
        )
        print(
            f"{name:28} {whole['seconds']:12.3f} {whole['MB']:5.0f} {used['seconds']:13.3f} "
            f"{used['MB']:5.0f} {whole['seconds'] / used['seconds']:6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
