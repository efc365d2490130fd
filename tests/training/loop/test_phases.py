"""Where the time goes: nothing twice, nothing lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.testing.corpora import ANY_FILE
from bluestab.training.loop import phases
from bluestab.training.loop.phases import PHASES, Phases, wait_for
from tests.training.test_execute import done

SHORT = ("task=gad", "model=tiny", "device=cpu", "optim.steps=6", "trainer.eval_every=3")


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(phases, "time", clock)
    return clock


def test_an_inner_phase_stops_the_outer_one(clock: Clock) -> None:
    watch = Phases()
    with watch("data"):
        clock.now += 1
        with watch("optimizer"):
            clock.now += 2
            with watch("forward"):
                clock.now += 4
            clock.now += 8
        with watch("forward"):
            clock.now += 16
        clock.now += 32
    expected = {**dict.fromkeys(PHASES, 0.0), "data": 33.0, "optimizer": 10.0, "forward": 20.0}
    assert watch.seconds == expected


def test_an_exception_ends_what_it_left_open(clock: Clock) -> None:
    watch = Phases()

    def diverge() -> None:
        with watch("data"):
            watch.begin("backward")
            clock.now += 3
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        diverge()
    with watch("write"):
        clock.now += 5
    assert (watch.seconds["backward"], watch.seconds["data"], watch.seconds["write"]) == (3, 0, 5)


def test_what_makes_a_device_finish() -> None:
    torch = pytest.importorskip("torch")
    found = {kind: wait_for(torch.device(kind)) for kind in ("cpu", "cuda", "mps")}
    assert found == {"cpu": None, "cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}


def test_a_device_is_waited_for_at_every_end(clock: Clock) -> None:
    """What it was asked before counts for the phase that asked."""

    def wait() -> None:
        clock.now += 7

    watch = Phases(wait)
    with watch("forward"):
        clock.now += 1
    assert watch.seconds["forward"] == 8


def test_a_run_says_where_its_time_went(
    make_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # others may have the cores
    record = done(make_run(*SHORT, "technique=freeze", "technique.freeze.depth=1"), tmp_path)
    found, seconds = record.measured["phases"], record.measured["seconds"]
    assert set(found) == set(PHASES)
    assert sum(found.values()) - found["write"] == pytest.approx(seconds["total"], abs=0.02)
    assert min(found.values()) >= 0
    for name in ("load", "prefix", "data", "forward", "backward", "optimizer"):
        assert found[name] > 0, name
    assert found["tokenise"] + found["prefix"] + found["load"] == pytest.approx(
        seconds["prepare"], abs=0.01
    )
    assert record.measured["profiled"] is False


def test_profile_prints_it(cli: Callable[..., Any]) -> None:
    said = cli("run", *ANY_FILE, *SHORT, "profile=true")
    assert said.code == 0, said.err
    assert {line.split()[0] for line in said.out.splitlines() if line.endswith("%")} >= set(PHASES)
    assert "forward" not in cli("run", *ANY_FILE, *SHORT, "seed=1").out
