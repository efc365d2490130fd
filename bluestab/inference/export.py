"""A run as a folder that plain transformers loads: safetensors, label names, tokenizer, card.

What transformers cannot express is refused, and so is a folder that, loaded by transformers alone,
does not find the logits that the run recorded. The folder appears in one rename.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluestab.core.errors import BluestabError, ConfigError, StoreError
from bluestab.core.instantiate import load_class
from bluestab.core.secrets import OF_FILES
from bluestab.core.types import Example
from bluestab.inference.card import card, placeless
from bluestab.inference.cell import Cell, cell_of_run
from bluestab.inference.remake import keep_weights
from bluestab.inference.weights import MANIFEST, FinishedRun, Weights, find_run, of_run, to_manifest
from bluestab.models.clean_config import clean_config, clean_tokenizer_config
from bluestab.models.global_attention import FIRST_TEXT, first_text
from bluestab.models.init_from import command_of
from bluestab.models.untrusted import WEIGHTS
from bluestab.store.artefacts import read_predictions
from bluestab.store.files import flush, flush_tree, new_aside, write_text
from bluestab.tasks.base import Task
from bluestab.tasks.data import load_task

FILES = (
    *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt", "added_tokens.json"),
)
NAMED = (
    *("model_type", "architectures", "id2label", "label2id", "problem_type", "dtype"),
    *("torch_dtype", "transformers_version"),
)
"""What a config.json says beside what `clean_config` keeps."""
ITEMS = 32
"""Test items by which a folder is verified."""

TOLERANCE = {"32": 1e-3, "bf16": 0.25}
"""Precision of the training -> largest difference of logits between its evaluation and float32."""


@dataclass(frozen=True)
class Exported:
    """What was written, one sentence per thing worth knowing."""

    folder: Path
    remarks: Sequence[str]


def export(run: FinishedRun, out: Path, device: str, *, ensemble: int = 1) -> Exported:
    """Write the run, or `ensemble` seeds of its cell, to the new folder `out`.

    device  on which weights that were not kept are trained again

    Raises ConfigError for what cannot be exported, StoreError if something is damaged, does not
    come out the same, or cannot be written.
    """
    if out.exists():
        raise ConfigError(f"--out is '{out}', which is there already; remove it or choose another")
    cell = cell_of_run(run.store, run.record)
    runs = [run, *_more(run, cell, ensemble - 1)]
    _refuse_inexpressible(run)
    remarks = [
        f"run {one.record.key} kept no {one.at} weights: trained again, test score and all else "
        "as recorded"
        for one in runs
        if keep_weights(one, device)
    ]
    weights = [of_run(one) for one in runs]
    _check_finite(weights)
    for one in runs:
        if one.record.failed:
            remarks.append(f"run {one.record.key} failed (degenerate): it is no good model")
    aside = new_aside(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        verdicts = []
        for one, own in zip(runs, weights, strict=True):
            folder = aside if len(runs) == 1 else aside / f"seed-{_seed(one)}"
            _write_folder(folder, own)
            verdicts.append(verify(folder, one, own))
        names = ["." if len(runs) == 1 else f"seed-{_seed(one)}" for one in runs]
        write_text(aside / MANIFEST, to_manifest(_manifest(runs, weights, names)))
        text = card(
            [one.record for one in runs],
            run.cfg,
            cell,
            run.at,
            labels=weights[0].labels,
            output=weights[0].task.output,
            checked=verdicts[0],
            command=command_of(run.store, run.record),
        )
        write_text(aside / "README.md", text)
        flush_tree(aside)
        aside.rename(out)
        flush(out.parent)
    except OSError as error:
        raise StoreError(f"{out} cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Exported(out, [*remarks, *verdicts])


def _more(run: FinishedRun, cell: Cell, n: int) -> list[FinishedRun]:
    """Other seeds of the cell, in their order, as many as there are no reasons against."""
    others = [
        r for r in cell.records if r.key != run.record.key and r.status == "done" and not r.failed
    ]
    if len(others) < n:
        raise ConfigError(
            f"--ensemble is {n + 1}, but the store holds {len(others) + 1} usable seeds of this "
            "configuration (finished, not failed)"
        )
    return [find_run(f"{run.folder.parent / r.key}:{run.at}", run.store) for r in others[:n]]


def _seed(run: FinishedRun) -> int:
    return int(run.record.measured["names"]["seed"])


def _refuse_inexpressible(run: FinishedRun) -> None:
    """Raises ConfigError for heads and layers that transformers has no class for."""
    if "inner_adaptors" in run.cfg["technique"]:
        raise ConfigError(
            f"run {run.record.key} has layers of technique inner_adaptors between its blocks, "
            "which plain transformers cannot express: it would leave them out and say nothing; "
            f"bluestab reads them: bluestab predict {run.record.key}"
        )
    if run.cfg["model"].get("vision") is not None:
        raise ConfigError(
            f"run {run.record.key} looks at images (model.vision), which plain transformers has no "
            "class for: it would read the questions alone and say nothing"
        )
    head = run.cfg["model"].get("head", "default")
    output = load_class(run.cfg["task"]["_target_"], Task, "task").output  # type: ignore[type-abstract]
    if output.head.vector:
        raise ConfigError(
            f"run {run.record.key} compares vectors of texts, which plain transformers has no "
            "class for: it would put an untrained layer on them and say nothing; bluestab reads "
            f"it: bluestab predict {run.record.key}"
        )
    if head == "default" or (head == "linear" and output.per_word):
        return  # a linear head on words is transformers' own
    raise ConfigError(
        f"run {run.record.key} has model.head={head}, which plain transformers cannot express: it "
        "would put an untrained pooler or dense layer before the trained layer and say nothing; "
        f"bluestab reads it: bluestab predict {run.record.key}"
    )


def _check_finite(weights: Sequence[Weights]) -> None:
    """Raises ConfigError for weights that are no numbers."""
    from safetensors.torch import load_file

    from bluestab.inference.predictor import check_finite

    for one in weights:
        check_finite(load_file(one.folder / WEIGHTS).items(), f"run {one.said}")


def _write_folder(folder: Path, weights: Weights) -> None:
    """The files that transformers reads, and no others."""
    folder.mkdir(parents=True)
    for name in FILES:
        if (weights.folder / name).is_file():
            shutil.copyfile(weights.folder / name, folder / name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    where = folder / "config.json"
    config = {k: config[k] for k in NAMED if k in config} | clean_config(config, where)
    if weights.task.output.problem_type is not None:
        config["problem_type"] = weights.task.output.problem_type
    write_text(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    path = folder / "tokenizer_config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    said = clean_tokenizer_config(said, path)
    said["model_max_length"] = weights.task.max_length
    write_text(path, json.dumps(said, indent=2, ensure_ascii=False) + "\n")


def _manifest(
    runs: Sequence[FinishedRun], weights: Sequence[Weights], names: Sequence[str]
) -> dict[str, Any]:
    """What `predict` needs besides; no paths of this machine."""
    cfg = runs[0].cfg
    name = runs[0].record.measured["names"]["task"]  # which a place may have given
    return {
        "task": {
            **{k: placeless(v) if k in OF_FILES else v for k, v in cfg["task"].items()},
            **{"name": name, "data_dir": None},
        },
        "model": {
            **{k: placeless(v) if k in ("about", "config") else v for k, v in cfg["model"].items()},
            **{"path": None, "init_from": None},
        },
        "precision": weights[0].precision,
        "attention": dict(weights[0].attention),
        "members": [
            {
                "folder": name,
                "sha256": one.sha256,
                "run": run.record.key,
                "at": run.at,
                "seed": _seed(run),
                "test": one.test,
            }
            for run, one, name in zip(runs, weights, names, strict=True)
        ],
    }


# --- verifying -----------------------------------------------------------------------------------


def verify(folder: Path, run: FinishedRun, weights: Weights) -> str:
    """Load a folder by transformers alone and compare its logits with those the run recorded.

    A sentence with the largest difference. Raises StoreError if it is too large.
    """
    try:
        data = load_task(run.cfg["task"])
    except BluestabError as error:
        said = " ".join(str(error).split())
        return f"Not compared with the recorded logits: its data are not here ({said})."
    rows = read_predictions(run.folder / "predictions.parquet").to_pylist()
    recorded = {row["id"]: row["logits"] for row in rows if row["at"] == run.at}
    items = [e for e in data.splits["test"] if e.id in recorded]
    found = list(plain_logits(folder, weights, items))
    if not found:
        return "Not compared with the recorded logits: every test item needs several windows."
    largest = max(
        abs(a - b)
        for example, logits in found
        for a, b in zip(logits, recorded[example.id], strict=True)
    )
    if not largest <= TOLERANCE[weights.precision]:
        raise StoreError(
            f"{folder.name} loaded by plain transformers gives other logits than run "
            f"{run.record.key} recorded: they differ by up to {largest:.2g}; nothing was exported"
        )
    return (
        f"Loaded by plain transformers, the logits of {len(found)} test items equal the recorded "
        f"ones up to {largest:.1e}."
    )


def plain_logits(folder: Path, weights: Weights, items: Sequence[Example]) -> Any:
    """(item, its logits as one list) by transformers alone, for the first items that fit."""
    import torch
    import transformers
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    task = weights.task
    words = task.output.per_word
    auto: Any = getattr(transformers, task.output.head.auto_class)
    model = auto.from_pretrained(folder, local_files_only=True).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    done = 0
    for example in items:
        if done == ITEMS:
            return
        text = list(example.text) if words else example.text
        pair = () if example.text_pair is None else (example.text_pair,)
        inputs = tokenizer(
            text,
            *pair,
            is_split_into_words=words,
            truncation=getattr(task, "cut", True),
            max_length=task.max_length,
            return_tensors="pt",
        )
        if weights.model.global_attention == FIRST_TEXT:
            separator = model.config.sep_token_id
            inputs["global_attention_mask"] = first_text(inputs["input_ids"], separator)
        with torch.inference_mode():
            logits = model(**inputs).logits[0].float()
        if words:
            ids = inputs.word_ids(0)
            first = [i for i, w in enumerate(ids) if w is not None and w != ids[i - 1]]
            if len(first) != len(text):
                continue  # read in several windows, or cut
            logits = logits[first]
        done += 1
        yield example, logits.flatten().tolist()
