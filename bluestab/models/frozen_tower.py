"""A pretrained image tower as its folder describes it: where it is, what it is, what it expects.

Facts are read from config.json and preprocessor_config.json without torch. What transformers sees
of a config is written anew from the entries that decide what a tower gives, each of them checked;
`tower_features.py` loads and runs it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluestab.core import rules
from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.paths import expanded, real
from bluestab.core.plain_files import read_json
from bluestab.core.rules import Rule
from bluestab.data.locate import sha256_of
from bluestab.models.clean_config import ACTIVATIONS, SIZE
from bluestab.models.description import complete, hub_commit, hub_folder
from bluestab.models.hub import config_folder, hub_overrides, local_copy, optional_file
from bluestab.models.vision_spec import (
    FROZEN,
    FROZEN_RULES,
    FrozenSpec,
    VisionSpec,
    source_problems,
)

AUTO = "auto"
ASKED = "model/vision=frozen model.vision.path"
USUAL_SIZE = 224
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of red, green and blue that towers were pretrained with."""
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")

_ACTIVATION = rules.one_of(*ACTIVATIONS, "quick_gelu")
_SIZES = rules.list_of(lambda n: SIZE[0](n), "whole numbers from 1 to 65536")
_STAGES: Rule = (lambda v: _SIZES[0](v) and 1 <= len(v) <= 6, "1 to 6 sizes")
_DEPTHS: Rule = (
    lambda v: _STAGES[0](v) and all(n <= 64 for n in v),
    "1 to 6 numbers of layers, each at most 64",
)
_SQUARE: dict[str, Rule] = {
    "num_channels": rules.one_of(3),
    "patch_size": rules.whole(1, high=256),
    "image_size": rules.whole(1, high=4096),
    "hidden_act": _ACTIVATION,
    "layer_norm_eps": rules.within("[0, 1]"),
}
_VIT: dict[str, Rule] = {
    **_SQUARE,
    "hidden_size": SIZE,
    "num_hidden_layers": rules.whole(1, high=200),
    "num_attention_heads": rules.whole(1, high=1024),
    "intermediate_size": rules.whole(1, high=2**18),
}
_DINO: dict[str, Rule] = {
    **_VIT,
    "qkv_bias": rules.FLAG,
    "mlp_ratio": rules.whole(1, high=64),
    "use_swiglu_ffn": rules.FLAG,
    "use_mask_token": rules.FLAG,
}
_CONVNEXT: dict[str, Rule] = {**_SQUARE, "hidden_sizes": _STAGES, "depths": _DEPTHS,
                              "num_stages": rules.whole(1, high=6)}  # fmt: skip


def _of_transformer(config: Mapping[str, Any]) -> tuple[int, int]:
    return config["patch_size"], config["hidden_size"]


def _of_stages(config: Mapping[str, Any]) -> tuple[int, int]:
    """Every stage but the first halves the image."""
    sizes = config["hidden_sizes"]
    first = config["patch_size"] * (2 if config.get("downsample_in_first_stage") else 1)
    return first * 2 ** (len(sizes) - 1), sizes[-1]


@dataclass(frozen=True)
class Family:
    """What of a config is passed on, what it is where the file does not say it, mean and deviation
    where no preprocessor_config.json does, and (pixels of a patch, width) of a config."""

    keys: Mapping[str, Rule]
    usual: Mapping[str, Any]
    colours: tuple[tuple[float, ...], tuple[float, ...]]
    measures: Callable[[Mapping[str, Any]], tuple[int, int]] = _of_transformer


_BASE = {"hidden_size": 768, "patch_size": 16}
_FOUR = {"hidden_sizes": [96, 192, 384, 768], "patch_size": 4}
FAMILIES: Mapping[str, Family] = {
    "vit": Family({**_VIT, "qkv_bias": rules.FLAG}, _BASE, HALF),
    "deit": Family({**_VIT, "qkv_bias": rules.FLAG}, _BASE, IMAGENET),
    "dinov2": Family(_DINO, {**_BASE, "patch_size": 14}, IMAGENET),
    "dinov2_with_registers": Family(
        {**_DINO, "num_register_tokens": rules.whole(0, high=256)}, _BASE, IMAGENET
    ),
    "clip_vision_model": Family(_VIT, {**_BASE, "patch_size": 32}, CLIP),
    "siglip_vision_model": Family({**_VIT, "vision_use_head": rules.FLAG}, _BASE, HALF),
    "convnext": Family(
        {**_CONVNEXT, "layer_scale_init_value": rules.within("[0, 1]")}, _FOUR, IMAGENET, _of_stages
    ),
    "convnextv2": Family(_CONVNEXT, _FOUR, IMAGENET, _of_stages),
    "resnet": Family(
        {
            "num_channels": rules.one_of(3),
            "embedding_size": SIZE,
            "hidden_sizes": _STAGES,
            "depths": _DEPTHS,
            "layer_type": rules.one_of("basic", "bottleneck"),
            "hidden_act": _ACTIVATION,
            "downsample_in_first_stage": rules.FLAG,
            "downsample_in_bottleneck": rules.FLAG,
        },
        {"hidden_sizes": [256, 512, 1024, 2048], "patch_size": 4},
        IMAGENET,
        _of_stages,
    ),
}
"""transformers' `model_type` of towers whose patches are taken."""
WITHIN = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
"""Models of text and images -> the half that sees; their config has it in `vision_config`."""


