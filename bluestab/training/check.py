"""Everything that can be wrong with a resolved config, found before anything heavy is loaded.

The result of a check is the run, ready to be assembled, together with its identity. Problems are
collected, not thrown one at a time: a person fixes a config once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from bluestab.core import devices, rules
from bluestab.core.catalogue import outer_level_problems
from bluestab.core.errors import ConfigError, DataError
from bluestab.core.instantiate import instantiate
from bluestab.core.keys import cell_of, hashed_config, key_of
from bluestab.core.knobs import knob_problems
from bluestab.core.seeding import Seeds
from bluestab.core.spaces import SEARCH_SPACE
from bluestab.core.types import DETECTION
from bluestab.models import init_from
from bluestab.models.description import Model, check_model
from bluestab.models.discover import described
from bluestab.models.frozen_tower import as_keyed, pinned, scaling_notes
from bluestab.models.global_attention import FIRST_PIECE
from bluestab.models.init_from import SavedWeights
from bluestab.models.vision_spec import room_problems
from bluestab.store.store import Store
from bluestab.tasks.base import Task
from bluestab.tasks.data import TaskData, load_task, task_of
from bluestab.techniques.base import Technique
from bluestab.training.defaults import KindOf, Settled, settle
from bluestab.training.loggers.base import Logger
from bluestab.training.packable import packable_problems, row_problems, search_problems
from bluestab.training.stages import (
    Stage,
    head_problems,
    item_problems,
    path_integral_problems,
    stages_before,
)


@dataclass(frozen=True)
class Run:
    """A run that can be started: its parts, and what it is called.

    init_from  the weights of an earlier run that it knows; None: of none
    stages     the runs that led to those, the first first; empty if nothing asks for them
    predecessor  of a stage of a sequence: key, cell and at of the stage before
    loggers    name -> logger that its rows and its record are sent to; they decide nothing
    settled    knobs that were left to the device and the techniques
    """

    cfg: Mapping[str, Any]
    data: TaskData
    model: Model
    techniques: Mapping[str, Technique]
    seeds: Seeds
    hashed: Mapping[str, Any]
    key: str
    cell: str
    init_from: SavedWeights | None = None
    stages: tuple[Stage, ...] = ()
    predecessor: Mapping[str, str] | None = None
    loggers: Mapping[str, Logger] = field(default_factory=dict)
    settled: Settled = Settled()  # noqa: RUF009  # frozen

    @property
    def start(self) -> SavedWeights | None:
        """The weights that training begins with, but for the head; None: the model's own."""
        return None if (self.predecessor or {}).get("at") == init_from.START else self.init_from

    @property
    def waits(self) -> bool:
        """Whether it was planned before the stage that it goes on from was finished."""
        return self.predecessor is not None and self.init_from is None

    def notes(self) -> list[str]:
        """What to know before it starts, beside `data.notes`: how many of the items it uses, how
        its images are scaled, and whether it starts from a run that failed."""
        said = [f"{self.data.task.name}: {used}" for used in self.data.used()]
        said += scaling_notes(self.model.sees)
        return said if self.start is None else [*said, *self.start.notes()]


SINGLE_PIECE = ("default", "linear")
"""Heads that tasks with a label per word have, too."""


@dataclass(frozen=True)
class RunComponents:
    """What a config names, before any file of it is looked for."""

    task: Task
    model: Model
    techniques: Mapping[str, Technique]


def check_parts(cfg: Mapping[str, Any]) -> RunComponents:
    """Check all of a resolved config that needs no data and no weights.

    Raises ConfigError with every problem found.
    """
    problems, _, _, model, techniques = _without_files(cfg, None)
    if model is not None and model.init_from is not None:
        _collect(problems, partial(init_from.parse, model.init_from))
    task = _collect(problems, lambda: task_of(cfg["task"]))
    problems += _misfits(task, model)
    if problems or task is None or model is None:
        raise ConfigError(*problems)
    return RunComponents(task, model, techniques)


