"""CoNLL: a word per line with its tag, in two or more columns; an empty line ends a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import Sentences, TaggedWords, lines_in, short
from bluestab.data.formats.delimited import records

SETTING = re.compile(r"#\s*[\w.:-]+\s*=")
"""`# sent_id = 12`, as in CoNLL-U."""


def read_conll_columns(path: Path, *, word: int | None = None, tag: int | None = None) -> Sentences:
    """Sentences of a file. Columns are separated by tabs, or all by blanks; in a .csv by commas or
    semicolons where it has neither.

    word, tag  column numbers from 0; None: the first, and the last

    `-DOCSTART-` lines name or count documents. A line that starts with # is a comment, unless it
    has all columns and a tag that other words have, too. Raises DataError for a line with another
    number of columns than the first, and for a missing word or tag.
    """
    lines, notes = lines_in(path)
    said = list(notes)
    plain = [n for n, line in enumerate(lines) if line.strip() and not _is_mark(line)]
    if not plain:
        raise DataError(path, "holds no words")
    tabs = "\t" in lines[plain[0]]
    if (sign := separator_of(path, [lines[n] for n in plain])) is not None:
        said.append(f"columns are separated by {sign!r}")
        rows = {n: _cells(path, lines[n], sign, n + 1) for n in plain}
    else:
        rows = {n: lines[n].split("\t") if tabs else lines[n].split() for n in plain}
    words_alone = [n for n in plain if not lines[n].startswith("#")] or plain
    width = len(rows[words_alone[0]])
    at = {"text": 0 if word is None else word, "label": width - 1 if tag is None else tag}
    for knob, column in at.items():
        if not 0 <= column < width:
            raise DataError(
                path,
                f"has {width} columns, but task.{knob} is {column} (columns count from 0)",
                words_alone[0] + 1,
            )
    if width < 2 or at["text"] == at["label"]:
        raise DataError(
            path,
            f"expected a word and its tag in columns, found {short(lines[words_alone[0]])}",
            words_alone[0] + 1,
        )
    tags = {rows[n][at["label"]].strip() for n in words_alone if len(rows[n]) == width}
    comments = {n for n in plain if _is_comment(lines[n], rows[n], width, at["label"], tags)}
    sentences: list[TaggedWords] = []
    open_rows: list[tuple[str, str, int]] = []
    document, n_documents = None, 0

    def close() -> None:
        if open_rows:
            words, its_tags, numbers = zip(*open_rows, strict=True)
            sentences.append(TaggedWords(words, its_tags, numbers, f"line {numbers[0]}", document))
            open_rows.clear()

    for n, line in enumerate(lines):
        if not line.strip():
            close()
        elif line.startswith("-DOCSTART-"):
            close()
            n_documents += 1
            document = _document(line) or f"document {n_documents}"
        elif n in comments:
            continue
        else:
            fields = rows.get(n) or line.split()
            _check(path, line, fields, width, tabs, n + 1, words_alone[0] + 1)
            parts = fields[at["text"]], fields[at["label"]].strip()
            if not parts[0].strip() or not parts[1]:
                what = "word" if not parts[0].strip() else "tag"
                raise DataError(path, f"has no {what}: {short(line)}", n + 1)
            open_rows.append((*parts, n + 1))
    close()
    if not sentences:
        raise DataError(path, "holds no words")
    _no_numbers(path, sentences)
    if comments:
        said.append(f"{len(comments)} comment lines (first: line {min(comments) + 1})")
    if width > 2:
        said.append(f"of {width} columns, {at['text']} holds the words and {at['label']} the tags")
    return Sentences(path, sentences, tuple(said))


def separator_of(path: Path, lines: Sequence[str]) -> str | None:
    """The sign between the columns of a .csv whose lines hold no tab and no blank; else None."""
    if path.name.removesuffix(".gz")[-4:].lower() != ".csv":
        return None
    signs = {sign for sign in ",;" if all(sign in line for line in lines)}
    if not signs or any("\t" in line or " " in line.strip() for line in lines):
        return None
    return max(sorted(signs), key=lambda sign: -sum(line.count(sign) for line in lines))


def _cells(path: Path, line: str, sign: str, number: int) -> list[str]:
    """The columns of a line; a word that is the sign itself stands in quotation marks."""
    found = [fields for fields, _ in records(path, [line], sign, True, number)]
    return list(found[0]) if found else [line]


def _is_mark(line: str) -> bool:
    return line.startswith("-DOCSTART-")


def _document(line: str) -> str | None:
    """`-DOCSTART- (10037531)` and `-DOCSTART- 95369245` name a document; `-X- O O` does not."""
    match = re.search(r"\d{2,}", line)
    return match.group() if match else None


def _is_comment(line: str, fields: list[str], width: int, tag: int, tags: set[str]) -> bool:
    if not line.startswith("#"):
        return False
    if len(fields) == width and fields[tag].strip() in tags:
        return False
    return len(fields) != width or bool(SETTING.match(line)) or len(fields[0]) == 1


def _check(
    path: Path, line: str, fields: list[str], width: int, tabs: bool, number: int, first: int
) -> None:
    if len(fields) == width:
        return
    if tabs != ("\t" in line):
        one, other = ("tabs", "blanks") if tabs else ("blanks", "a tab")
        raise DataError(
            path,
            f"columns are separated by {one} in line {first}, by {other} or not at all here: "
            f"{short(line)}",
            number,
        )
    raise DataError(
        path, f"has {len(fields)} columns where line {first} has {width}: {short(line)}", number
    )


def _no_numbers(path: Path, sentences: list[TaggedWords]) -> None:
    """Word numbers 1, 2, 3 of CoNLL-U are no words."""
    long = [s for s in sentences if len(s.words) > 1]
    if long and all(s.words == tuple(map(str, range(1, len(s.words) + 1))) for s in long):
        raise DataError(
            path,
            "the first column numbers the words; say task.text=1, or which column holds them",
            long[0].lines[0],
        )
