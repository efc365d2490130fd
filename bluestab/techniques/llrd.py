"""LLRD: layer-wise learning-rate decay, smaller steps the closer a layer is to the input.

Idea      Lower layers hold general knowledge and need little change; the top adapts fast.
Formula   lr(depth) = lr * decay ** (L + 1 - depth): head and pooler 1, top block `decay`,
          embeddings decay ** (L + 1). This is the convention of Zhang et al. (`zhang`). ELECTRA's
          code (`electra`) skips a level: head 1, top block decay ** 2, embeddings decay ** (L + 2);
          its author calls that a small mistake. ULMFiT (`ulmfit`) has the levels of `zhang` and a
          fixed factor: every layer has the rate of the one above it divided by 2.6.
Source    Tinn et al. 2023, abstract: better for BERT-large and ELECTRA models. Clark et al. 2020
          (ELECTRA); Zhang et al. 2021 (ICLR, arXiv 2006.05987). Howard & Ruder 2018 (ULMFiT, arXiv
          1801.06146): discriminative fine-tuning.
Settings  ELECTRA: 0.8 small and base, 0.9 large. Zhang et al., Du & Nguyen 2023: 0.95. The factor
          of Tinn et al. is not in what we could read.
Cost      None.
Not with  Nothing: multipliers of several techniques multiply.
Against   With bias-corrected Adam, Zhang et al. (Table 2) see no gain over plain fine-tuning on
          BERT-large (RTE 69.7 +- 3.2 against 69.5 +- 2.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, one_of, within
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique
from bluestab.techniques.packing import Packable

if TYPE_CHECKING:
    from bluestab.models.param_plan import ParamPlan

SKIPPED_LEVELS = {"zhang": 0, "electra": 1, "ulmfit": 0}

ULMFIT = 1 / 2.6
"""Factor per level of the convention that has its own."""


def multiplier(depth: int, n_layers: int, decay: float | None, convention: str) -> float:
    """Learning-rate factor of a layer at `depth` in 0..n_layers+1; exactly 1 for the head."""
    distance = n_layers + 1 - depth
    factor = ULMFIT if decay is None else decay
    return float(factor ** (distance + SKIPPED_LEVELS[convention])) if distance else 1.0


class Llrd(Packable, Technique):
    """decay: factor per level in (0, 1], 1 switches it off; convention: zhang, electra, ulmfit."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"decay": 1.0}
    scalars: ClassVar[frozenset[str]] = frozenset({"decay", "convention"})

    def __init__(self, *, decay: float | None, convention: str) -> None:
        self.decay = decay
        self.convention = convention

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "decay": within("(0, 1]", null=True),
            "convention": one_of(*SKIPPED_LEVELS),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        if self.decay is None and self.convention != "ulmfit":
            return [
                f"technique.llrd.decay is None, but technique.llrd.convention={self.convention} "
                f"needs a number in (0, 1]"
            ]
        if self.decay is not None and self.convention == "ulmfit":
            return [
                f"technique.llrd.decay is {self.decay!r}, but technique.llrd.convention=ulmfit "
                f"divides by 2.6; say technique.llrd.decay=null"
            ]
        return []

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        layers = built.layers
        return plan.scaled(
            {
                name: multiplier(depth, layers.n_layers, self.decay, self.convention)
                for name, depth in layers.depth.items()
            }
        )

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        multipliers = {
            built.layers.depth[name]: scale for name, scale in sorted(trained.lr_scale.items())
        }
        if all(scale == 1.0 for scale in multipliers.values()):
            return {}
        return {
            "convention": self.convention,
            "lr_multiplier_by_depth": {str(d): multipliers[d] for d in sorted(multipliers)},
        }