def check(
    cfg: Mapping[str, Any],
    kind_of: KindOf | None = None,
    planned: Mapping[str, Run] | None = None,
) -> Run:
    """Check a resolved config (plain containers). Raises ConfigError with every problem found.

    kind_of  devices of the machine that the run will be done on; None: those of this one
    planned  key -> run that a stage may go on from before it is finished; such a stage `waits`
    """
    problems, cfg, settled, model, usable = _without_files(cfg, kind_of)
    loggers = _loggers(cfg.get("logger") or {}, problems)
    data = _collect(problems, lambda: load_task(cfg["task"]))
    problems += _misfits(data and data.task, model)
    identity = _collect(problems, model.identity) if model is not None else None
    if model is not None and (seen := _collect(problems, partial(pinned, model.vision))):
        model = replace(model, vision=seen)
    kept = predecessor = before = None
    if model is not None and identity is not None and model.init_from is not None:
        store = Store(str(cfg.get("store")))
        link = _collect(problems, partial(init_from.predecessor_of, model.init_from))
        before = (planned or {}).get(link[0]) if link else None
        if before is None:
            kept = _collect(problems, partial(init_from.find, model.init_from, store, model))
        if link and (before or kept):
            cell = before.cell if before else store.read(link[0]).result["cell"]
            predecessor = {"key": link[0], "cell": cell, "at": link[1]}
    stages: tuple[Stage, ...] | None = ()
    scored = cfg.get("score_earlier", False)
    if scored and model is not None and model.init_from is None:
        problems.append(
            "score_earlier is true, but model.init_from names no earlier run whose task could be "
            "scored; say model.init_from=KEY, or score_earlier=false"
        )
    remembered = scored or any(t.remembers for t in usable.values())
    if model is not None and kept is not None and remembered:
        stages = _collect(problems, partial(stages_before, kept, model))
    problems += path_integral_problems(stages or (), usable)
    problems += item_problems(stages or (), usable, scored)
    if cfg.get("shared_head", False) and data is not None and model is not None and not problems:
        waited_for = (before.data, before.model) if before else None
        problems += head_problems(data, model, waited_for, kept, stages or ())
    if cfg.get("keep_importance") and data is not None and data.task.output.head.pretrains:
        problems.append(
            f"keep_importance is {cfg['keep_importance']}, but task {data.task.name} is a "
            "pretraining, of which nothing is held on to; leave it out"
        )
    if data is not None and not problems:
        problems += _ungrouped(cfg, data, usable)
    if problems or data is None or model is None or identity is None or stages is None:
        raise ConfigError(*problems)
    if kept is not None:  # in full: what the beginning of a key means changes as a store grows
        cfg = {**cfg, "model": {**cfg["model"], "init_from": kept.said}}
    cfg = {**cfg, "model": {**cfg["model"], "vision": model.vision}}
    hashed = hashed_config(
        {**cfg, "model": {**cfg["model"], "vision": as_keyed(model.vision)}},
        model_id=identity,
        fingerprint=data.fingerprint,
        init_from=None if kept is None or predecessor else kept.sha256,
        predecessor=predecessor,
        earlier=[] if predecessor else [stage.weights.run for stage in stages],
        descriptive=data.task.descriptive,
        higher_is_better=data.task.headline.higher_is_better,
    )
    return Run(
        cfg=cfg,
        data=data,
        model=model,
        techniques=usable,
        seeds=Seeds.from_config(cfg["seed"], cfg["seeds"]),
        hashed=hashed,
        key=key_of(hashed),
        cell=cell_of(hashed),
        init_from=kept,
        stages=stages,
        predecessor=predecessor,
        loggers=loggers,
        settled=settled,
    )


