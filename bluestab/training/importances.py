"""What a run leaves for techniques of later ones: how much each weight matters to its task.

Measured once, on the weights that it kept (`keep_importance`), instead of at the start of every
later run; these come out the same either way, and need not have the task's items.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from bluestab.core import devices
from bluestab.core.types import WEIGHTS_TO_KEEP
from bluestab.models.init_from import SavedWeights
from bluestab.store.artefacts import importance_file
from bluestab.training.check import Run
from bluestab.training.stages import earlier_tasks, stage_of

log = logging.getLogger("bluestab")


def measure_importances(run: Run, names: Iterable[str], kept: Path, out: Path) -> None:
    """Write the importances of these names, of all weights that the run keeps, into `out`.

    kept, out  folders `checkpoint`: the one with the weights, the one for what is written

    Raises RuntimeError where a module's inputs cannot be told by word piece.
    """
    import torch

    from bluestab.models.importance import Importance, write_curvature

    torch.set_num_threads(run.cfg["trainer"]["threads"])
    device = torch.device(devices.resolve(run.cfg["device"]))
    task, attention = run.data.task, run.cfg["trainer"]["attention"][device.type]
    for at in WEIGHTS_TO_KEEP[run.cfg["keep"]]:
        saved = SavedWeights(
            folder=kept / at, sha256="", run=run.key, at=at, task=task.name, said="", failed=False
        )
        stage = stage_of(saved, run.cfg, task, run.data, run.model)
        (own,) = earlier_tasks([stage], attention, device)
        (out / at).mkdir(parents=True, exist_ok=True)
        for name in names:
            log.info("%s: %s importance of its %s weights, %d items", run.key, name, at, own.size)
            curvature = Importance.named(name).measure(own)
            write_curvature(curvature, importance_file(out / at, name))
