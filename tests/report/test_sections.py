"""A section is given once: terminal, files and page show it without knowing its name."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bluestab.report import page_data, write
from bluestab.report.frames import results
from bluestab.report.frames.results import quick_results, read_results
from bluestab.report.page import ASSETS, page_html
from bluestab.report.section import Grid, Results, Section
from bluestab.report.sections import SECTIONS, UPWARDS
from bluestab.report.terminal import closing_table
from bluestab.store.store import Store
from tests.report.test_report import RECORDS, stored

NAMES = [section.name for section in SECTIONS]


def steps_of(results: Results, store: Store) -> pd.DataFrame:
    assert len(store.keys()) == results.runs[results.runs["status"] != "crashed"]["key"].nunique()
    found = results.runs[results.runs["at"] == "last"].groupby("arm", sort=False)["steps"].max()
    return found.reset_index()


NEW = Section(
    "steps",
    "How long runs were",
    "In optimizer steps.",
    frame=steps_of,
    sentences=lambda found: [f"steps of {len(found.frame('steps'))} arms"],
    printed=lambda found: [
        "steps:",
        Grid(["arm", "steps"], found.frame("steps").astype(str).to_numpy().tolist()),
    ],
)


def add(monkeypatch: pytest.MonkeyPatch, section: Section) -> None:
    for module in (results, page_data):
        monkeypatch.setattr(module, "SECTIONS", (*SECTIONS, section))
    for module in (closing_table, write):
        monkeypatch.setattr(module, "UPWARDS", (section, *UPWARDS))


def written(root: Path) -> tuple[Any, Path]:
    """Data of the page, and the folder of a report of handmade records."""
    store = stored(root / "runs", RECORDS)
    found = read_results(store, store.manifest(None))
    closing_table.print_outcome(found)
    files = write.write_report(found, root / "out", store=store, manifest=store.manifest(None))
    assert all(file.exists() for file in files)
    return page_data.page_data(found, store, store.manifest(None)), root / "out"


def test_a_new_section_is_printed_written_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, NEW)
    data, out = written(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines.index("steps of 2 arms") < lines.index("steps:")
    after = lines.index("steps:")
    assert [line.split() for line in lines[after + 1 : after + 4]] == [
        ["arm", "steps"],
        ["none", "7"],
        ["llrd", "7"],
    ]
    with (out / "steps.csv").open() as file:
        assert list(csv.reader(file)) == [["arm", "steps"], ["none", "7"], ["llrd", "7"]]
    assert "- steps of 2 arms\n" in (out / "summary.md").read_text()
    assert data["steps"] == {"columns": ["arm", "steps"], "rows": [["none", 7], ["llrd", 7]]}
    assert data["sections"][-1] == {
        "name": "steps",
        "title": "How long runs were",
        "about": "In optimizer steps.",
    }


def test_without_it_nothing_is_said_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = written(tmp_path)
    assert "steps of" not in capsys.readouterr().out
    assert not (out / "steps.csv").exists()
    assert "steps" not in data


def test_the_frame_of_a_report_before_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, Section("steps", "x", frame=lambda results, _: results.runs[:0]))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/steps.csv").write_text("of other runs")
    _, out = written(tmp_path)
    assert not (out / "steps.csv").exists()


def test_every_section_has_something_to_draw_and_every_script_a_section(tmp_path: Path) -> None:
    data, _ = written(tmp_path)
    scripts = {file.name.removesuffix(".js") for file in (ASSETS / "sections").iterdir()}
    assert scripts <= set(NAMES)
    for name in set(NAMES) - scripts:
        assert set(data[name]) == {"columns", "rows"}, f"{name} has neither a script nor a frame"
    page = page_html(data)
    for name in scripts:
        assert f"DRAW.{name} = " in page


def test_sections_are_told_apart(tmp_path: Path) -> None:
    """By name, on the page and among the files, and in what they give to the page."""
    assert len({*NAMES}) == len(NAMES) == len({section.title for section in SECTIONS})
    assert not {"runs", "summary"} & {s.name for s in SECTIONS if s.frame is not None}
    store = stored(tmp_path / "runs", RECORDS)
    found = read_results(store, None)
    given = [key for section in SECTIONS for key in section.page(found)]
    assert len(given) == len({*given})
    shared = {"name", "at", "summary", "runs", "curves", "headlines", "provenance", "sections"}
    assert not shared & {*given}


def test_results_without_frames_have_empty_ones(tmp_path: Path) -> None:
    store = stored(tmp_path / "runs", RECORDS)
    found = quick_results(store, None)
    assert found.frame("published").empty
    assert not any(section.sentences(found) or section.printed(found) for section in SECTIONS)
