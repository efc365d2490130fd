"""Larger networks out of trained ones: the same answers, as many weights as derived, and gradients
that set new units apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import (  # noqa: E402  # noqa: E402
    BertConfig,
    BertForMaskedLM,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.models.growth import grown  # noqa: E402

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "attn_implementation": "eager",
}
KINDS: dict[str, tuple[Any, Any]] = {
    "bert": (BertForMaskedLM, BertConfig),
    "roberta": (RobertaForMaskedLM, RobertaConfig),
    "electra": (ElectraModel, ElectraConfig),
}


def trained(kind: str) -> Any:
    """A network whose norms and biases are no longer as at the start."""
    network_of, config_of = KINDS[kind]
    torch.manual_seed(0)
    network = network_of(config_of(**SMALL)).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.3)
    return network


def larger(network: Any, **sizes: Any) -> Any:
    config = network.config.to_dict()
    weights, said = grown(network.state_dict(), config, **sizes)
    made = type(network)(type(network.config)(**said)).eval()
    made.load_state_dict(weights)
    return made


def answer(network: Any) -> Any:
    pieces = torch.randint(3, 50, (4, 12), generator=torch.Generator().manual_seed(1))
    return network(pieces)[0]


def count(network: Any) -> int:
    return sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [{"ffn": 40}, {"layers": 4}, {"layers": 8, "ffn": 90}], ids=str)
def test_the_output_is_the_same_and_the_count_is_derived(kind: str, sizes: dict[str, int]) -> None:
    network = trained(kind)
    made = larger(network, **sizes)
    with torch.no_grad():
        assert torch.allclose(answer(made), answer(network), atol=2e-4, rtol=1e-4)
    h, ffn, layers = 16, sizes.get("ffn", 24), sizes.get("layers", 3)
    block = 4 * (h * h + h) + 2 * h * ffn + ffn + h + 4 * h
    old = 4 * (h * h + h) + 2 * h * 24 + 24 + h + 4 * h
    assert count(made) - count(network) == layers * block - 3 * old


def test_new_blocks_are_spread_evenly() -> None:
    from bluestab.models.growth import _sources

    assert _sources(4, 8) == [3, 2, 1, 0]
    assert _sources(4, 6) == [2, 0]
    assert sorted(_sources(2, 6)) == [0, 0, 1, 1]


@pytest.mark.parametrize("how", ["zero", "net2net"])
def test_new_units_learn_and_not_alike(how: str) -> None:
    network = trained("bert")
    made = larger(network, ffn=48, how=how)
    bound = 2e-4 if how == "zero" else 1.0
    with torch.no_grad():
        assert (answer(made) - answer(network)).abs().max() < bound
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        answer(made).square().mean().backward()
        optimizer.step()
    layer = made.bert.encoder.layer[1]
    outgoing, incoming = layer.output.dense.weight, layer.intermediate.dense.weight
    assert (outgoing[:, 24:].abs().max(dim=0).values > 1e-3).all()
    assert (incoming[24:] - incoming[:24]).abs().max(dim=1).values.min() > 1e-3


def test_a_new_block_learns_from_the_first_step() -> None:
    made = larger(trained("bert"), layers=4)
    before = {n: v.clone() for n, v in made.named_parameters()}
    answer(made).square().mean().backward()
    for name in ("output.dense", "attention.output.dense"):
        assert made.get_parameter(f"bert.encoder.layer.1.{name}.weight").grad.abs().max() > 0
        assert not before[f"bert.encoder.layer.1.{name}.weight"].any()


def test_the_same_seed_grows_the_same() -> None:
    network = trained("bert")
    one, same, other = (larger(network, ffn=48, seed=seed).state_dict() for seed in (0, 0, 1))
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])


def test_what_cannot_grow_is_one_sentence() -> None:
    network = trained("bert")
    weights, config = network.state_dict(), network.config.to_dict()
    for sizes, said in (
        ({"ffn": 24}, "--ffn is 24, but the network has 24: name more"),
        ({"layers": 2}, "--layers is 2, but the network has 3: name more"),
        ({}, "nothing is to grow"),
    ):
        with pytest.raises(ConfigError, match=said):
            grown(weights, config, **sizes)
    with pytest.raises(ConfigError, match="networks of family modernbert cannot be grown"):
        grown(weights, {**config, "model_type": "modernbert"}, ffn=48)


def test_the_verb_grows_a_run_and_it_trains_on(cli: Any, tmp_path: Path) -> None:
    lines = "\n".join(f"some text with the number {i} in it" for i in range(30))
    (tmp_path / "a.txt").write_text(lines, encoding="utf-8")
    common = ["task=mlm", f"task.train={tmp_path / 'a.txt'}", "device=cpu", "optim.steps=2"]
    assert cli("run", *common, "model=tiny", "keep=last").code == 0
    (key,) = (p.name for p in Path("runs").iterdir() if len(p.name) == 16)
    said = cli("grow", key, "--layers", "3", "--ffn", "80", "--out", "large")
    assert said.code == 0, said.err
    assert float(said.out.partition("differs by ")[2].split()[0]) < 1e-4
    again = cli("run", *common, "model=auto", "model.path=large", "keep=last")
    assert again.code == 0, again.err
    assert cli("grow", key, "--layers", "3", "--out", "large").err.startswith(
        "bluestab: --out is 'large', which is there and not empty"
    )
