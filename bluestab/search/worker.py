"""A search worker: a process that opens the study, asks when it is free, sees points through.

Any number of them, on any machines that see store and storage, can work on one search; none waits
for another. Every (point, seed) is an ordinary run of the store: finished ones are used again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from bluestab import interruption
from bluestab.checks import CheckedRun, check
from bluestab.errors import DiskFull
from bluestab.planning import compose, resolved
from bluestab.run import is_done
from bluestab.search import curves
from bluestab.search.objectives import OBJECTIVES, Outcome, outcome, worth
from bluestab.search.points import Point
from bluestab.search.race import as_if_complete, verdict
from bluestab.search.spec import Search
from bluestab.search.trials import Exhausted, Taken, Trials, rivals, scores_of
from bluestab.store import Store
from bluestab.types import RunRecord
from bluestab.workers import LOOK_AGAIN, Execute, attempt, tell_damaged

Ended = Literal["enough", "exhausted", "interrupted", "crashed"]
"""Why a worker stops: all points are told or taken; there are no others; it was asked to;
on_crash=stop and one did."""


class Cut(BaseException):
    """A run is given up while it trains. No Exception: that would be recorded as a crash."""


class Left(BaseException):
    """The worker was asked to stop while it waited."""


class Worker:
    """What one process does for a search.

    device   in place of the config's, for its runs; None: as the config has it
    asked    is this worker to stop? Looked at between runs
    execute  what does a run; None: `bluestab.run.execute`
    """

    def __init__(
        self,
        search: Search,
        *,
        device: str | None = None,
        asked: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = print,
        execute: Execute | None = None,
    ) -> None:
        self.search, self.device, self.asked, self.say = search, device, asked, say
        self.execute = execute
        self.store = Store(search.root)
        self.trials = Trials.open(search)
        self._composed: tuple[Point, dict[str, Any]] | None = None

    def work(self, after_each: Callable[[], None] = lambda: None) -> Ended:
        """See points through until there are enough. Raises StoreError, ConfigError."""
        while not self.asked():
            try:
                taken = self.trials.take(self.checked)
            except Exhausted as error:
                self.say(str(error))
                return "exhausted"
            if taken is None:
                return "enough"
            try:
                ended = self.see_through(taken)
            except BaseException:
                self.trials.let_go(taken)
                raise
            after_each()
            if ended is not None:
                return ended
        return "interrupted"

    def checked(self, point: Point, seed: int) -> CheckedRun:
        """The run of a point at a seed. Raises ConfigError if it is impossible."""
        if self._composed is None or self._composed[0] != point:  # 40 ms: once for all its seeds
            self._composed = (point, resolved(compose(self.search.job(point, seed))))
        run = check({**self._composed[1], "seed": seed, "store": self.search.root})
        if self.device is None or run.cfg["device"] not in ("auto", "cuda"):
            return run
        return replace(run, cfg={**run.cfg, "device": self.device})

    def see_through(self, taken: Taken) -> Ended | None:
        """One point, seed by seed, to its end. None: on to the next."""
        search, outcomes = self.search, {}
        for k, seed in enumerate(search.seeds):
            if self.asked():
                self.trials.hand_back(taken)
                return "interrupted"
            run = self.checked(taken.point, seed)
            if run.cfg["on_crash"] == "stop" and self.trials.crashed():  # in another process
                self.trials.hand_back(taken)
                return "crashed"
            try:
                record = self._run(run, taken)
            except (interruption.GivenBack, SystemExit, KeyboardInterrupt):
                if not interruption.asked():  # the latter two are how Lightning leaves at SIGTERM
                    raise
                self.trials.hand_back(taken)
                return "interrupted"
            except Cut as cut:
                self.trials.stop(taken, "cut", f"seed {seed}: {cut}", None)
                return None
            except Left:
                self.trials.hand_back(taken)
                return "interrupted"
            if record.status == "crashed":
                error = record.result["error"]
                said = f"seed {seed}: {error['type']}: {error['message']}"
                self.trials.fail(taken, "crashed", f"{said}; {self._log(record)}")
                return "crashed" if run.cfg["on_crash"] == "stop" else None
            outcomes[seed] = outcome(record, search.at)
            if not search.several:
                taken.trial.report(outcomes[seed].score, step=k)
            self.trials.note(taken, outcomes)
            if why := self._verdict(taken, list(outcomes.values())):
                self._stop(taken, why, list(outcomes.values()))
                return None
        told = [worth(name, list(outcomes.values())) for name in search.objective]
        self.trials.complete(taken, told)
        return None

    # --- one run -------------------------------------------------------------------------------

    def _run(self, run: CheckedRun, taken: Taken) -> RunRecord:
        """The record of a run, from the store if it is there. Raises Cut, Left, StoreError."""
        taken.trial.set_user_attr("doing", run.key)
        tell_damaged(self.store, [run])
        retries = int(str(run.cfg["on_crash"]).partition(":")[2] or 0)
        crashes = 0
        while True:
            if is_done(run, self.store):
                return self.store.read(run.key)
            try:
                record = attempt(run, self.store, self._watching(run, taken), self.execute)
            except DiskFull:
                self.say(f"paused: the disk of '{self.store.root}' is full; make room")
                self._wait()
                continue
            if record is None:  # another process is at this very run
                self._wait()
                continue
            if record.status != "crashed" or crashes >= retries:
                return record
            crashes += 1

    def _wait(self) -> None:
        time.sleep(LOOK_AGAIN)
        if self.asked():
            raise Left

    def _log(self, record: RunRecord) -> str:
        return f"log: {self.store.crash_folder(record.key) / 'log.txt'}"

    def _watching(self, run: CheckedRun, taken: Taken) -> Callable[..., None] | None:
        """Keeps the validation curve of a run, and raises Cut where it is hopeless."""
        if self.search.prune == "none":
            return None
        seed, own = run.cfg["seed"], dict[int, float]()
        name = f"curve.{seed}"

        def told(step: int, total: int, loss: float | None, score: float | None) -> None:
            if loss is None:
                return
            own[step] = run.data.task.failure_score if score is None else score
            taken.trial.set_user_attr(name, {str(k): v for k, v in own.items()})
            others = rivals(self.trials.all(), taken.number)
            seen = [t.user_attrs[name] for t in others if name in t.user_attrs]
            why = curves.hopeless(
                own,
                [{int(k): float(v) for k, v in curve.items()} for curve in seen],
                steps=total,
                rule=self.search.prune,  # type: ignore[arg-type]
                number=taken.number,
            )
            if why is not None:
                raise Cut(why)

        return told

    # --- racing --------------------------------------------------------------------------------

    def _verdict(self, taken: Taken, outcomes: list[Outcome]) -> str | None:
        """Why to stop a point after these outcomes."""
        search = self.search
        n, n_failed = len(search.seeds), sum(o.failed for o in outcomes)
        if len(outcomes) == n:
            return None
        limit = search.failed_share
        if limit is not None and search.race.kind != "none" and n_failed > limit * n:
            return f"{n_failed} runs failed: of {n}, more than failed_share={limit:g} allows"
        if search.several:
            return None
        others = [scores_of(t) for t in rivals(self.trials.all(), taken.number)]
        scores = [o.score for o in outcomes]
        return verdict(scores, others, search.race, OBJECTIVES[search.objective[0]], n)

    def _stop(self, taken: Taken, why: str, outcomes: list[Outcome]) -> None:
        others = [scores_of(t) for t in rivals(self.trials.all(), taken.number)]
        scores = [o.score for o in outcomes]
        estimate = None
        if not self.search.several:
            estimate = as_if_complete(scores, others, len(self.search.seeds))
        self.trials.stop(taken, "stopped", why, estimate)


def serve(connection: Any, search: Search, output: str, **given: Any) -> None:
    """A worker in a process of its own, told to stop through `connection`, which also ends it.

    output  file for what libraries print and for last words; given: environment, device, execute
    """
    import os
    import signal

    from bluestab.errors import BluestabError
    from bluestab.pool_worker import die_with_parent, write_to

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the parent decides
    interruption.obey()
    os.environ.clear()
    os.environ.update(given["environment"])
    die_with_parent(connection)
    write_to(output)

    def say(what: str, said: str) -> None:
        connection.send({"what": what, "said": said})

    try:
        worker = Worker(
            search,
            device=given["device"],
            asked=lambda: interruption.asked() or connection.poll(),
            say=lambda line: say("line", line),
            execute=given["execute"],
        )
        say("ready", "")
        say("ended", worker.work())
    except BluestabError as error:
        say(type(error).__name__, str(error))
