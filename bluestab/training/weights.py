"""The weights that a run keeps, in a form that plain transformers loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bluestab.core.types import At
from bluestab.models.built import Built


def write_weights(work: Path, at: At, built: Built, tokenizer: Any, labels: Sequence[str]) -> None:
    """`checkpoint/<at>/` as transformers reads it: weights, config with label names, tokenizer."""
    folder = work / "checkpoint" / at
    network: Any = built.model
    network.config.id2label = dict(enumerate(labels))
    network.config.label2id = {label: i for i, label in enumerate(labels)}
    network.save_pretrained(folder, state_dict=built.plain(network.state_dict()))
    tokenizer.save_pretrained(folder)
