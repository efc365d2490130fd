"""The lock of a folder: one holder at a time, and what happens where none can be made."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from bluestab.core.errors import StoreError
from bluestab.store.files import alone


def test_a_lock_is_held_until_the_end(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "new"),
        (tmp_path / "new" / ".lock").open() as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "new" / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_where_no_lock_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = r"file/\.lock cannot be had \(.*\)"
    with pytest.raises(StoreError, match=said), alone(tmp_path / "file"):
        raise AssertionError("nobody asked whether it may go without")
    entered = []
    for folder in ("file", "gone"):
        with alone(tmp_path / folder, required=False):
            entered.append(folder)
    assert entered == ["file", "gone"]
    assert not (tmp_path / "gone").exists(), "a deleted store does not come back"
