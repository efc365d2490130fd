"""Stored predictions -> how far the runs of each cell come apart: `bluestab.stats.instability`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from bluestab.core.errors import StoreError
from bluestab.report.section import Block, Grid, Json, Results, Section, table
from bluestab.report.words.phrases import first_of, number
from bluestab.stats import instability as measure
from bluestab.store.artefacts import read_predictions
from bluestab.store.representations import FILE as REPRESENTATIONS
from bluestab.store.representations import read_representations
from bluestab.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

MEASURES = {
    "i_pwd": ("pairwise", "pairwise disagreement"),
    "i_kappa": ("1-kappa", "1 \u2212 kappa"),
    "i_jsd": ("JSD", "Jensen-Shannon"),
    "i_difference": ("difference", "difference (in std of targets)"),
    "i_discordance": ("1-concordance", "1 \u2212 concordance"),
    "i_entity": ("1-entity F1", "1 \u2212 entity F1"),
    "i_cka": ("1-CKA", "1 \u2212 CKA"),
    "i_op": ("Procrustes", "Procrustes"),
}
"""Column -> what it is called in the terminal, and on the page."""
OF_A_CELL = ("cell", "task", "model", "technique", "arm", "config_diff", "metric")
COLUMNS = (
    *OF_A_CELL, "at", "form", "n", "n_left_out", "n_items", "n_vectors",
    "sd_population", "sd_sample", *MEASURES,
)  # fmt: skip

PREDICTIONS = "predictions.parquet"
TAG = re.compile(r"O|[BI](-.+)?")

Row = dict[str, Any]
Form = Literal["classes", "numbers", "labels", "words"]


@dataclass(frozen=True)
class Instability:
    """What was found, and what was not used.

    frame     one row per cell and `at`, columns `COLUMNS`
    left_out  sentences about files that cannot be used
    """

    frame: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    left_out: Sequence[str] = ()


Visit = Callable[[Sequence[Row], Sequence["pa.Table"]], None]
"""Runs of one cell, at `last` or `best`, and their predictions, the same items in each."""


def instability_frame(
    store: Store, runs: pd.DataFrame, *, vectors: bool = False, visit: Visit | None = None
) -> Instability:
    """How far the runs of each cell come apart on the test items, at last and at best.

    runs     as `read_results` gives it: only files of these runs are read
    vectors  measure representations, too: up to half a second for every pair of runs
    visit    is shown all predictions while they are read: no other frame need read them again

    Cells without any stored predictions have no row; one that was cross-validated has a row per
    fold, named in `config_diff`. Columns:

    form           what the predictions are: classes, numbers, labels (any number of them), words
    n              runs with predictions: all that the measures are about. n_left_out: other runs
                   with a result, diverged ones and those in `left_out`
    n_items        test items; n_vectors: runs with representations
    sd_population, sd_sample   of the score, over these n runs (summary.csv: over all)
    i_pwd, i_kappa, i_jsd      Du & Nguyen 2023; of labels their mean over labels, of words per word
    i_difference, i_discordance   of numbers; i_entity: of entities, 1 - F1 between seeds
    i_cka, i_op    of the vectors of the last layer

    A measure that is not defined, or not for this form, is None.
    """
    if runs.empty:
        return Instability()
    cells: dict[tuple[str, Any], list[Row]] = defaultdict(list)  # folds have other test items
    for run in runs[runs["status"] != "crashed"].to_dict("records"):
        cells[run["cell"], _fold_of(run)].append(run)
    table: list[Row] = []
    left_out: list[str] = []
    for members in cells.values():
        table += _rows(store, members, left_out, vectors, visit)
    return Instability(pd.DataFrame(table, columns=list(COLUMNS)), tuple(left_out))


def _rows(
    store: Store,
    members: Sequence[Row],
    left_out: list[str],
    vectors: bool,
    visit: Visit | None,
) -> list[Row]:
    """The rows of one cell, last and best."""
    by_run: dict[str, dict[str, Row]] = defaultdict(dict)
    for run in members:
        by_run[run["key"]][run["at"]] = run
    read: dict[str, pa.Table] = {}
    heard: dict[str, Mapping[str, Any]] = {}
    for key, ats in by_run.items():
        run = next(iter(ats.values()))
        if run["status"] != "done":
            continue
        try:
            found = _predictions(store.folder(key), run.get("files") or {})
            if found is None:
                continue
            first = next(iter(read.items()), None)
            if first is not None and not _same_items(found, first[1]):
                raise StoreError(
                    f"{store.folder(key) / PREDICTIONS} cannot be used (its test items are not "
                    f"those of {first[0]}, a run of the same cell)"
                )
        except StoreError as error:
            left_out.append(str(error))
            continue
        read[key] = found
        if vectors and (file := store.folder(key) / REPRESENTATIONS).is_file():
            try:
                heard[key] = _vectors(file, found)
            except StoreError as error:
                left_out.append(str(error))
    if not read:
        return []
    table = []
    for at in ("last", "best"):
        chosen = [ats[at] for key, ats in by_run.items() if key in read]
        scores = [run["score"] for run in chosen]
        parts = [_part(read[run["key"]], at) for run in chosen]
        if visit is not None:
            visit(chosen, parts)
        seen = [heard[run["key"]] for run in chosen if run["key"] in heard]
        cka, op = measure.vector_instability([v.get(at, v["last"]) for v in seen])
        table.append(
            {
                **{column: chosen[0][column] for column in OF_A_CELL},
                **_fold(chosen[0]),
                "at": at,
                "n": len(chosen),
                "n_left_out": len(by_run) - len(chosen),
                "n_items": len(parts[0]),
                "n_vectors": len(seen) if vectors else None,
                "sd_population": measure.sd_population(scores),
                "sd_sample": measure.sd_sample(scores),
                **dict.fromkeys(MEASURES),
                **_measured(parts),
                "i_cka": cka,
                "i_op": op,
            }
        )
    return table


def _fold_of(run: Row) -> int | None:
    fold = run.get("fold")
    return None if fold is None or fold != fold else int(fold)


def _fold(run: Row) -> Row:
    if (fold := _fold_of(run)) is None:
        return {}
    said = f"fold={fold}"
    return {
        "arm": f"{run['arm']}, {said}",
        "config_diff": ", ".join(filter(None, [run["config_diff"], said])),
    }


def _predictions(folder: Path, files: Mapping[str, str]) -> pa.Table | None:
    """The predictions of a run; None if it never left any. Raises StoreError."""
    path = folder / PREDICTIONS
    if PREDICTIONS not in files and not path.is_file():
        return None
    return read_predictions(path, files.get(PREDICTIONS))


def _vectors(file: Path, predictions: pa.Table) -> Mapping[str, Any]:
    found = read_representations(file)
    shapes = {values.shape[:1] for values in found.values()}
    if "last" not in found or shapes != {(len(predictions) // 2,)}:
        raise StoreError(f"{file} cannot be used (it is not of the items of {PREDICTIONS})")
    return found


def _same_items(one: pa.Table, other: pa.Table) -> bool:
    """The same test items in the same order, at last and at best."""
    return all(one[column].equals(other[column]) for column in ("at", "id", "target"))


def _part(table: pa.Table, at: str) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.equal(table["at"], at))


# --- one cell, at last or best ---------------------------------------------------------------


def _measured(parts: Sequence[pa.Table]) -> Row:
    """The measures that the predictions of several runs have: all `parts` hold the same items."""
    form = _form(parts)
    if form is None:
        return {}
    of_form: Mapping[Form, Callable[[Sequence[pa.Table]], Row]] = {
        "classes": _classes, "numbers": _numbers, "labels": _labels, "words": _words,
    }  # fmt: skip
    return {"form": form, **(of_form[form](parts) if len(parts) >= 2 else {})}


def _form(parts: Sequence[pa.Table]) -> Form | None:
    """What the predictions are, told from themselves: lists are tags if each is as long as its
    target and all hold IOB2 tags alone. None for what has no measure."""
    import pyarrow as pa

    kinds = [part["prediction"].type for part in parts]
    if all(map(pa.types.is_floating, kinds)):
        return "numbers"
    if all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in kinds):
        return "classes"
    if not all(pa.types.is_list(k) and not pa.types.is_primitive(k.value_type) for k in kinds):
        return None  # so are numbers per masked piece
    if pa.types.is_string(parts[0]["target"].type):  # concepts, ranked for one that is meant
        return "classes" if all(_flat(p, "prediction")[1].all() for p in parts) else None
    names = {*_coded([_flat(p, c)[0] for p in parts for c in ("prediction", "target")])[0]}
    lengths = [[_flat(p, c)[1] for c in ("prediction", "target")] for p in parts]
    tags = all(map(TAG.fullmatch, names)) and all(np.array_equal(a, b) for a, b in lengths)
    return "words" if names and tags else "labels"


def _classes(parts: Sequence[pa.Table]) -> Row:
    """Of ranked concepts the first; their similarities are no distribution."""
    from pyarrow import compute, types

    columns = [part["prediction"] for part in parts]
    if ranked := types.is_list(columns[0].type):
        columns = [compute.list_element(column, 0) for column in columns]
    _, votes = _coded(columns)
    return {
        "i_pwd": measure.disagreement(np.stack(votes)),
        "i_kappa": measure.kappa_instability(np.stack(votes)),
        "i_jsd": None if ranked else _jsd(parts, _width(parts[0]), measure.softmax),
    }


def _numbers(parts: Sequence[pa.Table]) -> Row:
    values = np.stack([part["prediction"].to_numpy() for part in parts])
    return {
        "i_difference": measure.difference(values, parts[0]["target"].to_numpy()),
        "i_discordance": measure.discordance(values),
    }


def _labels(parts: Sequence[pa.Table]) -> Row:
    """Labels that no run ever gives count where a label has a logit: all agree on them."""
    flat = [_flat(part, "prediction") for part in parts]
    names, codes = _coded([values for values, _ in flat])
    n_items, width = len(parts[0]), _width(parts[0])
    decisions = np.zeros((len(parts), n_items, max(len(names), width or 0)), dtype=np.int64)
    for seed, ((_, lengths), chosen) in enumerate(zip(flat, codes, strict=True)):
        decisions[seed, np.repeat(np.arange(n_items), lengths), chosen] = 1
    return {
        "i_pwd": measure.over_labels(measure.disagreement, decisions),
        "i_kappa": measure.over_labels(measure.kappa_instability, decisions),
        "i_jsd": _jsd(parts, width and 1, lambda x: measure.yes_or_no(x[..., 0])),
    }


def _words(parts: Sequence[pa.Table]) -> Row:
    """Every word is an item; what agrees by chance, mostly `O`, is what kappa takes out."""
    flat = [_flat(part, "prediction") for part in parts]
    lengths = flat[0][1]  # those of the targets, in every run
    names, tags = _coded([values for values, _ in flat])
    votes = np.stack(tags)
    first = np.zeros(votes.shape[1], dtype=np.bool_)
    first[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    found = [measure.entities(one, names, first) for one in votes] if votes.size else []
    return {
        "i_pwd": measure.disagreement(votes),
        "i_kappa": measure.kappa_instability(votes),
        "i_jsd": _jsd(parts, _tags_per_word(parts[0], lengths), measure.softmax),
        "i_entity": measure.entity_disagreement(found),
    }


def _tags_per_word(part: pa.Table, n_words: np.ndarray) -> int | None:
    """How many logits a word has: words beyond `max_length` have none, so the most there are."""
    n_logits = _flat(part, "logits")[1]
    some = n_words > 0
    if not some.any():
        return None
    most = int(np.max(n_logits[some] // n_words[some]))
    return most if most and not (n_logits % most).any() else None


def _width(part: pa.Table) -> int | None:
    """How many logits every item has; None if that differs."""
    found = np.unique(_flat(part, "logits")[1])
    return int(found[0]) if len(found) == 1 else None


def _jsd(
    parts: Sequence[pa.Table], width: int | None, probabilities: Callable[[Any], Any]
) -> float | None:
    """Of what `probabilities` makes of `width` logits each; None if runs differ in their number."""
    flat = [_flat(part, "logits") for part in parts]
    if not width or any(not np.array_equal(flat[0][1], lengths) for _, lengths in flat):
        return None
    logits = np.stack([values.to_numpy(zero_copy_only=False) for values, _ in flat])
    return measure.jensen_shannon(probabilities(logits.reshape(len(parts), -1, width)))


def _flat(part: pa.Table, column: str) -> tuple[Any, np.ndarray]:
    """Values of a column of lists one after the other, and the length of each list."""
    lists = part[column].combine_chunks()
    return lists.flatten(), lists.value_lengths().to_numpy(zero_copy_only=False)


def _coded(columns: Sequence[Any]) -> tuple[list[str], list[np.ndarray]]:
    """Columns of text -> the names in them, and each column as places in that list."""
    import pyarrow as pa

    texts = [
        piece.cast(pa.string())
        for column in columns
        for piece in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])
    ]
    coded = pa.concat_arrays(texts).dictionary_encode()
    ends = np.cumsum([len(column) for column in columns])[:-1]
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return coded.dictionary.to_pylist(), np.split(codes, ends)


# --- what is shown of it ---------------------------------------------------------------------


def _shown(rows: pd.DataFrame) -> list[str]:
    """The measures that some cell has."""
    return [column for column in MEASURES if len(rows) and rows[column].notna().any()]


def _printed(results: Results) -> list[Block]:
    """task, model, arm, n and measures at the last step, of cells with two seeds or more, and what
    was not used."""
    said: list[Block] = []
    frame = results.frame("instability")
    rows = frame[(frame["at"] == "last") & (frame["n"] >= 2)] if len(frame) else frame
    if shown := _shown(rows):
        said += [
            "\nhow far seeds come apart on the test items, at the last step (0: not at all)",
            Grid(
                ["task", "model", "arm", "n", *(MEASURES[column][0] for column in shown)],
                list(_cells(rows, shown)),
                n_words=3,
            ),
        ]
    return [*said, *first_of("not compared", results.left_out)]


def _cells(rows: pd.DataFrame, shown: Sequence[str]) -> Iterator[list[str]]:
    previous = None
    for row in rows.to_dict("records"):
        subject = (row["task"], row["model"])
        where = ("", "") if subject == previous else subject
        previous = subject
        numbers = (number(row[column]) for column in shown)
        yield [*where, row["arm"], str(row["n"]), *numbers]


def _data(results: Results) -> Mapping[str, Json]:
    """The measures that some cell has, and how the standard deviations compare."""
    frame = results.frame("instability")
    shown = _shown(frame)
    columns = ["cell", "at", "n", "n_items", "sd_sample", *shown]
    names = {column: MEASURES[column][1] for column in shown}
    return {"instability": {**table(frame, columns), "names": names}}


INSTABILITY = Section(
    "instability",
    "Seeds that score alike and answer differently",
    "How far the runs of an arm come apart on the test items; 0: not at all (Du & Nguyen 2023).",
    printed=_printed,
    data=_data,
)
"""Its frame comes with the results: predictions are read once, for the summary as well."""
