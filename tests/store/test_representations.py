"""Vectors that a run keeps of its test items: those that plain transformers finds."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import StoreError  # noqa: E402
from bluestab.report.frames.results import read_results  # noqa: E402
from bluestab.store.artefacts import lacks_representations, read_predictions  # noqa: E402
from bluestab.store.disk import usage  # noqa: E402
from bluestab.store.representations import (  # noqa: E402
    FILE,
    first_pieces,
    of_items,
    read_representations,
    write_representations,
)
from bluestab.store.store import Store  # noqa: E402
from bluestab.store.verify import problems  # noqa: E402
from bluestab.training.execute import is_done  # noqa: E402
from tests.store.test_artefacts import SHORT, snapshot  # noqa: E402
from tests.training.test_execute import NotFinite, done, kept  # noqa: E402

Make = Callable[..., Any]
KEEP = "keep_representations=true"


def plain_vectors(folder: Path, run: Any) -> np.ndarray:
    """First word piece after the last layer, by transformers alone, one item at a time."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (
        AutoModel.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    found = []
    for example in run.data.splits["test"]:
        tagging = run.data.task.output.per_word
        pair = () if example.text_pair is None else (example.text_pair,)
        text = list(example.text) if tagging else example.text
        inputs = tokenizer(
            text, *pair, is_split_into_words=tagging, return_tensors="pt",
            truncation=True, max_length=run.data.task.max_length,
        )  # fmt: skip
        with torch.no_grad():
            found.append(model(**inputs).last_hidden_state[0, 0].numpy())
    return np.stack(found)


@pytest.mark.parametrize(
    ("task", "model", "more"),
    [
        ("biosses", "tiny", ()),
        ("gad", "tiny_electra", ()),
        ("ncbi_disease", "tiny_roberta", ()),
        ("hoc", "tiny_modernbert", ()),
        ("gad", "tiny", ("model.head=mean",)),
        ("gad", "tiny", ("technique=ema",)),
    ],
)
def test_plain_transformers_finds_the_same_vectors(
    make_run: Make, tmp_path: Path, task: str, model: str, more: tuple[str, ...]
) -> None:
    run = make_run(f"task={task}", f"model={model}", *SHORT, "keep=all", KEEP, *more)
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    vectors = read_representations(folder / FILE)
    assert vectors.keys() == {"last"} | ({"best"} if record.result["best_step"] != 6 else set())
    for at, found in vectors.items():
        assert found.dtype == np.float32
        expected = plain_vectors(folder / "checkpoint" / at, run)
        assert found.shape == expected.shape
        assert found == pytest.approx(expected, abs=2e-5)
        assert np.ptp(expected, axis=0).max() > 1e-3, "items differ, so their order is seen"
    assert record.measured["files"][FILE]
    assert list(problems(Store(tmp_path / "runs"))) == []


def test_best_is_there_if_it_is_another_one(make_run: Make, tmp_path: Path) -> None:
    """After one step the last weights are the best."""
    seen = set()
    for seed, steps in ((0, 6), (1, 6), (2, 6), (3, 1)):
        run = make_run(
            "task=gad", "model=tiny", *SHORT, KEEP, f"seed={seed}", f"optim.steps={steps}"
        )
        record = done(run, tmp_path / "runs")
        vectors = read_representations(tmp_path / "runs" / record.key / FILE)
        earlier = record.result["best_step"] < steps
        assert set(vectors) == ({"last", "best"} if earlier else {"last"})
        seen.add(earlier)
        if earlier:
            assert not np.array_equal(vectors["last"], vectors["best"])
    assert seen == {True, False}
    store = Store(tmp_path / "runs")
    frame = read_results(store, None, vectors=True).frames["instability"]
    last, best = frame[frame["n"] == 3].to_dict("records")
    assert (last["n"], last["n_vectors"], last["form"]) == (3, 3, "classes")
    assert 0 < last["i_cka"] < 2
    assert 0 < last["i_op"] < 1
    assert best["i_op"] != last["i_op"]


def test_nothing_else_changes(make_run: Make, tmp_path: Path) -> None:
    """Neither the key nor any bit of the result; without the knob there is no file."""
    line = ("task=ncbi_disease", "model=tiny", *SHORT)
    without, keeping = make_run(*line), make_run(*line, KEEP)
    assert keeping.key == without.key
    done(without, tmp_path / "a")
    done(keeping, tmp_path / "b")
    assert kept(tmp_path / "a", without.key) == kept(tmp_path / "b", without.key)
    there = [{f.name for f in (tmp_path / s / without.key).iterdir()} for s in "ab"]
    assert there[1] - there[0] == {FILE}


