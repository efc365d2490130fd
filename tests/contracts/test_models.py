"""Every model in conf/model is what its yaml says, and random values are drawn as BERT draws them.

Hub models are built without weights (meta device) in their published shape and the layer map must
cover them; the others are loaded. A yaml that lies is refused. `initialise` is compared with
networks that transformers itself initialises.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    ElectraConfig,
)

from bluestab.errors import ConfigError
from bluestab.instantiate import instantiate
from bluestab.layers import layer_map
from bluestab.models import Model, check_model
from bluestab.networks import Head, initialise, load, load_tokenizer
from bluestab.paths import conf_dir
from bluestab.seeding import Seeds, generator
from bluestab.techniques.reinit import Reinit
from bluestab.types import Built

FILES = {file.stem: file for file in sorted((conf_dir() / "model").glob("*.yaml"))}
NODES: dict[str, Any] = {n: OmegaConf.to_container(OmegaConf.load(f)) for n, f in FILES.items()}
HUB = [name for name, node in NODES.items() if node["hub"] is not None]
RANDOM = [name for name, node in NODES.items() if node["config"] is not None]
PACKAGED = [name for name, node in NODES.items() if node["package"] is not None]
HEADS: dict[Head, Any] = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
}

PUBLISHED = {
    # `config.json` on the hub: BertConfig's defaults are those of bert-base-uncased
    "bert_base_uncased": BertConfig(),
    "biomedbert_base": BertConfig(vocab_size=30522),
    "electra_base": ElectraConfig(
        vocab_size=30522,
        embedding_size=768,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
    ),
}

each = pytest.mark.parametrize("name", FILES)
each_head = pytest.mark.parametrize("head", HEADS)


def model_of(yaml: str, **changes: Any) -> Model:
    return instantiate({**NODES[yaml], **changes}, Model, "model")


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    """Skips what needs a Python package that is not here."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    if name in PACKAGED and find_spec(NODES[name]["package"].split("/")[0]) is None:
        pytest.skip(f"model {name}: its Python package is not installed (extra: embedded)")


# --- the yaml ------------------------------------------------------------------------------------


def test_every_yaml_is_of_one_kind() -> None:
    assert {"tiny", "tiny_electra", "minilm", *PUBLISHED} <= set(FILES)
    assert sorted(FILES) == sorted([*HUB, *RANDOM, *PACKAGED])
    assert sorted(HUB) == sorted(PUBLISHED), "a hub model needs its published shape in this file"


@each
def test_the_yaml_describes_itself(name: str) -> None:
    model = model_of(name)
    assert model.name == name
    assert check_model(model) == []
    assert model.about.keys() == {"summary", "licence", "citation"}
    assert model.about["summary"].startswith(f"{model.layers} blocks")
    assert model.revision is None or re.fullmatch("[0-9a-f]{40}", model.revision)
    assert model.sha256 is None or re.fullmatch("[0-9a-f]{64}", model.sha256)
    facts = model.facts()
    assert (facts.layers, facts.pooler) == (model.layers, model.pooler is not None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hub": "a/b"}, "must name exactly one of hub, package, config"),
        ({"config": None}, "it names none"),
        ({"family": "elektra"}, "did you mean 'electra'"),
    ],
)
def test_an_impossible_yaml_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    (problem,) = check_model(model_of("tiny", **change))
    assert sentence in problem


# --- shapes --------------------------------------------------------------------------------------


def shape(name: str, head: Head) -> torch.nn.Module:
    """The network without weights, as plain transformers builds it."""
    config = PUBLISHED.get(name)
    if config is None and name in RANDOM:
        config = AutoConfig.for_model(NODES[name]["family"], **NODES[name]["config"])
    if config is None:
        config = AutoConfig.from_pretrained(model_of(name).folder())
    with torch.device("meta"):
        return HEADS[head].from_config(config)  # type: ignore[no-any-return]


@each
@each_head
def test_layer_map_covers_the_published_shape(name: str, head: Head) -> None:
    model, network = model_of(name), shape(name, head)
    names = [n for n, _ in network.named_parameters()]
    layers = layer_map(
        names,
        encoder=network.base_model_prefix,  # type: ignore[arg-type]
        embeddings=model.embeddings,
        blocks=model.blocks,
        pooler=model.pooler,
        n_layers=model.layers,
    )
    assert list(layers.depth) == names
    assert set(layers.depth.values()) == set(range(model.layers + 2))
    assert layers.head == {n for n in names if n.startswith("classifier")}
    inside = [n for n in layers.names(layers.top) if n not in layers.head]
    assert bool(inside) == (model.pooler is not None and head == "sequence")
    assert all(f".{model.pooler}." in n for n in inside)
    per_block = {len(layers.names(depth)) for depth in range(1, model.layers + 1)}
    assert per_block == {16}, "6 linear layers and 2 LayerNorms"
    for depth, paths in layers.modules.items():
        held = {f"{p}.{n}" for p in paths for n, _ in network.get_submodule(p).named_parameters()}
        assert held == set(layers.names(depth))


@each
def test_facts_are_those_of_the_shape(name: str) -> None:
    model, network = model_of(name), shape(name, "sequence")
    config: Any = network.config
    assert model.family == config.model_type
    assert model.layers == config.num_hidden_layers
    assert model.hidden_size == config.hidden_size
    assert model.max_length == config.max_position_embeddings
    said = re.search(r"([\d.]+) M parameters", model.about["summary"])
    if said:
        encoder = getattr(network, str(network.base_model_prefix))
        millions = sum(p.numel() for p in encoder.parameters()) / 1e6
        assert float(said[1]) == pytest.approx(millions, rel=0.02)


