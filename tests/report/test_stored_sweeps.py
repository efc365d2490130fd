"""Real sweeps, made small (`shrink_store`): reports of them against other ways to the numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle

from bluestab.core.paths import conf_dir
from bluestab.report.frames.results import read_results
from bluestab.report.section import Results
from bluestab.report.tables import there
from bluestab.store.store import Store
from tests.support.stored_tables import table_cells, unpacked

STORES = sorted((Path(__file__).parents[1] / "assets/stores").glob("*.tar.gz"))
PAGE = "".join(
    page.read_text(encoding="utf-8")
    for page in sorted((conf_dir().parent / "docs/results").glob("*.md"))
)


def test_stores_are_found() -> None:
    assert STORES


@pytest.fixture(scope="module", params=STORES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def stored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, dict[str, Any], Results]:
    folder = tmp_path_factory.mktemp("stored")
    store = unpacked(request.param, folder)
    manifest = store.manifest(None)
    assert manifest is not None
    return store, manifest, read_results(store, manifest)


def rows_of(found: Results, at: str = "last") -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in found.summary.to_dict("records") if row["at"] == at}


def test_every_run_is_counted(stored: tuple[Store, dict[str, Any], Results]) -> None:
    store, manifest, found = stored
    assert not found.damaged
    assert sum(row["n"] for row in rows_of(found).values()) == len(manifest["runs"])
    assert len(store.keys()) == len(manifest["runs"])


def test_numbers_are_those_of_numpy_and_scipy(
    stored: tuple[Store, dict[str, Any], Results],
) -> None:
    store, manifest, found = stored
    scores: dict[str, dict[int, float]] = {}
    for run in manifest["runs"]:
        record = store.read(run["key"])
        scores.setdefault(run["cell"], {})[run["seed"]] = record.result["score"]["last"]
    rows = rows_of(found)
    base = next(row for row in rows.values() if not isinstance(row["baseline"], str))
    reference = scores[base["cell"]]
    for arm, row in rows.items():
        values = np.array(list(scores[row["cell"]].values()))
        assert row["mean"] == pytest.approx(values.mean())
        assert row["std"] == pytest.approx(values.std(ddof=1))
        if np.ptp(values) > 0:
            half = oracle.sem(values) * oracle.t.ppf(0.975, len(values) - 1)
            assert row["ci_high"] - row["mean"] == pytest.approx(half)
        if row is base:
            continue
        change = np.array([scores[row["cell"]][s] - reference[s] for s in sorted(reference)])
        assert row["delta"] == pytest.approx(change.mean())
        assert row["n_paired"] == len(change)
        if len(change) < 6:
            assert row["p"] is None or math.isnan(row["p"]), f"{arm}: five seeds cannot reach 5 %"
            continue
        drawn = oracle.permutation_test(
            (change,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1
        )
        assert row["p"] == pytest.approx(drawn.pvalue, abs=0.015), arm


def test_the_docs_show_these_numbers(
    stored: tuple[Store, dict[str, Any], Results],
) -> None:
    """| arm | mean | std | failed | ... in the table below the command of the sweep."""
    _, manifest, found = stored
    lines = table_cells(PAGE, manifest["name"])
    shown = {cells[0].strip("`"): cells[1:] for cells in lines}
    rows = {_short(arm): row for arm, row in rows_of(found).items()}
    assert set(shown) == set(rows)
    for arm, row in rows.items():
        mean, std, failed = shown[arm][:3]
        assert mean == f"{row['mean']:.3f}", arm
        assert std == f"{row['std']:.3f}", arm
        assert failed == f"{row['n_degenerate'] + row['n_diverged']} of {row['n']}", arm
        change = ""
        if there(row["delta"]):
            change = f"{row['delta']:+.3f}"
        if there(row["delta_all_low"]):
            change += f" [{row['delta_all_low']:+.3f}, {row['delta_all_high']:+.3f}]"
        assert shown[arm][3] == change, arm
        if len(shown[arm]) == 7 and there(row["p_adjusted"]):
            assert shown[arm][4] == _p(row["p_adjusted"]), arm
            assert shown[arm][6] == _p(row["p_std_adjusted"]), arm


def test_the_first_sentence_is_of_two_seeds_of_one_sweep(
    stored: tuple[Store, dict[str, Any], Results],
) -> None:
    _, manifest, found = stored
    if manifest["name"] != "biosses_remedies":
        return
    runs = found.runs[found.runs["technique"].eq("none") & found.runs["at"].eq("last")]["score"]
    ends = f"scores {runs.max():.2f} with one seed and {runs.min():.2f} with another"
    for page in ("README.md", "docs/index.md"):
        text = " ".join((conf_dir().parent / page).read_text(encoding="utf-8").split())
        assert ends in text, page
    assert f"between {runs.min():.3f} and {runs.max():.3f}" in " ".join(PAGE.split())


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _short(arm: str) -> str:
    """Arms of the page: without the precision in which some had to run."""
    return re.sub(r"(, )?precision=\w+", "", arm)
