"""Mixout: at every step, each weight is put back to its pretrained value with probability p.

Idea      Dropout regularises towards zero; for a pretrained network the point to stay close to is
          the checkpoint, so that is what dropped weights return to.
Formula   W' = u + M (W - u) / (1 - p), M ~ Bernoulli(1 - p), u the checkpoint's weight. This is
          ((1 - M) u + M W - p u) / (1 - p) in another order: exactly u where W = u. E[W'] = W, and
          the gradient of W is M / (1 - p) times that of W'. Dropout is the case u = 0.
Source    Lee, Cho & Kang 2020 (ICLR, arXiv 1909.11299); the formula is the one of their code.
Settings  Lee et al.: p 0.7, 0.8, 0.9 in place of dropout. Zhang et al. 2021, Du & Nguyen 2023: 0.1.
Where     Weights (never biases) of the linear layers that train and have a pretrained value: not
          the head (nor is it in Lee et al.: dropout there), not what `reinit` made anew, not what
          is frozen. Zhang et al. and Du & Nguyen mix the head with its random start. The gradient
          is written by hand in the code of all three, and lacks the 1 / (1 - p).
Unit      `neuron` draws one decision per input neuron of a layer, for all its outputs, as the
          public code does; `weight` draws every entry, as the formula reads.
Dropout   `keep_dropout: false` takes dropout out of the embeddings and blocks, where mixout stands
          in its place; above them, where there is nothing to mix with, it stays.
Draws     Keyed by (dropout seed, weight, step, pass): the dropout of the head is the baseline's.
          Passes of one step that drop the same units have the same masks (SAM, adversarial steps,
          which compare or repeat one function), those that drop others have others (R-Drop).
Cost      A copy of the mixed weights; as many random numbers per forward pass as there are mixed
          weights (`weight`) or their input neurons (`neuron`). No extra passes.
Not with  Nothing: other techniques see a layer whose training forward is noisy. Where `train_only`
          lets no matrix train there is nothing to mix: what is left is to take dropout out.
Against   Zhang et al. 2021, Table 2: with bias-corrected Adam RTE 71.3 +- 1.4 against 69.5 +- 2.5,
          but CoLA 61.6 +- 1.7 against 63.0 +- 1.5. Mosbach et al. 2021 find that it does not cure
          failed runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import FLAG, Rule, one_of, within
from bluestab.core.seeding import Seeds, stream_seed, torch_streams
from bluestab.core.types import ModelFacts, Step
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique, before_each_step
from bluestab.techniques.packing import Packable, Siblings
from bluestab.techniques.parameters import pretrained

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer
    from torch import nn

UNITS = ("neuron", "weight")


def keep_mask(
    shape: tuple[int, ...] | torch.Size, p: float, unit: str, random: torch.Generator
) -> torch.Tensor:
    """Ones with probability 1 - p, else zeros: (out, in) or, per input neuron, (1, in)."""
    import torch

    drawn = (1, shape[1]) if unit == "neuron" else tuple(shape)
    return torch.empty(drawn, device=random.device).bernoulli_(1.0 - p, generator=random)


def mixed(weight: torch.Tensor, anchor: torch.Tensor, keep: torch.Tensor, p: float) -> torch.Tensor:
    """`weight` where `keep` is 1, `anchor` where it is 0, scaled so that the mean is `weight`.

    weight, anchor  (out, in), as is what it gives
    keep            (out, in), or (1, in) for whole input neurons
    """
    return anchor + (weight - anchor) * (keep / (1.0 - p))


def without_dropout(model: nn.Module, paths: list[str]) -> list[str]:
    """Switch off all dropout inside these modules; the paths of what was on."""
    from torch import nn

    off = []
    for top in paths:
        for path, module in model.get_submodule(top).named_modules(prefix=top):
            if isinstance(module, nn.Dropout) and module.p > 0:
                module.p = 0.0
                off.append(path)
            share = getattr(module, "attention_dropout", 0.0)
            if isinstance(share, float) and share:  # ModernBERT's, inside the kernel
                module.attention_dropout = 0.0
    return off


def _mixing(
    siblings: Sequence[Mixout], name: str, network: Siblings, anchor: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Stacked weights (S, out, in) of a layer -> what each sibling uses of its own, (S, out, in);
    `anchor` is (out, in)."""
    import torch

    scale = torch.tensor([1.0 - sibling.p for sibling in siblings]).view(-1, 1, 1)  # (S, 1, 1)
    for sibling in siblings:
        sibling._mixed.add(name)

    points: dict[torch.device, torch.Tensor] = {}

    def used(weight: torch.Tensor) -> torch.Tensor:
        point = points.setdefault(weight.device, anchor.to(weight.device))
        random = torch.Generator(weight.device)
        kept = []
        for one in siblings:
            random.manual_seed(
                stream_seed(one._seed, "mixout", name, one._step, network.pass_number())
            )
            kept.append(keep_mask(weight.shape[1:], one.p, one.unit, random))
        return point + (weight - point) * (torch.stack(kept) / scale.to(weight.device))

    return used


