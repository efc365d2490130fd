"""What `model.vision` asks for, in words and numbers: needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bluestab.core.rules import Rule, is_number, one_of, problems, whole

FROZEN = "frozen"
KINDS = ("conv", "patch", FROZEN)
MOST_PIECES = 256
CONV_PATCH = 16
"""Four layers, each of which halves the image."""
LARGEST_SIDE = 1024
"""Pixels of an image as a tower sees it."""


@dataclass(frozen=True)
class VisionSpec:
    """kind        conv: layers of 3 x 3; patch: one linear map per patch
    image_size  pixels of each side
    patch       pixels of each side that become one piece
    width       channels before the projector
    """

    kind: str
    image_size: int
    patch: int
    width: int

    @property
    def pieces(self) -> int:
        """How many word pieces an image takes the place of."""
        return (self.image_size // self.patch) ** 2

    @property
    def rows(self) -> str:
        """What tokenised rows depend on."""
        return repr(self)


@dataclass(frozen=True)
class FrozenSpec(VisionSpec):
    """A pretrained tower: the folder `path`, or `hub` at `revision`; `weights_sha256`
    of its weights, if it is known.

    mean, std  of red, green and blue, each in 0 .. 1
    layer      whose patches are taken: -1: what the tower gives, -2: the layer before, ...
    pool       the mean of pool x pool patches is a piece
    """

    path: str | None
    hub: str | None
    revision: str | None
    weights_sha256: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layer: int
    pool: int

    @property
    def pieces(self) -> int:
        return (self.image_size // self.patch // self.pool) ** 2

    @property
    def rows(self) -> str:
        return f"{self.pieces} pieces"


def spec_of(said: Mapping[str, Any]) -> VisionSpec:
    """The spec of a `model.vision` without problems."""
    if said["kind"] != FROZEN:
        return VisionSpec(**said)
    return FrozenSpec(**{**said, "mean": tuple(said["mean"]), "std": tuple(said["std"])})


def _three(low: float) -> Rule:
    def holds(value: Any) -> bool:
        several = isinstance(value, list | tuple) and len(value) == 3
        return several and all(is_number(one) and low <= one <= 10 for one in value)

    return holds, f"three numbers, of red, green and blue, from {low:g} to 10"


def _text(pattern: str, what: str) -> Rule:
    def holds(value: Any) -> bool:
        return value is None or (isinstance(value, str) and bool(re.fullmatch(pattern, value)))

    return holds, f"{what}, or null"


SQUARE: Mapping[str, Rule] = {
    "kind": one_of(*KINDS),
    "image_size": whole(8, high=LARGEST_SIDE),
}
RULES: Mapping[str, Rule] = {
    **SQUARE,
    "patch": whole(4, high=256),
    "width": (lambda v: whole(8, high=4096)[0](v) and v % 8 == 0, "a multiple of 8, 8 to 4096"),
}
FROZEN_RULES: Mapping[str, Rule] = {
    **SQUARE,
    "path": _text(r"(?s).*\S.*", "a folder"),
    "hub": _text(r"\w[\w.-]*(/\w[\w.-]*)?", "OWNER/NAME"),
    "revision": _text(r"[\w./-]+", "a commit of the hub"),
    "weights_sha256": _text(r"[0-9a-f]{64}", "the SHA-256 of model.safetensors"),
    "mean": _three(-10),
    "std": _three(1e-3),
    "layer": (lambda v: whole(-200)[0](v) and v < 0, "-1 for the last layer, -2, ..."),
    "pool": whole(1, high=64),
    "patch": whole(1, high=256),
    "width": whole(1, high=2**16),
}


def vision_problems(said: Any) -> list[str]:
    """What is wrong with `model.vision`, one sentence each."""
    if said is None:
        return []
    frozen = isinstance(said, Mapping) and said.get("kind") == FROZEN
    rules = FROZEN_RULES if frozen else RULES
    if not isinstance(said, Mapping) or said.keys() != rules.keys():
        return [
            f"model.vision is {said!r}: expected null, or {', '.join(rules)}; model/vision=conv, "
            "model/vision=patch and model/vision=frozen say them"
        ]
    if frozen and (found := source_problems(said)):
        return found
    found = problems({f"model.vision.{knob}": (said[knob], rule) for knob, rule in rules.items()})
    if found:
        return found
    spec = spec_of(said)
    pool = said.get("pool", 1)
    if spec.kind == "conv" and spec.patch != CONV_PATCH:
        found.append(f"model.vision.patch is {spec.patch}: a conv tower has {CONV_PATCH}")
    if spec.image_size % (spec.patch * pool):
        of = f"model.vision.patch={spec.patch}" + (f" times pool={pool}" if pool > 1 else "")
        found.append(f"model.vision.image_size is {spec.image_size}: expected a multiple of {of}")
    elif spec.pieces > MOST_PIECES:
        larger = "pool" if frozen else "patch"
        found.append(
            f"model.vision makes {spec.pieces} pieces of an image, of which {MOST_PIECES} are the "
            f"most; say a smaller image_size or a larger {larger}"
        )
    return found


def source_problems(said: Mapping[str, Any]) -> list[str]:
    """What is wrong with where a frozen tower is to come from."""
    found = problems(
        {f"model.vision.{n}": (said[n], FROZEN_RULES[n]) for n in ("path", "hub", "revision")}
    )
    if not found and (said["path"] is None) == (said["hub"] is None):
        found.append(
            "model/vision=frozen needs the weights of an image tower: say either "
            "model.vision.path=FOLDER or model.vision.hub=OWNER/NAME"
        )
    return found


def room_problems(
    sees: VisionSpec | None, task: str, shows_images: bool, max_length: int
) -> list[str]:
    """What is wrong with looking at the images of a task whose items have `max_length` pieces."""
    if sees is None:
        return []
    if not shows_images:
        return [
            f"model.vision is set, but the items of task '{task}' have no images; say "
            "model/vision=none"
        ]
    if max_length - sees.pieces < 8:
        return [
            f"task.max_length is {max_length}, and an image takes {sees.pieces} of these word "
            f"pieces: no room for a question; say task.max_length={sees.pieces + 48}"
        ]
    return []
