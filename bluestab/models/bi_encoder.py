"""A bi-encoder: no layer on the encoder, the vector of a text is what it gives.

Texts one by one, (B, T), get their vectors, (B, H). Several texts per item, (B, 1 + K, T), get
logits (B, B K): the cosine of the first text, a mention, with each candidate of the batch, divided
by `TEMPERATURE`. A row begins with the item's own candidates, of which the first is the right one,
so that its class is 0 and a batch of one item has a meaning of its own: (1, K). A candidate of
another item that is alike right (`concepts`) is no wrong answer: it gets `NEVER`.

Hooks turn (B, 1 + K, T) into rows for the encoder and back, so that whatever works on a network
with a head works on this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from bluestab.models.heads import MARK, make_pooled

TEMPERATURE = 0.05
"""As sentence-transformers' MultipleNegativesRankingLoss has it (scale 20)."""

NEVER = -1e4
"""A logit whose probability is 0 in float32, and still a number."""


class BiEncoder(nn.Module):
    """In place of the last layer of a head: vectors (R, H) -> the same, or logits (B, B K)."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: int | None = None
        self._concepts: torch.Tensor | None = None

    def flatten(self, network: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Forward pre-hook of the network: (B, 1 + K, T) -> (B (1 + K), T)."""
        inputs = dict(kwargs)
        self._concepts = inputs.pop("concepts", None)
        self._texts = None
        if (ids := inputs.get("input_ids")) is not None and ids.dim() == 3:
            self._texts = ids.shape[1]
            inputs = {
                name: value.flatten(0, 1) if isinstance(value, torch.Tensor) else value
                for name, value in inputs.items()
            }
        return args, inputs

    def forward(self, vectors: torch.Tensor, **_: Any) -> torch.Tensor:
        if self._texts is None:
            return vectors
        items = vectors.reshape(-1, self._texts, vectors.shape[-1])  # (B, 1 + K, H)
        items = normalize(items, dim=-1)
        return candidate_logits(items[:, 0], items[:, 1:], self._concepts)


def candidate_logits(
    mentions: torch.Tensor, candidates: torch.Tensor, concepts: torch.Tensor | None
) -> torch.Tensor:
    """(B, B K): cosine / TEMPERATURE of every mention with every candidate, its own K first.

    mentions    (B, H), of length 1
    candidates  (B, K, H), of length 1, the right one first
    concepts    (B, K) numbers of what the candidates name; None: all differ
    """
    n, k, _ = candidates.shape
    place = torch.arange(n, device=mentions.device)
    turned = (place[:, None] + place[None]) % n  # (B, B): row i begins with i
    cosines = torch.einsum("ih,jkh->ijk", mentions, candidates)
    logits = cosines.gather(1, turned[..., None].expand(n, n, k)) / TEMPERATURE
    if concepts is not None:
        alike = (concepts[None] == concepts[:, :1, None])[place[:, None], turned]  # (B, B, K)
        alike[:, 0] = False
        logits = logits.masked_fill(alike, NEVER)
    return logits.flatten(1)


def make_bi_encoder(network: nn.Module, head: str, blocks: str, final_norm: str | None) -> None:
    """Give the pooled vector of a transformers network as its logits.

    head  as `model.head`: what is pooled how; `default` is the mean of all word pieces, as in
          sentence-transformers (Reimers & Gurevych 2019, arXiv 1908.10084)
    """
    net: Any = network
    own = BiEncoder()
    # before all others: they see single texts
    net.register_forward_pre_hook(own.flatten, with_kwargs=True, prepend=True)
    pooling = {"default": "mean", "linear": "average:1"}.get(head, head)
    make_pooled(network, pooling, blocks, final_norm)
    setattr(net.config, MARK, head)
    if hasattr(net.classifier, "out_proj"):
        net.classifier.out_proj = own
    else:
        net.classifier = own
