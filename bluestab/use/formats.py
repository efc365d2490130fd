"""Files of text, read item by item from any place in them, and written back with answers.

A format knows where each item begins, so that an interrupted prediction goes on from there, and
holds one item at a time, so that ten million of them need no more memory than ten. What it writes
is the file it read, with the answers beside each item:

text   a line, an item      ANSWER, tab, PROBABILITY, tab, the line as it was
csv    RFC 4180, a header   the row, and the columns of `COLUMNS`
tsv    a header, no quotes  the same
jsonl  an object a line     the object, and a field `prediction`
conll  a word a line        the line, a tag, its probability (and disagreement)
brat   a folder of .txt     the .txt and its .ann (see `brat.py`)
task   the task's own file  jsonl: id and prediction (read whole: for corpora)

Offsets count characters (Unicode code points) of the text as it stands in the file, from 0, the
end exclusive.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from bluestab.errors import ConfigError, DataError, did_you_mean
from bluestab.tasks.base import Task
from bluestab.types import Example
from bluestab.use.answers import Answer, blank_target, kind_of

WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
"""A run of letters and digits, or one sign: how the words of BLURB's corpora were made."""

MOST_CHARACTERS = 2_000_000
"""Of one item: more is no text but a mistake, or a compressed file that unpacks without end."""

COLUMNS = ("prediction", "probability", "probabilities", "disagreement", "truncated")


@dataclass(frozen=True)
class Place:
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
    """task, labels: what is predicted; text, text_pair: names of the columns that hold it.

    several  more than one network answers
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
    ) -> None:
        self.path, self.task, self.labels, self.several = path, task, labels, several
        self.text, self.text_pair = text, text_pair
        self.kind = kind_of(task)
        self.check()

    def check(self) -> None:
        """Raises ConfigError if this format cannot hold what the task needs."""
        if needs_pair(self.task):
            raise ConfigError(
                f"task '{self.task.name}' reads two texts, of which --format {self.name} has one; "
                "use csv, tsv or jsonl"
            )
        self.no_columns()

    def no_columns(self) -> None:
        if self.text or self.text_pair:
            raise ConfigError(f"--text and --text-pair name columns; --format {self.name} has none")

    @abstractmethod
    def items(self, place: Place) -> Iterator[tuple[Item, Place]]:
        """The items from `place` on, each with the place after it. Raises DataError."""

    @abstractmethod
    def written(self, item: Item, answer: Answer) -> str:
        """The item with its answer, line ends included."""

    def head(self) -> str:
        """What stands before the first item."""
        return ""

    def predictions(self, output: Path) -> Iterator[Any]:
        """What was predicted, read back from what was written, in order."""
        raise ConfigError(f"--score needs --format task or conll, not {self.name}")

    def example(self, text: str, pair: str | None, line: int) -> Item:
        """An item of one text, or two; `raw` is left to the format."""
        spans: list[tuple[int, int]] = []
        if self.kind == "tags":
            spans = words_of(text)
            content: Any = tuple(text[a:b] for a, b in spans)
        else:
            content = text if text.strip() else ""
        if not content or (pair is not None and not pair.strip()):
            return Item(None, None, text)
        target = blank_target(self.task, self.labels, content)
        return Item(None, Example(f"line {line}", content, pair, target), text, spans)


def needs_pair(task: Task) -> bool:
    return getattr(task, "text_pair", None) is not None


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
    return json.dumps(value, ensure_ascii=False)


def plain(text: str) -> str:
    """A label as one cell of a line: no tabs, line ends or control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


# --- lines ---------------------------------------------------------------------------------------


def open_bytes(path: Path) -> IO[bytes]:
    """A file, unpacked if its name ends in .gz. Raises DataError."""
    try:
        return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from error


def lines(path: Path, place: Place) -> Iterator[tuple[str, int, int]]:
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


class Text(Format):
    """A line, an item."""

    name = "text"

    def items(self, place: Place) -> Iterator[tuple[Item, Place]]:
        for line, number, offset in lines(self.path, place):
            text, end = bare(line)
            item = self.example(text, None, number)
            place = Place(offset, number, place.items + 1)
            yield Item(end, item.example, text, item.spans), place

    def written(self, item: Item, answer: Answer) -> str:
        said, probability = "", ""
        if self.kind == "tags":
            said = "; ".join(
                f"{e['start']}-{e['end']} {plain(e['type'])} {e['probability']:.4f}"
                + (f" {e['disagreement']:.3f}" if "disagreement" in e else "")
                for e in (entity(e, item) for e in answer.entities)
            )
        elif answer.prediction is not None:
            said, probability = cells(answer)[:2]
        return f"{said}\t{probability}\t{item.text}{item.raw}"


