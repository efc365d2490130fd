"""The pages of the reference, made when the documentation is built and written nowhere else:
verbs from the parsers of the command line, knobs from the yamls and their comments, cards from
modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from markup import code, grid, literal, page, prose
from reference_files import files, report
from reference_knobs import CONF, knobs, models, tasks, techniques, yamls

from bluestab.core.paths import PACKAGE, sweeps_dir
from bluestab.core.reference import knobs_of, opening

# --- the command line ------------------------------------------------------------------------


def verbs() -> str:
    """Every verb, with the screen that its `--help` prints."""
    import typer
    from typer.testing import CliRunner

    from bluestab.cli.app import app
    from bluestab.cli.verbs import GROUPS as VERBS

    runner = CliRunner(env={"COLUMNS": "96"})
    commands: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]

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
            for inner in getattr(commands[name], "commands", ()):
                parts += [f"#### bluestab {name} {inner}", literal(screen(name, inner))]
    return page("Verbs", *parts)


ONES = {
    "bluestab store verify": "Something in the store is not what its checksums say.",
    "bluestab store gc, store merge, cache clear": "Something could not be removed or taken; it is "
    "named, and the rest is done.",
    "bluestab reproduce": "The run came out different.",
}
"""Verb -> when it ends with exit code 1 without an error."""


def errors_with_codes() -> Iterator[tuple[int, str, str]]:
    """Exit code, sentence and name of every error of the package; none of its modules is loaded."""
    trees = [ast.parse(f.read_text(encoding="utf-8")) for f in sorted(PACKAGE.rglob("*.py"))]
    classes = {n.name: n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}

    def code_of(name: str) -> int | None:
        node = classes.get(name)
        if node is None:
            return None
        for line in node.body:
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "exit_code":
                return int(ast.literal_eval(line.value))
        return next((n for base in node.bases if (n := code_of(ast.unparse(base)))), None)

    for name, node in classes.items():
        if number := code_of(name):
            yield number, str(ast.get_docstring(node)).partition("\n")[0], name


def exit_codes() -> str:
    """Of every verb, from the errors that stand for them."""
    rows = [(0, "fine", ""), *errors_with_codes()]
    ends = [(1, said, verb) for verb, said in ONES.items()]
    table = grid(
        ("exit code", "when", "error or verb"),
        [(str(number), prose(said), code(name)) for number, said, name in sorted([*rows, *ends])],
    )
    return page(
        "Exit codes",
        "0: fine. 1: something was done, and not all of it went well: a run crashed, a file could "
        "not be brought, a store is damaged. 2: what was asked for is impossible, and nothing was "
        "started. 130: interrupted.",
        table,
    )


# --- metrics, sweeps ---------------------------------------------------------------------------


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
