"""JSON lines: the object as it was, and a field `prediction`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bluestab.core.errors import ConfigError, DataError, did_you_mean
from bluestab.core.types import Example
from bluestab.data.formats.columns import KNOWN
from bluestab.data.formats.objects import parse_object
from bluestab.inference.formats.base import (
    Format,
    Item,
    Position,
    as_json,
    bare,
    dumps,
    lines,
    needs_pair,
)
from bluestab.inference.formats.delimited import own_column
from bluestab.tasks.outputs import Answer


class JsonlFormat(Format):
    """An object a line; `text` (and `text_pair`), or for tagging also `words`."""

    name = "jsonl"

    def check(self) -> None:
        if self.text_pair and not needs_pair(self.task):
            raise ConfigError(f"--text-pair is given, but task '{self.task.name}' reads one text")

    def items(self, place: Position) -> Iterator[tuple[Item, Position]]:
        for line, number, offset in lines(self.path, place):
            place = Position(offset, number, place.items)
            text, end = bare(line)
            if not text.strip():
                continue
            found = parse_object(self.path, text, number)
            if "prediction" in found:
                raise DataError(self.path, "has a field 'prediction' already", number)
            place = Position(offset, number, place.items + 1)
            yield self._item(found, end, number), place

    def _item(self, found: dict[str, Any], end: str, number: int) -> Item:
        name = next((name for name in KNOWN["tokens"] if isinstance(found.get(name), list)), None)
        words = found.get(name or "words")
        if (
            self.task.output.per_word
            and self.text is None
            and "text" not in found
            and words is not None
        ):
            if not isinstance(words, list) or not all(isinstance(w, str) and w for w in words):
                raise DataError(
                    self.path, f"has {name or 'words'!r} that are no list of texts", number
                )
            text, spans = " ".join(words), []
            at = 0
            for word in words:
                spans.append((at, at + len(word)))
                at += len(word) + 1
            content = tuple(words)
            example = Example(
                f"line {number}", content, None, self.task.output.blank(self.labels, content)
            )
            return Item((found, end), example if words else None, _whole(self, text, number), spans)
        first = self.text or own_column(self.task, "text", list(found))
        text = self._field(found, first, number)
        pair = None
        if needs_pair(self.task):
            second = self.text_pair or own_column(self.task, "text_pair", list(found), [first])
            pair = self._field(found, second, number)
        image = None
        if self.sees:
            name = self.image or own_column(self.task, "image", list(found), [first])
            image = self._field(found, name, number)
        item = self.example(text, pair, number, image)
        return Item((found, end), item.example, text, item.spans)

    def _field(self, found: Mapping[str, Any], name: str, number: int) -> str:
        text = found.get(name)
        if not isinstance(text, str):
            raise DataError(
                self.path,
                f"has no text in field {name!r}"
                + ("" if name in found else did_you_mean(name, found)),
                number,
            )
        return _whole(self, text, number)

    def written(self, item: Item, answer: Answer) -> str:
        found, end = item.raw
        return f"{dumps({**found, 'prediction': as_json(answer, item)})}{end}"


def _whole(form: Format, text: str, number: int) -> str:
    """Raises DataError for half a character, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            form.path, "holds half of a character (a lone surrogate)", number
        ) from error
    return text
