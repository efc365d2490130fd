"""Files that no program should wait for, or hold in memory: each one sentence, at once."""

from __future__ import annotations

import gzip
import os
import socket
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from bluestab.core.errors import DataError
from bluestab.data.readers import read_bytes
from tests.support.own_files import Load


def test_pipes_sockets_and_devices(load: Load, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.csv")
    os.mkfifo(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket is short
        bound.bind("s.csv")
        os.chdir(here)
        for name, kind in (
            ("f.csv", "a pipe"), ("none", "a pipe"), ("s.csv", "a socket"),
            ("/dev/zero", "a device"),
        ):  # fmt: skip
            begun = time.monotonic()
            with pytest.raises(DataError, match=kind):
                _load(load, name)
            assert time.monotonic() - begun < 5


def _load(load: Load, name: str) -> None:
    load("classification", {"other.csv": "text,label\n"}, train=name)


def test_a_pipe_among_the_files_of_a_folder(load: Load, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "1.txt")
    with pytest.raises(DataError, match=r"1\.txt: is a pipe, no file"):
        load("tagging", {"b/1.ann": ""}, train="b")


MEMORY = 400e6
"""Of a file that is refused: less than half of a gigabyte."""


def refused(load: Load, name: str, said: str) -> None:
    tracemalloc.start()
    begun = time.monotonic()
    try:
        with pytest.raises(DataError, match=said):
            _load(load, name)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("name", ["f.csv.gz", "f.jsonl.gz", "f.json.gz", "f.txt.gz"])
def test_two_gigabytes_in_two_megabytes(load: Load, tmp_path: Path, name: str) -> None:
    piece = b"{},\n" * 2**22 if "json" in name else b"a,b\n" * 2**22
    (tmp_path / name).write_bytes(gzip.compress(piece, 1) * 128)
    refused(load, name, r"unpacks to more than \d+ MB from [\d,]+ bytes")


def test_a_file_of_gigabytes(tmp_path: Path) -> None:
    with (tmp_path / "f.csv").open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(DataError, match="has 2,000 MB; at most 300 MB are read at once"):
        read_bytes(tmp_path / "f.csv")


def parquet_of_rows(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 3_000_000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int8()), ["a"])
    pq.write_table(pa.table({"text": text, "label": text}), path)


def parquet_of_one_long_text(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int8()), ["a" * 500_000])
    table = pa.table({"text": text, "label": text})
    pq.write_table(table, path, store_schema=False)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (parquet_of_rows, "has 3,000,000 rows; at most 2,000,000 are read at once"),
        (parquet_of_one_long_text, "unpacks to more than 300 MB"),
    ],
)
def test_parquet(load: Load, tmp_path: Path, write: Callable[[Path], None], said: str) -> None:
    write(tmp_path / "f.parquet")
    assert (tmp_path / "f.parquet").stat().st_size < 20_000_000
    refused(load, "f.parquet", said)


JSON = {
    "half a character": ('{"text": "a \\ud83d b", "label": "x"}', "half of a character"),
    "half a character in a label": ('{"text": "a", "label": "\\udc00"}', "half of a character"),
    "half a character in a name": ('{"text": "a", "label": "x", "\\ud800": 1}', "half of a char"),
    "5,000 digits": ('{"text": "a", "label": ' + "9" * 5000 + "}", "a number of 5,000 digits"),
    "nested": ('{"text": "a", "label": ' + "[" * 99_999, "nested too deeply"),
}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_json_that_nothing_can_be_made_of(load: Load, name: str, form: str) -> None:
    line, said = JSON[name]
    good = '{"text": "a", "label": "x"}'
    text = f"{good}\n{line}\n" if form == "jsonl" else f"[{good},\n{line}]"
    with pytest.raises(DataError, match=rf"f\.{form}, line 2: .*{said}"):
        load("classification", {f"f.{form}": text})


def test_characters_in_cells_that_are_json(load: Load) -> None:
    cell = '"[""a"", ""\\ud800""]","[""B-D"", ""O""]"\n'
    with pytest.raises(DataError, match=r"line 2: .*half of a character"):
        load("tagging", {"f.csv": "tokens,tags\n" + cell * 9})


@pytest.mark.parametrize("ending", ["bz2", "xz", "zst"])
def test_other_packers(load: Load, ending: str) -> None:
    with pytest.raises(DataError, match=r"packed with .*: unpack it"):
        load("classification", {f"f.csv.{ending}": b"BZh9"})
