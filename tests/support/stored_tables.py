"""Stores that are packed beside the tests, and the tables of the documentation made from them."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from bluestab.store.store import Store


def unpacked(archive: Path, folder: Path) -> Store:
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return Store(folder / "runs")


def table_cells(page: str, mark: str) -> list[list[str]]:
    """Rows below the heading of the one table that follows this mark; ValueError if there is none
    or several."""
    (table,) = re.findall(rf"<!-- {mark} -->\n((?:\|.*\n)+)", page)
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
