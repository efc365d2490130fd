"""A network small enough to train by hand in float64, two tasks that it learnt before, and a loop
that trains it on a third as the trainer does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from bluestab.core.seeding import Seeds
from bluestab.core.types import Batch, StepOutput
from bluestab.models.built import Built
from bluestab.models.earlier import EarlierTask, EarlierTasks
from bluestab.models.layers import layer_map
from bluestab.techniques.base import Technique

F64 = torch.float64
LR, STEPS, SEEDS = 0.2, 20, Seeds(1, 2, 3, 4)


class Answer:
    """What transformers' networks return."""

    def __init__(self, logits: Any) -> None:
        self.logits = logits


class Reader(nn.Module):
    """Embedding (9, 3), one block (3, 3) + (3,), a head of C classes on the mean over words, or on
    every word."""

    def __init__(self, classes: int, seed: int, per_word: bool = False) -> None:
        super().__init__()
        block = nn.Module()
        block.dense = nn.Linear(3, 3, dtype=F64)
        encoder = nn.Module()
        encoder.layer = nn.ModuleList([block])
        self.bert = nn.Module()
        self.bert.embeddings, self.bert.encoder = nn.Embedding(9, 3, dtype=F64), encoder
        self.classifier, self.per_word = nn.Linear(3, classes, dtype=F64), per_word
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, dtype=F64, generator=random))

    def forward(self, input_ids: Any, attention_mask: Any) -> Answer:
        x = self.bert.encoder.layer[0].dense(self.bert.embeddings(input_ids)).tanh()
        if not self.per_word:
            mask = attention_mask.unsqueeze(-1)
            x = (x * mask).sum(1) / mask.sum(1)
        return Answer(self.classifier(x))


def items(n: int, classes: int, seed: int, per_word: bool = False) -> dict[str, Any]:
    """A batch of `n` items of two to four words."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 5, (n, 1), generator=random)
    mask = (torch.arange(4)[None] < lengths).long()
    labels = torch.randint(0, classes, (n, 4) if per_word else (n,), generator=random)
    return {
        "input_ids": torch.randint(1, 9, (n, 4), generator=random) * mask,
        "attention_mask": mask,
        "labels": labels.masked_fill(mask == 0, -100) if per_word else labels,
        "items": torch.arange(n),
    }


def loss(logits: Any, batch: Batch) -> Any:
    return nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), batch["labels"].reshape(-1)
    )


def answers(network: Any, batch: Batch) -> Any:
    return network(batch["input_ids"], batch["attention_mask"]).logits


def earlier(one_head: bool = False) -> list[EarlierTask]:
    """One task of classes, one of a label per word, with encoders of their own.

    one_head  their heads are of the shape of that in training
    """
    found = []
    for name, own, seed, per_word in (("texts", 3, 11, False), ("words", 2, 12, True)):
        classes = 4 if one_head else own
        data = items(7, classes, seed, per_word)

        def batch(rows: Any, data: Any = data) -> Any:
            return {k: v[list(rows)] for k, v in data.items()}

        network = Reader(classes, seed, per_word).eval()
        found.append(
            EarlierTask(
                name=name,
                network=network,
                kind="tagging" if per_word else "classification",
                loss=loss,
                seeds=SEEDS,
                rows=lambda: 7,
                batch=batch,
                path_integral=partial(way, network, seed),
            )
        )
    return found


def way(network: nn.Module, seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A path integral and a change of each weight of the encoder, as if there had been a training;
    both of either sign."""
    random = torch.Generator().manual_seed(seed)
    return {
        n: (
            torch.randn(p.shape, dtype=F64, generator=random),
            torch.randn(p.shape, dtype=F64, generator=random),
        )
        for n, p in network.named_parameters()
        if not n.startswith("classifier")
    }


def built_of(network: nn.Module, one_head: bool = False) -> Built:
    names = [name for name, _ in network.named_parameters()]
    layers = layer_map(
        names, encoder="bert", embeddings=["embeddings"], blocks="encoder.layer", above=[],
        n_layers=1,
    )  # fmt: skip
    reference = {name: p.detach().clone() for name, p in network.named_parameters()}
    fresh = frozenset() if one_head else layers.head
    nothing = lambda *_: None  # noqa: E731
    return Built(network, layers, fresh, reference, nothing, loss, shared_head=one_head)


def started(one_head: bool = False) -> Reader:
    """The network in training: the encoder that the last task left, and a head of its own or the
    one that all share."""
    network = Reader(4, 13)
    last: Any = earlier(one_head)[-1].network
    network.bert = copy.deepcopy(last.bert)
    if one_head:
        network.classifier = copy.deepcopy(last.classifier)
    return network


class Steps:
    """Of a trainer, what callbacks read."""

    max_steps = STEPS
    global_step = 0

    @property
    def precision_plugin(self) -> Any:
        return self

    def forward_context(self) -> Any:
        return nullcontext()


def trained(
    technique: Technique, n_steps: int = STEPS, one_head: bool = False
) -> tuple[dict[str, Any], Built]:
    """Weights after SGD on a batch per step, clipped, as the trainer does it."""
    network = started(one_head)
    built = built_of(network, one_head)
    load = [lambda i=i: earlier(one_head)[i] for i in range(2)]  # type: ignore[misc]
    technique.recall(EarlierTasks(load), built, SEEDS)
    optimizer: Any = torch.optim.SGD(network.parameters(), lr=LR)
    optimizer.param_groups[0]["initial_lr"] = LR

    def plain(batch: Batch) -> StepOutput:
        logits = answers(network, batch)
        return StepOutput(loss(logits, batch), logits)

    step = technique.wrap_step(plain, built)
    callbacks = technique.callbacks(built)
    clock: Any = Steps()
    for number in range(n_steps):
        batch, clock.global_step = items(5, 4, 100 + number), number
        for callback in callbacks:
            callback.on_train_batch_start(clock, None, batch, number)  # type: ignore[arg-type]
        torch.manual_seed(number)
        optimizer.zero_grad()
        step(batch).loss.backward()
        for callback in callbacks:
            callback.on_before_optimizer_step(clock, None, optimizer)  # type: ignore[arg-type]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return {n: p.detach() for n, p in network.named_parameters()}, built


def by_formula(penalty: Callable[[Reader, Batch], Any], one_head: bool = False) -> dict[str, Any]:
    """The same, with all of the objective in one graph."""
    network = started(one_head)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    for number in range(STEPS):
        torch.manual_seed(number)
        optimizer.zero_grad()
        batch = items(5, 4, 100 + number)
        (loss(answers(network, batch), batch) + penalty(network, batch)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return {n: p.detach() for n, p in network.named_parameters()}


def with_encoder(network: Reader, task: EarlierTask) -> Callable[[Batch], Any]:
    """What an earlier task's head says on the encoder in training, with nothing of ours."""
    head: Any = task.network.classifier
    encoder: Any = network.bert
    weight, bias = head.weight.detach(), head.bias.detach()

    def answer(batch: Batch) -> Any:
        x = encoder.encoder.layer[0].dense(encoder.embeddings(batch["input_ids"])).tanh()
        if not task.network.per_word:
            mask = batch["attention_mask"].unsqueeze(-1)
            x = (x * mask).sum(1) / mask.sum(1)
        return x @ weight.T + bias

    return answer


def close(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-9, msg=name)


def apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return any(not torch.allclose(one[n], other[n], rtol=1e-3) for n in one)
