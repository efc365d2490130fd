"""Arms that were cross-validated: seeds within folds, which are no further data.

`streams` of a run, its seeds as (name, value) pairs, then hold its fold as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from bluestab import stats

Row = dict[str, Any]
FOLD = "fold"


def with_fold(streams: tuple[Any, ...], fold: int | None) -> tuple[Any, ...]:
    return streams if fold is None else (*streams, (FOLD, fold))


def fold_of(streams: Iterable[Any]) -> int | None:
    return next((value for name, value in streams if name == FOLD), None)


def by_fold(scores: Mapping[Any, float]) -> dict[int, list[float]]:
    """Fold -> scores of its seeds; empty unless all runs have a fold."""
    found: dict[int, list[float]] = defaultdict(list)
    for streams, score in scores.items():
        fold = fold_of(streams)
        if fold is None:
            return {}
        found[fold].append(score)
    return dict(found)


def ends(name: str, interval: stats.Interval | None) -> Row:
    """`NAME_low` and `NAME_high`, None without an interval."""
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {f"{name}_low": low, f"{name}_high": high}


def bonferroni(
    name: str,
    p: float | None,
    alone: stats.Interval | None,
    family: stats.Interval | None,
    n_arms: int,
) -> Row:
    """Columns of a change that has a test of its own, among `n_arms`: its p times their number.

    alone, family  its interval by itself, and at the level that this leaves for each of them
    """
    return {
        "test_name": name,
        "p": p,
        "p_adjusted": None if p is None else min(1.0, n_arms * p),
        **ends("delta", alone),
        **ends("delta_all", family),
    }


def nested_columns(scores: Mapping[Any, float], sizes: tuple[int, int] | None) -> Row:
    """What replaces the columns of an arm whose runs have folds; empty for others.

    sizes  items that train and test in a fold; None: not known, so there is no interval

    mean of the means of the folds; std over seeds, within folds; interval over folds, corrected for
    the training items that they share (`stats.corrected_t_interval`).
    """
    found = stats.nested_mean(by_fold(scores))  # type: ignore[arg-type]
    if found is None:
        return {}
    interval = None if sizes is None else stats.corrected_t_interval(found.by_fold, *sizes)
    return {
        "mean": found.mean,
        "std": found.std_seeds,
        **ends("ci", interval),
        "ci_method": None if interval is None else interval.method,
        "n_folds": found.n_folds,
        "std_folds": found.std_folds,
    }


def fold_change(
    own: Mapping[Any, float],
    reference: Mapping[Any, float],
    sizes: tuple[int, int] | None,
    level: float = 0.05,
    n_arms: int = 1,
) -> Row:
    """Change of the mean on shared folds and seeds, averaged within folds first: its test and
    interval, alone and for `n_arms` at once (Bonferroni).

    sizes  items that train and test in a fold; None: not known, so there is no p

    p and interval by the corrected resampled t-test over folds (Nadeau & Bengio 2003).
    """
    change = _over_folds(own, reference)
    if change is None or sizes is None:
        return {}
    test = stats.corrected_resampled_t(change.by_fold, *sizes, level)
    alone, family = (
        stats.corrected_t_interval(change.by_fold, *sizes, 1 - level / m) for m in (1, n_arms)
    )
    return bonferroni(f"{test.name} over folds", test.p, alone, family, n_arms)


def fold_spread(own: Mapping[Any, float], reference: Mapping[Any, float]) -> Row:
    """Change of the mean over folds, and the ratio of the spreads over seeds within them."""
    shared = [streams for streams in own if streams in reference]
    change = _over_folds(own, reference)
    spreads = [
        stats.nested_mean(by_fold({s: scores[s] for s in shared}))  # type: ignore[arg-type]
        for scores in (own, reference)
    ]
    stds = [None if one is None else one.std_seeds for one in spreads]
    return {
        "delta": None if change is None else change.mean,
        "std_ratio": stds[0] / stds[1] if stds[0] is not None and stds[1] else None,
    }


def _over_folds(own: Mapping[Any, float], reference: Mapping[Any, float]) -> stats.Nested | None:
    shared = [streams for streams in own if streams in reference]
    return stats.nested_mean(
        by_fold({streams: own[streams] - reference[streams] for streams in shared})  # type: ignore[arg-type]
    )
