"""The weights that a run keeps, in a form that plain transformers loads; with layers inserted into
a frozen encoder, these and the head alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.types import At
from bluestab.models.built import Built
from bluestab.models.insertion_places import BASE, MARK, is_copied, is_inserted
from bluestab.training.check import Run

if TYPE_CHECKING:
    import torch


def base_of(run: Run) -> str | None:
    """What the encoder is (`Model.identity`) whose weights need not be kept; None: all are.

    Of the layers of `inner_adaptors` it is a model of the hub or of a package, which is found by
    its name. One from a folder, or from an earlier run, may be moved or removed: it is kept. So is
    one that is pretrained on, which is there to be taken as a whole.
    """
    findable = run.model.path is None and run.start is None
    if "inner_adaptors" not in run.techniques or not findable:
        return None
    return None if run.data.task.output.head.pretrains else run.model.identity()


def write_weights(
    work: Path,
    at: At,
    built: Built,
    tokenizer: Any,
    labels: Sequence[str],
    base: str | None = None,
) -> None:
    """`checkpoint/<at>/` as transformers reads it: weights, config with label names, tokenizer.

    base  what the encoder is whose weights are left out; None: all are written
    """
    folder = work / "checkpoint" / at
    network: Any = built.model
    network.config.id2label = dict(enumerate(labels))
    network.config.label2id = {label: i for i, label in enumerate(labels)}
    state = built.plain(network.state_dict())
    if base is not None:
        state = {n: value for n, value in state.items() if not _is_as_loaded(n, value, built)}
        setattr(network.config, BASE, {"encoder": base, "tensors": len(state)})
    network.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)


def _is_as_loaded(name: str, value: torch.Tensor, built: Built) -> bool:
    """Whether a weight has the bits that the encoder alone would give it."""
    import torch

    config: Any = built.model.config
    start = built.reference.get(name)
    if start is None or name in built.fresh:
        return False
    if is_inserted(name) and not is_copied(name, getattr(config, MARK)["kind"]):
        return False
    return torch.equal(value.cpu(), start.cpu())
