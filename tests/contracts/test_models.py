"""Every model in conf/model is what its yaml says.

Hub models are built without weights (meta device) in their published shape and the layer map must
cover them; the others are loaded. A yaml that lies is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    BertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from bluestab.core.errors import ConfigError
from bluestab.core.types import SEQUENCE, Head
from bluestab.models import description
from bluestab.models.description import check_model
from bluestab.models.layers import layer_map
from bluestab.models.networks import load
from bluestab.models.tokenizers import load_tokenizer
from tests.support.model_yamls import (
    FAMILIES,
    FILES,
    HEADS,
    HUB,
    NODES,
    PACKAGED,
    RANDOM,
    model_of,
    skip_unless_installed,
)

LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
SMALL = {
    "embedding_size": 128,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
CASED = {"vocab_size": 28996}
PUBMED = {"vocab_size": 28895}  # seen for BiomedBERT-large; taken for the others: see their yamls
PUBLISHED = {
    # `config.json` on the hub: BertConfig's defaults are those of bert-base-uncased, those of
    # ModernBertConfig are modernbert-base's but for the pooling
    "bert_base_uncased": BertConfig(),
    "bert_base_cased": BertConfig(**CASED),
    "bert_large_uncased": BertConfig(**LARGE),
    "bert_large_cased": BertConfig(**LARGE, **CASED),
    "electra_small": ElectraConfig(**SMALL),
    "electra_base": ElectraConfig(embedding_size=768, **BASE),
    "electra_large": ElectraConfig(embedding_size=1024, **LARGE),
    "biomedbert_base": BertConfig(vocab_size=30522),
    "biomedbert_base_fulltext": BertConfig(vocab_size=30522),
    "biomedbert_large": BertConfig(**LARGE, **PUBMED),
    "biomedelectra_base": ElectraConfig(embedding_size=768, **BASE, **PUBMED),
    "biomedelectra_large": ElectraConfig(embedding_size=1024, **LARGE, **PUBMED),
    "biobert_base": BertConfig(**CASED),
    "scibert_uncased": BertConfig(vocab_size=31090),
    "scibert_cased": BertConfig(vocab_size=31116),
    "clinicalbert": BertConfig(**CASED),
    "bluebert_base": BertConfig(),
    "bluebert_large": BertConfig(**LARGE),
    "biolinkbert_base": BertConfig(**PUBMED),
    "biolinkbert_large": BertConfig(**LARGE, **PUBMED),
    "roberta_base": RobertaConfig(**ROBERTA),
    "roberta_large": RobertaConfig(**LARGE, **ROBERTA),
    "modernbert_base": ModernBertConfig(classifier_pooling="mean"),
    "bioclinical_modernbert_base": ModernBertConfig(classifier_pooling="mean"),
}
TENSORS = {"bert": 16, "electra": 16, "roberta": 16, "modernbert": 6}
"""Parameters of a block: 6 linear layers and 2 LayerNorms, weight and bias; ModernBERT: 4 linear
layers and 2 norms, weights only."""
each = pytest.mark.parametrize("name", FILES)
each_head = pytest.mark.parametrize("head", HEADS, ids=("sequence", "token"))


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    skip_unless_installed(request)


# --- the yaml ------------------------------------------------------------------------------------


def test_every_yaml_is_of_one_kind() -> None:
    assert {"minilm", *FAMILIES.values(), *PUBLISHED} <= set(FILES)
    assert set(FAMILIES) == set(description.FAMILIES) == {node["family"] for node in NODES.values()}
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
    assert not replace(model, head="linear").facts().pooler
    lines = FILES[name].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    if model.hub is not None:
        (revision,) = [line for line in lines if line.startswith("revision:")]
        assert "# commit on the hub" in revision or "# not verified" in revision
    cased = re.search(r"\b(un)?cased\b", model.about["summary"])
    assert cased or model.hub is None, "whether capitals count is the first thing to know"
    if model.lower_case is not None:
        assert cased is not None
        assert model.lower_case == bool(cased[1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hub": "a/b"}, "must name exactly one of hub, package, config"),
        ({"config": None}, "it names none"),
        ({"family": "elektra"}, "did you mean 'electra'"),
        ({"head": "linaer"}, "model.head is 'linaer'; did you mean 'linear'"),
        ({"head": None}, "model.head is 'None'"),
        ({"lower_case": "no"}, "model.lower_case is 'no': expected true, false or null"),
        ({"lower_case": False, "family": "roberta"}, "keep every byte"),
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
        above=[part for part in (model.pooler, model.final_norm) if part],
        n_layers=model.layers,
    )
    assert list(layers.depth) == names
    assert set(layers.depth.values()) == set(range(model.layers + 2))
    assert layers.head == {n for n in names if n.startswith(("classifier", "head."))}
    inside = [n for n in layers.names(layers.top) if n not in layers.head]
    if model.final_norm is not None:
        assert inside == [f"{network.base_model_prefix}.{model.final_norm}.weight"]
    else:
        assert bool(inside) == (model.pooler is not None and head == SEQUENCE)
        assert all(f".{model.pooler}." in n for n in inside)
    per_block = [len(layers.names(depth)) for depth in range(1, model.layers + 1)]
    # ModernBERT normalises in the embeddings what other blocks normalise at their start
    first = TENSORS[model.family] - (model.family == "modernbert")
    assert per_block == [first, *[TENSORS[model.family]] * (model.layers - 1)]
    for depth, paths in layers.modules.items():
        held = {f"{p}.{n}" for p in paths for n, _ in network.get_submodule(p).named_parameters()}
        assert held == set(layers.names(depth))


@each
def test_facts_are_those_of_the_shape(name: str) -> None:
    model, network = model_of(name), shape(name, SEQUENCE)
    config: Any = network.config
    assert model.family == config.model_type
    assert model.layers == config.num_hidden_layers
    assert model.hidden_size == config.hidden_size
    positions = config.max_position_embeddings
    assert model.max_length == (positions - 2 if model.family == "roberta" else positions)
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
    kept = again.reference[again.layers.names(1)[0]]
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
    load(model_of(name), head=SEQUENCE, n_labels=2, attention="eager")  # a warm cache is no pass
    ((fact, value),) = lie.items()
    with pytest.raises(ConfigError, match=rf"model\.{fact} is {value} but .*'{name}'"):
        load(model_of(name, **lie), head=SEQUENCE, n_labels=2, attention="eager")
