"""Hallmarks of Cancer (Baker et al. 2016) -> one row per sentence, BLURB's form.

Header `labels<TAB>sentence<TAB>index`; labels = `0_x,...,9_x`, x in 0/1, in the order of
`HALLMARKS`; index = `PMID_s<number>`. Only the first level of a label counts. BLURB classifies
documents: the union over the sentences of a PMID. The split is BLURB's, from BLUE
(`splits/hoc.txt`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bluestab.core.errors import DataError, did_you_mean
from bluestab.data.converters.originals import Files, given, one_line, split_lists, zip_members
from bluestab.data.readers import lines_of

ARCHIVE = "Hallmarks-of-Cancer.zip"
HALLMARKS = (
    "activating invasion and metastasis",
    "avoiding immune destruction",
    "cellular energetics",
    "enabling replicative immortality",
    "evading growth suppressors",
    "genomic instability and mutation",
    "inducing angiogenesis",
    "resisting cell death",
    "sustaining proliferative signaling",
    "tumor promoting inflammation",
)


def convert(files: Files) -> dict[str, bytes]:
    """`Hallmarks-of-Cancer.zip`, the authors' repository -> `train.tsv`, `dev.tsv`, `test.tsv`.

    The archive holds `text/<PMID>.txt` and `labels/<PMID>.txt` in one folder of any name.
    """
    path = given(files, ARCHIVE)
    found = zip_members(path, lambda name: name.endswith(".txt") and name.count("/") == 2)
    members = {name.partition("/")[2]: (path / name, raw) for name, raw in found.items()}
    converted: dict[str, bytes] = {}
    for part, pmids in split_lists("hoc").items():
        rows = ["labels\tsentence\tindex\n"]
        for pmid in pmids:
            rows += _rows(path, members, pmid)
        converted[f"{part}.tsv"] = "".join(rows).encode()
    return converted


def _rows(path: Path, members: dict[str, tuple[Path, bytes]], pmid: str) -> Iterator[str]:
    """Rows of one abstract, in its order."""
    for name in (f"text/{pmid}.txt", f"labels/{pmid}.txt"):
        if name not in members:
            raise DataError(path, f"has no member {name}")
    where, raw = members[f"text/{pmid}.txt"]
    sentences = [one_line(line).strip() for _, line in lines_of(where, raw)]
    if sentences[-1] == "":  # after the last line end
        sentences.pop()
    labels_where, labels_raw = members[f"labels/{pmid}.txt"]
    labels = _labels(labels_where, labels_raw)
    # labels beyond the last sentence belong to nothing, BLURB passes over them too
    if not sentences or len(labels) < len(sentences):
        raise DataError(
            labels_where, f"has labels for {len(labels)} sentences, the text has {len(sentences)}"
        )
    for number, (sentence, on) in enumerate(zip(sentences, labels, strict=False)):
        flags = ",".join(f"{i}_{int(i in on)}" for i in range(len(HALLMARKS)))
        yield f"{flags}\t{sentence}\t{pmid}_s{number}\n"


def _labels(where: Path, raw: bytes) -> list[set[int]]:
    """Hallmarks of each sentence: `<` before a sentence's labels, `AND` between two of them.

    A label is `Hallmark--detail--detail`; blank or NULL is none.
    """
    sentences: list[set[int]] = []
    _, text = next(lines_of(where, raw))
    for sentence in text.split("<")[1:]:
        on: set[int] = set()
        for label in sentence.split("AND"):
            name = label.partition("--")[0].strip().lower()
            if name in ("", "null"):
                continue
            if name not in HALLMARKS:
                raise DataError(
                    where, f"unknown hallmark {name!r}" + did_you_mean(name, HALLMARKS), 1
                )
            on.add(HALLMARKS.index(name))
        sentences.append(on)
    return sentences
