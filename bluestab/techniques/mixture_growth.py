"""MixtureGrowth: two networks of half the width, made of templates, grow into one, and train on.

Idea      A wide network that is put together from two trained halves costs less than one that is
          wide from the start: what connects the halves is mixed from what they have learnt.
Formula   Each linear layer is [[W0, W2], [W3, W1]], each block c_1 T_1 + c_2 T_2: W0 and W2 of one
          pair of templates, W1 and W3 of another. Of T steps, G = `grow_at` T rounded, the first
          G // 2 train member 0 (W0), those up to G member 1 (W1), each half as wide in all layers.
          At G the coefficients of W2 and W3 are set, and all of it trains. Embeddings, norms and
          biases of the members stand side by side; logits are the sum of what both halves give,
          with one bias. Each of the three parts has a fresh optimizer, and the run's schedule with
          its warm-up squeezed into its steps.
Growth    orthogonal: the direction that earlier coefficients represent least, of length `scale`:
          the last right singular vector of c0, c1 for W2, of c0, c1 and that for W3. copy: those of
          W0 and W1, plus one vector, uniform in (0, 1) and stretched to length `scale`. random:
          uniform in (0, `scale`). zero: W2 = W3 = 0, two members beside each other.
Source    Pham et al. 2024 (MixtureGrowth, WACV, arXiv 2311.04251) and its code.
Settings  The code, on CIFAR: 200 epochs each for the members, 40 grown; two templates; orthogonal.
Ours      Templates are the quarters of the matrix that the seed draws, and the coefficients of W0
          and W1 have length 1, so that a member begins as such a network does; theirs are
          Kaiming-normal. Theirs regenerates W3 alone. Weight decay acts on templates.
Applies   To pretraining (task=mlm) from nothing: a pretrained matrix is no mixture of templates.
          Heads of attention are halved in number, not in size.
Scores    Before G are those of the member that trains: the best weights are chosen after it.
Kept      Kept weights are the grown network, dense, under the names plain transformers knows.
Cost      A step of a member has a quarter of the products in the blocks, half of those in the
          output; when grown, a mixture per layer more than plain training.
Not with  Other techniques, pretrained weights, an early end (`optim.patience`, `stop_degenerate`).
Against   Their results are for images. The growth changes the function: logits of two members add
          up, and norms see both; steps after it have to repair that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import ConfigError
from bluestab.core.rules import Rule, above, one_of, within
from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import MASKED, ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.models.growth import FAMILIES
from bluestab.techniques.base import Technique, before_each_step, output_of

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer

COEFFICIENTS = ("orthogonal", "copy", "random", "zero")
SIZES = ("hidden_size", "embedding_size", "intermediate_size", "num_attention_heads")


def stages(total: int, grow_at: float) -> tuple[int, int, int]:
    """First steps (0-based) of member 0, of member 1 and of the grown network; each trains one step
    at least. Raises ConfigError for fewer than three steps."""
    if total < 3:
        raise ConfigError(
            f"technique mixture_growth trains two members and the grown network, and the run has "
            f"{total} steps: three at least, say optim.steps=N"
        )
    grown = min(max(2, round(grow_at * total)), total - 1)
    return 0, grown // 2, grown


def first_coefficients(random: torch.Generator) -> torch.Tensor:
    """(4, 2): rows of a random matrix with orthonormal columns, stretched to length 1."""
    import torch

    drawn, _ = torch.linalg.qr(torch.randn((4, 2), generator=random, dtype=torch.float64))
    rows: torch.Tensor = drawn / drawn.norm(dim=1, keepdim=True)
    return rows.float()


def new_coefficients(
    first: torch.Tensor, second: torch.Tensor, kind: str, scale: float, random: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients (2,) of W2 and W3, from those of W0 and W1."""
    import torch

    if kind == "zero":
        return torch.zeros_like(first), torch.zeros_like(second)
    if kind == "orthogonal":
        right = scale * least_represented(torch.stack([first, second]))
        return right, scale * least_represented(torch.stack([first, second, right]))
    drawn = torch.rand((2, *first.shape), generator=random).to(first)
    if kind == "random":
        return scale * drawn[0], scale * drawn[1]
    noise = scale * drawn[0] / drawn[0].norm()
    return first + noise, second + noise


def least_represented(vectors: torch.Tensor) -> torch.Tensor:
    """(n, K) -> the unit vector (K,) that the sum of the squares of their products with is least;
    its largest entry is positive, for the sign of a singular vector is the library's choice."""
    import torch

    *_, right = torch.linalg.svd(vectors.detach().cpu().double())
    found: torch.Tensor = right[-1] * right[-1][right[-1].abs().argmax()].sign()
    return found.to(vectors)


