"""A dictionary of concepts: what mentions are linked to. One file, in one of these forms:

ID||NAME|NAME...             the form of MEDIC in BioSyn (Sung et al. 2020); ID|ID...||NAME where
                             a concept has further ids
ID<tab>NAME|NAME...          or each name in a line, or a column, of its own

The first name of a concept is its preferred one. Lines of one id are one concept. Names that differ
in nothing but case count once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import lines_in, short

PREFIXES = ("MESH:", "OMIM:", "mesh:", "omim:")
"""Of ids, with or without which corpora and dictionaries write the same concept."""


def bare_id(concept: str) -> str:
    """An id without what names its vocabulary, where that is left out as often as not."""
    for prefix in PREFIXES:
        concept = concept.removeprefix(prefix)
    return concept.strip()


def folded(name: str) -> str:
    """A name without case and doubled blanks."""
    return " ".join(name.casefold().split())


@dataclass(frozen=True)
class Dictionary:
    """Concepts in the order of the file, C of them.

    ids    the first id of each
    names  of each, the preferred one first
    index  every id, bare, -> number of its concept
    """

    ids: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    index: Mapping[str, int]

    def number(self, concept: str) -> int | None:
        """The concept that an id means, None if it is not here."""
        return self.index.get(bare_id(concept))

    @property
    def n_names(self) -> int:
        return sum(map(len, self.names))


def read_dictionary(path: Path) -> Dictionary:
    """The dictionary in a file, read once per content. Raises DataError for a line that is none."""
    stat = path.stat()
    return _read(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, size: int, mtime_ns: int) -> Dictionary:
    ids: list[str] = []
    names: list[dict[str, str]] = []  # folded name -> as it is written
    first: dict[str, int] = {}
    further: dict[str, int] = {}
    for line_number, line in enumerate(lines_in(path)[0], start=1):
        if not line.strip():
            continue
        own_ids, own_names = _parsed(path, line, line_number)
        at = first.setdefault(bare_id(own_ids[0]), len(ids))
        if at == len(ids):
            ids.append(own_ids[0])
            names.append({})
        for one in own_ids[1:]:
            further.setdefault(bare_id(one), at)
        for name in own_names:
            names[at].setdefault(folded(name), name)
    if len(ids) < 2:
        raise DataError(path, f"holds {len(ids)} concepts: there would be nothing to choose from")
    return Dictionary(
        tuple(ids), tuple(tuple(found.values()) for found in names), {**further, **first}
    )


def _parsed(path: Path, line: str, number: int) -> tuple[list[str], list[str]]:
    """Ids and names of one line."""
    left, double, right = line.partition("||")
    if not double or "\t" in left:
        left, _, right = line.partition("\t")
        right = right.replace("\t", "|")
    own_ids = [i.strip() for i in left.split("|") if i.strip()]
    own_names = [name.strip() for name in right.split("|") if name.strip()]
    if not own_ids or not own_names:
        raise DataError(
            path,
            f"expected ID||NAME|NAME... or an id, a tab and a name, found {short(line)}",
            number,
        )
    return own_ids, own_names
