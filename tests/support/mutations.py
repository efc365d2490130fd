"""Files as people's tools damage or rewrite them, and what plain means read in them.

A mutation says what its file must be read as (`expected`: it only writes the same in another way),
or leaves that to the independent reader of the format, a few lines of the standard library each.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Items = list[Any]
"""Of texts (text, label); of words (words, {(first word, last word, type), ...})."""

Files = Mapping[str, bytes]
"""Name -> content; the first one is given to the task."""

WORD = re.compile(r"[^\W_]+|[^\w\s]|_")


def slips(content: bytes, r: random.Random) -> bytes:
    """One to three slips of a hand, a disk or a program."""
    from tests.data.formats.test_mutated import mutated

    return mutated(content, r)


class Undefined(Exception):
    """Plain means cannot say what a file holds."""


@dataclass(frozen=True)
class Mutation:
    """files: what is written; expected: what it must be read as; None: the independent reader says,
    [] : it is no such file, and must be refused."""

    files: Files
    expected: Items | None = None


@dataclass(frozen=True)
class Base:
    """A whole file: the kind of task, its content and items, and the reader for its mutations."""

    kind: str
    name: str
    content: bytes
    items: Items
    read: Callable[[bytes], Items]

    def files(self) -> dict[str, bytes]:
        return brat() if self.name == "b" else {self.name: self.content}

    def reading(self, files: Files) -> Items:
        """Of the independent reader. Raises Undefined."""
        return read_brat(files) if self.name == "b" else self.read(next(iter(files.values())))


# --- what is in the files ------------------------------------------------------------------------

TEXTS = [(f"Case {i}: naïve, 5 µm \U0001f642 of gout" if i % 5 == 0 else f"words number {i}",
          "yes" if i % 2 else "no") for i in range(24)]  # fmt: skip
SENTENCES = [
    ([f"Colon{i}", "cancer", "and", "gout", "."], ["B-Dis", "I-Dis", "O", "B-Dis", "O"])
    if i % 3
    else (["Fanconi", "like", "anaemia", "gout", f"{i}"], ["B-Dis", "I-Dis", "I-Dis", "B-Dis", "O"])
    for i in range(12)
]  # fmt: skip
DOCUMENTS = [
    (f"{100 + i}", f"\U0001f642 Case {i}: colon cancer. Then gout, once." if i % 4 == 0
     else f"Case {i}: colon cancer. Then gout, once.")
    for i in range(12)
]  # fmt: skip


def mentions(text: str) -> list[tuple[int, int, str]]:
    return [
        (m.start(), m.end(), "Dis" if m.group() == "gout" else "Can")
        for m in re.finditer("colon cancer|gout", text)
    ]


def entities(tags: Sequence[str]) -> frozenset[tuple[int, int, str]]:
    """Of IOB2, IOB1 and IOBES; I- after nothing of its type begins one."""
    found: list[list[Any]] = []
    before = ("O", "")
    for i, tag in enumerate(tags):
        letter, _, kind = tag.partition("-")
        if tag != "O" and letter not in "BIESLU":
            raise Undefined
        if tag != "O":
            goes_on = letter in "IEL" and before[1] == kind and before[0] in "BI"
            if goes_on:
                found[-1][1] = i
            else:
                found.append([i, i, kind])
        before = (letter, kind) if tag != "O" else ("O", "")
    return frozenset((a, b, kind) for a, b, kind in found)


def of_spans(text: str, spans: Sequence[tuple[int, int, str]]) -> tuple[Any, Any]:
    """Words of a text, and its mentions by words. Raises Undefined where two share a word."""
    words = [(m.start(), m.end()) for m in WORD.finditer(text)]
    found, taken = set(), set()
    for start, end, kind in set(spans):
        inside = [i for i, (a, b) in enumerate(words) if a < end and start < b]
        if not (0 <= start < end <= len(text)) or not inside or taken & set(inside):
            raise Undefined
        taken |= set(inside)
        found.add((inside[0], inside[-1], kind))
    return tuple(text[a:b] for a, b in words), frozenset(found)


WORDS: Items = [(tuple(words), entities(tags)) for words, tags in SENTENCES]
SPANS: Items = [of_spans(text, mentions(text)) for _, text in DOCUMENTS]


# --- independent readers -------------------------------------------------------------------------


def text_in(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Undefined from error
    return text if "\n" in text else text.replace("\r", "\n")


def read_csv(content: bytes) -> Items:
    try:
        table = list(csv.reader(io.StringIO(text_in(content), newline=""), strict=True))
    except csv.Error as error:
        raise Undefined from error
    return _of_table([row for row in table if any(cell.strip() for cell in row)])


def read_tsv(content: bytes) -> Items:
    lines = re.split("\r\n|\r|\n", text_in(content))
    return _of_table([line.split("\t") for line in lines if line.strip()])


def _of_table(table: list[list[str]]) -> Items:
    if not table or len({len(row) for row in table}) != 1:
        raise Undefined
    names = [cell.strip().lower() for cell in table[0]]
    if names.count("text") != 1 or names.count("label") != 1:
        raise Undefined
    text, label = names.index("text"), names.index("label")
    return [(row[text], row[label].strip()) for row in table[1:]]


def read_jsonl(content: bytes) -> Items:
    return _of_objects(
        [_loaded(line) for line in text_in(content).split("\n") if line.strip()], _pair
    )


def read_json(content: bytes) -> Items:
    return _of_objects(_loaded(text_in(content)), _pair)


def read_spans(content: bytes) -> Items:
    return _of_objects(
        [_loaded(line) for line in text_in(content).split("\n") if line.strip()], _spans
    )


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Undefined from error


def _of_objects(found: Any, item: Callable[[Any], Any]) -> Items:
    try:
        return [item(one) for one in found]
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise Undefined from error


def _pair(one: Any) -> tuple[str, str]:
    if not isinstance(one["text"], str) or not isinstance(one["label"], str):
        raise Undefined
    return one["text"], one["label"].strip()


def _spans(one: Any) -> tuple[Any, Any]:
    if "spans" not in one and any(isinstance(value, list) for value in one.values()):
        raise Undefined
    spans = one.get("spans") or []  # a text of which nothing is said has no mentions
    return of_spans(one["text"], [(a, b, kind.strip()) for a, b, kind in spans])


def read_conll(content: bytes) -> Items:
    found: list[tuple[list[str], list[str]]] = [([], [])]
    for line in text_in(content).split("\n"):
        fields = line.removesuffix("\r").split("\t") if "\t" in line else line.split()
        if not line.strip() or line.startswith("-DOCSTART-"):
            found.append(([], []))
        elif len(fields) != 2 or not all(field.strip() for field in fields):
            raise Undefined
        else:
            found[-1][0].append(fields[0])
            found[-1][1].append(fields[1].strip())
    return [(tuple(words), entities(tags)) for words, tags in found if words]


def read_pubtator(content: bytes) -> Items:
    texts: dict[str, str] = {}
    spans: dict[str, list[tuple[int, int, str]]] = {}
    for line in text_in(content).split("\n"):
        line = line.removesuffix("\r")
        if match := re.fullmatch(r"([^|\t]+)\|([ta])\|(.*)", line):
            name, kind, text = match.groups()
            if (kind == "t") == (name in texts):
                raise Undefined
            texts[name] = text if kind == "t" else f"{texts[name]} {text}"
            spans.setdefault(name, [])
        elif line.strip():
            fields = line.split("\t")
            if len(fields) < 5 or fields[0] not in texts:
                raise Undefined
            try:
                spans[fields[0]].append((int(fields[1]), int(fields[2]), fields[4].strip()))
            except ValueError as error:
                raise Undefined from error
    return [of_spans(text, spans[name]) for name, text in texts.items()]


def read_brat(files: Files) -> Items:
    """Line ends count as they are; anything but whole mentions is not defined here."""
    found = []
    for name in sorted(files):
        if not name.endswith(".txt"):
            continue
        try:
            text = files[name].decode()
            lines = files[name.replace(".txt", ".ann")].decode().split("\n")
        except (UnicodeDecodeError, KeyError) as error:
            raise Undefined from error
        spans = []
        lines[0] = lines[0].removeprefix("\ufeff")
        for line in lines:
            if not line.strip() or line.startswith("#"):
                continue  # notes of annotators
            match = re.fullmatch(r"T\S+\t(\S+) (\d+) (\d+)\t.*", line.removesuffix("\r"))
            if match is None:
                raise Undefined
            spans.append((int(match[2]), int(match[3]), match[1]))
        found.append(of_spans(text.removeprefix("\ufeff"), spans))
    return found


def read_label_studio(content: bytes) -> Items:
    return _of_objects(_loaded(text_in(content)), _task)


def _task(one: Any) -> tuple[Any, Any]:
    (annotation,) = one["annotations"]
    if annotation["was_cancelled"] is not False:
        raise Undefined
    return of_spans(
        one["data"]["text"],
        [
            (r["value"]["start"], r["value"]["end"], r["value"]["labels"][0].strip())
            for r in annotation["result"]
            if r["type"] == "labels" and r["from_name"] == "label"  # others are named in a note
        ],
    )


def read_nothing(content: bytes) -> Items:
    """Of files that a mutation damages, or writes anew as `expected`."""
    raise Undefined


# --- the files -----------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]], sep: str = ",", mark: int = csv.QUOTE_MINIMAL) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=sep, lineterminator="\n", quoting=mark).writerows(rows)  # type: ignore[arg-type]
    return out.getvalue().encode()


def jsonl(found: Sequence[Any], **knobs: Any) -> bytes:
    return "".join(json.dumps(one, **knobs) + "\n" for one in found).encode()


def conll(tags: Callable[[list[str]], list[str]] = list, sep: str = "\t") -> bytes:
    return "".join(
        "".join(f"{w}{sep}{t}\n" for w, t in zip(words, tags(its), strict=True)) + "\n"
        for words, its in SENTENCES
    ).encode()


def pubtator(move: Callable[[str, int], int] = lambda text, at: at) -> bytes:
    out = ""
    for name, text in DOCUMENTS:
        title, _, rest = text.partition(". ")
        out += f"{name}|t|{title}.\n{name}|a|{rest}\n"
        for a, b, kind in mentions(text):
            out += f"{name}\t{move(text, a)}\t{move(text, b)}\t{text[a:b]}\t{kind}\tD1\n"
        out += "\n"
    return out.encode()


def brat(move: Callable[[str, int], int] = lambda text, at: at) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name, text in DOCUMENTS:
        files[f"b/{name}.txt"] = text.encode()
        files[f"b/{name}.ann"] = "".join(
            f"T{n}\t{kind} {move(text, a)} {move(text, b)}\t{text[a:b]}\n"
            for n, (a, b, kind) in enumerate(mentions(text), start=1)
        ).encode()
    return files


def span_objects(move: Callable[[str, int], int] = lambda text, at: at) -> list[dict[str, Any]]:
    return [
        {"text": text, "spans": [[move(text, a), move(text, b), k] for a, b, k in mentions(text)]}
        for _, text in DOCUMENTS
    ]


def label_studio() -> list[dict[str, Any]]:
    return [
        {
            "id": int(name),
            "data": {"text": text},
            "annotations": [
                {
                    "result": [
                        {
                            "type": "labels",
                            "from_name": "label",
                            "value": {"start": a, "end": b, "text": text[a:b], "labels": [kind]},
                        }
                        for a, b, kind in mentions(text)
                    ],
                    "was_cancelled": False,
                }
            ],
        }
        for name, text in DOCUMENTS
    ]


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    texts, labels = zip(*TEXTS, strict=True)
    pq.write_table(pa.table({"text": texts, "label": labels}), out, write_page_checksum=True)
    return out.getvalue()


OBJECTS = [{"text": text, "label": label} for text, label in TEXTS]
BASES: Mapping[str, Base] = {
    "csv": Base("classification", "f.csv", table([("text", "label"), *TEXTS]), TEXTS, read_csv),
    "tsv": Base(
        "classification", "f.tsv",
        "".join("\t".join(row) + "\n" for row in [("text", "label"), *TEXTS]).encode(),
        TEXTS, read_tsv,
    ),
    "jsonl": Base("classification", "f.jsonl", jsonl(OBJECTS), TEXTS, read_jsonl),
    "json": Base(
        "classification", "f.json", json.dumps(OBJECTS, indent=1).encode(), TEXTS, read_json
    ),
    "conll": Base("tagging", "f.conll", conll(), WORDS, read_conll),
    "spans": Base("tagging", "f.jsonl", jsonl(span_objects()), SPANS, read_spans),
    "pubtator": Base("tagging", "f.pubtator", pubtator(), SPANS, read_pubtator),
    "label_studio": Base(
        "tagging", "f.json", json.dumps(label_studio(), indent=1).encode(), SPANS,
        read_label_studio,
    ),
    "parquet": Base("classification", "f.parquet", parquet(), TEXTS, read_nothing),
    "brat": Base("tagging", "b", b"", SPANS, read_nothing),
}  # fmt: skip
