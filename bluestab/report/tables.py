"""The table of a paper, as Markdown and as LaTeX: one per task and model, arms as rows.

Both are made from the rows of `summary_frame` alone, so that nothing is computed twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluestab.tasks.metric import metric_of_row

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]

LEVEL = 0.05
MCNEMAR = "McNemar's exact test"
HEADINGS = (
    "arm", "n", "failed", "p", "mean", "95 % interval", "not failed", "std", "pairs", "change",
    "p", "std ratio", "p",
)  # fmt: skip
MEAN = HEADINGS.index("mean")
SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def tables(summary: pd.DataFrame, at: str) -> Iterator[tuple[str, str, list[Row]]]:
    """task, model and rows of every table, in the order of the summary."""
    part = summary[summary["at"] == at]
    for (task, model), rows in part.groupby(["task", "model"], sort=False):
        yield task, model, rows.to_dict("records")


def markdown(
    summary: pd.DataFrame, at: str, notes: Sequence[str] = (), first: Sequence[str] = ()
) -> str:
    """All tables and what must be known to read them; * for p < 0.05, in bold what is shown to be
    better than its baseline.

    first  what must be known before anything is read
    """
    said = ["# Test scores " + ("at the last step" if at == "last" else "at the best step"), ""]
    for line in first:
        said += [line, ""]
    for task, model, rows in tables(summary, at):
        said += [f"## {task}, {model}", ""]
        said += [_line(HEADINGS), _line(["---"] + ["---:"] * (len(HEADINGS) - 1))]
        for row in rows:
            cells = [c.replace("|", "\\|") for c in _cells(row)]
            if _is_better(row):
                cells[MEAN] = f"**{cells[MEAN]}**"
            said.append(_line(cells))
        said += ["", caption(rows, at), ""]
    return "\n".join([*said, *(f"- {note}" for note in notes)]).rstrip() + "\n"


def latex(task: str, model: str, rows: Sequence[Row], at: str) -> str:
    """One table with booktabs' rules, to be `\\input`; needs `\\usepackage{booktabs}`."""
    body = []
    for row in rows:
        cells = _latex_cells(_cells(row), n_words=1)
        if _is_better(row):
            cells[MEAN] = rf"\textbf{{{cells[MEAN]}}}"
        body.append(cells)
    return _booktabs(f"{task}, {model}. {caption(rows, at)}", f"{task}-{model}", HEADINGS, body, 1)


def latex_grid(
    title: str, label: str, headings: Sequence[str], rows: Sequence[Sequence[str]], n_words: int
) -> str:
    """A table of a section in the same form; the first `n_words` cells of a row are words."""
    body = [_latex_cells(row, n_words) for row in rows]
    return _booktabs(title, label, headings, body, n_words)


def _latex_cells(row: Sequence[str], n_words: int) -> list[str]:
    cells = [_escaped(cell) for cell in row]
    return [*cells[:n_words], *map(_minus, cells[n_words:])]


