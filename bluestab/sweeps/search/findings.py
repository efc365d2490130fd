"""A study as a table of points, and what the confirmation on fresh seeds says of the winner.

A stopped point is censored: its row says after how many seeds, it has no objective, and it takes
part in no statistic but one, importance, which asks only whether a point is among the best.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from bluestab.core.types import At, RunRecord
from bluestab.report.words.phrases import p_words
from bluestab.stats.changes import changes
from bluestab.sweeps.search.objectives import Outcome, is_of_scores, maximised, outcome, worth
from bluestab.sweeps.search.points import Knob, shown
from bluestab.sweeps.search.samplers import CONSTRAINT
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.told import n_runs, points, scores_of, was_stopped
from bluestab.tasks.metric import metric_of_result

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST = 0.25  # share of the points that importance sets against the others
FEWEST = 8  # points below which importance says nothing


@dataclass(frozen=True)
class Arm:
    """A configuration of the confirmation.

    point       what it is, for people; searched: its objective in the search, None for a baseline
    validation  objective on fresh seeds; scores: test scores by seed; failed: share, on validation
    sign        -1 where lower values of the objective are better
    """

    name: str
    point: str
    searched: float | None
    validation: float
    scores: Mapping[int, float]
    failed: float
    sign: int = 1

    @property
    def shrinkage(self) -> float | None:
        """By how much the search promised better than fresh seeds keep."""
        return None if self.searched is None else self.sign * (self.searched - self.validation)

    @property
    def mean(self) -> float:
        return math.fsum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True)
class Findings:
    """What came of a search.

    frame       one row per point, see `points_frame`
    ranked      points that may win, the best first (several objectives: the Pareto front)
    importance  knob -> share in [0, 1], of knobs that are drawn under the same condition
    arms        baseline, matched, winner, second; empty without a confirmation
    """

    search: Search
    frame: pd.DataFrame
    ranked: Sequence[FrozenTrial]
    importance: Mapping[str, float]
    arms: Sequence[Arm] = field(default=())

    def arm(self, name: str) -> Arm | None:
        return next((arm for arm in self.arms if arm.name == name), None)


def points_frame(trials: Sequence[FrozenTrial], search: Search) -> pd.DataFrame:
    """One row per finished point, in order: number, state, seeds, knobs, objectives, its scores.

    state: complete, stopped (by its rivals), cut (inside a run) or crashed; `censored` marks the
    middle two, whose objectives are empty. `infeasible`: too many of its runs failed.
    """
    rows = []
    for trial in points(trials):
        if not trial.state.is_finished():
            continue
        scores, censored = scores_of(trial), was_stopped(trial)
        state = trial.user_attrs["why"] if censored else trial.state.name.lower()
        told = [None] * len(search.objective) if censored or not trial.values else trial.values
        rows.append(
            {
                "trial": trial.number,
                "state": "crashed" if trial.state.name == "FAIL" else state,
                "censored": censored,
                "infeasible": trial.user_attrs.get(CONSTRAINT, 0.0) > 0,
                "n_seeds": n_runs(trial, len(search.seeds)),
                **{knob.name: trial.params.get(knob.name) for knob in search.space.knobs},
                **dict(zip(search.objective, told, strict=True)),
                "mean_so_far": math.fsum(scores) / len(scores) if scores else None,
                "failed_share": trial.user_attrs.get("failed_share"),
                "seconds_mean": trial.user_attrs.get("seconds"),
                **{f"seed_{seed}": s for seed, s in zip(search.seeds, scores, strict=False)},
                "note": trial.user_attrs.get("note", ""),
            }
        )
    return pd.DataFrame(rows)


def best_first(trials: Sequence[FrozenTrial], search: Search) -> list[FrozenTrial]:
    """Points that may win, the best first: all seeds, no more failed runs than allowed.

    With several objectives: those that no other point equals or beats in all of them.
    """
    able = [
        t
        for t in points(trials)
        if t.state.name == "COMPLETE"
        and not was_stopped(t)
        and t.user_attrs.get(CONSTRAINT, 0.0) <= 0
    ]
    signs = [1 if maximised(name, search.sign) else -1 for name in search.objective]
    worths = {t.number: [s * v for s, v in zip(signs, t.values, strict=True)] for t in able}
    if search.several:
        able = [t for t in able if not any(_beats(w, worths[t.number]) for w in worths.values())]
    return sorted(able, key=lambda t: ([-w for w in worths[t.number]], t.number))


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def arm_of(
    name: str,
    point: str,
    searched: float | None,
    records: Sequence[RunRecord],
    objective: str,
    at: At,
) -> Arm | None:
    """An arm from its runs on fresh seeds; None if none of them has a result."""
    done = [record for record in records if record.status != "crashed"]
    if not done:
        return None
    outcomes: list[Outcome] = [outcome(record, at) for record in done]
    metric = metric_of_result(done[0].result)
    return Arm(
        name=name,
        point=point,
        searched=searched,
        validation=worth(objective, outcomes, metric.sign),
        scores={r.measured["names"]["seed"]: float(r.result["score"][at]) for r in done},
        failed=sum(o.failed for o in outcomes) / len(outcomes),
        sign=1 if maximised(objective, metric.sign) else -1,
    )


def importance(trials: Sequence[FrozenTrial], search: Search) -> dict[str, float]:
    """How much each knob decides whether a point is among the best quarter (PED-ANOVA,
    Watanabe et al. 2023), in [0, 1].

    Stopped points count as not among the best, which is what is known of them. Knobs drawn under
    the same condition share 1 among them. Empty for several objectives or few points.
    """
    if search.several:
        return {}
    seen = [t for t in points(trials) if t.state.name in ("COMPLETE", "PRUNED")]
    found: dict[str, float] = {}
    for knobs in _conditions(search.space.knobs):
        found |= _importance([t for t in seen if knobs[0].name in t.params], knobs, search)
    return found


def _conditions(knobs: Sequence[Knob]) -> list[list[Knob]]:
    owners = dict.fromkeys(knob.owner for knob in knobs)
    return [[knob for knob in knobs if knob.owner == owner] for owner in owners]


def _importance(
    trials: Sequence[FrozenTrial], knobs: Sequence[Knob], search: Search
) -> dict[str, float]:
    import optuna

    names = [knob.name for knob in knobs]
    full = [t.values[0] for t in trials if t.values and not was_stopped(t)]
    if len(trials) < FEWEST or not full:
        return {}
    sign = 1 if maximised(search.objective[0], search.sign) else -1
    below = min(sign * value for value in full) - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction="maximize")
        for trial in trials:
            values = below if was_stopped(trial) else sign * (trial.values or [0.0])[0]
            study.add_trial(
                optuna.create_trial(
                    params={name: trial.params[name] for name in names},
                    distributions={name: trial.distributions[name] for name in names},
                    value=values,
                )
            )
        try:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator(
                target_quantile=min(BEST, len(full) / len(trials))
            )
            return dict(
                optuna.importance.get_param_importances(study, evaluator=evaluator, params=names)
            )
        except (ValueError, RuntimeError):  # knobs that never varied
            return {}


def verdict_sentences(found: Findings) -> list[str]:
    """What to take home, in sentences: the winner, what fresh seeds say, against what."""
    search = found.search
    if not found.ranked:
        return ["no point may win: none has all its seeds and keeps failed_share"]
    n_censored = int(found.frame["censored"].sum())
    said = [
        f"{len(found.frame)} points, {n_censored} of them stopped before they had all "
        f"{len(search.seeds)} seeds; {int(found.frame['n_seeds'].sum())} runs instead of "
        f"{len(found.frame) * len(search.seeds)}"
    ]
    if search.several:
        return [*said, f"{len(found.ranked)} points are on the Pareto front"]
    names = ("winner", "second", "baseline", "matched")
    winner, second, baseline, matched = (found.arm(name) for name in names)
    said.append(f"winner: {shown(found.ranked[0].params)}")
    name = search.objective[0]
    if winner is None or winner.searched is None or winner.shrinkage is None:
        return [*said, f"not confirmed: its {name} of {found.ranked[0].value:.4f} chose it"]
    said.append(
        f"validation {name}: {winner.searched:.4f} in the search, {winner.validation:.4f} on "
        f"{len(winner.scores)} fresh seeds: {_shrunk(winner.shrinkage)}"
    )
    if baseline is not None:
        said.append(_against(winner, baseline, "the baseline"))
    if matched is not None:
        said.append(_against(winner, matched, f"the baseline at its values ({matched.point})"))
    if second is not None:
        said.append(_against(winner, second, "the second best"))
        ahead = winner.sign * (second.validation - winner.validation) > 0
        if ahead and is_of_scores(name):
            better = "higher" if winner.sign > 0 else "lower"
            said.append(
                f"on fresh seeds the second best has the {better} validation score: the search did "
                "not tell the two apart"
            )
    return said


def _shrunk(by: float) -> str:
    return f"it shrinks by {by:.4f}" if by > 0 else f"it does not shrink ({-by:+.4f})"


def _against(winner: Arm, other: Arm, called: str) -> str:
    pairs: dict[Hashable, tuple[float, float]] = {
        seed: (own, other.scores[seed])
        for seed, own in winner.scores.items()
        if seed in other.scores
    }
    means = f"test {winner.mean:.4f} against {other.mean:.4f} of {called}"
    change = changes({called: pairs})[called]
    if change.delta is None or all(x == y for x, y in pairs.values()):
        return f"{means}: no difference on {len(pairs)} fresh seeds"
    between = "" if change.low is None else f" (95 % {change.low:+.4f} to {change.high:+.4f})"
    p = "p -" if change.p is None else p_words(change.p)
    return f"{means}: {change.delta:+.4f}{between} on {len(pairs)} fresh seeds, {p}"
