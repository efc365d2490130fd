"""Norms of gradients: for clipping, and for the curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from bluestab.training.loop.diagnostics import mean_norms


def gradient_norms(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """L2 norm of each tensor, (n,), by the kernels that `clip_grad_norm_` uses: its total is the
    norm of these, so that noting them costs nothing and changes no bit."""
    if gradients[0].device.type in ("cpu", "cuda"):
        return torch.stack(torch._foreach_norm(list(gradients), 2.0))
    return torch.stack([torch.linalg.vector_norm(g, 2.0) for g in gradients])


def clipped(optimizer: torch.optim.Optimizer, limit: float | None) -> torch.Tensor | None:
    """Clip the gradients of an optimizer's parameters by their total norm, None: as they are.

    Returns the norm of each before that, (n,), NaN for those without one; None if all are without.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    present = [i for i, p in enumerate(parameters) if p.grad is not None]
    if not present:
        return None
    norms = gradient_norms([parameters[i].grad for i in present])
    if limit is not None:
        total = torch.linalg.vector_norm(norms, 2.0)
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, total)
    if len(present) < len(parameters):
        every = norms.new_full((len(parameters),), math.nan)
        norms = every.index_copy(0, torch.tensor(present, device=norms.device), norms)
    return norms


def mean_gradient_norms(
    optimizer: torch.optim.Optimizer, norms: Sequence[torch.Tensor], n_layers: int
) -> dict[str, float | None]:
    """Norms of some steps, as `clipped` gives them -> their mean by layer group."""
    depths = [g["depth"] for g in optimizer.param_groups for _ in g["params"]]
    stacked = torch.stack(list(norms)).cpu().numpy() if norms else np.empty((0, len(depths)))
    return mean_norms(stacked, depths, n_layers)
