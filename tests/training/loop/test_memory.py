"""Out of memory: the run starts anew with smaller parts, says so, and is what it then asked for."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.types import Batch, Step, StepOutput  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.techniques.base import Technique  # noqa: E402
from bluestab.testing.corpora import ON_ANY_DEVICE  # noqa: E402
from bluestab.training.loop.memory import Sizes, is_out_of_memory  # noqa: E402
from tests.training.test_execute import done, kept  # noqa: E402

Make = Callable[..., Any]

EIGHT = ("task=gad", "model=tiny", "device=cpu", "optim.batch_size=8", "optim.steps=5",
         "trainer.eval_every=2")  # fmt: skip

ERRORS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 99 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": lambda: MemoryError(),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_recognised(kind: str) -> None:
    assert is_out_of_memory(ERRORS[kind]())


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2"), ValueError("not enough memory"), OSError(28, "full")]
)
def test_not_mistaken(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_the_allocator_s_own_words() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_sizes() -> None:
    sizes: Sizes | None = Sizes(batch=13, micro_batch=None, evaluation=3)
    seen = []
    while sizes is not None:
        seen.append((sizes.micro_batch, sizes.evaluation))
        sizes = sizes.halved(evaluating=False)
    assert seen == [(None, 3), (6, 3), (3, 3), (1, 3)]
    sizes = Sizes(batch=13, micro_batch=None, evaluation=3).halved(evaluating=True)
    assert sizes == Sizes(batch=13, micro_batch=None, evaluation=1)
    assert sizes.halved(evaluating=True) is None
    for micro, used in ((None, None), (4, 4), (8, None), (9, None)):
        trainer = {"micro_batch": micro, "eval_batch_size": 2, "devices": 1}
        cfg = {"optim": {"batch_size": 8}, "trainer": trainer}
        assert Sizes.of(cfg).micro_batch == used


class Hungry(Technique):
    """Trains on at most `most` items at once, from step `after`; evaluates at most `judged`."""

    def __init__(self, kind: str, most: int = 99, judged: int = 99, after: int = 0) -> None:
        self.kind, self.most, self.judged, self.after = kind, most, judged, after
        self.calls = 0

    def wrap_step(self, step: Step, built: Built) -> Step:
        def limited(batch: Batch) -> StepOutput:
            self.calls += 1
            if self.calls > self.after and len(batch["items"]) > self.most:
                raise ERRORS[self.kind]()
            return step(batch)

        return limited

    def edit_model(self, built: Built, seeds: Any) -> Built:
        def look(module: Any, inputs: Any, kwargs: Any) -> None:
            if not module.training and len(kwargs["input_ids"]) > self.judged:
                raise ERRORS[self.kind]()

        built.model.register_forward_pre_hook(look, with_kwargs=True)
        return built


def hungry(make_run: Make, *overrides: str, **limits: Any) -> Any:
    return replace(make_run(*EIGHT, *overrides), techniques={"t": Hungry(**limits)})


@pytest.mark.parametrize("kind", ERRORS)
def test_halved_until_it_fits(make_run: Make, tmp_path: Path, kind: str) -> None:
    record = done(hungry(make_run, kind=kind, most=3), tmp_path / "runs")
    assert record.status == "done"
    assert record.result["micro_batch"] == 2
    log = (tmp_path / "runs" / record.key / "log.txt").read_text()
    assert log.count("out of memory") >= 2
    assert "starts anew with 4 items at once, 64 in evaluation" in log
    assert "starts anew with 2 items at once" in log
    # the run that asked for this from the start is another one, with the same training
    asked = done(make_run(*EIGHT, "trainer.micro_batch=2"), tmp_path / "asked")
    assert asked.key != record.key
    one, other = kept(tmp_path / "runs", record.key), kept(tmp_path / "asked", asked.key)
    assert one["curve.csv"] == other["curve.csv"]
    assert one["predictions.parquet"] == other["predictions.parquet"]


def test_nothing_of_the_failed_attempt_is_left(make_run: Make, tmp_path: Path) -> None:
    """Memory that runs out in the middle, after an evaluation, with a checkpoint already made."""
    limits = {"kind": "cpu", "most": 5, "after": 4}
    run = hungry(make_run, "checkpoint_every=1", **limits)
    record = done(run, tmp_path / "runs")
    assert (record.status, record.result["micro_batch"]) == ("done", 4)
    assert record.measured["resumed_from"] is None
    # the counter of the technique began anew too: 5 steps of two micro-batches
    asked = done(make_run(*EIGHT, "trainer.micro_batch=4"), tmp_path / "asked")
    assert (
        kept(tmp_path / "runs", record.key)["curve.csv"]
        == kept(tmp_path / "asked", asked.key)["curve.csv"]
    )
    assert not (tmp_path / "runs" / ".resume").exists()


def test_evaluation_is_halved_alone(make_run: Make, tmp_path: Path) -> None:
    record = done(hungry(make_run, kind="cuda", judged=20), tmp_path / "runs")
    assert (record.status, record.result["micro_batch"]) == ("done", None)
    small = hungry(make_run, "task.test_size=3", "task.validation_size=3", kind="cuda", judged=2)
    record = done(small, tmp_path / "runs")
    assert record.status == "done"
    assert record.measured["eval_batch_size"] == 2
    assert record.result["micro_batch"] is None


def test_one_item_that_does_not_fit_is_a_crash(make_run: Make, tmp_path: Path) -> None:
    for limits in ({"most": 0}, {"judged": 0}):
        record = done(hungry(make_run, kind="cuda", **limits), tmp_path / "runs")
        assert record.status == "crashed"
        assert record.result["error"]["type"] == "OutOfMemoryError"


def test_asked_to_crash(make_run: Make, tmp_path: Path) -> None:
    record = done(hungry(make_run, "on_oom=crash", kind="cuda", most=4), tmp_path / "runs")
    assert (record.status, record.result["error"]["type"]) == ("crashed", "OutOfMemoryError")
    assert record.result["micro_batch"] is None


def test_other_errors_are_not_tried_again(make_run: Make, tmp_path: Path) -> None:
    class Broken(Technique):
        calls = 0

        def wrap_step(self, step: Step, built: Built) -> Step:
            Broken.calls += 1
            raise RuntimeError("no step today")

    record = done(replace(make_run(*EIGHT), techniques={"t": Broken()}), tmp_path / "runs")
    assert (record.status, Broken.calls) == ("crashed", 1)


def test_going_on_with_the_size_that_fitted(make_run: Make, tmp_path: Path) -> None:
    """Interrupted after it was halved: the checkpoint knows, nothing is tried in vain again."""

    class Stop(BaseException):
        pass

    def stop(step: int, *_: Any) -> None:
        if step == 4:
            raise Stop

    run = hungry(make_run, "checkpoint_every=3", kind="cuda", most=4)
    with pytest.raises(Stop):
        done(run, tmp_path / "parts", stop)
    record = done(hungry(make_run, kind="cuda", most=4), tmp_path / "parts")
    assert (record.measured["resumed_from"], record.result["micro_batch"]) == (3, 4)
    assert "out of memory" not in (tmp_path / "parts" / record.key / "log.txt").read_text()
    whole = done(hungry(make_run, kind="cuda", most=4), tmp_path / "whole")
    assert kept(tmp_path / "parts", record.key) == kept(tmp_path / "whole", whole.key)


# --- for real ------------------------------------------------------------------------------------

LIMITED = """
import json, resource, sys
from pathlib import Path
from bluestab.training.check import check
from bluestab.training.execute import execute_one
from bluestab.core.config import compose, resolved
from bluestab.store.store import Store
import torch, datasets, transformers.models.bert.modeling_bert, pytorch_lightning

