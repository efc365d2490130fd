"""PubTator abstracts -> sentences of tokens with IOB2 tags, as MTL-Bioinformatics-2016 has them.

That collection (Crichton et al. 2017), which BLURB uses, was made with standoff2conll. Its rules,
found from its output and restated here:

* documents stand in the order of their ids, compared as text, each id once;
* a token is a run of ASCII letters and digits, or any other single character that is not blank;
* a title is split from its abstract; each is split at blanks after `.`, `!` or `?` (`_ends`);
* a token that shares a character with a mention carries its tag. A sentence end inside a mention
  cuts it in two: the second half begins with B- again.

Checked on BC5CDR (1500 abstracts) and NCBI-disease (792): same bytes in all nine files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.converters.originals import whole
from bluestab.data.readers import read_lines

TOKEN = re.compile(r"[0-9A-Za-z]+|[^0-9A-Za-z\s]")


@dataclass
class PubTatorDocument:
    """One abstract; `mentions` are (start, end exclusive, type) in title + blank + abstract."""

    pmid: str
    title: str
    abstract: str | None = None
    mentions: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return f"{self.title} {self.abstract}"


def read_pubtator(path: Path) -> list[PubTatorDocument]:
    """Documents of a file: `PMID|t|title`, `PMID|a|abstract`, then tab-separated mentions.

    Relations (a word in place of the first offset) are passed over. Raises DataError for a row that
    belongs to no document, and for a mention that is not where it says.
    """
    documents: list[PubTatorDocument] = []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        current = documents[-1] if documents else None
        if heading := re.match(r"(\d+)\|([ta])\|", line):
            pmid, kind = heading.groups()
            content = line[heading.end() :]
            if kind == "t":
                documents.append(PubTatorDocument(pmid, content))
            elif current is None or current.pmid != pmid or current.abstract is not None:
                raise DataError(path, f"the abstract of {pmid} does not follow its title", number)
            else:
                current.abstract = content
            continue
        fields = line.split("\t")
        if current is None or fields[0] != current.pmid or current.abstract is None:
            raise DataError(path, f"{line!r} belongs to no abstract", number)
        if len(fields) == 4 and fields[1].isalpha():
            continue
        if len(fields) < 5:
            raise DataError(path, f"expected id, start, end, text and type, found {line!r}", number)
        start, end = (whole(path, f, "an offset", number) for f in fields[1:3])
        # one mention of NCBI-disease has stray blanks in this column
        if not fields[3].strip() or current.text[start:end].strip() != fields[3].strip():
            found = current.text[start:end]
            raise DataError(path, f"{fields[3]!r} is not at {start}-{end}, {found!r} is", number)
        current.mentions.append((start, end, fields[4]))
    if not documents:
        raise DataError(path, "holds no abstract")
    if incomplete := [d.pmid for d in documents if d.abstract is None]:
        raise DataError(path, f"has a title but no abstract for {', '.join(incomplete)}")
    return documents


def conll(path: Path, name: str, only: str | None = None) -> bytes:
    """A PubTator file as CoNLL: `token<TAB>tag`, an empty line after each sentence.

    Tags are B-`name`, I-`name`, O. `only` keeps the mentions of one type; without it all types
    count as one.
    """
    rows: list[str] = []
    # a file may list an abstract twice (NCBI-disease, PMID 8528200): the first counts
    documents = {d.pmid: d for d in reversed(read_pubtator(path))}
    for _, document in sorted(documents.items()):
        text = document.text
        owner: list[int | None] = [None] * len(text)
        for index, (start, end, kind) in enumerate(document.mentions):
            if only in (None, kind):
                owner[start:end] = [index] * (end - start)
        for start, end in _sentences(document):
            before = None
            for token in TOKEN.finditer(text, start, end):
                mention = next(
                    (o for o in owner[token.start() : token.end()] if o is not None), None
                )
                tag = "O" if mention is None else f"{'I' if mention == before else 'B'}-{name}"
                rows.append(f"{token.group()}\t{tag}\n")
                before = mention
            rows.append("\n")
    return "".join(rows).encode()


def _sentences(document: PubTatorDocument) -> Iterator[tuple[int, int]]:
    """Spans of the sentences with at least one token, in `document.text`."""
    offset = 0
    for part in (document.title, document.abstract or ""):
        start = 0
        for end in [*_ends(part), len(part)]:
            if part[start:end].strip():
                yield offset + start, offset + end
            start = end
        offset += len(part) + 1


BLANK = re.compile(r"(?<=[.!?])\s(?=\S)")
BRACKET = re.compile(r"[()\[\]]")
FAR = 250
"""Characters. Brackets farther apart that hold other brackets are taken for strays."""

LOWER = re.compile(r"[a-z]{2,}[a-z-]*[ .:,;]")
INITIAL = re.compile(r"\b(?:[A-Z]\.|[A-Z][a-z]{3,}) [A-Z]\.$")
SURNAME = re.compile(r"[A-Z][a-z]{3,}\b")
ABBREVIATION = re.compile(r"\b(?:e\. ?g|i\. ?e|i\. ?v|vs|cf|Dr|Mr|Mrs|Ms)\.$")
HALF = re.compile(r"\b[ei]\.$")  # of e. g., i. e., i. v.
NUMBERED = re.compile(r"\b(?:[Aa]pprox|[Nn]o)\.$")


def _ends(text: str) -> Iterator[int]:
    """Where sentences end: at blanks after `.`, `!`, `?`, except

    inside brackets; before a lower-case word; after initials before a surname; after an
    abbreviation; after `No.` before a digit; after a mark that stands alone.
    """
    pairs = list(_brackets(text))
    start = 0
    for blank in BLANK.finditer(text):
        end = blank.start()
        before, after = text[start:end], text[end + 1 :]
        goes_on = (
            len(before.strip()) < 2
            or any(_encloses(text, pair, end) for pair in pairs)
            or (before.endswith(".") and LOWER.match(after))
            or (INITIAL.search(before) and SURNAME.match(after))
            or ABBREVIATION.search(before)
            or (HALF.search(before) and re.match(r"[egv]\.", after))
            or (NUMBERED.search(before) and after[0].isdigit())
        )
        if not goes_on:
            yield end
            start = end


def _brackets(text: str) -> Iterator[tuple[int, int]]:
    """(opening, closing) of the matched round and square brackets."""
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for mark in BRACKET.finditer(text):
        if mark.group() in opened:
            opened[mark.group()].append(mark.start())
        elif waiting := opened["(" if mark.group() == ")" else "["]:
            yield waiting.pop(), mark.start()


def _encloses(text: str, pair: tuple[int, int], at: int) -> bool:
    """Is the position inside this pair of brackets, and are they near enough to be trusted?"""
    opening, closing = pair
    if not opening < at < closing:
        return False
    if not BRACKET.search(text, opening + 1, closing):
        return True
    # an inner pair of the same kind counts as one character
    inner = re.compile(r"\([^()]*\)" if text[opening] == "(" else r"\[[^\[\]]*\]")
    sides = (text[opening + 1 : at], text[at + 1 : closing])
    return all(len(inner.sub(".", side)) <= FAR for side in sides)
