"""No printed interval leaves the range of its metric: a truth beyond it cannot be.

What is cut off holds no possible value, so an interval covers as often as before.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from bluestab.report.tables import there
from bluestab.tasks.metric import metric_of_row

SCORES = ("ci", "ci_all", "items")
"""Intervals of a score; `NAME_low` and `NAME_high` are their columns."""

CHANGES = ("delta", "delta_all", "delta_items")
"""Intervals of a difference of two scores, which is at most as large as the range is wide."""


def keep_in_range(row: MutableMapping[str, Any]) -> None:
    """Cut the intervals of a row of the summary at the ends of its metric's range, in place.

    A failed run may have a score beyond it (`task.failure_score`), and their mean stays within its
    interval.
    """
    metric = metric_of_row(row)
    least, most = metric.least, metric.most
    if there(row.get("min")):
        least, most = min(least, row["min"]), max(most, row["max"])
    for names, low, high in ((SCORES, least, most), (CHANGES, least - most, most - least)):
        for name in names:
            if there(row.get(f"{name}_low")):
                row[f"{name}_low"] = min(max(row[f"{name}_low"], low), high)
            if there(row.get(f"{name}_high")):
                row[f"{name}_high"] = max(min(row[f"{name}_high"], high), low)
