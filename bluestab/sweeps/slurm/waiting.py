"""Stages of sequences in a submission: what the next stage waits for, told from the store alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from bluestab.models.init_from import predecessor_of
from bluestab.store.store import Store
from bluestab.sweeps.slurm.submission import RunOrder
from bluestab.training.execute import is_stored

Standing = Literal["ready", "early", "hopeless"]
"""Of a stage: it can start; one before it is not finished; one before it left no weights, and will
not."""


class StagesBefore:
    """What the orders of a submission wait for.

    gave_up  whether an order crashed, and is not tried again
    """

    def __init__(
        self, orders: Mapping[str, RunOrder], store: Store, gave_up: Callable[[RunOrder], bool]
    ) -> None:
        self._orders, self._store, self._gave_up = orders, store, gave_up
        self._chains = {key: self._chain(order) for key, order in orders.items()}

    def standing(self, key: str) -> Standing:
        """Of one of the orders."""
        found: Standing = "ready"
        for before in self._chains[key]:
            match self._of_stage(before):
                case "hopeless":
                    return "hopeless"
                case "early":
                    found = "early"
        return found

    def _chain(self, order: RunOrder) -> list[str]:
        """Keys of the stages before one, the last first, up to one that is not in the submission:
        what came before that was done when it was."""
        found: list[str] = []
        following: RunOrder | None = order
        while following is not None:
            link = predecessor_of(following.cfg["model"].get("init_from"))
            if link is None or link[0] in found:
                break
            found.append(link[0])
            following = self._orders.get(link[0])
        return found

    def _of_stage(self, key: str) -> Standing:
        order = self._orders.get(key)
        is_finished = self._store.has(key)
        if order is not None and is_finished:
            is_finished = is_stored(key, order.cfg, self._store)  # with the weights it is to leave
        if is_finished:
            return "ready" if self._store.read(key).status == "done" else "hopeless"
        if order is None:  # another submission does it
            return "early" if self._store.crash(key) is None else "hopeless"
        return "hopeless" if self._gave_up(order) else "early"
