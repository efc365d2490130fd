"""SI: weights that made the loss of earlier tasks fall stay near their values.

Idea      Synaptic intelligence: what a weight did for a task is summed up while that trains, along
          the way of the optimizer, instead of being measured at the end as in `ewc`.
Formula   strength / 2 sum over weights i of O_i (w_i - w_last,i)^2. After each earlier task O_i <-
          max(0, O_i + p_i / (m_i^2 + damping)), p_i = sum over its steps of -gradient times change,
          m_i how far the weight moved in all.
Source    Zenke, Poole & Ganguli 2017 (ICML, arXiv 1703.04200); the max with 0 and the gradient
          without the penalty as in their code. Their c is half our strength, before O is divided by
          its mean.
Settings  None that carries over; see `ewc`. damping 0.9 to 1 in the code of Wang et al. 2024 (arXiv
          2403.13249), for images and SGD. Where m^2 is far below damping, as in most fine-tuning,
          damping plays no part but to leave p as it is.
Where     As `ewc`. What did not train for a task has p 0 for it.
Keeps     Earlier runs must have been asked for it: keep=last keep_path_integral=true, which
          +sequence says by itself. Their results and keys stay what they are.
Cost      2 numbers per weight in all. While a task trains that keeps it three more numbers per
          weight in memory, and two on disk.
Not with  `lora`; several devices; the best weights of an earlier run: the sums end at the last.
Against   Adam and small batches: noise in the gradient adds to p, and momentum moves weights that
          have no gradient now. No report on text encoders over seeds is known to us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from bluestab.core.rules import Rule, above
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built
from bluestab.models.curvature import Curvature, Diagonal
from bluestab.models.earlier import EarlierTask, shared
from bluestab.techniques.anchored import Anchored, Penalty, weights_of


class Si(Anchored):
    """strength: of the pull; damping: added to the square of a weight's whole change, > 0."""

    name = "si"
    reads_path_integral: ClassVar[bool] = True

    def __init__(self, *, strength: float | str, damping: float):
        self.strength = strength
        self.damping = damping

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {**super().rules(model), "damping": above(0)}

    def penalties(self, earlier: Sequence[EarlierTask], built: Built) -> list[Penalty]:
        total: dict[str, Any] = {}
        for task in earlier:
            if task.path_integral is None:
                raise RuntimeError(f"the run on task '{task.name}' kept no path integral")
            found, own = task.path_integral(), dict(task.network.named_parameters())
            for name in shared(task, built):
                if name in found:
                    integral, moved = (value.to(own[name]) for value in found[name])
                    new = integral / (moved.square() + self.damping)
                    total[name] = (total.get(name, 0.0) + new).clamp(min=0)
        last = [name for name in shared(task, built) if name in total]
        curvature = Curvature(tuple(Diagonal(name, total[name]) for name in last))
        return [(curvature, weights_of(task, last))]
