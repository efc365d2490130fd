"""Thaw: layers begin frozen and join the training from the top down (gradual unfreezing).

Idea      A random head sends large, senseless gradients into the pretrained layers; let it settle
          first, then open the network layer by layer.
Formula   Below the top there are L + 1 layers: blocks L..1, then the embeddings. With P phases, the
          layer of rank r (0 the top block, L the embeddings) belongs to phase
          j = floor(r P / (L + 1)) and trains from step ceil(share T (j + 1) / P) on, of T steps.
          Pooler, final norm, head and re-initialised layers train from the start. One phase is
          linear probing, then fine-tuning; `phases: null` opens one layer at a time.
Source    Howard & Ruder 2018 (ULMFiT, arXiv 1801.06146): one more layer per epoch. Kumar et al.
          2022 (arXiv 2202.10054): linear probing, then fine-tuning, for images unlike those of
          training.
Settings  Howard & Ruder: an epoch per layer of a network of few. A BERT in a run of some epochs
          would never train as a whole, so here the steps of `share` are divided evenly.
Optimizer Layers that are frozen have no gradient, so AdamW neither moves nor decays them, and its
          moments and bias correction begin when they thaw. The learning rate is that of the run:
          what thaws late meets a rate that has been warmed up, and may have begun to fall.
Dropout   Stays on in frozen layers.
Cost      Less than plain training: nothing flows back below the lowest open layer.
Not with  Early stopping (AllenNLP's advice). What `freeze` freezes stays so.
Against   A maintainer of transformers found no gain from it with discriminative rates (issue #674).
          AllenNLP's version opened three layers where two were meant (PR #4443).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, within
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique, before_each_step
from bluestab.techniques.parameters import blocks

if TYPE_CHECKING:
    from pytorch_lightning import Callback, Trainer


def opens_at(
    depth: int, n_layers: int, *, share: float, phases: int | None, total_steps: int
) -> int:
    """First optimizer step (0-based) at which the layer at `depth` in 0..n_layers+1 trains."""
    if depth > n_layers:
        return 0
    n_phases = n_layers + 1 if phases is None else phases
    phase = (n_layers - depth) * n_phases // (n_layers + 1)
    return math.ceil(round(share * total_steps * (phase + 1) / n_phases, 9))


class Thaw(Technique):
    """share: of the steps until all is open, 0 switches it off; phases: openings (null: layers)."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"share": 0.0}

    def __init__(self, *, share: float, phases: int | None) -> None:
        self.share = share
        self.phases = phases

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "share": within("[0, 1)"),
            "phases": blocks(1, model, null=True, high=model.layers + 1),
        }

    def callbacks(self, built: Built) -> list[Callback]:
        """Gradients are switched on by progress alone, so that a resumed run needs no state."""
        self._trains_from: dict[str, int] = {}
        if self.is_neutral():
            return []
        layers = built.layers
        ever = {n: p for n, p in built.model.named_parameters() if p.requires_grad}

        def begin(trainer: Trainer) -> None:
            step, total = trainer.global_step, trainer.max_steps
            for name, parameter in ever.items():
                depth = layers.depth[name]
                start = 0
                if name not in built.fresh:
                    start = opens_at(
                        depth,
                        layers.n_layers,
                        share=self.share,
                        phases=self.phases,
                        total_steps=total,
                    )
                parameter.requires_grad_(step >= start)
                if step >= start:
                    self._trains_from.setdefault(str(depth), step)

        return [before_each_step(begin)]

    def state_dict(self) -> dict[str, Any]:
        return dict(self._trains_from)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._trains_from.update(state)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if not any(self._trains_from.values()):
            return {}
        return {"trains_from": dict(sorted(self._trains_from.items(), key=lambda i: int(i[0])))}
