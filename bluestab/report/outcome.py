"""What a person sees of results: the closing tables of a sweep, two stores side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bluestab import blurb
from bluestab.report.flags import flags
from bluestab.report.tables import change_cells, interval
from bluestab.report.terminal import console, number, print_damaged, print_first
from bluestab.tasks.metric import metric_of_row
from bluestab.types import At

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.report.compare import Comparison
    from bluestab.report.instability_frame import Instability
    from bluestab.report.results import Results


def _whole(value: int | None) -> str:
    return "" if value is None or value != value else f"{value:,}"


def summary_table(summary: pd.DataFrame, at: At = "last") -> Table:
    """task, model, arm, n, mean with its interval, std, failed share, change and ratio of std."""
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "model", "arm"):
        table.add_column(heading)
    for heading in ("n", "mean", "95 % interval", "std", "min", "max", "failed", "crashed"):
        table.add_column(heading, justify="right")
    for heading in ("change", "p", "std ratio", "p", "more seeds"):
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
            number(row["mean"]),
            interval(row["ci_low"], row["ci_high"]),
            *(number(row[k]) for k in ("std", "min", "max")),
            "-" if share is None or share != share else f"{share:.0%}",
            str(row["n_crashed"] or ""),
            *change_cells(row),
            _whole(row["more_seeds"]),
        )
    return table


def blurb_table(frame: pd.DataFrame) -> Table:
    """model, arm, mean of each task type, BLURB score, std, seeds at the last step; best beside."""
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "arm"):
        table.add_column(heading)
    for heading in (*blurb.GROUPS, "BLURB", "std", "shared", "n", "best"):
        table.add_column(heading, justify="right")
    rows = {(row["model"], row["arm"], row["at"]): row for row in frame.to_dict("records")}
    previous = None
    for (model, arm, at), row in rows.items():
        if at != "last":
            continue
        table.add_row(
            "" if model == previous else model,
            arm,
            *(number(row[k]) for k in (*blurb.GROUPS, "blurb", "std")),
            *(str(row[k]) for k in ("n_shared", "n_min")),
            number(rows[model, arm, "best"]["blurb"]),
        )
        previous = model
    return table


def print_outcome(results: Results) -> None:
    """The closing table of a sweep, and what to mind about it."""
    from bluestab.report.published_frame import published_sentences

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
        out.print(f"\ntest score at the {results.at} step ({said})")
        out.print(summary_table(results.summary, results.at))
        out.print(
            "std over seeds (ddof 1); failed: share of degenerate and diverged runs, which stay in "
            f"the mean; change, std ratio: against arm {results.baseline} on shared seeds; p: "
            "exact permutation, corrected by Holm over the arms of a task and model, - where so "
            "few seeds cannot reach 0.05; more seeds: to find a change of "
            f"{results.difference:g} with a power of 80 %",
            soft_wrap=True,
        )
        for one in results.advice:
            out.print(one.sentence(), markup=False, soft_wrap=True)
        for sentence in published_sentences(results.published):
            out.print(sentence, markup=False, soft_wrap=True)
        _print_blurb(out, results.blurb)
        _print_instability(out, results.instability)
    for sentence in flags(runs):
        out.print(f"mind: {sentence}", markup=False, soft_wrap=True)
    print_damaged(out, results.damaged)


def print_comparison(found: Comparison) -> None:
    """B against A, one row per pair of cells, and what is only on one side."""
    from bluestab.report.compare import mention

    out = console()
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "model", "arm"):
        table.add_column(heading)
    for heading in ("n A", "n B", "mean A", "mean B", "std A", "std B", "paired"):
        table.add_column(heading, justify="right")
    for heading in ("change", "p", "std ratio", "p", "same runs"):
        table.add_column(heading, justify="right")
    rows = found.table.to_dict("records")
    for row in rows:
        same = f"{row['n_same_score']} of {row['n_same_run']} equal" if row["n_same_run"] else ""
        table.add_row(
            *(str(row[k]) for k in ("task", "model", "arm", "n_a", "n_b")),
            *(number(row[k]) for k in ("mean_a", "mean_b", "std_a", "std_b")),
            str(row["n_paired"]),
            *change_cells({**row, "baseline": "A"}),
            same,
        )
    if rows:
        out.print(f"test score at the {rows[0]['at']} step, B against A on shared seeds")
        out.print(table)
        out.print(f"p: exact permutation, corrected by Holm over these {len(rows)} pairs")
    for sentence in [*filter(None, map(mention, rows)), *found.alone]:
        out.print(sentence, markup=False, soft_wrap=True)


def _print_blurb(out: Console, frame: pd.DataFrame) -> None:
    """The BLURB scores, or what they lack; nothing where there are few of its tasks."""
    from bluestab.report.blurb_frame import notes

    if frame.empty:
        return
    out.print("\nBLURB: mean of the means of its six task types, at the last step")
    out.print(blurb_table(frame))
    if frame["blurb"].notna().any():
        out.print(
            "std over the scores of the seeds that all 13 tasks share; n: fewest seeds of a task; "
            "best: BLURB at the step that is best on validation"
        )
    for sentence in notes(frame):
        out.print(f"  {sentence}", markup=False, soft_wrap=True)


def instability_table(frame: pd.DataFrame) -> Table | None:
    """task, model, arm, n, and every measure that a cell has, at the last step; None if none."""
    from bluestab.report.instability_frame import MEASURES

    rows = frame[(frame["at"] == "last") & (frame["n"] >= 2)]
    shown = [column for column in MEASURES if rows[column].notna().any()]
    if not shown:
        return None
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "model", "arm"):
        table.add_column(heading)
    for heading in ("n", *(MEASURE_NAMES[column] for column in shown)):
        table.add_column(heading, justify="right")
    previous = None
    for row in rows.to_dict("records"):
        subject = (row["task"], row["model"])
        where = ("", "") if subject == previous else subject
        previous = subject
        numbers = (number(row[column]) for column in shown)
        table.add_row(*where, row["arm"], str(row["n"]), *numbers)
    return table


MEASURE_NAMES = {
    "i_pwd": "pairwise",
    "i_kappa": "1-kappa",
    "i_jsd": "JSD",
    "i_difference": "difference",
    "i_discordance": "1-concordance",
    "i_entity": "1-entity F1",
    "i_cka": "1-CKA",
    "i_op": "Procrustes",
}


def _print_instability(out: Console, found: Instability) -> None:
    """How far seeds come apart in what they predict; nothing where no cell has two of them."""
    if (table := instability_table(found.frame)) is not None:
        out.print("\nhow far seeds come apart on the test items, at the last step (0: not at all)")
        out.print(table)
    print_first(out, "not compared", found.left_out)
