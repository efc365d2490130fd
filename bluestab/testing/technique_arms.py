"""Techniques by name, ours and a person's own, and overrides that make them fit tiny models."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from bluestab.core.errors import ConfigError
from bluestab.core.instantiate import load_class
from bluestab.core.paths import conf_dir
from bluestab.core.spaces import SEARCH_SPACE
from bluestab.techniques.base import Technique
from bluestab.testing.laboratory import Lab
from bluestab.testing.plugins import node, yaml_of

YAMLS = {file.stem: file for file in sorted((conf_dir() / "technique").glob("*.yaml"))}
NODES: dict[str, Any] = {n: OmegaConf.to_container(OmegaConf.load(f)) for n, f in YAMLS.items()}
EVERY = [name for name in YAMLS if name != "none"]


def node_of(name: str) -> dict[str, Any]:
    """What the yaml of a technique holds: class, knobs, search space."""
    found: Any = NODES.get(name) or node(yaml_of("technique", name))
    return found[name]  # type: ignore[no-any-return]


def technique_class(name: str) -> type[Technique]:
    """The class that its yaml names."""
    return load_class(node_of(name)["_target_"], Technique, name)


REMEMBERING = [name for name in EVERY if technique_class(name).remembers]
"""Those that go with an earlier run alone."""
GROUPED = [name for name in EVERY if technique_class(name).reads_groups]
"""Those that go with items in groups alone."""
PRETRAINING = [name for name in EVERY if technique_class(name).pretrains]
"""Those that go with a pretraining alone."""
NAMES = [name for name in EVERY if name not in (*REMEMBERING, *GROUPED, *PRETRAINING)]
"""Those that go with any run."""

HEADS = {"regression": "biosses", "classification": "gad", "tagging": "ncbi_disease",
         "multi-label": "hoc"}  # fmt: skip
"""Kind of head -> a task that has it."""

SMALL = {"depth": 1, "gamma": 100, "eps": 0.03, "step_size": 0.03, "start_noise": 0.01,
         "slimfit.rate": 0.5}  # fmt: skip
"""Knobs by name, or that of one technique, whose default is meant for more than the two blocks of
the tiny models and the three steps of their trainings, for smaller learning rates than theirs, or
for float32 alone."""


def knobs_of(name: str) -> dict[str, Any]:
    """Knob -> its value in the yaml."""
    return {k: v for k, v in node_of(name).items() if k not in ("_target_", SEARCH_SPACE)}


def overrides(moment: str, *names: str) -> bool:
    """Whether all these techniques do something of their own at a moment."""
    own = getattr(Technique, moment)
    return all(getattr(technique_class(name), moment) is not own for name in names)


def chosen(*names: str, **knobs: Any) -> tuple[str, ...]:
    """Overrides that select techniques; ours are made to fit two blocks, a person's own says by
    `knobs` what makes it fit."""
    small = {
        f"technique.{name}.{knob}": value
        for name in filter(NODES.get, names)
        for path, value in SMALL.items()
        if (knob := path.removeprefix(f"{name}.")) in node_of(name)
    }
    small |= {f"technique.{path.replace('__', '.')}": value for path, value in knobs.items()}
    shown = {path: "null" if value is None else value for path, value in small.items()}
    return (f"technique=[{','.join(names)}]", *(f"{path}={v}" for path, v in shown.items()))


def refusal(lab: Lab, *asked: str) -> str:
    """What is said against these overrides; empty if nothing is."""
    try:
        lab.run(*asked)
    except ConfigError as error:
        return str(error)
    return ""
