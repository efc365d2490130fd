"""Images: what is read, and files that are broken, enormous, animated, elsewhere or no images."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bluestab.core.errors import DataError
from bluestab.core.types import ImageFile
from bluestab.data.images import MOST_PIXELS, image_file, others, pixels

Image = pytest.importorskip("PIL.Image")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def found(folder: Path, name: str = "x.png") -> ImageFile:
    return image_file(folder, name, folder / "items.csv", 3)


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (30, 20)) -> Path:
    Image.new(mode, size, 0).save(path)
    return path


def test_what_is_read(tmp_path: Path) -> None:
    """Channels first, one size, colours where they were."""
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 0, 255), (20, 0, 40, 20))
    image.save(tmp_path / "x.png")
    raw = pixels(found(tmp_path), 8)
    assert len(raw) == 3 * 8 * 8
    read = np.frombuffer(raw, dtype=np.uint8).reshape(3, 8, 8)
    assert (read[0, :, :3] > 250).all()
    assert (read[2, :, 5:] > 250).all()
    assert not read[1].any()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_every_mode_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    kind = "x.tif" if mode == "CMYK" else "x.png"
    picture(tmp_path / kind, mode)
    assert len(pixels(found(tmp_path, kind), 16)) == 3 * 16 * 16


def test_sixteen_bits_of_grey_keep_their_upper_eight(tmp_path: Path) -> None:
    values = np.full((16, 16), 40_000, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    read = np.frombuffer(pixels(found(tmp_path), 8), dtype=np.uint8)
    assert set(read.tolist()) == {40_000 // 256}


def test_an_image_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32))
    image.paste((255, 255, 255), (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "x.png", exif=exif)
    read = np.frombuffer(pixels(found(tmp_path), 8), dtype=np.uint8).reshape(3, 8, 8)
    assert read[0, -1].min() > 200
    assert read[0, 0].max() < 50


def animated(path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (80 * i, 0, 0)) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def cut(path: Path) -> None:
    Image.effect_noise((64, 64), 50).convert("RGB").save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:400])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no image": (lambda p: p.write_text("not an image"), "is no image that can be read"),
    "empty": (lambda p: p.write_bytes(b""), "is no image that can be read"),
    "animated": (lambda p: animated(p.with_suffix(".gif")), "has 3 frames"),
    "wide": (lambda p: p.write_bytes(bomb(60_000, 60_000)), "would unpack into more than"),
    "tall": (lambda p: p.write_bytes(bomb(10_000, 10_000)), "has 10000 x 10000 pixels"),
    "script": (lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "is no image that can be"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_sentence_with_their_name(tmp_path: Path, name: str) -> None:
    write, said = BAD[name]
    write(tmp_path / "x.png")
    (path,) = tmp_path.iterdir()
    with pytest.raises(DataError) as caught:
        found(tmp_path, path.name)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_most_pixels_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(bomb(5000, MOST_PIXELS // 5000))
    assert found(tmp_path).path.endswith("x.png")
    (tmp_path / "y.png").write_bytes(bomb(5000, MOST_PIXELS // 5000 + 1))
    with pytest.raises(DataError, match="make it smaller"):
        found(tmp_path, "y.png")


def test_a_file_that_breaks_off_is_found_when_it_is_unpacked(tmp_path: Path) -> None:
    cut(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png.* is broken"):
        pixels(found(tmp_path), 64)


def test_an_image_that_changed_is_refused(tmp_path: Path) -> None:
    file = found(picture(tmp_path / "x.png").parent)
    picture(tmp_path / "x.png", size=(31, 20))
    os.utime(tmp_path / "x.png", (1, 1))
    with pytest.raises(DataError, match="another one than when the command began"):
        pixels(file, 8)
    (tmp_path / "x.png").unlink()
    with pytest.raises(DataError, match="is gone"):
        pixels(file, 8)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.png", "there is no file"),
        ("", "names no image"),
        ("../outside.png", "lies outside"),
        ("/etc/hostname", "lies outside"),
        ("link.png", "lies outside"),
        ("pipe", "is a pipe"),
        (".", "there is no file"),
    ],
)
def test_what_lies_elsewhere_is_not_read(tmp_path: Path, name: str, said: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    picture(tmp_path / "outside.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match=said):
        found(folder, name)


def test_another_image_is_drawn_per_item() -> None:
    """Never its own, the same again, and not one for all items of an image."""
    files = [ImageFile(f"{i // 4}.png", f"{i // 4:064d}") for i in range(80)]
    ids = [str(i) for i in range(80)]
    shown = list(others(files, ids))
    assert all(a != b for a, b in zip(files, shown, strict=True))
    assert list(others(files, ids)) == shown
    assert list(others(files[::-1], ids[::-1])) == shown[::-1]
    assert len({f.path for f in shown[:4]}) > 1
    assert len({f.path for f in shown}) > 15
    assert list(others(files[:4], ids[:4])) == files[:4], "where there is one image alone"
