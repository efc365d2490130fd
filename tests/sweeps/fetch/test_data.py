"""Files of a task are brought once, whole and converted, and only to the cache."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bluestab.core.errors import ConfigError
from bluestab.core.paths import conf_dir
from bluestab.data.downloads import DownloadError
from bluestab.data.remotes import remotes
from bluestab.testing.corpora import published_tasks
from tests.support.download_site import Site, good, status
from tests.support.published_files import (
    ALL,
    NAMES,
    content,
    entry,
    here,
    means,
    node_of,
    sha_of,
    supply_of,
)

# --- a task -------------------------------------------------------------------------------------


def test_a_task_is_brought_once(site: Site, cached: Path) -> None:
    supply = supply_of(node_of(site))
    before = supply.look(means())
    assert [n for _, n in before.missing] == [len(content(split)) for split in NAMES]
    assert before.where == str(cached)
    assert not cached.exists(), "looking writes nothing"
    found = supply.bring(means())
    assert found.here
    assert found.where == str(cached)
    assert found.n_bytes == sum(map(len, ALL.values()))
    assert here(cached) == ALL
    assert cached.parent.stat().st_mode & 0o777 == 0o700
    assert supply.look(means()).here
    supply.bring(means())
    assert len(site.requests) == 3
    # one file damaged: it alone comes again
    (cached / "dev.tsv").write_bytes(b"x")
    assert [url for url, _ in supply.look(means()).missing] == [f"{site.url}/dev.tsv"]
    supply.bring(means())
    assert here(cached) == ALL
    assert len(site.requests) == 4


def test_one_file_fails_the_others_stay(site: Site, cached: Path) -> None:
    supply = supply_of(node_of(site))
    site["/conll/test.tsv"] = [status(404), good(content("test"))]
    with pytest.raises(DownloadError, match="HTTP 404"):
        supply.bring(means())
    supply.bring(means())
    assert here(cached) == ALL
    assert len(site.requests) == 4


def test_two_at_once(site: Site, cached: Path) -> None:
    supply, said = supply_of(node_of(site)), []
    gate = threading.Event()
    slow = good(content("train"), stop_after=1000, then=lambda: gate.wait(5))
    site["/train.tsv"] = [slow, good(content("train"))]
    problems: list[BaseException] = []

    def bring() -> None:
        try:
            supply.bring(means(say=said.append))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=bring) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 3
    while len(said) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    gate.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert here(cached) == ALL
    assert said == ["another process is bringing gad: waiting for it"] * 2
    paths = [path for _, path, _ in site.requests]
    assert sorted(paths) == ["/conll/test.tsv", "/dev.tsv", "/train.tsv", "/train.tsv"]


def test_litter_of_the_killed_goes(site: Site, cached: Path) -> None:
    supply = supply_of(node_of(site))
    supply.bring(means())
    (cached / "tmpab12_x9z").write_bytes(b"")
    (cached / "conll" / ".test.tsv.host.12.1").write_bytes(b"half")
    (cached / "train.tsv").unlink()
    supply.bring(means())
    assert here(cached) == ALL


def test_a_persons_folders_are_never_written(
    site: Site, cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    for name, data in ALL.items():
        (own / "gad" / name).parent.mkdir(parents=True, exist_ok=True)
        (own / "gad" / name).write_bytes(data)
    (own / "gad" / "dev.tsv").unlink()
    monkeypatch.setenv("BLUESTAB_DATA", str(own))
    supply = supply_of(node_of(site))
    supply.bring(means())
    assert not (own / "gad" / "dev.tsv").exists()
    assert here(cached) == ALL
    # another edition comes first, and is said
    (own / "gad" / "dev.tsv").write_bytes(b"mine")
    problem = supply.look(means()).problem
    assert f"{own}/gad/dev.tsv is not the published file" in problem
    accepting = node_of(site)
    accepting["sha256"]["validation"] = None
    assert supply_of(accepting).look(means()).here
    # task.data_dir lacks a file
    (own / "gad" / "dev.tsv").unlink()
    given = supply_of(node_of(site, data_dir=str(own / "gad")))
    assert "holds no dev.tsv; no folder of yours is written" in given.look(means()).problem
    # the cache happens to be where the data are
    monkeypatch.setenv("BLUESTAB_DATA", str(own / "data"))
    monkeypatch.setenv("BLUESTAB_CACHE", str(own))
    (own / "gad").rename(own / "mine")
    (own / "data" / "gad").mkdir(parents=True)
    with pytest.raises(DownloadError, match="which is never written"):
        supply.bring(means())
    monkeypatch.delenv("BLUESTAB_DATA")
    (own / "data" / "gad" / "notes").write_text("mine")
    with pytest.raises(DownloadError, match="was not made by bluestab fetch"):
        supply.bring(means())
    assert here(own / "data" / "gad") == {"notes": b"mine"}


def test_a_cache_that_cannot_be_written(
    site: Site, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESTAB_CACHE", "/dev/null")
    with pytest.raises(DownloadError, match=r"cannot be written.*BLUESTAB_CACHE"):
        supply_of(node_of(site)).bring(means())
    assert site.requests == []


def test_offline(site: Site, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    supply = supply_of(node_of(site))
    with pytest.raises(DownloadError) as caught:
        supply.bring(means())
    assert "HF_HUB_OFFLINE is set" in str(caught.value)
    assert all(f"{site.url}/{name}" in str(caught.value) for name in ALL)
    assert site.requests == []
    assert not cached.exists()


def test_nothing_public(site: Site, cached: Path) -> None:
    about = {"access": "register at https://a.org, then take x.zip", "url": "https://b.org"}
    problem = supply_of(node_of(site, fetch=None, about=about)).look(means()).problem
    assert "cannot be downloaded; register at https://a.org, then take x.zip; then put" in problem
    assert "into a folder gad and set BLUESTAB_DATA" in problem
    problem = supply_of(node_of(site, fetch=None, about={"url": "https://b.org"})).look(means())
    assert "ask at https://b.org" in problem.problem


# --- converters ---------------------------------------------------------------------------------

UPPER = """
from bluestab.core.errors import DataError

