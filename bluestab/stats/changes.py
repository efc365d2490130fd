"""What a change is, over shared seeds: one null distribution gives its p and its interval.

If an arm does nothing, its score and the baseline's could as well be exchanged at every seed: the
signs of the differences are free (Fisher 1935). Signs are flipped jointly over all arms of a
family, seed by seed, so that what arms share by their baseline is kept; the largest studentised
change of each flip is what the largest of the family is held against (single-step max-T, Westfall &
Young 1993, section 2.3). The intervals invert the same test, so that a p below the level and an
interval without zero are one statement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bluestab.stats import describe
from bluestab.stats.arrays import TIE, FloatArray, finite, scale, share
from bluestab.stats.designs import Design, mean_interval, mean_test
from bluestab.stats.power import fewest_pairs

EXACT = 14
"""Up to so many seeds all sign patterns are counted; beyond, they are drawn."""

DRAWS = 19_999


@dataclass(frozen=True)
class Change:
    """Change of one arm against the baseline over the seeds that both have.

    n                        seeds; delta: mean difference, None without any
    p, low, high             of this comparison alone: p two-sided, in (0, 1]
    p_family, family_low, family_high   over all arms of the family at once: whatever is true, all
                             intervals cover, and no p errs, with the level's confidence
    p_equivalent             two one-sided tests (Schuirmann 1987) of |change| >= margin, over the
                             family; None without a margin
    name                     of the test, with `(drawn)` if signs were drawn
    All but n and delta are None where so few seeds cannot reach the level, whatever they scored.

    Hypothesis: the scores of all arms could be exchanged within a seed. For a single arm the test
    is exact; for the joint one it is so where the differences of all arms are jointly symmetric.
    """

    n: int
    delta: float | None
    p: float | None = None
    low: float | None = None
    high: float | None = None
    p_family: float | None = None
    family_low: float | None = None
    family_high: float | None = None
    p_equivalent: float | None = None
    name: str = "sign flips"


def changes(
    pairs: Mapping[str, Mapping[Hashable, tuple[float, float]]],
    level: float = 0.05,
    margin: float | None = None,
    blocks: Mapping[Hashable, Hashable] | None = None,
) -> dict[str, Change]:
    """Arm -> its change, from seed -> its score and its baseline's at the seeds that both have.

    margin  of equivalence, in the unit of the scores, above 0
    blocks  seed -> block: signs are flipped together within one, where seeds of a block are no
            independent repetitions; every seed is its own block if None
    Raises ValueError for scores that are not finite, or a margin that is not above 0.
    """
    share(level)
    if margin is not None and not margin > 0:
        raise ValueError(f"the margin of equivalence is {margin}: it lies above 0")
    seeds = {seed for own in pairs.values() for seed in own}
    block_of = {s: s if blocks is None else blocks[s] for s in seeds}
    unit = scale(finite([x for own in pairs.values() for both in own.values() for x in both]))
    differences = {arm: {s: a - b for s, (a, b) in own.items()} for arm, own in pairs.items()}
    found = {arm: Change(len(d), describe.mean(list(d.values()))) for arm, d in differences.items()}
    fewest = fewest_pairs(level)
    testable = [arm for arm, own in pairs.items() if len({block_of[s] for s in own}) >= fewest]
    if not testable:
        return found
    # in an order that does not know which run came first
    names = sorted({block_of[s] for arm in testable for s in pairs[arm]}, key=repr)
    signs = _signs(len(names))
    drawn = len(names) > EXACT
    column = {name: i for i, name in enumerate(names)}
    arms = [
        _Arm.of([(column[block_of[s]], d) for s, d in differences[arm].items()], signs, unit)
        for arm in testable
    ]
    largest = np.array([arm.studentised for arm in arms])
    for i, (name, arm) in enumerate(zip(testable, arms, strict=True)):
        others = np.delete(largest, i, axis=0).max(axis=0) if len(arms) > 1 else None
        alone = _inverted(arm, None, level, unit)
        family = _inverted(arm, others, level, unit, margin)
        found[name] = Change(
            found[name].n, found[name].delta, *alone[:3], *family,
            "sign flips (drawn)" if drawn else "sign flips",
        )  # fmt: skip
    return found


Pairs = Mapping[Any, tuple[float, float]]
"""Seed -> score of an arm and of its baseline."""


def changes_by_design(
    pairs: Mapping[str, Pairs],
    design_of: Callable[[Sequence[Any]], Design],
    level: float = 0.05,
    margin: float | None = None,
) -> dict[str, Change]:
    """The same over seeds that runs may share; design_of: seeds -> how their runs hang together.

    Independent repetitions and blocks of them have one null distribution for the whole family. In
    crossed seeds no block may be exchanged by itself: each arm has a test of its own, see
    `change_alone`, and no p of equivalence.
    """
    everyone = list(dict.fromkeys(seed for own in pairs.values() for seed in own))
    design = design_of(everyone)
    if design.blocks is None:
        return {arm: change_alone(own, design_of, level, len(pairs)) for arm, own in pairs.items()}
    return _named(changes(pairs, level, margin, _blocks(everyone, design)), design)


def change_alone(
    pairs: Pairs,
    design_of: Callable[[Sequence[Any]], Design],
    level: float = 0.05,
    n_arms: int = 1,
) -> Change:
    """The change of an arm that has a test of its own, among `n_arms`: p is multiplied by their
    number, and the interval over all of them is at the level that this leaves (Bonferroni).

    Over crossed seeds `designs.mean_test` and its interval, else sign flips.
    """
    seeds = list(pairs)
    design = design_of(seeds)
    if design.blocks is not None:
        alone, family = (
            changes({"": pairs}, level / m, blocks=_blocks(seeds, design))[""] for m in (1, n_arms)
        )
        corrected = None if alone.p is None else min(1.0, n_arms * alone.p)
        found = replace(alone, p_family=corrected, family_low=family.low, family_high=family.high)
        return _named({"": found}, design)[""]
    a, b = (np.array(of) for of in zip(*pairs.values(), strict=True))
    test = mean_test(a, b, design, level)
    intervals = [mean_interval(a - b, design, 1 - level / m) for m in (1, n_arms)]
    own, of_all = ((None, None) if one is None else (one.low, one.high) for one in intervals)
    return Change(
        len(a), test.statistic, test.p, own[0], own[1],
        None if test.p is None else min(1.0, n_arms * test.p), of_all[0], of_all[1],
        name=test.name,
    )  # fmt: skip


def _blocks(seeds: Sequence[Any], design: Design) -> dict[Any, int]:
    assert design.blocks is not None
    return dict(zip(seeds, design.blocks, strict=True))


def _named(found: Mapping[str, Change], design: Design) -> dict[str, Change]:
    of = "" if design.independent else "block "
    return {arm: replace(one, name=of + one.name) for arm, one in found.items()}


@dataclass(frozen=True)
class _Arm:
    """mean, error: of the differences; lower, upper: of every flip, mean over the seeds that it
    turns and over those that it does not (NaN for no seed); studentised: |t| after every flip."""

    mean: float
    error: float
    lower: FloatArray
    upper: FloatArray
    studentised: FloatArray

    @staticmethod
    def of(differences: list[tuple[int, float]], signs: FloatArray, unit: float) -> _Arm:
        # sorted: a sum does not depend on which run came first
        columns, values = (np.array(part) for part in zip(*sorted(differences), strict=True))
        values = np.where(np.abs(values) <= TIE * unit, 0.0, values)
        own = signs[:, columns]
        n = len(values)
        turned = (own < 0).sum(axis=1)
        total = float(values.sum())
        flipped = own @ values
        of_turned, of_rest = (total - flipped) / 2, (total + flipped) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = of_turned / turned, of_rest / (n - turned)
        square = float((values**2).sum())
        # the squares stay what they are whatever the signs: |t| grows with |sum|
        r = np.minimum(flipped**2 / (n * square), 1 - 1e-12) if square > 0 else np.zeros(len(own))
        mean = total / n
        error = math.sqrt(max(square / n - mean**2, 0.0) / (n - 1))
        return _Arm(mean, error, np.fmin(a, b), np.fmax(a, b), np.sqrt((n - 1) * r / (1 - r)))


def _inverted(
    arm: _Arm, others: FloatArray | None, level: float, unit: float, margin: float | None = None
) -> tuple[float, float, float, float | None]:
    """p, interval, and p of equivalence: theta is rejected if few flips are as far from it.

    A flip is as far as what was seen from every theta beyond one value, below and above the mean:
    for the arm alone that is the mean of the seeds that it turns (Hartigan 1969), for the other
    arms of the family the mean -+ |t| standard errors. Ordered, these values hold all ends.
    """
    tie = TIE * unit
    # no seed is turned: that is what was seen, as far as itself from everywhere
    low = np.where(np.isclose(arm.lower, arm.mean, rtol=0, atol=tie), arm.mean, arm.lower)
    high = arm.upper.copy()
    if others is not None:
        low = np.fmin(low, arm.mean - others * arm.error)
        high = np.fmax(high, arm.mean + others * arm.error)
    low[0], high[0] = -np.inf, np.inf
    k = max(math.ceil(level * len(low) - 1e-9), 1) - 1
    ends = float(np.partition(low, k)[k]), float(np.partition(high, len(high) - 1 - k)[-1 - k])

    def p_at(theta: float) -> float:
        if abs(arm.mean - theta) <= tie:
            return 1.0
        if theta < arm.mean:
            return float(np.mean(low <= theta + tie))
        return float(np.mean(high >= theta - tie))

    def cleaned(end: float) -> float:
        return 0.0 if abs(end) <= tie else end

    equivalent = None
    if margin is not None:
        equivalent = 1.0
        if abs(arm.mean) < margin:
            equivalent = max(p_at(-margin), p_at(margin)) / 2
    return p_at(0.0), cleaned(ends[0]), cleaned(ends[1]), equivalent


def _signs(n: int) -> FloatArray:
    """Sign patterns `(k, n)`, the first one all +1: of every pattern and its negative one stands
    for both; beyond `EXACT` seeds drawn from a fixed stream."""
    if n <= EXACT:
        patterns = np.arange(2 ** (n - 1))[:, None] >> np.arange(n)
        return np.asarray(1 - 2 * (patterns & 1), dtype=np.float64)
    bits = np.random.default_rng(0).integers(0, 2, size=(DRAWS + 1, n))
    drawn = np.asarray(2 * bits - 1, dtype=np.float64)
    drawn[0] = 1.0
    return drawn
