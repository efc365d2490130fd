"""Which runs can train in one group: those that differ in seeds and scalars alone."""

from __future__ import annotations

import json

from bluestab.techniques.base import Technique
from bluestab.techniques.packing import Packable
from bluestab.training.check import Run

SCALARS = frozenset(
    ("lr", "warmup", "weight_decay", "beta1", "beta2", "eps", "bias_correction", "clip")
)
"""Knobs of the optimizer in which siblings may differ."""

ALIKE = (
    *("device", "store", "keep", "keep_representations", "profile", "timeout", "on_oom"),
    "checkpoint_every",
)
"""Knobs that decide no result, but how a group as a whole is run."""


def pack_group_key(run: Run) -> str:
    """What siblings have in common: runs of the same text can train in one group.

    All but their seeds (that of the split excepted) and their scalars.
    """
    hashed, cfg = run.hashed, run.cfg
    techniques = [
        [
            name,
            technique.is_neutral(),
            {k: v for k, v in cfg["technique"][name].items() if k not in _scalars(technique)},
        ]
        for name, technique in run.techniques.items()
    ]
    alike = {
        **{k: v for k, v in hashed.items() if k not in ("seeds", "optim", "technique")},
        "split": run.seeds.split,
        "optim": {k: v for k, v in hashed["optim"].items() if k not in SCALARS},
        "technique": techniques,
        "trainer": cfg["trainer"],
        "run": {k: cfg[k] for k in ALIKE},
    }
    return json.dumps(alike, sort_keys=True, default=str)


def _scalars(technique: Technique) -> frozenset[str]:
    return technique.scalars if isinstance(technique, Packable) else frozenset()
