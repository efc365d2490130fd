"""Files of concepts and names."""

from pathlib import Path

import pytest

from bluestab.core.errors import DataError
from bluestab.data.dictionary import read_dictionary


def written(folder: Path, *lines: str) -> Path:
    path = folder / "concepts.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_form_of_medic(tmp_path: Path) -> None:
    found = read_dictionary(
        written(tmp_path, "D1|OMIM:7||Colon cancer|COLON CANCER|cancer of colon", "D2||Pain")
    )
    assert found.ids == ("D1", "D2")
    assert found.names == (("Colon cancer", "cancer of colon"), ("Pain",))
    assert [found.number(i) for i in ("MESH:D1", "7", "OMIM:7", "D2", "D3")] == [0, 0, 0, 1, None]


def test_lines_and_columns_of_one_id_are_one_concept(tmp_path: Path) -> None:
    found = read_dictionary(written(tmp_path, "D1\tPain\tAche", "D2\tCough", "D1\tDolor|Hurt", ""))
    assert found.names == (("Pain", "Ache", "Dolor", "Hurt"), ("Cough",))
    assert found.n_names == 5


def test_an_id_of_its_own_goes_before_a_further_one_of_another_concept(tmp_path: Path) -> None:
    found = read_dictionary(written(tmp_path, "D1|D2||Pain", "D2||Cough"))
    assert found.number("D2") == 1


@pytest.mark.parametrize("line", ["D3", "||Pain", "D3\t", "D3||", "\tPain"])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=r"line 2: expected ID\|\|NAME"):
        read_dictionary(written(tmp_path, "D1||Pain", line))


def test_one_concept_is_nothing_to_choose_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 1 concepts"):
        read_dictionary(written(tmp_path, "D1||Pain"))
