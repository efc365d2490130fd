"""The model card: whose weights these are, out of how many, and what nobody should take them for.

Names, labels and licences come from yamls that may be anybody's: they are shown, never rendered.
"""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bluestab.core.types import At, RunRecord
from bluestab.inference.cell import Cell, validation
from bluestab.models.global_attention import FIRST_TEXT
from bluestab.tasks.outputs import Output

PLACE = re.compile(r"[/~\\\\]|[A-Za-z]:[/\\\\]|\.\.?/")
FOLDERS = re.compile(r"(?<![\w.:/~-])(?:~|\.\.)?/(?:[^/\s'\",;()\[\]]+/)*")
"""Where a text names folders by their place: what is before the last name."""

SPECIAL = re.compile(r"([\\`*_{}\[\]#|!~$])")


def shown(value: object) -> str:
    """Any text as one line of Markdown that shows it and does nothing else."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return SPECIAL.sub(r"\\\1", html.escape(text, quote=False))


def block(text: str) -> list[str]:
    """Lines of code; no line of them can end the block."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return ["", *(f"    {line}" for line in clean.split("\n")), ""]


def placeless(value: Any) -> Any:
    """Settings without the places of this machine: of a path, its last name stays."""
    if isinstance(value, Mapping):
        return {key: placeless(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [placeless(one) for one in value]
    if not isinstance(value, str) or "://" in value:
        return value
    return (Path(value).name or value) if PLACE.match(value) else value


def placeless_command(line: str) -> str:
    """A command line without the places of this machine."""
    try:
        words = shlex.split(line)
    except ValueError:
        return placeless_text(line)
    pairs = [word.partition("=") for word in words]
    said = [name + sign + str(placeless(value)) for name, sign, value in pairs]
    clean = [str(placeless(placeless_text(word))) for word in said]
    return line if clean == words else shlex.join(clean)


def placeless_text(text: str) -> str:
    """A sentence without the folders of this machine."""
    return FOLDERS.sub("", text)


def card(
    records: Sequence[RunRecord],
    cfg: Mapping[str, Any],
    cell: Cell,
    at: At,
    *,
    labels: Sequence[str],
    output: Output,
    checked: str,
    command: str,
) -> str:
    """Text of README.md.

    records  the exported runs, seeds of one cell
    checked  a sentence: how loading was verified
    command  the line that made the first of the runs
    """
    first = records[0]
    names, result = first.measured["names"], first.result
    about, metric = cfg["task"].get("about") or {}, result["metric"]
    technique = "+".join(names["technique"]) or "none"
    seeds = ", ".join(str(r.measured["names"]["seed"]) for r in records)
    kind = "an ensemble of seeds" if len(records) > 1 else "seed"
    lines = [
        *_front_matter(cfg, metric, output),
        f"# {shown(names['task'])} by {shown(names['model'])}, {kind} {seeds}",
        "",
        f"{shown(names['model'])}, fine-tuned on {result['items']['train']:,} training items of "
        f"{shown(names['task'])}. Stabilisation: {shown(technique)}. Weights after the "
        f"{'last step' if at == 'last' else 'best validation score'}.",
        "",
        "## How good, and how lucky",
        "",
        *_luck(records, cell, at, metric),
        "",
        "## Use",
        *_use(cfg, output, len(records) > 1),
        f"Answers: {', '.join(shown(label) for label in labels)}." if labels else "",
        "",
        "## Intended use and limits",
        "",
        "* For research on text like that of the training data. Not for decisions about patients.",
        f"* Chosen and scored on one test set; {shown(metric)} elsewhere is unknown.",
        "* Probabilities are not calibrated. The spread over seeds above is part of the result: "
        "another seed would answer some items otherwise.",
        f"* Reads at most {cfg['task']['max_length']} word pieces at once"
        + (" (longer sentences in windows)." if cfg["task"].get("overlap") else "."),
        *_lost(first),
        "",
        "## Data",
        "",
        f"* {shown(about.get('summary', names['task']))}",
        f"* Licence of the data: {shown(about.get('licence') or 'unknown')}",
        f"* Citation: {shown(about.get('citation', 'unknown'))}",
        "* Items used: " + ", ".join(f"{n} {split}" for split, n in result["items"].items()),
        f"* Pretrained model: {shown(result['config']['model'])}, licence "
        f"{shown((cfg['model'].get('about') or {}).get('licence', 'unknown'))}",
        "",
        "## Recipe",
        "",
        *(f"* {shown(k)}: {shown(v)}" for k, v in result["config"]["optim"].items()),
        f"* steps taken: {result['steps']}, of warm-up {result['warmup_steps']}; precision "
        f"{shown(first.measured['precision'])}",
        "",
        "## Technique, and what it really did",
        "",
        *_techniques(first),
        "",
        "## Made by",
        *block(placeless_command(command)),
        f"run{'s' if len(records) > 1 else ''} {', '.join(r.key for r in records)}, "
        f"{shown(json.dumps(first.measured.get('versions', {})))}",
        "",
        placeless_text(checked),
        "",
    ]
    return "\n".join(lines)


def _front_matter(cfg: Mapping[str, Any], metric: str, output: Output) -> list[str]:
    """What model hubs read, as JSON strings, which yaml takes as they are."""
    said = {
        "library_name": "transformers",
        "pipeline_tag": output.pipeline,
        "tags": ["bluestab", *([name] if (name := cfg["task"]["name"]) else [])],
        "metrics": [metric],
        **_licence(str((cfg["task"].get("about") or {}).get("licence") or "")),
    }
    if cfg["model"].get("hub"):
        said["base_model"] = str(cfg["model"]["hub"])
    return ["---", *(f"{k}: {json.dumps(v)}" for k, v in said.items()), "---", ""]


LICENCES = {
    "MIT": "mit", "Apache-2.0": "apache-2.0", "CC0-1.0": "cc0-1.0", "GNU GPL v3": "gpl-3.0",
    "CC BY 4.0": "cc-by-4.0", "CC BY 3.0": "cc-by-3.0", "CC BY-SA 4.0": "cc-by-sa-4.0",
    "CC BY-NC 4.0": "cc-by-nc-4.0",
}  # fmt: skip
"""How a yaml's licence begins -> the identifier that model hubs know."""


def _licence(said: str) -> dict[str, str]:
    """The licence of the data, for the front matter; hubs have no identifier of the public domain.

    Of weights that were trained on them it is the least that is to be kept: the card names that of
    the pretrained model, too.
    """
    for begins, name in LICENCES.items():
        if re.match(rf"{re.escape(begins)}(?![\w-])", said):
            return {"license": name}
    if "public domain" in said.lower():
        return {"license": "other", "license_name": "public-domain"}
    return {
        "license": "unknown" if not said or said.startswith(("yours", "not stated")) else "other"
    }


def _luck(records: Sequence[RunRecord], cell: Cell, at: At, metric: str) -> Iterator[str]:
    found = cell.summary(at)
    if len(records) == 1:
        rank, n = cell.rank(records[0], at)
        yield (
            f"Test {shown(metric)} of these weights: **{records[0].result['score'][at]:.4f}**, "
            f"rank {rank} of the {n} seeds that were run."
        )
    else:
        yield f"These are {len(records)} of the {found['n']} seeds that were run."
    yield ""
    if found["n"] < 2:
        yield "No other seed was run: how much of this score is luck is unknown."
        return
    yield (
        f"All seeds: mean {found['mean']:.4f}, standard deviation {found['std']:.4f}, median "
        f"{found['median']:.4f}, from {found['min']:.4f} to {found['max']:.4f}. Failed: "
        f"{found['failed']} of {found['n']} (95 % interval of the share "
        f"{found['failed_low']:.0%} to {found['failed_high']:.0%})."
    )
    yield ""
    yield "| seed | validation | test | |"
    yield "|---|---|---|---|"
    keys = {r.key for r in records}
    for record in cell.records:
        score = validation(record, at)
        remarks = ["**here**"] if record.key in keys else []
        if record.failed:
            remarks.append("failed")
        yield (
            f"| {record.measured['names']['seed']} | {'-' if score is None else f'{score:.4f}'} | "
            f"{record.result['score'][at]:.4f} | {', '.join(remarks)} |"
        )


def _use(cfg: Mapping[str, Any], output: Output, ensemble: bool) -> list[str]:
    task = cfg["task"]
    predict = "bluestab predict . --input notes.jsonl --output labelled.jsonl"
    if ensemble:
        return ["", "Mean and disagreement of all members:", *block(predict)]
    pair = task.get("text_pair") is not None
    if output.per_word:
        call = (
            'pipe = pipeline("ner", model=".", aggregation_strategy="first")\n'
            'pipe("Mutations of BRCA1 in hereditary breast cancer")'
        )
    else:
        text = '{"text": "one", "text_pair": "other"}' if pair else '"some text"'
        more = ', function_to_apply="none"' if output.numeric else ""
        call = (
            f'pipe = pipeline("text-classification", model=".", top_k=None{more})\n'
            f"pipe({text}, truncation=True)"
        )
    code = f"from transformers import pipeline\n{call}"
    if cfg["model"].get("global_attention") == FIRST_TEXT:
        return [
            "",
            "Trained with global attention on the first text of a pair: plain transformers gives "
            "the same only with a `global_attention_mask` of ones before the first separator. "
            "With files:",
            *block(predict),
        ]
    return [*block(code), "or, with files of any length:", *block(predict)]


def _lost(record: RunRecord) -> Iterator[str]:
    lost = record.result.get("lost") or {}
    if lost.get("test"):
        yield f"* {lost['test']:.1%} of the {shown(lost['unit'])} of the test set lay beyond that."


def _techniques(record: RunRecord) -> Iterator[str]:
    knobs = dict(record.result["config"]["technique"])
    if not knobs:
        yield "Plain fine-tuning."
    for name, values in knobs.items():
        did = (record.result.get("effects") or {}).get(name)
        yield f"* {shown(name)}: {shown(json.dumps(values))}; {shown(json.dumps(did))}"
