"""A batch in parts that pass one after another, with the gradient of the whole."""

from __future__ import annotations

from collections.abc import Callable

from bluestab.types import IGNORED, Batch


def counted_labels(batch: Batch) -> int:
    """Word pieces that carry a label: what the loss of a tagging batch is the mean over."""
    return int((batch["labels"] != IGNORED).sum())


def counted_items(batch: Batch) -> int:
    return len(batch["items"])


def micro_batches(
    batch: Batch, size: int | None, count: Callable[[Batch], int]
) -> list[tuple[float, Batch]]:
    """Consecutive parts of at most `size` items, each with its share of the batch's loss.

    The shares sum to 1, and the losses of the parts, weighted by them, to the loss of the batch. A
    part that counts nothing has no loss of its own (0 / 0) and is left out.
    """
    items = counted_items(batch)
    if size is None or size >= items or (total := count(batch)) == 0:
        return [(1.0, batch)]
    parts: list[tuple[float, Batch]] = []
    for start in range(0, items, size):
        part = {name: value[start : start + size] for name, value in batch.items()}
        if (counted := count(part)) > 0:
            parts.append((counted / total, part))
    return parts
