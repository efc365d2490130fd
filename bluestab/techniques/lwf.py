"""LwF: on the new texts, the earlier heads go on saying what they said.

Idea      Learning without forgetting: without any earlier text, the new ones show what the network
          used to answer.
Formula   L = task + alpha * mean over earlier tasks of KL(p_old, p_new), p the softmax of logits /
          T; for words over all real word pieces. Label sets: the KL of each label, summed; numbers:
          half the squared difference. p_old: weights that this training starts from, no dropout.
Source    Li & Hoiem 2016 (ECCV, arXiv 1606.09282), T = 2: their modified cross-entropy has the
          gradient of this KL.
Settings  alpha 1 and T 2 there; none for text encoders.
Heads     One per task, as each was left, or one for all (`shared_head`); there old heads train too.
Cost      Two further forward passes per earlier task and step, one of them with a backward pass.
Not with  `lora`; several devices. No cached output of frozen blocks.
Against   Texts of another kind say little of earlier tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, above, at_least
from bluestab.core.seeding import Seeds
from bluestab.core.types import Batch, ModelFacts, Step, StepOutput
from bluestab.models.built import Built, Trained
from bluestab.models.divergences import Kind
from bluestab.models.earlier import EarlierTask, on_live_weights
from bluestab.models.passes import device_of, fork_dropout_stream
from bluestab.techniques.anchored import earlier_run_problems
from bluestab.techniques.base import Technique

if TYPE_CHECKING:
    import torch


def kl(old: torch.Tensor, new: torch.Tensor, kind: Kind, temperature: float) -> torch.Tensor:
    """KL(p_old, p_new) of logits (N, C) / temperature, mean over rows: a scalar >= 0."""
    from torch.nn.functional import logsigmoid

    if kind == "regression":
        return 0.5 * (old - new).square().sum(dim=-1).mean()
    old, new = old / temperature, new / temperature
    if kind == "multi_label":
        p = old.sigmoid()
        yes, no = logsigmoid(old) - logsigmoid(new), logsigmoid(-old) - logsigmoid(-new)
        return (p * yes + (1 - p) * no).sum(dim=-1).mean()
    log_p, log_q = old.log_softmax(dim=-1), new.log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


class Lwf(Technique):
    """alpha: weight of the divergence, >= 0, 0 switches it off; temperature: > 0."""

    neutral: ClassVar[Mapping[str, Any]] = {"alpha": 0.0}
    remembers: ClassVar[bool] = True
    reads_embeddings: ClassVar[bool] = True  # earlier networks compute the blocks themselves

    def __init__(self, *, alpha: float, temperature: float):
        self.alpha = alpha
        self.temperature = temperature

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {"alpha": at_least(0), "temperature": above(0)}

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        return [] if self.is_neutral() else earlier_run_problems("lwf", cfg)

    def one_device(self) -> str:
        return "each of them would hold every earlier network"

    def recall(self, earlier: Sequence[EarlierTask], built: Built, seeds: Seeds) -> None:
        if self.is_neutral():
            return
        live = dict(built.model.named_parameters())
        start: dict[str, torch.Tensor] = {}
        self._earlier = []
        for task in earlier:
            names = on_live_weights(task, built)
            start |= {n: built.reference[n].to(live[n].device) for n in names if n not in start}
            before = {n: start[n] for n in names}
            self._earlier.append((task, before, {n: live[n] for n in names}))

    def wrap_step(self, step: Step, built: Built) -> Step:
        if self.is_neutral():
            return step

        def distilling(batch: Batch) -> StepOutput:
            out = step(batch)
            return StepOutput(out.loss + self.alpha * self._divergence(batch), out.logits)

        return distilling

    def _divergence(self, batch: Batch) -> torch.Tensor:
        import torch

        total: Any = 0.0
        for number, (task, before, now) in enumerate(self._earlier):
            with torch.no_grad():
                old = task.logits(before, batch, training=False)
            with fork_dropout_stream(device_of(batch), "lwf", number):
                new = task.logits(now, batch, training=True)
            if task.kind == "tagging":
                real = batch["attention_mask"].bool()
                old, new = old[real], new[real]
            total = total + kl(old, new, task.kind, self.temperature)
        return total / len(self._earlier)  # type: ignore[no-any-return]

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if self.is_neutral():
            return {}
        return {"distilled_from": [task.name for task, *_ in self._earlier]}
