"""Layers between blocks: gates at 0, two routes, and what a folder of weights says of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.models.insertion_places import KINDS, MARK, published  # noqa: E402
from bluestab.models.insertions import insert, insert_as_saved, insertions_of, route  # noqa: E402
from tests.support.encoders import config_of  # noqa: E402

FAMILIES = ["bert", "modernbert", "deberta-v2", "mpnet"]


def network_of(family: str) -> Any:
    from transformers import AutoModel

    torch.manual_seed(0)
    return AutoModel.from_config(config_of(family), attn_implementation="eager").eval()


def blocks_of(network: Any) -> dict[int, str]:
    (path,) = [p for p, m in network.named_modules() if isinstance(m, torch.nn.ModuleList)][:1]
    return {1: f"{path}.0", 3: f"{path}.2"}


def batch(items: int = 4) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    pieces = torch.randint(5, 300, (items, 7), generator=random)
    mask = torch.ones_like(pieces)
    mask[1, 4:] = 0
    return {"input_ids": pieces, "attention_mask": mask}


def states(network: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return network(**inputs).last_hidden_state  # type: ignore[no-any-return]


def inserted(network: Any, kind: str) -> Any:
    names = insert(network, blocks_of(network), kind=kind, size=4, gate_scale=10.0)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name in names:
            network.get_parameter(name).normal_(generator=random)
    return network.eval()


def open_gates(network: Any) -> None:
    with torch.no_grad():
        for insertion in insertions_of(network):
            insertion.gate.fill_(0.05)


@pytest.mark.parametrize("layers", [1, 2, 6, 12, 24, 32])
def test_the_published_places(layers: int) -> None:
    """Released code, blocks from 0: 0, 1, 5, 6, 10, 11, 15, 16, 20, 21, 25, 26, 30, 31 of 32."""
    theirs = [0, 1, 5, 6, 10, 11, 15, 16, 20, 21, 25, 26, 30, 31]
    assert published(layers) == [n + 1 for n in theirs if n < layers]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gate_at_zero_is_the_network_and_an_open_one_is_not(family: str, kind: str) -> None:
    bare, inputs = network_of(family), batch()
    network = inserted(copy.deepcopy(bare), kind)
    expected = states(bare, inputs)
    assert torch.equal(states(network, inputs), expected)
    open_gates(network)
    assert not torch.allclose(states(network, inputs), expected, atol=1e-4)
    with route(network, False):
        assert torch.equal(states(network, inputs), expected)
    assert not torch.equal(states(network, inputs), expected), "the route ends with the block"


@pytest.mark.parametrize("kind", KINDS)
def test_two_routes_in_one_batch_do_not_mix(kind: str) -> None:
    bare, inputs = network_of("bert"), batch(4)
    network = inserted(copy.deepcopy(bare), kind)
    open_gates(network)
    text, adapted = states(bare, inputs), states(network, inputs)
    flags = torch.tensor([True, False, False, True])
    with route(network, flags):
        mixed = states(network, inputs)
    assert torch.equal(mixed[flags], adapted[flags])
    assert torch.equal(mixed[~flags], text[~flags])
    for sick in (torch.nan, torch.inf):  # not even if the other route has burst
        with torch.no_grad():
            insertions_of(network)[0].gate.fill_(sick)
        with route(network, flags):
            assert torch.equal(states(network, inputs)[~flags], text[~flags])


def test_a_route_ends_with_an_error_inside() -> None:
    network = inserted(network_of("bert"), "bottleneck")

    def fails() -> Iterator[None]:
        with route(network, False):
            raise KeyError

    with pytest.raises(KeyError):
        list(fails() or ())
    assert all(insertion.adapted is True for insertion in insertions_of(network))


def test_a_copy_takes_nothing_that_hangs_on_its_block() -> None:
    network, calls = network_of("bert"), []
    block = network.get_submodule(blocks_of(network)[1])
    block.register_forward_hook(lambda *_: calls.append(1))
    block.train = lambda mode=True: block
    open_gates(inserted(network, "layer"))
    states(network, batch())
    assert len(calls) == 1
    copied = insertions_of(network)[0].layer
    assert copied.train().training


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"after": [0]}, "after is [0]: expected a list of blocks from 1 to 3"),
        ({"after": [1, 1]}, "after is [1, 1]"),
        ({"kind": "brick"}, "kind is 'brick': expected one of layer, bottleneck, lora"),
        ({"size": 10**9}, "size is 1000000000: expected a whole number from 1 to 32"),
        ({"gate_scale": float("inf")}, "gate_scale is inf"),
        ({"more": 1}, "expected a map of after, kind, size, gate_scale"),
    ],
)
def test_a_strange_mark_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    mark = {"after": [1, 3], "kind": "layer", "size": 4, "gate_scale": 10.0, **change}
    (tmp_path / "config.json").write_text(json.dumps({MARK: mark}))
    with pytest.raises(ConfigError) as caught:
        insert_as_saved(network_of("bert"), "encoder.layer", tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
