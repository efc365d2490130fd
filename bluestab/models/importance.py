"""How much each weight matters to a task, measured at the weights that its run left.

`ewc`, `kfac_ewc` and `mas` hold weights by it, `refresh` spares them. It needs the task's training
items; a run that is asked to (`keep_importance`) leaves it beside the weights it keeps, so that a
later one need not have them. Inserted layers, which no later task has, are left out.

diagonal     of the Fisher information (`models/fisher.py`): one number per weight
kronecker    its blocks of whole layers, A (x) G
sensitivity  of the answers, without labels: mean over items of |d ||logits||^2 / d w|, for words
             the logits of all real word pieces (Aljundi et al. 2018, ECCV, arXiv 1711.09601)
weighted     the diagonal with each item's square times the probability p of its labels: mean of
             p (d log p / d w)^2 (code of Wang et al. 2024, ICLR, arXiv 2403.13249)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bluestab.core.errors import StoreError
from bluestab.core.seeding import stream_seed
from bluestab.core.types import Batch, Labels, Sharing
from bluestab.models.curvature import Block, Curvature, Diagonal, KroneckerBlock, LookupBlock
from bluestab.models.earlier import EarlierTask, lasting_names
from bluestab.models.fisher import fisher
from bluestab.models.likelihood import (
    add_magnitude,
    add_square,
    evaluating,
    mean_over_batches,
)
from bluestab.models.passes import inputs_of

if TYPE_CHECKING:
    import torch

Add = Callable[["torch.Tensor", "torch.Tensor"], None]
BLOCKS: tuple[type[Block], ...] = (Diagonal, KroneckerBlock, LookupBlock)


@dataclass(frozen=True)
class Importance:
    """labels: of the Fisher information, None without it; sharing: of its Kronecker factors."""

    kind: Literal["diagonal", "kronecker", "sensitivity", "weighted"]
    labels: Labels | None = None
    sharing: Sharing | None = None

    @property
    def name(self) -> str:
        """As `keep_importance` says it."""
        return "-".join(part for part in (self.kind, self.labels, self.sharing) if part)

    @classmethod
    def named(cls, name: str) -> Importance:
        """One of `core.types.IMPORTANCES`."""
        return cls(*name.split("-"))  # type: ignore[arg-type]

    def measure(self, task: EarlierTask, names: Collection[str] | None = None) -> Curvature:
        """Of these parameters (None: all that a later task may have), over all its items.

        Raises RuntimeError where a module's inputs cannot be told by word piece.
        """
        import torch

        names = lasting_names(task) if names is None else names
        if self.labels is None:
            return _of_gradients(task, names, *MEASURES[self.kind])
        device = next(task.network.parameters()).device
        random = torch.Generator(device).manual_seed(stream_seed(task.seeds.init, self.name))
        return fisher(
            task.network,
            names,
            task.items(),
            labels=self.labels,
            sharing=self.sharing,
            random=random,
        )


def _squared_length(task: EarlierTask, item: Batch) -> torch.Tensor:
    logits = task.network(**inputs_of(item)).logits
    if logits.ndim == 3:
        logits = logits[item["attention_mask"].bool()]
    return logits.square().sum()  # type: ignore[no-any-return]


def _weighted(task: EarlierTask, item: Batch) -> torch.Tensor:
    """Its squared gradient is p times that of log p."""
    loss = task.loss(task.network(**inputs_of(item)).logits, item)
    return loss * (-loss.detach()).exp().sqrt()


MEASURES: Mapping[str, tuple[Callable[[EarlierTask, Batch], torch.Tensor], Add]] = {
    "sensitivity": (_squared_length, add_magnitude),
    "weighted": (_weighted, add_square),
}
"""A scalar of an item, and what is added up of its gradient."""


def _of_gradients(
    task: EarlierTask,
    names: Collection[str],
    of_item: Callable[[EarlierTask, Batch], torch.Tensor],
    add: Add,
) -> Curvature:
    parameters = {n: p for n, p in task.network.named_parameters() if n in names}
    with evaluating(task.network, parameters.values()):
        found = mean_over_batches(partial(of_item, task), parameters, task.items(), add)
    return Curvature(tuple(Diagonal(name, value) for name, value in found.items()))


def write_curvature(curvature: Curvature, path: Path) -> None:
    """Its blocks as safetensors, and in the header of what kind each is."""
    from safetensors.torch import save_file

    blocks: list[dict[str, Any]] = []
    tensors: dict[str, torch.Tensor] = {}
    for number, block in enumerate(curvature.blocks):
        fields = dict(vars(block))
        factors = {n: value for n, value in fields.items() if not _is_name(value)}
        tensors |= {f"{number}.{n}": v.detach().cpu().contiguous() for n, v in factors.items()}
        names = {n: value for n, value in fields.items() if _is_name(value)}
        blocks.append({"block": type(block).__name__, **names})
    save_file(tensors, path, metadata={"blocks": json.dumps(blocks)})


def _is_name(value: object) -> bool:
    return value is None or isinstance(value, str)


def read_curvature(path: Path, device: torch.device) -> Curvature:
    """What `write_curvature` wrote. Raises StoreError if it is something else."""
    from safetensors import SafetensorError, safe_open

    kinds: dict[str, Any] = {kind.__name__: kind for kind in BLOCKS}
    try:
        with safe_open(path, framework="pt", device=str(device)) as opened:
            found: list[dict[str, Any]] = json.loads(opened.metadata()["blocks"])
            for name in opened.keys():  # noqa: SIM118  # it is no mapping
                number, _, factor = name.partition(".")
                found[int(number)][factor] = opened.get_tensor(name)
        return Curvature(tuple(kinds[fields.pop("block")](**fields) for fields in found))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, SafetensorError) as error:
        raise StoreError(
            f"{path} cannot be used ({type(error).__name__}: {error}); delete it, and the command "
            "of its run measures it again"
        ) from error
