"""Documents with several labels, and questions with a passage: read, cut and scored by hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from bluestab.core.errors import BluestabError, ConfigError, DataError
from bluestab.core.instantiate import instantiate
from bluestab.data.readers import read_json
from bluestab.tasks.base import Task
from bluestab.testing.corpora import corpus, published_tasks
from bluestab.training.loop.batches import collate
from tests.conftest import position

NODES: dict[str, Any] = {
    f.stem: OmegaConf.to_container(OmegaConf.load(f)) for f in published_tasks()
}


def task_of(name: str, **changes: Any) -> Any:
    return instantiate({**NODES[name], **changes}, Task, "task")  # type: ignore[type-abstract]


def written(tmp_path: Path, text: str, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


# --- several labels ------------------------------------------------------------------------------

NONE = ",".join(f"{k}_0" for k in range(10))


def flags(*present: int) -> str:
    return ",".join(f"{k}_{int(k in present)}" for k in range(10))


def hoc(*rows: str) -> str:
    return "\n".join(["labels\tsentence\tindex", *rows]) + "\n"


def test_sentences_become_documents(tmp_path: Path) -> None:
    """Joined in the order of the file, labels united; a document without any is kept."""
    path = written(
        tmp_path,
        hoc(f"{flags(7)}\tOne .\t12_s0", f"{NONE}\tTwo .\t12_s1", f"{flags(0, 7)}\tThree .\t12_s2",
            f"{NONE}\tFour .\t3_s0"),
    )  # fmt: skip
    one, other = task_of("hoc").read(path)
    assert (one.id, one.text) == ("12", "One . Two . Three .")
    assert one.target == ("activating invasion and metastasis", "resisting cell death")
    assert (other.id, other.text, other.target) == ("3", "Four .", ())


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("0_1,1_0\tA\t1_s0", r"line 2: 2 labels, where task\.label_names has 10"),
        (f"{NONE[:-1]}2\tA\t1_s0", r"line 2: expected '9_0' or '9_1' as label 9: '9_2'"),
        (f"1_0{NONE[3:]}\tA\t1_s0", r"line 2: expected '0_0' or '0_1' as label 0: '1_0'"),
        (f"{NONE}\tA\tPMID1", r"line 2: 'PMID1' \(task\.group\) does not match"),
        (f"{NONE}\t \t1_s0", "line 2: the text is empty"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, row: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        task_of("hoc").read(written(tmp_path, hoc(row)))


def test_labels_by_name(tmp_path: Path) -> None:
    """The form that people's own files have; every row a document by itself."""
    own = task_of(
        "hoc", label_form="names", label_separator=";", label_names=["a", "b"], group=None,
        group_pattern=None, header=False, id=None, text=0, label=1,
    )  # fmt: skip
    assert own.check() == []
    read = own.read(written(tmp_path, "x\tb; a\ny\t\nz\tc\n"))
    assert [e.target for e in read] == [("a", "b"), (), ("c",)]
    assert own.problems("test", read, own.labels(read)) == [
        "label 'c' (item line 3) is not among the task's labels ['a', 'b']"
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label_form": "flag"}, "task.label_form is 'flag'; did you mean 'flags'"),
        ({"label_separator": ""}, "task.label_separator is ''"),
        ({"group": None}, "task.group_pattern is set, but task.group is null"),
        ({"group_pattern": "s"}, "task.group_pattern is 's': expected a regular expression"),
        ({"group_pattern": "("}, "task.group_pattern is '('"),
        ({"label_names": "a"}, "task.label_names is 'a'"),
    ],
)
def test_a_wrong_knob_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    (problem,) = task_of("hoc", **change).check()
    assert problem.startswith(sentence)


