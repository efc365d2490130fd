"""The numbers of a report, worked out by hand from records written by hand.

Only runs of one cell are averaged; failed runs stay in, crashed ones stay out; arms are compared on
the seeds they share.
"""

from __future__ import annotations

import csv
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bluestab.core.errors import ConfigError
from bluestab.core.keys import cell_of, key_of
from bluestab.core.types import RECORD_SCHEMA, RunRecord
from bluestab.report.figures import seeds as seeds_figure
from bluestab.report.frames.arms import arm_names
from bluestab.report.frames.results import read_results
from bluestab.report.frames.runs import Configs, Row, named, rows_of
from bluestab.report.frames.summary import SUMMARY_COLUMNS, summary_frame
from bluestab.report.terminal.tables import size
from bluestab.report.write import write_report
from bluestab.store import store as store_module
from bluestab.store.disk import usage
from bluestab.store.store import Store

Arm = Sequence[tuple[str, Mapping[str, Any]]]
LLRD: Arm = [("llrd", {"decay": 0.8, "convention": "zhang"})]
UNDEFINED = None


def config(technique: Arm = (), seed: int = 0, **changed: Any) -> dict[str, Any]:
    """What decides a result, as `core.keys.hashed_config` gives it, cut to what matters."""
    return {
        "recipe_version": changed.get("recipe_version", 1),
        "task": {"kind": "PairRegression", "name": changed.get("task", "biosses")},
        "data": {"train": changed.get("data", "a" * 64)},
        "model": changed.get("model", "sha256:1"),
        "technique": [[name, {"kind": name.title(), **knobs}] for name, knobs in technique],
        "optim": {"lr": changed.get("lr", 1e-05), "steps": changed.get("steps")},
        "seeds": {"init": seed, "order": seed, "dropout": seed, "split": 0},
    }


def record(
    score: float | None,
    technique: Arm = (),
    seed: int = 0,
    *,
    best: float | None = 0.9,
    validation: float | None = 0.5,
    status: str = "done",
    seconds: float = 10.0,
    failed_below: float = 0.3,
    failure_score: float = -0.1,
    **changed: Any,
) -> RunRecord:
    """A record as a run writes it; `score` and `best` are test scores, None where undefined."""
    hashed = config(technique, seed, **changed)
    raw = {"last": score, "best": best}
    done = status == "done"
    result: dict[str, Any] = {
        "key": key_of(hashed),
        "cell": cell_of(hashed),
        "config": hashed,
        "status": status,
        "metric": "pearson",
        "metrics": None,
        "score": None,
        "degenerate": None,
        "steps": 7,
        "failure_score": failure_score,
        "error": None if done else {"type": "Error", "message": "what happened"},
    }
    if done:
        result["metrics"] = {
            at: {"validation": {"pearson": validation}, "test": {"pearson": value}}
            for at, value in raw.items()
        }
        result["degenerate"] = {at: v is None or v <= failed_below for at, v in raw.items()}
    if status != "crashed":
        values = {at: v if done and v is not None else failure_score for at, v in raw.items()}
        result["score"] = values
    measured = {
        "names": {
            "task": hashed["task"]["name"],
            "model": changed.get("model", "small"),
            "technique": [name for name, _ in technique],
            "seed": seed,
        },
        "seconds": {"total": seconds},
        "memory": {"weights": 10, "total": 40 - 20 * ("llrd" in str(technique))},
        "commit": "abc",
        "dirty": False,
    }
    return RunRecord(RECORD_SCHEMA, result, measured)


def plain(seed_scores: Mapping[int, float | None], **kwargs: Any) -> list[RunRecord]:
    return [record(score, seed=seed, **kwargs) for seed, score in seed_scores.items()]


def runs_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """The table of runs of these records, as `read_results` makes it of a store."""
    rows: list[Row] = []
    configs = Configs()
    for one in records:
        rows += list(rows_of(one))
        configs.add(one)
    return named(rows, configs.named())


def row(table: pd.DataFrame, arm: str, at: str = "last") -> dict[str, Any]:
    """One row of the summary; numbers that are not there are None."""
    (found,) = table[(table["arm"] == arm) & (table["at"] == at)].to_dict("records")
    return {k: None if isinstance(v, float) and v != v else v for k, v in found.items()}


def summary(records: Sequence[RunRecord], baseline: str = "none") -> pd.DataFrame:
    return summary_frame(runs_frame(records), baseline)


