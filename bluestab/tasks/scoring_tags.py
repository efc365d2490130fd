"""Scores of tags per word: entities and words, in IOB2. As `scoring`: pure, never NaN."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from bluestab.tasks.scoring import f1_of

Span = tuple[str, int, int]
"""(entity type, index of the first token, index after the last token)."""


def spans(tags: Sequence[str], *, lenient: bool = False) -> set[Span]:
    """Entities of one sentence tagged in IOB2: `O`, `B-type`, `I-type`, or bare `B`, `I` (type "").

    An `I` continues the entity before it if that one has the same type and ends just there. An `I`
    that continues nothing is no entity (the strict rule; seqeval's `mode="strict"`, `IOB2`), or
    opens one if `lenient` (the rule of the CoNLL-2000 script `conlleval`; seqeval's default).
    So `B-X I-Y I-X` holds (X, 0, 1) and, only if lenient, (Y, 1, 2) and (X, 2, 3).
    Raises ValueError for any other tag.
    """
    found: set[Span] = set()
    start: int | None = None
    kind = ""
    for i, tag in enumerate((*tags, "O")):
        prefix, tag_type = _tag_parts(i, tag)
        if prefix == "I" and start is not None and tag_type == kind:
            continue
        if start is not None:
            found.add((kind, start, i))
            start = None
        if prefix == "B" or (lenient and prefix == "I"):
            start, kind = i, tag_type
    return found


def entity_prf(
    predictions: Sequence[Sequence[str]],
    targets: Sequence[Sequence[str]],
    *,
    lenient: bool = False,
) -> dict[str, float]:
    """Micro `precision`, `recall` and `f1` in [0, 1] of entities over all sentences and types.

    An entity counts as found if type, start and end agree. 0/0 is 0.0 by definition: a model that
    tags nothing scores 0, the value that marks it as failed (seqeval gives the same 0, with an
    UndefinedMetricWarning). `lenient`: see `spans`.
    Raises ValueError if the two differ in length, naming the sentence (0-based).
    """
    n_right = n_predicted = n_true = 0
    for i, (predicted_tags, true_tags) in enumerate(_sentences(predictions, targets)):
        try:
            predicted = spans(predicted_tags, lenient=lenient)
            true = spans(true_tags, lenient=lenient)
        except ValueError as error:
            raise ValueError(f"sentence {i}, {error}") from error
        n_right += len(predicted & true)
        n_predicted += len(predicted)
        n_true += len(true)
    return _prf(n_right, n_predicted, n_true)


def word_prf(
    predictions: Sequence[Sequence[str]],
    targets: Sequence[Sequence[str]],
    types: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Type -> `precision`, `recall` and `f1` in [0, 1] of words, pooled over all sentences.

    A word counts as found if its type agrees; `B-` and `I-` are the same. 0/0 is 0.0, as in
    `entity_prf`. `types` fixes the keys and their order. Raises ValueError if the two differ in
    length, for a tag that is not IOB2 and for a type that is not in `types`, naming the sentence
    and the token (0-based); for empty `types`.
    """
    if not types:
        raise ValueError("no type is named: name at least one")
    counts = {kind: [0, 0, 0] for kind in types}  # right, predicted, true
    for i, pair in enumerate(_sentences(predictions, targets)):
        predicted, true = (_word_types(i, tags, counts) for tags in pair)
        for guess, truth in zip(predicted, true, strict=True):
            if guess is not None:
                counts[guess][1] += 1
                counts[guess][0] += guess == truth
            if truth is not None:
                counts[truth][2] += 1
    return {kind: _prf(*found) for kind, found in counts.items()}


def word_macro_f1(
    predictions: Sequence[Sequence[str]],
    targets: Sequence[Sequence[str]],
    types: Sequence[str],
) -> float:
    """Unweighted mean over `types` of the F1 of words, in [0, 1]: the BLURB score of EBM PICO.

    Gu et al. 2022, section 2.3: macro F1 at word level over the P, I and O elements. Equal to
    scikit-learn's `f1_score(labels=types, average="macro", zero_division=0)` over all words, and
    to seqeval's mean over types after every `I-` is made a `B-`, so that each word is an entity
    (what BioLinkBERT's code does). Only where a type is in neither predictions nor targets they
    part: here it counts as 0, so that the number of terms is the same for every seed; seqeval
    leaves it out. Raises ValueError as `word_prf`.
    """
    return float(np.mean([found["f1"] for found in word_prf(predictions, targets, types).values()]))


def word_accuracy(
    predictions: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]
) -> float | None:
    """Share of words with the right tag in [0, 1], pooled over sentences, `O` included; None if
    there are no words. Raises ValueError if sentences differ in number or length."""
    pairs = list(_sentences(predictions, targets))
    same = [p == t for pair in pairs for p, t in zip(*pair, strict=True)]
    return sum(same) / len(same) if same else None


def _prf(n_right: int, n_predicted: int, n_true: int) -> dict[str, float]:
    return {
        "precision": n_right / n_predicted if n_predicted else 0.0,
        "recall": n_right / n_true if n_true else 0.0,
        "f1": f1_of(n_right, n_predicted, n_true),
    }


def _tag_parts(i: int, tag: str) -> tuple[str, str]:
    """`B-X` -> (B, X); a bare `O`, `B` or `I` has type ""."""
    prefix, dash, kind = tag.partition("-")
    if (prefix, dash) != ("O", "") and (prefix not in ("B", "I") or bool(dash) != bool(kind)):
        raise ValueError(f"token {i}: {tag!r} is no IOB2 tag (O, B, I, B-type or I-type)")
    return prefix, kind


def _word_types(sentence: int, tags: Sequence[str], types: Collection[str]) -> list[str | None]:
    """The type of each word, None for `O`."""
    found: list[str | None] = []
    for i, tag in enumerate(tags):
        try:
            prefix, kind = _tag_parts(i, tag)
        except ValueError as error:
            raise ValueError(f"sentence {sentence}, {error}") from error
        if prefix != "O" and kind not in types:
            raise ValueError(
                f"sentence {sentence}, token {i}: {tag!r} is of none of the types {list(types)}"
            )
        found.append(None if prefix == "O" else kind)
    return found


def _sentences(
    predictions: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Pairs of equally long sentences. Raises ValueError where they are not."""
    if len(predictions) != len(targets):
        raise ValueError(f"{len(predictions)} predicted sentences, {len(targets)} targets")
    for i, (predicted, true) in enumerate(zip(predictions, targets, strict=True)):
        if len(predicted) != len(true):
            raise ValueError(f"sentence {i}: {len(predicted)} predicted tags, {len(true)} targets")
        yield predicted, true
