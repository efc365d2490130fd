"""Which runs can train as one (`trainer.engine=packed`; which of them together: `families.py`), and
what else of the trainer a task or a technique cannot have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bluestab.core.errors import ConfigError
from bluestab.core.instantiate import load_class
from bluestab.core.types import ModelFacts
from bluestab.tasks.base import Task
from bluestab.tasks.outputs import Output
from bluestab.techniques.base import Technique
from bluestab.techniques.packing import Packable

FAMILIES = ("bert", "electra", "roberta")
"""transformers' families whose layers have a stacked kind, their attention included."""


def _output(cfg: Mapping[str, Any]) -> Output | None:
    """What the task predicts; what is wrong with its class is said elsewhere."""
    try:
        return load_class(cfg["task"].get("_target_"), Task, "task").output  # type: ignore[type-abstract]
    except (ConfigError, AttributeError):
        return None


def searches(cfg: Mapping[str, Any]) -> bool:
    """Whether the task's kind tells the items of a batch from each other (`Output.searches`)."""
    output = _output(cfg)
    return output is not None and output.searches


def search_problems(cfg: Mapping[str, Any]) -> list[str]:
    """Knobs that would change what the items of such a batch are told from, one sentence each."""
    if not searches(cfg):
        return []
    knobs, name = cfg["trainer"], cfg["task"]["name"]
    why = f"task '{name}' tells the mentions of a batch from each other"
    found = []
    if isinstance(knobs["micro_batch"], int):
        found.append(
            f"trainer.micro_batch is {knobs['micro_batch']}, but {why}: say "
            "trainer.micro_batch=null, and a smaller optim.batch_size if memory is short"
        )
    if knobs["devices"] != 1:
        found.append(f"trainer.devices is {knobs['devices']}, but {why}: say trainer.devices=1")
    return found


WHOLE_TABLE = ("keep_path_integral", "score_earlier")
"""Knobs that hand the network, or the way of each weight, to another run."""


def row_problems(cfg: Mapping[str, Any], techniques: Mapping[str, Technique]) -> list[str]:
    """What reads rows of the word embeddings that no item has, where only the others are held."""
    if cfg["trainer"]["embedding_rows"] != "used":
        return []
    output = _output(cfg)
    by_row = "embeddings_by_row"  # said by the class itself: a child of one that may do otherwise
    why = [f"technique {n} reads" for n, t in techniques.items() if not vars(type(t)).get(by_row)]
    if output is not None and (output.head.pretrains or output.searches):
        why.append(f"task '{cfg['task']['name']}' needs")
    why += [f"{knob}=true needs" for knob in WHOLE_TABLE if cfg.get(knob, False)]
    return [
        f"trainer.embedding_rows is used, but {one} the whole table of word embeddings; say "
        "trainer.embedding_rows=all"
        for one in why
    ]


def packable_problems(
    cfg: Mapping[str, Any], model: ModelFacts, techniques: Mapping[str, Technique]
) -> list[str]:
    """Why a run cannot train with others as one; empty if it can. The same for every seed."""
    knobs = cfg["trainer"]
    found = [
        f"technique {name} has no form for several runs at once"
        for name, technique in techniques.items()
        if not isinstance(technique, Packable)
    ]
    output = _output(cfg)
    if output is not None and output.head.pretrains:
        found.append("what the task masks is drawn for each run by itself")
    if searches(cfg):
        found.append(f"task '{cfg['task']['name']}' looks answers up in a dictionary")
    if model.family not in FAMILIES:
        found.append(f"model {model.name} is of family {model.family}, not {', '.join(FAMILIES)}")
    if not isinstance(knobs["micro_batch"], Mapping | None):  # per device: null under this engine
        found.append(f"trainer.micro_batch is {knobs['micro_batch']}: a group passes whole batches")
    if not isinstance(knobs["dropout_masks"], Mapping) and knobs["dropout_masks"] != "torch":
        found.append(f"trainer.dropout_masks is {knobs['dropout_masks']}: a group draws its own")
    if not isinstance(knobs["embedding_rows"], Mapping) and knobs["embedding_rows"] != "all":
        found.append(
            f"trainer.embedding_rows is {knobs['embedding_rows']}: seeds draw other items, and a "
            "group has one table"
        )
    if knobs["devices"] != 1:
        found.append(f"trainer.devices is {knobs['devices']}: a group trains on one")
    if knobs["activations"] != "full":
        found.append(
            f"trainer.activations is {knobs['activations']}: the scale of a tensor would be that "
            "of all siblings together"
        )
    if cfg.get("model", {}).get("vision") is not None:
        found.append(
            "model.vision is set: what looks at images has no form for several runs at once"
        )
    if cfg.get("keep_path_integral", False):
        found.append("keep_path_integral is true: a group does not follow the way of each weight")
    if cfg.get("score_earlier", False):
        found.append("score_earlier is true: a group scores its own task alone")
    if cfg.get("optim", {}).get("patience") is not None:
        found.append("optim.patience is set: a group trains to one end")
    if "flash_attention_2" in knobs["attention"].values():
        found.append("flash_attention_2 cannot be told which units to drop")
    return found
