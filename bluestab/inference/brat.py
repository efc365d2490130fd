"""A folder of documents, NAME.txt, each answered by NAME.ann in the standoff form of brat.

    T1<tab>Disease 12 20<tab>carcinoma
    #1<tab>AnnotatorNotes T1<tab>probability 0.98

Characters are counted in the .txt, line ends included; a mention across a line end has two parts,
as brat demands. The output is a folder with the .txt files, as they were, and their .ann files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError, DataError
from bluestab.core.paths import real
from bluestab.core.plain_files import read_text
from bluestab.core.types import Example
from bluestab.data.readers import read_bytes
from bluestab.inference.formats.base import (
    MOST_CHARACTERS,
    Item,
    dumps,
    entity,
    plain,
    too_long,
    words_of,
)
from bluestab.inference.stream import Answering, Counts, Progress
from bluestab.store.files import flush, flush_tree, write_text
from bluestab.tasks.base import Task
from bluestab.tasks.outputs import Answer

JOURNAL = ".bluestab.json"


def documents(folder: Path) -> list[Path]:
    """The .txt files of a folder, in order. Raises ConfigError for links out of it."""
    found = sorted(p for p in folder.iterdir() if p.suffix == ".txt")
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise ConfigError(f"{path} is a link or no file; only files of {folder} are read")
    if not found:
        raise ConfigError(f"{folder} holds no .txt file")
    return found


def predict_folder(
    folder: Path,
    task: Task,
    labels: Sequence[str],
    answering: Answering,
    output: Path,
    made: Mapping[str, Any],
    progress: Progress = lambda *_: None,
) -> Counts:
    """Answer every document. An interrupted command goes on with the documents that are missing.

    made  see `stream.predict_file`; raises what that raises
    """
    if not task.output.per_word:
        raise ConfigError(
            f"brat holds mentions, but task '{task.name}' has none; use text or jsonl"
        )
    if output.exists():
        raise ConfigError(f"{output} is there already; remove it, or choose another --output")
    texts = documents(folder)
    said = dumps({"input": str(real(folder)), **made})
    partial = output.with_name(output.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    journal = partial / JOURNAL
    if not journal.is_file():
        write_text(journal, said)
    elif read_text(journal) != said:
        raise ConfigError(f"{partial} is of another command; remove it to begin anew")
    counts = Counts()
    for path in texts:
        target = partial / path.with_suffix(".ann").name
        item = _read(path, task, labels)
        if target.is_file() and (partial / path.name).read_bytes() == path.read_bytes():
            counts.items += 1
            counts.begun += 1
            continue
        answer = task.output.nothing() if item.example is None else answering([item.example])[0]
        shutil.copyfile(path, partial / path.name)
        write_text(target, standoff(item, answer))
        counts.add(item, answer)
        progress(path.stat().st_size, counts.items)
    journal.unlink()
    flush_tree(partial)
    os.rename(partial, output)
    flush(output.parent)
    return counts


def _read(path: Path, task: Task, labels: Sequence[str]) -> Item:
    if path.stat().st_size > 4 * MOST_CHARACTERS:
        raise too_long(path, 1)
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(path, "is not UTF-8; convert the file to UTF-8") from error
    spans = words_of(text)
    words = tuple(text[a:b] for a, b in spans)
    if not words:
        return Item(None, None, text)
    example = Example(path.name, words, None, task.output.blank(labels, words))
    return Item(None, example, text, spans)


def standoff(item: Item, answer: Answer) -> str:
    """Content of the .ann file."""
    out = []
    for number, found in enumerate(answer.entities, start=1):
        said = entity(found, item)
        parts = fragments(item.text, said["start"], said["end"])
        place = ";".join(f"{a} {b}" for a, b in parts)
        words = " ".join(item.text[a:b] for a, b in parts)
        kind = "".join(c if c.isalnum() or c in "_-" else "_" for c in plain(said["type"]))
        out.append(f"T{number}\t{kind or 'Entity'} {place}\t{words}\n")
        note = f"probability {said['probability']:.4f}"
        if "disagreement" in said:
            note += f", disagreement {said['disagreement']:.3f}"
        out.append(f"#{number}\tAnnotatorNotes T{number}\t{note}\n")
    return "".join(out)


def fragments(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """A span without the line ends in it, which brat forbids."""
    found, at = [], start
    for part in text[start:end].splitlines(keepends=True):
        bare = part.rstrip()
        lead = len(bare) - len(bare.lstrip())
        if bare.strip():
            found.append((at + lead, at + len(bare)))
        at += len(part)
    return found
