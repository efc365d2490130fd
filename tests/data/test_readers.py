"""Readers take files as they are found in the wild, or name the line they cannot understand."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError, DataError
from bluestab.data.locate import locate, sha256_of
from bluestab.data.readers import read_conll, read_lines, read_table
from bluestab.tasks.data import load_task

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(content: str | bytes, name: str = "file.tsv") -> Path:
        path = tmp_path / name
        data = content.encode() if isinstance(content, str) else content
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return written


# --- lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\u3000"]
)
def test_only_line_feeds_end_a_line(write: Write, character: str) -> None:
    """`str.splitlines` would cut an abstract in two at each of these."""
    path = write(f"one{character}two\nthree")
    assert list(read_lines(path)) == [(1, f"one{character}two"), (2, "three")]


def test_byte_order_mark_and_dos_line_ends(write: Write) -> None:
    plain = list(read_lines(write("a\tb\n\nc\td\n")))
    assert plain == [(1, "a\tb"), (2, ""), (3, "c\td"), (4, "")]
    assert list(read_lines(write("a\tb\r\n\r\nc\td\r\n"))) == plain
    assert list(read_lines(write("\ufeffa\tb\n\nc\td\n"))) == plain
    assert list(read_lines(write("a\ufeffb"))) == [(1, "a\ufeffb")], "inside a text it is text"


def test_compressed_files(write: Write) -> None:
    plain, packed = write("a\tb\n", "x.tsv"), write("a\tb\n", "y.tsv.gz")
    assert list(read_lines(packed)) == list(read_lines(plain))
    assert sha256_of(packed) == sha256_of(plain), "the content is hashed, not the packing"
    for damage in (packed.read_bytes()[:-9], b"not gzip at all"):
        packed.write_bytes(damage)
        with pytest.raises(DataError, match=r"y\.tsv\.gz: cannot be read"):
            list(read_lines(packed))


@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        (b"a\tb\nc\xe9\td\n", 2, "0xe9"),
        (b"\xff\xfea\x00", 1, "0xff"),
        (b"a\nb\nc\nd\xc3", 4, "0xc3"),
        (b"\r\n\r\n\x80", 3, "0x80"),
    ],
)
def test_bytes_that_are_not_utf8(write: Write, content: bytes, line: int, byte: str) -> None:
    with pytest.raises(DataError) as caught:
        list(read_lines(write(content)))
    assert caught.value.line == line
    assert byte in caught.value.reason
    assert f"file.tsv, line {line}: " in str(caught.value)


# --- tables ----------------------------------------------------------------------------------


def test_quotation_marks_are_characters(write: Write) -> None:
    """A reader that knows quoting swallows everything up to the next one."""
    table = read_table(write('id\ttext\n1\t"half a quote\n2\tthe 3" tube\n3\t""\n'), header=True)
    assert table.column("text", "task.text") == ['"half a quote', 'the 3" tube', '""']
    assert table.lines == (2, 3, 4)


def test_columns_by_name_and_by_number(write: Write) -> None:
    with_names = read_table(write("id\ttext\n1\tone\n\n2\ttwo\n"), header=True)
    assert with_names.column("text", "k") == with_names.column(1, "k") == ["one", "two"]
    assert with_names.lines == (2, 4), "an empty line is no row, but it is counted"
    without = read_table(write("1\tone\n2\ttwo\n"), header=False)
    assert without.column(1, "k") == ["one", "two"]
    assert without.column("1", "k") == ["one", "two"]
    for name in ("texd", 2, -1):
        with pytest.raises(DataError, match=r"has no column .*\(task\.text\)"):
            with_names.column(name, "task.text")
    twice = read_table(write("a\tb\ta\n1\t2\t3\n"), header=True)
    with pytest.raises(DataError, match=r"line 1: names several columns 'a' \(task\.text\)"):
        twice.column("a", "task.text")
    assert twice.column(2, "task.text") == ["3"]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("a\tb\n1\t2\n3\n", 3, "has 1 columns where line 1 has 2"),
        ("\na\tb\n1\t2\n3\t4\t5\n", 4, "has 3 columns where line 2 has 2"),
        ("a\tb\n1\t2\t\n", 2, "has 3 columns where line 1 has 2"),
        ("", None, "is empty"),
        ("\n \n", None, "is empty"),
    ],
)
def test_broken_tables(write: Write, content: str, line: int | None, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        read_table(write(content), header=True)
    assert (caught.value.line, caught.value.reason) == (line, reason)


def test_names_of_rows(write: Write) -> None:
    table = read_table(write("id\ttext\na\tone\nb\ttwo\n\na\tthree\n"), header=True)
    assert table.ids(None, "task.id") == ["line 2", "line 3", "line 5"]
    with pytest.raises(DataError, match=r"line 5: id 'a' was already used in line 2"):
        table.ids("id", "task.id")
    assert table.ids("text", "task.id") == ["one", "two", "three"]


# --- CoNLL -----------------------------------------------------------------------------------


def sentences(path: Path) -> list[list[tuple[str, str, int]]]:
    return [list(zip(s.words, s.tags, s.lines, strict=True)) for s in read_conll(path)]


def test_conll(write: Write) -> None:
    content = (
        "-DOCSTART-\t-X-\tO\n\n"
        'the\tO\n"quoted"\tO\ncancer\tB-Disease\n\n\n \n'
        "p53\tNN\tB-Gene\n-DOCSTART-\nlast\tO"
    )
    expected = [
        [("the", "O", 3), ('"quoted"', "O", 4), ("cancer", "B-Disease", 5)],
        [("p53", "B-Gene", 9)],
        [("last", "O", 11)],
    ]
    assert sentences(write(content)) == expected
    assert sentences(write(content.replace("\n", "\r\n"))) == expected
    assert sentences(write("\ufeff" + content)) == expected
    assert sentences(write(content, "file.conll.gz")) == expected
    assert sentences(write(content + "\n\n")) == expected


def test_conll_with_blanks_and_odd_words(write: Write) -> None:
    assert sentences(write("p53 NN B-Gene\nis VB O\n")) == [[("p53", "B-Gene", 1), ("is", "O", 2)]]
    odd = "\u2028"  # a word of its own in files made by other programs
    assert sentences(write(f"a b\tO\n#\tO\n-\tO\n{odd}x\tO \n")) == [
        [("a b", "O", 1), ("#", "O", 2), ("-", "O", 3), (f"{odd}x", "O", 4)]
    ]
    assert sentences(write("")) == []


@pytest.mark.parametrize("line", ["word", "word\t", "\tO", " \tO", "word\t \t "])
def test_broken_conll(write: Write, line: str) -> None:
    with pytest.raises(DataError, match=r"file\.tsv, line 2: expected a word and its tag"):
        read_conll(write(f"fine\tO\n{line}\n"))


# --- whole tasks -----------------------------------------------------------------------------


def task(corpora: Path, name: str, **changed: Any) -> Mapping[str, Any]:
    """The yaml node of a task on the small corpora."""
    node: dict[str, Any] = resolved(compose([f"task={name}", "model=tiny"]))["task"]
    anything = dict.fromkeys(("train", "validation", "test"))
    return {**node, "data_dir": str(corpora / name), "sha256": anything, **changed}


@pytest.fixture
def own(corpora: Path, tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """A training file of these lines beside the small validation and test files."""

    def made(name: str, train: str) -> dict[str, str]:
        path = tmp_path / "own.tsv"
        path.write_text(train)
        return {"train": str(path)}

    return made


@pytest.mark.parametrize(
    ("name", "train", "said"),
    [
        ("ncbi_disease", "a\tO\nb\tI-Disease\n", r"line 2: tag 'I-Disease' follows 'O'"),
        ("ncbi_disease", "a\tB-Gene\nb\tI-Disease\n", r"line 2: tag 'I-Disease' follows 'B-Gene'"),
        ("ncbi_disease", "a\tB-Disease\n\nb\tI-Disease\n", r"line 3: tag 'I-Disease' follows 'O'"),
        ("ncbi_disease", "a\tS-Disease\n", r"line 1: tag 'S-Disease' is not an IOB2 tag"),
        ("ncbi_disease", "a\tO-Disease\n", r"line 1: tag 'O-Disease' is not an IOB2 tag"),
        ("ncbi_disease", "\n\n", r"own\.tsv: holds no items, the train split would be empty"),
        ("gad", "index\tsentence\tlabel\n1\ta\t0\n2\t \t1\n", r"line 3: the text or the label"),
        ("gad", "index\tsentence\tlabel\n1\ta\t0\n1\tb\t1\n", r"line 3: id '1' was already used"),
        ("gad", "index\tsentence\tlabel\n", r"own\.tsv: holds no items"),
        ("biosses", "pair_id\tsent1\tsent2\tscore\n1\ta\t\t3\n", r"line 2: one of the two texts"),
        ("biosses", "pair_id\tsent1\tsent2\tscore\n1\ta\tb\tx\n", r"line 2: the score 'x' is not"),
        ("biosses", "pair_id\tsent1\tsent2\tscore\n1\ta\tb\tnan\n", r"line 2: the score 'nan'"),
        ("biosses", "pair_id\tsent1\tsent2\tscore\n1\ta\tb\t1,5\n", r"line 2: the score '1,5'"),
    ],
)
def test_broken_items(
    corpora: Path, own: Callable[[str, str], dict[str, str]], name: str, train: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        load_task(task(corpora, name, **own(name, train)))


def test_labels_that_training_never_shows(
    corpora: Path, own: Callable[[str, str], dict[str, str]]
) -> None:
    one_class = own("gad", "index\tsentence\tlabel\n1\ta\t0\n2\tb\t0\n")
    with pytest.raises(ConfigError) as caught:
        load_task(task(corpora, "gad", label_names=None, positive=["0"], **one_class))
    assert [p.partition(": ")[2] for p in caught.value.problems] == [
        "label '1' (item 25) is not among the task's labels ['0']",
        "label '1' (item 35) is not among the task's labels ['0']",
    ]
    with pytest.raises(ConfigError, match=r"label '1' of task\.label_names never occurs in"):
        load_task(task(corpora, "gad", **one_class))
    no_entity = own("ncbi_disease", "a\tO\n")
    with pytest.raises(ConfigError, match=r"tag 'B-Disease' \(sentence at line \d+\) is not among"):
        load_task(task(corpora, "ncbi_disease", label_names=None, **no_entity))
    with pytest.raises(ConfigError, match=r"tag 'B-Disease' of task\.label_names never"):
        load_task(task(corpora, "ncbi_disease", **no_entity))


def test_labels_found_in_training(corpora: Path, own: Callable[[str, str], dict[str, str]]) -> None:
    tags = own("ncbi_disease", "a\tB-X\nb\tI-X\nc\tO\nd\tB-Disease\ne\tB-A\nf\tI-A\n")
    found = load_task(task(corpora, "ncbi_disease", label_names=None, **tags)).labels
    assert found == ("O", "B-A", "I-A", "B-Disease", "B-X", "I-X")


def test_line_ends_and_packing_change_no_item(corpora: Path, tmp_path: Path) -> None:
    plain = load_task(task(corpora, "gad"))
    content = (corpora / "gad" / "train.tsv").read_bytes()
    (tmp_path / "dos.tsv").write_bytes(content.replace(b"\n", b"\r\n"))
    (tmp_path / "packed.tsv.gz").write_bytes(gzip.compress(content))
    dos = load_task(task(corpora, "gad", train=str(tmp_path / "dos.tsv")))
    packed = load_task(task(corpora, "gad", train=str(tmp_path / "packed.tsv")))
    assert dos.splits == packed.splits == plain.splits
    assert packed.fingerprint == plain.fingerprint != dos.fingerprint


def test_where_files_are_looked_for(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESTAB_DATA", str(corpora))
    here = tmp_path / "gad"
    here.mkdir()
    (here / "train.tsv").write_text("own")
    found = locate("train.tsv", task="gad", data_dir=None)
    assert found == corpora / "gad" / "train.tsv"
    assert locate("train.tsv", task="gad", data_dir=str(here)) == here / "train.tsv"
    assert locate(str(here / "train.tsv"), task="x", data_dir=None) == here / "train.tsv"
    monkeypatch.setenv("BLUESTAB_DATA", str(tmp_path))
    assert locate("train.tsv", task="gad", data_dir=None) == here / "train.tsv"
    monkeypatch.delenv("BLUESTAB_DATA")
    shipped = locate("conll/train.tsv", task="ncbi_disease", data_dir=None)
    assert shipped.is_file(), "the corpus that comes with the package"
    with pytest.raises(DataError, match=r"not found \(looked at .*corpora/gad.*set BLUESTAB_DATA"):
        locate("train.tsv", task="gad", data_dir=None)
    with pytest.raises(DataError, match=r"task\.data_dir must be the folder that holds dev\.tsv$"):
        locate("dev.tsv", task="gad", data_dir=str(here))
    for path in ("./nowhere.tsv", ".", str(tmp_path)):
        with pytest.raises(DataError, match="not found"):
            locate(path, task="gad", data_dir=None)
