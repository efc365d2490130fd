"""Arms of eight seeds whose scores are drawn, to be compared."""

from __future__ import annotations

import numpy as np

from bluestab.core.types import RunRecord
from tests.report.test_report import LLRD, plain

REINIT = [("reinit", {"depth": 1})]


def scores(mean: float, std: float, n: int, stream: int) -> dict[int, float | None]:
    drawn = np.random.default_rng(stream).normal(mean, std, size=n)
    return {seed: float(x) for seed, x in enumerate(drawn)}


NONE, BETTER, ALIKE = scores(0.5, 0.05, 8, 0), scores(0.65, 0.04, 8, 1), scores(0.5, 0.05, 8, 2)
RECORDS: list[RunRecord] = [
    *plain(NONE),
    *plain(BETTER, technique=LLRD),
    *plain(ALIKE, technique=REINIT),
]


def values(of: dict[int, float | None]) -> np.ndarray:
    return np.array([x for x in of.values() if x is not None])
