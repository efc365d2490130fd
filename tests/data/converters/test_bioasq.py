"""BioASQ: questions that are broken, and the list of the development part."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from bluestab.core.errors import DataError
from bluestab.data.converters import originals
from tests.support.miniatures import MODULES, bioasq_question

Convert = Callable[..., dict[str, bytes]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exact_answer": "perhaps"}, "exact_answer of g4 is 'perhaps', neither yes nor no"),
        ({"exact_answer": None}, "exact_answer of g4 should be a text, is None"),
        ({"snippets": None}, "snippets of g4 should be a list"),
        ({"snippets": [{"text": 3}]}, "a snippet's text of g4 should be a text, is 3"),
        ({"body": ""}, "body of g4 should be a text"),
        ({"id": 4}, r"id of questions\[0\] should be a text, is 4"),
        ({"id": "g3"}, "has the question g3 twice"),
        ({"type": "list"}, "gives 4 yes/no questions for test, BLURB has 5"),
    ],
)
def test_bioasq_broken_questions(convert: Convert, changes: dict[str, Any], reason: str) -> None:
    last = MODULES["bioasq"].GOLDEN[-1]
    content = {"questions": [bioasq_question("g4", **changes)]}
    with pytest.raises(DataError, match=reason):
        convert("bioasq", {last: json.dumps(content).encode()})


def test_bioasq_dev_list() -> None:
    ids = originals.split_lists("bioasq")["dev"]
    assert len(ids) == len(set(ids)) == 75
    assert all(re.fullmatch("[0-9a-f]{24}", name) for name in ids)
