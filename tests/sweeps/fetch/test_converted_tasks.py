"""`bluestab fetch --from FOLDER`: the task's files, made from original corpora a person has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.miniatures import CONVERTERS, MINIATURES

ANY = [*(f"task.sha256.{s}=null" for s in ("train", "validation", "test")), "task.fetch=null"]
"""Nothing is known of these files, and nothing can be downloaded: invented ones will do."""


@pytest.fixture
def fetch(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, Path]]:
    """`fetch(task, *arguments)`: nothing here yet, invented originals in tmp_path/originals."""
    originals = tmp_path / "originals"
    originals.mkdir()
    monkeypatch.delenv("BLUESTAB_DATA")
    monkeypatch.setenv("BLUESTAB_CACHE", str(tmp_path / "cache"))

    def say(task: str, *arguments: str) -> tuple[Any, Path]:
        for name, value in MINIATURES[task]().patches.items():
            monkeypatch.setattr(CONVERTERS[task], name, value)
        line = ["fetch", "--from", str(originals), f"task={task}", "model=tiny", *arguments]
        return cli(*line), tmp_path / "cache" / "data" / task

    return say


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("task", ["bc5cdr_chem", "bioasq"])
def test_files_that_come_as_they_are_or_not_at_all(fetch: Any, tmp_path: Path, task: str) -> None:
    """Of BC5CDR the originals, instead of the files at the public address; of BioASQ nothing else
    is to be had."""
    miniature = MINIATURES[task]()
    put(tmp_path / "originals", miniature.files)
    said, folder = fetch(task, *ANY)
    assert said.code == 0, said.err
    assert "from originals in" in said.out
    for name, content in miniature.expected.items():
        assert (folder / name).read_text(encoding="utf-8") == content
    again, _ = fetch(task, *ANY)
    assert again.code == 0
    assert f"have       {folder}" in again.out


def test_what_would_be_downloaded_comes_first(fetch: Any, tmp_path: Path) -> None:
    put(tmp_path / "originals", MINIATURES["bc5cdr_chem"]().files)
    put(tmp_path / "originals", dict.fromkeys(("train.tsv", "devel.tsv", "test.tsv"), b"other"))
    said, folder = fetch("bc5cdr_chem")
    assert said.code == 1
    assert "train.tsv has sha256" in said.err, "it is not what the yaml promises"
    assert not (folder / "train.tsv").exists()


def test_another_corpus_is_refused_whole(fetch: Any, tmp_path: Path) -> None:
    """Without task.sha256=null the invented corpus is not the published one."""
    put(tmp_path / "originals", MINIATURES["bc5cdr_chem"]().files)
    said, folder = fetch("bc5cdr_chem")
    assert said.code == 1
    assert "makes a train.tsv with sha256" in said.err
    assert not list(folder.glob("*.tsv"))


def test_an_original_that_lacks_is_named(fetch: Any, tmp_path: Path) -> None:
    files = dict(MINIATURES["bioasq"]().files)
    gone = next(name for name in files if "7B3" in name)
    del files[gone]
    put(tmp_path / "originals", files)
    said, _ = fetch("bioasq", *ANY)
    assert said.code == 1
    assert f"{gone}: is needed for this conversion and was not given" in said.err


def test_without_a_folder_of_originals_the_way_to_them_is_said(fetch: Any, cli: Any) -> None:
    said = cli("fetch", "task=bioasq", "model=tiny")
    assert said.code == 1
    assert "bluestab fetch --from FOLDER task=bioasq" in said.err


def test_a_part_that_nobody_brings_is_said_with_its_source(fetch: Any, cli: Any) -> None:
    ran = cli("run", "task=ebm_pico", "model=tiny")
    assert ran.code == 2
    assert "make train.tsv from EBM-NLP" in ran.err
    assert "bring it with" not in ran.err
