"""Linking without a network: names that are spelt like a mention.

exact    the concept that has the mention among its names, but for case and blanks
n-grams  TF-IDF of character n-grams (2 to 4, inside words) by scikit-learn, cosine similarity

Both stand beside trained networks as what these must beat; n-grams also choose their hard
negatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bluestab.core.caching import Shared
from bluestab.data.dictionary import Dictionary, folded
from bluestab.tasks.nearest import AT_ONCE, first_names, nearest_concepts, top

MOST_TRIED = 256
"""Names like a mention that are looked through for hard negatives."""


class StringMatcher:
    """The names of a dictionary, made ready to be looked up."""

    def __init__(self, dictionary: Dictionary) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.dictionary = dictionary
        self.names = [name for own in dictionary.names for name in own]
        self.starts = first_names(dictionary.names)
        self.owners = np.repeat(np.arange(len(dictionary.ids)), [len(o) for o in dictionary.names])
        self._exact: dict[str, int] = {}
        for name, owner in zip(self.names, self.owners.tolist(), strict=True):
            self._exact.setdefault(folded(name), owner)
        self._vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), dtype=np.float32)
        self._of_names = self._vectors.fit_transform(self.names).T.tocsr()  # (V, names)

    def exact(self, mentions: Sequence[str]) -> list[list[str]]:
        """Of each mention the id of the concept that has this name, or nothing."""
        found = (self._exact.get(folded(mention)) for mention in mentions)
        return [[] if at is None else [self.dictionary.ids[at]] for at in found]

    def n_grams(self, mentions: Sequence[str]) -> list[list[str]]:
        """Of each mention the ids of the concepts with the most similar names, the best first."""
        texts = list(dict.fromkeys(mentions))
        ranked = nearest_concepts(self._similar(texts), len(texts), self.starts, len(self.names))
        ids = self.dictionary.ids
        known = {t: [ids[i] for i in best] for t, (best, _) in zip(texts, ranked, strict=True)}
        return [known[mention] for mention in mentions]

    def negatives(self, mentions: Sequence[str], right: Sequence[int], n: int) -> list[list[int]]:
        """Of each mention `n` names of as many other concepts than the right one, the most similar
        first; fewer only where there are no more concepts."""
        n = min(n, len(self.dictionary.ids) - 1)
        texts = list(dict.fromkeys(mentions))
        similar = self._similar(texts)
        step = max(1, AT_ONCE // len(self.names))
        known: dict[str, np.ndarray] = {}
        for begin in range(0, len(texts), step):
            part = slice(begin, min(begin + step, len(texts)))
            rows = similar(part)
            known |= {t: top(r, MOST_TRIED) for t, r in zip(texts[part], rows, strict=True)}
        return [
            self._others(known[text], own, n) for text, own in zip(mentions, right, strict=True)
        ]

    def _others(self, names: np.ndarray, right: int, n: int) -> list[int]:
        """The first name of each of n concepts: of those of `names`, then of any."""
        found: dict[int, int] = {}
        owners = self.owners[names].tolist()
        anybody = zip(range(len(self.starts)), self.starts.tolist(), strict=True)
        for owner, name in [*zip(owners, names.tolist(), strict=True), *anybody]:
            if len(found) == n:
                break
            if owner != right:
                found.setdefault(owner, name)
        return list(found.values())

    def _similar(self, texts: Sequence[str]) -> Any:
        vectors: Any = self._vectors.transform(texts) if texts else None
        return lambda part: (vectors[part] @ self._of_names).toarray()


def matcher(dictionary: Dictionary, content: str) -> StringMatcher:
    """The matcher of a dictionary, made once per content."""
    return _matcher(Shared(content, dictionary))


@lru_cache(maxsize=2)
def _matcher(shared: Shared) -> StringMatcher:
    return StringMatcher(shared.values[0])


def baselines(found: StringMatcher, mentions: Sequence[str]) -> Mapping[str, list[list[str]]]:
    """Name of the baseline -> ids ranked for each mention."""
    return {
        "exact string match": found.exact(mentions),
        "character n-grams (TF-IDF)": found.n_grams(mentions),
    }
