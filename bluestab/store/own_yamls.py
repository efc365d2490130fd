"""A yaml of one's own, written by `bluestab inspect --save-as`: where it goes, what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bluestab.core.catalogue import entries
from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.paths import own_conf_dir
from bluestab.store.files import write_text

NAME = re.compile(r"[A-Za-z][\w-]{0,59}")


def own_file(kind: str, name: str) -> Path:
    """Where the yaml `name` of a person's own task or model (`kind`) goes.

    Raises ConfigError for a name that is taken, or that cannot be one.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"--save-as {name!r}: expected a letter, then up to 59 letters, digits, _ and -"
        )
    folder = own_conf_dir()
    if folder is None:
        raise ConfigError("there is no home folder; set BLUESTAB_CONF to a folder for own configs")
    file = folder / kind / f"{name}.yaml"
    if name in entries(kind):
        hint = f"remove {file}" if file.is_file() else "it comes with bluestab"
        raise ConfigError(
            f"--save-as {name}: there is a {kind} of that name; choose another ({hint})"
        )
    return file


def write_own(file: Path, text: str) -> None:
    """Raises StoreError where that is not possible."""
    try:
        write_text(file, text)
    except OSError as error:
        raise StoreError(
            f"{file} cannot be written ({error.strerror}); set BLUESTAB_CONF to a folder of yours"
        ) from error


def filled_yaml(
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
