"""The pages of the reference, made when the documentation is built and written nowhere else:
verbs from the parsers of the command line, knobs from the yamls and their comments, cards from
modules."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bluestab.core.catalogue import GROUPS
from bluestab.core.paths import conf_dir, sweeps_dir
from bluestab.core.reference import card, knobs_of, opening

CONF = conf_dir()
ASIDE = ("_target_", "about", "search_space", "fetch", "sha256", "defaults", "hydra", "backend")
"""Parts of paths in yamls that nobody sets."""

Row = tuple[str, ...]


def page(title: str, *parts: str) -> str:
    return f"# {title}\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def grid(headings: Row, rows: Iterable[Row]) -> str:
    """A Markdown table; an empty text where it has no row."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings), *lines])


def literal(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def prose(text: str) -> str:
    """Text of a comment or docstring: signs of Markdown and HTML stand for themselves, but for the
    back-quotes of code."""
    parts = re.split(r"(``?[^`]+``?)", text)
    escaped = [re.sub(r"([\\*_\[\]<>$~{}#])", r"\\\1", part) for part in parts[::2]]
    parts[::2] = escaped
    return "".join(parts)


def code(text: object) -> str:
    return f"`{text}`" if str(text) else ""


# --- the command line ------------------------------------------------------------------------


def verbs() -> str:
    """Every verb, with the screen that its `--help` prints."""
    from typer.testing import CliRunner

    from bluestab.cli.app import app
    from bluestab.cli.verbs import GROUPS as VERBS

    runner = CliRunner(env={"COLUMNS": "96"})

    def screen(*words: str) -> str:
        said = runner.invoke(app, [*words, "--help"])
        if said.exit_code:
            raise RuntimeError(f"bluestab {' '.join(words)} --help: {said.output}")
        return said.output.replace(str(Path.home()), "~")

    parts = [
        "`bluestab VERB --help` prints what stands here. Exit codes: [](exit-codes.md). "
        "`--debug` shows tracebacks, `--version` the version."
    ]
    for kind, names in VERBS.items():
        parts.append(f"## {kind}")
        for name in names:
            parts += [f"(verb-{name})=\n### bluestab {name}", literal(screen(name))]
            for inner in NESTED.get(name, ()):
                parts += [f"#### bluestab {name} {inner}", literal(screen(name, inner))]
    return page("Verbs", *parts)


NESTED = {"store": ("verify", "gc", "merge"), "cache": ("size", "clear")}


def exit_codes() -> str:
    """Of every verb, from the errors that stand for them."""
    from bluestab.core import errors

    rows = [(0, "fine", "")]
    for name, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, errors.BluestabError):
            rows.append((error.exit_code, str(error.__doc__).partition("\n")[0], name))
    table = grid(
        ("exit code", "when", "in Python"),
        [(str(number), prose(said), code(name)) for number, said, name in sorted(rows)],
    )
    return page(
        "Exit codes",
        "0: fine. 1: something ran, and some run crashed. 2: what was asked for is impossible, and "
        "nothing was started. 130: interrupted.",
        table,
    )


# --- knobs -----------------------------------------------------------------------------------

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
    return page("Knobs", *parts)


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
            grid(("knob", "default", "meaning"), three(knob_rows(file, "task.", {}))),
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


def metrics() -> str:
    from bluestab.cli.explain import scorers
    from bluestab.tasks.metric import KNOWN

    said = scorers()
    parts = ["`task.metric=NAME`, where the task has it."]
    for name, metric in KNOWN.items():
        better = "higher" if metric.higher_is_better else "lower"
        parts += [
            f"## {name}",
            f"From {metric.least:g} to {metric.most:g}; {better} is better.",
            literal(said[name]),
        ]
    return page("Metrics", *parts)


def sweeps() -> str:
    parts = ["`bluestab run -m +sweeps=NAME`; `bluestab check -m +sweeps=NAME` says what it costs."]
    for file in sorted(sweeps_dir().glob("*.yaml")):
        parts += [f"## {file.stem}", literal(opening(file)), published(file)]
    parts += ["# Sequences", "`bluestab run -m +sequence=NAME technique=...`"]
    for file in yamls("sequence"):
        parts += [f"## {file.stem}", literal(opening(file))]
    return page("Declared sweeps", *[part.replace("\n# ", "\n## ") for part in parts])


def published(file: Path) -> str:
    """Of a sweep after a paper: which of its values were published, which are ours, and why."""
    rows = [
        (code(knob.path), code(knob.default), prose(knob.comment))
        for knob in knobs_of(file)
        if re.search("published|chosen by us", knob.comment)
    ]
    return grid(("arm or knob", "value", "published, or ours and why"), rows)


# --- files -----------------------------------------------------------------------------------


def files() -> str:
    from bluestab.core.types import RunRecord
    from bluestab.store import store
    from bluestab.store.artefacts import PREDICTION_COLUMNS

    return page(
        "Files of a run",
        "## The folder of results",
        literal(inspect.getdoc(store) or ""),
        "## record.json",
        literal(inspect.getdoc(RunRecord) or ""),
        "## curve.csv",
        "A line per evaluation: `step`, optimizer steps; `train_loss`, mean since the line before; "
        "under the name of each metric of the task its value on the validation items; and mean "
        "gradient norms since the line before: `grad_norm_embeddings`, `grad_norm_block_1` and so "
        "on, `grad_norm_top`.",
        "## predictions.parquet",
        f"A row per test item and `at` (last, best): {', '.join(map(code, PREDICTION_COLUMNS))}. "
        "Ids, labels and scores; never the text of an item.",
        "## split.csv",
        "Where parts were drawn: `id`, `split` of every item that the run used.",
    )


