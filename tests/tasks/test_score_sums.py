"""Sums over items against the scores they stand for."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from bluestab.tasks import scoring, scoring_tags
from bluestab.tasks.score_sums import of_items, score

CLASSES = ("false", "CPR:3", "CPR:4")
TAGS = ("O", "B-par", "I-par", "B-int", "I-int")


def classes(random: Random) -> str:
    return random.choice(CLASSES)


def labels(random: Random) -> list[str]:
    return [name for name in ("a", "b", "c") if random.random() < 0.4]


def tags(random: Random) -> list[str]:
    return [random.choice(TAGS) for _ in range(6)]


def numbers(random: Random) -> float:
    return random.gauss(100.0, 1.0)


def surprises(random: Random) -> list[float]:
    return [random.expovariate(0.3) for _ in range(random.randint(0, 5))]


def coded(values: Any) -> list[int]:
    return [CLASSES.index(value) for value in values]


def decided(values: Any) -> list[list[int]]:
    return [[int(name in value) for name in ("a", "b", "c")] for value in values]


POSITIVE, TYPES = ("CPR:3", "CPR:4"), ("par", "int")
ORACLES: dict[str, tuple[Any, Any]] = {
    "accuracy": (classes, lambda p, t: scoring.accuracy(coded(p), coded(t))),
    "positive_f1": (classes, lambda p, t: scoring.positive_f1(coded(p), coded(t), (1, 2))),
    "micro_f1": (labels, lambda p, t: scoring.multilabel_f1(decided(p), decided(t))),
    "entity_f1": (tags, lambda p, t: scoring_tags.entity_prf(p, t)["f1"]),
    "word_macro_f1": (tags, lambda p, t: scoring_tags.word_macro_f1(p, t, TYPES)),
    "pearson": (numbers, scoring.pearson),
    "rmse": (numbers, scoring.rmse),
    "perplexity": (surprises, lambda p, t: scoring.perplexity(p)),
}


@pytest.mark.parametrize("metric", ORACLES)
def test_resampled_scores_are_those_of_the_resampled_items(metric: str) -> None:
    draw, oracle = ORACLES[metric]
    random, generator = Random(3), np.random.default_rng(3)
    predictions, targets = ([draw(random) for _ in range(30)] for _ in range(2))
    table = of_items(metric, predictions, targets, positive=POSITIVE, types=TYPES)
    assert table is not None
    whole = oracle(predictions, targets)
    assert score(metric)(table.sum(axis=0)) == pytest.approx(whole, abs=1e-12)
    drawn = generator.integers(0, 30, size=(20, 30))
    times = np.stack([np.bincount(row, minlength=30) for row in drawn])
    expected = [oracle([predictions[i] for i in row], [targets[i] for i in row]) for row in drawn]
    assert score(metric)(times @ table) == pytest.approx(expected, abs=1e-9)
    assert len(set(expected)) > 5


def test_where_nothing_is_defined() -> None:
    assert of_items("spearman", [1.0], [1.0]) is None
    flat = of_items("pearson", [0.1] * 7, [float(i) for i in range(7)])
    assert flat is not None
    assert np.isnan(score("pearson")(flat.sum(axis=0)))
    nothing = of_items("entity_f1", [["O"]], [["O"]])
    assert nothing is not None
    assert score("entity_f1")(nothing.sum(axis=0)) == 0.0
