"""The page holds the numbers of `summary.csv`, shows names as text, and asks nobody."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.types import RunRecord
from bluestab.report.frames.curves import Curve, read_curve
from bluestab.report.frames.results import read_results
from bluestab.report.page import _asset, embedded, page_html
from bluestab.report.page_data import command_of, page_data
from bluestab.store.store import Store
from tests.report.test_report import LLRD, RECORDS, plain, record, stored

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'`${1} 🧬 <b>bold</b>"


class Blocks(HTMLParser):
    """Scripts of a page by their type, and every address that an element names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [v for k, v in found.items() if k in ("src", "href", "action") and v]
        if tag == "script":
            self._in = found.get("type") or "text/javascript"
            self.scripts.append((self._in, ""))

    def handle_endtag(self, tag: str) -> None:
        self._in = "" if tag == "script" else self._in

    def handle_data(self, data: str) -> None:
        if self._in:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)


def data_of(page: str) -> Any:
    (text,) = (text for kind, text in Blocks(page).scripts if kind == "application/json")
    return json.loads(text)


def page_of(root: Path, records: list[RunRecord], **kwargs: Any) -> tuple[Any, str]:
    """Data and page of a store that holds these records."""
    store = stored(root, records, **kwargs)
    manifest = store.manifest(None)
    data = page_data(read_results(store, manifest), store, manifest)
    return data, page_html(data)


def records_of(table: Any) -> list[dict[str, Any]]:
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def test_numbers_are_those_of_the_csv_files(cli: Callable[..., Any]) -> None:
    stored(Path("runs"), RECORDS)
    said = cli("report", "--out", "out")
    assert "out/report.html" in said.out
    data = data_of(Path("out/report.html").read_text())
    with Path("out/summary.csv").open() as file:
        expected = list(csv.DictReader(file))
    found = records_of(data["summary"])
    assert list(found[0]) == list(expected[0])
    assert len(found) == len(expected) == 4
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in ours.items():
            if isinstance(value, bool):
                assert str(value) == theirs[name], name
            elif isinstance(value, int | float):
                assert value == float(theirs[name]), name
            else:
                assert (value or "") == theirs[name], name
    with Path("out/runs.csv").open() as file:
        by_place = {(row["key"], row["at"]): row for row in csv.DictReader(file)}
    runs = records_of(data["runs"])
    assert {run["key"] for run in runs} == {one.key for one in RECORDS}
    for run in runs:
        for at in ("last", "best"):
            row = by_place.get((run["key"], at), {})
            assert run[at] == (float(row["score"]) if row.get("score") else None)
            assert run["seconds"] == float(by_place[run["key"], "last"]["seconds"])


def test_every_run_has_the_line_that_repeats_it(tmp_path: Path) -> None:
    data, _ = page_of(tmp_path / "runs", RECORDS)
    assert {run["command"] for run in records_of(data["runs"])} == {"bluestab run technique=x"}
    assert command_of(["technique=[a,b]", "seed=1"]) == "bluestab run 'technique=[a,b]' seed=1"
    store = Store(tmp_path / "runs")
    whole = page_data(read_results(store, None), store, None)
    assert whole["name"] == "all"
    assert {run["command"] for run in records_of(whole["runs"])} == {"bluestab run technique=x"}


def test_names_are_data(tmp_path: Path) -> None:
    records = plain({0: 0.5, 1: 0.6}, task=NASTY, model=NASTY)
    records += plain({0: 0.7, 1: 0.8}, task=NASTY, model=NASTY, technique=[(NASTY, {"a": NASTY})])
    crash = record(None, seed=2, status="crashed", task=NASTY, model=NASTY)
    crash.result["error"] = {"type": "Error", "message": NASTY}
    data, page = page_of(tmp_path / "runs", [*records, crash])
    blocks = Blocks(page)
    assert [kind for kind, _ in blocks.scripts] == ["application/json", "text/javascript"]
    assert "img" not in blocks.tags
    assert "b" not in blocks.tags
    assert data_of(page) == data, "and it comes out as it went in"
    assert NASTY in {row["task"] for row in records_of(data["summary"])}
    assert NASTY in next(run["error"] for run in records_of(data["runs"]) if run["error"])


