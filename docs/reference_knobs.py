"""Pages of the reference that are made from the yamls: knobs, techniques, tasks, models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from markup import Row, code, grid, page, prose
from omegaconf import OmegaConf

from bluestab.core.catalogue import GROUPS
from bluestab.core.paths import conf_dir
from bluestab.core.reference import card, knobs_of, opening

CONF = conf_dir()
ASIDE = ("_target_", "about", "search_space", "fetch", "sha256", "defaults", "hydra", "backend")
"""Parts of paths in yamls that nobody sets."""

KNOBS = ("knob", "default", "may be", "meaning, unit, the paper's value")


def ranges() -> dict[str, str]:
    """Path of a knob -> what it may hold, in the words of the error about it."""
    from bluestab.core.knobs import RULES as plain
    from bluestab.sweeps.auto.plan import RULES as auto
    from bluestab.sweeps.search.spec import RULES as search

    of_search = {f"search.{name}": rule for name, rule in search.items()}
    return {name: expected for name, (_, expected) in {**plain, **auto, **of_search}.items()}


def knob_rows(file: Path, prefix: str, allowed: Mapping[str, str]) -> Iterator[Row]:
    """A row per knob of a yaml; `prefix` is the group as it is typed."""
    for knob in knobs_of(file):
        if set(knob.path.split(".")) & set(ASIDE):
            continue
        path = f"{prefix}{knob.path}"
        yield code(path), code(knob.default), prose(allowed.get(path, "")), prose(knob.comment)


def knobs() -> str:
    allowed = ranges()
    files = [
        ("A run and a sweep", CONF / "bluestab.yaml", ""),
        ("Optimizer and length", CONF / "optim/adamw.yaml", "optim."),
        ("How a run computes", CONF / "trainer/default.yaml", "trainer."),
        ("A search", CONF / "search/default.yaml", "search."),
        *((f"Sampler {f.stem} of a search", f, "search.sampler.") for f in yamls("search/sampler")),
        *((f"Launcher {f.stem}", f, "hydra.launcher.") for f in yamls("hydra/launcher")),
        *((f"Logger {f.stem}", f, "logger.") for f in yamls("logger")),
        *((f"Images, model/vision={f.stem}", f, "model.") for f in yamls("model/vision")),
        ("A sequence of tasks", CONF / "sequence/bio_ner.yaml", "sequence."),
    ]
    parts = [
        "Every knob is set on the command line as `KEY=VALUE`; `bluestab explain KEY` says the "
        "same. Knobs of a [technique](techniques.md), a [task](tasks.md) and a [model](models.md) "
        "stand with these. An empty third column: the value is checked with others, and the "
        "error about it says how.",
    ]
    for title, file, prefix in files:
        table = grid(KNOBS, knob_rows(file, prefix, allowed))
        parts += [f"## {title}", prose(opening(file)), table] if table else []
    set_outside = [(code(name), said) for name, said in ENVIRONMENT.items()]
    environment = grid(("variable", "what it says"), set_outside)
    return page("Knobs", *parts, "## Variables of the environment", environment)


ENVIRONMENT = {
    "BLUESTAB_STORE": "the folder of results, in place of `runs`",
    "BLUESTAB_DATA": "a folder that holds the data of tasks, each in a folder of its name",
    "BLUESTAB_CACHE": "the folder of word pieces, outputs of frozen blocks and image towers, "
    "and fetched data, in place of `$XDG_CACHE_HOME/bluestab` or `~/.cache/bluestab`",
    "BLUESTAB_CONF": "the folder of your own yamls, in place of "
    "`$XDG_CONFIG_HOME/bluestab/conf` or `~/.config/bluestab/conf`",
    "BLUESTAB_ALLOW": "packages whose classes a yaml may name, with commas between them",
}
"""What a person sets; others are set by bluestab for processes that it starts."""


def yamls(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml"))


# --- techniques ------------------------------------------------------------------------------

LABEL = re.compile(r"([A-Z][A-Za-z ]{1,12}?)(?:  +|$)(.*)")


def card_of(text: str) -> str:
    """A card as a list: `Idea      Lower layers ...` with its indented lines is one entry."""
    head, _, rest = text.partition("\n\n")
    said, entries = [prose(" ".join(head.split()))], []
    for line in rest.splitlines():
        label = LABEL.match(line)
        if label and not line.startswith(" "):
            entries.append([label[1].strip(), label[2]])
        elif entries:
            entries[-1].append(line.strip())
        elif line.strip():
            said.append(prose(line))
    listed = [f"**{label}**\n: {prose(' '.join(lines).strip())}" for label, *lines in entries]
    return "\n\n".join([*said, *listed])


def technique_ranges(name: str, file: Path) -> dict[str, str]:
    """Knob as it is typed -> what it may hold with a model of twelve blocks."""
    from bluestab.core.instantiate import load_class
    from bluestab.core.types import ModelFacts
    from bluestab.techniques.base import Technique

    node: Any = OmegaConf.to_container(OmegaConf.load(file))[name]
    own = {k: v for k, v in node.items() if k not in ("_target_", "search_space")}
    facts = ModelFacts("any", "bert", 12, hidden_size=768, max_length=512, pooler=True)
    rules = load_class(node["_target_"], Technique, name)(**own).rules(facts)
    return {f"technique.{name}.{knob}": expected for knob, (_, expected) in rules.items()}


def techniques() -> str:
    parts = [
        "One or a list, in any order: `technique=llrd`, `'technique=[freeze,llrd]'`. "
        "[Choose a remedy](../how-to/techniques.md) has them in groups. What a knob may be is said "
        "for a model of twelve blocks."
    ]
    for file in yamls("technique"):
        name, node = file.stem, OmegaConf.load(file)
        target = str(OmegaConf.select(node, f"{name}._target_"))
        parts.append(f"(technique-{name})=\n## {name}")
        parts.append(card_of(card(target)) if card(target) else prose(opening(file)))
        if OmegaConf.select(node, name) and card(target):
            rows = list(knob_rows(file, "technique.", technique_ranges(name, file)))
            parts.append(grid(KNOBS, rows))
            parts.append(spaces(OmegaConf.select(node, f"{name}.search_space"), name))
    return page("Techniques", *parts)


def spaces(node: Any, name: str) -> str:
    if not node:
        return ""
    rows = [f"`{knob}` {code(space)}" for knob, space in node.items()]
    return f"A search (`search.space=[{name}]`) draws {', '.join(rows)}."


# --- tasks, models, metrics, sweeps ----------------------------------------------------------


OF_ANY_TASK = {
    "name": "what reports call it",
    "train": "file of the training items, in `task.data_dir`",
    "validation": "file of the validation items",
    "test": "file of the test items",
    "format": "how the file is read: csv, conll, json, ...",
    "text": "column of the text",
    "text_pair": "column of the second text",
    "label": "column of the label",
    "label_names": "the labels in order",
    "dictionary_sha256": "of the dictionary; null accepts any file",
    "metric": "the headline; see the page of metrics",
    "recipe.lr": "peak learning rate",
    "recipe.batch_size": "items per optimizer step",
    "recipe.epochs": "passes over the training items",
}
"""Knob that says the same in every task -> its meaning, where a yaml adds no words of its own."""


def of_a_task(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows without the column of ranges, each with a meaning."""
    for knob, default, said in three(rows):
        name = knob.strip("`").removeprefix("task.")
        yield knob, default, said or OF_ANY_TASK.get(name, "")


