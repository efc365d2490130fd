"""Networks are loaded from checkpoints as they are, and random values drawn as BERT draws them.

`initialise` is compared with networks that transformers itself initialises.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
)

from bluestab.core.errors import ConfigError
from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import SEQUENCE, TOKEN
from bluestab.models.built import Built
from bluestab.models.initialisation import initialise
from bluestab.models.networks import load
from bluestab.techniques.reinit import Reinit
from tests.support.model_yamls import FAMILIES, HEADS, NODES, model_of, skip_unless_installed


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    skip_unless_installed(request)


# --- loading -------------------------------------------------------------------------------------


def test_equal_random_models_are_the_same_weights() -> None:
    """The identity is in the key of a run, so it must decide the weights."""
    one, other = model_of("tiny"), model_of("tiny", name="small")
    assert one.identity() == other.identity()
    for p, q in zip(
        load(one, head=TOKEN, n_labels=2, attention="eager").network.parameters(),
        load(other, head=TOKEN, n_labels=2, attention="eager").network.parameters(),
        strict=True,
    ):
        assert torch.equal(p, q)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoints_as_pretraining_leaves_them(family: str, tmp_path: Path) -> None:
    """What lies on the hub has a head for pretraining; ModernBERT fine-tunes a part of it on."""
    config = AutoConfig.for_model(family, **NODES[FAMILIES[family]]["config"])
    of_family = AutoModelForMaskedLM if family == "modernbert" else AutoModelForPreTraining
    network = of_family.from_config(config)
    network.save_pretrained(tmp_path)
    weights = dict(network.named_parameters())
    for head in HEADS:
        model = model_of(FAMILIES[family], path=str(tmp_path))
        loaded = load(model, head=head, n_labels=2, attention="eager")
        taken = loaded.layers.head - loaded.fresh
        assert taken == (
            {"head.dense.weight", "head.norm.weight"} if family == "modernbert" else set()
        )
        for name in loaded.reference.keys() - loaded.fresh:
            assert torch.equal(loaded.reference[name], weights[name]), name
        linear = load(replace(model, head="linear"), head=head, n_labels=2, attention="eager")
        assert linear.fresh == linear.layers.head <= loaded.fresh


def test_a_checkpoint_without_a_block_is_refused(folder: Path) -> None:
    """transformers would fill the gap with random values and go on."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    rest = {name: w for name, w in weights.items() if "layer.1." not in name}
    assert len(rest) < len(weights)
    save_file(rest, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="no values for 16 parameters of the encoder"):
        load(model_of("tiny", path=str(folder)), head=TOKEN, n_labels=2, attention="eager")


# --- random values -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[*FAMILIES])
def pair(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A network as transformers initialises it, and one of garbage that `initialise` filled."""
    size = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {
        "electra": {"embedding_size": 64},
        "roberta": {"max_position_embeddings": 514, "type_vocab_size": 1},
        "modernbert": {"intermediate_size": 96, "pad_token_id": 3},
    }.get(request.param, {})
    config = AutoConfig.for_model(request.param, vocab_size=2000, **size, **more)
    torch.manual_seed(0)
    theirs, ours = (AutoModelForSequenceClassification.from_config(config) for _ in range(2))
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.fill_(7.0)
            initialise(ours, name, generator(0, name), config.initializer_range)
    return theirs, ours


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def test_initialise_follows_the_law_of_transformers(
    pair: tuple[torch.nn.Module, torch.nn.Module],
) -> None:
    theirs, ours = (dict(weights_of(network)) for network in pair)
    matrices = 0
    modern = pair[0].config.model_type == "modernbert"  # type: ignore[union-attr]
    for name, expected in theirs.items():
        found = ours[name]
        if expected.ndim == 1:
            assert torch.equal(found, expected), f"{name}: a constant in transformers"
            continue
        matrices += 1
        slack = 5 / math.sqrt(expected.numel())  # five standard errors
        std = float(expected.std())
        assert modern or std == pytest.approx(0.02, rel=slack), name
        for drawn in (expected, found):
            assert abs(float(drawn.mean())) < std * slack, name
            assert float(drawn.std()) == pytest.approx(std, rel=slack if not modern else 2 * slack)
        if modern:  # cut off at two standard deviations
            most = [float(drawn.abs().max()) / std for drawn in (expected, found)]
            assert max(most) < 2.3 * (1 + slack), name
        zero_rows = [(drawn == 0).all(dim=1).nonzero().tolist() for drawn in (expected, found)]
        assert zero_rows[0] == zero_rows[1], f"{name}: the row of the padding piece"
    assert matrices >= (11 if modern else 15)


def test_initialise_is_a_function_of_the_generator(
    pair: tuple[torch.nn.Module, torch.nn.Module],
) -> None:
    network = pair[1]
    ends = ("query.weight", "Wqkv.weight")
    name = next(n for n, _ in network.named_parameters() if n.endswith(ends))
    weight = network.get_parameter(name)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(draws))
        initialise(network, name, generator(seed, name), 0.02)
        draws.append(weight.detach().clone())
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_initialise_refuses_what_it_does_not_know() -> None:
    network = torch.nn.Sequential(torch.nn.Conv1d(2, 2, 1))
    with pytest.raises(ConfigError, match=r"do not know how to initialise '0\.weight' of a Conv1d"):
        initialise(network, "0.weight", generator(0), 0.02)


@pytest.fixture
def minilm() -> tuple[Built, dict[str, torch.Tensor]]:
    """MiniLM as techniques get it, and the same weights read from the file."""
    from safetensors.torch import load_file

    model = model_of("minilm")
    folder = model.folder()
    assert folder is not None
    loaded = load(model, head=SEQUENCE, n_labels=1, attention="eager")

    def draw(name: str, random: torch.Generator) -> None:
        initialise(loaded.network, name, random, loaded.initializer_range)

    return (
        Built(loaded.network, loaded.layers, loaded.fresh, loaded.reference, draw, lambda *_: None),  # type: ignore[arg-type, return-value]
        {
            f"bert.{name}": weight
            for name, weight in load_file(folder / "model.safetensors").items()
        },
    )


@pytest.mark.parametrize("name", ["minilm"])
def test_reinit_changes_every_tensor_of_the_top(name: str, minilm: Any) -> None:
    """transformers' own `_init_weights` would change nothing: the weights count as loaded."""
    built, file = minilm
    seeds = Seeds(init=3, order=0, dropout=0, split=0)
    edited = Reinit(depth=2, pooler=True, layernorms_only=False).edit_model(built, seeds)
    now = weights_of(edited.model)
    changed = {n for n, p in now.items() if n in file and not torch.equal(p, file[n])}
    expected = {n for n in now if re.search(r"layer\.[45]\.|pooler", n)}
    assert len(expected) == 2 * 16 + 2
    assert changed == expected - {"bert.pooler.dense.bias"}
    assert not file["bert.pooler.dense.bias"].any(), "MiniLM's pooler has zeros there already"
    assert edited.fresh == built.fresh | expected
    query, key = (now[f"bert.encoder.layer.5.attention.self.{n}.weight"] for n in ("query", "key"))
    assert not torch.equal(query, key), "every tensor draws from its own stream"
    for n in expected:
        if n.endswith("LayerNorm.weight"):
            assert torch.equal(now[n], torch.ones_like(now[n]))
        elif n.endswith("bias"):
            assert not now[n].any()
        else:
            assert float(now[n].std()) == pytest.approx(0.02, rel=0.02)
