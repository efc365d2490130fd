"""The workers of a search on this machine: one in this process, or several in their own.

The parent hires, replaces the dead, and says what has been told. It decides nothing: the study and
the store do, so that it can be killed at any time, and any number of commands can share a search.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from bluestab.errors import BluestabError, Interrupted
from bluestab.search.points import shown
from bluestab.search.spec import Search
from bluestab.search.trials import Trials, points, scores_of, took, was_stopped
from bluestab.search.worker import Ended, Worker, serve
from bluestab.store import Store
from bluestab.workers import (
    LIBRARIES,
    LOOK_AGAIN,
    Execute,
    Hired,
    RunsCrashed,
    Stop,
    start_process,
)

HOPELESS = 5  # workers in a row that die before they could ask
LAST_WORDS = 2**14  # bytes of a dead worker's output that are shown


def see_through(
    search: Search, places: Sequence[str | None], execute: Execute | None = None
) -> bool:
    """Work on a search until all its points are told. Did a person stop it?

    places   the device of each worker; one: in this process
    execute  what does a run; a function that a worker can import

    Raises RunsCrashed if on_crash=stop and a run crashed.
    """
    trials = Trials.open(search)
    again = trials.begin()
    teller = Teller(trials)
    if again:
        print(f"{again} points that crashed are tried again")
    with Stop(print) as stop:
        while (trials.left() > 0 or trials.under_way()) and not stop.asked:
            if len(places) == 1:
                ended = _here(search, places[0], stop, teller, execute)
            else:
                ended = in_processes(search, places, stop, teller, execute)
            teller.tell()
            if ended == "crashed":
                raise RunsCrashed("a run crashed, and on_crash=stop: the search stops")
            if ended == "interrupted":
                return True
            if ended == "exhausted":
                return False
            _wait_for_others(trials, stop, teller)
        return stop.asked


def _here(
    search: Search, place: str | None, stop: Stop, teller: Teller, execute: Execute | None
) -> Ended:
    worker = Worker(search, device=place, asked=lambda: stop.asked, execute=execute)
    return worker.work(after_each=teller.tell)


def _wait_for_others(trials: Trials, stop: Stop, teller: Teller) -> None:
    """Points of other commands: if their process dies, there is one more to be asked for."""
    said = False
    while trials.under_way() and not stop.asked:
        if trials.dead():
            return
        if not said:
            print(f"waiting for {len(trials.under_way())} points of other processes")
            said = True
        time.sleep(LOOK_AGAIN)
        teller.tell()


class Teller:
    """Says what has become of points, each once.

    job  task of a cluster, `<array>_<index>`, whose points alone are of interest
    """

    def __init__(self, trials: Trials, job: str | None = None) -> None:
        self.trials, self.job = trials, job
        self.told = {t.number for t in trials.all() if t.state.is_finished()}
        done = sum(t.state.is_finished() for t in points(trials.all()))
        if done:
            print(f"going on with search {trials.search.name}: {done} points are told")

    def tell(self) -> None:
        search, trials = self.trials.search, self.trials.all()
        counted = [t for t in points(trials) if t.state.is_finished()]
        numbers = {t.number for t in counted}
        for trial in trials:
            if not trial.state.is_finished() or trial.number in self.told:
                continue
            self.told.add(trial.number)
            if self.job is not None and not took(self.job, trial):
                continue
            note = " ".join(str(trial.user_attrs.get("note", "its process died")).split())[:200]
            if trial.number in numbers:
                done = len([n for n in numbers if n in self.told])
                print(f"[{done}/{search.n_trials}] {line(trial, search)}", flush=True)
            elif trial.user_attrs.get("why") == "impossible":
                print(f"    passed over: {shown(trial.params)}: {note}", flush=True)
            elif trial.user_attrs.get("why") is None and trial.params:
                print(f"    its process died, once more: {shown(trial.params)}", flush=True)


def line(trial: Any, search: Search) -> str:
    """A finished point in a line: its values, how many seeds it had, what it is."""
    n, of = len(scores_of(trial)), len(search.seeds)
    note = " ".join(str(trial.user_attrs.get("note", "")).split())[:200]
    if trial.state.name == "FAIL":
        return f"crashed        {shown(trial.params)}: {note or 'its process died too often'}"
    if was_stopped(trial):
        mean = f"mean {sum(scores_of(trial)) / n:.4f}, " if n else ""
        return f"stopped {n}/{of}    {shown(trial.params)}: {mean}{note}"
    values = zip(search.objective, trial.values or (), strict=True)
    said = ", ".join(f"{name} {value:.4f}" for name, value in values)
    return f"{said}    {shown(trial.params)}"


@dataclass
class Searcher(Hired):
    """A worker process and why it ended."""

    ended: str = ""


def in_processes(
    search: Search,
    places: Sequence[str | None],
    stop: Stop,
    teller: Teller,
    execute: Execute | None,
) -> Ended:
    """As many workers as there are places, the dead replaced, until all of them have ended.

    Where `stop` says when, they are told to give their runs back, and are cut off.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["bluestab.search.worker", "bluestab.assemble", "bluestab.run", *LIBRARIES]
    )
    store = Store(search.root)
    for left in store.abandoned("worker-*"):
        left.unlink(missing_ok=True)

    def hire(place: str | None) -> Searcher:
        ours, theirs = context.Pipe()
        output = store.work_path(f"worker-{time.monotonic_ns()}")
        process = start_process(
            context,
            serve,
            *(theirs, search, str(output)),
            environment=dict(os.environ),
            device=place,
            execute=execute,
            of=places.count(place),
        )
        theirs.close()
        return Searcher(place, process, ours, output)

    crew = [hire(place) for place in places]
    deaths = told_to_stop = 0
    leaving = False
    try:
        while any(not one.ended for one in crew):
            if stop.asked and not told_to_stop:
                told_to_stop = 1
                for one in crew:
                    _send_stop(one)
            if stop.asked and stop.until is not None and time.monotonic() >= stop.order_at:
                _give_back(crew, cut_off=time.monotonic() >= stop.until, told=leaving)
                leaving = True
            _hear(crew)
            teller.tell()
            for i, one in enumerate(crew):
                alone_told = one.ended == "interrupted" and not stop.asked  # a signal to it alone
                if (one.ended and not alone_told) or one.process.is_alive():
                    continue
                deaths = 0 if one.ready else deaths + 1
                if deaths >= HOPELESS:
                    raise BluestabError(
                        f"worker processes die before they can start:\n{one.last_words(LAST_WORDS)}"
                    )
                if stop.asked:
                    one.ended = "interrupted"
                    continue
                one.end()
                crew[i] = hire(one.place)
        return _outcome(crew)
    except KeyboardInterrupt as error:
        raise Interrupted("stopped; what ran was cut off, the same command goes on") from error
    finally:
        for one in crew:
            one.end()


