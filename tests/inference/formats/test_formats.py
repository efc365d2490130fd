"""Files in, the same files with answers out: exact offsets, any place to go on from, no bombs."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import BluestabError, ConfigError, DataError
from bluestab.core.instantiate import instantiate
from bluestab.core.paths import conf_dir
from bluestab.core.types import Example
from bluestab.inference import stream
from bluestab.inference.brat import predict_folder
from bluestab.inference.formats.base import Format, Position, words_of
from bluestab.inference.formats.recognise import FORMATS, format_of
from bluestab.inference.stream import predict_file
from bluestab.tasks.base import Task
from bluestab.tasks.outputs import Answer, Entity
from tests.support import forked_processes

STRANGE = (
    'He said: "naïve" Tumor—β-catenin (TP53) 🙂 at 5 µm',
    "Ünder the Café, Xe\u0301ro\u200bderma\tPigmentosum; \u2028 Lynch",
    "<script>alert('Cancer')</script> & A\u00a0B",
    "",
    "   ",
    "Z",
)


def task(name: str) -> Task:
    from omegaconf import OmegaConf

    node: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "task" / f"{name}.yaml"))
    return instantiate(node, Task, "task")  # type: ignore[type-abstract]


def capitals(examples: Sequence[Example]) -> list[Answer]:
    """Stands for a network: every word with a capital is a mention of its own."""
    found = []
    for example in examples:
        big = [i for i, word in enumerate(example.text) if word[0].isupper()]
        tags = ["B-Disease" if i in big else "O" for i in range(len(example.text))]
        entities = tuple(Entity("Disease", i, i + 1, 0.75, None) for i in big)
        found.append(Answer(tags, [0.75] * len(tags), entities=entities))
    return found


def lengths(examples: Sequence[Example]) -> list[Answer]:
    """Stands for a classifier."""
    return [Answer("1" if len(e.text) % 2 else "0", 0.9, {"0": 0.1, "1": 0.9}) for e in examples]


def tagger(path: Path, name: str, **knobs: Any) -> Format:
    return FORMATS[name](path, task("ncbi_disease"), ("O", "B-Disease", "I-Disease"), **knobs)


def classifier(path: Path, name: str, **knobs: Any) -> Format:
    return FORMATS[name](path, task("gad"), ("0", "1"), **knobs)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- offsets -------------------------------------------------------------------------------------


def mentions(text: str) -> list[tuple[int, int]]:
    return [(a, b) for a, b in words_of(text) if text[a].isupper()]


def test_offsets_in_text(tmp_path: Path) -> None:
    lines = [line for line in STRANGE if "\t" not in line]
    source = write(tmp_path / "in.txt", "\r\n".join(lines))
    counts = predict_file(tagger(source, "text"), capitals, tmp_path / "out.txt", {})
    assert (counts.items, counts.empty) == (len(lines), 2)
    out = (tmp_path / "out.txt").read_bytes().decode().split("\n")
    assert out[-1] == ""
    assert len(out) == len(lines) + 1
    for line, original in zip(out, lines, strict=False):
        said, probability, text = line.removesuffix("\r").split("\t", 2)
        assert (text, probability) == (original, "")
        found = [part.split()[0].split("-") for part in said.split("; ") if part]
        assert [(int(a), int(b)) for a, b in found] == mentions(original)


def test_offsets_in_jsonl_and_csv(tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.jsonl",
        "".join(json.dumps({"id": i, "text": t, "x": 1.5}) + "\n" for i, t in enumerate(STRANGE)),
    )
    predict_file(tagger(source, "jsonl"), capitals, tmp_path / "out.jsonl", {})
    out = (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in out if line]
    assert [(r["id"], r["text"], r["x"]) for r in rows] == [
        (i, t, 1.5) for i, t in enumerate(STRANGE)
    ]
    by_json = [r["prediction"]["entities"] for r in rows]
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["id", "text"], *([i, f"{t}\nMore"] for i, t in enumerate(STRANGE))]
        )
    predict_file(tagger(tmp_path / "in.csv", "csv"), capitals, tmp_path / "out.csv", {})
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(STRANGE)
    for row, original, other in zip(table, STRANGE, by_json, strict=True):
        found = json.loads(row["prediction"])
        assert row["text"] == f"{original}\nMore"
        assert [row["text"][e["start"] : e["end"]] for e in found] == [e["text"] for e in found]
        assert found[:-1] == other, "the same mentions, and the one in the second line"
        assert [(e["start"], e["end"]) for e in other] == mentions(original)


def test_offsets_in_brat(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    text = "Title Ab\r\nzero\n" + "\n".join(STRANGE)
    write(folder / "a.txt", text)
    write(folder / "b.txt", "")

    def pairs(examples: Sequence[Example]) -> list[Answer]:
        return [Answer(["O"], [0.5], entities=(Entity("Dis ease", 1, 3, 0.5, 0.25),))]

    labels = ("O", "B-Disease", "I-Disease")
    for answering, out in ((capitals, "out"), (pairs, "pairs")):
        predict_folder(folder, task("ncbi_disease"), labels, answering, tmp_path / out, {})
        assert (tmp_path / out / "a.txt").read_bytes() == (folder / "a.txt").read_bytes()
        assert (tmp_path / out / "b.ann").read_bytes() == b""
    kept = (tmp_path / "out" / "a.txt").read_bytes().decode()
    found = [
        line.split("\t")
        for line in (tmp_path / "out" / "a.ann").read_text(encoding="utf-8").split("\n")
        if line.startswith("T")
    ]
    assert len(found) == len(mentions(text))
    for _, place, words in found:
        _, start, end = place.split()
        assert kept[int(start) : int(end)] == words
    # a mention across a line end has two parts, as brat demands
    two = (tmp_path / "pairs" / "a.ann").read_text(encoding="utf-8").splitlines()
    assert two[0] == "T1\tDis_ease 6 8;10 14\tAb zero"
    assert two[1] == "#1\tAnnotatorNotes T1\tprobability 0.5000, disagreement 0.250"


def test_conll_keeps_every_line(tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.tsv", "-DOCSTART-\n\nA\tx\tO\nb\ty\tB-Disease\n\n\nc\tO\n\nD O\ne O"
    )
    form = tagger(source, "conll")
    predict_file(form, capitals, tmp_path / "out.tsv", {})
    assert (tmp_path / "out.tsv").read_text() == (
        "-DOCSTART-\n\nA\tx\tO\tB-Disease\t0.7500\nb\ty\tB-Disease\tO\t0.7500\n\n\n"
        "c\tO\tO\t0.7500\n\nD O B-Disease 0.7500\ne O O 0.7500\n"
    )
    assert list(form.predictions(tmp_path / "out.tsv")) == [
        ["B-Disease", "O"], ["O"], ["B-Disease", "O"],
    ]  # fmt: skip


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    source = write(tmp_path / "in.tsv", 'id\tsentence\n1\tsay "x\n2\t"y"\n')
    predict_file(classifier(source, "tsv"), lengths, tmp_path / "out.tsv", {})
    out = (tmp_path / "out.tsv").read_text().splitlines()
    assert out[0].split("\t")[:3] == ["id", "sentence", "prediction"]
    assert [line.split("\t")[:4] for line in out[1:]] == [
        ["1", 'say "x', "0", "0.9"],
        ["2", '"y"', "1", "0.9"],
    ]


# --- going on ------------------------------------------------------------------------------------

KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.inference.formats import test_formats as here
from bluestab.inference import stream
stream.CHUNK_ITEMS = 7
def slowly(examples):
    time.sleep(0.01)
    return here.{answering}(examples)
source, out = Path(sys.argv[1]), Path(sys.argv[2])
stream.predict_file(here.{maker}(source, sys.argv[3]), slowly, out, {{}})
"""


