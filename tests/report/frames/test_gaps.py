"""What a comparison is over, and reasons in the place of what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from bluestab.report.frames.contrasts import ArmRuns, contrasts
from bluestab.report.frames.folds import with_fold
from bluestab.report.frames.gaps import pairs_of
from bluestab.report.tables import caption, dashes
from bluestab.report.words.headline import headlines
from tests.report.test_report import LLRD, plain, record, row, summary
from tests.support.compared_arms import REINIT


def streams(init: int, order: int | None = None, fold: int | None = None) -> tuple[Any, ...]:
    return with_fold((("init", init), ("order", init if order is None else order)), fold)


@pytest.mark.parametrize(
    ("shared", "pairs", "units"),
    [
        ([streams(i) for i in range(12)], "12", 12),
        ([], "0", 0),
        ([streams(i, fold=f) for i in range(3) for f in range(5)], "3 x 5 folds", 5),
        ([streams(i, fold=f) for i, f in ((0, 0), (1, 0), (0, 1))], "3 in 2 folds", 2),
        ([streams(i, j) for i in range(4) for j in range(5)], "20 (4 init x 5 order)", 4),
        ([streams(i // 2, i) for i in range(6)], "6 (3 init)", 3),
    ],
)
def test_pairs(shared: list[Any], pairs: str, units: int) -> None:
    assert pairs_of(shared) == {"pairs": pairs, "n_units": units}


def compared(own: list[float], reference: list[float], seeds: list[Any] | None = None) -> Any:
    seeds = seeds or [streams(i) for i in range(len(own))]
    pair = (
        ArmRuns(dict(zip(seeds, own, strict=True))),
        ArmRuns(dict(zip(seeds, reference, strict=True))),
    )
    return contrasts({"": pair})[""]


def test_reasons() -> None:
    few = compared([0.5, 0.7, 0.9], [0.4, 0.5, 0.6])
    assert few["no_p"] == few["no_p_std"] == "fewer than 6 shared seeds cannot reach 0.05"
    alike = [0.1 * i for i in range(10)]
    same = compared(alike, alike)
    assert same["p"] == 1.0
    assert same["no_p"] is None, "ten seeds are not few"
    assert same["no_p_std"] == "too few seeds tell the stds apart"
    flat = compared([0.5] * 10, alike)
    assert flat["no_ratio"] == "so few seeds, or no spread, leave the ratio of stds open"
    assert flat["no_p"] is None
    nothing = contrasts({"": (ArmRuns({streams(0): 0.5}), ArmRuns({streams(1): 0.5}))})[""]
    assert nothing["no_p"] == "no seed is shared with the baseline"
    folds = [streams(i, fold=f) for i in range(2) for f in range(3)]
    unknown = compared([0.1, 0.2, 0.3, 0.4, 0.5, 0.9], [0.0] * 6, folds)
    assert "sizes that are not known" in unknown["no_p"]
    assert unknown["no_p_std"] == "over folds the ratio of stds is not tested"
    crossed = [streams(i, j) for i in range(3) for j in range(3)]
    tied = compared([0.1 * i * i for i in range(9)], [0.0] * 9, crossed)
    assert tied["no_p_std"] == "where runs share seeds the ratio of stds is not tested"


def test_a_ratio_that_could_be_anything_has_no_interval() -> None:
    """One failed run of the baseline: its std may be a hundred times that of the arm, or none."""
    own = [0.80, 0.81, 0.805, 0.812, 0.79, 0.80, 0.803]
    found = compared(own, [*own[:6], 0.0])
    assert found["std_ratio"] is not None
    low, high = found["std_ratio_low"], found["std_ratio_high"]
    assert low is None or 0.01 <= low <= high <= 100
    assert (low is None) == (found["no_ratio"] is not None)


def text_of(table: Any) -> str:
    return headlines(table, {}, "last")[0].text


def test_a_baseline_of_other_seeds_is_there() -> None:
    apart = [
        *plain({0: 0.5, 1: 0.6}),
        *plain({2: 0.9, 3: 0.8}, technique=LLRD),
        *plain({4: 0.9, 5: 0.8}, technique=REINIT),
    ]
    table = summary(apart)
    assert "none is there, but no seed is shared with the baseline" in text_of(table)
    assert "no baseline" not in text_of(table)
    assert row(table, "llrd")["pairs"] == "0"
    alone = summary([*plain({0: 0.9}, technique=LLRD), *plain({0: 0.8}, technique=REINIT)])
    assert "There is no baseline" in text_of(alone)


def fold_records(seeds: int = 3, folds: int = 5) -> list[Any]:
    """`seeds` in each of `folds`; llrd is better by something that differs between folds."""
    found = []
    for arm, gain in (((), 0.0), (LLRD, 0.02)):
        for seed in range(seeds):
            for fold in range(folds):
                one = record(0.5 + 0.03 * fold + 0.01 * seed + gain * fold, arm, seed)
                one.result["config"]["task"] |= {"folds": folds, "fold": fold}
                one.result["items"] = {"train": 80, "validation": 10, "test": 20}
                one.result["key"] = f"{len(found):016x}"
                found.append(one)
    return found


def test_folds_are_called_what_they_are() -> None:
    table = summary(fold_records())
    found = row(table, "llrd")
    assert (found["n_paired"], found["pairs"], found["n_units"]) == (15, "3 x 5 folds", 5)
    assert found["p"] is not None
    assert "Too early" not in text_of(table)
    assert "15 shared seeds" not in text_of(table)
    rows = table[table["at"] == "last"].to_dict("records")
    said = caption(rows, "last")
    assert "p of the ratio: ;" not in said
    assert "permutation" not in said
    assert "flips" not in said
    assert "p of the change: corrected resampled t over folds" in said
    assert "over folds the ratio of stds is not tested" in said


def test_a_single_fold_is_too_few_for_a_p() -> None:
    found = row(summary(fold_records(folds=1)), "llrd")
    assert found["p"] is None
    assert "one fold" in found["no_p"]


def test_a_caption_names_every_baseline() -> None:
    """Two learning rates, each with its own plain fine-tuning."""
    records = [
        one
        for lr in (1e-5, 2e-5)
        for arm, score in (((), 0.5), (LLRD, 0.6))
        for one in plain({s: score + 0.01 * s for s in range(3)}, technique=arm, lr=lr)
    ]
    rows = summary(records)
    rows = rows[rows["at"] == "last"].to_dict("records")
    assert "against none, lr=1e-05 and none, lr=2e-05" in caption(rows, "last")
    assert dashes(rows) == ["-: fewer than 6 shared seeds cannot reach 0.05"]
