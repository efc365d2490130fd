"""`model.head: linear`: one linear layer on the first word piece, not transformers' own head.

Gu et al. 2022 (ACM HEALTH 3(1), section 2.4) fine-tune with nothing between the encoder and the
task but a linear layer; transformers puts a pooler (BERT), a dense layer (ELECTRA, RoBERTa) or a
prediction head (ModernBERT) there. Dropout is the one the model's config asks for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

MARK = "bluestab_head"
"""Entry in `config.json` of saved weights: plain transformers has no such head, and would put a
random pooler or dense layer before the trained linear one."""


class FirstPiece(nn.Module):
    """Hidden states (B, T, H) -> those of the first word piece (B, H): a pooler that adds nothing.

    Loading and saving see no parameters in it.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states[:, 0]


class LinearHead(nn.Module):
    """Hidden states (B, T, H) -> logits (B, C) of the first word piece."""

    def __init__(self, dropout: nn.Module, out_proj: nn.Module) -> None:
        super().__init__()
        self.dropout = dropout
        self.out_proj = out_proj

    def forward(self, features: torch.Tensor, **_: Any) -> torch.Tensor:
        return self.out_proj(self.dropout(features[:, 0]))  # type: ignore[no-any-return]


def make_linear(network: nn.Module) -> None:
    """Replace what a transformers network has between its encoder and its last linear layer.

    The last layer keeps its name, so that it starts from the values it has under the other head.
    Networks for tokens have nothing to replace but in ModernBERT.
    """
    net: Any = network
    classifier = net.classifier
    if net.config.model_type == "modernbert":
        net.head = nn.Identity()
        net.config.classifier_pooling = "cls"
    elif isinstance(getattr(classifier, "out_proj", None), nn.Linear):
        net.classifier = LinearHead(classifier.dropout, classifier.out_proj)
    elif getattr(net.base_model, "pooler", None) is not None:
        net.base_model.pooler = FirstPiece()
    else:
        return
    setattr(net.config, MARK, "linear")
