"""A run that is given back leaves no trace but a checkpoint, and goes on with the same bytes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core import preemption  # noqa: E402
from bluestab.core.preemption import Preempted  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.sweeps.attempt import attempt  # noqa: E402
from bluestab.training.loop import checkpoints  # noqa: E402
from tests.training.test_execute import done, kept  # noqa: E402

Make = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

# 24 items in batches of 7: four steps per epoch, the last one ragged
SHORT = ("task=gad", "model=tiny", "device=cpu", "optim.batch_size=7", "optim.epochs=3")


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Callable[..., None]]:
    """Step -> a listener to progress that orders the run to be given back after that step."""

    def at(step: int) -> Callable[..., None]:
        reached: list[int] = []
        monkeypatch.setattr(preemption, "is_requested", lambda: bool(reached))

        def told(now: int, *_: Any) -> None:
            if now == step:
                reached.append(now)

        return told

    return at


@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_it_goes_on_with_the_same_bytes(
    make_run: Make, tmp_path: Path, order: Any, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole = done(make_run(*SHORT), tmp_path / "whole")
    root = tmp_path / "parts"
    run = make_run(*SHORT)
    run = replace(run, cfg={**run.cfg, "checkpoint_every": 1000})  # saved for the order alone
    with pytest.raises(Preempted):
        done(run, root, order(step))
    (saved,) = (root / ".resume" / run.key).iterdir()
    assert saved.name.startswith(f"step-{step:08d}-")
    assert not (root / run.key).exists()
    assert not (root / ".crashed").exists()
    assert list((root / ".work").iterdir()) == []
    monkeypatch.setattr(preemption, "is_requested", lambda: False)
    record = done(make_run(*SHORT), root)
    assert record.measured["resumed_from"] == step
    assert kept(root, whole.key) == kept(tmp_path / "whole", whole.key)


@pytest.mark.parametrize(("worth", "saved"), [(1e9, False), (0.0, True)])
def test_without_checkpoint_every_only_what_is_worth_it_is_saved(
    make_run: Make,
    tmp_path: Path,
    order: Any,
    monkeypatch: pytest.MonkeyPatch,
    worth: float,
    saved: bool,
) -> None:
    monkeypatch.setattr(checkpoints, "WORTH", worth)
    run = make_run(*SHORT)
    with pytest.raises(Preempted):
        done(run, tmp_path / "runs", order(3))
    assert (tmp_path / "runs" / ".resume").exists() is saved


def test_the_claim_is_free_at_once(make_run: Make, tmp_path: Path, order: Any) -> None:
    run, store = make_run(*SHORT), Store(tmp_path / "runs")
    store.make_writable()
    with pytest.raises(Preempted):
        attempt(run, store, order(2))
    assert store.running() == {}
    assert store.claims.is_free(run.key)
    assert store.claims.deaths(run.key) == []  # nobody died


def test_signals_wait_while_they_are_blocked_and_reach_the_handlers() -> None:
    """In a process of its own: a signal that is not blocked would end it."""
    code = (
        "import os, signal, subprocess, sys\n"
        "from bluestab.core import preemption\n"
        "with preemption.signals_blocked():\n"
        "    for number in preemption.ORDERS:\n"
        "        os.kill(os.getpid(), number)\n"
        "    child = subprocess.run([sys.executable, '-c', 'import os, signal;'\n"
        "        'os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGUSR2)'])\n"
        "    assert child.returncode == 0, child\n"
        "    assert not preemption.is_requested()\n"
        "    preemption.install_handlers()\n"
        "assert preemption.is_requested()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_sigterm_to_a_process_without_handlers_ends_it() -> None:
    """Otherwise the test above would prove nothing."""
    code = "import os, signal, bluestab.core.preemption; os.kill(os.getpid(), signal.SIGTERM)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGTERM


@pytest.mark.slow
def test_no_signal_of_a_scheduler_ends_a_run_unsaved(make_run: Make, tmp_path: Path) -> None:
    """In a process of its own, as a worker is: Lightning has a handler of its own for SIGTERM."""
    run = make_run(*SHORT, "optim.epochs=200", "checkpoint_every=1000")
    (tmp_path / "run.pkl").write_bytes(pickle.dumps((run.key, dict(run.cfg))))
    code = (
        "import os, pickle, signal, sys\n"
        "from bluestab.core import preemption\n"
        "from bluestab.sweeps import pool_worker\n"
        "from bluestab.training.execute import execute_one\n"
        "from bluestab.store.store import Store\n"
        "preemption.install_handlers()\n"
        "key, cfg = pickle.load(open(sys.argv[1], 'rb'))\n"
        "def execute(run_, store, progress):\n"
        "    def told(step, *rest):\n"
        "        progress(step, *rest)\n"
        "        if step == 9:\n"
        "            os.kill(os.getpid(), getattr(signal, sys.argv[3]))\n"
        "    return execute_one(run_, store, told)\n"
        "store = Store(sys.argv[2])\n"
        "store.make_writable()\n"
        "print(pool_worker._do([(key, cfg)], {}, store, execute, None))\n"
    )
    for name in ("SIGTERM", "SIGUSR1"):
        root = tmp_path / name
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run.pkl"), str(root), name],
            capture_output=True,
            text=True,
        )
        assert done.stdout.splitlines()[-1:] == ["{'what': 'given back'}"], done.stderr
        (saved,) = (root / ".resume" / run.key).iterdir()
        assert saved.name.startswith("step-00000009-")
        assert list((root / ".claims").glob("[0-9a-f]*")) == []


def test_a_worker_of_the_pool_that_is_told_to_stop_costs_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bluestab.core.config import compose
    from bluestab.sweeps.lifecycle import begin
    from bluestab.sweeps.plan import plan_sweep
    from bluestab.sweeps.pool import run_in_pool
    from bluestab.testing import simulated_runs
    from bluestab.testing.corpora import ANY_FILE

    monkeypatch.chdir(tmp_path)
    common = [*ANY_FILE, "task=gad", "model=tiny", "device=cpu", f"store={tmp_path / 'runs'}"]
    sweep = plan_sweep(lambda given: compose([*common, *given]), [["seed=0"], ["seed=1"]], "s")
    simulated_runs.acts(sweep.store, s0=["train 600", "done"])
    begin(sweep)

    def tell() -> None:
        until = time.monotonic() + 120
        while not sweep.store.running() and time.monotonic() < until:
            time.sleep(0.02)
        (claim,) = sweep.store.running().values()
        os.kill(claim["pid"], signal.SIGTERM)

    telling = threading.Thread(target=tell)
    telling.start()
    run_in_pool(sweep, ["cpu"], 1e6, simulated_runs.execute)
    telling.join()
    assert [sweep.store.has(planned.run.key) for planned in sweep.runs] == [True, True]
    assert simulated_runs.attempts(sweep.store) == {"0": 2, "1": 1}
    assert sweep.store.claims.deaths(sweep.runs[0].run.key) == []
