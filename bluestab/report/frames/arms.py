"""What an arm is called: by what differs between its config and the others'."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bluestab.core.config import leaves
from bluestab.models.init_from import START

ROUNDING = ("embedding_rows",)
"""Knobs of the trainer that change rounding alone: what trains is the same."""


def arm_names(
    configs: Mapping[str, Mapping[str, Any]], subjects: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Cell -> (arm, config_diff), from what differs between the cells of one task and model.

    subjects  cell -> task and model by the names a person gave them; two weights of one name differ

    The arm lists the techniques in order, each with the knobs that differ among the cells that
    contain it: `llrd(decay=0.8)`. Differences outside the techniques follow: `none, lr=1e-05`. A
    value that two thirds of five or more cells share is usual there, and not named; neither is what
    changes rounding alone (`ROUNDING`), where nothing but that would tell cells apart by it.
    """
    but_rounding = {cell: _but_rounding(config) for cell, config in configs.items()}
    rests = {cell: _said([subjects[cell], config]) for cell, config in but_rounding.items()}
    alike = Counter(rests.values())
    configs = {c: configs[c] if alike[rests[c]] > 1 else but_rounding[c] for c in configs}
    names = {}
    cells_of: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in configs:
        cells_of[subjects[cell]].append(cell)
    for cells in cells_of.values():
        flats = {cell: _flat(configs[cell]) for cell in cells}
        varied = _varied(flats.values())
        usual = _usual(list(flats.values()), varied)
        knobs_of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for cell in cells:
            for technique, knobs in configs[cell]["technique"]:
                knobs_of[technique].append(knobs)
        varied_of = {technique: _varied(knobs) for technique, knobs in knobs_of.items()}
        for cell in cells:
            parts = []
            for technique, knobs in configs[cell]["technique"]:
                said = [f"{k}={_short(v)}" for k, v in knobs.items() if k in varied_of[technique]]
                parts.append(technique + (f"({', '.join(said)})" if said else ""))
            diff = [
                f"{k}={_short(v)}"
                for k, v in flats[cell].items()
                if k in varied and usual.get(k) != _said(v)
            ]
            arm = "+".join(parts) or "none"
            names[cell] = (", ".join([arm, *(_last_part(d) for d in diff)]), ", ".join(diff))
    return {cell: names[cell] for cell in configs}


def with_sources(
    configs: Mapping[str, Mapping[str, Any]], sources: Mapping[str, Mapping[str, str]]
) -> dict[str, Mapping[str, Any]]:
    """Cell -> config in which the weights of an earlier run are called by that run.

    sources  cell -> {run, at, task} of the weights it started from

    Weights that differ have names that differ: the same run, made on two machines, need not give
    the same bits.
    """
    names: dict[str, str] = {}
    weights: dict[str, set[str]] = defaultdict(set)
    for cell, source in sources.items():
        if "init_from" not in configs[cell]:
            continue
        names[cell] = f"{source['task']}/{source['run'][:8]}:{source['at']}"
        weights[names[cell]].add(configs[cell]["init_from"])
    named = dict(configs)
    for cell, name in names.items():
        digest = configs[cell]["init_from"]
        clash = f" {_short(digest)}" if len(weights[name]) > 1 else ""
        named[cell] = {**configs[cell], "init_from": name + clash}
    return named


def with_vocabularies(
    configs: Mapping[str, Mapping[str, Any]], vocabularies: Mapping[str, tuple[str, str]]
) -> dict[str, Mapping[str, Any]]:
    """Cell -> config in which random weights are called by their vocabulary, which is what their
    identity differs in.

    vocabularies  cell -> names of model and vocabulary

    Two of one name keep their digests.
    """
    identities: dict[tuple[str, str], set[str]] = defaultdict(set)
    for cell, names in vocabularies.items():
        identities[names].add(configs[cell]["model"])
    named = dict(configs)
    for cell, names in vocabularies.items():
        if len(identities[names]) == 1 and configs[cell]["model"].startswith("random:"):
            rest = {k: v for k, v in configs[cell].items() if k != "model"}
            named[cell] = {**rest, "vocabulary": names[1]}
    return named


def with_stages(
    configs: Mapping[str, Mapping[str, Any]], tasks_before: Mapping[str, Sequence[str]]
) -> dict[str, Mapping[str, Any]]:
    """Cell -> config in which a stage of a sequence says which tasks it comes after.

    tasks_before  cell -> the tasks before, the first first

    Where the stages before differ in more, their cells tell them apart.
    """
    named = dict(configs)
    alike: dict[str, list[str]] = defaultdict(list)
    for cell, tasks in tasks_before.items():
        rest = {k: v for k, v in configs[cell].items() if k not in ("predecessor", "score_earlier")}
        own = {k: v for k, v in rest.items() if k != "seeds"}
        alike[_said([own, list(tasks)])].append(cell)
        word = _relation(configs[cell])
        named[cell] = {**rest, word: ">".join(tasks) or "another task"}
    for cells in alike.values():
        for cell in cells if len(cells) > 1 else ():
            before, word = configs[cell]["predecessor"]["cell"][:8], _relation(configs[cell])
            named[cell] = {**named[cell], word: f"{named[cell][word]} {before}"}
    return named


def _relation(config: Mapping[str, Any]) -> str:
    """To the tasks before: `after` them, or `with` them from the model's own weights."""
    return "with" if config["predecessor"]["at"] == START else "after"


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """`optim.lr: 1e-05 -> 2e-05, ...` for two hashed configs; empty if they are one cell."""
    flats = [
        _flat(config) | {"technique": [list(pair) for pair in config["technique"]]}
        for config in (a, b)
    ]
    return ", ".join(
        f"{name}: {_short(flats[0].get(name))} -> {_short(flats[1].get(name))}"
        for name in sorted(_varied(flats))
    )


def _varied(nodes: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names whose values differ among the mappings; null is the same as absent."""
    nodes = list(nodes)
    values: dict[str, set[str]] = defaultdict(set)
    count: dict[str, int] = defaultdict(int)
    for node in nodes:
        for name, value in node.items():
            values[name].add(_said(value))
            count[name] += 1
    for name, n in count.items():
        if n < len(nodes):
            values[name].add("null")
    return {name for name, found in values.items() if len(found) > 1}


def _usual(nodes: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, str]:
    """Of these names the value that at least two thirds of five or more nodes share, as text."""
    found = {}
    for name in names:
        ((value, n),) = Counter(_said(node.get(name)) for node in nodes).most_common(1)
        if len(nodes) >= 5 and 3 * n >= 2 * len(nodes):
            found[name] = value
    return found


def _said(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _flat(node: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path -> value, without techniques, seeds, the members of a merged network, and the
    runs behind `init_from`, which that and the techniques say already."""
    return dict(leaves(node, without=("technique", "seeds", "members", "earlier")))


def _but_rounding(config: Mapping[str, Any]) -> dict[str, Any]:
    trainer = {k: v for k, v in config.get("trainer", {}).items() if k not in ROUNDING}
    return {**config, "trainer": trainer}


def _last_part(text: str) -> str:
    path, _, value = text.partition("=")
    return f"{path.rpartition('.')[2]}={value}"


def _short(value: Any) -> str:
    """A value as it stands in a name; of a file's hash the first 8 digits."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value).removeprefix("sha256:")
    return text[:8] if re.fullmatch("[0-9a-f]{64}", text) else str(value)
