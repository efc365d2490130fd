"""A run up to its first step: items drawn and tokenised, network edited, plan made; on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
import torch
from datasets import Dataset

from bluestab.core.errors import ConfigError
from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import SPLITS, Example, Split
from bluestab.models.built import Built
from bluestab.models.description import Model
from bluestab.models.init_from import SavedWeights
from bluestab.models.initialisation import initialise
from bluestab.models.networks import Loaded, load
from bluestab.models.param_plan import ParamPlan, base_plan, param_groups
from bluestab.models.used_rows import hold_used_rows
from bluestab.tasks.data import TaskData
from bluestab.techniques.base import Technique
from bluestab.training.loop.observed import changed
from bluestab.training.loop.optimizers import adamw
from bluestab.training.loop.phases import Phases
from bluestab.training.loop.schedules import updates, warmup_steps
from bluestab.training.tokenise import tokenised
from bluestab.training.truncation import truncated_shares


def build(loaded: Loaded, data: TaskData, seeds: Seeds, shared_head: bool = False) -> Built:
    """Loaded network -> what techniques edit: a fresh head drawn per name from the `init` stream.

    shared_head  earlier tasks have this head, too
    """
    std = loaded.initializer_range
    for name in sorted(loaded.fresh):
        initialise(loaded.network, name, generator(seeds.init, "init", name), std)
    drawn = {
        name: parameter.detach().clone()
        for name, parameter in loaded.network.named_parameters()
        if name in loaded.fresh and loaded.layers.depth[name] < loaded.layers.top
    }
    return Built(
        model=loaded.network,
        layers=loaded.layers,
        fresh=loaded.fresh,
        reference={**loaded.reference, **drawn},
        initialise=lambda name, random: initialise(loaded.network, name, random, std),
        loss=data.task.loss,
        shared_head=shared_head,
    )


def apply_to_model(techniques: Sequence[Technique], built: Built, seeds: Seeds) -> Built:
    """Moment 2, in listed order."""
    for technique in techniques:
        built = technique.edit_model(built, seeds)
    return built


def finished_plan(techniques: Sequence[Technique], built: Built, weight_decay: float) -> ParamPlan:
    """Moment 3. Raises ConfigError if something random would be frozen for ever."""
    plan = base_plan(dict(built.model.named_parameters()), weight_decay)
    for technique in techniques:
        plan = technique.edit_plan(plan, built)
    lost = sorted(name for name in built.fresh if not plan[name].trainable)
    if lost:
        raise ConfigError(
            f"'{lost[0]}' (and {len(lost) - 1} more) has no pretrained value and would be frozen"
        )
    return plan


def build_optimizer(
    built: Built,
    plan: ParamPlan,
    optim: Mapping[str, Any],
    make: Callable[..., torch.optim.Optimizer] = adamw,
) -> torch.optim.Optimizer:
    """AdamW over the groups of the plan; what does not train asks for no gradient from here on."""
    parameters = dict(built.model.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(plan[name].trainable)
    return make(
        param_groups(plan, parameters, built.layers, optim["lr"]),
        betas=(optim["beta1"], optim["beta2"]),
        eps=optim["eps"],
        bias_correction=optim["bias_correction"],
    )


def _word_pieces(tables: Iterable[Dataset]) -> Iterator[int]:
    """Those of all rows."""
    columns = (table.data.column("input_ids") for table in tables)
    for chunk in (chunk for column in columns for chunk in column.chunks):
        while pyarrow.types.is_list(chunk.type):  # an item of several texts is a list of lists
            chunk = chunk.flatten()
        yield from chunk.unique().to_pylist()


@dataclass
class Prepared:
    """A run before anybody trains it: items, network and plan, as its techniques left them.

    head_modules  paths that compute in float32 whatever the precision of the rest
    start         values before the first step of what techniques edited, else the reference has
    """

    examples: Mapping[Split, Sequence[Example]]
    tables: Mapping[Split, Dataset]
    truncated: Mapping[Split, int]
    lost: Mapping[Split, float]
    tokenizer: Any
    built: Built
    plan: ParamPlan
    head_modules: Sequence[str]
    start: Mapping[str, torch.Tensor]
    edited: frozenset[str]
    total_steps: int
    warmup_steps: int


def prepare(
    cfg: Mapping[str, Any],
    *,
    data: TaskData,
    model: Model,
    techniques: Sequence[Technique],
    seeds: Seeds,
    attention: str,
    init_from: SavedWeights | None,
    phases: Phases,
) -> Prepared:
    """Moments 1 to 3 of a run, on the CPU."""
    optim, task, shared_head = cfg["optim"], data.task, cfg.get("shared_head", False)
    examples: dict[Split, Sequence[Example]] = dict(data.select(seeds))
    for technique in techniques:
        examples["train"] = technique.edit_data(examples["train"], seeds)
    with phases("tokenise"):
        encoded = {
            split: tokenised(
                data, examples[split], model, "training" if split == "train" else "scoring"
            )
            for split in SPLITS
        }
    tokenizer = encoded["train"][1]
    assert tokenizer.pad_token_id is not None
    tables = {split: table for split, (table, _) in encoded.items()}
    loaded = load(
        model,
        head=task.output.head,
        n_labels=task.output.n_outputs(data.labels),
        attention=attention,
        init_from=init_from,
        shared_head=shared_head,
    )
    built = apply_to_model(techniques, build(loaded, data, seeds, shared_head), seeds)
    plan = finished_plan(techniques, built, optim["weight_decay"])
    if cfg["trainer"]["embedding_rows"] == "used":
        pieces = {*tokenizer.all_special_ids, *_word_pieces(tables.values())}
        built = hold_used_rows(built, plan, pieces)
    parameters = dict(built.model.named_parameters())
    edited = changed(parameters, built.reference)
    total = updates(len(tables["train"]), optim["batch_size"], optim["epochs"], optim["steps"])
    return Prepared(
        examples=examples,
        tables=tables,
        truncated={split: sum(tables[split]["truncated"]) for split in SPLITS},
        lost=truncated_shares(task, examples, tables),
        tokenizer=tokenizer,
        built=built,
        plan=plan,
        head_modules=loaded.head_modules,
        start={name: parameters[name].detach().clone() for name in edited},
        edited=edited,
        total_steps=total,
        warmup_steps=warmup_steps(total, optim["warmup"]),
    )