def described_tower(said: Any) -> Any:
    """`model.vision` with what the folder of a frozen tower says in the place of every `auto`.

    What cannot be described is left as it is, for `vision_problems`. Raises ConfigError where the
    tower is not here, or its files say what cannot be used.
    """
    if not isinstance(said, Mapping) or said.get("kind") != FROZEN:
        return said
    wanted = [name for name in FROZEN_RULES if said.get(name) == AUTO]
    if said.keys() != FROZEN_RULES.keys() or not wanted:
        return said
    if wrong := source_problems(said):
        raise ConfigError(*wrong)
    folder, preprocessor = _files(said)
    family, config = tower_config(folder)
    patch, width = FAMILIES[family].measures({**FAMILIES[family].usual, **config})
    expects = {} if preprocessor is None else _expected(preprocessor, "image_size" in wanted)
    mean, std = FAMILIES[family].colours
    found = {
        "patch": patch,
        "width": width,
        "image_size": expects.get("image_size", config.get("image_size", USUAL_SIZE)),
        "mean": list(expects.get("mean", mean)),
        "std": list(expects.get("std", std)),
    }
    for name in ("patch", "width"):
        if name not in wanted and said[name] != found[name]:
            raise ConfigError(
                f"model.vision.{name} is {said[name]!r}, but the tower in {folder} has "
                f"{found[name]}; leave it out"
            )
    if FAMILIES[family].measures is _of_stages and said["layer"] != -1:
        raise ConfigError(
            f"model.vision.layer is {said['layer']!r}, but stages of {family} have images of "
            "several sizes; say model.vision.layer=-1"
        )
    return {**said, **{name: found[name] for name in wanted if name in found}}


def tower_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """The family of a tower, and what its network needs of its config.

    Raises ConfigError, one sentence, for a family that is not here or a value out of its range.
    """
    where = folder / "config.json"
    said = read_json(where)
    family = said.get("model_type")
    if isinstance(family, str) and family in WITHIN:
        half = said.get("vision_config")
        if not isinstance(half, dict):
            raise ConfigError(f"{where} has no vision_config, which describes the tower")
        family, said = WITHIN[family], half
    if not isinstance(family, str) or family not in FAMILIES:
        known = (*FAMILIES, *WITHIN)
        near = did_you_mean(str(family), known)
        raise ConfigError(
            f"{where} says model_type {family!r}: no image tower that can be used here" + near
        )
    kept = {key: said[key] for key in FAMILIES[family].keys if key in said}
    for key, value in kept.items():
        holds, expected = FAMILIES[family].keys[key]
        if not holds(value):
            raise ConfigError(f"{where} has {key} {str(value)[:60]!r}: expected {expected}")
    return family, kept


def _files(said: Mapping[str, Any]) -> tuple[Path, Path | None]:
    """The folder with config.json, and the file that says what images the tower expects."""
    if said["path"] is not None:
        folder = expanded(str(said["path"]))
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model.vision.path is '{said['path']}', which holds no config.json")
    else:
        hub, revision = str(said["hub"]), said["revision"]
        here = local_copy(hub, revision, tokenizer=False)
        if here is None:
            asked = _overrides(hub, revision)
            folder = config_folder(hub, revision, asked)
            found = (optional_file(hub, revision, name, asked) for name in PREPROCESSORS)
            return folder, next((path for path in found if path is not None), None)
        folder = here
    return folder, next((p for n in PREPROCESSORS if (p := folder / n).is_file()), None)


