"""A database that is away for a while: waited for, said once, and nothing is told twice."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import exc

from bluestab.core.errors import ConfigError, Interrupted
from bluestab.sweeps.search import patience as waiting
from bluestab.sweeps.search.patience import StorageAway, StoragePatience, reason_away
from bluestab.sweeps.search.patient_storage import PatientStorage
from bluestab.sweeps.search.pool import see_through
from bluestab.sweeps.search.storage import open_storage
from bluestab.sweeps.search.told import points
from bluestab.sweeps.search.trials import Trials
from tests.conftest import PostgresServer
from tests.support import simulated_search
from tests.sweeps.search.test_survival import assert_whole, command

AWAY = "is away"


class Flaky(optuna.storages.InMemoryStorage):
    """A database whose connection breaks, before or after it has done what it was asked for.

    broken  how many of the next questions break, or the share that do
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken: float = 0
        self.draws = random.Random(0)
        self.asked: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ASKED or sys._getframe(1).f_code.co_name != "_ask":
            return found

        def ask(*args: Any, **kwargs: Any) -> Any:
            self.asked[name] += 1
            breaks = self.broken >= 1 or self.draws.random() < self.broken
            self.broken -= self.broken >= 1
            is_done = self.draws.random() < 0.5
            if breaks and not is_done:
                lose_connection()
            answer = found(*args, **kwargs)
            if breaks:
                lose_connection()
            return answer

        return ask


ASKED = {name for name in vars(PatientStorage) if not name.startswith("_")}


def lose_connection() -> None:
    cause = exc.OperationalError("SELECT", {}, OSError("terminating connection"))
    raise optuna.exceptions.StorageInternalError("An exception is raised") from cause


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """All searches of the test have this storage; pauses are short."""
    monkeypatch.setattr(waiting, "FIRST", 0.001)
    monkeypatch.setattr(waiting, "LONGEST", 0.01)
    one = Flaky()
    monkeypatch.setattr(
        "bluestab.sweeps.search.trials.open_storage",
        lambda where, own, waits: PatientStorage(one, where, own),
    )
    return one


