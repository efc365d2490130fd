"""Where a study is kept: a journal file, SQLite or PostgreSQL, through Optuna's own storages."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.provenance import redacted
from bluestab.store.files import belongs, make_folder, share
from bluestab.sweeps.search.patience import StoragePatience, reason_away

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


TCP = {
    **{"connect_timeout": 10, "keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10},
    **{"keepalives_count": 3, "tcp_user_timeout": 60_000},  # the last in milliseconds
}
"""Of libpq, unless the URL says otherwise: a server that is cut off is noticed within a minute."""


def open_storage(
    where: str,
    patience: StoragePatience | None = None,
    *,
    waits: bool = False,
    looks: bool = False,
) -> BaseStorage:
    """The storage at a URL, or in a journal file; a database that is away later is waited for.

    patience  how this process waits
    waits     also for one that is away now; else that is refused, since the URL may be wrong
    looks     to read alone: nothing is created

    Raises ConfigError if it cannot be opened, StorageAway, Interrupted.
    """
    import optuna

    if "://" not in where:
        if looks and not Path(where).is_file():
            raise ConfigError(f"search.storage {where}: there is no study yet")
        return _journal(Path(where))
    scheme, typed = where.partition("://")[0], where
    if scheme in ("postgresql", "postgres"):
        where = "postgresql+psycopg://" + where.partition("://")[2]
    if where.startswith("postgresql+psycopg://"):
        need("psycopg", "postgres", scheme)
    elif scheme != "sqlite":
        raise ConfigError(
            f"search.storage is {redacted(where)!r}: expected a file, sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE"
        )
    file = Path(where.partition("///")[2]).expanduser() if scheme == "sqlite" else None
    if looks and file is not None and not file.is_file():
        raise ConfigError(f"search.storage {redacted(where)}: there is no study yet")
    if file is not None:
        make_folder(file.parent)
    patience = StoragePatience() if patience is None else patience
    opened = _opened(where, typed, patience if waits else None, looks=looks)
    if file is not None:
        share(file)
    from bluestab.sweeps.search.patient_storage import PatientStorage

    return PatientStorage(optuna.storages.get_storage(opened), typed, patience)


def _opened(
    where: str, typed: str, patience: StoragePatience | None, *, looks: bool
) -> BaseStorage:
    import optuna

    since, tries = time.monotonic(), 0
    while True:
        try:
            # pings: a connection that the server closed meanwhile is opened again
            options = {"pool_pre_ping": True, "connect_args": _connection_options(where)}
            storage = optuna.storages.RDBStorage(
                where, engine_kwargs=options, skip_table_creation=looks
            )
        except Exception as error:  # of SQLAlchemy, of the driver, of Optuna's version table
            reason = reason_away(error)
            if patience is not None and reason is not None:
                tries += 1
                patience.wait(typed, reason, since, tries)
                continue
            first = redacted(str(error).strip().splitlines()[0][:300])
            raise ConfigError(
                f"search.storage {redacted(where)} cannot be opened: {type(error).__name__}: "
                f"{first}"
            ) from error
        if patience is not None:
            patience.is_back(typed, since, tries)
        return storage


def _connection_options(where: str) -> dict[str, int]:
    """What the driver is told of time: 60 seconds for SQLite's lock, `TCP` for PostgreSQL."""
    from sqlalchemy import make_url

    if where.startswith("sqlite"):
        return {"timeout": 60}
    given = make_url(where).query
    return {name: value for name, value in TCP.items() if name not in given}


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
            try:
                self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise _not_writable(path, error) from error
            with suppress(OSError):  # a file system without locks goes without
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            _cut_unfinished(self.descriptor)
            return True

        def release(self) -> None:
            os.close(self.descriptor)

    try:
        make_folder(path.parent)
        backend = JournalFileBackend(str(path), Flock(str(path)))
        share(path)
        return JournalStorage(backend)
    except OSError as error:
        raise _not_writable(path, error) from error
    except ValueError as error:
        raise ConfigError(
            f"search.storage {path} is no journal of Optuna ({error}); name another file"
        ) from error


def _not_writable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"search.storage {path} cannot be written ({error.strerror}): {belongs(path)}; people who "
        "share a study share its file: chmod g+w, or a store whose folders their group may write to"
    )


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