RECORDS = [
    *plain({0: 0.5, 1: 0.7, 2: 0.6, 3: 0.2}),
    *plain({1: 0.8, 2: 0.6, 3: 0.4}, technique=LLRD, seconds=40.0, validation=0.7),
    record(None, LLRD, 4, status="diverged", seconds=2.0),
    record(None, LLRD, 5, status="crashed", seconds=1000.0),
]


def test_numbers_by_hand() -> None:
    table = summary(RECORDS)
    none, llrd = row(table, "none"), row(table, "llrd")
    assert list(table.columns) == list(SUMMARY_COLUMNS)
    assert len(table) == 4

    # 0.2 is below 0.3, so one of four failed; it stays in the mean
    assert {k: none[k] for k in ("n", "n_degenerate", "n_diverged", "n_crashed")} == {
        "n": 4,
        "n_degenerate": 1,
        "n_diverged": 0,
        "n_crashed": 0,
    }
    assert none["failed_share"] == 0.25
    assert none["mean"] == pytest.approx(0.5)
    assert none["mean_without_failed"] == pytest.approx(0.6)
    assert none["std"] == pytest.approx((0.14 / 3) ** 0.5)
    assert none["median"] == none["iqm"] == pytest.approx(0.55)
    assert (none["min"], none["max"]) == (0.2, 0.7)
    assert none["validation_mean"] == 0.5
    assert none["seconds_mean"] == 10.0
    assert none["memory_mean"] == 40
    assert (none["baseline"], none["delta"], none["std_ratio"]) == (None, None, None)

    # the diverged run counts with the failure score -0.1, the crashed one not at all
    assert {k: llrd[k] for k in ("n", "n_degenerate", "n_diverged", "n_crashed")} == {
        "n": 4,
        "n_degenerate": 0,
        "n_diverged": 1,
        "n_crashed": 1,
    }
    assert llrd["failed_share"] == 0.25
    assert llrd["mean"] == pytest.approx((0.8 + 0.6 + 0.4 - 0.1) / 4)
    assert llrd["mean_without_failed"] == pytest.approx(0.6)
    assert llrd["min"] == -0.1
    counted = (3 * 0.7 - 0.1) / 4
    assert llrd["validation_mean"] == pytest.approx(counted), "a diverged run fails there, too"
    assert llrd["seconds_mean"] == pytest.approx((3 * 40 + 2) / 4)


def test_arms_are_compared_on_shared_seeds_only() -> None:
    """Seeds 1, 2, 3: 0.8 - 0.7, 0.6 - 0.6, 0.4 - 0.2; seeds 0, 4 and 5 are one arm's alone."""
    llrd = row(summary(RECORDS), "llrd")
    assert llrd["baseline"] == "none"
    assert llrd["n_paired"] == 3
    assert llrd["delta"] == pytest.approx(0.1)
    assert llrd["std_ratio"] == pytest.approx(0.2 / 0.07**0.5)
    turned = row(summary(RECORDS, "llrd"), "none")
    assert (turned["baseline"], turned["n_paired"]) == ("llrd", 3)
    assert turned["delta"] == pytest.approx(-0.1)
    apart = [*plain({0: 0.5}), *plain({1: 0.9}, technique=LLRD)]
    found = row(summary(apart), "llrd")
    assert (found["n_paired"], found["delta"], found["std_ratio"]) == (0, None, None)


def test_seeds_that_differ_in_one_stream_are_not_shared() -> None:
    other = record(0.9, LLRD, 0)
    other.result["config"]["seeds"]["order"] = 7
    found = row(summary([*plain({0: 0.5}), other]), "llrd")
    assert (found["n_paired"], found["delta"]) == (0, None)


def test_last_and_best_are_never_mixed() -> None:
    records = [record(0.4, best=0.8, seed=0), record(0.6, best=0.7, seed=1)]
    table = summary(records)
    assert row(table, "none", "last")["mean"] == pytest.approx(0.5)
    assert row(table, "none", "best")["mean"] == pytest.approx(0.75)
    failed_last = summary([record(0.1, best=0.8)])
    assert row(failed_last, "none", "last")["n_degenerate"] == 1
    assert row(failed_last, "none", "best")["n_degenerate"] == 0


