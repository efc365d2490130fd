"""Arms that were cross-validated: seeds within folds, which are no further data.

`streams` of a run, its seeds as (name, value) pairs, then hold its fold as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from bluestab import stats
from bluestab.stats.over_folds import FoldsMean, folds_mean

Row = dict[str, Any]
FOLD = "fold"


def with_fold(streams: tuple[Any, ...], fold: int | None) -> tuple[Any, ...]:
    return streams if fold is None else (*streams, (FOLD, fold))


def fold_of(streams: Iterable[Any]) -> int | None:
    return next((value for name, value in streams if name == FOLD), None)


def without_fold(streams: Iterable[Any]) -> tuple[Any, ...]:
    """The seeds alone."""
    return tuple(one for one in streams if one[0] != FOLD)


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


def mean_over_folds(scores: Mapping[Any, float], sizes: tuple[int, int] | None) -> FoldsMean | None:
    """Of scores, or differences, by streams; None unless all runs have a fold.

    sizes  items that train and test in a fold; None: not known, so there is no interval
    """
    folds = [fold_of(streams) for streams in scores]
    if None in folds:
        return None
    design = stats.design_of([without_fold(streams) for streams in scores])
    return folds_mean(list(scores.values()), folds, design, sizes)


def nested_columns(scores: Mapping[Any, float], sizes: tuple[int, int] | None) -> Row:
    """What replaces the columns of an arm whose runs have folds; empty for others.

    mean of the means of the folds; std over seeds, within folds; interval over folds, corrected for
    the training items that they share, and the seeds (`stats.over_folds`).
    """
    nested, mean = stats.nested_mean(by_fold(scores)), mean_over_folds(scores, sizes)  # type: ignore[arg-type]
    if nested is None or mean is None:
        return {}
    interval = mean.interval()
    return {
        "mean": nested.mean,
        "std": nested.std_seeds,
        **ends("ci", interval),
        "ci_method": None if interval is None else interval.method,
        "n_folds": nested.n_folds,
        "std_folds": nested.std_folds,
    }


def fold_change(
    own: Mapping[Any, float],
    reference: Mapping[Any, float],
    sizes: tuple[int, int] | None,
    level: float = 0.05,
    n_arms: int = 1,
) -> Row:
    """Change of the mean on shared folds and seeds, averaged within folds first: its test and
    interval, alone and for `n_arms` at once (Bonferroni); see `mean_over_folds`."""
    shared = {streams: own[streams] - reference[streams] for streams in own if streams in reference}
    change = mean_over_folds(shared, sizes)
    if change is None or sizes is None:
        return {}
    test = change.test()
    return {
        "test_name": f"{test.name} over folds",
        "p": test.p,
        "p_adjusted": None if test.p is None else min(1.0, n_arms * test.p),
        **ends("delta", change.interval(1 - level)),
        **ends("delta_all", change.interval(1 - level / n_arms)),
    }


def fold_spread(own: Mapping[Any, float], reference: Mapping[Any, float]) -> Row:
    """Change of the mean over folds, and the ratio of the spreads over seeds within them."""
    shared = [streams for streams in own if streams in reference]
    change = mean_over_folds({s: own[s] - reference[s] for s in shared}, None)
    spreads = [
        stats.nested_mean(by_fold({s: scores[s] for s in shared}))  # type: ignore[arg-type]
        for scores in (own, reference)
    ]
    stds = [None if one is None else one.std_seeds for one in spreads]
    return {
        "delta": None if change is None else change.mean,
        "std_ratio": stds[0] / stds[1] if stds[0] is not None and stds[1] else None,
    }
