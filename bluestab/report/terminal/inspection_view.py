"""An inspection as tables in the terminal and as a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rich.table import Table

from bluestab.core.printable import counted
from bluestab.core.types import SPLITS
from bluestab.report.terminal.tables import console
from bluestab.report.words.phrases import number
from bluestab.training.inspection import PAIRS, Inspection

MOST = 30  # labels in a table
WIDE = 400  # characters of an item that the terminal shows

Rows = list[list[str]]


def print_inspection(found: Inspection) -> None:
    """All of it, random items included: the terminal is the person's own. Counts and warnings come
    last, where the eye is; long items before them."""
    out = console()
    out.print(f"{found.task}, read by {found.model}, scored by {found.metric}", markup=False)
    for note in found.notes:
        out.print(f"  {note}", markup=False, soft_wrap=True)
    if found.shown:
        out.print("\ntraining items as the model gets them", markup=False)
    for name, text, target in found.shown:
        shown = text if len(text) <= WIDE else text[:WIDE] + " ..."
        out.print(f"  {name} -> {target}\n    {shown}", markup=False, soft_wrap=True)
    for heading, rows in sections(found):
        out.print(f"\n{heading}", markup=False, soft_wrap=True)
        table = Table(box=None, pad_edge=False, show_header=True)
        for i, title in enumerate(rows[0]):
            table.add_column(title, justify="left" if i == 0 else "right")
        for row in rows[1:]:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))
        out.print(table)
    out.print()
    for sentence in sentences(found):
        out.print(sentence, markup=False, soft_wrap=True)


def sections(found: Inspection) -> list[tuple[str, Rows]]:
    """Headings and tables, the first row of each its titles."""
    parts = found.parts
    rows: Rows = [
        ["part", "items", f"{found.unit}: median", "95 %", "most", "cut", "lost", "repeated"]
    ]
    for split in SPLITS:
        part = parts[split]
        lengths = part.lengths
        rows.append(
            [
                split, str(part.n), str(lengths.median), str(lengths.high), str(lengths.most),
                _share(lengths.truncated), _share(lengths.lost), str(part.repeated),
            ]
        )  # fmt: skip
    tables = [(f"items (cut: those longer than task.max_length={found.max_length})", rows)]
    names = list(dict.fromkeys(name for split in SPLITS for name in parts[split].labels))
    if names:
        rows = [["label", *SPLITS, "share of train"]]
        total = sum(parts["train"].labels.values()) or 1
        for name in names[:MOST]:
            counts = [parts[split].labels.get(name, 0) for split in SPLITS]
            rows.append([name, *map(str, counts), _share(counts[0] / total)])
        more = f" (the first {MOST} of {len(names)})" if len(names) > MOST else ""
        tables.append((f"labels{more}", rows))
    if parts["train"].numbers is not None:
        rows = [["part", "least", "mean", "most"]]
        for split in SPLITS:
            rows.append([split, *(number(value) for value in parts[split].numbers or ())])
        tables.append(("numbers to predict", rows))
    rows = [["parts", "texts in both", "groups in both"]]
    for pair in PAIRS:
        rows.append([f"{pair[0]}, {pair[1]}", str(found.leaks[pair]), str(found.shared[pair])])
    tables.append(
        ("leaks: items of the second part of which a text, but for case and punctuation, is in the "
         "first", rows)
    )  # fmt: skip
    return tables


def sentences(found: Inspection) -> list[str]:
    """What the numbers mean."""
    said = []
    if any(found.leaks[pair] or found.shared[pair] for pair in PAIRS):
        said.append(
            "WARNING: parts share texts or documents, so test scores are too good; without files "
            "for validation and test (or with task.folds) parts are drawn that share none"
        )
    if found.disputed:
        said.append(
            f"{counted(found.disputed, 'text occurs', 'texts occur')} with different targets"
        )
    if found.baseline is not None:
        said.append(
            f"one and the same answer ({found.baseline[0]}) gets {found.metric} "
            f"{found.baseline[1]:.4f} on test"
        )
    if found.failed_at is not None:
        said.append(
            f"a run has failed, learned nothing, at {found.metric} {found.failed_at:.4f} or "
            f"{'below' if found.higher_is_better else 'above'}"
        )
    if found.unit == "words":
        said.append(
            f"the tokenizer of {found.model} is not on this machine, so lengths are in words: "
            "bluestab fetch brings it"
        )
    return [*said, *found.limits]


def page(found: Inspection, *, with_text: bool) -> str:
    """The same as HTML. Only `with_text` puts texts of the data into it."""
    body = [f"<h1>{escape(found.task)}</h1>"]
    body.append(
        f"<p>read by {escape(found.model)}, scored by {escape(found.metric)}</p><ul>"
        + "".join(f"<li>{escape(note)}</li>" for note in found.notes)
        + "</ul>"
    )
    for heading, rows in sections(found):
        body.append(f"<h2>{escape(heading)}</h2>{_table(rows)}")
    body.append("<h2>what it means</h2>")
    body += [f"<p>{escape(sentence)}</p>" for sentence in sentences(found)]
    if with_text and found.shown:
        body.append("<h2>training items as the model gets them</h2>")
        shown = [[name, target, text] for name, text, target in found.shown]
        body.append(_table([["item", "target", "input"], *shown], classes="text"))
    elif found.shown:
        body.append("<p>No text of the data is on this page; --with-text adds random items.</p>")
    return PAGE.format(title=escape(found.task), body="\n".join(body))


def _table(rows: Sequence[Sequence[str]], classes: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    lines = [
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows[1:]
    ]
    return (
        f'<table class="{classes}"><thead><tr>{head}</tr></thead><tbody>'
        + "".join(lines)
        + "</tbody></table>"
    )


def _share(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.1f} %"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: .5rem 0; }}
th, td {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884; }}
th:first-child {{ text-align: left; font-weight: normal; }}
thead th {{ font-weight: bold; }}
table.text td {{ text-align: left; overflow-wrap: anywhere; }}
</style></head><body>
{body}
</body></html>
"""
