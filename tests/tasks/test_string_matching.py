"""Links by spelling alone."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from bluestab.data.dictionary import Dictionary
from bluestab.tasks.string_matching import StringMatcher, baselines

NAMES = (
    ("Colon cancer", "cancer of the colon"),
    ("Colonic polyps", "polyps"),
    ("Breast cancer",),
    ("Pain", "ache"),
)
IDS = ("D0", "D1", "D2", "D3")
MATCHER = StringMatcher(Dictionary(IDS, NAMES, {i: n for n, i in enumerate(IDS)}))


def test_exact_is_but_for_case_and_blanks() -> None:
    found = MATCHER.exact(["CANCER of  the colon", "ache", "cancer"])
    assert found == [["D0"], ["D3"], []]


def test_n_grams_are_those_of_a_loop() -> None:
    flat = [name for own in NAMES for name in own]
    owners = [n for n, own in enumerate(NAMES) for _ in own]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit(flat)
    rows = vectors.transform(flat).toarray()
    for mention in ("colon cancers", "painful polyp", "colon cancers"):
        cosines = rows @ vectors.transform([mention]).toarray()[0]
        best = [max(c for c, o in zip(cosines, owners, strict=True) if o == n) for n in range(4)]
        expected = [IDS[n] for n in np.argsort(-np.array(best), kind="stable")]
        assert MATCHER.n_grams([mention]) == [expected]
    assert MATCHER.n_grams([]) == []


def test_negatives_are_names_of_other_concepts_the_most_similar_first() -> None:
    flat = [name for own in NAMES for name in own]
    (found,) = MATCHER.negatives(["colon cancer"], [0], 2)
    assert [flat[i] for i in found] == ["Breast cancer", "Colonic polyps"]
    (all_others,) = MATCHER.negatives(["colon cancer"], [0], 64)
    assert sorted(MATCHER.owners[all_others].tolist()) == [1, 2, 3]


def test_both_are_named() -> None:
    assert set(baselines(MATCHER, ["ache"])) == {"exact string match", "character n-grams (TF-IDF)"}