def _booktabs(
    title: str, label: str, headings: Sequence[str], body: Sequence[Sequence[str]], n_words: int
) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_escaped(title)}}}",
            rf"  \label{{tab:{_label(label)}}}",
            r"  \begin{tabular}{" + "l" * n_words + "r" * (len(headings) - n_words) + "}",
            r"    \toprule",
            "    " + " & ".join(_escaped(heading) for heading in headings) + r" \\",
            r"    \midrule",
            *("    " + " & ".join(cells) + r" \\" for cells in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def caption(rows: Sequence[Row], at: str) -> str:
    """What the numbers are: metric, seeds, interval, tests and their correction."""
    first = rows[0]
    n = sorted({row["n"] for row in rows})
    seeds = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
    methods = dict.fromkeys(row["ci_method"] for row in rows if there(row["ci_method"]))
    compared = [row for row in rows if there(row["baseline"])]
    lower = "" if metric_of_row(first).higher_is_better else " (lower is better)"
    said = [
        f"Test {first['metric']}{lower} at the {at} step over {seeds} seeds per arm, failed runs "
        "included",
        f"intervals of the mean: {', '.join(methods) or 'none, too few seeds'}",
        "not failed: mean of the runs that did not fail; std with n - 1",
    ]
    if compared:
        baselines = " and ".join(dict.fromkeys(row["baseline"] for row in compared))
        said += [
            f"change and ratio of std against {baselines} on shared seeds (pairs: how many), the "
            "change with its 95 % interval for all arms at once",
            *tests_of(compared),
            correction(len(compared), any(there(row["n_folds"]) for row in compared)),
            f"* below {LEVEL:g}",
        ]
    if any(map(_is_better, rows)):
        said.append("bold: a mean that is shown to be better than the baseline's")
    said += dashes(rows)
    return "; ".join(said) + "."


def tests_of(compared: Sequence[Row]) -> list[str]:
    """The tests that were made, each with what it is of."""
    columns = (("change", "test_name"), ("ratio", "p_std_name"))
    names = {
        what: dict.fromkeys(row[column] for row in compared if there(row[column]))
        for what, column in columns
    }
    said = [f"p of the {what}: {', '.join(found)}" for what, found in names.items() if found]
    if any(there(row.get("p_failed")) for row in compared):
        said.append(f"p of failing: {MCNEMAR}")
    return said


def dashes(rows: Sequence[Row]) -> list[str]:
    """Why there is a dash, each reason once."""
    why = [row.get(name) for row in rows for name in ("no_p", "no_p_std") if there(row.get(name))]
    if any(there(row.get("not_paired")) for row in rows):
        why.append("the baseline has other test items or another metric")
    return [f"-: {', or '.join(dict.fromkeys(map(str, why)))}"] if why else []


def correction(n: int, folds: bool = False) -> str:
    """How p-values of `n` comparisons that are made together are corrected."""
    if n < 2:
        return "one comparison, so nothing is corrected"
    change = "multiplied by their number" if folds else "over all arms at once (max-T)"
    return f"corrected for {n} comparisons, that of the change {change}, the others by Holm"


def _cells(row: Row) -> list[str]:
    return [
        str(row["arm"]),
        str(row["n"]),
        str(row["n_degenerate"] + row["n_diverged"]),
        p_of(row, "p_failed_adjusted"),
        _number(row["mean"]),
        interval(row["ci_low"], row["ci_high"]),
        _number(row["mean_without_failed"]),
        _number(row["std"]),
        *_with_interval(row),
    ]


def _with_interval(row: Row) -> list[str]:
    """`change_cells`, the change with its interval, which holds for all arms at once."""
    pairs, change, *rest = change_cells(row)
    if there(row["delta"]) and there(row["delta_all_low"]):
        change += f" [{row['delta_all_low']:.4f}, {row['delta_all_high']:.4f}]"
    return [pairs, change, *rest]


def change_cells(row: Row) -> list[str]:
    """Pairs, change of the mean and its p, ratio of std and its p; empty without a comparison,
    dashes beside a baseline of other test items."""
    if there(row.get("not_paired")):
        return ["-"] * 5
    return [
        str(row["pairs"]) if there(row["baseline"]) else "",
        _signed(row["delta"]) + _mark(row["p_adjusted"]),
        p_of(row, "p_adjusted"),
        _number(row["std_ratio"], 2) + _mark(row["p_std_adjusted"]),
        p_of(row, "p_std_adjusted"),
    ]


def _is_better(row: Row) -> bool:
    """Is the mean shown to be better than the baseline's? The highest one alone is no finding."""
    shown = there(row["p_adjusted"]) and row["p_adjusted"] < LEVEL
    return shown and metric_of_row(row).better(row["delta"], 0)


def _minus(cell: str) -> str:
    """Numbers with the minus of mathematics, and a dash for what there is none of."""
    return "--" if cell == "-" else re.sub(r"(?<![\w.])-(?=\d)", "$-$", cell)


def there(value: Any) -> bool:
    """Neither None nor NaN, as which a table of numbers hands it out."""
    return value is not None and value == value


def _number(value: Any, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if there(value) else ""


def _signed(value: Any) -> str:
    return f"{value:+.4f}" if there(value) else ""


def interval(low: Any, high: Any) -> str:
    return f"{low:.4f} to {high:.4f}" if there(low) and there(high) else ""


def _mark(p: Any) -> str:
    return "*" if there(p) and p < LEVEL else ""


def p_of(row: Row, column: str) -> str:
    """A p-value in three digits; `-` where there is a comparison but too few seeds."""
    if not there(row["baseline"]):
        return ""
    value = row[column]
    if not there(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def _label(name: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in name)
