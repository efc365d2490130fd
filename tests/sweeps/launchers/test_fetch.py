"""`bluestab fetch`: what a command names is brought once; what is impossible is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.download_site import Site
from tests.support.published_files import gad, real_node, write_task

Say = Callable[..., Any]


def test_fetch_then_run(cli: Say, cached: Path, site: Site, corpora: Path) -> None:
    write_task("mine", {**real_node(site, corpora), "about": {**LICENCE}})
    run = ("task=mine", "model=tiny", "optim.steps=1", "device=cpu")
    said = cli("run", *run)
    assert said.code == 2
    assert "bring it with: bluestab fetch task=mine" in said.err
    whole = "all that this command needs, data and models: bluestab fetch " + " ".join(run)
    assert whole in said.err
    said = cli("fetch", "--dry-run", *run)
    assert (said.code, said.err) == (0, "")
    assert "1 here; 1 to bring, " in said.out
    assert not cached.parent.exists()
    assert site.requests == []
    said = cli("fetch", *run)
    assert (said.code, said.err) == (0, "")
    for part in ("non-commercial use only", "Nobody 2020", site.url + "/train.tsv", "2 of 2 here"):
        assert part in said.out
    assert f"brought    to {cached.parent / 'mine'}" in said.out
    assert cli("check", *run, "hydra.launcher.dry_step=false").code == 0
    said = cli("fetch", *run, HF_HUB_OFFLINE="1")
    assert said.code == 0
    assert f"have       {cached.parent / 'mine'}" in said.out
    assert len(site.requests) == 3


LICENCE = {
    "summary": "a task",
    "licence": "non-commercial use only",
    "citation": "Nobody 2020",
    "url": "https://a.org",
}


def test_a_sweep_is_brought_once(cli: Say, cached: Path, site: Site, corpora: Path) -> None:
    write_task("mine", real_node(site, corpora))
    write_task("other", real_node(site, corpora))
    sweep = ("-m", "task=mine,other", "model=tiny", "technique=none,llrd", "sweep.seeds=50")
    said = cli("fetch", *sweep, "technique.llrd.decay=0.8,0.9", "hydra/launcher=pool")
    assert (said.code, said.err) == (0, "")
    assert [line for line in said.out.splitlines() if re.match("task|model", line)] == [
        "task mine: " + str(gad()["task"]["about"]["summary"]),
        "task other: " + str(gad()["task"]["about"]["summary"]),
        "model tiny: 2 blocks with random weights, for tests",
    ]
    assert len(site.requests) == 6
    assert "random weights: nothing to bring" in said.out


def test_the_rest_is_still_brought(cli: Say, cached: Path, site: Site, corpora: Path) -> None:
    broken = real_node(site, corpora)
    broken["fetch"]["files"][0]["url"] = site.url + "/gone"
    write_task("broken", broken)
    write_task("gated", {**broken, "fetch": None, "about": {**LICENCE, "access": "ask X"}})
    write_task("mine", real_node(site, corpora))
    said = cli("fetch", "-m", "task=broken,gated,mine", "model=tiny", "sweep.seeds=1")
    assert said.code == 1
    assert "bluestab: 2 of 4 could not be brought:" in said.err
    assert f"task broken: {site.url}/gone: HTTP 404" in said.err
    assert "task gated: train.tsv, dev.tsv, test.tsv cannot be downloaded; ask X" in said.err
    assert (cached.parent / "mine" / "train.tsv").is_file()


IMPOSSIBLE = [
    (("task=gda",), "did you mean 'gad'"),
    (("optim.lrr=1",), "did you mean 'optim.lr'"),
    (("-m", "task=gad", "technique=none,lrd"), "no technique 'lrd'"),
    (("task=gad,biosses",), "add -m"),
    (("optim.lr=-1",), "optim.lr is -1"),
    (("task.max_length=999", "model=tiny"), "task.max_length=512"),
    (("--from", "nowhere"), "--from nowhere: no such folder"),
    (("task=gad", "task.fetch.convert=nobody"), "no such converter"),
    (("task=gad", "task.name=../x"), "task.name is '../x'"),
    (("task=gad", "task.fetch.files=[{file:../x}]"), "task.fetch.files[0]"),
]


@pytest.mark.parametrize(("line", "said"), IMPOSSIBLE, ids=[" ".join(a) for a, _ in IMPOSSIBLE])
def test_impossible(cli: Say, cached: Path, line: tuple[str, ...], said: str) -> None:
    found = cli("fetch", *line)
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err
    assert not cached.parent.exists()
    assert list(Path.cwd().iterdir()) == []


def test_help_and_config(cli: Say) -> None:
    assert "--dry-run" in cli("fetch", "--help").out
    assert "hub:" in cli("fetch", "--cfg", "job", "task=gad").out


def test_cache_size_and_clear(cli: Say, cached: Path, site: Site, corpora: Path) -> None:
    write_task("mine", real_node(site, corpora))
    cli("fetch", "task=mine", "model=tiny")
    own = cached.parent / "own"
    own.mkdir()
    (own / "kept.tsv").write_text("x")
    said = cli("cache", "size").out
    assert "0 files, 0 B" in said
    assert "data that bluestab fetch brought: mine; " in said
    assert "mine stays" in cli("cache", "clear").out
    assert (cached.parent / "mine" / "train.tsv").is_file()
    said = cli("cache", "clear", "--data")
    assert said.code == 0
    assert not (cached.parent / "mine").exists()
    assert (own / "kept.tsv").is_file(), "what fetch did not make is not cleared"
