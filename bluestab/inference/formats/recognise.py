"""Which format a file has: as said, or by the ending of its name; and the task's own file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.types import Example
from bluestab.data.formats.recognise import ENDINGS as TRAINED
from bluestab.inference.formats.base import (
    COLUMNS,
    SUFFIXES,
    Format,
    Item,
    Position,
    as_json,
    dumps,
    lines,
    plain,
    suffix_of,
)
from bluestab.inference.formats.conll import ConllFormat
from bluestab.inference.formats.delimited import CsvFormat, TsvFormat, cells
from bluestab.inference.formats.jsonl import JsonlFormat
from bluestab.inference.formats.text import TextFormat
from bluestab.tasks.base import Task
from bluestab.tasks.outputs import Answer
from bluestab.tasks.own_tagging import OwnTagging


class CorpusFormat(Format):
    """The task's own file, read as its test file is (whole)."""

    name = "task"
    as_trained = True
    separator: str | None = None

    def check(self) -> None:
        self.no_columns()

    def items(self, place: Position) -> Iterator[tuple[Item, Position]]:
        for number, example in enumerate(self.task.read(self.path)):
            if number >= place.items:
                blank = self.task.output.blank(self.labels, example.text)
                text, spans = _laid_out(example)
                item = Example(
                    example.id, example.text, example.text_pair, blank, image=example.image
                )
                yield Item(example.id, item, text, spans), Position(number + 1, 0, number + 1)

    def writes_to(self, output: Path) -> None:
        """Rows for a .csv or .tsv, JSON lines for every other name."""
        self.separator = {"csv": ",", "tsv": "\t"}.get(SUFFIXES.get(suffix_of(output), ""))

    def head(self) -> str:
        return self._row(["id", *(["tags"] if self.task.output.per_word else []), *COLUMNS])

    def written(self, item: Item, answer: Answer) -> str:
        tags = {"tags": answer.prediction} if answer.of_words else {}
        if self.separator is not None:
            return self._row([item.raw, *map(dumps, tags.values()), *cells(answer, item)])
        return dumps({"id": item.raw, **tags, **as_json(answer, item)}) + "\n"

    def _row(self, values: Sequence[str]) -> str:
        """As csv writes it; nothing where there are no rows."""
        if self.separator is None:
            return ""
        out = io.StringIO()
        csv.writer(out, delimiter=self.separator, lineterminator="\n").writerow(values)
        return out.getvalue()

    def predictions(self, output: Path) -> Iterator[Any]:
        words = self.task.output.per_word
        if self.separator is None:
            for line, _, _ in lines(output, Position()):
                yield json.loads(line)["tags" if words else "prediction"]
            return
        names = {plain(label): label for label in self.labels}
        several = isinstance(self.task.output.blank(self.labels, ""), tuple)
        text = (line for line, _, _ in lines(output, Position()))
        for row in csv.DictReader(text, delimiter=self.separator):
            said = row["prediction"]
            if words:
                yield json.loads(row["tags"])
            elif self.task.output.numeric:
                yield float(said)
            else:
                yield [names[s] for s in said.split("; ") if s] if several else names[said]


def _laid_out(example: Example) -> tuple[str, list[tuple[int, int]]]:
    """The text of an item, and (start, end) of its words: where they stand in their document, with
    blanks between, or one blank apart."""
    if isinstance(example.text, str):
        return example.text, []
    text, spans = "", []
    for word, place in zip(example.text, example.offsets or repeat(None), strict=False):
        start = len(text) + bool(text) if place is None else place[0]
        text = text.ljust(start) + word
        spans.append((start, start + len(word)))
    return text, spans


FORMATS: Mapping[str, type[Format]] = {
    f.name: f for f in (TextFormat, CsvFormat, TsvFormat, JsonlFormat, ConllFormat, CorpusFormat)
}

ENDINGS = {
    ".txt": "text",
    ".tsv": "tsv",
    ".tab": "tsv",
    **{ending: form for ending, form in TRAINED.items() if form in FORMATS},
}


def _is_conll(path: Path, task: Task) -> bool:
    """Does the task read this file as words in the first column, as `ConllFormat` does?"""
    if not isinstance(task, OwnTagging):
        return task.output.per_word
    return task.text is None and task.format_of(path) == "conll"


def format_of(path: Path, said: str | None, task: Task) -> str:
    """The name of a file's format: as said, else by its ending (a .tsv of words is CoNLL).

    Raises ConfigError if neither says it, DataError for an own file that is not recognised.
    """
    known = (*FORMATS, "brat")
    if said is not None:
        if said not in known:
            raise ConfigError(f"--format is {said!r}" + did_you_mean(said, known))
        return "conll" if said == "task" and _is_conll(path, task) else said
    if path.is_dir():
        return "brat"
    found = ENDINGS.get(suffix_of(path))
    if found is None:
        raise ConfigError(
            f"the name {path.name!r} does not tell what is in it; say --format {'|'.join(known)}"
        )
    return "conll" if found == "tsv" and task.output.per_word else found
