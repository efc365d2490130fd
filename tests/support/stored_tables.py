"""Stores that are packed beside the tests, and the tables of the documentation made from them."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from bluestab.core.paths import conf_dir
from bluestab.store.store import Store

PAGE = conf_dir().parent / "docs/results/several-tasks.md"
"""Of sweeps over several tasks."""


def shown(name: str) -> list[list[str]]:
    """Rows of a table of that page."""
    return table_cells(PAGE.read_text(encoding="utf-8"), name)


def unpacked(archive: Path, folder: Path) -> Store:
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return Store(folder / "runs")


def table_cells(page: str, mark: str) -> list[list[str]]:
    """Rows below the heading of the one table that follows this mark; ValueError if there is none
    or several."""
    (table,) = re.findall(rf"<!-- {mark} -->\n((?:\|.*\n)+)", page)
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
