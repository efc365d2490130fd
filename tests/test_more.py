"""`tests/more.txt` and `tests/slow.txt`: what they list is there, and how a line is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import more

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("file", "least"), [(more.FILE, 100), (more.SLOW, 10)])
def test_every_line_names_a_test_that_is_there(file: Path, least: int) -> None:
    listed = more.read(file.read_text(encoding="utf-8"))
    assert len(listed) > least
    for name in listed:
        path, first, *_ = name.partition("[")[0].split("::")  # a class, or a test
        assert re.search(rf"(def|class) {first}\b", (ROOT / path).read_text()), name


def test_lines_by_hand() -> None:
    listed = more.read("# why\na.py::t\na.py::u\n    but [x y]\n    but [z]\nb.py::v[1]\n")
    assert listed == {"a.py::t": set(), "a.py::u": {"[x y]", "[z]"}, "b.py::v[1]": set()}
    assert more.is_listed("a.py::t", listed)
    assert more.is_listed("a.py::u[w]", listed)
    assert not more.is_listed("a.py::u[x y]", listed)
    assert more.is_listed("b.py::v[1]", listed)
    assert not more.is_listed("b.py::v[2]", listed)
