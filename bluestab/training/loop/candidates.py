"""Vectors of a dictionary's names, made once by the same weights.

A dictionary may be a thousand times as large as the part that is scored, and validation, test and
the earlier tasks of a sequence ask for it one after another, at the end with the same weights. Its
rows are evaluated in batches of their own (`evaluation_batches`), so that what a network gives for
them depends on weights and names alone: it is the same whoever asked first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from bluestab.models.heads import MARK

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn


@dataclass(frozen=True)
class Candidates:
    """Rows of a tokenised split that stand behind those of its items (`Task.candidates`).

    digest  of their word pieces
    """

    rows: range
    digest: str


def candidates_of(table: Dataset, n_items: int) -> Candidates | None:
    """Those of a split of so many items; None: it has none."""
    examples = np.asarray(table["example"])
    rows = range(int((examples < n_items).sum()), len(examples))
    if not rows:
        return None
    digest = hashlib.sha256()
    part = table.with_format("arrow")[rows.start :]
    for name in ("input_ids", "token_type_ids"):
        if name in table.column_names:
            pieces = part[name].combine_chunks()
            for numbers in (pieces.value_lengths(), pieces.flatten()):
                digest.update(numbers.to_numpy(zero_copy_only=False).tobytes())
    return Candidates(rows, digest.hexdigest())


class CandidateVectors:
    """Of the last network that was asked, and of as many dictionaries as it was asked for.

    `begin` a pass over a split, leave out the batches that it `has`, and let `complete` add to the
    others what is known, or learn it.
    """

    def __init__(self) -> None:
        self._weights = ""
        self._known: dict[str, list[np.ndarray]] = {}
        self._candidates: Candidates | None = None

    def begin(
        self,
        network: nn.Module,
        candidates: Candidates | None,
        instead: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """A pass of this network, some of whose weights may be others: name -> value."""
        self._candidates = candidates
        if candidates is None:
            return
        weights = {**network.state_dict(), **(instead or {})}
        digest = hashlib.sha256(str(getattr(network.config, MARK, None)).encode())
        for name, value in sorted(weights.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        if digest.hexdigest() != self._weights:
            self._weights, self._known = digest.hexdigest(), {}

    def has(self, rows: torch.Tensor) -> bool:
        """Whether what the network gives for the rows (B,) of a batch is known."""
        own = self._candidates
        return own is not None and own.digest in self._known and int(rows[0]) in own.rows

    def complete(self, by_row: Mapping[int, np.ndarray]) -> Mapping[int, np.ndarray]:
        """Row -> what the network gives for it, of all rows."""
        own = self._candidates
        if own is None:
            return by_row
        known = self._known.get(own.digest)
        if known is None:
            known = self._known[own.digest] = [by_row[row] for row in own.rows]
        return {**by_row, **dict(zip(own.rows, known, strict=True))}

    def forget(self) -> None:
        """The weights are about to change: nothing of them is asked again."""
        self._known = {}
