"""Twenty seeds in one step against the same runs one after another, side by side, and the Trainer.

    python benchmarks/packed.py --shape base --precision bf16   # on a GPU: all parts
    python benchmarks/packed.py --shape tiny --seeds 4 --steps 5 --groups 1,4   # rehearsal, CPU

Networks have random weights, since only time is measured, and texts are random characters: 64
training pairs as long as those of BIOSSES are in BERT's word pieces (deciles below), 16 per step.
Parts, each printed as a line of JSON as soon as it is known:

    peak        a large product of matrices, FLOP/s in this precision: what 100 % would be
    group       for each size of group: seconds per step, run-steps per second, memory per run, and
                the share of the peak that the products of the step amount to (padding included, as
                computed; forward and backward count three forward passes)
    packed      whole training and scoring of all seeds: seconds
    sequence    the same runs one after another with the Lightning engine: a few, scaled to all
    processes   whole commands: `hydra/launcher=pool` with that many workers against `packed`
    trainer     transformers' Trainer, one run after another, scaled to all
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from bluestab.core import devices
from bluestab.core.config import compose, resolved
from bluestab.training.assemble import assemble
from bluestab.training.attempt import _fit
from bluestab.training.check import Run, check
from bluestab.training.job import Job
from bluestab.training.loop.phases import Phases
from bluestab.training.packed.together import train_and_score_together
from bluestab.training.packed.training import Group

SHAPES = {  # layers, width, heads, width inside, word pieces
    "tiny": (2, 32, 2, 64, 193),
    "mini": (6, 384, 12, 1536, 30522),
    "base": (12, 768, 12, 3072, 30522),
    "large": (24, 1024, 16, 4096, 30522),
}
DECILES = (30, 50, 54, 61, 68, 76, 82, 88, 93, 114, 152)
"""Length of a training pair of BIOSSES in word pieces of bert-base-uncased's vocabulary, special
pieces included: least, deciles, most."""


def told(*_: Any) -> None:
    pass


class Bench:
    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self.asked, self.folder = asked, folder
        self.device = torch.device(devices.resolve(asked.device))
        layers, width, heads, inside, words = SHAPES[asked.shape]
        config = {
            "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": inside, "vocab_size": words,
        }  # fmt: skip
        self._write()
        self.overrides = [
            "task=pair_regression", f"task.train={folder}/train.csv",
            f"task.validation={folder}/validation.csv", f"task.test={folder}/test.csv",
            "task.label=score", "model=tiny", f"model.name={asked.shape}",
            f"model.layers={layers}", f"model.hidden_size={width}",
            *(f"model.config.{name}={value}" for name, value in config.items()),
            f"device={self.device}", f"trainer.precision={asked.precision}",
            f"trainer.gradient_checkpointing={str(asked.gradient_checkpointing).lower()}",
            f"optim.steps={asked.steps}", f"trainer.eval_every={asked.steps}",
            "optim.batch_size=16", "trainer.micro_batch=null",
        ]  # fmt: skip
        self.matrices = layers * (4 * width**2 + 2 * width * inside)
        self.layers, self.width = layers, width
        self.peak = 0.0

    def _write(self) -> None:
        """Pairs of two texts, in single characters, with three special pieces."""
        draw = random.Random(0)
        for split, n in (("train", 64), ("validation", 16), ("test", 20)):
            with (self.folder / f"{split}.csv").open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["id", "text", "text_pair", "score"])
                for i in range(n):
                    tenth = draw.randrange(10)
                    length = draw.randint(DECILES[tenth], DECILES[tenth + 1]) - 3
                    pieces = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=length))
                    half = length // 2
                    score = round(draw.uniform(0, 4), 2)
                    table.writerow([f"{split}{i}", pieces[:half], pieces[half:], score])

    def runs(self, n: int, *more: str) -> list[Run]:
        cfg = resolved(compose([*self.overrides, *more]))
        return [check({**cfg, "seed": seed}) for seed in range(n)]

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def clear(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def work(self, pieces: int, pairs: int) -> float:
        """FLOP of a step: 2 per weight and piece, 4 per pair of pieces and unit; backward is twice
        as much as forward."""
        return 3.0 * (2 * self.matrices * pieces + 4 * self.layers * self.width * pairs)

    def _fitted(self, assembly: Any) -> None:
        _fit(assembly)
        self.wait()

    # --- parts ---

    def measure_peak(self) -> dict[str, Any]:
        n = 8192 if self.device.type == "cuda" else 1024
        kind = torch.bfloat16 if self.asked.precision == "bf16" else torch.float32
        a, b = (torch.randn(n, n, device=self.device, dtype=kind) for _ in range(2))
        seconds = []
        for _ in range(12):
            self.wait()
            start = time.perf_counter()
            a @ b
            self.wait()
            seconds.append(time.perf_counter() - start)
        self.peak = 2 * n**3 / statistics.median(seconds[2:])
        return {"part": "peak", "flops": self.peak, "device": self._name()}

    def _name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"cpu, {torch.get_num_threads()} threads"

    def group(self, n: int) -> dict[str, Any]:
        """Time between updates of the last sibling, the first two steps left out."""
        self.clear()
        ends: list[float] = []
        widths: list[int] = []

        def tick(step: int, total: int, loss: Any, score: Any) -> None:
            if loss is None and (not ends or step > len(ends)):
                self.wait()
                ends.append(time.perf_counter())

        runs = self.runs(n, "trainer.engine=packed")
        watchers = [(told, told)] * (n - 1) + [(tick, told)]
        try:
            group = Group(runs, watchers, self.device, Phases())
            inputs, batch = group.inputs["train"], group.inputs["train"].batch

            def noted(rows: Sequence[int]) -> dict[str, torch.Tensor]:
                found = batch(rows)
                widths.append(found["input_ids"].numel() * found["input_ids"].shape[1])
                self.tokens.append(found["input_ids"].numel())
                return found

            self.tokens: list[int] = []
            inputs.batch = noted  # type: ignore[method-assign]
            group.fit()
        except torch.OutOfMemoryError:
            return {"part": "group", "runs": n, "out_of_memory": True}
        steps = [b - a for a, b in pairwise(ends[1:])]
        seconds = statistics.median(steps)
        work = [self.work(*counts) for counts in zip(self.tokens, widths, strict=True)]
        found: dict[str, Any] = {
            "part": "group", "runs": n, "seconds_per_step": seconds,
            "run_steps_per_second": n / seconds,
            "share_of_peak": statistics.mean(work[2:]) / seconds / self.peak if self.peak else None,
        }  # fmt: skip
        if self.device.type == "cuda":
            found["gib_per_run"] = torch.cuda.max_memory_allocated() / 2**30 / n
        return found

    def packed(self) -> dict[str, Any]:
        self.clear()
        n, size = self.asked.seeds, self.asked.group or self.asked.seeds
        start = time.perf_counter()
        runs = self.runs(n, "trainer.engine=packed")
        for first in range(0, n, size):
            work, resume = self.folder / "work", self.folder / "resume"
            jobs = [
                Job(run, work / run.key, resume / run.key, str(self.device))
                for run in runs[first : first + size]
            ]
            for job in jobs:
                job.work.mkdir(parents=True, exist_ok=True)
            for outcome in train_and_score_together(jobs):
                if isinstance(outcome, Exception):
                    raise outcome
        self.wait()
        return {"part": "packed", "runs": n, "group": size, "seconds": time.perf_counter() - start}

    def sequence(self) -> dict[str, Any]:
        self.clear()
        few = min(self.asked.few, self.asked.seeds)
        seconds = []
        for run in self.runs(few):
            start = time.perf_counter()
            assembly = self._assembly(run)
            _fit(assembly)
            for _ in range(2):  # at last and at best
                assembly.trainer.test(assembly.module, assembly.loaders["test"], verbose=False)
            self.wait()
            seconds.append(time.perf_counter() - start)
            del assembly
            self.clear()
        each = statistics.median(seconds)
        return {"part": "sequence", "measured_runs": few, "seconds": each * self.asked.seeds}

    def _assembly(self, run: Run) -> Any:
        return assemble(run, device=self.device, progress=told,
        )  # fmt: skip

    def processes(self) -> dict[str, Any]:
        """Whole commands into empty stores, start-up and report included."""
        self.clear()
        found: dict[str, Any] = {"part": "processes", "workers": self.asked.processes}
        pool = ["hydra/launcher=pool", f"hydra.launcher.workers={self.asked.processes}"]
        group = ["hydra/launcher=packed", f"hydra.launcher.group={self.asked.group or 'null'}"]
        for name, launcher in (("pool_seconds", pool), ("packed_seconds", group)):
            store = self.folder / name
            line = [sys.executable, "-m", "bluestab", "run", "-m", *self.overrides, *launcher]
            line += [f"sweep.seeds={self.asked.seeds}", f"store={store}"]
            start = time.perf_counter()
            subprocess.run(line, check=True, cwd=self.folder, stdout=subprocess.DEVNULL)
            found[name] = time.perf_counter() - start
        return found

    def trainer(self) -> dict[str, Any]:
        from transformers import Trainer, TrainingArguments

        few = min(self.asked.few, self.asked.seeds)
        seconds, training = [], []
        for run in self.runs(few):
            self.clear()
            start = time.perf_counter()
            assembly = self._assembly(run)
            network: Any = assembly.built.model
            for module in network.modules():
                vars(module).pop("forward", None)  # back to transformers' own forward
            network.config.problem_type = "regression"
            batches = assembly.loaders["train"]

            class OurBatches(Trainer):
                def get_train_dataloader(self, batches: Any = batches) -> Any:
                    epochs = 1 + self.args.max_steps // len(batches)
                    wanted = [b for _ in range(epochs) for b in batches]
                    return [{k: v for k, v in b.items() if k != "items"} for b in wanted]

            arguments = TrainingArguments(
                output_dir=str(self.folder / "trainer"), max_steps=self.asked.steps,
                bf16=self.asked.precision == "bf16", use_cpu=self.device.type == "cpu",
                logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True,
            )  # fmt: skip
            script, begun = OurBatches(model=network, args=arguments), time.perf_counter()
            script.train()
            self.wait()
            training.append(time.perf_counter() - begun)
            seconds.append(time.perf_counter() - start)
            del assembly, network
        each = statistics.median(seconds)
        step = statistics.median(training) / self.asked.steps
        return {
            "part": "trainer", "measured_runs": few, "seconds": each * self.asked.seeds,
            "seconds_per_step": step,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--precision", choices=["32", "bf16"], default="bf16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--group", type=int, help="runs of a group; all of them unless said")
    parser.add_argument(
        "--groups", default="1,2,4,8,16,20,32,64", help="sizes for the part `group`"
    )
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--few", type=int, default=3, help="runs that are scaled to all")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--parts", default="peak,group,packed,sequence,processes,trainer")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked, Path(folder))
        times: dict[str, float] = {}
        for part in asked.parts.split(","):
            lines: list[dict[str, Any]]
            if part == "peak":
                lines = [bench.measure_peak()]
            elif part == "group":
                lines = [bench.group(int(n)) for n in asked.groups.split(",")]
            else:
                lines = [getattr(bench, part)()]
            for line in lines:
                print(json.dumps(line), flush=True)
                times[part] = line.get("seconds", 0.0)
                if part == "processes":
                    times["processes"] = line["pool_seconds"] / line["packed_seconds"]
        if times.get("packed"):
            ratios = {p: times[p] / times["packed"] for p in ("sequence", "trainer") if p in times}
            ratios |= {p: times[p] for p in ("processes",) if p in times}
            print(json.dumps({"part": "ratios to packed", **ratios}), flush=True)


if __name__ == "__main__":
    main()
