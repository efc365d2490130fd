"""Tagging: one tag per word, scored as whole entities (NER)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import DataError
from bluestab.core.types import IGNORED, Example, Split
from bluestab.data.readers import Sentence, read_conll
from bluestab.data.stratify import rarest
from bluestab.tasks import scoring_tags
from bluestab.tasks.base import Task
from bluestab.tasks.encoded import Encoded
from bluestab.tasks.label_names import label_problems, names_problem
from bluestab.tasks.metric import ENTITIES, Metric
from bluestab.tasks.outputs import WORD_LABELS, Output

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Window:
    """Words `start` to `end` (exclusive) are read, of which `first` to `last` are tagged."""

    start: int
    end: int
    first: int
    last: int


def windows(pieces: Sequence[int], room: int, overlap: int) -> Iterator[Window]:
    """Parts of a sentence that fit into `room` word pieces, cut between words.

    pieces   word pieces of each word; one with more than `room` gets a window for itself
    overlap  word pieces, at least (if words are that short), that neighbours have in common; each
             of these words is tagged by the window where it lies further from the edge
    Every word is tagged by exactly one window. A sentence that fits is one window.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    while True:
        end, filled = start, 0
        while end < len(pieces) and (end == start or filled + pieces[end] <= room):
            filled += pieces[end]
            end += 1
        spans.append((start, end))
        if end >= len(pieces):
            break
        back, common = end, 0
        while back - 1 > start and common < overlap and common + pieces[back - 1] < room:
            back -= 1
            common += pieces[back]
        # the next window must reach further than this one
        while back < end and sum(pieces[back : end + 1]) > room:
            back += 1
        start = back
    first = 0
    for (start, end), following in zip(spans, [*spans[1:], None], strict=True):
        last = end if following is None else (following[0] + end + 1) // 2
        yield Window(start, end, first, last)
        first = last


