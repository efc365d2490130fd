"""Mutated files of every reader: the items that an independent reader finds, or one sentence with
file and reason; never another exception, within a second of time and a gigabyte.

`make test-mutations` reads 20,000 of them; 300 are among the quick tests.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError, DataError
from bluestab.core.instantiate import instantiate
from bluestab.core.types import Example
from bluestab.tasks.base import Task
from bluestab.tasks.data import located
from tests.support.mutations import (
    BASES,
    DOCUMENTS,
    OBJECTS,
    SENTENCES,
    TEXTS,
    Base,
    Items,
    Mutation,
    Undefined,
    brat,
    conll,
    entities,
    jsonl,
    label_studio,
    pubtator,
    slips,
    span_objects,
    table,
)

IN_ALL = 20_000
SECONDS, MEGABYTES = 10.0, 100

Mutate = Callable[[Base, random.Random], Mutation]


def damaged(base: Base, r: random.Random) -> Mutation:
    """Bytes: lost, doubled, moved, others."""
    files = base.files()
    name = r.choice(sorted(files))
    files[name] = slips(files[name], r)
    return Mutation(files)


def encoded(base: Base, r: random.Random) -> Mutation:
    files = base.files()
    if base.name == "f.parquet":
        return Mutation(files, base.items)
    form = r.choice(["latin-1", "cp1252", "utf-16", "utf-8-sig", "gzip", "utf-32", "cp437"])
    if form == "gzip":
        if base.name == "b":
            return damaged(base, r)
        return Mutation({f"{n}.gz": gzip.compress(c, 1) for n, c in files.items()}, base.items)
    chosen = list(files) if r.random() < 0.5 else [r.choice(sorted(files))]
    for name in chosen:
        files[name] = files[name].decode().encode(form, errors="replace")
    same = form == "utf-8-sig" or all(c == base.files()[n] for n, c in files.items())
    return Mutation(files, base.items if same else None)


def ended(base: Base, r: random.Random) -> Mutation:
    """Line ends."""
    files = base.files()
    if base.name in ("f.parquet", "b"):
        return damaged(base, r)
    ((name, content),) = files.items()
    lines = content.split(b"\n")
    end = r.choice([b"\r\n", b"\r", b"\n\n", b"mixed", b"none", b"\n \n", b"\x0b\n"])
    if end == b"mixed":
        content = b"".join(line + r.choice([b"\n", b"\r\n"]) for line in lines[:-1])
        content += lines[-1]
    elif end == b"none":
        content = content.rstrip(b"\n")
    elif end in (b"\r", b"\r\n"):
        content = content.replace(b"\n", end)
    else:
        k = r.randrange(len(lines))
        content = b"\n".join(lines[:k]) + end + b"\n".join(lines[k:])
        return Mutation({name: content})
    return Mutation({name: content}, base.items)


def separated(base: Base, r: random.Random) -> Mutation:
    rows = [("text", "label"), *TEXTS]
    if base.name == "f.csv":
        sep, mark = r.choice(";\t|,"), r.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        content = table(rows, sep, mark)
        if r.random() < 0.3:
            content = f"sep={sep}\r\n".encode() + content
        return Mutation({base.name: content}, base.items)
    if base.name == "f.conll":
        sep = r.choice([" ", "   ", "\t", " \t"])
        content = conll(sep=sep)
        if sep == " \t":
            return Mutation({base.name: content})
        return Mutation({r.choice(["f.conll", "f.txt", "f.csv"]): content}, base.items)
    if base.name == "f.tsv":
        return Mutation({base.name: table(rows, "\t", csv.QUOTE_ALL)}, base.items)
    return damaged(base, r)


def columned(base: Base, r: random.Random) -> Mutation:
    """Columns: moved, renamed, doubled, lost, more of them."""
    names = ["text", "label"]
    what = r.choice(["moved", "renamed", "more", "lost", "ragged", "doubled", "no names"])
    if base.name == "f.conll":
        extra = r.choice(["NN", "-", "_"])
        content = conll(sep=f"\t{extra}\t")
        return Mutation({base.name: content}, base.items)
    rows = [list(row) for row in TEXTS]
    if what == "renamed":
        names = [
            r.choice(["Sentence", "TEXT", "abstract"]),
            r.choice(["class", "Category", "gold"]),
        ]
    elif what == "more":
        names = ["id", *names, "note"]
        rows = [[str(i), *row, "x"] for i, row in enumerate(rows)]
    elif what == "lost":
        names, rows = names[:1], [row[:1] for row in rows]
    elif what == "doubled":
        names, rows = [*names, "label"], [[*row, "yes"] for row in rows]
    elif what == "moved":
        names, rows = names[::-1], [row[::-1] for row in rows]
    elif what == "ragged":
        rows[r.randrange(len(rows))].append("more")
    same = what in ("moved", "renamed", "more")
    if base.name in ("f.csv", "f.tsv"):
        found = rows if what == "no names" else [names, *rows]
        sep = "," if base.name == "f.csv" else "\t"
        return Mutation({base.name: table(found, sep)}, base.items if same else [])
    if base.kind == "classification" and base.name in ("f.jsonl", "f.json"):
        if what in ("no names", "ragged", "doubled"):
            return damaged(base, r)
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        content = jsonl(objects) if base.name == "f.jsonl" else json.dumps(objects).encode()
        return Mutation({base.name: content}, base.items if same else [])
    return damaged(base, r)


def nested(base: Base, r: random.Random) -> Mutation:
    if not base.name.startswith("f.json"):
        return damaged(base, r)
    objects: list[Any] = list(OBJECTS if base.kind == "classification" else span_objects())
    if base.name == "f.json" and base.kind == "tagging":
        objects = label_studio()
    what = r.choice(["whole", "map", "wrapped", "indent", "deep", "twice", "null", "list", "odd"])
    k = r.randrange(len(objects))
    if what == "odd":
        objects[k] = r.choice([None, 1, "text", [], [objects[k]], True])
    elif what in ("null", "list", "deep"):
        field = r.choice(sorted(objects[k]))
        value = {"null": None, "list": [objects[k][field]], "deep": {"a": [[{}]]}}[what]
        objects[k] = {**objects[k], field: value}
    content = jsonl(objects, ensure_ascii=r.random() < 0.5)
    if base.name == "f.json":
        found: Any = objects
        if what == "map" and "id" not in objects[0]:
            found = {f"n{i}": one for i, one in enumerate(objects)}
        elif what == "wrapped":
            found = {"version": "1", "data": objects}
        content = json.dumps(found, indent=r.choice([None, 0, 3])).encode()
    if what == "twice":
        content = content.replace(b'"text":', b'"text": "x", "text":', 1)
    same = what in ("whole", "map", "wrapped", "indent")
    return Mutation(
        {base.name: content}, base.items if same else [] if what in ("odd", "twice") else None
    )


def moved(base: Base, r: random.Random) -> Mutation:
    """Offsets: of other programs, beyond the text, of one mention or of all."""
    if base.kind != "tagging" or base.name == "f.conll":
        return damaged(base, r)
    what = r.choice(["utf-16", "utf-8", "from 1", "one"])
    at = {
        "utf-16": lambda text, n: len(text[:n].encode("utf-16-le")) // 2,
        "utf-8": lambda text, n: len(text[:n].encode()),
        "from 1": lambda text, n: n + 1,
        "one": lambda text, n: n,
    }[what]
    if base.name == "f.pubtator":
        files = {base.name: pubtator(at)}
    elif base.name == "b":
        files = brat(at)
    else:
        if base.name == "f.json":
            return damaged(base, r)
        objects = span_objects(at)
        if what == "one":
            span = r.choice([one for one in objects if one["spans"]])["spans"][0]
            span[r.randrange(2)] = r.choice([-1, 0, 10**9, 1.5, "3", None, True, span[1] + 3])
        files = {base.name: jsonl(objects)}
    return Mutation(files, base.items if what in ("utf-16", "utf-8") else None)


def retagged(base: Base, r: random.Random) -> Mutation:
    """Tags: other schemes, signs and cases; strays."""
    if base.name != "f.conll":
        return damaged(base, r)
    what = r.choice(["iob1", "iobes", "bilou", "sign", "small", "after", "stray", "bare", "some"])
    sign = r.choice("_:.|/")

    def tags(own: list[str]) -> list[str]:
        return [one(own, i) for i in range(len(own))]

    def one(own: list[str], i: int) -> str:
        tag, after = own[i], (own[i + 1] if i + 1 < len(own) else "O")
        if tag == "O":
            return tag
        letter, kind = tag.split("-")
        begins, ends = letter == "B", not after.startswith("I")
        if what == "iob1":
            before = own[i - 1] if i else "O"
            return f"{'B' if begins and before != 'O' else 'I'}-{kind}"
        if what in ("iobes", "bilou"):
            single, last = ("S", "E") if what == "iobes" else ("U", "L")
            place = single if begins and ends else "B" if begins else last if ends else "I"
            return f"{place}-{kind}"
        changed = {"sign": f"{letter}{sign}{kind}", "small": tag.lower().replace("dis", kind),
                   "after": f"{kind}-{letter}", "bare": kind}  # fmt: skip
        if what == "some" and r.random() < 0.1:
            return r.choice([f"{letter}_{kind}", kind, letter, f"b-{kind}", f"{kind}-{letter}"])
        if what == "stray" and begins and r.random() < 0.2:
            return f"I-{kind}"
        return changed.get(what, tag)

    same = what in ("iob1", "iobes", "bilou", "sign", "small", "after")
    return Mutation({base.name: conll(tags)}, base.items if same else None)


MUTATIONS: Mapping[str, Mutate] = {
    "bytes": damaged, "encodings": encoded, "line ends": ended, "separators": separated,
    "columns": columned, "nesting": nested, "offsets": moved, "tags": retagged,
}  # fmt: skip


def items_of(examples: Sequence[Example]) -> Items:
    """What bluestab read, in the form of the independent readers."""
    return [
        (e.text, e.target) if isinstance(e.text, str) else (e.text, entities(e.target))  # type: ignore[arg-type]
        for e in examples
    ]


@pytest.fixture(scope="module")
def tasks() -> Mapping[str, Any]:
    kinds = ("classification", "tagging")
    return {kind: resolved(compose([f"task={kind}", "model=tiny"]))["task"] for kind in kinds}


def outcome(base: Base, mutation: Mutation, node: Mapping[str, Any], folder: Path) -> str:
    """`read`, or `refused` with a line or not. Raises AssertionError for anything else."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in mutation.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    first = next(iter(mutation.files))
    train = folder / (base.name if base.name == "b" else first)
    begun = time.monotonic()
    try:
        task = instantiate({**node, "train": str(train)}, Task, "task")  # type: ignore[type-abstract]
        corpus = task.read_all(located(task))
    except (DataError, ConfigError) as error:
        said = str(error)
        assert any(Path(name).name in said for name in (*mutation.files, base.name)), said
        assert len(said) < 700
        assert mutation.expected in (None, []), f"it says the same as the whole file: {said}"
        return "refused, with a line" if ", line " in said else "refused"
    finally:
        assert time.monotonic() - begun < SECONDS
    found = items_of(corpus.splits["train"])
    expected = mutation.expected
    if expected is None:
        try:
            expected = base.reading(mutation.files)
        except Undefined:
            said = (" mentions ", "left out", "comment lines")
            lost = [n for n in corpus.notes if any(one in n for one in said)]
            if lost or any("tags were read as" in n or "bare types" in n for n in corpus.notes):
                return "read, with a note"
            expected = base.items
    assert found == expected
    return "read"


