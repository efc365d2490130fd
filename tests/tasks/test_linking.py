"""Entity linking: what counts, what is scored, what is refused."""

import random
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError, DataError
from bluestab.data.dictionary import Dictionary
from bluestab.sweeps.grouping import with_engines
from bluestab.tasks.linking import kind_of
from bluestab.tasks.metric import RANKINGS, Compared
from bluestab.testing.corpora import ANY_FILE
from bluestab.training.check import Run, check
from bluestab.training.inspection import rivals

TINY = [*ANY_FILE, "task=ncbi_linking", "task.dictionary_sha256=null", "model=tiny", "device=cpu"]


def checked(*overrides: str) -> Run:
    return check(resolved(compose([*TINY, *overrides])))


def test_what_a_concept_is() -> None:
    dictionary = Dictionary(("D1", "D2"), (("a",), ("b",)), {"D1": 0, "D2": 1, "77": 1})
    for nil in ("", "-1", "-", "NIL", "CUI-less", " "):
        assert kind_of(nil, dictionary) == ("nil", None)
    for several in ("D1|D2", "D1+D9", "D1, D2"):
        assert kind_of(several, dictionary) == ("composite", None)
    assert kind_of("D9", dictionary) == ("absent", None)
    for known, number in (("D1", 0), ("MESH:D1", 0), (" OMIM:77 ", 1), ("D2|", 1)):
        assert kind_of(known, dictionary) == ("linked", number)


def test_scores_are_those_of_a_loop() -> None:
    names, draw = [f"D{n}" for n in range(100)], random.Random(0)
    ranked = [draw.sample(names, 64) for _ in range(200)]
    targets = [draw.choice(names) for _ in ranked]
    compared = Compared(ranked, targets, n_classes=100)
    for metric, k in (("accuracy_at_1", 1), ("accuracy_at_5", 5), ("recall_at_64", 64)):
        right = 0
        for found, target in zip(ranked, targets, strict=True):
            for concept in found[:k]:
                right += concept == target
        assert RANKINGS[metric].function(compared) == right / 200 > 0


def test_what_is_not_known_is_no_score() -> None:
    """Five concepts that were written down say nothing of the first 64."""
    compared = Compared([["D1", "D2", "D3", "D4", "D5"]], ["D2"], n_classes=100)
    values = [RANKINGS[name].function(compared) for name in RANKINGS]
    assert values == [0.0, 1.0, None]
    few = Compared([["D1", "D2"]], ["D2"], n_classes=2)
    assert RANKINGS["recall_at_64"].function(few) == 1.0


def test_what_has_no_single_answer_is_left_out_and_counted(small: Path) -> None:
    """Every fifth abstract of the small corpus has a composite and a NIL mention, too."""
    data = checked().data
    assert {split: len(items) for split, items in data.splits.items()} == {
        "train": 24, "validation": 10, "test": 10,
    }  # fmt: skip
    (said,) = (note for note in data.notes if note.startswith("NCBItrainset"))
    assert "34 mentions; left out: 5 without a concept (NIL), 5 of several (composite)" in said
    assert data.labels[:2] == ("D000", "D001")


def test_what_needs_no_network_stands_beside(small: Path) -> None:
    data = checked().data
    said = rivals(data.task, data.splits["test"])
    assert [line.partition(" gets ")[0] for line in said] == [
        "exact string match", "character n-grams (TF-IDF)",
    ]  # fmt: skip
    assert "accuracy@1 1.0000" in said[1]


def test_another_dictionary_is_another_run(small: Path, tmp_path: Path) -> None:
    before = checked()
    path = before.data.task.dictionary_file()  # type: ignore[attr-defined]
    text = path.read_text()
    other = tmp_path / "other.txt"
    other.write_text(text)
    assert checked(f"task.dictionary={other}").key == before.key
    other.write_text(text + "D999||something else\n")
    assert checked(f"task.dictionary={other}").key != before.key


def refused(*overrides: str) -> str:
    with pytest.raises((ConfigError, DataError)) as error:
        checked(*overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trainer.micro_batch=4", "trainer.micro_batch is 4, but task 'ncbi_linking' tells"),
        (
            "trainer.engine=packed",
            "trainer.engine is packed, but task 'ncbi_linking' looks answers",
        ),
        ("task.dictionary=nowhere.txt", "nowhere.txt: not found"),
        ("task.dictionary=null", "task.dictionary is None"),
        ("task.hard_negatives=-1", "task.hard_negatives is -1"),
        ("task.context=-1", "task.context is -1"),
        ("task.types=[Gene]", "has no mention of type 'Gene', only ['Disease']"),
        ("task.dictionary_sha256=0000", "task.dictionary_sha256=null"),
        ("task.shots=2", "task.shots"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(small: Path, override: str, sentence: str) -> None:
    assert sentence in refused(override)


def test_a_batch_is_whole_unless_parts_are_asked_for(small: Path) -> None:
    assert checked().cfg["trainer"]["micro_batch"] is None
    other: Any = resolved(compose(["task=gad", "trainer.micro_batch=null"]))
    assert other["trainer"]["micro_batch"] is None


def test_under_packed_it_trains_by_itself(small: Path) -> None:
    jobs, alone = with_engines(lambda o: compose([*TINY, *o]), [("seed=0",), ("seed=1",)])
    assert jobs == [("seed=0",), ("seed=1",)]
    assert list(alone) == ["task 'ncbi_linking' looks answers up in a dictionary"]
