"""Where data files are found, and what they contain in one hash.

Search order: `task.data_dir`, `$BLUESTAB_DATA/<task>`, the corpus shipped with the package. A path
that is absolute or starts with ./ is taken as it is. `NAME.gz` stands in for a missing `NAME`.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from bluestab.errors import DataError
from bluestab.paths import corpora_dir
from bluestab.tasks.readers import read_bytes


def folders(task: str, data_dir: str | None) -> list[Path]:
    """Folders that may hold the task's files, in search order."""
    if data_dir is not None:
        return [Path(data_dir).expanduser()]
    root = os.environ.get("BLUESTAB_DATA")
    own = [Path(root).expanduser() / task] if root else []
    return [*own, corpora_dir() / task]


def locate(file: str, *, task: str, data_dir: str | None, hint: str = "") -> Path:
    """The file of a task. Raises DataError naming every place that was searched."""
    direct = Path(file).expanduser()
    as_it_is = direct.is_absolute() or file.startswith(("./", "../"))
    places = [direct] if as_it_is else [folder / file for folder in folders(task, data_dir)]
    for place in places:
        for candidate in (place, Path(f"{place}.gz")):
            if candidate.is_file():
                return candidate
    searched = ", ".join(str(place) for place in places)
    advice = f"; task.data_dir must be the folder that holds {file}"
    if as_it_is:
        advice = ""
    elif data_dir is None:
        advice = (
            f"; set BLUESTAB_DATA to the folder that holds {task}/{file}, "
            f"or task.data_dir to the one that holds {file}"
        )
    raise DataError(file, f"not found (looked at {searched}){advice}{hint}")


def sha256_of(path: Path) -> str:
    """SHA-256 of the (decompressed) content, computed once per path, size and time of change."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    if path.suffix == ".gz":
        return hashlib.sha256(read_bytes(path)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
