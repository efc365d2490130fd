"""The arm that a sweep chose on validation: measured on fresh seeds, beside the baseline.

Of many arms the one that looks best is partly the one that was lucky. Seeds that did not choose it
owe it nothing, so that their comparison needs no correction for the choice: `sweep.confirm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bluestab.core.config import resolved
from bluestab.core.errors import ConfigError
from bluestab.report.frames.confirmed import confirmed_sentences
from bluestab.report.frames.results import quick_results, read_results
from bluestab.report.searches import confirmation_of
from bluestab.report.words.advice import advice
from bluestab.report.write import write_report
from bluestab.sweeps.plan import SEED, Compose, Job, Sweep, plan_sweep
from bluestab.training.check import check

Launch = Callable[[Sweep], None]
ROLES = ("baseline", "matched", "winner")


@dataclass(frozen=True)
class ConfirmedArm:
    """One arm of a confirmation.

    role   one of `ROLES`; arm: its name; cell: of its runs
    lines  overrides of its runs, without their seeds: one, or one for each fold
    """

    role: str
    arm: str
    cell: str
    lines: Sequence[Job]


def most_runs(sweep: Sweep) -> int:
    """Runs of the confirmation at most: three arms of every task and model, in every fold."""
    subjects = {(p.run.data.task.name, p.run.hashed["model"]): p.run.cell for p in sweep.runs}
    lines = sum(len(_lines(sweep, cell)) for cell in subjects.values())
    return len(ROLES) * len(sweep.confirm) * lines


def confirm(sweep: Sweep, compose: Compose, launch: Launch) -> None:
    """Run what the sweep chose, and its baseline, on fresh seeds; then write its report anew.

    The same command goes on where it was stopped: the choice follows from the results.
    """
    missing = [p for p in sweep.runs if not sweep.store.has(p.run.key)]
    if missing:
        print(
            f"nothing is confirmed yet: {len(missing)} of {len(sweep.runs)} runs are missing; the "
            "same command goes on"
        )
        return
    found = [one for of_subject in _contenders(sweep, compose) for one in of_subject]
    if not found:
        print("nothing to confirm: no arm is chosen before the baseline")
        return
    said = ", ".join(one.arm for one in found if one.role == "winner")
    print(f"\nconfirming {said} on {len(sweep.confirm)} fresh seeds")
    second = plan_sweep(
        compose,
        [[*line, f"seed={s}"] for one in found for line in one.lines for s in sweep.confirm],
        confirmation_of(sweep.name),
        confirms={
            "sweep": sweep.name,
            "arms": {one.cell: {"role": one.role, "arm": one.arm} for one in found},
        },
    )
    launch(second)
    manifest = sweep.manifest()
    results = read_results(sweep.store, manifest)
    for sentence in confirmed_sentences(results):
        print(sentence)
    written = write_report(results, store=sweep.store, manifest=manifest)
    print("wrote " + ", ".join(str(path) for path in written))


def _contenders(sweep: Sweep, compose: Compose) -> Iterator[list[ConfirmedArm]]:
    """Of every task and model where an arm is named, or looks best: baseline, winner, and the
    baseline with all of the winner's that belongs to no technique (a learning rate), as searches
    have it: what a technique adds is not what a better rate adds."""
    results = quick_results(sweep.store, sweep.manifest())
    summary = results.summary[results.summary["at"] == results.at]
    for one in advice(results.runs, results.summary, results.at):
        part = summary[(summary["task"] == one.task) & (summary["model"] == one.model)]
        cells = dict(zip(part["arm"], part["cell"], strict=True))
        first = one.found.first
        winner = one.found.arm or (None if first is None else first.arm)
        if winner is None or winner == one.baseline:
            continue
        baseline, chosen = (
            ConfirmedArm(role, arm, cells[arm], _lines(sweep, cells[arm]))
            for role, arm in (("baseline", one.baseline), ("winner", winner))
        )
        matched = matched_arm(baseline, chosen, compose)
        yield [baseline, chosen] if matched is None else [baseline, matched, chosen]


def matched_arm(
    baseline: ConfirmedArm, winner: ConfirmedArm, compose: Compose
) -> ConfirmedArm | None:
    """None where that is one of the two, or no run can be of this kind."""
    own = [
        [o for o in line if not o.startswith(("technique=", "technique."))] for line in winner.lines
    ]
    taken = {o.partition("=")[0] for line in own for o in line}
    kept = [o for o in baseline.lines[0] if o.partition("=")[0] not in taken]
    try:
        cell = check(resolved(compose([*kept, *own[0]]))).cell
    except ConfigError:
        return None
    if cell in (baseline.cell, winner.cell):
        return None
    name = f"{baseline.arm}, all else as {winner.arm}"
    return ConfirmedArm("matched", name, cell, [[*kept, *line] for line in own])


def _lines(sweep: Sweep, cell: str) -> list[Job]:
    """Overrides of the runs of a cell, without their seeds, each once."""
    found = {
        tuple(o for o in p.overrides if not SEED.fullmatch(o)): None
        for p in sweep.runs
        if p.run.cell == cell
    }
    return [list(line) for line in found]
