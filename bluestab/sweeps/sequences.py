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

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from bluestab.core.errors import ConfigError
from bluestab.core.instantiate import load_class
from bluestab.core.types import IMPORTANCES
from bluestab.models.init_from import STAGE, START
from bluestab.sweeps.sequence_yaml import SET_BY_IT, Order, Overrides, Plan, class_of, read_plan
from bluestab.tasks.base import Task
from bluestab.techniques.base import Technique
from bluestab.training.check import technique_of

if TYPE_CHECKING:
    from bluestab.training.check import Run

SEQUENCE = re.compile(r"\+*sequence(\.[\w.]+)?=")
WITH_THE_LAST = {"none": "last", "last": "last", "best": "all", "all": "all"}
WITH_THE_BEST = {"none": "best", "best": "best", "last": "all", "all": "all"}
"""What a run is asked to keep -> what it keeps for the next stage, too."""
UNKNOWN_KEY = "0" * 16
KEEP_IMPORTANCE, KEEP_PATH_INTEGRAL = "keep_importance", "keep_path_integral"
BESIDE = (f"{KEEP_IMPORTANCE}=", f"{KEEP_PATH_INTEGRAL}=")
"""Overrides that say what a run leaves beside its weights."""


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
            instead = "say sequence.head=shared" if key == "shared_head" else "leave it out"
            raise ConfigError(f"{override}: with +sequence each stage sets {key}; {instead}")
    remembering = _remembering(cfg)
    if not plan.keep_data:
        _check_needs_no_items(remembering)
    names = list(cfg.technique or {})
    first = _without(plain, list(remembering), names)
    importances = _importances(cfg, remembering)
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
        order: Order, rest: Overrides, also: Overrides = (), seed: int | None = None
    ) -> list[StageJob]:
        """The stages of one order.

        rest  the overrides of all but the first, whose seed is `seed` if there is one
        also  of those before others: what they leave beside their weights
        """
        stages: list[StageJob] = []
        for number, task in enumerate(order):
            own = _with_own(rest if number else first, plan.stages.get(task, ()))
            if not number and seed is not None:
                own = (*(o for o in own if not o.startswith("seed=")), f"seed={seed}")
            again = number and pretrains.isdisjoint(order[:number])
            after = ["score_earlier=true"] if again else []
            after += ["shared_head=true"] if number and plan.head == "shared" else []
            stage = StageJob(
                (*own, f"task={task}", *after),
                plan.at if number else None,
            )
            kept = [f"keep={keep}"] if cfg.keep != keep else []
            if number < len(order) - 1 and (kept or also):
                own = tuple(o for o in stage.overrides if not (kept and o.startswith("keep=")))
                stage = replace(stage, overrides=(*own, *kept, *also), lends=bool(kept))
            stages.append(stage)
        return stages

    also = [f"{KEEP_IMPORTANCE}=[{','.join(importances)}]"] if importances else []
    also += [f"{KEEP_PATH_INTEGRAL}=true"] if with_path else []
    chains = [
        chain(order, plain, tuple(also), seed)
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


def keeping_all(found: Sequence[tuple[StageJob, Run]]) -> list[tuple[StageJob, Run]]:
    """A run that is asked for several times keeps what any of them wants beside its weights."""
    wanted: dict[str, set[str]] = {}
    kept = []
    for _, run in found:
        wanted.setdefault(run.key, set()).update(run.cfg[KEEP_IMPORTANCE])
    for stage, run in found:
        names = [name for name in IMPORTANCES if name in wanted[run.key]]
        if names != run.cfg[KEEP_IMPORTANCE]:
            rest = [o for o in stage.overrides if not o.startswith(f"{KEEP_IMPORTANCE}=")]
            stage = replace(stage, overrides=(*rest, f"{KEEP_IMPORTANCE}=[{','.join(names)}]"))
            run = replace(run, cfg={**run.cfg, KEEP_IMPORTANCE: names})
        kept.append((stage, run))
    return sorted(kept, key=lambda one: not one[1].cfg[KEEP_PATH_INTEGRAL])


def _pretrains(task: str) -> bool:
    """Whether a task is a pretraining; what is wrong with it is said when it is used."""
    kind = class_of("task", task, "_target_", Task)  # type: ignore[type-abstract]
    return kind is not None and kind.output.head.pretrains


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


def _remembering(cfg: DictConfig) -> dict[str, type[Technique]]:
    """Techniques of a config that hold on to earlier tasks, by name."""
    found = {}
    for name, node in (cfg.technique or {}).items():
        target = node.get("_target_") if isinstance(node, DictConfig) else None
        kind = load_class(target, Technique, f"technique.{name}") if target else Technique
        if kind.remembers:
            found[str(name)] = kind
    return found


def _importances(cfg: DictConfig, names: Iterable[str]) -> list[str]:
    """What these techniques want stages to keep (`keep_importance`)."""
    nodes: Any = OmegaConf.to_container(cfg.technique, resolve=True)
    found = [technique_of(nodes[name], f"technique.{name}") for name in names]
    wanted = {t.importance.name for t in found if t.importance and not t.is_neutral()}
    return [name for name in IMPORTANCES if name in wanted]  # a wrong knob is said later


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
