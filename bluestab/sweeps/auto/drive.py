"""The order of the steps: look, plan, race, confirm, and hand over to whoever delivers.

Nothing here trains, tests or reports by itself: runs are those of sweeps, on any launcher. Every
step is decided from finished runs and the plan alone, so that the same command goes on after a
death at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bluestab.core.errors import Interrupted, RunsCrashed
from bluestab.core.printable import counted
from bluestab.core.types import RunRecord
from bluestab.report.searches import confirmation_of
from bluestab.store.store import Store
from bluestab.sweeps.auto.budget import Budget
from bluestab.sweeps.auto.fresh import contrast, quality
from bluestab.sweeps.auto.plan import (
    FEWEST,
    FIRST_FRESH,
    LOOKS,
    MOST_FRESH,
    MOST_RACE_SEEDS,
    RACE_SEEDS,
    AutoPlan,
)
from bluestab.sweeps.auto.race import best_of, evidence, losers, means
from bluestab.sweeps.confirmation import ConfirmedArm, matched_arm
from bluestab.sweeps.grouping import with_engines
from bluestab.sweeps.launchers.base import Backend
from bluestab.sweeps.plan import SEED, Compose, Job, PlannedRun, Sweep, plan_sweep

Runs = dict[tuple[str, int], PlannedRun]
"""(arm, seed) -> its run."""


@dataclass
class AutoRun:
    """One `bluestab auto` on its way: what is planned, what is there, what is left.

    here   overrides that say where runs go, and decide nothing
    raced, fresh  runs of the race and of the confirmation that were asked for
    """

    plan: AutoPlan
    folder: Path
    store: Store
    backend: Backend
    compose: Compose
    budget: Budget
    here: tuple[str, ...] = ()
    raced: Runs = field(default_factory=dict)
    fresh: Runs = field(default_factory=dict)
    _n_before: int = 0

    def go(self) -> None:
        """From the race to the run that is delivered; what was decided before is decided again,
        from the same runs."""
        before, self.plan.decisions = self.plan.decisions, []
        self._n_before = len(before)
        self._race(before)
        winner = self._choose()
        if winner != self.plan.baseline:
            confirmed = next((one for one in before if one["step"] == "confirm"), None)
            self._confirm(winner, confirmed)
        self._deliver(winner)

    # --- the race

    def _race(self, before: Sequence[Mapping[str, Any]]) -> None:
        alive = [arm.name for arm in self.plan.arms]
        seeds: list[int] = []
        known = [one for one in before if one["step"] == "race"]
        over = len(known) < len(before)  # what followed was decided, too
        while known or not over:
            again = known.pop(0) if known else None
            new = again["seeds"] if again else self._next_seeds(alive, len(seeds))
            if again:
                alive = list(again["alive"])
            elif not new and not seeds:
                alive, new = [self.plan.baseline], self._alone()
            if not new:
                return
            seeds += new
            self._note("race", seeds=new, alive=list(alive))
            self.budget.use(len(new) * len(alive))
            self._launch_race(alive, new, killed=again is not None and "dropped" not in again)
            scores = self._scores()
            dropped = losers(scores, alive, self.plan.baseline)
            self._update(
                fortunes={a: round(found, 4) for a, (found, _) in evidence(scores).items()},
                dropped=dropped,
            )
            for arm, by in dropped.items():
                print(f"  {arm} leaves the race: {by} beats it more often than not")
            alive = [arm for arm in alive if arm not in dropped]
            if len(alive) > 1 or dropped:
                print(f"race: {len(seeds)} seeds; left: {'; '.join(alive)}", flush=True)

    def _next_seeds(self, alive: Sequence[str], n: int) -> list[int]:
        """The seeds of the next round; none: the race is over."""
        if len(alive) < 2 or (len(alive) == 2 and n >= RACE_SEEDS):
            return []
        a_round = max(1, round(self.plan.n_runs / LOOKS / len(alive)))
        left = self.budget.left(race=True)
        if best_of(means(self._scores(), alive), self.plan.baseline) == self.plan.baseline:
            # nothing would be confirmed: the rest is theirs, but for the fewest fresh seeds
            left = max(left, self.budget.left(race=False) - 2 * FEWEST)
        most = min(MOST_RACE_SEEDS - n, left // len(alive))
        return list(range(n, n + max(0, min(a_round, most))))

    def _alone(self) -> list[int]:
        """Seeds of plain fine-tuning, where no round of two arms fits: one at least."""
        n = max(1, min(self.budget.left(race=False, alone=True), MOST_RACE_SEEDS))
        print(f"no room for two arms: plain fine-tuning on {counted(n, 'seed')}", flush=True)
        return list(range(n))

    def _launch_race(self, alive: Sequence[str], seeds: Sequence[int], *, killed: bool) -> None:
        arms = {arm.name: arm for arm in self.plan.arms}
        alone = len(alive) == 1  # what is delivered, with no time to train it twice
        here = (*self.here, "keep=last") if alone else self.here
        jobs = {
            (name, seed): self.plan.job(arms[name], seed, here) for seed in seeds for name in alive
        }
        self._launch(jobs, self.raced, self.plan.name, killed=killed, to_the_end=alone)

    def _scores(self) -> dict[str, dict[int, float]]:
        found: dict[str, dict[int, float]] = {arm.name: {} for arm in self.plan.arms}
        for (arm, seed), record in self.records(self.raced).items():
            found[arm][seed] = quality(record)
        return found

    def _choose(self) -> str:
        scores = self._scores()
        last = self.plan.decided("race") or {"alive": [], "dropped": {}}
        alive = [arm for arm in last["alive"] if arm not in last["dropped"]]
        found = means(scores, alive)
        winner = best_of(found, self.plan.baseline)
        self._note("choose", winner=winner, means=found, n_seeds=len(scores[winner]))
        return winner

    # --- the confirmation

    def _confirm(self, winner: str, before: Mapping[str, Any] | None) -> None:
        lines = self._contenders(winner)
        left = self.budget.left(race=False)
        if left // len(lines) < FEWEST if before is None else "matched" not in before["arms"]:
            lines.pop("matched", None)
        n = min(MOST_FRESH, left // len(lines)) if before is None else len(before["seeds"])
        seeds = list(range(FIRST_FRESH, FIRST_FRESH + n)) if n >= FEWEST else []
        self._note("confirm", seeds=seeds, arms=list(lines))
        if not seeds:
            print(f"no confirmation: {n} fresh seeds are left, and {FEWEST} are the fewest")
            return
        print(f"confirming {winner} on {len(seeds)} fresh seeds, beside plain fine-tuning")
        self.budget.use(len(seeds) * len(lines))
        jobs = {
            (role, s): self.plan.placed(one.lines[0], s)
            for s in seeds
            for role, one in lines.items()
        }
        confirms = {
            "sweep": self.plan.name,
            "arms": {one.cell: {"role": one.role, "arm": one.arm} for one in lines.values()},
        }
        killed = before is not None and "effect" not in before
        name = confirmation_of(self.plan.name)
        self._launch(jobs, self.fresh, name, confirms, killed=killed)
        row = contrast(self.of_role("winner"), self.of_role("baseline"), "validation")
        self._update(**{name: row.get(name) for name in CONFIRMED})

    def _contenders(self, winner: str) -> dict[str, ConfirmedArm]:
        arms = {arm.name: arm for arm in self.plan.arms}
        found = {}
        for role, name in (("baseline", self.plan.baseline), ("winner", winner)):
            line = [o for o in self.plan.job(arms[name], 0, self.here) if not SEED.fullmatch(o)]
            cell = next(p.run.cell for (arm, _), p in self.raced.items() if arm == name)
            found[role] = ConfirmedArm(role, name, cell, [line])
        third = matched_arm(found["baseline"], found["winner"], self.compose)
        return {**found, **({} if third is None else {"matched": third})}

    def of_role(self, role: str) -> list[RunRecord]:
        """Finished runs of the confirmation, by seed."""
        return [r for (one, _), r in self.records(self.fresh).items() if one == role]

    # --- what is delivered

    def _deliver(self, winner: str) -> None:
        """The arm that validation on fresh seeds speaks for, of it the seed best on validation."""
        confirmed = self.plan.decided("confirm") or {}
        shown = confirmed.get("effect") in ("better", "ahead")
        arm, role = (winner, "winner") if shown else (self.plan.baseline, "baseline")
        runs = [r for (one, _), r in self.records(self.raced).items() if one == arm]
        runs = [r for r in [*runs, *self.of_role(role)] if r.status == "done"]
        if not runs:
            self._note("deliver", arm=arm, key=None)
            return
        best = max(runs, key=quality)  # of equal ones the first
        seed = best.measured["names"]["seed"]
        self._note("deliver", arm=arm, key=best.key, seed=seed, n_seeds=len(runs))

    # --- runs

    def records(self, runs: Runs) -> dict[tuple[str, int], RunRecord]:
        """Those that are finished, in order."""
        return {
            place: self.store.read(planned.run.key)
            for place, planned in runs.items()
            if self.store.has(planned.run.key)
        }

    def _launch(
        self,
        jobs: Mapping[tuple[str, int], Job],
        known: Runs,
        name: str,
        confirms: Mapping[str, Any] | None = None,
        *,
        killed: bool,
        to_the_end: bool = False,
    ) -> None:
        """See these runs through, beside those of the same sweep that were asked for before.

        killed      an earlier command was at it when it died: what it did took time, too
        to_the_end  whatever the time: there are no others
        """
        lines: Sequence[Job] = list(jobs.values())
        if self.backend.group != 1:
            lines, _ = with_engines(self.compose, lines)
        sweep = plan_sweep(self.compose, lines, name, self.backend.kind_of, confirms)
        planned = {one.overrides: one for one in sweep.runs}  # nothing is left open in these lines
        new = {place: planned[tuple(job)] for place, job in zip(jobs, lines, strict=True)}
        known |= new
        if killed:
            self.budget.lost(sum(self._seconds(new)))
        deadline = None if to_the_end else self.budget.deadline
        whole = replace(sweep, runs=tuple(known.values()), blind=True, deadline=deadline)
        missing = {at: one for at, one in known.items() if not self.store.has(one.run.key)}
        begun = time.monotonic()
        try:
            self._see_through(whole, missing)
        except RunsCrashed as error:
            print(error)
        except Interrupted:
            if whole.deadline is None or time.monotonic() < whole.deadline:
                raise
        took = self._seconds(missing)
        self.budget.learn(len(took), time.monotonic() - begun, max(took, default=0.0))

    def _seconds(self, runs: Runs) -> list[float]:
        """Of each that is finished."""
        return [one.measured["seconds"]["total"] for one in self.records(runs).values()]

    def _see_through(self, sweep: Sweep, missing: Runs) -> None:
        if missing or sweep.name not in self.store.manifests():
            self.backend.launch(sweep)
        else:
            self.store.write_manifest(sweep.name, sweep.manifest())

    # --- decisions

    def _note(self, step: str, **said: Any) -> None:
        self.plan.decisions.append({"step": step, **said})
        self._write()

    def _update(self, **said: Any) -> None:
        self.plan.decisions[-1] |= said
        self._write()

    def _write(self) -> None:
        if len(self.plan.decisions) < self._n_before:
            return  # those that follow stand in the file, and are decided again in a moment
        self.plan.spent = self.budget.spent
        self.plan.write(self.folder)


CONFIRMED = (
    "n_paired", "mean", "mean_against", "delta", "delta_low", "delta_high", "p", "effect",
    "failed_paired", "failed_baseline", "unseen_failed",
)  # fmt: skip
"""What the confirmation says by validation, as reports call it."""
