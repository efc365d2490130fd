"""`model.dropout`, `model.attention_dropout`, `model.head_dropout`: other shares than the config's.

Where dropout stands in an encoder, transformers reads from its config, under names that differ from
family to family; what stands outside the encoder is found in the network. Each knob moves its own
units alone: many heads take the encoder's share where the config names none for them, and keep the
checkpoint's here. ModernBERT's share of attention weights drops what attention gives, too.

What to set on a few dozen texts is open: Gu et al. 2022 (section 2.5) leave 0.1 in BERT and count
it among the reasons for runs to differ; Mosbach et al. 2021 (ICLR, arXiv 2006.04884, section 3.2)
leave it too, but fine-tune ALBERT without.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from bluestab.models.description import Model

KNOBS = ("dropout", "attention_dropout", "head_dropout")
HIDDEN = ("hidden_dropout_prob", "hidden_dropout", "dropout", "embedding_dropout", "mlp_dropout")
ATTENTION = ("attention_probs_dropout_prob", "attention_dropout")


def with_dropout(config: Any, model: Model) -> Any:
    """A copy of transformers' `config` with the encoder's shares that the model asks for.

    Raises ConfigError where networks of the family have no such dropout.
    """
    config = copy.deepcopy(config)
    for knob, names in (("dropout", HIDDEN), ("attention_dropout", ATTENTION)):
        share = getattr(model, knob)
        if share is None:
            continue
        known = [name for name in names if hasattr(config, name)]
        if not known:
            raise ConfigError(
                f"model.{knob} is {share!r}, but networks of family {config.model_type} have no "
                f"such dropout; say model.{knob}=null"
            )
        for name in known:
            setattr(config, name, share)
    return config


def set_head_dropout(network: nn.Module, own: Any, model: Model) -> None:
    """Give what stands outside the encoder `model.head_dropout`, or its share by the config `own`.

    Raises ConfigError where the head drops nothing and is asked to.
    """
    import torch

    if model.head_dropout is None and model.dropout is None:
        return
    layers = _outside(network)
    if model.head_dropout is not None and not layers:
        raise ConfigError(
            f"model.head_dropout is {model.head_dropout!r}, but the head of {model.name} has no "
            "dropout; say model.head_dropout=null"
        )
    with torch.device("meta"):
        as_described = _outside(type(network)(own))
    for path, layer in layers.items():
        share = model.head_dropout
        layer.p = as_described[path].p if share is None else float(share)


def can_drop(network: nn.Module) -> bool:
    """Whether it has units to drop, whatever share of them it is told to drop."""
    from torch import nn

    return any(
        isinstance(module, nn.Dropout) or (isinstance(share, float) and share > 0)
        for module in network.modules()
        for share in (getattr(module, "attention_dropout", 0.0),)
    )


def _outside(network: nn.Module) -> dict[str, nn.Dropout]:
    from torch import nn

    encoder = f"{network.base_model_prefix}."
    return {
        path: module
        for path, module in network.named_modules()
        if isinstance(module, nn.Dropout) and not path.startswith(encoder)
    }
