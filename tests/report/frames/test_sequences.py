"""Sequences of tasks put together from handmade records, and what is said of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.keys import cell_of, key_of
from bluestab.core.types import RunRecord
from bluestab.report.frames.forgetting import FORGETTING, STAGES
from bluestab.report.frames.references import REFERENCES
from bluestab.report.frames.results import read_results
from bluestab.report.frames.sequences import chains_of
from bluestab.report.page_data import page_data
from bluestab.report.section import Results
from bluestab.report.write import write_report
from bluestab.store.store import Store
from tests.report.test_report import record, stored

EWC = (("ewc", {"strength": "auto"}),)


def linked(
    one: RunRecord, before: RunRecord, earlier: Sequence[tuple[RunRecord, Any]]
) -> RunRecord:
    """The record as a stage after `before`, with the scores of earlier tasks at its end."""
    link = {"key": before.key, "cell": before.result["cell"], "at": "last"}
    config = {**one.result["config"], "predecessor": link, "score_earlier": True}
    found = [
        {
            "task": task.measured["names"]["task"],
            "run": task.key,
            "metric": "pearson",
            "last": {"pearson": score},
            "best": {"pearson": 0.9},
            "validation": {"last": {"pearson": score and score - 0.1}, "best": {"pearson": 0.5}},
        }
        for task, score in earlier
    ]
    result = {
        **one.result,
        "config": config,
        "key": key_of(config),
        "cell": cell_of(config),
        "earlier": found,
    }
    return replace(one, result=result)


def sequences(
    tasks: Sequence[str], seeds: int, loss: float, arm: Any = (), wobble: float = 0.01
) -> Iterator[RunRecord]:
    """Every later stage costs each earlier task `loss`, and a little more with every seed."""
    for seed in range(seeds):
        first = record(0.8, seed=seed, task=tasks[0])
        yield first
        done = [first]
        for number, task in enumerate(tasks[1:], 1):
            drop = loss + wobble * seed
            earlier = [(one, 0.8 - drop * (number - i)) for i, one in enumerate(done)]
            stage = linked(record(0.8, arm, seed, task=task), done[-1], earlier)
            yield stage
            done.append(stage)


def results_of(root: Path, *groups: Iterator[RunRecord]) -> tuple[Results, Store]:
    records = {one.key: one for group in groups for one in group}
    store = stored(root, list(records.values()))
    return read_results(store, store.manifest(None)), store


ABC, CBA = ("a", "b", "c"), ("c", "b", "a")


def both_orders(loss: float, seeds: int = 6, arm: Any = ()) -> list[Iterator[RunRecord]]:
    return [sequences(order, seeds, loss, arm) for order in (ABC, CBA)]


def test_numbers_by_hand(tmp_path: Path) -> None:
    results, _ = results_of(tmp_path / "runs", *both_orders(0.1), *both_orders(0.02, arm=EWC))
    frame = results.frame("forgetting").to_dict("records")
    none, ewc = frame
    assert [(row["arm"], row["n"], row["n_orders"], row["n_seeds"]) for row in frame] == [
        ("none", 12, 2, 6),
        ("ewc", 12, 2, 6),
    ]
    assert none["tasks"] == "a b c"
    mean = 0.1 + 0.01 * 2.5  # loss of a stage; the first task has two behind it, the second one
    assert none["forgetting"] == pytest.approx(1.5 * mean)
    assert none["backward"] == pytest.approx(-1.5 * mean)
    assert none["average"] == pytest.approx(0.8 - mean)
    assert none["forgetting_low"] < none["forgetting"] < none["forgetting_high"]
    assert ewc["change"] == pytest.approx(1.5 * -0.08)
    assert ewc["reduction"] == pytest.approx(1 - 0.045 / 0.125)
    assert ewc["reduction_low"] < ewc["reduction"] < ewc["reduction_high"]
    # only a and c began an order: b was never trained alone
    assert none["forward"] is None or none["forward"] != none["forward"]


def test_averages_on_validation(tmp_path: Path) -> None:
    """Of all tasks after the last stage; not known where a record is of an earlier version; what is
    undefined counts as a failure."""

    def without(one: RunRecord) -> RunRecord:
        found = [{k: v for k, v in e.items() if k != "validation"}
                 for e in one.result.get("earlier", ())]  # fmt: skip
        return replace(one, result={**one.result, "earlier": found} if found else one.result)

    def undefined(one: RunRecord) -> RunRecord:
        found = [{**e, "validation": {"last": {"pearson": None}, "best": {}}}
                 for e in one.result.get("earlier", ())]  # fmt: skip
        return replace(one, result={**one.result, "earlier": found} if found else one.result)

    one = record(0.8).result
    own, failure = one["metrics"]["last"]["validation"]["pearson"], one["failure_score"]
    for number, (change, expected) in enumerate(
        [
            (lambda one: one, (own + (0.6 - 0.1) + (0.7 - 0.1)) / 3),
            (without, None),
            (undefined, (own + 2 * failure) / 3),
        ]
    ):
        group = map(change, sequences(ABC, 3, 0.1, wobble=0.0))
        results, _ = results_of(tmp_path / str(number), group)
        (row,) = results.frame("forgetting").to_dict("records")
        if expected is None:
            assert row["validation"] != row["validation"]
        else:
            assert row["validation"] == pytest.approx(expected)
        (grid, *_) = [b for b in FORGETTING.printed(results) if not isinstance(b, str)]
        at = grid.headings.index("on validation")  # type: ignore[union-attr]
        said = "-" if expected is None else f"{expected:.3f}"
        assert grid.rows[0][at] == said  # type: ignore[union-attr]


def test_orders_are_no_further_seeds(tmp_path: Path) -> None:
    """Two orders that hold the same numbers say no more of seeds than one does."""
    one, _ = results_of(tmp_path / "one", sequences(ABC, 4, 0.1))
    two, _ = results_of(tmp_path / "two", *both_orders(0.1, 4))
    width = [
        row["forgetting_high"] - row["forgetting_low"]
        for found in (one, two)
        for row in found.frame("forgetting").to_dict("records")
    ]
    assert width[1] >= 0.99 * width[0]


def test_one_order_is_tested_exactly(tmp_path: Path) -> None:
    results, _ = results_of(tmp_path / "runs", sequences(ABC, 6, 0.1), sequences(ABC, 6, 0.02, EWC))
    (_, ewc) = results.frame("forgetting").to_dict("records")
    assert "permutation" in ewc["test_name"]
    assert ewc["p"] == pytest.approx(2 / 2**6)


def test_no_reduction_of_what_is_not_shown_to_be_forgotten(tmp_path: Path) -> None:
    results, _ = results_of(
        tmp_path / "runs", sequences(ABC, 4, -0.02), sequences(ABC, 4, 0.02, EWC)
    )
    (_, ewc) = results.frame("forgetting").to_dict("records")
    assert ewc["reduction"] != ewc["reduction"] or ewc["reduction"] is None
    blocks = [block for block in FORGETTING.printed(results) if not isinstance(block, str)]
    assert blocks[0].rows[1][-1] == "-"  # type: ignore[union-attr]


def test_forward_transfer_where_tasks_were_trained_alone(tmp_path: Path) -> None:
    alone = [record(0.7, seed=seed, task=task) for seed in range(3) for task in ("b", "c")]
    results, _ = results_of(tmp_path / "runs", sequences(ABC, 3, 0.1), iter(alone))
    (none,) = results.frame("forgetting").to_dict("records")
    assert none["forward"] == pytest.approx(0.1)


def test_an_undefined_score_is_the_failure_score_of_its_task(tmp_path: Path) -> None:
    first = record(0.8, task="a")
    second = linked(record(0.8, task="b"), first, [(first, None)])
    results, _ = results_of(tmp_path / "runs", iter([first, second]))
    ((chain,), left) = chains_of(results)
    assert left == 0
    assert chain.scores[1, 0] == -0.1


def test_a_sequence_that_was_not_seen_through_is_left_out_and_counted(tmp_path: Path) -> None:
    records = list(sequences(ABC, 3, 0.1))
    results, _ = results_of(tmp_path / "runs", iter(records[:-1]))
    (none,) = results.frame("forgetting").to_dict("records")
    assert (none["n"], none["unfinished"]) == (2, 1)
    assert any("1 sequences were not seen through" in str(b) for b in FORGETTING.printed(results))


def test_files_and_page(tmp_path: Path) -> None:
    results, store = results_of(tmp_path / "runs", *both_orders(0.1, 3), *both_orders(0.02, 3, EWC))
    write_report(results, tmp_path / "out", store=store, manifest=store.manifest(None))
    with (tmp_path / "out" / "stages.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] == "ewc"]
    assert len(rows) == 2 * 6, "a(t, i) of two orders"
    assert {row["order"] for row in rows} == {"a > b > c", "c > b > a"}
    text = (tmp_path / "out" / "tables" / "forgetting.tex").read_text()
    assert r"\begin{tabular}{ll" in text
    assert r"\%" in text
    assert "relative reduction" in (tmp_path / "out" / "summary.md").read_text()
    data = page_data(results, store, store.manifest(None))
    assert len(data["stages"]["rows"]) == 24
    assert any("max over i <= t < T" in text for text in data["forgetting_definitions"])
    names = set(results.runs["arm"])
    assert "ewc, after=a>b" in names, "a stage says what it comes after"
    assert len(STAGES.printed(results)) == 3


def test_runs_of_one_task_have_no_such_section(tmp_path: Path) -> None:
    results, _ = results_of(tmp_path / "runs", iter([record(0.5), record(0.6, EWC)]))
    assert results.frame("forgetting").empty
    assert FORGETTING.page(results) == {}
    assert not FORGETTING.printed(results)
    assert FORGETTING.latex(results) is None


def joint_of(before: RunRecord, tasks: Sequence[str], scores: Sequence[float]) -> RunRecord:
    """The record of a run that knows `before`, and starts from the model's own weights."""
    seed = before.measured["names"]["seed"]
    er = (("er", {"beta": 2, "buffer_size": "all", "draws": 2}),)
    known = [
        (record(0.0, seed=seed, task=task), score)
        for task, score in zip(tasks, scores, strict=True)
    ]
    one = linked(record(scores[-1], er, seed, task=tasks[-1]), before, known[:-1])
    config = {**one.result["config"]}
    config["predecessor"] = {**config["predecessor"], "at": "start"}
    return replace(
        one, result={**one.result, "config": config, "key": key_of(config), "cell": cell_of(config)}
    )


