"""BioASQ task 7b, yes/no questions -> BLURB's 670 / 75 / 140 in one plain form.

For registered participants only (http://participants-area.bioasq.org): the files are the user's
own. As BLURB has it, test = the yes/no questions of the five golden batches; dev = the 75 of the
training part whose ids are in `splits/bioasq.txt` (published with BigBIO's `bioasq_task_b`);
train = the others. Questions stand in the order of the organisers' files, not in BLURB's own.

Each part is a JSON list of {"id", "question", "context", "answer"}: context = the texts of the
question's snippets joined by blanks, line ends made blanks, as in BLURB's pre-processing; answer =
yes or no. Not checked against real files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.converters.originals import (
    Files,
    given,
    json_content,
    one_line,
    split_lists,
    text_of,
)

TRAINING = "BioASQ-training7b/trainining7b.json"  # sic
GOLDEN = tuple(f"Task7BGoldenEnriched/7B{batch}_golden.json" for batch in range(1, 6))
COUNTS = {"train": 670, "dev": 75, "test": 140}

Row = dict[str, str]


def convert(files: Files) -> dict[str, bytes]:
    """`trainining7b.json` and `7B1_golden.json` to `7B5_golden.json` -> `{train,dev,test}.json`.

    Raises DataError where the numbers of questions are not BLURB's: another edition has others.
    """
    training = given(files, TRAINING)
    questions = list(_yes_no(training))
    dev_ids = split_lists("bioasq")["dev"]
    parts = {
        "train": [row for row in questions if row["id"] not in dev_ids],
        "dev": [row for row in questions if row["id"] in dev_ids],
        "test": [row for name in GOLDEN for row in _yes_no(given(files, name))],
    }
    seen: set[str] = set()
    for part, rows in parts.items():
        where = files[GOLDEN[0]].parent if part == "test" else training
        if len(rows) != COUNTS[part]:
            raise DataError(
                where, f"gives {len(rows)} yes/no questions for {part}, BLURB has {COUNTS[part]}"
            )
        for row in rows:
            if row["id"] in seen:
                raise DataError(where, f"has the question {row['id']} twice")
            seen.add(row["id"])
    return {
        f"{part}.json": (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
        for part, rows in parts.items()
    }


def _yes_no(path: Path) -> Iterator[Row]:
    """The yes/no questions of one of the organisers' files, in its order."""
    content = json_content(path)
    questions = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(questions, list):
        raise DataError(path, "should hold an object with a list `questions`")
    for number, question in enumerate(questions):
        if not isinstance(question, dict):
            raise DataError(path, f"questions[{number}] should be an object, is {question!r}")
        if question.get("type") == "yesno":
            yield _row(path, question, number)


def _row(path: Path, question: dict[str, object], number: int) -> Row:
    name = text_of(question.get("id"), path, f"id of questions[{number}]")
    answer = question.get("exact_answer")
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    answer = text_of(answer, path, f"exact_answer of {name}").strip().lower()
    if answer not in ("yes", "no"):
        raise DataError(path, f"exact_answer of {name} is {answer!r}, neither yes nor no")
    snippets = question.get("snippets")
    if not isinstance(snippets, list) or not all(isinstance(s, dict) for s in snippets):
        raise DataError(path, f"snippets of {name} should be a list of objects")
    texts = [text_of(s.get("text"), path, f"a snippet's text of {name}") for s in snippets]
    return {
        "id": name,
        "question": one_line(text_of(question.get("body"), path, f"body of {name}")),
        "context": one_line(" ".join(texts)),
        "answer": answer,
    }
