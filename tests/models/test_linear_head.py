"""The linear head: one layer on the first piece, for every family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bluestab.core.errors import ConfigError
from bluestab.core.types import SEQUENCE, TOKEN
from bluestab.models.networks import load
from bluestab.models.tokenizers import load_tokenizer
from tests.support.model_yamls import FAMILIES, SENTENCES, model_of, sharpened

each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_linear_head_is_one_layer_on_the_first_piece(family: str) -> None:
    model = model_of(FAMILIES[family], head="linear")
    loaded = load(model, head=SEQUENCE, n_labels=3, attention="eager")
    default = load(replace(model, head="default"), head=SEQUENCE, n_labels=3, attention="eager")
    last = "classifier.out_proj" if family in ("electra", "roberta") else "classifier"
    assert loaded.fresh == loaded.layers.head == {f"{last}.weight", f"{last}.bias"}
    assert loaded.fresh < default.fresh or loaded.fresh == default.fresh
    assert not any("pooler" in n or "dense" in n for n in loaded.layers.names(loaded.layers.top))
    shared = loaded.reference.keys() & default.reference.keys()
    assert loaded.reference.keys() <= default.reference.keys(), "names are those of the other head"
    assert all(torch.equal(loaded.reference[n], default.reference[n]) for n in shared)
    network = sharpened(loaded.network)
    batch = load_tokenizer(model)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = network.base_model(**batch).last_hidden_state  # type: ignore[union-attr, operator]
        expected = network.get_submodule(last)(states[:, 0])
        assert torch.allclose(network(**batch).logits, expected, atol=1e-6)
        # the only dropout left is that before the layer
        network.train()
        network.base_model.eval()  # type: ignore[union-attr, operator]
        torch.manual_seed(0)
        dropped = [network(**batch).logits for _ in range(2)]
    assert not torch.equal(*dropped)
    for path in loaded.head_modules:
        network.get_submodule(path)


@each_family
def test_token_heads_are_linear_already(family: str) -> None:
    """But for ModernBERT, whose prediction head goes."""
    linear, default = (
        load(model_of(FAMILIES[family], head=h), head=TOKEN, n_labels=3, attention="eager")
        for h in ("linear", "default")
    )
    gone = default.reference.keys() - linear.reference.keys()
    assert gone == ({"head.dense.weight", "head.norm.weight"} if family == "modernbert" else set())
    assert linear.layers.head == {"classifier.weight", "classifier.bias"}
    assert hasattr(linear.network.config, "bluestab_head") == bool(gone), "nothing to warn of"


@each_family
def test_weights_under_a_linear_head_say_so(family: str, tmp_path: Path) -> None:
    """Plain transformers would put a random layer before the trained one."""
    model = model_of(FAMILIES[family], head="linear")
    network = load(model, head=SEQUENCE, n_labels=2, attention="eager").network.eval()
    network.save_pretrained(tmp_path)  # type: ignore[operator]
    assert json.loads((tmp_path / "config.json").read_text())["bluestab_head"] == "linear"
    kept = load(replace(model, path=str(tmp_path)), head=SEQUENCE, n_labels=2, attention="eager")
    assert kept.fresh == frozenset()
    for name, weight in network.named_parameters():
        assert torch.equal(kept.reference[name], weight)
    with pytest.raises(ConfigError, match=r"trained with model\.head=linear, but .* is default"):
        load(
            replace(model, path=str(tmp_path), head="default"),
            head=SEQUENCE, n_labels=2, attention="eager",
        )  # fmt: skip
