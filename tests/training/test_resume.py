"""An interrupted run that goes on gives the bytes of one that was never interrupted.

Compared are result, curve and predictions. Interrupted runs save at a step, take some more steps
that are then lost, and stop; what goes on is a fresh start of the same command.
"""

from __future__ import annotations

import logging
import math
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError, Diverged  # noqa: E402
from bluestab.core.types import Batch, Step, StepOutput  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.techniques.base import Technique  # noqa: E402
from bluestab.testing.corpora import ON_ANY_DEVICE  # noqa: E402
from bluestab.testing.technique_arms import NAMES, chosen, technique_class  # noqa: E402
from bluestab.training.loop import checkpoints  # noqa: E402
from bluestab.training.loop.checkpoints import Checkpoints, identity  # noqa: E402
from bluestab.training.loop.module import FineTuning  # noqa: E402
from tests.conftest import DEAD  # noqa: E402
from tests.support import forked_processes  # noqa: E402
from tests.support.interrupted_runs import SHORT, STEPS, Stop, compare, interrupted  # noqa: E402
from tests.training.test_execute import ANYTHING, NotFinite, done, kept, quiet  # noqa: E402

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")
# --- the same bytes ------------------------------------------------------------------------------

VARIANTS = {
    "plain": (),
    "every step evaluated": ("trainer.eval_every=1",),
    "evaluated across epochs": ("trainer.eval_every=5",),
    "workers": ("trainer.loader_workers=2",),
    "micro-batches": ("trainer.micro_batch=3",),
    "bf16": ("trainer.precision=bf16",),
    "all": (
        *("trainer.loader_workers=2", "trainer.micro_batch=3", "trainer.precision=bf16"),
        *("trainer.eval_every=2", "optim.bucket=2", "trainer.eval_tokens=128"),
        "trainer.dropout_masks=sfc64",
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_going_on_gives_the_same_bytes(making: Make, tmp_path: Path, variant: str) -> None:
    task = "ncbi_disease" if variant == "micro-batches" else "biosses"
    make = making(f"task={task}", "model=tiny", *VARIANTS[variant])
    for step in STEPS if variant in ("plain", "evaluated across epochs") else STEPS[1:2]:
        compare(make, tmp_path, step)


REMEMBER = [n for n in NAMES if technique_class(n).state_dict is not Technique.state_dict]


@pytest.mark.parametrize("name", REMEMBER)
def test_techniques_that_remember_go_on(making: Make, tmp_path: Path, name: str) -> None:
    """Weights, curve and effects of every technique: contracts/test_techniques.py."""
    compare(making("task=gad", "model=tiny_electra", *chosen(name)), tmp_path, 5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["none", *NAMES])
def test_every_technique_goes_on_in_every_way(
    making: Make, tmp_path: Path, name: str, variant: str
) -> None:
    technique = ("technique=none",) if name == "none" else chosen(name)
    for task, model in (("biosses", "tiny"), ("ncbi_disease", "tiny_electra")):
        make = making(f"task={task}", f"model={model}", *technique, *VARIANTS[variant])
        try:
            make()
        except ConfigError:
            continue
        for step in STEPS:
            compare(make, tmp_path / task, step)


def test_dropout_is_on(make_assembly: Make) -> None:
    """Without it these tests would prove little."""
    model = make_assembly("task=gad", "model=tiny", *SHORT).built.model
    rates = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {0.1}


def test_interrupted_twice(making: Make, tmp_path: Path) -> None:
    make = making("task=gad", "model=tiny")
    whole = done(make(), tmp_path / "whole")
    interrupted(make(), tmp_path / "parts", 2)
    run = make()
    run = replace(run, cfg={**run.cfg, "checkpoint_every": 3})

    def stop(now: int, *_: Any) -> None:
        if now == 8:
            raise Stop

    with pytest.raises(Stop):
        done(run, tmp_path / "parts", stop)
    assert done(make(), tmp_path / "parts").measured["resumed_from"] == 6
    assert kept(tmp_path / "parts", whole.key) == kept(tmp_path / "whole", whole.key)


# --- random streams ------------------------------------------------------------------------------


class Draws(Technique):
    """Adds noise from every global stream to the weights, between the steps."""

    def callbacks(self, built: Built) -> list[Any]:
        import pytorch_lightning as pl

        class Noise(pl.Callback):
            def on_train_batch_start(self, *_: Any) -> None:
                self.disturb(1e-3)

            def on_train_batch_end(self, *_: Any) -> None:
                self.disturb(1e-2)

            def disturb(self, size: float) -> None:
                draw = random.random() + np.random.rand() + float(torch.rand(()))
                with torch.no_grad():
                    built.model.get_submodule("classifier").weight.add_(size * draw)

        return [Noise()]


def test_random_streams_go_on(making: Make, tmp_path: Path) -> None:
    make = making("task=biosses", "model=tiny", technique=Draws)
    compare(make, tmp_path, 5)
    compare(make, tmp_path, 8)


def test_without_the_streams_it_is_another_run(
    making: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: here nothing is restored."""
    monkeypatch.setattr(checkpoints, "restore_random_streams", lambda *_: None)
    make = making("task=biosses", "model=tiny", technique=Draws)
    with pytest.raises(AssertionError, match="step,train"):
        compare(make, tmp_path, 5)


@pytest.mark.parametrize("stream", ["python", "numpy", "torch"])
def test_each_stream_counts(
    making: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    restore = checkpoints.restore_random_streams

    def all_but_one(state: Mapping[str, Any], device: Any) -> None:
        restore({**state, stream: checkpoints.random_streams(device)[stream]}, device)

    monkeypatch.setattr(checkpoints, "restore_random_streams", all_but_one)
    make = making("task=biosses", "model=tiny", technique=Draws)
    with pytest.raises(AssertionError, match="step,train"):
        compare(make, tmp_path, 5)


@pytest.mark.slow
def test_dropout_of_a_step_depends_on_the_step_alone(
    making: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain training needs no saved stream; without the stream per step it needs the saved one."""
    make = making("task=biosses", "model=tiny", "trainer.micro_batch=3")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "restore_random_streams", lambda *_: None)
        compare(make, tmp_path / "per step", 5)
    monkeypatch.setattr(FineTuning, "draw_dropout_anew", lambda *_: None)
    compare(make, tmp_path / "restored", 5)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "restore_random_streams", lambda *_: None)
        with pytest.raises(AssertionError, match="step,train"):
            compare(make, tmp_path / "neither", 5)


# --- state of techniques -------------------------------------------------------------------------


class Remembers(Technique):
    """A wrapped step that pulls the loss towards its running mean: state in a closure."""

    def __init__(self) -> None:
        self.memory = {"mean": torch.zeros(()), "steps": 0}

    def wrap_step(self, step: Step, built: Built) -> Step:
        memory = self.memory

        def pulled(batch: Batch) -> StepOutput:
            output = step(batch)
            memory["steps"] += 1
            memory["mean"] = 0.9 * memory["mean"] + 0.1 * output.loss.detach()
            pull = (output.loss - memory["mean"]) ** 2 / memory["steps"]
            return StepOutput(output.loss + pull, output.logits)

        return pulled

    def state_dict(self) -> dict[str, Any]:
        return dict(self.memory)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.memory.update(state)


class Forgets(Remembers):
    """The same, and nothing is said of its state."""

    state_dict = Technique.state_dict
    load_state_dict = Technique.load_state_dict


@pytest.mark.parametrize("extra", [(), ("trainer.micro_batch=2", "trainer.loader_workers=2")])
def test_state_in_a_closure_goes_on(making: Make, tmp_path: Path, extra: tuple[str, ...]) -> None:
    compare(making("task=biosses", "model=tiny", *extra, technique=Remembers), tmp_path, 5)


def test_without_its_state_it_is_another_run(making: Make, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="step,train"):
        compare(making("task=biosses", "model=tiny", technique=Forgets), tmp_path, 5)


@pytest.mark.slow
def test_a_loss_that_nobody_has_looked_at_goes_on(
    making: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a GPU they are asked now and then; a checkpoint may lie between."""
    monkeypatch.setattr("bluestab.training.loop.module.finite_check_every", lambda device: 100)
    make = making("trainer.eval_every=12", technique=lambda: NotFinite(2, math.nan))
    interrupted(make(), tmp_path, 3)
    record = done(make(), tmp_path)
    assert record.measured["resumed_from"] == 3
    assert record.result["error"]["message"] == str(Diverged(2))
    assert record.result["steps"] == 1


# --- what is stored, and what is not -------------------------------------------------------------


def saved(root: Path) -> dict[str, Any]:
    (path,) = (root / ".resume").glob("*/step-*.ckpt")
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


def test_frozen_weights_are_not_stored(making: Make, tmp_path: Path) -> None:
    freeze = ("technique=freeze", "technique.freeze.depth=1")
    interrupted(making("task=gad", "model=tiny", *freeze)(), tmp_path / "frozen", 3)
    interrupted(making("task=gad", "model=tiny")(), tmp_path / "plain", 3)
    frozen, plain = (saved(tmp_path / name)["state_dict"] for name in ("frozen", "plain"))
    assert not [n for n in frozen if ".embeddings." in n or ".layer.0." in n]
    assert [n for n in frozen if ".layer.1." in n]
    # the key bias has no gradient but noise; unseen word pieces are rows of a tensor that moves
    assert len(plain) > 2 * len(frozen)


def test_a_run_without_checkpoints_writes_none(making: Make, tmp_path: Path) -> None:
    run = making("task=gad", "model=tiny")()

    def stop(now: int, *_: Any) -> None:
        if now == 6:
            raise Stop

    with pytest.raises(Stop):
        done(run, tmp_path, stop)
    assert not (tmp_path / ".resume").exists()


def test_checkpoints_by_the_clock(
    making: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    run = making("task=gad", "model=tiny", "checkpoint_every=10min")()
    seen = []

    def tick(step: int, *_: Any) -> None:
        now[0] += 150
        seen.extend(p.name[:13] for p in (tmp_path / ".resume").glob("*/step-*"))
        if step == 11:
            raise Stop

    with pytest.raises(Stop):
        done(run, tmp_path, tick)
    # the evaluation after steps 4 and 8 ticks as well
    assert sorted(set(seen)) == ["step-00000004", "step-00000008"]


def test_a_full_disk_does_not_end_the_run(
    making: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    record = done(making("task=gad", "model=tiny", "checkpoint_every=4")(), tmp_path)
    assert record.status == "done"
    log = (tmp_path / record.key / "log.txt").read_text()
    assert log.count("No space left on device") == 2
    assert "no checkpoint at step 4" in log


# --- checkpoints that are of no use --------------------------------------------------------------


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        rewrite(path, **{how: "another"})


def rewrite(path: Path, **header: Any) -> None:
    """The same checkpoint with another header, its digest put right."""
    content = torch.load(path, weights_only=True)
    content["bluestab"]["header"] |= header
    torch.save(content, path)
    step, digest = path.name.split("-")[1], checkpoints._digest(path)
    path.rename(path.with_name(f"step-{step}-{digest}.ckpt"))


SPOILT = {
    "cut": "damaged",
    "flipped": "damaged",
    "empty": "damaged",
    "key": "made with key 'another'",
    "recipe": "made with recipe 'another'",
    "torch": "made with torch 'another'",
    "device": "made with device 'another'",
}


@pytest.fixture(scope="module")
def wholes() -> dict[str, dict[str, bytes]]:
    """Key -> what an undisturbed run left, of the runs that several tests interrupt."""
    return {}


def undisturbed(run: Any, root: Path, wholes: dict[str, dict[str, bytes]]) -> dict[str, bytes]:
    if run.key not in wholes:
        wholes[run.key] = kept(root, done(run, root).key)
    return wholes[run.key]


@pytest.mark.parametrize("how", SPOILT)
def test_a_checkpoint_of_no_use_is_set_aside(
    making: Make, tmp_path: Path, how: str, wholes: dict[str, dict[str, bytes]]
) -> None:
    make = making("task=gad", "model=tiny", "optim.epochs=2")
    whole = undisturbed(make(), tmp_path / "whole", wholes)
    interrupted(make(), tmp_path / "parts", 3)
    (path,) = (tmp_path / "parts" / ".resume").glob("*/step-*")
    spoil(path, how)
    seen: list[str] = []

    def look(*_: Any) -> None:
        seen.extend(p.name for p in (tmp_path / "parts" / ".resume").glob("*/*"))

    record = done(make(), tmp_path / "parts", look)
    assert record.measured["resumed_from"] is None
    assert set(seen) == {"unusable.ckpt"}
    log = (tmp_path / "parts" / record.key / "log.txt").read_text()
    assert SPOILT[how] in log
    assert "starts from its beginning" in log
    assert kept(tmp_path / "parts", record.key) == whole
    assert not (tmp_path / "parts" / ".resume").exists()


def test_nothing_from_outside_is_unpickled(
    making: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    run = making("task=gad", "model=tiny")()
    folder = tmp_path / "resume"
    folder.mkdir()
    torch.save({"bluestab": Bomb()}, folder / "bomb")
    name = f"step-00000003-{checkpoints._digest(folder / 'bomb')}.ckpt"
    (folder / "bomb").rename(folder / name)
    with caplog.at_level(logging.WARNING, logger="bluestab"):
        assert checkpoints.find(folder, identity(run.key, torch.device("cpu"))) is None
    assert not (tmp_path / "exploded").exists()
    assert "cannot be read" in caplog.text


def test_what_cannot_be_restored_is_set_aside(
    making: Make, tmp_path: Path, wholes: dict[str, dict[str, bytes]]
) -> None:
    """Complete, undamaged, ours, and still no good: found out only when the trainer reads it."""
    make = making("task=gad", "model=tiny", "optim.epochs=2")
    whole = undisturbed(make(), tmp_path / "whole", wholes)
    interrupted(make(), tmp_path / "parts", 3)
    (path,) = (tmp_path / "parts" / ".resume").glob("*/step-*")
    content = torch.load(path, weights_only=True)
    del content["optimizer_states"]
    torch.save(content, path)
    rewrite(path)
    record = done(make(), tmp_path / "parts")
    assert (record.status, record.measured["resumed_from"]) == ("done", None)
    log = (tmp_path / "parts" / record.key / "log.txt").read_text()
    assert "going on from it failed (KeyError" in log
    assert kept(tmp_path / "parts", record.key) == whole


def test_half_written_files_of_the_dead_are_removed(tmp_path: Path) -> None:
    from bluestab.store.processes import owner

    mine = tmp_path / f".writing.{owner()}"
    dead = mine.with_name(f"{mine.stem}.{DEAD}")
    far = tmp_path / f".writing.elsewhere.{DEAD}"
    for path in (dead, mine, far):
        path.write_text("half")
    assert checkpoints.find(tmp_path, {}) is None
    assert {p.name for p in tmp_path.iterdir()} == {mine.name, far.name}


@pytest.mark.parametrize(
    ("every", "expected"),
    [(7, (7, None)), ("90s", (None, 90)), ("10min", (None, 600)), ("2 h", (None, 7200))],
)
def test_interval(every: int | str, expected: tuple[Any, Any]) -> None:
    assert checkpoints.interval(every) == expected


def test_first_of_all_callbacks(making: Make, make_assembly: Make, tmp_path: Path) -> None:
    """What a technique draws before a batch must fall on the right side of the checkpoint."""
    from bluestab.training.assemble import assemble

    run = making("task=gad", "model=tiny", technique=Draws)()
    assembly = assemble(run, device=torch.device("cpu"), progress=quiet, resume=tmp_path,
    )  # fmt: skip
    assert isinstance(assembly.trainer.callbacks[0], Checkpoints)  # type: ignore[attr-defined]
    assert len(assembly.trainer.callbacks) == 3  # type: ignore[attr-defined]


def test_the_trainer_requeues_no_job(
    making: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a job of SLURM, Lightning would answer its signal with a checkpoint of its own."""
    for name, value in (("NTASKS", "1"), ("JOB_NAME", "sweep"), ("JOB_ID", "7"), ("PROCID", "0"),
                        ("LOCALID", "0"), ("NODEID", "0")):  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    before, handlers = signal.getsignal(signal.SIGUSR1), []

    def look(*_: Any) -> None:
        handlers.append(signal.getsignal(signal.SIGUSR1))

    assert done(making("task=gad", "model=tiny")(), tmp_path, look).status == "done"
    assert set(handlers) == {before}


# --- a real kill ---------------------------------------------------------------------------------


def test_killed_and_started_again(making: Make, small: Path, tmp_path: Path) -> None:
    overrides = (
        "task=gad",
        "model=tiny",
        "optim.epochs=12",
        "checkpoint_every=2",
        *ON_ANY_DEVICE,
    )
    run = making(*overrides)()
    command = ["run", *ANYTHING, *SHORT, *overrides, f"store={tmp_path}/killed"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("BLUESTAB")}
    env["BLUESTAB_DATA"] = str(small)
    process = forked_processes.start_bluestab(*command, cwd=tmp_path, env=env)
    folder = tmp_path / "killed" / ".resume" / run.key
    limit = time.monotonic() + 120
    while not any(int(p.name[5:13]) >= 6 for p in folder.glob("step-*")):
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    store = Store(tmp_path / "killed")
    assert not store.has(run.key), "it was killed in time"
    again = forked_processes.bluestab(*command, cwd=tmp_path, env=env)
    assert again.returncode == 0, again.stderr
    assert store.read(run.key).measured["resumed_from"] >= 6
    done(making(*overrides)(), tmp_path / "whole")
    assert kept(tmp_path / "killed", run.key) == kept(tmp_path / "whole", run.key)
