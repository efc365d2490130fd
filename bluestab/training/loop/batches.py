"""Rows of a tokenised split -> batches: their order, their size, their padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluestab.core.seeding import generator
from bluestab.core.types import IGNORED
from bluestab.models.passes import IMAGES, PREFIX

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from torch.utils.data import DataLoader

    from bluestab.training.loop.candidates import Candidates


Supply = Callable[[Sequence[int], int], "torch.Tensor"]
"""(rows of the tokenised split, width) -> what the frozen blocks give for them, (B, width, H)."""
Look = Callable[[Sequence[Any]], "torch.Tensor"]
"""What rows say of their images -> what the network is given of these, the first dimension B."""


def squares(images: Sequence[bytes]) -> torch.Tensor:
    """Pixels of images -> (B, 3, S, S) uint8."""
    import torch

    side = math.isqrt(len(images[0]) // 3)
    whole = torch.frombuffer(bytearray(b"".join(images)), dtype=torch.uint8)
    return whole.view(len(images), 3, side, side)


def collate(
    items: Sequence[Mapping[str, Any]],
    pad_token_id: int,
    supply: Supply | None = None,
    look: Look = squares,
) -> dict[str, torch.Tensor]:
    """Pad items to the longest of the batch.

    Gives input_ids, attention_mask, token_type_ids (B, T) int64, or (B, texts, T) where an item has
    several, with concepts (B, texts - 1); labels (B, T) for pieces, (B, L) float for several
    labels, or (B,); items (B,) rows of the tokenised split; where the model looks at images, what
    `look` makes of these; with `supply`, what it gives for the rows.
    """
    import torch

    several = isinstance(items[0]["input_ids"][0], list)

    def texts(name: str) -> list[list[int]]:
        return [text for item in items for text in (item[name] if several else [item[name]])]

    longest = max(map(len, texts("input_ids")))

    def filled(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
        found = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])
        return found.reshape(len(items), -1, longest) if several else found

    def padded(name: str, fill: int) -> torch.Tensor:
        return filled(texts(name), fill)

    batch = {
        "input_ids": padded("input_ids", pad_token_id),
        "attention_mask": filled([[1] * len(text) for text in texts("input_ids")], 0),
        "items": torch.tensor([item["item"] for item in items]),
    }
    if "token_type_ids" in items[0]:
        batch["token_type_ids"] = padded("token_type_ids", 0)
    if "concepts" in items[0]:
        batch["concepts"] = torch.tensor([item["concepts"] for item in items])
    labels = items[0]["labels"]
    if isinstance(labels, list) and isinstance(labels[0], int):
        batch["labels"] = filled([item["labels"] for item in items], IGNORED)
    else:
        batch["labels"] = torch.tensor([item["labels"] for item in items])
    if "image" in items[0]:
        batch[IMAGES] = look([item["image"] for item in items])
    if supply is not None:
        batch[PREFIX] = supply([item["item"] for item in items], longest)
    return batch


def bucketed(
    order: Sequence[int],
    lengths: Sequence[int],
    batch_size: int,
    window: int,
    random: torch.Generator,
) -> list[int]:
    """A shuffled order whose batches hold items of like length, so that little is padded.

    order    rows of an epoch, shuffled
    lengths  word pieces of every row
    window   batches whose items go by length together; then these batches are shuffled

    Items of one length stay as they were drawn. What fills no whole batch ends the epoch as without
    buckets, so that no length is always in the smallest batch.
    """
    import torch

    whole = len(order) - len(order) % batch_size
    found: list[int] = []
    for start in range(0, whole, batch_size * window):
        rows = sorted(
            order[start : min(start + batch_size * window, whole)], key=lengths.__getitem__
        )
        for batch in torch.randperm(len(rows) // batch_size, generator=random).tolist():
            found += rows[batch * batch_size : (batch + 1) * batch_size]
    return [*found, *order[whole:]]


class ShuffledOrder:
    """A fresh permutation per epoch, a pure function of (order seed, epoch).

    rearrange  what becomes of every epoch's permutation, with a generator to draw from
    """

    def __init__(
        self,
        size: int,
        seed: int,
        rearrange: Callable[[list[int], torch.Generator], list[int]] | None = None,
    ) -> None:
        self.size, self.seed, self.epoch = size, seed, 0
        self._rearrange = rearrange
        self._seen = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of every epoch."""
        self.epoch = epoch

    def resume(self, epoch: int, items: int) -> None:
        """Go on in this epoch after its first `items` items; the epochs after it are whole."""
        self.epoch, self._seen = epoch, (epoch, items)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        import torch

        random = generator(self.seed, "order", self.epoch)
        epoch, items = self._seen
        seen = items if epoch == self.epoch else 0
        order: list[int] = torch.randperm(self.size, generator=random).tolist()
        yield from (self._rearrange(order, random) if self._rearrange else order)[seen:]


def training_order(dataset: Dataset, optim: Mapping[str, Any], seed: int) -> ShuffledOrder:
    """In what order `optim` (batch_size, bucket) wants the rows of the tokenised training split."""
    window, size = optim["bucket"], optim["batch_size"]
    if window is None:
        return ShuffledOrder(len(dataset), seed)
    lengths = row_lengths(dataset)
    return ShuffledOrder(
        len(dataset), seed, lambda order, random: bucketed(order, lengths, size, window, random)
    )


def evaluation_batches(
    dataset: Dataset, trainer: Mapping[str, Any], candidates: Candidates | None = None
) -> list[list[int]]:
    """Rows of a tokenised split in batches, from the shortest to the longest: little is padded.

    A batch has at most trainer.eval_batch_size items and, padding counted, trainer.eval_tokens word
    pieces (null: any number); an item that is longer than those is a batch by itself. Candidates
    follow in batches of their own.
    """
    most, tokens = trainer["eval_batch_size"], trainer["eval_tokens"]
    lengths = row_lengths(dataset)
    names = range(0) if candidates is None else candidates.rows  # the last ones
    batches: list[list[int]] = []
    for own in (range(len(lengths) - len(names)), names):
        last = most  # a batch is begun
        for row in sorted(own, key=lengths.__getitem__):
            if last == most or (tokens is not None and (last + 1) * lengths[row] > tokens):
                batches.append([])
            batches[-1].append(row)
            last = len(batches[-1])
    return batches


def row_lengths(dataset: Dataset) -> list[int]:
    """Word pieces of every row, of all its texts where it has several."""
    return [
        sum(map(len, pieces)) if isinstance(pieces[0], list) else len(pieces)
        for pieces in dataset["input_ids"]
    ]


def loader(
    dataset: Dataset,
    pad_token_id: int,
    workers: int = 0,
    supply: Supply | None = None,
    look: Look = squares,
    **batches: Any,
) -> DataLoader[Any]:
    """Batches of a split, made by `workers` processes.

    supply, look  as in `collate`
    batches       torch's own words for them: `sampler` and `batch_size`, or `batch_sampler`
    """
    from torch.utils.data import DataLoader

    numbered = dataset.add_column("item", list(range(len(dataset))))
    return DataLoader(
        numbered,
        collate_fn=lambda items: collate(items, pad_token_id, supply, look),
        num_workers=workers,
        **batches,
    )
