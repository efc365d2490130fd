"""Resolved config -> key: what a run *is*, in 16 hex digits.

Only what decides the result goes in, by the allow-lists below; where results go, what is printed
and where data lie do not. A knob added later enters `NEUTRAL` with the value at which it changes
nothing and stays out of the hash there, so that stored runs keep their keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from bluestab.core.seeding import Seeds
from bluestab.core.spaces import SEARCH_SPACE
from bluestab.core.types import SPLITS

RECIPE_VERSION = 2
"""Bumped when training behaviour changes: old and new runs must not share a key."""

TASK_DESCRIPTIVE = frozenset(
    # files enter through the fingerprint of their content; the recipe through optim
    ("about", "recipe", "data_dir", "train", "validation", "test", "sha256", "fetch")
)
TRAINER_COMPUTATIONAL = (
    *("precision", "threads", "eval_every", "eval_batch_size", "eval_tokens", "attention"),
    *("micro_batch", "prefix_cache", "devices", "engine", "dropout_masks"),
    "embedding_rows",
    *("activations", "activation_bits", "attention_bits", "wide_bits", "norm_share"),
)

OF_THE_MODEL = (
    *("head", "lower_case", "dropout", "attention_dropout", "head_dropout", "global_attention"),
    *("vocabulary", "init_from", "vision"),
)
"""Knobs that the config has below `model` and the hashed config beside it."""

NEUTRAL: Mapping[str, Any] = {
    "trainer.eval_tokens": None,
    "trainer.micro_batch": None,
    "trainer.prefix_cache": True,
    "trainer.engine": "lightning",
    "trainer.devices": 1,
    "trainer.activations": "full",
    "trainer.activation_bits": 4,
    "trainer.attention_bits": 8,
    "trainer.wide_bits": 8,
    "trainer.norm_share": 0.1,
    "trainer.dropout_masks": "torch",
    "trainer.embedding_rows": "all",
    "stop_degenerate": False,
    "score_earlier": False,
    "shared_head": False,
    "task.overlap": None,
    "task.shots": None,
    "task.folds": None,
    "task.fold": None,
    "task.split_seed": 0,
    "task.grouping": "text",
    "head": "default",
    "lower_case": None,
    "dropout": None,
    "attention_dropout": None,
    "head_dropout": None,
    "global_attention": "first_piece",
    "vocabulary": None,
    "init_from": None,
    "vision": None,
    "predecessor": None,
    "earlier": [],
    "optim.bias_correction": True,
    "optim.bucket": None,
    "optim.patience": None,
    "technique.reinit.layernorms_only": False,
    **{f"technique.{name}.buffer": "reservoir" for name in ("er", "der", "derpp")},
    **{f"technique.{name}.draws": 1 for name in ("er", "der", "derpp")},
}
"""Dotted path in the hashed config (`optim.knob`, `technique.freeze.knob`) -> value at which a knob
added since 0.1 does nothing."""

REVISED: Mapping[str, Mapping[str, str]] = {
    f"{name}.strength": {"auto": "auto since 0.3"} for name in ("ewc", "kfac_ewc", "mas", "si")
}
"""technique.knob -> value whose meaning changed -> what the hashed config calls it since then, so
that runs of before have other keys."""


def hashed_config(
    cfg: Mapping[str, Any],
    *,
    model_id: str,
    fingerprint: Mapping[str, str],
    init_from: str | None = None,
    predecessor: Mapping[str, str] | None = None,
    earlier: Collection[str] = (),
    descriptive: Collection[str] = (),
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """The part of a resolved config that decides the result.

    model_id     what the weights are (`Model.identity`)
    fingerprint  split -> SHA-256 of the data file's content
    init_from    SHA-256 of the weights that `model.init_from` names, wherever they lie
    predecessor  of a stage of a sequence, instead: key and cell of the stage before, and at (which
                 of its weights); they decide the weights, and are known before these exist
    earlier      keys of the earlier runs whose tasks a technique remembers, or that are scored
    descriptive  fields of the task that only say how files are read (`Task.descriptive`)
    higher_is_better  of the task's metric: False is written down, so that readers of a record know
                 it, and a run from before directions were known, whose best step is its worst, has
                 another key
    """
    optim = dict(cfg["optim"])
    if optim["steps"] is not None:
        optim["epochs"] = None  # not read when the length is given in steps
    left_out = TASK_DESCRIPTIVE.union(descriptive)
    hashed = {
        "recipe_version": RECIPE_VERSION,
        "task": _by_kind({k: v for k, v in cfg["task"].items() if k not in left_out}),
        "data": dict(fingerprint),
        "model": model_id,
        **{knob: cfg["model"][knob] for knob in OF_THE_MODEL},
        "vocabulary": None,  # `model_id` says what is in it, wherever it lies
        "init_from": None if init_from is None else f"sha256:{init_from}",
        "predecessor": predecessor,
        "earlier": list(earlier),
        "technique": [
            [name, _by_kind(_technique(name, knobs))] for name, knobs in cfg["technique"].items()
        ],
        "optim": optim,
        "trainer": {k: cfg["trainer"][k] for k in TRAINER_COMPUTATIONAL},
        "stop_degenerate": cfg["stop_degenerate"],
        "score_earlier": cfg.get("score_earlier", False),
        "shared_head": cfg.get("shared_head", False),
        "seeds": Seeds.from_config(cfg["seed"], cfg["seeds"]).as_dict(),
    }
    plain: dict[str, Any] = _plain(hashed)
    if plain["task"].get("folds") is None and set(SPLITS) <= set(fingerprint):
        plain["task"].pop("grouping", None)  # its files are the parts: nothing is drawn
    if not higher_is_better:
        plain["task"]["higher_is_better"] = False
    for path, value in NEUTRAL.items():
        _drop_if(plain, path.split("."), value)
    return plain


def with_trainer(hashed: Mapping[str, Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The hashed config of a run that differs in these knobs (`trainer.precision` -> value)."""
    plain: dict[str, Any] = {**hashed, "trainer": dict(hashed["trainer"])}
    for path, value in knobs.items():
        plain["trainer"][path.removeprefix("trainer.")] = value
        _drop_if(plain, path.split("."), NEUTRAL.get(path, _ALWAYS))
    return plain


