"""`bluestab watch`: how a sweep looks in a terminal and in a pipe, in any shell."""

from __future__ import annotations

import io
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bluestab.core.printable import printable
from bluestab.report.terminal import progress
from bluestab.report.terminal import watch as live
from bluestab.report.terminal.sweep_view import SweepView
from bluestab.report.terminal.watch import drawn, plain, shortened, watch
from bluestab.store.store import Store
from tests.support.sweep_by_hand import Fake, Terminal, cell, counts, key, text_of

# --- how it looks -----------------------------------------------------------------------------


def test_a_line_for_each_running_run(fake: Callable[[int], Fake]) -> None:
    sweep = fake(5)
    sweep.end(0)
    with (
        sweep.at_work(
            1, step=30, total=120, epoch_steps=8, loss=0.4123, score=0.5, started=time.time() - 63
        ),
        sweep.at_work(2, step=1, total=120, loss=0.7, score=None),
        sweep.at_work(3),
    ):
        said = text_of(drawn(sweep.view(), "mine", 2, width=80, height=24, note="stopping: soon"))
    lines = [line.rstrip() for line in said.splitlines()]
    assert lines[0].startswith("mine ")
    assert lines[0].endswith(" left")
    assert lines[1] == "1 of 5 done, 0 failed, 0 crashed, 3 running, 1 left"
    assert re.fullmatch(r"gad tiny llrd seed 1 \S{10} +4 +30/120 0\.412 +0\.500 1:0\d", lines[3])
    assert re.fullmatch(r"gad tiny llrd seed 2 \S{10} +1/120 0\.700 +undefined 0:0\d", lines[4])
    assert re.fullmatch(r"gad tiny llrd seed 3 \S{10} +starting +0:0\d", lines[5])
    assert lines[-1] == "stopping: soon"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("height", [3, 24, 60])
def test_it_fits(fake: Callable[[int], Fake], width: int, height: int) -> None:
    sweep = fake(40)
    with ExitStack() as stack:
        for i in range(30):
            label = f"ncbi_disease biomedbert_base freeze+llrd+reinit seed {i}"
            stack.enter_context(sweep.at_work(i, label, step=i, total=2000, loss=0.1, score=0.2))
        view = sweep.view()
        said = text_of(drawn(view, "mine", 2, width=width, height=height), width)
    assert all(len(line) <= width for line in said.splitlines())
    if width == 80 and height == 60:
        lines = said.splitlines()
        assert len(lines) == 3 + 19 + 1
        assert "freeze+llrd+reinit seed 0" in lines[3]  # the end of a label is kept
        assert lines[-1].strip() == "and 11 more"


def test_labels_are_text_and_nothing_else(fake: Callable[[int], Fake]) -> None:
    sweep = fake(3)
    nasty = "[bold red]x[/bold red] \x1b[2J\x1b]0;title\x07 :smile:"
    with (
        sweep.at_work(0, nasty, host="\x1b[31m", step="\x1b[1m", total=[1], loss=True),
        sweep.at_work(1, "y", started="yesterday", step=1e300, total=float("nan")),
        sweep.at_work(2, "z", machine="x", host="[/]"),
    ):
        view = sweep.view()
        assert len(view.running) == 3
        out = Console(width=120, file=io.StringIO(), force_terminal=True, color_system=None)
        out.print(drawn(view, "[/]mine\x1b[0m", 1, width=120, height=24, note=nasty))
    said = out.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in said
    assert "[bold red]x[/bold red] ?[2J?]0;title? :smile:" in said
    assert "[/]mine" in said
    assert printable("a\nb\r\x9bc") == "a?b??c"
    assert shortened("abcdef", 4) == "…def"


def test_no_runs_and_very_many(fake: Callable[[int], Fake], tmp_path: Path) -> None:
    nothing = SweepView(Store(tmp_path / "none"), [])
    assert nothing.complete
    assert "0 of 0 done" in text_of(drawn(nothing, "mine", 1, width=80, height=24))
    sweep = fake(2000)
    for i in range(3):
        sweep.end(i)
    view = sweep.view()
    begun = time.process_time()  # whatever else this machine does meanwhile
    view.refresh()
    left = view.seconds_left(4)
    assert time.process_time() - begun < 0.5
    assert left == pytest.approx(1997 * 40 / 4)
    assert "3 of 2000 done" in plain(view, "mine", 4)


