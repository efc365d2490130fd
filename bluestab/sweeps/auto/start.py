"""Look at the data, time a step, make the plan or read it, and say it before the first run."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from bluestab.core.config import resolved
from bluestab.core.errors import ConfigError, Interrupted
from bluestab.core.types import SPLITS
from bluestab.report.terminal.tables import seconds as duration
from bluestab.report.words.advice import FEW_ITEMS
from bluestab.store.schema import segment
from bluestab.store.store import Store
from bluestab.sweeps.auto.arms import BASELINE, CandidateArm, candidates, given_arms
from bluestab.sweeps.auto.budget import (
    REPORTING,
    USABLE,
    Budget,
    RunBudget,
    TimeBudget,
    longest_run,
)
from bluestab.sweeps.auto.drive import AutoRun
from bluestab.sweeps.auto.plan import (
    FEWEST_RUNS,
    AutoPlan,
    AutoRequest,
    n_arms,
    read_plan,
    rule_sentences,
)
from bluestab.sweeps.auto.preview import look, parts, say
from bluestab.sweeps.forecast import evaluations
from bluestab.sweeps.grid import expand
from bluestab.sweeps.launchers.base import Backend
from bluestab.sweeps.launchers.check import foresee
from bluestab.sweeps.lifecycle import make_ready
from bluestab.sweeps.plan import SEED, Compose, plan_sweep
from bluestab.training.check import Run, check
from bluestab.training.loop.schedules import updates

FOLDS = 5
PARTS = ("task.folds=", "task.fold=", "task.train_size=", "task.validation", "task.test")
"""How the parts are chosen on the command line."""


Deliver = Callable[[AutoRun, bool], None]
"""Writes the folder; whether a person stopped it before its end."""


def request_of(
    node: Mapping[str, Any], sweep: Mapping[str, Any], choices: Mapping[str, Sequence[str]]
) -> AutoRequest:
    """What the command line asks for.

    node, sweep  `auto` and `sweep` of the config; choices: key -> alternatives as `key=value`

    Alternatives, and techniques, name the arms. Raises ConfigError for what auto chooses itself.
    """
    for key in ("seed", "task", "model"):
        if len(choices.get(key, ())) > (key != "seed"):
            raise ConfigError(
                f"{choices[key][0]}: auto takes one task and one model, and its own seeds; leave "
                f"{key} out, or say one"
            )
    for key in ("seeds.init", "seeds.order", "seeds.dropout"):
        if key in choices:
            raise ConfigError(
                f"{choices[key][0]}: no seed would be fresh in all streams; leave it out"
            )
    names = {key for key, values in choices.items() if len(values) > 1 or "technique" in key}
    fixed = tuple(values[0] for key, values in choices.items() if key not in names)
    given: list[tuple[str, ...]] = []
    if names:
        own = [(key, values) for key, values in choices.items() if key in names]
        jobs = expand(own, arms=None, seeds=1, default_technique=[])
        given = [tuple(o for o in job if not SEED.fullmatch(o)) for job in jobs]
    return AutoRequest(
        fixed=fixed,
        given=tuple(given),
        hours=node["hours"],
        runs=node["runs"],
        out=node["out"],
        ensemble=node["ensemble"],
        name=sweep["name"],
    )


def run_auto(request: AutoRequest, backend: Backend, compose: Compose, deliver: Deliver) -> None:
    """All of it. Raises Interrupted if a person stopped it: what can be said is delivered."""
    composed = lru_cache(maxsize=None)(compose)  # a line is asked for in every round
    auto = begin(request, backend, lambda line: composed(tuple(line)))
    if not backend.trains:
        return
    try:
        auto.go()
    except Interrupted:
        deliver(auto, True)
        raise
    deliver(auto, False)


def begin(request: AutoRequest, backend: Backend, compose: Compose) -> AutoRun:
    """The plan, printed and written, or that of an earlier command, and the budget.

    Raises ConfigError for what cannot be run, and if the folder holds the plan of another command.
    """
    request.check()
    if not getattr(backend, "wait", True):
        raise ConfigError("auto decides by the runs before: hydra.launcher.wait=true")
    base = _base(request, backend, compose)
    rarely = _evaluations(request, base)
    if rarely:
        base = _base(request, backend, compose, rarely)
    store = Store(base.cfg["store"])
    name = request.name or segment(f"auto-{base.data.task.name}-{base.model.name}")
    folder = Path(request.out or Path("auto") / name)
    if request.name is None:  # another budget is another sweep in the store
        asked = json.dumps(_what_decides(request), sort_keys=True)
        name = f"{name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    plan = read_plan(folder)
    if backend.trains:
        make_ready([base], store)
    workers = backend.at_once([base] * FEWEST_RUNS, store)
    seconds, longest = 0.0, math.inf
    if request.hours is not None:
        seconds = _seconds(base, store)
        longest = longest_run(3600 * request.hours) / seconds
    per_run = seconds / workers
    if plan is None:
        if request.hours is not None:
            _check_time(request.hours, seconds)
        plan = _plan(request, backend, compose, base, name, per_run, longest, rarely)
        if backend.trains:
            plan.write(folder)
    else:
        _check_same(plan, request, base, folder)
        print(f"going on with the plan in {folder}")
    lengths = _lengths(plan.arms, plan, compose, base)
    mean = math.fsum(lengths) / len(lengths)
    budget: Budget
    if request.hours is None:
        budget = RunBudget(int(request.runs or 0))
    else:
        budget = TimeBudget(
            3600 * request.hours, plan.spent or 0.0, mean * per_run, per_run,
            max(lengths) * seconds, workers,
        )  # fmt: skip
    say(plan, folder, per_run, workers)
    return AutoRun(plan, folder, store, backend, compose, budget, _here(request))


def _base(
    request: AutoRequest, backend: Backend, compose: Compose, more: Sequence[str] = ()
) -> Run:
    """A run of the baseline."""
    fold = ["task.fold=0"] if _given_folds(request) is not None else []
    job = [*request.fixed, *more, *fold, *BASELINE.overrides, "seed=0"]
    return check(resolved(compose(job)), backend.kind_of)


def _evaluations(request: AutoRequest, base: Run) -> list[str]:
    """Overrides by which validation reads no more items than training: 64 items to learn from and
    900 to validate on would be evaluated for most of the time, and only the last score counts.

    The same on every machine. None where somebody chose, or where evaluations stop a run.
    """
    asked = [*request.fixed, *(o for job in request.given for o in job)]
    optim, every = base.cfg["optim"], base.cfg["trainer"]["eval_every"]
    if every is not None or optim["patience"] or base.cfg["stop_degenerate"]:
        return []
    if any(o.startswith("trainer.eval_every=") for o in asked):
        return []
    n = base.data.size("train")
    steps = updates(n, optim["batch_size"], optim["epochs"], optim["steps"])
    times = max(1, steps * optim["batch_size"] // base.data.size("validation"))
    per_epoch = updates(n, optim["batch_size"], 1, None)
    if evaluations(steps, per_epoch, None) <= times:
        return []
    return [f"trainer.eval_every={math.ceil(steps / times)}"]


def _check_time(hours: float, seconds: float) -> None:
    """Raises ConfigError if no run can be trained and reported in so little time."""
    least = (seconds + 2 * REPORTING) / 3600
    if hours < least:
        raise ConfigError(
            f"hours={hours:g} is less than one run takes, which is about {duration(seconds)}, and "
            f"the report: hours={math.ceil(100 * least) / 100:g} at least"
        )


def _given_folds(request: AutoRequest) -> int | None:
    """`task.folds` of the command line, if it is a number."""
    said = [o.partition("=")[2] for o in request.fixed if o.startswith("task.folds=")]
    return int(said[-1]) if said and said[-1].isdigit() else None


def _folds(request: AutoRequest, backend: Backend, compose: Compose, base: Run) -> int | None:
    """Folds where the validation part is too small to choose, and nobody chose the parts."""
    if (asked := _given_folds(request)) is not None:
        return asked
    if base.data.size("validation") >= FEW_ITEMS or any(o.startswith(PARTS) for o in request.fixed):
        return None
    job = [*request.fixed, *BASELINE.overrides, f"task.folds={FOLDS}", "task.fold=0", "seed=0"]
    try:
        check(resolved(compose(job)), backend.kind_of)
    except ConfigError:
        return None
    return FOLDS


def _here(request: AutoRequest) -> tuple[str, ...]:
    """Overrides that say where, and decide nothing."""
    return tuple(o for o in request.fixed if o.startswith(("store=", "device=")))


def _what_decides(request: AutoRequest) -> dict[str, Any]:
    found = asdict(request)
    return {
        "fixed": [o for o in found["fixed"] if o not in _here(request)],
        "given": [list(job) for job in found["given"]],
        **{name: found[name] for name in ("hours", "runs", "ensemble")},
    }


def _subject(base: Run) -> dict[str, Any]:
    items = base.data.select(base.seeds)
    return {
        "task": base.data.task.name,
        "model": base.model.name,
        "weights": base.hashed["model"],
        "metric": base.data.task.metric,
        "items": {split: len(items[split]) for split in SPLITS},
        "data": dict(base.hashed["data"]),
    }


def _check_same(plan: AutoPlan, request: AutoRequest, base: Run, folder: Path) -> None:
    """Raises ConfigError if the plan is that of other data or another command."""
    now, before = (
        {**_what_decides(request), "data": _subject(base)},
        {**plan.asked, "data": dict(plan.subject)},
    )
    differs = [key for key in now if now[key] != before.get(key)]
    if differs:
        key = differs[0]
        raise ConfigError(
            f"{folder} holds the plan of another command: there {key} is {before.get(key)!r}, here "
            f"{now[key]!r}; deliver to another folder (out=FOLDER), or remove {folder}"
        )


def _seconds(base: Run, store: Store) -> float:
    """Of one run. Raises ConfigError if nothing says how long it takes."""
    outlook = foresee(store, [base], dry_steps=True, optional=False)
    cost = outlook.costs.get(base.cell)
    if cost is None:
        why = "; ".join(outlook.gaps) or "a dry step says nothing"
        raise ConfigError(f"hours needs to know how long a run takes: {why}; or say runs=100")
    return cost.seconds


def _plan(
    request: AutoRequest,
    backend: Backend,
    compose: Compose,
    base: Run,
    name: str,
    per_run: float,
    longest: float,
    rarely: Sequence[str],
) -> AutoPlan:
    n_runs = int(request.runs or USABLE * 3600 * float(request.hours or 0) / per_run)
    wanted = given_arms(request.given) if request.given else candidates(base, longest)
    asked = _what_decides(request)
    plan = AutoPlan(
        name, asked, asked["fixed"], _subject(base), look(base), [BASELINE], [], n_runs,
        rule_sentences(),
    )  # fmt: skip
    here = _here(request)
    if request.given:  # they may need more bits than the machine would take by itself
        jobs = [plan.job(arm, 0, here) for arm in (BASELINE, *wanted)]
        settled = plan_sweep(compose, jobs, name, backend.kind_of).runs[0].run.settled
    else:
        settled = base.settled
    plan.fixed = [*settled.overrides(), *asked["fixed"], *rarely]
    plan.folds = _folds(request, backend, compose, base)
    if plan.folds is not None:
        plan.fixed = [o for o in plan.fixed if not o.startswith("task.folds=")]
        plan.fixed.append(f"task.folds={plan.folds}")
    most = 1 + len(wanted) if request.given else n_arms(n_runs, len(wanted))
    plan.look = [*plan.look, parts(plan)]
    if rarely:
        plan.look.append(
            f"validation is longer than training and is scored less often than once per epoch: "
            f"{rarely[0]} (null: once per epoch)"
        )

    def cell_of(arm: CandidateArm) -> str:
        if not request.given and 1 < _lengths([BASELINE, arm], plan, compose, base)[1] > longest:
            raise ConfigError("the budget has no room for runs so long")
        return check(resolved(compose(plan.job(arm, 0, here))), backend.kind_of).cell

    plan.arms, plan.left_out = _possible(wanted, most, cell_of)
    if request.hours is not None:  # some arms train for longer than the baseline
        lengths = _lengths(plan.arms, plan, compose, base)
        plan.n_runs = int(n_runs * len(lengths) / math.fsum(lengths))
        if not request.given and n_arms(plan.n_runs, len(wanted)) < len(plan.arms):
            fewer = n_arms(plan.n_runs, len(wanted))
            plan.arms, plan.left_out = _possible(wanted, fewer, cell_of)
    return plan


def _lengths(
    arms: Sequence[CandidateArm], plan: AutoPlan, compose: Compose, base: Run
) -> list[float]:
    """Optimizer steps of the arms, in those of the first."""
    steps = []
    for arm in arms:
        optim = compose(plan.job(arm, 0, ()))["optim"]
        args = optim["batch_size"], optim["epochs"], optim["steps"]
        steps.append(updates(base.data.size("train"), *args))
    return [one / max(1, steps[0]) for one in steps]


def _possible(
    wanted: Sequence[CandidateArm], most: int, cell_of: Callable[[CandidateArm], str]
) -> tuple[list[CandidateArm], list[str]]:
    """The arms that can be run, and why others are left out.

    cell_of  the cell of an arm's runs; raises ConfigError for one that cannot be run

    Raises ConfigError if none but the baseline can.
    """
    arms, cells, left_out = [BASELINE], set[str](), []
    for arm in (BASELINE, *wanted):
        if len(arms) == most and arm is not BASELINE:
            left_out.append(f"{arm.name}: the budget has no room for it")
            continue
        try:
            cell = cell_of(arm)
        except ConfigError as error:
            left_out.append(f"{arm.name}: {'; '.join(error.problems)}")
            continue
        if cell in cells:
            continue
        cells.add(cell)
        if arm is not BASELINE:
            arms.append(arm)
    if len(arms) < 2:
        raise ConfigError(f"there is nothing to compare with plain fine-tuning: {left_out[0]}")
    return arms, left_out
