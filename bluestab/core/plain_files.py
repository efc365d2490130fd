"""Text files of strangers, read as plain data: nothing in them is run, resolved or looked up."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

import yaml  # type: ignore[import-untyped]

from bluestab.core.errors import ConfigError
from bluestab.core.paths import real

MOST_BYTES = 64 * 2**20
"""Of a text file that is read whole (the largest tokenizer.json known has 34 MB)."""


def check_plain(path: Path) -> None:
    """Raises OSError for what is no file: a pipe would be waited for, a device never ends."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, no file")


def read_bounded(path: Path, most: int = MOST_BYTES) -> bytes:
    """What a file holds. Raises OSError also for what is none, and for more than `most` bytes."""
    check_plain(path)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"{os.strerror(errno.EFBIG)}: more than {most} bytes")
        return file.read(most)


def read_text(path: Path) -> str:
    """The text in a file. Raises OSError as `read_bounded`, UnicodeDecodeError (a ValueError)."""
    return read_bounded(path).decode("utf-8")


class _Plain(yaml.SafeLoader):  # type: ignore[misc]
    """Plain data without aliases: nine lines of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(
                f"line {event.start_mark.line + 1} holds an alias (*{event.anchor})"
            )
        return super().compose_node(parent, index)


def read_yaml(
    path: Path, *, may_refer: Collection[str] = (), references: bool = False
) -> dict[str, Any]:
    """A map of plain data; nothing in it is instantiated, resolved or looked up.

    may_refer   keys at the top in which `${...}` is kept as text
    references  the same everywhere

    Raises ConfigError for anything else, `${...}` included: it would be filled in from this
    machine's environment.
    """
    text = _text(path)
    try:
        found = yaml.load(text, Loader=_Plain)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{path} is no plain yaml: {said[:300]}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no map of settings")
    checked = {name: node for name, node in found.items() if name not in may_refer}
    if not references and (where := _interpolated(checked)):
        raise ConfigError(
            f"{path} has '${{' in {where}; a config that was kept holds values, nothing to fill in"
        )
    return found


MOST_YAML = 2**20
"""Bytes of a config or a sweep file; ours have a few thousand."""

MOST_NODES, DEEPEST = 100_000, 60
"""Values of a config with its aliases written out, and levels of nesting."""

SUSPICIOUS = re.compile(rb"&|^[ \t-]{40}|(?:- ){20}|(?:\? ){20}", re.MULTILINE)
"""What a yaml holds that could break these bounds within `MOST_YAML`."""


def check_yaml(path: Path) -> None:
    """Raises ConfigError for a yaml that would fill memory or never end: a few lines of aliases
    can stand for billions of values. Nothing is built to find that out.

    Anything else that is wrong with it is left to who reads it.
    """
    try:
        check_plain(path)
        size = path.stat().st_size
        if size > MOST_YAML:
            raise ConfigError(
                f"{path} has {size} bytes, too many for a config: at most {MOST_YAML} are read"
            )
        content = path.read_bytes()
        flow = content.count(b"[") + content.count(b"{")
        if flow < DEEPEST and not SUSPICIOUS.search(content):
            return
        _check_events(path, content)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return


def _check_events(path: Path, content: bytes) -> None:
    """Count values as a reader would build them, aliases written out."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, values before it
    total = 0
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.events.AliasEvent):
            total += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.events.NodeEvent):
            total += 1
            if isinstance(event, yaml.events.CollectionStartEvent):
                open_nodes.append((event.anchor, total))
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.events.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before + 1
        line = event.start_mark.line + 1
        if len(open_nodes) > DEEPEST:
            raise ConfigError(f"{path}, line {line}: nested deeper than {DEEPEST} levels")
        if total > MOST_NODES:
            raise ConfigError(
                f"{path}, line {line}: with its aliases (*name) written out it holds more than "
                f"{MOST_NODES:,} values"
            )


def read_json(path: Path) -> dict[str, Any]:
    """A map of plain data. Raises ConfigError for anything else."""
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no map")
    return found


def inside(folder: Path, name: object, where: str) -> Path:
    """The file `name` below `folder`. Raises ConfigError if it would lie elsewhere."""
    parts = PurePosixPath(str(name)).parts
    strange = not isinstance(name, str) or not parts or "\\" in name or "\0" in name
    if strange or PurePosixPath(str(name)).is_absolute() or ".." in parts:
        raise ConfigError(f"{where} names the file {name!r}, which is not inside {folder}")
    path = folder.joinpath(*parts)
    if not real(path).is_relative_to(real(folder)):
        raise ConfigError(f"{where} names the file {name!r}, a link that leads out of {folder}")
    return path


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error})") from error


def _interpolated(node: Any, path: str = "") -> str | None:
    """Where a value holds `${`, or None."""
    if isinstance(node, dict):
        children = [(f"{path}.{key}".lstrip("."), child) for key, child in node.items()]
    elif isinstance(node, list):
        children = [(f"{path}[{i}]", child) for i, child in enumerate(node)]
    else:
        return path if isinstance(node, str) and "${" in node else None
    return next((found for name, c in children if (found := _interpolated(c, name))), None)
