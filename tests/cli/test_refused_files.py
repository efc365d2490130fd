"""Data files that a run cannot use are refused before anything is written."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.refusals import ANY_FILE, GAD, RUN, refused

Say = Callable[..., Any]

HEADER = "index\tsentence\tlabel\n"
TRAIN: list[tuple[str, str | bytes | None, Sequence[str]]] = [
    ("missing", None, ["train.tsv: not found", "looked at", "task.data_dir"]),
    ("broken row", HEADER + "1\ta b\t0\n2\ta\n", ["train.tsv, line 3", "2 columns", "has 3"]),
    ("label", HEADER + "1\ta\t0\n2\tb\tyes\n", ["train.tsv", "label 'yes' (item 2)", "'0', '1'"]),
    (
        "not utf-8",
        HEADER.encode() + b"1\ta b\t0\n2\tcaf\xe9\t1\n",
        ["train.tsv, line 3", "0xe9", "UTF-8"],
    ),
]


def own_gad(corpora: Path, train: str | bytes | None) -> None:
    shutil.copytree(corpora / "gad", "own")
    Path("own/train.tsv").unlink()
    if train is not None:
        content = train if isinstance(train, bytes) else train.encode()
        Path("own/train.tsv").write_bytes(content)


@pytest.mark.parametrize(("train", "expected"), [t[1:] for t in TRAIN], ids=[t[0] for t in TRAIN])
def test_files(cli: Say, small: Path, train: str | bytes | None, expected: Sequence[str]) -> None:
    own_gad(small, train)
    refused(cli, (*RUN, "task.data_dir=own"), *expected)


def test_label_unseen_in_training(cli: Say, small: Path) -> None:
    own_gad(small, HEADER + "1\ta b\t0\n2\tc d\t0\n")
    refused(
        cli,
        (*RUN, "task.data_dir=own", "task.label_names=null", "task.positive=['0']"),
        "own/dev.tsv: label '1' (item 25) is not among the task's labels ['0']",
        "own/test.tsv: label '1'",
    )


def test_tag_unseen_in_training(cli: Say, small: Path) -> None:
    shutil.copytree(small / "ncbi_disease", "own")
    Path("own/conll/test.tsv").write_text("a\tO\n\nb\tB-Gene\n")
    refused(
        cli,
        ("run", "task=ncbi_disease", "model=tiny", *ANY_FILE, "task.data_dir=own"),
        "own/conll/test.tsv: tag 'B-Gene' (sentence at line 3)",
    )


def test_another_file_than_the_published_one(cli: Say, small: Path) -> None:
    found = hashlib.sha256((small / "gad" / "train.tsv").read_bytes()).hexdigest()
    refused(
        cli,
        ("run", "-m", "task=gad", "model=tiny"),
        f"train.tsv has sha256 {found[:16]}...",
        "the published file has 8c57f5f28a843cd6...",
        "task.sha256.train=null",
        "task.sha256.test=null",
    )


def test_dos_line_ends_are_fine(cli: Say, small: Path) -> None:
    content = (small / "gad" / "train.tsv").read_bytes().replace(b"\n", b"\r\n")
    own_gad(small, content)
    said = cli("check", *GAD, "task.data_dir=own")
    assert said.code == 0
    assert "24" in said.out
