"""The one place that knows all parts of a run: config in, everything wired in the declared order.

checkpoint + head -> edit_model -> edit_plan -> groups -> optimizer -> wrap_optimizer;
task loss -> plain step -> wrap_step -> LightningModule; callbacks -> Trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from bluestab.core.types import SPLITS, Example, Progress, Split, Step, Watch
from bluestab.models.activations import Compression
from bluestab.models.built import Built, Trained
from bluestab.models.earlier import EarlierTask
from bluestab.models.param_plan import ParamPlan
from bluestab.tasks.base import Scores
from bluestab.tasks.data import TaskData
from bluestab.techniques.base import Technique
from bluestab.training.check import Run
from bluestab.training.image_features import look_of
from bluestab.training.loop import diagnostics
from bluestab.training.loop.batches import (
    Look,
    ShuffledOrder,
    evaluation_batches,
    loader,
    training_order,
)
from bluestab.training.loop.candidates import Candidates, candidates_of
from bluestab.training.loop.checkpoints import Checkpoints, identity
from bluestab.training.loop.dropout_masks import Sfc64Dropout
from bluestab.training.loop.evaluation import make_evaluator
from bluestab.training.loop.frozen_prefix import States, frozen_states
from bluestab.training.loop.history import ValidationHistory
from bluestab.training.loop.lightning_trainer import Steps, build_trainer
from bluestab.training.loop.micro_batches import counted_items, counted_labels
from bluestab.training.loop.module import FineTuning, plain_step, run_in_float32
from bluestab.training.loop.observed import observed
from bluestab.training.loop.phases import Phases
from bluestab.training.loop.ranks import Ranks
from bluestab.training.path_integral import PathIntegral
from bluestab.training.prepare import Prepared, build_optimizer, prepare
from bluestab.training.stages import earlier_tasks
from bluestab.training.weights import base_of


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
    history: ValidationHistory
    total_steps: int
    warmup_steps: int
    start: Mapping[str, torch.Tensor]
    edited: frozenset[str]
    checkpoints: Checkpoints | None
    tokenizer: Any
    prefix: int | None
    path_integral: PathIntegral | None
    base: str | None
    """What the encoder is whose weights need not be kept (`weights.base_of`)."""
    earlier: Sequence[EarlierTask]
    """Those whose test items are to be scored, too."""

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
    run: Run,
    *,
    device: torch.device,
    progress: Progress,
    resume: Path | None = None,
    watch: Watch = lambda rows: None,
    phases: Phases | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  # frozen
    instead: Sequence[EarlierTask] = (),
) -> Assembly:
    """Wire one run, which has been checked.

    device    where the network is put
    progress  called after every step and every evaluation
    resume    folder of the run's checkpoint; None: it cannot be interrupted and go on
    watch     called with the rows of the curve after every evaluation
    phases    notes where the time goes
    ranks     the processes of the run, of which this is one
    instead   of the tasks of stages that have not been trained yet, what is like them
    """
    cfg, data, techniques, seeds = run.cfg, run.data, run.techniques, run.seeds
    optim, knobs, task = cfg["optim"], cfg["trainer"], data.task
    phases = phases or Phases()
    applied = list(techniques.values())
    attention = knobs["attention"][device.type]
    ready = prepare(
        cfg,
        data=data,
        model=run.model,
        techniques=applied,
        seeds=seeds,
        attention=attention,
        init_from=run.start,
        phases=phases,
    )
    built, tables = ready.built, ready.tables
    _to_device(ready, knobs, device)
    with phases("load"):
        earlier = earlier_tasks(run.stages, attention, device) or instead
        for technique in applied if earlier else ():
            technique.recall(earlier, built, seeds)
    optimizer, step = _wrapped(applied, ready, cfg)
    order = training_order(tables["train"], optim, seeds.order)
    corruption = task.corruption(ready.tokenizer)
    with phases("prefix"):
        every = [e for examples in ready.examples.values() for e in examples]
        look = look_of(run.model.sees, every, device)
    prefix: int | None = None
    frozen: Mapping[Split, States] = {}
    # what frozen blocks give for texts that are drawn anew is no constant
    if corruption is None and not task.output.searches:
        with phases("prefix"):
            prefix, frozen = frozen_states(
                knobs, built, ready.plan, applied, tables, ready.tokenizer.pad_token_id, attention
            )
    history = ValidationHistory(
        task.headline,
        built.model,
        selects=task.shots is None,
        begins=max((t.selects_from(ready.total_steps) for t in applied), default=0),
        patience=cfg["optim"].get("patience"),
    )
    candidates: dict[Split, Candidates | None] = {"validation": None, "test": None}
    if task.output.searches:
        candidates = {s: candidates_of(tables[s], len(ready.examples[s])) for s in candidates}
    module = FineTuning(
        model=built.model,
        step=step,
        optimizer=optimizer,
        n_layers=built.layers.n_layers,
        total_steps=ready.total_steps,
        warmup_steps=ready.warmup_steps,
        micro_batch=knobs["micro_batch"],
        count=counted_labels if task.output.head.per_word else counted_items,
        seeds=seeds,
        corruption=corruption,
        preprocess_logits_for_metrics=task.preprocess_logits_for_metrics,
        evaluators={
            split: make_evaluator(data, ready.examples[split], tables[split])
            for split in ("validation", "test")
        },
        candidates=candidates,
        phases=phases,
        masks=Sfc64Dropout if knobs["dropout_masks"] == "sfc64" else nullcontext,
        compression=Compression.of(knobs),
        ranks=ranks,
        evaluated=_evaluated(cfg, ready, history, task.metric, progress, watch),
    )
    start = {**built.reference, **ready.start}
    checkpoints = None
    if resume is not None:
        checkpoints = Checkpoints(
            folder=resume if ranks.rank == 0 else None,
            every=cfg["checkpoint_every"],
            header=identity(run.key, device),
            sizes={name: knobs[name] for name in ("micro_batch", "eval_batch_size")},
            batch_size=optim["batch_size"],
            order=order,
            history=history,
            techniques=techniques,
            start=start,
        )
    path = PathIntegral(built, start) if cfg.get("keep_path_integral", False) else None
    # before those of techniques, which add to the gradient
    callbacks: list[pl.Callback] = [one for one in (checkpoints, path) if one is not None]
    callbacks += [c for technique in applied for c in technique.callbacks(built)]
    callbacks += [Steps(ready.total_steps, progress)]
    return Assembly(
        data=data,
        examples=ready.examples,
        truncated=ready.truncated,
        lost=ready.lost,
        built=built,
        plan=ready.plan,
        techniques=techniques,
        module=module,
        trainer=build_trainer(knobs, optim, ready.total_steps, device, callbacks),
        loaders=_loaders(cfg, ready, order, frozen, look, candidates),
        history=history,
        total_steps=ready.total_steps,
        warmup_steps=ready.warmup_steps,
        start=ready.start,
        edited=ready.edited,
        checkpoints=checkpoints,
        tokenizer=ready.tokenizer,
        prefix=prefix,
        path_integral=path,
        base=base_of(run),
        earlier=earlier if cfg.get("score_earlier", False) else (),
    )


def _to_device(ready: Prepared, knobs: Mapping[str, Any], device: torch.device) -> None:
    """The network as it will compute: its head in float32, blocks checkpointed if asked for."""
    model = ready.built.model
    for path in ready.head_modules:
        run_in_float32(model.get_submodule(path))
    if knobs["gradient_checkpointing"]:
        # not the reentrant kind: it gives no gradients where nothing below a block trains
        options: dict[str, Any] = {"use_reentrant": False}
        if knobs["dropout_masks"] == "sfc64":
            options["context_fn"] = lambda: (nullcontext(), Sfc64Dropout())  # when computed again
        model.gradient_checkpointing_enable(options)  # type: ignore[operator]
    model.to(device)


def _wrapped(
    techniques: Sequence[Technique], ready: Prepared, cfg: Mapping[str, Any]
) -> tuple[torch.optim.Optimizer, Step]:
    """Optimizer and training step; the technique listed first is the outermost of the steps."""
    built = ready.built
    optimizer = build_optimizer(built, ready.plan, cfg["optim"])
    for technique in techniques:
        optimizer = technique.wrap_optimizer(optimizer, built)
    step = plain_step(built.model, built.loss)
    for technique in reversed(techniques):
        step = technique.wrap_step(step, built)
    return optimizer, step


def _loaders(
    cfg: Mapping[str, Any],
    ready: Prepared,
    order: ShuffledOrder,
    frozen: Mapping[Split, States],
    look: Look,
    candidates: Mapping[Split, Candidates | None],
) -> dict[Split, DataLoader[Any]]:
    """Batches of every split, with what the frozen blocks give for them, if that is computed, and
    with what `look` makes of their images."""
    knobs = cfg["trainer"]
    batches: dict[Split, dict[str, Any]] = {
        split: {"batch_sampler": evaluation_batches(ready.tables[split], knobs, own)}
        for split, own in candidates.items()
    }
    batches["train"] = {"sampler": order, "batch_size": cfg["optim"]["batch_size"]}
    return {
        split: loader(
            ready.tables[split],
            ready.tokenizer.pad_token_id,
            knobs["loader_workers"] if split == "train" else 0,
            frozen[split].batch if frozen else None,
            look,
            **batches[split],
        )
        for split in SPLITS
    }


def _evaluated(
    cfg: Mapping[str, Any],
    ready: Prepared,
    history: ValidationHistory,
    metric: str,
    progress: Progress,
    watch: Watch,
) -> Callable[[int, Scores, float, Mapping[str, float | None]], bool]:
    """What follows a validation: a row of the curve, and whether the training is to stop."""
    watched, total = cfg["stop_degenerate"], ready.total_steps
    constant = diagnostics.constant_loss(ready.tables["train"]["labels"]) if watched else None

    def evaluated(
        step: int, scores: Scores, loss: float, norms: Mapping[str, float | None]
    ) -> bool:
        history.add(step, scores, loss, norms)
        progress(step, total, loss, scores[metric])
        watch(history.rows)
        if step >= total:
            return False
        if history.is_stalled():
            return True
        if not watched:
            return False
        sign = diagnostics.failure_sign(
            history.rows, warmup_steps=ready.warmup_steps, constant=constant
        )
        if sign is not None:
            history.censored = {"step": step, "sign": sign}
        return sign is not None

    return evaluated
