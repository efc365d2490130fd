"""Train only: of the pretrained parameters, those of a kind; all others keep their values.

Idea      Few parameters suffice to steer a pretrained network to a small task, and cannot forget
          much.
Formula   A pretrained parameter trains if it belongs to one of `parts` or its name matches one of
          `patterns`. Head and re-initialised layers always train.
Source    Ben Zaken, Ravfogel & Goldberg 2022 (BitFit, arXiv 2106.10199): biases and head.
Settings  BitFit: parts [biases]; in their code lr 1e-3 where full tuning has 1e-5, 16 epochs,
          batch 8.
Parts     biases: every `bias`, those of LayerNorms included, as in BitFit; layernorms: all of them;
          attention: the attention module of every block, its output layer (and, in BERT, its
          LayerNorm) included. ModernBERT has no biases: BitFit there would train the head alone,
          and is refused; hence the default names LayerNorms as well.
Patterns  Regular expressions, found anywhere in a parameter's name: `layer\\.(10|11)\\.`.
Cost      Less than plain training: no optimizer state for the rest.
Not with  Nothing: what `freeze` freezes stays frozen, `llrd` scales what trains. Together they must
          leave something to train.
Against   BitFit's authors claim parity with full tuning on small and medium data only. Biases need
          a learning rate of their own, see Settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import ConfigError
from bluestab.core.rules import Rule, list_of
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import frozen
from bluestab.techniques.packing import Packable
from bluestab.techniques.parameters import is_attention, is_bias, is_layernorm, pretrained

if TYPE_CHECKING:
    from torch import nn

    from bluestab.models.param_plan import ParamPlan


PARTS: Mapping[str, Callable[[nn.Module, str], bool]] = {
    "biases": is_bias,
    "layernorms": is_layernorm,
    "attention": lambda model, name: is_attention(name),
}
"""Part -> whether the parameter of this name in a model belongs to it."""


class TrainOnly(Packable, Technique):
    """parts: a list of biases, layernorms, attention; patterns: a list of regular expressions."""

    embeddings_by_row: ClassVar[bool] = True

    def __init__(self, *, parts: Sequence[str], patterns: Sequence[str]) -> None:
        self.parts = parts
        self.patterns = patterns

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "parts": list_of(lambda part: part in PARTS, ", ".join(PARTS)),
            "patterns": list_of(lambda pattern: isinstance(pattern, str), "regular expressions"),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        if self.parts or self.patterns:
            return [p for pattern in self.patterns for p in _pattern_problems(pattern)]
        return [
            "technique.train_only.parts and technique.train_only.patterns are both empty: only "
            "the head would train; technique=freeze with technique.freeze.depth="
            f"{model.layers} says that"
        ]

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        """Raises ConfigError if a part or pattern matches no pretrained parameter."""
        model = built.model
        candidates = pretrained(built)
        found = {p: [n for n in candidates if PARTS[p](model, n)] for p in self.parts}
        found |= {p: [n for n in candidates if re.search(p, n)] for p in self.patterns}
        if not any(found[part] for part in self.parts) and self.parts:
            raise ConfigError(
                f"technique.train_only.parts is {list(self.parts)!r}, but this model has no such "
                f"parameters below its head"
            )
        for pattern in self.patterns:
            if not found[pattern]:
                raise ConfigError(
                    f"technique.train_only.patterns has {pattern!r}, which matches no parameter "
                    f"below the head, e.g. not '{candidates[-1]}'"
                )
        train = {name for names in found.values() for name in names}
        return plan.frozen([name for name in candidates if name not in train])

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return frozen(built, trained)


def _pattern_problems(pattern: str) -> list[str]:
    try:
        re.compile(pattern)
    except re.error as error:
        return [
            f"technique.train_only.patterns has {pattern!r}: "
            f"expected a regular expression ({error})"
        ]
    return []
