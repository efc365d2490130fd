"""CoNLL: the line as it was, a tag, its probability (and disagreement)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError, DataError
from bluestab.core.types import Example
from bluestab.inference.formats.base import (
    MOST_CHARACTERS,
    Format,
    Item,
    Position,
    bare,
    lines,
    plain,
    too_long,
)
from bluestab.tasks.outputs import Answer


class ConllFormat(Format):
    """A word a line, in the first column, and a blank line after a sentence."""

    name = "conll"
    as_trained = True

    def check(self) -> None:
        if not self.task.output.per_word:
            raise ConfigError(
                f"--format conll holds words, but task '{self.task.name}' reads whole texts; use "
                "text, csv, tsv or jsonl"
            )
        self.no_columns()

    def items(self, place: Position) -> Iterator[tuple[Item, Position]]:
        """An item is a sentence with the lines before it that hold no word."""
        read: list[tuple[str, str, str | None]] = []
        words: list[str] = []
        begun = offset = number = 0
        for line, number, offset in lines(self.path, place):
            text, end = bare(line)
            is_word = bool(text.strip()) and not text.startswith("-DOCSTART-")
            word = None
            if is_word:
                word = (text.split("\t") if "\t" in text else text.split())[0]
                if not word.strip():
                    raise DataError(self.path, f"expected a word first, found {text!r}", number)
                begun = begun or number
                words.append(word)
            read.append((text, end, word))
            if len(words) > MOST_CHARACTERS // 20:
                raise too_long(self.path, number)
            if words and not is_word:
                place = Position(offset, number, place.items + 1)
                yield self._item(read, words, begun), place
                read, words, begun = [], [], 0
        if read:
            place = Position(offset, number, place.items + bool(words))
            yield self._item(read, words, begun), place

    def _item(self, read: Any, words: Sequence[str], begun: int) -> Item:
        content = tuple(words)
        target = self.task.output.blank(self.labels, content)
        return Item(read, Example(f"line {begun}", content, None, target) if words else None)

    def written(self, item: Item, answer: Answer) -> str:
        out = []
        word = -1
        for text, end, is_word in item.raw:
            if is_word is None:
                out.append(text + end)
                continue
            word += 1
            gap = "\t" if "\t" in text else " "
            certain = answer.probability[word]
            # a word beyond max_length is O, which nothing speaks for
            said = [text, plain(answer.prediction[word]), f"{certain or 0.0:.4f}"]
            if answer.disagreement is not None:
                said.append(f"{answer.disagreement[word]:.3f}")
            out.append(gap.join(said) + end)
        return "".join(out)

    def predictions(self, output: Path) -> Iterator[list[str]]:
        tags: list[str] = []
        for line, _, _ in lines(output, Position()):
            text, _ = bare(line)
            if text.strip() and not text.startswith("-DOCSTART-"):
                fields = text.split("\t") if "\t" in text else text.split()
                tags.append(fields[-3 if self.several else -2])
            elif tags:
                yield tags
                tags = []
        if tags:
            yield tags
