"""Small files in the formats of the published corpora, made from what the yamls of tasks say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bluestab.core.paths import conf_dir

TEXT = "the gene TP53 was found in patients with colon cancer and type 2 diabetes mellitus"
WORDS = TEXT.split()


def sentence(i: int) -> list[str]:
    """A sentence of 6 to 10 words that differs for every i."""
    return [WORDS[(i * 7 + j * (1 + i % 3)) % len(WORDS)] for j in range(6 + i % 5)] + [str(i)]


CONCEPTS = list(enumerate((one, two) for one in WORDS[1:7] for two in WORDS[8:13]))
"""Number -> the two words of a concept's name."""

SIZES = {"train": 24, "validation": 10, "test": 10}


def published_tasks() -> list[Path]:
    """The yamls of tasks that come with their files named; the others wait for a person's own."""
    files = sorted((conf_dir() / "task").glob("*.yaml"))
    return [file for file in files if OmegaConf.load(file).train is not None]


def write_corpora(root: Path) -> Path:
    """Small files in the format and layout of every task in conf/task, made from its yaml."""
    for file in published_tasks():
        write_corpus(root, OmegaConf.to_container(OmegaConf.load(file)))
    return root


def write_corpus(root: Path, node: Any) -> None:
    """The files of one task below `root`, by the node of its yaml."""
    folder = root / node.get("corpus", node["name"])
    if node.get("image") is not None:
        write_pictured(folder, node)
        return
    start = 0
    for split, n in SIZES.items():
        path = folder / node[split]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(corpus(node, range(start, start + n)), encoding="utf-8")
        start += n
    if "dictionary" in node:
        names = [f"D{at:03}||{one} {two}|{one} of the {two}" for at, (one, two) in CONCEPTS]
        path = folder / node["dictionary"]
        path.write_text("\n".join(names) + "\n", encoding="utf-8")


def corpus(node: dict[str, Any], numbers: range) -> str:
    """One file of a task, an item for each number."""
    if node["format"] == "pubtator":
        return "\n".join(abstract(node, i) for i in numbers)
    if node["format"] == "conll":
        types = sorted({label.partition("-")[2] for label in node["label_names"]} - {""}) or [""]
        return "".join(tagged_sentence(node, i, types[i % len(types)]) for i in numbers)
    rows = [row(node, i) for i in numbers]
    if node["format"] == "json":
        if node["id"] == "key":
            return json.dumps({r.pop("key"): r for r in rows})
        return json.dumps(rows)
    fields = list(rows[0]) if node["header"] else sorted(rows[0])
    head = ["\t".join(map(str, fields))] if node["header"] else []
    return "\n".join([*head, *("\t".join(str(r[f]) for f in fields) for r in rows)]) + "\n"


def write_pictured(folder: Path, node: dict[str, Any]) -> None:
    """Questions on images in one file, two per image: what validates is drawn."""
    from PIL import Image

    items = []
    (folder / node["images"]).mkdir(parents=True, exist_ok=True)
    for i in range(sum(SIZES.values())):
        image = f"{i // 2}.png"
        shade = (i // 2 * 10 % 256, 50 * (i % 4 // 2), 0)
        Image.new("RGB", (20, 24), shade).save(folder / node["images"] / image)
        values = {
            "id": str(i),
            "text": " ".join(sentence(i)),
            "label": ("yes", "no", "lung")[i % 3],
            "image": image,
            "answer_type": "OPEN" if i % 3 == 2 else "CLOSED",
            "part": "freeform" if i < SIZES["train"] + SIZES["validation"] else "test_freeform",
        }
        items.append({node[role]: value for role, value in values.items()})
    (folder / node["train"]).write_text(json.dumps(items), encoding="utf-8")


def tagged_sentence(node: dict[str, Any], i: int, kind: str) -> str:
    """`colon` and `cancer` are entities; where tags are words' classes, so is every third word."""
    end = f"-{kind}" if kind else ""
    begin = f"B{end}" if f"B{end}" in node["label_names"] else f"I{end}"
    tags = [begin if word in ("colon", "cancer") else "O" for word in sentence(i)]
    if begin.startswith("I"):
        tags[1] = begin
    return "".join(f"{w}\t{t}\n" for w, t in zip(sentence(i), tags, strict=True)) + "\n"


def abstract(node: dict[str, Any], i: int) -> str:
    """An abstract of PubTator with a mention of one concept; every fifth has one of several, and
    one of none, too."""
    at, (one, two) = CONCEPTS[i % len(CONCEPTS)]
    mention, start = f"{one} of {two}", len(str(i)) + 1
    lines = [f"{i}|t|{i} {mention} was found .", f"{i}|a|"]
    for kind in ("Disease", "Chemical") if node["types"] else ("Disease",):
        found = [(mention, f"D{at:03}")]
        if i % 5 == 0:
            found += [(one, "D001|D002"), (one, "-1")]
        lines += [f"{i}\t{start}\t{start + len(m)}\t{m}\t{kind}\t{c}" for m, c in found]
    return "\n".join(lines) + "\n"


def row(node: dict[str, Any], i: int) -> dict[Any, Any]:
    """Field -> value of one item of a delimited file."""
    names: Any = node.get("label_names")
    label: Any = i % 5 if names is None else names[i % len(names)]
    found = {node["id"]: i, node["text"]: " ".join(sentence(i))}
    if "text_pair" in node:
        found[node["text_pair"]] = " ".join(sentence(i + 1))
    if node.get("label_form") == "flags":
        found[node["id"]] = f"{i}_s0"
        label = ",".join(f"{k}_{int(k in (i % len(names), i % 3))}" for k in range(len(names)))
    return {**found, node["label"]: label}


ANY_FILE = ["task.sha256.train=null", "task.sha256.validation=null", "task.sha256.test=null"]
"""Overrides that accept these files in place of the published ones."""

ON_ANY_DEVICE = (
    *("trainer.precision=32", "trainer.micro_batch=null", "trainer.dropout_masks=torch"),
    "trainer.embedding_rows=all",
)
"""What is else left to what a device can do: the same run on any machine."""

TINY_RUN = [*ANY_FILE, "task=gad", "model=tiny", "device=cpu", *ON_ANY_DEVICE]
"""A run of seconds, the same on any machine."""
