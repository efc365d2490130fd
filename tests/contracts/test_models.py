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
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from bluestab.core.errors import ConfigError
from bluestab.core.instantiate import instantiate
from bluestab.core.paths import conf_dir
from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import SEQUENCE, TOKEN, Head
from bluestab.models import description
from bluestab.models.built import Built
from bluestab.models.description import Model, check_model
from bluestab.models.layers import layer_map
from bluestab.models.networks import initialise, load
from bluestab.models.passes import model_logits
from bluestab.models.tokenizers import load_tokenizer
from bluestab.techniques.reinit import Reinit
from bluestab.training.loop.batches import collate
from bluestab.training.tokenise import tokenised

FILES = {file.stem: file for file in sorted((conf_dir() / "model").glob("*.yaml"))}
NODES: dict[str, Any] = {n: OmegaConf.to_container(OmegaConf.load(f)) for n, f in FILES.items()}
HUB = [name for name, node in NODES.items() if node["hub"] is not None]
RANDOM = [name for name, node in NODES.items() if node["config"] is not None]
PACKAGED = [name for name, node in NODES.items() if node["package"] is not None]
HEADS: dict[Head, Any] = {
    SEQUENCE: AutoModelForSequenceClassification,
    TOKEN: AutoModelForTokenClassification,
}

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

FAMILIES = {
    "bert": "tiny",
    "electra": "tiny_electra",
    "roberta": "tiny_roberta",
    "modernbert": "tiny_modernbert",
}

each = pytest.mark.parametrize("name", FILES)
each_head = pytest.mark.parametrize("head", HEADS, ids=("sequence", "token"))


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete checkpoint of the tiny model, as transformers saves it."""
    network = load(model_of("tiny"), head=SEQUENCE, n_labels=2, attention="eager").network
    network.base_model.save_pretrained(tmp_path)  # type: ignore[union-attr, operator]
    load_tokenizer(model_of("tiny")).save_pretrained(tmp_path)
    return tmp_path


def test_an_own_folder_is_read_and_named_by_content(folder: Path) -> None:
    model = model_of("tiny", path=str(folder))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert model.identity() == f"sha256:{digest}"
    loaded = load(model, head=SEQUENCE, n_labels=2, attention="eager")
    assert loaded.fresh == loaded.layers.head


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
        load(model_of("tiny", path=str(folder)), head=TOKEN, n_labels=2, attention="eager")


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


def test_a_copy_that_is_here_is_used_without_asking(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that is down, or has a newer commit, must not reach into a sweep that is under way."""

    def asked(*_: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("bluestab.models.description.local_copy", lambda hub, revision: folder)
    monkeypatch.setattr("bluestab.models.description.download", asked)
    assert model_of("bert_base_uncased").folder() == folder


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


# --- tokenizers and batches ----------------------------------------------------------------------

SENTENCES = ["BRCA1 binds RAD51.", "p53", "Loss of TP53 is found in half of all colon cancers (1)."]

each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_tokenizers_follow_their_family(family: str) -> None:
    tokenizer = load_tokenizer(model_of(FAMILIES[family]))
    pair = tokenizer("ab c", "d")
    pieces = tokenizer.convert_ids_to_tokens(pair["input_ids"])
    expected = {
        "bert": "[CLS] a ##b c [SEP] d [SEP]",
        "electra": "[CLS] a ##b c [SEP] d [SEP]",
        "roberta": "<s> a b Ġ c </s> </s> d </s>",
        "modernbert": "[CLS] a b Ġ c [SEP] d [SEP]",
    }[family]
    assert " ".join(pieces) == expected
    assert ("token_type_ids" in pair) == (family in ("bert", "electra"))
    config = AutoConfig.for_model(family, **NODES[FAMILIES[family]]["config"])
    assert tokenizer.pad_token_id == config.pad_token_id
    assert len(tokenizer) == config.vocab_size


@each_family
@pytest.mark.parametrize("own_folder", [False, True])
def test_words_that_come_one_by_one_keep_their_borders(
    family: str, own_folder: bool, tmp_path: Path
) -> None:
    """`add_prefix_space` of transformers has no effect on ModernBERT's class: words were glued."""
    model = model_of(FAMILIES[family])
    if own_folder:
        load(model, head=TOKEN, n_labels=2, attention="eager").network.base_model.save_pretrained(
            tmp_path
        )  # type: ignore[union-attr, operator]
        load_tokenizer(model).save_pretrained(tmp_path)
        model = replace(model, path=str(tmp_path))
    text, words = "ab c de", ["ab", "c", "de"]
    by_word = load_tokenizer(model, words=True)
    found = by_word(words, is_split_into_words=True)
    whole = load_tokenizer(model)
    assert found["input_ids"] == by_word(text)["input_ids"]
    borders = whole(text)["input_ids"]
    if family in ("roberta", "modernbert"):
        space = whole.convert_tokens_to_ids("Ġ")
        assert found["input_ids"] == [borders[0], space, *borders[1:]]
        assert borders.count(space) == 2
    else:
        assert found["input_ids"] == borders
        assert by_word is whole
    assert [w for w in found.word_ids(0) if w is not None] == sorted(
        w for w in found.word_ids(0) if w is not None
    )
    assert set(found.word_ids(0)) == {None, 0, 1, 2}


@pytest.mark.parametrize("lower_case", [None, True, False])
def test_capitals(lower_case: bool | None, folder: Path) -> None:
    """Three cased models come with a tokenizer that lowers, because their folders do not say."""
    bare = folder / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, bare)
    words = load_tokenizer(model_of("tiny")).get_vocab()
    cased = [*sorted(words, key=words.get), "T", "##P"]  # type: ignore[arg-type]
    (bare / "vocab.txt").write_text("\n".join(cased))
    for path in (None, str(folder), str(bare)):
        tokenizer = load_tokenizer(model_of("tiny", lower_case=lower_case, path=path))
        upper, lower = (tokenizer(text)["input_ids"] for text in ("TP", "tp"))
        assert (upper == lower) == (lower_case is not False)
    tokenizer.save_pretrained(folder / "saved")
    again = AutoTokenizer.from_pretrained(folder / "saved")
    assert again("TP")["input_ids"] == upper, "what a run keeps tokenises as the run did"


