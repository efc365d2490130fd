"""What `bluestab auto` sees and says before the first run."""

from __future__ import annotations

from pathlib import Path

from bluestab.core.types import SPLITS
from bluestab.report.terminal.inspection_view import sentences
from bluestab.report.terminal.tables import seconds as duration
from bluestab.report.words.advice import FEW_ITEMS
from bluestab.sweeps.auto.budget import USABLE
from bluestab.sweeps.auto.plan import FEWEST_RUNS, FILE, AutoPlan
from bluestab.training.check import Run
from bluestab.training.inspection import inspect


def look(base: Run) -> list[str]:
    """What the data are like, in sentences."""
    found = inspect(base, 0)
    parts = ", ".join(f"{found.parts[split].n:,} {split}" for split in SPLITS)
    labels = {k: n for split in SPLITS for k, n in found.parts[split].labels.items()}
    lengths = found.parts["train"].lengths
    said = [
        f"{parts} items" + (f", {len(labels)} labels" if labels else ""),
        f"training items: median {lengths.median} {found.unit}, longest {lengths.most}",
        *sentences(found),
    ]
    return said


def parts(plan: AutoPlan) -> str:
    """How the items are divided, and what that means for the choice."""
    n = plan.subject["items"]["validation"]
    if plan.folds is not None:
        few = f"{n} validation items are too few to choose by: " if n < FEW_ITEMS else ""
        return (
            f"{few}{plan.folds} folds of all items together, each seed on one of them in turn, so "
            "that every item validates and tests"
        )
    if n < FEW_ITEMS:
        return (
            f"mind: {n} validation items choose, the same for all seeds; a choice of theirs may be "
            "theirs alone, and no number of seeds makes up for that"
        )
    return f"the task's own parts; {n} validation items choose"


def say(plan: AutoPlan, folder: Path, per_run: float, workers: int) -> None:
    """The plan, before the first run."""
    about = plan.subject
    print(f"\n{about['task']} with {about['model']}, scored by {about['metric']}")
    for sentence in plan.look:
        print(f"  {sentence}")
    if per_run:
        one = f"{duration(per_run * workers)} a run, {workers} at once"
        print(f"budget: {plan.asked['hours']:g} hours, about {plan.n_runs} runs ({one})")
    else:
        print(f"budget: {plan.n_runs} runs")
    if plan.n_runs < FEWEST_RUNS:
        least = f"runs={FEWEST_RUNS}"
        if per_run:
            least = f"hours={FEWEST_RUNS * per_run / 3600 / USABLE:.2g}"
        print(
            f"  too few for an answer: {least} is the least that could show something. What they "
            "can do is done: two arms on shared seeds, or plain fine-tuning alone, how much they "
            "scatter, and plain fine-tuning's best seed"
        )
    print(f"arms, of {len(plan.arms) + len(plan.left_out)} considered:")
    for arm in plan.arms:
        print(f"  {arm.name}: {arm.reason} ({arm.source})")
    for sentence in plan.left_out:
        print(f"  not {sentence}")
    for sentence in plan.rule:
        print(f"  {sentence}")
    print(f"the plan and every decision: {folder / FILE}\n", flush=True)