def test_an_undefined_score_has_the_failure_score() -> None:
    records = [record(UNDEFINED, best=UNDEFINED, seed=0, validation=None), record(0.6, seed=1)]
    runs = runs_frame(records)
    (undefined,) = runs[(runs["seed"] == 0) & (runs["at"] == "last")].to_dict("records")
    assert (undefined["score"], undefined["degenerate"], undefined["failed"]) == (-0.1, True, True)
    found = row(summary_frame(runs), "none")
    assert (found["n"], found["n_degenerate"], found["failed_share"]) == (2, 1, 0.5)
    assert found["mean"] == pytest.approx(0.25)
    assert found["mean_without_failed"] == pytest.approx(0.6)
    assert found["validation_mean"] == pytest.approx((0.5 - 0.1) / 2)


def test_crashed_runs_are_in_no_number() -> None:
    crashed = [record(None, LLRD, seed, status="crashed") for seed in (0, 1)]
    found = row(summary([*plain({0: 0.5, 1: 0.7}), *crashed]), "llrd")
    assert (found["n"], found["n_crashed"]) == (0, 2)
    assert {found[k] for k in ("mean", "std", "failed_share", "delta", "seconds_mean")} == {None}
    only = summary(crashed)
    assert (row(only, "llrd")["n"], row(only, "llrd")["n_crashed"]) == (0, 2)
    mixed = row(summary([*plain({0: 0.5}), record(None, seed=1, status="crashed")]), "none")
    assert (mixed["n"], mixed["n_crashed"], mixed["mean"]) == (1, 1, 0.5)


@pytest.mark.parametrize(
    "difference",
    [
        {"lr": 3e-05},
        {"steps": 9},
        {"data": "b" * 64},
        {"recipe_version": 2},
        {"technique": LLRD},
        {"task": "other"},
        {"model": "other"},
    ],
)
def test_two_cells_are_never_averaged(difference: dict[str, Any]) -> None:
    one = [record(0.4, seed=seed) for seed in (0, 1)]
    two = [record(0.8, seed=seed, **difference) for seed in (0, 1)]
    table = summary([*one, *two])
    last = table[table["at"] == "last"]
    assert sorted(last["mean"]) == pytest.approx([0.4, 0.8])
    assert set(last["n"]) == {2}
    assert last["cell"].nunique() == 2
    names = last[["task", "model", "arm"]].apply(tuple, axis=1)
    assert names.nunique() == 2, "and a person can tell them apart"


def names(*configs: Mapping[str, Any]) -> list[str]:
    cells = {str(i): c for i, c in enumerate(configs)}
    subjects = {cell: (c["task"]["name"], c["model"]) for cell, c in cells.items()}
    return [name for name, _ in arm_names(cells, subjects).values()]


def test_what_most_arms_share_is_not_named() -> None:
    """An arm that must be float32 does not make all others say that they are not."""
    names_of = [[(name, {})] for name in ("ema", "llrd", "rdrop", "swa")]
    cells = [config(technique, 0, lr=1e-5) for technique in ([], *names_of)]
    odd = config([("r3f", {})], 0, lr=3e-5)
    assert names(*cells, odd) == ["none", "ema", "llrd", "rdrop", "swa", "r3f, lr=3e-05"]
    assert names(*cells[:3], odd)[0] == "none, lr=1e-05", "three of four are no custom"
    rows = [record(0.5, t, seed, lr=1e-5) for t in ([], *names_of) for seed in (0, 1)]
    table = summary([*rows, *(record(0.6, [("r3f", {})], seed, lr=3e-5) for seed in (0, 1))])
    assert row(table, "r3f, lr=3e-05")["delta"] == pytest.approx(0.1)


def test_what_changes_rounding_alone_is_not_named() -> None:
    """A technique that reads the whole table of word embeddings has the others for company."""

    def rows(cell: Mapping[str, Any], which: str | None) -> dict[str, Any]:
        return {
            **cell,
            "trainer": {"threads": 1} | ({} if which is None else {"embedding_rows": which}),
        }

    plain, llrd, mixout = config(), config(LLRD), config([("mixout", {"p": 0.7})])
    assert names(rows(plain, "used"), rows(llrd, "used"), rows(mixout, None)) == [
        "none", "llrd", "mixout"
    ]  # fmt: skip
    both = names(rows(plain, None), rows(plain, "used"), rows(llrd, "used"))
    assert both == ["none", "none, embedding_rows=used", "llrd"], "asked for, it is an arm"


