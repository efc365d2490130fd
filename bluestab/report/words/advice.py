"""What to use, per task and model: chosen on validation, reported on test."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bluestab import stats
from bluestab.report.frames.folds import fold_of, without_fold
from bluestab.report.frames.pairing import validated_differently
from bluestab.report.tables import LEVEL, there
from bluestab.report.words.phrases import p_words
from bluestab.report.words.reasons import reasons
from bluestab.stats.layouts import Folds, Layout
from bluestab.stats.verdict import Evidence, Verdict, judge
from bluestab.tasks.metric import Metric, metric_of_row

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]

FEW_ITEMS = 100
"""Validation items below which the choice may be theirs alone (ours: on 100 items, a Pearson of 0.5
has a standard error of 0.075, an accuracy of 0.8 one of 0.04)."""


@dataclass(frozen=True)
class Advice:
    """The verdict on one task and model, and the summary row (test) of the arm that it names.

    n_items  validation items that it was chosen on, over all folds if there are some; None: not
             known
    confirmed  the arm that it names was measured on fresh seeds, too
    """

    task: str
    model: str
    baseline: str
    found: Verdict
    row: Row | None
    n_items: int | None = None
    folds: bool = False
    higher_is_better: bool = True
    confirmed: bool = False

    @property
    def why(self) -> str:
        return reasons(self.found, 1 if self.higher_is_better else -1)

    def sentence(self) -> str:
        return f"{self.task} with {self.model}: {self.recommendation()}"

    def recommendation(self) -> str:
        """What to use and why, where task and model are known."""
        if self.found.arm is None or self.row is None:
            return self.why + self._caution()
        n_arms = len(self.found.standings)
        said = f"use {self.found.arm}: {self.why}; {_on_test(self.row, n_arms)}"
        return said + self._flattery() + self._caution()

    def _flattery(self) -> str:
        """Bounds pay for the choice; the two means do not."""
        n_arms = len(self.found.standings)
        if self.confirmed:
            return "; what fresh seeds say of it stands below"
        if n_arms < 3 or self.found.state != "use":
            return ""
        return (
            f"; means that chose among {n_arms} arms are optimistic, their bounds are not, and "
            f"sweep.confirm=10 measures {self.found.arm} on fresh seeds"
        )

    def _caution(self) -> str:
        if self.n_items is None or self.n_items >= FEW_ITEMS:
            return ""
        every = "" if self.folds else "; task.folds=5 measures on every item"
        return (
            f"; mind: chosen on {self.n_items} validation items, the same for all seeds, and no "
            f"number of seeds makes up for so few{every}"
        )


def advice(
    runs: pd.DataFrame, summary: pd.DataFrame, at: str, confirmed: Collection[str] = ()
) -> list[Advice]:
    """One for every task and model with a baseline and another arm; tables as in `Results`.

    confirmed  cells that were measured on fresh seeds, see `frames/confirmed`

    Where several arms are a baseline (plain fine-tuning at three learning rates), the others must
    stand against the one whose bound on the worse side is the best: a weak baseline proves nothing.
    There is none for arms of which some lack folds that others have, or whose validation or test
    items differ.
    """
    found = []
    part = summary[(summary["at"] == at) & (summary["n"] > 0)]
    for (task, model), rows in part.groupby(["task", "model"], sort=False):
        arms = {row["cell"]: row for row in rows.to_dict("records")}
        baselines = {row["baseline"] for row in arms.values() if isinstance(row["baseline"], str)}
        scores = dict(_scores(runs, arms, at))
        if not baselines or len(scores) < 2:
            continue
        if len({frozenset(map(fold_of, own)) for own in scores.values()}) > 1:
            continue
        of_them = runs[(runs["at"] == at) & runs["cell"].isin(arms)]
        if validated_differently(of_them[of_them["status"] != "crashed"]):
            continue
        folds = _folds(of_them)
        metric = metric_of_row(next(iter(arms.values())))
        lows = {arm: _low(scores[arm], Layout(_design, folds), metric) for arm in sorted(baselines)}
        baseline = max(lows, key=lambda arm: lows[arm])
        best = judge(
            scores,
            baseline,
            dict(_tested(of_them, arms)),
            folds=folds,
            design=_design,
            higher_is_better=metric.higher_is_better,
            worst=metric.least if metric.higher_is_better else metric.most,
        )
        row = next((row for row in arms.values() if row["arm"] == best.arm), None)
        items = of_them.groupby("fold", dropna=False)["n_validation"].min().dropna()
        n_items = None if items.empty else int(items.sum())
        found.append(
            Advice(
                task,
                model,
                baseline,
                best,
                row,
                n_items,
                folds is not None,
                metric.higher_is_better,
                row is not None and row["cell"] in confirmed,
            )
        )
    return found


def with_standings(summary: pd.DataFrame, found: Sequence[Advice], at: str) -> None:
    """Give the rows of a summary the columns that say how the verdict judges them, in place."""
    for one in found:
        of_them = (summary["at"] == at) & (summary["task"] == one.task)
        of_them &= summary["model"] == one.model
        for standing in one.found.standings:
            rows = summary.index[of_them & (summary["arm"] == standing.arm)]
            values = {
                "validation_mean": standing.mean,
                "validation_bound": standing.low,
                "spread_n": standing.n_fine,
                "spread_ratio": standing.ratio,
                "spread_ratio_bound": standing.upper,
                "standing": standing.state,
                "against": ", ".join(standing.against) or None,
            }
            for column, value in values.items():
                summary.loc[rows, column] = value


def _folds(runs: pd.DataFrame) -> Folds | None:
    """Of a cross-validation; sizes: the fewest that train in a fold, the most that validate."""
    if runs["fold"].isna().all():
        return None
    return Folds(fold_of, int(runs["n_train"].min()), int(runs["n_validation"].max()))


def _scores(
    runs: pd.DataFrame, arms: Mapping[str, Row], at: str
) -> Iterator[tuple[str, dict[Any, float]]]:
    """Arm -> seeds -> validation score, the failure score where there is none."""
    part = runs[(runs["at"] == at) & (runs["status"] != "crashed") & runs["cell"].isin(arms)]
    for cell, group in part.groupby("cell", sort=False):
        yield arms[str(cell)]["arm"], dict(zip(group["streams"], group["judged"], strict=True))


def _tested(runs: pd.DataFrame, arms: Mapping[str, Row]) -> Iterator[tuple[str, Evidence]]:
    """Arm -> what its test scores say of it, beside the arm that it is compared with."""
    part = runs[runs["status"] != "crashed"]
    seeds: dict[str, set[Any]] = {}
    failed: dict[str, set[Any]] = {}
    for cell, group in part.groupby("cell", sort=False):
        name = arms[str(cell)]["arm"]
        seeds[name] = set(group["streams"])
        failed[name] = set(group["streams"][group["failed"].astype(bool)])
    for row in arms.values():
        arm, other = row["arm"], row["baseline"]
        if arm not in seeds or other not in seeds:
            continue
        shared = seeds[arm] & seeds[other]
        shown = there(row["p_failed_adjusted"]) and row["p_failed_adjusted"] < LEVEL
        fails: Literal["more", "less"] | None = None
        if shown:
            fails = "more" if row["failed_change"] > 0 else "less"
        yield (
            arm,
            Evidence(
                row["effect"], frozenset(failed[arm] & shared),
                frozenset(failed[other] & shared), fails,
            ),
        )  # fmt: skip


def _design(runs: Sequence[Any]) -> stats.Design:
    """Of runs given by their seeds; in another fold the same seed is the same."""
    return stats.design_of([without_fold(streams) for streams in runs])


def _low(scores: Mapping[Any, float], layout: Layout, metric: Metric) -> float:
    """How good their mean is at least, where more is better."""
    _, bound = layout.mean(scores, 0.975, metric.sign)
    return -float("inf") if bound is None else metric.sign * bound


def _on_test(row: Row, n_arms: int) -> str:
    """Test scores of the arm that was chosen; its interval holds for all arms at once."""
    said = f"on test {row['mean']:.4f}"
    if there(row["ci_all_low"]):
        said += f" ({row['ci_all_low']:.4f} to {row['ci_all_high']:.4f}"
        said += f", for all {n_arms} arms at once)" if n_arms > 1 else ")"
    failed = row["n_degenerate"] + row["n_diverged"]
    said += f", {failed} of {row['n']} runs failed"
    if isinstance(row["baseline"], str) and there(row["delta"]):
        said += f", {row['delta']:+.4f} against {row['baseline']}"
        if there(row["p_adjusted"]):
            said += f" ({p_words(row['p_adjusted'])})"
    return said