@pytest.fixture
def store(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for module in ("search.worker", "search.plan"):
        monkeypatch.setattr(f"bluestab.sweeps.{module}.compose", simulated_search.compose_once)
    return tmp_path / "runs"


def told(trials: Trials) -> list[Any]:
    return [(t.params, t.values, t.state.name, t.intermediate_values) for t in points(trials.all())]


@pytest.mark.parametrize("start", [[], [simulated_search.BEST]])
def test_connections_that_break_change_nothing(
    flaky: Flaky, store: Path, start: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every fifth question, half of them after they were answered."""
    found = []
    for share in (0.0, 0.2):
        search = simulated_search.plan(store, name=f"s{share}", n_trials=6, seeds=2, start=start)
        trials = simulated_search.begin(search)
        flaky.broken, flaky.draws = share, random.Random(1)
        see_through(search, [None], simulated_search.execute)
        flaky.broken = 0
        found.append(told(trials))
        assert trials.left() == 0
        assert trials.under_way() == []
    assert found[0] == found[1]
    assert sum(flaky.asked.values()) > 100
    said = capsys.readouterr().out
    assert said.count("going on") == said.count(AWAY)


def test_it_is_said_once_and_again_when_it_is_back(flaky: Flaky) -> None:
    said: list[str] = []
    storage = PatientStorage(flaky, "postgresql://me:s3cret@h/d", StoragePatience(said.append))
    flaky.broken = 1
    storage.get_all_studies()
    assert said == [], "an interruption of half a second is not worth a word"
    flaky.broken = 7
    storage.get_all_studies()
    assert len(said) == 2
    assert said[0].startswith("search.storage postgresql://me:***@h/d is away (terminating")
    assert "waiting for it, 10 minutes at most" in said[0]
    assert said[1].startswith("search.storage postgresql://me:***@h/d is back after 0 seconds")


def test_one_that_never_comes_back_is_one_sentence(flaky: Flaky) -> None:
    storage = PatientStorage(
        flaky, "postgresql://me@h/d", StoragePatience(lambda _: None, limit=0.05)
    )
    flaky.broken = 10**9
    with pytest.raises(StorageAway, match=r"away for 0 seconds \(terminating conn.*goes on when"):
        storage.get_all_studies()
    assert StorageAway("").exit_code == 1


def test_who_is_to_stop_does_not_wait(flaky: Flaky) -> None:
    storage = PatientStorage(flaky, "postgresql://h/d", StoragePatience(asked=lambda: True))
    flaky.broken = 10**9
    with pytest.raises(Interrupted, match=r"stopped while search\.storage"):
        storage.get_all_studies()


def test_other_errors_are_no_absence() -> None:
    def error(kind: type[exc.DBAPIError], said: str, invalid: bool = False) -> Exception:
        return kind("SELECT", {}, OSError(said), connection_invalidated=invalid)

    assert reason_away(ValueError("x")) is None
    assert reason_away(error(exc.ProgrammingError, 'relation "x" does not exist')) is None
    assert reason_away(error(exc.OperationalError, "password authentication failed")) is None
    assert reason_away(error(exc.OperationalError, 'FATAL: database "x" does not exist')) is None
    starting = "FATAL: the database system is starting up"
    assert reason_away(error(exc.OperationalError, starting)) == starting
    assert reason_away(error(exc.ProgrammingError, "gone", invalid=True)) == "gone"


def test_what_does_not_answer_at_the_start_is_refused(tmp_path: Path) -> None:
    """The URL may be wrong; who knows that it was right waits."""
    pytest.importorskip("psycopg")
    url = f"postgresql://me@/nobody?host={tmp_path}"
    with pytest.raises(ConfigError, match="cannot be opened: OperationalError"):
        open_storage(url)
    with pytest.raises(StorageAway):
        open_storage(url, StoragePatience(lambda _: None, limit=0.1), waits=True)


# --- a real server ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_a_server_that_is_stopped_and_started(
    workers: int, postgres_server: PostgresServer, small: Path, tmp_path: Path
) -> None:
    """Four times, for four seconds, while points are told; no answer is repeated on the screen."""
    store, storage = tmp_path / "runs", postgres_server.url
    simulated_search.acts(store, all=0.1)
    process = command(store, storage, workers, 24)
    draws, outages, before = random.Random(workers), 0, 0
    while outages < 4 and process.poll() is None:
        time.sleep(draws.uniform(0.5, 1))
        if len(simulated_search.attempts(store)) <= before:
            continue
        before = len(simulated_search.attempts(store))
        postgres_server.stop("fast" if outages % 2 else "immediate")
        time.sleep(4)
        postgres_server.start()
        outages += 1
    said, _ = process.communicate(timeout=300)
    print(said)
    assert process.returncode == 0, said
    assert "finished" in said
    assert "Traceback" not in said
    assert_whole(store, storage, 24)
    assert max(Counter(simulated_search.attempts(store)).values()) == 1
    assert said.count(AWAY) == said.count("is back after")
    assert outages - 1 <= said.count(AWAY) <= outages, "the last may have met nobody"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_does_not_come_back(
    workers: int,
    postgres_server: PostgresServer,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence when it starts, one at the end; the same command goes on."""
    store = tmp_path / "runs"
    simulated_search.acts(store, all=0.1)
    search = simulated_search.plan(store, storage=postgres_server.url, n_trials=30, seeds=3)
    simulated_search.begin(search)
    monkeypatch.setattr(waiting, "LIMIT", 4.0)
    threading.Timer(8.0, postgres_server.stop).start()
    with pytest.raises(StorageAway, match=r"is away for \d+ seconds .*the same command goes on"):
        see_through(search, [None] * workers, simulated_search.execute)
    assert capsys.readouterr().out.count(AWAY) == 1
    postgres_server.start()
    assert not see_through(search, [None] * workers, simulated_search.execute)
    assert_whole(store, postgres_server.url, 30)
