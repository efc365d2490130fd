"""`model.head`: one linear layer on one vector per text, not transformers' own head.

Gu et al. 2022 (ACM HEALTH 3(1), section 2.4) fine-tune with nothing between the encoder and the
task but a linear layer; transformers puts a pooler (BERT), a dense layer (ELECTRA, RoBERTa) or a
prediction head (ModernBERT) there. Dropout is the one the model's config asks for. The vector is

linear      the first word piece after the last block
mean, max   mean or largest value, entry by entry, of all word pieces but padding
attention   their mean, weighted by the softmax of a learnt score (one number per word piece)
average:K   the first word piece, mean of the last K blocks
concat:K    the first word piece, last K blocks side by side (Devlin et al. 2019, section 5.3, use
            the last four for features), so that the layer is K times as wide

States of ModernBERT's blocks go through its final norm, as those of its last block do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bluestab.core.errors import ConfigError
from bluestab.core.plain_files import read_json

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


def last_blocks(head: str) -> tuple[str, int]:
    """`concat:4` -> ("concat", 4); the last block alone for heads that name no number."""
    kind, _, number = head.partition(":")
    return kind, int(number or 1)


def pooled(
    kind: str, states: Sequence[torch.Tensor], mask: torch.Tensor, scores: torch.Tensor | None
) -> torch.Tensor:
    """One vector per text, (B, H) or (B, K * H).

    states  (B, T, H) of the last K blocks, from the lower to the upper
    mask    (B, T), 0 at padding
    scores  (B, T), for attention
    """
    last, real = states[-1], mask.unsqueeze(-1).bool()
    if kind == "mean":
        return last.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1)
    if kind == "max":
        return last.masked_fill(~real, -torch.inf).amax(dim=1)
    if kind == "attention":
        assert scores is not None
        weights = scores.masked_fill(mask == 0, -torch.inf).softmax(dim=1)
        return (weights.unsqueeze(-1) * last.masked_fill(~real, 0.0)).sum(dim=1)
    first = [state[:, 0] for state in states]
    return torch.cat(first, dim=-1) if kind == "concat" else torch.stack(first).mean(dim=0)


class Pooling(nn.Module):
    """A pooler for any family: forward hooks give it the mask and the states of the blocks, since
    transformers hands a head neither. What it is called with is not read.

    Hooks are bound methods: those of a deep copy of the network belong to its own blocks.
    """

    def __init__(self, kind: str, size: int, norm: nn.Module | None) -> None:
        super().__init__()
        self.kind = kind
        self.score = nn.Linear(size, 1, bias=False) if kind == "attention" else None
        self._norm = [norm]  # in a list: it belongs to the encoder, not to this module
        self._states: list[torch.Tensor] = []
        self._mask: torch.Tensor | None = None

    def begin(self, network: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        self._states, self._mask = [], mask

    def note(self, block: nn.Module, args: Any, output: Any) -> None:
        self._states.append(output if isinstance(output, torch.Tensor) else output[0])

    def forward(self, *_: Any, **__: Any) -> torch.Tensor:
        (norm,), states, mask = self._norm, self._states, self._mask
        self._states, self._mask = [], None  # nothing keeps the graph alive
        states = [state.float() if norm is None else norm(state.float()) for state in states]
        if mask is None:
            mask = torch.ones(states[-1].shape[:2], device=states[-1].device)
        states = [state[:, : mask.shape[1]] for state in states]  # Longformer pads to its window
        scores = None if self.score is None else self.score(states[-1]).squeeze(-1)
        return pooled(self.kind, states, mask, scores)


class PooledHead(nn.Module):
    """Dropout and one linear layer on what the pooling gives."""

    def __init__(self, pooling: Pooling, dropout: nn.Module, out_proj: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling
        self.dropout = dropout
        self.out_proj = out_proj

    def forward(self, *_: Any, **__: Any) -> torch.Tensor:
        return self.out_proj(self.dropout(self.pooling()))  # type: ignore[no-any-return]


def make_pooled(network: nn.Module, head: str, blocks: str, final_norm: str | None) -> None:
    """The same with another vector than the first word piece of the last block.

    blocks, final_norm  their paths inside the encoder
    """
    net: Any = network
    kind, k = last_blocks(head)
    encoder: Any = net.base_model
    norm = None if final_norm is None else encoder.get_submodule(final_norm)
    pooling = Pooling(kind, net.config.hidden_size, norm)
    net.register_forward_pre_hook(pooling.begin, with_kwargs=True)
    for block in list(encoder.get_submodule(blocks))[-k:]:
        block.register_forward_hook(pooling.note)

    def widened(layer: nn.Linear) -> nn.Linear:
        if kind != "concat" or k == 1:
            return layer
        return nn.Linear(k * layer.in_features, layer.out_features, bias=layer.bias is not None)

    classifier: Any = getattr(net, "classifier", None)
    _check_known(net, head)
    if net.config.model_type == "modernbert":
        net.head = pooling
        net.config.classifier_pooling = "cls"
        net.classifier = widened(classifier)
    elif isinstance(getattr(classifier, "out_proj", None), nn.Linear):
        net.classifier = PooledHead(pooling, classifier.dropout, widened(classifier.out_proj))
    else:
        encoder.pooler = pooling
        net.classifier = widened(classifier)
    setattr(net.config, MARK, head)


def _check_known(net: Any, head: str) -> None:
    """Raises ConfigError for a network whose own head is built in a way that is not known here."""
    pooler, last = (getattr(net.base_model, "pooler", None), getattr(net, "classifier", None))
    if (
        net.config.model_type != "modernbert"
        and not isinstance(getattr(last, "out_proj", None), nn.Linear)
        and not (isinstance(last, nn.Linear) and type(pooler).__name__.endswith("Pooler"))
    ):
        raise ConfigError(
            f"model.head is {head}, but what stands between encoder and last layer in family "
            f"{net.config.model_type} cannot be exchanged; say model.head=default"
        )


def make_linear(network: nn.Module, *, per_word: bool) -> None:
    """Replace what a transformers network has between its encoder and its last linear layer.

    The last layer keeps its name, so that it starts from the values it has under the other head.
    Networks for tokens have nothing to replace but in ModernBERT.
    """
    net: Any = network
    classifier: Any = getattr(net, "classifier", None)
    if per_word and net.config.model_type != "modernbert":
        return
    _check_known(net, "linear")
    if net.config.model_type == "modernbert":
        net.head = nn.Identity()
        net.config.classifier_pooling = "cls"
    elif isinstance(getattr(classifier, "out_proj", None), nn.Linear):
        net.classifier = LinearHead(classifier.dropout, classifier.out_proj)
    else:
        net.base_model.pooler = FirstPiece()
    setattr(net.config, MARK, "linear")


def verify_head(head: str, name: str, folder: Path) -> None:
    """Raises ConfigError if the weights of a model in `folder` were kept under another head than
    the one asked for."""
    said = read_json(folder / "config.json").get(MARK)
    if said not in (None, head):
        raise ConfigError(
            f"the weights of '{name}' were trained with model.head={said}, "
            f"but model.head is {head}; say model.head={said}"
        )
