"""Which arms may be paired: those scored by one metric on the same test items.

At equal seeds two arms share batches and head; their difference is the technique's only if both
were scored on the same items. That is not taken from their names: it is read from the hashed
configs (content of the files, sizes, folds, metric) and, where predictions were stored, from the
ids and targets of the items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bluestab.tasks.splits import SHARE

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Row = Mapping[str, Any]
Identity = tuple[tuple[str, str], ...]
"""What decides the test items and their score, as (name, value) pairs."""

OF_PARTS = ("split_seed", "grouping")
"""Knobs of a task that decide parts that are drawn."""

ALWAYS = ("metric", "test_size", "label", "label_names", "positive")


def test_part(result: Mapping[str, Any]) -> Identity:
    """Of the result of a record: what its test items and their score depend on.

    A fold is no part of it: folds are paired like seeds. Training and validation items are none,
    unless the test items are drawn from the same file.
    """
    config = result["config"]
    task, data = config.get("task") or {}, config.get("data") or {}
    found = {knob: task.get(knob) for knob in ALWAYS}
    found["metric"] = result["metric"]
    if task.get("folds") is not None:
        found |= {"folds": task["folds"], **{knob: task.get(knob) for knob in OF_PARTS}}
        found["files"] = sorted(data.items())
    elif "test" in data:
        found["test file"] = data["test"]
    else:
        found |= {knob: task.get(knob) for knob in OF_PARTS}
        found["file"] = data.get("train")
        if found["test_size"] is None:
            found["test_size"] = SHARE
        if "validation" not in data:  # drawn together with it
            found["validation_size"] = task.get("validation_size")
    return tuple((name, json.dumps(value, sort_keys=True)) for name, value in found.items())


def items_digest(predictions: pa.Table) -> str:
    """Of stored predictions at one step: their items, by id and target, in any order."""
    digest = hashlib.sha256()
    for line in sorted(_names(predictions)):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def items_order(predictions: pa.Table) -> list[int]:
    """Row numbers in the order of ids and targets: the same items in the same places for all arms
    with one `items_digest`."""
    names = _names(predictions)
    return sorted(range(len(names)), key=names.__getitem__)


def _names(predictions: pa.Table) -> list[str]:
    pairs = zip(predictions["id"].to_pylist(), predictions["target"].to_pylist(), strict=True)
    return [json.dumps([str(name), target], ensure_ascii=False) for name, target in pairs]


def mismatch(own: Identity | None, reference: Identity | None) -> str:
    """Why two arms cannot be paired: `test_size: 10 against null`; empty if they can.

    Arms of which nothing is known can: the caller knows no more.
    """
    left, right = dict(own or ()), dict(reference or ())
    if not left or not right:
        return ""
    return ", ".join(
        f"{name}: {_short(left.get(name))} against {_short(right.get(name))}"
        for name in dict.fromkeys((*left, *right))
        if left.get(name) != right.get(name)
    )


class Pairing:
    """parts: cell -> `test_part`; digests: cell -> `items_digest`, of cells with predictions."""

    def __init__(
        self, parts: Mapping[str, Identity], digests: Mapping[str, str] | None = None
    ) -> None:
        self._parts, self._digests = parts, digests or {}

    def mismatch(self, own: str, reference: str) -> str:
        """Why two cells cannot be paired; empty if they can."""
        said = mismatch(self._parts.get(own), self._parts.get(reference))
        items = {self._digests[cell] for cell in (own, reference) if cell in self._digests}
        return said or ("ids or targets of their test items" if len(items) > 1 else "")


def pairing_sentences(summary: pd.DataFrame, runs: pd.DataFrame, at: str) -> Iterator[str]:
    """One per arm whose baseline has other test items; one per task and model whose arms were
    validated on other items, so that none is recommended."""
    if summary.empty:
        return
    part = summary[(summary["at"] == at) & summary["not_paired"].notna()]
    for row in part.to_dict("records"):
        yield (
            f"{row['task']} with {row['model']}, {row['arm']}: not compared (-), the baseline has "
            f"other test items or another metric ({row['not_paired']})"
        )
    scored = runs[(runs["at"] == at) & (runs["status"] != "crashed")]
    for (task, model), group in scored.groupby(["task", "model"], sort=False):
        if validated_differently(group):
            yield (
                f"{task} with {model}: arms were validated on different numbers of items, or "
                "scored on different test items, so none is recommended"
            )


def validated_differently(runs: pd.DataFrame) -> bool:
    """Whether runs of one task and model differ in their test part or number of validation items,
    so that their validation scores do not choose between arms."""
    sizes = runs.groupby("fold", dropna=False)["n_validation"].nunique()
    return bool(runs["test_part"].nunique() > 1 or (len(sizes) and sizes.max() > 1))


def _short(value: str | None) -> str:
    text = "unknown" if value is None else value.strip('"')
    return text if len(text) <= 24 else text[:8] + "..."
