"""Intervals: which values of the truth agree with the scores of a handful of seeds.

All are two-sided. None where an interval is undefined, which includes scores without any spread:
equal scores of n runs say nothing of how much the next one may differ. How often each interval
covers the truth at 5, 10 and 20 seeds was measured: see the tables in `bluestab.stats`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bluestab.stats import describe, resampling
from bluestab.stats.arrays import FloatArray, ordered, pairs, same, scale, share
from bluestab.stats.resampling import Statistic

Method = Literal["bca", "percentile"]


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of what it is about.

    level   share of repetitions that should cover the truth, nominal, in (0, 1)
    method  wilson, newcombe, t, block t, two-way t, corrected t, welch, bca, percentile,
            jackknife, fisher-z, mover
    """

    low: float
    high: float
    level: float
    method: str


def wilson(failed: int, n: int, level: float = 0.95) -> Interval | None:
    """Score interval of a share of `failed` among `n` independent runs, in [0, 1]; None if n = 0.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), without continuity
    correction (Wilson 1927; recommended for small n by Brown, Cai & DasGupta 2001).
    Raises ValueError if `failed` does not lie in 0..n.
    """
    if not 0 <= failed <= n:
        raise ValueError(f"{failed} failed runs among {n}")
    share(level)
    return wilson_of_share(failed / n, n, level) if n else None


def wilson_of_share(p: float, n: float, level: float = 0.95) -> Interval:
    """The same of a share `p` in [0, 1] of `n` > 0 runs, which may be an effective number."""
    z = NormalDist().inv_cdf((1 + share(level)) / 2)
    square = z * z / n
    middle = p + square / 2
    half = z * math.sqrt(p * (1 - p) / n + square / (4 * n))
    # at the ends the terms cancel, which rounding would spoil
    low = 0.0 if p == 0 else (middle - half) / (1 + square)
    high = 1.0 if p == 1 else (middle + half) / (1 + square)
    return Interval(low, high, level, "wilson")


def t_interval(scores: npt.ArrayLike, level: float = 0.95) -> Interval | None:
    """Student's interval of the mean: mean +- t(n - 1) std / sqrt(n); of differences, of a delta.

    Exact for independent normal scores. The report's default, see `default_interval`. None if
    n < 2 or the scores are equal.
    """
    share(level)
    values = ordered(scores)
    if len(values) < 2 or same(values):
        return None
    centre, spread = describe.mean(values), describe.std(values)
    assert centre is not None
    assert spread is not None
    return t_interval_of(centre, spread, len(values), level)


def corrected_t_interval(
    scores: npt.ArrayLike, n_train: int, n_test: int, level: float = 0.95
) -> Interval | None:
    """Interval of the mean over splits or folds `(n_splits,)`, which share training examples.

    mean +- t(n - 1) std sqrt(1/n + n_test/n_train) (Nadeau & Bengio 2003, section 3.2): the values
    that `tests.corrected_resampled_t` does not reject, so it errs as often as that test. n_train
    and n_test are the examples of one split. Average over seeds within a split first. None if n < 2
    or the scores are equal. Raises ValueError if a split has no examples.
    """
    share(level)
    values = ordered(scores)
    if min(n_train, n_test) < 1:
        raise ValueError(f"a split of {n_train} training and {n_test} test examples")
    if len(values) < 2 or same(values):
        return None
    centre, spread = describe.mean(values), describe.std(values)
    assert centre is not None
    assert spread is not None
    wider = spread * math.sqrt(1 + len(values) * n_test / n_train)
    found = t_interval_of(centre, wider, len(values), level)
    return None if found is None else replace(found, method="corrected t")


def t_interval_of(mean: float, std: float, n: int, level: float = 0.95) -> Interval | None:
    """The same of a mean and a std (n - 1) that others report; None if n < 2."""
    if n < 2:
        return None
    return t_interval_of_error(mean, std / math.sqrt(n), n - 1, level)


