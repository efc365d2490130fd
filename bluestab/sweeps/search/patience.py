"""Waiting for a database that is away: a restart, a failover, a network that is gone for minutes.

What a search asks of its study is asked again, with pauses that grow, until there is an answer or
`LIMIT` seconds have passed: training goes on meanwhile, and no result depends on when it was told.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bluestab.core.errors import BluestabError, Interrupted
from bluestab.core.secrets import cleaned_value

LIMIT = 600.0  # seconds without an answer after which a process gives up
FIRST, LONGEST = 0.5, 5.0  # seconds: the first pause, and what doubling leads up to
SLICE = 0.2  # seconds between two looks at whether to stop

NO_SERVER_AWAY = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|role .* does not exist|"
    r"database .* does not exist|permission denied",
    re.IGNORECASE,
)
"""What a server answers that is there: waiting would not help."""


class StorageAway(BluestabError):
    """The database of a search does not answer. reason: what its driver says."""

    exit_code = 1

    def __init__(self, said: str, reason: str = "") -> None:
        super().__init__(said)
        self.reason = reason


@dataclass
class StoragePatience:
    """How this process waits for the storage of a search.

    say     takes a sentence when it is away, and one when it is back
    asked   is the process to stop? Looked at while it waits
    limit   seconds without an answer after which StorageAway is raised; 0: at the first
    """

    say: Callable[[str], None] = print
    asked: Callable[[], bool] = lambda: False
    limit: float = field(default_factory=lambda: LIMIT)

    def wait(self, storage: str, reason: str, since: float, tries: int) -> None:
        """Pause once more after `tries` questions without an answer, the first at `since`.

        Raises StorageAway when that took too long, Interrupted if the process is to stop.
        """
        storage, now = cleaned_value(storage), time.monotonic()
        if now - since >= self.limit:
            raise StorageAway(
                f"search.storage {storage} is away for {_seconds(now - since)} ({reason}): what "
                "was told is kept, and the same command goes on when it is back",
                reason,
            )
        self.say_away(storage, reason, tries)
        end = min(now + min(LONGEST, FIRST * 2 ** (tries - 1)), since + self.limit)
        while (left := end - time.monotonic()) > 0:
            if self.asked():
                raise Interrupted(
                    f"stopped while search.storage {storage} was away ({reason}); the same "
                    "command goes on when it is back"
                )
            time.sleep(min(SLICE, left))

    def say_away(self, storage: str, reason: str, tries: int) -> None:
        """Once: at the second question without an answer, half a second after the first."""
        if tries == 2:
            self.say(
                f"search.storage {cleaned_value(storage)} is away ({reason}); waiting for it, "
                f"{_seconds(self.limit or LIMIT)} at most; runs that train go on"
            )

    def is_back(self, storage: str, since: float, tries: int) -> None:
        """There is an answer after `tries` questions without one."""
        if tries > 1:
            away = _seconds(time.monotonic() - since)
            self.say(f"search.storage {cleaned_value(storage)} is back after {away}: going on")

    @contextmanager
    def none(self) -> Iterator[None]:
        """Inside, StorageAway is raised at once."""
        before, self.limit = self.limit, 0.0
        try:
            yield
        finally:
            self.limit = before


def _seconds(n: float) -> str:
    return f"{n / 60:.0f} minutes" if n >= 120 else f"{n:.0f} seconds"


def reason_away(error: BaseException | None) -> str | None:
    """What the driver says, if the database cannot be reached, or is busy, and may soon not be.

    None for every other error, also of a server that answers and refuses.
    """
    from sqlalchemy import exc

    while error is not None:
        if isinstance(error, exc.PendingRollbackError | exc.TimeoutError):
            return type(error).__name__
        if isinstance(error, exc.DBAPIError):
            is_away = isinstance(error, exc.OperationalError | exc.InterfaceError)
            lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
            if "sqlite3" in type(error.orig).__module__:  # a file, whose errors do not pass
                return lines[0] if re.search("locked|busy", lines[0]) else None
            if NO_SERVER_AWAY.search(str(error.orig)):
                return None
            return lines[0][:200] if is_away or error.connection_invalidated else None
        error = error.__cause__
    return None