def test_random_weights_are_named_by_their_vocabulary_if_that_distinguishes_them() -> None:
    def of(model: str, words: str) -> RunRecord:
        found = record(0.5, model=f"random:{model}")
        found.measured["names"] |= {"model": "bert_tiny", "vocabulary": words}
        return found

    one, two = of("1" * 16, "words/general"), of("2" * 16, "words/domain")
    assert {*summary([one, two])["arm"]} == {
        "none, vocabulary=words/general",
        "none, vocabulary=words/domain",
    }
    other = of("3" * 16, "words/domain")  # another folder of that name
    found = {*summary([one, two, other])["arm"]}
    assert len(found) == 3
    assert "none, vocabulary=words/general" in found


def test_two_weights_of_one_name_are_told_apart() -> None:
    """As `model=minilm model.path=A,B` makes them."""
    one, two = record(0.4, model="sha256:" + "1" * 64), record(0.8, model="sha256:" + "2" * 64)
    for either in (one, two):
        either.measured["names"]["model"] = "minilm"
    table = summary([one, two])
    assert row(table, "none, model=11111111")["mean"] == 0.4
    assert row(table, "none, model=22222222")["mean"] == 0.8


def test_arms_are_named_by_what_differs() -> None:
    decay = [[("llrd", {"decay": d, "convention": "zhang"})] for d in (0.8, 0.9)]
    assert names(config(), config(decay[0])) == ["none", "llrd"]
    assert names(config(), *(config(d) for d in decay)) == [
        "none",
        "llrd(decay=0.8)",
        "llrd(decay=0.9)",
    ]
    # only the knobs that differ, only among the cells that contain the technique
    freeze = [("freeze", {"depth": 3})]
    assert names(config(freeze), config([*freeze, *decay[0]]), config([*freeze, *decay[1]])) == [
        "freeze",
        "freeze+llrd(decay=0.8)",
        "freeze+llrd(decay=0.9)",
    ]
    assert names(config([*freeze, *decay[0]]), config([*decay[0], *freeze])) == [
        "freeze+llrd",
        "llrd+freeze",
    ]
    # then what differs outside the techniques
    assert names(config(lr=1e-05), config(lr=3e-05), config(decay[0], lr=3e-05)) == [
        "none, lr=1e-05",
        "none, lr=3e-05",
        "llrd, lr=3e-05",
    ]
    # cells of another task or model say nothing about these
    assert names(config(lr=1e-05), config(lr=3e-05, task="gad")) == ["none", "none"]
    assert names(config(lr=1e-05), config(lr=3e-05, model="other")) == ["none", "none"]


def test_the_baseline_has_the_same_settings() -> None:
    """With two learning rates, llrd is compared with plain training at its own."""
    records = [
        record(score, technique, seed, lr=lr)
        for technique, lr, scores in [
            ((), 1e-05, (0.4, 0.6)),
            ((), 3e-05, (0.5, 0.5)),
            (LLRD, 1e-05, (0.6, 0.7)),
            (LLRD, 3e-05, (0.5, 0.6)),
        ]
        for seed, score in enumerate(scores)
    ]
    table = summary(records)
    low, high = row(table, "llrd, lr=1e-05"), row(table, "llrd, lr=3e-05")
    assert (low["baseline"], high["baseline"]) == ("none, lr=1e-05", "none, lr=3e-05")
    assert low["delta"] == pytest.approx(0.15)
    assert high["delta"] == pytest.approx(0.05)
    chosen = row(summary(records, "none, lr=3e-05"), "llrd, lr=1e-05")
    assert chosen["delta"] == pytest.approx(0.15)
    assert chosen["baseline"] == "none, lr=3e-05"


def test_other_tasks_and_models_are_not_compared() -> None:
    records = [*plain({0: 0.5}), *plain({0: 0.9}, technique=LLRD, task="gad")]
    assert row(summary(records), "llrd")["baseline"] is None


def test_nothing_to_report() -> None:
    assert runs_frame([]).empty
    table = summary_frame(runs_frame([]))
    assert table.empty
    assert list(table.columns) == list(SUMMARY_COLUMNS)


# --- figure ----------------------------------------------------------------------------------


def points(axis: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for c in axis.collections for x, y in c.get_offsets()]


