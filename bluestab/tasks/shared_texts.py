"""Which items belong together because they show the same text, or come from one document.

Items whose text is another's question, or another's sentence with other names masked, are no fresh
items for a model that was trained on those: parts that are drawn keep them on one side.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bluestab.core.types import Example

MASKED = "@"
"""Stands for a masked name among words."""

MASK = re.compile(
    r"@\w[\w-]*\$"  # BLURB: @GENE$, @DRUG$, @DRUG-DRUG$
    r"|\[MASK\]|<mask>"
    r"|\b(?:DRUG|PROT(?:EIN)?|GENE|CHEM(?:ICAL)?|DISEASE|ENTITY|ENT|SUBJ(?:ECT)?|OBJ(?:ECT)?)"
    r"[-_]?(?:\d{1,2}|OTHER)\b"  # DRUG1, DRUG_OTHER, ENTITY2
)
MARKER = re.compile(r"(?<!<)</?[A-Za-z][\w:-]{0,20}\s*/?>(?!>)")
"""Around a name that stands where it stood: <e1>aspirin</e1>."""
BRACKETS = re.compile(r"\[/?[A-Za-z]\w{0,20}\]")
"""The same as [E1]aspirin[/E1]; only where one is closed."""
WORD = re.compile(rf"{MASKED}|\w+")

FEWEST = 6
"""Words with letters below which a text without labels says nothing (`METHODS :`, `2 . 1`)."""

TEMPLATE = 0.1
"""Share of all items above which one side of a pair is no text of theirs but a question that is
asked of all of them."""

PMID = re.compile(r"(?:PM(?:ID|C))?[:_-]?(\d{5,9})[._:-]\S+", re.IGNORECASE)
"""Ids such as 10047461.T7.T39: the PubMed id of the abstract, and what in it is meant."""

PART = re.compile(
    r"[._:/#-](?:s|sent|sentence|p|pair|i|r|rel|relation|e|t|line|para|chunk|seg|snippet|window)"
    r"[._-]?\d+$",
    re.IGNORECASE,
)
"""The last part of ids such as DDI-DrugBank.d700.s0.p1 (DDI, AIMed, BioInfer, HPRD50, IEPA, LLL)
or doc12_sent3."""


@dataclass(frozen=True)
class Together:
    """Number of the group of each item, and what a person should know of how they were made.

    documents  of each item, None where nothing names it
    templates  texts that so many items share that they join none
    """

    groups: Sequence[int]
    documents: Sequence[str | None]
    templates: Sequence[str] = ()


def together(items: Sequence[Example]) -> Together:
    """Groups of items that share a document, a text (either side of a pair), or, where no document
    is known, the sentence behind a mask.

    (Sentences of two known documents are not compared behind their masks: in lists of names they
    are alike by chance, and such joins add up to one group of half of the DDI corpus.)
    """
    documents = documents_of(items)
    sides = [texts_of(e) for e in items]
    templates = _templates(sides)
    keys: list[list[Hashable]] = []
    for own, document in zip(sides, documents, strict=True):
        its = _keys(own, templates)
        keys.append(its if document is None else [*its, ("document", document)])
    edges = list(_edges(keys))
    groups = _components(len(items), edges)
    alone = [own if d is None else [] for own, d in zip(sides, documents, strict=True)]
    edges += _behind_masks(alone, groups)
    return Together(_components(len(items), edges), documents, sorted(templates))


def n_sharing(earlier: Sequence[Example], later: Sequence[Example]) -> int:
    """How many of the later items share a text, either side of a pair, with an earlier one."""
    before, after = ([texts_of(e) for e in part] for part in (earlier, later))
    templates = _templates([*before, *after])
    known = {key for own in before for key in _keys(own, templates)}
    return sum(any(key in known for key in _keys(own, templates)) for own in after)


def _templates(sides: Sequence[Sequence[str]]) -> set[str]:
    counts = Counter(text for own in sides for text in set(own) if len(own) > 1)
    return {text for text, n in counts.items() if n > max(5, TEMPLATE * len(sides))}


def _keys(own: Sequence[str], templates: Collection[str]) -> list[Hashable]:
    """What joins an item to others: all of it, and each text that is no template."""
    sides: list[Hashable] = [(text,) for text in own if text not in templates]
    return [*sides, ("whole", *own)] if own else []


def texts_of(e: Example) -> list[str]:
    """The texts of an item, without case, punctuation and marks around names; none that is too
    short to say anything and has no label."""
    first = e.text if isinstance(e.text, str) else " ".join(e.text)
    found = [normal(side) for side in (first, e.text_pair) if side is not None]
    if len(found) == 1 and not has_label(e) and _n_words(found[0]) < FEWEST:
        return []
    return found


def has_label(e: Example) -> bool:
    """Something is to be found in it: of words a tag, of several labels one."""
    if isinstance(e.target, tuple):
        return any(tag != "O" for tag in e.target)
    return True


def normal(text: str) -> str:
    """Words in small letters, one blank apart, masked names as `MASKED`; of a text without words
    itself."""
    plain = MASK.sub(f" {MASKED} ", text.replace(MASKED, " ") if "$" not in text else text)
    plain = MARKER.sub(" ", plain)
    if "[/" in plain:
        plain = BRACKETS.sub(" ", plain)
    words = " ".join(WORD.findall(plain.casefold()))
    return words or " ".join(text.split())


def documents_of(items: Sequence[Example]) -> list[str | None]:
    """What each item is part of: its group, else what its name says. A name that all share is that
    of the corpus."""
    found = [_by_name(e) if e.group is None else e.group for e in items]
    of_all = len(items) > 1 and len(set(found)) == 1 and all(e.group is None for e in items)
    return [None] * len(items) if of_all else found


def _by_name(e: Example) -> str | None:
    name = e.id.rpartition("/")[2]
    if match := PMID.fullmatch(name):
        return match[1]
    rest = name
    while match := PART.search(rest):
        rest = rest[: match.start()]
    return rest if rest and rest != name else None


def _n_words(text: str) -> int:
    return sum(any(c.isalpha() for c in word) for word in text.split())


def _edges(keys: Sequence[Sequence[Hashable]]) -> Iterator[tuple[int, int]]:
    first: dict[Hashable, int] = {}
    for i, own in enumerate(keys):
        for key in own:
            if (other := first.setdefault(key, i)) != i:
                yield other, i


def _components(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    found: list[int] = connected_components(graph, directed=False)[1].tolist()
    return found


# --- the sentence behind a mask ------------------------------------------------------------------

RUN = 3
"""Words in a row by which sentences are looked up that may be one."""
RAREST = 8
"""Of a sentence's runs, so many of the rarest are looked up."""
MOST = 20
"""Sentences that are compared with one another for sharing a run."""
LONGEST_NAME = 8
"""Words that one mask may stand for."""


