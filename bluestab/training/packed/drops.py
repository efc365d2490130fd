"""Dropout by counting: what is dropped is a hash of (seed, step, pass, layer, place of the unit).

No stream is drawn from, so that what a sibling drops depends neither on its place in the group, nor
on how many there are, nor on how far others make it pad. The place of a unit is that of its item in
the sibling's own batch, of its word piece, of its attention head, and its own. Rows and columns of
a tensor are hashed with all care; what they meet in, each unit, by two multiplications.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from bluestab.core.seeding import stream_seed

ITEM, HEAD = 2**20, 2**13
"""Distance of the rows of two items, of two heads: no input is longer, no model has more heads."""

FIRST, SECOND = 0x7FEB352D, 0x846CA68B - 2**32
"""Multipliers of the 32-bit finaliser `lowbias32` (C. Wellons, "Prospecting for hash functions",
2018), as signed integers."""


def mixed(values: torch.Tensor) -> torch.Tensor:
    """int32 -> int32, a bijection in which every bit of the input moves every bit of the output."""
    values = (values ^ ((values >> 16) & 0xFFFF)) * FIRST
    values = (values ^ ((values >> 15) & 0x1FFFF)) * SECOND
    return values ^ ((values >> 16) & 0xFFFF)


def dropped(keys: torch.Tensor, shape: Sequence[int], p: float) -> torch.Tensor:
    """Which units of a tensor are dropped, each with probability p: bool, in its shape.

    keys   (S, 2) int32, two words for each sibling
    shape  (S * B, ..., units): items of one sibling after those of another; up to four dimensions
    """
    n, device = len(keys), keys.device
    items, inner, units = shape[0] // n, shape[1:-1], shape[-1]
    rows = torch.arange(items, dtype=torch.int32, device=device) * ITEM
    steps = (HEAD, 1) if len(inner) == 2 else (1,)
    for size, step in zip(inner, steps, strict=False):
        rows = rows.unsqueeze(-1) + torch.arange(size, dtype=torch.int32, device=device) * step
    columns = torch.arange(units, dtype=torch.int32, device=device)
    row = mixed(mixed(rows.reshape(1, -1) ^ keys[:, :1]) + keys[:, 1:])
    column = mixed(columns ^ keys[:, 1:])
    met = row.unsqueeze(-1) ^ column.unsqueeze(1)
    met *= FIRST
    met ^= (met >> 15) & 0x1FFFF
    met *= SECOND
    return (met < round(p * 2**32) - 2**31).reshape(tuple(shape))


class Drops:
    """The keys of the pass that is under way.

    seeds  dropout seed of every sibling
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.seeds, self.device = tuple(seeds), device
        self.step = 0
        self.names: tuple[str | int, ...] = ()
        self._seen: list[tuple[str | int, ...]] = [()]
        self._words: dict[tuple[str | int, ...], torch.Tensor] = {}
        self._sites: dict[str, torch.Tensor] = {}

    def begin(self, step: int) -> None:
        """From here on everything is dropped anew."""
        self.step, self.names = step, ()
        self._words.clear()
        self._seen = [()]

    def number(self) -> int:
        """How many passes that drop other units were begun before this one."""
        return self._seen.index(self.names)

    @contextmanager
    def passing(self, *names: str | int) -> Iterator[None]:
        """What is dropped inside belongs to another pass of the step, called `names`."""
        before, self.names = self.names, names
        if names not in self._seen:
            self._seen.append(names)
        try:
            yield
        finally:
            self.names = before

    def keys(self, site: str) -> torch.Tensor:
        """(S, 2) int32 of one layer in this pass."""
        if self.names not in self._words:
            drawn = [stream_seed(seed, "drops", self.step, *self.names) for seed in self.seeds]
            words = [[_signed(value >> 31), _signed(value)] for value in drawn]
            found = torch.tensor(words, dtype=torch.int32).to(self.device, non_blocking=True)
            self._words[self.names] = found
        if site not in self._sites:
            digest = hashlib.sha256(site.encode()).digest()
            word = [int.from_bytes(digest[i : i + 4], "big", signed=True) for i in (0, 4)]
            self._sites[site] = torch.tensor(word, dtype=torch.int32).to(self.device)
        return mixed(self._words[self.names] ^ self._sites[site])

    def drop(self, site: str, values: torch.Tensor, p: float) -> torch.Tensor:
        """`values` (S * B, ..., units) with units set to 0 with probability p, others scaled."""
        if p >= 1.0:
            return values * 0.0
        gone = dropped(self.keys(site), values.shape, p)
        return values.masked_fill(gone, 0.0) * (1.0 / (1.0 - p))


def _signed(value: int) -> int:
    """The lowest 32 bits, as a signed integer."""
    return (value + 2**31) % 2**32 - 2**31


class CountedDropout(nn.Module):
    """Stands where a network has `nn.Dropout`; drops by `Drops`."""

    def __init__(self, p: float, site: str, drops: Drops) -> None:
        super().__init__()
        self.p, self.site, self.drops = p, site, drops

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0.0:
            return values
        return self.drops.drop(self.site, values, self.p)
