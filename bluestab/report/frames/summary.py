"""One table of arms: a row per cell and `at`. Only runs of one cell are ever averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.report.frames.bounded import keep_in_range
from bluestab.report.frames.contrasts import CONTRAST_COLUMNS, ArmRuns, contrasts
from bluestab.report.frames.folds import ends, mean_over_folds, nested_columns
from bluestab.report.frames.pairing import Pairing
from bluestab.report.frames.runs import Row
from bluestab.report.tables import LEVEL, there
from bluestab.tasks.metric import DIRECTION

STANDING_COLUMNS = (
    "validation_bound", "spread_n", "spread_ratio", "spread_ratio_bound", "standing", "against",
)  # fmt: skip
"""How the verdict judges an arm, see `stats.verdict.Standing`."""

SUMMARY_COLUMNS = (
    "cell", "task", "model", "technique", "arm", "config_diff", "metric", DIRECTION, "at",
    "n", "n_degenerate", "n_diverged", "n_crashed", "n_censored",
    "failed_share", "failed_low", "failed_high",
    "mean", "mean_without_failed", "std", "median", "iqm", "min", "max",
    "ci_low", "ci_high", "ci_method", "items_low", "items_high",
    "ci_all_low", "ci_all_high", "validation_mean", *STANDING_COLUMNS,
    "baseline", *CONTRAST_COLUMNS,
    "delta_items_low", "delta_items_high", "difference", "more_seeds",
    "seconds_mean", "memory_mean", "n_folds", "std_folds", "design", "not_paired",
)  # fmt: skip

DIFFERENCE = 0.01
"""Difference of two means that is worth finding, unless somebody says otherwise: one point."""

ASSURANCE = 0.8
"""Confidence that the spread is no larger than planned with: a pilot's own is too small half of the
time (Browne 1995)."""


def summary_frame(
    runs: pd.DataFrame,
    baseline: str = "none",
    difference: float = DIFFERENCE,
    digests: Mapping[str, str] | None = None,
    looked: Collection[str] = (),
) -> pd.DataFrame:
    """One row per cell and `at`; what compares, against the baseline arm on shared seeds.

    baseline    arm or technique name; cells of the same task and model are compared with it
    difference  of the mean that is worth finding: `more_seeds` are those still lacking to find it
                with a power of 80 % after the correction over all arms (Bonferroni's, which is the
                more careful one), whatever the spread truly is with a confidence of 80 %; None for
                an arm that is shown to differ already. And the margin within which two means are as
                good as each other
    digests     cell -> its test items (`items_digest`), where predictions were read
    looked      cells that were given seeds after results could be seen

    An arm is compared only on the same test items; `not_paired` says why it is not.
    """
    if runs.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    crashed: dict[str, int] = defaultdict(int)
    for run in runs.to_dict("records"):
        group = groups[run["cell"], run["at"]]
        group.append(run)
        crashed[run["cell"]] += run["status"] == "crashed"
    table, arms = [], {}
    for place, group in groups.items():
        part = [run for run in group if run["status"] != "crashed"]
        table.append(_summary_row(part, group[0], crashed[place[0]]))
        arms[place] = arm_runs(part)
    pairing = Pairing(dict(zip(runs["cell"], runs["test_part"], strict=True)), digests)
    rivals = _Rivals(table, baseline, pairing)
    for row in table:
        rival = rivals.of(row)
        if rival is None:
            row["not_paired"] = rivals.reason(row)
        else:
            row["baseline"], row["rival"] = rival["arm"], rival["cell"]
            row["difference"] = difference
    # comparisons of one task and model, at one step, are corrected together
    for family in _by_subject(row for row in table if row["baseline"] is not None):
        again = {row["cell"] for row in family if {row["cell"], row["rival"]} & {*looked}}
        pairs = {
            row["cell"]: (arms[row["cell"], row["at"]], arms[row.pop("rival"), row["at"]])
            for row in family
        }
        found = contrasts(pairs, difference, again)
        for row in family:
            row |= found[row["cell"]]
            shown = there(row["p_adjusted"]) and row["p_adjusted"] < LEVEL
            # folds and crossed seeds cannot be added like seeds
            if not shown and not row["n_folds"] and not row["design"]:
                own, reference = (arm.scores for arm in pairs[row["cell"]])
                row["more_seeds"] = stats.more_seeds_needed(
                    [own[seed] - reference[seed] for seed in own if seed in reference],
                    difference,
                    level=LEVEL / len(family),
                    assurance=ASSURANCE,
                )
    for rows in _by_subject(row for row in table if row["n"]):
        _all_at_once(rows, arms)
    for row in table:
        keep_in_range(row)
    frame = pd.DataFrame(table, columns=list(SUMMARY_COLUMNS))
    # as objects: whole numbers stay whole beside what is missing
    for column in (
        *("pairs", "n_units", "n_paired", "more_seeds", "n_folds"),
        *("failed_paired", "failed_baseline"),
    ):
        frame[column] = pd.Series([row[column] for row in table], dtype=object)
    return frame


def arm_runs(part: Sequence[Row]) -> ArmRuns:
    """Runs of one cell that have a score, for comparisons."""
    worst = [run["failure_score"] for run in part if there(run["failure_score"])]
    return ArmRuns(
        {run["streams"]: run["score"] for run in part},
        frozenset(run["streams"] for run in part if run["failed"]),
        float(worst[0]) if worst else None,
        _sizes(part),
        all(run[DIRECTION] for run in part),
    )


def _all_at_once(rows: Sequence[Row], arms: Mapping[tuple[str, str], ArmRuns]) -> None:
    """Give the arms of one task and model, in place, intervals of their means that hold for all of
    them (Bonferroni): whichever is chosen, its own is no narrower than that."""
    for row in rows:
        arm, level = arms[row["cell"], row["at"]], 1 - LEVEL / len(rows)
        over_folds = mean_over_folds(arm.scores, arm.sizes) if row["n_folds"] else None
        if over_folds is not None:
            row |= ends("ci_all", over_folds.interval(level))
            continue
        design = stats.design_of(list(arm.scores))
        row |= ends("ci_all", stats.mean_interval(list(arm.scores.values()), design, level))


def _by_subject(rows: Iterable[Row]) -> Iterable[list[Row]]:
    """Rows of one task and model, at one step, together."""
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[_subject(row)].append(row)
    return found.values()


def _summary_row(part: list[Row], first: Row, n_crashed: int) -> Row:
    n = len(part)
    n_diverged = sum(run["status"] == "diverged" for run in part)
    n_degenerate = sum(bool(run["degenerate"]) for run in part)
    failed = [bool(run["failed"]) for run in part]
    values = stats.summary([run["score"] for run in part], failed) if n else {}
    validation = [run["judged"] for run in part if there(run["judged"])]
    design = stats.design_of([run["streams"] for run in part])
    interval = stats.mean_interval([run["score"] for run in part], design)
    memory = [run["memory"] for run in part if there(run["memory"])]
    return {
        **dict.fromkeys(SUMMARY_COLUMNS),
        **{k: first[k] for k in ("cell", "task", "model", "technique", "arm", "config_diff")},
        "metric": first["metric"],
        DIRECTION: first[DIRECTION],
        "at": first["at"],
        "n": n,
        "n_degenerate": n_degenerate,
        "n_diverged": n_diverged,
        "n_crashed": n_crashed,
        "n_censored": sum(bool(run["censored"]) for run in part),
        "failed_share": stats.failed_share(n_degenerate, n_diverged, n),
        **ends("failed", stats.share_interval(failed, design)),
        **{k: values.get(k) for k in ("mean", "mean_without_failed", "std", "median", "iqm")},
        **{k: values.get(k) for k in ("min", "max")},
        **ends("ci", interval),
        "ci_method": None if interval is None else interval.method,
        "validation_mean": stats.mean(validation) if validation else None,
        "seconds_mean": stats.mean([run["seconds"] for run in part]) if n else None,
        "memory_mean": stats.mean(memory) if memory else None,
        "design": str(design) or None,
        **nested_columns({run["streams"]: run["score"] for run in part}, _sizes(part)),
    }


def _sizes(part: Sequence[Row]) -> tuple[int, int] | None:
    """Items that train and test, of a cross-validation the largest fold's test: the careful way."""
    train, test = ([run[k] for run in part if there(run[k])] for k in ("n_train", "n_test"))
    return (int(min(train)), int(max(test))) if train and test else None


