"""Names of files and columns as people type them -> overrides as Hydra's grammar takes them.

To Hydra letters beyond ASCII, ( ) [ ] { } , = % ' and more are signs of its own. What can only be a
name is put into quotation marks here, so that `task.train=données.csv` is that file; where it can
be two things, the error gives the lines for both.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from bluestab.core.config import quoted
from bluestab.core.errors import ConfigError
from bluestab.core.paths import expanded

FILES = ("task.train", "task.validation", "task.test", "task.data_dir")
COLUMNS = ("task.text", "task.text_pair", "task.label", "task.id", "task.group", "task.sentence")
LISTS = ("task.label", "task.label_names", "task.positive")
OTHERS = ("task.name", "task.label_separator", "sweep.name", "store", "model.path",
          "model.init_from")  # fmt: skip
STAGES = "sequence.stages."  # lists of overrides, with signs of their own
NAMES = {*FILES, *COLUMNS, *LISTS, *OTHERS}


def typed(arguments: Sequence[str], *, multirun: bool) -> list[str]:
    """The arguments, with what can only be a name in quotation marks.

    multirun  a comma divides alternatives

    Raises ConfigError where a value is the name of a file and also a choice between files.
    """
    folder = ""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "task.data_dir":
            read = _read(argument)
            folder = value if read is None else str(read.value())
    return [_typed(argument, folder, multirun) for argument in arguments]


def _typed(argument: str, folder: str, multirun: bool) -> str:
    key, sign, value = argument.partition("=")
    if key.startswith(STAGES) and value[:1] == "[" and value[-1:] == "]":
        parts = [part.strip() for part in _parts(value[1:-1])]
        said = [part if part[0] in "'\"" else quoted(part) for part in parts]
        return argument if _read(argument) else f"{key}=[{','.join(said)}]"
    if not sign or key.lstrip("+") not in NAMES or not value:
        return argument
    read = _read(argument)
    found: Any = None if read is None else _element(read)
    if isinstance(found, QuotedString):
        return argument
    if key in FILES and _exists(folder, value):
        if isinstance(found, str) and found == value and "${" not in value:
            return argument
        parts = value.split(",")
        if multirun and len(parts) > 1 and all(_exists(folder, part.strip()) for part in parts):
            both = ",".join(_in_quotes(part.strip()) for part in parts)
            raise ConfigError(
                f"{argument} is one file of that name, and a choice between {len(parts)} files: "
                f"say {shlex.quote(f'{key}={_in_quotes(value)}')} or "
                f"{shlex.quote(f'{key}={both}')}"
            )
        return f"{key}={quoted(value)}"
    if read is not None:
        odd = isinstance(found, bool | float | dict) or (key in FILES and isinstance(found, int))
        odd = odd or (isinstance(found, str) and "\\${" in found)
        return f"{key}={quoted(value)}" if odd and key in (*FILES, *COLUMNS) else argument
    if key in LISTS and value.strip()[:1] == "[" and value.strip()[-1:] == "]":
        items = [_quoted_if_odd(part.strip()) for part in _parts(value.strip()[1:-1])]
        return f"{key}=[{','.join(items)}]"
    if multirun and len(parts := _parts(value)) > 1:
        return f"{key}={','.join(_quoted_if_odd(part.strip()) for part in parts)}"
    return f"{key}={quoted(value)}"


def line_that_works(words: Sequence[str], argument: str) -> str | None:
    """The command with the value of one argument as a text in quotation marks, as a shell takes
    it; None where that is no override either."""
    key, sign, value = argument.partition("=")
    if not sign or argument not in words:
        return None
    instead = f"{key}={_in_quotes(value)}"
    if _read(instead) is None:
        return None
    return shlex.join([instead if word == argument else word for word in words])


def not_resolved(words: Sequence[str]) -> str | None:
    """What to type if `${...}` belongs to a name, where it names nothing in the config."""
    for word in words:
        if (
            "${" in word
            and word.partition("=")[0] in NAMES
            and (line := line_that_works(words, word))
        ):
            return f"if ${{...}} is part of a name, type: {line}"
    return None


def _read(argument: str) -> Override | None:
    """The override as Hydra reads it, or None."""
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def _element(override: Override) -> Any:
    return None if override.is_sweep_override() else override._value  # value() drops the marks


def _exists(folder: str, name: str) -> bool:
    path = os.path.join(expanded(folder), expanded(name))
    return os.path.exists(path) or os.path.exists(f"{path}.gz")


def _quoted_if_odd(text: str) -> str:
    return text if _read(f"x={text}") is not None else quoted(text)


def _parts(text: str) -> list[str]:
    """Cut at commas that stand in no quotation marks."""
    found = re.findall(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^,])+""", text)
    return [part for part in found if part.strip()]


def _in_quotes(text: str) -> str:
    """`quoted`, with the marks that a shell's single ones may go around."""
    return quoted(text, '"')