def test_a_finished_run_gets_them_later(make_run: Make, tmp_path: Path) -> None:
    line = ("task=gad", "model=tiny", *SHORT)
    store = Store(tmp_path / "runs")
    first = done(make_run(*line), store.root)
    folder = store.folder(first.key)
    before = snapshot(folder)
    asked = make_run(*line, KEEP)
    assert not is_done(asked, store)
    assert is_done(make_run(*line), store)
    assert done(asked, store.root) == first
    assert is_done(asked, store)
    after = snapshot(folder)
    assert {n: after[n] for n in before} == before, "the record is the one of the first time"
    assert after.keys() - before.keys() == {FILE}
    assert list((store.root / ".work").iterdir()) == []
    # the same bytes as a run that kept them at once
    done(asked, tmp_path / "other")
    assert after[FILE] == (tmp_path / "other" / first.key / FILE).read_bytes()
    # weights asked for later leave them alone, and come without them
    done(make_run(*line, "keep=last"), store.root)
    assert snapshot(folder)[FILE] == after[FILE]
    (folder / FILE).unlink()
    done(make_run(*line, KEEP, "keep=all"), store.root)
    assert snapshot(folder)[FILE] == after[FILE]
    assert {p.name for p in (folder / "checkpoint").iterdir()} == {"last", "best"}
    assert list(problems(store)) == []


