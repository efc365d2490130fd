"""What `model.vision` asks for, in words and numbers: needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bluestab.core.rules import Rule, one_of, problems, whole

KINDS = ("conv", "patch")
MOST_PIECES = 256
CONV_PATCH = 16
"""Four layers, each of which halves the image."""


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


RULES: Mapping[str, Rule] = {
    "kind": one_of(*KINDS),
    "image_size": whole(8, high=1024),
    "patch": whole(4, high=256),
    "width": (lambda v: whole(8, high=4096)[0](v) and v % 8 == 0, "a multiple of 8, 8 to 4096"),
}


def vision_problems(said: Any) -> list[str]:
    """What is wrong with `model.vision`, one sentence each."""
    if said is None:
        return []
    if not isinstance(said, Mapping) or said.keys() != RULES.keys():
        return [
            f"model.vision is {said!r}: expected null, or {', '.join(RULES)}; model/vision=conv "
            "and model/vision=patch say them"
        ]
    found = problems({f"model.vision.{knob}": (said[knob], rule) for knob, rule in RULES.items()})
    if found:
        return found
    spec = VisionSpec(**said)
    if spec.kind == "conv" and spec.patch != CONV_PATCH:
        found.append(f"model.vision.patch is {spec.patch}: a conv tower has {CONV_PATCH}")
    if spec.image_size % spec.patch:
        found.append(
            f"model.vision.image_size is {spec.image_size}: expected a multiple of "
            f"model.vision.patch={spec.patch}"
        )
    elif spec.pieces > MOST_PIECES:
        found.append(
            f"model.vision makes {spec.pieces} pieces of an image, of which {MOST_PIECES} are the "
            "most; say a smaller image_size or a larger patch"
        )
    return found
