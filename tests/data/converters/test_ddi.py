"""DDI: documents that are broken, the split, and errata."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bluestab.core.errors import DataError
from bluestab.data.converters import ddi
from tests.support.miniatures import DDI_PAIR, ddi_members, ddi_xml, zipped

Convert = Callable[..., dict[str, bytes]]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('e1="DDI-MedLine.d902.s0.e1"', 'e1="nobody"', "names an unknown entity 'nobody'"),
        ('charOffset="14-19"', 'charOffset="14,19"', "has charOffset '14,19'"),
        ('charOffset="14-19"', 'charOffset="14-90"', "at 14-90, outside its sentence"),
        ('charOffset="14-19"', "", "an? <entity> has no attribute 'charOffset'"),
        (' type="effect"', "", "ddi='true' type=None"),
        ('"effect"', '"affect"', "type='affect'"),
        ('ddi="true"', 'ddi="perhaps"', "ddi='perhaps'"),
        ('id="DDI-MedLine.d902"', 'id="DDI-DrugBank.d901"', "a second document DDI-DrugBank.d901"),
        ("</document>", "", r"902\.xml, line \d+: is not XML"),
    ],
)
def test_ddi_broken_documents(convert: Convert, old: str, new: str, reason: str) -> None:
    members = ddi_members()
    name = f"{ddi.FOLDERS[0]}MedLine/902.xml"
    assert old in members[name]
    members[name] = members[name].replace(old, new)
    with pytest.raises(DataError, match=reason) as caught:
        convert("ddi", {ddi.ARCHIVE: zipped(members)})
    assert "902.xml" in str(caught.value)


def test_ddi_documents_and_split_agree(convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    members = ddi_members()
    del members[f"{ddi.FOLDERS[0]}MedLine/902.xml"]
    with pytest.raises(DataError, match=r"lacks 1 documents, among them DDI-MedLine\.d902"):
        convert("ddi", {ddi.ARCHIVE: zipped(members)})
    new = "DDI-MedLine.d909"
    members = {**ddi_members(), f"{ddi.FOLDERS[0]}new.xml": ddi_xml(new, DDI_PAIR.format(d=new))}
    with pytest.raises(DataError, match=r"has 1 documents in no part of the split: .*d909"):
        convert("ddi", {ddi.ARCHIVE: zipped(members)})


def test_ddi_errata(convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    shifted = "DDI-MedLine.d902.s0"
    members = {k: v.replace("Zolmin raised", "Zolmin] gave ") for k, v in ddi_members().items()}
    plain = convert("ddi", {ddi.ARCHIVE: zipped(members)})["dev.tsv"].decode()
    assert plain == f"{shifted}.p0\t@DRUG$] gave  @DRUG$ levels. \tDDI-effect\n"
    monkeypatch.setattr(ddi, "SHIFTED", {shifted})
    monkeypatch.setattr(ddi, "ERRATA", {f"{shifted}.p0": "int"})
    mended = convert("ddi", {ddi.ARCHIVE: zipped(members)})["dev.tsv"].decode()
    assert mended == f"{shifted}.p0\t@DRUG$];gave  t@DRUG$levels. \tDDI-int\n"
