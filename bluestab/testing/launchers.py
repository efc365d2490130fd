"""What every launcher promises, tried on any of them.

Only the training is a stand-in (`simulated_runs`); processes, signals, claims and records are real.
What is proved: everything is done once; a crash takes nothing with it, and `on_crash` is kept to;
a run of another process is left to it; a full disk pauses the sweep; Ctrl-C finishes what runs, and
pressed twice stops at once; nothing is left lying about.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bluestab.core.config import compose
from bluestab.core.errors import Interrupted, RunsCrashed
from bluestab.core.instantiate import instantiate
from bluestab.store.store import Store
from bluestab.sweeps import queue, stopping
from bluestab.sweeps.launchers.base import Backend
from bluestab.sweeps.lifecycle import begin
from bluestab.sweeps.plan import Sweep, plan_sweep
from bluestab.testing import simulated_runs
from bluestab.testing.corpora import ANY_FILE
from bluestab.testing.plugins import Suite, node, yaml_of
from bluestab.testing.simulated_runs import acts, attempts

MakeSweep = Callable[..., Sweep]
Launch = Callable[[Sweep], Any]


class LauncherSuite(Suite):
    """launcher  name of its yaml

    A launcher whose runs are done in other processes overrides `see_through`: those must do
    `simulated_runs.execute` in place of training.
    """

    launcher: ClassVar[str]

    def see_through(self, sweep: Sweep) -> None:
        """From the manifest to the closing table, with stand-ins for training in this process."""
        found = node(yaml_of("hydra/launcher", self.launcher))
        knobs = {k: v for k, v in found.items() if k not in ("_target_", "backend")}
        described = {"_target_": found["backend"], **knobs}
        backend = instantiate(described, Backend, "hydra.launcher")  # type: ignore[type-abstract]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bluestab.training.execute.execute_one", simulated_runs.execute)
            backend.launch(sweep)

    @pytest.fixture
    def launch(self) -> Launch:
        """What sees a sweep through."""
        return self.see_through

    @pytest.fixture
    def make_sweep(
        self, small_corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> MakeSweep:
        """Overrides and a number of seeds -> a sweep of tiny runs, in a folder of its own."""
        monkeypatch.chdir(tmp_path)
        store = f"store={tmp_path / 'runs'}"

        def make(*overrides: str, seeds: int = 4) -> Sweep:
            common = [*ANY_FILE, "task=gad", "model=tiny", "device=cpu", store]
            return plan_sweep(
                lambda given: compose([*common, *overrides, *given]),
                [[f"seed={seed}"] for seed in range(seeds)],
                "s",
            )

        return make

    def test_everything_is_done_once(self, launch: Launch, make_sweep: MakeSweep) -> None:
        sweep = make_sweep(seeds=4)
        assert not launch(sweep), "nobody stopped it"
        assert statuses(sweep) == dict.fromkeys(range(4), "done")
        assert attempts(sweep.store) == {str(seed): 1 for seed in range(4)}
        launch(make_sweep(seeds=5))  # the same command, one seed more
        assert attempts(sweep.store) == {str(seed): 1 for seed in range(5)}
        assert_tidy(sweep)

    def test_a_crash_takes_nothing_with_it(
        self, launch: Launch, make_sweep: MakeSweep, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sweep = make_sweep()
        acts(sweep.store, s1=["crash", "done"])
        with pytest.raises(
            RunsCrashed, match=r"(?s)1 of 4 runs crashed:.*as told.*again: bluestab"
        ):
            launch(sweep)
        assert statuses(sweep) == {0: "done", 1: "crashed", 2: "done", 3: "done"}
        assert "crashed, ValueError: as told" in capsys.readouterr().out
        launch(sweep)
        assert statuses(sweep) == dict.fromkeys(range(4), "done")
        assert attempts(sweep.store) == {"0": 1, "1": 2, "2": 1, "3": 1}
        assert_tidy(sweep)

    def test_on_crash_stop_starts_nothing_more(self, launch: Launch, make_sweep: MakeSweep) -> None:
        sweep = make_sweep("on_crash=stop", seeds=6)
        between = {f"s{i}": ["sleep 0.5"] for i in range(1, 5)}
        acts(sweep.store, s0=["crash"], **between, s5=["crash"])  # whichever it begins with
        with pytest.raises(RunsCrashed, match=r"1 of 6 .*\n(.*\n)*[45] more were not started"):
            launch(sweep)
        assert list(statuses(sweep).values()).count("missing") >= 4
        assert_tidy(sweep)

    def test_on_crash_retry(self, launch: Launch, make_sweep: MakeSweep) -> None:
        sweep = make_sweep("on_crash=retry:2")
        acts(sweep.store, s0=["crash", "crash", "done"], s2=["crash"])
        with pytest.raises(RunsCrashed, match="1 of 4 runs"):
            launch(sweep)
        assert statuses(sweep) == {0: "done", 1: "done", 2: "crashed", 3: "done"}
        assert attempts(sweep.store) == {"0": 3, "1": 1, "2": 3, "3": 1}

    def test_a_run_of_another_process_is_left_to_it(
        self, launch: Launch, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is waited for, and taken over when that process dies without a result."""
        monkeypatch.setattr(queue, "LOOK_AGAIN", 0.05)
        sweep = make_sweep()
        begin(sweep)
        key = sweep.runs[0].run.key
        code = (
            "import sys, time; from pathlib import Path; from bluestab.store.claims import Claims\n"
            f"with Claims(Path({str(sweep.store.root)!r})).take({key!r}):\n"
            " print('held', flush=True); time.sleep(60)"
        )
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        seen = []

        def watch() -> None:
            until = time.monotonic() + 30
            while list(statuses(sweep).values()).count("done") < 3 and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(0.3)
            seen.append(statuses(sweep))
            other.kill()
            other.wait()

        watcher = threading.Thread(target=watch)
        watcher.start()
        launch(sweep)
        watcher.join()
        other.stdout.close()
        assert seen == [{0: "missing", 1: "done", 2: "done", 3: "done"}]
        assert statuses(sweep) == dict.fromkeys(range(4), "done")
        assert attempts(sweep.store) == {str(seed): 1 for seed in range(4)}
        assert_tidy(sweep)

    def test_a_full_disk_pauses_the_sweep(
        self,
        launch: Launch,
        make_sweep: MakeSweep,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Nothing crashes; with room again everything is done."""
        monkeypatch.setattr(stopping, "LOOK_AGAIN", 0.05)
        sweep = make_sweep()
        acts(sweep.store, s1=["fill", "done"])
        looks = []

        def free(store: Any) -> int:
            looks.append(time.monotonic())
            return 10**9 if len(looks) > 3 else 0

        monkeypatch.setattr(Store, "free_bytes", free)
        launch(sweep)
        assert len(looks) > 3
        assert statuses(sweep) == dict.fromkeys(range(4), "done")
        assert attempts(sweep.store)["1"] == 2
        said = capsys.readouterr().out
        assert re.search(r"paused: the disk of .* is full; make room", said)
        assert "there is room again" in said
        assert_tidy(sweep)

    def test_ctrl_c_once_finishes_what_runs(
        self, launch: Launch, make_sweep: MakeSweep, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sweep = make_sweep(seeds=5)
        acts(sweep.store, **{f"s{i}": ["sleep 1"] for i in range(5)})
        pressing = interrupt_when(lambda: bool(sweep.store.running()))
        with pytest.raises(Interrupted, match=r"stopped: [12] of 5 runs are finished"):
            launch(sweep)
        pressing.join()
        found = list(statuses(sweep).values())
        assert 1 <= found.count("done") <= 2
        assert found.count("missing") == 5 - found.count("done")
        assert "Ctrl-C again" in capsys.readouterr().out
        assert_tidy(sweep)
        acts(sweep.store)
        launch(sweep)
        assert statuses(sweep) == dict.fromkeys(range(5), "done")
        assert max(attempts(sweep.store).values()) == 1

    def test_ctrl_c_twice_stops_at_once(self, launch: Launch, make_sweep: MakeSweep) -> None:
        sweep = make_sweep(seeds=4)
        acts(sweep.store, **{f"s{i}": ["sleep 30"] for i in range(4)})
        pressing = interrupt_when(lambda: bool(sweep.store.running()), times=2)
        start = time.monotonic()
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            launch(sweep)
        assert time.monotonic() - start < 20
        pressing.join()
        assert set(statuses(sweep).values()) == {"missing"}
        assert sweep.store.running() == {}
        acts(sweep.store)
        launch(sweep)
        assert statuses(sweep) == dict.fromkeys(range(4), "done")
        assert_tidy(sweep)


def statuses(sweep: Sweep) -> dict[int, str]:
    """Seed -> done, crashed or missing."""
    found: dict[int, str] = {}
    for planned in sweep.runs:
        key, seed = planned.run.key, planned.run.cfg["seed"]
        crash = sweep.store.crash(key)
        done = sweep.store.read(key).status if sweep.store.has(key) else None
        found[seed] = done or (crash.status if crash else "missing")
    return found


def assert_tidy(sweep: Sweep) -> None:
    """No claim, no half work, no worker is left."""
    assert sweep.store.running() == {}
    assert [p.name for p in (sweep.store.root / ".work").iterdir()] == []
    assert [p.name for p in (sweep.store.root / ".claims").iterdir()] in ([], [".lock"])


def interrupt_when(condition: Callable[[], bool], times: int = 1) -> threading.Thread:
    """Ctrl-C for this process as soon as the condition holds."""

    def press() -> None:
        until = time.monotonic() + 30
        while not condition() and time.monotonic() < until:
            time.sleep(0.01)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    thread = threading.Thread(target=press)
    thread.start()
    return thread
