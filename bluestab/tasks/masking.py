"""Dynamic masking of word pieces: which are hidden from the network, drawn anew for every batch.

As BERT does (Devlin et al. 2019, section 3.1): of the pieces that are chosen, 80 % become [MASK],
10 % a random piece and 10 % stay; the network is to say what each was. Drawn whenever a row is
used, not once for all (RoBERTa: Liu et al. 2019, section 4.1). With whole words, all pieces of a
word are chosen together (BERT's later releases; Cui et al. 2021, arXiv 1906.08101).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluestab.core.seeding import generator
from bluestab.core.types import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

CONTINUES, BEGINS = "##", ("Ġ", "▁")
"""How a vocabulary marks pieces inside a word (WordPiece), or those that begin one (bytes,
SentencePiece)."""


@dataclass(frozen=True)
class Masking:
    """How batches are masked; called, it is a `Corruption`.

    share      of the pieces that are chosen, in (0, 1)
    masked     share of the chosen that become [MASK]; randomly: that become a random piece
    mask_id    number of [MASK]
    ordinary   numbers of the pieces that a random one is drawn from, (N,): all but special ones
    special    by number of a piece: it is never chosen, (V,)
    inside     by number of a piece: it goes on the word before it, (V,); all False: pieces are
               chosen by themselves
    """

    share: float
    masked: float
    randomly: float
    mask_id: int
    ordinary: torch.Tensor
    special: torch.Tensor
    inside: torch.Tensor

    def __call__(
        self, batch: Mapping[str, Any], seed: int, names: tuple[str | int, ...]
    ) -> dict[str, Any]:
        """The batch with masked `input_ids` (B, T), and `positions` and `labels` (B, K): which
        pieces of each row are to be said, and what they were; IGNORED where a row has fewer."""
        import torch

        ids = batch["input_ids"]
        drawn = self._drawn(batch, seed, names).to(ids.device)  # (B, T, 3)
        chosen = self._chosen(ids, batch["attention_mask"].bool(), drawn[..., 0])
        number = (drawn[..., 2] * len(self.ordinary)).long().clamp(max=len(self.ordinary) - 1)
        by = self.ordinary.to(ids.device)[number]
        becomes = torch.where(
            drawn[..., 1] < self.masked,
            torch.full_like(ids, self.mask_id),
            torch.where(drawn[..., 1] < self.masked + self.randomly, by, ids),
        )
        most = max(1, int(chosen.sum(dim=1).max()))  # K
        positions = torch.argsort((~chosen).long(), dim=1, stable=True)[:, :most]
        labels = torch.where(chosen, ids, torch.full_like(ids, IGNORED)).gather(1, positions)
        return {
            **batch,
            "input_ids": torch.where(chosen, becomes, ids),
            "positions": positions,
            "labels": labels,
        }

    def _drawn(
        self, batch: Mapping[str, Any], seed: int, names: tuple[str | int, ...]
    ) -> torch.Tensor:
        """Three numbers in [0, 1) for every piece, (B, T, 3), from a stream of each row's own."""
        import torch

        n_pieces = batch["attention_mask"].sum(dim=1).tolist()
        drawn = torch.zeros((*batch["input_ids"].shape, 3))
        for at, (row, n) in enumerate(zip(batch["items"].tolist(), n_pieces, strict=True)):
            drawn[at, :n] = torch.rand(n, 3, generator=generator(seed, *names, row))
        return drawn

    def _chosen(self, ids: torch.Tensor, real: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Which pieces are chosen, (B, T): each word with probability `share`; where that chooses
        none of a row, the one that came closest."""
        import torch

        free = real & ~self.special.to(ids.device)[ids]
        inside = self.inside.to(ids.device)[ids]
        inside[:, 1:] &= free[:, :-1]  # a window may begin inside a word
        inside[:, 0] = False
        place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        first = torch.where(inside, torch.zeros_like(place), place).cummax(dim=1).values
        score = drawn.gather(1, first).masked_fill(~free, 2.0)
        below = score < self.share
        closest = (score == score.min(dim=1, keepdim=True).values) & free
        return below | (closest & ~below.any(dim=1, keepdim=True))


def masking_of(
    tokenizer: PreTrainedTokenizerFast,
    *,
    share: float,
    masked: float,
    randomly: float,
    whole_words: bool,
) -> Masking:
    """The masking for a vocabulary."""
    import torch

    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    assert isinstance(pieces, list)
    unknown = tokenizer.unk_token_id
    special = torch.zeros(len(pieces), dtype=torch.bool)
    special[[number for number in tokenizer.all_special_ids if number != unknown]] = True
    inside = torch.zeros(len(pieces), dtype=torch.bool)
    if whole_words:
        inside = torch.tensor(_inside(pieces)) & ~special
    ordinary = ~special
    if unknown is not None:
        ordinary[unknown] = False
    return Masking(
        share=share,
        masked=masked,
        randomly=randomly,
        mask_id=int(tokenizer.mask_token_id),
        ordinary=ordinary.nonzero().squeeze(1),
        special=special,
        inside=inside,
    )


def _inside(pieces: list[str]) -> list[bool]:
    """By number of a piece, whether it goes on the word before it."""
    if any(piece.startswith(CONTINUES) for piece in pieces):
        return [piece.startswith(CONTINUES) for piece in pieces]
    return [not piece.startswith(BEGINS) for piece in pieces]
