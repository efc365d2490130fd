"""Where a study is kept: a journal file, SQLite or PostgreSQL, through Optuna's own storages."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.paths import expanded
from bluestab.core.plain_files import check_plain
from bluestab.core.secrets import cleaned, cleaned_value
from bluestab.store.files import belongs, make_folder, share
from bluestab.sweeps.search.patience import StoragePatience, reason_away

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

USUAL = "study.journal"
"""Name of the journal in the folder of a search, where no other storage is named."""

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
    read_only: bool = False,
) -> BaseStorage:
    """The storage at a URL, or in a journal file; a database that is away later is waited for.

    patience  how this process waits
    waits     also for one that is away now; else that is refused, since the URL may be wrong
    read_only create and write nothing

    Raises ConfigError if it cannot be opened, StoreError if its file is not there to be read,
    StorageAway, Interrupted.
    """
    import optuna

    if "://" not in where:
        return _journal(Path(where), read_only=read_only)
    scheme, typed = where.partition("://")[0], where
    if scheme in ("postgresql", "postgres"):
        where = "postgresql+psycopg://" + where.partition("://")[2]
    if where.startswith("postgresql+psycopg://"):
        need("psycopg", "postgres", scheme)
    elif scheme != "sqlite":
        raise ConfigError(
            f"search.storage is {cleaned_value(where)!r}: expected a file, sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE"
        )
    file = file_of(where)
    if scheme == "sqlite" and read_only:
        _need_file(file)
        where = f"sqlite:///file:{quote(str(file))}?mode=ro&uri=true"
    elif file is not None:
        make_folder(file.parent)
    patience = StoragePatience() if patience is None else patience
    opened = _opened(where, typed, patience if waits else None, read_only=read_only)
    if file is not None and not read_only:
        share(file)
    from bluestab.sweeps.search.patient_storage import PatientStorage

    return PatientStorage(optuna.storages.get_storage(opened), typed, patience)


def _opened(
    where: str, typed: str, patience: StoragePatience | None, *, read_only: bool
) -> BaseStorage:
    import optuna

    since, tries = time.monotonic(), 0
    while True:
        try:
            # pings: a connection that the server closed meanwhile is opened again
            options = {"pool_pre_ping": True, "connect_args": _connection_options(where, read_only)}
            storage = optuna.storages.RDBStorage(
                where, engine_kwargs=options, skip_table_creation=read_only
            )
        except Exception as error:  # of SQLAlchemy, of the driver, of Optuna's version table
            reason = reason_away(error)
            if patience is not None and reason is not None:
                tries += 1
                patience.wait(typed, reason, since, tries)
                continue
            first = cleaned(str(error).strip().splitlines()[0][:300])
            raise ConfigError(
                f"search.storage {cleaned_value(typed)} cannot be opened: {type(error).__name__}: "
                f"{first}"
            ) from error
        if patience is not None:
            patience.is_back(typed, since, tries)
        return storage


def _connection_options(where: str, read_only: bool) -> dict[str, int | str]:
    """What the driver is told of time: 60 seconds for SQLite's lock, `TCP` for PostgreSQL."""
    from sqlalchemy import make_url

    if where.startswith("sqlite"):
        return {"timeout": 60}
    given = make_url(where).query
    options: dict[str, int | str] = {n: value for n, value in TCP.items() if n not in given}
    return {**options, "options": "-c default_transaction_read_only=on"} if read_only else options


def file_of(where: str) -> Path | None:
    """The file of a storage; None if it has none, but a server."""
    if "://" not in where:
        return Path(where)
    if not where.startswith("sqlite:"):
        return None
    return expanded(where.partition("///")[2].partition("?")[0])


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
        if read_only:
            _need_file(path)
        else:
            make_folder(path.parent)
        _check_journal(path)
        backend = JournalFileBackend(str(path), Flock(str(path)))
        if not read_only:
            share(path)
        return JournalStorage(backend)
    except OSError as error:
        if read_only:
            raise ConfigError(f"search.storage {path} cannot be read ({error.strerror})") from error
        raise _not_writable(path, error) from error
    except ValueError as error:
        raise ConfigError(
            f"search.storage {path} is no journal of Optuna ({error}); name another file"
        ) from error


def _check_journal(path: Path) -> None:
    """Raises ValueError for a file that is not one: nothing is appended to it, or cut from it."""
    if path.exists():
        check_plain(path)
        with path.open("rb") as file:
            line = file.readline(2**16)
        if line and not (line.startswith(b"{") and (b'"op_code"' in line or line[-1:] != b"\n")):
            raise ValueError(f"its first line is {line[:40]!r}")


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
