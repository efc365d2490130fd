"""Offsets that count something else than characters: converted where it is sure, else refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bluestab.core.errors import DataError
from bluestab.tasks.data import TaskData
from tests.support.own_files import JSONL, Load, brat

Unit = Callable[[str], int]
UNITS: dict[str, Unit] = {
    "UTF-16": lambda text: len(text.encode("utf-16-le")) // 2,
    "bytes": lambda text: len(text.encode()),
}


def text_of(i: int) -> str:
    return (
        f"\U0001f637 cas n\u00b0 {i} \U0001f600 of gout recently"
        if i % 3
        else f"case {i} of gout today"
    )


def span(i: int, unit: Unit) -> tuple[int, int]:
    before, _, _ = text_of(i).partition("gout")
    return unit(before), unit(before + "gout")


def jsonl(unit: Unit, with_text: bool, n: int = 30) -> str:
    lines = []
    for i in range(n):
        start, end = span(i, unit)
        one: dict[str, Any] = {"start": start, "end": end, "label": "D"}
        found = {**one, **({"text": "gout"} if with_text else {})}
        lines.append(json.dumps({"text": text_of(i), "spans": [found]}) + "\n")
    return "".join(lines)


def words(data: TaskData) -> list[str]:
    return [
        word
        for part in data.splits.values()
        for e in part
        for word, tag in zip(e.text, e.target, strict=True)  # type: ignore[arg-type]
        if tag != "O"
    ]


@pytest.mark.parametrize("with_text", [True, False])
@pytest.mark.parametrize("unit", UNITS)
def test_other_units_are_converted(load: Load, unit: str, with_text: bool) -> None:
    data = load("tagging", {JSONL: jsonl(UNITS[unit], with_text)})
    assert words(data) == ["gout"] * 30
    assert any(f"offsets count {unit.split()[0]}" in note for note in data.notes)


@pytest.mark.parametrize("with_text", [True, False])
def test_characters_stay_characters(load: Load, with_text: bool) -> None:
    data = load("tagging", {JSONL: jsonl(len, with_text)})
    assert words(data) == ["gout"] * 30
    assert not any("offsets count" in note for note in data.notes)


@pytest.mark.parametrize("with_text", [True, False])
def test_a_mixture_is_refused(load: Load, with_text: bool) -> None:
    mixed = jsonl(len, with_text) + jsonl(UNITS["UTF-16"], with_text)
    with pytest.raises(DataError, match=r"others characters|is not at"):
        load("tagging", {JSONL: mixed})


@pytest.mark.parametrize("unit", UNITS)
def test_brat(load: Load, unit: str) -> None:
    files = {}
    for i in range(12):
        start, end = span(i, UNITS[unit])
        files[f"b/{i}.txt"] = text_of(i)
        files[f"b/{i}.ann"] = f"T1\tD {start} {end}\tgout\n"
    assert words(load("tagging", files, train="b")) == ["gout"] * 12


@pytest.mark.parametrize("unit", UNITS)
def test_pubtator(load: Load, unit: str) -> None:
    content = ""
    for i in range(12):
        start, end = span(i, UNITS[unit])
        content += f"{i}|t|{text_of(i)}\n{i}|a|End.\n{i}\t{start}\t{end}\tgout\tD\tX\n\n"
    assert words(load("tagging", {"f.pubtator": content})) == ["gout"] * 12


def test_a_changed_text_is_still_told(load: Load) -> None:
    files = {**brat(), "b/03.txt": "\U0001f600Colon cancer and gout 3 .\n"}
    with pytest.raises(DataError, match=r"03\.ann, line 1: 'Colon cancer' is not at 0 12"):
        load("tagging", files, train="b")


@pytest.mark.parametrize("blank", [(0, 1), (1, 0), (1, 1)])
def test_blanks_at_the_ends_of_mentions_tell_nothing(load: Load, blank: tuple[int, int]) -> None:
    lines = []
    for i in range(30):
        start, end = span(i, len)
        found = [[start - blank[0], end + blank[1], "D"]]
        lines.append(json.dumps({"text": text_of(i), "spans": found}) + "\n")
    assert words(load("tagging", {JSONL: "".join(lines)})) == ["gout"] * 30
