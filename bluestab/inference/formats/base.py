"""Files of text, read item by item from any place in them, and written back with answers.

A format knows where each item begins, so that an interrupted prediction goes on from there, and
holds one item at a time, so that ten million of them need no more memory than ten. What it writes
is the file it read, with the answers beside each item:

text   a line, an item      ANSWER, tab, PROBABILITY, tab, the line as it was
csv    RFC 4180, a header   the row, and the columns of `COLUMNS`
tsv    a header, no quotes  the same
jsonl  an object a line     the object, and a field `prediction`
conll  a word a line        the line, a tag, its probability (and disagreement)
brat   a folder of .txt     the .txt and its .ann (see `inference/brat.py`)
task   the task's own file  id and prediction: rows if the output is a .csv or .tsv, else jsonl
                            (read whole: for corpora)

Offsets count characters (Unicode code points) of the text as it stands in the file, from 0, the
end exclusive.
"""

from __future__ import annotations

import gzip
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.errors import ConfigError, DataError
from bluestab.core.paths import expanded
from bluestab.core.types import Example, ImageFile
from bluestab.data.images import image_file
from bluestab.data.readers import open_bytes
from bluestab.tasks.base import Task
from bluestab.tasks.outputs import Answer

WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
"""A run of letters and digits, or one sign: how the words of BLURB's corpora were made."""

MOST_CHARACTERS = 2_000_000
"""Of one item: more is no text but a mistake, or a compressed file that unpacks without end."""

COLUMNS = ("prediction", "probability", "probabilities", "disagreement", "truncated")


SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""End of a name (before .gz) -> what people and programs then expect in the file."""


def suffix_of(path: Path) -> str:
    """The end of a name, in small letters, without that of gzip."""
    return next((s.lower() for s in reversed(path.suffixes) if s != ".gz"), "")


@dataclass(frozen=True)
class Position:
    """Where the next item begins: bytes (uncompressed), lines and items before it."""

    offset: int = 0
    line: int = 0
    items: int = 0


@dataclass(frozen=True)
class Item:
    """raw: what the format needs to write it; example: None if there is nothing to read;
    spans: (start, end) of its words in `text`."""

    raw: Any
    example: Example | None
    text: str = ""
    spans: Sequence[tuple[int, int]] = ()


def words_of(text: str) -> list[tuple[int, int]]:
    """(start, end) of every word."""
    return [match.span() for match in WORD.finditer(text)]


class Format(ABC):
    """task, labels: what is predicted; text, text_pair, image: names of the columns that hold it.

    several  more than one network answers
    sees     one of them looks at images
    """

    name: ClassVar[str]
    as_trained: ClassVar[bool] = False
    """Long items are cut where the task's own are; otherwise they are read in windows."""

    def __init__(
        self,
        path: Path,
        task: Task,
        labels: Sequence[str],
        text: str | None = None,
        text_pair: str | None = None,
        several: bool = False,
        image: str | None = None,
        sees: bool = False,
    ) -> None:
        self.path, self.task, self.labels, self.several = path, task, labels, several
        self.text, self.text_pair, self.image, self.sees = text, text_pair, image, sees
        if image is not None and not sees:
            raise ConfigError(
                "--image names a column, but the runs look at no images; leave it out"
            )
        self.check()

    def check(self) -> None:
        """Raises ConfigError if this format cannot hold what the task needs."""
        if needs_pair(self.task):
            raise ConfigError(
                f"task '{self.task.name}' reads two texts, of which --format {self.name} has one; "
                "use csv, tsv or jsonl"
            )
        if self.sees:
            raise ConfigError(
                f"the runs look at an image per question, of which --format {self.name} has none; "
                "use csv, tsv or jsonl with a column of file names"
            )
        self.no_columns()

    def no_columns(self) -> None:
        if self.text or self.text_pair or self.image:
            raise ConfigError(
                f"--text, --text-pair and --image name columns; --format {self.name} has none"
            )

    @abstractmethod
    def items(self, place: Position) -> Iterator[tuple[Item, Position]]:
        """The items from `place` on, each with the place after it. Raises DataError."""

    @abstractmethod
    def written(self, item: Item, answer: Answer) -> str:
        """The item with its answer, line ends included."""

    def writes_to(self, output: Path) -> None:
        """Take note of the file that is written. Raises ConfigError if its name promises another
        format than it gets."""
        told = SUFFIXES.get(suffix_of(output))
        if told is not None and self.name in SUFFIXES.values() and told != self.name:
            raise ConfigError(
                f"--output is '{output}', but answers to {self.name} are written as {self.name}: "
                f"name it {output.name.partition('.')[0]}.{self.name}"
            )

    def head(self) -> str:
        """What stands before the first item."""
        return ""

    def predictions(self, output: Path) -> Iterator[Any]:
        """What was predicted, read back from what was written, in order."""
        raise ConfigError(f"--score needs --format task or conll, not {self.name}")

    def example(self, text: str, pair: str | None, line: int, image: str | None = None) -> Item:
        """An item of one text, or two, or a text and the name of an image's file; `raw` is left to
        the format."""
        file = None
        if image is not None:
            file = image_file(image_folder(self.task, self.path.parent), image, self.path, line)
        return item_of(self.task, self.labels, text, pair, f"line {line}", file)


