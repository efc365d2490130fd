"""What exists: tasks, models, techniques and sweeps, each with one line about it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.paths import conf_dir, own_conf_dir, real, sweeps_dir
from bluestab.core.plain_files import check_yaml

KINDS = ("task", "model", "technique", "sweep", "sequence")
OWN = "your own checkpoint"
GROUPS = (OWN, "general", "biomedical and clinical", "other languages")
"""Groups of models, in the order in which they are listed (`about.group`); others follow."""
UNREADABLE = (
    *(OSError, ValueError, YAMLError, OmegaConfBaseException, ConfigError, RecursionError),
)


def folders(kind: str) -> list[Path]:
    """Folders with the yamls of a kind, a person's own first."""
    if kind not in KINDS:
        raise ConfigError(f"there is no list of '{kind}'" + did_you_mean(kind, KINDS))
    if kind == "sweep":
        places = [Path.cwd() / "sweeps", sweeps_dir()]
        return [folder for folder in dict.fromkeys(map(real, places)) if folder.is_dir()]
    return _conf_folders(kind)


def _conf_folders(group: str) -> list[Path]:
    own = own_conf_dir()
    places = [Path.cwd() / "conf" / group, *([own / group] if own else []), conf_dir() / group]
    return [folder for folder in dict.fromkeys(map(real, places)) if folder.is_dir()]


def outer_level_problems(group: str, nodes: Mapping[str, Any]) -> list[str]:
    """A sentence for each yaml whose outer level is missing or has another name: in
    `conf/technique` and `conf/logger` everything in NAME.yaml stands below `NAME:`.

    nodes  what was composed below `group`
    """
    found: dict[str, None] = {}
    names = {file.stem for file in _own_files(group)}
    for key, node in nodes.items():
        if isinstance(node, Mapping) and key in names:
            continue
        file = next((f for f in _own_files(group) if key in _outer_keys(f)), None)
        if isinstance(node, Mapping):
            if file is not None:
                found[
                    f"{file}: its outer level is '{key}:', expected '{file.stem}:', as the file "
                    "is called"
                ] = None
        elif file is None or file.stem == key:
            found[f"{group}.{key} is {node!r}: expected a {group} with its knobs"] = None
        else:
            found[
                f"{file} lacks its outer level: its first line is '{file.stem}:', and all else "
                "stands indented below that"
            ] = None
    return list(found)


def _own_files(group: str) -> list[Path]:
    return [file for folder in _conf_folders(group) for file in sorted(folder.glob("*.yaml"))]


def _outer_keys(file: Path) -> set[str]:
    try:
        loaded = OmegaConf.load(file)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return set()
    return {str(key) for key in loaded} if isinstance(loaded, DictConfig) else set()


def files(kind: str) -> dict[str, Path]:
    """Name -> its yaml, a person's own first; nothing of them is read."""
    found: dict[str, Path] = {}
    for folder in folders(kind):
        for file in folder.glob("*.yaml"):
            found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def entries(kind: str) -> dict[str, str]:
    """Name -> one line: `about.summary`, or the comment the file opens with."""
    return {name: _line(file, kind) for name, file in files(kind).items()}


def grouped_models() -> dict[str, dict[str, str]]:
    """Group -> name -> line, language, longest input and licence of every model, as yamls say."""
    found: dict[str, dict[str, str]] = {group: {} for group in GROUPS}
    for name, line in entries("model").items():
        node: Any = {}
        with suppress(*UNREADABLE):
            node = OmegaConf.to_container(OmegaConf.load(files("model")[name]))
        about = node.get("about") or {}
        longest = node.get("max_length")
        pieces = f"{longest} pieces" if isinstance(longest, int) else None
        facts = (line, about.get("language"), pieces, about.get("licence"))
        group = found.setdefault(str(about.get("group", OWN)), {})
        group[name] = "; ".join(str(fact) for fact in facts if fact)
    return {group: rows for group, rows in found.items() if rows}


def shadowed() -> list[str]:
    """Own files (./conf, `own_conf_dir`, ./sweeps) that stand in for ours of the same name."""
    hidden = []
    for kind in KINDS:
        places = folders(kind)
        for own in places[:-1]:
            ours = {file.name for file in places[-1].glob("*.yaml")}
            hidden += [str(file) for file in sorted(own.glob("*.yaml")) if file.name in ours]
    return hidden


def _line(file: Path, kind: str) -> str:
    try:
        return _summary(file, kind)
    except UNREADABLE as error:
        return f"cannot be read: {' '.join(str(error).split())[:200]}"


def check_own_yamls() -> None:
    """Raises ConfigError for a yaml of a person's own folders that could not be read in time."""
    own = own_conf_dir()
    for folder in (Path.cwd() / "conf", Path.cwd() / "sweeps", *([own] if own else [])):
        for file in sorted(folder.rglob("*.yaml")):
            check_yaml(file)


def _summary(file: Path, kind: str) -> str:
    check_yaml(file)
    if kind in ("task", "model"):
        summary = OmegaConf.select(OmegaConf.load(file), "about.summary")
        if summary:
            return str(summary)
    lines = file.read_text(encoding="utf-8").splitlines()
    opening = itertools.takewhile(lambda line: line.startswith("#"), lines)
    comments = [c.removeprefix("#").strip() for c in opening if not c.startswith("# @package")]
    return " ".join(comments) if kind == "sweep" else " ".join(comments[:1])