class MixtureGrowth(Technique):
    """grow_at: share of the steps that train the members, in (0, 1); coefficients: how those of the
    new blocks begin; scale: their length, > 0."""

    pretrains: ClassVar[bool] = True

    def __init__(self, *, grow_at: float, coefficients: str, scale: float) -> None:
        self.grow_at = grow_at
        self.coefficients = coefficients
        self.scale = scale

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "grow_at": within("(0, 1)"),
            "coefficients": one_of(*COEFFICIENTS),
            "scale": above(0),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        node = cfg["model"]
        given = [n for n in ("path", "hub", "package", "init_from") if node.get(n) is not None]
        if given:
            return [
                f"technique mixture_growth makes a network of templates from nothing, and "
                f"{model.name} has pretrained weights (model.{given[0]}), which are no templates; "
                "say model=bert_mini or another with random weights"
            ]
        if getattr(output_of(cfg["task"]), "head", None) != MASKED:
            return [
                "technique mixture_growth grows a network while it is pretrained from nothing; say "
                "task=mlm, and fine-tune from that run without it (model.init_from=KEY)"
            ]
        if model.family not in FAMILIES:
            return [
                f"technique mixture_growth halves networks of family {', '.join(FAMILIES)}, and "
                f"{model.name} is of family {model.family}"
            ]
        problems = [
            f"techniques mixture_growth and {name}: a network that grows in the middle of a run is "
            "trained by itself; choose one"
            for name in cfg["technique"]
            if name != "mixture_growth"
        ]
        problems += [
            f"model.config.{size} is {n}, of which technique mixture_growth cannot take the half"
            for size in SIZES
            if (n := (node["config"] or {}).get(size)) is not None and n % 2
        ]
        problems += [
            f"{knob} may end the run before technique mixture_growth has grown the network; say "
            f"{knob}={off}"
            for knob, off, on in (
                ("optim.patience", "null", cfg["optim"].get("patience") is not None),
                ("stop_degenerate", "false", bool(cfg.get("stop_degenerate"))),
            )
            if on
        ]
        if (steps := cfg["optim"]["steps"]) is not None and steps < 3:
            problems.append(
                f"optim.steps is {steps}, and technique mixture_growth trains two members and the "
                "grown network: expected 3 or more"
            )
        return problems

    def one_device(self) -> str:
        return "its members have not been tried on several"

    def selects_from(self, total_steps: int) -> int:
        return stages(total_steps, self.grow_at)[2] + 1

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        from bluestab.models.templates import halved, plain_name, whole

        self._seed = seeds.init
        self._part = halved(
            built.model,
            lambda path: first_coefficients(generator(seeds.init, "mixture_growth", path)),
        )
        parameters = dict(built.model.named_parameters())
        old = built.layers
        depth = {name: old.depth[plain_name(name)] for name in parameters}
        head = frozenset(name for name in parameters if plain_name(name) in old.head)
        return replace(
            built,
            layers=replace(old, depth=MappingProxyType(depth), head=head),
            fresh=frozenset(parameters),
            reference={name: p.detach().clone() for name, p in parameters.items()},
            plain=lambda weights: built.plain(whole(weights)),
        )

    def callbacks(self, built: Built) -> list[Callback]:
        """All follows from the number of the step: a resumed run needs no state."""
        self._grew_at: int | None = None

        def begin(trainer: Trainer) -> None:
            step, total = trainer.global_step, trainer.max_steps
            starts = stages(total, self.grow_at)
            at = max(n for n, start in enumerate(starts) if start <= step)
            self._part.member = (0, 1, None)[at]
            if step in starts:
                trainer.optimizers[0].state.clear()
            if step == starts[2]:
                self._grow(built)
            if at == 2:
                self._grew_at = starts[2]
            length = (*starts, total)[at + 1] - starts[at]
            schedule: Any = trainer.lr_scheduler_configs[0].scheduler
            factor = schedule.lr_lambdas[0]((step - starts[at]) * total / length)
            for group in trainer.optimizers[0].param_groups:
                group["lr"] = group["initial_lr"] * factor

        return [before_each_step(begin)]

    def _grow(self, built: Built) -> None:
        """Give W2 and W3 of every linear layer their coefficients."""
        import torch

        from bluestab.models.templates import TemplateLinear

        with torch.no_grad():
            for path, layer in built.model.named_modules():
                if isinstance(layer, TemplateLinear):
                    first, second, *others = layer.coefficients
                    random = generator(self._seed, "mixture_growth", "growth", path)
                    new = new_coefficients(first, second, self.coefficients, self.scale, random)
                    for parameter, value in zip(others, new, strict=True):
                        parameter.copy_(value)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        """When it grew, and from how many parameters to how many."""
        from bluestab.models.templates import of_member

        if self._grew_at is None:
            return {}
        sizes = {name: value.numel() for name, value in built.reference.items()}
        return {
            "grew_at": self._grew_at,
            "parameters_before": sum(n for name, n in sizes.items() if of_member(name, 0)),
            "parameters_after": sum(sizes.values()),
        }
