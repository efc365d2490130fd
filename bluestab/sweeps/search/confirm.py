"""The winner of a search: measured on fresh seeds, beside the baseline, and reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bluestab.core.config import compose, resolved
from bluestab.report.searches import confirmation_of
from bluestab.store.store import Store
from bluestab.sweeps.plan import Job, Sweep, check_each, plan_sweep
from bluestab.sweeps.search.entry import keep_entry
from bluestab.sweeps.search.findings import (
    Arm,
    Findings,
    arm_of,
    best_first,
    importance,
    points_frame,
    verdict_sentences,
)
from bluestab.sweeps.search.page import write_search
from bluestab.sweeps.search.plan import baseline_overrides
from bluestab.sweeps.search.points import overrides, owner, shown
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.trials import Trials
from bluestab.sweeps.search.worker import with_its_engine
from bluestab.training.check import check

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


Launch = Callable[[Sweep], None]


@dataclass(frozen=True)
class Contender:
    """An arm of the confirmation.

    name      baseline, matched, winner, second; line: its overrides, but for the seed
    said      what it is, for people; searched: its objective in the search, None for a baseline
    """

    name: str
    line: Sequence[str]
    said: str
    searched: float | None = None

    def jobs(self, search: Search) -> list[Job]:
        """Its runs on fresh seeds."""
        return with_its_engine(search, [[*self.line, f"seed={seed}"] for seed in search.confirm])


def contenders(search: Search, ranked: Sequence[FrozenTrial]) -> list[Contender]:
    """Who is measured on fresh seeds: the baseline, the winner, the second best.

    And `matched`, the baseline with the winner's knobs that belong to no technique (a learning
    rate): what the techniques add is not what a better rate adds.
    """
    line = baseline_overrides(search)
    found = [Contender("baseline", line, " ".join(search.baseline))]
    of_none = {k: v for k, v in ranked[0].params.items() if owner(k) is None and k != "technique"}
    for name, trial in zip(("winner", "second"), ranked, strict=False):
        own = search.job(trial.params, 0)[:-1]
        found.append(Contender(name, own, shown(trial.params), trial.value))
    if not of_none:
        return found
    shared = overrides(of_none)
    matched = Contender("matched", [*line, *shared], " ".join([*search.baseline, *shared]))
    cells = [check(resolved(compose(c.jobs(search)[0]))).cell for c in (matched, *found[:2])]
    if cells[0] not in cells[1:]:
        found.insert(1, matched)
    return found


def confirm(search: Search, trials: Trials, launch: Launch) -> list[Arm]:
    """Run the confirmation, if there is one: one objective, fresh seeds, and a point that won."""
    ranked = best_first(trials.all(), search)
    if search.several or not search.confirm or not ranked:
        return []
    print(f"\nconfirming the winner on {len(search.confirm)} fresh seeds")
    every = [job for one in contenders(search, ranked) for job in one.jobs(search)]
    launch(plan_sweep(compose, every, confirmation_of(search.name)))
    return confirmed(search, trials)


def confirmed(search: Search, trials: Trials) -> list[Arm]:
    """The arms of the confirmation, as far as their runs on fresh seeds are in the store."""
    ranked = best_first(trials.all(), search)
    if search.several or not search.confirm or not ranked:
        return []
    store, arms = Store(search.root), []
    for one in contenders(search, ranked):
        keys = [run.key for _, run in check_each(compose, one.jobs(search), check)]
        records = [store.read(key) for key in keys if store.has(key)]
        arm = arm_of(one.name, one.said, one.searched, records, search.objective[0], search.at)
        if arm is not None:
            arms.append(arm)
    return arms


def findings(search: Search, trials: Trials, arms: Sequence[Arm] = ()) -> Findings:
    """What is known of a search by now."""
    every = trials.all()
    return Findings(
        search=search,
        frame=points_frame(every, search),
        ranked=best_first(every, search),
        importance=importance(every, search),
        arms=arms,
    )


def report(
    search: Search,
    trials: Trials,
    arms: Sequence[Arm],
    out: Path | None = None,
    *,
    keep: bool = True,
) -> None:
    """Say what was found, and write the files of it.

    keep  write it beside the study, too, where report.html finds it
    """
    found = findings(search, trials, arms)
    print(f"\nsearch {search.name}")
    for sentence in verdict_sentences(found):
        print(f"  {sentence}")
    if keep:
        keep_entry(found)
    folder = out or Path("report") / search.name
    written = write_search(found, folder)
    print("wrote " + ", ".join(map(str, written)))
    if (folder / "best.yaml") in written:
        print(
            f"to use the winner: mkdir -p sweeps && cp {folder}/best.yaml sweeps/best.yaml && "
            "bluestab run +sweeps=best"
        )
