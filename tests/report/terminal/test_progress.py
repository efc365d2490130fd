"""Progress while a launcher works: bars in a terminal, a line per run in a pipe."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bluestab.report.terminal import progress
from bluestab.report.terminal.progress import RunBar, SweepDisplay
from bluestab.store.store import Store
from tests.support.sweep_by_hand import Fake, Terminal, key

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_a_pipe_gets_one_line_per_run(
    fake: Callable[[int], Fake], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = fake(4)
    sweep.end(0)
    with SweepDisplay("mine", sweep.keys, sweep.store, workers=1) as display:
        display.note = "for terminals"
        display.end(sweep.end(1, seconds=20.0), "gad tiny none seed 1")
        display.say("paused: [red]disk full[/red]")
        display.end(sweep.end(2, "crashed"), "gad [b]tiny[/b] none seed 2")
    assert capsys.readouterr().out.splitlines() == [
        "mine: 4 runs, 1 already there",
        "[2/4] gad tiny none seed 1: pearson 0.5000 (0:20, 1:00 left)",
        "paused: [red]disk full[/red]",
        "[3/4] gad [b]tiny[/b] none seed 2: crashed, RuntimeError: [bold]no[/bold] "
        "(0:40, 0:20 left, 0 failed, 1 crashed)",
    ]


def test_a_display_works_without_a_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with SweepDisplay("mine", [key(0)], Store(tmp_path), workers=1):
        pass
    assert capsys.readouterr().out == "mine: 1 run\n"


DISPLAY = """
import sys, time
from bluestab.report.terminal import progress
from bluestab.report.terminal.progress import SweepDisplay
from bluestab.store.store import Store
store = Store(sys.argv[1])
keys = [run["key"] for run in store.manifest("mine")["runs"]]
with SweepDisplay("mine", keys, store, workers=2) as display:
    display.note = "a [b]note[/b]"
    time.sleep(1.2)
    display.end(store.read(keys[0]), "gad tiny none seed 0")
    print("printed")
    if sys.argv[2:]:
        time.sleep(60)
print("after")
"""


def test_bars_in_a_terminal(fake: Callable[[int], Fake]) -> None:
    sweep = fake(3)
    sweep.end(0)
    with sweep.at_work(1, step=3, total=9, loss=0.25, score=0.75):
        terminal = Terminal(DISPLAY, str(sweep.store.root))
        terminal.read_until("after")
        assert terminal.leave() == 0
    said = ANSI.sub("", terminal.said)
    assert "mine: 3 runs, 1 already there" in said
    assert "1 of 3 done, 0 failed, 0 crashed, 1 running, 1 left" in said
    assert "gad tiny llrd seed 1" in said
    assert "a [b]note[/b]" in said
    assert "[1/3] gad tiny none seed 0: pearson 0.5000" in said
    assert said.index("printed") < said.rindex("after")
    after = terminal.said[terminal.said.rindex("after") :]
    assert ANSI.sub("", after).strip() == "after"  # nothing is drawn once it has ended
    assert terminal.said.rindex("\x1b[?25h") > terminal.said.rindex("\x1b[?25l")


def test_a_kill_leaves_the_terminal_usable(fake: Callable[[int], Fake]) -> None:
    sweep = fake(3)
    sweep.end(0)
    terminal = Terminal(DISPLAY, str(sweep.store.root), "long")
    terminal.read_until("printed")
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.leave() == -signal.SIGKILL
    assert terminal.said.rindex("\x1b[?25h") > terminal.said.rindex("\x1b[?25l")  # cursor
    assert "\x1b[?1049h" not in terminal.said  # no second screen


def test_a_single_run_has_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with RunBar("gad [b]tiny[/b] none seed 0") as bar:
        bar.progress(1, 10, None, None)
        bar.progress(2, 10, 0.5, None)
        assert bar.bar.tasks[0].completed == 2
        assert bar.bar.tasks[0].fields["note"] == "loss 0.500, validation undefined"
    # in a pipe a line at every evaluation, here the one that is told
    assert capsys.readouterr().out == (
        "gad [b]tiny[/b] none seed 0: step 2/10, loss 0.500, validation undefined\n"
    )


def test_a_single_run_in_a_pipe_is_never_silent_for_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SILENT", 0.0)
    with RunBar("a run") as bar:
        bar.progress(1, 10, None, None)
        bar.progress(2, 10, 0.5, 0.75)
    assert capsys.readouterr().out.splitlines() == [
        "a run: step 1/10",
        "a run: step 2/10, loss 0.500, validation 0.750",
    ]


def test_a_sweep_in_a_pipe_says_evaluations_once_and_that_it_goes_on(
    fake: Callable[[int], Fake],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "LOOK", 0.05)
    sweep = fake(3)
    evaluated = "  gad tiny llrd seed 1: step 3/9, loss 0.250, validation 0.750"
    with (
        sweep.at_work(1, step=3, total=9, loss=0.25, score=0.75),
        SweepDisplay("mine", sweep.keys, sweep.store, workers=1),
    ):
        time.sleep(0.5)
        assert capsys.readouterr().out.splitlines() == ["mine: 3 runs", evaluated]
        monkeypatch.setattr(progress, "SILENT", 0.2)
        time.sleep(0.5)
        said = capsys.readouterr().out.splitlines()
    assert 1 <= len(said) <= 3
    assert said[0].startswith("mine: 0 of 3 done, 0 failed, 0 crashed, 1 running, 2 left")