@pytest.mark.parametrize(
    "name",
    ["csv", *(pytest.param(n, marks=pytest.mark.slow) for n in ("text", "conll", "jsonl.gz"))],
)
def test_ten_kills(tmp_path: Path, name: str) -> None:
    """Complete, no item twice, the bytes of a prediction that was never interrupted."""
    n, (form, _, packed) = 3000, name.partition(".")
    rows = {
        "text": "".join(f"Word {i} {'x' * (i % 7)}\n" for i in range(n)),
        "csv": "id,text\n" + "".join(f'{i},"Word\n""{i}"""\n' for i in range(n)),
        "conll": "".join(f"Word\n{i}\n\n" for i in range(n)),
        "jsonl": "".join(json.dumps({"text": f"Word {i}"}) + "\n" for i in range(n)),
    }[form].encode()
    source = write(tmp_path / f"in.{name}", gzip.compress(rows) if packed else rows)
    tags = form != "csv"
    code = KILLED.format(
        tests=str(Path(__file__).parents[3]),
        answering="capitals" if tags else "lengths",
        maker="tagger" if tags else "classifier",
    )
    out = tmp_path / f"out.{name}"
    partial = out.with_name(out.name + ".partial.json")
    kills = 0
    while not out.exists():
        process = forked_processes.start_python(code, str(source), str(out), form, cwd=tmp_path)
        seen = partial.read_bytes() if partial.exists() else b""
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and kills < 10:
            time.sleep(0.003 * (1 + kills % 3))
            now = partial.read_bytes() if partial.exists() else b""
            if now != seen and json.loads(now or b'{"bytes": 0}')["bytes"]:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
        assert process.wait().returncode in (0, -signal.SIGKILL)
    assert kills == 10
    whole = tmp_path / f"whole.{name}"
    maker, answering = (tagger, capitals) if tags else (classifier, lengths)
    predict_file(maker(source, form), answering, whole, {})
    read = gzip.decompress if packed else bytes
    assert read(out.read_bytes()) == read(whole.read_bytes())
    begin = b'{"text": "Word' if form == "jsonl" else b"Word"
    assert read(out.read_bytes()).count(begin) == n
    assert not list(tmp_path.glob("*.partial*"))


