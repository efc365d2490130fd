"""Frozen image towers as their folders describe them: facts, keys, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.core.errors import ConfigError
from bluestab.models import hub
from bluestab.models.frozen_tower import (
    FAMILIES,
    as_keyed,
    described_tower,
    pinned,
    scaling_notes,
    tower_config,
    tower_folder,
)
from bluestab.models.vision_spec import FrozenSpec, spec_of, vision_problems
from tests.support.towers import SMALL, USUAL, frozen, saved, tower_of


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("vit"), tower_of("vit"))


def copied(folder: Path, to: Path, config: dict[str, Any] | None = None) -> Path:
    """The same tower with entries of its config changed."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    said = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**said, **(config or {})}))
    return to


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_a_config_does_not_say_is_what_transformers_takes(family: str, tmp_path: Path) -> None:
    """Patch and width of a config that leaves everything out; the entries that are passed on make
    the network that the whole config makes (`test_tower_features.py`)."""
    from transformers import AutoConfig

    own = AutoConfig.for_model(family)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 224}))
    found = described_tower(frozen(tmp_path))
    if hasattr(own, "hidden_sizes"):
        steps = len(own.hidden_sizes) - 1
        assert found["width"] == own.hidden_sizes[-1]
        assert found["patch"] == getattr(own, "patch_size", 4) * 2**steps == 32
    else:
        assert (found["width"], found["patch"]) == (own.hidden_size, own.patch_size)
    assert found["image_size"] == 224


def test_size_and_colours_come_from_the_preprocessor(vit: Path, tmp_path: Path) -> None:
    found = described_tower(frozen(vit))
    assert not vision_problems(found)
    assert found["mean"] == USUAL["image_mean"]
    assert found["std"] == USUAL["image_std"]
    spec = spec_of(found)
    assert isinstance(spec, FrozenSpec)
    assert (spec.image_size, spec.patch, spec.width, spec.pieces) == (32, 8, 32, 16)
    assert scaling_notes(spec) == []
    asked = described_tower(frozen(vit, image_size=16, mean=[0, 0, 0], pool=2))
    assert spec_of(asked).pieces == 1
    assert asked["mean"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ({"size": {"height": 24, "width": 24}}, 24),
        ({"size": {"shortest_edge": 40}, "crop_size": {"height": 24, "width": 24}}, 24),
        ({"size": {"shortest_edge": 40}, "crop_size": 24, "do_center_crop": False}, 40),
        ({"image_processor": {"size": 24}}, 24),
        ({}, 32),  # as config.json says
    ],
)
def test_sizes_as_preprocessors_write_them(
    vit: Path, tmp_path: Path, said: dict[str, Any], size: int
) -> None:
    folder = copied(vit, tmp_path / "own")
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    found = described_tower(frozen(folder))
    assert found["image_size"] == size
    assert found["mean"] == [0.5, 0.5, 0.5]
    (folder / "preprocessor_config.json").write_text(json.dumps({**said, "do_normalize": False}))
    found = described_tower(frozen(folder))
    assert "image_processor" in said or (found["mean"], found["std"]) == ([0.0] * 3, [1.0] * 3)


