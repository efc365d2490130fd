"""Knobs that the yaml leaves to the device and the techniques, made plain values before they enter
a key: `trainer.precision=auto`, and per device `trainer.micro_batch`, `trainer.dropout_masks` and
`trainer.embedding_rows`.

What changes no statistics is on by default where it pays: bfloat16 where the device computes in it,
on CPUs parts of a batch sorted by length, dropout masks from a faster generator and a table of word
embeddings without the rows that no item needs. What somebody says stays as it was said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bluestab.core.devices import Kind

PRECISION, MICRO_BATCH = "trainer.precision", "trainer.micro_batch"
MASKS, ROWS = "trainer.dropout_masks", "trainer.embedding_rows"
FORMER: Mapping[str, Any] = {PRECISION: 32, MICRO_BATCH: None, MASKS: "torch", ROWS: "all"}
"""What these were where nothing was said, up to and including 0.1; the last, up to 0.2."""

OF_DEVICE = (MICRO_BATCH, MASKS, ROWS)
"""Of these, what is left to the kind of device."""

KindOf = Callable[[str], Kind]
"""The knob `device` -> what it means where the runs will be done."""


@dataclass(frozen=True)
class Settled:
    """What a config left open.

    values   dotted path -> what it has become
    float32  what keeps the run from bfloat16 on a device that computes in it, one sentence each
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    float32: tuple[str, ...] = ()

    def overrides(self) -> list[str]:
        """The same as somebody types it."""
        return override_lines(self.values)


def override_lines(values: Mapping[str, Any]) -> list[str]:
    """`KEY=VALUE` for each."""
    return [f"{path}={'null' if v is None else v}" for path, v in values.items()]


def settle(
    cfg: Mapping[str, Any], kind: Kind, problems: Callable[[Mapping[str, Any]], list[str]]
) -> tuple[dict[str, Any], Settled]:
    """The config with plain values, and which of them it had left open.

    kind      of the device that it will run on
    problems  what techniques have against a config: none may be refused for a default
    """
    values: dict[str, Any] = {}
    why: tuple[str, ...] = ()
    if cfg["trainer"]["precision"] == "auto":
        if kind.bf16:
            why = _against(cfg, {"precision": "bf16"}, {"precision": 32}, problems)
        values[PRECISION] = "bf16" if kind.bf16 and not why else 32
        cfg = _with(cfg, precision=values[PRECISION])
    packed, several = cfg["trainer"]["engine"] == "packed", cfg["trainer"]["devices"] != 1
    for path in OF_DEVICE:
        knob = path.removeprefix("trainer.")
        if not isinstance(own := cfg["trainer"][knob], Mapping):
            continue
        value, plain = own[kind.name], FORMER[path]
        whole = packed or (several and path == MICRO_BATCH)
        if whole or _against(cfg, {knob: value}, {knob: plain}, problems):
            value = plain
        values[path] = value
        cfg = _with(cfg, **{knob: value})
    return dict(cfg), Settled(values, why)


def _against(
    cfg: Mapping[str, Any],
    wanted: Mapping[str, Any],
    plain: Mapping[str, Any],
    problems: Callable[[Mapping[str, Any]], list[str]],
) -> tuple[str, ...]:
    """What techniques have against the wanted values of the trainer, and not against plain ones."""
    refused = problems(_with(cfg, **wanted)) if wanted != plain else []
    accepted = problems(_with(cfg, **plain)) if refused else []
    return tuple(said for said in refused if said not in accepted)


def _with(cfg: Mapping[str, Any], **trainer: Any) -> dict[str, Any]:
    return {**cfg, "trainer": {**cfg["trainer"], **trainer}}
