"""Every kind of own task, exported: transformers' own pipeline answers what `predict` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.inference.export import export  # noqa: E402
from bluestab.inference.predicting import Order, carry_out  # noqa: E402
from bluestab.inference.weights import find_run  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.tasks.outputs import Output  # noqa: E402
from bluestab.training.execute import execute_one  # noqa: E402

PAINS = ("hot", "cold", "sore")

ITEMS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "classification": lambda i: {"text": text(i), "label": PAINS[i % 3]},
    "pair_classification": lambda i: {**pair(i), "label": PAINS[i % 3]},
    "question_answering": lambda i: {**pair(i), "label": ("yes", "no")[i % 2]},
    "pair_regression": lambda i: {**pair(i), "label": i % 3 / 2},
    "multilabel": lambda i: {
        "text": text(i),
        "labels": [p for k, p in enumerate(PAINS) if i >> k & 1],
    },
    "tagging": lambda i: {"tokens": text(i).split(), "tags": ["O", "O", "B-Pain"]},
}
PROBLEMS = {
    "classification": "single_label_classification",
    "pair_classification": "single_label_classification",
    "question_answering": "single_label_classification",
    "pair_regression": "regression",
    "multilabel": "multi_label_classification",
    "tagging": None,
}


def bits(i: int) -> list[tuple[int, str]]:
    """(1 or 0, label), for every label."""
    return [(i >> k & 1, label) for k, label in enumerate(PAINS)]


def text(i: int) -> str:
    return f"case {i} {PAINS[i % 3]}"


def pair(i: int) -> dict[str, str]:
    return {"text": text(i), "text_pair": f"note {i // 2} {PAINS[i // 2 % 3]}"}


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(row: Mapping[str, Any]) -> dict[str, Any]:
    """What `predict` and a pipeline are given of an item."""
    if "tokens" in row:
        return {"text": " ".join(row["tokens"])}
    return {name: row[name] for name in ("text", "text_pair") if name in row}


def by_pipeline(folder: Path, output: Output, items: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Per item label -> score (of words: the mentions), by an activation that nobody asks for."""
    from transformers import pipeline

    if output.per_word:
        pipe: Any = pipeline("ner", model=str(folder), aggregation_strategy="first", device="cpu")
        return [
            [(e["entity_group"], e["start"], e["end"]) for e in pipe(item["text"])]
            for item in items
        ]
    pipe = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    found = [pipe(dict(item) if "text_pair" in item else item["text"]) for item in items]
    flat = [one[0] if isinstance(one[0], list) else one for one in found]
    return [{said["label"]: said["score"] for said in one} for one in flat]


SLOW = ("pair_classification", "question_answering")  # their output is that of classification


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in ITEMS]
)
def test_exported_and_predicted_alike(
    make_run: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    rows = [ITEMS[name](i) for i in range(24)]
    files = {
        split: written(tmp_path / f"{split}.jsonl", part)
        for split, part in (("train", rows), ("validation", rows[:8]), ("test", rows[8:16]))
    }
    run = make_run(
        f"task={name}", "model=tiny", "device=cpu", "keep=last", "optim.steps=8", "optim.lr=3e-3",
        "optim.batch_size=8", *(f"task.{split}={path}" for split, path in files.items()),
    )  # fmt: skip
    store = Store(tmp_path / "runs")
    store.make_writable()
    assert execute_one(run, store, lambda *_: None).status == "done"
    out = tmp_path / "out"
    found = export(find_run(f"{run.key}:last", store), out, "cpu")
    assert "equal the recorded ones up to" in found.remarks[-1]
    output = run.data.task.output
    assert json.loads((out / "config.json").read_text()).get("problem_type") == PROBLEMS[name]
    assert f'pipeline_tag: "{output.pipeline}"' in (out / "README.md").read_text()

    source = written(tmp_path / "new.jsonl", [asked(row) for row in rows[:6]])
    target = tmp_path / "answers.jsonl"
    carry_out(Order((str(out),), source, target, *(None,) * 5, False), store, "cpu", 4096)
    answers = [json.loads(line)["prediction"] for line in target.read_text().splitlines()]
    said = by_pipeline(out, output, [asked(row) for row in rows[:6]])
    for answer, scores in zip(answers, said, strict=True):
        if output.per_word:
            spans = [(e["type"], e["start"], e["end"]) for e in answer["entities"]]
            assert spans == scores
        elif output.numeric:
            assert list(scores.values()) == [pytest.approx(answer["prediction"], abs=1e-4)]
        else:
            assert scores == pytest.approx(answer["probabilities"], abs=1e-4)
            several = output.activation == "sigmoid"
            best = (
                [n for n, p in scores.items() if p > 0.5]
                if several
                else max(scores, key=scores.get)
            )
            assert answer["prediction"] == (sorted(best) if several else best)
