"""Rows that an annotation tool marks as rejected, left, unapproved or reviewed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from bluestab.core.errors import DataError
from bluestab.data.formats.schemes import n_entities
from bluestab.tasks.data import TaskData
from tests.support.own_files import JSON, JSONL, Load, label_studio

ANSWERS = ("accept", "accept", "reject", "accept", "ignore")


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def all_items(data: TaskData) -> list[Any]:
    return [e for part in data.splits.values() for e in part]


def entities(data: TaskData) -> Counter[str]:
    return n_entities(e.target for e in all_items(data))


def prodigy(i: int, **more: Any) -> dict[str, Any]:
    """A row of ner.manual; a rejected one marks the wrong word."""
    answer = ANSWERS[i % 5]
    text = f"Patient {i} received aspirin at home."
    words = [(m, text.index(m)) for m in ("Patient", str(i), "received", "aspirin", "at", "home")]
    start = 0 if answer == "reject" else text.index("aspirin")
    return {
        "text": text,
        "_input_hash": i,
        "_task_hash": -i,
        "tokens": [
            {"text": w, "start": a, "end": a + len(w), "id": k} for k, (w, a) in enumerate(words)
        ],
        "spans": [{"start": start, "end": start + 7, "token_start": 3, "label": "DRUG"}],
        "_view_id": "ner_manual",
        "answer": answer,
        **more,
    }


@pytest.mark.parametrize("dropped", ["", "tokens", "_input_hash"])
@pytest.mark.parametrize("text", [None, "text"])
def test_prodigy_trains_on_what_was_accepted(load: Load, dropped: str, text: str | None) -> None:
    rows = [{k: v for k, v in prodigy(i).items() if k != dropped} for i in range(60)]
    data = load("tagging", {JSONL: jsonl(rows)}, text=text)
    assert len(all_items(data)) == 36
    assert entities(data) == {"DRUG": 36}
    assert any(
        "36 of 60 rows were accepted; left out: 12 reject, 12 ignore" in n for n in data.notes
    )


def test_prodigy_unanswered_rows_are_left_out(load: Load) -> None:
    rows = [prodigy(i, **({"answer": None} if i % 5 == 0 else {})) for i in range(60)]
    assert len(all_items(load("tagging", {JSONL: jsonl(rows)}))) == 24


def teach(view: str | None = None) -> str:
    rows = []
    for i in range(20):
        text = f"Case {i}: fever after amoxicillin and rash."
        for word, answer in (("amoxicillin", "accept"), ("fever", "reject"), ("rash", "reject")):
            at = text.index(word)
            span = {"start": at, "end": at + len(word), "label": "DRUG"}
            row = {"text": text, "spans": [span], "answer": answer, "_input_hash": i}
            rows.append({**row, **({"_view_id": view} if view else {})})
    return jsonl(rows)


@pytest.mark.parametrize("view", [None, "ner"])
def test_prodigy_suggestions_judged_one_by_one_are_no_gold(load: Load, view: str | None) -> None:
    with pytest.raises(DataError, match="one suggestion at a time was judged"):
        load("tagging", {JSONL: teach(view)})


def test_prodigy_one_text_by_two_annotators_is_kept(load: Load) -> None:
    rows = [prodigy(i, _session_id=f"s-{who}") for i in range(20) for who in "ab"]
    assert len(all_items(load("tagging", {JSONL: jsonl(rows)}))) == 24


def choice(i: int, chosen: list[str]) -> dict[str, Any]:
    return {
        "text": f"words {i}",
        "options": [{"id": "POS", "text": "pos"}, {"id": "NEG", "text": "neg"}],
        "accept": chosen,
        "answer": ANSWERS[i % 5],
        "_input_hash": i,
    }


def test_prodigy_choices_are_the_classes(load: Load) -> None:
    rows = [choice(i, ["POS" if i % 2 else "NEG"]) for i in range(60)]
    data = load("classification", {JSONL: jsonl(rows)})
    assert Counter(e.target for e in all_items(data)) == {"POS": 18, "NEG": 18}


def test_prodigy_several_choices_are_several_labels(load: Load) -> None:
    rows = [choice(i, ["POS", "NEG"][: i % 3]) for i in range(60)]
    data = load("multilabel", {JSONL: jsonl(rows)})
    assert Counter(len(e.target) for e in all_items(data)) == {0: 12, 1: 12, 2: 12}
    with pytest.raises(DataError, match=r"line 2: accept \(task.label\) holds 2 labels"):
        load("classification", {JSONL: jsonl([row for row in rows if len(row["accept"]) == 2])})


def test_prodigy_binary_text_labels(load: Load) -> None:
    rows = [
        {"text": f"words {i}", "label": "AB"[i % 2], "answer": ANSWERS[i % 5]} for i in range(60)
    ]
    data = load("classification", {JSONL: jsonl(rows)})
    assert len(all_items(data)) == 36
    assert tuple(data.labels) == ("A", "B")
    judged = load("classification", {JSONL: jsonl(rows)}, label="answer")
    assert Counter(e.target for e in all_items(judged)) == {"accept": 36, "reject": 12}


def test_prodigy_in_a_table(load: Load) -> None:
    table = "text,label,answer\n" + "".join(
        f"words {i},{'AB'[i % 2]},{ANSWERS[i % 5]}\n" for i in range(60)
    )
    assert len(all_items(load("classification", {"f.csv": table}))) == 36


def test_accept_and_reject_may_be_the_classes_of_a_table(load: Load) -> None:
    table = "text,answer\n" + "".join(f"words {i},{ANSWERS[i % 4]}\n" for i in range(60))
    data = load("classification", {"f.csv": table})
    assert tuple(data.labels) == ("accept", "reject")
    assert len(all_items(data)) == 60


def test_nothing_accepted_is_said(load: Load) -> None:
    rows = [prodigy(i, answer="ignore") for i in range(6)]
    with pytest.raises(DataError, match="line 1: no row has the answer accept"):
        load("tagging", {JSONL: jsonl(rows)})


@pytest.mark.parametrize(
    ("field", "yes", "no"), [("annotation_approver", "admin", None), ("is_confirmed", True, False)]
)
def test_doccano_keeps_what_was_approved(load: Load, field: str, yes: Any, no: Any) -> None:
    rows = [
        {"id": i, "text": f"gout {i}", "label": [[0, 4, "D"]], field: yes if i % 3 else no}
        for i in range(60)
    ]
    data = load("tagging", {JSONL: jsonl(rows)})
    assert len(all_items(data)) == 40
    assert any("40 of 60 texts are approved; 20 were left out" in note for note in data.notes)


def test_doccano_without_any_approval_is_taken_whole(load: Load) -> None:
    rows = [
        {"id": i, "text": f"gout {i}", "label": [[0, 4, "D"]], "annotation_approver": None}
        for i in range(20)
    ]
    data = load("tagging", {JSONL: jsonl(rows)})
    assert len(all_items(data)) == 20
    assert any("no text is approved" in note for note in data.notes)


def studio(i: int, *words: str, **more: Any) -> dict[str, Any]:
    """An annotation of `case i: rash and fever` that marks these words."""
    text = f"case {i}: rash and fever"
    found = [
        {
            "type": "labels",
            "from_name": "label",
            "value": {"start": text.index(w), "end": text.index(w) + len(w), "labels": ["Sign"]},
        }
        for w in words
    ]
    return {"result": found, "was_cancelled": False, **more}


def tasks(*annotations: Any, key: str = "annotations") -> str:
    return json.dumps(
        [
            {"data": {"text": f"case {i}: rash and fever"}, key: [a(i) for a in annotations]}
            for i in range(20)
        ]
    )


def test_label_studio_takes_the_ground_truth(load: Load) -> None:
    content = tasks(
        lambda i: studio(i, "and"),
        lambda i: studio(i, "rash", "fever", ground_truth=True),
    )
    data = load("tagging", {JSON: content})
    assert entities(data) == {"Sign": 40}
    assert any("20 tasks have several annotations" in n and "ground truth" in n for n in data.notes)


def test_label_studio_leaves_out_what_review_rejected(load: Load) -> None:
    content = tasks(
        lambda i: studio(i, "and", reviews=[{"accepted": False}]),
        lambda i: studio(i, "rash", reviews=[{"accepted": True}]),
    )
    data = load("tagging", {JSON: content})
    assert entities(data) == {"Sign": 20}
    assert any("20 annotations were rejected in review" in note for note in data.notes)


def test_label_studio_before_version_one(load: Load) -> None:
    content = tasks(lambda i: studio(i, "rash"), key="completions")
    assert entities(load("tagging", {JSON: content})) == {"Sign": 20}


@pytest.mark.parametrize("start", [8, "/div[1]/text()[1]"])
def test_label_studio_hypertext(load: Load, start: Any) -> None:
    value = {
        "start": start,
        "end": 12 if start == 8 else start,
        "text": "rash",
        "hypertextlabels": ["Sign"],
        "globalOffsets": {"start": 8, "end": 12},
    }
    items = [
        label_studio({"text": f"case {i % 10}: rash and fever"}, ("hypertextlabels", value))
        for i in range(20)
    ]
    assert entities(load("tagging", {JSON: json.dumps(items)})) == {"Sign": 20}


def test_label_studio_results_that_are_not_read_are_named(load: Load) -> None:
    value = {"start": "0", "end": "0", "paragraphlabels": ["Sign"]}
    items = [label_studio({"text": f"a {i}"}, ("paragraphlabels", value)) for i in range(20)]
    with pytest.raises(DataError, match="20 results of type paragraphlabels were not read"):
        load("tagging", {JSON: json.dumps(items)})