def test_without_a_preprocessor_the_usual_scaling_is_taken_and_said(
    vit: Path, tmp_path: Path
) -> None:
    folder = copied(vit, tmp_path / "own")
    (folder / "preprocessor_config.json").unlink()
    found = described_tower(frozen(folder))
    assert (found["mean"], found["std"], found["image_size"]) == ([0.5] * 3, [0.5] * 3, 32)
    (note,) = scaling_notes(spec_of(found))
    assert "holds no preprocessor_config.json" in note
    assert str([0.5] * 3) in note


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": None}, "say either model.vision.path=FOLDER or model.vision.hub=OWNER/NAME"),
        ({"hub": "a/b"}, "say either model.vision.path=FOLDER or model.vision.hub"),
        ({"path": 3}, "model.vision.path is 3: expected a folder"),
        ({"path": "nowhere"}, "model.vision.path is 'nowhere', which holds no config.json"),
        ({"path": None, "hub": "../x"}, "model.vision.hub is '../x': expected OWNER/NAME"),
        ({"width": 8}, "model.vision.width is 8, but the tower in"),
        ({"image_size": 30}, "model.vision.image_size is 30: expected a multiple of"),
        ({"image_size": 24, "pool": 2}, "expected a multiple of model.vision.patch=8 times pool=2"),
        ({"image_size": 512}, "makes 4096 pieces of an image, of which 256 are the most"),
        ({"image_size": "large"}, "model.vision.image_size is 'large': expected a whole number"),
        ({"layer": 0}, "model.vision.layer is 0: expected -1 for the last layer"),
        ({"std": [0, 1, 1]}, "model.vision.std is [0, 1, 1]: expected three numbers"),
        ({"mean": 0.5}, "model.vision.mean is 0.5: expected three numbers"),
        ({"pool": 0}, "model.vision.pool is 0: expected a whole number"),
        ({"weights_sha256": "abc"}, "model.vision.weights_sha256 is 'abc': expected the SHA-256"),
        ({"revision": "a b", "path": None, "hub": "a/b"}, "model.vision.revision is 'a b'"),
    ],
)
def test_knobs_are_checked(vit: Path, changes: dict[str, Any], said: str) -> None:
    try:
        problems = vision_problems(described_tower(frozen(vit, **changes)))
    except ConfigError as error:
        problems = list(error.problems)
    assert len(problems) == 1
    assert said in problems[0]


