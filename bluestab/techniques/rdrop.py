"""R-Drop: two passes with different dropout shall give the same answer.

Idea      Dropout trains one of many sub-networks at a time, and evaluation uses their average; the
          closer they agree, the smaller the gap between the two.
Formula   loss = (l1 + l2) / 2 + alpha * (KL(p1, p2) + KL(p2, p1)) / 2, mean over items; l1, l2 the
          task's losses and p1, p2 the distributions of two passes that differ in dropout alone.
          Multi-label: the KLs of each label, summed. Tagging: mean over labelled word pieces.
          Regression: alpha * (y1 - y2) ** 2 / 2, the KL of normal distributions of variance 1.
Source    Liang et al. 2021 (NeurIPS, arXiv 2106.14448). There the two losses are added; as in the
          README of the authors' code we take their mean, so that clipping means what it means
          without the technique. Divided by 2, the paper's loss is ours with half its alpha.
Settings  The authors' code for GLUE adds both losses and weighs the two KLs by 0.25 each: alpha 0.5
          in the paper's loss, 0.25 in ours; regression by the squared difference. The README sums
          the KLs over the batch, which ties their strength to its size: not so here. What the paper
          itself says about alpha on GLUE is not in what we could read.
Seeds     The first pass drops what it drops in any arm; the second draws from a stream named after
          the step, the micro-batch and this technique.
Cost      Two forward and backward passes per step, twice the memory for activations. Techniques
          listed after this one run in both passes.
Not with  A network that has no dropout (EuroBERT). Where its shares are 0, or `freeze` goes up to
          the top, it does nothing.
Against   No report on the spread over seeds is known to us. The second pass alone halves the noise
          that dropout puts into the gradient: a comparison owes an arm with alpha close to 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import ConfigError
from bluestab.core.rules import Rule, at_least
from bluestab.core.types import Batch, ModelFacts, Step, StepOutput
from bluestab.models.built import Built, Trained
from bluestab.models.divergences import divergence
from bluestab.models.dropout import can_drop
from bluestab.models.passes import device_of, fork_dropout_stream
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import extra_forwards
from bluestab.techniques.packing import Packable, Siblings

if TYPE_CHECKING:
    import torch

    from bluestab.core.seeding import Seeds


def consistent(
    first: StepOutput, second: StepOutput, labels: torch.Tensor, alpha: float
) -> torch.Tensor:
    """Mean of two losses plus alpha times half the symmetric divergence: a scalar."""
    apart = divergence(first.logits, second.logits, labels)
    return (first.loss + second.loss) / 2 + alpha * apart / 2


class Rdrop(Packable, Technique):
    """alpha: weight of the divergence, >= 0; 0 switches the second pass off."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"alpha": 0.0}
    scalars: ClassVar[frozenset[str]] = frozenset({"alpha"})

    def __init__(self, *, alpha: float) -> None:
        self.alpha = alpha

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "alpha": at_least(0),
        }

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        """Raises ConfigError for a network without dropout, whose two passes are one."""
        if not self.is_neutral() and not can_drop(built.model):
            raise ConfigError(
                "technique rdrop compares two passes that differ in their dropout, of which this "
                "network has none; leave it out"
            )
        return built

    def wrap_step(self, step: Step, built: Built) -> Step:
        if self.is_neutral():
            return step

        def twice(batch: Batch) -> StepOutput:
            first = step(batch)
            with fork_dropout_stream(device_of(batch), "rdrop"):
                second = step(batch)
            return StepOutput(consistent(first, second, batch["labels"], self.alpha), first.logits)

        return twice

    @classmethod
    def pack_step(
        cls, siblings: Sequence[Rdrop], step: Step, network: Siblings, built: Sequence[Built]
    ) -> Step:
        import torch

        if siblings[0].is_neutral():
            return step

        def twice(batch: Batch) -> StepOutput:
            first = step(batch)
            with network.other_dropout("rdrop"):
                second = step(batch)
            labels = network.unflatten(batch["labels"])
            losses = [
                consistent(
                    StepOutput(first.loss[i], first.logits[i]),
                    StepOutput(second.loss[i], second.logits[i]),
                    labels[i],
                    sibling.alpha,
                )
                for i, sibling in enumerate(siblings)
            ]
            return StepOutput(torch.stack(losses), first.logits)

        return twice

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {} if self.is_neutral() else extra_forwards(trained)
