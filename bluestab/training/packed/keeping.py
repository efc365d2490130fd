"""The checkpoint of an interrupted group: written aside, flushed, renamed; one at a time.

It lies where that of its first run would, and holds what every run of the group has become: the
same runs in the same order go on from it with the bits of a group that was never interrupted. Any
other group sets it aside and starts anew.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bluestab.training.loop.checkpoints import (
    OURS,
    WORTH,
    Files,
    Found,
    find,
    identity,
    interval,
    set_aside,
)
from bluestab.training.packed.siblings import Sibling
from bluestab.training.packed.stacked import Stack

log = logging.getLogger("bluestab")


class Keeper:
    """Saves a group now and then.

    folder  where its checkpoint lies; every: as `checkpoint_every`
    """

    def __init__(
        self, folder: Path, every: int | str | None, keys: Sequence[str], device: torch.device
    ) -> None:
        self.folder = folder
        self.steps, self.seconds = (None, None) if every is None else interval(every)
        self.header = identity(hashlib.sha256(" ".join(keys).encode()).hexdigest()[:16], device)
        self.saved_at = time.monotonic()
        self.saved_step = 0

    def found(self) -> Found | None:
        return find(self.folder, self.header)

    def after_step(self, stack: Stack, siblings: Sequence[Sibling], step: int) -> None:
        if self.steps is not None:
            due = step % self.steps == 0
        else:
            due = self.seconds is not None and time.monotonic() - self.saved_at >= self.seconds
        if due:
            self.save(stack, siblings, step)

    def before_giving_back(self, stack: Stack, siblings: Sequence[Sibling], step: int) -> None:
        """As of a single run: what took a while is saved even if nobody asked for it."""
        saves = self.steps is not None or self.seconds is not None
        worth = saves or time.monotonic() - self.saved_at >= WORTH
        if worth and step > self.saved_step:
            self.save(stack, siblings, step)

    def save(self, stack: Stack, siblings: Sequence[Sibling], step: int) -> None:
        content = {
            OURS: {"header": self.header, "sizes": {}},
            "passes": stack.passes,
            "siblings": [_state(sibling) for sibling in siblings],
        }
        try:
            Files().save_checkpoint(content, self.folder / str(step))
        except (OSError, RuntimeError) as error:
            log.warning("no checkpoint at step %d: %s", step, error)  # better than no group
        self.saved_at, self.saved_step = time.monotonic(), step

    def restore(self, stack: Stack, siblings: Sequence[Sibling], found: Found) -> bool:
        """Put everything back; False if it does not fit, when the group must be built anew."""
        try:
            content = Files().load_checkpoint(found.path)
            stack.passes = content["passes"]
            for sibling, state in zip(siblings, content["siblings"], strict=True):
                _go_on(sibling, state)
        except Exception as error:
            set_aside(found.path, f"going on from it failed ({type(error).__name__}: {error})")
            return False
        self.saved_step = found.step
        log.info("the group goes on from step %d (%s)", found.step, found.path)
        return True


def _state(sibling: Sibling) -> dict[str, Any]:
    """What a run has become, in tensors of its own: a slice would bring the whole stack along."""
    weights = {n: p for n, p in sibling.built.model.named_parameters() if p.requires_grad}
    return {
        "weights": {name: weight.detach().cpu().clone() for name, weight in weights.items()},
        "optimizer": sibling.optimizer.state_dict(),
        "history": sibling.history.state_dict(),
        "censored": sibling.history.censored,
        "techniques": {name: t.state_dict() for name, t in sibling.run.techniques.items()},
        "diverged": None if sibling.diverged is None else sibling.diverged.step,
        **{name: getattr(sibling, name) for name in COUNTED},
    }


COUNTED = ("steps", "ended", "batches", "forwards", "losses", "norms")


def _go_on(sibling: Sibling, state: Mapping[str, Any]) -> None:
    with torch.no_grad():
        parameters = dict(sibling.built.model.named_parameters())
        for name, value in state["weights"].items():
            parameters[name].copy_(value)
    sibling.optimizer.load_state_dict(state["optimizer"])
    sibling.history.load_state_dict(state["history"])
    sibling.history.censored = state["censored"]
    for name, technique in sibling.run.techniques.items():
        technique.load_state_dict(state["techniques"][name])
    for name in COUNTED:
        setattr(sibling, name, state[name])
    sibling.norms = [norms.to(next(iter(parameters.values())).device) for norms in state["norms"]]
    if state["diverged"] is not None:
        sibling.diverge_at(state["diverged"])