def run(root, *overrides):
    asked = check(resolved(compose([*json.loads(sys.argv[2]), *overrides])))
    store = Store(root)
    store.make_writable()
    return execute_one(asked, store, lambda *_: None)

run(sys.argv[1] + "/warm", "task.train_size=2", "optim.steps=1")
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[3]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
record = run(sys.argv[1] + "/runs")
print(json.dumps([record.status, record.result["micro_batch"], record.key]))
"""


@pytest.mark.slow
def test_a_process_that_may_not_grow(small: Path, tmp_path: Path) -> None:
    """A real allocator that says no: 64 long items at once need some GB, one needs few MB."""
    long = tmp_path / "corpora" / "gad"
    long.mkdir(parents=True)
    for name, n in (("train", 64), ("dev", 4), ("test", 4)):
        rows = [f"{i}\t{'ab ' * 200}{i}\t{i % 2}" for i in range(n)]
        (long / f"{name}.tsv").write_text("index\tsentence\tlabel\n" + "\n".join(rows) + "\n")
    overrides = [
        *("task=gad", "model=tiny", "device=cpu", "optim.batch_size=64", "optim.steps=2"),
        *("trainer.eval_batch_size=1", "task.max_length=512", "task.sha256.train=null"),
        *("task.sha256.validation=null", "task.sha256.test=null"),
        *ON_ANY_DEVICE,
    ]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), json.dumps(overrides), "600"],
        capture_output=True,
        text=True,
        # address space that threads reserve and never use would count as well
        env={**os.environ, "BLUESTAB_DATA": str(long.parent), "MALLOC_ARENA_MAX": "2"},
    )
    assert done.returncode == 0, done.stderr
    status, micro_batch, key = json.loads(done.stdout.splitlines()[-1])
    assert status == "done", done.stderr
    assert micro_batch in (1, 2, 4, 8, 16, 32)
    log = (tmp_path / "runs" / key / "log.txt").read_text()
    assert "allocate memory" in log
    assert f"starts anew with {micro_batch} items at once" in log
    assert Store(tmp_path / "runs").has(key)


# --- what is freed ---------------------------------------------------------------------------

FAULTS = """
import resource, sys, torch
from bluestab.training.loop.memory import keep_freed
keep_freed()
for _ in range(10):
    torch.ones(8, 2**20).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(8, 2**20).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told so")
def test_freed_memory_serves_the_next_step() -> None:
    """32 MB twenty times: pages are cleared once; with another word in the environment, always."""

    def faults(**env: str) -> int:
        said = subprocess.run(
            [sys.executable, "-c", FAULTS],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(said.stdout)

    anew = faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert faults() < anew / 10