def test_capitals_of_one_process_do_not_mix(make_run: Any) -> None:
    """Same weights, same items: the word pieces kept in memory are told apart all the same."""
    pieces = []
    for lower_case in ("null", "false"):
        run = make_run("task=gad", "model=tiny", f"model.lower_case={lower_case}")
        table, _ = tokenised(run.data, run.data.splits["train"], run.model)
        pieces.append(table["input_ids"][:])
    assert pieces[0] != pieces[1]


def test_a_tokenizer_that_cannot_obey_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    model = model_of("tiny_modernbert")
    load(model, head=TOKEN, n_labels=2, attention="eager").network.save_pretrained(tmp_path)  # type: ignore[operator]
    backend = Tokenizer(WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]").save_pretrained(tmp_path)
    model = replace(model, path=str(tmp_path))
    with pytest.raises(ConfigError, match="which has no add_prefix_space; give a folder"):
        load_tokenizer(model, words=True)
    with pytest.raises(ConfigError, match="normalizer of its tokenizer is None"):
        load_tokenizer(replace(model, lower_case=False))


def sharpened(network: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough for every piece to matter to the others."""
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter += 0.3 * torch.randn(parameter.shape, generator=random)
    return network.eval()


@each_family
@each_head
def test_padding_changes_no_logits(family: str, head: Head, tmp_path: Path) -> None:
    """A padded batch, its items alone, and plain transformers with its own padding agree."""
    model = model_of(FAMILIES[family])
    tokenizer = load_tokenizer(model)
    network = sharpened(load(model, head=head, n_labels=3, attention="eager").network)
    network.save_pretrained(tmp_path)  # type: ignore[operator]
    columns = tokenizer(SENTENCES, SENTENCES[::-1], return_attention_mask=False)
    items = [
        {**{k: columns[k][i] for k in columns}, "labels": 0, "item": i}
        for i in range(len(SENTENCES))
    ]

    def logits(which: list[dict[str, Any]], **changes: Any) -> torch.Tensor:
        batch = {**collate(which, int(tokenizer.pad_token_id)), **changes}  # type: ignore[arg-type]
        with torch.no_grad():
            return model_logits(network, batch)

    together = logits(items)
    bare = HEADS[head].from_pretrained(tmp_path, attn_implementation="sdpa").eval()
    with torch.no_grad():
        theirs = bare(
            **tokenizer(SENTENCES, SENTENCES[::-1], padding=True, return_tensors="pt")
        ).logits
    longest = max(map(len, columns["input_ids"]))
    unmasked = logits(items, attention_mask=torch.ones(len(items), longest, dtype=torch.long))
    for i, item in enumerate(items):
        n = len(item["input_ids"])
        rows = slice(None) if head == SEQUENCE else slice(0, n)
        alone = logits([item])[0]
        assert torch.allclose(together[i][rows], alone, atol=1e-5)
        assert torch.allclose(theirs[i][rows], alone, atol=1e-5)
        if n < longest:
            assert not torch.allclose(unmasked[i][rows], alone, atol=1e-2), "padding must matter"
    assert any(len(item["input_ids"]) < longest for item in items)


@each_family
def test_the_longest_input_fits(family: str) -> None:
    """RoBERTa numbers its positions from 2 on: 514 of them are 512 word pieces."""
    model = model_of(FAMILIES[family])
    network = load(model, head=TOKEN, n_labels=2, attention="eager").network.eval()
    pieces = torch.full((1, model.max_length), 7)
    with torch.no_grad():
        assert network(input_ids=pieces).logits.shape == (1, model.max_length, 2)
        if family != "modernbert":  # its positions are computed, not looked up
            with pytest.raises((IndexError, RuntimeError)):
                network(input_ids=torch.full((1, model.max_length + 1), 7))


# --- the linear head -----------------------------------------------------------------------------


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