def attempt(n: int, tasks: Mapping[str, Any], folder: Path) -> tuple[str, str, str]:
    """The n-th mutated file: its base, its mutation and what came of it."""
    names, kinds = list(BASES), list(MUTATIONS)
    name, kind = names[n % len(names)], kinds[n // len(names) % len(kinds)]
    base = BASES[name]
    mutation = MUTATIONS[kind](base, random.Random(f"{name} {kind} {n}"))
    try:
        return name, kind, outcome(base, mutation, tasks[base.kind], folder)
    except Exception as error:
        error.add_note(f"mutated file {n}: {name}, {kind}")
        raise


@pytest.mark.parametrize("name", BASES)
def test_whole_files(name: str, tasks: Mapping[str, Any], tmp_path: Path) -> None:
    base = BASES[name]
    whole = Mutation(base.files(), base.items)
    assert outcome(base, whole, tasks[base.kind], tmp_path / "f") == "read"


def many(count: int, tasks: Mapping[str, Any], folder: Path) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    before = most_memory()
    for n in range(count):
        name, _, what = attempt(n, tasks, folder / "f")
        found[name, what] += 1
    assert most_memory() - before < MEGABYTES * 1024
    return found


def most_memory() -> int:
    """KiB that this process ever had, whatever for."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_hundred(tasks: Mapping[str, Any], tmp_path: Path) -> None:
    found = many(100, tasks, tmp_path)
    assert sum(found.values()) == 100
    assert {name for name, what in found if what == "read"} == set(BASES)
    assert len(DOCUMENTS) == len(SENTENCES) == 12


@pytest.mark.slow
def test_twenty_thousand(tasks: Mapping[str, Any], tmp_path: Path) -> None:
    count = int(os.environ.get("BLUESTAB_MUTATIONS", IN_ALL))
    found = many(count, tasks, tmp_path)
    for name in BASES:
        print(name, {what: n for (of, what), n in sorted(found.items()) if of == name})
    assert sum(found.values()) == count
