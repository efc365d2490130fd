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
        "ci_low": None if interval is None else interval.low,
        "ci_high": None if interval is None else interval.high,
        "ci_method": None if interval is None else interval.method,
        "n_folds": found.n_folds,
        "std_folds": found.std_folds,
    }


def fold_comparison(
    own: Mapping[Any, float],
    reference: Mapping[Any, float],
    sizes: tuple[int, int] | None,
) -> Row:
    """An arm beside its baseline on shared folds and seeds: averaged within folds first.

    sizes  items that train and test in a fold; None: not known, so there is no p

    p and interval by the corrected resampled t-test over folds (Nadeau & Bengio 2003).
    """
    shared = [streams for streams in own if streams in reference]
    differences = by_fold({streams: own[streams] - reference[streams] for streams in shared})
    change = stats.nested_mean(differences)  # type: ignore[arg-type]
    spreads = [
        stats.nested_mean(by_fold({s: scores[s] for s in shared}))  # type: ignore[arg-type]
        for scores in (own, reference)
    ]
    stds = [None if one is None else one.std_seeds for one in spreads]
    test = interval = None
    if change is not None and sizes is not None:
        test = stats.corrected_resampled_t(change.by_fold, *sizes)
        interval = stats.corrected_t_interval(change.by_fold, *sizes)
    return {
        "n_paired": len(shared),
        "delta": None if change is None else change.mean,
        "delta_low": None if interval is None else interval.low,
        "delta_high": None if interval is None else interval.high,
        "test_name": None if test is None else f"{test.name} over folds",
        "p": None if test is None else test.p,
        "improvement": stats.probability_of_improvement(
            [own[s] for s in shared], [reference[s] for s in shared]
        ),
        "std_ratio": stds[0] / stds[1] if stds[0] is not None and stds[1] else None,
        "p_std_name": None,
        "p_std": None,
    }
