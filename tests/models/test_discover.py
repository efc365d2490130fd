"""What `auto` finds in checkpoints of many families is right, or refused; witness: hidden states.

The witness is transformers' own list of hidden states: weights of a depth must change the states
above them and none below. Nothing of the search for blocks is used there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForSequenceClassification

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError
from bluestab.core.types import SEQUENCE, TOKEN
from bluestab.models.discover import AUTO, FOUND, described
from bluestab.models.networks import load
from bluestab.models.saved import save_model
from tests.support.encoders import checkpoint
from tests.support.model_yamls import NODES, model_of

E, P, L = ["embeddings"], "pooler", "encoder.layer"
PROJECTED = ["embeddings", "embeddings_project"]
FOUND_IN: dict[str, tuple[list[str], str, str | None, str | None]] = {
    "albert": (
        ["embeddings", "encoder.embedding_hidden_mapping_in"],
        *("encoder.albert_layer_groups", P, None),
    ),
    "bert": (E, L, P, None),
    "big_bird": (E, L, P, None),
    "camembert": (E, L, None, None),
    "convbert": (PROJECTED, L, None, None),
    "data2vec-text": (E, L, None, None),
    "deberta": (["embeddings", "encoder.rel_embeddings"], L, None, None),
    "deberta-v2": (
        ["embeddings", "encoder.rel_embeddings", "encoder.LayerNorm"],
        *(L, None, None),
    ),
    "distilbert": (E, "transformer.layer", None, None),
    "electra": (PROJECTED, L, None, None),
    "ernie": (E, L, P, None),
    "eurobert": (["embed_tokens"], "layers", None, "norm"),
    "gte": (E, "layers", P, None),
    "ibert": (E, L, None, None),
    "longformer": (E, L, None, None),
    "megatron-bert": (E, L, P, "encoder.ln"),
    "mobilebert": (E, L, P, None),
    "modernbert": (E, "layers", None, "final_norm"),
    "mpnet": (["embeddings", "encoder.relative_attention_bias"], L, None, None),
    "nomic_bert": (E, "layers", P, None),
    "rembert": (["embeddings", "encoder.embedding_hidden_mapping_in"], L, P, None),
    "roberta": (E, L, None, None),
    "roberta-prelayernorm": (E, L, None, "LayerNorm"),
    "roc_bert": (E, L, P, None),
    "xlm-roberta": (E, L, None, None),
}
REFUSED = {
    "esm": "'contact_head' has parameters that no pass uses",
    "flaubert": "no list of its modules hand a state from each to the next",
    "fnet": "take no attention_mask",
    "luke": "'entity_embeddings' has parameters that no pass uses",
    "roformer": "never trains 'roformer.encoder.embed_positions.weight'",
    "squeezebert": "no list of its modules hand a state",
}
QUICK = ("deberta-v2",)


def families(names: Any) -> list[Any]:
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]


def auto(folder: Path, **given: Any) -> dict[str, Any]:
    node = {**NODES["tiny"], "config": None, **dict.fromkeys(FOUND, AUTO), "path": str(folder)}
    return described({**node, **given})


def states(network: Any, **inputs: Any) -> list[torch.Tensor]:
    pieces = torch.arange(5, 21).unsqueeze(0)
    with torch.no_grad():
        found = network(pieces, torch.ones_like(pieces), output_hidden_states=True, **inputs)
    return [*found.hidden_states, found.logits]


@pytest.mark.parametrize("family", families(FOUND_IN))
def test_what_is_found_is_right(family: str, tmp_path: Path) -> None:
    node = auto(checkpoint(family, tmp_path))
    embeddings, blocks, pooler, final_norm = FOUND_IN[family]
    assert (node["embeddings"], node["blocks"]) == (embeddings, blocks)
    assert (node["pooler"], node["final_norm"]) == (pooler, final_norm)
    assert (node["family"], node["name"]) == (family, tmp_path.name)
    assert (node["layers"], node["hidden_size"], node["max_length"]) == (
        *(1 if family == "albert" else 3, 32, 256),
    )
    for head in (SEQUENCE, TOKEN):
        loaded = load(model_of("tiny", **node), head=head, n_labels=2, attention="eager")
        assert loaded.layers.head == {
            n
            for n in loaded.layers.head
            if not n.startswith(loaded.network.base_model_prefix)  # type: ignore[arg-type]
        }
        if head == SEQUENCE:
            check_depths(loaded, family)


def check_depths(loaded: Any, family: str) -> None:
    """Each depth moves the states above it alone."""
    network = loaded.network.eval()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=random)
    before, layers = states(network), loaded.layers
    passes = (len(before) - 2) // layers.n_layers
    for depth in range(layers.n_layers + 2):
        own = {n: network.get_parameter(n) for n in layers.names(depth)}
        kept = {n: p.detach().clone() for n, p in own.items()}
        with torch.no_grad():
            for parameter in own.values():
                parameter += 0.3 * torch.randn(parameter.shape, generator=random)
        after = states(network)
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(kept[name])
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        first = 0 if depth == 0 else 1 + (depth - 1) * passes
        if depth == layers.top:
            assert not any(moved[: layers.n_layers * passes]), family
        else:
            assert moved[: first + 1] == [False] * first + [True], (family, depth)
        assert moved[-1], (family, depth)


@pytest.mark.parametrize("family", families(FOUND_IN))
def test_the_longest_input_is_read_and_one_more_is_not_where_positions_are_a_table(
    family: str, tmp_path: Path
) -> None:
    node = auto(checkpoint(family, tmp_path))
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tables = any(
        n.endswith("embeddings.position_embeddings.weight") and len(p) in (256, 258)
        for n, p in network.named_parameters()
    )
    for length in (node["max_length"], node["max_length"] + 1):
        pieces = 5 + torch.arange(length).unsqueeze(0) % 200
        if length <= 256 or not tables:
            with torch.no_grad():
                network(pieces, torch.ones_like(pieces))
        else:
            with pytest.raises((IndexError, RuntimeError)):
                network(pieces, torch.ones_like(pieces))


@pytest.mark.parametrize("family", families(REFUSED))
def test_what_is_ambiguous_is_refused_with_the_reason(family: str, tmp_path: Path) -> None:
    checkpoint(family, tmp_path)
    with pytest.raises(ConfigError, match="what belongs where is not found") as caught:
        auto(tmp_path)
    assert REFUSED[family] in str(caught.value)


def test_a_yaml_that_is_older_than_a_knob_still_describes_its_model() -> None:
    node = {"name": "mine", "dropout": 0.2}
    assert described(node) == {
        **{"name": "mine", "dropout": 0.2, "attention_dropout": None, "head_dropout": None},
        **{"head": "default", "lower_case": None, "init_from": None},
        **{"global_attention": "first_piece", "vocabulary": None, "vision": None},
    }


def test_a_field_that_is_given_is_not_looked_for(tmp_path: Path) -> None:
    node = auto(checkpoint("bert", tmp_path), max_length=64, name="mine")
    assert (node["max_length"], node["name"], node["layers"]) == (64, "mine", 3)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "neobert"}, "no network that the installed transformers has"),
        ({"model_type": "gpt2"}, "transformers has no masked language model of it"),
        ({"model_type": "mpnet", "hidden_act": "os.system"}, "has hidden_act 'os.system'"),
        ({"model_type": "mpnet", "hidden_size": 1e300}, "has hidden_size"),
        ({"model_type": "mpnet", "num_hidden_layers": 10**6}, "from 1 to 200"),
        ({"model_type": "distilbert", "n_layers": 10**6}, "from 1 to 200"),
        ({"model_type": "deberta-v2", "norm_rel_ebd": "a/b"}, "has norm_rel_ebd 'a/b'"),
    ],
)
def test_a_config_that_says_nonsense_is_refused(
    config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=said):
        auto(tmp_path)


def test_code_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    """Not even asked for: the config that transformers sees has no entry that names any."""
    checkpoint("mpnet", tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')\n")
    names = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    (tmp_path / "config.json").write_text(
        json.dumps({**said, "auto_map": names, "_attn_implementation": "owner/kernel"})
    )
    node = auto(tmp_path)
    with pytest.raises(ConfigError, match="'auto_map'"):
        load(model_of("tiny", **node), head=SEQUENCE, n_labels=2, attention="eager")
    assert not (tmp_path / "it-ran").exists()


def test_without_a_checkpoint_it_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"model\.path=FOLDER, or model\.hub=OWNER/NAME"):
        described({**dict.fromkeys(FOUND, AUTO), "path": None, "hub": None})
    with pytest.raises(ConfigError, match=r"no folder with a config\.json"):
        auto(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"bluestab fetch model=auto model\.hub=nobody/nothing"):
        auto(tmp_path, path=None, hub="nobody/nothing")


def test_it_is_shown_and_kept(tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`inspect model` names every depth; what is kept is a model like any other."""
    monkeypatch.setenv("BLUESTAB_CONF", str(tmp_path / "conf"))
    folder = checkpoint("deberta-v2", tmp_path / "my-model")
    asked = ("inspect", "model", "model=auto", f"model.path={folder}")
    found = cli(*asked, "--save-as", "mine")
    assert found.code == 0, found.err
    assert "depth 0         embeddings, encoder.rel_embeddings, encoder.LayerNorm" in found.out
    assert "longest input   256 word pieces" in found.out
    assert "pieces of bytes, capitals are kept" in found.out
    again = cli("inspect", "model", "model=mine")
    assert again.out.splitlines()[1:] == found.out.splitlines()[1 : len(again.out.splitlines())]
    tower = {"kind": "frozen", "path": "my-model", "hub": None}
    node = described(resolved(compose(["model=mine"]))["model"])
    monkeypatch.chdir(tmp_path)  # folders that are named from here are found from anywhere
    saved = save_model("second", {**node, "vision": tower, "vocabulary": "my-model"}, "sha256:0")
    written = OmegaConf.load(saved)
    assert written.vision.path == written.vocabulary == str(folder.resolve())
    taken = cli(*asked, "--save-as", "minilm")
    assert taken.code == 2
    assert "there is a model of that name" in taken.err
    listed = cli("list", "model").out
    assert listed.index("your own checkpoint") < listed.index("mine") < listed.index("general")
