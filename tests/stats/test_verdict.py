"""The verdict, on scores whose answer is plain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bluestab import stats
from bluestab.report.words.reasons import reasons
from bluestab.stats.layouts import Folds
from bluestab.stats.verdict import MARGIN, Evidence, judge

SEEDS = range(20)


def arm(mean: float, std: float, n: int = 20, stream: int = 0) -> dict[int, float]:
    """Scores of exactly this mean and standard deviation (ddof 1)."""
    drawn = np.random.default_rng(stream).normal(size=n)
    drawn = (drawn - drawn.mean()) / drawn.std(ddof=1)
    return {seed: mean + std * float(x) for seed, x in enumerate(drawn)}


def test_a_better_and_steadier_arm_is_recommended() -> None:
    scores = {"none": arm(0.5, 0.1), "freeze": arm(0.7, 0.04, stream=1)}
    found = judge(scores, "none")
    assert found.arm == "freeze"
    none, freeze = found.standings
    assert (none.state, freeze.state) == ("baseline", "approved")
    values = list(scores["freeze"].values())
    bound = stats.t_interval(values, 0.95)  # one-sided 95 %, for two arms at once
    assert bound is not None
    assert freeze.low == pytest.approx(bound.low)
    assert freeze.ratio == pytest.approx(0.4)
    assert freeze.upper is not None
    assert freeze.ratio < freeze.upper <= MARGIN
    assert "0.40 times that of none" in reasons(found)


def test_few_seeds_approve_nothing() -> None:
    scores = {"none": arm(0.5, 0.1, n=3), "freeze": arm(0.9, 0.08, n=3, stream=1)}
    found = judge(scores, "none")
    assert found.arm is None
    assert found.standings[1].state == "undecided"
    assert reasons(found).startswith("not enough seeds to say: freeze looks best")
    assert "until then none" in reasons(found)
    assert found.standings[1].more_seeds == 3
    assert "at least 3 more seeds are needed" in reasons(found)


def test_of_few_seeds_the_best_mean_looks_best() -> None:
    scores = {
        "none": arm(0.5, 0.1, n=3),
        "freeze": arm(0.49, 0.001, n=3, stream=1),
        "reinit": arm(0.6, 0.05, n=3, stream=2),
    }
    assert reasons(judge(scores, "none")).startswith("not enough seeds to say: reinit looks best")


def test_a_bound_within_the_margin_from_too_few_seeds_is_not_held_against_an_arm() -> None:
    scores = {"none": arm(0.5, 0.1, n=4), "freeze": arm(0.9, 0.001, n=4, stream=1)}
    found = judge(scores, "none")
    upper = found.standings[1].upper
    assert upper is not None
    assert upper <= MARGIN
    assert "but so few seeds decide nothing; at least 2 more seeds are needed" in reasons(found)
    assert "accepted" not in reasons(found)


def test_two_seeds_have_no_bound_on_the_spread() -> None:
    scores = {"none": arm(0.5, 0.01, n=2), "freeze": arm(0.9, 0.01, n=2, stream=1)}
    found = judge(scores, "none")
    assert found.standings[1].upper is None
    assert "its spread is not known; at least 4 more seeds are needed" in reasons(found)


def test_more_seeds_are_what_the_bound_needs() -> None:
    scores = {"none": arm(0.5, 0.1, n=16), "freeze": arm(0.53, 0.08, n=16, stream=1)}
    found = judge(scores, "none")
    candidate = found.standings[1]
    assert candidate.state == "undecided"
    assert candidate.ratio == pytest.approx(0.8)
    assert candidate.upper is not None
    needed = 16 * (math.log(candidate.upper / 0.8) / math.log(MARGIN / 0.8)) ** 2
    assert candidate.more_seeds == math.ceil(needed) - 16 > 0
    assert f"{candidate.more_seeds} more seeds would do" in reasons(found)


def test_an_arm_that_varies_more_is_out_however_high_its_mean() -> None:
    scores = {
        "none": arm(0.5, 0.02),
        "wild": arm(0.8, 0.2, stream=1),
        "llrd": arm(0.6, 0.01, stream=2),
    }
    found = judge(scores, "none")
    assert found.arm == "llrd"
    assert {c.arm: c.state for c in found.standings}["wild"] == "ruled out"
    found = judge({arm: scores[arm] for arm in ("none", "wild")}, "none")
    assert found.arm == "none"
    assert "shown to vary more than 1.25 times as much: wild" in reasons(found)


def test_a_mean_that_is_shown_to_be_better_is_enough_if_it_does_not_vary_more() -> None:
    found = judge({"none": arm(0.5, 0.1), "reinit": arm(0.7, 0.1, stream=1)}, "none")
    standing = found.standings[1]
    assert standing.upper is not None
    assert standing.upper > MARGIN
    assert (standing.state, standing.better, found.arm) == ("approved", True, "reinit")
    assert "shown to be better than that of none" in reasons(found)


def test_the_baseline_wins_where_nothing_is_better() -> None:
    scores = {"none": arm(0.8, 0.02), "llrd": arm(0.6, 0.015, stream=2)}
    found = judge(scores, "none")
    assert found.arm == "none"
    assert "no other arm that is not ruled out has a higher validation mean" in reasons(found)
    assert found.ruled_out("worse") == ["llrd"]
    alike = judge({"none": arm(0.8, 0.02), "llrd": arm(0.799, 0.02, stream=2)}, "none")
    assert (alike.state, alike.arm, alike.ruled_out()) == ("keep", "none", [])
    assert "no other arm has a higher validation mean" in reasons(alike)


def test_a_higher_mean_that_is_not_shown_to_be_one() -> None:
    scores = {"none": arm(0.5, 0.02, n=3), "reinit": arm(0.6, 0.2, n=3, stream=1)}
    found = judge(scores, "none")
    assert found.arm is None
    assert found.standings[1].state == "undecided", "three seeds reject nothing either"
    assert "reinit has the higher validation mean (0.6000 against 0.5000)" in reasons(found)
    assert reasons(found).endswith("until then none")


def test_nothing_to_compare() -> None:
    assert judge({"none": arm(0.8, 0.02)}, "none").arm is None
    single = judge({"none": {0: 0.5}, "llrd": {0: 0.6}}, "none")
    assert single.arm is None
    assert "every arm needs two or more" in reasons(single)
    with pytest.raises(ValueError, match="'plain' is none of the arms none, llrd"):
        judge({"none": {0: 0.5}, "llrd": {0: 0.6}}, "plain")


def test_an_arm_that_never_fails_beside_one_that_does() -> None:
    """Half of the baseline's runs end at 0: a mean and a spread to be rescued from."""
    none = {s: 0.0 if s % 2 else 0.7 + s / 1000 for s in SEEDS}
    found = judge({"none": none, "freeze": arm(0.7, 0.02)}, "none")
    assert found.arm == "freeze"


