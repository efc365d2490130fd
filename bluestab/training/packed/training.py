"""The steps of a group: one forward and backward pass for all, an update for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from bluestab.core import preemption
from bluestab.core.errors import BluestabError
from bluestab.core.types import Batch, Split, Step, StepOutput
from bluestab.models.activations import saving
from bluestab.models.passes import PREFIX, model_logits
from bluestab.store.representations import first_pieces, of_items
from bluestab.techniques.base import Technique
from bluestab.techniques.packing import Packable
from bluestab.training.loop.batches import collate, evaluation_batches
from bluestab.training.loop.counted_memory import Ledger, moment_bytes
from bluestab.training.loop.frozen_prefix import (
    Prefix,
    States,
    frozen_states,
    replace_by_passthrough,
)
from bluestab.training.loop.micro_batches import per_piece
from bluestab.training.loop.phases import Phases
from bluestab.training.packed.keeping import Keeper
from bluestab.training.packed.siblings import Sibling
from bluestab.training.packed.stacked import Stack
from bluestab.training.prepare import Prepared, prepare

if TYPE_CHECKING:
    from datasets import Dataset

    from bluestab.core.types import Progress, Watch
    from bluestab.training.check import Run
    from bluestab.training.packed.keeping import Keeper


class Inputs:
    """A tokenised split, padded once and kept on the device; a batch is cut to its longest item."""

    def __init__(
        self, table: Dataset, pad_token_id: int, device: torch.device, states: States | None
    ) -> None:
        padded = collate([{**row, "item": i} for i, row in enumerate(table)], pad_token_id)
        self.lengths = padded["attention_mask"].sum(dim=1).numpy()
        self.values = {name: value.to(device) for name, value in padded.items()}
        self.device, self.states = device, states

    def batch(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        width = int(self.lengths[list(rows)].max())
        at = torch.tensor(list(rows)).to(self.device, non_blocking=True)
        found = {name: value[at] for name, value in self.values.items()}
        found = {n: v[:, :width] if per_piece(n, v) else v for n, v in found.items()}
        if self.states is not None:
            found[PREFIX] = self.states.batch(rows, width).to(self.device)
        return found


class Group:
    """Runs that train as one: their networks are alike, and so are their items.

    watchers  per run, who is told of its steps and of its curve

    Raises BluestabError if the runs are no siblings.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        watchers: Sequence[tuple[Progress, Watch]],
        device: torch.device,
        phases: Phases,
    ) -> None:
        self.device, self.phases = device, phases
        self.cfg, self.task = runs[0].cfg, runs[0].data.task
        self.siblings: list[Sibling] = []
        for place, (run, (progress, watch)) in enumerate(zip(runs, watchers, strict=True)):
            with phases("load"):
                ready = self._prepared(run)
            if place == 0:
                self._build(runs, ready)
            self._check_alike(run, ready)
            with phases("load"):
                self.stack.take_in(place, ready.built.model)
                sibling = Sibling(run, ready, progress, watch)
                sibling.settle()
            self.siblings.append(sibling)
        self._step = self._wrapped()

    def _prepared(self, run: Run) -> Prepared:
        return prepare(
            run.cfg,
            data=run.data,
            model=run.model,
            techniques=list(run.techniques.values()),
            seeds=run.seeds,
            attention=run.cfg["trainer"]["attention"][self.device.type],
            init_from=run.init_from,
            phases=self.phases,
        )

    def _build(self, runs: Sequence[Run], ready: Prepared) -> None:
        """What all share, from the first of them."""
        knobs, built = self.cfg["trainer"], ready.built
        kernel = knobs["attention"][self.device.type]
        pad = ready.tokenizer.pad_token_id
        self.ready = ready
        evaluated: tuple[Split, ...] = ("validation", "test")
        self.batches = {s: evaluation_batches(ready.tables[s], knobs) for s in evaluated}
        trains = frozenset(name for name in ready.plan if ready.plan[name].trainable)
        built.model.to(self.device)
        for name, parameter in built.model.named_parameters():
            parameter.requires_grad_(name in trains)
        with self.phases("prefix"):
            applied: list[Technique] = list(runs[0].techniques.values())
            self.prefix, states = frozen_states(
                knobs, built, ready.plan, applied, ready.tables, pad, kernel
            )
        with self.phases("load"):
            self.stack = Stack(
                built.model,
                trains,
                head=ready.head_modules,
                seeds=[run.seeds.dropout for run in runs],
                device=self.device,
                kernel=kernel,
            )
            if self.prefix is not None:
                replace_by_passthrough(
                    Prefix(self.prefix, ""), replace(built, model=self.stack.network)
                )
            if knobs["gradient_checkpointing"]:
                self.stack.save_memory()
            self.ledger = Ledger(self.stack.network, self._moment_bytes)
            self.inputs = {
                split: Inputs(table, pad, self.device, states.get(split))
                for split, table in ready.tables.items()
            }

    def _moment_bytes(self) -> int:
        return sum(moment_bytes(sibling.optimizer) for sibling in self.siblings)

    def _check_alike(self, run: Run, ready: Prepared) -> None:
        first = self.ready
        same = all(
            ready.tables[split]._fingerprint == first.tables[split]._fingerprint
            for split in first.tables
        )
        plans = [{n for n in r.plan if r.plan[n].trainable} for r in (first, ready)]
        if not same or plans[0] != plans[1] or first.total_steps != ready.total_steps:
            raise BluestabError(
                f"run {run.key} cannot train in one group with others: its items, its steps or "
                "what it trains differ; say trainer.engine=lightning"
            )

    # --- training ---

    def _wrapped(self) -> Step:
        """The plain step of all, and around it those of the techniques, the first outermost."""
        step: Step = self._plain
        # `packable.packable_problems` has let no other technique in
        members = [[cast(Packable, t) for t in s.run.techniques.values()] for s in self.siblings]
        built = [s.built for s in self.siblings]
        for ours in reversed(list(zip(*members, strict=True))):
            step = type(ours[0]).pack_step(ours, step, self.stack, built)
        return step

    def _plain(self, batch: Batch) -> StepOutput:
        """Loss (S,) and logits (S, B, ...) of all siblings."""
        logits = self.stack.unflatten(model_logits(self.stack.network, batch))
        parts = {name: self.stack.unflatten(value) for name, value in batch.items()}
        losses = [
            sibling.built.loss(logits[i], {name: value[i] for name, value in parts.items()})
            for i, sibling in enumerate(self.siblings)
        ]
        return StepOutput(torch.stack(losses), logits)

    def _autocast(self) -> torch.autocast:
        half = str(self.cfg["trainer"]["precision"]) == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def _batches(self) -> Iterator[tuple[list[int], bool]]:
        """For ever: the rows of all siblings one behind another; is it the last of an epoch?"""
        size, n_rows = self.cfg["optim"]["batch_size"], len(self.ready.tables["train"])
        for epoch in itertools.count():
            orders = []
            for sibling in self.siblings:
                sibling.order.set_epoch(epoch)
                orders.append(list(sibling.order))
            for start in range(0, n_rows, size):
                rows = [row for order in orders for row in order[start : start + size]]
                yield rows, start + size >= n_rows

    def fit(self, keeper: Keeper | None = None, begun: int = 0) -> None:
        """Train until every run has ended, each with an evaluation of its last weights.

        begun  steps that were taken before, of a group that goes on
        """
        total, every = self.ready.total_steps, self.cfg["trainer"]["eval_every"]
        self.stack.network.train()
        batches = self._batches()
        for _ in range(begun):
            next(batches)
        for number in range(begun + 1, total + 1):
            if all(sibling.ended for sibling in self.siblings):
                break
            if preemption.is_requested():
                if keeper is not None:
                    keeper.before_giving_back(self.stack, self.siblings, number - 1)
                raise preemption.Preempted
            rows, last_of_epoch = next(batches)
            self._train(rows)
            due = last_of_epoch if every is None else number % every == 0
            if due or number == total:
                self._validate()
            if keeper is not None and number < total:
                keeper.after_step(self.stack, self.siblings, number)

    def _train(self, rows: Sequence[int]) -> None:
        going = [s for s in self.siblings if not s.ended]
        self.stack.drops.begin(going[0].steps)
        for sibling in going:
            sibling.begin_step()
        with self.phases("data"):
            batch = self.inputs["train"].batch(rows)
        self.ledger.look()
        with self.phases("forward"), saving(None, self.ledger), self._autocast():
            losses = self._step(batch).loss
            said = losses.detach().tolist()
        for sibling, loss in zip(self.siblings, said, strict=True):
            if not sibling.ended:
                sibling.forwards = self.stack.passes
                sibling.hear_loss(loss)
        places = [i for i, s in enumerate(self.siblings) if not s.ended]
        if not places:
            return
        with self.phases("backward"):
            losses[places].sum().backward()  # type: ignore[no-untyped-call]
        with self.phases("optimizer"):
            slices = {
                name: weight.grad.unbind()
                for name, weight in self.stack.weights.items()
                if weight.grad is not None
            }
            for place in places:
                self.siblings[place].step({name: own[place] for name, own in slices.items()})
            self.ledger.look()
            for weight in self.stack.weights.values():
                weight.grad = None

    # --- evaluation ---

    def _validate(self) -> None:
        self._evaluate("validation", [s for s in self.siblings if not s.ended])
        for sibling in self.siblings:
            if not sibling.ended:
                sibling.validated()

    def test(self, siblings: Sequence[Sibling], *, vectors: bool) -> dict[int, np.ndarray]:
        """Score these runs on test with the weights they have; with `vectors`, by place of the
        sibling, what `store/representations.py` says of the items."""
        network = self.stack.network
        with first_pieces(network) if vectors else nullcontext() as collected:
            self._evaluate("test", siblings)
        if collected is None:
            return {}
        example = self.ready.tables["test"]["example"]
        by_sibling = [self.stack.unflatten(found) for found in collected]
        rows = list(itertools.chain(*self.batches["test"]))
        return {
            place: of_items([part[place] for part in by_sibling], rows, example)
            for place, sibling in enumerate(self.siblings)
            if sibling in siblings
        }

    @torch.no_grad()
    def _evaluate(self, split: Split, siblings: Sequence[Sibling]) -> None:
        network, inputs = self.stack.network, self.inputs[split]
        wanted = [(i, s) for i, s in enumerate(self.siblings) if any(s is one for one in siblings)]
        network.eval()
        with self.phases("evaluate"):
            for rows in self.batches[split]:
                batch = inputs.batch(rows)
                with self._autocast():
                    logits = model_logits(network, _repeated(batch, self.stack.n))
                    logits = self.stack.unflatten(logits)
                for place, sibling in wanted:
                    sibling.collect(logits[place], batch["labels"], batch["items"])
        network.train()
        with self.phases("score"):
            for _, sibling in wanted:
                sibling.score(split)


def _repeated(batch: Mapping[str, torch.Tensor], n: int) -> dict[str, torch.Tensor]:
    return {name: value.repeat(n, *[1] * (value.dim() - 1)) for name, value in batch.items()}
