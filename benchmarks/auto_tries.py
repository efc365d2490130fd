"""`bluestab auto` tried for real, beside plain fine-tuning with as much training.

    BLUESTAB_DATA=FOLDER python benchmarks/auto_tries.py OUT [--minutes 10] [--only ncbi64 ...]

MiniLM on 64 sentences of NCBI-disease, 400 of GAD, BIOSSES (folds), 200 documents of HoC, and two
files as people have them, of 400 rows each: abstracts of five classes and citations of six. Each is
one command, `bluestab auto ... hours=MINUTES/60`, with nothing chosen but the data and the model.
Afterwards plain fine-tuning alone is trained on as many seeds as give as many optimizer steps in
all as the runs of `auto`; those that both need are trained once. Of both the run that is best on
validation is delivered, and its test score is what the table compares: one draw of the data and one
delivered run each, so that a row says how it went, not what to expect.

OUT keeps the stores and the delivered folders, and what is finished there is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bluestab.core.types import RunRecord
from bluestab.report.searches import confirmation_of
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


def write_own_files(data: Path) -> None:
    """Two files with a text and a label, as somebody might have them, here."""
    with open(data / "medical_abstracts/medical_tc_test.csv", encoding="utf-8", newline="") as file:
        abstracts = [(r["medical_abstract"], r["condition_label"]) for r in csv.DictReader(file)]
    with open(data / "citation_intent/train.txt", encoding="utf-8") as file:
        citations = [(line["text"], line["label"]) for line in map(json.loads, file)]
    for name, rows in (("abstracts", abstracts), ("citations", citations)):
        with open(f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows[:ROWS]])


def run(*words: str) -> None:
    print("+ bluestab", *words, flush=True)
    subprocess.run([sys.executable, "-m", "bluestab", *words], check=True)


def records(store: Store, sweeps: Iterable[str]) -> dict[str, RunRecord]:
    """Finished runs of these sweeps, by key; of one that there is not, none."""
    there = store.manifests()
    listed = [store.manifest(name) for name in sweeps if name in there]
    keys = dict.fromkeys(run["key"] for one in listed if one is not None for run in one["runs"])
    return {key: store.read(key) for key in keys if store.has(key)}


def train_plain(plan: AutoPlan, n: int, root: Path) -> list[str]:
    """Plain fine-tuning on seeds 0 to n - 1, each in the fold that `auto` gives it; the sweeps."""
    folds = plan.folds or 1
    names = [f"plain{fold}" for fold in range(min(folds, n))]
    for fold, name in enumerate(names):
        line = plan.placed([*plan.fixed, "technique=none"], fold)[:-1]
        seeds = ",".join(map(str, range(fold, n, folds)))
        run("run", "-m", *line, f"seed={seeds}", f"store={root}", f"sweep.name={name}")
    return names


def tried(name: str, minutes: float, more: Sequence[str]) -> list[str]:
    """A row of the table."""
    folder = Path(f"{name}_{minutes:g}")
    root = Path(f"{folder}_runs")
    if not (folder / "minutes").exists():
        begun = time.monotonic()
        given = [*TRIES[name].split(), "model=minilm", *more]
        run("auto", *given, f"hours={minutes / 60:.6g}", f"out={folder}", f"store={root}")
        (folder / "minutes").write_text(f"{(time.monotonic() - begun) / 60:.1f}")
    plan, store = read_plan(folder), Store(root)
    assert plan is not None
    own = records(store, (plan.name, confirmation_of(plan.name)))
    n_steps = [int(record.result["steps"]) for record in own.values()]
    n_plain = max(1, round(sum(n_steps) / min(n_steps)))  # no arm is shorter than the baseline
    plain = records(store, train_plain(plan, n_plain, root))
    delivered = plan.decided("deliver") or {}
    best = max(plain.values(), key=quality)
    scores = [row_of(record)["score"] for record in plain.values()]
    return [
        name,
        (folder / "minutes").read_text(),
        f"{len(own)} of {len(plan.arms)} arms",
        delivered["arm"],
        f"{row_of(own[delivered['key']])['score']:.3f}",
        f"{row_of(best)['score']:.3f} (of {len(plain)}; mean {sum(scores) / len(scores):.3f})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="+", choices=TRIES, default=[*TRIES])
    parser.add_argument("--more", nargs="+", default=[], help="overrides, e.g. hydra/launcher=pool")
    args = parser.parse_args()
    data = Path(os.environ["BLUESTAB_DATA"]).resolve()
    os.environ["BLUESTAB_DATA"] = str(data)
    args.out.mkdir(parents=True, exist_ok=True)
    os.chdir(args.out)
    write_own_files(data)
    head = ["data", "minutes", "runs", "delivered", "its test score", "plain: best on validation"]
    rows = [head, ["---"] * len(head)]
    rows += [tried(name, args.minutes, args.more) for name in args.only]
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    main()
