"""Images in front of the text: a small tower, a projector of two layers, and where its pieces go.

After the first word piece stand as many placeholders as an image has pieces. What the table of word
embeddings gives for them is replaced by the image's pieces, so that positions, masks, norms and
heads are those of any text. Each piece has a vector of its place in the image, and all of them have
one that no word has, their token type. After LLaVA (Liu et al. 2023). The tower is trained along,
or it is a pretrained one outside of the network (`tower_features.py`), which is given its pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bluestab.models.passes import IMAGES, word_embeddings
from bluestab.models.vision_spec import FROZEN, VisionSpec

INSIDE = "vision"
"""Where a network holds its tower, if it trains, and all above it."""


def tower(spec: VisionSpec) -> nn.Module:
    """Images (B, 3, S, S) in -1 .. 1 -> (B, width, S / patch, S / patch)."""
    if spec.kind == "patch":
        return nn.Conv2d(3, spec.width, kernel_size=spec.patch, stride=spec.patch)
    parts: list[nn.Module] = []
    channels = 3
    for factor in (4, 2, 1, 1):
        wide = max(8, spec.width // factor)
        wide -= wide % 8
        parts += [
            nn.Conv2d(channels, wide, kernel_size=3, stride=2, padding=1),
            nn.GroupNorm(8, wide),
            nn.GELU(),
        ]
        channels = wide
    return nn.Sequential(*parts)


class Vision(nn.Module):
    """Images (B, 3, S, S) uint8, or what a frozen tower gives for them (B, P, width) -> pieces
    (B, P, E), E the width of the word embeddings."""

    def __init__(self, spec: VisionSpec, hidden: int, embedding: int) -> None:
        super().__init__()
        self.tower = None if spec.kind == FROZEN else tower(spec)
        self.places = nn.Embedding(spec.pieces, spec.width)
        self.projector = nn.Sequential(
            nn.LayerNorm(spec.width),
            nn.Linear(spec.width, hidden),
            nn.GELU(),
            nn.Linear(hidden, embedding),
        )
        self.token_type = nn.Embedding(1, embedding)
        self._pieces: torch.Tensor | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = images
        if self.tower is not None:
            scaled = images.float() / 127.5 - 1.0
            seen = self.tower(scaled).flatten(2).transpose(1, 2)  # (B, P, width)
        pieces = self.projector(seen + self.places.weight)
        return pieces + self.token_type.weight  # type: ignore[no-any-return]

    def begin(self, network: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Before a pass of the network: takes the images out of what it is called with."""
        images = kwargs.get(IMAGES)
        self._pieces = None if images is None else self(images)
        return args, {name: value for name, value in kwargs.items() if name != IMAGES}

    def put(self, table: nn.Module, args: Any, words: torch.Tensor) -> torch.Tensor:
        """The words' embeddings (B, T, E) with the image's pieces after the first; used once."""
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            return words
        after = 1 + pieces.shape[1]
        return torch.cat([words[:, :1], pieces.to(words.dtype), words[:, after:]], dim=1)


def add_vision(network: nn.Module, spec: VisionSpec) -> None:
    """Give a network what looks at images; its parameters have no values yet."""
    table: Any = word_embeddings(network)
    config: Any = network.config
    own = Vision(spec, config.hidden_size, table.weight.shape[1])
    network.add_module(INSIDE, own)
    network.register_forward_pre_hook(own.begin, with_kwargs=True)
    table.register_forward_hook(own.put)