FRAMES: Mapping[str, tuple[str, str, str]] = {
    "confirmed": ("confirmed", "confirmed_frame", "COLUMNS"),
    "forgetting": ("sequences", "forgetting_frame", "COLUMNS"),
    "stages": ("sequences", "stages_frame", "STAGE_COLUMNS"),
    "references": ("references", "references_frame", "COLUMNS"),
    "instability": ("instability", "instability_frame", "COLUMNS"),
    "published": ("beside_published", "published_frame", "COLUMNS"),
    "over_tasks": ("over_tasks", "over_tasks_frame", "COLUMNS"),
    "merges": ("merges", "merges_frame", "COLUMNS"),
    "blurb": ("blurb_scores", "blurb_frame", "COLUMNS"),
}
"""Section with a CSV file of its own -> module of report.frames, function there, columns there."""


def report() -> str:
    from importlib import import_module

    from bluestab.report.frames.summary import SUMMARY_COLUMNS
    from bluestab.report.sections import SECTIONS
    from bluestab.report.words.glossary import column
    from bluestab.report.write import RUN_COLUMNS

    rows = [(code(name), prose(column(name) or "")) for name in SUMMARY_COLUMNS]
    parts = [
        "`bluestab report` writes a folder `report/NAME`: `report.html`, the page; `summary.csv`, "
        "`runs.csv`, a CSV file for each section below that has one; `summary.md` and "
        "`tables/*.tex`; `seeds.png`, with `--figures` all figures.",
        "## Sections of the page",
    ]
    for section in SECTIONS:
        if section.about:
            parts.append(f"**{prose(section.title)}**\n: {prose(section.about)}")
    parts += [
        "## summary.csv",
        "One row per arm and `at`.",
        grid(("column", "what it holds"), rows),
        "## runs.csv",
        "One row per run and `at`.",
        grid(("column", "what it holds"), [(code(c), prose(run_column(c))) for c in RUN_COLUMNS]),
    ]
    for name, (module, function, columns) in FRAMES.items():
        found = import_module(f"bluestab.report.frames.{module}")
        doc = inspect.getdoc(getattr(found, function)) or ""
        parts += [
            f"## {name}.csv",
            literal(doc),
            "Columns: " + ", ".join(map(code, getattr(found, columns))) + ".",
        ]
    return page("Files of a report", *parts)


def run_column(name: str) -> str:
    """What a column of runs.csv holds: as in summary.csv, or of one run."""
    from bluestab.report.words.glossary import COLUMNS

    return OF_A_RUN.get(name) or COLUMNS.get(name, "")


OF_A_RUN = {
    "key": "the name of the run in the store: a hash of what decides its result.",
    "seed": "the number that draws head, order of items and dropout.",
    "status": "done: trained and scored; diverged: its loss was not finite; crashed: no result.",
    "score": "test score of the run, in the unit of the metric; empty where it crashed.",
    "validation": "validation score at the same weights.",
    "degenerate": "whether the test score is at or below failed_below, or undefined.",
    "failed": "degenerate or diverged.",
    "censored": "whether stop_degenerate ended the run early.",
    "steps": "optimizer steps that were taken.",
    "micro_batch": "items per forward and backward pass; empty: the whole batch.",
    "fold": "the fold that tested, of a cross-validation.",
    "lost_train": "share of the training items that lies beyond task.max_length.",
    "lost_test": "share of the test items that lies beyond task.max_length.",
    "lost_unit": "what these shares count: characters, entities.",
    "seconds": "seconds of the run, all together.",
    "memory": "bytes of weights, gradients, moments and activations where a step needed most.",
    "recipe_version": "of the training itself: runs of two versions are pointed out.",
    "commit": "commit of bluestab, where it ran from a checkout.",
    "dirty": "whether that checkout held changes that were not committed.",
    "bluestab": "version of bluestab.",
    "torch": "version of torch.",
}


def glossary() -> str:
    from bluestab.report.words.glossary import TERMS

    entries = [f"{term}\n: {prose(said)}" for term, said in TERMS.items()]
    return page("Glossary", "`bluestab explain TERM` says the same.", *entries)


# --- files beside the README -------------------------------------------------------------------

SHOWN = {"CONTRIBUTING.md": "contributing", "SECURITY.md": "security", "CHANGELOG.md": "changes"}
"""File of the repository that is a page, too -> the page."""


def from_root(name: str) -> str:
    """One of them, with its links as they are from here; files that are no page are only named."""

    def link(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        if "://" in target:
            return match[0]
        if target.startswith("docs/"):
            return f"[{words}](../{target.removeprefix('docs/')})"
        return f"[{words}]({SHOWN[target]}.md)" if target in SHOWN else f"`{words}`"

    text = (CONF.parent / name).read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", link, text)


PAGES: Mapping[str, Callable[[], str]] = {
    "verbs": verbs,
    "exit-codes": exit_codes,
    "knobs": knobs,
    "techniques": techniques,
    "tasks": tasks,
    "models": models,
    "metrics": metrics,
    "sweeps": sweeps,
    "files": files,
    "report": report,
    "glossary": glossary,
    **{made: partial(from_root, name) for name, made in SHOWN.items()},
}
"""Name of a page below `reference/` -> its Markdown."""


def write(folder: Path) -> None:
    """Every page into `folder`; one that says the same is left as it is, so that it is not read
    anew by the next build."""
    for name, made in PAGES.items():
        file, text = folder / f"{name}.md", made()
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
