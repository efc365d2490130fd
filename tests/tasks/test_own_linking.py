"""A person's own mentions and dictionary, from files to a fitted network and new links."""

from pathlib import Path

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import BluestabError
from bluestab.core.types import Example
from bluestab.inference.predicting import predict_texts
from bluestab.inference.weights import open_weights
from bluestab.store.store import Store
from bluestab.training.check import Run, check
from bluestab.training.execute import execute_one

PLACES = ("aorta", "brain", "colon", "derma", "ear", "femur")
KINDS = ("tumour", "pain", "stone", "fracture")
NAMES = [(f"{kind} of {place}", f"{place} {kind}") for place in PLACES for kind in KINDS]


def written(folder: Path, head: str = "mention,concept", more: str = "") -> list[str]:
    (folder / "concepts.txt").write_text(
        "".join(f"C{n:02}||{'|'.join(names)}\n" for n, names in enumerate(NAMES))
    )
    rows = [
        f"{text} {number},C{n:02}"
        for number in range(4)
        for n, names in enumerate(NAMES)
        for text in names
    ]
    (folder / "mentions.csv").write_text("\n".join([head, *rows]) + "\n" + more)
    own = [f"task.train={folder}/mentions.csv", f"task.dictionary={folder}/concepts.txt"]
    return ["task=linking", *own, "model=tiny", "device=cpu"]


def checked(given: list[str], *overrides: str) -> Run:
    return check(resolved(compose([*given, *overrides])))


def test_rows_become_mentions(tmp_path: Path) -> None:
    given = written(tmp_path, more="something,\nboth,C00|C01\nother,X1\n")
    data = checked(given).data
    assert sum(map(len, data.splits.values())) == 4 * 48
    assert any(
        "195 mentions; left out: 1 without a concept (NIL), 1 of several (composite); 1 of "
        "concepts that the dictionary lacks" in note
        for note in data.notes
    )
    assert any("text is 'mention', label is 'concept'" in note for note in data.notes)


def test_mentions_can_be_read_with_a_text(tmp_path: Path) -> None:
    given = written(tmp_path)
    rows = (tmp_path / "mentions.csv").read_text().splitlines()
    (tmp_path / "mentions.csv").write_text(
        "\n".join(
            ["mention,concept,sentence", *(f"{row},a {row[:5]} was seen" for row in rows[1:])]
        )
    )
    data = checked(given, "task.text_pair=sentence").data
    example = data.splits["train"][0]
    assert example.text_pair == f"a {str(example.text)[:5]} was seen"
    alone = checked(given).data
    assert alone.splits["train"][0].text_pair is None


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ("mention,what", "which column is the concept? say task.label=NAME"),
        ("thing,concept", "which column is the mention? say task.text=NAME"),
    ],
)
def test_columns_that_cannot_be_told(tmp_path: Path, head: str, sentence: str) -> None:
    with pytest.raises(BluestabError, match=sentence.replace("?", r"\?")):
        checked(written(tmp_path, head), "task.header=true")


def test_training_mentions_are_fitted_and_new_ones_linked(tmp_path: Path) -> None:
    """On what it was trained on it is right in 99 of 100; a new mention finds its concept."""
    given = written(tmp_path)
    same = [f"task.{split}={tmp_path}/mentions.csv" for split in ("validation", "test")]
    store = tmp_path / "runs"
    run = checked(
        given, *same, f"store={store}", "optim.steps=15", "optim.lr=1e-3", "keep=last",
        "trainer.eval_every=15",
    )  # fmt: skip
    record = execute_one(run, Store(store), lambda *_: None)
    assert record.result["metrics"]["last"]["test"]["accuracy_at_1"] >= 0.99
    assert record.result["score"]["last"] > record.result["failed_below"]
    weights = open_weights([record.key], Store(store))
    (answer,) = predict_texts(weights, ["Pain of colon, 2"], "cpu")
    assert answer["prediction"][0] == "C09"
    assert len(answer["prediction"]) == 5
    assert 0 < answer["probability"] <= 1.0001
    (nothing,) = predict_texts(weights, ["zzz"], "cpu", threshold=1.0)
    assert nothing["prediction"] is None


def test_another_dictionary_at_hand_is_refused(tmp_path: Path) -> None:
    task, labels = checked(written(tmp_path)).data.task, ("C00", "C01")
    with pytest.raises(BluestabError, match="holds other concepts than the network was trained"):
        task._known(labels)  # type: ignore[attr-defined]
    assert isinstance(task.output.blank(labels, ""), str)
    assert Example("1", "a", None, "C00").target == "C00"