def _behind_masks(
    sides: Sequence[Sequence[str]], groups: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Pairs of items whose texts are one sentence but for what is masked in them."""
    texts: dict[str, int] = {}
    for i, own in enumerate(sides):
        for text in own:
            texts.setdefault(text, i)
    if not any(MASKED in text for text in texts):
        return
    words = {text: text.split() for text in texts}
    runs = {text: _runs(words[text]) for text in texts}
    counts = Counter(run for own in runs.values() for run in own)
    seen: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for text in sorted(texts):  # what is found must not depend on the order of the file
        i = texts[text]
        compared = {groups[i]}
        for run in sorted(runs[text], key=lambda r: (counts[r], r))[:RAREST]:
            if counts[run] < 2:
                continue
            for other in seen[run]:
                j = texts[other]
                if groups[j] in compared or (MASKED not in text and MASKED not in other):
                    continue
                compared.add(groups[j])
                if one_sentence(words[text], words[other]):
                    yield j, i
        for run in runs[text]:
            if counts[run] > 1 and len(seen[run]) < MOST:
                seen[run].append(text)


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    runs = (tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1))
    return {run for run in runs if MASKED not in run}


def one_sentence(one: Sequence[str], other: Sequence[str]) -> bool:
    """Are two texts the same wherever neither has a mask?"""
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    alike = 0
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        mine, theirs = one[i:i_end], other[j:j_end]
        if kind == "equal":
            alike += sum(word != MASKED for word in mine)
        elif MASKED not in (*mine, *theirs) or max(len(mine), len(theirs)) > LONGEST_NAME:
            return False
    shorter = min(sum(word != MASKED for word in text) for text in (one, other))
    return alike >= max(3, shorter // 2)
