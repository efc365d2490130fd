"""Train only: which weights move, by hand and by pattern, alone and with other techniques."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.core.errors import ConfigError
from bluestab.testing.laboratory import Lab
from bluestab.testing.technique_arms import chosen
from tests.support.eleven_numbers import refusals

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def trains(lab: Lab, model: str, *techniques: str, **knobs: Any) -> set[str]:
    """Encoder parameters that train, by names without the encoder's."""
    assembly = lab.assembly(lab.run("gad", model, *chosen("train_only", *techniques, **knobs)))
    plan, head = assembly.plan, assembly.built.layers.head
    assert all(plan[name].trainable for name in head)
    return {n for n, rule in plan.items() if rule.trainable and n not in head}


def names_of(lab: Lab, model: str) -> set[str]:
    built = lab.assembly(lab.run("gad", model)).built
    return set(built.layers.depth) - built.layers.head


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_roberta"])
def test_train_only_biases_is_bitfit(lab: Lab, model: str) -> None:
    names = names_of(lab, model)
    found = trains(lab, model, train_only__parts="[biases]")
    assert found == {n for n in names if n.endswith(".bias")}
    block = {n for n in found if ".layer.1." in n}
    assert len(block) == 8, "q, k, v, attention out, intermediate, out, two LayerNorms"


def test_train_only_parts_by_hand(lab: Lab) -> None:
    norms = trains(lab, "tiny", train_only__parts="[layernorms]")
    assert norms == {n for n in names_of(lab, "tiny") if "LayerNorm" in n}
    attention = trains(lab, "tiny", train_only__parts="[attention]")
    assert attention == {n for n in names_of(lab, "tiny") if ".attention." in n}
    assert len(attention) == 2 * 10
    modern = trains(lab, "tiny_modernbert", train_only__parts="[attention]")
    # ModernBERT's first block has no norm before its attention, the others' is outside of it
    assert modern == {f"model.layers.{i}.attn.{w}.weight" for i in (0, 1) for w in ("Wqkv", "Wo")}
    both = trains(lab, "tiny", train_only__parts="[layernorms,attention]")
    assert both == norms | attention


def test_train_only_patterns(lab: Lab) -> None:
    found = trains(
        lab, "tiny", train_only__parts="[]", train_only__patterns="['layer\\.1\\.','pooler']"
    )
    assert found == {n for n in names_of(lab, "tiny") if ".layer.1." in n or "pooler" in n}


def test_train_only_composes(lab: Lab) -> None:
    """`freeze` is an AND, re-initialised layers train whole, `llrd` scales what is left."""
    biases = {n for n in names_of(lab, "tiny") if n.endswith(".bias")}
    one = {"train_only__parts": "[biases]"}
    found = trains(lab, "tiny", "freeze", "llrd", **one)
    assert found == {n for n in biases if ".layer.1." in n or "pooler" in n}
    found = trains(lab, "tiny", "reinit", **one)
    assert found == biases | {n for n in names_of(lab, "tiny") if ".layer.1." in n or "pool" in n}
    assembly = lab.assembly(lab.run("gad", "tiny", *chosen("train_only", "llrd", **one)))
    for group in assembly.module.configure_optimizers()["optimizer"].param_groups:  # type: ignore[index, call-overload]
        assert group["lr_scale"] == pytest.approx(0.9 ** (3 - group["depth"]))


def test_train_only_refusals(make_run: Make, lab: Lab) -> None:
    one = "technique=train_only"
    (problem,) = refusals(make_run, one, "technique.train_only.parts=[bias]")
    assert problem.endswith("expected a list of biases, layernorms, attention")
    (problem,) = refusals(make_run, one, "technique.train_only.patterns=['(']")
    assert "expected a regular expression" in problem
    (problem,) = refusals(make_run, one, "technique.train_only.parts=[]")
    assert "both empty" in problem
    for model, knobs, said in (
        ("tiny_modernbert", {"train_only__parts": "[biases]"}, "no such parameters"),
        ("tiny", {"train_only__patterns": "['layer\\.7']"}, "matches no parameter"),
    ):
        with pytest.raises(ConfigError, match=said):
            lab.assembly(lab.run("gad", model, *chosen("train_only", **knobs)))