def t_interval_of_error(estimate: float, error: float, df: float, level: float = 0.95) -> Interval:
    """Student's interval of an estimate with standard error `error` on `df` degrees of freedom."""
    half = t_quantile(df, share(level)) * error
    return Interval(estimate - half, estimate + half, level, "t")


def default_interval(scores: npt.ArrayLike, level: float = 0.95) -> Interval | None:
    """The interval a report shows for the mean of `scores`, or of paired differences: `t_interval`.

    Chosen by simulation: it alone holds its level for normal scores at every n, and it covers at
    least as often as the bootstrap in all but two of 27 cells (bca, 20 runs of which a fifth
    fail). For the mean of skewed scores it covers 88 to 91 %, and with failed runs at
    n = 5 only 67 %, because a third of such fives hold no failed run: no method can know of one
    that did not happen. See the tables in `bluestab.stats`.
    """
    return t_interval(scores, level)


def pearson_interval(r: float, n_items: int, level: float = 0.95) -> Interval | None:
    """Fisher's interval of a correlation over `n_items` test items: tanh(atanh r +- z / sqrt(n-3)).

    What the test set alone leaves open about one run, for bivariate normal items; Fisher 1921.
    None if n_items < 4 or |r| = 1. Raises ValueError if r lies outside [-1, 1].
    """
    if not -1 <= r <= 1:
        raise ValueError(f"r is {r}: a correlation lies in [-1, 1]")
    z = NormalDist().inv_cdf((1 + share(level)) / 2)
    if n_items < 4 or abs(r) == 1:
        return None
    half = z / math.sqrt(n_items - 3)
    return Interval(
        math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), level, "fisher-z"
    )


