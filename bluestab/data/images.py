"""Image files: checked before they are believed, and made into small arrays of one size.

What a file says of its size is read first, so that one that would unpack into more than a memory
holds is refused before anything is unpacked.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import DataError
from bluestab.core.types import ImageFile
from bluestab.data.locate import sha256_of
from bluestab.data.readers import check_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
"""What is tried; other formats of Pillow are rare, and less tried against hostile files."""
MOST_BYTES = 100_000_000
MOST_PIXELS = 50_000_000
"""Of one image: a radiograph has some ten million; in memory a pixel takes three bytes and more."""


def image_file(folder: Path, name: str, where: Path, line: int | None) -> ImageFile:
    """The image of an item, its header checked.

    folder  that holds all images; what lies elsewhere is not read
    where   file and line that name it, for the sentence about what is wrong

    Raises DataError if it is missing, elsewhere, or no single image of a sane size.
    """
    path = folder / name
    if not name.strip():
        raise DataError(where, "names no image", line)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(where, f"names the image {name!r}, which lies outside {folder}", line)
    if not path.is_file():
        check_kind(path)
        raise DataError(where, f"names the image {name!r}, but there is no file {path}", line)
    return _checked(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(maxsize=100_000)
def _checked(path: Path, size: int, mtime_ns: int) -> ImageFile:
    if size > MOST_BYTES:
        raise DataError(path, f"has {size} bytes; an image may have {MOST_BYTES}")
    with _opened(path):
        return ImageFile(str(path), sha256_of(path))


def _opened(path: Path) -> Image:
    """Its header alone is read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about sizes: ours is the lower bound
            image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise DataError(path, f"is no image that can be read ({known})") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            path, f"would unpack into more than the {MOST_PIXELS} pixels that an image may have"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(path, f"is broken, or no image ({error})") from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise DataError(
            path, f"has {width} x {height} pixels; an image may have {MOST_PIXELS}: make it smaller"
        )
    if (n := getattr(image, "n_frames", 1)) != 1:
        image.close()
        raise DataError(path, f"has {n} frames; one image each is read: save the one that is meant")
    return image


def pixels(file: ImageFile, size: int) -> bytes:
    """Red, green and blue of an image brought to `size` x `size`, (3, size, size) uint8, upright as
    its camera says. Raises DataError if it is broken or has changed since it was checked."""
    import numpy as np
    from PIL import Image, ImageOps

    path = Path(file.path)
    if not path.is_file() or sha256_of(path) != file.sha256:
        raise DataError(path, "is gone, or another one than when the command began")
    with _opened(path) as image:
        try:
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG is unpacked no larger than needed
            upright: Any = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits of grey: the upper eight
                upright = upright.convert("I").point(lambda value: value / 256).convert("L")
            small = upright.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError, MemoryError) as error:
            raise DataError(path, f"is broken: {error}") from error
    return np.asarray(small, dtype=np.uint8).transpose(2, 0, 1).tobytes()


def others(files: list[ImageFile], ids: list[str]) -> Iterator[ImageFile]:
    """For each item the image of another one, drawn by the item's id: of one image, several items
    see different ones, so that nothing about it can be told from what they see.

    files, ids  of all items, in order
    """
    import hashlib

    every = sorted(set(files), key=lambda file: file.sha256)
    place = {file: i for i, file in enumerate(every)}
    for file, name in zip(files, ids, strict=True):
        drawn = int.from_bytes(hashlib.sha256(f"other image {name}".encode()).digest()[:8])
        yield every[(place[file] + 1 + drawn % max(1, len(every) - 1)) % len(every)]
