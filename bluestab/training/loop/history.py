"""Validation scores over a training so far, and the weights that had the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from bluestab.tasks.base import Scores
from bluestab.tasks.metric import Metric


@dataclass
class ValidationHistory:
    """One row per evaluation on validation, and the weights of the best one.

    best is the earliest step whose validation score no other beats, by `metric`; an undefined score
    beats nothing.
    selects   False: validation scores are noted, and the best weights are the latest
    begins    steps before which no weights are the best
    patience  evaluations without a lower training loss after which a training has stalled
    censored says at which step and by which sign the training was stopped early, if it was.
    """

    metric: Metric
    model: torch.nn.Module
    rows: list[dict[str, Any]] = field(default_factory=list)
    best_step: int | None = None
    best_score: float | None = None
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    censored: dict[str, Any] | None = None
    selects: bool = True
    begins: int = 0
    patience: int | None = None
    trains: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        # at the start: what a technique thaws later cannot be told from what is frozen for ever
        self.trains = frozenset(n for n, p in self.model.named_parameters() if p.requires_grad)

    def add(
        self,
        step: int,
        scores: Scores,
        loss: float,
        norms: Mapping[str, float | None] | None = None,
    ) -> None:
        score = scores[self.metric.name]
        self.rows.append({"step": step, "train_loss": loss, **scores, **(norms or {})})
        if step < self.begins:
            return
        better = score is not None and (
            self.best_score is None or self.metric.better(score, self.best_score)
        )
        if better or self.best_step is None or not self.selects:
            self.best_step, self.best_score = step, score
            self.best_weights = {
                name: parameter.detach().clone()
                for name, parameter in self.model.named_parameters()
                if name in self.trains
            }

    def is_stalled(self) -> bool:
        """The mean training loss between evaluations has not fallen below its lowest for `patience`
        of them in a row; one that is no number has not fallen."""
        if self.patience is None:
            return False
        lowest, since = float("inf"), 0
        for row in self.rows:
            fell = row["train_loss"] < lowest
            lowest, since = (row["train_loss"], 0) if fell else (lowest, since + 1)
        return since >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "best_step": self.best_step,
            "best_score": self.best_score,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        devices = {name: parameter.device for name, parameter in self.model.named_parameters()}
        self.rows = list(state["rows"])
        self.best_step, self.best_score = state["best_step"], state["best_score"]
        self.best_weights = {n: w.to(devices[n]) for n, w in state["best_weights"].items()}

    def restore_best(self) -> None:
        """Put the best weights into the model (only what trains can differ)."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in self.best_weights:
                    parameter.copy_(self.best_weights[name])
