"""What a command would run, and what it will cost, as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bluestab.report.terminal.tables import console, seconds, size
from bluestab.report.words.phrases import number
from bluestab.store.store import Store

if TYPE_CHECKING:
    from bluestab.sweeps.forecast import Cost, Forecast
    from bluestab.tasks.data import TaskData
    from bluestab.training.check import Run


def print_plan(
    store: Store,
    runs: Sequence[Run],
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
    cells: dict[str, list[Run]] = {}
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
    corpora = {(r.data.task.name, *r.data.fingerprint.values()): r.data for r in runs}
    out.print(_data_table(list(corpora.values())))
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
            ("" if data.task.headline.higher_is_better else "from ")
            + f"{data.task.failed_below:g}",
            number(score),
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