def test_references_beside_the_matrix(tmp_path: Path) -> None:
    """Each task alone and all at once, by seed; the joint run is no stage of a sequence. An arm
    that holds on has the same runs alone, for its forward transfer, too."""
    arms = [list(sequences(ABC, 3, 0.1)), list(sequences(ABC, 3, 0.02, EWC))]
    alone = [record(0.7, seed=seed, task=task) for seed in range(3) for task in ("b", "c")]
    seconds = [one for one in arms[0] if one.measured["names"]["task"] == "b"]
    joint = [joint_of(one, ABC, (0.9, 0.85, 0.6 + 0.1 * i)) for i, one in enumerate(seconds)]
    results, _ = results_of(tmp_path / "runs", *map(iter, arms), iter(alone), iter(joint))
    none, ewc = results.frame("forgetting").to_dict("records")
    assert none["n"] == ewc["n"] == 3
    assert none["unfinished"] == 0
    assert none["forward"] == pytest.approx(0.1)
    assert ewc["forward"] == pytest.approx(0.1)
    found = {
        (row["reference"], row["task"]): (row["n"], row["score"])
        for row in results.frame("references").to_dict("records")
    }
    assert found == {
        ("alone", "a"): (3, pytest.approx(0.8)),
        ("alone", "b"): (3, pytest.approx(0.7)),
        ("alone", "c"): (3, pytest.approx(0.7)),
        ("joint", "a"): (3, pytest.approx(0.9)),
        ("joint", "b"): (3, pytest.approx(0.85)),
        ("joint", "c"): (3, pytest.approx(0.7)),
    }
    (grid,) = (block for block in REFERENCES.printed(results) if not isinstance(block, str))
    assert [row[1] for row in grid.rows] == ["alone", "joint"]
    assert any("only the encoder learns" in str(block) for block in REFERENCES.printed(results))
    assert any(", with=a>b" in arm for arm in results.runs["arm"])
