"""Which format a file has: as said, or by the ending of its name; and the task's own file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.types import Example
from bluestab.inference.formats.base import Format, Item, Position, as_json, dumps, lines
from bluestab.inference.formats.conll import ConllFormat
from bluestab.inference.formats.delimited import CsvFormat, TsvFormat
from bluestab.inference.formats.jsonl import JsonlFormat
from bluestab.inference.formats.text import TextFormat
from bluestab.tasks.base import Task
from bluestab.tasks.outputs import Answer


class CorpusFormat(Format):
    """The task's own file, read as its test file is (whole)."""

    name = "task"
    as_trained = True

    def check(self) -> None:
        self.no_columns()
        if self.task.output.per_word:
            raise ConfigError("--format task of words is --format conll")

    def items(self, place: Position) -> Iterator[tuple[Item, Position]]:
        for number, example in enumerate(self.task.read(self.path)):
            if number >= place.items:
                blank = self.task.output.blank(self.labels, example.text)
                text = str(example.text)
                item = Example(example.id, example.text, example.text_pair, blank)
                yield Item(example.id, item, text), Position(number + 1, 0, number + 1)

    def written(self, item: Item, answer: Answer) -> str:
        return dumps({"id": item.raw, **as_json(answer, item)}) + "\n"

    def predictions(self, output: Path) -> Iterator[Any]:
        for line, _, _ in lines(output, Position()):
            yield json.loads(line)["prediction"]


FORMATS: Mapping[str, type[Format]] = {
    f.name: f for f in (TextFormat, CsvFormat, TsvFormat, JsonlFormat, ConllFormat, CorpusFormat)
}

ENDINGS = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".conll": "conll",
    ".iob": "conll",
}


def format_of(path: Path, said: str | None, task: Task) -> str:
    """The name of a file's format: as said, else by its ending (a .tsv of words is CoNLL).

    Raises ConfigError if neither says it.
    """
    known = (*FORMATS, "brat")
    if said is not None:
        if said not in known:
            raise ConfigError(f"--format is {said!r}" + did_you_mean(said, known))
        return "conll" if said == "task" and task.output.per_word else said
    if path.is_dir():
        return "brat"
    suffixes = [s for s in path.suffixes if s != ".gz"]
    found = ENDINGS.get(suffixes[-1] if suffixes else "")
    if found is None:
        raise ConfigError(
            f"the name {path.name!r} does not tell what is in it; say --format {'|'.join(known)}"
        )
    return "conll" if found == "tsv" and task.output.per_word else found