def test_a_node_that_lacks_a_knob_is_one_sentence(vit: Path) -> None:
    rest = {name: value for name, value in frozen(vit).items() if name != "pool"}
    (problem,) = vision_problems(described_tower(rest))
    assert "expected null, or kind, image_size, path" in problem


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "bert"}, "model_type 'bert': no image tower that can be used here"),
        ({"model_type": "vitt"}, "did you mean 'vit'"),
        ({"model_type": ["vit"]}, "no image tower that can be used here"),
        ({"model_type": "clip"}, "has no vision_config, which describes the tower"),
        ({"num_hidden_layers": 10**6}, "has num_hidden_layers '1000000': expected a whole number"),
        ({"hidden_size": "x"}, "has hidden_size 'x': expected"),
        ({"num_channels": 1}, "has num_channels '1': expected one of 3"),
        ({"hidden_act": "os.system"}, "has hidden_act 'os.system': expected one of"),
        ({"image_size": [32, 32]}, "has image_size '[32, 32]': expected"),
    ],
)
def test_configs_are_read_with_care(
    vit: Path, tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    folder = copied(vit, tmp_path / "own", config)
    with pytest.raises(ConfigError) as caught:
        described_tower(frozen(folder))
    (problem,) = caught.value.problems
    assert said in problem
    assert str(folder) in problem


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"image_mean": [1]}', "has image_mean [1]: expected three numbers"),
        ('{"image_std": [0, 0, 0]}', "has image_std [0, 0, 0]: expected"),
        ('{"do_rescale": false}', "expected true and 1/255"),
        ('{"rescale_factor": 1}', "expected true and 1/255"),
        ('{"size": {"height": 8, "width": 9}}', "no square; say model.vision.image_size=N"),
        ('{"size": {"shortest_edge": "x"}}', "no square"),
        ('{"size": {}}', "no square"),
        ("[]", "holds no map"),
        ("{", "is no JSON"),
        ('{"image_processor": 1}', "describes no images"),
    ],
)
def test_preprocessors_are_read_with_care(
    vit: Path, tmp_path: Path, content: str, said: str
) -> None:
    folder = copied(vit, tmp_path / "own")
    (folder / "preprocessor_config.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        described_tower(frozen(folder))
    assert said in str(caught.value)


def test_layers_of_stages_have_several_sizes(tmp_path: Path) -> None:
    folder = saved(tmp_path, tower_of("resnet"))
    with pytest.raises(ConfigError, match=r"say model\.vision\.layer=-1"):
        described_tower(frozen(folder, layer=-2))


def test_what_decides_nothing_is_dropped(vit: Path, tmp_path: Path) -> None:
    """Whatever makes transformers import, ask or choose is not passed on."""
    more = {
        **{"_attn_implementation": "owner/kernel", "architectures": ["X"], "dtype": "float16"},
        **{"torch_dtype": "float16", "id2label": {"0": "x"}, "hidden_dropout_prob": 0.9},
    }
    _, kept = tower_config(copied(vit, tmp_path / "own", more))
    assert not kept.keys() & more.keys()
    assert kept["num_hidden_layers"] == SMALL["vit"]["num_hidden_layers"]


def test_a_run_records_what_the_weights_are(vit: Path, tmp_path: Path) -> None:
    """By the hash, and not by where they lie; other weights in their place are noticed."""
    other = copied(vit, tmp_path / "other")
    one, two = (pinned(described_tower(frozen(folder))) for folder in (vit, other))
    assert one["path"] == str(vit)
    assert len(one["weights_sha256"]) == 64
    assert as_keyed(one) == as_keyed(two)
    assert as_keyed(one)["weights"] == f"sha256:{one['weights_sha256']}"
    assert not as_keyed(one).keys() & {"path", "hub", "revision", "weights_sha256"}
    saved(other, tower_of("vit", hidden_act="relu", num_hidden_layers=1))
    with pytest.raises(ConfigError, match="put the tower in its place that it was"):
        tower_folder(spec_of(two))
    with pytest.raises(ConfigError, match="put the tower in its place that it was"):
        pinned({**one, "weights_sha256": "0" * 64})
    assert pinned(None) is None
    assert as_keyed({"kind": "conv"}) == {"kind": "conv"}


def test_weights_of_the_old_kind_are_not_read(vit: Path, tmp_path: Path) -> None:
    folder = copied(vit, tmp_path / "own")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = described_tower(frozen(folder))
    with pytest.raises(ConfigError, match="a pickle, which may run code"):
        pinned(said)


# --- the hub -------------------------------------------------------------------------------------

COMMIT = "c" * 40


@pytest.fixture
def cached_hub(vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that cannot be asked, with a tower in its cache; returns the tower's folder there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    home = tmp_path / "hub" / "models--somebody--tower"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    (home / "snapshots").mkdir()
    return copied(vit, home / "snapshots" / COMMIT)


def test_a_copy_of_the_hub_is_used_without_asking(cached_hub: Path) -> None:
    asked = frozen(Path(), path=None, hub="somebody/tower")
    found = pinned(described_tower(asked))
    assert (found["width"], found["revision"]) == (32, COMMIT)
    assert as_keyed(found)["weights"] == f"somebody/tower@{COMMIT}"
    spec = spec_of(found)
    assert isinstance(spec, FrozenSpec)
    assert tower_folder(spec) == cached_hub


@pytest.mark.usefixtures("cached_hub")
def test_what_is_not_here_says_how_to_bring_it() -> None:
    line = r"bring it with: bluestab fetch model/vision=frozen model.vision.hub=somebody/other"
    with pytest.raises(ConfigError, match=rf"HF_HUB_OFFLINE is set\); {line}"):
        described_tower(frozen(Path(), path=None, hub="somebody/other"))
    whole = {**frozen(Path(), path=None, hub="somebody/other"), "revision": COMMIT,
             "image_size": 32, "mean": [0] * 3, "std": [1] * 3, "patch": 8, "width": 8}  # fmt: skip
    spec = spec_of(described_tower(whole))
    assert isinstance(spec, FrozenSpec)
    with pytest.raises(ConfigError, match=rf"{line} model.vision.revision={COMMIT}"):
        tower_folder(spec)


def test_a_tower_needs_no_tokenizer(cached_hub: Path) -> None:
    assert hub.local_copy("somebody/tower", None, tokenizer=False) == cached_hub
    assert hub.local_copy("somebody/tower", None) is None


def test_describing_a_tower_loads_no_torch(vit: Path) -> None:
    code = (
        "import sys, json\n"
        "from bluestab.models.frozen_tower import described_tower, pinned, as_keyed\n"
        f"as_keyed(pinned(described_tower(json.loads({json.dumps(json.dumps(frozen(vit)))}))))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


def test_a_size_that_is_asked_for_needs_no_other(vit: Path, tmp_path: Path) -> None:
    folder = copied(vit, tmp_path / "own")
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 8, "width": 9}}')
    assert described_tower(frozen(folder, image_size=16))["image_size"] == 16
