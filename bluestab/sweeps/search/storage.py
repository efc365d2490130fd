"""Where a study is kept: a journal file, SQLite or PostgreSQL, through Optuna's own storages."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bluestab.core.errors import ConfigError
from bluestab.core.secrets import cleaned, cleaned_value

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def open_storage(where: str) -> BaseStorage:
    """The storage at a URL, or in a journal file. Raises ConfigError if it cannot be opened."""
    import optuna

    if "://" not in where:
        return _journal(Path(where))
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
        Path(where.partition("///")[2]).expanduser().parent.mkdir(parents=True, exist_ok=True)
    try:
        return optuna.storages.RDBStorage(where, engine_kwargs=options)
    except Exception as error:  # of SQLAlchemy, of the driver, of Optuna's version table
        first = cleaned(str(error).strip().splitlines()[0][:300])
        raise ConfigError(
            f"search.storage {cleaned_value(where)} cannot be opened: "
            f"{type(error).__name__}: {first}"
        ) from error


def need(module: str, extra: str, what: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"{what} needs the package {module}, which is not installed: "
            f"pip install 'bluestab[{extra}]'"
        )


def _journal(path: Path) -> BaseStorage:
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
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path), Flock(str(path))))
    except OSError as error:
        raise ConfigError(f"search.storage {path} cannot be written ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(
            f"search.storage {path} is no journal of Optuna ({error}); name another file"
        ) from error


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
