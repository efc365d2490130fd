"""What every technique that packs promises: siblings that train as one train as each by itself.

Compared with the Lightning engine, without dropout, whose draws are other ones; the rest, the masks
of mixout included, is the same. Techniques and heads are discovered, not listed.
"""

from __future__ import annotations

import csv
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.core.errors import ConfigError
from bluestab.core.types import ModelFacts, RunRecord
from bluestab.store.store import Store
from bluestab.techniques.base import Technique
from bluestab.techniques.packing import Packable
from bluestab.testing.laboratory import Lab
from bluestab.testing.technique_arms import HEADS, NAMES, chosen, technique_class
from bluestab.training.check import Run, check
from bluestab.training.execute import execute, execute_one
from bluestab.training.packable import packable_problems
from tests.conftest import Make

PACKED = [name for name in NAMES if issubclass(technique_class(name), Packable)]
APART = [name for name in NAMES if name not in PACKED]

ARMS: dict[str, Sequence[str]] = {
    "none": ("technique=none",),
    **{name: chosen(name) for name in PACKED},
    "mixout of weights": chosen("mixout", mixout__unit="weight", mixout__p=0.5),
    "mixout, rdrop": chosen("mixout", "rdrop", mixout__keep_dropout=True),
    "freeze, llrd": chosen("freeze", "llrd"),
    "reinit, prior_decay": chosen("reinit", "prior_decay"),
    "no bias correction": ("technique=none", "optim.bias_correction=false"),
    "batches by length": ("technique=none", "optim.bucket=2", "trainer.eval_tokens=128"),
}
NO_DROPOUT = ("+model.config.hidden_dropout_prob=0", "+model.config.attention_probs_dropout_prob=0")
SHORT = (
    *("device=cpu", "optim.steps=5", "optim.batch_size=7", "optim.lr=1e-3", "optim.warmup=0.2"),
    *("trainer.eval_every=2", "task.max_length=32"),
    "+model.config.initializer_range=0.2",  # predictions that differ, whose correlation is defined
)


def test_the_techniques_that_must_pack_do() -> None:
    wanted = "freeze llrd reinit mixout prior_decay train_only recadam rdrop"
    assert set(wanted.split()) <= set(PACKED)
    assert APART, "else nothing tests what runs apart"


@pytest.mark.parametrize("name", PACKED)
def test_what_packs_keeps_to_the_moments_that_are_packed(name: str) -> None:
    cls: Any = technique_class(name)
    assert cls.edit_data is Technique.edit_data
    if cls.wrap_step is not Technique.wrap_step:
        assert cls.pack_step.__func__ is not Packable.pack_step.__func__  # type: ignore[attr-defined]
    if cls.callbacks is not Technique.callbacks:
        assert "before_each_step" in inspect.getsource(cls.callbacks)
    knobs = set(inspect.signature(cls).parameters)
    assert cls.scalars <= knobs


@pytest.mark.parametrize("name", APART)
def test_what_does_not_pack_is_refused_by_name(name: str, lab: Lab) -> None:
    cfg = lab.config("gad", "tiny", *chosen(name))
    check(cfg)
    packed = {**cfg, "trainer": {**cfg["trainer"], "engine": "packed"}}
    with pytest.raises(ConfigError, match=f"engine is packed, but .*technique {name} has no form"):
        check(packed)


def test_an_own_technique_without_the_mix_in_trains_by_itself() -> None:
    """Whatever else it says of itself: a word of an older contract does not count."""

    class Own(Technique):
        packs = True

    knobs = {
        "micro_batch": None,
        "dropout_masks": "torch",
        "embedding_rows": "all",
        "devices": 1,
        "activations": "full",
    }
    cfg = {"task": {}, "trainer": {**knobs, "attention": {"cpu": "eager"}}}
    facts = ModelFacts("tiny", "bert", 2, hidden_size=32, max_length=64, pooler=True)
    (problem,) = packable_problems(cfg, facts, {"own": Own()})
    assert problem == "technique own has no form for several runs at once"


