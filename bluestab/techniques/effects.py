"""What several techniques report in `effects`, read off a finished training."""

from __future__ import annotations

import math
from typing import Any

from bluestab.models.built import Built, Trained
from bluestab.techniques.parameters import pretrained


def frozen(built: Built, trained: Trained) -> dict[str, Any]:
    """What never trained, and whether it moved all the same; empty if everything trained."""
    still = [name for name in built.layers.depth if name not in trained.lr_scale]
    if not still:
        return {}
    return {
        "frozen_tensors": len(still),
        "frozen_parameters": sum(built.numel(name) for name in still),
        "moved_anyway": len(trained.moved.intersection(still)),
    }


def distance(built: Built) -> float:
    """L2 distance of all `pretrained` parameters together from the checkpoint, in float64."""
    parameters = dict(built.model.named_parameters())
    squares = (
        (parameters[n].detach().cpu().double() - built.reference[n].double()).square().sum()
        for n in pretrained(built)
    )
    return math.sqrt(sum(float(square) for square in squares))


def extra_forwards(trained: Trained) -> dict[str, Any]:
    """Forward passes that plain training would not have made; empty if there are none."""
    extra = trained.forwards - trained.batches
    return {"extra_forwards": extra} if extra else {}
