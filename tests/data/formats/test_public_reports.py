"""Files as public bug reports of annotation tools show them, each at its smallest; what commands
make of names is in `cli/test_names`, of searches, sweeps and weights in their own tests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from bluestab.core.errors import DataError
from bluestab.tasks.data import TaskData
from tests.support.own_files import JSON, JSONL, Load, label_studio


def read(data: TaskData) -> tuple[int, Counter[str]]:
    """Items, and entities of each type."""
    items = [e for split in data.splits.values() for e in split]
    tags = Counter(t[2:] for e in items for t in e.target if t.startswith("B"))  # type: ignore[union-attr]
    return len(items), tags


def prodigy(tokens: bool) -> str:
    """60 rows: 36 accepted with a drug, 12 rejected with a wrong one, 12 left for later."""
    out = []
    for i in range(60):
        text = f"Patient {i} received aspirin at home."
        wrong = i % 5 == 3
        start = 0 if wrong else text.index("aspirin")
        words = [(w, text.index(w)) for w in text.removesuffix(".").split()]
        answer = "reject" if wrong else "ignore" if i % 5 == 4 else "accept"
        row: dict[str, Any] = {
            "text": text, "_input_hash": i, "_view_id": "ner_manual", "answer": answer,
            "spans": [{"start": start, "end": start + 7, "label": "DRUG"}],
        }  # fmt: skip
        if tokens:
            row["tokens"] = [
                {"text": w, "start": a, "end": a + len(w), "id": n}
                for n, (w, a) in enumerate(words)
            ]
        out.append(json.dumps(row))
    return "\n".join(out)


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("text", [None, "text"])
def test_prodigy_answers(load: Load, tokens: bool, text: str | None) -> None:
    data = load("tagging", {JSONL: prodigy(tokens)}, text=text)
    assert read(data) == (36, {"DRUG": 36})


def test_prodigy_suggestions(load: Load) -> None:
    rows = [
        {"text": f"Case {i // 2}: fever after amoxicillin and rash.", "answer": answer,
         "_input_hash": i // 2, "spans": [{"start": a, "end": a + n, "label": "DRUG"}]}
        for i, (a, n, answer) in enumerate([(20, 11, "accept"), (8, 5, "reject")] * 10)
    ]  # fmt: skip
    with pytest.raises(DataError, match="one suggestion at a time was judged"):
        load("tagging", {JSONL: "\n".join(map(json.dumps, rows))})


def test_brat_mentions_over_line_ends(load: Load) -> None:
    text = (
        "The patient {:02} has congestive heart\nfailure and also\n  iron deficiency\n  anaemia.\n"
    )
    files: dict[str, str] = {}
    for i in range(15):
        files[f"b/{i:02}.txt"] = text.format(i)
        files[f"b/{i:02}.ann"] = (
            "T1\tDisease 19 35;36 43\tcongestive heart failure\n"
            "T2\tDisease 55 70;73 80\tiron deficiency anaemia\n#1\tAnnotatorNotes T1\tsure\n"
        )
    assert read(load("tagging", files, train="b")) == (15, {"Disease": 30})


@pytest.mark.parametrize("form", ["B_Dis", "b-Dis", "Dis-B", "B:Dis", "B.Dis", "BMES"])
def test_prefixes(load: Load, form: str) -> None:
    def tag(letter: str) -> str:
        if form == "BMES":
            return f"{'S' if letter == 'S' else 'B' if letter == 'B' else 'E'}-Dis"
        small = letter.replace("S", "B")
        return form.replace("B", small).replace("b", small.lower())

    text = "".join(
        f"P{i} O\ncolon {tag('B')}\ncancer {tag('I')}\nand O\ngout {tag('S')}\n. O\n\n"
        for i in range(30)
    )
    assert read(load("tagging", {"f.conll": text})) == (30, {"Dis": 60})


@pytest.mark.parametrize(("kind", "one"), [(bool, "true"), (int, "1")])
def test_labels_of_json(load: Load, kind: type, one: str) -> None:
    lines = [json.dumps({"text": f"words {i}", "label": kind(i % 2)}) for i in range(60)]
    for positive in (one, kind(1)):
        data = load(
            "classification", {JSONL: "\n".join(lines)}, positive=[positive], metric="positive_f1"
        )
        assert list(data.task.positive) == [one]  # type: ignore[attr-defined]


def test_doccano_two_labels(load: Load) -> None:
    lines = [
        {"id": i, "text": f"comment {i}", "label": ["pos", "neg"][i % 2 :: 1 if i == 8 else 2][:2]}
        for i in range(40)
    ]
    lines[8]["label"] = ["pos", "neg"]
    content = "\n".join(map(json.dumps, lines))
    with pytest.raises(DataError, match=r"line 9: .*2 labels.*task=multilabel"):
        load("classification", {JSONL: content})
    assert load("multilabel", {JSONL: content}).labels == ("neg", "pos")


def span(text: str, word: str, kind: str, name: str = "labels") -> tuple[str, Mapping[str, Any]]:
    start = text.index(word)
    value = {"start": start, "end": start + len(word), "text": word, name: [kind]}
    return name, {**value, **({"globalOffsets": value} if name != "labels" else {})}


def test_label_studio_exports(load: Load) -> None:
    texts = [f"case {i}: rash and fever today" for i in range(40)]
    reviewed, hyper = [], []
    for text in texts:
        task = label_studio({"text": text}, span(text, "today", "Sign"))
        gold = label_studio(
            {"text": text}, span(text, "rash", "Sign"), span(text, "fever", "Symptom")
        )
        (best,) = gold["annotations"]
        best["ground_truth"] = True
        best["result"].append({"type": "relation", "from_id": "a", "to_id": "b"})
        task["annotations"].append(best)
        task["predictions"] = [{"result": [{"type": "labels", "value": {"start": 0}}]}]
        reviewed.append(task)
        hyper.append(label_studio({"text": text}, span(text, "rash", "Sign", "hypertextlabels")))
    data = load("tagging", {JSON: json.dumps(reviewed)})
    assert read(data) == (40, {"Sign": 40, "Symptom": 40})
    assert any("relation were not read" in note for note in data.notes)
    assert read(load("tagging", {JSON: json.dumps(hyper)})) == (40, {"Sign": 40})


@pytest.mark.parametrize("blank", [0, 1])
def test_label_studio_json_min(load: Load, blank: int) -> None:
    found = [
        {"id": i, "text": f"case {i:02}: rash and fever", "annotator": 1, "label": [
            {"start": 9 - blank, "end": 13 + blank, "labels": ["Sign"],
             "text": "rash".center(4 + 2 * blank)}]}
        for i in range(40)
    ]  # fmt: skip
    assert read(load("tagging", {JSON: json.dumps(found)})) == (40, {"Sign": 40})


def test_columns_that_excel_leaves_empty(load: Load) -> None:
    table = "\ufefftext,label,,\r\n" + "".join(
        f"Befund {i},{'ja' if i % 2 else 'nein'},,\r\n" for i in range(40)
    )
    assert load("classification", {"f.csv": table}).labels == ("ja", "nein")