def test_one_point_per_seed() -> None:
    from matplotlib.figure import Figure

    gad = plain({0: 0.1, 1: 0.2}, task="gad", failed_below=-1.0)
    figure = seeds_figure(runs_frame([*RECORDS, *gad]))
    assert isinstance(figure, Figure)
    first, second = figure.axes
    assert sorted(points(first)) == sorted(
        [(s, 0.0) for s in (0.5, 0.7, 0.6, 0.2)] + [(s, 1.0) for s in (0.8, 0.6, 0.4, -0.1)]
    ), "failed runs are drawn, crashed ones are not"
    assert sorted(points(second)) == [(0.1, 0.0), (0.2, 0.0)]
    assert [label.get_text() for label in first.get_yticklabels()] == ["none", "llrd"]
    assert first.get_title(loc="left") == "biosses, small: test pearson"
    best = seeds_figure(runs_frame(RECORDS), at="best")
    assert len(points(best.axes[0])) == 8
    assert {x for x, _ in points(best.axes[0])} == {0.9, -0.1}


# --- files -----------------------------------------------------------------------------------


def stored(root: Path, records: Sequence[RunRecord], name: str = "question") -> Store:
    """A store that holds these records and a sweep of them."""
    store = Store(root)
    for one in records:
        with store.building(one.key) as work:
            if one.status == "crashed":
                store.keep_crash(work, one)
            else:
                store.finish(work, one)
    runs = [{"key": one.key, "overrides": ["technique=x"]} for one in records]
    store.write_manifest(name, {"name": name, "command": "bluestab run -m", "runs": runs})
    return store


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_store_of_handmade_records(cli: Callable[..., Any]) -> None:
    store = stored(Path("runs"), RECORDS)
    stored(Path("runs"), [record(0.5, seed=99, task="gad")], name="other")
    said = cli("report", "--sweep", "question", "--out", "results")
    assert (said.code, said.err) == (0, "")
    assert "results/summary.csv" in said.out
    shown = next(line.split() for line in said.out.splitlines() if " llrd " in line)
    assert shown[1:5] == ["4", "25%", "-", "1"]
    assert shown[5:11] == ["0.4250", "-0.1896", "to", "1.0000", "0.6000", "0.3862"]  # 1.0396, cut
    assert shown[11:] == ["3", "+0.1000", "-", "0.76", "-", "3,517"]

    found = read(Path("results/summary.csv"))
    assert list(found[0]) == list(SUMMARY_COLUMNS)
    assert [(r["arm"], r["at"]) for r in found] == [
        (arm, at) for arm in ("none", "llrd") for at in ("last", "best")
    ]
    assert [float(r["mean"]) for r in found[::2]] == pytest.approx([0.5, 0.425])
    assert found[0]["delta"] == ""
    assert found[2]["n_crashed"] == "1"

    runs = read(Path("results/runs.csv"))
    assert len(runs) == 8 * 2 + 1, "two rows per run, one for the crash"
    by_key = {(r["key"], r["at"]): r for r in runs}
    assert float(by_key[RECORDS[0].key, "last"]["score"]) == 0.5
    assert float(by_key[RECORDS[0].key, "best"]["score"]) == 0.9
    assert by_key[RECORDS[3].key, "last"]["failed"] == "True"
    assert by_key[RECORDS[-1].key, "last"]["status"] == "crashed"
    assert by_key[RECORDS[-1].key, "last"]["score"] == ""
    assert Path("results/seeds.png").read_bytes().startswith(b"\x89PNG")

    assert "7 done, 1 diverged, 0 running, 1 crashed, 0 missing" in (
        cli("status", "--sweep", "question").out
    )
    written = write_report(read_results(store, None), Path("all"))
    assert Path("all/runs.csv") in written
    assert len(read(Path("all/runs.csv"))) == 9 * 2, "all finished runs of the store"


def test_a_sweep_of_crashes_alone(cli: Callable[..., Any]) -> None:
    stored(Path("runs"), [record(None, seed=seed, status="crashed") for seed in (0, 1)])
    said = cli("report")
    assert (said.code, said.err) == (0, "")
    assert read(Path("report/question/summary.csv"))[0]["n_crashed"] == "2"
    assert not Path("report/question/seeds.png").exists()


def test_a_baseline_that_is_no_arm(tmp_path: Path) -> None:
    store = stored(tmp_path / "runs", RECORDS)
    assert read_results(store, None, "llrd").baseline == "llrd"
    with pytest.raises(ConfigError, match="no arm of these runs; did you mean 'llrd'"):
        read_results(store, None, "lrd")


