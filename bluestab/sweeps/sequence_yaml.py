"""`conf/sequence/NAME.yaml`, checked: which tasks, in which orders, with what beside them."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from omegaconf import OmegaConf

from bluestab.core import rules
from bluestab.core.catalogue import UNREADABLE, files
from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.instantiate import load_class
from bluestab.techniques.base import Technique

T = TypeVar("T")
Overrides = tuple[str, ...]
Order = tuple[str, ...]
"""Tasks, the first first."""

SET_BY_IT = ("task", "score_earlier", "shared_head", "model.init_from")
NO_STAGE_S = ("sequence", "sweep", "hydra")
FIELDS = ("tasks", "orders", "order_seed", "from", "keep_data")
OPTIONAL = ("references", "stages", "first_seeds", "head")
HEADS = ("own", "shared")
KNOWN_REFERENCES = ("alone", "joint")
MOST_ORDERS = 1_000


@dataclass(frozen=True)
class Plan:
    """`sequence` of the config, checked; `from` is `at` here.

    stages       task -> overrides of its stages alone, which win over arms and the command line
    head         own: each task has its own; shared: all have one
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
    head: str = "own"

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
            "sequence.head": (node.get("head", "own"), rules.one_of(*HEADS)),
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
        head=node.get("head", "own"),
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
            key, sign, value = override.lstrip("+").partition("=")
            if not sign:
                yield f"sequence.stages.{task} holds '{override}': expected KEY=VALUE"
            elif key in (*SET_BY_IT, "seed", "store") or key.startswith(NO_STAGE_S):
                yield f"sequence.stages.{task} holds '{override}': {key} is not a stage's to say"
            for name in re.findall(r"\w+", value) if key == "technique" else ():
                kind = class_of("technique", name, f"{name}._target_", Technique)
                if kind is not None and kind.remembers:
                    yield (
                        f"sequence.stages.{task} holds '{override}': {name} holds on to all tasks "
                        f"before, so it is chosen for the sequence: technique={name}"
                    )


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


def class_of(group: str, name: str, where: str, base: type[T]) -> type[T] | None:
    """The class that a yaml names at `where`; None if it cannot be had."""
    try:
        target = OmegaConf.select(OmegaConf.load(files(group)[name]), where)
        return load_class(target, base, group)
    except UNREADABLE:
        return None