# --- folds ---------------------------------------------------------------------------------------

FIVE = Folds(of=lambda key: key[1], n_train=60, n_validation=20)


def folded(
    mean: float, std: float, seeds: int, stream: int, of_folds: float = 0.1
) -> dict[tuple[int, int], float]:
    """(seed, fold) -> scores of five folds that differ much, alike for every arm."""
    noise = np.random.default_rng(stream).normal(size=(seeds, 5)) * std
    centre = of_folds * np.array([-2, -1, 0, 1, 2])
    return {(s, f): mean + centre[f] + noise[s, f] for s in range(seeds) for f in range(5)}


def test_over_folds_the_bound_is_corrected_and_the_spread_is_of_seeds() -> None:
    scores = {"none": folded(0.5, 0.1, 6, 0), "freeze": folded(0.9, 0.02, 6, 1)}
    found = judge(scores, "none", folds=FIVE)
    assert found.arm == "freeze"
    freeze = found.standings[1]
    by_fold = [np.mean([x for (_, f), x in scores["freeze"].items() if f == k]) for k in range(5)]
    bound = stats.corrected_t_interval(by_fold, 60, 20, 0.95)  # one-sided, two arms at once
    assert bound is not None
    assert freeze.low == pytest.approx(bound.low)
    assert freeze.mean == pytest.approx(np.mean(by_fold))
    plain = judge(scores, "none").standings[1]
    assert plain.low is not None
    assert freeze.low < plain.low, "seeds of a fold are no further data"

    def pooled(own: dict[tuple[int, int], float]) -> float:
        return float(np.mean([np.var([own[s, f] for s in range(6)], ddof=1) for f in range(5)]))

    assert freeze.ratio == pytest.approx(
        (pooled(scores["freeze"]) / pooled(scores["none"])) ** 0.5, rel=0.05
    )
    assert freeze.ratio < plain.ratio, "folds that differ are no spread"


