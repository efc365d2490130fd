"""ELECTRA's pretraining: a small generator fills masked pieces in, and the network says which are
not the original ones (Clark et al. 2020, arXiv 2003.10555).

The generator is a quarter as wide (their Small) and shares the embeddings of the network, which
alone is kept. It learns as a masked language model; no gradient passes through what it draws.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy

from bluestab.core.types import IGNORED
from bluestab.models.passes import (
    DRAWS,
    MASKED_AT,
    ORIGINALS,
    POSITIONS,
    at_hand,
    read_at_positions,
)

WIDTH = 4
"""How many times narrower the generator is."""


class ReplacedTokens(transformers.ElectraForPreTraining):
    """The discriminator with its generator; logits (B, T, 4): that the piece is a replaced one,
    whether it is (0 or 1), the generator's surprise at the original in nats (0 where none was
    asked), and whether it was asked."""

    generator: nn.Module

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **more: Any) -> Any:
        """Without masked pieces at hand it is the discriminator alone, with its (B, T) logits."""
        at: torch.Tensor | None = getattr(self, MASKED_AT, None)  # (B, K)
        if at is None:
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **more)
        right, draws = getattr(self, ORIGINALS), getattr(self, DRAWS)  # (B, K)
        with at_hand(self.generator.base_model, POSITIONS, at):
            guesses = self.generator(input_ids, attention_mask).logits.float()  # (B, K, V)
        asked = right != IGNORED
        surprise = cross_entropy(guesses.transpose(1, 2), right, reduction="none")  # 0: not asked
        with torch.no_grad():
            drawn = torch.where(asked, sampled(guesses, draws), input_ids.gather(1, at))
            replaced = asked & (drawn != right)
        out = super().forward(
            input_ids=input_ids.scatter(1, at, drawn), attention_mask=attention_mask, **more
        )
        detected = out.logits.float()  # (B, T)
        parts = [
            torch.zeros_like(detected).scatter(1, at, value.to(detected.dtype))
            for value in (replaced, surprise, asked)
        ]
        out["logits"] = torch.stack([detected, *parts], dim=-1)
        return out

    def save_pretrained(self, save_directory: Any, **more: Any) -> None:  # type: ignore[override]
        """The discriminator alone, under the name of transformers' class."""
        weights = more.pop("state_dict", None) or self.state_dict()
        kept = {n: value for n, value in weights.items() if not n.startswith("generator.")}
        super().save_pretrained(save_directory, state_dict=kept, **more)
        path = Path(save_directory) / "config.json"
        said = json.loads(path.read_text(encoding="utf-8"))
        said["architectures"] = ["ElectraForPreTraining"]
        path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def sampled(logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """A piece from the distribution of logits (B, K, V), by one number in [0, 1) each (B, K)."""
    below = torch.softmax(logits, dim=-1).cumsum(dim=-1)
    wanted = draws.unsqueeze(-1) * below[..., -1:]
    return (below <= wanted).sum(dim=-1).clamp(max=logits.shape[-1] - 1)


def make_detecting(network: nn.Module) -> nn.Module:
    """Give ELECTRA's discriminator its generator."""
    net: Any = network
    assert isinstance(network, transformers.ElectraForPreTraining), "`check` refuses other families"
    config = copy.deepcopy(net.config)
    for name in ("hidden_size", "intermediate_size", "num_attention_heads"):
        setattr(config, name, max(1, getattr(config, name) // WIDTH))
    generator: Any = transformers.ElectraForMaskedLM(config)
    generator.electra.embeddings = net.electra.embeddings
    generator.generator_lm_head.weight = net.electra.embeddings.word_embeddings.weight
    read_at_positions(generator)
    network.__class__ = ReplacedTokens
    net.generator = generator
    return network
