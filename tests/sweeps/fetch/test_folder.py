"""Files of a task are taken from a folder of a person's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.data.downloads import DownloadError
from tests.support.download_site import Site
from tests.support.published_files import (
    ALL,
    here,
    means,
    node_of,
    real_node,
    sha_of,
    supply_of,
    write_task,
)

Say = Callable[..., Any]

# --- a task -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["{file}", "gad/{file}", "gad/original/{file}", "flat"])
def test_from_a_folder(site: Site, cached: Path, tmp_path: Path, layout: str) -> None:
    source = tmp_path / "stick"
    for name, data in ALL.items():
        path = source / (Path(name).name if layout == "flat" else layout.format(file=name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if layout != "{file}":  # a file of the same name that belongs to another task
        (source / "train.tsv").exists() or (source / "train.tsv").write_bytes(b"another")
    supply_of(node_of(site)).bring(means(folder=source))
    assert here(cached) == ALL
    assert site.requests == []


def test_from_a_folder_that_has_other_files(site: Site, cached: Path, tmp_path: Path) -> None:
    supply = supply_of(node_of(site))
    with pytest.raises(DownloadError, match=rf"{tmp_path} holds no train.tsv .*comes from http"):
        supply.bring(means(folder=tmp_path))
    (tmp_path / "train.tsv").write_bytes(b"another")
    with pytest.raises(DownloadError, match=f"sha256 {sha_of(b'another')}, the published file has"):
        supply.bring(means(folder=tmp_path))
    assert site.requests == []


# --- the verb -----------------------------------------------------------------------------------


def test_from_a_folder_with_an_odd_name(
    cli: Say, cached: Path, site: Site, corpora: Path, tmp_path: Path
) -> None:
    write_task("mine", real_node(site, corpora))
    source = tmp_path / "a 'b' ${c}, [d]=\\"
    source.symlink_to(corpora / "gad")
    said = cli("fetch", "task=mine", "model=tiny", "--from", str(source))
    assert (said.code, said.err) == (0, "")
    assert (cached.parent / "mine" / "train.tsv").is_file()
    assert site.requests == []
