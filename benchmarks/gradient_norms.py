"""What noting gradient norms costs: torch's own clipping beside ours, in turns, and a whole step.

BLUESTAB_DATA=FOLDER python benchmarks/gradient_norms.py
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROUNDS = 30


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    from dataclasses import replace

    import torch

    from bluestab.core.config import compose, resolved
    from bluestab.training.assemble import assemble
    from bluestab.training.check import check

    run = check(resolved(compose(["task=ncbi_disease", "model=minilm", "optim.batch_size=16"])))
    torch.set_num_threads(1)
    assembly = assemble(
        replace(run, techniques={}), device=torch.device("cpu"), progress=lambda *_: None,
    )  # fmt: skip
    module, optimizer = assembly.module, assembly.module._optimizer
    module.trainer = assembly.trainer
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    batch = next(iter(assembly.loaders["train"]))

    def step() -> None:
        module.training_step(batch, 0).backward()
        optimizer.step()

    def torchs() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)

    def ours() -> None:
        module.configure_gradient_clipping(optimizer, 1.0)

    times: dict[str, list[float]] = {"whole step": [], "torch": [], "ours": []}
    for _ in range(ROUNDS):
        times["whole step"].append(seconds(step))
        for _ in range(5):
            times["torch"].append(seconds(torchs))
            times["ours"].append(seconds(ours))
    evaluation = seconds(module.mean_gradient_norms)
    found = {name: statistics.median(values) for name, values in times.items()}
    for name, value in found.items():
        print(f"{name:12} {value * 1e3:8.3f} ms (median of {len(times[name])})")
    extra = found["ours"] - found["torch"]
    print(f"extra per step {extra * 1e3:.3f} ms, {extra / found['whole step']:.3%} of a step")
    print(f"at an evaluation, {5 * ROUNDS} steps: {evaluation * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