def test_what_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK_ITEMS", 2)
    source, out = write(tmp_path / "in.txt", "A\nb\nC\nd\n\xff".encode("latin-1")), tmp_path / "o"
    with pytest.raises(DataError, match="line 5: byte 0xff is not UTF-8"):
        predict_file(tagger(source, "text"), capitals, out, {"options": 1})
    assert (tmp_path / "o.partial").read_bytes().count(b"\n") == 4, "those before it are kept"
    with pytest.raises(ConfigError, match="begun with another options; use that, or remove"):
        predict_file(tagger(source, "text"), capitals, out, {"options": 2})
    write(source, "A\nb\nC\nd\ne\n")
    with pytest.raises(ConfigError, match="begun with another input"):
        predict_file(tagger(source, "text"), capitals, out, {"options": 1})
    (tmp_path / "o.partial.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        predict_file(tagger(source, "text"), capitals, out, {"options": 1})
    (tmp_path / "o.partial.json").unlink()
    counts = predict_file(tagger(source, "text"), capitals, out, {"options": 1})
    assert (counts.items, counts.begun) == (5, 0)
    with pytest.raises(ConfigError, match="there already"):
        predict_file(tagger(source, "text"), capitals, out, {"options": 1})


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path: Path) -> None:
    """40,000 lines need what 4,000 need."""
    import tracemalloc

    peaks = []
    for n in (4_000, 40_000):
        source = write(tmp_path / f"{n}.txt", b"No capital but the first\n" * n)
        tracemalloc.start()
        predict_file(
            tagger(source, "text"), lambda e: [Answer([], [])] * len(e), tmp_path / f"o{n}", {}
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# --- one reader ----------------------------------------------------------------------------------

LIKE_TRAINING = {
    "semicolons": ("f.csv", 'id;text;label\n1;red, here;a\n2;"x; y";b\n3;z;a\n'),
    "bars": ("f.csv", "text|label\nred, here|a\nx; y|b\n"),
    "tabs in a .csv": ("f.csv", "text\tlabel\nred, here\ta\nx; y\tb\n"),
    "Excel": ("f.csv", "\ufeffsep=;\r\ntext;label\r\nred, here;a\r\nx;b\r\n"),
    "a synonym": ("f.csv", "Sentence,label\nred,a\nx,b\n"),
    "no header": ("f.csv", "red,a\nx,b\nred one,a\n"),
    "quotes inside": ("f.csv", 'text,label\na 5" nail,a\n"say ""x""",b\nz,a\n'),
    "a line end inside": ("f.csv", 'text,label\n"two\r\nlines",a\n"and\n\nthree",b\nz,a\n'),
    "CR alone": ("f.csv", "text,label\rred,a\rx,b\r"),
    "CR among others": ("f.csv", "text,label\nred,a\rx,b\ny,a\n"),
    "empty lines": ("f.csv", "\n\ntext,label\n\nred,a\n   \nx,b\n\n"),
    "quoted TSV": ("f.tsv", '"text"\t"label"\n"red ""one"""\ta\n"x"\tb\n'),
    "unquoted TSV": ("f.tsv", 'text\tlabel\n"red" one\ta\nx "\tb\n'),
    "JSONL": ("f.jsonl", '{"sentence": "red", "label": "a"}\n{"sentence": "x", "label": "b"}\n'),
    "spaCy": ("f.jsonl", '["red", {"cats": {"a": 1}}]\n["x", {"cats": {"b": true}}]\n'),
}  # fmt: skip


def own(path: Path, **knobs: Any) -> Any:
    from bluestab.core.config import compose, resolved

    node = resolved(compose(["task=classification", "model=tiny"]))["task"]
    return instantiate({**node, "train": str(path), **knobs}, Task, "task")  # type: ignore[type-abstract]


@pytest.mark.parametrize("name", LIKE_TRAINING)
def test_what_training_reads_is_read(tmp_path: Path, name: str) -> None:
    """The same texts, from the start and from every place in the file; the rows stay as they are,
    and what was written is read again."""
    file, content = LIKE_TRAINING[name]
    source = write(tmp_path / file, content)
    knobs = {"text": 0, "label": 1} if name == "no header" else {}
    task = own(source, **knobs)
    expected = [e.text for e in task.read_all({"test": source}).splits["test"]]
    form = FORMATS[source.suffix[1:]](source, task, ("a", "b"))
    found = list(form.items(Position()))
    assert [item.example.text for item, _ in found] == expected
    for n, (_, place) in enumerate(found, start=1):
        assert [item.example.text for item, _ in form.items(place)] == expected[n:]
    out = tmp_path / f"out{source.suffix}"
    assert predict_file(form, lengths, out, {}).items == len(expected)
    again = own(out, **knobs)
    assert [e.text for e in again.read_all({"test": out}).splits["test"]] == expected
    if source.suffix != ".jsonl":
        for row in (
            content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        ):
            assert row.strip() in out.read_bytes().decode().replace("\r\n", "\n")


def test_what_the_run_knew_is_not_asked_again(tmp_path: Path) -> None:
    """Columns and whether a line names them, for new files that lack the labels, too."""
    trained = write(tmp_path / "f.csv", "a,1,red\nb,2,x\na,3,red one\n")
    numbered = own(trained, text=2, label=0, id=1)
    for name, content in {
        "all": "a,1,red\nb,2,x\n",
        "one row": "a,1,red\n",
        "nothing told": "p,q,red\nr,s,x\n",
        "the texts alone": "red\nx y\n",
    }.items():
        source = write(tmp_path / f"{name}.csv", content)
        form = FORMATS["csv"](source, numbered, ("a", "b"))
        texts = [i.text for i, _ in form.items(Position())]
        assert texts == [line.split(",")[-1] for line in content.splitlines()], name
    named = own(write(tmp_path / "g.csv", "note,text,label\nred,9,a\nx,8,b\n"), text="note")
    both = write(tmp_path / "h.csv", "text,note\n9,red\n8,x\n")
    form = FORMATS["csv"](both, named, ("a", "b"))
    assert [i.text for i, _ in form.items(Position())] == ["red", "x"]


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t"), ("jsonl", None)])
def test_the_tasks_own_file_is_written_as_its_name_says(
    tmp_path: Path, suffix: str, separator: str | None
) -> None:
    source = write(tmp_path / "f.csv", "text,label\nred,a\nx y,b\nz,a\n")
    form = FORMATS["task"](source, own(source), ("0", "1"))
    out = tmp_path / f"out.{suffix}"
    form.writes_to(out)
    assert predict_file(form, lengths, out, {}).items == 3
    said = list(form.predictions(out))
    assert len(said) == 3
    with out.open(newline="", encoding="utf-8") as file:
        if separator is None:
            rows = [json.loads(line) for line in file]
        else:
            rows = list(csv.DictReader(file, delimiter=separator))
    assert [row["prediction"] for row in rows] == said
    assert len({row["id"] for row in rows}) == 3


def test_no_name_promises_another_format(tmp_path: Path) -> None:
    source = write(tmp_path / "f.csv", "text,label\nred,a\nx y,b\n")
    form = FORMATS["csv"](source, own(source), ("a", "b"))
    with pytest.raises(ConfigError, match=r"are written as csv: name it out\.csv"):
        form.writes_to(tmp_path / "out.jsonl")
    for name in ("out.csv", "out.CSV.gz", "out.txt", "out"):
        form.writes_to(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.CSV", "csv"), ("a.ndjson", "jsonl"), ("a.iob2", "conll"), ("a.tab", "tsv"),
     ("a b.v2.csv.gz", "csv")],
)  # fmt: skip
def test_names_that_training_knows(tmp_path: Path, name: str, form: str) -> None:
    assert format_of(tmp_path / name, None, task("gad")) == form


