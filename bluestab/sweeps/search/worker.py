"""A search worker: a process that opens the study, asks when it is free, sees points through.

Any number of them, on any machines that see store and storage, can work on one search; none waits
for another. Every (point, seed) is an ordinary run of the store: finished ones are used again.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from bluestab.core import preemption
from bluestab.core.config import compose, resolved
from bluestab.core.errors import BluestabError, DiskFull, GroupTooLarge, Interrupted
from bluestab.core.types import RunRecord
from bluestab.store.store import Store
from bluestab.sweeps.attempt import Execute, attempt_together
from bluestab.sweeps.grouping import PackSizer, is_packed, with_engines
from bluestab.sweeps.lifecycle import tell_damaged
from bluestab.sweeps.plan import Job
from bluestab.sweeps.processes import enter
from bluestab.sweeps.queue import LOOK_AGAIN
from bluestab.sweeps.search import curves
from bluestab.sweeps.search.objectives import OBJECTIVES, Outcome, outcome, worth, worth_so_far
from bluestab.sweeps.search.patience import StorageAway, StoragePatience
from bluestab.sweeps.search.points import Point
from bluestab.sweeps.search.race import as_if_complete, verdict
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.told import rivals, scores_of
from bluestab.sweeps.search.trials import Exhausted, Taken, Trials
from bluestab.sweeps.stopping import has_room, refuse_too_large
from bluestab.training.check import Run, check
from bluestab.training.execute import is_done
from bluestab.training.families import pack_group_key

Ended = Literal["enough", "exhausted", "interrupted", "crashed"]
"""Why a worker stops: all points are told or taken; there are no others; it was asked to;
on_crash=stop and one did."""


class PruneRun(BaseException):
    """A run is given up while it trains. No Exception: that would be recorded as a crash."""


class StopRequested(BaseException):
    """The worker was asked to stop while it waited."""


class Crashed(Exception):
    """A run of the point crashed, and is not tried again; its record, and its seed."""

    def __init__(self, record: RunRecord, seed: int) -> None:
        super().__init__(record.key)
        self.record, self.seed = record, seed


def with_its_engine(search: Search, lines: Sequence[Job]) -> list[Job]:
    """Runs of a search; where its seeds train as one, with the engine that can train them."""
    return list(lines) if search.group == 1 else with_engines(compose, lines)[0]


def jobs(search: Search, point: Point, seeds: Sequence[int]) -> list[Job]:
    """Overrides of a point's runs, one at each seed."""
    return with_its_engine(search, [search.job(point, seed) for seed in seeds])


