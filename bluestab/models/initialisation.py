"""Random values of a parameter, as its family draws them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from bluestab.core.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn


def initialise(
    network: nn.Module, name: str, generator: torch.Generator, initializer_range: float
) -> None:
    """Fill one parameter as its family does (`_init_weights` of transformers).

    Linear and embedding weights from N(0, initializer_range^2), biases 0, LayerNorm weights 1, the
    padding row of an embedding 0; ModernBERT cuts the normal off, narrows or widens it by the place
    of the weight, and leaves the padding row random. transformers' own function is not used: it
    skips parameters that were loaded from a checkpoint, so re-initialising with it changes nothing.
    """
    import torch
    from torch import nn

    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    parameter = getattr(module, leaf)
    with torch.no_grad():
        if leaf == "bias":
            parameter.zero_()
        elif type(module).__name__.endswith("Norm"):  # of torch, or a family's own
            parameter.fill_(1.0)
        elif isinstance(module, nn.Conv2d):  # LeCun et al. 1998: the variance of its input
            fan_in = module.weight[0].numel()
            parameter.copy_(
                torch.empty(parameter.shape).normal_(0.0, fan_in**-0.5, generator=generator)
            )
        elif isinstance(module, nn.Linear | nn.Embedding):
            parameter.copy_(_normal(network, path, parameter.shape, generator, initializer_range))
            padding = getattr(module, "padding_idx", None)
            if padding is not None and not _is_modern(network):
                parameter[padding].zero_()
        else:
            raise ConfigError(
                f"do not know how to initialise '{name}' of a {type(module).__name__}"
            )


def _is_modern(network: nn.Module) -> bool:
    return getattr(getattr(network, "config", None), "model_type", None) == "modernbert"


def _normal(
    network: nn.Module,
    path: str,
    shape: torch.Size,
    generator: torch.Generator,
    initializer_range: float,
) -> torch.Tensor:
    """Random values for the weight of the module at `path`."""
    import torch
    from torch import nn

    drawn, config = torch.empty(shape), cast(Any, getattr(network, "config", None))
    if not _is_modern(network):
        return drawn.normal_(0.0, initializer_range, generator=generator)
    std = initializer_range
    if path == "classifier":
        std = config.hidden_size**-0.5
    elif path == "head.dense" or path.endswith(".Wo"):  # what is added to the residual stream
        std = initializer_range / math.sqrt(2.0 * config.num_hidden_layers)
    cut = std * (config.initializer_cutoff_factor or 3)
    return nn.init.trunc_normal_(drawn, 0.0, std, -cut, cut, generator=generator)
