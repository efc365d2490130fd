"""Knobs of techniques at the optimizer, out of range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.core.errors import ConfigError
from tests.support.averages import FAST

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("ema.decay", "1"), ("ema.decay", "-0.1"), ("ema.warmup", "1"), ("swa.tail", "1.1"),
        ("swa.rate", "0"), ("swa.rate", "1.5"), ("sam.rho", "-1"), ("sam.rho", "inf"),
        ("sam.rho", "nan"), ("sam.adaptive", "0"),
    ],
)  # fmt: skip
def test_out_of_range(make_run: Make, knob: str, value: str) -> None:
    name = knob.partition(".")[0]
    with pytest.raises(ConfigError, match=rf"technique\.{knob} is .*: expected") as caught:
        make_run("task=gad", *FAST, f"technique={name}", f"technique.{knob}={value}")
    assert len(caught.value.problems) == 1