def test_one_column_is_enough(tmp_path: Path) -> None:
    for header in ("text", "Abstract"):
        source = write(tmp_path / f"{header}.csv", f"{header}\nred, here\nx\n\ny\n")
        form = FORMATS["csv"](source, own(source), ("a", "b"))
        assert [i.text for i, _ in form.items(Position())] == ["red, here", "x", "y"]


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.csv")
    with pytest.raises(DataError, match="is a pipe, no file"):
        classifier(tmp_path / "f.csv", "csv")
    form = classifier(tmp_path / "f.csv", "text")
    with pytest.raises(DataError, match="is a pipe, no file"):
        predict_file(form, lengths, tmp_path / "out", {})


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("jsonl", "{}\n", "line 1: has no text in field 'text'"),
        ("jsonl", '{"text": "a"}\n[1]\n', "line 2: is no JSON object"),
        ("jsonl", '{"text": "a", "prediction": 1}\n', "has a field 'prediction' already"),
        ("jsonl", '{"text": "\\ud800"}\n', "half of a character"),
        ("jsonl", "[" * 100_000 + "\n", "is no JSON object"),
        ("csv", "id,remark\n1,a\n", "no column 'text' in its header; name one with --text"),
        ("csv", "text,prediction\n1,a\n", "has a column 'prediction' already"),
        ("csv", 'text,id\n"a,1\nb,2\n', 'line 2: a quotation mark opens here and never closes'),
        ("csv", "text,id\na\n", "line 2: has 1 columns where the header has 2"),
        ("csv", "", "is empty"),
        ("text", b"\x80abc", "line 1: byte 0x80 is not UTF-8"),
    ],
)  # fmt: skip
def test_wrong_input_is_a_sentence(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    source = write(tmp_path / "in", content)
    with pytest.raises(DataError) as caught:
        predict_file(classifier(source, name), lengths, tmp_path / "out", {})
    assert said in str(caught.value)
    assert str(source) in str(caught.value)


def test_a_bomb_is_refused_early(tmp_path: Path) -> None:
    """Two gigabytes in two megabytes: what it unpacks to is never held."""
    import tracemalloc

    packed = gzip.compress(b"a" * 2**24)
    source = write(tmp_path / "bomb.txt.gz", packed * 128)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"line 1: holds an item of more than 2,000,000 characters"):
        predict_file(classifier(source, "text"), lengths, tmp_path / "out", {})
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    broken = write(tmp_path / "half.txt.gz", gzip.compress(os.urandom(9999))[:-999])
    with pytest.raises(DataError, match=r"half\.txt\.gz"):
        predict_file(classifier(broken, "text"), lengths, tmp_path / "out", {})


