"""What a frozen tower gives for images: once per image, whatever happens to the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError, DataError  # noqa: E402
from bluestab.core.types import Example, ImageFile  # noqa: E402
from bluestab.data import cache  # noqa: E402
from bluestab.data.images import pixels  # noqa: E402
from bluestab.data.locate import sha256_of  # noqa: E402
from bluestab.models.frozen_tower import described_tower  # noqa: E402
from bluestab.models.tower_features import Tower  # noqa: E402
from bluestab.models.vision_spec import FrozenSpec, spec_of  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from bluestab.training import image_features  # noqa: E402
from bluestab.training.assemble import assemble  # noqa: E402
from bluestab.training.image_features import Features, look_anew, look_of  # noqa: E402
from tests.support import forked_processes  # noqa: E402
from tests.support.towers import frozen, saved, tower_of  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Image = pytest.importorskip("PIL.Image")
Make = Callable[..., Any]
CPU = torch.device("cpu")
LINE = ("task=vqa_rad", "model=tiny", "device=cpu", "optim.steps=3", "optim.lr=3e-3",
        "task.max_length=48", "optim.batch_size=8", "optim.warmup=0")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the features of one test are kept."""
    monkeypatch.setenv("BLUESTAB_CACHE", str(tmp_path / "cache"))
    image_features._features.cache_clear()
    yield tmp_path / "cache" / "image_features"
    image_features._features.cache_clear()


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    return saved(tmp_path / "tower", tower_of("vit"))


@pytest.fixture
def sees(tower: Path) -> tuple[str, ...]:
    return (*LINE, "model/vision=frozen", f"model.vision.path={tower}")


def spec_for(folder: Path, **changes: Any) -> FrozenSpec:
    spec = spec_of(described_tower(frozen(folder, **changes)))
    assert isinstance(spec, FrozenSpec)
    return spec


def items(folder: Path, n: int = 3) -> list[Example]:
    """Two questions on each of n images."""
    found = []
    folder.mkdir(exist_ok=True)
    for i in range(n):
        path = folder / f"{i}.png"
        Image.new("RGB", (9, 7), (i * 20, 200 - i, i)).save(path)
        image = ImageFile(str(path), sha256_of(path))
        found += [Example(f"{i}{j}", "what?", None, "yes", image=image) for j in "ab"]
    return found


