"""What a person sees of results: the closing tables of a sweep, two stores side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bluestab.core.types import At
from bluestab.report.frames.looks import looking_of
from bluestab.report.section import Block, Results
from bluestab.report.sections import UPWARDS
from bluestab.report.tables import change_cells, dashes, interval, p_of, tests_of, there
from bluestab.report.terminal.tables import console, print_damaged, print_lines
from bluestab.report.words.caveats import mind
from bluestab.report.words.phrases import number
from bluestab.tasks.metric import metric_of_row

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.report.frames.compare import Comparison


def _whole(value: int | None) -> str:
    return "" if value is None or value != value else f"{value:,}"


def summary_table(summary: pd.DataFrame, at: At = "last") -> Table:
    """task, model, arm, n, failing, mean with its interval, std, change and ratio of std."""
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "model", "arm"):
        table.add_column(heading)
    for heading in ("n", "failed", "p", "crashed", "mean", "95 % interval", "not failed", "std"):
        table.add_column(heading, justify="right")
    for heading in ("pairs", "change", "p", "std ratio", "p", "more seeds"):
        table.add_column(heading, justify="right")
    previous = None
    for row in summary[summary["at"] == at].to_dict("records"):
        subject = (row["task"], row["model"])
        shown = ("", "") if subject == previous else subject
        previous = subject
        share = row["failed_share"]
        table.add_row(
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
        )
    return table


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
        out.print(summary_table(results.summary, results.at))
        out.print(_legend(results), markup=False, soft_wrap=True)
        for one in results.advice:
            out.print(one.sentence(), markup=False, soft_wrap=True)
        for section in UPWARDS:
            print_lines(out, section.sentences(results))
        for section in UPWARDS:
            _print_blocks(out, section.printed(results))
    for sentence in mind(results):
        out.print(f"mind: {sentence}", markup=False, soft_wrap=True)
    print_damaged(out, results.damaged)


def _legend(results: Results) -> str:
    """What the columns of the table are, and nothing that is not in it."""
    rows = results.summary[results.summary["at"] == results.at].to_dict("records")
    compared = [row for row in rows if there(row["baseline"])]
    said = [
        "std over seeds (ddof 1)",
        "failed: share of degenerate and diverged runs, which stay in the mean",
        "not failed: mean of the others",
    ]
    if compared:
        said += [
            f"change, std ratio, p: against arm {results.baseline} on shared seeds (pairs), over "
            "all arms of a task and model",
            *tests_of(compared),
        ]
    if any(there(row["more_seeds"]) for row in rows):
        said.append(
            f"more seeds: to find a change of {results.difference:g} with a power of 80 %, for "
            "all arms at once, even if the spread is larger than it looks; none where an arm is "
            "shown to differ already"
        )
    return "; ".join([*said, *dashes(rows)])


def _print_blocks(out: Console, blocks: Sequence[Block]) -> None:
    for block in blocks:
        if isinstance(block, str):
            print_lines(out, [block])
            continue
        table = Table(box=None, pad_edge=False)
        for place, heading in enumerate(block.headings):
            table.add_column(heading, justify="left" if place < block.n_words else "right")
        for row in block.rows:
            table.add_row(*row)
        out.print(table)


def print_comparison(found: Comparison) -> None:
    """B against A, one row per pair of cells, and what is only on one side."""
    from bluestab.report.frames.compare import mention

    out = console()
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "model", "arm"):
        table.add_column(heading)
    for heading in ("n A", "n B", "mean A", "mean B", "std A", "std B"):
        table.add_column(heading, justify="right")
    for heading in ("pairs", "change", "p", "std ratio", "p", "same runs"):
        table.add_column(heading, justify="right")
    rows = found.table.to_dict("records")
    for row in rows:
        same = f"{row['n_same_score']} of {row['n_same_run']} equal" if row["n_same_run"] else ""
        table.add_row(
            *(str(row[k]) for k in ("task", "model", "arm", "n_a", "n_b")),
            *(number(row[k]) for k in ("mean_a", "mean_b", "std_a", "std_b")),
            *change_cells({**row, "baseline": "A"}),
            same,
        )
    if rows:
        out.print(f"test score at the {rows[0]['at']} step, B against A on shared seeds")
        out.print(table)
        corrected = f"corrected by Holm over these {len(rows)} pairs"
        out.print("; ".join([*tests_of(rows), corrected, *dashes(rows)]), soft_wrap=True)
    for sentence in [*filter(None, map(mention, rows)), *found.alone]:
        out.print(sentence, markup=False, soft_wrap=True)
