"""p and interval of a change are one statement, alone and over a family of arms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bluestab import stats
from bluestab.stats import changes as module
from tests.support.contrasts import changes

Scores = dict[int, float]


def seeds(values: np.ndarray) -> Scores:
    return dict(enumerate(values.tolist()))


def test_alone_it_is_the_permutation_test_and_the_interval_inverts_it() -> None:
    rng = np.random.default_rng(0)
    for n in (6, 8, 10, 14):
        for _ in range(20):
            a, b = rng.normal(0.5, 1, n).round(1), rng.normal(size=n).round(1)
            found = changes({"x": seeds(a)}, seeds(b))["x"]
            p = stats.paired_permutation(a, b).p
            assert p is None or found.p == pytest.approx(p)
            assert found.p is not None
            assert found.low is not None
            assert found.high is not None
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
            assert (found.p_family, found.family_low) == (found.p, found.low)
            assert min(a - b) - 1e-9 <= found.low <= found.high <= max(a - b) + 1e-9


def test_ends_by_hand() -> None:
    """Six seeds: two of 64 patterns are below 5 %, so the ends are the extreme differences."""
    d = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.9])
    found = changes({"x": seeds(d)}, seeds(np.zeros(6)))["x"]
    assert found.p == 2 / 64
    assert (found.low, found.high) == pytest.approx((0.1, 0.9))


def test_max_t_by_hand() -> None:
    rng = np.random.default_rng(1)
    d = rng.normal([0.2, 0.6, 1.0], 1, size=(8, 3))
    found = changes({str(k): seeds(d[:, k]) for k in range(3)}, seeds(np.zeros(8)))

    def t(x: np.ndarray) -> np.ndarray:
        return np.abs(x.mean(axis=0)) / (x.std(axis=0, ddof=1) / 8**0.5)

    flips = itertools.product((1, -1), repeat=8)
    largest = [t(d * np.array(signs)[:, None]).max() for signs in flips]
    for k in range(3):
        expected = np.mean(np.array(largest) >= t(d)[k] - 1e-9)
        assert found[str(k)].p_family == pytest.approx(expected)


def test_a_family_is_one_statement_and_never_surer_than_one() -> None:
    rng = np.random.default_rng(2)
    for n in (6, 9, 20):
        own = {str(k): seeds(rng.normal(0.3 * k, 1, n)) for k in range(5)}
        for one in changes(own, seeds(rng.normal(size=n))).values():
            assert one.p is not None
            assert one.p_family is not None
            assert one.low is not None
            assert one.high is not None
            assert one.family_low is not None
            assert one.family_high is not None
            assert one.p_family >= one.p
            assert one.family_low <= one.low <= one.high <= one.family_high
            assert (one.p_family < 0.05) == (one.family_low > 0 or one.family_high < 0)


def test_identical_and_constant_arms_and_too_few_seeds() -> None:
    base = seeds(np.linspace(0.1, 1, 10))
    found = changes({"same": base, "higher": {s: x + 0.1 for s, x in base.items()}}, base)
    assert (found["same"].p, found["same"].low, found["same"].high) == (1.0, 0.0, 0.0)
    assert found["higher"].p == 2 / 2**10
    assert found["higher"].low == pytest.approx(0.1)
    few = {s: x + 0.1 for s, x in list(base.items())[:5]}
    alone = changes({"few": few}, base)["few"]
    assert (alone.n, alone.p, alone.low, alone.p_family) == (5, None, None, None)
    assert alone.delta == pytest.approx(0.1)
    mixed = changes({"few": few, "higher": {s: x + 0.1 for s, x in base.items()}}, base)
    assert mixed["higher"].p_family == mixed["higher"].p, "what cannot be shown is no member"


def test_blocks_are_flipped_together() -> None:
    base, own = seeds(np.zeros(12)), seeds(np.full(12, 0.3))
    assert changes({"x": own}, base, blocks={s: s // 2 for s in base})["x"].p == 2 / 2**6
    assert changes({"x": own}, base, blocks={s: s // 3 for s in base})["x"].p is None


def test_as_good_within_a_margin() -> None:
    base = seeds(np.zeros(10))
    near = seeds(np.linspace(-0.004, 0.005, 10))
    far = seeds(np.linspace(-0.4, 0.5, 10))
    found = changes({"near": near, "far": far}, base, margin=0.01)
    assert found["near"].p_equivalent is not None
    assert found["near"].p_equivalent < 0.05
    assert found["far"].p_equivalent is not None
    assert found["far"].p_equivalent > 0.05
    with pytest.raises(ValueError, match="above 0"):
        changes({"near": near}, base, margin=0)


def test_order_of_runs_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    base, own = seeds(rng.normal(size=20)), seeds(rng.normal(0.4, 1, 20))
    turned = changes({"x": dict(reversed(own.items()))}, dict(reversed(base.items())))
    assert turned == changes({"x": own}, base)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "failures"])
@pytest.mark.parametrize(("n", "m"), [(6, 4), (8, 8), (10, 20), (20, 8)])
def test_the_family_holds_its_level(
    kind: str, n: int, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arms alike: any p of the family below 5 %, and all its intervals over zero."""
    monkeypatch.setattr(module, "EXACT", 10)
    monkeypatch.setattr(module, "DRAWS", 999)
    wrong = family_errors(kind, n, m)
    assert wrong <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5


def family_errors(kind: str, n: int, m: int, experiments: int = 1000) -> float:
    rng = np.random.default_rng([n, m])
    wrong = 0
    for _ in range(experiments):
        x = rng.normal(size=(n, m + 1)) + rng.normal(size=(n, 1))
        if kind == "failures":
            x = 0.9 + 0.02 * x - 0.4 * (rng.random(x.shape) < 0.2)
        found = changes({str(k): seeds(x[:, k]) for k in range(1, m + 1)}, seeds(x[:, 0]))
        wrong += any(one.p_family is not None and one.p_family < 0.05 for one in found.values())
    return wrong / experiments
