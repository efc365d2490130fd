"""The page in a browser: `make test-browser`. Skipped where something is absent: node, Chromium
(`apt-get install chromium`, or `CHROMIUM=PATH`), what `tests/browser/package.json` names.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.types import RunRecord
from bluestab.report.frames.results import read_results
from bluestab.report.page import page_html
from bluestab.report.page_data import page_data
from bluestab.store.store import Store
from tests.report.test_page import CURVE, NASTY
from tests.report.test_report import LLRD, RECORDS, plain, record, stored

HERE = Path(__file__).parents[1] / "browser"
CHROMIUM = os.environ.get("CHROMIUM") or "/usr/bin/chromium"
LACKS = [
    name
    for name, found in {
        "node (apt-get install nodejs npm)": shutil.which("node"),
        f"{CHROMIUM} (apt-get install chromium, or CHROMIUM=PATH)": Path(CHROMIUM).exists(),
        "tests/browser/node_modules (make test-browser)": (HERE / "node_modules").exists(),
    }.items()
    if not found
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(LACKS), reason=f"a browser test needs {'; '.join(LACKS)}"),
]


SEARCH = {
    "name": NASTY,
    "task": "biosses",
    "model": "small",
    "objective": ["mean"],
    "maximised": [True],
    "seeds": [0, 1],
    "n_trials": 4,
    "sentences": [f"winner: {NASTY}"],
    "knobs": [
        {"name": "optim.lr", "text": "tag(log,interval(1e-5,1e-3))", "log": True},
        {"name": "technique", "text": NASTY, "log": False},
    ],
    "points": {
        "columns": [
            *("trial", "state", "censored", "infeasible", "n_seeds", "optim.lr", "technique"),
            *("mean", "mean_so_far", "failed_share", "seed_0", "seed_1", "note", "point"),
        ],
        "rows": [
            [0, "complete", False, False, 2, 1e-4, "none", 0.5, 0.5, 0, 0.4, 0.6, "", "none"],
            [1, "stopped", True, False, 1, 1e-5, NASTY, None, 0.3, 0, 0.3, None, NASTY, NASTY],
            [2, "complete", False, True, 2, 1e-3, NASTY, 0.1, 0.1, 1, 0.1, 0.1, "", "failed"],
            [3, "crashed", False, False, 0, 1e-3, NASTY, None, None, None, None, None, "no", "x"],
        ],
    },
    "ranked": [0],
    "importance": {"optim.lr": 0.7, "technique": 0.3},
}


def look(
    root: Path, records: list[RunRecord], manifest: Any = None, searches: Any = ()
) -> tuple[Any, Any]:
    """The data of a page, and what the browser says of it."""
    store = stored(root / "runs", records) if manifest is None else Store(root / "runs")
    for number, one in enumerate(records):
        if one.status != "crashed":
            lines = [f"{10 * i},{1 / i},{0.1 * i},,{10.0 ** -(number % 5)},2\n" for i in (1, 2, 3)]
            (store.folder(one.key) / "curve.csv").write_text(CURVE + "".join(lines))
    if manifest is not None:
        store.write_manifest("soon", manifest)
    chosen = store.manifest(None)
    results = replace(read_results(store, chosen), searches=searches)
    data = page_data(results, store, chosen)
    page = root / "report.html"
    page.write_text(page_html(data))
    return data, seen(page)


def seen(page: Path) -> Any:
    done = subprocess.run(
        ["node", str(HERE / "look.mjs"), str(page)],
        capture_output=True,
        text=True,
        env={**os.environ, "CHROMIUM": CHROMIUM},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["console"] == [], "no error, no warning"
    assert found["requests"] == [], "nothing is asked for"
    assert found["dialogs"] == [], "nothing is executed"
    for where, violations in found["axe"].items():
        serious = [v for v in violations if v[0] in ("serious", "critical")]
        assert serious == [], where
    assert found["widths"] == {"390": 390, "820": 820, "1280": 1280}, "nothing hangs over the edge"
    return found


def several() -> list[RunRecord]:
    """Two tasks, two models, an arm that helps; failed, diverged and crashed runs."""
    records = [*RECORDS]
    for task in ("biosses", "gad"):
        for model in ("small", "large"):
            for seed in range(8):
                score = 0.1 if task == "gad" and not seed else 0.4 + 0.01 * seed
                records.append(record(score, seed=seed + 10, task=task, model=model))
                one = record(
                    0.6 + 0.013 * seed + 0.05 * (task == "gad"),
                    LLRD,
                    seed + 10,
                    task=task,
                    model=model,
                )
                one.measured["seconds"]["total"] = 13.0
                records.append(one)
    return records


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return look(tmp_path_factory.mktemp("whole"), several(), searches=[SEARCH])


def test_every_figure_is_drawn(whole: tuple[Any, Any]) -> None:
    _, found = whole
    drawn = {name for name, n in found["sections"].items() if n}
    assert drawn >= {
        *(
            "seeds",
            "failed",
            "change",
            "curves",
            "gradients",
            "cost",
            "memory",
            "budget",
            "variance",
            "search",
        ),
        *("setup", "crashes", "runs"),
    }
    assert found["open_ms"] < 2000


def test_numbers_in_the_table_are_those_of_the_summary(whole: tuple[Any, Any]) -> None:
    data, found = whole
    rows = [dict(zip(data["summary"]["columns"], r, strict=True)) for r in data["summary"]["rows"]]
    expected = {
        f"{row['delta']:+.3f}" for row in rows if row["at"] == "last" and row["delta"] is not None
    }
    shown = " ".join(cell.replace("\u2212", "-") for row in found["change"] for cell in row)
    assert len(expected) >= 3
    assert all(value in shown for value in expected), shown


def test_filters_change_every_figure_and_live_in_the_link(whole: tuple[Any, Any]) -> None:
    _, found = whole
    figures = {"seeds", "failed", "change", "curves", "gradients", "cost", "budget", "runs"}
    assert figures | {"answer", "variance"} <= set(found["states"]["task"]["changed"])
    assert figures | {"answer", "variance"} <= set(found["states"]["model"]["changed"])
    assert found["states"]["task"]["hash"] == "#task=biosses"
    assert found["states"]["model"]["hash"] == "#model=small"
    assert figures - {"change", "cost"} <= set(found["states"]["arms"]["changed"])
    assert found["states"]["link"] == [], "the link brings the same page back"


def test_points_can_be_walked_by_keyboard(whole: tuple[Any, Any]) -> None:
    _, found = whole
    said, hidden = found["keyboard"]
    assert not hidden
    assert "seed" in said
    assert "bluestab run technique=x" in said


def test_what_to_use_and_why_is_in_the_first_screen(tmp_path: Path) -> None:
    records = [
        *plain({0: 0.61, 1: 0.64, 2: 0.66}),
        *plain({0: 0.52, 1: 0.56, 2: 0.57}, technique=LLRD),
    ]
    for one in records:
        one.result["items"] = {"train": 64, "validation": 16, "test": 20}
    data, found = look(tmp_path, records)
    first = " ".join(found["first"])
    assert data["test_items"] == {"biosses": [20]}
    for said in ("20 test items", "What to use: none", "0.637 \u00b1 0.025 (3)", "No run failed."):
        assert said in first
    assert found["glossary"].startswith("mean \u00b1 std")
    assert "n - 1" in found["glossary"]
    assert found["sections"]["failed"] == found["sections"]["gradients"] == 0, "none failed"
    assert "unknown with 3 seeds" in found["text"]
    assert "seed, other in every arm" in found["text"]
    assert "\u22120.08" in found["headline"], "a minus, not a hyphen"


def test_a_phone_cuts_no_table_without_a_word_and_breaks_no_word(whole: tuple[Any, Any]) -> None:
    _, found = whole
    assert found["phone"]["broken"] == []
    assert found["phone"]["cut"] == 0
    assert found["phone"]["tables"] >= 2, "some go on to the right, and say so"


def test_on_paper_everything_is_open(whole: tuple[Any, Any]) -> None:
    data, found = whole
    paper = found["print"]
    assert (paper["closed"], paper["buttons"], paper["short"], paper["breaking"]) == (0, [], 0, 0)
    assert paper["opened"] == paper["closed_after"] > 0, "and as it was, afterwards"
    assert paper["commands"] >= min(50, len(data["runs"]["rows"]))
    assert paper["theme"] == "light"


def test_names_are_shown_and_never_executed(tmp_path: Path) -> None:
    records = plain({0: 0.5, 1: 0.6}, task=NASTY, model=NASTY)
    records += plain({0: 0.7, 1: 0.8}, task=NASTY, model=NASTY, technique=[(NASTY, {"a": NASTY})])
    crash = copy.deepcopy(record(None, seed=2, status="crashed", task=NASTY, model=NASTY))
    crash.result["error"] = {"type": "Error", "message": NASTY}
    _, found = look(tmp_path, [*records, crash])
    assert "<img src=x onerror=alert(2)> \"'`${1} 🧬 <b>bold</b>" in found["text"]
    assert found["headline"].count("</script>") >= 1


@pytest.mark.parametrize(
    ("records", "headline"),
    [
        ([record(0.5)], "none reached Pearson 0.500 over one seed; failed: 0 %."),
        (plain({0: 0.1, 1: None}), "failed: 100 %."),
        ([record(None, status="crashed")], "No run has finished: 1 run crashed."),
        ([], "No run has finished yet."),
    ],
    ids=["one run", "only failed runs", "only crashes", "nothing yet"],
)
def test_little_to_show(tmp_path: Path, records: list[RunRecord], headline: str) -> None:
    manifest = {"name": "soon", "command": "x", "runs": [{"key": "0" * 16, "overrides": []}]}
    _, found = look(tmp_path, records, None if records else manifest)
    assert found["headline"].endswith(headline)
