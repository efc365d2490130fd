"""Tables fit any terminal: every number whole, every name whole but for where its lines break."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from rich.cells import cell_len

from bluestab.report.terminal import closing_table
from bluestab.report.terminal.fitted import Column, print_fitted
from bluestab.report.terminal.tables import SafeConsole

ARMS = [
    "none",
    "reinit+llrd+label_smoothing(smoothing=0.05), bias_correction=False, lr=1e-05",
    "x" * 70,
    "法律 [freeze] 名前が長い" * 3,
]
NUMBERS = [
    "20", "85%", "< 0.001", "13", "0.2328", "0.1500 to 0.3156", "0.4771", "0.1769", "25",
    "+0.2847*", "0.768", "0.78", "0.733", "19,771",
]  # fmt: skip
ROWS = [["ncbi_disease", "minilm", ARMS[0], *NUMBERS]] + [
    ["", "", arm, *NUMBERS] for arm in ARMS[1:]
]


def printed(
    width: int, columns: Sequence[Column], rows: list[list[str]], subject: int = 2
) -> tuple[str, list[str]]:
    written = io.StringIO()
    out = SafeConsole(width=width, file=written, highlight=False)
    left_out = print_fitted(out, columns, rows, subject=subject)
    return written.getvalue(), left_out


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_number_is_cut_at_any_width(width: int) -> None:
    text, left_out = printed(width, closing_table.SUMMARY, ROWS)
    assert "…" not in text
    assert max(map(cell_len, text.splitlines())) <= width
    cells = Counter(cell for line in text.splitlines() for cell in re.split(r"  +", line.strip()))
    for column, number in zip(closing_table.SUMMARY[3:], NUMBERS, strict=True):
        there = (column.called or column.heading) not in left_out
        assert cells[number] == 4 * there, column
    assert not {"n", "failed", "mean", "std", "change"} & set(left_out)
    words = (re.split(r"  +", line)[0] for line in text.splitlines() if not line.startswith(" "))
    together = re.sub(r"\s", "", "".join(words))
    if width <= 100:  # arms begin the lines
        assert all(re.sub(r"\s", "", arm) in together for arm in ARMS)


def test_what_goes_first() -> None:
    """Task and model into a line above, then by rank."""
    text, left_out = printed(80, closing_table.SUMMARY, ROWS)
    assert text.splitlines()[0] == "ncbi_disease, minilm"
    gone = [printed(width, closing_table.SUMMARY, ROWS)[1] for width in range(140, 60, -7)]
    assert all(set(before) <= set(after) for before, after in pairwise(gone))
    assert "not failed" in left_out
    assert "95 % interval" not in left_out


def test_subjects_have_a_line_each() -> None:
    rows = [["a", "m", "none", "1"], ["", "", "llrd", "2"], ["b", "m", "none", "3"]]
    columns = [*(Column(name, words=True) for name in ("task", "model", "arm")), Column("n")]
    wide = printed(80, columns, rows)[0].splitlines()
    assert [line.split() for line in wide[1:3]] == [["a", "m", "none", "1"], ["llrd", "2"]]
    narrow = printed(12, columns, rows)[0].splitlines()
    assert [line.split() for line in narrow] == [
        ["a,", "m"], ["arm", "n"], ["none", "1"], ["llrd", "2"],
        ["b,", "m"], ["arm", "n"], ["none", "3"],
    ]  # fmt: skip


def test_columns_without_a_rank_go_on_below() -> None:
    """A section's own table loses nothing: its numbers go on in a second table, named again."""
    measures = [Column(f"measure {i}") for i in range(12)]
    rows = [["freeze", *(f"0.{i:04}" for i in range(12))]]
    text, left_out = printed(80, [Column("arm", words=True), *measures], rows, subject=0)
    assert left_out == []
    assert all(number in text for number in rows[0])
    assert all(column.heading in text for column in measures)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert text.count("freeze") > 1


def test_a_number_wider_than_the_terminal_is_whole() -> None:
    text, _ = printed(10, [Column("arm", words=True), Column("n")], [["a", "9" * 30]], subject=0)
    assert "9" * 30 in text
