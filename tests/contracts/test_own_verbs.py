"""Every kind of own task by every verb that uses a trained model: `predict` in each format, its
`--score`, `export`, `soup` and `reproduce`. (The pipeline's own activation: `test_outputs`.)"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.inference.export import export  # noqa: E402
from bluestab.inference.members import members_of  # noqa: E402
from bluestab.inference.predicting import Order, carry_out, score_lines  # noqa: E402
from bluestab.inference.reproduce import reproduce  # noqa: E402
from bluestab.inference.soup import make_soup  # noqa: E402
from bluestab.inference.weights import find_run  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.training.execute import execute_one  # noqa: E402
from tests.contracts.test_outputs import ITEMS, SLOW, asked, written  # noqa: E402

MARKS = {
    name: pytest.mark.slow if name in SLOW else pytest.mark.more
    for name in ITEMS
    if name != "tagging"
}
ONE_TEXT = ("text", "csv", "tsv", "jsonl")
TWO_TEXTS = ("csv", "tsv", "jsonl")
WORDS = ("text", "csv", "tsv", "jsonl", "conll", "brat")


def input_of(folder: Path, form: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """New items in a format of `predict`."""
    path = folder / f"new.{form}"
    if form == "jsonl":
        return written(path, rows)
    if form == "brat":
        path.mkdir()
        for i, row in enumerate(rows):
            (path / f"{i}.txt").write_text(row["text"])
        return path
    if form == "conll":
        path.write_text("".join("\n".join(row["text"].split()) + "\n\n" for row in rows))
        return path
    if form == "text":
        path.write_text("".join(f"{row['text']}\n" for row in rows))
        return path
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter="," if form == "csv" else "\t")
        table.writeheader()
        table.writerows(rows)
    return path


def answer_for_an_item(form: str, output: Path) -> Any:
    """What the first item was answered, as one text: classes, labels, numbers, mentions."""
    if form == "brat":
        return (output / "0.ann").read_text()
    return output.read_text()


def predicted(store: Store, name: str, source: Path, output: Path, **options: Any) -> Any:
    knobs = {
        "form": None,
        "text": None,
        "text_pair": None,
        "image": None,
        "threshold": None,
        "score": False,
    }
    order = Order((name,), source, output, **{**knobs, **options})
    return order, carry_out(order, store, "cpu", 4096)


@pytest.mark.parametrize("name", [pytest.param(n, marks=MARKS.get(n, ())) for n in ITEMS])
def test_every_verb(make_run: Callable[..., Any], tmp_path: Path, name: str) -> None:
    rows = [ITEMS[name](i) for i in range(24)]
    # the test file lacks a class: a score counts those that training knew
    test = [rows[i] for i in (8, 9, 11, 12)]
    parts = (("train", rows), ("validation", rows[:8]), ("test", test))
    files = {split: written(tmp_path / f"{split}.jsonl", part) for split, part in parts}
    store = Store(tmp_path / "runs")
    store.make_writable()
    runs = [
        make_run(
            f"task={name}",
            "model=tiny",
            "device=cpu",
            "keep=last",
            "optim.steps=8",
            f"seed={s}",
            "optim.lr=3e-3",
            "optim.batch_size=8",
            "technique=[reinit,llrd]",
            *(f"task.{split}={path}" for split, path in files.items()),
        )
        for s in range(2)
    ]
    records = [execute_one(run, store, lambda *_: None) for run in runs]
    assert [record.status for record in records] == ["done", "done"]
    run, key = runs[0], runs[0].key
    output = run.data.task.output
    out = tmp_path / "out"
    export(find_run(f"{key}:last", store), out, "cpu")

    # the score of the record, from the run and from what was exported of it
    for number, weights in enumerate((key, str(out))):
        order, done = predicted(
            store, weights, files["test"], tmp_path / f"s{number}", form="task", score=True
        )
        metric = run.data.task.metric
        recorded = records[0].result["metrics"]["last"]["test"][metric]
        lines = list(score_lines(order, done))
        assert lines[-1].endswith(f"{metric} {recorded!r}, the same"), lines

    forms = WORDS if output.per_word else TWO_TEXTS if run.data.task.pair else ONE_TEXT
    new = [asked(row) for row in rows[:6]]
    for form in forms:
        source = input_of(tmp_path, form, new)
        answers = []
        for number, weights in enumerate((key, str(out))):
            target = tmp_path / f"{form}{number}"
            _, done = predicted(store, weights, source, target, form=form)
            assert done.counts.items == len(new)
            answers.append(answer_for_an_item(form, target))
        assert answers[0] == answers[1]

    assert reproduce(find_run(f"{key}:last", store), "cpu", None).word == "identical"
    soup = make_soup(members_of([key], store), "uniform", "cpu")
    assert soup.record.status == "done"
    assert len(soup.members) == 2
    order, done = predicted(
        store, soup.record.key, files["test"], tmp_path / "soup", form="task", score=True
    )
    assert list(score_lines(order, done))[-1].endswith("the same")


def test_the_order_of_techniques_is_kept(make_run: Callable[..., Any], tmp_path: Path) -> None:
    """`config.yaml` holds them sorted by name."""
    from bluestab.inference.remake import checked

    run = make_run("task=gad", "model=tiny", "device=cpu", "optim.steps=2",
                   "technique=[reinit,llrd]")  # fmt: skip
    store = Store(tmp_path / "runs")
    store.make_writable()
    assert execute_one(run, store, lambda *_: None).status == "done"
    again = checked(find_run(run.key, store), store, "cpu")
    assert again.key == run.key
    assert list(again.techniques) == ["reinit", "llrd"]


def test_a_file_without_every_class_is_scored(make_run: Callable[..., Any], tmp_path: Path) -> None:
    """What is refused of a training file (one class, one score, no entity) may be scored."""
    for name in ("classification", "pair_regression", "multilabel", "tagging"):
        rows = [ITEMS[name](i) for i in range(24)]
        train = written(tmp_path / "train.jsonl", rows)
        task = make_run(f"task={name}", "model=tiny", f"task.train={train}").data.task
        one = dict(rows[0])
        if name == "tagging":
            one["tags"] = ["O", "O", "O"]
        elif name == "multilabel":
            one["labels"] = []
        (item,) = task.read(written(tmp_path / "one.jsonl", [one]))
        assert task.score([item.target], [item.target])
        assert json.dumps(item.target) is not None
