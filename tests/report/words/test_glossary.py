"""Every column of summary.csv has its sentence, and no sentence is about none."""

from bluestab.report.frames.summary import SUMMARY_COLUMNS
from bluestab.report.words.glossary import COLUMNS, HEADINGS, TERMS, column


def test_columns() -> None:
    assert [name for name in SUMMARY_COLUMNS if not column(name)] == []
    ends = {f"{name}_{end}" for name in COLUMNS for end in ("low", "high")} & set(SUMMARY_COLUMNS)
    stems = {name.rpartition("_")[0] for name in ends}
    assert set(COLUMNS) - set(SUMMARY_COLUMNS) - stems == set()
    assert all(
        said.endswith(".") for said in (*COLUMNS.values(), *TERMS.values(), *HEADINGS.values())
    )
    assert column("frobnicate") is None