def test_embedded_json_ends_no_script() -> None:
    text = embedded({"name": "</ScRipt><!--\u2028&\ud800"})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text)["name"] == "</ScRipt><!--\u2028&\ud800"
    with pytest.raises(ValueError):
        embedded({"x": float("nan")})


def test_the_script_writes_text_only_and_asks_nobody(tmp_path: Path) -> None:
    _, page = page_of(tmp_path / "runs", RECORDS)
    script = next(text for kind, text in Blocks(page).scripts if kind == "text/javascript")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "fetch(", "import("):
        assert word not in script
    assert all(address.startswith("#") for address in Blocks(page).addresses)
    said = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert said == {"http://www.w3.org/2000/svg"}, "a name of a language, not an address to ask"
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe-inline'; script" not in policy[1].partition("script-src")[2]


def test_template_style_and_scripts_are_in_the_package() -> None:
    for name in ("page.html", "page.css", "core.js", "charts.js", "sections/search.js", "page.js"):
        assert len(_asset(name)) > 500
    assert set(re.findall("@@(.+?)@@", _asset("page.html"))) == {
        *("title", "policy", "style", "without_script", "data", "script"),
    }


# --- stores of every kind --------------------------------------------------------------------


def test_one_run(tmp_path: Path) -> None:
    data, page = page_of(tmp_path / "runs", [record(0.5)])
    assert data["headlines"][0]["verdict"] == "alone"
    assert data["headlines"][0]["text"] == (
        "none reached Pearson 0.500 over one seed; failed: 0 %."
    )
    assert data["variance"] == []
    assert page.count("<script") == 2


def test_no_finished_run(cli: Callable[..., Any]) -> None:
    Store(Path("runs")).write_manifest(
        "soon", {"name": "soon", "command": "x", "runs": [{"key": "0" * 16, "overrides": []}]}
    )
    said = cli("report")
    assert (said.code, said.err) == (0, "")
    data = data_of(Path("report/soon/report.html").read_text())
    assert (data["left"], data["headlines"], data["runs"]["rows"]) == (1, [], [])
    assert not Path("report/soon/summary.csv").exists()


def test_only_crashes(tmp_path: Path) -> None:
    data, _ = page_of(tmp_path / "runs", [record(None, seed=s, status="crashed") for s in (0, 1)])
    assert data["headlines"] == []
    assert [run["error"] for run in records_of(data["runs"])] == ["Error: what happened"] * 2


def test_only_failed_runs(tmp_path: Path) -> None:
    data, _ = page_of(tmp_path / "runs", plain({0: 0.1, 1: None, 2: 0.2}))
    assert data["headlines"][0]["text"].endswith("over 3 seeds; failed: 100 %.")
    assert {run["failed_last"] for run in records_of(data["runs"])} == {True}


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    store = stored(tmp_path / "runs", RECORDS)
    (store.folder(RECORDS[0].key) / "record.json").write_text("{")
    manifest = store.manifest(None)
    data = page_data(read_results(store, manifest), store, manifest)
    (sentence,) = data["damaged"]
    assert RECORDS[0].key in sentence
    assert data["left"] == 0


# --- parts -----------------------------------------------------------------------------------


def test_budget_and_variance_by_hand(tmp_path: Path) -> None:
    records = plain({0: 0.4, 1: 0.8}) + plain({0: 0.6, 1: 1.0}, technique=LLRD)
    for one, validation in zip(records, (0.1, 0.2, 0.2, 0.1), strict=True):
        one.result["metrics"]["last"]["validation"]["pearson"] = validation
    data, _ = page_of(tmp_path / "runs", records)
    cells = {row["arm"]: row["cell"] for row in records_of(data["summary"])}
    # validation picks the better seed of `none`, the worse one of `llrd`
    assert data["budget"]["last"][cells["none"]] == pytest.approx([0.6, 0.8])
    assert data["budget"]["last"][cells["llrd"]] == pytest.approx([0.8, 0.6])
    (found,) = (one for one in data["variance"] if one["at"] == "last")
    # no interaction: arm means 0.6 and 0.8, seed means 0.5 and 0.9, so 0.02 and 0.08
    assert dict(found["shares"]) == pytest.approx({"arm": 0.2, "seed": 0.8, "rest": 0.0})