def cells(answer: Answer, item: Item | None = None) -> list[str]:
    """The values of `COLUMNS`."""
    if item is not None and answer.of_words:
        found = as_json(answer, item)
        return [dumps(found["entities"]), "", "", "", "true" if answer.truncated else ""]
    said = answer.prediction
    if said is None:
        prediction = ""
    elif isinstance(said, tuple):
        prediction = "; ".join(map(plain, said))
    else:
        prediction = plain(said) if isinstance(said, str) else repr(said)
    rest = [
        "" if answer.probability is None else f"{answer.probability:.6g}",
        ""
        if answer.probabilities is None
        else dumps({n: _short(p) for n, p in answer.probabilities.items()}),
        "" if answer.disagreement is None else f"{answer.disagreement:.6g}",
        "true" if answer.truncated else "",
    ]
    return [prediction, *rest]


class Jsonl(Format):
    """An object a line; `text` (and `text_pair`), or for tagging also `words`."""

    name = "jsonl"

    def check(self) -> None:
        if self.text_pair and not needs_pair(self.task):
            raise ConfigError(f"--text-pair is given, but task '{self.task.name}' reads one text")

    def items(self, place: Place) -> Iterator[tuple[Item, Place]]:
        for line, number, offset in lines(self.path, place):
            place = Place(offset, number, place.items)
            text, end = bare(line)
            if not text.strip():
                continue
            try:
                found = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise DataError(self.path, f"is no JSON object ({error})", number) from error
            if not isinstance(found, dict):
                raise DataError(self.path, "is no JSON object", number)
            if "prediction" in found:
                raise DataError(self.path, "has a field 'prediction' already", number)
            place = Place(offset, number, place.items + 1)
            yield self._item(found, end, number), place

    def _item(self, found: dict[str, Any], end: str, number: int) -> Item:
        words = found.get("words")
        if self.kind == "tags" and self.text is None and "text" not in found and words is not None:
            if not isinstance(words, list) or not all(isinstance(w, str) and w for w in words):
                raise DataError(self.path, "has 'words' that are no list of texts", number)
            text, spans = " ".join(words), []
            at = 0
            for word in words:
                spans.append((at, at + len(word)))
                at += len(word) + 1
            content = tuple(words)
            example = Example(
                f"line {number}", content, None, blank_target(self.task, self.labels, content)
            )
            return Item((found, end), example if words else None, _whole(self, text, number), spans)
        text = self._field(found, self.text or own_column(self.task, "text", found), number)
        pair = None
        if needs_pair(self.task):
            name = self.text_pair or own_column(self.task, "text_pair", found)
            pair = self._field(found, name, number)
        item = self.example(text, pair, number)
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


def own_column(task: Task, knob: str, columns: Any) -> str:
    """`text` if there is such a column, else the one that the task's own files have."""
    own = getattr(task, knob, None)
    return str(own) if knob not in columns and isinstance(own, str) and own in columns else knob


class Csv(Format):
    """Rows with a header; fields may be quoted and hold line ends."""

    name = "csv"
    delimiter: ClassVar[str] = ","

    def __init__(self, *args: Any, **knobs: Any) -> None:
        super().__init__(*args, **knobs)
        first = next(self._rows(Place()), None)
        if first is None:
            raise DataError(self.path, "is empty")
        self.header, _, self._begin = first
        if taken := [name for name in COLUMNS if name in self.header]:
            raise DataError(self.path, f"has a column {taken[0]!r} already", 1)
        self._text = self._column("text", self.text)
        self._pair = self._column("text_pair", self.text_pair) if needs_pair(self.task) else None

    def check(self) -> None:
        if self.text_pair and not needs_pair(self.task):
            raise ConfigError(f"--text-pair is given, but task '{self.task.name}' reads one text")

    def _column(self, knob: str, name: str | None) -> int:
        name = name or own_column(self.task, knob, self.header)
        if self.header.count(name) != 1:
            many = "several columns" if name in self.header else "no column"
            option = f"--{knob.replace('_', '-')}"
            raise DataError(
                self.path,
                f"has {many} {name!r} in its header; name one with {option}"
                + ("" if name in self.header else did_you_mean(name, self.header)),
                1,
            )
        return self.header.index(name)

    def _rows(self, place: Place) -> Iterator[tuple[list[str], str, Place]]:
        """(fields, line end, place after the row)."""
        pending, begun = "", 0
        for line, number, offset in lines(self.path, place):
            begun = begun or number
            pending += line
            if self._open(pending):
                if len(pending) > MOST_CHARACTERS:
                    raise DataError(self.path, 'a field that begins with " is never closed', begun)
                continue
            text, end = bare(pending)
            pending = ""
            if text.strip():
                place = Place(offset, number, place.items)
                yield self._fields(text, begun), end, place
            begun = 0
        if pending:
            raise DataError(self.path, 'a field that begins with " is never closed', begun)

    def _open(self, text: str) -> bool:
        """Does the row go on in the next line?"""
        return text.count('"') % 2 == 1

    def _fields(self, text: str, number: int) -> list[str]:
        try:
            before = csv.field_size_limit(MOST_CHARACTERS)
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise DataError(self.path, f"is no csv ({error})", number) from error
        finally:
            csv.field_size_limit(before)
        return [] if not rows else rows[0]

    def items(self, place: Place) -> Iterator[tuple[Item, Place]]:
        start = self._begin if place.offset == 0 else place
        for fields, end, after in self._rows(start):
            if len(fields) != len(self.header):
                raise DataError(
                    self.path,
                    f"has {len(fields)} columns where the header has {len(self.header)}",
                    after.line,
                )
            text = fields[self._text]
            pair = None if self._pair is None else fields[self._pair]
            item = self.example(text, pair, after.line)
            place = Place(after.offset, after.line, place.items + 1)
            yield Item((fields, end), item.example, text, item.spans), place

    def head(self) -> str:
        return self._row([*self.header, *COLUMNS], "\n")

    def written(self, item: Item, answer: Answer) -> str:
        fields, end = item.raw
        return self._row([*fields, *cells(answer, item)], end)

    def _row(self, fields: Sequence[str], end: str) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator=end).writerow(fields)
        return out.getvalue()


