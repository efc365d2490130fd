"""DDI 2013 (Herrero-Zazo et al. 2013) -> one row per candidate pair of drugs, BLURB's form.

`id<TAB>sentence<TAB>label` without header; id = the pair's; the drugs are replaced by @DRUG$, or by
@DRUG-DRUG$ where they overlap; a mention in several pieces is masked from its first character to
its last. Labels DDI-false, -effect, -mechanism, -advise, -int. Checked: same bytes as BLURB's files
(25296 / 2496 / 5716 pairs).

BLURB takes 90 of the 714 training documents for validation; its documents and their order are in
`splits/ddi.txt` (those without a candidate pair are left out). It was made from an earlier edition
of the corpus; `ERRATA` and `SHIFTED` lead back to that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from bluestab.core.errors import DataError
from bluestab.data.converters.originals import (
    Files,
    given,
    masked,
    one_line,
    split_lists,
    xml_root,
    zip_members,
)

ARCHIVE = "DDICorpus-2013.zip"
FOLDERS = ("DDICorpus/Train/", "DDICorpus/Test/Test for DDI Extraction task/")
PREFIXES = {"B": "DDI-DrugBank.d", "M": "DDI-MedLine.d"}
LABELS = ("effect", "mechanism", "advise", "int")

ERRATA = {
    "DDI-DrugBank.d266.s0.p1": "false",  # mechanism in this edition
    "DDI-DrugBank.d266.s0.p2": "mechanism",  # false in this edition
    "DDI-DrugBank.d236.s29.p0": "false",  # an interaction without type in this edition
}
"""Pairs whose label differs between the editions, with that of the earlier one."""

SHIFTED = {
    *("DDI-MedLine.d4.s0", "DDI-MedLine.d14.s0", "DDI-MedLine.d15.s0", "DDI-MedLine.d27.s0"),
    *("DDI-MedLine.d68.s0", "DDI-MedLine.d134.s0"),
}
"""Sentences that have `];` after a translated title in the earlier edition, `] ` in this one. There
the offsets behind it count one character more than the text has, so that BLURB's placeholders are
off by one (`that p@DRUG$(1 mg/kg)`): 85 rows of its files, kept as they are."""


def convert(files: Files) -> dict[str, bytes]:
    """`DDICorpus-2013.zip` -> `train.tsv`, `dev.tsv`, `test.tsv`."""
    path = given(files, ARCHIVE)
    rows: dict[str, list[str]] = {}
    members = zip_members(path, lambda n: n.startswith(FOLDERS) and n.endswith(".xml"))
    for name, raw in members.items():
        document = xml_root(path / name, raw)
        identifier = _get(path / name, document, "id")
        if identifier in rows:
            raise DataError(path / name, f"is a second document {identifier}")
        rows[identifier] = list(_rows(path / name, document))
    parts = {
        part: [PREFIXES[short[0]] + short[1:] for short in ids]
        for part, ids in split_lists("ddi").items()
    }
    wanted = {identifier for ids in parts.values() for identifier in ids}
    if missing := sorted(wanted - rows.keys()):
        raise DataError(path, f"lacks {len(missing)} documents, among them {missing[0]}")
    if extra := sorted(i for i, found in rows.items() if found and i not in wanted):
        raise DataError(path, f"has {len(extra)} documents in no part of the split: {extra[0]}")
    return {
        f"{part}.tsv": "".join(row for i in ids for row in rows[i]).encode()
        for part, ids in parts.items()
    }


def _rows(where: Path, document: Element) -> Iterator[str]:
    """Rows of one document, in its own order."""
    for sentence in document.iter("sentence"):
        text = _get(where, sentence, "text")
        spans = {
            _get(where, entity, "id"): _span(where, entity, text)
            for entity in sentence.iter("entity")
        }
        if _get(where, sentence, "id") in SHIFTED:
            title = text.find("] ")
            text = text.replace("] ", "];", 1)
            spans = {k: (a + (a > title), b + (b > title)) for k, (a, b) in spans.items()}
        for pair in sentence.iter("pair"):
            identifier = _get(where, pair, "id")
            names = [_get(where, pair, key) for key in ("e1", "e2")]
            if unknown := [name for name in names if name not in spans]:
                raise DataError(where, f"{identifier} names an unknown entity {unknown[0]!r}")
            # of two that begin together, e1 stays first
            first, second = sorted((spans[name] for name in names), key=lambda span: span[0])
            shown = masked(text, first, second, ("@DRUG$", "@DRUG$"), "@DRUG-DRUG$")
            yield f"{identifier}\t{one_line(shown)}\tDDI-{_label(where, pair, identifier)}\n"


def _label(where: Path, pair: Element, identifier: str) -> str:
    if identifier in ERRATA:
        return ERRATA[identifier]
    interacts = _get(where, pair, "ddi")
    if interacts == "false":
        return "false"
    kind = pair.get("type")
    if interacts != "true" or kind not in LABELS:
        raise DataError(where, f"{identifier} has ddi={interacts!r} type={kind!r}")
    return kind


def _span(where: Path, entity: Element, text: str) -> tuple[int, int]:
    """First and last character (exclusive) of `0-4` or `0-4;9-12`."""
    offsets = _get(where, entity, "charOffset")
    if not re.fullmatch(r"\d+-\d+(?:;\d+-\d+)*", offsets):
        raise DataError(where, f"{entity.get('id')} has charOffset {offsets!r}, not like 3-10")
    numbers = re.findall(r"\d+", offsets)
    start, end = int(numbers[0]), int(numbers[-1]) + 1
    if not start < end <= len(text):
        raise DataError(where, f"{entity.get('id')} is at {offsets}, outside its sentence")
    return start, end


def _get(where: Path, element: Element, attribute: str) -> str:
    value = element.get(attribute)
    if value is None:
        raise DataError(where, f"a <{element.tag}> has no attribute {attribute!r}")
    return value
