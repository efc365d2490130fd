"""A search is read from any folder, wherever its store has gone, and reading writes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.testing.corpora import ANY_FILE
from tests.support.stored_runs import tree

LINE = (
    "run", "-m", "hydra/sweeper=optuna", "task=gad", "model=tiny", "device=cpu", "optim.steps=1",
    "task.max_length=32", *ANY_FILE, "optim.lr=tag(log,interval(1e-5,1e-3))", "search.n_trials=2",
    "search.seeds=1", "search.confirm=0", "sweep.name=mine",
)  # fmt: skip


@pytest.mark.parametrize(
    "storage",
    [
        None,
        *(
            pytest.param(where, marks=pytest.mark.slow)
            for where in ("runs/own.journal", "sqlite:///runs/s.db", "beside.journal")
        ),
    ],
)
def test_a_moved_store_answers_as_before_from_any_folder(
    cli: Callable[..., Any], storage: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = Path.cwd()
    said = cli(*LINE, *([] if storage is None else [f"search.storage={storage}"]))
    assert said.code == 0, said.err
    first = cli("search", "--out", "out")
    assert first.code == 0, first.err
    assert "no point may win" not in first.out
    expected = tree(here / "out")
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    for root in (
        here / "runs",
        Path(shutil.copytree(here / "runs", tmp_path / "copied", symlinks=True)),
    ):
        if root.name == "copied" and storage != "beside.journal":
            (here / "runs").rename(here / "moved")  # the copy must not lean on the original
        before = tree(root)
        again = cli("search", str(root), "--out", "out")
        assert again.code == 0, again.err
        assert again.out.replace(str(root), "runs") == first.out
        assert tree(away / "out") == expected
        standing = cli("status", str(root))
        assert standing.code == 0, standing.err
        assert "search mine: 2 of 2 points told" in standing.out
        assert cli("report", str(root), "--all", "--out", "page").code == 0
        assert {k: v for k, v in tree(root).items() if not k.endswith(".index.parquet")} == before
        assert sorted(path.name for path in away.iterdir()) == ["out", "page"], "no stray runs/"
    work = cli("search", "--work", str(root))
    assert work.code == 0, work.err
    assert "2 of 2 points told" in cli("status", str(root)).out, "the same study"


def test_places_of_older_versions_are_found(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They wrote the path from the folder of that day."""
    assert cli(*LINE).code == 0
    file = Path("runs/searches/mine/search.json")
    content = json.loads(file.read_text())
    assert content["storage"] == "searches/mine/study.journal"
    del content["storage_is_in"], content["folder"]
    for old in ("runs/searches/mine/study.journal", "/gone/runs/searches/mine/study.journal"):
        file.write_text(json.dumps({**content, "storage": old}))
        root = Path("runs").absolute()
        monkeypatch.chdir(tmp_path)
        said = cli("search", str(root), "--out", str(tmp_path / "out"))
        assert said.code == 0, said.err
        assert "2 points" in said.out
        monkeypatch.chdir(root.parent)


@pytest.mark.parametrize(
    ("storage", "inside", "said"),
    [
        ("../../outside", "store", "which is not in the store"),
        ("/etc/hostname", "store", "which is not in the store"),
        ("/etc/hostname", None, "is no journal of Optuna"),
        ("gone.journal", None, "gone.journal is not there"),
        ("sqlite:///gone.db", None, "gone.db is not there"),
        ("sqlite:////etc/hostname", None, "cannot be"),
    ],
)
def test_a_storage_that_is_not_one_is_a_sentence(
    cli: Callable[..., Any], storage: str, inside: str | None, said: str
) -> None:
    """And nothing is created or cut where a stranger's file points to."""
    folder = Path("runs/searches/s")
    folder.mkdir(parents=True)
    from tests.support import simulated_search

    node = simulated_search.node()
    content = {
        "name": "s",
        "command": "x",
        "storage": storage,
        "storage_is_in": inside,
        "asked": {
            "node": node,
            "fixed": simulated_search.FIXED,
            "choices": simulated_search.CHOICES,
        },
        "group": 1,
    }
    (folder / "search.json").write_text(json.dumps(content))
    before = tree(Path.cwd())
    found = cli("search")
    assert found.code == 2, found.out
    assert said in found.err
    assert "Traceback" not in found.err
    assert said in cli("status").out
    assert tree(Path.cwd()) == before


def test_a_storage_from_the_environment_is_kept_as_its_reference(
    small: Path, tmp_path: Path
) -> None:
    """And never filled in by who reads it: a stranger may have written what it is sent to."""
    from dataclasses import replace

    from bluestab.core.errors import ConfigError
    from bluestab.sweeps.search.saved import read_search, write_search_file
    from bluestab.sweeps.slurm.searching import shared
    from tests.support import simulated_search

    url = f"sqlite:///{tmp_path}/of-a-host.db"
    search = simulated_search.plan(tmp_path / "runs", storage=url)
    search = replace(search, storage_reference="${oc.env:OWN_URL}")
    write_search_file(search)
    text = (search.folder / "search.json").read_text()
    assert "${oc.env:OWN_URL}" in text
    assert "of-a-host" not in text
    with pytest.raises(ConfigError, match=r"given as \$\{oc.env:OWN_URL\}.*--storage URL"):
        read_search(tmp_path / "runs", "s")
    assert read_search(tmp_path / "runs", "s", url).storage == url
    with pytest.raises(ConfigError, match=r"search.storage is \$\{oc.env:OWN_URL\}: tasks"):
        shared(search)


@pytest.mark.slow
def test_a_search_whose_storage_is_in_the_environment(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/of-a-host.db"
    said = cli(*LINE, "search.storage=${oc.env:OWN_URL}", OWN_URL=url)
    assert said.code == 0, said.err
    assert [name for name, data in tree(Path.cwd()).items() if b"of-a-host" in data] == []
    assert cli("search", OWN_URL=url).code == 2
    assert cli("search", "--storage", url).code == 0
