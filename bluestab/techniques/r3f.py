"""R3F: a little noise on the word embeddings shall not change the answer.

Idea      Fine-tuning that stays smooth around the training inputs keeps the representations that
          pretraining gave; noise is a cheap stand-in for a trust region.
Formula   loss = l(f(e)) + weight * (KL(p, q) + KL(q, p)), mean over items; p = f(e), q = f(e + z),
          z uniform in [-eps, eps] or normal with standard deviation eps, e the word embeddings.
          Multi-label: the KLs of each label, summed. Tagging: mean over labelled word pieces.
          Regression: weight * (f(e) - f(e + z)) ** 2; the authors' code silently adds nothing.
Source    Aghajanyan et al. 2020 (arXiv 2008.03156); R4F's spectral norm of the head is not here.
Settings  Authors' code (fairseq, examples/rxf): eps 1e-5, uniform, weight 1 (RTE 0.7).
Dropout   `same_dropout: true` is the formula: both passes drop the same units, only z differs. The
          authors' code draws dropout anew, and with eps that small nearly all of the divergence is
          then that of two draws of dropout: R-Drop by another name. `false` does the same. Their
          code also stops the gradient from reaching the table of embeddings through the noisy
          pass; ours does not.
Precision The divergence is float32 whatever the precision. But bfloat16 has three digits, and below
          an eps of 1e-2 the noise drowns in the rounding of the layers: refused. (MiniLM, BIOSSES,
          one batch, eps 1e-5: 7e-13 in float32, 4e-8 in bfloat16; eps 3e-2: 1.12e-5 and 1.10e-5.)
Seeds     z comes from a stream named after the step, the micro-batch and this technique.
Cost      Two forward and backward passes per step, twice the memory for activations. Techniques
          listed after this one run in both passes.
Not with  Nothing. A table of embeddings that is frozen is perturbed all the same.
Against   With the same dropout in both passes the penalty goes with eps squared: 7e-13 on that
          batch at eps 1e-5, where two draws of dropout differ by 3e-4. At the published eps the
          formula does next to nothing; the published gains may rest on the dropout of the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bluestab.core.rules import FLAG, Rule, above, at_least, one_of
from bluestab.core.seeding import torch_streams
from bluestab.core.types import Batch, ModelFacts, Step, StepOutput
from bluestab.models.built import Built, Trained
from bluestab.models.divergences import divergence
from bluestab.models.passes import (
    NOISES,
    Noise,
    device_of,
    fork_dropout_stream,
    noise,
    perturbed,
    replay_dropout_stream,
    rounding_problem,
)
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import extra_forwards


class R3f(Technique):
    """weight: of the divergence, >= 0, 0 switches it off; eps: size of the noise, > 0; noise:
    uniform or normal; same_dropout: both passes drop the same units."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"weight": 0.0}
    reads_embeddings: ClassVar[bool] = True

    def __init__(self, *, weight: float, eps: float, noise: Noise, same_dropout: bool) -> None:
        self.weight = weight
        self.eps = eps
        self.noise = noise
        self.same_dropout = same_dropout

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "weight": at_least(0),
            "eps": above(0),
            "noise": one_of(*NOISES),
            "same_dropout": FLAG,
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        return rounding_problem(cfg, {"technique.r3f.eps": self.eps}) if self.same_dropout else []

    def wrap_step(self, step: Step, built: Built) -> Step:
        if self.is_neutral():
            return step

        def smoothed(batch: Batch) -> StepOutput:
            device = device_of(batch)
            z = self.eps * noise(built.model, batch, self.noise, "r3f", "noise")
            start = torch_streams(device)
            clean = step(batch)
            dropout = (
                replay_dropout_stream(start, device)
                if self.same_dropout
                else fork_dropout_stream(device, "r3f", "dropout")
            )
            with dropout, perturbed(built.model, z):
                noisy = step(batch)
            apart = divergence(clean.logits, noisy.logits, batch["labels"])
            return StepOutput(clean.loss + self.weight * apart, clean.logits)

        return smoothed

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {} if self.is_neutral() else extra_forwards(trained)
