"""Files put in the place of others; the lock of a folder, and where none can be made."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from bluestab.core.errors import StoreError
from bluestab.store.files import alone, write_text


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


@pytest.fixture
def no_replacing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that renames over nothing, as sshfs."""
    real = os.rename

    def rename(path: Path, target: Path) -> Path:
        if os.path.lexists(target):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        real(path, target)
        return Path(target)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(Path, "replace", rename)


def test_a_file_system_that_renames_over_nothing(tmp_path: Path, no_replacing: None) -> None:
    for text in ("old", "new", "newer"):
        write_text(tmp_path / "a.json", text)
        assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.json": text}


def test_the_old_file_stays_where_the_new_one_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of rights, say."""
    write_text(tmp_path / "a.json", "old")

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"
