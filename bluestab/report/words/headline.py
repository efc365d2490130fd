"""The answer of a sweep in a sentence per task and model, with the evidence in it.

Every figure stands in a row of `summary_frame`, and a difference is in the units of its metric. An
arm is said to raise or lower a score, whichever of the two is better for its metric, only where
its exact paired test, corrected over the arms, says so; else the sentence says what is lacking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluestab import stats
from bluestab.report.tables import LEVEL, there
from bluestab.tasks.metric import metric_of_row

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
Part = tuple[str, str]
"""`text` or `arm`, and the words: a page sets names apart."""


@dataclass(frozen=True)
class Headline:
    """verdict: `better`, `worse`, `open` or `alone` (nothing to compare); arm: the one it names."""

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
    summary: pd.DataFrame, chosen: Mapping[tuple[str, str], str], at: str
) -> list[Headline]:
    """One per task and model with a finished run.

    chosen  task and model -> arm that validation recommends: where it is among the better ones, the
            sentence is about it, so that no arm is picked by its test scores if that can be avoided
    """
    found = []
    part = summary[(summary["at"] == at) & (summary["n"] > 0)]
    for (task, model), group in part.groupby(["task", "model"], sort=False):
        rows = group.to_dict("records")
        verdict, arm, parts = _said(rows, chosen.get((task, model)))
        found.append(Headline(str(task), str(model), at, verdict, arm, parts))
    return found


def _said(rows: Sequence[Row], chosen: str | None) -> tuple[str, str | None, list[Part]]:
    compared = [row for row in rows if there(row["delta"])]
    if not compared:
        return "alone", None, _alone(rows)
    sure = [row for row in compared if there(row["p_adjusted"]) and row["p_adjusted"] < LEVEL]
    metric = metric_of_row(rows[0])
    better = [row for row in sure if metric.better(row["delta"], 0)]
    if better:
        row = next((r for r in better if r["arm"] == chosen), None)
        said = row or metric.best(better, _least_gain)
        return "better", said["arm"], _better(said, rows, better, compared, row is not None)
    if sure:
        return "worse", None, _worse(sure, compared)
    return "open", None, _open(compared)


def _least_gain(row: Row) -> float:
    """The end of the interval of a change that is nearer to none, or worse."""
    end = row["delta_low" if metric_of_row(row).higher_is_better else "delta_high"]
    return float(end if there(end) else 0)


def _better(
    row: Row,
    rows: Sequence[Row],
    better: Sequence[Row],
    compared: Sequence[Row],
    by_validation: bool,
) -> list[Part]:
    metric = metric_of_row(row)
    reference = next(r for r in rows if r["arm"] == row["baseline"])
    change = _change(row, sign=metric.sign)
    parts = [
        ("arm", row["arm"]),
        (
            "text",
            f" {_past(metric.improve)} {metric.words} by {change}{_failures(row, reference)}",
        ),
        ("text", f" over {row['n_paired']} shared seeds, against "),
        ("arm", row["baseline"]),
        ("text", f" ({_p(row)}"),
    ]
    if len(compared) > 1:
        parts.append(("text", f", corrected for {len(compared)} arms"))
    parts.append(("text", ")."))
    others = len(better) - 1
    if others:
        bound = "highest lower bound" if metric.higher_is_better else "lowest upper bound"
        how = "chosen on validation" if by_validation else f"with the {bound}"
        more = "one other arm is" if others == 1 else f"{others} other arms are"
        parts.append(("text", f" It is the one {how}; {more} shown to {metric.improve} it, too."))
    elif by_validation:
        parts.append(("text", " It is the arm that validation chose."))
    return parts


def _failures(row: Row, reference: Row) -> str:
    before, after = reference["failed_share"], row["failed_share"]
    if not row["n"] == reference["n"] == row["n_paired"]:
        return f" (failed, of all their runs: {_percent(after)} instead of {_percent(before)})"
    if before == after:
        return "" if not before else f", with a failed share of {_percent(after)} in both,"
    if after < before:
        return f" and cut the failed share from {_percent(before)} to {_percent(after)}"
    return f", but raised the failed share from {_percent(before)} to {_percent(after)},"


def _worse(sure: Sequence[Row], compared: Sequence[Row]) -> list[Part]:
    metric = metric_of_row(sure[0])
    worst = metric.worst(sure, lambda r: float(r["delta"]))
    return [
        ("text", f"No arm is shown to {metric.improve} {metric.words} over "),
        ("arm", worst["baseline"]),
        (
            "text",
            f"; {len(sure)} of {len(compared)} {'is' if len(sure) == 1 else 'are'} shown to "
            f"{metric.worsen} it, most of all ",
        ),
        ("arm", worst["arm"]),
        ("text", f", by {_change(worst, sign=-metric.sign)} ({_p(worst)}, corrected)."),
    ]


def _open(compared: Sequence[Row]) -> list[Part]:
    metric = metric_of_row(compared[0])
    first = metric.best(compared, lambda r: float(r["delta"]))
    n = max(row["n_paired"] for row in compared)
    needed = stats.fewest_pairs(LEVEL / len(compared))
    parts: list[Part] = []
    if n < needed:
        arms = "an arm" if len(compared) == 1 else f"one of {len(compared)} arms"
        parts.append(
            (
                "text",
                f"Too early to say: {n} shared seeds, and {needed} are the fewest that can tell "
                f"{arms} from ",
            )
        )
    elif len(compared) == 1:
        parts += [("arm", first["arm"]), ("text", " is not shown to differ from ")]
    else:
        parts.append(("text", f"None of {len(compared)} arms is shown to differ from "))
    parts += [
        ("arm", first["baseline"]),
        ("text", ". " + ("It changed" if len(compared) == 1 and n >= needed else "So far ")),
    ]
    if len(compared) == 1 and n >= needed:
        parts.append(("text", f" {metric.words} by {_change(first, signed=True)}."))
    else:
        parts += [
            ("arm", first["arm"]),
            (
                "text",
                f" looks best: {_change(first, signed=True)} in {metric.words}.",
            ),
        ]
    return parts


def _alone(rows: Sequence[Row]) -> list[Part]:
    metric = metric_of_row(rows[0])
    best = metric.best(rows, lambda r: float(r["mean"]))
    interval = f" [{best['ci_low']:.3f}, {best['ci_high']:.3f}]" if there(best["ci_low"]) else ""
    seeds = "one seed" if best["n"] == 1 else f"{best['n']} seeds"
    text = (
        f" reached {metric.words} {best['mean']:.3f}{interval} over {seeds}; "
        f"failed: {_percent(best['failed_share'])}."
    )
    why = " There is no baseline to compare it with." if len(rows) > 1 else ""
    return [("arm", best["arm"]), ("text", text + why)]


def _change(row: Row, sign: int = 1, signed: bool = False) -> str:
    """`0.21 [0.10, 0.31]`; with the sign turned for what is said to be lowered."""
    spec = "+.3f" if signed else ".3f"
    said = f"{sign * row['delta']:{spec}}"
    if not there(row["delta_low"]):
        return said
    ends = sorted((sign * row["delta_low"], sign * row["delta_high"]))
    return f"{said} [{ends[0]:.3f}, {ends[1]:.3f}]"


def _past(verb: str) -> str:
    """`raise` -> `raised`, `lower` -> `lowered`."""
    return verb + ("d" if verb.endswith("e") else "ed")


def _p(row: Row) -> str:
    p = row["p_adjusted"]
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
