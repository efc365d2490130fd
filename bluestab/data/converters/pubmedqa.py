"""PubMedQA (Jin et al. 2019), 1000 questions labelled by experts -> the authors' split, fold 0.

500 questions for testing, 450 and 50 of fold 0 for training and validation, as BLURB has them. The
authors split by seed 0 of Python's `random`: every answer's questions are shuffled and dealt to the
parts in turn; where that leaves the last part short, each other part gives it one at random.
Checked: same bytes.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from bluestab.core.errors import DataError
from bluestab.data.converters.originals import Files, given, json_content

QUESTIONS = "ori_pqal.json"
ANSWERS = "test_ground_truth.json"
DECISIONS = ("yes", "no", "maybe")
FOLDS = 10

Items = dict[str, dict[str, Any]]


def convert(files: Files) -> dict[str, bytes]:
    """`ori_pqal.json` -> `pqal_fold0/{train,dev}_set.json`, `test_set.json`.

    Raises DataError where the test part is not that of `test_ground_truth.json`.
    """
    path, answers = given(files, QUESTIONS), given(files, ANSWERS)
    items = _items(path)
    chance = random.Random(0)
    rest, test = _deal(items, 2, chance)
    folds = _deal({pmid: items[pmid] for pmid in rest}, FOLDS, chance)
    if json_content(answers) != {pmid: items[pmid]["final_decision"] for pmid in test}:
        raise DataError(answers, f"does not hold the test questions drawn from {path.name}")
    parts = {
        "pqal_fold0/train_set.json": [pmid for fold in folds[1:] for pmid in fold],
        "pqal_fold0/dev_set.json": folds[0],
        "test_set.json": test,
    }
    return {
        name: json.dumps({pmid: items[pmid] for pmid in pmids}, indent=4).encode()
        for name, pmids in parts.items()
    }


def _items(path: Path) -> Items:
    """PMID -> question; every one has an answer."""
    items = json_content(path)
    if not isinstance(items, dict):
        raise DataError(path, "should hold an object: PMID -> question")
    for pmid, item in items.items():
        decision = item.get("final_decision") if isinstance(item, dict) else None
        if decision not in DECISIONS:
            raise DataError(path, f"{pmid} has final_decision {decision!r}, not one of {DECISIONS}")
    return items


def _deal(items: Items, parts: int, chance: random.Random) -> list[list[str]]:
    """PMIDs in `parts` lists with equal shares of each answer."""
    dealt: list[list[str]] = [[] for _ in range(parts)]
    for decision in DECISIONS:
        pmids = [pmid for pmid, item in items.items() if item["final_decision"] == decision]
        chance.shuffle(pmids)
        share = -(-len(pmids) // parts)
        for i, part in enumerate(dealt):
            part += pmids[i * share : (i + 1) * share]
    if len(dealt[-1]) != len(dealt[0]):
        for part in dealt[:-1]:
            moved = chance.choice(part)
            part.remove(moved)
            dealt[-1].append(moved)
    return dealt
