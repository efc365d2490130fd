"""How often intervals cover and tests err, by simulation: the tables in `bluestab.stats`.

Every cell is simulated anew with a fixed seed and compared with the printed figure. Run as a script
the file prints the tables: `python tests/stats/test_calibration.py`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from bluestab import stats
from bluestab.stats import variance
from bluestab.stats.arrays import FloatArray
from bluestab.tasks.score_sums import of_items
from bluestab.tasks.score_sums import score as item_score

pytestmark = pytest.mark.slow

KINDS = ("normal", "skewed", "failures")
EXPERIMENTS = 2000
RESAMPLES = 999
SIGMA = 0.75
"""Of the logarithm of skewed scores: a skewness of -3.3."""

FAILING = 0.2
"""Share of runs at chance level, 20 standard deviations below the others."""

FAR = 3 * math.sqrt(0.05 * 0.95 / EXPERIMENTS)
"""Three Monte-Carlo standard errors of a 5 % rate: 1.5 points."""


def draw(
    kind: str, n: int, seed: int, agree: float = 0.5, m: int = EXPERIMENTS, arms: int = 2
) -> list[FloatArray]:
    """Scores of arms alike, each `(m, n)`; `agree`: correlation of what the seed does."""
    rng = np.random.default_rng([seed, n, KINDS.index(kind)])
    shared = rng.normal(size=(m, n, 1))
    z = math.sqrt(agree) * shared + math.sqrt(1 - agree) * rng.normal(size=(m, n, arms))
    if kind == "normal":
        x = z
    elif kind == "skewed":
        x = -np.exp(SIGMA * z)
    else:
        x = 0.9 + 0.02 * rng.normal(size=z.shape)
        x[z < NormalDist().inv_cdf(FAILING)] -= 0.4
    return [x[..., i] for i in range(arms)]


MEAN = {"normal": 0.0, "skewed": -math.exp(SIGMA**2 / 2), "failures": 0.9 - 0.4 * FAILING}
STD = {
    "normal": 1.0,
    "skewed": math.exp(SIGMA**2 / 2) * math.sqrt(math.expm1(SIGMA**2)),
    "failures": math.sqrt(0.02**2 + 0.4**2 * FAILING * (1 - FAILING)),
}

Interval = stats.Interval | None


def covers(interval: Interval, truth: float) -> bool:
    return interval is not None and interval.low <= truth <= interval.high


def of_mean(method: Callable[[FloatArray], Interval]) -> Callable[[str, int], float]:
    def rate(kind: str, n: int) -> float:
        return float(np.mean([covers(method(x), MEAN[kind]) for x in draw(kind, n, 1)[0]]))

    return rate


def of_delta(method: Callable[[FloatArray, FloatArray], Interval]) -> Callable[[str, int], float]:
    def rate(kind: str, n: int) -> float:
        pairs = zip(*draw(kind, n, 2), strict=True)
        return float(np.mean([covers(method(a, b), 0.0) for a, b in pairs]))

    return rate


def of_remedy(method: Callable[[FloatArray, FloatArray], Interval]) -> Callable[[str, int], float]:
    """The other arm has half the spread, or no failed run."""

    def rate(kind: str, n: int) -> float:
        a, b = draw(kind, n, 3)
        if kind == "failures":
            b = np.where(b < 0.7, b + 0.4, b)
            truth = MEAN[kind] - 0.9
        else:
            b, truth = b / 2, MEAN[kind] / 2
        return float(np.mean([covers(method(x, y), truth) for x, y in zip(a, b, strict=True)]))

    return rate


def of_ratio(method: str) -> Callable[[str, int], float]:
    """b spreads twice as far."""

    def rate(kind: str, n: int) -> float:
        a, b = draw(kind, n, 4)
        return float(
            np.mean(
                [
                    covers(
                        stats.std_ratio_interval(x, 2 * y, method=method, resamples=RESAMPLES),  # type: ignore[arg-type]
                        0.5,
                    )
                    for x, y in zip(a, b, strict=True)
                ]
            )
        )

    return rate


def of_improvement(kind: str, n: int) -> float:
    a, b = draw(kind, n, 5)
    return float(
        np.mean(
            [
                covers(
                    stats.probability_of_improvement_interval(x, y, resamples=RESAMPLES),
                    0.5,
                )
                for x, y in zip(a, b, strict=True)
            ]
        )
    )


def of_tasks(method: Callable[[dict[str, FloatArray]], Interval]) -> Callable[[str, int], float]:
    """Four tasks, one of which varies three times as much."""

    def rate(kind: str, n: int) -> float:
        tasks = [draw(kind, n, 10 + i)[0] * (3 if i == 0 else 1) for i in range(4)]
        truth = MEAN[kind] * 6 / 4
        return float(
            np.mean(
                [
                    covers(method({str(i): task[m] for i, task in enumerate(tasks)}), truth)
                    for m in range(EXPERIMENTS)
                ]
            )
        )

    return rate


COVERAGE: dict[str, Callable[[str, int], float]] = {
    "mean: t": of_mean(stats.t_interval),
    "mean: bca": of_mean(lambda x: stats.bootstrap(x, resamples=RESAMPLES)),
    "mean: percentile": of_mean(
        lambda x: stats.bootstrap(x, method="percentile", resamples=RESAMPLES)
    ),
    "delta: t": of_delta(lambda a, b: stats.t_interval(a - b)),
    "delta: bca": of_delta(lambda a, b: stats.paired_bootstrap(a, b, resamples=RESAMPLES)),
    "delta: percentile": of_delta(
        lambda a, b: stats.paired_bootstrap(a, b, method="percentile", resamples=RESAMPLES)
    ),
    "delta, remedy: t": of_remedy(lambda a, b: stats.t_interval(a - b)),
    "delta, remedy: bca": of_remedy(lambda a, b: stats.paired_bootstrap(a, b, resamples=RESAMPLES)),
    "4 tasks: welch": of_tasks(stats.welch_interval),
    "4 tasks: percentile": of_tasks(lambda s: stats.stratified_bootstrap(s, resamples=RESAMPLES)),
    "std ratio: jackknife": of_ratio("jackknife"),
    "std ratio: bca": of_ratio("bca"),
    "std ratio: percentile": of_ratio("percentile"),
    "P(improvement)": of_improvement,
}

Rejects = Callable[[FloatArray, FloatArray], bool]


def by(test: Callable[[FloatArray, FloatArray], stats.Test]) -> Rejects:
    def rejects(a: FloatArray, b: FloatArray) -> bool:
        p = test(a, b).p
        return p is not None and p <= 0.05

    return rejects


def aso(tau: float) -> Rejects:
    def rejects(a: FloatArray, b: FloatArray) -> bool:
        found = stats.almost_stochastic_order(a, b, resamples=200)
        return found is not None and found < tau

    return rejects


def rejected(
    rejects: Rejects,
    seed: int,
    agree: float = 0.5,
    change: Callable[[FloatArray, str], FloatArray] = lambda b, kind: b,
) -> Callable[[str, int], float]:
    def rate(kind: str, n: int) -> float:
        a, b = draw(kind, n, seed, agree)
        return float(np.mean([rejects(x, y) for x, y in zip(a, change(b, kind), strict=True)]))

    return rate


def higher(b: FloatArray, kind: str) -> FloatArray:
    return b + STD[kind]


def wider(b: FloatArray, kind: str) -> FloatArray:
    return MEAN[kind] + 3 * (b - MEAN[kind])


def same_mean(b: FloatArray, kind: str) -> FloatArray:
    """Normal scores about the mean of the other arm, a fifth as wide: no effect on the mean."""
    ranks = b.argsort(axis=1).argsort(axis=1)
    drawn = np.sort(np.random.default_rng(9).normal(size=b.shape), axis=1)
    return MEAN[kind] + 0.2 * STD[kind] * np.take_along_axis(drawn, ranks, axis=1)


def familywise(kind: str, n: int) -> float:
    """Eight arms without effect against one baseline, adjusted after Holm: any rejected?"""
    m = EXPERIMENTS // 2
    base, *arms = draw(kind, n, 20, m=m, arms=9)
    count = 0
    for i in range(m):
        adjusted = stats.holm([stats.paired_permutation(arm[i], base[i]).p for arm in arms])
        count += any(p is not None and p <= 0.05 for p in adjusted)
    return count / m


ERRORS: dict[str, Callable[[str, int], float]] = {
    "paired permutation": rejected(by(stats.paired_permutation), 30),
    "wilcoxon": rejected(by(stats.wilcoxon), 30),
    "paired variance": rejected(by(stats.paired_variance), 31),
    "paired variance, agree 0": rejected(by(stats.paired_variance), 32, agree=0.0),
    "brown-forsythe": rejected(by(stats.brown_forsythe), 31),
    "brown-forsythe, agree 0": rejected(by(stats.brown_forsythe), 32, agree=0.0),
    "aso e_min < 0.2": rejected(aso(0.2), 33),
    "aso e_min < 0.5": rejected(aso(0.5), 33),
    "8 arms, holm": familywise,
    "unlike arms: permutation": rejected(by(stats.paired_permutation), 34, change=same_mean),
    "unlike arms: wilcoxon": rejected(by(stats.wilcoxon), 34, change=same_mean),
}

POWER: dict[str, Callable[[str, int], float]] = {
    "mean + 1 std: permutation": rejected(by(stats.paired_permutation), 40, change=higher),
    "mean + 1 std: wilcoxon": rejected(by(stats.wilcoxon), 40, change=higher),
    "3 x std: paired variance": rejected(by(stats.paired_variance), 41, change=wider),
    "3 x std: brown-forsythe": rejected(by(stats.brown_forsythe), 41, change=wider),
}

TABLES: dict[str, tuple[dict[str, Callable[[str, int], float]], tuple[int, ...]]] = {
    "coverage": (COVERAGE, (5, 10, 20)),
    "errors": (ERRORS, (6, 10, 20)),
    "power": (POWER, (6, 10, 20)),
}


WITHIN = 1.0
"""Points that a printed figure may be off: other versions of numpy may draw other numbers."""


@pytest.fixture(autouse=True)
def _draw_exchanges(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer_exchanges(monkeypatch.setattr)


def fewer_exchanges(set_attribute: Callable[[object, str, int], None]) -> None:
    """Twenty pairs have half a million exchanges: enough for one table, too slow for thousands."""
    set_attribute(variance, "EXACT", 12)
    set_attribute(variance, "DRAWS", 999)


def measured(table: str, row: str) -> list[float]:
    """Per cent, by kind and then by n."""
    rows, sizes = TABLES[table]
    return [100 * rows[row](kind, n) for kind in KINDS for n in sizes]


def printed(row: str) -> list[float]:
    """The figures after the name of the row in the docstring of `bluestab.stats`."""
    assert stats.__doc__
    (line,) = re.findall(rf"^{re.escape(row)} +([-\d. |]+)$", stats.__doc__, re.MULTILINE)
    return [float(figure) for figure in line.replace("|", " ").split()]


@pytest.mark.parametrize("row", COVERAGE)
def test_coverage(row: str) -> None:
    found = measured("coverage", row)
    assert found == pytest.approx(printed(row), abs=WITHIN)


HELD = (
    "paired permutation",
    "wilcoxon",
    "paired variance",
    "paired variance, agree 0",
    "brown-forsythe",
    "brown-forsythe, agree 0",
    "8 arms, holm",
)


@pytest.mark.parametrize("row", ERRORS)
def test_errors(row: str) -> None:
    found = measured("errors", row)
    assert found == pytest.approx(printed(row), abs=WITHIN)
    if row in HELD:
        assert max(found) <= 5 + 100 * FAR


@pytest.mark.parametrize("row", POWER)
def test_power(row: str) -> None:
    found = measured("power", row)
    assert found == pytest.approx(printed(row), abs=WITHIN)


def test_the_default_is_the_best_of_those_measured() -> None:
    """From the printed figures, which the tests above hold."""
    for what in ("mean", "delta"):
        default = printed(f"{what}: t")
        assert min(default[:3]) > 94
        for rival in ("bca", "percentile"):
            gain = np.subtract(default, printed(f"{what}: {rival}"))
            assert np.mean(gain) > 1
            assert np.sum(gain < -100 * FAR) <= 1  # bca of the mean where 20 runs fail now and then
    assert np.subtract(printed("paired variance"), printed("brown-forsythe")).max() > 2


def test_five_seeds_reach_no_level() -> None:
    a, b = draw("normal", 5, 50, m=50)
    for test in (stats.paired_permutation, stats.wilcoxon, stats.paired_variance):
        assert {test(x, y + 5).p for x, y in zip(a, b, strict=True)} == {None}


def test_wilson() -> None:
    """Exactly, from the binomial: 20 % of 5, 10, 20 runs fail."""
    found = []
    for n in (5, 10, 20):
        chances = [
            math.comb(n, k) * FAILING**k * (1 - FAILING) ** (n - k)
            for k in range(n + 1)
            if covers(stats.wilson(k, n), FAILING)
        ]
        found.append(100 * sum(chances))
    assert found == pytest.approx(printed("failed share: wilson"), abs=0.05)


def items_and_seeds(n: int, m: int = 400) -> float:
    """20 pairs as of BIOSSES, r about 0.9 between scores and predictions that share most errors."""
    rng = np.random.default_rng([60, n])

    noise_items, noise_seeds = 0.4, 0.25
    truth = 1 / math.sqrt(1 + noise_items**2 + noise_seeds**2)
    count = 0
    for _ in range(m):
        t = rng.normal(size=20)
        p = t + noise_items * rng.normal(size=20) + noise_seeds * rng.normal(size=(n, 20))
        seeds = [of_items("pearson", row, t) for row in p]
        found = stats.items_and_seeds_interval(item_score("pearson"), seeds, resamples=299)
        count += covers(found, truth)
    return 100 * count / m


def test_items_and_seeds() -> None:
    found = [items_and_seeds(n) for n in (5, 10, 20)]
    assert found == pytest.approx(printed("20 items x seeds: pearson"), abs=2)


def splits(n_train: int) -> float:
    """Ten splits of nine to one, whose scores agree as Nadeau and Bengio's correction supposes."""
    rng = np.random.default_rng(70)
    m = EXPERIMENTS
    d = math.sqrt(0.1) * rng.normal(size=(m, 1)) + math.sqrt(0.9) * rng.normal(size=(m, 10))
    tests = [stats.corrected_resampled_t(x, n_train, 100) for x in d]
    return 100 * float(np.mean([test.p is not None and test.p <= 0.05 for test in tests]))


def test_corrected_resampled_t() -> None:
    found = [splits(900), splits(10**9)]
    assert found == pytest.approx(printed("10 splits: corrected, plain t"), abs=WITHIN)
    assert found[0] <= 5 + 100 * FAR < found[1]


if __name__ == "__main__":
    fewer_exchanges(setattr)
    only = sys.argv[1:]
    for name, (rows, sizes) in TABLES.items():
        if only and name not in only:
            continue
        print(f"\n{name:<30}" + " |".join("".join(f"{n:6}" for n in sizes) for _ in KINDS))
        for row in rows:
            figures = np.reshape(measured(name, row), (len(KINDS), len(sizes)))
            print(
                f"{row:<30}" + " |".join("".join(f"{f:6.1f}" for f in part) for part in figures),
                flush=True,
            )
    print("20 items x seeds: pearson", [items_and_seeds(n) for n in (5, 10, 20)])
    print("10 splits: corrected, plain t", splits(900), splits(10**9))