def both(
    make_run: Make, asked: Sequence[str], tmp_path: Path, seeds: Sequence[int]
) -> list[tuple[RunRecord, RunRecord]]:
    """Records of the same runs by the Lightning engine, and packed."""
    store = Store(tmp_path / "runs")
    store.make_writable()
    alone = [execute_one(make_run(*asked, f"seed={s}"), store, told) for s in seeds]
    runs = [make_run(*asked, "trainer.engine=packed", f"seed={s}") for s in seeds]
    return list(zip(alone, execute(runs, store, [told] * len(runs)), strict=True))


def told(*_: Any) -> None:
    pass


def curve(store: Path, record: RunRecord) -> list[dict[str, float]]:
    with (store / record.key / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) if v else math.nan for k, v in row.items()} for row in rows]


def assert_same(store: Path, alone: RunRecord, packed: RunRecord) -> None:
    assert alone.status == packed.status == "done", (alone.result["error"], packed.result["error"])
    ours, theirs = curve(store, packed), curve(store, alone)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        norms = [name for name in one if name.startswith("grad_norm")]
        assert norms
        for name in norms:
            assert one[name] == pytest.approx(other[name], rel=1e-3, nan_ok=True)
    assert packed.key != alone.key
    for name in ("steps", "warmup_steps", "items", "parameters", "truncated", "best_step"):
        assert packed.result[name] == alone.result[name]
    for at in ("last", "best"):
        for split in ("validation", "test"):
            one, other = packed.result["metrics"][at][split], alone.result["metrics"][at][split]
            assert one == pytest.approx(other, abs=5e-4)
    ours_did, theirs_did = _flat(packed.result["effects"]), _flat(alone.result["effects"])
    assert ours_did.keys() == theirs_did.keys()
    for name, value in ours_did.items():
        number = isinstance(value, float)
        assert value == (pytest.approx(theirs_did[name], rel=1e-5) if number else theirs_did[name])


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        return {k: v for name, n in node.items() for k, v in _flat(n, f"{path}.{name}").items()}
    return {path: node}


def compare(make_run: Make, tmp_path: Path, model: str, task: str, arm: str) -> None:
    asked = (f"task={task}", f"model={model}", *NO_DROPOUT, *SHORT, *ARMS[arm])
    pairs = both(make_run, asked, tmp_path, (0, 1))
    for alone, packed in pairs:
        assert_same(tmp_path / "runs", alone, packed)
    losses = [curve(tmp_path / "runs", record)[-1]["train_loss"] for _, record in pairs]
    assert losses[0] != losses[1], "two seeds, two runs"


@pytest.mark.parametrize("arm", ARMS)
def test_siblings_train_as_each_by_itself(make_run: Make, tmp_path: Path, arm: str) -> None:
    """Every arm, each with another pair of model and head."""
    kinds = [(model, task) for task in HEADS.values() for model in ("tiny", "tiny_electra")]
    compare(make_run, tmp_path, *kinds[list(ARMS).index(arm) % len(kinds)], arm)


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADS.values())
@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_roberta"])
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_with_every_head(
    make_run: Make, tmp_path: Path, arm: str, model: str, task: str
) -> None:
    compare(make_run, tmp_path, model, task, arm)


POOLED = ("linear", "mean", "max", "attention", "average:2", "concat:2")


@pytest.mark.parametrize(
    ("model", "head"),
    [
        pytest.param(model, head, marks=[] if (model, head) in QUICK else pytest.mark.slow)
        for QUICK in [{("tiny", "attention"), ("tiny_electra", "concat:2")}]
        for model in ("tiny", "tiny_electra", "tiny_roberta")
        for head in POOLED
    ],
)
def test_heads_of_ours(make_run: Make, tmp_path: Path, model: str, head: str) -> None:
    asked = ("task=gad", f"model={model}", f"model.head={head}", *NO_DROPOUT, *SHORT)
    for alone, packed in both(make_run, asked, tmp_path, (0, 1)):
        assert_same(tmp_path / "runs", alone, packed)


def test_a_run_that_is_asked_for_by_itself_is_a_group_of_one(
    make_run: Make, tmp_path: Path
) -> None:
    run: Run = make_run("task=gad", "model=tiny", *SHORT, "trainer.engine=packed")
    store = Store(tmp_path / "runs")
    store.make_writable()
    record = execute_one(run, store, told)
    assert record.status == "done"
    assert record.measured["packed"]["runs"] == 1
    assert record.result["config"]["trainer"]["engine"] == "packed"
