"""Bytes of a training, counted as its tensors come and go: the same on every device.

Counted are weights, gradients, the optimizer's moments, and what autograd saves for backward
passes: storages, each once, parameters excepted. What is not: batches, buffers, temporary tensors
of one operation, what a technique keeps beside (an average, a copy), and blocks that are computed
again (`trainer.gradient_checkpointing`), of which the input counts alone. On a GPU the allocator's
own peak, which has all that, stands beside in the record (`peak_memory_mb`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import nn


def bytes_of(x: torch.Tensor) -> int:
    """Of its numbers, whatever storage they lie in."""
    return x.numel() * x.element_size()


def moment_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Of an optimizer's state, on the devices of the weights: what was offloaded is not there."""
    return sum(
        bytes_of(value)
        for parameter, state in optimizer.state.items()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.dim() and value.device == parameter.device
    )


class Ledger:
    """Counts; an observer of `models.activations.saving`.

    moments   bytes of the optimizer's state, when asked
    saved     bytes that autograd holds now; most_saved: at most so far
    unpacked  of the largest tensor that was restored from fewer bytes
    """

    def __init__(self, model: nn.Module, moments: Callable[[], int]) -> None:
        self.moments = moments
        self.saved = 0
        self._parameters = list(model.parameters())
        self._own = {p.untyped_storage()._cdata for p in self._parameters}
        self._held: dict[int, tuple[int, int]] = {}  # storage -> how often, bytes
        self._with_gradient: set[int] = set()
        self._gradients = 0
        self._moments = 0
        self.restart()
        # not this object itself: no garbage collection sees what a parameter's hook holds, so that
        # each would keep all others, and the network of every finished run would stay in memory
        accumulated = weakref.WeakMethod(self._accumulated)

        def hook(parameter: torch.Tensor) -> None:
            if (method := accumulated()) is not None:
                method(parameter)

        for parameter in self._parameters:
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    hook
                )

    def restart(self) -> None:
        """Forget the peak so far."""
        self.unpacked = 0
        self._peak = (0, 0, 0)
        self._highest = self.most_saved = 0

    def look(self) -> None:
        """Take stock, where gradients and moments may have come or gone: around an update."""
        found = [p for p in self._parameters if p.grad is not None]
        self._with_gradient = {id(p) for p in found}
        self._gradients = sum(bytes_of(p) for p in found)
        self._moments = self.moments()
        self._compare()

    def _accumulated(self, parameter: torch.Tensor) -> None:
        if id(parameter) not in self._with_gradient:
            self._with_gradient.add(id(parameter))
            self._gradients += bytes_of(parameter)
            self._compare()

    def _compare(self) -> None:
        now = self._gradients + self._moments + self.saved
        if now > self._highest:
            self._highest = now
            self._peak = (self._gradients, self._moments, self.saved)

    def hold(self, x: torch.Tensor) -> int | None:
        storage = x.untyped_storage()
        place: int = storage._cdata
        if place in self._own:
            return None
        count, n_bytes = self._held.get(place, (0, storage.nbytes()))
        self._held[place] = (count + 1, n_bytes)
        if count == 0:
            self.saved += n_bytes
            self.most_saved = max(self.most_saved, self.saved)
            self._compare()
        return place

    def release(self, place: int) -> None:
        count, n_bytes = self._held.pop(place)
        if count > 1:
            self._held[place] = (count - 1, n_bytes)
        else:
            self.saved -= n_bytes

    def report(self) -> dict[str, int]:
        """Bytes at the peak of a step by what they were, and `total`, all of them together."""
        gradients, moments, saved = self._peak
        parts = {
            "weights": sum(map(bytes_of, self._parameters)),
            "gradients": gradients,
            "moments": moments,
            "saved": saved,
            "unpacked": self.unpacked,
        }
        return {**parts, "total": sum(parts.values())}
