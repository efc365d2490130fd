"""Hydra's own errors in our words: each becomes one ConfigError that says what to type instead."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError  # type: ignore[import-untyped]

from bluestab.cli.names import line_that_works
from bluestab.cli.unknown import known_keys, unknown_choice, unknown_key, unknown_technique_knob
from bluestab.core.config import compose
from bluestab.core.errors import BluestabError, ConfigError, did_you_mean
from bluestab.core.provenance import command_line


@contextmanager
def explained() -> Iterator[None]:
    """Hydra's own errors become ConfigErrors in our words."""
    try:
        yield
    except BluestabError:
        raise
    except OverrideParseException as error:
        if "=" not in error.override:
            raise ConfigError(
                f"cannot read the override {error.override!r}: expected KEY=VALUE"
                + _cut_at_blank(error.override)
            ) from error
        raise ConfigError(
            f"cannot read the override {error.override!r}: {str(error).splitlines()[0]}"
            + _how_to_type(error.override)
        ) from error
    except MissingConfigException as error:
        raise ConfigError(_missing(error)) from error
    except HydraException as error:
        raise ConfigError(_refused(error)) from error
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{mark.name}, line {mark.line + 1}" if mark else "a yaml file"
        raise ConfigError(f"{where}: not valid yaml ({error.problem})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{_not_utf8()} is not UTF-8 ({error}); convert it to UTF-8") from error


def _cut_at_blank(override: str) -> str:
    """`task.train=my data.csv` without quotes reaches us as two arguments."""
    words = shlex.split(command_line())
    before = words[: words.index(override)] if override in words else []
    if not before or "=" not in before[-1] or override.startswith("-"):
        return ""
    whole = shlex.quote(f"{before[-1]} {override}")
    return f"; a name with a blank needs quotes in the shell: {whole}"


def _how_to_type(override: str) -> str:
    """The line that is right if the value is a text, and what lists need."""
    said = "; lists and choices with brackets need quotes in the shell: 'technique=[freeze,llrd]'"
    line = line_that_works(shlex.split(command_line()), override)
    if override.startswith("technique=") or line is None:
        return said
    return (said if "[" in override else "") + f"; if all of it is one text, type: {line}"


def _not_utf8() -> str:
    """The file among a person's own that Hydra could not decode (it does not say which)."""
    for file in (f for folder in ("conf", "sweeps") for f in Path(folder).rglob("*.yaml")):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return str(file)
    return "a yaml file"


def _missing(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file or "").rpartition("/")
    if not group:
        return str(error).splitlines()[0]
    return unknown_choice(group, name, error.options or [])


def _refused(error: HydraException) -> str:
    text = " ".join(str(error).split())
    cause = error.__cause__
    match = re.search(r"Could not override '([^']+)'", text)
    if match is None:
        return f"{text} ({str(cause).splitlines()[0]})" if cause and str(cause) else text
    key = match.group(1)
    if key.startswith("hydra.launcher."):
        return _refused_of_launcher(key)
    parts = key.split(".")
    if parts[0] == "technique" and len(parts) > 1:
        return unknown_technique_knob(key, parts)
    if key in known_keys():
        return f"'{key}' cannot be set here: what it belongs to is taken out of this config"
    return unknown_key(key)


def _refused_of_launcher(key: str) -> str:
    """A knob that the launcher of this command does not have."""
    chosen = [a for a in sys.argv if a.startswith("hydra/launcher=")] or ["hydra/launcher=auto"]
    knobs = [str(knob) for knob in compose(chosen[-1:]).hydra.launcher]
    names = [f"hydra.launcher.{knob}" for knob in knobs if knob not in ("_target_", "backend")]
    return f"there is no key '{key}' with {chosen[-1]}" + did_you_mean(key, names)
