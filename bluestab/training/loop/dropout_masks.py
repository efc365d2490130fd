"""Dropout masks of 16 random bits per unit, where torch draws a whole number for each.

torch's Mersenne Twister takes about 10 ns per unit, in all a sixth of a step of MiniLM on a CPU.
Here a word of SFC64 (numpy's bit generator, whose raw words numpy promises to keep) decides about
four units. Every mask starts a generator of its own, seeded by a draw from torch's stream: whatever
puts that stream back (a resumed run, a pass that is replayed, a block that is computed again on the
way back) finds the same masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LEVELS = 2**16
"""Shares that 16 bits can tell apart: p is rounded to the nearest, at most 8e-6 away."""


def kept(shape: Sequence[int], threshold: int, like: torch.Tensor) -> torch.Tensor:
    """1 where a unit stays, 0 with probability threshold / LEVELS, in the type of `like`."""
    seed = int(torch.randint(2**63 - 1, ()))
    units = int(np.prod(shape))
    words = np.random.SFC64(seed).random_raw(-(-units // 4))
    bits = torch.from_numpy(words.view(np.int16)[:units]).view(*shape).to(like.device)
    found = torch.empty(tuple(shape), dtype=like.dtype, device=like.device)
    return torch.ge(bits, threshold - LEVELS // 2, out=found)


class Sfc64Dropout(TorchFunctionMode):
    """While it is entered, `functional.dropout`, and with it `nn.Dropout`, drops by `kept`."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.dropout:
            return _dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _dropout(
    values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    threshold = round(p * LEVELS)
    if not training or inplace or not 0 < threshold < LEVELS:
        return functional.dropout(values, p, training, inplace)
    mask = kept(values.shape, threshold, values)
    return (values * mask).mul_(LEVELS / (LEVELS - threshold))
