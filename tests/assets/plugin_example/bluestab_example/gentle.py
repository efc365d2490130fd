"""Gentle: embeddings and blocks learn more slowly than what is above them."""

from bluestab.core.rules import within
from bluestab.techniques.base import Technique
from bluestab.techniques.packing import Packable


class Gentle(Packable, Technique):
    """factor: of the learning rate, in (0, 1]; 1 switches it off."""

    neutral = {"factor": 1.0}  # noqa: RUF012
    scalars = frozenset({"factor"})

    def __init__(self, *, factor):
        self.factor = factor

    def rules(self, model):
        return {"factor": within("(0, 1]")}

    def edit_plan(self, plan, built):
        depth, top = built.layers.depth, built.layers.top
        return plan.scaled({name: self.factor for name in depth if depth[name] < top})

    def effects(self, built, trained):
        if self.is_neutral():
            return {}
        depth, slower = built.layers.depth, [n for n, s in trained.lr_scale.items() if s != 1.0]
        return {
            "lr_multiplier_by_depth": {str(depth[n]): s for n, s in trained.lr_scale.items()},
            "slower_tensors": len(slower),
        }
