"""What a person sees in the terminal: verdicts, tables, the state of a sweep."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bluestab import blurb
from bluestab.audit import lost_note
from bluestab.index import Contents, contents
from bluestab.report.flags import flags
from bluestab.report.tables import change_cells, interval
from bluestab.representations import FILE as REPRESENTATIONS
from bluestab.store import Store
from bluestab.types import At, RunRecord
from bluestab.upkeep.disk import Usage, usage

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.checks import CheckedRun
    from bluestab.data import TaskData
    from bluestab.forecast import Cost, Forecast
    from bluestab.report.compare import Comparison
    from bluestab.report.frame import Results
    from bluestab.report.instability_frame import Instability


SHOWN = 20
"""Damaged records that are named one by one; `bluestab store verify` names all."""


def console() -> Console:
    """Standard output; wide enough for whole rows where it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def seconds(value: float) -> str:
    """85 -> 1:25; 4000 -> 1:06:40."""
    hours, rest = divmod(round(value), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def size(n_bytes: float) -> str:
    """850 -> 850 B; 1234567 -> 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def describe(run: CheckedRun) -> str:
    technique = "+".join(run.techniques) or "none"
    return f"{run.data.task.name} {run.model.name} {technique} seed {run.cfg['seed']}"


def reason(record: RunRecord) -> str:
    """Why a run crashed: the type of the error and the first line of what it says, if anything."""
    error = record.result["error"]
    return ": ".join([error["type"], *error["message"].splitlines()[:1]])


def verdict(record: RunRecord) -> str:
    """One phrase: the test score at the last step, or what went wrong."""
    result = record.result
    if record.status == "crashed":
        return f"crashed, {reason(record)}"
    if record.status == "diverged":
        return f"diverged, {result['error']['message']}"
    value = result["metrics"]["last"]["test"][result["metric"]]
    said = "undefined" if value is None else f"{value:.4f}"
    return f"{result['metric']} {said}" + (" (failed: degenerate)" if record.failed else "")


def print_record(record: RunRecord, folder: str) -> None:
    """The scores of one run as a table, and where the rest is."""
    out = console()
    result = record.result
    if result["metrics"] is not None:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "validation last", "test last", "validation best", "test best"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name in result["metrics"]["last"]["test"]:
            cells = [
                _number(result["metrics"][at][split][name])
                for at in ("last", "best")
                for split in ("validation", "test")
            ]
            table.add_row(name, *cells)
        out.print(table)
    if source := record.measured["names"].get("init_from"):
        out.print(f"encoder from the {source['at']} weights of {source['task']} {source['run']}")
    lost = result.get("lost")
    if lost and (note := lost_note(lost, lost["unit"])):
        out.print(note, markup=False, soft_wrap=True)
    out.print(f"{verdict(record)}; everything about this run: {folder}", markup=False)


def _whole(value: int | None) -> str:
    return "" if value is None or value != value else f"{value:,}"


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"


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
            _number(row["mean"]),
            interval(row["ci_low"], row["ci_high"]),
            *(_number(row[k]) for k in ("std", "min", "max")),
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
            *(_number(row[k]) for k in (*blurb.GROUPS, "blurb", "std")),
            *(str(row[k]) for k in ("n_shared", "n_min")),
            _number(rows[model, arm, "best"]["blurb"]),
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
        metrics = dict(zip(runs["task"], runs["metric"], strict=True))
        said = ", ".join(f"{task}: {metric}" for task, metric in metrics.items())
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
    _print_damaged(out, results.damaged)


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
            *(_number(row[k]) for k in ("mean_a", "mean_b", "std_a", "std_b")),
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
        numbers = (_number(row[column]) for column in shown)
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
    for sentence in found.left_out[:SHOWN]:
        out.print(f"  not compared: {sentence}", markup=False, soft_wrap=True)
    if len(found.left_out) > SHOWN:
        out.print(f"  and {len(found.left_out) - SHOWN} more")


def _print_damaged(out: Console, damaged: Mapping[str, str]) -> None:
    """Runs that are in no number, each with its file."""
    if damaged:
        out.print(f"  {len(damaged)} damaged records, which are in no number here:")
    for sentence in list(damaged.values())[:SHOWN]:
        out.print(f"  damaged: {sentence}", markup=False, soft_wrap=True)
    if len(damaged) > SHOWN:
        out.print(f"  and {len(damaged) - SHOWN} more")


def counts(found: Contents, manifest: Mapping[str, Any]) -> Counter[str]:
    """How many runs of a sweep are done, diverged, crashed, damaged, running, missing."""
    running = found.store.running()
    return Counter(_state(found, run["key"], running) for run in manifest["runs"])


def _state(found: Contents, key: str, running: Container[str]) -> str:
    """A crashed run that is being tried again is running."""
    if key in found.damaged:
        return "damaged"
    status = found.statuses.get(key, "missing")
    return "running" if status in ("missing", "crashed") and key in running else status


def print_status(store: Store, manifest: Mapping[str, Any]) -> None:
    """Counts of the sweep, every crash with its first line, damaged records, disk in use."""
    out = console()
    found = contents(store, [run["key"] for run in manifest["runs"]])
    n = counts(found, manifest)
    out.print(f"{manifest['name']}: {len(manifest['runs'])} runs in {store.root}", markup=False)
    order = ("done", "diverged", "running", "crashed", "missing")
    shown = [*order, *(["damaged"] if n["damaged"] else [])]
    out.print("  " + ", ".join(f"{n[status]} {status}" for status in shown))
    for run in manifest["runs"]:
        if found.statuses.get(run["key"]) == "crashed":
            out.print(
                f"  crashed: {' '.join(run['overrides'])}\n    {reason(found.record(run['key']))}",
                markup=False,
                soft_wrap=True,
            )
    _print_damaged(out, found.damaged)
    out.print(f"  on disk: {_usage(usage(store.root))}", markup=False)
    if n["missing"] or n["crashed"] or n["damaged"]:
        out.print(f"  to go on: {manifest['command']}", markup=False, soft_wrap=True)


def _usage(used: Usage) -> str:
    parts = {
        "checkpoint/": used.checkpoints,
        REPRESENTATIONS: used.representations,
        ".resume/": used.resume,
    }
    named = [f"{size(n_bytes)} in {name}" for name, n_bytes in parts.items() if n_bytes]
    return size(used.total) + (f", of these {' and '.join(named)}" if named else "")


def print_plan(
    store: Store,
    runs: Sequence[CheckedRun],
    costs: Mapping[str, Cost],
    outlook: Forecast,
    gaps: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """What a command would run, and what it will cost.

    costs  cell -> cost of one of its runs, as far as known; gaps: why others are not
    notes  sentences about what the models will not read
    """
    out = console()
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "model", "technique"):
        table.add_column(heading)
    for heading in ("runs", "done", "train", "validation", "test", "per run"):
        table.add_column(heading, justify="right")
    table.add_column("known from")
    cells: dict[str, list[CheckedRun]] = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    for cell, members in cells.items():
        first, cost = members[0], costs.get(cell)
        items = first.data.select(first.seeds)
        done = sum(store.has(run.key) for run in members)
        table.add_row(
            first.data.task.name,
            first.model.name,
            "+".join(first.techniques) or "none",
            str(len(members)),
            str(done),
            *(str(len(items[split])) for split in ("train", "validation", "test")),
            seconds(cost.seconds) if cost else "?" if done < len(members) else "",
            _known_from(cost) if cost else "",
        )
    out.print(table)
    out.print(_data_table(list({run.data.task.name: run.data for run in runs}.values())))
    for note in notes:
        out.print(f"  {note}", markup=False, soft_wrap=True)
    done = sum(store.has(run.key) for run in runs)
    out.print(
        f"{len(runs)} runs in {len(cells)} cells, {done} done; all is well, nothing was started"
    )
    if outlook.runs:
        _print_forecast(out, outlook, {cost.device for cost in costs.values()})
    for gap in gaps:
        out.print(f"  no forecast: {gap}", markup=False, soft_wrap=True)


def _data_table(corpora: Sequence[TaskData]) -> Table:
    """What the data are like, whatever model reads them: see `TaskData.recurring`, `.baseline`."""
    table = Table(box=None, pad_edge=False)
    table.add_column("task")
    table.add_column("metric")
    for heading in ("failed up to", "constant answer"):
        table.add_column(heading, justify="right")
    table.add_column("")
    table.add_column("training items recur in")
    for data in corpora:
        answer, score = data.baseline or ("", None)
        shared = [f"{n} of {len(data.splits[s])} {s}" for s, n in data.recurring.items() if n]
        table.add_row(
            data.task.name,
            data.task.metric,
            f"{data.task.failed_below:g}",
            _number(score),
            answer,
            ", ".join(shared) or "none",
        )
    return table


def _known_from(cost: Cost) -> str:
    if not cost.runs:
        return "a dry step" if cost.source == "dry step" else "a like dry step"
    runs = f"{cost.runs} run" + ("s" if cost.runs > 1 else "")
    return runs + ("" if cost.source == "same cell" else f", {cost.source}")


def _print_forecast(out: Console, outlook: Forecast, devices: set[str]) -> None:
    if outlook.seconds is None:
        return
    known = f"{outlook.runs - outlook.unknown} of " if outlook.unknown else ""
    about = f"{known}{outlook.runs} {'run' if outlook.runs == 1 else 'runs'} to do"
    workers = "one worker" if outlook.workers == 1 else f"{outlook.workers} workers"
    kinds = {"process": "memory", "gpu": "GPU memory"}
    peaks = [f"{kinds.get(k, k)} up to {size(mb * 2**20)}" for k, mb in outlook.memory_mb.items()]
    out.print(
        f"forecast for the {about}, on {workers} ({', '.join(sorted(devices - {''}))}): "
        f"{seconds(outlook.seconds)}; per run: {', '.join(peaks) or 'memory not known'}; "
        f"disk: {size(outlook.disk)} in all",
        markup=False,
        soft_wrap=True,
    )
