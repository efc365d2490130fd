"""What a command would run, and what it will cost, as tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from bluestab.core.printable import counted
from bluestab.report.frames.arms import arm_names, with_stages, with_vocabularies
from bluestab.report.terminal.fitted import Column, print_fitted
from bluestab.report.terminal.tables import console, print_lines, seconds, size
from bluestab.report.words.phrases import number
from bluestab.store.store import Store
from bluestab.sweeps.sequences import tasks_before
from bluestab.training.loop.memory import COUNTED
from bluestab.training.recording import run_names

if TYPE_CHECKING:
    from bluestab.sweeps.forecast import Cost, Forecast
    from bluestab.tasks.data import TaskData
    from bluestab.training.check import Run


PLAN = (
    Column("task", words=True),
    Column("model", words=True),
    Column("arm", words=True),
    Column("runs"),
    Column("done"),
    Column("train", 3, called="training items"),
    Column("validation", 1, called="validation items"),
    Column("test", 2, called="test items"),
    Column("per run"),
    Column("known from", 4, words=True),
)
DATA = (
    Column("task", words=True),
    Column("metric", words=True),
    Column("failed up to"),
    Column("constant answer"),
    Column("which answer", words=True),
    Column("training items recur in", words=True),
)


def print_plan(
    store: Store,
    runs: Sequence[Run],
    costs: Mapping[str, Cost],
    outlook: Forecast,
    gaps: Sequence[str] = (),
    notes: Sequence[str] = (),
    *,
    missing: bool = False,
) -> None:
    """What a command would run, and what it will cost.

    costs    cell -> cost of one of its runs, as far as known; gaps: why others are not
    notes    sentences about what the models will not read
    missing  something that runs need is not here, which is said elsewhere
    """
    out = console()
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    print_fitted(out, PLAN, list(_cells(store, cells, costs)), subject=2)
    corpora = {(r.data.task.name, *r.data.fingerprint.values()): r.data for r in runs}
    print_fitted(out, DATA, [_data_row(data) for data in corpora.values()])
    print_lines(out, (f"  {note}" for note in notes))
    done = sum(store.has(run.key) for run in runs)
    well = "" if missing else "all is well, "
    out.print(
        f"{counted(len(runs), 'run')} in {counted(len(cells), 'cell')}, {done} done; "
        f"{well}nothing was started",
        soft_wrap=True,
    )
    if outlook.runs:
        _print_forecast(out, outlook, {cost.device for cost in costs.values()})
    print_lines(out, (f"  no forecast: {gap}" for gap in gaps))


def _cells(
    store: Store, cells: Mapping[str, Sequence[Run]], costs: Mapping[str, Cost]
) -> Iterator[list[str]]:
    """A row for each cell, called as the report will call it."""
    said = {cell: run_names(members[0]) for cell, members in cells.items()}
    words = {c: (n["model"], n["vocabulary"]) for c, n in said.items() if "vocabulary" in n}
    hashed = with_vocabularies({cell: of[0].hashed for cell, of in cells.items()}, words)
    about = {cell: (names["task"], names["model"]) for cell, names in said.items()}
    before = tasks_before([run for members in cells.values() for run in members])
    names = arm_names(with_stages(hashed, before), about)
    previous = None
    for cell, members in cells.items():
        first, cost = members[0], costs.get(cell)
        items = first.data.select(first.seeds)
        done = sum(store.has(run.key) for run in members)
        yield [
            *(("", "") if about[cell] == previous else about[cell]),
            names[cell][0],
            str(len(members)),
            str(done),
            *(str(len(items[split])) for split in ("train", "validation", "test")),
            seconds(cost.seconds) if cost else "?" if done < len(members) else "",
            _known_from(cost) if cost else "",
        ]
        previous = about[cell]


def _data_row(data: TaskData) -> list[str]:
    """What a corpus is like, whatever model reads it: see `TaskData.recurring`, `.baseline`."""
    answer, score = data.baseline or ("", None)
    shared = [f"{n} of {len(data.splits[s])} {s}" for s, n in data.recurring.items() if n]
    return [
        data.task.name,
        data.task.metric,
        ("" if data.task.headline.higher_is_better else "from ") + f"{data.task.failed_below:g}",
        number(score),
        answer,
        ", ".join(shared) or "none",
    ]


def _known_from(cost: Cost) -> str:
    if not cost.runs:
        return "a dry step" if cost.source == "dry step" else "a like dry step"
    runs = counted(cost.runs, "run")
    return runs + ("" if cost.source == "same cell" else f", {cost.source}")


def _print_forecast(out: Console, outlook: Forecast, devices: set[str]) -> None:
    if outlook.seconds is None:
        return
    known = f"{outlook.runs - outlook.unknown} of " if outlook.unknown else ""
    about = f"{known}{counted(outlook.runs, 'run')} to do"
    workers = "one worker" if outlook.workers == 1 else f"{outlook.workers} workers"
    kinds = {"process": "memory", "gpu": "GPU memory"}
    peaks = [
        f"{name} up to {size(outlook.memory_mb[kind] * 2**20)}"
        for kind, name in kinds.items()
        if kind in outlook.memory_mb
    ]
    out.print(
        f"forecast for the {about}, on {workers} ({', '.join(sorted(devices - {''}))}): "
        f"{seconds(outlook.seconds)}; per run: {', '.join(peaks) or 'memory not known'}; "
        f"disk: {size(outlook.disk)} in all",
        markup=False,
        soft_wrap=True,
    )
    held = {
        kind.removeprefix(COUNTED): size(mb * 2**20)
        for kind, mb in outlook.memory_mb.items()
        if kind.startswith(COUNTED)
    }
    if held:
        out.print(
            f"counted, a step of training holds up to {held['total']}: weights up to "
            f"{held['weights']}, gradients {held['gradients']}, "
            f"moments {held['moments']}, saved activations {held['saved']}",
            markup=False,
            soft_wrap=True,
        )
