"""The trials of a study: taken, told, found dead, counted. The same for every storage.

A trial belongs to the process that holds the claim `trial-<number>` in the folder of the search
(`store/claims.py`). Asking, claiming and looking for dead owners happen under one lock, so that a
running trial without a live claim is a dead process's: it is told FAIL, and its point is queued
again, whose finished runs the store has.

User attributes of a trial:
    cell           digest of what its runs have in common; two trials of one cell are duplicates
    point          its overrides, as one would type them
    doing          key of the run that is under way
    runs           seeds at which it has a result
    failed         seeds at which it failed on validation; failed_share: their share
    seconds        mean wall clock of its runs
    curve.<seed>   step -> validation score of that run
    why            stopped | cut | duplicate | impossible | crashed | interrupted; a trial that
                   failed without a reason is one whose process died
    note           the same in words
    job            task of a cluster that took it
    deaths         run -> processes that died in it, over all trials of the point
    retry_of       number of the trial whose point this is once more
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import BluestabError, ConfigError
from bluestab.core.secrets import cleaned, cleaned_value
from bluestab.store.claims import Claim, Claims
from bluestab.store.files import alone
from bluestab.sweeps.search import samplers, spec
from bluestab.sweeps.search.objectives import SECONDS, Outcome, failed_share, maximised, worth
from bluestab.sweeps.search.patience import StoragePatience
from bluestab.sweeps.search.points import Point, overrides
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.storage import open_storage
from bluestab.sweeps.search.told import is_drawn, lineage, n_drawn, points
from bluestab.training.check import Run

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

IDENTITY = "bluestab"
"""User attribute of a study: what all its trials have in common (`spec.identity`)."""

DEATHS = 3  # processes that die in one run before its point counts as crashed
REFUSED = 200  # in a row, of points that are impossible or duplicates, before the search gives up


class Exhausted(BluestabError):
    """There is no point left that could be tried."""


Check = Callable[[Point, int], Run]
"""Point and seed -> the run. Raises ConfigError if it is impossible."""


@dataclass
class Taken:
    """A trial that this process works on."""

    trial: Trial
    point: Point
    claim: Claim

    @property
    def number(self) -> int:
        return self.trial.number


class Trials:
    """The study of a search, opened by one process.

    patience  how it waits for a database that is away
    """

    def __init__(self, search: Search, study: Study, patience: StoragePatience) -> None:
        self.search, self.study, self.patience = search, study, patience
        self.claims = Claims(search.folder)

    @classmethod
    def open(
        cls,
        search: Search,
        identity: Mapping[str, Any] | None = None,
        patience: StoragePatience | None = None,
    ) -> Trials:
        """Open the study, or begin it if `identity` is given.

        patience  wait like this for a database that is away; None: only once the study is open

        Raises ConfigError if it was begun with another identity, or cannot be opened, StorageAway.
        """
        import optuna

        own = StoragePatience() if patience is None else patience
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with no_remarks(), alone(search.folder):
            storage = open_storage(search.storage, own, waits=patience is not None)
            directions = [
                optuna.study.StudyDirection.MAXIMIZE
                if maximised(name, search.sign)
                else optuna.study.StudyDirection.MINIMIZE
                for name in search.objective
            ]
            with opening(search):
                study = optuna.create_study(
                    storage=storage,
                    study_name=search.name,
                    directions=directions,
                    pruner=optuna.pruners.NopPruner(),
                    load_if_exists=True,
                )
            before = study.user_attrs.get(IDENTITY)
            if identity is not None:
                spec.check_same(search, before, identity, n_trials=len(study.trials))
                if before is None:
                    study.set_user_attr(IDENTITY, dict(identity))
        return cls(search, study, own)

    # --- what there is -------------------------------------------------------------------------

    def all(self) -> list[FrozenTrial]:
        """All trials, as they are now."""
        with no_remarks():
            return self.study.get_trials(deepcopy=False)

    def left(self) -> int:
        """Points that are still to be asked for."""
        return self.search.n_trials - len(points(self.all()))

    def under_way(self) -> list[FrozenTrial]:
        """Trials that somebody works on, or whose process has died."""
        return [t for t in self.all() if t.state.name == "RUNNING"]

    def crashed(self) -> list[FrozenTrial]:
        """Points that crashed since a command began: older ones it tries again."""
        return [t for t in points(self.all()) if t.state.name == "FAIL"]

    def dead(self) -> bool:
        """Has a process died that worked on a trial?"""
        with alone(self.search.folder):
            return any(self._is_dead(t) for t in self.under_way())

    # --- taking --------------------------------------------------------------------------------

    def begin(self) -> int:
        """At the start of a command: crashed points are tried again. How many are there?"""
        with no_remarks(), alone(self.search.folder):
            self._archive_dead()
            trials = self.all()
            if not trials:
                for point in self.search.start:
                    self.study.enqueue_trial(dict(point))
            crashed = self.crashed()
            for trial in crashed:
                self._again(trial, deaths={})
            return len(crashed)

    def take(self, check: Check) -> Taken | None:
        """The next point, claimed; None if there are enough.

        Points that are impossible or have been tried are told FAIL and passed over. Raises
        Exhausted if there is no other.
        """
        with no_remarks(), alone(self.search.folder):
            self._archive_dead()
            refused = 0
            while self.left() > 0:
                self._queue_a_new_one(refused)
                trial, claim = self._ask()
                try:
                    taken = Taken(trial, self.search.space.draw(trial), claim)
                    if self._accept(taken, check):
                        return taken
                except BaseException:  # a database that stays away: nobody is to wait for this one
                    _let_go(claim)
                    raise
                refused += 1
        return None

    def _accept(self, taken: Taken, check: Check) -> bool:
        """Is it a point to see through? Else it has been told why not. Under the lock."""
        try:
            run = check(taken.point, self.search.seeds[0])
        except ConfigError as error:
            self.fail(taken, "impossible", "; ".join(error.problems))
            return False
        trials = self.all()
        twins = [t for t in trials if t.user_attrs.get("cell") == run.cell]
        twins = [t for t in twins if t.number not in lineage(trials, taken.number)]
        if twins:
            self.fail(taken, "duplicate", f"the same runs as trial {twins[0].number}")
            return False
        taken.trial.set_user_attr("cell", run.cell)
        taken.trial.set_user_attr("point", overrides(taken.point))
        if job := os.environ.get("BLUESTAB_JOB"):
            taken.trial.set_user_attr("job", job)
        return True

    def _ask(self) -> tuple[Trial, Claim]:
        """Under the lock."""
        search, trials = self.search, self.all()
        self.study.sampler = samplers.make(
            search.sampler,
            search.sampler_seed,
            index=n_drawn(trials),
            constrained=search.failed_share is not None,
        )
        trial = self.study.ask()
        claim = self.claims.take(f"trial-{trial.number}", f"{search.name} trial {trial.number}")
        if claim is None:
            raise BluestabError(f"trial {trial.number} of {search.name} is claimed already")
        claim.__enter__()
        return trial, claim

    def _queue_a_new_one(self, refused: int) -> None:
        """Queue a point that no trial has had, where the sampler is not to choose: in a grid, and
        after a refusal in a space that can be listed. Raises Exhausted if nothing is left."""
        trials, every = self.all(), self.search.space.every()
        if any(t.state.name == "WAITING" for t in trials):
            return
        if every is None:
            if refused >= REFUSED:
                raise Exhausted(
                    f"{refused} points in a row are impossible or have been tried; "
                    f"widen the space of search {self.search.name}"
                )
            return
        had = [t.params for t in trials if is_drawn(t)]
        new = [point for point in every if point not in had]
        if not new:
            raise Exhausted(
                f"all {len(every)} points of search {self.search.name} have been tried: "
                f"search.n_trials={self.search.n_trials} is more than there are"
            )
        if self.search.sampler["name"] == "grid" or refused:
            draws = random.Random(f"{self.search.sampler_seed} {n_drawn(trials)}")
            self.study.enqueue_trial(dict(draws.choice(new)))

    # --- telling -------------------------------------------------------------------------------

    def note(self, taken: Taken, outcomes: Mapping[int, Outcome]) -> None:
        """What is known of a point's runs so far: seed -> outcome."""
        trial, limit = taken.trial, self.search.failed_share
        share = failed_share(list(outcomes.values()))
        trial.set_user_attr("runs", len(outcomes))
        trial.set_user_attr("failed", [seed for seed, one in outcomes.items() if one.failed])
        trial.set_user_attr("failed_share", share)
        trial.set_user_attr("seconds", worth(SECONDS, list(outcomes.values())))
        if limit is not None:
            trial.set_user_attr(samplers.CONSTRAINT, share - limit)

    def complete(self, taken: Taken, values: Sequence[float]) -> None:
        from optuna.trial import TrialState

        self._tell(taken, TrialState.COMPLETE, list(values))

    def stop(
        self, taken: Taken, why: str, note: str, so_far: float | None, estimate: float | None
    ) -> None:
        """A point that is given up. so_far: its objective over the seeds it had, its value then.

        To the sampler it is pruned, which TPE ranks below all complete points and most others pass
        over; to one that looks at complete points alone it is complete with the `estimate`.
        """
        from optuna.trial import TrialState

        self._mark(taken, why, note)
        if estimate is not None and self.search.sampler["name"] in samplers.BLIND_TO_STOPPED:
            self._tell(taken, TrialState.COMPLETE, [estimate])
        else:
            self._tell(taken, TrialState.PRUNED, None if so_far is None else [so_far])

    def fail(self, taken: Taken, why: str, note: str) -> None:
        """A point without a result."""
        from optuna.trial import TrialState

        self._mark(taken, why, note)
        self._tell(taken, TrialState.FAIL, None)

    def hand_back(self, taken: Taken) -> None:
        """A point that is left for later: the person at the keyboard wants to stop."""
        from optuna.trial import TrialState

        with no_remarks(), alone(self.search.folder):
            self._mark(taken, "interrupted", "left for later")
            frozen = next(t for t in self.all() if t.number == taken.number)
            self._again(frozen, deaths=frozen.user_attrs.get("deaths", {}))
            self._tell(taken, TrialState.FAIL, None)

    def let_go(self, taken: Taken) -> None:
        """This process works on it no more: whoever comes next finds it dead, at once."""
        _let_go(taken.claim)

    def _mark(self, taken: Taken, why: str, note: str) -> None:
        taken.trial.set_user_attr("why", why)
        taken.trial.set_user_attr("note", note[:1000])

    def _tell(self, taken: Taken, state: Any, values: list[float] | None) -> None:
        over = taken.trial.user_attrs.get(samplers.CONSTRAINT)
        with no_remarks():
            if over is not None and hasattr(taken.trial, "set_constraint"):  # Optuna 5; once only
                taken.trial.set_constraint("failed_share", over)
            if state.name == "PRUNED":
                self._tell_pruned(taken, values)
            else:
                self.study.tell(taken.trial, values, state=state)
        taken.claim.__exit__()

    def _tell_pruned(self, taken: Taken, values: list[float] | None) -> None:
        """What `Study.tell` does, which makes the score of the last seed the value of the trial."""
        from optuna.trial import TrialState

        storage, number = self.study._storage, taken.trial._trial_id
        try:
            frozen = storage.get_trial(number)
            self.study.sampler.after_trial(self.study, frozen, TrialState.PRUNED, values)
        finally:
            storage.set_trial_state_values(number, TrialState.PRUNED, values)

    # --- the dead ------------------------------------------------------------------------------

    def _archive_dead(self) -> None:
        """Tell the trials of dead processes FAIL, and queue their points again. Under the lock."""
        from optuna.trial import TrialState

        trials = self.all()
        queued = {t.user_attrs.get("retry_of") for t in trials}
        for trial in trials:
            if trial.state.name != "RUNNING" or not self._is_dead(trial):
                continue
            doing = trial.user_attrs.get("doing")
            deaths = dict(trial.user_attrs.get("deaths", {}))
            if doing is not None:
                deaths[doing] = deaths.get(doing, 0) + 1
            hopeless = doing is not None and deaths[doing] >= DEATHS
            # first the retry: whoever dies in between leaves a dead trial that has one. A trial
            # that died before it was accepted is simply drawn again
            if "cell" in trial.user_attrs and trial.number not in queued and not hopeless:
                self._again(trial, deaths)
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _is_dead(self, trial: FrozenTrial) -> bool:
        return self.claims.is_free(f"trial-{trial.number}")

    def _again(self, trial: FrozenTrial, deaths: Mapping[str, int]) -> None:
        self.study.enqueue_trial(
            dict(trial.params), user_attrs={"retry_of": trial.number, "deaths": dict(deaths)}
        )


def _let_go(claim: Claim) -> None:
    with suppress(OSError):  # its trial was told meanwhile
        claim.__exit__()


@contextmanager
def opening(search: Search, done: str = "opened") -> Iterator[None]:
    """What goes wrong inside, as ConfigError: the study cannot be `done`."""
    try:
        yield
    except BluestabError:
        raise
    except Exception as error:  # a damaged journal, a database of another version
        raise ConfigError(
            f"the study {search.name} in {cleaned_value(search.storage)} cannot be {done}: "
            f"{type(error).__name__}: {cleaned(str(error).strip().partition(chr(10))[0][:300])}"
        ) from error


@contextmanager
def no_remarks() -> Iterator[None]:
    """Without Optuna's warnings about flags that may change some day: their values are named."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