class _Rivals:
    """The cell a row is compared with: same task, model and other settings, baseline technique."""

    def __init__(self, table: Iterable[Row], baseline: str, pairing: Pairing) -> None:
        self.baseline, self.pairing = baseline, pairing
        self.named: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        self.alike: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for row in table:
            if row["n"] and row["arm"] == baseline:
                self.named[_subject(row)].append(row)
            if row["n"] and row["technique"] == baseline:
                self.alike[*_subject(row), row["config_diff"]].append(row)

    def of(self, row: Row) -> Row | None:
        found = self._fitting(row, self.named[_subject(row)]) or self._fitting(
            row, self.alike[*_subject(row), row["config_diff"]]
        )
        return found[0] if len(found) == 1 and found[0]["cell"] != row["cell"] else None

    def reason(self, row: Row) -> str | None:
        """Why an arm without a rival has none, if its test items are the reason."""
        if row["technique"] == self.baseline or row["arm"] == self.baseline:
            return None
        rivals = self.named[_subject(row)] or [
            one for place, rows in self.alike.items() if place[:3] == _subject(row) for one in rows
        ]
        said = [self.pairing.mismatch(row["cell"], one["cell"]) for one in rivals]
        return said[0] if said and all(said) else None

    def _fitting(self, row: Row, rivals: Sequence[Row]) -> list[Row]:
        return [one for one in rivals if not self.pairing.mismatch(row["cell"], one["cell"])]


def _subject(row: Row) -> tuple[str, str, str]:
    return row["task"], row["model"], row["at"]
