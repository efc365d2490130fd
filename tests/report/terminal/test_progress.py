"""What a person sees while a sweep runs: from the store alone, in a terminal, a pipe, elsewhere."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bluestab.core.types import RunRecord
from bluestab.report.terminal import progress
from bluestab.report.terminal import watch as live
from bluestab.report.terminal.progress import RunBar, SweepDisplay
from bluestab.report.terminal.sweep_view import SweepView, started
from bluestab.report.terminal.watch import drawn, plain, printable, shortened, watch
from bluestab.store import claims
from bluestab.store.store import Store
from tests.conftest import DEAD

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def key(i: int) -> str:
    return f"{i:016x}"


def cell(i: int) -> str:
    return f"{i % 2:016x}"


def record(i: int, status: str = "done", seconds: float = 40.0, **changes: Any) -> RunRecord:
    result = {
        "key": key(i),
        "cell": cell(i),
        "config": {},
        "status": status,
        "metric": "pearson",
        "metrics": {"last": {"test": {"pearson": 0.5}}},
        "degenerate": {"last": False},
        "error": {"type": "RuntimeError", "message": "[bold]no[/bold]"},
        **changes,
    }
    return RunRecord(1, result, {"names": {}, "seconds": {"total": seconds}})


class Fake:
    """A store with a sweep in it, whose runs are begun and ended by hand."""

    def __init__(self, root: Path, n: int) -> None:
        self.store = Store(root)
        self.store.make_writable()
        self.keys = [key(i) for i in range(n)]
        self.runs = [
            {"key": key(i), "cell": cell(i), "overrides": ["task=gad", f"seed={i}"]}
            for i in range(n)
        ]
        self.start()

    def start(self) -> None:
        manifest = {"name": "mine", "command": "bluestab run -m task=gad", "runs": self.runs}
        self.store.write_manifest("mine", manifest)

    def end(self, i: int, status: str = "done", **changes: Any) -> RunRecord:
        ended = record(i, status, **changes)
        with self.store.building(key(i)) as work:
            if status == "crashed":
                self.store.keep_crash(work, ended)
            else:
                self.store.finish(work, ended)
        return ended

    @contextmanager
    def at_work(self, i: int, label: str = "", **content: Any) -> Iterator[claims.Claim]:
        claim = self.store.claims.take(key(i), label or f"gad tiny llrd seed {i}")
        assert claim is not None
        claim.content.update(content)
        claim.beat()
        with claim:
            yield claim

    def view(self) -> SweepView:
        return SweepView(self.store, self.runs, started(self.store, "mine"))


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[int], Fake]:
    return lambda n: Fake(tmp_path / "runs", n)


def text_of(what: Any, width: int = 80) -> str:
    out = Console(width=width, height=24, file=io.StringIO(), force_terminal=True, record=True)
    out.print(what)
    return out.export_text()


def counts(view: SweepView) -> tuple[int, int, int, int, int]:
    return view.done, view.failed, len(view.crashed), len(view.running), view.left


# --- what is going on -------------------------------------------------------------------------


def test_done_failed_crashed_running_left(
    fake: Callable[[int], Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # it stands still, however long this takes
    sweep = fake(8)
    view = sweep.view()
    assert counts(view) == (0, 0, 0, 0, 8)
    assert view.seconds_left(1) is None  # nothing is known yet
    sweep.end(0)
    sweep.end(1, degenerate={"last": True})
    sweep.end(2, "diverged", metrics=None, degenerate=None)
    sweep.end(3, "crashed")
    with sweep.at_work(4), sweep.at_work(5), sweep.at_work(99), sweep.at_work(0):
        view.refresh()  # 99 belongs to another sweep, 0 is finished and about to be released
        assert counts(view) == (3, 2, 1, 2, 2)
        assert list(view.running) == [key(4), key(5)]
        assert not view.complete
        assert not view.stands_still
        # two waiting runs of 40 s and two that have just begun, on two workers
        assert view.seconds_left(2) == pytest.approx(80, abs=2)
    view.refresh()
    assert counts(view) == (3, 2, 1, 0, 4)
    with sweep.at_work(3):  # tried again
        view.refresh()
        assert counts(view) == (3, 2, 0, 1, 4)
        sweep.end(3)
    view.refresh()
    assert counts(view) == (4, 2, 0, 0, 4)
    for i in range(4, 8):
        sweep.end(i)
    view.refresh()
    assert view.complete


def test_before_any_run_has_finished_the_pace_of_the_running_ones_counts(
    fake: Callable[[int], Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    sweep = fake(4)
    with sweep.at_work(0), sweep.at_work(1, started=time.time() - 30, step=30, total=120):
        # run 1 needs 120 s in all, 90 more; so run 0 needs 120 and the waiting two 240
        assert sweep.view().seconds_left(2) == pytest.approx((90 + 120 + 240) / 2, abs=3)


def test_crashes_of_an_earlier_start_are_left_to_be_tried_again(
    fake: Callable[[int], Fake],
) -> None:
    sweep = fake(2)
    sweep.end(0, "crashed")
    assert counts(sweep.view()) == (0, 0, 1, 0, 1)
    folder = sweep.store.crash_folder(key(0))
    os.utime(folder, (time.time() - 100, time.time() - 100))
    sweep.start()
    assert counts(sweep.view()) == (0, 0, 0, 0, 2)


def test_a_finished_run_is_read_once(
    fake: Callable[[int], Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, read = fake(4), []
    original = Store.read
    monkeypatch.setattr(Store, "read", lambda self, k: read.append(k) or original(self, k))
    sweep.end(0)
    view = sweep.view()
    for _ in range(3):
        view.refresh()
    sweep.end(1)
    view.refresh()
    assert read == [key(0), key(1)]


def test_claims_of_dead_and_of_foreign_processes(
    fake: Callable[[int], Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = fake(3)
    with ExitStack() as stack:
        stack.enter_context(sweep.at_work(0, pid=DEAD))
        stack.enter_context(sweep.at_work(1, machine="other/1/2", host="node7"))
        view = sweep.view()
        assert list(view.running) == [key(1)]
        assert "node7" in text_of(drawn(view, "mine", 1, width=80, height=24))
        now = time.monotonic()
        monkeypatch.setattr(claims.time, "monotonic", lambda: now + claims.STALE + 1)
        for name in ("_beat_on", "beat"):
            monkeypatch.setattr(claims.Claim, name, lambda self: None)
        view.refresh()
        view.refresh()
        if view.running:  # a last beat fell between the two looks
            monkeypatch.setattr(claims.time, "monotonic", lambda: now + 3 * claims.STALE)
            view.refresh()
        assert view.running == {}


def test_runs_of_other_sweeps_say_how_long_a_cell_takes(fake: Callable[[int], Fake]) -> None:
    sweep = fake(2)
    sweep.end(4, seconds=100.0)  # of the cell of run 0, but not of this sweep
    view = sweep.view()
    assert counts(view) == (0, 0, 0, 0, 2)
    assert view.seconds_left(1) == 200


def test_a_damaged_record_does_not_end_the_view(fake: Callable[[int], Fake]) -> None:
    sweep = fake(2)
    sweep.end(0)
    (sweep.store.folder(key(0)) / "record.json").write_text("{")
    view = sweep.view()
    assert counts(view) == (0, 0, 0, 0, 2)
    assert plain(view, "mine", 1).endswith("2 left, 1 damaged")
    assert sweep.store.set_aside_damaged(key(0)) is not None
    sweep.end(0)
    view.refresh()
    assert counts(view) == (1, 0, 0, 0, 1)
    assert "damaged" not in plain(view, "mine", 1)


def test_standing_still(fake: Callable[[int], Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = fake(2)
    assert not sweep.view().stands_still  # the sweep was started a moment ago
    manifest = sweep.store.manifests()["mine"]
    os.utime(manifest, (time.time() - 60, time.time() - 60))
    view = sweep.view()
    assert view.stands_still
    with sweep.at_work(0):
        view.refresh()
        assert not view.stands_still
    view.refresh()
    assert not view.stands_still  # between two runs
    monkeypatch.setattr("bluestab.report.terminal.sweep_view.PATIENCE", 0.0)
    assert view.stands_still


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


# --- while a launcher works -------------------------------------------------------------------


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
    assert capsys.readouterr().out == "mine: 1 runs\n"


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in what a script runs behind it
            os.environ.update(TERM="xterm", COLUMNS="80", LINES="24")
            os.execv(sys.executable, [sys.executable, "-c", code, *arguments])
        self.said = ""

    def read_until(self, wanted: str, seconds: float = 30.0) -> str:
        end = time.monotonic() + seconds
        while wanted not in self.said and time.monotonic() < end:
            if select.select([self.end], [], [], 0.1)[0]:
                try:
                    self.said += os.read(self.end, 65536).decode()
                except OSError:
                    break
        assert wanted in self.said, self.said
        return self.said

    def leave(self) -> int:
        try:
            while True:
                self.said += os.read(self.end, 65536).decode()
        except OSError:
            pass
        os.close(self.end)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


DISPLAY = """
import sys, time
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
    assert capsys.readouterr().out.strip() == ""


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
