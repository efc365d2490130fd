"""A batch in parts that pass one after another, with the gradient of the whole."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bluestab.core.types import IGNORED, Batch
from bluestab.models.passes import PER_PIECE


def counted_labels(batch: Batch) -> int:
    """Word pieces that carry a label: what the loss of a tagging batch is the mean over."""
    return int((batch["labels"] != IGNORED).sum())


def counted_items(batch: Batch) -> int:
    return len(batch["items"])


def per_piece(name: str, value: torch.Tensor) -> bool:
    """Whether the second dimension of this tensor of a batch counts word pieces."""
    if name == "labels":  # several labels of one item are floats
        return value.dim() == 2 and not value.is_floating_point()
    return name in PER_PIECE


def micro_batches(
    batch: Batch, size: int | None, count: Callable[[Batch], int]
) -> list[tuple[float, Batch]]:
    """A batch (B, ...) in parts (at most `size`, ...) of items of like length, each with its share
    of the batch's loss.

    The shares sum to 1, and the losses of the parts, weighted by them, to the loss of the batch. A
    part that counts nothing has no loss of its own (0 / 0) and is left out. Every part is cut to
    its longest item: the same items meet in a step, and little padding is computed.
    """
    items = counted_items(batch)
    if size is None or size >= items or (total := count(batch)) == 0:
        return [(1.0, batch)]
    lengths = batch["attention_mask"].sum(dim=1)  # (B,) pieces of each item
    order = torch.argsort(lengths, stable=True)  # (B,) items, the shortest first
    parts: list[tuple[float, Batch]] = []
    for rows in torch.split(order, size):
        longest = int(lengths[rows[-1]])
        part = {  # (b, ...), (b, longest, ...) where the second dimension counts pieces
            name: value[rows, :longest] if per_piece(name, value) else value[rows]
            for name, value in batch.items()
        }
        if (counted := count(part)) > 0:
            parts.append((counted / total, part))
    return parts
