"""Label smoothing: the gold label of an item holds a little less than all of the target.

Idea      A target of 1 can only be reached by logits that grow without end; a softer one stops
          rewarding that, which gives calibrated probabilities and smaller gradients late on.
Formula   loss = (1 - epsilon) loss(gold) + epsilon loss(uniform), with the same mean over items or
          labelled word pieces. Classes and tags: loss(uniform) = mean over labels of -log p, so the
          gold label keeps 1 - epsilon + epsilon / C of C labels. Several labels at once: each is a
          yes or no of its own, the target y becomes (1 - epsilon) y + epsilon / 2.
Source    Szegedy et al. 2016 (CVPR, arXiv 1512.00567), section 7. For pretrained transformers:
          Desai & Durrett 2020 (EMNLP, arXiv 2003.07892).
Settings  Szegedy et al.: 0.1 over the 1000 labels of ImageNet. No setting for BLURB is known to us.
Cost      None to speak of.
Not with  Regression, which has no labels to share; `stop_degenerate`, which compares the training
          loss with that of a constant answer to the unsmoothed targets.
Against   Desai & Durrett, abstract: it helps calibration out of domain; in domain pretrained models
          are calibrated as they are, and temperature scaling makes them more so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, within
from bluestab.core.types import IGNORED, Batch, ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique, predicts_a_number

if TYPE_CHECKING:
    import torch

    from bluestab.core.seeding import Seeds

Loss = Callable[["torch.Tensor", Batch], "torch.Tensor"]


def uniform_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean loss if every answer were equally right.

    logits (B, C) or (B, T, C); labels: classes (B,) or (B, T), or flags (B, C) in [0, 1].
    Raises ValueError for labels that are numbers.
    """
    from torch.nn.functional import logsigmoid

    if not labels.is_floating_point():
        each = -logits.log_softmax(dim=-1).mean(dim=-1)
        return each[labels != IGNORED].mean()
    if labels.shape != logits.shape:
        raise ValueError(f"labels {tuple(labels.shape)} of numbers cannot be smoothed")
    return -(logsigmoid(logits) + logsigmoid(-logits)).mean() / 2


def gold_share(n_labels: int, flags: bool, epsilon: float) -> float:
    """What the gold label keeps of the target."""
    return 1 - epsilon + epsilon / (2 if flags else n_labels)


class LabelSmoothing(Technique):
    """epsilon: share of the target that is spread over all labels, in [0, 1), 0 is off."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"epsilon": 0.0}

    def __init__(self, *, epsilon: float) -> None:
        self.epsilon = epsilon
        self.share: float | None = None

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "epsilon": within("[0, 1)"),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        if self.epsilon > 0 and predicts_a_number(cfg["task"]):
            return [
                f"technique label_smoothing has nothing to smooth: task {cfg['task']['name']} "
                "predicts a number; leave it out or choose a task with labels"
            ]
        if self.epsilon > 0 and cfg["stop_degenerate"] is True:
            return [
                "technique label_smoothing raises the training loss, which stop_degenerate=true "
                "compares with that of a constant answer: choose one of them"
            ]
        return []

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        """The loss that every step computes, also inside other techniques."""
        if self.is_neutral():
            return built
        hard = built.loss

        def smoothed(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
            labels = batch["labels"]
            self.share = gold_share(logits.shape[-1], labels.is_floating_point(), self.epsilon)
            loss = hard(logits, batch)
            return (1 - self.epsilon) * loss + self.epsilon * uniform_loss(logits, labels)

        return replace(built, loss=smoothed)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if self.share is None:
            return {}
        return {"epsilon": self.epsilon, "gold_share": self.share}
