"""What this machine's GPU does with bluestab, in one command of eight minutes at most: `make gpu`.

    python benchmarks/gpu.py                      # BERT-base and BERT-large shapes, bf16
    python benchmarks/gpu.py --device cpu         # the same parts with small shapes

Installs and downloads nothing: weights are random and texts are made up (`packed.py`). Each part is
a line of JSON as soon as it is known; one that fails says why, one for which no time is left is
named at the end.

    peak       a large product of matrices, FLOP/s: what 100 % would be
    repeat     are the results and logits of a run, done twice, the same bytes?
    resume     and those of a run that was interrupted and went on?
    losses     largest relative difference between losses of `packed` and of single runs, dropout 0
    halving    with too little memory for a batch: did the run halve it, and to how many items?
               (a GPU alone: a limit is set on this process's share of it)
    memory     GiB of weights, gradients, optimizer, and the rest at the peak of a step
    single     one run: seconds per step, run-steps per second, share of the peak
    group      4, 8 and 20 runs in one step: the same, and GiB per run
    trainer    transformers' Trainer on the same batches: seconds per step
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packed import Bench, told

from bluestab.core import devices
from bluestab.store.store import Store
from bluestab.training.attempt import train_and_score
from bluestab.training.execute import execute_one
from bluestab.training.job import Job
from bluestab.training.loop.phases import Phases
from bluestab.training.packed.training import Group

SECONDS = 450.0  # of the eight minutes, after which no part is begun
NO_DROPOUT = (
    "+model.config.hidden_dropout_prob=0.0",
    "+model.config.attention_probs_dropout_prob=0.0",
)
WHOLE = "trainer.micro_batch=null"


class Interruption(BaseException):
    """Stands for whatever ends a process."""


class GpuBench(Bench):
    """One shape of network; the parts that say whether it is right come before those of speed."""

    def outcome(self, name: str, every: int | None = None, stop: int | None = None) -> Any:
        """Result and predictions of a run of six steps in a folder of its own."""
        (run,) = self.runs(1, "optim.steps=6", "trainer.eval_every=3")
        run = replace(run, cfg={**run.cfg, "checkpoint_every": every})

        def progress(step: int, *_: Any) -> None:
            if step == stop:
                raise Interruption

        work = self.folder / f"{name}-{time.monotonic_ns()}"
        work.mkdir()
        result, _ = train_and_score(
            Job(run, work, self.folder / f"{name}-resume", str(self.device), progress)
        )
        return json.dumps(result, sort_keys=True), (work / "predictions.parquet").read_bytes()

    def repeat(self) -> dict[str, Any]:
        self.whole = self.outcome("whole")
        return {"part": "repeat", "same_bytes": self.whole == self.outcome("whole")}

    def resume(self) -> dict[str, Any]:
        with suppress(Interruption):
            self.outcome("parts", every=2, stop=4)
        saved = [path.name for path in (self.folder / "parts-resume").glob("*")]
        return {"part": "resume", "from": saved, "same_bytes": self.whole == self.outcome("parts")}

    def losses(self) -> dict[str, Any]:
        few = (*NO_DROPOUT, "optim.steps=5", "trainer.eval_every=1")
        group = Group(
            self.runs(3, "trainer.engine=packed", *few), [(told, told)] * 3, self.device, Phases()
        )
        group.fit()
        differences: list[float] = []
        for sibling, run in zip(group.siblings, self.runs(3, WHOLE, *few), strict=True):
            assembly = self._assembly(run)
            self._fitted(assembly)
            for one, other in zip(sibling.history.rows, assembly.history.rows, strict=True):
                a, b = one["train_loss"], other["train_loss"]
                differences.append(abs(a - b) / abs(b))
        return {
            "part": "losses", "compared": len(differences),
            "largest_relative_difference": float(np.max(differences)),  # NaN if one is
        }  # fmt: skip

    def halving(self) -> dict[str, Any]:
        if self.device.type != "cuda":
            return {"part": "halving", "left_out": "a GPU's memory alone can be limited"}
        (run,) = self.runs(1, WHOLE, "optim.steps=2", "optim.batch_size=64", "trainer.eval_every=2")
        self.clear()
        _, total = torch.cuda.mem_get_info(self.device)
        limit = (20 * self._parameters() + 0.4 * self._activations()) / total
        store = Store(self.folder / "halving")
        store.make_writable()
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit), self.device)
        try:
            record = execute_one(run, store, told)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)
        return {
            "part": "halving", "limit_gib": limit * total / 2**30, "status": record.status,
            "micro_batch": record.result.get("micro_batch"), "asked": 64,
        }  # fmt: skip

    def _parameters(self) -> int:
        return self.matrices + 31_000 * self.width

    def _activations(self) -> float:
        """Bytes that 64 items of 80 pieces leave for the way back (Korthikanti et al. 2022)."""
        return 64.0 * 80 * self.layers * 34 * self.width

    def memory(self) -> dict[str, Any]:
        """Each part as it lies in the tensors; the rest is what the device held at its peak."""
        self.clear()
        (run,) = self.runs(1, WHOLE, "optim.steps=2", "trainer.eval_every=2")
        assembly = self._assembly(run)
        self._fitted(assembly)
        parameters = list(assembly.built.model.parameters())
        optimizer: Any = assembly.module.optimizers(use_pl_optimizer=False)
        state = [t for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)]
        gradients = [p for p in parameters if p.requires_grad]  # of the same shape and type
        parts = {"weights": parameters, "gradients": gradients, "optimizer": state}
        found = {n: sum(t.numel() * t.element_size() for t in ts) for n, ts in parts.items()}
        if self.device.type == "cuda":
            found["rest_at_peak"] = torch.cuda.max_memory_allocated() - sum(found.values())
        return {"part": "memory", **{name: size / 2**30 for name, size in found.items()}}

    def single(self) -> dict[str, Any]:
        self.clear()
        (run,) = self.runs(1)
        assembly, ends = self._assembly(run), [0.0]
        work: list[float] = []

        def passed(module: Any, inputs: Any, named: dict[str, Any]) -> None:
            if module.training:
                pieces = named["input_ids"]
                work.append(self.work(pieces.numel(), pieces.numel() * pieces.shape[1]))

        def tick(step: int, total: int, loss: Any, score: Any) -> None:
            if loss is None and step > len(ends) - 1:
                self.wait()
                ends.append(time.perf_counter())

        assembly.built.model.register_forward_pre_hook(passed, with_kwargs=True)
        for callback in assembly.trainer.callbacks:
            if hasattr(callback, "report"):
                callback.report = tick
        self._fitted(assembly)
        steps = [b - a for a, b in itertools.pairwise(ends[2:])]
        seconds = statistics.median(steps)
        share = sum(work) / (len(ends) - 1) / seconds / self.peak if self.peak else None
        return {
            "part": "single", "seconds_per_step": seconds, "run_steps_per_second": 1 / seconds,
            "share_of_peak": share,
        }  # fmt: skip

    def parts(self, groups: list[int]) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """Name of each part and what measures it, the most telling first."""
        for name in ("measure_peak", "repeat", "resume", "losses", "halving", "memory", "single"):
            yield name.removeprefix("measure_"), getattr(self, name)
        for n in groups:
            yield f"group of {n}", lambda n=n: self.group(n)
        yield "trainer", self.trainer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--shapes", help="of tiny, mini, base, large; default: base,large on a GPU")
    parser.add_argument("--parts", help="names of the list above; default: all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no part begins after these")
    asked = parser.parse_args()
    has_gpu = devices.resolve(asked.device) != "cpu"
    shapes = (asked.shapes or ("base,large" if has_gpu else "tiny")).split(",")
    groups, steps = ([4, 8, 20], 12) if has_gpu else ([2, 4], 5)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    end, left = time.monotonic() + asked.seconds, []
    for shape in shapes:
        of_bench = argparse.Namespace(
            shape=shape, seeds=1, steps=steps, precision="bf16", device=asked.device, few=1,
            group=None, gradient_checkpointing=False,
        )  # fmt: skip
        folder = Path(tempfile.mkdtemp())
        try:
            bench = GpuBench(of_bench, folder)
            for name, measure in bench.parts(groups):
                if asked.parts and name.split()[0] not in asked.parts.split(","):
                    continue
                if time.monotonic() > end:
                    left.append(f"{shape}: {name}")
                    continue
                try:
                    line = measure()
                except Exception as error:  # one part says nothing about the others
                    line = {"part": name, "failed": f"{type(error).__name__}: {error}"[:300]}
                print(json.dumps({"shape": shape, **line}), flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"left_out_for_time": left}))


if __name__ == "__main__":
    main()