def bootstrap(
    scores: npt.ArrayLike,
    statistic: Statistic = describe.mean,
    *,
    method: Method = "bca",
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval | None:
    """Bootstrap interval of `statistic` over seeds; the same bits for every order of `scores`.

    method  `bca` (see `resampling.bca`) or `percentile` (the middle `level` of the resamples)
    Assumes independent runs, and many of them: below 20 seeds both miss the truth more often than
    they say, measured in `bluestab.stats`. None if n < 2, if the scores are equal, or if the
    statistic is undefined for them or for more than 1 % of the resamples.
    """
    share(level)
    values = ordered(scores)
    if len(values) < 2 or same(values):
        return None
    estimate = statistic(values)
    if estimate is None:
        return None
    found = resampling.of_rows(statistic, values[resampling.draws(len(values), resamples, seed)])
    return ends_of(
        found, estimate, lambda: resampling.of_rows(statistic, leave_one_out(values)), method, level
    )


def paired_bootstrap(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    statistic: Statistic = describe.mean,
    *,
    method: Method = "bca",
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval | None:
    """Bootstrap interval of statistic(a) - statistic(b); seeds are drawn, with both their scores.

    For the mean this is the bootstrap of the paired differences. Assumptions, and where it is
    None, as `bootstrap`. Raises ValueError if the arms differ in length.
    """
    share(level)
    both = pairs(a, b)
    if len(both) < 2 or same(both[:, 0] - both[:, 1], scale(both)):
        return None
    left, right = statistic(both[:, 0]), statistic(both[:, 1])
    if left is None or right is None:
        return None

    def of(indices: npt.NDArray[np.int64]) -> FloatArray:
        return resampling.of_rows(statistic, both[:, 0][indices]) - resampling.of_rows(
            statistic, both[:, 1][indices]
        )

    found = of(resampling.draws(len(both), resamples, seed))
    return ends_of(
        found, left - right, lambda: of(leave_one_out(np.arange(len(both)))), method, level
    )


def stratified_bootstrap(
    scores_by_task: Mapping[str, npt.ArrayLike],
    statistic: Statistic = describe.mean,
    *,
    pooled: bool = False,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval | None:
    """Percentile interval of the mean over tasks of `statistic`; runs are drawn within each task.

    Every task counts the same, however many runs it has (10 for some tasks of BLURB, 5 for others).
    pooled  take `statistic` of all runs of all tasks together instead: with `iqm` the aggregate
            of rliable (Agarwal et al. 2021); raises ValueError if tasks differ in their runs
    The tasks are taken as given: the interval says nothing about other tasks. It covers less often
    than `welch_interval` where runs per task are few. None if there is no task, or one with fewer
    than two runs, or no spread in any.
    """
    share(level)
    strata = _strata(scores_by_task)
    if strata is None:
        return None
    if pooled and len({*map(len, strata)}) > 1:
        raise ValueError(
            "pooled scores need equally many runs of every task, not "
            + ", ".join(f"{task} {len(scores_by_task[task])}" for task in sorted(scores_by_task))  # type: ignore[arg-type]
        )
    # each task draws from a stream of its own: one more task changes no other
    streams = np.random.SeedSequence(seed).spawn(len(strata))
    samples = [
        values[np.random.default_rng(s).integers(0, len(values), size=(resamples, len(values)))]
        for values, s in zip(strata, streams, strict=True)
    ]
    if pooled:
        found = resampling.of_rows(statistic, np.concatenate(samples, axis=1))
    else:
        found = np.mean([resampling.of_rows(statistic, part) for part in samples], axis=0)
    return _interval(resampling.percentile(found, level), level, "percentile")


def welch_interval(
    scores_by_task: Mapping[str, npt.ArrayLike], level: float = 0.95
) -> Interval | None:
    """Student's interval of the mean over tasks of the mean over runs; tasks count the same.

    Variance sum_t(std_t^2 / n_t) / T^2, degrees of freedom after Welch (1947) and Satterthwaite
    (1946). The tasks are taken as given. None if there is no task, or one with fewer than two runs,
    or no spread in any.
    """
    share(level)
    strata = _strata(scores_by_task)
    if strata is None:
        return None
    centre = math.fsum(float(np.mean(values)) for values in strata) / len(strata)
    parts = [float(np.var(values, ddof=1)) / len(values) for values in strata]
    df = math.fsum(parts) ** 2 / math.fsum(
        part**2 / (len(values) - 1) for part, values in zip(parts, strata, strict=True)
    )
    half = t_quantile(df, level) * math.sqrt(math.fsum(parts)) / len(strata)
    return Interval(centre - half, centre + half, level, "welch")


def _strata(scores_by_task: Mapping[str, npt.ArrayLike]) -> list[FloatArray] | None:
    """Scores per task, in the order of the names; None if there is nothing to tell a spread by."""
    strata = [ordered(scores_by_task[task]) for task in sorted(scores_by_task)]
    few = not strata or min(map(len, strata)) < 2
    return None if few or all(map(same, strata)) else strata


def ends_of(
    found: FloatArray,
    estimate: float,
    leave_one_out: Callable[[], FloatArray],
    method: Method,
    level: float,
) -> Interval | None:
    """The interval that `method` makes of resampled statistics `found`; see `resampling`."""
    if method == "percentile":
        return _interval(resampling.percentile(found, level), level, method)
    if method == "bca":
        return _interval(resampling.bca(found, estimate, leave_one_out(), level), level, method)
    raise ValueError(f"method is {method!r}: choose bca or percentile")


def _interval(ends: tuple[float, float] | None, level: float, method: str) -> Interval | None:
    return None if ends is None else Interval(*ends, level, method)


def leave_one_out(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Row i is `values` `(n,)` without value i: `(n, n - 1)`."""
    n = len(values)
    return np.broadcast_to(values, (n, n))[~np.eye(n, dtype=bool)].reshape(n, n - 1)


def t_quantile(df: float, level: float) -> float:
    """How far the middle `level` of Student's t with `df` degrees of freedom reaches."""
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to load

    return float(stdtrit(df, (1 + level) / 2))
