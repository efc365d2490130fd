"""Tasks with one prediction per item, which is one text or a pair of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bluestab.core.types import Example
from bluestab.tasks.base import Task
from bluestab.tasks.encoded import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class WholeText(Task, ABC):
    """Tasks with one prediction per item, which is one text or a pair of them."""

    cut: ClassVar[Literal["longest_first", "only_second"]] = "longest_first"
    """Which text of a pair loses what does not fit: the longer one, piece by piece, or the second
    alone."""

    @abstractmethod
    def targets(self, examples: Sequence[Example], labels: Sequence[str]) -> list[Any]:
        """What the loss takes, per item: a class, a number, or a flag per label."""

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        """Nothing is padded here: batches are padded to their own longest item."""
        texts_of = [[str(e.text) for e in examples]]
        if examples[0].text_pair is not None:
            texts_of.append([str(e.text_pair) for e in examples])
        encoding: Any = tokenizer(
            *texts_of,
            truncation=self.cut,
            max_length=self.max_length,
            padding=False,
            return_attention_mask=False,
        )
        lost = [
            _characters_lost(encoding[i], texts) if encoding[i].overflowing else 0
            for i, texts in enumerate(zip(*texts_of, strict=True))
        ]
        columns: Encoded = Encoded(
            **{name: list(values) for name, values in encoding.items()},  # type: ignore[typeddict-item]
            labels=self.targets(examples, labels),
            rows=[[0]] * len(examples),
            example=list(range(len(examples))),
            truncated=[n > 0 for n in lost],
            lost=lost,
        )
        return columns


def _characters_lost(encoding: Any, texts: Sequence[str]) -> int:
    """Characters after the last piece of each text, white space at its end left out."""
    ends = [0] * len(texts)
    for sequence, (_, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True):
        if sequence is not None:
            ends[sequence] = max(ends[sequence], end)
    return sum(max(0, len(text.rstrip()) - end) for text, end in zip(texts, ends, strict=True))