def test_formats_that_cannot_hold_a_task(tmp_path: Path) -> None:
    path = write(tmp_path / "in", "a\tO\n")
    for name, made, said in (
        ("conll", lambda: classifier(path, "conll"), "holds words, but task 'gad' reads whole"),
        (
            "text",
            lambda: classifier(path, "text", text="x"),
            "--text, --text-pair and --image name",
        ),
        ("text", lambda: FORMATS["text"](path, task("biosses"), ("score",)), "reads two texts"),
    ):
        with pytest.raises(ConfigError) as caught:
            made()
        assert said in str(caught.value), name
    with pytest.raises(BluestabError, match=r"--format is 'cvs'; did you mean 'csv'\?"):
        format_of(path, "cvs", task("gad"))
    with pytest.raises(BluestabError, match="does not tell what is in it"):
        format_of(path, None, task("gad"))
    assert format_of(Path("a.tsv.gz"), None, task("ncbi_disease")) == "conll"
    assert format_of(Path("a.tsv.gz"), None, task("gad")) == "tsv"


def test_every_place_is_a_beginning(tmp_path: Path) -> None:
    """From the place after any item the rest comes out as it did, line numbers included."""
    source = write(tmp_path / "in.csv", 'text\r\n"a\r\nb"\r\n\r\nc\r\n"d,""e"""\r\n')
    form = classifier(source, "csv")
    found = list(form.items(Position()))
    assert [item.text for item, _ in found] == ["a\r\nb", "c", 'd,"e"']
    for n, (_, place) in enumerate(found, start=1):
        assert [i.text for i, _ in form.items(place)] == [i.text for i, _ in found[n:]]
        assert [p for _, p in form.items(place)] == [p for _, p in found[n:]]
