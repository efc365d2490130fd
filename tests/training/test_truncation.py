"""What is said of the data before training: leakage, constant answers, what is never read."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bluestab.report.words.caveats import flags
from bluestab.training.truncation import dataset_truncation_note, truncation_note
from tests.conftest import position

SHORT = ("task=gad", "model=tiny", "task.max_length=12")


def test_shared_items_are_counted(make_run: Any, corpora: Any, tmp_path: Any) -> None:
    """Two of the test items stand in training as well; one of them twice."""
    folder = tmp_path / "gad"
    folder.mkdir()
    head = "index\tsentence\tlabel\n"
    (folder / "train.tsv").write_text(head + "0\tone\t0\n1\ttwo\t1\n2\tthree\t1\n")
    (folder / "dev.tsv").write_text(head + "3\tfour\t0\n4\tONE\t1\n")
    (folder / "test.tsv").write_text(head + "5\ttwo\t0\n6\tfive\t1\n7\tone\t1\n8\ttwo\t1\n")
    data = make_run("task=gad", "model=tiny", f"task.data_dir={folder}").data
    assert data.recurring == {"validation": 0, "test": 3}
    # precision 3/4, recall 1
    assert data.baseline == ("always '1'", pytest.approx(6 / 7))


def test_the_best_constant_answer(make_run: Any) -> None:
    """Of five classes in turn over ten items, every positive one gets 2 * 2 / (10 + 8)."""
    data = make_run("task=ddi", "model=tiny").data
    assert data.baseline is not None
    assert data.baseline[1] == pytest.approx(4 / 18)
    assert make_run("task=biosses", "model=tiny").data.baseline is None, "no Pearson of a constant"


def test_what_is_never_read_is_measured(make_run: Any) -> None:
    """The tiny model reads characters: ten of each text, blanks not counted."""
    run = make_run(*SHORT)
    note = dataset_truncation_note(run.data, run.model, run.seeds)
    shares = []
    for split in ("train", "validation", "test"):
        read = total = 0
        for example in run.data.splits[split]:
            read += position(example.text, 10)
            total += len(example.text)
        shares.append(f"{100 * (1 - read / total):.2f} % of {split}")
    assert note == (
        f"gad with tiny: of the characters, {', '.join(shares)} lie beyond task.max_length=12"
    )
    whole = make_run("task=gad", "model=tiny")
    assert dataset_truncation_note(whole.data, whole.model, whole.seeds) is None
    assert (
        truncation_note(dict.fromkeys(("train", "validation", "test"), 0.0), "characters") is None
    )


def test_everybody_says_it(cli: Any) -> None:
    files = [f"task.sha256.{split}=null" for split in ("train", "validation", "test")]
    line = [*SHORT, *files, "optim.steps=1", "optim.batch_size=4"]
    checked = cli("check", *line)
    row = next(x.strip() for x in checked.out.splitlines() if x.startswith("gad   positive_f1"))
    assert row.split() == ["gad", "positive_f1", "0.6896", "0.6667", "always", "'1'", "none"]
    assert "gad with tiny: of the characters, " in checked.out
    ran = cli("run", *line)
    assert ran.code == 0
    assert "of train" in ran.out
    assert "lie beyond task.max_length" in ran.out
    swept = cli("run", "-m", *line, "sweep.seeds=1")
    assert "of test lie beyond task.max_length" in " ".join(swept.out.split())


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    same: dict[str, Any] = dict.fromkeys(
        ("recipe_version", "bluestab", "torch", "commit", "micro_batch", "lost_unit"), "x"
    )
    base = {
        **same,
        "at": "last",
        "status": "done",
        "dirty": False,
        "censored": False,
        "idle": (),
        "streams": (("init", 0),),
        "fold": None,
        "misjudged": False,
        "arm": "",
        "engine": "lightning",
    }
    return pd.DataFrame([{**base, "task": "hoc", "model": "tiny", **row} for row in rows])


def test_the_table_names_the_largest_share() -> None:
    lost = {"lost_train": 0.02, "lost_test": 0.0, "lost_unit": "characters"}
    more = {**lost, "lost_train": 0.031}
    unknown = {"lost_train": None, "lost_test": None, "lost_unit": None}
    assert flags(table(lost, more, unknown)) == [
        "hoc with tiny: 3.10 % of the characters of train and 0.00 % of test lie beyond "
        "task.max_length"
    ]
    assert flags(table(unknown, {**lost, "lost_train": 0.0})) == []
