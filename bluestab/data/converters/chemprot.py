"""ChemProt (BioCreative VI) -> one row per chemical and gene of a sentence, BLURB's form.

`id<TAB>sentence<TAB>label` without header; id = `PMID.T1.T2`, T1 beginning first; the pair is
replaced by @CHEMICAL$ and @GENE$, or @CHEM-GENE$ where the two overlap; labels CPR:3, CPR:4, CPR:5,
CPR:6, CPR:9, and false for everything else (Gu et al. 2021, section 3.2). Checked: same bytes as
BLURB's files.

BLURB split sentences with the English model of NLTK's Punkt (Kiss & Strunk 2006), learnt from
newspapers. `_ends` restates its decisions for these abstracts: its lists are the words that make a
difference here, strange ones included (Wisconsin, the Doctor, Alabama), and no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.converters.originals import (
    Files,
    given,
    masked,
    one_line,
    table,
    tar_members,
    whole,
)
from bluestab.data.readers import lines_of

ARCHIVE = "ChemProt_Corpus.tar.gz"
PARTS = {
    "train": "chemprot_training/chemprot_training_{}.tsv",
    "dev": "chemprot_development/chemprot_development_{}.tsv",
    "test": "chemprot_test_gs/chemprot_test_{}_gs.tsv",
}
LABELS = {"CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9"}


def convert(files: Files) -> dict[str, bytes]:
    """`ChemProt_Corpus.tar.gz` -> `train.tsv`, `dev.tsv`, `test.tsv`."""
    path = given(files, ARCHIVE)
    members = tar_members(path, lambda name: name.endswith(".tsv"))
    return {
        f"{part}.tsv": "".join(_rows(path, members, pattern)).encode()
        for part, pattern in PARTS.items()
    }


@dataclass(frozen=True)
class Mention:
    """A mention, `start` to `end` (exclusive) in the text of its abstract."""

    name: str
    chemical: bool
    start: int
    end: int


def _rows(path: Path, members: dict[str, bytes], pattern: str) -> Iterator[str]:
    """Rows of one part, in the order of abstracts, sentences, chemicals, genes."""

    def member(kind: str) -> tuple[Path, bytes]:
        name = pattern.format(kind)
        if name not in members:
            raise DataError(path, f"has no member {name}")
        return path / name, members[name]

    texts = _texts(*member("abstracts"))
    entities = _entities(*member("entities"), texts)
    labels = _labels(*member("relations"), entities)
    for pmid, text in texts.items():
        mentions = entities[pmid].values()
        for start, end in _sentences(text):
            inside = [e for e in mentions if start <= e.start and e.end <= end]
            for chemical in (e for e in inside if e.chemical):
                for gene in (e for e in inside if not e.chemical):
                    pair = (chemical, gene) if chemical.start < gene.start else (gene, chemical)
                    label = labels.get((pmid, chemical.name, gene.name), "false")
                    sentence = one_line(_masked(text[start:end], start, *pair))
                    yield f"{pmid}.{pair[0].name}.{pair[1].name}\t{sentence}\t{label}\n"


def _masked(sentence: str, offset: int, first: Mention, second: Mention) -> str:
    spans = [(e.start - offset, e.end - offset) for e in (first, second)]
    first_name, second_name = ("@CHEMICAL$" if e.chemical else "@GENE$" for e in (first, second))
    return masked(sentence, spans[0], spans[1], (first_name, second_name), "@CHEM-GENE$")


def _texts(where: Path, raw: bytes) -> dict[str, str]:
    """PMID -> title, tab, abstract: what the offsets of the entities count in."""
    texts: dict[str, str] = {}
    for number, line in lines_of(where, raw):
        if not line.strip():
            continue
        pmid, tab, text = line.partition("\t")
        if not tab or "\t" not in text:
            raise DataError(where, "expected PMID, title and abstract, separated by tabs", number)
        if pmid in texts:
            raise DataError(where, f"has a second abstract {pmid}", number)
        texts[pmid] = text
    return texts


def _entities(where: Path, raw: bytes, texts: dict[str, str]) -> dict[str, dict[str, Mention]]:
    """PMID -> name -> entity, in the order of the file."""
    found: dict[str, dict[str, Mention]] = {pmid: {} for pmid in texts}
    columns = ("abstract", "entity", "type", "start", "end", "text")
    for number, row in table(where, raw, columns):
        pmid, name = row["abstract"], row["entity"]
        if pmid not in texts:
            raise DataError(where, f"names an unknown abstract {pmid!r}", number)
        if name in found[pmid]:
            raise DataError(where, f"has a second entity {name} in {pmid}", number)
        start, end = (whole(where, row[c], f"the {c}", number) for c in ("start", "end"))
        if texts[pmid][start:end] != row["text"]:
            there = texts[pmid][start:end]
            raise DataError(where, f"{row['text']!r} is not at {start}-{end}, {there!r} is", number)
        if row["type"] not in ("CHEMICAL", "GENE-Y", "GENE-N"):
            raise DataError(where, f"has an unknown type {row['type']!r}", number)
        found[pmid][name] = Mention(name, row["type"] == "CHEMICAL", start, end)
    return found


def _labels(
    where: Path, raw: bytes, entities: dict[str, dict[str, Mention]]
) -> dict[tuple[str, str, str], str]:
    """(PMID, chemical, gene) -> label. A pair that is listed twice has its last label."""
    labels: dict[tuple[str, str, str], str] = {}
    columns = ("abstract", "group", "evaluated", "relation", "first", "second")
    for number, row in table(where, raw, columns):
        known = entities.get(row["abstract"])
        if known is None:
            raise DataError(where, f"names an unknown abstract {row['abstract']!r}", number)
        pair = [row[c].strip().partition(":")[2] for c in ("first", "second")]
        if unknown := [name for name in pair if name not in known]:
            raise DataError(where, f"names an unknown entity {unknown[0]!r}", number)
        # the chemical comes first in the corpus; nothing says it must
        chemical, gene = sorted(pair, key=lambda name: not known[name].chemical)
        label = row["group"] if row["group"] in LABELS else "false"
        labels[row["abstract"], chemical, gene] = label
    return labels


# --- sentences -------------------------------------------------------------------------------

STOP = re.compile(r"""\S*[.?!](?=[)";}\]*:@'({\[!?]|\s+(\S+))""")
WORD = re.compile(r"""[^\s)";}\]*:@'({\[!?`&#,]+$""")
CLOSING = re.compile(r"""["')\]}]+(?=\s)""")
NUMBER = re.compile(r"-?[\d.,]*\d[\d.,]*")

