"""What a frozen tower gives equals what transformers' own network gives; hostile folders do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.models.frozen_tower import described_tower  # noqa: E402
from bluestab.models.tower_features import Tower  # noqa: E402
from bluestab.models.vision_spec import FrozenSpec, spec_of  # noqa: E402
from tests.support.towers import SMALL, USUAL, VIT, frozen, saved, tower_of  # noqa: E402

CPU = torch.device("cpu")


def spec_for(folder: Path, **changes: Any) -> FrozenSpec:
    spec = spec_of(described_tower(frozen(folder, **changes)))
    assert isinstance(spec, FrozenSpec)
    return spec


def image(side: int = 32) -> bytes:
    random = np.random.default_rng(5)
    return random.integers(0, 256, (3, side, side), dtype=np.uint8).tobytes()


def scaled(pixels: bytes, side: int = 32) -> Any:
    """As image processors of transformers do it: by 1/255, less the mean, over the deviation."""
    found = np.frombuffer(pixels, dtype=np.uint8).reshape(3, side, side) / 255
    mean, std = (np.array(USUAL[f"image_{n}"]).reshape(3, 1, 1) for n in ("mean", "std"))
    return torch.tensor(((found - mean) / std)[None], dtype=torch.float32)


def patches(states: Any, n: int) -> np.ndarray:
    if states.ndim == 4:
        return states[0].flatten(1).T.detach().numpy()  # type: ignore[no-any-return]
    return states[0, states.shape[1] - n :].detach().numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", sorted(SMALL))
def test_it_is_what_transformers_gives(family: str, tmp_path: Path) -> None:
    own = tower_of(family)
    tower = Tower(spec_for(saved(tmp_path, own)), CPU)
    expected = patches(own(scaled(image())).last_hidden_state, tower.spec.pieces)
    assert expected.shape == (tower.spec.pieces, tower.spec.width)
    np.testing.assert_allclose(tower(image()), expected, atol=1e-5)
    assert not tower.network.training
    assert not any(p.requires_grad for p in tower.network.parameters())


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_of_a_model_of_text_and_images_the_half_that_sees_is_taken(
    family: str, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModel

    words = {
        **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 16, "vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2},
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, text_config=words, vision_config=VIT)
    whole = AutoModel.from_config(config).eval()
    tower = Tower(spec_for(saved(tmp_path, whole)), CPU)
    states = whole.vision_model(scaled(image())).last_hidden_state
    np.testing.assert_allclose(tower(image()), patches(states, 16), atol=1e-5)


def test_a_classifier_of_images_is_a_tower_below_its_head(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    whole = ViTForImageClassification(ViTConfig(**VIT, num_labels=3)).eval()
    tower = Tower(spec_for(saved(tmp_path, whole)), CPU)
    states = whole.vit(scaled(image())).last_hidden_state
    np.testing.assert_allclose(tower(image()), patches(states, 16), atol=1e-5)


@pytest.mark.parametrize("family", ["vit", "clip_vision_model", "dinov2"])
def test_the_layer_before_the_last(family: str, tmp_path: Path) -> None:
    own = tower_of(family)
    folder = saved(tmp_path, own)
    tower = Tower(spec_for(folder, layer=-2), CPU)
    states = own(scaled(image()), output_hidden_states=True).hidden_states
    assert len(states) == 3
    np.testing.assert_allclose(tower(image()), patches(states[-2], 16), atol=1e-5)
    with pytest.raises(ConfigError, match=r"has 2 layers: expected -3 to -1"):
        Tower(spec_for(folder, layer=-4), CPU)(image())


def test_the_mean_of_neighbours_is_a_piece(tmp_path: Path) -> None:
    folder = saved(tmp_path, tower_of("vit"))
    whole = Tower(spec_for(folder), CPU)(image()).reshape(4, 4, 32)
    pooled = Tower(spec_for(folder, pool=2), CPU)(image())
    expected = whole.reshape(2, 2, 2, 2, 32).mean(axis=(1, 3)).reshape(4, 32)
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


@pytest.mark.parametrize("family", ["vit", "clip_vision_model", "siglip_vision_model", "dinov2"])
def test_images_of_another_size_than_in_the_pretraining(family: str, tmp_path: Path) -> None:
    own = tower_of(family)
    tower = Tower(spec_for(saved(tmp_path, own), image_size=48), CPU)
    more = {} if family == "dinov2" else {"interpolate_pos_encoding": True}
    states = own(scaled(image(48), 48), **more).last_hidden_state
    np.testing.assert_allclose(tower(image(48)), patches(states, 36), atol=1e-5)


def test_autocast_around_it_changes_nothing(tmp_path: Path) -> None:
    tower = Tower(spec_for(saved(tmp_path, tower_of("vit"))), CPU)
    plain = tower(image())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(tower(image()), plain)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "'auto_map', by which a model brings code"),
        ({"hidden_size": 48}, "cannot be read as an image tower|promises"),
        ({"hidden_size": 2**16}, "config.json promises"),
        ({"num_hidden_layers": 3}, "has no values for 16 parameters of an image tower"),
        ({"num_attention_heads": 5}, "cannot be read as an image tower"),
        ({"patch_size": 4}, "promises|cannot be read"),
    ],
)
def test_a_config_that_does_not_fit_its_weights(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    folder = saved(tmp_path, tower_of("vit"))
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(ConfigError, match=said) as caught:
        Tower(spec_for(folder), CPU)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "adapter", "infinite"])
def test_damaged_and_hostile_folders(tmp_path: Path, kind: str) -> None:
    own = tower_of("vit")
    if kind == "infinite":
        with torch.no_grad():
            own.layernorm.weight[0] = float("inf")
    folder = saved(tmp_path, own)
    weights = folder / "model.safetensors"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif kind in ("text", "empty"):
        weights.write_text("hello" if kind == "text" else "")
    elif kind == "adapter":
        (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        Tower(spec_for(folder), CPU)
    assert str(folder) in str(caught.value)


def test_a_width_that_is_not_the_towers(tmp_path: Path) -> None:
    """As a config that was edited by hand would say it."""
    from dataclasses import replace

    spec = spec_for(saved(tmp_path, tower_of("vit")))
    with pytest.raises(ConfigError, match="but the tower gives"):
        Tower(replace(spec, width=16), CPU)(image())
