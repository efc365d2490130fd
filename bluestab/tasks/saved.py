"""A task as the command line describes it -> a yaml of one's own, which works from any folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError
from bluestab.core.paths import conf_dir
from bluestab.core.types import SPLITS
from bluestab.data.locate import sha256_of
from bluestab.store.own_yamls import filled_yaml, own_file, write_own
from bluestab.tasks.data import TaskData, extra_files, located


def save_task(name: str, kind: str, node: Mapping[str, Any], data: TaskData) -> Path:
    """Write `task/NAME.yaml` into the person's own folder of configs; returns the file.

    kind  the task it is made from, as `task=` names it
    node  the resolved task

    Paths become absolute and hashes of the files are pinned, so that a file that is changed later
    is noticed. Raises ConfigError for a name that is taken, or that cannot be one.
    """
    file = own_file("task", name)
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
        **{name: str(path.absolute()) for name, path in extra_files(data.task).items()},
        **{f"{name}_sha256": sha256_of(path) for name, path in extra_files(data.task).items()},
    }
    nested = {
        "sha256": {s: sha256_of(paths[s]) if s in paths else None for s in SPLITS},
        "recipe": dict(node["recipe"]),
    }
    template = (conf_dir() / "task" / f"{kind}.yaml").read_text(encoding="utf-8")
    text = filled_yaml(template, changed, nested)
    summary = f"your own {kind.replace('_', ' ')}, {len(data.splits['train'])} training items"
    text = re.sub(r"(?m)^  summary: .*$", lambda _: f"  summary: {json.dumps(summary)}", text)
    first = f"# Saved by bluestab inspect --save-as {name}"
    if whole:
        first += ", from a folder with several parts"
    text = re.sub(r"\A#.*\n", lambda _: f"{first}\n", text)
    write_own(file, text)
    return file
