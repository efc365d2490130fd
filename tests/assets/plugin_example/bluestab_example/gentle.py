"""Gentle: everything below the head learns more slowly."""

from bluestab.rules import within
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
        head = built.layers.head
        return plan.scaled({name: self.factor for name in built.layers.depth if name not in head})

    def effects(self, built, trained):
        if self.is_neutral():
            return {}
        slower = [name for name, scale in trained.lr_scale.items() if scale != 1.0]
        return {"slower_tensors": len(slower)}
