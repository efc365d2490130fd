"""A disk without inodes, or a quota without room, is a full one, whatever its free bytes say."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from bluestab.core.errors import DiskFull
from bluestab.store import store as store_module
from bluestab.store.store import Store
from bluestab.sweeps import stopping
from bluestab.testing.corpora import ANY_FILE
from tests.conftest import Say


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
    waiting = threading.Thread(
        target=stopping.pause_until_room, args=(store, stop, said.append, DiskFull("no room"))
    )
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


def test_a_result_that_is_too_large_is_not_waited_for(tmp_path: Path) -> None:
    """Nothing else fills the disk: a next try would train for nothing."""
    store = Store(tmp_path)
    store.make_writable()
    free = store.free_bytes()
    too_large = DiskFull("57 MB did not suffice", free - stopping.ROOM // 2)
    with pytest.raises(DiskFull, match="did not suffice"):
        stopping.refuse_too_large(store, too_large)
    stopping.refuse_too_large(store, DiskFull("others left a few bytes", stopping.ROOM - 1))
    stopping.refuse_too_large(store, DiskFull("there is more now", free - 9 * stopping.ROOM))


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        ("hydra/launcher=local",),
        ("hydra/launcher=pool", "hydra.launcher.workers=1"),
        ("hydra/sweeper=optuna", "optim.lr=tag(log,interval(1e-5,1e-3))", "search.n_trials=2"),
    ],
)
def test_a_run_that_does_not_fit_is_trained_once(
    mounted: Path, cli: Say, how: tuple[str, ...]
) -> None:
    """Its weights alone are larger than the disk: one try, one sentence."""
    said = cli(
        *("run", "-m", "task=gad", "model=tiny", "model.config.intermediate_size=150000"),
        *("keep=last", "optim.steps=1", "task.max_length=32", "device=cpu", *ANY_FILE),
        *(f"store={mounted / 'runs'}", *how),
        *(() if "optuna" in how[0] else ("sweep.seeds=2",)),
    )
    assert said.code == 2, said
    assert re.search(
        r"bluestab: no room left for the result of run .* MB did not suffice", said.err
    )
    assert len(said.err.strip().splitlines()) == 1
    assert "paused" not in said.out
    store = Store(mounted / "runs")
    assert store.keys() == []
    assert store.running() == {}
    assert [path.name for path in (store.root / ".work").iterdir()] == []
