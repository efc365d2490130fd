"""`tests/planted_bugs.py`: every bug can still be planted."""

from __future__ import annotations

import pytest

from tests.planted_bugs import PLANTS, ROOT, Plant, file_with


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_its_text_stands_once(plant: Plant) -> None:
    assert plant.before != plant.after
    assert file_with(ROOT, plant.before).is_file()