def test_seeds_that_lack_are_told_for_every_fold() -> None:
    scores = {"none": folded(0.5, 0.05, 2, 0), "freeze": folded(0.9, 0.01, 2, 1)}
    found = judge(scores, "none", folds=FIVE)
    assert found.arm is None, "five contrasts, an exact test needs six"
    assert "at least 1 more seed is needed in every fold; until then none" in reasons(found)
    once = {arm: {key: x for key, x in own.items() if key[0] == 0} for arm, own in scores.items()}
    found = judge(once, "none", folds=FIVE)
    said = reasons(found)
    assert "its spread is not known; at least 2 more seeds are needed in every fold" in said


# --- runs that share seeds ------------------------------------------------------------------------

GRID = [(("init", i), ("order", j)) for i in range(5) for j in range(5)]


def crossed(mean: float, std: float, stream: int) -> dict[Any, float]:
    """5 x 5 seeds; nine tenths of the variance are those of the initialisations."""
    rng = np.random.default_rng(stream)
    made = 0.9**0.5 * rng.normal(size=(5, 1)) + 0.1**0.5 * rng.normal(size=(5, 5))
    made = (made - made.mean()) / made.std(ddof=1)
    return dict(zip(GRID, (mean + std * made).ravel().tolist(), strict=True))


def test_runs_that_share_seeds_count_as_what_they_are() -> None:
    scores = {"none": crossed(0.5, 0.1, 1), "freeze": crossed(0.56, 0.1, 2)}
    plain, known = (judge(scores, "none", **told) for told in ({}, {"design": stats.design_of}))
    assert plain.standings[1].better, "25 runs"
    assert not known.standings[1].better, "five initialisations"
    for one, other in zip(plain.standings, known.standings, strict=True):
        assert one.low is not None
        assert other.low is not None
        assert other.low < one.low
    interval = stats.mean_interval(list(scores["freeze"].values()), stats.design_of(GRID), 0.95)
    assert interval is not None
    assert known.standings[1].low == interval.low
    (own, plainly) = (one.standings[1].upper for one in (known, plain))
    assert own is not None
    assert plainly is not None
    assert own > plainly


def test_seeds_that_lack_are_told_for_every_kind_that_is_shared() -> None:
    few = [(("init", i), ("order", j)) for i in range(2) for j in range(2)]
    draw = np.random.default_rng(0)
    scores = {
        arm: {key: float(draw.normal(m)) for key in few} for arm, m in (("none", 0), ("b", 9))
    }
    found = judge(scores, "none", design=stats.design_of)
    assert (found.standings[1].too_few, found.standings[1].shared) == (True, ("init", "order"))
    assert "at least 2 more seeds of init and of order are needed; until then none" in (
        reasons(found)
    )
    blocks = [(("init", i), ("order", 3 * i + j)) for i in range(4) for j in range(3)]
    scores = {a: {key: float(draw.normal(m)) for key in blocks} for a, m in (("none", 0), ("b", 9))}
    found = judge(scores, "none", design=stats.design_of)
    assert "at least 2 more seeds of init are needed; until then none" in reasons(found)


def test_a_mean_over_folds_is_tested_over_folds() -> None:
    scores = {"none": folded(0.5, 0.1, 6, 0), "freeze": folded(0.9, 0.1, 6, 1)}
    for arms, told in ((scores, True), ({**scores, "freeze": folded(0.51, 0.1, 6, 1)}, False)):
        found = judge(arms, "none", folds=FIVE)
        assert found.standings[1].better is told


# --- what test says, and arms that do not vary ---------------------------------------------------