# --- in another shell -------------------------------------------------------------------------


def piped(store: Store, seconds: float = 0.05) -> Sequence[str]:
    file = io.StringIO()
    watch(store, "mine", seconds, Console(file=file, width=160))
    return file.getvalue().splitlines()


def test_watch_in_a_pipe_says_what_changes(
    fake: Callable[[int], Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, looks = fake(2), 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks in (3, 5):
            sweep.end(looks // 4)

    monkeypatch.setattr(live.time, "sleep", sleep)
    assert piped(sweep.store) == [
        "mine: 0 of 2 done, 0 failed, 0 crashed, 0 running, 2 left",
        "mine: 1 of 2 done, 0 failed, 0 crashed, 0 running, 1 left",
        "mine: 2 of 2 done, 0 failed, 0 crashed, 0 running, 0 left",
    ]
    assert looks == 5


def test_watch_says_how_an_interrupted_sweep_goes_on_and_notices_that_it_does(
    fake: Callable[[int], Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, looks = fake(1), 0
    os.utime(sweep.store.manifests()["mine"], (1, 1))

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            sweep.runs.append({"key": key(1), "cell": cell(1), "overrides": []})
            sweep.start()
        if looks == 3:
            sweep.end(0)
            sweep.end(1)

    monkeypatch.setattr(live.time, "sleep", sleep)
    assert piped(sweep.store) == [
        "mine: 0 of 1 done, 0 failed, 0 crashed, 0 running, 1 left",
        "  stands still: nobody works on what is left; to go on: bluestab run -m task=gad",
        "mine: 0 of 2 done, 0 failed, 0 crashed, 0 running, 2 left",
        "mine: 2 of 2 done, 0 failed, 0 crashed, 0 running, 0 left",
    ]


def test_watch_of_a_store_that_cannot_be_written(fake: Callable[[int], Fake]) -> None:
    sweep = fake(1)
    sweep.end(0, degenerate={"last": True})
    before = sorted(sweep.store.root.rglob("*"))
    folders = [f for f in (sweep.store.root, *before) if f.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert piped(sweep.store) == ["mine: 1 of 1 done, 1 failed, 0 crashed, 0 running, 0 left"]
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert sorted(sweep.store.root.rglob("*")) == before


MAIN = "import sys; from bluestab.cli import main; sys.argv[0] = 'bluestab'; main()"


def test_watch_in_a_terminal_until_ctrl_c(fake: Callable[[int], Fake]) -> None:
    sweep = fake(3)
    with sweep.at_work(0, step=3, total=9):
        root = str(sweep.store.root)
        terminal = Terminal(MAIN, "status", root, "--watch", "--every", "0.1")
        terminal.read_until("gad tiny llrd seed 0")
        sweep.end(1)
        terminal.read_until("1 of 3 done")
        os.write(terminal.end, b"\x03")
        assert terminal.leave() == 0
    assert "Traceback" not in terminal.said
    assert terminal.said.rindex("\x1b[?25h") > terminal.said.rindex("\x1b[?25l")


def test_watch_ends_with_the_sweep(fake: Callable[[int], Fake], cli: Callable[..., Any]) -> None:
    sweep = fake(1)
    sweep.end(0)
    said = cli("status", str(sweep.store.root), "--watch")
    assert (said.code, said.err) == (0, "")
    assert said.out == "mine: 1 of 1 done, 0 failed, 0 crashed, 0 running, 0 left\n"
    assert cli("status", str(sweep.store.root), "--watch", "--every", "0").code == 2


def test_the_manifest_is_all_that_names_the_runs(fake: Callable[[int], Fake]) -> None:
    """A manifest of an older version, without cells, is shown, too."""
    sweep = fake(2)
    path = sweep.store.manifests()["mine"]
    content = json.loads(path.read_text())
    for run in content["runs"]:
        del run["cell"]
    path.write_text(json.dumps(content))
    sweep.end(0)
    view = progress._view(sweep.store, "mine", sweep.keys)
    assert counts(view) == (1, 0, 0, 0, 1)
    assert view.seconds_left(1) == 40
