"""Where the time of a run goes: seconds by phase, nothing counted twice.

    load       weights, head, what techniques do to them
    tokenise   word pieces, from the cache or made
    prefix     the output of frozen blocks and image towers, from the cache or made
    data       waiting for batches, and all of the trainer between steps
    forward    forward passes and losses of training, all passes of a technique
    backward   backward passes
    optimizer  clipping and the update
    evaluate   forward passes of validation and test
    score      decoding, metrics
    write      files of the run

On a GPU the host runs ahead of the device, and the time of a pass shows up wherever the host waits
next; `profile=true` makes it wait at the end of every phase, which slows the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PHASES = (
    *("load", "tokenise", "prefix", "data", "forward", "backward", "optimizer"),
    *("evaluate", "score", "write"),
)


class Phases:
    """A stopwatch; a phase inside another stops the outer one.

    wait  called at the end of every phase: what makes a device finish what it was asked
    """

    def __init__(self, wait: Callable[[], object] | None = None) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._wait = wait
        self._open: list[tuple[str, float, float]] = []  # name, start, seconds of inner phases

    def begin(self, name: str) -> None:
        self._open.append((name, time.perf_counter(), 0.0))

    def end(self) -> None:
        """Ends the phase begun last."""
        if self._wait is not None:
            self._wait()
        name, start, inner = self._open.pop()
        took = time.perf_counter() - start
        self.seconds[name] += took - inner
        if self._open:
            outer, since, before = self._open[-1]
            self._open[-1] = (outer, since, before + took)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Also ends what was begun inside and left open by an exception."""
        depth = len(self._open)
        self.begin(name)
        try:
            yield
        finally:
            while len(self._open) > depth:
                self.end()


def wait_for(device: torch.device) -> Callable[[], object] | None:
    """What makes the device finish what it was asked; None where the host does the work."""
    import torch

    waits = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    return waits.get(device.type)
