"""Which format a file or folder has: by its name where that says it, else by its first lines."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import lines_in
from bluestab.data.formats.bioc import is_bioc
from bluestab.data.formats.columnar import is_dataset
from bluestab.data.formats.columns import NAMES
from bluestab.data.formats.conll import separator_of
from bluestab.data.formats.pubtator import HEADING
from bluestab.data.readers import head_of

FORMATS = (
    "csv", "tsv", "json", "jsonl", "parquet", "dataset", "conll", "brat", "pubtator", "bioc",
)  # fmt: skip

ENDINGS = {
    ".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".pq": "parquet", ".conll": "conll", ".iob": "conll", ".iob2": "conll", ".bio": "conll",
    ".conllu": "conll", ".bioes": "conll", ".pubtator": "pubtator",
}  # fmt: skip
"""Names that say the format. .tsv and .txt do not: corpora of words and tags carry them, too."""

OTHERS = {
    ".xlsx": "an Excel sheet: save it as CSV (UTF-8)", ".xls": "an Excel sheet: save it as CSV",
    ".ods": "a spreadsheet: save it as CSV", ".zip": "an archive: unpack it",
    ".tar": "an archive: unpack it", ".tgz": "an archive: unpack it", ".xml": "XML (of BioC the "
    "JSON form is read)",
    ".bz2": "packed with bzip2, not gzip: unpack it", ".xz": "packed with xz, not gzip: unpack it",
    ".zst": "packed with zstd, not gzip: unpack it",
    ".7z": "an archive: unpack it", ".rar": "an archive: unpack it",
    ".arrow": "a part of a saved dataset: name its folder", ".pkl": "a pickle, which could run "
    "code: save it as JSONL or Parquet", ".pickle": "a pickle, which could run code: save it as "
    "JSONL or Parquet",
}  # fmt: skip


PARTS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "valid", "validation", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""Usual name of a file or folder -> the setting that reads it."""
NO_DATA = re.compile(r"\.|(readme|licen[cs]e|citation)\b", re.IGNORECASE)
"""Files that lie beside data."""


def recognise(path: Path, *, words: bool) -> str:
    """The name of the format, one of `FORMATS`.

    words  the task is one of words and tags: a file of two columns with empty lines is CoNLL

    Raises DataError if it cannot be told: a guess would be a silent wrong number.
    """
    if path.is_dir():
        return _of_folder(path)
    suffix = suffix_of(path)
    if suffix in OTHERS:
        raise DataError(path, f"is {OTHERS[suffix]}; known formats: {', '.join(FORMATS)}")
    if suffix in ("", ".json", ".jsonl", ".biocjson") and is_bioc(path):
        return "bioc"
    if suffix in ENDINGS and suffix != ".json":
        return "conll" if suffix == ".csv" and words and _is_conll(path) else ENDINGS[suffix]
    if not suffix and head_of(path, 4) == b"PAR1":
        return "parquet"
    lines, _ = lines_in(path)
    filled = [line for line in lines if line.strip()]
    if filled[0].lstrip().startswith(("{", "[")) and (suffix == ".json" or _opens(filled[0])):
        several = filled[0].lstrip().startswith("{") and len(filled) > 1 and _is_object(filled[0])
        return "jsonl" if several and _is_object(filled[1]) else "json"
    if suffix == ".json":
        return "json"
    if any(_is_heading(line) for line in filled[:20]):
        return "pubtator"
    if words and _looks_like_words(lines):
        return "conll"
    if suffix in (".tsv", ".tab"):
        return "tsv"
    if any("\t" in line for line in filled):
        return "tsv"
    if not words:
        return "csv"
    raise DataError(
        path,
        f"its format cannot be told from its name and first lines; say task.format="
        f"{'|'.join(FORMATS)}",
    )


def _is_conll(path: Path) -> bool:
    """Has a .csv a word per line and empty lines between sentences, but no names of columns?"""
    lines, _ = lines_in(path)
    filled = [line.strip() for line in lines if line.strip()]
    divided = any(
        not line.strip() and any(after.strip() for after in lines[i + 1 : i + 9])
        for i, line in enumerate(lines[:2000])
        if any(before.strip() for before in lines[max(0, i - 8) : i])
    )
    first = {cell.strip('" ').lower() for cell in re.split("[,;\t]", filled[0])}
    if not divided or first & NAMES:
        return False
    sign = separator_of(path, filled)
    if sign is not None:
        return True
    fields = [line.split("\t") if "\t" in line else line.split() for line in filled[:2000]]
    width = len(fields[0])
    return width >= 2 and all(len(one) == width for one in fields)


def suffix_of(path: Path) -> str:
    """The ending of a name in lower case, that of the packed file for NAME.gz."""
    name = path.name.removesuffix(".gz")
    return Path(name).suffix.lower()


def _of_folder(path: Path) -> str:
    if is_dataset(path):
        return "dataset"
    if any(path.glob("*.ann")):
        return "brat"
    try:
        files = sorted(p.name for p in path.iterdir())[:5]
        parts = _parts_of(path)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from error
    if "train" in parts:
        settings = " ".join(shlex.quote(f"task.{part}={where}") for part, where in parts.items())
        raise DataError(path, f"is a folder of parts, not one of them; say {settings}")
    raise DataError(
        path,
        "is a folder, but neither a BRAT folder (.txt and .ann) nor a saved dataset (state.json); "
        f"it holds {', '.join(files) or 'nothing'}",
    )


def _parts_of(path: Path) -> dict[str, Path]:
    """Setting -> what it reads, of a folder with files or folders for training, validation, test.

    A folder that is read file by file stands for its only one.
    """
    found: dict[str, Path] = {}
    for entry in sorted(path.iterdir()):
        part = PARTS.get(entry.name.lower().partition(".")[0])
        if part is None or part in found:
            continue
        if not entry.is_dir() or is_dataset(entry) or any(entry.glob("*.ann")):
            found[part] = entry
            continue
        files = [f for f in entry.iterdir() if f.is_file() and not NO_DATA.match(f.name)]
        if len(files) == 1:
            found[part] = files[0]
    return {part: found[part] for part in ("train", "validation", "test") if part in found}


def _opens(line: str) -> bool:
    return line.lstrip().startswith(('{"', "[{", "{ ", "[\n", "[ {")) or line.strip() in "[{"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_heading(line: str) -> bool:
    match = HEADING.fullmatch(line)
    return match is not None and match[2] == "t" and bool(re.fullmatch(r"[\w.:-]+", match[1]))


def _looks_like_words(lines: list[str]) -> bool:
    """Short first fields, and sentences divided by empty lines or document marks."""
    rows = [line for line in lines[:2000] if line.strip()]
    if any(line.startswith("-DOCSTART-") for line in rows):
        return True
    divided = any(
        not line.strip() and i + 1 < len(lines) and lines[i + 1].strip()
        for i, line in enumerate(lines[:2000])
    )
    first = [(line.split("\t") if "\t" in line else line.split()) for line in rows]
    single = all(len(fields[0].split()) <= 1 for fields in first)
    narrow = sum(len(fields) >= 2 for fields in first) >= 0.9 * len(first)
    return single and narrow and (divided or all(len(fields) == 2 for fields in first))