def test_what_is_there_costs_nothing(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("task=gad", "model=tiny", *SHORT)
    run = make_run(*line, KEEP)
    record = done(run, tmp_path / "runs")
    monkeypatch.setattr("bluestab.training.assemble.assemble", None)
    assert done(run, tmp_path / "runs") == record
    (tmp_path / "runs" / record.key / FILE).unlink()
    with pytest.raises(StoreError, match=r"for its representations \(keep_repr.*\) failed"):
        done(run, tmp_path / "runs")
    assert done(make_run(*line), tmp_path / "runs") == record


def test_another_result_adds_nothing(make_run: Make, tmp_path: Path) -> None:
    run = make_run("task=gad", "model=tiny", *SHORT)
    record = done(run, tmp_path / "runs")
    path = tmp_path / "runs" / record.key / "record.json"
    from bluestab.store.records import to_text

    path.write_text(
        to_text(replace(record, result={**record.result, "score": {"last": 0.1, "best": 0.1}}))
    )
    before = snapshot(tmp_path / "runs")
    asked = replace(run, cfg={**run.cfg, "keep_representations": True})
    with pytest.raises(StoreError, match="its score came out different"):
        done(asked, tmp_path / "runs")
    assert snapshot(tmp_path / "runs") == before


def test_a_diverged_run_has_none(make_run: Make, tmp_path: Path) -> None:
    run = make_run("task=gad", "model=tiny", *SHORT, KEEP)
    run = replace(run, techniques={"broken": NotFinite(3, float("nan"))})
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    assert record.status == "diverged"
    assert not (folder / FILE).exists()
    assert not lacks_representations(folder)


def test_a_long_sentence_has_the_vector_of_its_first_window(make_run: Make, tmp_path: Path) -> None:
    line = ("task=ncbi_disease", "model=tiny", *SHORT, KEEP, "task.max_length=12")
    run = make_run(*line, "task.overlap=2")
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    (vectors,) = {len(v) for v in read_representations(folder / FILE).values()}
    assert vectors == record.result["items"]["test"]
    found = [torch.tensor([[1.0], [2.0]]).half(), torch.tensor([[3.0], [4.0]]).half()]
    assert of_items(found, [0, 1, 2, 3], [0, 0, 1, 2]).tolist() == [[1.0], [3.0], [4.0]]
    assert of_items(found, [3, 0, 1, 2], [0, 0, 1, 2]).tolist() == [[2.0], [4.0], [1.0]]
    with pytest.raises(RuntimeError, match="4 vectors were heard for 3 rows"):
        of_items(found, [0, 1, 2, 3], [0, 1, 2])


def test_it_listens_while_it_is_asked_to(make_assembly: Make) -> None:
    model = make_assembly("task=gad", "model=tiny", *SHORT).built.model
    pieces = torch.tensor([[2, 9, 3], [2, 8, 3]])
    with first_pieces(model) as found:
        model(input_ids=pieces)
    model(input_ids=pieces)
    (heard,) = found
    assert (heard.shape, heard.dtype) == ((2, model.config.hidden_size), torch.float32)
    assert not heard.requires_grad


# --- the file --------------------------------------------------------------------------------

VECTORS = {"last": np.ones((3, 2), np.float32), "best": np.zeros((3, 2), np.float32)}


def listed(vectors: Any) -> dict[str, Any]:
    return {at: values.tolist() for at, values in vectors.items()}


def test_one_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    file = tmp_path / FILE
    write_representations(file, VECTORS)
    assert listed(read_representations(file)) == listed(VECTORS)
    whole = file.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 4
        file.write_bytes(flipped)
        with suppress(StoreError):  # else a bit of the padding, or of the order of the two
            assert listed(read_representations(file)) == listed(VECTORS), at
    for content in (b"", whole[:-1], whole[:20]):
        file.write_bytes(content)
        with pytest.raises(StoreError, match="cannot be used"):
            read_representations(file)
    with pytest.raises(StoreError, match="No such file"):
        read_representations(tmp_path / "none")


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(VECTORS, tmp_path / FILE)
    with pytest.raises(StoreError, match="not the one it names"):
        read_representations(tmp_path / FILE)


def test_verify_looks_at_them_whenever_they_came(make_run: Make, tmp_path: Path) -> None:
    line = ("task=gad", "model=tiny", *SHORT)
    store = Store(tmp_path / "runs")
    folder = store.folder(done(make_run(*line), store.root).key)
    done(make_run(*line, KEEP), store.root)
    assert list(problems(store)) == []
    file, n = folder / FILE, len(read_predictions(folder / "predictions.parquet")) // 2
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (sentence,) = problems(store)
    assert str(file) in sentence
    for wrong in ({"best": np.zeros((n, 2))}, {"last": np.zeros((n - 1, 2))},
                  {"last": np.zeros((n, 2)), "first": np.zeros((n, 2))}):  # fmt: skip
        write_representations(file, wrong)
        (sentence,) = problems(store)
        assert f"of {n} test items" in sentence
    file.write_bytes(whole)
    assert list(problems(store)) == []


def test_they_are_counted(cli: Callable[..., Any], make_run: Make) -> None:
    store = Store("runs")
    record = done(make_run("task=gad", "model=tiny", *SHORT, KEEP), store.root)
    store.write_manifest(
        "s", {"name": "s", "command": "x", "runs": [{"key": record.key, "overrides": []}]}
    )
    used = usage(store.root)
    assert used.representations == (store.folder(record.key) / FILE).stat().st_blocks * 512 > 0
    assert used.checkpoints == 0
    du = subprocess.run(["du", "-s", "--block-size=1", "runs"], capture_output=True, text=True)
    assert used.total + os.stat("runs").st_blocks * 512 == int(du.stdout.split()[0])
    assert f" in {FILE}" in cli("status").out


def test_the_forecast_counts_them(make_run: Make, tmp_path: Path) -> None:
    """Bytes of float32 at last and best, whether or not the runs it knows kept any."""
    from bluestab.sweeps import forecast
    from bluestab.sweeps.forecast import Cost
    from bluestab.sweeps.launchers import check

    run = make_run("task=gad", "model=tiny", *SHORT)
    asked = make_run("task=gad", "model=tiny", *SHORT, KEEP)
    cost = Cost(1.0, {}, 1000.0, 10, "same cell")
    n = len(run.data.splits["test"])
    assert check._with_artefacts(run, cost) == cost
    found = check._with_artefacts(asked, cost)
    assert found is not None
    assert found.disk == 1000 + 8 * n * run.model.hidden_size
    fewer = make_run("task=gad", "model=tiny", *SHORT, KEEP, "task.test_size=3")
    found = check._with_artefacts(fewer, cost)
    assert found is not None
    assert found.disk == 1000 + 8 * 3 * run.model.hidden_size
    assert check._with_artefacts(asked, None) is None
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    before = forecast._bytes(folder)
    done(asked, tmp_path / "runs")
    assert forecast._bytes(folder) == before


def test_the_knob_is_in_the_config_of_the_run(make_run: Make, tmp_path: Path) -> None:
    record = done(make_run("task=gad", "model=tiny", *SHORT, KEEP), tmp_path / "runs")
    config = (tmp_path / "runs" / record.key / "config.yaml").read_text()
    assert "keep_representations: true" in config
    assert "keep_representations" not in json.dumps(record.result["config"])
