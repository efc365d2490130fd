"""Arms beside their baselines, on the seeds they share: one inference per change of the mean, one
per change of the failed share, for all arms that are compared together.

Seeds that are independent repetitions, or blocks of them, have one null distribution for the whole
family (`stats.changes`). Over folds and crossed seeds each arm has a test of its own, whose p is
multiplied by the number of arms and whose interval is at the level that this leaves (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bluestab import stats
from bluestab.report.frames.folds import by_fold, ends, fold_change, fold_spread
from bluestab.report.frames.gaps import GAP_COLUMNS, explain, pairs_of
from bluestab.report.frames.looks import look_again
from bluestab.report.tables import LEVEL
from bluestab.stats.changes import change_alone, changes_by_design
from bluestab.stats.failing import mcnemar, newcombe_paired, unseen
from bluestab.stats.verdict import effect_of

Row = dict[str, Any]
Streams = Any
"""Seeds of a run, as (name, seed) pairs."""


@dataclass(frozen=True)
class ArmRuns:
    """Runs of one cell at one step.

    failed  seeds of the runs that failed; failure_score: what such a run scores at worst, if known
    sizes   items that train and test in a fold, for an arm that was cross-validated
    """

    scores: Mapping[Streams, float]
    failed: frozenset[Streams] = frozenset()
    failure_score: float | None = None
    sizes: tuple[int, int] | None = None
    higher_is_better: bool = True

    def folded(self) -> bool:
        return bool(by_fold(self.scores))


Pair = tuple[ArmRuns, ArmRuns]
"""An arm and its baseline."""


def contrasts(
    pairs: Mapping[str, Pair], margin: float | None = None, looked: Collection[str] = ()
) -> dict[str, Row]:
    """Columns of `summary_frame` that compare, for arms that are compared together.

    margin  of equivalence, in the unit of the scores
    looked  arms whose seeds, or whose baseline's, were added after results could be seen
    """
    shared = {name: [s for s in a.scores if s in b.scores] for name, (a, b) in pairs.items()}
    designs = {name: stats.design_of(seeds) for name, seeds in shared.items()}
    rows = {name: _described(*pair, shared[name], designs[name]) for name, pair in pairs.items()}
    folded = {name for name, pair in pairs.items() if all(arm.folded() for arm in pair)}
    scores = {
        name: {s: (a.scores[s], b.scores[s]) for s in shared[name]}
        for name, (a, b) in pairs.items()
        if name not in folded
    }
    for name in folded:
        own, reference = pairs[name]
        rows[name] |= fold_change(own.scores, reference.scores, own.sizes, LEVEL, len(pairs))
    if folded:
        tested = {
            name: change_alone(own, stats.design_of, LEVEL, len(pairs))
            for name, own in scores.items()
        }
    else:
        tested = changes_by_design(scores, stats.design_of, LEVEL, margin)
    for name, change in tested.items():
        rows[name] |= {
            "test_name": change.name if change.p is not None else None,
            "p": change.p, "delta_low": change.low, "delta_high": change.high,
            "p_adjusted": change.p_family, "p_equivalent": change.p_equivalent,
            "delta_all_low": change.family_low, "delta_all_high": change.family_high,
        }  # fmt: skip
    adjust(list(rows.values()), "p_std")
    independent = {name for name in pairs if name not in folded and designs[name].independent}
    failing(rows, {name: pairs[name] for name in pairs if name in independent}, shared)
    for name, row in rows.items():
        explain(row, folded=name in folded, tied=not designs[name].independent)
        if name in looked:
            a, b = _paired(*pairs[name], shared[name])
            look_again(row, a, b, len(pairs), independent=name in independent)
        row["effect"] = effect_of(
            row["delta"], row["p_adjusted"], row["p_equivalent"], bool(row.pop("turns", False)),
            higher_is_better=pairs[name][0].higher_is_better, level=LEVEL,
        )  # fmt: skip
    return rows


def failing(
    rows: Mapping[str, Row], pairs: Mapping[str, Pair], shared: Mapping[str, Sequence[Streams]]
) -> None:
    """Give these rows the columns about failing, in place: independent repetitions alone.

    The interval holds zero wherever the exact test of this arm alone does not exclude it.
    """
    for name, (own, reference) in pairs.items():
        seeds = shared[name]
        a, b = ([seed in arm.failed for seed in seeds] for arm in (own, reference))
        test, interval = mcnemar(a, b, LEVEL), newcombe_paired(a, b, 1 - LEVEL)
        if interval is not None and (test.p is None or test.p >= LEVEL):
            interval = replace(interval, low=min(interval.low, 0.0), high=max(interval.high, 0.0))
        x, y = _paired(own, reference, seeds)
        worst, better = own.failure_score, own.higher_is_better
        hidden = unseen(x, y, a, b, worst, 1 - LEVEL, higher_is_better=better)
        rows[name] |= {
            **ends("failed_change", interval),
            "failed_paired": sum(a),
            "failed_baseline": sum(b),
            "failed_change": test.statistic,
            "p_failed": test.p,
            "unseen_failed": None if hidden is None else hidden.share,
            "turns": hidden is not None and hidden.turns,
        }
    adjust([rows[name] for name in pairs], "p_failed")


def adjust(rows: Sequence[Row], *columns: str) -> None:
    """Give comparisons that are made together their p-values corrected by Holm, in place.

    Two arms that are equal at every seed could not have been told apart, and count for nothing.
    """
    for p in columns:
        tested = [None if row[p] == 1 and _equal(row) else row[p] for row in rows]
        for row, adjusted in zip(rows, stats.holm(tested), strict=True):
            row[f"{p}_adjusted"] = row[p] if adjusted is None else adjusted


def _equal(row: Row) -> bool:
    return bool(row["delta_low"] == row["delta_high"] == 0)


def _paired(
    own: ArmRuns, reference: ArmRuns, shared: Sequence[Streams]
) -> tuple[list[float], list[float]]:
    """Scores of both at the shared seeds, in one order."""
    return [own.scores[seed] for seed in shared], [reference.scores[seed] for seed in shared]


def _described(
    own: ArmRuns, reference: ArmRuns, shared: Sequence[Streams], design: stats.Design
) -> Row:
    """Whatever is no test of the mean."""
    a, b = _paired(own, reference, shared)
    improvement = stats.probability_of_improvement(a, b)
    if improvement is not None and not own.higher_is_better:
        improvement = 1 - improvement  # ties are half, both ways
    row: Row = dict.fromkeys(CONTRAST_COLUMNS)
    row |= {"n_paired": len(shared), "improvement": improvement, **pairs_of(shared)}
    if own.folded() and reference.folded():
        return row | fold_spread(own.scores, reference.scores)
    row |= {"delta": stats.paired_delta(own.scores, reference.scores)[1],
            "std_ratio": stats.std_ratio(a, b)}  # fmt: skip
    # what crossed seeds share would count as many times as runs share it: the ratio stands alone
    if design.independent:
        ratio, spread = stats.std_ratio_interval(a, b), stats.paired_variance(a, b)
        row |= {"p_std_name": spread.name, "p_std": spread.p, **ends("std_ratio", ratio)}
    return row


CONTRAST_COLUMNS = (
    "n_paired", "delta", "delta_low", "delta_high", "test_name", "p", "p_adjusted",
    "delta_all_low", "delta_all_high", "p_equivalent", "effect", "improvement",
    "failed_paired", "failed_baseline", "failed_change", "failed_change_low",
    "failed_change_high", "p_failed", "p_failed_adjusted", "unseen_failed",
    "std_ratio", "std_ratio_low", "std_ratio_high", "p_std_name", "p_std", "p_std_adjusted",
    *GAP_COLUMNS, "looked",
)  # fmt: skip
