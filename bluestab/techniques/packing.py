"""What a technique adds to train in packs: sibling runs as one (`trainer.engine=packed`).

Optional: a technique without it trains by itself, which `bluestab check` says in a sentence. All
moments of `Technique` are then those of a single run but `wrap_step`, in whose place `pack_step`
stands; `edit_data` has no part, and `callbacks` none but `before_each_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from bluestab.core.types import Step
from bluestab.models.built import Built

if TYPE_CHECKING:
    import torch


class Packable:
    """A mix-in, named before the base: `class Freeze(Packable, Technique)`."""

    scalars: ClassVar[frozenset[str]] = frozenset()
    """Knobs in which siblings may differ: numbers that leave what trains, and what drops units, as
    it is."""

    @classmethod
    def pack_step(
        cls, siblings: Sequence[Self], step: Step, network: Siblings, built: Sequence[Built]
    ) -> Step:
        """`wrap_step` for S runs at once: a step gives losses (S,) and logits (S, B, ...).

        siblings, built  technique and model of each run; all are neutral, or none is
        """
        return step


class StackedLayer(Protocol):
    """A linear layer that holds a weight per sibling, (S, out, in).

    used  what becomes of that weight in a pass of training; None: it is used as it is
    """

    weight: torch.nn.Parameter
    used: Callable[[torch.Tensor], torch.Tensor] | None


class Siblings(Protocol):
    """What `pack_step` is told of the stacked network that S runs train in (`training/packed/`).

    n        S
    linears  path -> those of its linear layers whose weight trains
    """

    n: int

    @property
    def linears(self) -> Mapping[str, StackedLayer]: ...

    def unflatten(self, values: torch.Tensor) -> torch.Tensor:
        """(S * B, ...) -> (S, B, ...)."""

    def other_dropout(self, *names: str | int) -> AbstractContextManager[None]:
        """Passes inside drop other units than the first pass of the step does."""

    def pass_number(self) -> int:
        """Which pass of the step is under way: 0 is the first, and all that drop the same."""
