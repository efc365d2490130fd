"""EWC with Kronecker-factored curvature: also what weights do together is held.

Idea      The diagonal of the Fisher information takes weights one by one; the blocks of whole
          layers know directions in which many may move together without changing an earlier answer.
Formula   strength / 2 sum over tasks and layers of tr(D' G D A), D = [W b] - [W b] after the task,
          A the mean of x x' of the layer's inputs, G that of g g' of its output gradients.
          Embeddings: A diagonal, how often a row is looked up; norms: the diagonal Fisher.
Source    Ritter, Botev & Barber 2018 (NeurIPS, arXiv 1805.07810); with a BERT for medical entity
          linking McInerney et al. 2021 (arXiv 2111.06012), of which we could read the abstract
          alone, so that the method here is that of the wider literature (`models/fisher.py`).
Settings  None that carries over; see `ewc`. `sharing`: expand or reduce (Eschenhagen et al. 2023,
          arXiv 2311.00636, who see little difference on a ViT and a graph network).
Fisher    As `ewc` has it, each task with factors of its own: a sum of Kronecker products is none.
Where     As `ewc`, biases in the block of their layer. No inverse is taken. Maps that relative
          positions go through, too (DeBERTa, MPNet), have a diagonal.
Cost      The passes of `ewc`; factors and anchor per task, for the Linears of
          BERT-base 3.5 and 1 times their weights (1.2 GB and 0.3 GB in float32); two matrix
          products per layer, task and step.
Not with  `lora`; several devices.
Against   The authors report 51 % less forgetting against 27 % with `ewc`, on three data sets which
          the abstract does not name; how they define it we could not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bluestab.core.rules import Rule, one_of
from bluestab.core.types import LABELS, SHARING, Labels, ModelFacts, Sharing
from bluestab.models.built import Built
from bluestab.models.earlier import EarlierTask
from bluestab.models.importance import Importance
from bluestab.techniques.anchored import Anchored, Penalty, penalties_of


class KfacEwc(Anchored):
    """strength: of the pull; labels; sharing: how word pieces of an item go into the factors."""

    name = "kfac_ewc"

    def __init__(self, *, strength: float | str, labels: Labels, sharing: Sharing):
        self.strength = strength
        self.labels = labels
        self.sharing = sharing

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            **super().rules(model),
            "labels": one_of(*LABELS),
            "sharing": one_of(*SHARING),
        }

    @property
    def importance(self) -> Importance:
        return Importance("kronecker", self.labels, self.sharing)

    def penalties(self, earlier: Sequence[EarlierTask], built: Built) -> list[Penalty]:
        return list(penalties_of(earlier, built, self.importance))
