"""Which runs can train as one (`trainer.engine=packed`), and which of them together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bluestab.techniques.base import Technique
from bluestab.types import ModelFacts

if TYPE_CHECKING:
    from bluestab.checks import CheckedRun

FAMILIES = ("bert", "electra", "roberta")
"""transformers' families whose layers have a stacked kind, their attention included."""

SCALARS = frozenset(
    ("lr", "warmup", "weight_decay", "beta1", "beta2", "eps", "bias_correction", "clip")
)
"""Knobs of the optimizer in which siblings may differ."""

ALIKE = (
    *("device", "store", "keep", "keep_representations", "profile", "timeout", "on_oom"),
    "checkpoint_every",
)
"""Knobs that decide no result, but how a group as a whole is run."""


def reasons_apart(
    cfg: Mapping[str, Any], model: ModelFacts, techniques: Mapping[str, Technique]
) -> list[str]:
    """Why a run cannot train with others as one; empty if it can. The same for every seed."""
    knobs = cfg["trainer"]
    found = [
        f"technique {name} has no form for several runs at once"
        for name, technique in techniques.items()
        if not technique.packs
    ]
    if model.family not in FAMILIES:
        found.append(f"model {model.name} is of family {model.family}, not {', '.join(FAMILIES)}")
    if knobs["micro_batch"] is not None:
        found.append(f"trainer.micro_batch is {knobs['micro_batch']}: a group passes whole batches")
    if knobs["devices"] != 1:
        found.append(f"trainer.devices is {knobs['devices']}: a group trains on one")
    if "flash_attention_2" in knobs["attention"].values():
        found.append("flash_attention_2 cannot be told which units to drop")
    return found


def family_of(run: CheckedRun) -> str:
    """What siblings have in common: runs of the same text can train in one group.

    All but their seeds (that of the split excepted) and their scalars.
    """
    hashed, cfg = run.hashed, run.cfg
    techniques = [
        [
            name,
            technique.is_neutral(),
            {k: v for k, v in cfg["technique"][name].items() if k not in technique.scalars},
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
