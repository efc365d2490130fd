"""EWC: weights that mattered to earlier tasks stay near the values these left (diagonal Fisher).

Idea      The Fisher information of a task says how much each weight's change would change its
          answers; what it needs most is held most, the rest is free for the new task.
Formula   strength / 2 sum over tasks t, weights i of F_ti (w_i - w_ti)^2, w_t the weights after
          task t. `online`: one anchor, the weights after the last task, and F = sum over t of
          decay^(age) F_t, age 0 for the last.
Source    Kirkpatrick et al. 2017 (PNAS, arXiv 1612.00796); one anchor after Huszar 2018 (PNAS,
          arXiv 1712.03847) and, with a decay, Schwarz et al. 2018 (ICML, arXiv 1805.06370).
Settings  No published strength carries over: from 0.7 to 1,000,000 in the code of Mammoth,
          PyContinual and PLM4CL, each in units of its own. Here F is divided by its mean.
Fisher    Mean over the training items of the squared gradient of an item's log-likelihood, dropout
          off, at the weights after the task, with its own head. `labels`: gold (what Avalanche,
          Mammoth and most code use, but item by item, not per batch), sampled, or exact.
Where     The encoder, and a head that all tasks share (`shared_head`); one of the new task's own is
          free. What is frozen stays so.
Cost      A forward and backward pass per item of each earlier task (`exact`: one per class and word
          piece), at the end of its run if that keeps it (`keep_importance`, which +sequence says
          by itself), else at every start; then one pass over the weights per step, and 2 numbers
          per weight and task, or 2 in all online.
Not with  `lora`; several devices. `prior_decay`, `recadam` and `mixout` pull to one point more.
Against   Mammoth's maintainers call it a method for tasks with heads of their own: with one shared
          head it forgets wholly. McInerney et al. 2021 (arXiv 2111.06012): forgetting of a BERT
          down by 27 %, by 51 % with Kronecker factors (`kfac_ewc`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bluestab.core.rules import Rule, one_of, within
from bluestab.core.types import LABELS, Labels, ModelFacts
from bluestab.models.built import Built
from bluestab.models.earlier import EarlierTask
from bluestab.models.importance import Importance
from bluestab.techniques.anchored import Anchored, Penalty, penalties_of, summed

ANCHORS = ("separate", "online")


class Ewc(Anchored):
    """strength: of the pull; anchors: separate or online; decay: of older tasks online; labels."""

    name = "ewc"

    def __init__(self, *, strength: float | str, anchors: str, decay: float, labels: Labels):
        self.strength = strength
        self.anchors = anchors
        self.decay = decay
        self.labels = labels

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            **super().rules(model),
            "anchors": one_of(*ANCHORS),
            "decay": within("[0, 1]"),
            "labels": one_of(*LABELS),
        }

    @property
    def importance(self) -> Importance:
        return Importance("diagonal", self.labels)

    def penalties(self, earlier: Sequence[EarlierTask], built: Built) -> list[Penalty]:
        found = penalties_of(earlier, built, self.importance)
        return (
            list(found)
            if self.anchors == "separate"
            else [summed(((f.normalised(anchor), anchor) for f, anchor in found), self.decay)]
        )
