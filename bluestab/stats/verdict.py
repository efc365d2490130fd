"""What to use: one decision on a family of arms, which every page and table only puts into words.

Validation chooses, test scores may only object. An arm is *ruled out* if it is shown to have the
worse mean (on validation or on test), to fail more often, or to vary more than `margin` times as
much as the baseline. It is *approved* if it fails in no more of the shared runs than the baseline
and is shown to be better in one way: to have the better mean on validation, to fail less, or to
vary at most `margin` times as much, an equivalence bound in one direction (non-inferiority), so
that few seeds approve nothing. Fewer seeds than an exact test needs (six) do neither. All else is
*undecided*.

Of the arms that are not ruled out the one with the best bound of its validation mean is named: to
be used, if it is approved and its mean is no worse than the baseline's, else the answer is open.
The baseline is kept if its bound and its mean are the best.

Choosing costs: bounds hold for all arms at once (Bonferroni), one-sided at `level`. The spread is
that over the seeds at which neither arm failed, so that failing counts once, as failing.

All of it is said of scores that grow with quality. Where lower scores are better, they are judged
with the sign turned, and every number is given back in its own: the bound that counts is then the
upper one. Runs that share seeds count as what they are, see `stats.designs`: so does their mean,
the test of its change and the bound of the spread. Of a cross-validation the mean is that of the
folds, bound and test corrected for the items that they share (Nadeau & Bengio 2003), and the spread
is that of seeds within folds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bluestab import stats
from bluestab.stats.layouts import Designs, Folds, Layout, Scores, unrelated

MARGIN = 1.25
"""Largest acceptable ratio of standard deviations (ours: a quarter more than the baseline's)."""

MOST_SEEDS = 200
"""More than these are not proposed to anybody."""

Effect = Literal["better", "worse", "ahead", "behind", "alike", "open"]
"""What test scores say of an arm's mean: shown to be better or worse; shown so among the runs that
did not fail, while failures not yet seen could turn it (ahead, behind); shown to differ by less
than a margin; none of these."""


def effect_of(
    delta: float | None,
    p: float | None,
    p_equivalent: float | None,
    turns: bool,
    *,
    higher_is_better: bool = True,
    level: float = 0.05,
) -> Effect | None:
    """delta and p: of the change, over the family; turns: see `failing.Unseen`. None without p."""
    if p is None or delta is None:
        return None
    if p < level:
        if (delta > 0) == higher_is_better:
            return "ahead" if turns else "better"
        return "behind" if turns else "worse"
    return "alike" if p_equivalent is not None and p_equivalent < level else "open"


@dataclass(frozen=True)
class Evidence:
    """What the test scores say of an arm beside its baseline, on the runs they share.

    failed, reference_failed  seeds at which the arm, and its baseline, failed
    fails                     what it is shown to do, over the family; None: neither
    """

    effect: Effect | None = None
    failed: frozenset[Any] = frozenset()
    reference_failed: frozenset[Any] = frozenset()
    fails: Literal["more", "less"] | None = None


@dataclass(frozen=True)
class Standing:
    """One arm as judged.

    n             runs shared with the baseline
    mean, low     of all its validation scores, and the bound of that mean on the worse side
    ratio, upper  of the standard deviations, and its upper bound; inf: only the arm varies
    state         baseline | approved | undecided | ruled out
    against       why it is ruled out: worse, worse on test, fails more, varies more
    fails_more    it failed more often than the baseline, shown or not
    better        its validation mean is shown to be better than the baseline's
    more_seeds    until its spread would be approved (in every fold); None if none would do
    too_few       neither failed in fewer runs than an exact test needs
    shared        kinds of seed that its runs share; `more_seeds` are of each of them
    n_fine        runs at which neither failed: what the ratio is of
    """

    arm: str
    n: int
    mean: float | None
    low: float | None
    ratio: float | None
    upper: float | None
    state: str
    against: tuple[str, ...] = ()
    fails_more: bool = False
    better: bool = False
    more_seeds: int | None = None
    too_few: bool = False
    shared: tuple[str, ...] = ()
    n_fine: int | None = None


@dataclass(frozen=True)
class Verdict:
    """state: `use` an arm, `keep` the baseline, `open`, or `alone`, with nothing to compare.

    arm       the one to use, None if that is open
    first     the one that looks best, if any has a bound
    because   of an open one: few, fails, spread, lower mean, no better bound
    leader    the one with the best mean, where it is another and that is why it is open
    until     what to use until there are more seeds
    level     of the bounds, each of which holds for all arms at once
    """

    state: Literal["use", "keep", "open", "alone"]
    baseline: str
    standings: Sequence[Standing]
    arm: str | None = None
    first: Standing | None = None
    because: str | None = None
    leader: Standing | None = None
    until: str | None = None
    margin: float = MARGIN
    level: float = 0.95
    folds: bool = False

    def ruled_out(self, why: str | None = None) -> list[str]:
        """Names of the arms that are out; for this reason, if one is given."""
        out = [one for one in self.standings if one.state == "ruled out"]
        return [one.arm for one in out if why is None or why in one.against]


@dataclass(frozen=True)
class _Terms:
    """What all arms of a family are judged by."""

    reference: Scores
    n_arms: int
    layout: Layout
    margin: float
    level: float
    sign: int
    shown: Mapping[str, int] = field(default_factory=dict)
    """arm -> 1 if its validation mean is shown to be better than the baseline's, -1 if worse"""


def judge(
    scores: Mapping[str, Scores],
    baseline: str,
    tested: Mapping[str, Evidence] | None = None,
    *,
    folds: Folds | None = None,
    design: Designs = unrelated,
    margin: float = MARGIN,
    level: float = 0.95,
    higher_is_better: bool = True,
    worst: float | None = None,
) -> Verdict:
    """The verdict on arms, from validation scores by seed, failed runs with their failure score.

    tested  arm -> what test scores say of it; an arm that is missing was not tested
    folds   of a cross-validation, the same for every arm
    design  how runs hang together, from the keys of their scores
    worst   score that there can be: no bound lies beyond it, or beyond the worst that there is

    Raises ValueError if the baseline is none of the arms.
    """
    if baseline not in scores:
        raise ValueError(f"the baseline {baseline!r} is none of the arms {', '.join(scores)}")
    sign, layout = 1 if higher_is_better else -1, Layout(design, folds)
    terms = _Terms(
        scores[baseline], len(scores), layout, margin, level, sign,
        _shown(scores, baseline, layout, 1 - level, sign),
    )  # fmt: skip
    standings = [
        _baseline(baseline, scores[baseline], terms)
        if arm == baseline
        else _judged(arm, own, (tested or {}).get(arm, Evidence()), terms)
        for arm, own in scores.items()
    ]

    shown = [_cut(one, scores[one.arm], worst, sign) for one in standings]

    def verdict(state: Literal["use", "keep", "open", "alone"], **said: Any) -> Verdict:
        for name in ("first", "leader"):
            if name in said:
                said[name] = next(one for one in shown if one.arm == said[name].arm)
        return Verdict(state, baseline, shown, margin=margin, level=level,
                       folds=folds is not None, **said)  # fmt: skip

    if len(scores) < 2:
        return verdict("alone")
    ranked = sorted(
        (one for one in standings if one.low is not None and one.state != "ruled out"),
        key=lambda one: -sign * float(one.low or 0.0),
    )
    if not ranked:
        return verdict("open", because="few")
    first = ranked[0]
    own = next((one for one in ranked if one.state == "baseline"), None)
    leader = max(ranked, key=lambda one: sign * float(one.mean or 0.0))
    if first.state == "baseline":
        if leader is first:
            return verdict("keep", arm=baseline, first=first)
        return verdict(
            "open", first=first, because="no better bound", leader=leader, until=baseline
        )
    few = [key for key in scores[first.arm] if key in scores[baseline]]
    if layout.lacking(few, stats.fewest_pairs(1 - level)) and leader.state == "undecided":
        first = leader  # bounds of so few seeds rank arms by the luck of their spread
    until = next((one.arm for one in ranked if one.state in ("approved", "baseline")), None)
    if first.fails_more:
        return verdict("open", first=first, because="fails", until=until)
    if first.state == "undecided":
        return verdict("open", first=first, because="spread", until=until)
    if own is not None and sign * float(first.mean or 0.0) < sign * float(own.mean or 0.0):
        return verdict("open", first=first, because="lower mean", leader=own, until=baseline)
    return verdict("use", arm=first.arm, first=first)


def _shown(
    scores: Mapping[str, Scores], baseline: str, layout: Layout, level: float, sign: int
) -> dict[str, int]:
    """Arms whose mean is shown to differ, over the family, and in which direction."""
    reference = scores[baseline]
    pairs = {
        arm: {key: (own[key], reference[key]) for key in own if key in reference}
        for arm, own in scores.items()
        if arm != baseline
    }
    return {
        arm: 1 if sign * delta > 0 else -1
        for arm, (delta, p) in layout.changes(pairs, level).items()
        if p is not None and p < level and delta
    }


def _baseline(arm: str, own: Scores, terms: _Terms) -> Standing:
    mean, low = _mean(own, terms)
    return Standing(arm, len(own), mean, low, 1.0, 1.0, "baseline")


def _judged(arm: str, own: Scores, tested: Evidence, terms: _Terms) -> Standing:
    shared = [key for key in own if key in terms.reference]
    mean, low = _mean(own, terms)
    failed = tested.failed | tested.reference_failed
    fine = [key for key in shared if key not in failed]
    ratio, lower, upper = _spread(own, fine, terms)
    fewest = stats.fewest_pairs(1 - terms.level)
    lacking, of_spread = (terms.layout.lacking(keys, fewest) for keys in (shared, fine))
    against = [
        why
        for why, holds in (
            ("worse", terms.shown.get(arm) == -1),
            ("worse on test", tested.effect in ("worse", "behind")),
            ("fails more", tested.fails == "more"),
            ("varies more", not of_spread and lower is not None and lower > terms.margin),
        )
        if holds
    ]
    fails_more = len(tested.failed) > len(tested.reference_failed)
    better = terms.shown.get(arm) == 1 or tested.fails == "less"
    steady = not of_spread and upper is not None and upper <= terms.margin
    more = None
    if against:
        state = "ruled out"
    elif not lacking and not fails_more and (steady or better):
        state = "approved"
    else:
        state = "undecided"
        more = of_spread or _more_seeds(terms.layout.n_seeds(fine), ratio, upper, terms.margin)
    return Standing(
        arm, len(shared), mean, low, ratio, upper, state,
        tuple(against), fails_more, terms.shown.get(arm) == 1, more, of_spread > 0,
        terms.layout.shared(shared), len(fine),
    )  # fmt: skip


def _spread(
    own: Scores, keys: Sequence[Any], terms: _Terms
) -> tuple[float | None, float | None, float | None]:
    """Ratio of the standard deviations at these keys, and its bounds."""
    alpha = (1 - terms.level) / max(terms.n_arms - 1, 1)
    ratio, found = terms.layout.spread(own, terms.reference, keys, 1 - 2 * alpha)
    if found is None:
        return ratio, None, 0.0 if ratio == 0 else None
    return ratio, found.low, found.high


def _mean(scores: Scores, terms: _Terms) -> tuple[float | None, float | None]:
    """Of the scores, and its bound on the worse side, in all arms at once."""
    return terms.layout.mean(scores, 1 - (1 - terms.level) / terms.n_arms, terms.sign)


def _cut(standing: Standing, scores: Scores, worst: float | None, sign: int) -> Standing:
    """With a bound that there can be: arms were ranked by it as it is."""
    if standing.low is None or worst is None:
        return standing
    least = min(sign * x for x in (worst, *scores.values()))
    return replace(standing, low=sign * max(sign * standing.low, least))


def _more_seeds(n: int, ratio: float | None, upper: float | None, margin: float) -> int | None:
    """Seeds to add until the bound meets the margin: its distance shrinks as one over root n."""
    if ratio is None or upper is None or not 0 < ratio < margin or upper <= margin:
        return None
    needed = n * (math.log(upper / ratio) / math.log(margin / ratio)) ** 2
    return max(1, math.ceil(needed) - n) if needed <= MOST_SEEDS else None
