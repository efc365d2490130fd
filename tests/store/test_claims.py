"""Claims: one winner, dead owners seen, clocks not trusted."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from bluestab.store import claims
from bluestab.store.claims import Claims, read_claim

KEY = "0123456789abcdef"


def edit(path: Path, **changes: object) -> None:
    """Rewrite a claim in place, as another machine would see it change."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_one_owner_until_released(tmp_path: Path) -> None:
    mine, other = Claims(tmp_path), Claims(tmp_path)
    claim = mine.take(KEY, "biosses tiny none seed 0")
    assert claim is not None
    with claim:
        assert other.take(KEY) is None
        assert mine.take(KEY) is None
        live = other.live()
        assert list(live) == [KEY]
        assert live[KEY]["label"] == "biosses tiny none seed 0"
        assert live[KEY]["pid"] == os.getpid()
    assert other.live() == {}
    again = other.take(KEY)
    assert again is not None
    again.release()
    assert [p.name for p in (tmp_path / ".claims").iterdir()] == [".lock"]


def test_the_beat_carries_the_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.02)
    store = Claims(tmp_path)
    claim = store.take(KEY)
    assert claim is not None
    with claim:
        claim.progress(3, 120, None, None)
        claim.progress(4, 120, 0.25, 0.5)
        claim.progress(5, 120, None, None)
        until = time.monotonic() + 10
        while (seen := store.live()[KEY])["beat"] < 3 or "score" not in seen:
            assert time.monotonic() < until
        assert (seen["step"], seen["total"], seen["loss"], seen["score"]) == (5, 120, 0.25, 0.5)
    assert not any(thread.name == "heartbeat" for thread in threading.enumerate())


def test_the_claim_of_a_process_killed_here_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bluestab.store.claims import Claims\n"
        f"with Claims(Path({str(tmp_path)!r})).take({KEY!r}):\n"
        " print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    store = Claims(tmp_path)
    assert store.take(KEY) is None
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but still a zombie
    assert store.live() == {}
    claim = store.take(KEY)
    assert claim is not None
    claim.release()
    child.wait()
    child.stdout.close()


def test_a_process_number_used_again_is_another_process(tmp_path: Path) -> None:
    store = Claims(tmp_path)
    claim = store.take(KEY)
    assert claim is not None
    edit(claim.path, process_start="1")
    assert store.live() == {}
    assert store.take(KEY) is not None


@pytest.mark.parametrize("jump", [0, -86_400])
def test_another_machine_is_judged_by_its_beat_and_our_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    """Its wall clock, our wall clock and file times play no part."""
    now = [1000.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    store = Claims(tmp_path)
    claim = store.take(KEY)
    assert claim is not None
    edit(claim.path, machine="elsewhere//", pid=1, started=jump)
    os.utime(claim.path, (10**9 + jump, 10**9 + jump))
    assert store.take(KEY) is None  # seen for the first time
    now[0] += claims.STALE - 1
    edit(claim.path, beat=1)
    assert store.take(KEY) is None
    now[0] += claims.STALE - 1
    assert store.take(KEY) is None  # stood still, but not for long enough
    now[0] += 2
    assert Claims(tmp_path).take(KEY) is None  # a newcomer has to watch for itself
    taken = store.take(KEY)
    assert taken is not None
    assert not claim.is_mine()
    claim.beat()  # its owner wakes up: the new owner's claim stays as it is
    claim.release()
    assert taken.is_mine()
    content = read_claim(taken.path)
    assert content is not None
    assert content["token"] == taken.content["token"]
    taken.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": 1}', "\x00" * 2048])
def test_a_claim_that_cannot_be_read_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    now = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    store = Claims(tmp_path)
    (tmp_path / ".claims").mkdir()
    (tmp_path / ".claims" / KEY).write_text(content)
    assert store.take(KEY) is None
    now[0] += claims.STALE + 1
    assert store.take(KEY) is not None


def refuse_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    store = Claims(tmp_path)
    claim = store.take(KEY, "x")
    assert claim is not None
    assert store.take(KEY) is None
    assert store.live()[KEY]["label"] == "x"
    claim.release()
    assert store.take(KEY) is not None


@pytest.mark.parametrize("links", [True, False])
def test_a_disk_with_room_for_half_a_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """A write that is cut short raises nothing by itself; nobody could read that claim."""
    if not links:
        monkeypatch.setattr(os, "link", refuse_links)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: real(file, data[:20], at))
    with pytest.raises(OSError, match="No space left"):
        Claims(tmp_path).take(KEY)
    assert [path.name for path in (tmp_path / ".claims").iterdir()] == []


def test_long_labels_fit(tmp_path: Path) -> None:
    store = Claims(tmp_path)
    claim = store.take(KEY, "\U0001f9ec" * 5000)
    assert claim is not None
    assert claim.path.stat().st_size == claims.SIZE
    assert len(store.live()) == 1


def race(root: Path, keys: list[str], start: object, won: object) -> None:
    store = Claims(root)
    start.wait()  # type: ignore[attr-defined]
    held = [(key, claim) for key in keys if (claim := store.take(key)) is not None]
    won.put([key for key, _ in held])  # type: ignore[attr-defined]
    start.wait()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("processes", "races"), [(4, 50), pytest.param(16, 1000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("stale", [False, True])
def test_each_race_has_one_winner(tmp_path: Path, processes: int, races: int, stale: bool) -> None:
    """Fresh runs, and runs whose claim a dead process has left."""
    keys = [f"{i:016x}" for i in range(races)]
    if stale:
        for key in keys:
            claim = Claims(tmp_path).take(key)
            assert claim is not None
            edit(claim.path, process_start="1")
            os.close(claim._descriptor)
    context = multiprocessing.get_context("fork")
    start, won = context.Barrier(processes), context.Queue()
    crowd = [
        context.Process(target=race, args=(tmp_path, keys, start, won)) for _ in range(processes)
    ]
    for one in crowd:
        one.start()
    winners = Counter(key for _ in crowd for key in won.get(timeout=120))
    for one in crowd:
        one.join()
    assert winners == Counter(keys)
