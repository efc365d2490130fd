"""Tagging: one tag per word, scored as whole entities (NER)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bluestab import scoring
from bluestab.errors import DataError
from bluestab.tasks.base import Encoded, Scores, Task, names_problem, tokenise
from bluestab.tasks.readers import Sentence, read_conll
from bluestab.types import Example, Split

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast

IGNORED = -100  # the value torch's cross-entropy skips


@dataclass(frozen=True, kw_only=True)
class Tagging(Task):
    """Words with IOB2 tags. Only the first word piece of a word carries a label, as in BLURB.

    `entity_f1` is micro F1 over entities with exact boundaries and type; in predictions an `I-`
    that continues nothing is no entity (strict IOB2). `entity_f1_lenient` lets it open one
    (conlleval's rule, the default of seqeval), for comparison with papers scored that way. Words
    beyond `max_length` are predicted `O`: their entities count as missed, they are not dropped.
    """

    label_names: Sequence[str] | None

    formats: ClassVar[tuple[str, ...]] = ("conll",)
    head: ClassVar[Literal["sequence", "token"]] = "token"
    metrics: ClassVar[tuple[str, ...]] = (
        "entity_f1",
        "entity_precision",
        "entity_recall",
        "entity_f1_lenient",
    )

    def check(self) -> list[str]:
        return super().check() + names_problem("task.label_names", self.label_names, null=True)

    def read(self, path: Path) -> list[Example]:
        examples = []
        for sentence in read_conll(path):
            _check_iob2(path, sentence)
            # the first line is a name that stays when other sentences are added after it
            identifier = f"line {sentence.lines[0]}"
            examples.append(Example(identifier, sentence.words, None, sentence.tags))
        return examples

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        if self.label_names is not None:
            return tuple(self.label_names)
        return tuple(sorted({"O", *(tag for e in train for tag in e.target)}, key=_tag_order))  # type: ignore[union-attr]

    def problems(
        self, split: Split, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[str]:
        unseen: dict[str, str] = {}
        for example in examples:
            for tag in example.target:  # type: ignore[union-attr]
                if tag not in labels:
                    unseen.setdefault(tag, example.id)
        return [
            f"tag '{tag}' (sentence at {where}) is not among the task's tags {list(labels)}"
            for tag, where in unseen.items()
        ]

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        index = {label: i for i, label in enumerate(labels)}
        encoding, _ = tokenise(
            tokenizer, [e.text for e in examples], None, max_length=self.max_length, words=True
        )
        columns: Encoded = {name: list(values) for name, values in encoding.items()}
        columns |= {"labels": [], "rows": [], "truncated": []}
        for i, example in enumerate(examples):
            piece_labels, rows = [], []
            previous = None
            for word in encoding.word_ids(i):
                first_piece = word is not None and word != previous
                previous = word
                if first_piece:
                    rows.append(word)
                    piece_labels.append(index[example.target[word]])  # type: ignore[index]
                else:
                    piece_labels.append(IGNORED)
            columns["labels"].append(piece_labels)
            columns["rows"].append(rows)
            columns["truncated"].append(bool(encoding[i].overflowing))
        return columns

    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Cross-entropy, mean over the labelled pieces of the batch."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED)

    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> list[str]:
        tags = ["O"] * len(example.text)
        for row, best in zip(rows, logits.argmax(axis=-1), strict=True):
            tags[row] = labels[best]
        return tags

    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Scores:
        strict = scoring.entity_prf(predictions, targets)
        lenient = scoring.entity_prf(predictions, targets, lenient=True)
        return {
            "entity_f1": strict["f1"],
            "entity_precision": strict["precision"],
            "entity_recall": strict["recall"],
            "entity_f1_lenient": lenient["f1"],
        }


def _tag_order(tag: str) -> tuple[bool, str, str]:
    """`O` first, then by type, `B-` before `I-`."""
    return (tag != "O", tag[2:], tag[:1])


def _check_iob2(path: Path, sentence: Sentence) -> None:
    """Gold tags must be IOB2: a stray `I-` would be an entity to one metric and none to another."""
    previous = "O"
    for tag, line in zip(sentence.tags, sentence.lines, strict=True):
        prefix, _, kind = tag.partition("-")
        if prefix not in ("O", "B", "I") or (prefix == "O" and kind):
            raise DataError(path, f"tag {tag!r} is not an IOB2 tag (O, B-type or I-type)", line)
        if prefix == "I" and previous not in (f"B{tag[1:]}", tag):
            raise DataError(
                path, f"tag {tag!r} follows {previous!r}: in IOB2 an entity starts with B-", line
            )
        previous = tag
