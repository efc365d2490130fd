"""How much time a sweep that runs still needs, by what its finished runs took."""

from __future__ import annotations

from collections.abc import Sequence


class Means:
    """Mean seconds of finished runs: of a cell, of a subject (task and model), of all."""

    def __init__(self) -> None:
        self._sums: dict[object, tuple[float, int]] = {}

    def add(self, cell: str, subject: str, seconds: float) -> None:
        for slot in (("cell", cell), ("subject", subject), None):
            total, n = self._sums.get(slot, (0.0, 0))
            self._sums[slot] = (total + seconds, n + 1)

    def knows(self, cell: str) -> bool:
        return ("cell", cell) in self._sums

    def expected(self, cell: str, subject: str) -> float | None:
        """Of the nearest kind that is known; None until something is."""
        for slot in (("cell", cell), ("subject", subject), None):
            if slot in self._sums:
                total, n = self._sums[slot]
                return total / n
        return None


def left(expected: float | None, elapsed: float, fraction: float) -> float | None:
    """Seconds that a running run still needs.

    fraction  of its steps that are done, in [0, 1]

    What finished runs say counts; a run that they say nothing of, or that takes longer than they
    did, is judged by its own pace, from a twentieth of its steps on.
    """
    if expected is not None and expected >= elapsed:
        return expected - elapsed
    if fraction >= 0.05:
        return elapsed * (1 - min(fraction, 1)) / fraction
    return None if expected is None else 0.0


def remaining(
    waiting: Sequence[float | None], running: Sequence[float | None], workers: int
) -> float | None:
    """Seconds until all runs are done: their sum over the workers, at least the longest of them.

    waiting, running  seconds that each run still needs

    None if one of them is not known.
    """
    needed = [seconds for seconds in (*waiting, *running) if seconds is not None]
    if len(needed) < len(waiting) + len(running):
        return None
    return max(sum(needed) / max(workers, 1), max(needed, default=0.0))
