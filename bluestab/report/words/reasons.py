"""Why a verdict is what it is, in words: every number in them is one of its standings."""

from __future__ import annotations

import math

from bluestab.stats.verdict import MOST_SEEDS, Standing, Verdict

AGAINST = {
    "worse": "shown to be worse on validation",
    "worse on test": "shown to be worse on test",
    "fails more": "shown to fail more often",
    "varies more": "shown to vary more than {margin:g} times as much",
}

ANY_SPREAD = 100
"""A ratio of spreads that may be as large as this is not known."""


def reasons(verdict: Verdict, sign: int = 1) -> str:
    """One sentence without its end; sign: -1 where lower scores are better."""
    return _main(verdict, sign) + _ruled_out(verdict)


def _main(verdict: Verdict, sign: int) -> str:
    if verdict.state == "alone":
        return f"there is nothing to compare {verdict.baseline} with"
    if verdict.first is None and verdict.folds:
        return "not enough folds to say: an interval needs two or more, with scores that differ"
    if verdict.first is None:
        return "not enough seeds to say: every arm needs two or more"
    if verdict.state == "open":
        return _open(verdict, verdict.first, sign)
    mean = _mean(verdict, verdict.first, sign)
    if verdict.state == "keep":
        better = "higher" if sign > 0 else "lower"
        left = " that is not ruled out" if verdict.ruled_out() else ""
        return f"no other arm{left} has a {better} validation mean: {mean}"
    shown = ", shown to be better than that of " + verdict.baseline if verdict.first.better else ""
    return f"{mean}{shown}; {_spread(verdict, verdict.first)}"


def _mean(verdict: Verdict, first: Standing, sign: int) -> str:
    least = "at least" if sign > 0 else "at most"
    return (
        f"validation mean {first.mean:.4f}, {least} {first.low:.4f} with "
        f"{100 * verdict.level:.0f} % confidence in all {len(verdict.standings)} arms at once"
    )


def _spread(verdict: Verdict, first: Standing) -> str:
    where = "on validation, where neither failed,"
    if first.ratio == 0:
        return f"{where} its {first.n} seeds do not vary at all"
    if first.ratio is None:
        fine = f"neither failed at {first.n_fine or 0} of {first.n} shared runs"
        return f"{fine}, too few for a ratio of spreads"
    if first.ratio == math.inf:
        return f"{verdict.baseline} does not vary, so there is no ratio of spreads"
    upper = "" if first.upper is None else f", at most {first.upper:.2f} times"
    return f"{where} its spread is {first.ratio:.2f} times that of {verdict.baseline}{upper}"


def _open(verdict: Verdict, first: Standing, sign: int) -> str:
    better, worse, bound = (
        ("higher", "lower", "lower") if sign > 0 else ("lower", "higher", "upper")
    )
    until = "" if verdict.until is None else f"; until then {verdict.until}"
    leader = verdict.leader
    if verdict.because == "no better bound" and leader is not None:
        return (
            f"not enough seeds to say: {leader.arm} has the {better} validation mean "
            f"({leader.mean:.4f} against {first.mean:.4f}) and {first.arm} the better {bound} "
            f"bound ({first.low:.4f} against {leader.low:.4f}){until}"
        )
    if verdict.because == "lower mean" and leader is not None:
        return (
            f"not to be said by seeds alone: {first.arm} has the better {bound} bound of its "
            f"validation mean ({first.low:.4f} against {leader.low:.4f}), and a {worse} mean "
            f"({first.mean:.4f} against {leader.mean:.4f}): steadier or better is yours to "
            f"choose; until then {leader.arm}"
        )
    if verdict.because == "fails":
        return (
            f"not enough seeds to say: {first.arm} has the best {bound} bound of its validation "
            f"mean ({first.low:.4f}), but failed in more of the shared runs than "
            f"{verdict.baseline}{until}"
        )
    best = "looks best on validation"
    return f"not enough seeds to say: {first.arm} {best}, but {_lacking(verdict, first)}{until}"


def _lacking(verdict: Verdict, first: Standing) -> str:
    n, where = first.more_seeds, " in every fold" if verdict.folds else _of_kinds(first)
    if first.upper is None or first.upper >= ANY_SPREAD:
        spread = "its spread is not known"
        if first.ratio == math.inf:
            spread = f"{verdict.baseline} does not vary, so there is no ratio of spreads to go by"
    elif first.upper <= verdict.margin:
        spread = "so few seeds decide nothing"
    else:
        spread = (
            f"its spread may be up to {first.upper:.2f} times that of {verdict.baseline}, and at "
            f"most {verdict.margin:g} times is accepted"
        )
    if first.too_few and first.n_fine is not None and first.n_fine < first.n:
        spread += f" (at {first.n_fine} of {first.n} shared runs neither failed)"
    if first.too_few and n is not None:
        more, verb = f"{n} more seed{'s' * (n > 1)}", "are" if n > 1 else "is"
        if first.shared:
            return f"{spread}; at least {more}{where} {verb} needed"
        return f"{spread}; at least {more} {verb} needed{where}"
    if n is not None:
        more = f"{n} more seed{'s' * (n > 1)}{where}"
        return f"{spread}; {more} would do if it stays at {first.ratio:.2f} times"
    known = first.ratio is not None and first.ratio != math.inf and first.upper is not None
    return f"{spread}; more than {MOST_SEEDS} seeds would be needed" if known else spread


def _of_kinds(first: Standing) -> str:
    """` of init and of order`, where runs share these seeds."""
    return " of " + " and of ".join(first.shared) if first.shared else ""


def _ruled_out(verdict: Verdict) -> str:
    said = [
        f"{words.format(margin=verdict.margin)}: {', '.join(verdict.ruled_out(why))}"
        for why, words in AGAINST.items()
        if verdict.ruled_out(why)
    ]
    return f"; ruled out are arms {'; '.join(said)}" if said else ""
