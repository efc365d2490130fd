"""`bluestab auto` tried for real, beside plain fine-tuning with as much training.

    BLUESTAB_DATA=FOLDER python benchmarks/auto_tries.py OUT [--minutes 10] [--only ncbi64 ...]

MiniLM on 64 sentences of NCBI-disease, 400 of GAD, BIOSSES (folds), 200 documents of HoC, and two
files as people have them, of 400 rows each: abstracts of five classes and citations of six. Each is
one command, `bluestab auto ... hours=MINUTES/60`, with nothing chosen but the data and the model.
Afterwards plain fine-tuning alone is trained on as many seeds as give as many optimizer steps in all
as the runs of `auto`; those that both need are trained once. Of both the run that is best on
validation is delivered, and its test score is what the table compares: one draw of the data and one
delivered run each, so that a row says how it went, not what to expect.

OUT keeps the stores and the delivered folders; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from bluestab.core.types import RunRecord
from bluestab.store.store import Store
from bluestab.sweeps.auto.fresh import quality, row_of
from bluestab.sweeps.auto.plan import AutoPlan, read_plan

OWN = "task=classification task.train={} task.name={}"
TRIES = {
    "ncbi64": "task=ncbi_disease task.train_size=64",
    "gad400": "task=gad task.train_size=400",
    "biosses": "task=biosses",
    "hoc200": "task=hoc task.train_size=200 task.validation_size=100",
    "abstracts": OWN.format("abstracts.csv", "abstracts"),
    "citations": OWN.format("citations.csv", "citations"),
}
ROWS = 400


def write_own_files(data: Path, out: Path) -> None:
    """Two files with a text and a label, as somebody might have them."""
    with open(data / "medical_abstracts/medical_tc_test.csv", encoding="utf-8", newline="") as file:
        abstracts = [(r["medical_abstract"], r["condition_label"]) for r in csv.DictReader(file)]
    with open(data / "citation_intent/train.txt", encoding="utf-8") as file:
        citations = [(line["text"], line["label"]) for line in map(json.loads, file)]
    for name, rows in (("abstracts", abstracts), ("citations", citations)):
        with open(out / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows[:ROWS]])


def bluestab(*words: str, cwd: Path) -> None:
    print("+ bluestab", *words, flush=True)
    subprocess.run([sys.executable, "-m", "bluestab", *words], cwd=cwd, check=True)


def steps(records: Iterable[RunRecord]) -> list[int]:
    return [int(record.result["steps"]) for record in records]


def plain_seeds(plan: AutoPlan, records: list[RunRecord]) -> list[int]:
    """Seeds from 0 on that give as many steps as all these runs."""
    (each,) = {*steps(r for r in records if r.measured["names"]["arm"] == plan.baseline)}
    return list(range(max(1, round(sum(steps(records)) / each))))


def train_plain(plan: AutoPlan, seeds: list[int], store: Path, where: Path) -> None:
    """In a sweep for each fold, in the fold that `auto` gives the seed."""
    n = plan.folds or 1
    for fold in range(min(n, len(seeds))):
        own = seeds[fold::n]
        line = [o for o in plan.placed([*plan.fixed, "technique=none"], own[0])[:-1]]
        seed = f"seed={','.join(map(str, own))}"
        bluestab("run", "-m", *line, seed, f"store={store}", f"sweep.name=plain{fold}", cwd=where)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="+", choices=TRIES, default=[*TRIES])
    parser.add_argument("overrides", nargs="*", help="of every command, such as hydra/launcher=pool")
    args = parser.parse_intermixed_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    write_own_files(Path(os.environ["BLUESTAB_DATA"]), out)
    lines = []
    for name in args.only:
        folder = out / f"{name}_{args.minutes:g}"
        begun = time.monotonic()
        given = [*TRIES[name].split(), "model=minilm", *args.overrides]
        if not (folder / "report.html").exists():
            budget = f"hours={args.minutes / 60:.6g}"
            bluestab("auto", *given, budget, f"out={folder}", f"store={folder}_runs", cwd=out)
        minutes = (time.monotonic() - begun) / 60
        plan = read_plan(folder)
        assert plan is not None
        store = Store(Path(f"{folder}_runs"))
        keys = {*store.keys()}
        print(name, minutes, len(keys))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
