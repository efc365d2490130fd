"""What a task is called in a report: by the name in its records, where that is enough.

Own tasks are called after their file. A file that was renamed or copied holds the same task; and
one file whose parts were drawn by two rules gives two, whose test items are not the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bluestab.core.types import SPLITS

Row = dict[str, Any]


def name_tasks(rows: Sequence[Row], hashed: Mapping[str, Mapping[str, Any]]) -> None:
    """Give rows of one task one name, that of its last run, and those drawn by two rules
    (`task.grouping`) two.

    hashed  cell -> its configuration
    """
    latest: dict[str, tuple[str, str]] = {}
    for row in rows:
        key = _same_data(row, hashed[row["cell"]])
        latest[key] = max(latest.get(key, ("", "")), (str(row["finished"] or ""), row["task"]))
    for row in rows:
        row["task"] = latest[_same_data(row, hashed[row["cell"]])][1]
        row["grouping"] = grouping_of(hashed[row["cell"]])
    rules: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["grouping"] is not None:
            rules[row["task"]].add(row["grouping"])
    for row in rows:
        if row["grouping"] is not None and len(rules[row["task"]]) > 1:
            row["task"] = f"{row['task']} (grouping={row['grouping']})"


def grouping_of(config: Mapping[str, Any]) -> str | None:
    """By which rule its parts were drawn; None if they are those of its files."""
    task = config["task"]
    if task.get("folds") is None and set(SPLITS) <= set(config["data"]):
        return None
    return str(task.get("grouping", "text"))


def _same_data(row: Row, config: Mapping[str, Any]) -> str:
    """The same for the same items of the same kind of task. The yaml's name of a task is part of
    its configuration, that of an own file is not."""
    task = config["task"]
    if "name" in task:
        return f"named {row['task']}"
    return json.dumps([task.get("kind"), config["data"]], sort_keys=True)
