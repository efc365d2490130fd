"""BIOSSES (Sogancioglu et al. 2017) -> pairs of sentences with their mean score, BLURB's split.

Header `pair_id<TAB>sent1<TAB>sent2<TAB>score`; score = mean of five annotators, 0 (unrelated) to 4
(equivalent). The split is that of BLUE (Peng et al. 2019). Checked: same bytes as BLURB's files.
"""

from __future__ import annotations

from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.converters.originals import Files, given, table, whole
from bluestab.data.readers import read_bytes

FILE = "annotation_pairs_scores.tsv"
ANNOTATORS = tuple(f"annotator_{letter}" for letter in "abcde")
COLUMNS = ("sentence_id", "sentence_1", "sentence_2", *ANNOTATORS)

PARTS = {
    "train": "78 45 35 50 27 13 87 1 58 99 55 74 66 39 44 18 84 76 19 10 75 46 15 86 60 14 51 79 29"
    " 34 94 28 62 42 21 30 11 53 6 12 26 48 31 32 77 37 95 85 36 56 43 61 16 5 67 65 54 3 73 98 17"
    " 4 92 93",
    "dev": "88 82 8 63 47 68 40 90 100 24 41 91 80 9 72 2",
    "test": "59 96 70 22 81 38 57 23 33 89 69 49 7 71 97 25 83 64 52 20",
}

BLANKS = {
    **{pair: [("  ", " \u00a0")] for pair in ("33", "48", "49", "51", "66", "67", "68", "89")},
    "79": [("lox   Sporadic", "lox \u00a0\u00a0Sporadic"), ("virus   GATA2", "virus  GATA2")],
}
"""Pair -> blanks as this table has them, and as the authors' own document has them."""


def convert(files: Files) -> dict[str, bytes]:
    """`annotation_pairs_scores.tsv` -> `train.tsv`, `dev.tsv`, `test.tsv`."""
    path = given(files, FILE)
    pairs = _pairs(path)
    converted: dict[str, bytes] = {}
    for part, ids in PARTS.items():
        if missing := [name for name in ids.split() if name not in pairs]:
            raise DataError(path, f"lacks the pairs {', '.join(missing)}")
        rows = ["pair_id\tsent1\tsent2\tscore\n", *(pairs[name] for name in ids.split())]
        converted[f"{part}.tsv"] = "".join(rows).encode()
    return converted


def _pairs(path: Path) -> dict[str, str]:
    """Pair -> its row."""
    pairs: dict[str, str] = {}
    for number, row in table(path, read_bytes(path), COLUMNS, header=True):
        name = row["sentence_id"]
        if name in pairs:
            raise DataError(path, f"has a second pair {name}", number)
        scores = [whole(path, row[a].strip(), a, number) for a in ANNOTATORS]
        if max(scores) > 4:
            raise DataError(path, f"has a score of {max(scores)}; they run from 0 to 4", number)
        sentences = [row[c].strip() for c in ("sentence_1", "sentence_2")]
        for there, proper in BLANKS.get(name, []):
            sentences = [sentence.replace(there, proper) for sentence in sentences]
        score = sum(scores) / len(scores)
        pairs[name] = "\t".join([name, *sentences, str(score)]) + "\n"
    return pairs
