"""Freeze: embeddings and the lower blocks keep their pretrained weights.

Idea      Fewer weights to move, and the general lower layers stay intact.
Formula   depth(parameter) <= k  ->  not trained. k = 0: embeddings only; k = L: pooler and head
          alone are trained; k = null: nothing is frozen.
Source    Tinn et al. 2023 (Patterns 4(4), 100729), abstract: helps BERT-base models. Lee, Tang &
          Lin 2019 (arXiv 1911.03090): the last quarter of the layers alone keeps about 90 % of the
          full quality on most tasks.
Settings  The depth Tinn et al. used is not in what we could read; the default here, 3, is ours:
          half of MiniLM's blocks, a quarter of a base model's.
Dropout   With `eval_mode` it is off inside the frozen part, whose output then is a constant of the
          data. A frozen part that still drops units adds noise that nothing can adapt to.
Cost      Less than plain training: nothing flows back through the frozen part if the embeddings are
          in it, and it has no gradients and no optimizer state.
Not with  Techniques that give a frozen layer new random values (`reinit` reaching below k).
Against   90 % of the quality is 10 % lost. That training all layers "does not always help" (SST-2)
          is what surprised Lee et al., not their rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import FLAG, Rule
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import frozen
from bluestab.techniques.packing import Packable
from bluestab.techniques.parameters import blocks, pin_eval

if TYPE_CHECKING:
    from bluestab.core.seeding import Seeds
    from bluestab.models.param_plan import ParamPlan


class Freeze(Packable, Technique):
    """depth: last fixed block (null: none); embeddings: fixed too; eval_mode: without dropout."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"depth": None}

    def __init__(self, *, depth: int | None, embeddings: bool, eval_mode: bool) -> None:
        self.depth = depth
        self.embeddings = embeddings
        self.eval_mode = eval_mode

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "depth": blocks(0, model, null=True),
            "embeddings": FLAG,
            "eval_mode": FLAG,
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        if self.depth == 0 and self.embeddings is False:
            return [
                "technique.freeze.depth=0 freezes the embeddings only, and "
                "technique.freeze.embeddings=false leaves them out: nothing would be frozen"
            ]
        return []

    def _depths(self) -> range:
        if self.depth is None:
            return range(0)
        return range(0 if self.embeddings else 1, self.depth + 1)

    def frozen_depths(self, model: ModelFacts) -> frozenset[int]:
        return frozenset(self._depths())

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        if self.eval_mode:
            for depth in self._depths():
                for path in built.layers.modules[depth]:
                    pin_eval(built.model.get_submodule(path))
        return built

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        return plan.frozen(built.layers.names(*self._depths()))

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        found, depth = frozen(built, trained), built.layers.depth
        if not found:
            return {}
        return {
            **found,
            "frozen_depths": sorted(
                {d for name, d in depth.items() if name not in trained.lr_scale}
            ),
            "without_dropout": list(trained.pinned),
        }
