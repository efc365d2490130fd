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
    AlbertConfig,
    AutoConfig,
    BertConfig,
    BigBirdConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    EuroBertConfig,
    LongformerConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
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
    LOADED,
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
LONGFORMER = {**ROBERTA, "max_position_embeddings": 4098, "attention_window": [512] * 12}
XLM = {**ROBERTA, "vocab_size": 250002}
CAMEMBERT = {**ROBERTA, "vocab_size": 32005}
V3: dict[str, Any] = {
    **{"relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm"},
    **{"share_att_key": True, "pos_att_type": "p2c|c2p", "position_biased_input": False},
    **{"vocab_size": 128100, "type_vocab_size": 0},
}
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
    "deberta_v3_small": DebertaV2Config(**{**BASE, "num_hidden_layers": 6}, **V3),
    "deberta_v3_base": DebertaV2Config(**BASE, **V3),
    "deberta_v3_large": DebertaV2Config(**LARGE, **V3),
    "distilbert_base_uncased": DistilBertConfig(),
    "distilbert_base_cased": DistilBertConfig(**CASED),
    "xlm_roberta_base": XLMRobertaConfig(**XLM),
    "xlm_roberta_large": XLMRobertaConfig(**LARGE, **XLM),
    "camembert_base": CamembertConfig(**CAMEMBERT),
    "camembert_bio_base": CamembertConfig(**CAMEMBERT),
    "gbert_base": BertConfig(vocab_size=31102),
    "mpnet_base": MPNetConfig(max_position_embeddings=514),
    "albert_base": AlbertConfig(
        **{"embedding_size": 128, "hidden_size": 768, "num_hidden_layers": 12},
        **{"num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30000},
    ),
    "longformer_base": LongformerConfig(**LONGFORMER),
    "clinical_longformer": LongformerConfig(**LONGFORMER),
    "bigbird_base": BigBirdConfig(),
    "clinical_bigbird": BigBirdConfig(),
    "eurobert_210m": EuroBertConfig(max_position_embeddings=8192),
}
TENSORS = {"modernbert": 6, "eurobert": 9, "longformer": 22}
"""Parameters of a block: 6 linear layers and 2 LayerNorms, weight and bias; ModernBERT: 4 linear
layers and 2 norms, weights only; EuroBERT: 7 and 2; Longformer projects queries, keys and values
of global attention by layers of their own."""
AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")
each = pytest.mark.parametrize("name", FILES)
each_head = pytest.mark.parametrize("head", HEADS, ids=("sequence", "token"))


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    skip_unless_installed(request)


# --- the yaml ------------------------------------------------------------------------------------


def test_every_yaml_is_of_one_kind() -> None:
    assert {"minilm", *FAMILIES.values(), *PUBLISHED} <= set(FILES)
    families = {node["family"] for node in NODES.values()}
    assert set(FAMILIES) <= families <= set(description.FAMILIES)
    assert sorted(FILES) == sorted([*HUB, *RANDOM, *PACKAGED])
    assert sorted(HUB) == sorted(PUBLISHED), "a hub model needs its published shape in this file"


@each
def test_the_yaml_describes_itself(name: str) -> None:
    model = model_of(name)
    assert model.name == name
    assert check_model(model) == []
    assert model.about.keys() == {"group", "language", "summary", "licence", "citation"}
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
    heads = ("classifier", "head.", "pooler.", "pre_classifier.", "dense.")
    assert layers.head == {n for n in names if n.startswith(heads)}
    inside = [n for n in layers.names(layers.top) if n not in layers.head]
    if model.final_norm is not None and model.pooler is None:
        assert inside == [f"{network.base_model_prefix}.{model.final_norm}.weight"]
    else:
        # BigBird's network for words has a pooler, too, which it does not use
        pools = head == SEQUENCE or model.family == "big_bird"
        assert bool(inside) == (model.pooler is not None and pools)
        assert all(f".{model.pooler}." in n for n in inside)
    per_block = [len(layers.names(depth)) for depth in range(1, model.layers + 1)]
    # ModernBERT normalises in the embeddings what other blocks normalise at their start
    tensors = TENSORS.get(model.family, 16)
    first = tensors - (model.family == "modernbert")
    assert per_block == [first, *[tensors] * (model.layers - 1)]
    for depth, paths in layers.modules.items():
        held = {f"{p}.{n}" for p in paths for n, _ in network.get_submodule(p).named_parameters()}
        assert held == set(layers.names(depth))


@each
def test_facts_are_those_of_the_shape(name: str) -> None:
    model, network = model_of(name), shape(name, SEQUENCE)
    config: Any = network.config
    assert model.family == config.model_type
    assert model.layers == getattr(config, "num_hidden_groups", config.num_hidden_layers)
    assert model.hidden_size == config.hidden_size
    positions = config.max_position_embeddings
    assert model.max_length == (positions - 2 if model.family in AFTER_PADDING else positions)
    said = re.search(r"([\d.]+) M parameters", model.about["summary"])
    if said:
        encoder = getattr(network, str(network.base_model_prefix))
        millions = sum(p.numel() for p in encoder.parameters()) / 1e6
        assert float(said[1]) == pytest.approx(millions, rel=0.02)


# --- loading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADED)
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


@pytest.mark.parametrize("name", LOADED)
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
