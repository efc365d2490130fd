"""Tables in Markdown and LaTeX, and the files of a report."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bluestab.report.tables import latex, markdown
from tests.report.test_report import LLRD, plain, row, stored, summary
from tests.support.compared_arms import RECORDS


def test_markdown_and_latex() -> None:
    table = summary(RECORDS)
    said = markdown(table, "last", ["a note"])
    lines = {line.split(" | ")[0].strip("| "): line for line in said.splitlines()}
    llrd = row(table, "llrd")
    assert f"**{llrd['mean']:.4f}**" in lines["llrd"]
    assert "**" not in lines["none"]
    assert f"{llrd['delta']:+.4f}*" in lines["llrd"]
    assert f"{llrd['p_adjusted']:.3f}" in lines["llrd"]
    assert "*" not in lines["reinit"]
    assert "over 8 seeds per arm" in said
    assert "corrected for 2 comparisons, that of the change over all arms at once (max-T)" in said
    assert said.endswith("- a note\n")

    rows = table[table["at"] == "last"].to_dict("records")
    rows[0]["arm"] = "none, 50% & more_of #1"
    text = latex("bc5cdr_chem", "minilm", rows, "last")
    assert r"none, 50\% \& more\_of \#1 & 8 & 0" in text
    assert rf"\textbf{{{llrd['mean']:.4f}}}" in text
    assert r"\label{tab:bc5cdr-chem-minilm}" in text
    assert text.count(r"\\") == 4, "headings and three arms"
    for rule in ("toprule", "midrule", "bottomrule"):
        assert rf"\{rule}" in text


def test_the_latex_table_explains_its_bold_and_bolds_nothing_else() -> None:
    table = summary(RECORDS)
    rows = table[table["at"] == "last"].to_dict("records")
    llrd = next(r for r in rows if r["arm"] == "llrd")
    text = latex("biosses", "small", rows, "last")
    assert "bold: a mean that is shown to be better than the baseline's" in text
    assert text.count(r"\textbf") == 1
    low, high = (f"{llrd[f'delta_all_{end}']:.4f}" for end in ("low", "high"))
    assert f"{llrd['delta']:+.4f}* [{low}, {high}]" in text
    assert "the change with its 95 \\% interval for all arms at once" in text
    for one in rows:  # the best mean alone is no reason
        one["p_adjusted"] = 0.2
    assert "bold" not in latex("biosses", "small", rows, "last")
    assert "**" not in markdown(table.assign(p_adjusted=0.2), "last")


def test_the_latex_table_has_true_minus_signs() -> None:
    table = summary(RECORDS)
    rows = table[table["at"] == "last"].to_dict("records")
    for one in rows[1:]:
        one |= {"arm": "lr-1 1e-05", "delta": -0.25, "delta_all_low": -0.5, "delta_all_high": 0.1}
        one |= {"p_adjusted": None}
    text = latex("biosses", "small", rows, "last")
    assert "$-$0.2500 [$-$0.5000, 0.1000]" in text
    assert "lr-1 1e-05 &" in text
    assert "& -- &" in text
    assert not re.search(r"(?<!\$)-\d", text.replace("lr-1 1e-05", "").partition("toprule")[2])


def test_few_seeds_have_a_dash() -> None:
    few = summary([*plain({0: 0.5, 1: 0.6}), *plain({0: 0.7, 1: 0.9}, technique=LLRD)])
    cells = next(line for line in markdown(few, "last").splitlines() if "llrd" in line).split(" | ")
    assert [cells[i] for i in (3, 10, 12)] == ["-", "-", "- |"]
    one = summary(plain({0: 0.5}))
    assert "intervals of the mean: none, too few seeds" in markdown(one, "last")


def test_files_of_a_report(cli: Callable[..., Any]) -> None:
    stored(Path("runs"), RECORDS)
    stale = Path("out/tables/gad_old.tex")
    stale.parent.mkdir(parents=True)
    stale.write_text("old", encoding="utf-8")
    said = cli("report", "--out", "out")
    assert (said.code, said.err) == (0, "")
    assert "95 % interval" in said.out
    assert [file.name for file in Path("out/tables").iterdir()] == ["biosses_small.tex"]
    last = Path("out/summary.md").read_text(encoding="utf-8")
    assert "at the last step" in last
    assert "biosses with small: " in last, "the advice"
    assert "biosses with small: " in said.out

    said = cli("report", "--out", "out", "--at", "best")
    assert "test score at the best step" in said.out
    best = Path("out/summary.md").read_text(encoding="utf-8")
    assert "0.9000" in best, "every best score of these records"
    assert cli("report", "--at", "first").code == 2


def test_names_that_give_one_file_name_have_a_table_each() -> None:
    from bluestab.report.write import _unused

    taken: set[str] = set()
    assert [_unused(name, taken) for name in ("a_b", "A_b", "a_b", "c")] == [
        "a_b", "A_b-2", "a_b-3", "c",
    ]  # fmt: skip