def _without_files(
    cfg: Mapping[str, Any], kind_of: KindOf | None
) -> tuple[list[str], Mapping[str, Any], Settled, Model | None, dict[str, Technique]]:
    """Problems of everything but the task; the config with what the checkpoint says of the model,
    and with what it left open (if there are no problems), which stands beside it by itself;
    the model (None: unusable) and the techniques."""
    problems = knob_problems(cfg)
    model = None
    if (node := _collect(problems, lambda: described(cfg["model"]))) is not None:
        cfg = {**cfg, "model": node}
        model = _collect(problems, lambda: instantiate(node, Model, "model"))
    if model is not None and (wrong := check_model(model)):
        problems += wrong
        model = None  # its facts are not to be trusted below
    problems += outer_level_problems("technique", cfg["technique"] or {})
    techniques = {
        name: _collect(problems, partial(technique_of, node, f"technique.{name}"))
        for name, node in (cfg["technique"] or {}).items()
        if isinstance(node, Mapping)
    }
    usable = {name: t for name, t in techniques.items() if t is not None}
    settled = Settled()
    if model is not None and not problems:
        kind = (kind_of or devices.kind_of)(cfg["device"])
        cfg, settled = settle(cfg, kind, lambda one: _knob_problems(one, model, usable))
    if model is not None:
        problems += _knob_problems(cfg, model, usable)
    if not problems and model is not None:
        problems += device_problems(cfg, usable) + _not_packed(cfg, model, usable)
    return problems, cfg, settled, model, usable


def _knob_problems(
    cfg: Mapping[str, Any], model: Model, techniques: Mapping[str, Technique]
) -> list[str]:
    wrong = technique_problems(cfg, model, techniques) + search_problems(cfg)
    return wrong + row_problems(cfg, techniques)


def _not_packed(
    cfg: Mapping[str, Any], model: Model, techniques: Mapping[str, Technique]
) -> list[str]:
    """What trainer.engine=packed cannot train."""
    if cfg["trainer"]["engine"] != "packed":
        return []
    why = packable_problems(cfg, model.facts(), techniques)
    return (
        [f"trainer.engine is packed, but {'; '.join(why)}; say trainer.engine=lightning"]
        if why
        else []
    )


def _loggers(nodes: Mapping[str, Any], problems: list[str]) -> dict[str, Logger]:
    """Who is told of the run; what is wrong with one, or missing here, goes to `problems`."""
    found = {}
    problems += outer_level_problems("logger", nodes)
    for name, node in nodes.items():
        if not isinstance(node, Mapping):
            continue
        where = f"logger.{name}"
        logger = _collect(problems, partial(_logger, node, where))
        if logger is None:
            continue
        knobs = {f"{where}.{k}": (getattr(logger, k), rule) for k, rule in logger.rules().items()}
        problems += rules.problems(knobs) or logger.check()
        found[name] = logger
    return found


def _logger(node: Mapping[str, Any], where: str) -> Logger:
    return instantiate(node, Logger, where)  # type: ignore[type-abstract]


def technique_of(node: Mapping[str, Any], where: str) -> Technique:
    """Raises ConfigError if it has other knobs than these."""
    return instantiate({k: v for k, v in node.items() if k != SEARCH_SPACE}, Technique, where)


def _misfits(task: Task | None, model: Model | None) -> list[str]:
    """Knobs of the model that the task cannot have, one sentence each."""
    if task is None or model is None:
        return []
    return (
        _too_long(task, model)
        + _no_pair(task, model)
        + _no_pieces(task, model)
        + room_problems(model.sees, task.name, task.shows_images, task.max_length)
    )


