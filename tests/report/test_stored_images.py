"""What the documentation says of questions about images, from the records of the runs behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as oracle

from bluestab.report.frames.results import read_results
from tests.support.stored_tables import PAGE, shown, unpacked

STORES = Path(__file__).parents[1] / "assets/images"
NAMES = {"": "all of it trains", "inner_adaptors": "inner adaptors"}
IMAGES = {"own": "own", "other": "another's"}


def change(own: Sequence[float], other: Sequence[float]) -> str:
    """Mean difference of pairs, and its interval (95 %, t)."""
    found = np.subtract(own, other)
    half = oracle.sem(found) * oracle.t.ppf(0.975, len(found) - 1)
    mean = found.mean()
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def test_whether_the_image_helps(tmp_path: Path) -> None:
    store = unpacked(STORES / "vqa_rad.tar.gz", tmp_path)
    scores: dict[tuple[str, str], dict[int, float]] = {}
    failed: dict[tuple[str, str], int] = {}
    for record in map(store.read, sorted(store.keys())):
        result = record.result
        arm = "+".join(name for name, _ in result["config"]["technique"])
        place = (NAMES[arm], IMAGES[result["config"]["task"]["images_of"]])
        assert result["score"]["last"] == result["metrics"]["last"]["test"]["closed_accuracy"]
        scores.setdefault(place, {})[record.measured["names"]["seed"]] = result["score"]["last"]
        failed[place] = failed.get(place, 0) + bool(result["degenerate"]["last"])
    assert all(sorted(own) == [0, 1, 2, 3, 4] for own in scores.values())
    by_seed = {place: [own[s] for s in range(5)] for place, own in scores.items()}
    lines = [
        [*place, "5", f"{np.mean(own):.3f}", f"{np.std(own, ddof=1):.3f}", f"{failed[place]} of 5"]
        for place, own in by_seed.items()
    ]
    assert sorted(shown("vqa_rad")) == sorted(lines)
    both, adaptors = NAMES.values()
    pairs = {
        f"own image instead of another's, {both}": ((both, "own"), (both, "another's")),
        f"own image instead of another's, {adaptors}": ((adaptors, "own"), (adaptors, "another's")),
        f"{adaptors} instead of {both}, own image": ((adaptors, "own"), (both, "own")),
    }
    expected = [[name, change(by_seed[a], by_seed[b])] for name, (a, b) in pairs.items()]
    assert shown("vqa_rad changes") == expected


def test_what_learning_to_see_costs_the_text(tmp_path: Path) -> None:
    store = unpacked(STORES / "forgetting_images.tar.gz", tmp_path)
    results = read_results(store, store.manifest(None))
    before: dict[str, list[float]] = {}
    after: dict[str, list[float]] = {}
    for record in map(store.read, sorted(store.keys())):
        result = record.result
        if not result.get("earlier"):
            continue
        arm = NAMES["+".join(name for name, _ in result["config"]["technique"])]
        first = store.read(result["config"]["predecessor"]["key"]).result
        before.setdefault(arm, []).append(first["score"]["last"])
        after.setdefault(arm, []).append(result["earlier"][0]["last"]["entity_f1"])
    lines = [
        [arm, "5", f"{np.mean(before[arm]):.3f}", f"{np.mean(after[arm]):.3f}",
         change(after[arm], before[arm])]
        for arm in NAMES.values()
    ]  # fmt: skip
    assert shown("forgetting_images") == lines
    learnt = results.summary.query("at == 'last' and task == 'vqa_rad'")["mean"]
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"accuracy on all test questions is {' and '.join(f'{x:.3f}' for x in learnt)}" in page
    kept = NAMES["inner_adaptors"]
    assert after[kept] == before[kept], "to the last bit"
    frame = results.frame("forgetting")
    found = {
        row["arm"]: row["forgetting"] for row in frame[frame["at"] == "last"].to_dict("records")
    }
    lost = np.subtract(before[NAMES[""]], after[NAMES[""]]).mean()
    assert found["none"] == pytest.approx(lost), "the report says the same"
    assert found["inner_adaptors"] == 0.0
