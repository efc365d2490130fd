"""Networks that started from the same weights, merged into one: functions of their weights.

mean             of all members
task_arithmetic  start + c * sum of task vectors; a task vector is what a training added to the
                 start (Ilharco et al. 2023, arXiv 2212.04089)
ties             start + c * what is left of the task vectors after trimming each to its largest
                 entries, electing a sign per weight and averaging the entries of that sign
                 (Yadav et al. 2023, arXiv 2306.01708)
regmean          per linear map the least-squares fit to all members on their own inputs, the rest
                 is the mean (Jin et al. 2023, arXiv 2212.09849); here the bias is fitted along with
                 the weight, and an embedding is a linear map of one-hot inputs

All sums are taken in float64. None of them looks at a label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bluestab.models.curvature import InputFactor

if TYPE_CHECKING:
    import torch

State = Mapping[str, "torch.Tensor"]
"""Parameter name -> value."""


def mean(members: Sequence[State]) -> dict[str, torch.Tensor]:
    """Of every tensor of numbers; what counts or indexes (integers) is the first member's."""
    import torch

    return {
        name: torch.stack([m[name].double() for m in members]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in members[0].items()
    }


def task_arithmetic(
    start: State, members: Sequence[State], coefficient: float
) -> dict[str, torch.Tensor]:
    """coefficient 1/n for n members is their mean, 0 the start."""
    return {
        n: (value.double() + coefficient * _vectors(start, members, n).sum(dim=0)).to(value.dtype)
        for n, value in start.items()
    }


def _vectors(start: State, members: Sequence[State], name: str) -> torch.Tensor:
    """What the members have beyond the start, (members, *shape), float64."""
    import torch

    return torch.stack([m[name].double() for m in members]) - start[name].double()


def ties(
    start: State, members: Sequence[State], coefficient: float, density: float
) -> dict[str, torch.Tensor]:
    """density: the share of a task vector's entries that trimming leaves, in (0, 1].

    As in the authors' code the largest are sought over all tensors together, the elected sign is
    that of the sum, and where the sum is 0 it is the one that more weights have.
    """
    import torch

    borders = torch.stack([_border(start, m, density) for m in members])

    def trimmed(name: str) -> torch.Tensor:
        vectors = _vectors(start, members, name)
        border = borders.view(-1, *[1] * start[name].ndim)
        return torch.where(vectors.abs() >= border, vectors, 0.0)

    balance = sum(float(trimmed(n).sum(dim=0).sign().sum()) for n in start)
    majority = 1.0 if balance >= 0 else -1.0
    merged = {}
    for n, value in start.items():
        vectors = trimmed(n)
        sign = vectors.sum(dim=0).sign()
        agree = vectors * torch.where(sign == 0, majority, sign) > 0
        left = (vectors * agree).sum(dim=0) / agree.sum(dim=0).clamp(min=1)
        merged[n] = (value.double() + coefficient * left).to(value.dtype)
    return merged


def _border(start: State, member: State, density: float) -> torch.Tensor:
    """The smallest magnitude that trimming leaves, over all tensors; its equals stay as well."""
    import torch

    flat = torch.cat([(member[n].double() - v.double()).abs().flatten() for n, v in start.items()])
    keep = max(1, math.ceil(density * flat.numel()))
    return flat.kthvalue(flat.numel() - keep + 1).values


def regmean(
    members: Sequence[State], factors: Sequence[Sequence[InputFactor]], scale: float
) -> dict[str, torch.Tensor]:
    """W that minimises the sum over members of E |W x - W_i x|^2, x the inputs of member i.

    factors  per member those of its linear maps; a map that a member lacks is averaged
    scale    of what is off the diagonal of the factors, in [0, 1]: the paper takes 0.9, 1 is plain
             least squares

    Directions in which no input lies keep the mean.
    """
    merged = mean(members)
    by_name = [{factor.weight: factor for factor in own} for own in factors]
    for name, factor in by_name[0].items():
        if name not in merged or not all(name in own for own in by_name):
            continue
        grams = [_scaled(own[name].a.double(), scale) for own in by_name]
        if factor.a.ndim == 1:
            merged[name] = _weighted_rows([m[name] for m in members], grams)
        else:
            _fit(merged, members, factor, grams)
    return merged


def _scaled(a: torch.Tensor, scale: float) -> torch.Tensor:
    return a if a.ndim == 1 else scale * a + (1 - scale) * a.diagonal().diag()


def _weighted_rows(values: Sequence[torch.Tensor], counts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Rows of embeddings (V, E), each weighted by how often its member looks it up."""
    import torch

    w = torch.stack(list(counts))[:, :, None]  # (members, V, 1)
    w = torch.where(w.sum(dim=0) > 0, w, 1.0)
    total = (torch.stack([v.double() for v in values]) * w).sum(dim=0) / w.sum(dim=0)
    return total.to(values[0].dtype)


def _fit(
    merged: dict[str, torch.Tensor],
    members: Sequence[State],
    factor: InputFactor,
    grams: Sequence[torch.Tensor],
) -> None:
    """Least squares around the mean, so that the minimum-norm solution leaves it where it may."""
    import torch

    names = [factor.weight] if factor.bias is None else [factor.weight, factor.bias]
    own = [
        torch.cat([m[n].double().reshape(len(m[names[0]]), -1) for n in names], 1) for m in members
    ]
    middle = torch.stack(own).mean(dim=0)
    right = sum((w - middle) @ gram for w, gram in zip(own, grams, strict=True))
    total = torch.stack(list(grams)).sum(dim=0)
    found = middle + right @ torch.linalg.pinv(total, hermitian=True)
    weight = merged[factor.weight]
    merged[factor.weight] = found[:, : weight.shape[1]].to(weight.dtype)
    if factor.bias is not None:
        merged[factor.bias] = found[:, -1].to(merged[factor.bias].dtype)