def test_records_are_read_once(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stored(Path("runs"), RECORDS)
    read: list[Path] = []
    real = store_module.read_text

    def noted(path: Path) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(store_module, "read_text", noted)
    assert cli("report").code == 0
    assert len([path for path in read if path.name == "record.json"]) == len(RECORDS)


def test_old_records_that_lack_something_are_damaged(tmp_path: Path) -> None:
    """Schema 1 has no checksum: what somebody took out is found where it is needed."""
    store = stored(tmp_path / "runs", RECORDS)
    key = RECORDS[0].key
    file = store.folder(key) / "record.json"
    content = json.loads(file.read_text())
    del content["checksum"], content["measured"]["commit"], content["measured"]["files"]
    content["schema"] = 1
    file.write_text(json.dumps(content))
    results = read_results(store, None)
    assert list(results.damaged) == [key]
    assert "it lacks 'commit'" in results.damaged[key]
    assert key not in set(results.runs["key"])


def test_status_shows_disk_in_use(cli: Callable[..., Any]) -> None:
    store = stored(Path("runs"), RECORDS)
    used = usage(store.root)
    assert (used.checkpoints, used.resume) == (0, 0)
    du = subprocess.run(["du", "-s", "--block-size=1", "runs"], capture_output=True, text=True)
    own = Path("runs").stat().st_blocks * 512
    assert used.total + own == int(du.stdout.split()[0])
    assert f"on disk: {size(used.total)}\n" in cli("status").out
    for folder in (store.folder(RECORDS[0].key) / "checkpoint" / "last", store.root / ".resume/x"):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"x" * 3_000_000)
    again = usage(store.root)
    assert 3_000_000 <= again.checkpoints <= again.resume <= 3_100_000
    assert again.total == used.total + again.checkpoints + again.resume
    assert " in checkpoint/ and " in cli("status").out
    assert " in .resume/" in cli("status").out


def test_sizes_and_times_in_words() -> None:
    assert [size(n) for n in (0, 999, 1000, 1_250_000, 3e9, 4e12, 5e16)] == [
        *("0 B", "999 B", "1.0 kB", "1.2 MB", "3.0 GB", "4.0 TB", "50000.0 TB"),
    ]


def test_many_arms_are_named_fast() -> None:
    """Time grows with the number of cells, not with its square."""
    configs = {
        str(i): config([("llrd", {"decay": i / 4000})], lr=j / 4000)
        for i, j in enumerate(range(4000))
    }
    subjects = dict.fromkeys(configs, ("biosses", "small"))
    start = time.process_time()
    found = arm_names(configs, subjects)
    assert time.process_time() - start < 5, "it took minutes when each was compared with each"
    assert found["40"][0] == "llrd(decay=0.01), lr=0.01"


def test_too_many_arms_for_a_figure(cli: Callable[..., Any], monkeypatch: Any) -> None:
    stored(Path("runs"), RECORDS)
    monkeypatch.setattr("bluestab.figures.MOST_ARMS", 1)
    said = cli("report")
    assert "no seeds.png: 2 arms" in said.out
    assert not Path("report/question/seeds.png").exists()


def test_damaged_records_are_counted_and_named(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestab.report.words.phrases.SHOWN", 2)
    store = stored(Path("runs"), RECORDS)
    for one in RECORDS[:3]:
        (store.folder(one.key) / "record.json").write_text("{")
    for verb in ("report", "status"):
        said = cli(verb)
        assert (said.code, said.err) == (0, "")
        assert "3 damaged records, which are in no number here" in said.out
        assert said.out.count("  damaged: runs/") == 2
        assert "and 1 more" in said.out
        assert "bluestab store verify runs\n" in said.out
    assert "4 done, 1 diverged, 0 running, 1 crashed, 0 missing, 3 damaged" in said.out
    (_,) = (line for line in cli("report").out.splitlines() if line.split()[2:4] == ["none", "1"])


def test_the_metric_of_a_run_stands_first_and_what_is_undefined_nowhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bluestab.report.terminal.tables import print_record

    one = record(0.5)
    for by_split in one.result["metrics"].values():
        for split, found in by_split.items():
            by_split[split] = {"positive_f1": None, "ece": 0.1, **found}
    print_record(one, "runs/x")
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]]
    assert names == ["pearson", "ece"]
