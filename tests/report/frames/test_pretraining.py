"""Fine-tunings from pretrainings of several seeds: what varies between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.keys import cell_of, key_of
from bluestab.report.frames.results import read_results
from bluestab.report.section import Results
from tests.report.test_report import record, stored

SCORES = {
    "general": [[0.50, 0.60, 0.70], [0.60, 0.70, 0.80]],
    "domain": [[0.70, 0.80, 0.90], [0.80, 0.90, 1.00]],
}


def results_of(
    root: Path, settings: Sequence[str] = ("general", "domain"), unequal: bool = False
) -> Results:
    """Of settings with two pretrainings each, and of fine-tunings of three seeds from each."""
    before, after = [], []
    for setting in settings:
        for seed, scores in enumerate(SCORES[setting]):
            source = record(0.5, seed=seed, model=f"random:{setting}")
            before.append(source)
            for own, score in enumerate(scores):
                one = record(score, seed=own)
                config = {**one.result["config"], "init_from": f"sha256:{setting}{seed}"}
                one.result.update(config=config, key=key_of(config), cell=cell_of(config))
                one.measured["names"]["init_from"] = {
                    "run": source.key, "at": "last", "task": "text"
                }  # fmt: skip
                after.append(one)
    if unequal:
        after = after[:-3]
    store = stored(root, [*before, *after])
    return read_results(store, store.manifest(None))


def row_of(results: Results) -> dict[str, Any]:
    frame = results.frame("pretraining")
    (row,) = frame[frame["at"] == "last"].to_dict("records")
    return row  # type: ignore[no-any-return]


def test_components_of_settings_pretrainings_and_seeds(tmp_path: Path) -> None:
    """No interaction: stds of 0.1 between seeds, and of 0.0707 between two pretrainings; the means
    of the settings are 0.65 and 0.85, 0.02 of variance less half of the pretrainings'."""
    results = results_of(tmp_path / "runs")
    row = row_of(results)
    assert (row["settings"], row["pretrainings"], row["seeds"]) == (2, 2, 3)
    parts = {"setting": 0.02 - 0.0025, "pretraining": 0.005, "fine_tuning": 0.01, "rest": 0.0}
    for part, component in parts.items():
        assert row[f"std_{part}"] == pytest.approx(component**0.5, abs=1e-9)
        assert row[f"share_{part}"] == pytest.approx(component / 0.0325, abs=1e-9)
    from bluestab.report.sections import SECTIONS

    (section,) = (one for one in SECTIONS if one.name == "pretraining")
    (sentence,) = section.sentences(results)
    assert sentence.endswith(
        "2 settings of 2 pretrainings, 3 seeds each: of the variance 54% between settings, 15% "
        "between pretrainings, 31% between fine-tuning seeds, 0% seeds that act otherwise from each"
    )


def test_one_setting_has_none_between(tmp_path: Path) -> None:
    results = results_of(tmp_path / "runs", ["domain"])
    row = row_of(results)
    assert row["share_setting"] is None
    assert row["share_pretraining"] == pytest.approx(1 / 3)


def test_what_is_not_crossed_is_left_out(tmp_path: Path) -> None:
    assert results_of(tmp_path / "runs", unequal=True).frame("pretraining").empty
