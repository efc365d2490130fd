"""`run` and `check` as a Hydra application, with errors a person can use.

Hydra exits 1 for everything and prints tracebacks. Here every problem found before the first run
becomes a ConfigError (exit code 2), with the nearest valid name; and what only looks like a sweep
(`+sweep=quickstart` for `+sweeps=`) is refused instead of starting a default run.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError  # type: ignore[import-untyped]

from bluestab.catalogue import shadowed
from bluestab.errors import BluestabError, ConfigError, did_you_mean
from bluestab.paths import conf_dir

PRIMARY = "bluestab"
INFORMING = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i")
APPENDABLE = ("sweeps", "search")  # groups that are added with a plus sign


def run_app(task_function: Callable[[DictConfig], None], arguments: Sequence[str]) -> None:
    """Run a Hydra application on `arguments`. Raises ConfigError for what cannot be run."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as they are
    os.environ.setdefault("BLUESTAB_COMMAND", shlex.join(["bluestab", *sys.argv[1:]]))
    multirun = "-m" in arguments or "--multirun" in arguments
    if multirun:
        arguments = [_carried(argument) for argument in arguments]
    if (Path.cwd() / "conf" / f"{PRIMARY}.yaml").is_file() and not _is_ours(Path.cwd() / "conf"):
        raise ConfigError(
            f"./conf/{PRIMARY}.yaml would replace bluestab's primary config; rename it "
            "(own tasks, models and techniques in ./conf are fine)"
        )
    informing = any(argument.split("=")[0] in INFORMING for argument in arguments)
    with _explained():
        if not informing:
            _precheck([a for a in arguments if not a.startswith("-")])
            for file in shadowed():
                print(f"note: {file} is used in place of bluestab's file of the same name")
        sys.argv = [PRIMARY, *arguments]
        app = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=PRIMARY)
        app(task_function)()


def _is_ours(folder: Path) -> bool:
    return folder.resolve() == conf_dir().resolve()


def _carried(argument: str) -> str:
    """In a multirun, knobs of techniques travel under `sweep.knobs` until an arm is chosen."""
    return re.sub(r"^technique\.(?=[^=]*=)", "+sweep.knobs.", argument)


def _precheck(arguments: Sequence[str]) -> None:
    """Compose once with the first alternative of every choice, and look for what is not allowed."""
    overrides = OverridesParser.create().parse_overrides(list(arguments))
    for override in overrides:
        if override.is_add() or override.is_force_add():
            _check_added(override)
    first = [_first(o) for o in overrides if not o.key_or_group.startswith("sweep.knobs")]
    hydra_node = compose(first).hydra
    if hydra_node.callbacks:
        raise ConfigError(
            "hydra.callbacks is set; callbacks are code chosen by a config file, which bluestab "
            "does not run"
        )
    for node in ("launcher", "sweeper"):
        paths = _paths(OmegaConf.to_container(hydra_node[node]))  # type: ignore[arg-type]
        nested = [path for path in paths if path.endswith("._target_")]
        if nested:
            raise ConfigError(
                f"hydra.{node}.{nested[0]} names code that Hydra would run; remove it"
            )
    for node in ("job_logging", "hydra_logging"):
        if OmegaConf.to_container(hydra_node[node]) != OmegaConf.to_container(
            compose([]).hydra[node]
        ):
            raise ConfigError(f"hydra.{node} is changed; bluestab keeps its own logs")


def _check_added(override: Override) -> None:
    key = override.key_or_group
    if key.startswith("sweep.knobs.") or key.startswith("hydra."):
        return
    if key not in APPENDABLE:
        nearest = did_you_mean("+" + key, [f"+{group}" for group in APPENDABLE])
        raise ConfigError(
            f"{override.input_line}: '{key}' is no group that can be added{nearest} "
            "(a knob that exists is set without the plus sign)"
        )


def _first(override: Override) -> str:
    if not override.is_sweep_override() or not override.is_discrete_sweep():
        return str(override.input_line)
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def compose(overrides: Sequence[str]) -> DictConfig:
    """The composed config, Hydra's node included."""
    with hydra.initialize_config_dir(
        version_base="1.3", config_dir=str(conf_dir()), job_name=PRIMARY
    ):
        return hydra.compose(PRIMARY, overrides=list(overrides), return_hydra_config=True)


@contextmanager
def _explained() -> Iterator[None]:
    """Hydra's own errors become ConfigErrors in our words."""
    try:
        yield
    except BluestabError:
        raise
    except OverrideParseException as error:
        raise ConfigError(
            f"cannot read the override {error.override!r}: {str(error).splitlines()[0]}; lists and "
            "choices with brackets need quotes in the shell: 'technique=[freeze,llrd]'"
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


def _missing(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file or "").rpartition("/")
    if not group:
        return str(error).splitlines()[0]
    return f"there is no {group} '{name}'" + did_you_mean(name, error.options or [])


def _refused(error: HydraException) -> str:
    text = " ".join(str(error).split())
    cause = error.__cause__
    match = re.search(r"Could not override '([^']+)'", text)
    if match is None:
        return f"{text} ({str(cause).splitlines()[0]})" if cause and str(cause) else text
    key = match.group(1)
    base = compose([])
    known = list(_paths(OmegaConf.to_container(base, resolve=False)))  # type: ignore[arg-type]
    parts = key.split(".")
    if parts[0] == "technique" and len(parts) > 2:
        return _refused_knob(key, parts)
    groups = [k for k in base if k != "hydra"]
    return f"there is no key '{key}'" + did_you_mean(key, [*known, *map(str, groups)])


def _refused_knob(key: str, parts: Sequence[str]) -> str:
    """A knob of a technique that the run lacks, or that the technique does not have."""
    from bluestab.catalogue import entries

    name = parts[1]
    if name not in entries("technique"):
        return f"{key}: there is no technique '{name}'" + did_you_mean(name, entries("technique"))
    knobs = compose([f"technique={name}"]).technique[name]
    if parts[2] not in knobs:
        options = [f"technique.{name}.{knob}" for knob in knobs if knob != "_target_"]
        return f"there is no key '{key}'" + did_you_mean(key, options)
    return f"{key} is set, but the run does not use {name}; add technique={name}"


def _paths(node: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in node.items():
        if not path and key == "hydra":
            continue
        yield f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{path}{key}.")
