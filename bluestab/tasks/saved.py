"""A task as the command line describes it -> a yaml of one's own, which works from any folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bluestab.core.catalogue import entries
from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.paths import conf_dir, own_conf_dir
from bluestab.core.types import SPLITS
from bluestab.data.locate import sha256_of
from bluestab.store.files import write_text
from bluestab.tasks.data import TaskData, located

NAME = re.compile(r"[A-Za-z][\w-]{0,59}")


def save_task(name: str, kind: str, node: Mapping[str, Any], data: TaskData) -> Path:
    """Write `task/NAME.yaml` into the person's own folder of configs; returns the file.

    kind  the task it is made from, as `task=` names it
    node  the resolved task

    Paths become absolute and hashes of the files are pinned, so that a file that is changed later
    is noticed. Raises ConfigError for a name that is taken, or that cannot be one.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"--save-as {name!r}: expected a letter, then up to 59 letters, digits, _ and -"
        )
    folder = own_conf_dir()
    if folder is None:
        raise ConfigError("there is no home folder; set BLUESTAB_CONF to a folder for own configs")
    if name in entries("task"):
        file = folder / "task" / f"{name}.yaml"
        hint = f"remove {file}" if file.is_file() else "it comes with bluestab"
        raise ConfigError(
            f"--save-as {name}: there is a task of that name; choose another ({hint})"
        )
    if not data.task.own:
        raise ConfigError(
            f"--save-as saves tasks on files of your own; task={kind} has a yaml already"
        )
    paths = located(data.task)
    whole = len([s for s in SPLITS if node[s] is not None]) < len(paths)
    changed: dict[str, Any] = {
        **{key: value for key, value in node.items() if not isinstance(value, Mapping)},
        "name": name,
        "data_dir": None,
        **{s: str(paths[s].absolute()) if s in paths else None for s in SPLITS},
    }
    nested = {
        "sha256": {s: sha256_of(paths[s]) if s in paths else None for s in SPLITS},
        "recipe": dict(node["recipe"]),
    }
    template = (conf_dir() / "task" / f"{kind}.yaml").read_text(encoding="utf-8")
    text = _filled(template, changed, nested)
    summary = f"your own {kind.replace('_', ' ')}, {len(data.splits['train'])} training items"
    text = re.sub(r"(?m)^  summary: .*$", lambda _: f"  summary: {json.dumps(summary)}", text)
    first = f"# Saved by bluestab inspect --save-as {name}"
    if whole:
        first += ", from a folder with several parts"
    text = re.sub(r"\A#.*\n", lambda _: f"{first}\n", text)
    file = folder / "task" / f"{name}.yaml"
    try:
        write_text(file, text)
    except OSError as error:
        raise StoreError(
            f"{file} cannot be written ({error.strerror}); set BLUESTAB_CONF to a folder of yours"
        ) from error
    return file


def _filled(
    template: str, changed: Mapping[str, Any], nested: Mapping[str, Mapping[str, Any]]
) -> str:
    """The lines of a yaml with other values; comments stay."""
    lines, inside = [], ""
    for line in template.splitlines():
        match = re.fullmatch(r"( *)([\w]+):( .*)?", line)
        if match is None:
            lines.append(line)
            continue
        indent, key, rest = match[1], match[2], match[3] or ""
        comment = re.search(r"\s+#.*$", rest)
        if not indent:
            inside = key
        values = changed if not indent else nested.get(inside, {})
        if key in values and (indent or key not in nested):
            said = f"{indent}{key}: {json.dumps(values[key], ensure_ascii=False)}"
            lines.append(f"{said.ljust(28)} {comment[0].strip()}" if comment else said)
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"