# --- loading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RANDOM, *PACKAGED])
@each_head
def test_loads_ready_to_be_trained(name: str, head: Head) -> None:
    model = model_of(name)
    loaded = load(model, head=head, n_labels=3, attention="eager")
    network = loaded.network
    parameters = dict(network.named_parameters())
    assert all(module.training for module in network.modules()), "dropout would stay off"
    assert all(p.requires_grad and p.dtype == torch.float32 for p in parameters.values())
    assert loaded.fresh == loaded.layers.head
    assert loaded.initializer_range == 0.02
    assert network.config.num_labels == 3  # type: ignore[union-attr]
    assert network.config._attn_implementation == "eager"  # type: ignore[union-attr]
    assert parameters.keys() == loaded.layers.depth.keys() == loaded.reference.keys()
    for path in loaded.head_modules:
        network.get_submodule(path)
    with torch.no_grad():
        for n, p in parameters.items():
            assert torch.equal(p, loaded.reference[n])
            p.zero_()
    again = load(model, head=head, n_labels=3, attention="eager")
    kept = again.reference[f"{model.family}.embeddings.LayerNorm.weight"]
    assert kept.any(), "one run's edits must not reach the next"
    pieces = load_tokenizer(model)("p53 (TP53)")["input_ids"]
    assert max(pieces) < network.config.vocab_size  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("name", [*RANDOM, *PACKAGED])
@pytest.mark.parametrize(
    "lie",
    [{"layers": 5}, {"hidden_size": 100}, {"max_length": 1024}],
    ids=lambda lie: next(iter(lie)),
)
def test_a_lying_yaml_is_refused(name: str, lie: dict[str, Any]) -> None:
    load(model_of(name), head="sequence", n_labels=2, attention="eager")  # a warm cache is no pass
    ((fact, value),) = lie.items()
    with pytest.raises(ConfigError, match=rf"model\.{fact} is {value} but .*'{name}'"):
        load(model_of(name, **lie), head="sequence", n_labels=2, attention="eager")


def test_equal_random_models_are_the_same_weights() -> None:
    """The identity is in the key of a run, so it must decide the weights."""
    one, other = model_of("tiny"), model_of("tiny", name="small")
    assert one.identity() == other.identity()
    for p, q in zip(
        load(one, head="token", n_labels=2, attention="eager").network.parameters(),
        load(other, head="token", n_labels=2, attention="eager").network.parameters(),
        strict=True,
    ):
        assert torch.equal(p, q)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete checkpoint of the tiny model, as transformers saves it."""
    network = load(model_of("tiny"), head="sequence", n_labels=2, attention="eager").network
    network.base_model.save_pretrained(tmp_path)  # type: ignore[union-attr, operator]
    load_tokenizer(model_of("tiny")).save_pretrained(tmp_path)
    return tmp_path


def test_an_own_folder_is_read_and_named_by_content(folder: Path) -> None:
    model = model_of("tiny", path=str(folder))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert model.identity() == f"sha256:{digest}"
    loaded = load(model, head="sequence", n_labels=2, attention="eager")
    assert loaded.fresh == loaded.layers.head


def test_an_incomplete_folder_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        model_of("tiny", path=str(folder)).identity()
    with pytest.raises(ConfigError, match="no such folder"):
        model_of("tiny", path=str(folder / "absent")).identity()


def test_a_checkpoint_without_a_block_is_refused(folder: Path) -> None:
    """transformers would fill the gap with random values and go on."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    rest = {name: w for name, w in weights.items() if "layer.1." not in name}
    assert len(rest) < len(weights)
    save_file(rest, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="no values for 16 parameters of the encoder"):
        load(model_of("tiny", path=str(folder)), head="token", n_labels=2, attention="eager")


@pytest.mark.parametrize("name", HUB)
def test_a_missing_hub_model_says_how_to_bring_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = replace(model_of(name), hub="nobody/nothing")
    with pytest.raises(
        ConfigError,
        match=rf"bring it with: bluestab fetch model={name} \(or: hf download nobody/nothing",
    ):
        model.folder()


@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_file_is_the_published_one(name: str) -> None:
    model = model_of(name)
    folder = model.folder()
    assert folder is not None
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == model.sha256
    assert model.identity() == f"sha256:{digest}"
    said = json.loads((folder / "config.json").read_text())
    assert (said["num_hidden_layers"], said["hidden_size"]) == (model.layers, model.hidden_size)
    with pytest.raises(ConfigError, match="has sha256"):
        replace(model, sha256="0" * 64).identity()


# --- random values -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["bert", "electra"])
def pair(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A network as transformers initialises it, and one of garbage that `initialise` filled."""
    size = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"embedding_size": 64} if request.param == "electra" else {}
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
    for name, expected in theirs.items():
        found = ours[name]
        if expected.ndim == 1:
            assert torch.equal(found, expected), f"{name}: a constant in transformers"
            continue
        matrices += 1
        slack = 5 / math.sqrt(expected.numel())  # five standard errors
        for drawn in (expected, found):
            assert abs(float(drawn.mean())) < 0.02 * slack, name
            assert float(drawn.std()) == pytest.approx(0.02, rel=slack), name
        zero_rows = [(drawn == 0).all(dim=1).nonzero().tolist() for drawn in (expected, found)]
        assert zero_rows[0] == zero_rows[1], f"{name}: the row of the padding piece"
    assert matrices >= 15


def test_initialise_is_a_function_of_the_generator(
    pair: tuple[torch.nn.Module, torch.nn.Module],
) -> None:
    network = pair[1]
    name = next(n for n, _ in network.named_parameters() if n.endswith("query.weight"))
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
    loaded = load(model, head="sequence", n_labels=1, attention="eager")

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
    edited = Reinit(depth=2, pooler=True).edit_model(built, seeds)
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