_ALWAYS = object()  # equal to no value: a knob of the first version, which is always written


def key_of(hashed: Mapping[str, Any]) -> str:
    """16 hex digits of the run."""
    text = json.dumps(hashed, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cell_of(hashed: Mapping[str, Any]) -> str:
    """16 hex digits of the run without its seeds, without its fold of a cross-validation, and
    without the members that a merged network is made of; of the stage before, the cell alone
    counts.

    Only runs of one cell are ever averaged.
    """
    rest = {k: v for k, v in hashed.items() if k not in ("seeds", "members")}
    if isinstance(before := rest.get("predecessor"), Mapping):
        rest["predecessor"] = {k: v for k, v in before.items() if k != "key"}
    if isinstance(task := rest.get("task"), Mapping):
        rest["task"] = {k: v for k, v in task.items() if k != "fold"}
    return key_of(rest)


def _technique(name: str, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Its knobs, of which where a search may look does not decide what one run gives."""
    found = {k: v for k, v in knobs.items() if k != SEARCH_SPACE}
    for knob, value in found.items():
        if isinstance(value, str):
            found[knob] = REVISED.get(f"{name}.{knob}", {}).get(value, value)
    return found


def _by_kind(node: Mapping[str, Any]) -> dict[str, Any]:
    """The class by its name alone: moving it to another module changes no result."""
    rest = {k: v for k, v in node.items() if k != "_target_"}
    return {"kind": str(node["_target_"]).rpartition(".")[2], **rest}


def _plain(value: Any) -> Any:
    """JSON types only; 1 and 1.0 are the same number, so they must hash alike."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _drop_if(tree: Any, path: list[str], value: Any) -> None:
    """Remove the leaf at `path` if it has this value; [name, knobs] pairs are walked by name."""
    for part in path[:-1]:
        node = dict(tree) if isinstance(tree, list) else tree
        if not isinstance(node, dict) or part not in node:
            return
        tree = node[part]
    if isinstance(tree, dict) and path[-1] in tree and tree[path[-1]] == value:
        del tree[path[-1]]