def tasks() -> str:
    own, blurb, parts = [], [], []
    for file in yamls("task"):
        node: Any = OmegaConf.load(file)
        about = node.about
        link = f"[{file.stem}](#task-{file.stem})"
        row = (
            link,
            prose(str(about.summary)),
            code(node.metric),
            "from the file" if node.failed_below is None else code(node.failed_below),
            prose(str(about.licence)),
        )
        (blurb if about.get("counts") else own).append(row)
        facts = [("licence", about.licence), ("citation", about.citation), ("from", about.url)]
        listed = [f"* {key}: {prose(str(value))}" for key, value in facts if value]
        if about.get("counts"):
            sizes = ", ".join(f"{part} {n}" for part, n in about.counts.items() if n is not None)
            listed.insert(0, f"* items: {sizes}")
        parts += [
            f"(task-{file.stem})=\n## {file.stem}",
            prose(opening(file)),
            "\n".join(listed),
            grid(("knob", "default", "meaning"), of_a_task(knob_rows(file, "task.", {}))),
        ]
    head = ("task", "what it is", "metric", "`failed_below`", "licence of the data")
    return page(
        "Tasks",
        "`failed_below`: a test score at or below it (above, where lower is better) is that of a "
        "model that ignores its input; each task below says how the number comes about.",
        "## For files of your own",
        "[Your own data](../how-to/own-data.md) says which formats they read.",
        grid(head, own),
        "## Of BLURB",
        grid(head, blurb),
        *parts,
    )


def three(rows: Iterable[Row]) -> Iterator[Row]:
    """Without the column of ranges."""
    return ((knob, default, said) for knob, default, _, said in rows)


def models() -> str:
    groups: dict[str, list[Row]] = {group: [] for group in GROUPS}
    for file in yamls("model"):
        node: Any = OmegaConf.load(file)
        about = node.get("about") or {}
        where = node.get("hub") or node.get("package") or ""
        row = (
            code(file.stem),
            prose(str(about.get("summary") or opening(file))),
            str(about.get("language") or ""),
            str(node.get("max_length") or ""),
            prose(str(about.get("licence") or "")),
            code(where),
        )
        groups.setdefault(str(about.get("group", GROUPS[0])), []).append(row)
    head = ("model", "what it is", "language", "pieces", "licence", "from")
    parts = []
    for group, rows in groups.items():
        parts += [f"## {group[:1].upper()}{group[1:]}", grid(head, rows)] if rows else []
    knobs = grid(
        ("knob", "default", "meaning"), three(knob_rows(CONF / "model/auto.yaml", "model.", {}))
    )
    return page(
        "Models",
        "The commit of each is pinned in its yaml. `minilm` is a Python package and needs no hub. "
        "For any other encoder: [Any encoder](../how-to/any-encoder.md).",
        *parts,
        "## Knobs of a model",
        "As `conf/model/auto.yaml` has them.",
        knobs,
    )
