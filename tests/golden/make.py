"""24 small runs that no restructuring may change: their keys, results, curves and predictions.

    PYTHON tests/golden/make.py --out DIR              # run all with the bluestab of PYTHON
    PYTHON tests/golden/make.py --out DIR --only NAME  # a few of them; repeatable
    PYTHON tests/golden/make.py --compare A B          # two outcomes; exits 1 if they differ

`--out` makes the data, the sweep file and a fresh store in DIR and writes DIR/outcome.json: for
every run its key, cell and score, and the SHA-256 of its canonical result, its curve, its
predictions (by content and as a file) and its other files. Only the command line and the files of a
store are used, nothing is imported from bluestab: the script outlives any move of modules. Every
knob that decides a result is written out here, so that no edited default passes for a change.

Bytes are the same on one machine with one set of packages; another CPU may round otherwise.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# --- the runs ------------------------------------------------------------------------------------

OPTIM = {
    "lr": 5e-3, "batch_size": 6, "bucket": None, "epochs": 3, "steps": 8, "warmup": 0.1,
    "weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "bias_correction": True,
    "clip": 1.0,
}  # fmt: skip
TRAINER = {
    "precision": 32, "devices": 1, "threads": 1, "eval_every": 4, "eval_batch_size": 4,
    "eval_tokens": None, "micro_batch": None, "dropout_masks": "torch", "embedding_rows": "all",
    "gradient_checkpointing": False,
    "activations": "full", "activation_bits": 4, "attention_bits": 8, "wide_bits": 8,
    "norm_share": 0.1, "prefix_cache": True, "prefix_gb": 1, "engine": "lightning",
    "loader_workers": 0,
    "attention": {"cpu": "eager", "cuda": "sdpa", "mps": "sdpa"},
}  # fmt: skip
REST = {
    "device": "cpu", "checkpoint_every": None, "on_oom": "crash", "keep": "none",
    "keep_representations": False, "profile": False, "stop_degenerate": False, "timeout": None,
    "on_crash": "continue",
}  # fmt: skip
SEEDS = {"order": 3, "dropout": 4, "split": 1}
MODEL = {
    "head": "default", "lower_case": None, "init_from": None,
    "dropout": None, "attention_dropout": None, "head_dropout": None,
}  # fmt: skip

TECHNIQUES: dict[str, dict[str, Any]] = {
    "child_tuning": {"mode": "F", "p": 0.3, "fisher_batch": None},
    "ema": {"decay": 0.9, "warmup": True},
    "freelb": {"ascents": 2, "step_size": 0.1, "init": 0.16, "max_norm": 0.28},
    "freeze": {"depth": 1, "embeddings": True, "eval_mode": True},
    "label_smoothing": {"epsilon": 0.1},
    "llrd": {"decay": 0.8, "convention": "zhang"},
    "lora": {"r": 4, "alpha": 16, "dropout": 0.1, "targets": "all", "also": [], "rslora": False},
    "mixout": {"p": 0.5, "unit": "neuron", "keep_dropout": False},
    "prior_decay": {"alpha": 0.5, "beta": None},
    "r3f": {"weight": 1.0, "eps": 1e-2, "noise": "uniform", "same_dropout": True},
    "rdrop": {"alpha": 0.5},
    "recadam": {"gamma": 100, "k": 0.5, "t0": 0.4},
    "reinit": {"depth": 1, "pooler": True, "layernorms_only": False},
    "sam": {"rho": 0.05, "adaptive": False},
    "smart": {"weight": 1.0, "steps": 1, "eps": 1e-2, "step_size": 1e-2, "start_noise": 1e-2,
              "proximal": 1.0, "momentum": 0.9},
    "swa": {"tail": 0.5, "rate": 0.5},
    "thaw": {"share": 0.5, "phases": None},
    "train_only": {"parts": ["biases", "layernorms"], "patterns": []},
}  # fmt: skip

PARTS = {
    "train_size": None, "validation_size": None, "test_size": None,
    "folds": None, "fold": None, "split_seed": 0, "grouping": "text", "max_length": 48,
    "failure_score": 0.0,
}  # fmt: skip
OWN = {
    **PARTS, "name": "golden", "data_dir": None, "validation": None, "test": None, "format": "auto",
    "header": None, "quoting": None, "id": None, "group": None, "text": None, "label": None,
    "label_names": None, "failed_below": None,
}  # fmt: skip
PAIRS = {**OWN, "text_pair": None}
FILES = {"sha256": {"train": None, "validation": None, "test": None}}

TASKS: dict[str, dict[str, Any]] = {
    "classification": {**OWN, "train": "classes.csv", "positive": None, "metric": "macro_f1"},
    "pair_classification":
        {**PAIRS, "train": "pairs.csv", "positive": None, "metric": "macro_f1"},
    "pair_regression": {
        **{knob: value for knob, value in PAIRS.items() if knob != "label_names"},
        "train": "numbers.tsv", "metric": "pearson",
    },
    "multilabel": {**OWN, "train": "labels.csv", "label_separator": None, "metric": "micro_f1"},
    "question_answering": {
        **PAIRS, "train": "questions.jsonl", "max_length": 96, "metric": "accuracy",
    },
    "tagging": {
        **OWN, "train": "words.conll", "sentence": None, "scheme": "auto", "overlap": 8,
        "failed_below": 0.0, "metric": "entity_f1",
    },
    "ebm_pico": {
        **PARTS, **FILES, "data_dir": "ebm_pico", "train": "train.tsv", "validation": "dev.tsv",
        "test": "test.tsv", "label_names": ["O", "I-INT", "I-OUT", "I-PAR"], "overlap": 8,
        "failed_below": 0.0901, "metric": "word_macro_f1",
    },
    "gad": {
        **PARTS, **FILES, "data_dir": "gad", "train": "train.tsv", "validation": "dev.tsv",
        "test": "test.tsv", "label_names": ["0", "1"], "positive": ["1"], "failed_below": 0.6,
        "metric": "positive_f1",
    },
    "biosses": {
        **PARTS, **FILES, "data_dir": "biosses", "train": "train.tsv", "validation": "dev.tsv",
        "test": "test.tsv", "failed_below": 0.378, "metric": "pearson",
    },
    "ncbi_disease": {
        **PARTS, "train_size": 18, "validation_size": 8, "test_size": 12,
        "label_names": ["O", "B-Disease", "I-Disease"], "overlap": 16, "failed_below": 0.0,
        "metric": "entity_f1",
    },
}  # fmt: skip
"""Task -> its knobs; paths are below the folder of the data."""


@dataclass(frozen=True)
class Run:
    """One golden run: what is chosen, and which knobs differ from the tables above."""

    task: str
    techniques: Sequence[str] = ()
    model: str = "tiny"
    knobs: Mapping[str, Any] = field(default_factory=dict)


SHIFTED = {"trainer.micro_batch": 4}
RUNS: dict[str, Run] = {
    "classes": Run("classification", knobs={"task.metric": "accuracy"}),
    "pairs": Run("pair_classification", ["llrd", "label_smoothing"], "tiny_electra"),
    "numbers": Run("pair_regression", ["reinit", "mixout"], knobs={"task.metric": "spearman"}),
    "labels": Run("multilabel", ["rdrop"], knobs=SHIFTED),
    "questions": Run("question_answering", ["prior_decay", "ema"], "tiny_electra"),
    "words": Run("tagging", ["sam"], knobs={"task.max_length": 24}),
    "spans": Run("tagging", ["child_tuning"], knobs={"task.train": "spans.jsonl"}),
    "elements": Run("ebm_pico", ["recadam"]),
    "entities": Run(
        "ncbi_disease", ["freeze"], "minilm",
        {"technique.freeze.depth": 3, "optim.lr": 1e-3, "keep": "last"},
    ),
    "lora": Run("ncbi_disease", ["lora", "llrd"], knobs={"keep": "all"}),
    "r3f": Run("gad", ["r3f"], knobs={"technique.r3f.noise": "normal"}),
    "smart": Run("gad", ["smart"]),
    "freelb": Run("gad", ["freelb", "reinit"], "tiny_electra"),
    "swa": Run("gad", ["swa", "llrd"], knobs={"technique.llrd.convention": "electra"}),
    "thaw": Run("gad", ["thaw"], knobs={"stop_degenerate": True}),
    "child_d": Run(
        "gad", ["child_tuning", "prior_decay"],
        knobs={"technique.child_tuning.mode": "D", "trainer.precision": "bf16"},
    ),
    "train_only": Run("gad", ["train_only", "rdrop"], knobs={**SHIFTED, "keep": "last"}),
    "similarity": Run(
        "biosses", ["reinit", "llrd"], "minilm",
        {"keep_representations": True, "optim.lr": 1e-3},
    ),
    "fold": Run("classification", ["mixout"], knobs={"task.folds": 4, "task.fold": 1}),
    "bucket": Run(
        "gad", ["freeze", "sam"],
        knobs={"optim.bucket": 2, "optim.bias_correction": False, "trainer.eval_tokens": 200,
               "model.head": "mean", "optim.steps": None, "task.train_size": 16},
    ),
    "diverged": Run("gad", knobs={"optim.lr": 1e30, "optim.clip": None, "task.failure_score": 0.1}),
}  # fmt: skip
"""The sweep: name -> run; each has its number, 100 and more, as its seed of initialisation."""

PACKED = Run("gad", ["freeze", "rdrop"], knobs={"trainer.engine": "packed", "keep": "last"})
PACKED_SEEDS = (5, 6)
STARTED = Run("gad", ["prior_decay"])
STARTED_FROM = "train_only"
NAMES = [*RUNS, *(f"packed_{seed}" for seed in PACKED_SEEDS), "started"]


def overrides(run: Run) -> list[str]:
    """All that decides the run, as overrides of the command line; seeds aside."""
    knobs: dict[str, Any] = {
        **_dotted("optim", OPTIM), **_dotted("trainer", TRAINER), **REST,
        **_dotted("seeds", SEEDS), **_dotted("model", MODEL), **_dotted("task", TASKS[run.task]),
    }  # fmt: skip
    for name in run.techniques:
        knobs |= _dotted(f"technique.{name}", TECHNIQUES[name])
    knobs |= run.knobs
    chosen = [f"task={run.task}", f"model={run.model}", f"technique={_said(list(run.techniques))}"]
    if not run.techniques:
        chosen[-1] = "technique=none"
    return chosen + [f"{knob}={_said(value)}" for knob, value in knobs.items()]


def _dotted(prefix: str, node: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in node.items():
        path = f"{prefix}.{name}"
        found |= _dotted(path, value) if isinstance(value, Mapping) else {path: value}
    return found


def _said(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_said, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


# --- the data ------------------------------------------------------------------------------------

TEXT = (
    "the gene p53 was seen in patients with colon cancer and type two diabetes but a drug helped "
    "most of them at low dose"
)
WORDS = TEXT.split()


def sentences(n: int, seed: int) -> list[list[str]]:
    """Sentences of 6 to 11 words, each with a number of its own at the end."""
    drawn = random.Random(seed)
    return [
        [WORDS[int(drawn.random() * len(WORDS))] for _ in range(6 + int(drawn.random() * 6))]
        + [f"n{i}"]
        for i in range(n)
    ]


def write_data(folder: Path) -> None:
    """A small file for every kind of task, the same at every call."""
    one, other = sentences(40, 1), sentences(40, 2)
    has = [("cancer" in words, "drug" in words) for words in one]
    a, b = ([" ".join(words) for words in text] for text in (one, other))
    shared = [len({*x} & {*y}) for x, y in zip(one, other, strict=True)]
    numbers = range(40)
    files = {
        "classes.csv": _table(",", "text,label", ((a[i], "ny"[has[i][0]]) for i in numbers)),
        "pairs.csv": _table(
            ",", "sentence1,sentence2,label", ((a[i], b[i], "abc"[shared[i] % 3]) for i in numbers)
        ),
        "numbers.tsv": _table(
            "\t", "sentence1\tsentence2\tscore", ((a[i], b[i], shared[i] / 2) for i in numbers)
        ),
        "labels.csv": _table(
            ",",
            "text,labels",
            (
                (a[i], ";".join(["any", *(["c"] * has[i][0]), *(["d"] * has[i][1])]))
                for i in numbers
            ),
        ),
        "questions.jsonl": _lines(
            {"question": f"is it {a[i]}", "context": [b[i], a[i]], "answer": "yn"[has[i][0]]}
            for i in numbers
        ),
        "words.conll": "".join(map(_tagged, one)),
        "spans.jsonl": _lines({"text": a[i], "spans": _spans(one[i])} for i in numbers),
    }
    for part, at in (("train", 0), ("dev", 20), ("test", 30)):
        rows = range(at, at + (20 if part == "train" else 10))
        files[f"gad/{part}.tsv"] = _table(
            "\t", "index\tsentence\tlabel", ((i, a[i], int(any(has[i]))) for i in rows)
        )
        files[f"biosses/{part}.tsv"] = _table(
            "\t", "pair_id\tsent1\tsent2\tscore", ((i, a[i], b[i], shared[i] / 2) for i in rows)
        )
        files[f"ebm_pico/{part}.tsv"] = "".join(_elements(one[i]) for i in rows)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def _table(separator: str, head: str, rows: Iterable[Iterable[Any]]) -> str:
    return "\n".join([head, *(separator.join(map(str, row)) for row in rows)]) + "\n"


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _tagged(words: Sequence[str]) -> str:
    tags = {"cancer": "B-DIS", "diabetes": "B-DIS", "drug": "B-DRUG"}
    return "".join(f"{word}\t{tags.get(word, 'O')}\n" for word in words) + "\n"


def _elements(words: Sequence[str]) -> str:
    tags = {"patients": "I-PAR", "drug": "I-INT", "dose": "I-INT", "helped": "I-OUT"}
    return "".join(f"{word}\t{tags.get(word, 'O')}\n" for word in words) + "\n"


def _spans(words: Sequence[str]) -> list[dict[str, Any]]:
    found, at = [], 0
    for word in words:
        if word in ("cancer", "diabetes"):
            found.append({"start": at, "end": at + len(word), "label": "DIS"})
        at += len(word) + 1
    return found


# --- making them ---------------------------------------------------------------------------------


def make(out: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """Run them in `out` (its store is made anew); name -> what is compared.

    Raises SystemExit if a command fails or a run is missing.
    """
    wanted = [name for name in NAMES if name in only or not only]
    if unknown := {*only} - {*NAMES}:
        raise SystemExit(
            f"no golden run {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}"
        )
    for stale in ("runs", "cache", "sweeps"):
        shutil.rmtree(out / stale, ignore_errors=True)
    write_data(out)
    arms = {name: [*overrides(RUNS[name]), f"seeds.init={number(name)}"]
            for name in wanted if name in RUNS}  # fmt: skip
    if arms:
        _sweep(out, "golden", {"seeds": [0], "arms": arms}, "hydra/launcher=local")
    seeds = [seed for seed in PACKED_SEEDS if f"packed_{seed}" in wanted]
    if seeds:
        arm = {"packed": [o for o in overrides(PACKED) if not o.startswith("seeds.d")]}
        _sweep(
            out, "packed", {"seeds": seeds, "arms": arm},
            "hydra/launcher=packed", "hydra.launcher.group=2",
        )  # fmt: skip
    found = outcome(out / "runs")
    if "started" in wanted:
        if STARTED_FROM not in found:
            raise SystemExit(f"the run 'started' starts from {STARTED_FROM}: ask for it, too")
        key = found[STARTED_FROM]["key"]
        chosen = [o for o in overrides(STARTED) if not o.startswith("model.init_from=")]
        last = [f"model.init_from={key}", "seed=0", f"seeds.init={number('started')}"]
        _command(out, "run", *chosen, *last, "logger=none")
        found = outcome(out / "runs")
    if missing := {*wanted} - {*found}:
        raise SystemExit(f"no result of {', '.join(sorted(missing))} in {out / 'runs'}")
    return {name: found[name] for name in wanted}


def number(name: str) -> int:
    """The seed of initialisation by which a run is known in the store."""
    return int(name[7:]) if name.startswith("packed_") else 100 + NAMES.index(name)


def _sweep(out: Path, name: str, sweep: Mapping[str, Any], *more: str) -> None:
    (out / "sweeps").mkdir(exist_ok=True)
    text = "# @package _global_\n" + json.dumps({"sweep": {"name": name, **sweep}}, indent=1) + "\n"
    (out / "sweeps" / f"{name}.yaml").write_text(text, encoding="utf-8")
    _command(out, "run", "-m", f"+sweeps={name}", "logger=none", *more)


def _command(out: Path, *arguments: str) -> None:
    """`bluestab ARGUMENTS` in `out`, of the interpreter that runs this."""
    own = ("BLUESTAB_DATA", "BLUESTAB_COMMAND", "BLUESTAB_ALLOW")
    env = {k: v for k, v in os.environ.items() if k not in own} | {
        "BLUESTAB_STORE": str(out / "runs"),
        "BLUESTAB_CACHE": str(out / "cache"),
        "BLUESTAB_CONF": str(out / "conf"),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run([sys.executable, "-m", "bluestab", *arguments], cwd=out, env=env)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: bluestab {' '.join(arguments[:3])} ...")


# --- what they gave ------------------------------------------------------------------------------

ELSEWHERE = ("record.json", "config.yaml", "log.txt", "curve.csv", "predictions.parquet")
"""Files of a run that are compared by their content, or hold times, paths and names of classes."""


def outcome(store: Path) -> dict[str, Any]:
    """Name -> what is compared, of every run in the store."""
    names = {number(name): name for name in NAMES}
    found = {}
    for record in store.glob("*/record.json"):
        result = json.loads(record.read_text(encoding="utf-8"))["result"]
        found[names[result["config"]["seeds"]["init"]]] = _of_run(record.parent, result)
    return {name: found[name] for name in NAMES if name in found}


def _of_run(folder: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    import pyarrow.parquet as pq

    table = folder / "predictions.parquet"
    rows = pq.read_table(table).to_pylist() if table.is_file() else None
    curve = folder / "curve.csv"
    others = [
        file for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in ELSEWHERE
        and (file.parent == folder or file.suffix == ".safetensors")
    ]  # fmt: skip
    return {
        "key": result["key"],
        "cell": result["cell"],
        "config": _sha(_canonical({k: v for k, v in result["config"].items() if k != "init_from"})),
        "status": result["status"],
        "score": result["score"],
        "train_loss": _last_loss(curve),
        "result": _sha(_canonical(result)),
        "curve": _sha(curve.read_bytes()) if curve.is_file() else None,
        "predictions": None if rows is None else _sha(_canonical(rows)),
        "predictions_file": None if rows is None else _sha(table.read_bytes()),
        "files": {str(f.relative_to(folder)): _sha(f.read_bytes()) for f in others},
    }


def _last_loss(curve: Path) -> float | None:
    """The training loss before the last evaluation: a number that moves where scores do not."""
    if not curve.is_file():
        return None
    rows = list(csv.DictReader(curve.read_text(encoding="utf-8").splitlines()))
    return float(rows[-1]["train_loss"]) if rows and rows[-1]["train_loss"] else None


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """A line for everything in which two outcomes differ."""
    lines = []
    for name in dict.fromkeys([*one, *other]):
        a, b = one.get(name), other.get(name)
        if a is None or b is None:
            lines.append(f"{name}: only in the {'second' if a is None else 'first'}")
            continue
        lines += [
            f"{name}: {what} {a.get(what)} != {b.get(what)}"
            for what in dict.fromkeys([*a, *b])
            if a.get(what) != b.get(what)
        ]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 if a comparison finds differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder to run in")
    parser.add_argument("--only", action="append", default=[], help="name of a run; repeatable")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two outcomes")
    given = parser.parse_args(arguments)
    if given.compare:
        one, other = (json.loads(file.read_text(encoding="utf-8")) for file in given.compare)
        lines = differences(one, other)
        print("\n".join(lines) or f"{len(one)} runs, no difference")
        return int(bool(lines))
    if given.out is None:
        parser.error("say --out DIR, or --compare A B")
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    found = make(out, given.only)
    file = out / "outcome.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} runs: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
