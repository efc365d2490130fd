"""Each dropout knob moves its own units alone, by default none, in every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from bluestab.core.types import SEQUENCE, TOKEN
from bluestab.models.description import check_model
from bluestab.models.dropout import KNOBS
from bluestab.models.networks import load
from bluestab.store.store import Store
from bluestab.training.execute import execute_one
from tests.support.model_yamls import model_of
from tests.support.packed_groups import told

SHORT = (
    *("task=gad", "model=tiny", "device=cpu", "optim.steps=4", "optim.epochs=null"),
    *("optim.lr=1e-2", "optim.warmup=0", "trainer.eval_every=1"),
)
TINY = ("tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert")


def shares(name: str, kind_of_head: Any, **knobs: Any) -> dict[str, float]:
    """Path -> share, of every dropout module; ModernBERT's attention holds a bare number."""
    network = load(
        model_of(name, **knobs), head=kind_of_head, n_labels=2, attention="eager"
    ).network
    found = {p: m.p for p, m in network.named_modules() if isinstance(m, nn.Dropout)}
    for path, module in network.named_modules():
        if isinstance(share := getattr(module, "attention_dropout", None), float | int):
            found[f"{path}.attention_dropout"] = float(share)
    return found


def kind(path: str, name: str) -> str:
    if path.startswith(("classifier", "drop", "head")):
        return "head_dropout"
    in_kernel = path.endswith(("self.dropout", "attention_dropout", "attn.out_drop"))
    return "attention_dropout" if in_kernel else "dropout"


@pytest.mark.parametrize("head", [SEQUENCE, TOKEN], ids=("sequence", "token"))
@pytest.mark.parametrize("name", TINY)
def test_each_knob_moves_its_own_units_alone(name: str, head: Any) -> None:
    own = shares(name, head, attention_dropout=0.1)  # ModernBERT's 0 leaves modules out
    kinds = {path: kind(path, name) for path in own}
    assert set(kinds.values()) == {"dropout", "attention_dropout", "head_dropout"}
    for knob in set(kinds.values()):
        for share in (0, 0.4):
            expected = {p: share if kinds[p] == knob else old for p, old in own.items()}
            found = shares(name, head, **{"attention_dropout": 0.1, knob: share})
            assert {**dict.fromkeys(own, 0), **found} == expected


@pytest.mark.parametrize("head", ["linear", "mean"])
@pytest.mark.parametrize("name", TINY)
def test_other_heads_drop_what_they_are_told_to(name: str, head: str) -> None:
    found = shares(name, SEQUENCE, head=head, head_dropout=0.3, dropout=0.2)
    assert {share for path, share in found.items() if kind(path, name) == "head_dropout"} == {0.3}


@pytest.mark.parametrize("knob", ["dropout", "attention_dropout", "head_dropout"])
@pytest.mark.parametrize("value", [1, -0.1, "no", True, float("nan")])
def test_what_is_no_share_is_refused(knob: str, value: Any) -> None:
    (problem,) = check_model(model_of("tiny", **{knob: value}))
    assert problem.startswith(f"model.{knob} is {value!r}: expected a number in [0, 1), or null")


@pytest.mark.parametrize("engine", ["lightning", "packed"])
def test_without_dropout_its_seed_changes_nothing(
    engine: str, make_run: Any, tmp_path: Path
) -> None:
    """And without the knobs it does: what they switch off is all there is."""
    off = [f"model.{knob}=0" for knob in KNOBS]
    store = Store(tmp_path / "runs")
    found = [
        execute_one(make_run(*SHORT, f"trainer.engine={engine}", *s), store, told).result["metrics"]
        for s in (["seeds.dropout=1", *off], ["seeds.dropout=2", *off], ["seeds.dropout=1"])
    ]
    assert found[0] == found[1] != found[2]