def test_a_bound_does_not_leave_the_range_of_the_scores() -> None:
    scores = {"none": arm(0.1, 0.3, n=4), "freeze": arm(0.2, 0.3, n=4, stream=1)}
    least = min(scores["none"].values())
    free, kept = (judge(scores, "none", worst=worst).standings[0] for worst in (None, -0.1))
    assert free.low is not None
    assert free.low < -0.1
    assert kept.low == min(least, -0.1)
    errors = {name: {s: -x for s, x in own.items()} for name, own in scores.items()}
    turned = judge(errors, "none", worst=0.1, higher_is_better=False).standings[0]
    assert turned.low == max(-least, 0.1)


def test_what_test_shows_rules_an_arm_out() -> None:
    scores = {"none": arm(0.5, 0.1), "freeze": arm(0.7, 0.04, stream=1)}
    for effect in ("worse", "behind"):
        found = judge(scores, "none", {"freeze": Evidence(effect)})
        assert (found.state, found.arm) == ("keep", "none")
        assert found.ruled_out("worse on test") == ["freeze"]
    for effect in ("better", "ahead", "alike", "open", None):
        assert judge(scores, "none", {"freeze": Evidence(effect)}).arm == "freeze"


def test_failing_counts() -> None:
    scores = {"none": arm(0.5, 0.1), "freeze": arm(0.7, 0.04, stream=1)}
    seen = Evidence("open", frozenset({1, 2}), frozenset({3}))
    found = judge(scores, "none", {"freeze": seen})
    assert (found.state, found.because, found.until) == ("open", "fails", "none")
    assert "failed in more of the shared runs than none; until then none" in reasons(found)
    shown = Evidence("open", frozenset(range(9)), frozenset(), "more")
    found = judge(scores, "none", {"freeze": shown})
    assert found.ruled_out("fails more") == ["freeze"]
    # the spread is that where neither failed
    rescued = {**scores["none"], 0: -9.0}
    equal = Evidence("open", frozenset(), frozenset({0}))
    with_failure = judge({**scores, "none": rescued}, "none", {"freeze": equal}).standings[1]
    assert with_failure.ratio is not None
    assert 0.3 < with_failure.ratio < 0.5
    # of few seeds at which neither failed no spread is shown, however small
    alike = {**scores, "freeze": {**arm(0.5, 0.1), **arm(0.501, 1e-5, n=4, stream=2)}}
    late = Evidence("open", frozenset(range(4, 20)), frozenset(range(4, 20)))
    seldom = judge(alike, "none", {"freeze": late}).standings[1]
    assert seldom.upper is not None
    assert seldom.upper < MARGIN
    assert (seldom.state, seldom.more_seeds) == ("undecided", 2)
    assert (seldom.n, seldom.n_fine, seldom.too_few) == (20, 4, True)
    said = reasons(judge({**alike, "freeze": arm(0.53, 0.08, stream=1)}, "none", {"freeze": late}))
    assert "(at 4 of 20 shared runs neither failed); at least 2 more seeds are needed" in said
    # failing less is enough
    wild = {"none": arm(0.5, 0.05), "freeze": arm(0.51, 0.05, stream=1)}
    assert judge(wild, "none").state == "open"
    less = Evidence("open", frozenset(), frozenset(range(8)), "less")
    assert judge(wild, "none", {"freeze": less}).arm == "freeze"


def test_arms_that_do_not_vary() -> None:
    flat = dict.fromkeys(range(10), 0.9375)
    found = judge({"none": arm(0.804, 0.05, n=10), "freeze": flat}, "none")
    assert (found.arm, found.standings[1].ratio, found.standings[1].upper) == ("freeze", 0.0, 0.0)
    both = judge({"none": dict.fromkeys(range(10), 0.9), "freeze": flat}, "none")
    assert both.arm == "freeze"
    better = judge({"none": dict.fromkeys(range(10), 0.55), "freeze": arm(0.8, 0.05, n=10)}, "none")
    assert better.arm == "freeze"
    open_ = judge({"none": dict.fromkeys(range(10), 0.8), "freeze": arm(0.81, 0.05, n=10)}, "none")
    assert open_.arm != "freeze"


def test_steadier_and_lower_is_the_readers_choice() -> None:
    scores = {"none": arm(0.756, 0.16, n=12), "freeze": arm(0.725, 0.015, n=12, stream=1)}
    found = judge(scores, "none")
    assert (found.state, found.because, found.arm) == ("open", "lower mean", None)
    assert "steadier or better is yours to choose; until then none" in reasons(found)
