"""What a search promises, on runs without training whose best point is known (`simulated_search`).

Study, storage, claims and store are real. What needs processes and kills is in
`tests/sweeps/search/test_survival.py`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bluestab.core import preemption
from bluestab.core.errors import BluestabError, ConfigError, RunsCrashed
from bluestab.store.store import Store
from bluestab.sweeps.search.findings import best_first, points_frame
from bluestab.sweeps.search.patience import StorageAway
from bluestab.sweeps.search.pool import see_through
from bluestab.sweeps.search.spec import SAMPLERS, Search
from bluestab.sweeps.search.told import points, scores_of, was_stopped
from bluestab.sweeps.search.trials import Trials
from bluestab.sweeps.search.worker import Worker
from bluestab.testing import simulated_runs
from tests.support import simulated_search
from tests.support.simulated_search import acts, attempts, begin, plan

Plan = Callable[..., Search]


@pytest.fixture
def store(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for module in ("search.worker", "search.plan", "search.confirm"):
        monkeypatch.setattr(f"bluestab.sweeps.{module}.compose", simulated_search.compose_once)
    return tmp_path / "runs"


@pytest.fixture
def make(store: Path) -> Plan:
    def planned(**given: Any) -> Search:
        return plan(store, **{"n_trials": 6, "seeds": 3, **given})

    return planned


def run(search: Search, **given: Any) -> Trials:
    """The whole search, one worker, in this process."""
    trials = begin(search)
    see_through(search, [None], simulated_search.execute, **given)
    return trials


def params(trials: Trials) -> list[dict[str, Any]]:
    return [t.params for t in points(trials.all())]


def whys(trials: Trials) -> Counter[str]:
    return Counter(str(t.user_attrs.get("why", t.state.name)) for t in trials.all())


# --- finding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_sees_its_points_through(make: Plan, store: Path, sampler: str) -> None:
    choices = dict(simulated_search.CHOICES)
    if sampler == "grid":
        choices = {"technique": ["none", "llrd"], "optim.lr": "choice(1e-5,1e-4,1e-3)"}
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    trials = run(make(sampler=sampler, choices=choices))
    done = points(trials.all())
    assert len(done) == 6
    assert all(t.state.is_finished() for t in done)
    assert len({t.user_attrs["cell"] for t in done}) == 6
    assert len(attempts(store)) == len(set(attempts(store)))


def test_the_best_point_is_found(make: Plan) -> None:
    search = make(n_trials=40)
    best, *_ = best_first(run(search).all(), search)
    assert best.params["technique"] == "llrd"
    assert abs(best.params["technique.llrd.decay"] - 0.8) < 0.15
    assert abs(math.log10(best.params["optim.lr"]) + 4) < 0.4


def test_values_are_really_applied(make: Plan, store: Path) -> None:
    trials = run(make(race={"kind": "none"}))
    for trial in points(trials.all()):
        record = next(
            record
            for key in attempts(store)
            if (record := Store(store).read(key)).result["cell"] == trial.user_attrs["cell"]
        )
        config = record.result["config"]
        assert config["optim"]["lr"] == trial.params["optim.lr"]
        techniques = dict(config["technique"])
        assert list(techniques) == [n for n in [trial.params["technique"]] if n != "none"]
        if "llrd" in techniques:
            assert techniques["llrd"]["decay"] == trial.params["technique.llrd.decay"]


def test_each_seed_is_reported_by_itself_at_its_step(make: Plan, store: Path) -> None:
    search = make(seeds=[7, 3, 5], race={"kind": "none"})
    trials = run(search)
    by_cell: dict[str, dict[int, float]] = {}
    for key in attempts(store):
        record = Store(store).read(key)
        score = record.result["metrics"]["last"]["validation"][record.result["metric"]]
        by_cell.setdefault(record.result["cell"], {})[record.measured["names"]["seed"]] = score
    for trial in points(trials.all()):
        scores = by_cell[trial.user_attrs["cell"]]
        assert trial.intermediate_values == {0: scores[7], 1: scores[3], 2: scores[5]}
        assert trial.value == pytest.approx(sum(scores.values()) / 3)


def test_racing_saves_runs_and_stopped_points_are_censored(make: Plan, store: Path) -> None:
    search = make(n_trials=20)
    trials = run(search)
    frame = points_frame(trials.all(), search)
    stopped = frame[frame["censored"]]
    assert 5 <= len(stopped) < 20
    assert len(attempts(store)) == frame["n_seeds"].sum() < 60
    assert stopped["mean"].isna().all()
    assert (stopped["n_seeds"] < 3).all()
    assert not {t.number for t in best_first(trials.all(), search)} & set(stopped["trial"])
    assert all(note for note in stopped["note"])
    for trial in trials.all():  # its value is that of all its seeds, not of the last
        scores = scores_of(trial)
        assert trial.values == [pytest.approx(sum(scores) / len(scores))]


def test_a_stopped_point_has_its_objective_over_the_seeds_it_had(make: Plan) -> None:
    search = make(n_trials=20, objective="worst", seeds=4)
    trials = run(search)
    assert any(was_stopped(t) and len(scores_of(t)) > 1 for t in trials.all())
    assert all(t.values == [min(scores_of(t))] for t in trials.all())


def test_points_with_several_objectives_count_the_runs_they_had(make: Plan, store: Path) -> None:
    acts(store, s2="crash")
    search = make(objective=["mean", "seconds"], race={"kind": "none"}, sampler="nsga2")
    frame = points_frame(run(search).all(), search)
    assert frame["n_seeds"].tolist() == [2] * 6
    assert len(attempts(store)) == 18, "of which a third crashed"


def test_what_a_stopped_point_tells_the_sampler(make: Plan) -> None:
    """Pruned to most; to the Gaussian process, which is blind to pruned ones, an estimate."""
    pruned = run(make(n_trials=12))
    assert {t.state.name for t in pruned.all() if t.user_attrs.get("why") == "stopped"} == {
        "PRUNED"
    }
    told = run(make(n_trials=12, sampler="gp", name="gp"))
    stopped = [t for t in told.all() if t.user_attrs.get("why") == "stopped"]
    assert stopped
    assert {t.state.name for t in stopped} == {"COMPLETE"}
    best = max(t.value for t in points(told.all()) if t not in stopped)
    assert all(t.value < best for t in stopped)


# --- the same again ------------------------------------------------------------------------------


def told(trials: Trials) -> list[Any]:
    return [(t.params, t.state.name, t.values, scores_of(t)) for t in points(trials.all())]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_equal_seeds_give_an_equal_search(make: Plan, store: Path, sampler: str) -> None:
    one = run(make(sampler=sampler, n_trials=13))
    other = run(make(sampler=sampler, n_trials=13, name="again"))
    another = run(make(sampler=sampler, n_trials=13, name="other", sampler_seed=1))
    assert told(one) == told(other)
    assert told(one) != told(another)
    assert len(attempts(store)) == len(set(attempts(store)))  # the store answered the second


def test_going_on_later_gives_the_same_search(make: Plan, store: Path) -> None:
    whole = run(make(n_trials=14, name="whole"))
    for n in (3, 9, 14):
        parts = run(make(n_trials=n, name="parts"))
        assert len(points(parts.all())) == n
    assert told(parts) == told(whole)
    n_runs = len(attempts(store))
    run(make(n_trials=14, name="parts"))
    assert len(attempts(store)) == n_runs  # there was nothing left to do


def _out_of_patience(looks: list[int]) -> bool:
    if looks:
        looks.pop()
    return not looks


def test_interrupted_and_resumed_is_the_same_search(make: Plan) -> None:
    whole = run(make(name="whole"))
    search = make(name="parts")
    trials = begin(search)
    for patience in range(30):  # asked to stop at ever later moments, also in the middle of a point
        looks = list(range(patience % 5 + 1))
        asked = partial(_out_of_patience, looks)
        Worker(search, asked=asked, execute=simulated_search.execute).work()
    assert told(trials) == told(whole)
    assert whys(trials)["interrupted"] > 0


def test_a_changed_search_is_refused_with_the_difference(make: Plan) -> None:
    run(make())
    for given, said in (
        ({"objective": "worst"}, "objective: ['mean'] before, ['worst'] now"),
        ({"seeds": 4}, "seeds: [0, 1, 2] before, [0, 1, 2, 3] now"),
        ({"fixed": {"optim.batch_size": "8"}}, "optim.batch_size: "),
        (
            {"choices": {**simulated_search.CHOICES, "optim.lr": "interval(1e-5, 1e-4)"}},
            "space.optim.lr: tag(log, interval(1e-5, 1e-3)) before, interval(1e-5, 1e-4) now",
        ),
        ({"choices": {"optim.lr": "interval(1e-5, 1e-4)"}}, "space.technique: choice(none,llrd)"),
    ):
        with pytest.raises(ConfigError, match="was begun with something else") as error:
            begin(make(**given))
        assert said in str(error.value)
    begin(make(n_trials=50, sampler="random", workers=3, race={"kind": "none"}))  # these may change


# --- what cannot be run --------------------------------------------------------------------------


def test_impossible_points_are_refused_before_they_run(make: Plan, store: Path) -> None:
    """Freezing a block that is re-initialised: each value is fine, some pairs are not."""
    choices = {
        "technique.freeze.depth": "range(0, L)",
        "technique.reinit.depth": "range(1, L + 1)",
        "optim.lr": "interval(1e-5, 1e-4)",
    }
    search = make(choices=choices, fixed={"technique": "[freeze,reinit]"}, n_trials=10)
    trials = run(search)
    assert len(points(trials.all())) == 10
    refused = [t for t in trials.all() if t.user_attrs.get("why") == "impossible"]
    assert refused
    assert all("never be trained" in t.user_attrs["note"] for t in refused)
    for trial in points(trials.all()):
        assert trial.params["technique.freeze.depth"] <= 2 - trial.params["technique.reinit.depth"]


def test_no_point_is_evaluated_twice_and_a_finite_space_ends(
    make: Plan, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choices = {"technique": ["none", "llrd"], "technique.llrd.decay": "choice(0.8,0.9)"}
    search = make(choices=choices, n_trials=9)
    trials = run(search)
    assert len(points(trials.all())) == 3
    assert len(attempts(store)) == len(set(attempts(store)))
    assert "all 3 points of search s have been tried" in capsys.readouterr().out


def test_a_value_that_changes_nothing_is_a_duplicate(make: Plan, store: Path) -> None:
    """Two points of different params and equal runs: known by what they would run."""
    choices = {"optim.epochs": "choice(3,5)", "optim.lr": "choice(1e-5,1e-4)"}
    search = make(choices=choices, fixed={"optim.steps": "4"}, n_trials=4)
    trials = run(search)  # epochs are not read where steps are given
    assert len(points(trials.all())) == 2, whys(trials)
    assert whys(trials)["duplicate"] >= 2


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["diverge", "undefined"])
def test_failed_runs_count_with_the_failure_score(make: Plan, store: Path, act: str) -> None:
    acts(store, s1=act)
    search = make(race={"kind": "none"})
    trials = run(search)
    for trial in points(trials.all()):
        assert trial.state.name == "COMPLETE"
        assert scores_of(trial)[1] == 0.0  # of task gad
        assert trial.user_attrs["failed"] == [1]
        assert trial.user_attrs["failed_share"] == pytest.approx(1 / 3)


def test_a_crash_leaves_the_study_usable_and_is_tried_again(make: Plan, store: Path) -> None:
    acts(store, s1="crash")
    search = make(race={"kind": "none"})
    trials = run(search)
    assert whys(trials) == {"crashed": 6}
    assert points_frame(trials.all(), search)["n_seeds"].tolist() == [1] * 6, "seed 0 alone"
    assert all("MemoryError: as told" in t.user_attrs["note"] for t in trials.all())
    assert all(t.user_attrs["note"].endswith("log.txt") for t in trials.all())
    acts(store, s1="done")
    first = set(attempts(store))
    trials = run(search)
    assert [t.state.name for t in points(trials.all())] == ["COMPLETE"] * 6
    seed_0 = {k for k in first if Store(store).read(k).measured["names"]["seed"] == 0}
    assert all(attempts(store).count(key) == 1 for key in seed_0)  # finished seeds are kept
    assert params(trials) == [t.params for t in trials.all()[:6]]


def test_on_crash_decides(make: Plan, store: Path) -> None:

    acts(store, s0="crash")
    run(make(n_trials=2, fixed={"on_crash": "retry:2"}))
    assert sorted(Counter(attempts(store)).values()) == [3, 3]
    with pytest.raises(RunsCrashed, match="on_crash=stop"):
        run(make(n_trials=6, name="other", fixed={"on_crash": "stop"}))


def test_too_many_failed_runs_may_not_win(make: Plan, store: Path) -> None:
    acts(store, s2="undefined")
    search = make(failed_share=0.0, race={"kind": "none"})
    trials = run(search)
    assert best_first(trials.all(), search) == []
    assert points_frame(trials.all(), search)["infeasible"].all()
    for trial in trials.all():  # and the sampler knows: of all seeds, not of the first
        told = getattr(trial, "constraints", {"failed_share": 1 / 3})  # from Optuna 5 on
        assert told["failed_share"] == pytest.approx(1 / 3)
    allowing = make(failed_share=0.5, race={"kind": "none"}, name="allowing")
    assert len(best_first(run(allowing).all(), allowing)) == 6


def test_a_point_that_cannot_keep_failed_share_is_stopped(make: Plan, store: Path) -> None:
    acts(store, s0="undefined")
    trials = run(make(failed_share=0.3))  # of 3 seeds, none may fail
    assert whys(trials) == {"stopped": 6}
    assert {len(scores_of(t)) for t in trials.all()} == {1}


def test_several_objectives_give_a_front(make: Plan) -> None:
    search = make(objective=["mean", "seconds"], race={"kind": "none"}, sampler="nsga2")
    trials = run(search)
    front = best_first(trials.all(), search)
    assert front
    means = [t.values[0] for t in points(trials.all())]
    assert front[0].values[0] == max(means)  # all take the same time: the best mean is the front
    assert len(front) == means.count(max(means))


def test_cut_inside_a_run_is_a_channel_of_its_own(make: Plan, store: Path) -> None:
    search = make(prune="median", race={"kind": "none"}, n_trials=12)
    trials = run(search)
    cut = [t for t in trials.all() if t.user_attrs.get("why") == "cut"]
    assert cut
    for trial in cut:
        assert trial.state.name == "PRUNED"
        seed = len(scores_of(trial))  # whole seeds only, at steps 0, 1, ...
        assert list(trial.intermediate_values) == list(range(seed))
        assert trial.user_attrs[f"curve.{seed}"]
        key = trial.user_attrs["doing"]
        assert not Store(store).has(key)  # a run that was cut has no result
        assert Store(store).crash(key) is None
    assert Store(store).running() == {}
    assert [p.name for p in (store / ".work").iterdir()] == []


def test_points_to_start_with_come_first(make: Plan) -> None:
    start = [simulated_search.BEST, {"technique": "none", "optim.lr": 2e-4}]
    trials = run(make(start=start))
    assert params(trials)[:2] == start


def test_the_store_is_left_tidy(make: Plan, store: Path) -> None:
    search = make()
    run(search)
    assert [p.name for p in (search.folder / ".claims").iterdir()] in ([], [".lock"])
    assert Trials.open(search).left() == 0


# --- the dead ------------------------------------------------------------------------------------


def die_in_the_middle(search: Search, seed: int) -> None:
    """What a killed process leaves: a running trial, and a claim of a process that is gone."""
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=_until, args=(search, seed))
    process.start()
    process.join()
    assert process.exitcode == 9


def _until(search: Search, seed: int) -> None:
    import os

    def execute(run: Any, store: Store, progress: Callable[..., None]) -> Any:
        if run.cfg["seed"] == seed:
            os._exit(9)
        return simulated_search.execute(run, store, progress)

    Worker(search, execute=execute).work()


def test_the_trial_of_a_dead_process_is_told_fail_and_its_point_taken_up(
    make: Plan, store: Path
) -> None:
    search = make(race={"kind": "none"})
    trials = begin(search)
    die_in_the_middle(search, seed=1)
    (dead,) = trials.all()
    assert dead.state.name == "RUNNING"
    see_through(search, [None], simulated_search.execute)
    every = trials.all()
    assert every[0].state.name == "FAIL"
    assert every[1].user_attrs["retry_of"] == 0
    assert every[1].params == dead.params
    assert len(points(every)) == 6
    assert max(Counter(attempts(store)).values()) == 1  # its finished seed was used again


def test_a_search_whose_process_died_is_the_same_search(make: Plan) -> None:
    search = make(name="killed", n_trials=12)
    trials = begin(search)
    for seed in (0, 1, 0):
        die_in_the_middle(search, seed)
    see_through(search, [None], simulated_search.execute)
    assert told(trials) == told(run(make(name="whole", n_trials=12)))


def test_a_run_that_kills_every_process_is_given_up(make: Plan, store: Path) -> None:
    search = make(race={"kind": "none"}, n_trials=3)
    trials = begin(search)
    for _ in range(3):
        die_in_the_middle(search, seed=2)
    assert trials.left() == 2
    with_poison = Worker(search, execute=simulated_search.execute)
    taken = with_poison.trials.take(with_poison.checked)
    assert taken is not None
    first = trials.all()[0]
    assert taken.point != first.params  # the poisoned point counts as crashed
    trials.let_go(taken)
    see_through(search, [None], simulated_search.execute)  # a new command tries it again
    assert [t.state.name for t in points(trials.all())] == ["COMPLETE"] * 3
    assert first.params in params(trials)


def test_a_live_trial_is_left_alone(make: Plan) -> None:
    search = make()
    trials = begin(search)
    worker = Worker(search, execute=simulated_search.execute)
    taken = worker.trials.take(worker.checked)
    assert taken is not None
    other = Worker(search, execute=simulated_search.execute)
    mine = other.trials.take(other.checked)
    assert mine is not None
    assert [t.state.name for t in trials.all()] == ["RUNNING"] * 2
    for one in (taken, mine):
        trials.let_go(one)


def test_a_database_that_goes_while_a_point_is_taken_leaves_it_to_anybody(make: Plan) -> None:
    """In this process, too: a notebook that asks again does not wait for itself."""
    search = make()
    trials = begin(search)

    def away(*_: Any) -> Any:
        raise StorageAway("the database is away")

    with pytest.raises(StorageAway):
        trials.take(away)
    assert [t.state.name for t in trials.under_way()] == ["RUNNING"]
    assert trials.dead()


def test_workers_elsewhere_need_store_and_storage_alone(make: Plan, store: Path) -> None:
    from bluestab.sweeps.search.saved import read_search, write_search_file

    search = make()
    begin(search)
    write_search_file(search)
    again = read_search(store, None)
    assert replace(again, asked={}, fixed=()) == replace(search, asked={}, fixed=())
    left_open = ("precision", "micro_batch", "dropout_masks", "embedding_rows")
    settled = {f"trainer.{knob}" for knob in left_open}
    added = {f.replace("'", "") for f in again.fixed} - set(search.fixed)
    assert {f.partition("=")[0] for f in added} == settled
    assert json.loads((search.folder / "search.json").read_text())["name"] == "s"


def test_a_point_that_is_given_back_is_no_death(
    make: Plan, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler ends the task: the point waits for whoever comes next."""
    search = make(race={"kind": "none"}, n_trials=2)
    trials = begin(search)
    acts(store, s1=60)
    told: list[int] = []

    def asked() -> bool:
        told.append(1)
        return len(told) > 3  # in the middle of a run

    with monkeypatch.context() as patch:
        patch.setattr(preemption, "is_requested", asked)
        assert Worker(search, execute=simulated_search.execute).work() == "interrupted"
    first, queued = trials.all()
    assert (first.state.name, first.user_attrs["why"]) == ("FAIL", "interrupted")
    assert (queued.state.name, queued.user_attrs["deaths"]) == ("WAITING", {})
    acts(store)
    assert Worker(search, execute=simulated_search.execute).work() == "enough"
    assert params(trials)[0] == first.params
    assert max(Counter(attempts(store)).values()) == 2  # the run that was given back


def test_one_crash_stops_all_where_on_crash_says_so(make: Plan, store: Path) -> None:
    search = make(fixed={"on_crash": "stop"})
    begin(search)
    acts(store, s0="crash")
    assert Worker(search, execute=simulated_search.execute).work() == "crashed"
    acts(store)
    n = len(attempts(store))
    assert Worker(search, execute=simulated_search.execute).work() == "crashed", (
        "of another process"
    )
    assert len(attempts(store)) == n


def test_search_workers_that_cannot_even_start(make: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are begun anew a few times, not for ever."""
    search = make()
    begin(search)
    monkeypatch.setattr("bluestab.sweeps.search.pool.serve", simulated_runs.abort)
    with pytest.raises(BluestabError, match="worker processes die before they can start"):
        see_through(search, [None, None], simulated_search.execute)
