"""Where a study is kept: a journal file, SQLite or PostgreSQL, through Optuna's own storages."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.secrets import cleaned, cleaned_value

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

USUAL = "study.journal"
"""Name of the journal in the folder of a search, where no other storage is named."""


def open_storage(where: str, *, read_only: bool = False) -> BaseStorage:
    """The storage at a URL, or in a journal file.

    read_only  create and write nothing

    Raises ConfigError if it cannot be opened, StoreError if its file is not there to be read.
    """
    import optuna

    if "://" not in where:
        return _journal(Path(where), read_only=read_only)
    scheme = where.partition("://")[0]
    if scheme in ("postgresql", "postgres"):
        where = "postgresql+psycopg://" + where.partition("://")[2]
    if where.startswith("postgresql+psycopg://"):
        need("psycopg", "postgres", scheme)
    elif scheme != "sqlite":
        raise ConfigError(
            f"search.storage is {cleaned_value(where)!r}: expected a file, sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE"
        )
    # pings: a connection that the server closed meanwhile is opened again; 60 s for SQLite's lock
    options: dict[str, object] = {"pool_pre_ping": True}
    if scheme == "sqlite":
        options["connect_args"] = {"timeout": 60}
        file = file_of(where)
        if read_only:
            _need_file(file)
            where = f"sqlite:///file:{quote(str(file))}?mode=ro&uri=true"
        elif file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    elif read_only:
        options["connect_args"] = {"options": "-c default_transaction_read_only=on"}
    try:
        return optuna.storages.RDBStorage(
            where, engine_kwargs=options, skip_table_creation=read_only
        )
    except Exception as error:  # of SQLAlchemy, of the driver, of Optuna's version table
        first = cleaned(str(error).strip().splitlines()[0][:300])
        raise ConfigError(
            f"search.storage {cleaned_value(where)} cannot be opened: "
            f"{type(error).__name__}: {first}"
        ) from error


def file_of(where: str) -> Path | None:
    """The file of a storage; None if it has none, but a server."""
    if "://" not in where:
        return Path(where)
    if not where.startswith("sqlite:"):
        return None
    return Path(where.partition("///")[2].partition("?")[0]).expanduser()


def _need_file(file: Path | None) -> None:
    if file is None or not file.is_file():
        raise StoreError(
            f"search.storage {file} is not there: the search has not begun, or the file was left "
            "behind when the store was moved; name it with --storage FILE"
        )


def need(module: str, extra: str, what: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"{what} needs the package {module}, which is not installed: "
            f"pip install 'bluestab[{extra}]'"
        )


def _journal(path: Path, *, read_only: bool = False) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    class Flock(JournalFileOpenLock):
        """A lock that dies with its holder, on the journal itself.

        Optuna's own are files that a killed process leaves behind: 30 seconds of silence. Whoever
        has it cuts off the line that a killed process left unfinished: the next line would be
        appended to it, and nobody could read the journal any more.
        """

        def acquire(self) -> bool:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            with suppress(OSError):  # a file system without locks goes without
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            _cut_unfinished(self.descriptor)
            return True

        def release(self) -> None:
            os.close(self.descriptor)

    try:
        if read_only:
            _need_file(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        _check_journal(path)
        return JournalStorage(JournalFileBackend(str(path), Flock(str(path))))
    except OSError as error:
        raise ConfigError(
            f"search.storage {path} cannot be {'read' if read_only else 'written'} "
            f"({error.strerror})"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"search.storage {path} is no journal of Optuna ({error}); name another file"
        ) from error


def _check_journal(path: Path) -> None:
    """Raises ValueError for a file that is not one: nothing is appended to it, or cut from it."""
    if path.exists():
        with path.open("rb") as file:
            line = file.readline(2**16)
        if line and not (line.startswith(b"{") and (b'"op_code"' in line or line[-1:] != b"\n")):
            raise ValueError(f"its first line is {line[:40]!r}")


def _cut_unfinished(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - 2**16)
        block = os.pread(descriptor, end - start, start)
        if (found := block.rfind(b"\n")) >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
