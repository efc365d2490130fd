"""Exact search against a loop over everything."""

import numpy as np
import pytest

from bluestab.tasks import nearest


def by_loop(mentions: np.ndarray, names: list[list[np.ndarray]], k: int) -> list[list[int]]:
    found = []
    for mention in mentions:
        scored = []
        for number, own in enumerate(names):
            cosines = [
                float(mention @ name / (np.linalg.norm(mention) * np.linalg.norm(name)))
                for name in own
            ]
            scored.append((-max(cosines), number))
        found.append([number for _, number in sorted(scored)[:k]])
    return found


@pytest.mark.parametrize("at_once", [1, 200, 2**20])
def test_it_finds_what_a_loop_finds(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(nearest, "AT_ONCE", at_once)
    random = np.random.default_rng(0)
    names = [[random.normal(size=6) for _ in range(1 + n % 4)] for n in range(90)]
    mentions = random.normal(size=(17, 6))
    flat = nearest.unit(np.stack([name for own in names for name in own]))
    unit, sizes = nearest.unit(mentions), []

    def similarities(part: slice) -> np.ndarray:
        sizes.append(part.stop - part.start)
        return unit[part] @ flat.T  # type: ignore[no-any-return]

    starts = nearest.first_names(names)
    found = list(nearest.nearest_concepts(similarities, len(mentions), starts, len(flat)))
    assert [best.tolist() for best, _ in found] == by_loop(mentions, names, 64)
    assert all(np.all(np.diff(similar) <= 0) for _, similar in found)
    assert sum(sizes) == 17
    assert max(sizes) == max(1, min(17, at_once // len(flat)))


def test_of_equal_ones_the_first() -> None:
    values = np.array([0.5, 1.0, 0.5, 1.0, 0.5], dtype=np.float32)
    assert nearest.top(values, 4).tolist() == [1, 3, 0, 2]
    assert nearest.top(values, 9).tolist() == [1, 3, 0, 2, 4]
