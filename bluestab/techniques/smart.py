"""SMART: the worst small change of the word embeddings shall not change the answer.

Idea      A network that is smooth around its training inputs cannot fit few examples by steep
          detours; a proximal step keeps it from running away from where it just was.
Formula   loss = l(f(e)) + weight * mean over items of max over |d|_inf <= eps of D(f(e), f(e + d))
          + proximal * mean of D(f(e), g(e)), D the symmetric KL; regression: squared difference;
          multi-label: the KLs of each label, summed; tagging: mean over labelled word pieces.
          The maximum is sought from d ~ N(0, start_noise ** 2) by `steps` times
          d <- clip(d + step_size * D' / |D'|_inf, -eps, eps), the norm taken per item.
          g is the network with the running mean m of the weights, m <- momentum * m +
          (1 - momentum) * w after every optimizer step; m starts where training does.
Source    Jiang et al. 2020 (ACL, arXiv 1911.03437), algorithm 1.
Settings  Paper: eps 1e-5, start_noise 1e-5, step_size 1e-3, steps 1, weight 1, 3 or 5, proximal 1,
          momentum 0.99 in the first tenth of the steps and 0.999 after it (here: one number).
Code      The authors' own (mt-dnn) seeks the maximum of the KL in one direction, does not project,
          and has no proximal term. An older version normalises the gradient per word piece and goes
          step_size along it; the present one normalises the sum of noise and step instead (its
          issues 214 and 224), so that the largest entry of a word piece is about 1 whatever
          step_size. This is the paper.
Dropout   All passes of a step drop the same units, so that D sees the perturbation alone. At d = 0
          the gradient of D is 0: that is why the search starts from noise.
Precision Divergences and d are float32 whatever the precision, but bfloat16 has three digits, and
          below 1e-2 a perturbation drowns in the rounding of the layers (figures: see `r3f`), as
          does the direction of the search: eps, step_size or start_noise below that is refused.
Seeds     The noise comes from a stream named after the step, the micro-batch and this technique.
Cost      2 + steps forward passes, 2 + steps backward passes of which `steps` skip the gradients of
          weights, twice the memory for activations; with `proximal` one forward pass and a copy of
          the weights more. Techniques listed after this one run in all passes.
Not with  Nothing.
Against   Without projection, mt-dnn's perturbation is up to a hundred times the paper's in its
          older version (step_size 1e-3 by default, 1e-5 from its command line) and 1e5 times in its
          present one: which of them the published results rest on is not known to us. An eps of
          1e-5 changes the answer very little, see Precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, above, at_least, whole, within
from bluestab.core.seeding import torch_streams
from bluestab.core.types import Batch, ModelFacts, Step, StepOutput
from bluestab.models.built import Built, Trained
from bluestab.models.divergences import divergence
from bluestab.models.passes import (
    device_of,
    gradients,
    noise,
    perturbed,
    replay_dropout_stream,
    rounding_problem,
)
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import extra_forwards

if TYPE_CHECKING:
    import torch


def ascended(
    delta: torch.Tensor, gradient: torch.Tensor, step_size: float, eps: float
) -> torch.Tensor:
    """One step of the search: along the gradient, scaled to 1 by the largest entry of each item,
    back into the cube of half-width eps. Shapes (B, T, E); a gradient of 0 moves nothing."""
    largest = gradient.abs().amax(dim=(1, 2), keepdim=True)
    direction = gradient / largest.clamp_min(_smallest(gradient))
    return (delta + step_size * direction).clamp(-eps, eps)


def _smallest(like: torch.Tensor) -> float:
    import torch

    return torch.finfo(like.dtype).tiny


def averaged(
    mean: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], momentum: float
) -> dict[str, torch.Tensor]:
    """momentum * mean + (1 - momentum) * weights, name by name."""
    return {name: momentum * m + (1 - momentum) * weights[name] for name, m in mean.items()}


@contextmanager
def holding(parameters: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> Iterator[None]:
    """The parameters have other values inside; what autograd has saved of them is not touched."""
    import torch

    own = [p.data for p in parameters]
    torch.clear_autocast_cache()  # else a pass with gradients could meet copies of other weights
    try:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value
        yield
    finally:
        for parameter, value in zip(parameters, own, strict=True):
            parameter.data = value
        torch.clear_autocast_cache()


class Smart(Technique):
    """weight: of the worst divergence, > 0; steps: of the search, >= 1; eps, step_size,
    start_noise: > 0, in units of the embeddings; proximal: weight of the term towards the mean
    weights, 0 leaves it out; momentum: of that mean, in [0, 1)."""

    embeddings_by_row: ClassVar[bool] = True

    SIZES = ("eps", "step_size", "start_noise")

    reads_embeddings: ClassVar[bool] = True

    def __init__(
        self,
        *,
        weight: float,
        steps: int,
        eps: float,
        step_size: float,
        start_noise: float,
        proximal: float,
        momentum: float,
    ) -> None:
        self.weight = weight
        self.steps = steps
        self.eps = eps
        self.step_size = step_size
        self.start_noise = start_noise
        self.proximal = proximal
        self.momentum = momentum
        self._moving: dict[str, torch.Tensor] = {}
        self._mean: dict[str, torch.Tensor] = {}

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "weight": above(0),
            "steps": whole(1),
            "eps": above(0),
            "step_size": above(0),
            "start_noise": above(0),
            "proximal": at_least(0),
            "momentum": within("[0, 1)"),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        sizes = {f"technique.smart.{knob}": getattr(self, knob) for knob in self.SIZES}
        return rounding_problem(cfg, sizes)

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The same optimizer; after each of its steps the mean of the weights moves."""
        if not self.proximal:
            return optimizer
        # taken down here: later in a run some of them may be waiting to thaw
        self._moving = {n: p for n, p in built.model.named_parameters() if p.requires_grad}
        self._mean = {name: p.detach().clone() for name, p in self._moving.items()}

        def follow(*_: Any) -> None:
            weights = {name: p.detach() for name, p in self._moving.items()}
            self._mean = averaged(self._mean, weights, self.momentum)

        optimizer.register_step_post_hook(follow)
        return optimizer

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self._mean} if self.proximal else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mean = {
            name: value.to(self._mean[name].device) for name, value in state.get("mean", {}).items()
        }

    def wrap_step(self, step: Step, built: Built) -> Step:
        def smoothed(batch: Batch) -> StepOutput:
            device, labels = device_of(batch), batch["labels"]
            delta = self.start_noise * noise(built.model, batch, "normal", "smart", "noise")
            start = torch_streams(device)
            clean = step(batch)
            answer = clean.logits.detach()
            for _ in range(self.steps):
                delta.requires_grad_()
                with replay_dropout_stream(start, device), perturbed(built.model, delta):
                    apart = divergence(answer, step(batch).logits, labels)
                (gradient,) = gradients(apart, [delta])
                assert gradient is not None
                delta = ascended(delta.detach(), gradient, self.step_size, self.eps)
            with replay_dropout_stream(start, device), perturbed(built.model, delta):
                worst = step(batch).logits
            loss = clean.loss + self.weight * divergence(clean.logits, worst, labels)
            if self.proximal:
                before = self._before(step, batch, start)
                loss = loss + self.proximal * divergence(clean.logits, before, labels)
            return StepOutput(loss, clean.logits)

        return smoothed

    def _before(self, step: Step, batch: Batch, start: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Logits of the network with the mean weights, without a gradient."""
        import torch

        device, own = device_of(batch), [*self._moving.values()]
        means = [self._mean[name] for name in self._moving]
        with torch.no_grad(), replay_dropout_stream(start, device), holding(own, means):
            return step(batch).logits

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return extra_forwards(trained)
