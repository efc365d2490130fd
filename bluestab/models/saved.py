"""A model as the command line describes it -> a yaml of one's own, which works from any folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bluestab.core.paths import conf_dir, expanded, real
from bluestab.store.own_yamls import filled_yaml, own_file, write_own


def save_model(name: str, node: Mapping[str, Any], identity: str) -> Path:
    """Write `model/NAME.yaml` into the person's own folder of configs; returns the file.

    node      the resolved model, complete
    identity  what its weights are (`Model.identity`); of the hub, its commit is pinned

    Paths become absolute. Raises ConfigError for a name that is taken, or that cannot be one.
    """
    file = own_file("model", name)
    values = {key: value for key, value in node.items() if key != "about"}
    values["name"] = name
    if node["vocabulary"] is not None and expanded(str(node["vocabulary"])).is_dir():
        values["vocabulary"] = str(real(str(node["vocabulary"])))
    if (tower := node.get("vision")) and tower.get("path") is not None:
        values["vision"] = {**tower, "path": str(real(str(tower["path"])))}
    if node["path"] is not None:
        values["path"] = str(real(str(node["path"])))
    elif node["hub"] is not None and node["revision"] is None:
        commit = identity.rpartition("@")[2]
        values["revision"] = commit if re.fullmatch("[0-9a-f]{40}", commit) else None
    template = (conf_dir() / "model" / "auto.yaml").read_text(encoding="utf-8")
    text = filled_yaml(template, values, {"about": dict(node["about"])})
    summary = f"{node['layers']} blocks of {node['hidden_size']}, family {node['family']}, your own"
    text = re.sub(r"(?m)^  summary: .*$", lambda _: f"  summary: {json.dumps(summary)}", text)
    first = f"# Saved by bluestab inspect model --save-as {name}"
    text = re.sub(r"\A(#.*\n)+", lambda _: f"{first}\n", text)
    write_own(file, text)
    return file
