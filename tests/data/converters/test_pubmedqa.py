"""PubMedQA: parts with the answers in equal shares, and answers that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bluestab.core.errors import DataError
from bluestab.data.converters import pubmedqa
from tests.support.miniatures import pubmedqa_items

Convert = Callable[..., dict[str, bytes]]


def test_pubmedqa_parts_have_the_answers_in_equal_shares(convert: Convert) -> None:
    parts = {name: json.loads(content) for name, content in convert("pubmedqa").items()}
    sizes = {name: len(items) for name, items in parts.items()}
    # 81 questions: 41 and 40 by answers, one of the 41 moved to the last part, which is the test
    assert sizes["test_set.json"] == 41
    assert sizes["pqal_fold0/train_set.json"] + sizes["pqal_fold0/dev_set.json"] == 40
    together = {pmid: item for items in parts.values() for pmid, item in items.items()}
    assert together == pubmedqa_items()
    answers = [item["final_decision"] for item in parts["test_set.json"].values()]
    assert abs(answers.count("yes") - 20) <= 1
    assert abs(answers.count("no") - 15) <= 1


def test_pubmedqa_wrong_answers(convert: Convert) -> None:
    with pytest.raises(DataError, match="does not hold the test questions drawn from ori_pqal"):
        convert("pubmedqa", {pubmedqa.ANSWERS: b'{"1000": "yes"}'})
    items: dict[str, Any] = {**pubmedqa_items(), "5": {"final_decision": "perhaps"}}
    with pytest.raises(DataError, match="5 has final_decision 'perhaps'"):
        convert("pubmedqa", {pubmedqa.QUESTIONS: json.dumps(items).encode()})
    with pytest.raises(DataError, match="should hold an object"):
        convert("pubmedqa", {pubmedqa.QUESTIONS: b"[1]"})
    with pytest.raises(DataError, match=r"ori_pqal\.json, line 3: is not JSON"):
        convert("pubmedqa", {pubmedqa.QUESTIONS: b'{\n"a": 1,\n}'})
