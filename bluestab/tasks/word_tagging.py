"""Word tagging: a class per word, scored word by word (PICO elements)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.errors import DataError
from bluestab.core.types import Example
from bluestab.data.readers import Sentence
from bluestab.tasks.metric import WORDS, Compared, Metric
from bluestab.tasks.tagging import Tagging


@dataclass(frozen=True, kw_only=True)
class WordTagging(Tagging):
    """Words with `O` or `I-type`: elements so long that their boundaries mean little.

    `word_macro_f1` is the mean over the types of the F1 of their words (BLURB's score of EBM PICO);
    `word_accuracy` counts `O` as well. Windows and cuts are those of `Tagging`.
    """

    metrics: ClassVar[Mapping[str, Metric]] = WORDS
    unit: ClassVar[str] = "words of an element"

    def check_tags(self, path: Path, sentence: Sentence) -> None:
        for tag, line in zip(sentence.tags, sentence.lines, strict=True):
            if tag != "O" and (not tag.startswith("I-") or tag == "I-"):
                raise DataError(path, f"tag {tag!r} is not O or I-type", line)

    def needed(self, labels: Sequence[str]) -> list[str]:
        return list(labels)

    def units(self, example: Example) -> list[range]:
        return [range(i, i + 1) for i, tag in enumerate(example.target) if tag != "O"]  # type: ignore[arg-type]

    def compared(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Compared:
        sentences = (*predictions, *targets)
        names = self.label_names or {tag for sentence in sentences for tag in sentence}
        types = sorted({name[2:] for name in names if name != "O"})
        return Compared(predictions, targets, types=types)