def image_folder(task: Task, folder: Path) -> Path:
    """Where the images lie that a file in `folder` names: what `task.images` is from there, or if
    there is no such folder, beside the file."""
    images = folder / expanded(str(getattr(task, "images", ".")))
    return images if images.is_dir() else folder


def item_of(
    task: Task,
    labels: Sequence[str],
    text: str,
    pair: str | None,
    name: str,
    image: ImageFile | None = None,
) -> Item:
    """What a task reads in one text, or two, without `raw`; an empty text is no example."""
    spans: list[tuple[int, int]] = []
    if task.output.per_word:
        spans = words_of(text)
        content: Any = tuple(text[a:b] for a, b in spans)
    else:
        content = text if text.strip() else ""
    if not content or (pair is not None and not pair.strip()):
        return Item(None, None, text)
    target = task.output.blank(labels, content)
    return Item(None, Example(name, content, pair, target, image=image), text, spans)


def needs_pair(task: Task) -> bool:
    """Two texts per item: own files may leave the second column to be told by its name; mentions
    may be read with their context."""
    named = getattr(task, "text_pair", None) is not None
    return task.pair or named or getattr(task, "context", 0) > 0


# --- what an answer looks like -------------------------------------------------------------------


def as_json(answer: Answer, item: Item) -> dict[str, Any]:
    """An answer as JSON: without what there is none of."""
    found: dict[str, Any] = {}
    if answer.of_words:
        found["entities"] = [entity(e, item) for e in answer.entities]
        if answer.unsure:
            found["unsure"] = [entity(e, item) for e in answer.unsure]
    else:
        prediction = answer.prediction
        found["prediction"] = list(prediction) if isinstance(prediction, tuple) else prediction
        if answer.probability is not None:
            found["probability"] = _short(answer.probability)
        if answer.probabilities is not None:
            found["probabilities"] = {n: _short(p) for n, p in answer.probabilities.items()}
        if answer.unsure:
            found["unsure"] = list(answer.unsure)
        if answer.disagreement is not None:
            found["disagreement"] = _short(answer.disagreement)
    if answer.truncated:
        found["truncated"] = True
    return found


def entity(found: Any, item: Item) -> dict[str, Any]:
    """Type, offsets, text, probability of an entity."""
    start, end = item.spans[found.first][0], item.spans[found.last - 1][1]
    said = {
        "type": found.kind,
        "start": start,
        "end": end,
        "text": item.text[start:end],
        "probability": _short(found.probability),
    }
    return said if found.disagreement is None else {**said, "disagreement": found.disagreement}


def _short(value: float) -> float:
    """Six significant digits: more of a float32 say nothing."""
    return float(f"{value:.6g}")


def dumps(value: Any) -> str:
    """Raises ValueError for a number that JSON has not (NaN, infinity)."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def plain(text: str) -> str:
    """A label as one cell of a line: no tabs, line ends or control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


# --- lines ---------------------------------------------------------------------------------------


def lines(path: Path, place: Position) -> Iterator[tuple[str, int, int]]:
    """(line with its end, its number from 1, bytes up to and with it) from a place on."""
    with open_bytes(path) as file:
        try:
            file.seek(place.offset)
            offset, number = place.offset, place.line
            while raw := file.readline(4 * MOST_CHARACTERS + 1):
                number += 1
                if len(raw) > 4 * MOST_CHARACTERS:
                    raise too_long(path, number)
                offset += len(raw)
                if number == 1:
                    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                        raise DataError(path, "is UTF-16, not UTF-8; convert the file to UTF-8")
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                try:
                    yield raw.decode("utf-8"), number, offset
                except UnicodeDecodeError as error:
                    raise DataError(
                        path,
                        f"byte 0x{raw[error.start]:02x} is not UTF-8; convert the file to UTF-8",
                        number,
                    ) from error
        except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
            raise DataError(path, f"cannot be read ({error})") from error


def too_long(path: Path, line: int) -> DataError:
    return DataError(
        path, f"holds an item of more than {MOST_CHARACTERS:,} characters, which is no text", line
    )


def bare(line: str) -> tuple[str, str]:
    """A line -> its text and its end."""
    text = line.removesuffix("\n").removesuffix("\r")
    return text, line[len(text) :] or "\n"
