"""Storages: a journal that survives a torn line, passwords that stay unsaid, errors in words."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import optuna
import pytest

from bluestab.core.errors import ConfigError
from bluestab.core.provenance import command_line
from bluestab.core.secrets import cleaned
from bluestab.store.files import alone
from bluestab.sweeps.search.storage import open_storage


def study(where: str, name: str = "s") -> optuna.Study:
    return optuna.create_study(storage=open_storage(where), study_name=name, load_if_exists=True)


@pytest.mark.parametrize("where", ["{}/deep/journal.log", "sqlite:///{}/deep/study.db"])
def test_what_was_told_is_there_for_the_next(where: str, tmp_path: Path) -> None:
    where = where.format(tmp_path)
    one = study(where)
    one.tell(one.ask(), 0.5)
    assert [t.value for t in study(where).trials] == [0.5]


@pytest.mark.parametrize("torn", [b'{"op_code":4,"wor', b"{", b"x" * 100_000])
def test_a_torn_last_line_of_the_journal_is_cut_off(torn: bytes, tmp_path: Path) -> None:
    """A process was killed while it wrote; the next line would be appended to the rest of it."""
    path = tmp_path / "j.log"
    one = study(str(path))
    one.tell(one.ask(), 0.5)
    with path.open("ab") as file:
        file.write(torn)
    again = study(str(path))
    again.tell(again.ask(), 0.75)
    one.tell(one.ask(), 1.0)  # whoever had it open goes on, too
    assert [t.value for t in study(str(path)).trials] == [0.5, 0.75, 1.0]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_password_is_never_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:s3cret@nowhere.invalid/db"
    assert cleaned(f"a {url} b") == "a postgresql://me:***@nowhere.invalid/db b"
    assert cleaned("sqlite:///x.db https://a/b@c") == "sqlite:///x.db https://a/b@c"
    monkeypatch.setenv("BLUESTAB_COMMAND", f"bluestab run search.storage={url}")
    assert "s3cret" not in command_line()
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match=r"cannot be opened") as error:
        open_storage(url)
    assert "s3cret" not in str(error.value)
    with pytest.raises(ConfigError, match=r"mysql://a:\*\*\*@b/c'?: expected a file") as error:
        open_storage("mysql://a:pw@b/c")


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'bluestab\[postgres\]'"):
        open_storage("postgresql://me@here/db")


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    file.write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(ConfigError, match=r"cannot be opened: DatabaseError"):
        open_storage(f"sqlite:///{file}")
    old = tmp_path / "old.db"
    with sqlite3.connect(old) as connection:
        connection.execute("CREATE TABLE studies (study_id INTEGER)")
        connection.execute(
            "CREATE TABLE version_info "
            "(version_info_id INTEGER, schema_version INTEGER, library_version TEXT)"
        )
        connection.execute("INSERT INTO version_info VALUES (1, 9, '2.10.1')")
    with pytest.raises(ConfigError, match=r"cannot be opened"):
        open_storage(f"sqlite:///{old}")


def test_one_at_a_time(tmp_path: Path) -> None:
    import fcntl
    import os

    with alone(tmp_path / "s"):
        descriptor = os.open(tmp_path / "s" / ".lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    descriptor = os.open(tmp_path / "s" / ".lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
