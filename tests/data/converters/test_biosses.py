"""BIOSSES: rows that are broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bluestab.core.errors import DataError
from bluestab.data.converters import biosses
from tests.support.miniatures import MINIATURES

Convert = Callable[..., dict[str, bytes]]


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("sentence_id", "id", 1, "names the columns"),
        ("\n7\t", "\n6\t", 8, "has a second pair 6"),
        ("\t4\n2\t", "\tfour\n2\t", 2, "annotator_e is 'four'"),
        ("\t4\n2\t", "\t5\n2\t", 2, "has a score of 5"),
        ("\t4\n2\t", "\n2\t", 2, "has 7 columns, not 8"),
    ],
)
def test_biosses_broken_rows(convert: Convert, old: str, new: str, line: int, reason: str) -> None:
    text = MINIATURES["biosses"]().files[biosses.FILE].decode()
    assert old in text
    with pytest.raises(DataError, match=f"{biosses.FILE}, line {line}: .*{reason}"):
        convert("biosses", {biosses.FILE: text.replace(old, new, 1).encode()})
