"""What test scores say, in a sentence per task and model, with the evidence in it.

Every figure stands in a row of `summary_frame`, and a difference is in the units of its metric. An
arm is said to raise or lower a score, whichever of the two is better for its metric, only where the
test of its family says so and failures that the seeds did not show could not turn it
(`stats.effect_of`); else the sentence says what is lacking. What to use is the verdict's to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluestab import stats
from bluestab.report.tables import LEVEL, there
from bluestab.report.words.phrases import p_words, percent
from bluestab.report.words.reasons import AGAINST
from bluestab.stats.verdict import Verdict
from bluestab.tasks.metric import metric_of_row

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
EFFECTS = ("better", "ahead", "worse", "behind", "alike", "open")
Part = tuple[str, str]
"""`text` or `arm`, and the words: a page sets names apart."""


@dataclass(frozen=True)
class Headline:
    """verdict: `better`, `ahead`, `worse`, `alike`, `open` or `alone` (nothing to compare); arm:
    the one it names."""

    task: str
    model: str
    at: str
    verdict: str
    arm: str | None
    parts: Sequence[Part]

    @property
    def text(self) -> str:
        return "".join(words for _, words in self.parts)


def headlines(
    summary: pd.DataFrame, verdicts: Mapping[tuple[str, str], Verdict], at: str
) -> list[Headline]:
    """One per task and model with a finished run.

    verdicts  task and model -> what to use: where its arm is among the better ones, the sentence is
              about it, so that no arm is picked by its test scores if that can be avoided
    """
    found = []
    part = summary[(summary["at"] == at) & (summary["n"] > 0)]
    for (task, model), group in part.groupby(["task", "model"], sort=False):
        rows = group.to_dict("records")
        verdict, arm, parts = _sentence(rows, verdicts.get((task, model)))
        found.append(Headline(str(task), str(model), at, verdict, arm, parts))
    return found


def _sentence(rows: Sequence[Row], verdict: Verdict | None) -> tuple[str, str | None, list[Part]]:
    compared = [row for row in rows if there(row["delta"])]
    if not compared:
        return "alone", None, _alone(rows)
    by = {effect: [row for row in compared if row["effect"] == effect] for effect in EFFECTS}
    for effect, words in (("better", _better), ("ahead", _ahead)):
        if by[effect]:
            row = _named(by[effect], verdict)
            said = [*words(row, compared), *_chosen(row, verdict), *_others(by[effect], row)]
            return effect, row["arm"], said + _failing(compared)
    down = by["worse"] + by["behind"]
    if down:
        return "worse", None, _worse(down, compared) + _failing(compared)
    if len(by["alike"]) == len(compared):
        return "alike", None, _alike(compared) + _failing(compared)
    return "open", None, _open(compared) + _failing(compared)


def _named(shown: Sequence[Row], verdict: Verdict | None) -> Row:
    """The arm to use if it is among these, else the one with the best bound."""
    chosen = None if verdict is None else verdict.arm
    row = next((r for r in shown if r["arm"] == chosen), None)
    return row or metric_of_row(shown[0]).best(shown, _least_gain)


def _least_gain(row: Row) -> float:
    """The end of the interval of a change that is nearer to none, or worse."""
    end = row["delta_all_low" if metric_of_row(row).higher_is_better else "delta_all_high"]
    return float(end if there(end) else 0)


def _better(row: Row, compared: Sequence[Row]) -> list[Part]:
    metric = metric_of_row(row)
    change = _change(row, sign=metric.sign)
    return [
        ("arm", row["arm"]),
        (
            "text",
            f" {_past(metric.improve)} {metric.words} by {change} over {_seeds(row)}, against ",
        ),
        ("arm", row["baseline"]),
        ("text", f" ({_p(row, compared)})."),
    ]


def _ahead(row: Row, compared: Sequence[Row]) -> list[Part]:
    metric = metric_of_row(row)
    return [
        ("arm", row["arm"]),
        ("text", " scored better than "),
        ("arm", row["baseline"]),
        (
            "text",
            f" by {_change(row, sign=metric.sign)} in {metric.words} over {_seeds(row)} "
            f"({_p(row, compared)}). So few cannot exclude that up to "
            f"{percent(row['unseen_failed'])} of its runs fail, which would undo that.",
        ),
    ]


def _others(shown: Sequence[Row], row: Row) -> list[Part]:
    """How many arms the same is shown of."""
    others = len(shown) - 1
    if not others:
        return []
    better = _past(metric_of_row(row).improve) + " it"
    what = better if row["effect"] == "better" else "scored better"
    return [("text", f" {'One other arm' if others == 1 else f'{others} other arms'} {what}, too.")]


def _chosen(row: Row, verdict: Verdict | None) -> list[Part]:
    """How the arm of the sentence stands to the one that the verdict names."""
    if verdict is None:
        return []
    if verdict.arm == row["arm"]:
        return [("text", " Validation chose it.")]
    if row["arm"] in verdict.ruled_out():
        why = next(one.against for one in verdict.standings if one.arm == row["arm"])
        said = ", ".join(AGAINST[one].format(margin=verdict.margin) for one in why)
        return [("text", f" As a choice it is ruled out: {said}.")]
    if verdict.arm is not None:
        return [("text", " Validation chose "), ("arm", verdict.arm), ("text", ".")]
    if verdict.until is None:
        return [("text", " Which arm to use is open.")]
    return [
        ("text", " Which arm to use is open; until then "),
        ("arm", verdict.until),
        ("text", "."),
    ]


def _failing(compared: Sequence[Row]) -> list[Part]:
    """Arms that are shown to fail more, or less, often than their baseline."""
    parts: list[Part] = []
    for row in compared:
        p = row["p_failed_adjusted"]
        if not there(p) or p >= LEVEL:
            continue
        often = "less" if row["failed_change"] < 0 else "more"
        corrected = f", corrected for {len(compared)} arms" if len(compared) > 1 else ""
        parts += [
            ("text", " "),
            ("arm", row["arm"]),
            (
                "text",
                f" failed {often} often: in {row['failed_paired']} of {_seeds(row)} instead of "
                f"{row['failed_baseline']} ({p_words(p)}{corrected}).",
            ),
        ]
    return parts


def _worse(sure: Sequence[Row], compared: Sequence[Row]) -> list[Part]:
    metric = metric_of_row(sure[0])
    worst = metric.worst(sure, lambda r: float(r["delta"]))
    behind = worst["effect"] == "behind"
    verb = "score worse" if behind else f"{metric.worsen} it"
    doubt = (
        f" So few seeds cannot exclude that {worst['baseline']} fails in up to "
        f"{percent(worst['unseen_failed'])} of runs, and that would undo it."
        if behind
        else ""
    )
    return [
        ("text", f"No arm is shown to {metric.improve} {metric.words} over "),
        ("arm", worst["baseline"]),
        (
            "text",
            f"; {len(sure)} of {len(compared)} {'is' if len(sure) == 1 else 'are'} shown to "
            f"{verb}, most of all ",
        ),
        ("arm", worst["arm"]),
        ("text", f", by {_change(worst, sign=-metric.sign)} ({_p(worst, compared)}).{doubt}"),
    ]


def _alike(compared: Sequence[Row]) -> list[Part]:
    metric = metric_of_row(compared[0])
    widest = max(compared, key=lambda row: float(row["p_equivalent"]))
    margin, baseline = f"{widest['difference']:g}", widest["baseline"]
    p = p_words(widest["p_equivalent"])
    if len(compared) == 1:
        return [
            ("arm", widest["arm"]),
            ("text", " is as good as "),
            ("arm", baseline),
            ("text", f" within {margin} in {metric.words} over {_seeds(widest)} ({p})."),
        ]
    return [
        ("text", f"All {len(compared)} arms are as good as "),
        ("arm", baseline),
        ("text", f" within {margin} in {metric.words} over {_seeds(widest)} (at most {p})."),
    ]


def _open(compared: Sequence[Row]) -> list[Part]:
    metric = metric_of_row(compared[0])
    first = metric.best(compared, lambda r: float(r["delta"]))
    most, needed = max(compared, key=lambda row: row["n_units"]), stats.fewest_pairs(LEVEL)
    tested = any(there(row["p_adjusted"]) for row in compared)
    parts: list[Part] = []
    if not tested and most["n_units"] < needed and not there(first["n_folds"]):
        few = f"Too early to say: {_seeds(most)}, and {needed} are the fewest that can tell "
        arms = ("text", f"one of {len(compared)} arms")
        parts += [("text", few), ("arm", first["arm"]) if len(compared) == 1 else arms]
        parts.append(("text", " from "))
    elif len(compared) == 1:
        parts += [("arm", first["arm"]), ("text", " is not shown to differ from ")]
    else:
        parts.append(("text", f"None of {len(compared)} arms is shown to differ from "))
    parts.append(("arm", first["baseline"]))
    change = f"{_change(first, signed=True)} in {metric.words}"
    if len(compared) == 1:
        return [*parts, ("text", f". It changed by {change}.")]
    if metric.better(first["delta"], 0):
        return [
            *parts,
            ("text", ". So far "),
            ("arm", first["arm"]),
            ("text", f" looks best on test: {change}."),
        ]
    return [*parts, ("text", ", nor looks better; nearest is "), ("arm", first["arm"]),
            ("text", f": {change}.")]  # fmt: skip


def _alone(rows: Sequence[Row]) -> list[Part]:
    metric = metric_of_row(rows[0])
    best = metric.best(rows, lambda r: float(r["mean"]))
    interval = f" [{best['ci_low']:.3f}, {best['ci_high']:.3f}]" if there(best["ci_low"]) else ""
    seeds = "one seed" if best["n"] == 1 else f"{best['n']} seeds"
    text = (
        f" reached {metric.words} {best['mean']:.3f}{interval} over {seeds}; "
        f"failed: {percent(best['failed_share'])}."
    )
    why = _why_alone(rows) if len(rows) > 1 else ""
    return [("arm", best["arm"]), ("text", text + why)]


def _why_alone(rows: Sequence[Row]) -> str:
    """Why nothing is compared: no baseline, or one of other items, or of other seeds."""
    apart = next((row for row in rows if there(row["baseline"])), None)
    if apart is not None:
        return f" It is compared with nothing: {apart['baseline']} is there, but {apart['no_p']}."
    if any(there(row.get("not_paired")) for row in rows):
        return " It is compared with nothing: the baseline has other test items or another metric."
    return " There is no baseline to compare it with."


def _seeds(row: Row) -> str:
    """`12 shared seeds`, `3 shared seeds x 5 folds`, `25 shared runs (5 init x 5 order)`."""
    n, _, rest = str(row["pairs"]).partition(" ")
    what = "run" if rest.startswith(("(", "in ")) else "seed"
    return f"{n} shared {what}{'' if n == '1' else 's'} {rest}".rstrip()


def _change(row: Row, sign: int = 1, signed: bool = False) -> str:
    """`0.21 [0.10, 0.31]`, over all arms; with the sign turned for what is said to be lowered."""
    spec = "+.3f" if signed else ".3f"
    said = f"{sign * row['delta']:{spec}}"
    if not there(row["delta_all_low"]):
        return said
    ends = sorted((sign * row["delta_all_low"], sign * row["delta_all_high"]))
    return f"{said} [{ends[0]:.3f}, {ends[1]:.3f}]"


def _past(verb: str) -> str:
    """`raise` -> `raised`, `lower` -> `lowered`."""
    return verb + ("d" if verb.endswith("e") else "ed")


def _p(row: Row, compared: Sequence[Row]) -> str:
    tested = sum(there(one["p"]) for one in compared)
    return p_words(row["p_adjusted"]) + (f", corrected for {tested} arms" if tested > 1 else "")
