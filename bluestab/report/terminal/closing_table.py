"""What a person sees of results: the closing tables of a sweep, two stores side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from bluestab.core.types import At
from bluestab.report.frames.looks import looking_of
from bluestab.report.section import Block, Results
from bluestab.report.sections import UPWARDS
from bluestab.report.tables import LEVEL, change_cells, dashes, interval, p_of, tests_of, there
from bluestab.report.terminal.fitted import Column, print_fitted
from bluestab.report.terminal.tables import console, print_damaged, print_lines
from bluestab.report.words.caveats import mind
from bluestab.report.words.phrases import number
from bluestab.tasks.metric import metric_of_row

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.report.frames.compare import Comparison


def _whole(value: int | None) -> str:
    return "" if value is None or value != value else f"{value:,}"


SUMMARY = (
    Column("task", words=True),
    Column("model", words=True),
    Column("arm", words=True),
    Column("n"),
    Column("failed"),
    Column("p", 8, called="p of failing"),
    Column("crashed", 1),
    Column("mean"),
    Column("95 % interval", 2),
    Column("not failed", 9),
    Column("std"),
    Column("pairs", 5),
    Column("change"),
    Column("p", 4, called="p of the change"),
    Column("std ratio", 3),
    Column("p", 7, called="p of the ratio"),
    Column("more seeds", 6),
)
"""Of the closing table; without room the highest rank leaves first."""


def print_summary(out: Console, summary: pd.DataFrame, at: At = "last") -> list[str]:
    """Arms as rows, with mean, spread and change; what is returned had no room."""
    rows: list[list[str]] = []
    previous = None
    for row in summary[summary["at"] == at].to_dict("records"):
        subject = (row["task"], row["model"])
        shown = ("", "") if subject == previous else subject
        previous = subject
        share = row["failed_share"]
        rows.append(
            [
                *shown,
                row["arm"],
                str(row["n"]),
                "-" if share is None or share != share else f"{share:.0%}",
                p_of(row, "p_failed_adjusted"),
                str(row["n_crashed"] or ""),
                number(row["mean"]),
                interval(row["ci_low"], row["ci_high"]),
                *(number(row[k]) for k in ("mean_without_failed", "std")),
                *change_cells(row),
                _whole(row["more_seeds"]),
            ]
        )
    return print_fitted(out, SUMMARY, rows, subject=2)


def print_outcome(results: Results) -> None:
    """The closing table of a sweep, and what to mind about it."""
    out = console()
    runs = results.runs
    if runs.empty:
        out.print("no finished runs yet")
    else:
        metrics = {row["task"]: metric_of_row(row) for row in runs.to_dict("records")}
        said = ", ".join(
            f"{task}: {metric.name}{'' if metric.higher_is_better else ', lower is better'}"
            for task, metric in metrics.items()
        )
        print_lines(out, looking_of(results))
        out.print(f"\ntest score at the {results.at} step ({said})")
        left_out = print_summary(out, results.summary, results.at)
        out.print(_legend(results, left_out), markup=False, soft_wrap=True)
        for one in results.advice:
            out.print(one.sentence(), markup=False, soft_wrap=True)
        for section in UPWARDS:
            print_lines(out, section.sentences(results))
        for section in UPWARDS:
            _print_blocks(out, section.printed(results))
    for sentence in mind(results):
        out.print(f"mind: {sentence}", markup=False, soft_wrap=True)
    print_damaged(out, results.damaged)


def _legend(results: Results, left_out: Sequence[str]) -> str:
    """What the columns of the table are, and nothing that is not in it."""
    rows = results.summary[results.summary["at"] == results.at].to_dict("records")
    compared = [row for row in rows if there(row["baseline"])]
    tests_without_room = {*left_out} - {"p of the change"}  # that one makes the stars
    said = [
        "std over seeds (ddof 1)",
        "failed: share of degenerate and diverged runs, which stay in the mean",
    ]
    if "not failed" not in left_out:
        said.append("not failed: mean of the others")
    if compared:
        said += [
            f"change, std ratio, p: against arm {results.baseline} on shared seeds (pairs), over "
            f"all arms of a task and model; * where p < {LEVEL:g}",
            *(t for t in tests_of(compared) if t.partition(":")[0] not in tests_without_room),
        ]
    if "more seeds" not in left_out and any(there(row["more_seeds"]) for row in rows):
        said.append(
            f"more seeds: to find a change of {results.difference:g} with a power of 80 %, for "
            "all arms at once, even if the spread is larger than it looks; none where an arm is "
            "shown to differ already"
        )
    said += dashes(rows)
    if left_out:
        said.append(
            f"no room here for {', '.join(left_out)}: a wider window, or summary.csv, has them"
        )
    return "; ".join(said)


def _print_blocks(out: Console, blocks: Sequence[Block]) -> None:
    for block in blocks:
        if isinstance(block, str):
            print_lines(out, [block])
            continue
        columns = [Column(h, words=i < block.n_words) for i, h in enumerate(block.headings)]
        print_fitted(out, columns, block.rows, subject=max(0, block.n_words - 1))


COMPARED = (
    Column("task", words=True),
    Column("model", words=True),
    Column("arm", words=True),
    Column("n A", 5),
    Column("n B", 6),
    Column("mean A"),
    Column("mean B"),
    Column("std A"),
    Column("std B"),
    Column("pairs", 4),
    Column("change"),
    Column("p", 3, called="p of the change"),
    Column("std ratio", 2),
    Column("p", 7, called="p of the ratio"),
    Column("same runs", 8),
)
"""Of two stores side by side; without room the highest rank leaves first."""


def print_comparison(found: Comparison) -> None:
    """B against A, one row per pair of cells, and what is only on one side."""
    from bluestab.report.frames.compare import mention

    out = console()
    rows = found.table.to_dict("records")
    cells = []
    for row in rows:
        same = f"{row['n_same_score']} of {row['n_same_run']} equal" if row["n_same_run"] else ""
        cells.append(
            [
                *(str(row[k]) for k in ("task", "model", "arm", "n_a", "n_b")),
                *(number(row[k]) for k in ("mean_a", "mean_b", "std_a", "std_b")),
                *change_cells({**row, "baseline": "A"}),
                same,
            ]
        )
    if rows:
        out.print(f"test score at the {rows[0]['at']} step, B against A on shared seeds")
        left_out = print_fitted(out, COMPARED, cells, subject=2)
        said = [*tests_of(rows), f"corrected by Holm over these {len(rows)} pairs", *dashes(rows)]
        if left_out:
            said.append(f"no room here for {', '.join(left_out)}: a wider window, or --out FILE")
        out.print("; ".join(said), markup=False, soft_wrap=True)
    for sentence in [*filter(None, map(mention, rows)), *found.alone]:
        out.print(sentence, markup=False, soft_wrap=True)