ABBREVIATIONS = {
    *("vs", "st", "dr", "ms", "mg", "ltd", "cie", "u.s", "s.c", "j.c", "m.b.a"),
    *("pa", "ala", "wis", "ct"),
}
LETTERS = set("cdghklmprsv")  # abbreviations too: no sentence ends after them
OPENERS = {  # begin a sentence after any other letter, being known in lower case
    *("A", "Also", "CONCLUSIONS", "However", "In", "It", "Only", "Protein", "Recent", "The"),
    *("These", "When", "wt"),
}


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the sentences; the tab between title and abstract ends one always."""
    start = 0
    for end, following in [*_ends(text), (len(text), len(text))]:
        closing = CLOSING.match(text, following) if following < len(text) else None
        if closing:  # quotation marks and brackets belong to the sentence before
            end = closing.end()
            following = end + len(text[end:]) - len(text[end:].lstrip())
        for part in re.finditer(r"[^\t]+", text[start:end]):
            yield start + part.start(), start + part.end()
        start = following


def _ends(text: str) -> Iterator[tuple[int, int]]:
    """(end of a sentence, start of the next): at `.`, `?`, `!` before a blank, quote or bracket.

    Not after an abbreviation, unless `This` follows; not after another single letter, unless an
    opener follows; not after a number before a lower-case word.
    """
    for stop in STOP.finditer(text):
        following = stop.group(1) or ""
        word = WORD.search(stop.group())
        if word and word.group().endswith("."):
            name = word.group()[:-1].lower()
            forms = {name, name.rpartition("-")[2]}
            if (
                (forms & ABBREVIATIONS and following != "This")
                or forms & LETTERS
                or (_is_letter(name) and following[:1].isalpha() and not _opens(following))
                or (NUMBER.fullmatch(name) and following[:1].islower())
            ):
                continue
        yield stop.end(), stop.start(1) if following else stop.end()


def _is_letter(word: str) -> bool:
    return len(word) == 1 and word.isalpha()


def _opens(word: str) -> bool:
    return word.rstrip(".,") in OPENERS
