"""A sequence of tasks as runs: each stage a run that goes on from the stage before.

`+sequence=NAME` names the tasks in order. Every arm, order and seed of the sweep becomes a chain of
runs: the first trains on its first task from the model's own weights, each later one on the next
task from the weights that the one before left (`model.init_from=stage:KEY:AT`), and is scored on
all tasks so far. Techniques that hold on to earlier tasks are left out of the first stage, where
there is none, so that all arms, and all sweeps that begin alike, share its runs.

A task may have overrides of its own (`sequence.stages`). After a pretraining, of which nothing can
be asked again, a stage is scored on its own task alone. `sequence.first_seeds` makes several first
stages, from each of which all seeds of the sweep go on.

Two references beside them, without these techniques: `alone`, a run on each task from the model's
own weights, and `joint`, one that is trained on all tasks at once.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from bluestab.core import rules
from bluestab.core.catalogue import UNREADABLE, files
from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.instantiate import load_class
from bluestab.models.init_from import STAGE, START
from bluestab.tasks.base import Task
from bluestab.techniques.base import Technique

if TYPE_CHECKING:
    from bluestab.training.check import Run

Overrides = tuple[str, ...]
Order = tuple[str, ...]
"""Tasks, the first first."""

SEQUENCE = re.compile(r"\+*sequence(\.[\w.]+)?=")
SET_BY_IT = ("task", "score_earlier", "model.init_from")
FIELDS = ("tasks", "orders", "order_seed", "from", "keep_data")
OPTIONAL = ("references", "stages", "first_seeds")
KNOWN_REFERENCES = ("alone", "joint")
WITH_THE_LAST = {"none": "last", "last": "last", "best": "all", "all": "all"}
WITH_THE_BEST = {"none": "best", "best": "best", "last": "all", "all": "all"}
"""What a run is asked to keep -> what it keeps for the next stage, too."""
UNKNOWN_KEY = "0" * 16
MOST_ORDERS = 1_000


@dataclass(frozen=True)
class StageJob:
    """The overrides of a stage, but for the key of the stage before.

    at         which of the weights it goes on from, or start; None: it is the first
    lends      it keeps weights for the next stage alone
    """

    overrides: Overrides
    at: str | None = None
    lends: bool = False

    def after(self, key: str) -> Overrides:
        """The overrides that go on from this run."""
        if self.at is None:
            return self.overrides
        return (*self.overrides, f"model.init_from={STAGE}{key}:{self.at}")


@dataclass(frozen=True)
class Plan:
    """`sequence` of the config, checked; `from` is `at` here.

    stages       task -> overrides of its stages alone
    first_seeds  of the first stage, each gone on from by every seed; (): that of the stages behind
    """

    tasks: Order
    orders: Any
    order_seed: int
    at: str
    keep_data: bool
    references: tuple[str, ...] = ()
    stages: Mapping[str, Overrides] = field(default_factory=dict)
    first_seeds: tuple[int, ...] = ()

    def in_orders(self) -> list[Order]:
        """The orders of the tasks that are run, the listed one first."""
        if isinstance(self.orders, list):
            return [tuple(order) for order in self.orders]
        if self.orders == "all":
            return list(itertools.permutations(self.tasks))
        found = {self.tasks: None}
        drawn = random.Random(f"orders {self.order_seed}")
        while len(found) < self.orders:
            found.setdefault(tuple(drawn.sample(self.tasks, len(self.tasks))))
        return list(found)


def key_before(run: Run) -> str | None:
    """Key of the stage that a run goes on from."""
    return None if run.predecessor is None else run.predecessor["key"]


def keys_before(runs: Iterable[Run]) -> dict[str, tuple[str, ...]]:
    """Key -> keys of the stages before it, the first first, of all runs of a sweep."""
    link = {run.key: key_before(run) for run in runs}

    def before(key: str) -> tuple[str, ...]:
        last = link.get(key)
        return () if last is None else (*before(last), last)

    return {key: before(key) for key in link}


def tasks_before(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """Cell of a stage -> the tasks before it, the first first."""
    task = {run.key: run.data.task.name for run in runs}
    before = keys_before(runs)
    return {
        run.cell: tuple(task[key] for key in before[run.key] if key in task)
        for run in runs
        if run.predecessor is not None
    }


def has_sequence(job: Sequence[str]) -> bool:
    """Whether these overrides name a sequence."""
    return any(SEQUENCE.match(override) for override in job)


def chains_of(job: Sequence[str], cfg: DictConfig) -> list[list[StageJob]]:
    """The stages of every order, for the overrides of one arm and seed.

    cfg  what they compose to, with its `sequence`

    Raises ConfigError if the sequence cannot be run.
    """
    plan = read_plan(OmegaConf.to_container(cfg["sequence"], resolve=True))
    said = f"task={plan.tasks[0]}"  # for what composes before any stage is known
    plain = tuple(o for o in job if not SEQUENCE.match(o) and o != said)
    for override in plain:
        key = override.lstrip("+").partition("=")[0]
        if key in SET_BY_IT:
            raise ConfigError(f"{override}: with +sequence each stage sets {key}; leave it out")
    remembering = _remembering(cfg)
    if not plan.keep_data:
        _check_needs_no_items(remembering)
    names = list(cfg.technique or {})
    first = _without(plain, list(remembering), names)
    with_path = [name for name, kind in remembering.items() if kind.reads_path_integral]
    if with_path and plan.at == "best":
        raise ConfigError(
            f"sequence.from is best, but technique {with_path[0]} needs path integrals, which are "
            "those of the last weights; say sequence.from=last"
        )
    with_weights = WITH_THE_LAST if plan.at == "last" else WITH_THE_BEST
    keep = with_weights.get(cfg.keep, cfg.keep)  # another value is refused when the run is checked

    pretrains = {task for task in plan.tasks if _pretrains(task)}
    if pretrains and remembering:
        raise ConfigError(
            f"technique {next(iter(remembering))} holds on to earlier tasks, but of task "
            f"{sorted(pretrains)[0]}, a pretraining, nothing is remembered; leave it out"
        )

    def chain(
        order: Order, rest: Overrides, path: bool = False, seed: int | None = None
    ) -> list[StageJob]:
        """The stages of one order; rest: the overrides of all but the first, whose seed is `seed`
        if there is one."""
        stages: list[StageJob] = []
        for number, task in enumerate(order):
            own = _with_own(rest if number else first, plan.stages.get(task, ()))
            if not number and seed is not None:
                own = (*(o for o in own if not o.startswith("seed=")), f"seed={seed}")
            again = number and pretrains.isdisjoint(order[:number])
            stage = StageJob(
                (*own, f"task={task}", *(["score_earlier=true"] if again else [])),
                plan.at if number else None,
            )
            kept = [f"keep={keep}"] if cfg.keep != keep else []
            if number < len(order) - 1 and (kept or path):
                own = tuple(o for o in stage.overrides if not (kept and o.startswith("keep=")))
                also = ["keep_path_integral=true"] if path else []
                stage = replace(stage, overrides=(*own, *kept, *also), lends=bool(kept))
            stages.append(stage)
        return stages

    chains = [
        chain(order, plain, bool(with_path), seed)
        for order in plan.in_orders()
        for seed in plan.first_seeds or (None,)
    ]
    if "alone" in plan.references:
        chains += [chain((task,), first) for task in plan.tasks if task not in pretrains]
    if "joint" in plan.references:
        *before, last = chain(plan.tasks, first)
        others = [name for name in names if name not in remembering]
        chains.append([*before, replace(last, overrides=_jointly(last, others, plan), at=START)])
    return chains


def _pretrains(task: str) -> bool:
    """Whether a task is a pretraining; what is wrong with it is said when it is used."""
    try:
        node = OmegaConf.load(files("task")[task])
        target = node.get("_target_") if isinstance(node, DictConfig) else None
        kind = load_class(target, Task, "task") if target else None  # type: ignore[type-abstract]
        return kind is not None and kind.output.head.pretrains
    except (*UNREADABLE, AttributeError):
        return False


def _with_own(overrides: Overrides, own: Sequence[str]) -> Overrides:
    """Overrides of one stage: `own` in the place of those of all; a technique of its own is without
    the knobs of the others."""
    keys = {o.lstrip("+").partition("=")[0] for o in own}
    rest = (o for o in overrides if o.lstrip("+").partition("=")[0] not in keys)
    if "technique" in keys:
        rest = (o for o in rest if not o.lstrip("+").startswith("technique."))
    return (*rest, *own)


def _jointly(last: StageJob, techniques: Sequence[str], plan: Plan) -> Overrides:
    """The overrides of a last stage with all items of all tasks: a batch of its own in every step,
    and of the others together as many as of one each, all items alike."""
    n = len(plan.tasks) - 1
    return (
        *(override for override in last.overrides if override.partition("=")[0] != "technique"),
        f"technique=[{','.join((*techniques, 'er'))}]",
        *(f"technique.er.{knob}" for knob in (f"beta={n}", f"draws={n}", "buffer_size=all")),
    )


def without_links(job: Sequence[str], cfg: DictConfig) -> Iterator[Overrides]:
    """Overrides of every stage as far as they are known before any is checked."""
    for chain in chains_of(job, cfg):
        for stage in chain:
            yield stage.after(UNKNOWN_KEY)


def read_plan(node: Any) -> Plan:
    """`sequence` of a config. Raises ConfigError with what is wrong in it."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"sequence is {node!r}: expected +sequence=NAME")
    problems = [
        f"unknown key sequence.{key}" + did_you_mean(str(key), FIELDS)
        for key in node
        if key not in (*FIELDS, *OPTIONAL)
    ]
    problems += [f"missing key sequence.{key}" for key in FIELDS if key not in node]
    if problems:
        raise ConfigError(*problems)
    tasks, orders = node["tasks"], node["orders"]
    known = files("task")
    if not _names(tasks) or len(tasks) < 2 or len(set(tasks)) < len(tasks):
        raise ConfigError(f"sequence.tasks is {tasks!r}: expected two or more different tasks")
    for name in tasks:
        if name not in known:
            raise ConfigError(f"sequence.tasks: there is no task '{name}'" + _meant(name, known))
    problems = rules.problems(
        {
            "sequence.order_seed": (node["order_seed"], rules.whole(0)),
            "sequence.from": (node["from"], rules.one_of("last", "best")),
            "sequence.keep_data": (node["keep_data"], rules.FLAG),
        }
    )
    n_orders = math.factorial(len(tasks))
    most = min(n_orders, MOST_ORDERS)
    if isinstance(orders, list):
        wrong = [o for o in orders if not _names(o) or sorted(o) != sorted(tasks)]
        if wrong or not orders or len({*map(tuple, orders)}) < len(orders):
            said = wrong[0] if wrong else orders
            problems.append(
                f"sequence.orders lists {said!r}: expected different orders of the tasks "
                f"{', '.join(tasks)}"
            )
    elif not ((orders == "all" and n_orders == most) or rules.whole(1, high=most)[0](orders)):
        problems.append(
            f"sequence.orders is {orders!r}: expected all (at most {MOST_ORDERS:,}), a number from "
            f"1 to {most} ({len(tasks)} tasks have {n_orders:,} orders), or a list of orders"
        )
    references, stages = node.get("references") or [], node.get("stages") or {}
    problems += _reference_problems(references, node)
    problems += _stage_problems(stages, known)
    seeds = node.get("first_seeds")
    if not (seeds is None or _are_seeds(seeds)):
        problems.append(
            f"sequence.first_seeds is {seeds!r}: expected a number of seeds, 1 or more, a list of "
            "different ones, or null"
        )
    if problems:
        raise ConfigError(*problems)
    plan = Plan(tuple(tasks), orders, node["order_seed"], node["from"], node["keep_data"])
    return replace(
        plan,
        references=tuple(references),
        stages={task: tuple(own) for task, own in stages.items()},
        first_seeds=tuple(range(seeds) if isinstance(seeds, int) else seeds or ()),
    )