def test_scores_by_hand() -> None:
    """Pooled: 2 right, 3 said, 4 true: 2 * 2 / 7. Per label: 1, 0, 2/3, the other seven 0."""
    task = task_of("hoc")
    a, b, c, *_ = task.label_names
    scores = task.score([[a], [c, b], []], [(a,), (c,), (c, b)])
    assert scores["micro_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert scores["macro_f1"] == pytest.approx((1 + 0 + 2 / 3) / 10)
    assert scores["exact_match"] == pytest.approx(1 / 3)


def test_a_logit_above_zero_is_a_label() -> None:
    import numpy as np

    task = task_of("hoc")
    logits = np.array([[0.1, -0.1, 0.0, *[-5.0] * 7]])
    assert task.decode(logits, [0], None, task.label_names) == [task.label_names[0]]


def test_the_loss_is_the_mean_of_all_decisions(make_assembly: Any) -> None:
    assembly = make_assembly("task=hoc", "model=tiny", "task.max_length=32", "optim.steps=1")
    batch = next(iter(assembly.loaders["train"]))
    assert batch["labels"].shape == (24, 10)
    assert batch["labels"].dtype == torch.float32
    logits = torch.randn(24, 10)
    p, y = torch.sigmoid(logits), batch["labels"]
    by_hand = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert assembly.data.task.loss(logits, batch) == pytest.approx(float(by_hand), rel=1e-5)


def test_several_labels_are_no_word_pieces() -> None:
    """An item of as many pieces as there are labels must not be padded like a sentence."""
    items = [
        {"input_ids": [1, 2], "labels": [0.0, 1.0], "item": 0},
        {"input_ids": [1, 2, 3], "labels": [1.0, 1.0], "item": 1},
    ]
    assert collate(items, 0)["labels"].tolist() == [[0.0, 1.0], [1.0, 1.0]]


# --- questions -----------------------------------------------------------------------------------


def test_items_know_their_line(tmp_path: Path) -> None:
    table = read_json(
        written(tmp_path, '{\n "a": {"q": "x", "n": 3, "p": ["u", "v"]},\n\n "b":\n  {"p": null}}')
    )
    assert table.columns == ("key", "q", "n", "p")
    assert table.rows == (("a", "x", "3", "u v"), ("b", "", "", ""))
    assert table.lines == (2, 4)
    listed = read_json(written(tmp_path, '[{"q": true},\n{"q": {"deep": 1}}]'))
    assert (listed.columns, listed.rows, listed.lines) == (("q",), (("true",), ("",)), (1, 2))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no JSON list"),
        ("3", "is no JSON list"),
        ("[]", "holds no items"),
        ("{}", "holds no items"),
        ('{"a": {"q": 1}\n "b": {}}', r"line 2: is no JSON: expected ','"),
        ('[{"q": 1},\n{"q" 2}]', "line 2: is no JSON"),
        ('[{"q": 1},\n{"q": 2}', "line 2: is no JSON"),
        ('[{"q": 1},\n"word"]', "line 2: expected an object, found 'word'"),
        ('{"a": {"key": 1}}', "field 'key' of their own"),
        ("[" * 100000, "nested too deeply|expected an object"),
    ],
)
def test_what_is_no_list_of_objects(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_json(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"1": {"QUESTION": "q", "CONTEXTS": [], "final_decision": "yes"}}',
         r"line 1: CONTEXTS \(task\.text_pair\) of '1' is empty"),
        ('{"1": {"QUESTION": " ", "CONTEXTS": ["p"], "final_decision": "yes"}}',
         r"line 1: QUESTION \(task\.text\) of '1' is empty"),
        ('{"1": {"QUESTION": "q", "CONTEXTS": ["p"]}}', "has no column 'final_decision'"),
        ('{"1": {"QUESTION": "q", "CONTEXTS": ["p"], "final_decision": "yes"},'
         '\n"1": {"QUESTION": "q", "CONTEXTS": ["p"], "final_decision": "no"}}',
         "line 2: id '1' was already used in line 1"),
    ],
)  # fmt: skip
def test_a_question_needs_its_parts(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        task_of("pubmedqa").read(written(tmp_path, text))


def test_the_conclusion_is_never_read(tmp_path: Path) -> None:
    text = (
        '{"1": {"QUESTION": "q?", "CONTEXTS": ["one.", "two."], "LONG_ANSWER": "secret",'
        ' "final_decision": "maybe"}}'
    )
    (example,) = task_of("pubmedqa").read(written(tmp_path, text))
    assert (example.text, example.text_pair, example.target) == ("q?", "one. two.", "maybe")
    assert "secret" not in repr(example)


def test_the_passage_is_cut_and_never_the_question(make_assembly: Any) -> None:
    assembly = make_assembly("task=pubmedqa", "model=tiny", "task.max_length=64", "optim.steps=1")
    table, examples = assembly.loaders["test"].dataset, assembly.examples["test"]
    cut = 0
    for ids, lost, example in zip(table["input_ids"], table["lost"], examples, strict=True):
        text = assembly.tokenizer.decode(ids).replace(" ", "")
        _, question, passage, _ = text.replace("[CLS]", "[SEP]").split("[SEP]")
        assert question == example.text.replace(" ", "").lower()
        whole = example.text_pair.replace(" ", "").lower()
        assert whole.startswith(passage)
        # one piece per character, blanks are none
        cut += lost > 0
        assert lost == len(example.text_pair) - position(example.text_pair, len(passage))
    assert cut == assembly.truncated["test"] > 5
    share = sum(table["lost"]) / sum(len(e.text_pair) for e in examples)
    assert assembly.lost["test"] == pytest.approx(share)


def test_a_question_that_leaves_no_room_is_refused(make_assembly: Any) -> None:
    with pytest.raises(ConfigError, match=r"the question of item '\d+' alone has \d+ word pieces"):
        make_assembly("task=pubmedqa", "model=tiny", "task.max_length=20", "optim.steps=1")


def test_calibration_is_that_of_the_softmax() -> None:
    """Probabilities 0.9 and 0.6 of `yes`, the second wrong: two bins with gaps 0.1 and 0.6."""
    import numpy as np

    task = task_of("bioasq")
    logits = [np.log([[0.9, 0.1]]), np.log([[0.6, 0.4]])]
    found = task.calibration(logits, ["yes", "no"], ("yes", "no"))
    assert found["ece"] == pytest.approx((0.1 + 0.6) / 2)
    assert found["brier"] == pytest.approx((2 * 0.1**2 + 2 * 0.6**2) / 2)


def test_small_corpora_are_valid(tmp_path: Path) -> None:
    for name, node in NODES.items():
        if node.get("image") is not None:
            continue  # images come with it: test_visual_question_answering.py
        if node.get("dictionary") is not None and "BLUESTAB_DATA" not in os.environ:
            continue  # of a corpus that may not be shipped
        path = written(tmp_path, corpus(node, range(12)))
        try:
            assert len(task_of(name).read(path)) == 12, name
        except BluestabError as error:  # pragma: no cover
            raise AssertionError(f"{name}: {error}") from error


def test_a_type_that_only_a_prediction_has_counts_as_zero() -> None:
    """Without label_names the types are those that occur."""
    task = task_of("ebm_pico", label_names=None)
    scores = task.score([["I-OUT", "I-INT"]], [("I-OUT", "O")])
    assert scores == {"word_macro_f1": 0.5, "word_accuracy": 0.5}
