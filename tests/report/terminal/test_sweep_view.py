"""How far a sweep is, read from its store: done, failed, running, left, standing still."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from bluestab.report.terminal.watch import drawn, plain
from bluestab.store import claims
from bluestab.store.store import Store
from tests.conftest import DEAD
from tests.support.sweep_by_hand import Fake, counts, key, text_of


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