class Worker:
    """What one process does for a search.

    device   in place of the config's, for its runs; None: as the config has it
    asked    is this worker to stop? Looked at between runs
    execute  what does a run; None: `bluestab.training.execute.execute_one`
    of       workers that share the device
    patience how it waits for a database that is away; None: it says so, and looks at `asked`
    """

    def __init__(
        self,
        search: Search,
        *,
        device: str | None = None,
        asked: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = print,
        execute: Execute | None = None,
        of: int = 1,
        patience: StoragePatience | None = None,
    ) -> None:
        self.search, self.device, self.asked, self.say = search, device, asked, say
        self.execute = execute
        self.store = Store(search.root)
        self.trials = Trials.open(search, patience=patience or StoragePatience(say, asked))
        self.sizer = PackSizer(search.group, of=None if of == 1 else of)
        self._composed: tuple[Point, dict[str, Any]] | None = None

    def work(self, after_each: Callable[[], None] = lambda: None) -> Ended:
        """See points through until there are enough.

        Raises StoreError, ConfigError, StorageAway.
        """
        try:
            return self._work(after_each)
        except Interrupted:  # while its database was away: the point is found dead, and taken up
            return "interrupted"

    def _work(self, after_each: Callable[[], None]) -> Ended:
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

    def checked(self, point: Point, seed: int) -> Run:
        """The run of a point at a seed. Raises ConfigError if it is impossible."""
        if self._composed is None or self._composed[0] != point:  # 40 ms: once for all its seeds
            self._composed = (point, resolved(compose(jobs(self.search, point, [seed])[0])))
        run = check({**self._composed[1], "seed": seed, "store": self.search.root})
        if self.device is None or run.cfg["device"] not in ("auto", "cuda"):
            return run
        return replace(run, cfg={**run.cfg, "device": self.device})

    def see_through(self, taken: Taken) -> Ended | None:
        """One point, seed by seed or group by group, to its end. None: on to the next."""
        search, outcomes = self.search, dict[int, Outcome]()
        while len(outcomes) < len(search.seeds):
            if self.asked():
                self.trials.hand_back(taken)
                return "interrupted"
            runs = self._next(taken.point, len(outcomes))
            stops = runs[0].cfg["on_crash"] == "stop"
            if stops and self.trials.crashed():  # in another process
                self.trials.hand_back(taken)
                return "crashed"
            try:
                records = self._run(runs, taken)
            except (preemption.Preempted, SystemExit, KeyboardInterrupt):
                # the latter two are how Lightning leaves at SIGTERM
                if not preemption.is_requested():
                    raise
                self.trials.hand_back(taken)
                return "interrupted"
            except PruneRun as cut:
                said = f"seed {search.seeds[len(outcomes)]}: {cut}"
                self.trials.stop(taken, "cut", said, self._so_far(list(outcomes.values())), None)
                return None
            except StopRequested:
                self.trials.hand_back(taken)
                return "interrupted"
            except Crashed as crash:
                error = crash.record.result["error"]
                said = f"seed {crash.seed}: {error['type']}: {error['message']}"
                self.trials.fail(taken, "crashed", f"{said}; {self._log(crash.record)}")
                return "crashed" if stops else None
            for run, record in zip(runs, records, strict=True):
                one = outcomes[run.cfg["seed"]] = outcome(record, search.at)
                if not search.several:
                    taken.trial.report(one.score, step=len(outcomes) - 1)
            self.trials.note(taken, outcomes)
            if why := self._verdict(taken, list(outcomes.values())):
                self._stop(taken, why, list(outcomes.values()))
                return None
        values = [worth(name, list(outcomes.values()), search.sign) for name in search.objective]
        self.trials.complete(taken, values)
        return None

    # --- runs ----------------------------------------------------------------------------------

    def _next(self, point: Point, done: int) -> list[Run]:
        """The run at the next seed, and siblings at those that follow, if they train as one."""
        seeds = self.search.seeds[done:]
        first = self.checked(point, seeds[0])
        if not is_packed(first) or self.search.prune != "none" or len(seeds) == 1:
            return [first]
        following = (self.checked(point, seed) for seed in seeds[1 : self.sizer.size(first)])
        family = pack_group_key(first)
        return [first, *itertools.takewhile(lambda run: pack_group_key(run) == family, following)]

    def _run(self, runs: Sequence[Run], taken: Taken) -> list[RunRecord]:
        """The records of runs that train as one, most often of one; from the store if it has them.

        Raises PruneRun, StopRequested, Crashed, StoreError.
        """
        taken.trial.set_user_attr("doing", runs[0].key)
        tell_damaged(self.store, runs)
        retries = int(str(runs[0].cfg["on_crash"]).partition(":")[2] or 0)
        crashes: Counter[str] = Counter()
        while missing := [run for run in runs if not is_done(run, self.store)]:
            part = missing if len(missing) == 1 else missing[: self.sizer.size(missing[0])]
            watching = self._watching(part[0], taken)
            try:
                records = attempt_together(part, self.store, watching, self.execute)
            except DiskFull as error:
                refuse_too_large(self.store, error)
                self.say(f"paused: the disk of '{self.store.root}' is full; make room")
                self._wait()
                while not has_room(self.store):  # else the same run is trained for nothing
                    self._wait()
                continue
            except GroupTooLarge as error:
                self.say(self.sizer.too_large(part[0], len(part), str(error)))
                continue
            for run, record in zip(part, records, strict=True):
                if record is not None and record.status == "crashed":
                    crashes[run.key] += 1
                    if crashes[run.key] > retries:
                        raise Crashed(record, run.cfg["seed"])
            ended = [record for record in records if record is not None]
            self.sizer.measured(part[0], ended)
            if len(ended) < len(part):  # another process is at one of these very runs
                self._wait()
        return [self.store.read(run.key) for run in runs]

    def _wait(self) -> None:
        time.sleep(LOOK_AGAIN)
        if self.asked():
            raise StopRequested

    def _log(self, record: RunRecord) -> str:
        return f"log: {self.store.crash_folder(record.key) / 'log.txt'}"

    def _watching(self, run: Run, taken: Taken) -> Callable[..., None] | None:
        """Keeps the validation curve of a run, and raises PruneRun where it is hopeless."""
        if self.search.prune == "none":
            return None
        seed, own = run.cfg["seed"], dict[int, float]()
        name = f"curve.{seed}"

        def noted(step: int, total: int, loss: float | None, score: float | None) -> None:
            if loss is None:
                return
            own[step] = run.data.task.failure_score if score is None else score
            try:
                with self.trials.patience.none():  # training waits for no database
                    taken.trial.set_user_attr(name, {str(k): v for k, v in own.items()})
                    others = rivals(self.trials.all(), taken.number)
            except StorageAway:
                return
            seen = [t.user_attrs[name] for t in others if name in t.user_attrs]
            why = curves.hopeless(
                own,
                [{int(k): float(v) for k, v in curve.items()} for curve in seen],
                steps=total,
                rule=self.search.prune,  # type: ignore[arg-type]
                number=taken.number,
                sign=self.search.sign,
            )
            if why is not None:
                raise PruneRun(why)

        return noted

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
        objective = OBJECTIVES[search.objective[0]]
        return verdict(scores, others, search.race, objective, n, search.sign)

    def _stop(self, taken: Taken, why: str, outcomes: list[Outcome]) -> None:
        others = [scores_of(t) for t in rivals(self.trials.all(), taken.number)]
        scores = [o.score for o in outcomes]
        estimate = None
        if not self.search.several:
            estimate = as_if_complete(scores, others, len(self.search.seeds))
        self.trials.stop(taken, "stopped", why, self._so_far(outcomes), estimate)

    def _so_far(self, outcomes: Sequence[Outcome]) -> float | None:
        search = self.search
        return None if search.several else worth_so_far(search.objective[0], outcomes, search.sign)


def serve(connection: Any, search: Search, output: str, **given: Any) -> None:
    """A worker in a process of its own, told to stop through `connection`, which also ends it.

    output  file for what libraries print and for last words
    given   environment, device, execute, of, limit (of patience, in seconds)
    """
    enter(connection, output, given["environment"])

    def say(what: str, said: str) -> None:
        connection.send({"what": what, "said": said})

    try:

        def asked() -> bool:
            return preemption.is_requested() or connection.poll()

        worker = Worker(
            search,
            device=given["device"],
            asked=asked,
            say=lambda line: say("line", line),
            execute=given["execute"],
            of=given["of"],
            patience=StoragePatience(
                lambda line: None, asked, given["limit"]
            ),  # the parent says it
        )
        say("ready", "")
        say("ended", worker.work())
    except BluestabError as error:
        say(type(error).__name__, str(error))
