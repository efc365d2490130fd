"""Which column is which: as the person says, else by its name, never by a guess that may be wrong.

A file without a line of names has columns 0, 1, ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bluestab.core.errors import DataError
from bluestab.data.formats.base import Rows, as_text, short

KNOWN: Mapping[str, tuple[str, ...]] = {
    "text": (
        "text", "sentence", "sentence1", "sent1", "text_a", "texta", "text1", "premise",
        "question", "question1", "abstract", "document", "review", "content", "utterance",
        "string", "title", "body",
    ),
    "text_pair": (
        "text_pair", "sentence2", "sent2", "text_b", "textb", "text2", "hypothesis", "question2",
        "context", "contexts", "passage", "answer_text",
    ),
    "label": (
        "label", "labels", "class", "category", "target", "gold", "score", "similarity", "rating",
        "answer", "final_decision", "final_answer", "relation", "annotation", "sentiment", "y",
        "similarity_score", "relatedness_score",
    ),
    "image": (
        "image", "image_name", "image_path", "image_file", "file_name", "filename", "file", "img",
        "picture",
    ),
    "answer_type": ("answer_type", "question_type"),
    "mention": ("mention", "text", "term", "phrase", "entity", "name", "string"),
    "concept": (
        "concept", "concept_id", "cui", "mesh", "mesh_id", "code", "label", "target", "gold",
    ),
    "tokens": ("tokens", "words", "token", "word"),
    "sentence": ("sentence #", "sentence_id", "sentence_idx", "sent_id", "sent_idx"),
    "tags": ("tags", "ner_tags", "ner", "tag", "labels", "label", "iob", "bio"),
    "spans": ("spans", "entities", "label", "labels", "annotations", "mentions"),
    "id": ("id", "idx", "index", "uid", "guid", "pair_id", "doc_id", "key"),
    "group": ("pmid", "pubmed_id", "pubmedid"),
}  # fmt: skip
"""Role -> names of columns (in lower case), the more telling ones first."""

NAMES = {
    name
    for role, names in KNOWN.items()
    if role not in ("image", "answer_type")  # words that texts begin with, too
    for name in names
}


def with_header(rows: Rows, header: bool | None, given: Sequence[str | int | None]) -> Rows:
    """A table whose first row is taken as names, or not.

    rows    read without a header
    header  None: told from the columns that a person gave (names need a header) and from the first
            row (known names, or a value that occurs again below)

    Raises DataError where it cannot be told.
    """
    if rows.named:
        return rows
    if header is None:
        header = _has_header(rows, given)
    if not header:
        return rows
    if not rows.rows:
        raise DataError(rows.path, "holds no items, only a line of names")
    names = tuple(str(cell).strip() for cell in rows.rows[0])
    return replace(rows, columns=names, rows=rows.rows[1:], lines=rows.lines[1:], named=True)


def _has_header(rows: Rows, given: Sequence[str | int | None]) -> bool:
    first = [str(cell).strip() for cell in rows.rows[0]] if rows.rows else []
    named = [g for g in given if isinstance(g, str) and not g.isdecimal()]
    if named:
        return True
    known = {at for at, cell in enumerate(first) if cell.lower() in NAMES}
    again = {
        at
        for at, cell in enumerate(first)
        if cell and any(str(row[at]).strip() == cell for row in rows.rows[1:])
    }
    numeric = {at for at in range(len(first)) if rows.rows[1:] and _all_numbers(rows, at)}
    numbers = {at for at in numeric if _is_number(first[at])}
    # one word that is a name, too, may be a text; two are names, unless they are there again
    if known and not (again & known if len(known) > 1 else again | numbers):
        return True
    if not known and again:
        return False
    if not known and numeric:
        return not numbers
    raise DataError(
        rows.path,
        f"it cannot be told whether this line names the columns ({', '.join(map(short, first))}); "
        "say task.header=true or task.header=false",
        rows.lines[0] if rows.rows else 1,
    )


def _all_numbers(rows: Rows, at: int) -> bool:
    return all(_is_number(str(row[at])) for row in rows.rows[1:])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def find(rows: Rows, role: str, *, taken: Sequence[str] = ()) -> str | None:
    """The column whose name tells its role, or None.

    taken  columns that have a role already
    """
    if not rows.named:
        return None
    if (preferred := rows.preferred.get(role)) is not None and preferred not in taken:
        return preferred
    lower = {name.lower(): name for name in reversed(rows.columns)}
    for name in KNOWN[role]:
        if name in lower and lower[name] not in taken:
            return lower[name]
    return None


def choose(
    rows: Rows, role: str, given: str | int | None, *, taken: Sequence[str] = (), knob: str = ""
) -> str:
    """The column of a role: the given one, else the one whose name tells it.

    Raises DataError listing the columns if neither says.
    """
    knob = knob or f"task.{role}"
    if given is not None:
        return rows.columns[rows.index(given, knob)]
    found = find(rows, role, taken=taken)
    if found is not None:
        return found
    if not rows.named:
        raise DataError(
            rows.path,
            f"no line names its {len(rows.columns)} columns: say which holds what, e.g. "
            f"{knob}=0 (columns count from 0)",
        )
    unread = [note for note in rows.notes if note.endswith("were not read")]
    raise DataError(
        rows.path,
        f"which column is the {role.replace('_', ' ')}? say {knob}=NAME, one of: "
        + "; ".join([", ".join(rows.columns), *unread])
        + (f" (null by its name: '{knob}=\"null\"')" if "null" in rows.columns else ""),
    )


def texts(rows: Rows, column: str, knob: str) -> list[str]:
    """A column as texts. Raises DataError for an empty cell, and for what is no text."""
    found = []
    for i, value in enumerate(rows.column(column, knob)):
        text = as_text(value)
        if text is None and value is not None and value != []:
            kind = "not a number" if isinstance(value, float) else f"a {type(value).__name__}"
            raise rows.fail(i, f"{column} ({knob}) is {kind}, where a text is expected")
        if text is None or not text.strip():
            raise rows.empty(i, column, knob)
        found.append(text)
    return found


def names_of(rows: Rows, column: str | int | None, knob: str) -> list[str]:
    """Distinct names of the rows: a column, or where they stand. Raises DataError for a repeated
    one: they name items in predictions and in splits."""
    if column is None and len(set(rows.lines)) == len(rows.lines):
        return [f"{rows.unit} {line}" for line in rows.lines]
    if column is None:  # JSON without line breaks
        return [f"item {number}" for number in range(1, len(rows.lines) + 1)]
    found = texts(rows, rows.columns[rows.index(column, knob)], knob)
    seen: dict[str, int] = {}
    for i, name in enumerate(found):
        if name in seen:
            raise rows.fail(
                i,
                f"{knob} {short(name)} was already used in {rows.unit} {rows.lines[seen[name]]}",
            )
        seen[name] = i
    return found