class Counted:
    """Towers, and images that they were shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loaded = self.shown = 0
        counted = self

        class Own(Tower):
            def __init__(self, *args: Any) -> None:
                counted.loaded += 1
                super().__init__(*args)

            def __call__(self, image: bytes) -> np.ndarray:
                counted.shown += 1
                return super().__call__(image)

        monkeypatch.setattr(image_features, "Tower", Own)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def looked(spec: FrozenSpec, examples: list[Example]) -> Features:
    """As a new process looks."""
    image_features._features.cache_clear()
    found = look_of(spec, examples, CPU)
    assert isinstance(found, Features)
    return found


def test_an_image_is_computed_once(
    folder: Path, tmp_path: Path, tower: Path, counted: Counted
) -> None:
    """Whatever the file is called, however many questions are about it, and on a second start
    without the tower."""
    spec, examples = spec_for(tower), items(tmp_path / "images")
    first = looked(spec, examples)
    assert (counted.loaded, counted.shown) == (1, 3)
    assert len(list(folder.iterdir())) == 3
    again = looked(spec, items(tmp_path / "renamed"))
    assert (counted.loaded, counted.shown) == (1, 3)
    digests = [e.image.sha256 for e in examples if e.image]
    assert torch.equal(first(digests), again(digests))
    assert first(digests).shape == (6, spec.pieces, spec.width)
    assert first(digests).dtype == torch.float32
    looked(spec, items(tmp_path / "images", 4))
    assert (counted.loaded, counted.shown) == (2, 4)


def test_they_are_what_the_tower_gives(folder: Path, tmp_path: Path, tower: Path) -> None:
    spec, examples = spec_for(tower), items(tmp_path / "images")
    own = Tower(spec, CPU)
    for example in examples:
        assert example.image is not None
        expected = own(pixels(example.image, spec.image_size))
        for _ in range(2):
            found = looked(spec, examples)([example.image.sha256])
            assert np.array_equal(found[0].numpy(), expected)
    anew = look_anew(spec, CPU)
    images = [e.image for e in examples if e.image]
    assert torch.equal(anew(images), looked(spec, examples)([i.sha256 for i in images]))


@pytest.mark.parametrize(
    "change", ["weights", "config", "size", "mean", "layer", "pool", "threads"]
)
def test_whatever_decides_the_numbers_is_in_the_key(
    folder: Path, tmp_path: Path, tower: Path, counted: Counted, change: str
) -> None:
    examples = items(tmp_path / "images", 1)
    looked(spec_for(tower), examples)
    knobs: dict[str, Any] = {
        "size": {"image_size": 16},
        "mean": {"mean": [0.1, 0.2, 0.3]},
        "layer": {"layer": -2},
        "pool": {"pool": 2},
    }.get(change, {})
    threads = torch.get_num_threads()
    try:
        if change == "weights":
            network = tower_of("vit")
            with torch.no_grad():
                network.layernorm.bias.add_(1)
            saved(tower, network)
        elif change == "config":
            path = tower / "config.json"
            path.write_text(path.read_text().replace('"gelu"', '"relu"'))
        elif change == "threads":
            torch.set_num_threads(threads + 1)
        looked(spec_for(tower, **knobs), examples)
    finally:
        torch.set_num_threads(threads)
    assert counted.shown == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "unreadable"])
def test_what_is_damaged_is_computed_again(
    folder: Path, tmp_path: Path, tower: Path, counted: Counted, damage: str
) -> None:
    spec, examples = spec_for(tower), items(tmp_path / "images")
    before = looked(spec, examples)
    victim = sorted(folder.iterdir())[0]
    content = bytearray(victim.read_bytes())
    if damage == "unreadable":
        victim.unlink()
        victim.mkdir()
    else:
        content[len(content) // 2] ^= 1
        kept = {"truncated": content[:200], "flipped": content, "empty": b""}[damage]
        os.utime(victim)  # as sha256_of would remember it
        victim.write_bytes(kept)
    after = looked(spec, examples)
    assert counted.shown == 4
    assert all(np.array_equal(before.pieces[d], after.pieces[d]) for d in before.pieces)


def test_without_a_cache_they_are_computed(
    tmp_path: Path, tower: Path, monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("BLUESTAB_CACHE", str(tmp_path / "cache"))
    spec, examples = spec_for(tower), items(tmp_path / "images")
    for n in (3, 6):
        looked(spec, examples)
        assert counted.shown == n


PROCESS = """
import sys, time
from pathlib import Path
import torch
from bluestab.core.types import Example, ImageFile
from bluestab.data.locate import sha256_of
from bluestab.training.image_features import look_of
from tests.training.test_image_features import spec_for
tower, images, go = map(Path, sys.argv[1:])
torch.set_num_threads(1)
found = [Example(p.name, "", None, "", image=ImageFile(str(p), sha256_of(p)))
         for p in images.iterdir()]
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
look_of(spec_for(tower), found, torch.device("cpu"))
"""


def test_processes_at_once_harm_nothing(folder: Path, tmp_path: Path, tower: Path) -> None:
    images, go = tmp_path / "images", tmp_path / "go"
    items(images, 5)
    forked_processes.run_at_once(PROCESS, 4, str(tower), str(images), go=go, cwd=tmp_path)
    assert len(list(folder.iterdir())) == 5, "they wrote the same, and left nothing else"


def test_no_file_stays_open_and_the_cache_counts_them(
    folder: Path, tmp_path: Path, tower: Path
) -> None:
    """Thousands of images are more than a process may open files; `bluestab cache` knows them."""
    examples = items(tmp_path / "images", 40)
    before = len(os.listdir("/proc/self/fd"))
    found = looked(spec_for(tower), examples)
    found = looked(spec_for(tower), examples)
    assert len(found.pieces) == 40
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert len([f for f in cache.files() if f.parent == folder]) == 40


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), chosen("inner_adaptors"), chosen("llrd")])
def test_a_run_with_a_frozen_tower(
    make_run: Make, folder: Path, sees: tuple[str, ...], counted: Counted, more: tuple[str, ...]
) -> None:
    """The projector trains, the tower is no part of the network; a second run does not load it."""
    run = make_run(*sees, *more)
    assembly = assemble(run, device=CPU, progress=lambda *_: None)
    batch = next(iter(assembly.loaders["train"]))
    assert batch["images"].shape == (8, 16, 32)
    model = assembly.built.model
    seen = {n: p.detach().clone() for n, p in model.named_parameters() if n.startswith("vision.")}
    assert {n.split(".")[1] for n in seen} == {"places", "projector", "token_type"}
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    for name, weight in model.named_parameters():
        assert name not in seen or not torch.equal(weight, seen[name]), name
    assert counted.loaded == 1
    n = counted.shown
    image_features._features.cache_clear()
    assemble(make_run(*sees, *more, "seed=1"), device=CPU, progress=lambda *_: None)
    assert (counted.loaded, counted.shown) == (1, n)


def test_every_image_is_that_of_its_question(
    make_run: Make, folder: Path, sees: tuple[str, ...]
) -> None:
    assembly = assemble(make_run(*sees), device=CPU, progress=lambda *_: None)
    run = make_run(*sees)
    own = Tower(run.model.sees, CPU)
    for split, examples in assembly.examples.items():
        for batch in assembly.loaders[split]:
            for item, found in zip(batch["items"].tolist(), batch["images"], strict=True):
                expected = own(pixels(examples[item].image, 32))
                assert np.array_equal(found.numpy(), expected)


def test_the_key_knows_the_tower_and_not_where_it_lies(
    make_run: Make, tmp_path: Path, sees: tuple[str, ...], tower: Path
) -> None:
    copy = saved(tmp_path / "copy", tower_of("vit"))
    other = saved(tmp_path / "other", tower_of("vit", hidden_act="relu"))
    with torch.no_grad():
        network = tower_of("vit")
        network.layernorm.bias.add_(1)
    saved(other, network)
    one = make_run(*sees)
    assert make_run(*sees[:-1], f"model.vision.path={copy}").key == one.key
    assert make_run(*sees[:-1], f"model.vision.path={other}").key != one.key
    assert make_run(*sees, "model.vision.pool=2").key != one.key
    assert make_run(*LINE).key != one.key
    assert one.cfg["model"]["vision"]["weights_sha256"] == sha256_of(tower / "model.safetensors")
    assert "path" not in one.hashed["vision"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("task.max_length=18",), "an image takes 16 of these word pieces: no room for a question"),
        (("model.vision.image_size=160",), "makes 400 pieces of an image, of which 256"),
        (("model.vision.path=null",), "say either model.vision.path=FOLDER"),
        (("model.vision.path=/nowhere",), "which holds no config.json"),
        (("trainer.engine=packed",), "model.vision is set"),
    ],
)
def test_refusals(make_run: Make, sees: tuple[str, ...], more: tuple[str, ...], said: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        make_run(*sees, *more)
    assert said in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_electra", "tiny_roberta", "tiny_modernbert"])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_every_family_and_precision(
    make_run: Make, folder: Path, tmp_path: Path, sees: tuple[str, ...], model: str, precision: str
) -> None:
    line = (*sees, f"model={model}", f"trainer.precision={precision}")
    record = done(make_run(*line), tmp_path / "runs")
    assert record.status == "done", record.result["error"]
