"""Rows that a person accepted, of those that annotation tools also export: judged wrong, left for
later, not yet approved.

Prodigy   `answer` is accept, reject or ignore (prodi.gy/docs/api-interfaces)
doccano   `annotation_approver` names who approved a text, `is_confirmed` says that someone did

What was not accepted is no training data: it is left out and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from bluestab.data.formats.base import Rows, as_text, short

ANSWER, ANSWERS = "answer", ("accept", "reject", "ignore")
PRODIGY = frozenset(
    ("_input_hash", "_task_hash", "_view_id", "_session_id", "_annotator_id", "_timestamp")
)
"""Fields that Prodigy adds to what it exports."""

JUDGED = frozenset(("spans", "tokens", "options", "accept", "label", "labels", "relations"))
"""Fields beside which `answer` says something about them; without any it is a label itself."""

APPROVAL = ("annotation_approver", "is_confirmed")


def accepted(rows: Rows, label: object) -> Rows:
    """The rows that were accepted, and notes on the others.

    label  the column that a person named as label, or None: `answer` itself may be it

    Raises DataError where nothing was accepted, or where single suggestions were judged, which do
    not say what else is in a text.
    """
    if not rows.named:
        return rows
    return _approved(_answered(rows, label))


def _answered(rows: Rows, label: object) -> Rows:
    """Without what Prodigy's annotators rejected or ignored."""
    columns = set(rows.columns)
    if ANSWER not in columns or rows.columns.count(ANSWER) > 1:
        return rows
    known = bool(PRODIGY & columns)
    if not known and not JUDGED & columns:
        return rows
    at = rows.columns.index(ANSWER)
    said = [(as_text(row[at]) or "").strip().lower() for row in rows.rows]
    if not set(said) <= {*ANSWERS, ""} or not any(said):
        if known:
            odd = next(i for i, one in enumerate(said) if one not in ANSWERS)
            raise rows.fail(odd, f"{ANSWER} is {short(said[odd])}, expected accept, reject, ignore")
        return rows
    is_label = label is not None and rows.columns[rows.index(label, "task.label")] == ANSWER  # type: ignore[arg-type]
    wanted = ("accept", "reject") if is_label else ("accept",)
    if not is_label:
        _whole_texts(rows)
    kept = [i for i, one in enumerate(said) if one in wanted]
    if not kept:
        raise rows.fail(0, f"no row has the {ANSWER} accept: nothing was annotated")
    n = Counter(one or "unanswered" for one in said)
    left = ", ".join(
        f"{n[k]} {k}" for k in ("reject", "ignore", "unanswered") if k not in wanted and n[k]
    )
    note = f"Prodigy: {len(kept)} of {len(said)} rows were accepted"
    if is_label:
        note = "Prodigy: accept and reject are the classes"
    notes = [note + (f"; left out: {left}" if left else "")]
    preferred = dict(rows.preferred)
    if "accept" in columns and not is_label:
        preferred["label"] = "accept"  # what was chosen among `options`
    return _only(rows, kept, notes, preferred)


def _whole_texts(rows: Rows) -> None:
    """Raises DataError for suggestions that were judged one by one (recipes such as ner.teach):
    what no row says of a word is not known, so a text has no gold tags."""
    if "spans" not in rows.columns:
        return
    spans = rows.column("spans", "task.label")
    names = [name for name in ("_session_id", "_annotator_id") if name in rows.columns]
    seen: dict[Hashable, set[str]] = defaultdict(set)
    for i, found in enumerate(spans):
        row = dict(zip(rows.columns, rows.rows[i], strict=True))
        if row.get("_view_id") == "ner":
            raise rows.fail(i, _PIECEWISE)
        if isinstance(found, list) and len(found) == 1 and "text" in row:
            key = (str(row["text"]), *(str(row[name]) for name in names))
            seen[key].add(str(found[0]))
            if len(seen[key]) > 1:
                raise rows.fail(i, _PIECEWISE)


_PIECEWISE = (
    "one suggestion at a time was judged here (Prodigy's ner.teach or another binary recipe), so "
    "what else is in the text is not known; review whole texts (ner.silver-to-gold, ner.manual) "
    "and export those"
)


def _approved(rows: Rows) -> Rows:
    """Without what nobody approved in doccano, if anything was."""
    for name in APPROVAL:
        if name not in rows.columns:
            continue
        at = rows.columns.index(name)
        kept = [i for i, row in enumerate(rows.rows) if row[at] not in (None, "", False, "false")]
        if not kept:
            return replace(
                rows, notes=(*rows.notes, "doccano: no text is approved, all were taken")
            )
        left = len(rows.rows) - len(kept)
        note = f"doccano: {len(kept)} of {len(rows.rows)} texts are approved"
        return _only(
            rows, kept, [note + (f"; {left} were left out" if left else "")], rows.preferred
        )
    return rows


def _only(rows: Rows, kept: Sequence[int], notes: Sequence[str], preferred: Any) -> Rows:
    return replace(
        rows,
        rows=[rows.rows[i] for i in kept],
        lines=[rows.lines[i] for i in kept],
        notes=(*rows.notes, *notes),
        preferred=preferred,
    )
