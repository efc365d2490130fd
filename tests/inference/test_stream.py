"""What `predict` finds beside an unfinished output: its own answers, lost ones, changed ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bluestab.core.errors import ConfigError, DataError
from bluestab.inference import stream
from bluestab.inference.stream import predict_file
from tests.inference.formats.test_formats import capitals, tagger
from tests.support.stored_runs import tree

N = 9


class Stopped(Exception):
    """In place of a kill."""


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Path, bytes]]:
    """An output of which six of nine items are done, and what it is to be."""
    monkeypatch.setattr(stream, "CHUNK_ITEMS", 3)
    source = tmp_path / "in.txt"
    source.write_text("".join(f"The Gene{i} and more\n" for i in range(N)))
    predict_file(tagger(source, "text"), capitals, tmp_path / "whole.txt", {})

    def make() -> tuple[Path, bytes]:
        def stopping(n_bytes: int, n_items: int) -> None:
            if n_items == 6:
                raise Stopped

        with pytest.raises(Stopped):
            predict_file(tagger(source, "text"), capitals, tmp_path / "out.txt", {}, stopping)
        return tmp_path / "out.txt", (tmp_path / "whole.txt").read_bytes()

    return make


def again(out: Path) -> stream.Counts:
    return predict_file(tagger(out.with_name("in.txt"), "text"), capitals, out, {})


@pytest.mark.parametrize("left", [None, 0, 1, 20])
def test_answers_that_were_lost_begin_anew(
    begun: Callable[[], tuple[Path, bytes]], left: int | None
) -> None:
    """Before, what was lost was NUL bytes in the output."""
    out, expected = begun()
    partial = out.with_name("out.txt.partial")
    if left is None:
        partial.unlink()
    else:
        partial.write_bytes(partial.read_bytes()[:left])
    counts = again(out)
    assert (counts.items, counts.begun) == (N, 0)
    assert out.read_bytes() == expected


def test_answers_that_are_there_are_gone_on_with(begun: Callable[[], tuple[Path, bytes]]) -> None:
    out, expected = begun()
    with out.with_name("out.txt.partial").open("ab") as file:
        file.write(b"what a kill left")
    counts = again(out)
    assert (counts.items, counts.begun) == (N, 6)
    assert out.read_bytes() == expected


def test_changed_answers_are_noticed(begun: Callable[[], tuple[Path, bytes]]) -> None:
    out, _ = begun()
    partial = out.with_name("out.txt.partial")
    changed = bytearray(partial.read_bytes())
    changed[3] ^= 1
    partial.write_bytes(changed)
    before = tree(out.parent)
    with pytest.raises(ConfigError, match=r"out\.txt\.partial was changed after it was written"):
        again(out)
    assert tree(out.parent) == before


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": -1}, {"bytes": "x"}, {"bytes": 1.5}, {"place": {"offset": -3}},
        {"place": {"offset": None}}, {"place": []}, {"counts": {"items": "many"}}, {"counts": 3},
        {"made": 3}, {"made": None}, {"place": {"nowhere": 1}}, {"sha256": "0" * 64},
    ],
)  # fmt: skip
def test_a_damaged_journal_is_a_sentence(
    begun: Callable[[], tuple[Path, bytes]], change: dict[str, object]
) -> None:
    out, _ = begun()
    journal = out.with_name("out.txt.partial.json")
    journal.write_text(json.dumps({**json.loads(journal.read_text()), **change}))
    with pytest.raises(ConfigError, match=r"begin anew|begun with another"):
        again(out)


def test_a_number_that_json_has_not_is_a_sentence(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "The Gene", "weight": NaN}\n')
    with pytest.raises(DataError, match="item 1 cannot be written"):
        predict_file(tagger(source, "jsonl"), capitals, tmp_path / "out.jsonl", {})
