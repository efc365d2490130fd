"""A mark per run, where its score is; failed runs are crosses."""

from __future__ import annotations

from pathlib import Path

from bluestab.report.terminal.sparklines import strips
from bluestab.report.terminal.sweep_view import SweepView
from tests.report.test_report import LLRD, plain, stored

SCORES = {
    "none": [(0.0, True), (0.5, False), (0.5, False)],
    "llrd": [(1.0, False)],
}


def lines(width: int = 80, most: int = 10) -> list[str]:
    return [line.plain for line in strips(SCORES, width, most)]


def test_marks_are_where_scores_are() -> None:
    head, first, second = lines()
    assert head.split() == ["0.000", "1.000", "mean", "runs"]
    assert first.split() == ["llrd", "•", "1.000", "1"], "the highest mean comes first"
    assert second.split() == ["none", "×", "●", "0.333", "3"]
    strip = second[len("none ") :]
    assert strip.index("×") == 0
    assert abs(strip.index("●") - head.index("1.000") / 2) < 4
    assert first.index("•") == head.index("1.000") + 4, "the highest is at the right end"
    assert {len(line) for line in lines()} == {len(head)}


def test_little_room_is_kept() -> None:
    assert lines(width=24) == []
    assert lines(most=1) == []
    assert [line.split()[0] for line in lines(most=2)][1:] == ["and"]
    assert strips({}, 80, 10) == []
    assert all(len(line) <= 50 for line in lines(width=50))
    (_, line) = strips({"an arm of a very long name that goes on": [(0.5, False)]}, 60, 5)
    assert "…" in line.plain


def test_a_sweep_shows_its_scores_by_what_differs(tmp_path: Path) -> None:
    records = plain({0: 0.5, 1: 0.1}) + plain({0: 0.6}, technique=LLRD)
    store = stored(tmp_path / "runs", records)
    words = [["technique=none"], ["technique=none"], ["technique=llrd"]]
    runs = [
        {
            "key": one.key,
            "overrides": ["task=biosses", *said, f"seed={one.measured['names']['seed']}"],
        }
        for one, said in zip(records, words, strict=True)
    ]
    found = SweepView(store, runs).scores
    assert {arm: sorted(scores) for arm, scores in found.items()} == {
        "none": [(0.1, True), (0.5, False)],
        "llrd": [(0.6, False)],
    }
    assert list(SweepView(store, [{"key": records[0].key}]).scores) == ["all runs"]