def _send_stop(one: Hired) -> None:
    try:
        one.connection.send("stop")
    except OSError:  # it is dead, or about to be
        return


def _give_back(crew: Sequence[Searcher], *, cut_off: bool, told: bool) -> None:
    """Tell the workers to give their runs back, once; if that took too long, end them."""
    for one in crew:
        if one.ended or not one.process.is_alive():
            continue
        if cut_off:
            one.process.kill()
        elif not told:
            with suppress(ProcessLookupError):
                os.kill(one.process.pid or 0, signal.SIGUSR1)


def _hear(crew: Sequence[Searcher]) -> None:
    """What workers have to say, for a little while. Raises BluestabError if one cannot go on."""
    alive = [one for one in crew if not one.ended]
    heard: list[Any] = wait([one.connection for one in alive], timeout=0.3)
    for one in alive:
        if one.connection not in heard:
            continue
        try:
            answer = one.connection.recv()
        except (EOFError, OSError):  # dead
            one.process.join(1.0)
            continue
        if answer["what"] == "ready":
            one.ready = True
        elif answer["what"] == "line":
            print(answer["said"], flush=True)
        elif answer["what"] == "ended":
            one.ended = answer["said"]
        else:
            raise BluestabError(answer["said"])


def _outcome(crew: Sequence[Searcher]) -> Ended:
    ends = {one.ended for one in crew}
    worst: tuple[Ended, ...] = ("crashed", "interrupted", "exhausted")
    return next((end for end in worst if end in ends), "enough")