def _expected(path: Path, sized: bool) -> dict[str, Any]:
    """mean and std in a preprocessor_config.json, as far as it says them, and if `sized`
    image_size."""
    said = read_json(path)
    said = said.get("image_processor", said)
    if not isinstance(said, dict):
        raise ConfigError(f"{path} describes no images")
    scale = said.get("rescale_factor", 1 / 255)
    if said.get("do_rescale", True) is not True or not (
        rules.is_number(scale) and abs(scale * 255 - 1) < 1e-3
    ):
        raise ConfigError(
            f"{path} has do_rescale {said.get('do_rescale', True)!r} and rescale_factor "
            f"{str(scale)[:60]}: expected true and 1/255, by which colours are from 0 to 1"
        )
    found: dict[str, Any] = {}
    for ours, theirs in (("mean", "image_mean"), ("std", "image_std")):
        if said.get(theirs) is None:
            continue
        holds, expected = FROZEN_RULES[ours]
        if not holds(said[theirs]):
            raise ConfigError(f"{path} has {theirs} {str(said[theirs])[:60]}: expected {expected}")
        found[ours] = said[theirs]
    if said.get("do_normalize", True) is False:
        found |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    size = said.get("crop_size") if said.get("do_center_crop") is not False else None
    size = said.get("size") if size is None else size
    if size is not None and sized:
        found["image_size"] = _side(size, path)
    return found


def _side(size: Any, path: Path) -> int:
    sides = [*size.values()] if isinstance(size, dict) else [size]
    if not sides or any(side != sides[0] for side in sides) or not SIZE[0](sides[0]):
        raise ConfigError(
            f"{path} has images of size {str(size)[:60]}, no square; say model.vision.image_size=N"
        )
    return int(sides[0])


# --- where it is, and what its weights are -------------------------------------------------------


def _overrides(hub: str, revision: str | None) -> str:
    return hub_overrides("model/vision=frozen model.vision", hub, revision)


def tower_folder(spec: FrozenSpec) -> Path:
    """The folder with its weights. Raises ConfigError if it is not here and may not be brought
    now, or if these are other weights than `spec.weights_sha256` says."""
    if spec.path is None:
        hub, revision = str(spec.hub), spec.revision
        asked = _overrides(hub, revision)
        return hub_folder(hub, revision, f"the image tower {hub}", asked, tokenizer=False)
    folder, what = expanded(spec.path), f"model.vision.path is '{spec.path}'"
    if not folder.is_dir():
        raise ConfigError(f"{what}: no such folder")
    digest = sha256_of(complete(folder, what, ASKED) / "model.safetensors")
    if spec.weights_sha256 not in (None, digest):
        raise ConfigError(
            f"{what}: its model.safetensors has sha256 {digest}, expected {spec.weights_sha256}; "
            "put the tower in its place that it was, or name another folder"
        )
    return folder


def pinned(said: Any) -> Any:
    """`model.vision` as a run records it: with the absolute path and the hash, or the commit, of
    a frozen tower. Raises ConfigError if it is not here."""
    if not isinstance(said, Mapping) or said["kind"] != FROZEN:
        return said
    if said["path"] is None:
        commit = said["revision"] or hub_commit(str(said["hub"]))
        return {**said, "revision": None if commit == "main" else commit}
    spec = FrozenSpec(**said)
    digest = sha256_of(tower_folder(spec) / "model.safetensors")
    return {**said, "path": str(real(str(said["path"]))), "weights_sha256": digest}


def as_keyed(said: Any) -> Any:
    """What a run's key knows of a pinned `model.vision`: the weights, not where they lie."""
    if not isinstance(said, Mapping) or said["kind"] != FROZEN:
        return said
    rest = {n: v for n, v in said.items() if n not in ("path", "hub", "revision", "weights_sha256")}
    return {**rest, "weights": weights_of(said)}


def weights_of(said: Mapping[str, Any]) -> str:
    """What the weights of a pinned tower are: their hash, or name and commit on the hub."""
    if said["path"] is not None:
        return f"sha256:{said['weights_sha256']}"
    return f"{said['hub']}@{said['revision'] or 'main'}"


def digest_of_tower(folder: Path) -> str:
    """SHA-256 of the weights and of what of the config decides what they give."""
    said = json.dumps([sha256_of(folder / "model.safetensors"), *tower_config(folder)])
    return hashlib.sha256(said.encode()).hexdigest()


def scaling_notes(sees: VisionSpec | None) -> list[str]:
    """A sentence where nothing says how the colours of a frozen tower's images were scaled."""
    if not isinstance(sees, FrozenSpec) or sees.path is None:
        return []
    folder = expanded(sees.path)
    if any((folder / name).is_file() for name in PREPROCESSORS):
        return []
    return [
        f"{folder} holds no {PREPROCESSORS[0]}: images are scaled by model.vision.mean="
        f"{list(sees.mean)} and std={list(sees.std)}"
    ]
