"""A task that was trained before, as a later training sees it: its network, its items, its loss.

Heads are one per task (task-incremental): the later training goes on with the encoder, and an
earlier task is asked through its own head, which stays as that task left it. Or all tasks have the
same answers and one head (domain-incremental, `shared_head`), which then is as any other layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from bluestab.core.seeding import Seeds
from bluestab.core.types import Batch
from bluestab.models.built import Built
from bluestab.models.curvature import Curvature
from bluestab.models.divergences import Kind
from bluestab.models.insertion_places import is_inserted
from bluestab.models.passes import inputs_of

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class EarlierTask:
    """One of them.

    name     of the task
    network  with its own head and the weights its run left, in evaluation mode, on the device
    kind     of its head
    loss     (logits, batch) -> scalar
    seeds    of its run
    rows     counts the training items (rows, where a long one has several)
    batch    rows of the training items -> a batch of them, on the device
    importance     reads what its run kept under this name (`models/importance.py`); None: nothing
    path_integral  reads what its run kept of the way that its weights went: name -> sum over steps
             of minus gradient times change, and whole change; None: it kept nothing
    """

    name: str
    network: nn.Module
    kind: Kind
    loss: Callable[[torch.Tensor, Batch], torch.Tensor]
    seeds: Seeds
    rows: Callable[[], int]
    batch: Callable[[Sequence[int]], Batch]
    importance: Callable[[str], Curvature | None] = lambda name: None
    path_integral: Callable[[], Mapping[str, tuple[torch.Tensor, torch.Tensor]]] | None = None

    @property
    def size(self) -> int:
        return self.rows()

    def items(self) -> Iterator[Batch]:
        """All training items, one after the other, without padding."""
        return (self.batch([row]) for row in range(self.size))

    def logits(
        self, weights: Mapping[str, torch.Tensor], batch: Batch, training: bool
    ) -> torch.Tensor:
        """What its network says with these weights instead of its own, in float32 at least.

        weights   name -> value, of the parameters that are another's
        training  with dropout
        """
        import torch
        from torch.func import functional_call

        self.network.train(training)
        try:
            out = functional_call(self.network, dict(weights), (), inputs_of(batch)).logits
        finally:
            self.network.eval()
        return out.to(torch.promote_types(out.dtype, torch.float32))  # type: ignore[no-any-return]


class EarlierTasks(Sequence[EarlierTask]):
    """Tasks that are loaded anew whenever they are asked for, and that nobody holds here: who needs
    one at a time has one network in memory, however long the sequence."""

    def __init__(self, load: Sequence[Callable[[], EarlierTask]]) -> None:
        self._load = load

    def __len__(self) -> int:
        return len(self._load)

    @overload
    def __getitem__(self, index: int) -> EarlierTask: ...

    @overload
    def __getitem__(self, index: slice) -> EarlierTasks: ...

    def __getitem__(self, index: int | slice) -> EarlierTask | EarlierTasks:
        if isinstance(index, slice):
            return EarlierTasks(self._load[index])
        return self._load[index]()


def on_live_weights(task: EarlierTask, built: Built) -> list[str]:
    """Names as of `shared`; the earlier network holds the parameters of the network in training in
    their place from here on, and of its own only what these do not have."""
    live = dict(built.model.named_parameters())
    names = shared(task, built)
    for name in names:
        path, _, leaf = name.rpartition(".")
        setattr(task.network.get_submodule(path), leaf, live[name])
    return names


def lasting_names(task: EarlierTask) -> list[str]:
    """Parameters of its network that a later one may have: all but those of inserted layers."""
    return [name for name, _ in task.network.named_parameters() if not is_inserted(name)]


def shared(earlier: EarlierTask, built: Built) -> list[str]:
    """Parameters that the network in training has from this task: those of the encoder, without
    what was re-initialised, and those of the head if there is one for all.

    Raises RuntimeError if one of them goes by another name there: it would be held on to by nobody.
    """
    own = dict(earlier.network.named_parameters())
    live = dict(built.model.named_parameters())
    head = built.layers.head
    random = built.fresh - head if built.shared_head else built.fresh | head
    found = [
        name
        for name, value in built.reference.items()
        if name not in random and name in own and own[name].shape == value.shape
    ]
    if renamed := [name for name in found if name not in live]:
        raise RuntimeError(
            f"'{renamed[0]}' and {len(renamed) - 1} more of the weights that task '{earlier.name}' "
            "left have other names in the network in training: a technique has put something "
            "around them; leave it out"
        )
    return found
