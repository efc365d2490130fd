"""Parquet files and saved datasets of a person's own that are none."""

from __future__ import annotations

import pytest

from tests.support.own_files import Broken, Load, refuses

BROKEN: dict[str, Broken] = {
    "Parquet that is none": (
        "classification",
        {"f.parquet": b"PAR1 not"},
        {},
        r"f\.parquet: is no Parquet file",
    ),
    "dataset without tables": (
        "classification",
        {"d/state.json": "{}", "d/dataset_info.json": "{}"},
        {"train": "d"},
        r"state\.json: is not what a saved dataset has",
    ),
    "dataset that points away": (
        "classification",
        {
            "d/state.json": '{"_data_files": [{"filename": "../x.arrow"}]}',
            "d/dataset_info.json": "{}",
        },
        {"train": "d"},
        r"names a file outside of its folder",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])