@dataclass(frozen=True, kw_only=True)
class Tagging(Task):
    """Words with IOB2 tags. Only the first word piece of a word carries a label, as in BLURB.

    `entity_f1` is micro F1 over entities with exact boundaries and type; in predictions an `I-`
    that continues nothing is no entity (strict IOB2). `entity_f1_lenient` lets it open one
    (conlleval's rule, the default of seqeval), for comparison with papers scored that way.

    A sentence of more than `max_length` word pieces is read in windows (see `windows`), so that
    every word is tagged; with `overlap` null it is cut, and words beyond are predicted `O`: their
    entities count as missed, they are not dropped.
    """

    label_names: Sequence[str] | None
    overlap: int | None

    formats: ClassVar[tuple[str, ...]] = ("conll",)
    output: ClassVar[Output] = WORD_LABELS
    metrics: ClassVar[Mapping[str, Metric]] = ENTITIES
    unit: ClassVar[str] = "entities"

    def check(self) -> list[str]:
        problems = super().check() + names_problem("task.label_names", self.label_names, null=True)
        overlap = self.overlap
        fine = isinstance(overlap, int) and not isinstance(overlap, bool) and overlap >= 0
        if overlap is not None and not fine:
            problems.append(
                f"task.overlap is {overlap!r}: expected a number of word pieces >= 0, or null"
            )
        return problems

    def check_tags(self, path: Path, sentence: Sentence) -> None:
        """Raises DataError unless the gold tags are IOB2: a stray `I-` would be an entity to one
        metric and none to another."""
        previous = "O"
        for tag, line in zip(sentence.tags, sentence.lines, strict=True):
            prefix, _, kind = tag.partition("-")
            if prefix not in ("O", "B", "I") or (prefix == "O" and kind):
                raise DataError(path, f"tag {tag!r} is not an IOB2 tag (O, B-type or I-type)", line)
            if prefix == "I" and previous not in (f"B{tag[1:]}", tag):
                raise DataError(
                    path, f"tag {tag!r} follows {previous!r}: in IOB2 an entity starts with B", line
                )
            previous = tag

    def read(self, path: Path) -> list[Example]:
        examples = []
        for sentence in read_conll(path):
            self.check_tags(path, sentence)
            # the first line is a name that stays when other sentences are added after it
            identifier = f"line {sentence.lines[0]}"
            examples.append(
                Example(identifier, sentence.words, None, sentence.tags, sentence.document)
            )
        return examples

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        if self.label_names is not None:
            return tuple(self.label_names)
        return tuple(sorted({"O", *(tag for e in train for tag in e.target)}, key=_tag_order))  # type: ignore[union-attr]

    def problems(
        self, split: Split, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[str]:
        found = ((tag, e.id) for e in examples for tag in dict.fromkeys(e.target))  # type: ignore[arg-type]
        return label_problems(
            split, found, labels, needed=self.needed(labels), what="tag", place="sentence at"
        )

    def needed(self, labels: Sequence[str]) -> list[str]:
        """Tags that training must show: entities may all be of one word."""
        return [tag for tag in labels if not tag.startswith("I")]

    def strata(self, examples: Sequence[Example]) -> list[Hashable]:
        kinds = [[tag[2:] for tag in e.target if tag != "O"] for e in examples]  # type: ignore[union-attr]
        return list(rarest(kinds))

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        """A row per window; see `Encoded`. Four index spaces meet here:

        i     item, a position in `examples`
        row   of the table: one window of one item
        word  of the item, counted from its first (`at`); inside a row from the window's first
              (`word_ids`)
        piece of the row: special tokens have no word, later pieces of a word no label
        """
        parts = list(self._parts(examples, tokenizer))  # row -> (i, window)
        encoding = tokenizer(
            [list(examples[i].text[w.start : w.end]) for i, w in parts],
            is_split_into_words=True,
            truncation=True,
            max_length=self.max_length,
            padding=False,
            return_attention_mask=False,
        )
        index = {label: i for i, label in enumerate(labels)}
        columns: Encoded = Encoded(
            **{name: list(values) for name, values in encoding.items()},  # type: ignore[typeddict-item]
            labels=[], rows=[], example=[], truncated=[], lost=[],
        )  # fmt: skip
        read: list[set[int]] = [set() for _ in examples]  # i -> its words that a row tags
        for row, (i, window) in enumerate(parts):
            piece_labels, rows = [], []  # (pieces,) label or -100; (labelled words,) at
            previous = None
            for word in encoding.word_ids(row):
                first_piece = word is not None and word != previous
                previous = word
                at = -1 if word is None else window.start + word
                if first_piece and window.first <= at < window.last:
                    rows.append(at)
                    piece_labels.append(index[examples[i].target[at]])  # type: ignore[index]
                else:
                    piece_labels.append(IGNORED)
            read[i].update(rows)
            columns["labels"].append(piece_labels)
            columns["rows"].append(rows)
            columns["example"].append(i)
            whole = window.last < len(examples[i].text) or len(read[i]) == len(examples[i].text)
            units = [] if whole else self.units(examples[i])
            columns["truncated"].append(not whole or bool(encoding[row].overflowing))
            columns["lost"].append(sum(not read[i].issuperset(unit) for unit in units))
        return columns

    def _parts(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast
    ) -> Iterator[tuple[int, Window]]:
        """(position of the sentence, window of its words) for every input of the model."""
        room = self.max_length - tokenizer.num_special_tokens_to_add()
        lengths: list[int] = []
        if self.overlap is not None:
            whole = tokenizer(
                [list(e.text) for e in examples],
                is_split_into_words=True,
                add_special_tokens=False,
                return_attention_mask=False,
            )
            lengths = [len(ids) for ids in whole["input_ids"]]
        for i, example in enumerate(examples):
            n = len(example.text)
            if self.overlap is None or lengths[i] <= room:
                yield i, Window(0, n, 0, n)
                continue
            pieces = [0] * n
            for word in whole.word_ids(i):
                pieces[word] += 1
            for window in windows(pieces, room, min(self.overlap, room // 2)):
                yield i, window

    def units(self, example: Example) -> list[range]:
        """The words of each gold entity."""
        return [range(a, b) for _, a, b in scoring_tags.spans(list(example.target), lenient=True)]  # type: ignore[arg-type]

    def size(self, example: Example) -> int:
        return len(self.units(example))

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

    def constants(
        self, labels: Sequence[str], items: Sequence[Example]
    ) -> Mapping[str, Sequence[Any]]:
        return {f"every word {tag}": [[tag] * len(e.text) for e in items] for tag in labels}


def _tag_order(tag: str) -> tuple[bool, str, str]:
    """`O` first, then by type, `B-` before `I-`."""
    return (tag != "O", tag[2:], tag[:1])