class Mixout(Packable, Technique):
    """p: probability in [0, 1), 0 is off; unit: neuron or weight; keep_dropout: as well."""

    neutral: ClassVar[Mapping[str, Any]] = {"p": 0.0}
    scalars: ClassVar[frozenset[str]] = frozenset({"p"})

    def __init__(self, *, p: float, unit: str, keep_dropout: bool) -> None:
        self.p = p
        self.unit = unit
        self.keep_dropout = keep_dropout

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "p": within("[0, 1)"),
            "unit": one_of(*UNITS),
            "keep_dropout": FLAG,
        }

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        self._seed, self._step = seeds.dropout, 0
        self._passes: dict[bytes, int] = {}
        self._pass = 0
        self._mixed: set[str] = set()
        self._off: list[str] = []
        if not self.is_neutral() and not self.keep_dropout:
            inside = [path for paths in built.layers.modules.values() for path in paths]
            self._off = without_dropout(built.model, inside)
        return built

    def one_device(self) -> str:
        return "" if self.is_neutral() else "the masks of a step are numbered by one process"

    def wrap_step(self, step: Step, built: Built) -> Step:
        """Not the step is wrapped, but what it calls: by now all is known of fresh and frozen."""
        from torch import nn

        if self.is_neutral():
            return step
        built.model.register_forward_pre_hook(self._begin_pass)
        anchored = set(pretrained(built))
        for path, module in built.model.named_modules():
            name = f"{path}.weight"
            if type(module) is nn.Linear and name in anchored and module.weight.requires_grad:
                self._mix(name, module, built.reference[name].to(module.weight.device))
        return step

    def _begin_pass(self, model: nn.Module, inputs: Any) -> None:
        """Which pass of the step this is: where the streams of dropout stand tells them apart."""
        if model.training:
            states = torch_streams(next(model.parameters()).device).values()
            start = b"".join(state.numpy().tobytes() for state in states)
            self._pass = self._passes.setdefault(start, len(self._passes))

    def _mix(self, name: str, module: nn.Linear, anchor: torch.Tensor) -> None:
        """Give a layer another forward for training; evaluation goes on with the bare weight."""
        import torch

        random, bare = torch.Generator(anchor.device), module.forward

        def forward(features: torch.Tensor) -> torch.Tensor:
            if not module.training:
                return bare(features)
            random.manual_seed(stream_seed(self._seed, "mixout", name, self._step, self._pass))
            keep = keep_mask(anchor.shape, self.p, self.unit, random)
            self._mixed.add(name)
            weight = mixed(module.weight, anchor, keep, self.p)
            return torch.nn.functional.linear(features, weight, module.bias)

        module.forward = forward  # type: ignore[method-assign, assignment]

    @classmethod
    def pack_step(
        cls, siblings: Sequence[Mixout], step: Step, network: Siblings, built: Sequence[Built]
    ) -> Step:
        """The masks are those that each run has by itself."""
        if siblings[0].is_neutral():
            return step
        anchored = set(pretrained(built[0]))
        for path, layer in network.linears.items():
            name = f"{path}.weight"
            if name in anchored:
                layer.used = _mixing(siblings, name, network, built[0].reference[name])
        return step

    def callbacks(self, built: Built) -> list[Callback]:
        def begin(trainer: Trainer) -> None:
            self._step = trainer.global_step
            self._passes.clear()

        return [before_each_step(begin)]

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if not self._mixed and not self._off:
            return {}
        return {"mixed_tensors": len(self._mixed), "dropout_removed": len(self._off)}
