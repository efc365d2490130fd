"""Gradients of the log-likelihood of items, one at a time: what Fisher information is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bluestab.core.types import IGNORED, Batch, Labels
from bluestab.models.divergences import kind_of

if TYPE_CHECKING:
    import torch
    from torch import nn


@contextmanager
def evaluating(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Dropout off, gradients on for these parameters, whatever else is thawed by now."""
    was, wanted = model.training, [(p, p.requires_grad) for p in parameters]
    model.eval()
    for parameter, _ in wanted:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        model.train(was)
        for parameter, grad in wanted:
            parameter.requires_grad_(grad)


def add_square(score: torch.Tensor, gradient: torch.Tensor) -> None:
    """score += gradient ** 2."""
    score.addcmul_(gradient, gradient)


def add_magnitude(score: torch.Tensor, gradient: torch.Tensor) -> None:
    """score += |gradient|."""
    score.add_(gradient.abs())


def mean_over_batches(
    function: Callable[[Batch], torch.Tensor],
    parameters: Mapping[str, nn.Parameter],
    batches: Iterable[Batch],
    add: Callable[[torch.Tensor, torch.Tensor], None] = add_square,
) -> dict[str, torch.Tensor]:
    """Mean over batches of what `add` takes of the gradient of a scalar function, by name.

    Squared, over batches of one item, it is the diagonal of the empirical Fisher; over larger ones
    it squares mean gradients, which is another number.
    """
    import torch

    scores = {name: torch.zeros_like(p) for name, p in parameters.items()}
    n_batches = 0
    for batch in batches:
        found = torch.autograd.grad(function(batch), list(parameters.values()), allow_unused=True)
        n_batches += 1
        for score, gradient in zip(scores.values(), found, strict=True):
            if gradient is not None:
                add(score, gradient)
    return {name: score / max(1, n_batches) for name, score in scores.items()}


def parts_of(batch: Batch, size: int = 1) -> Iterator[dict[str, Any]]:
    """A batch (B, ...) as batches of at most `size` items, of the same width."""
    for start in range(0, len(batch["labels"]), size):
        yield {name: value[start : start + size] for name, value in batch.items()}


def answer_gradients(
    logits: torch.Tensor, targets: torch.Tensor, labels: Labels, random: torch.Generator | None
) -> Iterator[torch.Tensor]:
    """Vectors v of the shape of the logits whose mean (`exact`: sum) of v v' stands for the Fisher
    information of the answer itself: v = d log p(y) / d logits.

    logits   of one item, (1, C) or (1, T, C), detached
    targets  of the batch, as in `divergences.kind_of`; a number has variance 1 around its logit
    """
    import torch

    kind = kind_of(logits, targets)
    if kind in ("classification", "tagging"):
        places = targets.reshape(-1).ne(IGNORED).nonzero().squeeze(-1)  # (P,) labelled pieces
        if not len(places):
            return
        rows = logits.reshape(-1, logits.shape[-1])[places].softmax(dim=-1)  # (P, C)
        if labels == "exact":
            for place, p in zip(places.tolist(), rows, strict=True):
                for c in range(len(p)):
                    vector = torch.zeros_like(logits)
                    away = -p
                    away[c] += 1.0
                    vector.view(-1, len(p))[place] = p[c].sqrt() * away
                    yield vector
            return
        drawn = (
            targets.reshape(-1)[places]
            if labels == "gold"
            else torch.multinomial(rows, 1, generator=random).squeeze(-1)
        )
        vector = torch.zeros_like(logits)
        vector.view(-1, rows.shape[-1])[places] = (
            torch.nn.functional.one_hot(drawn, rows.shape[-1]).to(rows.dtype) - rows
        )
        yield vector
        return
    # independent answers, one per logit: their Fisher information is diagonal
    is_yes_or_no = kind == "multi_label"
    p = logits.sigmoid() if is_yes_or_no else logits
    if labels == "exact":
        deviation = (p * (1 - p)).sqrt() if is_yes_or_no else torch.ones_like(p)
        for c in range(logits.shape[-1]):
            vector = torch.zeros_like(logits)
            vector[..., c] = deviation[..., c]
            yield vector
    elif labels == "gold":
        yield targets.reshape(logits.shape).to(p.dtype) - p
    elif is_yes_or_no:
        yield torch.bernoulli(p, generator=random) - p
    else:
        yield torch.empty_like(p).normal_(generator=random)