def _are_seeds(value: Any) -> bool:
    whole = rules.whole(0)[0]
    if isinstance(value, list):
        return bool(value) and all(map(whole, value)) and len({*value}) == len(value)
    return rules.whole(1)[0](value)


def _stage_problems(stages: Any, known: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(stages, Mapping):
        yield f"sequence.stages is {stages!r}: expected TASK: [KEY=VALUE, ...] for each"
        return
    for task, own in stages.items():
        if task not in known:
            yield f"sequence.stages: there is no task '{task}'" + _meant(task, known)
        if not _names(own):
            yield f"sequence.stages.{task} is {own!r}: expected a list of overrides, KEY=VALUE"
            continue
        for override in own:
            key, sign, _ = override.lstrip("+").partition("=")
            if not sign:
                yield f"sequence.stages.{task} holds '{override}': expected KEY=VALUE"
            elif key in (*SET_BY_IT, "seed", "store") or key.startswith(("sequence", "sweep")):
                yield f"sequence.stages.{task} holds '{override}': {key} is not a stage's to say"


def _reference_problems(references: Any, node: Mapping[str, Any]) -> list[str]:
    known = ", ".join(KNOWN_REFERENCES)
    if not _names(references) or not {*references} <= {*KNOWN_REFERENCES}:
        return [
            f"sequence.references is {references!r}: expected a list of {known}, or [] for none"
        ]
    if "joint" not in references:
        return []
    if node["keep_data"] is False:
        return [
            "sequence.references holds joint, which needs the items of all tasks at once, but "
            "sequence.keep_data is false; say sequence.references=[alone], or keep_data=true"
        ]
    if node["from"] == "best":
        return [
            "sequence.references holds joint, which asks earlier tasks through the heads of their "
            "last weights, but sequence.from is best; say sequence.references=[alone], or from=last"
        ]
    return []


def _meant(name: str, known: Mapping[str, Any]) -> str:
    return did_you_mean(name, known) + " (bluestab list task shows all)"


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _remembering(cfg: DictConfig) -> dict[str, type[Technique]]:
    """Techniques of a config that hold on to earlier tasks, by name."""
    found = {}
    for name, node in (cfg.technique or {}).items():
        target = node.get("_target_") if isinstance(node, DictConfig) else None
        kind = load_class(target, Technique, f"technique.{name}") if target else Technique
        if kind.remembers:
            found[str(name)] = kind
    return found


def _check_needs_no_items(remembering: Mapping[str, type[Technique]]) -> None:
    """Raises ConfigError for techniques that need items of earlier tasks after these have ended."""
    for name, kind in remembering.items():
        if kind.keeps_items:
            raise ConfigError(
                f"sequence.keep_data is false, but technique {name} asks items of earlier tasks "
                "again; leave it out, or say sequence.keep_data=true"
            )


def _without(job: Overrides, names: Sequence[str], all_of: Sequence[str]) -> Overrides:
    """The overrides, without these of all the techniques and their knobs."""
    if not names:
        return job
    rest = [name for name in all_of if name not in names]
    left = [
        override
        for override in job
        if override.partition("=")[0] != "technique"
        and not re.match(rf"technique\.({'|'.join(map(re.escape, names))})\.", override)
    ]
    return (*left, f"technique=[{','.join(rest)}]" if rest else "technique=none")
