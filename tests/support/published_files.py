"""A task whose files a server of our own publishes, and the means to bring them."""

from __future__ import annotations

import copy
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bluestab.core.config import compose, resolved
from bluestab.data.downloads import Downloader
from bluestab.data.remotes import Remote
from bluestab.sweeps.fetch.base import FetchContext, Resource
from bluestab.sweeps.fetch.data import TaskResource
from bluestab.sweeps.fetch.folder import MARKER
from bluestab.sweeps.launchers.fetch import supplies
from bluestab.training.check import check_parts
from tests.support.download_site import BODY, QUICK, SHA, Site, good


def remote(*urls: str, sha256: str | None = SHA, n_bytes: int | None = len(BODY)) -> Remote:
    return Remote("train.tsv", urls, sha256, n_bytes)


def entry(**changes: Any) -> dict[str, Any]:
    given = {"file": "a.tsv", "url": "https://a.org/a", "sha256": SHA, "bytes": 3}
    return {**given, **changes}


NAMES = {"train": "train.tsv", "validation": "dev.tsv", "test": "conll/test.tsv"}


@cache
def gad() -> dict[str, Any]:
    return resolved(compose(["task=gad", "model=tiny"]))


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that the task `gad` is brought to; a person has none."""
    monkeypatch.setenv("BLUESTAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BLUESTAB_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return tmp_path / "cache" / "data" / "gad"


def content(split: str) -> bytes:
    return BODY[:50_000] + split.encode()


def sha_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def node_of(site: Site, **changes: Any) -> dict[str, Any]:
    """A task node whose files the site gives."""
    node = copy.deepcopy(gad()["task"])
    files = []
    for split, name in NAMES.items():
        site[f"/{name}"] = good(content(split))
        node[split], node["sha256"][split] = name, sha_of(content(split))
        files.append(
            entry(
                file=name,
                url=f"{site.url}/{name}",
                sha256=node["sha256"][split],
                bytes=len(content(split)),
            )
        )
    node["fetch"] = {"convert": None, "files": files}
    return {**node, **changes}


def supply_of(node: dict[str, Any]) -> TaskResource:
    parts = check_parts({**gad(), "task": node})
    supply: Resource
    supply, _ = supplies([parts, parts])
    assert isinstance(supply, TaskResource)
    return supply


def means(**knobs: Any) -> FetchContext:
    return FetchContext(downloader=Downloader(QUICK), **knobs)


def here(folder: Path) -> dict[str, bytes]:
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in sorted(files.items()) if name != MARKER}


ALL = {name: content(split) for split, name in sorted(NAMES.items(), key=lambda item: item[1])}


def write_task(name: str, node: dict[str, Any]) -> None:
    """A task yaml of a person's own, in ./conf."""
    folder = Path("conf/task")
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create({**node, "name": name}), folder / f"{name}.yaml")


def real_node(site: Site, corpora: Path) -> dict[str, Any]:
    """A task that runs: the small corpus of gad, from the site."""
    node = copy.deepcopy(gad()["task"])
    files = []
    for split in ("train", "validation", "test"):
        data = (corpora / "gad" / node[split]).read_bytes()
        site[f"/{node[split]}"] = good(data)
        node["sha256"][split] = sha_of(data)
        url = f"{site.url}/{node[split]}"
        files.append(entry(file=node[split], url=url, sha256=sha_of(data), bytes=len(data)))
    return {**node, "fetch": {"convert": None, "files": files}}