def _ungrouped(
    cfg: Mapping[str, Any], data: TaskData, techniques: Mapping[str, Technique]
) -> list[str]:
    """Techniques that need groups of training items where there are none."""
    seeds = Seeds.from_config(cfg["seed"], cfg["seeds"])
    needing = [n for n, t in techniques.items() if t.reads_groups and not t.is_neutral()]
    groups = {example.group for example in data.chosen("train", seeds.split)} if needing else set()
    if None in groups:
        lack = f"{'some' if len(groups) > 1 else 'all'} of its training items have no group"
    elif len(groups) == 1:
        lack = f"all its training items are of group {groups.pop()!r}"
    else:
        return []
    return [
        f"technique {name} compares groups of items, and task '{data.task.name}' has none to "
        f"compare: {lack}; say task.group=COLUMN of your own data, or leave the technique out"
        for name in needing
    ]


def _too_long(task: Task, model: Model) -> list[str]:
    if task.max_length <= model.max_length:
        return []
    return [
        f"task.max_length is {task.max_length}, but {model.name} reads at most "
        f"{model.max_length} word pieces; say task.max_length={model.max_length}"
    ]


def _no_pair(task: Task, model: Model) -> list[str]:
    if task.pair or model.global_attention == FIRST_PIECE:
        return []
    return [
        f"model.global_attention is {model.global_attention}, but task '{task.name}' reads one "
        f"text, all of which would attend to all; say model.global_attention=first_piece"
    ]


def _no_pieces(task: Task, model: Model) -> list[str]:
    if task.output.head.pretrains and model.head != "default":
        return [
            f"model.head is {model.head}, but task '{task.name}' pretrains with the head of the "
            "family's own; say model.head=default"
        ]
    if task.output.head == DETECTION and model.family != "electra":
        return [
            f"task '{task.name}' detects replaced pieces, as family electra does, but {model.name} "
            f"is of family {model.family}; say model=electra_small_random, or task=mlm"
        ]
    if not task.output.head.per_word or model.head in SINGLE_PIECE:
        return []
    return [
        f"model.head is {model.head}, one vector per text, but task '{task.name}' labels every "
        f"word; say model.head=default or linear"
    ]


def technique_problems(
    cfg: Mapping[str, Any], model: Model, techniques: Mapping[str, Technique]
) -> list[str]:
    """Knobs out of range, and layers one technique freezes while another makes them random."""
    facts = model.facts()
    problems: list[str] = []
    for name, technique in techniques.items():
        knobs = {
            f"technique.{name}.{knob}": (getattr(technique, knob), rule)
            for knob, rule in technique.rules(facts).items()
        }
        problems += rules.problems(knobs) or technique.check(cfg, facts)
    if problems:
        return problems
    for freezing, one in techniques.items():
        for renewing, other in techniques.items():
            both = sorted(one.frozen_depths(facts) & other.fresh_depths(facts))
            if both:
                problems.append(
                    f"technique {freezing} freezes block {both[-1]} of {model.name}, which "
                    f"technique {renewing} gives new random values: they would never be trained; "
                    f"lower technique.{freezing} or technique.{renewing} until they do not meet"
                )
    return problems


def device_problems(cfg: Mapping[str, Any], techniques: Mapping[str, Technique]) -> list[str]:
    """What does not go on several devices."""
    n, batch = cfg["trainer"]["devices"], cfg["optim"]["batch_size"]
    if n == 1:
        return []
    problems = []
    if n > batch:
        problems.append(
            f"trainer.devices is {n}, but optim.batch_size is {batch}: every device takes a "
            f"part of the batch; say trainer.devices={batch} or fewer"
        )
    if cfg["device"] == "mps":
        problems.append(f"trainer.devices is {n}, but device is mps, of which there is one")
    return problems + [
        f"technique {name} runs on one device alone: {why}; say trainer.devices=1"
        for name, technique in techniques.items()
        if (why := technique.one_device())
    ]


def _collect(problems: list[str], attempt: Callable[[], Any]) -> Any:
    """The result of `attempt`, or None after adding what went wrong to `problems`."""
    try:
        return attempt()
    except ConfigError as error:
        problems += error.problems
    except DataError as error:
        problems.append(str(error))
    return None
