"""`model.global_attention`: which word pieces of a Longformer see all others and are seen by all.

The rest see a window. transformers gives global attention to the first piece of a text; for
questions on passages the whole question should have it (Beltagy et al. 2020, arXiv 2004.05150,
section 3.1). What is kept is a plain network: who calls it in transformers gives the same
`global_attention_mask` to get the same logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bluestab.models.description import Model

FAMILY = "longformer"
FIRST_PIECE, FIRST_TEXT = WHERE = ("first_piece", "first_text")


def global_attention_problems(model: Model) -> list[str]:
    """What is wrong with the knob for this model, one sentence."""
    said = model.global_attention
    if said not in WHERE:
        return [f"model.global_attention is {said!r}: expected {' or '.join(WHERE)}"]
    if said != FIRST_PIECE and model.family != FAMILY:
        return [
            f"model.global_attention is {said!r}, but networks of family {model.family} have no "
            f"windows of attention as {FAMILY} has; say model.global_attention={FIRST_PIECE}"
        ]
    return []


def first_text(input_ids: torch.Tensor, separator: int) -> torch.Tensor:
    """1 for the pieces (B, T) before the first separator, the first of a pair of texts, else 0."""
    return ((input_ids == separator).cumsum(dim=1) == 0).long()


def set_global_attention(network: nn.Module, model: Model) -> None:
    """Let the network attend as the model says, whoever calls it by names."""
    if model.global_attention == FIRST_PIECE:
        return
    network.register_forward_pre_hook(_attend_first_text, with_kwargs=True)


def _attend_first_text(network: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    mask = first_text(kwargs["input_ids"], network.config.sep_token_id)
    return args, {**kwargs, "global_attention_mask": mask}
