"""How time and memory of a command grow: with seeds, training items, frozen blocks.

    BLUESTAB_DATA=FOLDER python benchmarks/growth.py [--out growth.png] [--quick]

Every point is one `bluestab run` in a process and a store of its own, whose tokenised data are not
there yet. Seconds are those of the CPU, so that what else the machine does counts little; memory is
the highest resident of the process. Seeds and items are run with the random model `tiny`, because
what is looked for there is work around the training that grows faster than the training; frozen
blocks with twelve random ones as wide as MiniLM's. Printed beside each row: seconds over what a
straight line through the two rows before says (1: no superlinear surprise).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ALWAYS = ("device=cpu", "trainer.threads=1", "trainer.eval_every=1000000", "hydra/launcher=local")
MEASURE = """
import json, resource, sys
from bluestab.cli import main
found, sys.argv = sys.argv[1], ["bluestab", *sys.argv[2:]]
try:
    main()
except SystemExit as end:
    if end.code:
        raise
used = resource.getrusage(resource.RUSAGE_SELF)
json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], open(found, "w"))
"""


@dataclass(frozen=True)
class Series:
    """A knob, its values, and the rest of the command."""

    title: str
    values: Sequence[int]
    words: tuple[str, ...]

    def command(self, value: int) -> list[str]:
        return [word.replace("{}", str(value)) for word in self.words]


def series(quick: bool) -> list[Series]:
    few = slice(None, None, 3) if quick else slice(None)
    tiny = ("model=tiny", "optim.batch_size=16")
    return [
        Series(
            "seeds (64 sentences, 8 steps each)",
            [1, 2, 4, 8, 16, 32, 64][few],
            ("run", "-m", "task=ncbi_disease", *tiny, "task.train_size=64", "task.test_size=64",
             "task.validation_size=64", "optim.epochs=null", "optim.steps=8", "sweep.seeds={}"),
        ),
        Series(
            "training sentences (one epoch)",
            [64, 256, 1024, 4096, 16384][few],
            ("run", "task=jnlpba", *tiny, "task.train_size={}", "task.validation_size=64",
             "task.test_size=64", "optim.epochs=1", "task.max_length=64"),
        ),
        Series(
            "frozen blocks of 12 (64 sentences, 3 epochs)",
            [0, 3, 6, 9, 12][few],
            ("run", "task=ncbi_disease", *tiny, "model.layers=12", "model.hidden_size=384",
             "model.config.num_hidden_layers=12", "model.config.hidden_size=384",
             "model.config.num_attention_heads=12", "model.config.intermediate_size=1536",
             "technique=freeze", "technique.freeze.depth={}", "task.train_size=64",
             "task.validation_size=64", "task.test_size=64", "task.max_length=128",
             "optim.epochs=3"),
        ),
    ]  # fmt: skip


def measured(words: Sequence[str]) -> tuple[float, float]:
    """CPU seconds and MB of a command. Raises CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        line = [sys.executable, "-c", MEASURE, str(found), *words, f"store={folder}/runs", *ALWAYS]
        subprocess.run(line, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        seconds, megabytes = map(float, found.read_text().strip("[]").split(","))
    return seconds, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("growth.png"))
    parser.add_argument("--quick", action="store_true", help="a third of the points")
    asked = parser.parse_args()
    drawn = []
    for one in series(asked.quick):
        if "task=jnlpba" in one.words and "BLUESTAB_DATA" not in os.environ:
            print("left out: JNLPBA (set BLUESTAB_DATA)")
            continue
        print(f"\n{one.title}\n{'':>8} {'CPU s':>8} {'MB':>7} {'over a line':>12}")
        rows: list[tuple[int, float, float]] = []
        for value in one.values:
            rows.append((value, *measured(one.command(value))))
            print(f"{value:8} {rows[-1][1]:8.1f} {rows[-1][2]:7.0f} {_over(rows):>12}", flush=True)
        drawn.append((one.title, rows))
    _draw(drawn, asked.out)
    print(f"\nwrote {asked.out}")


def _over(rows: Sequence[tuple[int, float, float]]) -> str:
    if len(rows) < 3:
        return ""
    (x0, y0, _), (x1, y1, _), (x, y, _) = rows[-3:]
    return f"{y / (y1 + (y1 - y0) / (x1 - x0) * (x - x1)):.2f}"


def _draw(drawn: Sequence[tuple[str, Sequence[tuple[int, float, float]]]], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(drawn), 4.4), layout="constrained")
    axes = figure.subplots(2, len(drawn), squeeze=False)
    for at, (title, rows) in enumerate(drawn):
        x = [value for value, _, _ in rows]
        for row, (label, y) in enumerate(
            [("CPU seconds", [s for _, s, _ in rows]), ("MB", [m for _, _, m in rows])]
        ):
            axis = axes[row][at]
            axis.plot(x, y, marker="o", color="#0072b2")
            axis.set_ylim(bottom=0)
            axis.set_ylabel(label)
            axis.set_xlabel(title, fontsize=8)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main()