def convert(files):
    (path,) = files.values()
    rows = path.read_text().split()
    if rows[:1] != ["splits"]:
        raise DataError(path, "does not begin with the word splits", 1)
    return dict(zip(["train.tsv", "dev.tsv", "conll/test.tsv"], (r.encode() for r in rows[1:])))
"""


@pytest.fixture
def converters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of converters that holds one, `upper`."""
    folder = tmp_path / "converters"
    folder.mkdir()
    (folder / "upper.py").write_text(UPPER)
    package = types.ModuleType("bluestab.data.converters")
    package.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "bluestab.data.converters", package)
    yield
    sys.modules.pop("bluestab.data.converters.upper", None)


ORIGINAL = b"splits A B C"
MADE = {"train.tsv": b"A", "dev.tsv": b"B", "conll/test.tsv": b"C"}


def converted_node(site: Site, original: bytes = ORIGINAL, **changes: Any) -> dict[str, Any]:
    site["/all.txt"] = good(original)
    given = {"file": "all.txt", "url": f"{site.url}/all.txt"}
    given |= {"sha256": sha_of(original), "bytes": len(original), **changes}
    files = [entry(**given)]
    node = node_of(site, fetch={"convert": "upper", "files": files})
    node["sha256"] = {split: sha_of(MADE[name]) for split, name in NAMES.items()}
    return node


@pytest.mark.usefixtures("converters")
def test_converted(site: Site, cached: Path) -> None:
    supply = supply_of(converted_node(site))
    assert supply.bring(means()).here
    assert here(cached) == {**dict(sorted(MADE.items())), "original/all.txt": ORIGINAL}
    (cached / "dev.tsv").unlink()
    found = supply.look(means())
    assert found.missing == (("the files of the task, from originals that are here", 0),)
    supply.bring(means())
    assert here(cached)["dev.tsv"] == b"B"
    assert len(site.requests) == 1, "originals are kept"


@pytest.mark.usefixtures("converters")
def test_converted_to_something_else(site: Site, cached: Path) -> None:
    """Nothing is installed; an original whose own hash is not known is brought anew."""
    node = converted_node(site, b"splits A B X", sha256=None, bytes=None)
    supply = supply_of(node)
    with pytest.raises(DownloadError, match=r"makes a conll/test.tsv with sha256 .* expected"):
        supply.bring(means())
    assert here(cached) == {}
    site["/all.txt"] = good(b"nonsense")
    with pytest.raises(DownloadError, match=r"converter upper: .*all.txt, line 1: does not begin"):
        supply.bring(means())
    site["/all.txt"] = good(b"splits A B")
    with pytest.raises(DownloadError, match=r"makes no conll/test.tsv"):
        supply.bring(means())
    (cached / "original" / "all.txt").unlink(missing_ok=True)
    site["/all.txt"] = good(ORIGINAL)
    assert supply.bring(means()).here


@pytest.mark.usefixtures("converters")
@pytest.mark.parametrize("name", ["uper", "os", "..upper", "upper.x", "__init__"])
def test_only_converters_of_ours(site: Site, cached: Path, name: str) -> None:
    node = converted_node(site)
    node["fetch"]["convert"] = name
    with pytest.raises(ConfigError, match=r"task\.fetch\.convert is"):
        supply_of(node)
    assert site.requests == []


# --- the yamls that come with bluestab ----------------------------------------------------------

TASKS = [file.stem for file in published_tasks()]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_says_where_its_files_come_from(name: str) -> None:
    """Pinned, hashed and complete; nothing public: whom to ask."""
    task = OmegaConf.to_container(OmegaConf.load(conf_dir() / "task" / f"{name}.yaml"))
    assert isinstance(task, dict)
    about, fetch = task["about"], task["fetch"]
    assert about["licence"]
    assert about["citation"]
    brought = {remote.file: remote for remote in remotes(fetch)}
    if not brought:
        assert about.get("access") or about.get("url")
        return
    for one in brought.values():
        for url in one.urls:
            assert url.startswith("https://")
            assert re.search(r"[/@][0-9a-f]{40}(/|$)", url), f"{url} is not pinned to a commit"
        if one.sha256 is None or one.bytes is None:  # an archive that is packed anew for everyone
            assert fetch["convert"]
            assert all(task["sha256"].values()), "then what is made of it must be known"
    for split in ("train", "validation", "test"):
        if task["sha256"][split] is None:
            assert about["access"], "a part that nobody can check or bring"
        elif fetch["convert"] is None:
            assert brought[task[split]].sha256 == task["sha256"][split]
    root = os.environ.get("BLUESTAB_DATA")
    for one in brought.values():
        for place in ("", "original"):
            file = Path(root or "/nowhere", name, place, one.file)
            if root and file.is_file() and one.sha256 is not None:
                assert sha_of(file.read_bytes()) == one.sha256, file
                assert file.stat().st_size == one.bytes, file
