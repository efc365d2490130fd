"""A thousand damaged copies: one clear error each, or exactly what is in the file. And round trips.

What a damaged copy still holds is counted here by the plainest means there are; what was read must
be that many, or an error must name the file.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError, DataError
from bluestab.core.instantiate import instantiate
from bluestab.data.formats.base import Document, Span
from bluestab.data.formats.conll import read_conll_columns
from bluestab.data.formats.delimited import read_delimited
from bluestab.data.formats.objects import read_jsonl, read_objects
from bluestab.data.formats.pubtator import read_pubtator_documents
from bluestab.data.formats.schemes import scheme_of, to_iob2
from bluestab.data.formats.spans import Losses, tag_words
from bluestab.tasks.base import Corpus, Task
from bluestab.tasks.data import located
from tests.conftest import real_data
from tests.support.own_files import KINDS, bioc_documents, brat, conll, pubtator, rows, spans

SIGNS = ["\t", "\n", '"', ",", " ", "\0", "\r", "#", "[", "}", "|", "é", "\u2028", "0", "-", "\\"]
EACH = 130


def mutated(content: bytes, r: random.Random) -> bytes:
    """One to three slips of a hand, a disk or a program."""
    for _ in range(r.randint(1, 3)):
        at = r.randrange(len(content) + 1)
        lines = content.split(b"\n")
        k = r.randrange(len(lines))
        what = r.randrange(9)
        if what == 0:
            content = content[:at]
        elif what == 1:
            content = content[:at] + content[at + r.randint(1, 30) :]
        elif what == 2:
            content = content[:at] + r.choice(SIGNS).encode() + content[at:]
        elif what == 3:
            content = content[:at] + bytes([r.randrange(256)]) + content[at + 1 :]
        elif what == 4:
            content = b"\n".join([*lines[:k], *lines[k + 1 :]])
        elif what == 5:
            content = b"\n".join([*lines[: k + 1], *lines[k:]])
        elif what == 6:
            content = b"\n".join([*lines[:k], lines[k].replace(b"\t", b" "), *lines[k + 1 :]])
        elif what == 7:
            other = r.randrange(len(lines))
            lines[k], lines[other] = lines[other], lines[k]
            content = b"\n".join(lines)
        else:
            content = (
                content.replace(b"\n", b"\r\n") if r.random() < 0.5 else b"\xef\xbb\xbf" + content
            )
    return content


def parquet(n: int = 40) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    table = pa.table({"text": [f"words {i}" for i in range(n)], "label": ["a", "b"] * (n // 2)})
    pq.write_table(table, out, write_page_checksum=True)
    return out.getvalue()


def filled(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def words_in(text: str) -> int:
    return sum(not line.startswith(("#", "-DOCSTART-")) for line in filled(text))


def rows_in(text: str) -> int:
    found = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    return sum(any(cell.strip() for cell in row) for row in found)


def mentions_in(text: str) -> int:
    return len(re.findall(r"(?m)^[^\t\n|]+\t\d+\t\d+\t", text))


def annotations_in(text: str) -> int:
    return sum(
        len(
            {
                (str(a["locations"]), str(a["infons"]))
                for a in passage["annotations"]
                if a["infons"].get("type")
            }
        )
        for found in json.loads(text.removeprefix("\ufeff")).values()  # whatever its name is
        for document in found
        for passage in document["passages"]
        if passage["text"].strip()
    )


Count = Callable[[str], int]
BASES: dict[str, tuple[str, str, bytes, Count]] = {
    "csv": ("classification", "f.csv", rows().encode(), lambda t: rows_in(t) - 1),
    "tsv": ("classification", "f.tsv", rows(sep="\t").encode(), lambda t: len(filled(t)) - 1),
    "jsonl": (
        "classification",
        "f.jsonl",
        "".join(
            json.dumps({"text": f"w {i}", "label": "ab"[i % 2]}) + "\n" for i in range(40)
        ).encode(),
        lambda t: len(filled(t)),
    ),
    "json": (
        "classification",
        "f.json",
        json.dumps(
            [{"text": f"w {i}", "label": "ab"[i % 2]} for i in range(40)], indent=1
        ).encode(),
        lambda t: len(json.loads(t.removeprefix("\ufeff"))),
    ),
    "conll": ("tagging", "f.conll", conll().encode(), words_in),
    "spans": ("tagging", "f.jsonl", spans().encode(), lambda t: len(filled(t))),
    "pubtator": ("tagging", "f.pubtator", pubtator().encode(), mentions_in),
    "bioc": (
        "tagging",
        "f.json",
        json.dumps({"documents": bioc_documents()}, indent=1).encode(),
        annotations_in,
    ),
    "parquet": ("classification", "f.parquet", parquet(), lambda _: 40),
}


def count(name: str, corpus: Corpus) -> int:
    """What was read, in the unit of the count by hand."""
    items = corpus.splits["train"]
    if name == "conll":
        return sum(len(e.text) for e in items)
    if name in ("pubtator", "bioc"):
        kept = sum(tag.startswith("B") for e in items for tag in e.target)  # type: ignore[union-attr]
        told = [note for note in corpus.notes if " mentions " in note and "widened" not in note]
        return kept + sum(int(note.split()[0]) for note in told if note[0].isdigit())
    return len(items)


@pytest.fixture(scope="module")
def tasks() -> Mapping[str, Mapping[str, Any]]:
    return {kind: resolved(compose([f"task={kind}", "model=tiny"]))["task"] for kind in KINDS}


def read(node: Mapping[str, Any], file: Path) -> Corpus:
    task = instantiate({**node, "train": str(file)}, Task, "task")  # type: ignore[type-abstract]
    return task.read_all(located(task))


def attempted(node: Mapping[str, Any], file: Path) -> Corpus | None:
    """What is read; None if the file is refused, by an error that names it and holds no text."""
    try:
        return read(node, file)
    except (DataError, ConfigError) as error:
        said = str(error)
    assert file.name in said
    assert len(said) < 700
    return None


def check_copy(
    name: str, content: bytes, node: Mapping[str, Any], file: Path, counted: Count
) -> bool:
    """Is the copy refused? Else what was read is what is there."""
    file.write_bytes(content)
    corpus = attempted(node, file)
    if corpus is None:
        return True
    if name == "pubtator" and "counted once" in " ".join(corpus.notes):
        return False
    text = "" if name == "parquet" else content.decode("utf-8-sig")
    if name != "parquet" and "\n" not in text:
        text = text.replace("\r", "\n")
    assert count(name, corpus) == counted(text), content
    return False


@pytest.mark.parametrize("name", BASES)
def test_damaged_copies(name: str, tasks: Mapping[str, Any], tmp_path: Path) -> None:
    kind, file, base, counted = BASES[name]
    node = tasks[kind]
    assert not check_copy(name, base, node, tmp_path / file, counted), "whole, it is taken"
    refused = sum(
        check_copy(name, mutated(base, random.Random(f"{name}{i}")), node, tmp_path / file, counted)
        for i in range(EACH)
    )
    assert 0 < refused < EACH, "some slips matter, some do not"


def test_there_are_a_thousand() -> None:
    assert len(BASES) * EACH >= 1000


REAL = {
    "csv": (
        "medical_abstracts/medical_tc_test.csv",
        60,
        {"text": "medical_abstract", "label": "condition_label"},
    ),
    "tsv": ("gad/train.tsv", 200, {}),
    "jsonl": ("scierc/relation/train.txt", 200, {}),
    "conll": ("scierc/ner/train.txt", 2000, {}),
    "pubtator": ("bc5cdr/pubtator/CDR_TestSet.PubTator.txt", 300, {}),
}


@pytest.mark.parametrize("name", REAL)
def test_damaged_copies_of_real_files(name: str, tasks: Mapping[str, Any], tmp_path: Path) -> None:
    path, n_lines, changed = REAL[name]
    kind, file, _, counted = BASES[name]
    lines = (real_data() / path).read_bytes().split(b"\n")[:n_lines]
    while lines[-1]:  # not in the middle of a sentence or an abstract
        if name not in ("conll", "pubtator"):
            break
        lines.pop()
    base = b"\n".join(lines) + b"\n"
    node = {**tasks[kind], **changed}
    assert not check_copy(name, base, node, tmp_path / file, counted)
    refused = sum(
        check_copy(
            name, mutated(base, random.Random(f"real{name}{i}")), node, tmp_path / file, counted
        )
        for i in range(60)
    )
    assert 0 < refused < 60


def test_damaged_brat_folders(tasks: Mapping[str, Any], tmp_path: Path) -> None:
    refused = 0
    for i in range(EACH):
        r = random.Random(f"brat{i}")
        folder = tmp_path / str(i)
        folder.mkdir()
        files = {Path(name).name: text.encode() for name, text in brat(4).items()}
        chosen = r.choice(sorted(files))
        files[chosen] = mutated(files[chosen], r)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        corpus = attempted(tasks["tagging"], folder)
        if corpus is None:
            refused += 1
            continue
        marks = sum(
            len(re.findall(rb"(?m)^T", files[f].removeprefix(b"\xef\xbb\xbf")))
            for f in files
            if f.endswith(".ann")
        )
        kept = sum(t.startswith("B") for e in corpus.splits["train"] for t in e.target)  # type: ignore[union-attr]
        told = [n for n in corpus.notes if " mentions " in n and "widened" not in n]
        assert kept + sum(int(n.split()[0]) for n in told) == marks
    assert 0 < refused < EACH


# --- random corpora, written in a format and read back -------------------------------------------

WORD = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=8
)
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\0\r\n"),
    min_size=1,
    max_size=40,
).filter(lambda t: t.strip() and not t.startswith("\ufeff"))
LABEL = st.sampled_from(["yes", "no", "it, is", 'so "said"'])
TABLES = st.lists(st.tuples(TEXT, LABEL), min_size=2, max_size=12)
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def written(path: Path, content: str) -> Path:
    path.write_bytes(content.encode("utf-8"))
    return path


@quick
@given(TABLES)
def test_tables_come_back(tmp_path: Path, table: list[tuple[str, str]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([("text", "label"), *table])
    found = read_delimited(written(tmp_path / "f.csv", out.getvalue()), tabs=False)
    assert list(found.rows) == table
    lines = "".join(
        json.dumps({"text": t, "label": c}, ensure_ascii=False) + "\n" for t, c in table
    )
    assert list(read_jsonl(written(tmp_path / "f.jsonl", lines)).rows) == table
    whole = json.dumps([{"text": t, "label": c} for t, c in table])
    assert list(read_objects(written(tmp_path / "f.json", whole)).rows) == table
    plain = [(t.replace("\t", " "), c) for t, c in table]
    tsv = "\n".join("\t".join(row) for row in [("text", "label"), *plain])
    found = read_delimited(written(tmp_path / "f.tsv", tsv), tabs=True, quoting=False)
    assert list(found.rows) == plain


ENTITIES = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["O", "D", "E-x"]), st.integers(1, 3)), min_size=1, max_size=5
    ),
    min_size=1,
    max_size=5,
)


def tags_of(sentence: list[tuple[str, int]], scheme: str) -> list[str]:
    """Tags of runs (type, length) in a scheme."""
    found: list[str] = []
    before = "O"
    for kind, n in sentence:
        if kind == "O":
            found += ["O"] * n
        elif scheme == "iob2":
            found += [f"B-{kind}"] + [f"I-{kind}"] * (n - 1)
        elif scheme == "iob1":
            found += [f"{'B' if before == kind else 'I'}-{kind}"] + [f"I-{kind}"] * (n - 1)
        else:
            ends = ["S"] if n == 1 else ["B", *["I"] * (n - 2), "E"]
            found += [f"{end}-{kind}" for end in ends]
        before = kind
    return found


@quick
@given(ENTITIES, st.sampled_from(["iob1", "iobes"]), st.sampled_from(["\t", " "]), st.data())
def test_tags_of_every_scheme_are_the_same_entities(
    tmp_path: Path, corpus: list[list[tuple[str, int]]], scheme: str, sep: str, data: st.DataObject
) -> None:
    expected = [tags_of(sentence, "iob2") for sentence in corpus]
    words = [
        [data.draw(WORD.filter(lambda w: w[0] not in "#-\ufeff")) for _ in tags]
        for tags in expected
    ]
    for written_in in ("iob2", scheme):
        text = "".join(
            "".join(f"{w}{sep}{t}\n" for w, t in zip(ws, tags_of(s, written_in), strict=True))
            + "\n"
            for ws, s in zip(words, corpus, strict=True)
        )
        path = written(tmp_path / "f.conll", text)
        found = read_conll_columns(path).sentences
        if any(w == list(map(str, range(1, len(w) + 1))) for w in words):
            return
        assert [list(s.words) for s in found] == words
        known = scheme_of([(path, found)])
        # a corpus that shows no difference may be called either
        assert [list(to_iob2(path, s, known)) for s in found] == expected or known != written_in


@quick
@given(st.lists(st.tuples(WORD, st.booleans()), min_size=2, max_size=12))
def test_pubtator_comes_back(tmp_path: Path, words: list[tuple[str, bool]]) -> None:
    plain = [(re.sub(r"[\W_]", "", w) or "x", marked) for w, marked in words]
    title = " ".join(w for w, _ in plain)
    lines, spans_there, at = [f"1|t|{title}", "1|a|End."], [], 0
    for word, marked in plain:
        if marked:
            lines.append(f"1\t{at}\t{at + len(word)}\t{word}\tD\tX")
            spans_there.append((at, at + len(word)))
        at += len(word) + 1
    found = read_pubtator_documents(written(tmp_path / "f.pubtator", "\n".join(lines))).documents
    assert [(s.start, s.end) for s in found[0].spans] == spans_there
    losses = Losses()
    tagged = tag_words(found[0], losses)
    assert [o for o, t in zip(tagged.offsets, tagged.tags, strict=True) if t != "O"] == spans_there
    assert not losses.notes()


@quick
@given(TEXT, st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=6))
def test_every_mention_is_kept_or_counted(text: str, places: list[tuple[int, int]]) -> None:
    spans_there = tuple(Span(a, min(a + n, len(text)), "D", 1) for a, n in places if a < len(text))
    losses = Losses()
    tagged = tag_words(Document("1", text, spans_there, Path("f"), 1), losses)
    kept = sum(tag.startswith("B") for tag in tagged.tags)
    left_out = sum(n for rule, n in losses.counts.items() if rule != "widened")
    assert kept + left_out == losses.n == len(spans_there)
    assert [text[a:b] for a, b in tagged.offsets] == list(tagged.words)