class Tsv(Csv):
    """The same with tabs; a quotation mark is an ordinary character."""

    name = "tsv"

    def _open(self, text: str) -> bool:
        return False

    def _fields(self, text: str, number: int) -> list[str]:
        return text.split("\t")

    def _row(self, fields: Sequence[str], end: str) -> str:
        return "\t".join(fields) + end


class Conll(Format):
    """A word a line, in the first column, and a blank line after a sentence."""

    name = "conll"
    as_trained = True

    def check(self) -> None:
        if self.kind != "tags":
            raise ConfigError(
                f"--format conll holds words, but task '{self.task.name}' reads whole texts; use "
                "text, csv, tsv or jsonl"
            )
        self.no_columns()

    def items(self, place: Place) -> Iterator[tuple[Item, Place]]:
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
                place = Place(offset, number, place.items + 1)
                yield self._item(read, words, begun), place
                read, words, begun = [], [], 0
        if read:
            yield self._item(read, words, begun), Place(offset, number, place.items + bool(words))

    def _item(self, read: Any, words: Sequence[str], begun: int) -> Item:
        content = tuple(words)
        target = blank_target(self.task, self.labels, content)
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
        for line, _, _ in lines(output, Place()):
            text, _ = bare(line)
            if text.strip() and not text.startswith("-DOCSTART-"):
                fields = text.split("\t") if "\t" in text else text.split()
                tags.append(fields[-3 if self.several else -2])
            elif tags:
                yield tags
                tags = []
        if tags:
            yield tags


class Corpus(Format):
    """The task's own file, read as its test file is (whole)."""

    name = "task"
    as_trained = True

    def check(self) -> None:
        self.no_columns()
        if self.kind == "tags":
            raise ConfigError("--format task of words is --format conll")

    def items(self, place: Place) -> Iterator[tuple[Item, Place]]:
        for number, example in enumerate(self.task.read(self.path)):
            if number >= place.items:
                blank = blank_target(self.task, self.labels, example.text)
                text = str(example.text)
                item = Example(example.id, example.text, example.text_pair, blank)
                yield Item(example.id, item, text), Place(number + 1, 0, number + 1)

    def written(self, item: Item, answer: Answer) -> str:
        return dumps({"id": item.raw, **as_json(answer, item)}) + "\n"

    def predictions(self, output: Path) -> Iterator[Any]:
        for line, _, _ in lines(output, Place()):
            yield json.loads(line)["prediction"]


FORMATS: Mapping[str, type[Format]] = {f.name: f for f in (Text, Csv, Tsv, Jsonl, Conll, Corpus)}
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
        return "conll" if said == "task" and task.head == "token" else said
    if path.is_dir():
        return "brat"
    suffixes = [s for s in path.suffixes if s != ".gz"]
    found = ENDINGS.get(suffixes[-1] if suffixes else "")
    if found is None:
        raise ConfigError(
            f"the name {path.name!r} does not tell what is in it; say --format {'|'.join(known)}"
        )
    return "conll" if found == "tsv" and task.head == "token" else found
