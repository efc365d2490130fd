"""Reinit: the top blocks and the pooler start anew from random values.

Idea      The top layers are specialised to the pretraining objective; on few examples fine-tuning
          cannot undo that, and a fresh start trains better.
Formula   Linear and embedding weights ~ N(0, initializer_range ** 2) of the model (0.02 in BERT and
          ELECTRA), biases 0, LayerNorm weight 1 and bias 0, for the top k blocks; the pooler too.
          ModernBERT has no pooler, but a norm after its last block, which BERT has inside it: that
          one too. Its own law of random values is followed. With `layernorms_only` the LayerNorms
          of these layers alone start anew, at weight 1 and bias 0; all matrices keep their values.
Source    Zhang et al. 2021 (ICLR, arXiv 2006.05987): re-initialise the pooler and the top L blocks.
          Tinn et al. 2023, abstract: the best strategy for BIOSSES; how many layers is not in what
          we could read (the two versions of the abstract disagree on one layer or several).
Settings  Zhang et al. tune the number on validation data; their script for RTE has 5 of 24, Du &
          Nguyen 2023 have 5 of 24.
Seeds     Values are drawn per parameter name from the `init` stream, so re-initialising a block
          cannot shift the head: arms at equal seed keep the same head.
Cost      None.
Not with  `freeze` reaching into the top k blocks: random features frozen for ever.
Against   Helps with few steps most; with long training the gap to plain fine-tuning closes (Zhang
          et al., Table 2: RTE 72.6 re-initialised, 72.3 trained longer). Du & Nguyen 2023, BERT
          CoLA: score 64.2 against 64.5 plain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from bluestab.core.rules import FLAG, Rule
from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique
from bluestab.techniques.packing import Packable
from bluestab.techniques.parameters import blocks, is_layernorm


class Reinit(Packable, Technique):
    """depth: number of top blocks, from 1 to L; pooler: pooler and final norm too, if there.

    layernorms_only: of all these, the LayerNorms.
    """

    embeddings_by_row: ClassVar[bool] = True

    def __init__(self, *, depth: int, pooler: bool, layernorms_only: bool) -> None:
        self.depth = depth
        self.pooler = pooler
        self.layernorms_only = layernorms_only
        self._anew: list[str] = []

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "depth": blocks(1, model),
            "pooler": FLAG,
            "layernorms_only": FLAG,
        }

    def fresh_depths(self, model: ModelFacts) -> frozenset[int]:
        return frozenset(range(model.layers - self.depth + 1, model.layers + 1))

    def _names(self, built: Built) -> list[str]:
        layers = built.layers
        names = layers.names(*range(layers.n_layers - self.depth + 1, layers.n_layers + 1))
        if self.pooler:
            names += [n for n in layers.names(layers.top) if n not in layers.head]
        if self.layernorms_only:
            names = [n for n in names if is_layernorm(built.model, n)]
        return names

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        # what the checkpoint has no value for is drawn by the seed in any case
        self._anew = [name for name in self._names(built) if name not in built.fresh]
        for name in self._anew:
            built.initialise(name, generator(seeds.init, "init", name))
        return replace(built, fresh=built.fresh | set(self._anew))

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        anew = sorted(trained.edited.intersection(self._anew))
        if not anew:
            return {}
        depths = {built.layers.depth[name] for name in anew}
        return {
            "changed_tensors": len(anew),
            "changed_parameters": sum(built.reference[n].numel() for n in anew),
            "blocks": sorted(depths - {built.layers.top}),
            "pooler": built.layers.top in depths,
        }
