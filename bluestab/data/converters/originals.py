"""Reading what was downloaded: archives in memory, XML without entities, tables, lists of ids."""

from __future__ import annotations

import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bluestab.core.errors import DataError
from bluestab.data.readers import lines_of, read_bytes

MAX_BYTES = 64 * 2**20
"""Largest member of an archive that is read; the largest of the corpora has 1.7 MB."""

Files = Mapping[str, Path]


def given(files: Files, name: str) -> Path:
    """The downloaded file of this name. Raises DataError where the mapping lacks it."""
    if name not in files:
        have = ", ".join(sorted(files)) or "nothing"
        raise DataError(name, f"is needed for this conversion and was not given (given: {have})")
    return files[name]


def zip_members(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Content of the wanted files of a zip archive, by name, in the order of the archive."""
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.is_dir() or not wanted(info.filename):
                    continue
                _admit(path, info.filename, info.file_size, members)
                members[info.filename] = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise DataError(path, f"is not a readable zip archive ({error})") from error
    return members


def tar_members(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Content of the wanted files of a gzipped tar archive, by name, in its order."""
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for info in archive:
                if not info.isreg() or not wanted(info.name):
                    continue
                _admit(path, info.name, info.size, members)
                content = archive.extractfile(info)
                members[info.name] = content.read() if content else b""
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError) as error:
        raise DataError(path, f"is not a readable tar.gz archive ({error})") from error
    return members


def _admit(path: Path, name: str, size: int, members: Mapping[str, bytes]) -> None:
    """Refuse a member that is there twice or whose size no corpus file has (a bomb)."""
    if name in members:
        raise DataError(path / name, "is twice in the archive")
    if size > MAX_BYTES:
        raise DataError(path / name, f"has {size} bytes; more than {MAX_BYTES} are not unpacked")


class _NoDoctype(ElementTree.TreeBuilder):
    """Entities can only be declared in a document type: without one there is no expansion."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("declares a document type, which the corpus does not; refused")


def xml_root(where: Path, raw: bytes) -> ElementTree.Element:
    """Root of an XML document. Raises DataError with the line of a syntax error."""
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        parser.feed(raw)
        root: ElementTree.Element = parser.close()
        return root
    except ElementTree.ParseError as error:
        raise DataError(where, f"is not XML ({error})", error.position[0]) from error
    except (ValueError, LookupError) as error:
        raise DataError(where, str(error)) from error


def table(
    where: Path, raw: bytes, columns: Sequence[str], *, header: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of tab-separated text without quoting; the last column may hold tabs.

    Empty lines are skipped. Raises DataError for a row with too few columns or, with `header`, for
    a first line that names others.
    """
    for number, line in lines_of(where, raw):
        if not line.strip():
            continue
        fields = line.split("\t", len(columns) - 1)
        if len(fields) < len(columns):
            raise DataError(
                where,
                f"has {len(fields)} columns, not {len(columns)} ({', '.join(columns)})",
                number,
            )
        if header:
            header = False
            if fields != list(columns):
                raise DataError(where, f"names the columns {fields}, not {list(columns)}", number)
            continue
        yield number, dict(zip(columns, fields, strict=True))


def whole(where: Path, text: str, what: str, line: int | None = None) -> int:
    """An integer >= 0 from a field called `what`."""
    if not (text.isascii() and text.isdigit()):
        raise DataError(where, f"{what} is {text!r}, not a whole number", line)
    return int(text)


def split_lists(corpus: str) -> dict[str, list[str]]:
    """Part (train, dev, test) -> ids in the order of the published split, shipped beside this."""
    text = (
        package_files("bluestab.data.converters")
        .joinpath("splits", f"{corpus}.txt")
        .read_text("ascii")
    )
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {part: ids for part, *ids in rows}


def text_of(value: Any, where: Path, what: str) -> str:
    """A non-empty string from JSON. Raises DataError naming what it should have been."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(where, f"{what} should be a text, is {value!r}")
    return value


def one_line(text: str) -> str:
    """Text that fits into a cell of a table: line ends and tabs become blanks, one each."""
    return text.translate({ord(c): " " for c in "\n\r\t"})


def masked(
    text: str, first: tuple[int, int], second: tuple[int, int], names: tuple[str, str], joint: str
) -> str:
    """A sentence with two mentions replaced by placeholders, `first` beginning no later.

    Spans are character offsets, end exclusive. Mentions that overlap become one placeholder
    `joint` (BLURB, Gu et al. 2021, section 3.2).
    """
    if first[1] > second[0]:
        return text[: first[0]] + joint + text[max(first[1], second[1]) :]
    between = text[first[1] : second[0]]
    return text[: first[0]] + names[0] + between + names[1] + text[second[1] :]


def json_content(path: Path) -> Any:
    """Value of a JSON file. Raises DataError with the line of a syntax error."""
    try:
        return json.loads(read_bytes(path))
    except json.JSONDecodeError as error:
        raise DataError(path, f"is not JSON ({error.msg})", error.lineno) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(path, f"is not JSON ({error})") from error
