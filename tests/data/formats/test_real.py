"""Every format carried through a real run on published corpora; counts by the plainest means."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.types import SPLITS

Make = Callable[..., Any]

CDR = "bc5cdr/pubtator/CDR_TestSet.PubTator.txt"


def starts(path: Path) -> int:
    """Entities of IOB1 tags in the last column."""
    n, before = 0, "O"
    for line in path.read_text(encoding="utf-8").split("\n"):
        tag = line.split()[-1] if line.split() and not line.startswith("-DOC") else "O"
        n += tag != "O" and (tag[0] == "B" or before[1:] != tag[1:])
        before = tag
    return n


def mentions(path: Path) -> list[tuple[str, int, int, str, str]]:
    """id, start, end, text, type of the lines that say so."""
    found = re.findall(r"(?m)^(\d+)\t(\d+)\t(\d+)\t([^\t\n]*)\t([^\t\n]*)", path.read_text("utf-8"))
    return [(i, int(a), int(b), text, kind) for i, a, b, text, kind in found]


def write_brat(source: Path, folder: Path) -> None:
    """PubTator as a BRAT folder: a text and its mentions per abstract."""
    folder.mkdir()
    texts: dict[str, str] = {}
    for identifier, _, text in re.findall(r"(?m)^(\d+)\|([ta])\|(.*)$", source.read_text("utf-8")):
        texts[identifier] = f"{texts[identifier]} {text}" if identifier in texts else text
    marks: dict[str, list[str]] = {identifier: [] for identifier in texts}
    for identifier, a, b, text, kind in mentions(source):
        marks[identifier].append(f"T{len(marks[identifier]) + 1}\t{kind} {a} {b}\t{text}\n")
    for identifier, text in texts.items():
        (folder / f"{identifier}.txt").write_text(text, encoding="utf-8", newline="")
        (folder / f"{identifier}.ann").write_text("".join(marks[identifier]), encoding="utf-8")


def accounted(run: Any) -> int:
    """Entities that are tagged, and those that a note says were left out."""
    kept = sum(t.startswith("B") for s in SPLITS for e in run.data.splits[s] for t in e.target)
    told = [n for n in run.data.notes if " mentions " in n and "widened" not in n]
    return kept + sum(int(n.split()[0]) for n in told)


def run_it(make_run: Make, tmp_path: Path, *overrides: str) -> Any:
    from bluestab.store.store import Store
    from bluestab.training.execute import execute_one

    run = make_run(*overrides, "model=tiny", "optim.steps=2", "task.validation_size=20")
    store = Store(tmp_path / "runs")
    store.make_writable()
    assert execute_one(run, store, lambda *_: None).status == "done"
    return run


@pytest.mark.slow
def test_conll(make_run: Make, tmp_path: Path) -> None:
    root = real_data_of("scierc/ner")
    files = dict(zip(SPLITS, ("train", "dev", "test"), strict=True))
    run = run_it(
        make_run, tmp_path, "task=tagging",
        *(f"task.{split}={root / name}.txt" for split, name in files.items()),
    )  # fmt: skip
    assert accounted(run) == sum(starts(root / f"{name}.txt") for name in files.values()) == 8063


@pytest.mark.slow
def test_pubtator_and_brat(make_run: Make, tmp_path: Path) -> None:
    source = real_data_of(CDR)
    n = len(mentions(source))
    assert n == 5385 + 4424
    one = run_it(make_run, tmp_path, "task=tagging", f"task.train={source}")
    write_brat(source, tmp_path / "brat")
    other = run_it(make_run, tmp_path, "task=tagging", f"task.train={tmp_path / 'brat'}")
    assert accounted(one) == accounted(other) == n
    for split in SPLITS:  # the same items in the same parts, whatever the format and the order
        assert {(e.id, e.text, e.target) for e in one.data.splits[split]} == {
            (e.id, e.text, e.target) for e in other.data.splits[split]
        }


@pytest.mark.slow
def test_rows(make_run: Make, tmp_path: Path) -> None:
    root = real_data_of("scierc/relation")
    run = run_it(make_run, tmp_path, "task=classification", f"task.train={root / 'train.txt'}")
    lines = (root / "train.txt").read_text(encoding="utf-8").splitlines()
    assert items(run) == len([json.loads(line) for line in lines]) == 3219
    gad = real_data_of("gad/train.tsv")
    run = run_it(make_run, tmp_path, "task=classification", f"task.train={gad}")
    assert items(run) == len(gad.read_text(encoding="utf-8").splitlines()) - 1 == 4261
    table = real_data_of("medical_abstracts/medical_tc_test.csv")
    with table.open(encoding="utf-8", newline="") as file:
        n = len(list(csv.DictReader(file)))
    run = run_it(
        make_run, tmp_path, "task=classification", f"task.train={table}",
        "task.text=medical_abstract", "task.label=condition_label",
    )  # fmt: skip
    assert items(run) == n == 2888
    pairs = real_data_of("biosses/train.tsv")
    run = run_it(make_run, tmp_path, "task=pair_regression", f"task.train={pairs}")
    assert items(run) == 64


def items(run: Any) -> int:
    return sum(len(run.data.splits[s]) for s in SPLITS)


DATA = os.environ.get("BLUESTAB_DATA")  # before a fixture replaces it


def real_data_of(name: str) -> Path:
    """The published corpora, although the fixtures point to small ones."""
    if not DATA:
        pytest.skip("real corpora: set BLUESTAB_DATA to the folder that holds them")
    path = Path(DATA) / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path
