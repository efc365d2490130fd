"""A disk without inodes, or a quota without room, is a full one, whatever its free bytes say."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from bluestab.store import store as store_module
from bluestab.store.store import Store
from bluestab.sweeps import stopping


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own: 50 MB, 80 inodes."""
    place = tmp_path / "disk"
    place.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=50m,nr_inodes=80", "tmpfs", str(place)]
    if subprocess.run(line, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> None:
    with suppress(OSError):
        for number in range(1000):
            (place / f"filler-{number}").touch()


def test_inodes_used_up_are_a_full_disk(mounted: Path) -> None:
    store = Store(mounted / "runs")
    store.make_writable()
    assert not store.is_full()
    fill(mounted)
    assert store.free_bytes() > 40 * 2**20
    assert store.is_full()
    assert not stopping.has_room(store)
    (mounted / "filler-3").unlink()
    assert store.is_full(), "one file is no run"
    for path in mounted.glob("filler-*"):
        path.unlink()
    assert stopping.has_room(store)
    assert list((mounted / "runs" / ".work").iterdir()) == []


def test_a_pause_lasts_until_there_are_inodes(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, it ended at once, and the run was trained for nothing, again and again."""
    monkeypatch.setattr(stopping, "LOOK_AGAIN", 0.02)
    store = Store(mounted / "runs")
    store.make_writable()
    fill(mounted)
    said: list[str] = []
    stop = SimpleNamespace(asked=False)
    waiting = threading.Thread(target=stopping.pause_until_room, args=(store, stop, said.append))
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive()
    assert len(said) == 1
    for path in mounted.glob("filler-*"):
        path.unlink()
    waiting.join(10)
    assert said[1:] == ["there is room again: going on"]


def test_a_quota_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system says that there is room, and refuses it to this user."""
    import errno
    import os

    store = Store(tmp_path)
    store.make_writable()

    def refused(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    assert stopping.has_room(store)
    monkeypatch.setattr(store_module.os, "posix_fallocate", refused)
    assert store.is_full()
    assert not stopping.has_room(store)
    assert list((tmp_path / ".work").iterdir()) == []
