"""What knobs and techniques are, from where it is written: the comments of yamls, the docstrings of
modules. Nothing of them is imported, so it costs no torch."""

from __future__ import annotations

import ast
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from bluestab.core.instantiate import allowed_packages
from bluestab.core.paths import PACKAGE

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the former is ten times as fast


@dataclass(frozen=True)
class KnobText:
    """A knob of a yaml: its dotted path there, its default as written, what its comment says."""

    path: str
    default: str
    comment: str


def knobs_of(file: Path) -> list[KnobText]:
    """The knobs of a yaml in its order, maps with a comment of their own included.

    A comment stands behind the value; lines below that hold nothing else go on with it.
    """
    text = file.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=LOADER)
    if not isinstance(root, yaml.MappingNode):
        return []
    return list(_knobs(root, "", text.splitlines()))


def _knobs(node: yaml.MappingNode, path: str, lines: list[str]) -> Iterator[KnobText]:
    for key, value in node.value:
        where = f"{path}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            if comment := _comment(lines, key.end_mark):
                yield KnobText(where, "", comment)
            yield from _knobs(value, f"{where}.", lines)
            continue
        first, last = value.start_mark, value.end_mark
        shown = lines[first.line][first.column : last.column if last.line == first.line else None]
        block = isinstance(value, yaml.SequenceNode) and not value.flow_style
        mark = key.end_mark if block else last
        yield KnobText(where, "" if block else shown.strip(), _comment(lines, mark))


def _comment(lines: list[str], mark: yaml.Mark) -> str:
    """Behind a mark, and on the lines below that hold a comment further to the right."""
    if mark.line >= len(lines):
        return ""
    match = re.match(r":?\s*#\s*(.*)", lines[mark.line][mark.column :])
    if match is None:
        return ""
    column = lines[mark.line].index("#", mark.column)
    more = itertools.takewhile(
        lambda line: line.lstrip().startswith("#") and line.index("#") >= min(column, 8),
        lines[mark.line + 1 :],
    )
    return " ".join([match[1].strip(), *(line.strip().lstrip("# ") for line in more)])


def opening(file: Path) -> str:
    """The comment that a yaml begins with."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "\n".join(
        line.lstrip("#").strip() for line in found if not line.startswith("# @package")
    )


def card(target: str) -> str:
    """The docstring of a class's module; empty where its package is not allowed, or not here."""
    top, *inner = target.rpartition(".")[0].split(".")
    if top not in allowed_packages():
        return ""
    spec = find_spec(top) or PathFinder.find_spec(top, [os.getcwd()])
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin)
    if inner:
        file = file.parent.joinpath(*inner).with_suffix(".py")
    if not file.is_file():
        return ""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def functions(module: str) -> dict[str, str]:
    """Function -> docstring, of one of our modules."""
    file = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    found = ast.parse(file.read_text(encoding="utf-8"))
    return {
        node.name: ast.get_docstring(node) or ""
        for node in found.body
        if isinstance(node, ast.FunctionDef)
    }
