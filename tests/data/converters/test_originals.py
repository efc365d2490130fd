"""Archives and tables of others are not trusted: sizes, members, entities, placeholders."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bluestab.core.errors import DataError
from bluestab.data.converters import hoc, originals
from tests.support.miniatures import MINIATURES

Convert = Callable[..., dict[str, bytes]]


def test_a_member_of_absurd_size_is_refused(
    convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(originals, "MAX_BYTES", 50)
    with pytest.raises(DataError, match=r"zip/DDICorpus/Train/.*ddi\.xml: has \d+ bytes"):
        convert("ddi")
    with pytest.raises(DataError, match=r"gz/chemprot_training/.*tsv: has \d+ bytes"):
        convert("chemprot")


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b.txt", "one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/b.txt", "two")
    with pytest.raises(DataError, match=r"x\.zip/a/b\.txt: is twice in the archive"):
        originals.zip_members(path, lambda name: True)


def test_a_damaged_member_is_found(convert: Convert) -> None:
    whole = bytearray(MINIATURES["hoc"]().files[hoc.ARCHIVE])
    at = whole.index(b"repository-abc/text/101.txt") + len("repository-abc/text/101.txt") + 3
    whole[at] ^= 0xFF
    with pytest.raises(DataError, match="not a readable zip archive"):
        convert("hoc", {hoc.ARCHIVE: bytes(whole)})


BOMB = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n<document id="&b;"/>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("doctype", [BOMB, '<!DOCTYPE d SYSTEM "file:///etc/passwd"><d/>'])
def test_entities_are_refused(encoding: str, doctype: str) -> None:
    with pytest.raises(DataError, match=r"x\.xml: declares a document type"):
        originals.xml_root(Path("x.xml"), doctype.encode(encoding))
    assert originals.xml_root(Path("x.xml"), "<d/>".encode(encoding)).tag == "d"


def test_placeholders() -> None:
    text, names = "aa bb cc", ("@1", "@2")
    assert originals.masked(text, (0, 2), (6, 8), names, "@J") == "@1 bb @2"
    assert originals.masked(text, (0, 2), (2, 5), names, "@J") == "@1@2 cc", (
        "neighbours do not overlap"
    )
    assert originals.masked(text, (0, 5), (3, 8), names, "@J") == "@J"
    assert originals.masked(text, (0, 8), (3, 5), names, "@J") == "@J"
