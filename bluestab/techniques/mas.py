"""MAS: weights to which earlier answers were sensitive stay near their values.

Idea      As `ewc`, with the importance of a weight taken from the answer itself, without any label:
          how much the length of the logits changes with it.
Formula   strength / 2 sum over weights i of O_i (w_i - w_last,i)^2, O = sum over earlier tasks of
          the mean over items of |d ||logits||^2 / d w|; for words the logits of all real word
          pieces.
Source    Aljundi et al. 2018 (ECCV, arXiv 1711.09601): importances are summed over tasks, the
          anchor is the last. Their lambda is half our strength, before O is divided by its mean.
Settings  None that carries over; see `ewc`.
Where     The encoder.
Cost      At every start a forward and backward pass per item of each earlier task; 2 numbers per
          weight in all.
Not with  `lora`; several devices.
Against   Made for images; no report on text encoders over seeds is known to us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bluestab.core.seeding import Seeds
from bluestab.core.types import Batch
from bluestab.models.built import Built
from bluestab.models.curvature import Curvature, Diagonal
from bluestab.models.earlier import EarlierTask, shared
from bluestab.models.likelihood import add_magnitude, evaluating, mean_over_batches
from bluestab.models.passes import inputs_of
from bluestab.techniques.anchored import Anchored, Penalty, weights_of


def sensitivity(task: EarlierTask, names: Sequence[str]) -> Mapping[str, Any]:
    """Mean over a task's items of |d ||logits||^2 / d w|, by parameter name."""
    parameters = {n: p for n, p in task.network.named_parameters() if n in names}

    def length(item: Batch) -> Any:
        logits = task.network(**inputs_of(item)).logits
        if logits.ndim == 3:
            logits = logits[item["attention_mask"].bool()]
        return logits.square().sum()

    with evaluating(task.network, parameters.values()):
        return mean_over_batches(length, parameters, task.items(), add_magnitude)


class Mas(Anchored):
    """strength: of the pull."""

    name = "mas"

    def __init__(self, *, strength: float | str):
        self.strength = strength

    def penalties(
        self, earlier: Sequence[EarlierTask], built: Built, seeds: Seeds
    ) -> list[Penalty]:
        total: dict[str, Any] = {}
        for task in earlier:
            for name, value in sensitivity(task, shared(task, built)).items():
                total[name] = total.get(name, 0.0) + value
        anchor = weights_of(task, shared(task, built))
        return [(Curvature(tuple(Diagonal(n, total[n]) for n in anchor)), anchor)]
