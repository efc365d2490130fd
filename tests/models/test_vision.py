"""Images in front of the text: pieces where they belong, nothing else of the network changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.models.passes import perturbed  # noqa: E402
from bluestab.models.vision import Vision, add_vision  # noqa: E402
from bluestab.models.vision_spec import FROZEN, KINDS, VisionSpec, vision_problems  # noqa: E402
from tests.support.encoders import config_of  # noqa: E402

SPEC = VisionSpec(kind="patch", image_size=16, patch=8, width=8)  # 4 pieces


def network_of(family: str, **changes: Any) -> Any:
    from transformers import AutoModel

    torch.manual_seed(0)
    config = config_of(family, **changes)
    return AutoModel.from_config(config, attn_implementation="eager").eval()


def with_vision(family: str, spec: VisionSpec = SPEC) -> Any:
    network = network_of(family)
    add_vision(network, spec)
    return network.eval()


def batch(spec: VisionSpec = SPEC, items: int = 3, words: int = 6) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    pieces = torch.randint(5, 300, (items, 1 + spec.pieces + words), generator=random)
    pieces[:, 1 : 1 + spec.pieces] = 3
    mask = torch.ones_like(pieces)
    mask[0, -3:] = 0
    side = spec.image_size
    images = torch.randint(0, 256, (items, 3, side, side), generator=random, dtype=torch.uint8)
    return {"input_ids": pieces, "attention_mask": mask, "images": images}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != FROZEN])
@pytest.mark.parametrize("size", [32, 64, 96])
def test_a_tower_gives_a_vector_per_patch(kind: str, size: int) -> None:
    spec = VisionSpec(kind=kind, image_size=size, patch=16, width=24)
    own = Vision(spec, hidden=40, embedding=20)
    found = own(torch.zeros(2, 3, size, size, dtype=torch.uint8))
    assert found.shape == (2, spec.pieces, 20) == (2, (size // 16) ** 2, 20)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "electra", "deberta-v2"])
def test_the_pieces_stand_where_the_placeholders_are(family: str) -> None:
    """The network computes what it computes with these embeddings, at the same positions."""
    network, inputs = with_vision(family), batch()
    bare = network_of(family)
    pieces = network.vision(inputs["images"])
    table = bare.get_input_embeddings()
    wanted = table(inputs["input_ids"]).detach()
    wanted[:, 1:5] = pieces.detach()
    table.register_forward_hook(lambda *_: wanted)
    with torch.no_grad():
        found = network(**inputs).last_hidden_state
        text = {name: value for name, value in inputs.items() if name != "images"}
        expected = bare(**text).last_hidden_state
    assert torch.equal(found, expected)


def test_every_image_reaches_its_own_item() -> None:
    network, inputs = with_vision("bert"), batch()
    with torch.no_grad():
        before = network(**inputs).last_hidden_state
        inputs["images"][1] = 255 - inputs["images"][1]
        after = network(**inputs).last_hidden_state
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1], atol=1e-4)


def test_padding_is_not_seen_and_pieces_are_used_once() -> None:
    network, inputs = with_vision("bert"), batch()
    with torch.no_grad():
        first = network(**inputs).last_hidden_state
        inputs["input_ids"][0, -3:] = 7
        again = network(**inputs).last_hidden_state
        assert torch.equal(first[0, :-3], again[0, :-3])
        text = {name: value for name, value in inputs.items() if name != "images"}
        without = network(**text).last_hidden_state
    assert network.vision._pieces is None
    assert not torch.allclose(without, again)


def test_gradients_reach_all_of_the_tower_and_a_perturbation_stays_on_top() -> None:
    spec = VisionSpec(kind="conv", image_size=32, patch=16, width=8)
    network, inputs = with_vision("bert", spec), batch(spec)
    delta = torch.zeros(*inputs["input_ids"].shape, 32, requires_grad=True)
    with perturbed(network, delta):
        network(**inputs).last_hidden_state[:, 0, :7].sum().backward()
    assert delta.grad is not None
    assert delta.grad[:, 1:5].abs().sum() > 0
    for name, parameter in network.vision.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_copy_looks_with_its_own_tower() -> None:
    network, inputs = with_vision("bert"), batch()
    other = copy.deepcopy(network)
    with torch.no_grad():
        before = network(**inputs).last_hidden_state
        for parameter in other.vision.parameters():
            parameter.add_(1.0)
        assert not torch.allclose(other(**inputs).last_hidden_state, before, atol=1e-3)
        assert torch.equal(network(**inputs).last_hidden_state, before)


GOOD = {"kind": "patch", "image_size": 32, "patch": 8, "width": 16}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (None, None),
        (GOOD, None),
        ({**GOOD, "kind": "conv"}, "model.vision.patch is 8: a conv tower has 16"),
        ({**GOOD, "kind": "resnet"}, "model.vision.kind is 'resnet': expected one of conv, patch"),
        ({**GOOD, "image_size": 30}, "expected a multiple of model.vision.patch=8"),
        ({**GOOD, "image_size": "big"}, "model.vision.image_size is 'big': expected a whole"),
        ({**GOOD, "width": 12}, "model.vision.width is 12: expected a multiple of 8"),
        ({**GOOD, "image_size": 1024}, "makes 16384 pieces of an image, of which 256 are the most"),
        ({"kind": "conv"}, "expected null, or kind, image_size, patch, width"),
        ("conv", "model.vision is 'conv': expected null, or kind"),
    ],
)
def test_what_may_be_asked(said: Any, problem: str | None) -> None:
    found = vision_problems(said)
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]