def test_crossed_seeds_are_taken_apart(tmp_path: Path) -> None:
    records = []
    for init in (0, 1):
        for order in (0, 1):
            one = record(0.4 + 0.2 * init + 0.1 * order, seed=10 * init + order)
            one.result["config"]["seeds"] = {"init": init, "order": order, "dropout": 0, "split": 0}
            records.append(one)
    data, _ = page_of(tmp_path / "runs", records)
    (found,) = (one for one in data["variance"] if one["at"] == "last")
    assert dict(found["shares"]) == pytest.approx({"data order": 0.2, "head init": 0.8, "rest": 0})
    assert found["cell"] == records[0].result["cell"]
    assert "dropout 0, init 1, order 0" in {run["seed"] for run in records_of(data["runs"])}


def test_folds_are_named_and_are_no_seeds(tmp_path: Path) -> None:
    """The best of k runs that were scored on different items would be the easiest fold."""
    records = []
    for fold in (0, 1):
        for seed in (0, 1):
            one = record(0.5 + 0.1 * fold + 0.01 * seed, seed=seed, data=str(fold) * 64)
            one.result["config"]["task"] |= {"folds": 2, "fold": fold}
            one.result["cell"] = records[0].result["cell"] if records else one.result["cell"]
            one.result["key"] = f"{fold}{seed}" * 8
            records.append(one)
    data, _ = page_of(tmp_path / "runs", records)
    assert {run["seed"] for run in records_of(data["runs"])} == {
        *("0, fold 0", "1, fold 0", "0, fold 1", "1, fold 1"),
    }
    assert data["budget"]["last"] == {}


CURVE = "step,train_loss,pearson,grad_norm_embeddings,grad_norm_block_1,grad_norm_top\n"


def test_curves(tmp_path: Path) -> None:
    text = CURVE + "".join(f"{10 * i},{1 / i},{'' if i == 1 else 0.1 * i},,{i},2\n" for i in (1, 2))
    (tmp_path / "curve.csv").write_text(text)
    found = read_curve(tmp_path, "pearson")
    assert found == Curve(
        [10, 20],
        [1.0, 0.5],
        [None, 0.2],
        {"embeddings": [None, None], "block_1": [1.0, 2.0], "top": [2.0, 2.0]},
    )
    many = Curve(range(100), [float(i) for i in range(100)], [None] * 100, {})
    assert (len(many.thinned(7).steps), many.thinned(7).steps[-1]) == (7, 99)
    for damage in ("", "step,train_loss\n", "step\nx\n", "step,train_loss\n1,\x00"):
        (tmp_path / "curve.csv").write_text(damage)
        assert read_curve(tmp_path, "pearson") is None
    assert read_curve(tmp_path / "nowhere", "pearson") is None


def test_curves_are_on_the_page_in_order_of_depth(tmp_path: Path) -> None:
    records = plain({0: 0.5, 1: 0.6})
    store = stored(tmp_path / "runs", records)
    for one in records:
        (store.folder(one.key) / "curve.csv").write_text(CURVE + "10,1,0.1,3,4,5\n")
    manifest = store.manifest(None)
    found = page_data(read_results(store, manifest), store, manifest)["curves"]
    assert found["groups"] == ["embeddings", "block_1", "top"]
    assert found["runs"][records[0].key]["norms"] == {
        "embeddings": [3.0],
        "block_1": [4.0],
        "top": [5.0],
    }


def test_two_thousand_runs_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of them, with long curves; `benchmarks/store_scale.py` measures the whole command."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    records = [
        record(0.5 + 0.001 * seed, [("llrd", {"decay": arm / 100})], seed)
        for arm in range(20)
        for seed in range(10)
    ]
    store = stored(tmp_path / "runs", records)
    rows = "".join(f"{i},0.{i}1234567,0.{i}7654321,1e-5,0.123456,1.5\n" for i in range(1, 100))
    for one in records:
        (store.folder(one.key) / "curve.csv").write_text(CURVE + rows)
    manifest = store.manifest(None)
    results = read_results(store, manifest)
    started = time.process_time()
    page = page_html(page_data(results, store, manifest))
    assert time.process_time() - started < 15
    assert len(page) < 8_000_000 / 10
