"""Invariant: the vector that the head reads is to say little of the group an item comes from.

Idea      A hospital, an annotator or a corpus leaves traces in its texts, and a network that leans
          on them fails where these are others. What a critic can find of them costs.
Formula   L = task + weight * D, mean over the items of a batch. z: what the last linear layer of
          the head reads (words: its mean over the real word pieces); s: the group; s': that of
          another training item, drawn anew in every step.
          adversarial    D = H(s) - CE(c(z), s), c a classifier of groups: a lower bound of the
                         mutual information of z and s (H: entropy of the training groups)
          density_ratio  D = f(z, s), f the log density ratio of pairs (z, s) over (z, s') from
                         logistic regression: the mutual information itself, as f estimates it
          wasserstein    D = f(z, s) - f(z, s'), f of spectral norm 1 per layer, as large as it gets
          After every step the critic is trained once on what the step saw, z held fixed.
Source    Smedemark-Margulies et al. 2023 (arXiv 2310.08762), for subjects in EEG: density ratio
          (theirs: "wyner") and Wasserstein against an adversarial classifier.
Settings  Theirs: weights of 0.01 to 100, critics of three layers of 128, one critic step per step,
          AdamW 1e-4 with batches of 1024. Here the critic's rate is larger: batches are smaller.
Groups    Are those of `task.group`. Where parts are drawn by us, a group stays in one of them:
          give files for each part, or have more groups than parts.
Micro     With trainer.micro_batch, D is weighted over its parts as the loss is.
Cost      A small critic; no pass of the encoder more.
Not with  Tasks whose training items have no groups, or all the same; several devices. It does not
          train in packs.
Against   The penalty knows nothing of the labels: where groups differ in how frequent a label is,
          it also takes away what tells labels apart. Theirs are EEG data; no result with encoders
          of text is known, and what it does for unseen groups must be measured on some.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, above, at_least, one_of, whole
from bluestab.core.seeding import Seeds, generator, stream_seed
from bluestab.core.types import Batch, Example, ModelFacts, Step, StepOutput
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique, before_each_step

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer
    from torch import nn

PENALTIES = ("adversarial", "density_ratio", "wasserstein")
HIDDEN, HIDDEN_LAYERS = 128, 3


def make_critic(penalty: str, size: int, n_groups: int, seed: int) -> nn.Module:
    """(N, size) -> logits of groups; other penalties: (N, size + groups) -> (N, 1), of a vector
    with its group beside it as 0 and 1."""
    import torch
    from torch import nn
    from torch.nn.utils.parametrizations import spectral_norm

    classifies = penalty == "adversarial"
    widths = [size if classifies else size + n_groups, *[HIDDEN] * HIDDEN_LAYERS]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linears: list[nn.Module] = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        linears.append(nn.Linear(HIDDEN, n_groups if classifies else 1))
        if penalty == "wasserstein":
            linears = [spectral_norm(linear) for linear in linears]
    layers = [layer for linear in linears for layer in (linear, nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def last_linear(built: Built) -> nn.Module:
    """The layer of the head that gives the logits."""
    from torch import nn

    return [
        module
        for path, module in built.model.named_modules()
        if type(module) is nn.Linear and f"{path}.weight" in built.layers.head
    ][-1]


class Invariant(Technique):
    """weight: >= 0, 0 switches it off; penalty: adversarial, density_ratio or wasserstein;
    critic_lr: > 0; critic_steps: per step, >= 1."""

    neutral: ClassVar[Mapping[str, Any]] = {"weight": 0.0}
    reads_groups: ClassVar[bool] = True

    def __init__(self, *, weight: float, penalty: str, critic_lr: float, critic_steps: int) -> None:
        self.weight = weight
        self.penalty = penalty
        self.critic_lr = critic_lr
        self.critic_steps = critic_steps

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "weight": at_least(0),
            "penalty": one_of(*PENALTIES),
            "critic_lr": above(0),
            "critic_steps": whole(1),
        }

    def one_device(self) -> str:
        return "" if self.is_neutral() else "each of them would train a critic of its own"

    def edit_data(self, train: Sequence[Example], seeds: Seeds) -> Sequence[Example]:
        self._seeds, self._of_items = seeds, [str(example.group) for example in train]
        self._names = sorted(set(self._of_items))
        shares = [n / len(train) for n in Counter(self._of_items).values()]
        self._entropy = -sum(share * math.log(share) for share in shares)
        return train

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The same optimizer; after each of its steps the critic learns from what was seen."""
        import torch

        if self.is_neutral():
            return optimizer
        layer: Any = last_linear(built)
        device = next(built.model.parameters()).device
        number = {name: n for n, name in enumerate(self._names)}
        self._groups = torch.tensor([number[name] for name in self._of_items], device=device)
        self._others = self._groups
        seed = stream_seed(self._seeds.init, "invariant")
        self._critic = make_critic(self.penalty, layer.in_features, len(number), seed)
        self._critic.to(device, layer.weight.dtype)
        self._adam = torch.optim.AdamW(self._critic.parameters(), lr=self.critic_lr)
        self._read: torch.Tensor | None = None
        self._seen: dict[tuple[int, ...], tuple[torch.Tensor, ...]] = {}
        layer.register_forward_pre_hook(self._note)
        optimizer.register_step_post_hook(lambda *_: self._train_critic())
        return optimizer

    def _note(self, layer: nn.Module, inputs: Any) -> None:
        """Of a step, the last pass with a gradient: that of an earlier one may be used up."""
        import torch

        if layer.training and torch.is_grad_enabled():
            self._read = inputs[0]

    def wrap_step(self, step: Step, built: Built) -> Step:
        if self.is_neutral():
            return step

        def penalised(batch: Batch) -> StepOutput:
            out, items = step(batch), batch["items"]
            z = self._vectors(batch)
            s, other = self._groups[items], self._others[items]
            self._seen[tuple(items.tolist())] = (z.detach(), s, other)
            return StepOutput(out.loss + self.weight * self._dependence(z, s, other), out.logits)

        return penalised

    def _vectors(self, batch: Batch) -> torch.Tensor:
        """One vector per item, (B, H), in float32 at least."""
        import torch

        read, self._read = self._read, None
        assert read is not None, "a step makes a pass"
        read = read.to(torch.promote_types(read.dtype, torch.float32))
        if read.ndim == 2:
            return read
        real = batch["attention_mask"].unsqueeze(-1)  # (B, T, 1)
        read = read[:, : real.shape[1]]  # Longformer pads to its window
        mean: torch.Tensor = (read * real).sum(dim=1) / real.sum(dim=1)
        return mean

    def _pairs(self, z: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """What the critic says of (z, s), (B,)."""
        import torch

        beside = torch.nn.functional.one_hot(s, len(self._names)).to(z)
        return self._critic(torch.cat((z, beside), dim=1)).squeeze(1)  # type: ignore[no-any-return]

    def _dependence(self, z: torch.Tensor, s: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """D, mean over the items, with the critic as it is."""
        from torch.nn.functional import cross_entropy

        self._critic.eval().requires_grad_(False)
        if self.penalty == "adversarial":
            return self._entropy - cross_entropy(self._critic(z), s)
        if self.penalty == "density_ratio":
            return self._pairs(z, s).mean()
        return (self._pairs(z, s) - self._pairs(z, other)).mean()

    def _critic_loss(self, z: torch.Tensor, s: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import cross_entropy, softplus

        if self.penalty == "adversarial":
            return cross_entropy(self._critic(z), s)
        joint, apart = self._pairs(z, s), self._pairs(z, other)
        if self.penalty == "density_ratio":
            return (softplus(-joint) + softplus(apart)).mean()
        return (apart - joint).mean()

    def _train_critic(self) -> None:
        import torch

        if not self._seen:
            return
        z, s, other = (torch.cat(parts) for parts in zip(*self._seen.values(), strict=True))
        self._seen.clear()
        self._critic.train().requires_grad_(True)
        for _ in range(self.critic_steps):
            self._adam.zero_grad()
            with torch.enable_grad():
                loss: Any = self._critic_loss(z, s, other)
            loss.backward()
            self._adam.step()

    def callbacks(self, built: Built) -> list[Callback]:
        import torch

        def begin(trainer: Trainer) -> None:
            random = generator(self._seeds.dropout, "invariant", trainer.global_step)
            drawn = torch.randperm(len(self._of_items), generator=random)
            self._others = self._groups[drawn.to(self._groups.device)]

        return [] if self.is_neutral() else [before_each_step(begin)]

    def state_dict(self) -> dict[str, Any]:
        if self.is_neutral():
            return {}
        return {"critic": self._critic.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if not self.is_neutral():
            self._critic.load_state_dict(state["critic"])
            self._adam.load_state_dict(state["adam"])

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if self.is_neutral() or not trained.steps:
            return {}
        return {"groups": len(self._names), "penalty": self.penalty}
