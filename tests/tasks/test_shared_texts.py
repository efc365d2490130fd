"""Which items stay together where parts are drawn: by text, sentence behind a mask, document."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import ConfigError
from bluestab.core.types import Example
from bluestab.report.terminal.inspection_view import sentences
from bluestab.tasks.shared_texts import documents_of, n_sharing, normal, together
from bluestab.training.inspection import inspect
from tests.conftest import real_data
from tests.support.own_files import Load, load, nodes, rows  # noqa: F401


def item(
    text: Any, pair: str | None = None, target: Any = "yes", name: str = "", group: Any = None
) -> Example:
    return Example(name or f"line {id(text)}", text, pair, target, group)


def n_groups(*items: Example) -> int:
    return len(set(together(items).groups))


def test_either_side_of_a_pair_joins() -> None:
    asked = "does aspirin help against pain of the head"
    passages = [f"passage {i} says another thing" for i in range(6)]
    pairs = [item(asked, passages[i]) for i in range(3)]
    pairs += [item(passages[0], f"something else {i}") for i in range(2)]  # the other side
    others = [item(f"is question {i} any good", f"unlike {i} all others") for i in range(40)]
    assert n_groups(*pairs, *others) == 1 + len(others)
    assert n_groups(item("One  TEXT, of words."), item("one text of words")) == 1


def test_what_is_asked_of_all_joins_nothing() -> None:
    items = [item(f"review number {i}", "is this about sports?") for i in range(40)]
    found = together(items)
    assert len(set(found.groups)) == 40
    assert list(found.templates) == ["is this about sports"]


def test_the_sentence_behind_a_mask() -> None:
    sentence = "in patients {} raised the level of {} but lowered that of {} after a week"
    a, b, c = "aspirin", "ibuprofen sodium", "warfarin"
    for mask in ("@DRUG$", "DRUG1", "[MASK]", "<mask>", "DRUG_OTHER"):
        same = [
            item(sentence.format(mask, mask, c)),
            item(sentence.format(a, mask, mask)),
            item(sentence.format(mask, b, mask)),
        ]
        other = item("in mice @DRUG$ raised nothing and @DRUG$ lowered the weight after a month")
        assert n_groups(*same, other) == 2, mask
    for marked in ("<e1>{}</e1>", "[E1]{}[/E1]", "<<{}>>", "$ {} $"):
        one = sentence.format(marked.format(a), marked.format(b), c)
        two = sentence.format(a, marked.format(b), marked.format(c))
        assert normal(one) == normal(two) == normal(sentence.format(a, b, c)), marked


def test_other_sentences_with_masks_stay_apart() -> None:
    items = [
        item("@GENE$ is not associated with @DISEASE$ in a Chinese population of women"),
        item("@GENE$ is not associated with @DISEASE$ in a Finnish population of men"),
        item("we studied whether @GENE$ plays a role in @DISEASE$"),
    ]
    assert n_groups(*items) == 3


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("DDI-DrugBank.d700.s0.p1", "DDI-DrugBank.d700"),
        ("DDI-MedLine.d12.s3.p0", "DDI-MedLine.d12"),
        ("AIMed.d0.s0.p0", "AIMed.d0"),
        ("BioInfer.d100.s0.i0", "BioInfer.d100"),
        ("10047461.T7.T39", "10047461"),
        ("PMID:10047461_3", "10047461"),
        ("doc12_sent3", "doc12"),
        ("train/doc12-p4", "doc12"),
        ("line 12", None),
        ("12", None),
        ("s3", None),
        ("sample-17", None),
    ],
)
def test_documents_by_name(name: str, document: str | None) -> None:
    assert documents_of([item("a", name=name), item("b", name="x")])[0] == document


def test_a_name_that_all_share_is_no_document() -> None:
    items = [item(f"text {i}", name=f"mycorpus.s{i}") for i in range(4)]
    assert documents_of(items) == [None] * 4


def test_trivial_texts_without_labels_join_nothing() -> None:
    numbers = [item(("1",), target=("O",), group=f"d{i}") for i in range(3)]
    heads = [item(("METHODS", ":"), target=("O", "O"), group=f"d{i}") for i in range(3)]
    assert n_groups(*numbers, *heads) == 3, "documents alone"
    assert n_sharing(numbers[:1], numbers[1:]) == 0
    named = [item(("aspirin",), target=("B-Drug",), group=f"d{i}") for i in range(2)]
    assert n_groups(*named) == 1
    long = ("this", "work", "was", "supported", "by", "a", "grant")
    assert n_groups(*(item(long, target=("O",) * 7, group=f"d{i}") for i in range(2))) == 1


# --- drawn and folded ----------------------------------------------------------------------------


def test_questions_of_drawn_parts_are_apart(load: Load) -> None:  # noqa: F811
    lines = [
        f"is substance {q} good against it {q},it says {q} {k},{'yes' if k % 2 else 'no'}"
        for q in range(30)
        for k in range(4)
    ]
    files = {"pairs.csv": "\n".join(["text,text_pair,label", *lines]) + "\n"}
    shared = load("pair_classification", files)
    asked = {split: {e.text for e in part} for split, part in shared.splits.items()}
    assert not asked["train"] & asked["test"]
    assert not asked["train"] & asked["validation"]
    assert "30 groups" in shared.notes[-1]
    text = load("pair_classification", files, grouping="text")
    asked = {split: {e.text for e in part} for split, part in text.splits.items()}
    assert asked["train"] & asked["test"], "as it was"


def test_what_cannot_be_grouped_is_said(load: Load) -> None:  # noqa: F811
    words = "".join(f"word{i} O\nache{i} B-D\n\n" for i in range(30))
    alone = load("tagging", {"words.conll": words})
    assert any("30 of 30 items name no document" in note for note in alone.notes)
    parts = words.split("\n\n")
    marked = "".join(f"-DOCSTART- O\n\n{part}\n\n" for part in parts if part)
    known = load("tagging", {"marked.conll": marked})
    assert not any("name no document" in note for note in known.notes)


def test_a_task_that_is_one_group_says_how_to_go_on(load: Load) -> None:  # noqa: F811
    lines = [
        f"sentence {i} of the ring,sentence {(i + 1) % 40} of the ring,{i % 2}" for i in range(40)
    ]
    files = {"ring.csv": "\n".join(["text,text_pair,label", *lines]) + "\n"}
    with pytest.raises(ConfigError, match=r"40 items form 1 groups .*task.grouping=text"):
        load("pair_classification", files)
    with pytest.raises(ConfigError, match=r"task.folds is 4.*they cannot be folded"):
        load("pair_classification", files, folds=4, fold=0)
    load("pair_classification", files, grouping="text")
    with pytest.raises(ConfigError, match=r"task.grouping is 'txt'"):
        load("pair_classification", files, grouping="txt")


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"train_size": 999}, "task.train_size is 999, but the part that is drawn holds 2[0-9] "),
        ({"folds": 99, "fold": 0}, "task.folds is 99, but 40 items form 40 groups"),
        ({"folds": 4, "fold": 0, "train_size": 21}, "task.train_size is 21, but the part"),
        ({"folds": 4, "fold": 0, "test_size": 11}, "task.test_size is 11, but the part"),
        ({"test_size": 40}, "task.test_size=40.* of 40 items leave none"),
        ({"test_size": 400}, "task.test_size=400.* of 40 items leave none"),
    ],
)
def test_more_than_there_is_is_refused(load: Load, knobs: dict[str, Any], said: str) -> None:  # noqa: F811
    with pytest.raises(ConfigError, match=said):
        load("classification", {"a.csv": rows(40)}, **knobs)


def test_sizes_up_to_what_is_there_are_fine(load: Load) -> None:  # noqa: F811
    data = load("classification", {"a.csv": rows(40)})
    n = len(data.splits["train"])
    assert load("classification", {"a.csv": rows(40)}, train_size=n).size("train") == n
    load("classification", {"a.csv": rows(40)}, folds=40, fold=39)


# --- given parts, inspected ----------------------------------------------------------------------


def test_inspect_counts_shared_questions(make_run: Any, tmp_path: Path) -> None:
    files = {}
    for split, first in (("train", 0), ("validation", 60), ("test", 10)):
        lines = [
            f"is substance {q} good for patients,{split} answers {q} so,{'yes' if q % 2 else 'no'}"
            for q in range(first, first + 20)
        ]
        files[split] = tmp_path / f"{split}.csv"
        files[split].write_text("\n".join(["text,text_pair,label", *lines]) + "\n")
    run = make_run(
        "task=pair_classification", "model=tiny", *(f"task.{s}={f}" for s, f in files.items())
    )
    found = inspect(run, n_shown=0)
    assert found.leaks["train", "test"] == 10
    assert found.leaks["train", "validation"] == 0
    assert any("test scores are too good" in said for said in sentences(found))


def test_section_numbers_are_no_leak(make_run: Any, tmp_path: Path) -> None:
    files = {}
    for split in ("train", "validation", "test"):
        text = "".join(f"1 O\n. O\n\n{split}{i} O\nache B-D\n\n" for i in range(9))
        files[split] = tmp_path / f"{split}.conll"
        files[split].write_text(text)
    run = make_run("task=tagging", "model=tiny", *(f"task.{s}={f}" for s, f in files.items()))
    found = inspect(run, n_shown=0)
    assert set(found.leaks.values()) == {0}
    assert not any("too good" in said for said in sentences(found))


# --- published corpora ---------------------------------------------------------------------------


def ddi(part: str) -> list[Example]:
    with (real_data() / "ddi" / f"{part}.tsv").open(newline="") as file:
        lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [Example(name, text, None, label) for name, text, label in lines]


@pytest.mark.slow
def test_sentences_of_ddi_are_found_without_their_names() -> None:
    """All pairs of a sentence, by its masked text alone: 95 of 100 sentences whole at least."""
    items = [e for part in ("train", "dev", "test") for e in ddi(part)]
    random.Random(0).shuffle(items)
    blind = [Example(f"line {i}", e.text, None, e.target) for i, e in enumerate(items)]
    groups = together(blind).groups
    sentences = defaultdict(list)
    for e, group in zip(items, groups, strict=True):
        sentences[e.id.rpartition(".")[0]].append(group)
    several = [found for found in sentences.values() if len(found) > 1]
    assert len(several) == 2653
    assert sum(len(set(found)) == 1 for found in several) >= 0.95 * len(several)


@pytest.mark.slow
def test_folds_of_ddi_share_no_document(load: Load) -> None:  # noqa: F811
    from bluestab.core.config import compose, resolved
    from bluestab.tasks.data import load_task

    real_data()
    data = load_task(resolved(compose(["task=ddi", "task.folds=5", "task.fold=0"]))["task"])
    documents = {
        split: {e.id.rpartition("/")[2].split(".s")[0] for e in part}
        for split, part in data.splits.items()
    }
    assert not documents["train"] & documents["test"]
    assert not documents["train"] & documents["validation"]
    assert len(data.splits["test"]) == pytest.approx(33508 / 5, rel=0.05)
