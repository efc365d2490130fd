"""Networks with layers of peft, and without, as techniques get them."""

from __future__ import annotations

import torch
from torch import nn

from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import SEQUENCE
from bluestab.models.built import Built
from bluestab.models.networks import load
from bluestab.techniques.around_layers import is_adapter
from bluestab.testing.laboratory import Lab
from bluestab.training.assemble import Assembly
from bluestab.training.prepare import build

SEEDS = Seeds(0, 0, 0, 0)
FAMILIES = ["tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert"]


def plain_built(lab: Lab, model: str, seeds: Seeds) -> Built:
    """A network as techniques get it."""
    run = lab.run("gad", model)
    loaded = load(run.model, head=SEQUENCE, n_labels=2, attention="eager")
    return build(loaded, run.data, seeds)


def disturb(model: nn.Module) -> None:
    """Updates that are something."""
    random = generator(5, "disturb")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))


def inputs_of(assembly: Assembly) -> dict[str, torch.Tensor]:
    batch = next(iter(assembly.loaders["validation"]))
    return {k: v for k, v in batch.items() if k not in ("labels", "items")}
