"""What a frozen tower gives for images: computed once per image and machine, kept on disk.

A file per image in the cache, known by the image's bytes, the tower's weights and config, and all
that decides the numbers: damaged ones are computed again, and processes that compute the same write
the same (`data/cache.py`). A run holds the pieces of its images in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch

from bluestab.core.caching import Shared
from bluestab.core.types import Example, ImageFile
from bluestab.data import cache
from bluestab.data.images import pixels
from bluestab.models.frozen_tower import digest_of_tower, tower_folder
from bluestab.models.tower_features import Tower
from bluestab.models.vision_spec import FrozenSpec, VisionSpec
from bluestab.training.loop.batches import Look, squares

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "image_features"
FORMAT = 1
"""Part of every key: bumped when what is stored, or how it is computed, changes."""
AT_HAND = 256
"""Images whose pieces are held where no cache is written."""


class Features:
    """Pieces of images by the SHA-256 of their files; called with some, it gives (B, P, width)."""

    def __init__(self, pieces: Mapping[str, np.ndarray]) -> None:
        self.pieces = pieces

    def __call__(self, digests: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.pieces[digest] for digest in digests]))


def look_of(sees: VisionSpec | None, examples: Iterable[Example], device: torch.device) -> Look:
    """What makes of the rows of these items what the network is given of their images.

    Raises ConfigError or DataError if a frozen tower, or an image that it has not seen yet, cannot
    be read.
    """
    if not isinstance(sees, FrozenSpec):
        return squares
    images = {e.image.sha256: e.image for e in examples if e.image is not None}
    digest = digest_of_tower(tower_folder(sees))
    content = (sees, digest, tuple(sorted(images)), device.type, torch.get_num_threads())
    return _features(Shared(content, sees, digest, images, device))


@lru_cache(maxsize=2)
def _features(shared: Shared) -> Features:
    sees, digest, images, device = shared.values
    rest = {
        "features": FORMAT,
        "tower": digest,
        "reads": [sees.image_size, sees.mean, sees.std, sees.layer, sees.pool],
        "precision": "float32",
        "device": device.type,
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("torch", "transformers", "pillow")},
    }

    @lru_cache(maxsize=1)
    def tower() -> Tower:
        """Loaded when the first image is not in the cache."""
        return Tower(sees, device)

    def table(name: str) -> pa.Table:
        import pyarrow as pa

        found = tower()(pixels(images[name], sees.image_size))
        flat = pa.array(found.reshape(-1), type=pa.float32())
        return pa.table({"pieces": pa.FixedSizeListArray.from_arrays(flat, found.shape[1])})

    keys = {name: cache.key_of({**rest, "image": name}) for name in sorted(images)}
    pieces = {}
    for name, kept in cache.cached_each(keys, table, folder=FOLDER):
        flat = kept["pieces"].combine_chunks().flatten().to_numpy(zero_copy_only=True)
        pieces[name] = flat.reshape(-1, sees.width).copy()  # so that no file stays open
    return Features(pieces)


def look_anew(
    sees: VisionSpec, device: torch.device
) -> Callable[[Sequence[ImageFile]], torch.Tensor]:
    """What a network is given of images that are met once: nothing of it is kept on disk.

    Raises ConfigError if a frozen tower cannot be read.
    """
    if not isinstance(sees, FrozenSpec):
        return lambda images: squares([pixels(image, sees.image_size) for image in images])
    seen = Tower(sees, device)

    @lru_cache(maxsize=AT_HAND)
    def pieces(image: ImageFile) -> np.ndarray:
        return seen(pixels(image, sees.image_size))

    return lambda images: torch.from_numpy(np.stack([pieces(image) for image in images]))
