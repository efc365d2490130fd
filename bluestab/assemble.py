"""The one place that knows all parts of a run: config in, everything wired in the declared order.

checkpoint + head -> edit_model -> edit_plan -> groups -> optimizer -> wrap_optimizer;
task loss -> plain step -> wrap_step -> LightningModule; callbacks -> Trainer.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from datasets import Dataset
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from torch.utils.data import DataLoader

from bluestab import diagnostics
from bluestab.audit import shares_lost
from bluestab.batches import evaluation_batches, loader, training_order
from bluestab.checkpoints import Checkpoints, Files, identity
from bluestab.data import tokenised
from bluestab.errors import ConfigError
from bluestab.evaluation import judge
from bluestab.history import History
from bluestab.init_from import KeptWeights
from bluestab.micro import counted_items, counted_labels
from bluestab.models import Model
from bluestab.module import FineTuning, plain_step, run_in_float32
from bluestab.networks import Loaded, initialise, load
from bluestab.observed import changed, observed
from bluestab.optimizers import adamw
from bluestab.phases import Phases
from bluestab.plan import ParamPlan, base_plan, param_groups
from bluestab.prefix import States, find_prefix, stand_in, states_of
from bluestab.ranks import Ranks
from bluestab.schedules import updates, warmup_steps
from bluestab.seeding import Seeds, generator
from bluestab.task_data import TaskData
from bluestab.tasks.base import Scores
from bluestab.techniques.base import Technique
from bluestab.types import SPLITS, Built, Example, Split, Trained

log = logging.getLogger("bluestab")

Progress = Callable[[int, int, "float | None", "float | None"], None]
"""(step, total steps, training loss, validation score): called often, must be quick."""

Watch = Callable[[Sequence[Mapping[str, Any]]], None]
"""Shown all rows of the curve so far, of which the last is new."""


def build(loaded: Loaded, data: TaskData, seeds: Seeds) -> Built:
    """Loaded network -> what techniques edit: head drawn per name from the `init` stream."""
    std = loaded.initializer_range
    for name in sorted(loaded.fresh):
        initialise(loaded.network, name, generator(seeds.init, "init", name), std)
    return Built(
        model=loaded.network,
        layers=loaded.layers,
        fresh=loaded.fresh,
        reference=loaded.reference,
        initialise=lambda name, random: initialise(loaded.network, name, random, std),
        loss=data.task.loss,
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
    init_from: KeptWeights | None,
    phases: Phases,
) -> Prepared:
    """Moments 1 to 3 of a run, on the CPU."""
    optim, task = cfg["optim"], data.task
    examples: dict[Split, Sequence[Example]] = dict(data.select(seeds))
    for technique in techniques:
        examples["train"] = technique.edit_data(examples["train"], seeds)
    with phases("tokenise"):
        encoded = {split: tokenised(data, examples[split], model) for split in SPLITS}
    tokenizer = encoded["train"][1]
    assert tokenizer.pad_token_id is not None
    tables = {split: table for split, (table, _) in encoded.items()}
    loaded = load(
        model,
        head=task.head,
        n_labels=len(data.labels),
        attention=attention,
        init_from=init_from,
    )
    built = apply_to_model(techniques, build(loaded, data, seeds), seeds)
    plan = finished_plan(techniques, built, optim["weight_decay"])
    parameters = dict(built.model.named_parameters())
    edited = changed(parameters, built.reference)
    total = updates(len(tables["train"]), optim["batch_size"], optim["epochs"], optim["steps"])
    return Prepared(
        examples=examples,
        tables=tables,
        truncated={split: sum(tables[split]["truncated"]) for split in SPLITS},
        lost=shares_lost(task, examples, tables),
        tokenizer=tokenizer,
        built=built,
        plan=plan,
        head_modules=loaded.head_modules,
        start={name: parameters[name].detach().clone() for name in edited},
        edited=edited,
        total_steps=total,
        warmup_steps=warmup_steps(total, optim["warmup"]),
    )


@dataclass
class Assembly:
    """A run ready to be fitted."""

    data: TaskData
    examples: Mapping[Split, Sequence[Example]]
    truncated: Mapping[Split, int]
    lost: Mapping[Split, float]
    built: Built
    plan: ParamPlan
    techniques: Mapping[str, Technique]
    module: FineTuning
    trainer: pl.Trainer
    loaders: Mapping[Split, DataLoader[Any]]
    history: History
    total_steps: int
    warmup_steps: int
    start: Mapping[str, torch.Tensor]
    edited: frozenset[str]
    checkpoints: Checkpoints | None
    tokenizer: Any
    prefix: int | None

    @property
    def steps(self) -> int:
        """Optimizer steps taken, up to the first whose loss was not finite."""
        diverged = self.module.diverged
        return self.trainer.global_step if diverged is None else diverged - 1

    def trained(self) -> Trained:
        """Observe the training that has just ended; no technique is asked."""
        return observed(
            self.built,
            self.plan,
            optimizer=self.module.optimizers(use_pl_optimizer=False),  # type: ignore[arg-type]
            edited=self.edited,
            start=self.start,
            forwards=self.module.forwards,
            batches=self.module.batches,
            steps=self.steps,
        )

    def effects(self) -> dict[str, Any]:
        trained = self.trained()
        return {name: t.effects(self.built, trained) for name, t in self.techniques.items()}


def assemble(
    cfg: Mapping[str, Any],
    *,
    data: TaskData,
    model: Model,
    techniques: Mapping[str, Technique],
    seeds: Seeds,
    device: torch.device,
    progress: Progress,
    init_from: KeptWeights | None = None,
    key: str = "",
    resume: Path | None = None,
    watch: Watch = lambda rows: None,
    phases: Phases | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  # frozen
) -> Assembly:
    """Wire one run. `cfg` is the resolved config; everything named in it has been checked.

    init_from  weights of an earlier run to start from; None: the model's own
    resume     folder of the run's checkpoint; None: it cannot be interrupted and go on
    watch      shown the rows of the curve after every evaluation
    phases     notes where the time goes
    ranks      the processes of the run, of which this is one
    """
    optim, knobs, task = cfg["optim"], cfg["trainer"], data.task
    phases = phases or Phases()
    applied = list(techniques.values())

    attention = knobs["attention"][device.type]
    ready = prepare(
        cfg,
        data=data,
        model=model,
        techniques=applied,
        seeds=seeds,
        attention=attention,
        init_from=init_from,
        phases=phases,
    )
    examples, tables, tokenizer = ready.examples, ready.tables, ready.tokenizer
    built, plan, edited, start = ready.built, ready.plan, ready.edited, ready.start
    for path in ready.head_modules:
        run_in_float32(built.model.get_submodule(path))
    if knobs["gradient_checkpointing"]:
        # not the reentrant kind: it gives no gradients where nothing below a block trains
        built.model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    built.model.to(device)

    optimizer = build_optimizer(built, plan, optim)
    for technique in applied:
        optimizer = technique.wrap_optimizer(optimizer, built)
    step = plain_step(built.model, built.loss)
    for technique in reversed(applied):
        step = technique.wrap_step(step, built)

    order = training_order(tables["train"], optim, seeds.order)
    batches: dict[Split, dict[str, Any]] = {
        split: {"batch_sampler": evaluation_batches(tables[split], knobs)} for split in SPLITS
    }
    batches["train"] = {"sampler": order, "batch_size": optim["batch_size"]}
    with phases("prefix"):
        prefix, frozen = frozen_states(
            knobs, built, plan, applied, tables, tokenizer.pad_token_id, attention
        )
    loaders: dict[Split, DataLoader[Any]] = {
        split: loader(
            tables[split],
            tokenizer.pad_token_id,
            knobs["loader_workers"] if split == "train" else 0,
            frozen[split].batch if frozen else None,
            **batches[split],
        )
        for split in SPLITS
    }

    total, warmup = ready.total_steps, ready.warmup_steps
    history = History(task.headline, built.model)

    watched = cfg["stop_degenerate"]
    constant = diagnostics.constant_loss(tables["train"]["labels"]) if watched else None

    def evaluated(
        step: int, scores: Scores, loss: float, norms: Mapping[str, float | None]
    ) -> bool:
        history.add(step, scores, loss, norms)
        progress(step, total, loss, scores[task.metric])
        watch(history.rows)
        if not watched or step >= total:
            return False
        sign = diagnostics.failure_sign(history.rows, warmup_steps=warmup, constant=constant)
        if sign is not None:
            history.censored = {"step": step, "sign": sign}
        return sign is not None

    module = FineTuning(
        model=built.model,
        step=step,
        optimizer=optimizer,
        n_layers=built.layers.n_layers,
        total_steps=total,
        warmup_steps=warmup,
        micro_batch=knobs["micro_batch"],
        count=counted_labels if task.head == "token" else counted_items,
        seeds=seeds,
        judges={
            split: judge(data, examples[split], tables[split]) for split in ("validation", "test")
        },
        phases=phases,
        ranks=ranks,
        evaluated=evaluated,
    )
    checkpoints = None
    if resume is not None:
        checkpoints = Checkpoints(
            folder=resume if ranks.rank == 0 else None,
            every=cfg["checkpoint_every"],
            header=identity(key, device),
            sizes={name: knobs[name] for name in ("micro_batch", "eval_batch_size")},
            batch_size=optim["batch_size"],
            order=order,
            history=history,
            techniques=techniques,
            start={**built.reference, **start},
        )
    callbacks: list[pl.Callback] = [] if checkpoints is None else [checkpoints]
    callbacks += [c for technique in applied for c in technique.callbacks(built)]
    trainer = build_trainer(knobs, optim, total, device, [*callbacks, Steps(total, progress)])
    return Assembly(
        data, examples, ready.truncated, ready.lost, built, plan, techniques, module, trainer,
        loaders, history, total, warmup, start, edited, checkpoints, tokenizer, prefix,
    )  # fmt: skip


def frozen_states(
    knobs: Mapping[str, Any],
    built: Built,
    plan: ParamPlan,
    techniques: Sequence[Technique],
    tables: Mapping[Split, Dataset],
    pad_token_id: int,
    attention: str,
) -> tuple[int | None, dict[Split, States]]:
    """How many blocks are computed once, and what they give for every split; none, if no block is
    frozen for good or the budget does not hold it. Those blocks stop computing."""
    prefix = find_prefix(built, plan, techniques) if knobs["prefix_cache"] else None
    if prefix is None:
        return None, {}
    found: dict[Split, States] = {}
    for split, table in tables.items():
        states = states_of(
            prefix,
            built,
            table,
            pad_token_id=pad_token_id,
            batches=evaluation_batches(table, knobs),
            precision=str(knobs["precision"]),
            attention=attention,
            budget=knobs["prefix_gb"],
        )
        if states is None:
            return None, {}
        found[split] = states
    stand_in(prefix, built)
    log.info("the output of blocks 1 to %d is computed once", prefix.depth)
    return prefix.depth, found


class Steps(pl.Callback):
    """Reports every batch, of training and evaluation, to whoever shows progress or keeps time."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.report = progress
        self.total = total

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.report(trainer.global_step, self.total, None, None)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.report(trainer.global_step, self.total, None, None)

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.report(trainer.global_step, self.total, None, None)


def build_trainer(
    knobs: Mapping[str, Any],
    optim: Mapping[str, Any],
    total_steps: int,
    device: torch.device,
    callbacks: Sequence[pl.Callback],
) -> pl.Trainer:
    """A quiet trainer: one device, no files, no bars; evaluation as often as asked."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    every = knobs["eval_every"]
    # deterministic mode fills all fresh memory with NaN, to show reads of what was never written:
    # a tenth of a step, and no bit of a result
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return pl.Trainer(
        accelerator={"cpu": "cpu", "cuda": "gpu", "mps": "mps"}[device.type],
        devices=[device.index] if device.type == "cuda" else 1,
        precision={"32": "32-true", "bf16": "bf16-mixed"}[str(knobs["precision"])],  # type: ignore[arg-type]
        max_steps=total_steps,
        max_epochs=-1,
        gradient_clip_val=optim["clip"],
        val_check_interval=every,
        check_val_every_n_epoch=1 if every is None else None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        # one process, also inside a job of SLURM, where Lightning would requeue the job by itself
        plugins=[Files(), LightningEnvironment()],
        callbacks=list(callbacks),
    )
