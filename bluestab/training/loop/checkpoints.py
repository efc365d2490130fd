"""The checkpoint of an interrupted run: written aside, flushed, renamed; one at a time.

A run that goes on from it gives the bits of a run that was never interrupted. Lightning saves and
restores weights, optimizer, schedule, counters and callbacks; the rest is here: the place in the
data, the random streams, the states of techniques, the best weights so far. Saved and restored is
at the same place, before anything else happens to the next batch, so that whatever a technique
draws or counts between two steps falls on the right side.

    <folder>/step-<step>-<digest>.ckpt   complete and undamaged if its content has this digest
    <folder>/unusable.ckpt               the last one that could not be gone on from

Files are read with `weights_only=True`: a checkpoint from elsewhere can be wrong, not dangerous.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import CheckpointIO

from bluestab.core import preemption
from bluestab.core.keys import RECIPE_VERSION
from bluestab.core.knobs import TIME
from bluestab.core.seeding import random_streams, restore_random_streams
from bluestab.store.files import (
    dead_asides,
    digest_of,
    flush,
    make_folder,
    new_aside,
    put_in_place,
    share,
)
from bluestab.techniques.base import Technique
from bluestab.training.loop.batches import ShuffledOrder
from bluestab.training.loop.history import ValidationHistory
from bluestab.training.loop.module import FineTuning

log = logging.getLogger("bluestab")

FORMAT = 3
NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.ckpt")
OURS = "bluestab"
"""Where our part stands in what Lightning saves."""

SECONDS = {"s": 1, "min": 60, "h": 3600}

WORTH = 10.0
"""Seconds of work that a run which is given back saves even without `checkpoint_every`."""


def interval(every: int | str) -> tuple[int | None, float | None]:
    """`checkpoint_every` as (optimizer steps, None) or (None, seconds)."""
    if isinstance(every, int):
        return every, None
    number, unit = TIME.fullmatch(every).groups()  # type: ignore[union-attr]
    return None, int(number) * SECONDS[unit]


def identity(key: str, device: torch.device) -> dict[str, Any]:
    """What a checkpoint must agree in, for its run to go on here with the same bits."""
    return {
        "format": FORMAT,
        "key": key,
        "recipe": RECIPE_VERSION,
        "torch": str(torch.__version__),
        "lightning": version("pytorch-lightning"),
        "device": device.type,
    }


@dataclass(frozen=True)
class Found:
    """A checkpoint to go on from, and the batch sizes its run had come down to."""

    path: Path
    step: int
    sizes: Mapping[str, Any]


# --- files ---------------------------------------------------------------------------------------


class Files(CheckpointIO):
    """How Lightning writes and reads a checkpoint. Paths are `<folder>/<step>`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Publish in one rename, then drop what was there before. Raises OSError or RuntimeError
        (torch's own) if it cannot be written."""
        folder, step = Path(path).parent, int(Path(path).name)
        make_folder(folder)
        aside = new_aside(folder / "writing")
        try:
            torch.save(checkpoint, aside)
            share(aside)
            flush(aside)
            target = folder / f"step-{step:08d}-{_digest(aside)}.ckpt"
            put_in_place(aside, target)
        finally:
            aside.unlink(missing_ok=True)
        flush(folder)
        for older in folder.glob("step-*.ckpt"):
            if older != target:
                older.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    return digest_of(path)[:16]


def find(folder: Path, expected: Mapping[str, Any]) -> Found | None:
    """The latest checkpoint this run can go on from; others are set aside, which the log says."""
    for left in dead_asides(folder / "writing"):
        left.unlink(missing_ok=True)
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        match = NAME.fullmatch(path.name)
        why = "its name is not ours"
        if match is not None:
            why, sizes = _unusable(path, match[2], expected)
            if not why:
                return Found(path, int(match[1]), sizes)
        set_aside(path, why)
    return None


def _unusable(path: Path, digest: str, expected: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Why a checkpoint is of no use here ("" if it is), and the batch sizes it was made with."""
    try:
        if _digest(path) != digest:
            return "it is damaged", {}
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[OURS]
        header, sizes = dict(content["header"]), dict(content["sizes"])
    except Exception as error:  # torch raises many kinds for a file that is not its own
        return f"it cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})", {}
    for name, value in expected.items():
        if header.get(name) != value:
            return f"it was made with {name} {header.get(name)!r}, this run has {value!r}", {}
    return "", sizes


def set_aside(path: Path, why: str) -> None:
    """Keep one unusable checkpoint for a person to look at, and go on without it."""
    log.warning("checkpoint %s is set aside: %s; the run starts from its beginning", path, why)
    with contextlib.suppress(FileNotFoundError):
        put_in_place(path, path.with_name("unusable.ckpt"))


def discard(folder: Path) -> None:
    """The run has finished, or starts anew in another way: nothing is left to go on from."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # the last one leaves no empty folder behind


# --- saving and going on -------------------------------------------------------------------------


class Checkpoints(pl.Callback):
    """Saves a run now and then, and puts back what Lightning does not. The first of the callbacks.

    folder      where the checkpoint of this run lies
    every       see `interval`; None: nothing is saved, but a checkpoint can be gone on from
    start       parameter values at the first step; what still has its bits is not saved
    """

    def __init__(
        self,
        *,
        folder: Path | None,
        every: int | str | None,
        header: Mapping[str, Any],
        sizes: Mapping[str, Any],
        batch_size: int,
        order: ShuffledOrder,
        history: ValidationHistory,
        techniques: Mapping[str, Technique],
        start: Mapping[str, torch.Tensor],
    ) -> None:
        self.folder = folder
        self.steps, self.seconds = (None, None) if every is None else interval(every)
        self.header, self.sizes = dict(header), dict(sizes)
        self.batch_size, self.order = batch_size, order
        self.history, self.techniques, self.start = history, techniques, start
        self.saved_at = time.monotonic()
        self.place = (0, 0)
        self.pending: Mapping[str, Any] | None = None
        self.gone_on = False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        preemption.reinstall_handlers()

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, FineTuning)
        fresh = self.pending is not None  # what is on disk is what is here
        if self.pending is not None:
            self._restore(module, self.pending)
            self.pending, self.gone_on = None, True
        elif self._due(trainer.global_step):
            self._save(trainer, batch_idx)
            fresh = True
        if preemption.is_requested():
            if not fresh and self._worth_saving(trainer.global_step):
                self._save(trainer, batch_idx)
            raise preemption.Preempted

    def _worth_saving(self, step: int) -> bool:
        if self.folder is None or step == 0:
            return False
        saves = self.steps is not None or self.seconds is not None
        return saves or time.monotonic() - self.saved_at >= WORTH

    def _due(self, step: int) -> bool:
        if self.folder is None or step == 0:
            return False
        if self.steps is not None:
            return step % self.steps == 0
        return self.seconds is not None and time.monotonic() - self.saved_at >= self.seconds

    def _save(self, trainer: pl.Trainer, batch_idx: int) -> None:
        assert self.folder is not None
        self.place = (trainer.current_epoch, batch_idx * self.batch_size)
        try:
            trainer.save_checkpoint(self.folder / str(trainer.global_step))
        except (OSError, RuntimeError) as error:
            # a run without a net is better than none
            log.warning("no checkpoint at step %d: %s", trainer.global_step, error)
        self.saved_at = time.monotonic()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add our part to Lightning's, and take out what need not be kept."""
        assert isinstance(module, FineTuning)
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            # the next batch has been fetched and will be fetched again
            counts.update(dict.fromkeys(counts, counts["completed"]))
        progress["is_last_batch"] = False
        checkpoint["state_dict"] = {
            name: value
            for name, value in checkpoint["state_dict"].items()
            if not self._is_as_at_the_start(name.removeprefix("model."), value)
        }
        checkpoint[OURS] = {
            "header": self.header,
            "sizes": self.sizes,
            "place": self.place,
            "streams": random_streams(module.device),
            "running": module.running(),
            "history": self.history.state_dict(),
            "techniques": {name: t.state_dict() for name, t in self.techniques.items()},
        }

    def _is_as_at_the_start(self, name: str, value: torch.Tensor) -> bool:
        return name in self.start and torch.equal(value.cpu(), self.start[name].cpu())

    def on_load_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """The place in the data at once, before a batch is fetched; the rest at the first batch."""
        self.pending = checkpoint[OURS]
        self.order.resume(*self.pending["place"])

    def _restore(self, module: FineTuning, ours: Mapping[str, Any]) -> None:
        self.history.load_state_dict(ours["history"])
        for name, technique in self.techniques.items():
            technique.load_state_dict(ours["techniques"][name])
        module.run_on(ours["running"])
        restore_random_streams(ours["streams"], module.device)
