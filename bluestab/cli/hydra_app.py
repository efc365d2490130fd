"""`run`, `check` and `fetch` as a Hydra application, with errors a person can use.

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
from functools import reduce
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig, OmegaConf

from bluestab.cli.hydra_errors import explained
from bluestab.cli.names import NAMES, line_that_works, not_resolved, typed
from bluestab.cli.spelling import check_spelling, flags_first
from bluestab.cli.unknown import (
    instead_of,
    known_keys,
)
from bluestab.core.catalogue import check_own_yamls, files, shadowed
from bluestab.core.config import PRIMARY, compose
from bluestab.core.errors import BRING, ConfigError, did_you_mean
from bluestab.core.paths import conf_dir, own_conf_dir, real
from bluestab.core.provenance import command_line
from bluestab.sweeps.grid import check_names

INFORMING = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i")
QUIET = {"version": 1, "root": None, "disable_existing_loggers": False}  # hydra/*_logging: none
FOLDERS = {"run.dir": ".", "sweep.dir": ".", "sweep.subdir": ".", "output_subdir": None,
           "job.chdir": False}  # fmt: skip
"""Of Hydra's own node, what would make folders; all that a run leaves is in its store."""
WHOLE = {
    "seeds": "seeds of a sweep are {seeds} with -m, that of one run is seed=3; seeds.init, .order, "
    ".dropout and .split set one stream",
    "sweep": "a declared sweep is bluestab run -m +sweeps={0}; knobs are sweep.seeds, sweep.name",
    "sweeps": "a declared sweep is bluestab run -m +sweeps={0}",
    "hydra.launcher": "say hydra/launcher={0}, with a slash",
    "hydra.sweeper": "say hydra/sweeper={0}, with a slash",
    "hydra.mode": "a sweep is asked for by -m",
}
"""Keys that hold others, or are chosen otherwise -> what sets them."""
HEARD = ("hydra.launcher.", "hydra.sweeper.", "hydra.searchpath", "hydra.callbacks",
         "hydra.job.env_set", "hydra.job_logging", "hydra.hydra_logging",
         *(f"hydra.{path}" for path in FOLDERS))  # fmt: skip
"""Of Hydra's own node what has an effect, or a refusal of its own."""
APPENDABLE = ("sweeps", "sequence")  # groups that are added with a plus sign


def composed(overrides: Sequence[str], *, multirun: bool = False) -> DictConfig:
    """The config of one run, or of the first one of a sweep, checked as the command line checks it.

    Starts nothing. Raises ConfigError for what cannot be composed, and for what is no override.
    """
    _check_primary()
    with explained():
        said = _with_first_task(typed(overrides, multirun=multirun), multirun)
        return _precheck(said, multirun, "use bluestab.sweep")


def run_app(task_function: Callable[[DictConfig], None], arguments: Sequence[str]) -> None:
    """Run a Hydra application on `arguments`. Raises ConfigError for what cannot be run."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as they are
    os.environ.setdefault("BLUESTAB_COMMAND", shlex.join(["bluestab", *sys.argv[1:]]))
    check_spelling(arguments)
    multirun = "-m" in arguments or "--multirun" in arguments
    informing = any(argument.split("=")[0] in INFORMING for argument in arguments)
    if multirun and informing:  # Hydra shows a config only without -m
        arguments = [a for a in arguments if a not in ("-m", "--multirun")]
    elif multirun:
        arguments = [_carried(argument) for argument in arguments]
    arguments = typed(arguments, multirun=multirun)
    if multirun and not informing and not any(a.startswith("hydra/launcher=") for a in arguments):
        arguments.append("hydra/launcher=auto")  # local where Python composes a config
    _check_primary()
    caught: list[Exception] = []

    def task(cfg: DictConfig) -> None:
        try:  # an error that Hydra sees is printed with all overrides in front of it
            task_function(cfg)
        except Exception as error:
            caught.append(error)

    try:
        with explained():
            if not informing:
                arguments = _with_first_task(arguments, multirun)
                cfg = _precheck([a for a in arguments if not a.startswith("-")], multirun)
                arguments = [*arguments, *_searching(cfg, arguments, multirun)]
                if not multirun and "hydra/sweeper=optuna" in arguments:
                    raise ConfigError("hydra/sweeper=optuna is a search of many runs; add -m")
                if not multirun:
                    _check_one_run(cfg, arguments)
                for file in shadowed():
                    print(f"note: {file} is used in place of bluestab's file of the same name")
            sys.argv = [PRIMARY, *flags_first(arguments)]
            app = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=PRIMARY)
            app(task)()
        if caught:
            raise caught[0]
    except ConfigError as error:
        line = _all_at_once(str(error))
        if "cannot be resolved" in str(error):
            line = not_resolved(shlex.split(command_line()))
        if line:
            raise ConfigError(*error.problems, line) from error
        raise


def _check_primary() -> None:
    """Raises ConfigError if a file of a person's own stands in the place of the primary config, or
    if an own yaml cannot be read."""
    for folder in filter(None, (Path.cwd() / "conf", own_conf_dir())):
        if not (folder / f"{PRIMARY}.yaml").is_file() or _is_ours(folder):
            continue
        where = "./conf" if folder == Path.cwd() / "conf" else folder
        raise ConfigError(
            f"{where}/{PRIMARY}.yaml would replace bluestab's primary config; rename it "
            f"(own tasks, models and techniques in {where} are fine)"
        )
    check_own_yamls()


def _all_at_once(said: str) -> str | None:
    """Where something that can be brought is missing: one line that brings all of it."""
    program, verb, *rest = [*shlex.split(command_line()), "", ""]
    if BRING not in said or program != "bluestab" or verb not in ("run", "check"):
        return None
    line = shlex.join(["bluestab", "fetch", *filter(None, rest)])
    return f"all that this command needs, data and models: {line}"


def _is_ours(folder: Path) -> bool:
    return real(folder) == real(conf_dir())


def _carried(argument: str) -> str:
    """In a multirun, knobs of techniques travel under `sweep.knobs` until an arm is chosen."""
    return re.sub(r"^technique\.(?=[^=]*=)", "+sweep.knobs.", argument)


def _with_first_task(arguments: Sequence[str], multirun: bool) -> list[str]:
    """The arguments, with the first task of a sequence where knobs of tasks are set: what composes
    before its stages knows no others."""
    sequence = [a for a in arguments if a.startswith(("+sequence=", "sequence."))]
    keys = {a.partition("=")[0].partition(".")[::2] for a in arguments}
    knobs = any(group == "task" and knob for group, knob in keys)
    if not multirun or not knobs or ("task", "") in keys or not sequence:
        return [*arguments]
    first = OmegaConf.select(compose(sequence), "sequence.tasks[0]")
    known = first in files("task")  # what is wrong is said where the sequence is read
    return [*arguments, *([f"task={first}"] if known else [])]


def _searching(cfg: DictConfig, arguments: Sequence[str], multirun: bool) -> list[str]:
    """The sweeper of a sweep file that is a search: Hydra lets no such file choose it."""
    wanted = cfg.sweep.get("search", False)
    if not isinstance(wanted, bool):
        raise ConfigError(f"sweep.search is {wanted!r}: expected true or false")
    chosen = any(argument.startswith("hydra/sweeper=") for argument in arguments)
    return ["hydra/sweeper=optuna"] if wanted and multirun and not chosen else []


def _check_one_run(cfg: DictConfig, arguments: Sequence[str]) -> None:
    """Raises ConfigError for what only a sweep reads; a sweep file needs a seed to be one run."""
    chosen = [a for a in arguments if a.startswith("+sweeps=")]
    if chosen and not any(a.startswith("seed=") for a in arguments):
        sweep, plain = cfg.sweep, compose([]).sweep
        if cfg.hydra.sweeper.get("params") or any(sweep.get(k) != plain[k] for k in plain):
            raise ConfigError(
                f"{chosen[0]} declares a sweep; add -m to run it: bluestab run -m {chosen[0]} (for "
                "one run of it, name its technique and its seed: technique=none seed=0)"
            )
    if chosen:
        print("note: this is one run with the settings of a sweep; -m runs the sweep")
    for argument in arguments:
        if argument.startswith(("+sequence=", "sequence.")):
            raise ConfigError(
                f"{argument}: stages are runs of their own; add -m: bluestab run -m {argument} ..."
            )
        if argument.startswith("sweep."):
            raise ConfigError(f"{argument} is for a sweep; add -m: bluestab run -m {argument} ...")


def _precheck(arguments: Sequence[str], multirun: bool, to_sweep: str = "add -m") -> DictConfig:
    """Compose once with the first alternative of every choice, and look for what is not allowed.

    to_sweep  what a person does to run all alternatives
    """
    overrides = OverridesParser.create().parse_overrides(list(arguments))
    for override in overrides:
        _check_whole(override)
        if override.is_add() or override.is_force_add():
            _check_added(override)
        if override.is_sweep_override():
            _check_choice(override, multirun, to_sweep)
        elif override.key_or_group == "technique":
            check_names(override.get_value_element_as_str())
    first = [_first(o) for o in overrides if not o.key_or_group.startswith("sweep.knobs")]
    try:
        cfg = compose(first)
    except UnicodeDecodeError:
        raise
    except ValueError as error:  # Hydra's word for `task=null` and the like
        raise ConfigError(f"cannot compose {' '.join(first)}: {error}") from error
    hydra_node = cfg.hydra
    if hydra_node.callbacks:
        raise ConfigError(
            "hydra.callbacks is set; callbacks are code chosen by a config file, which bluestab "
            "does not run"
        )
    if hydra_node.job.env_set:
        raise ConfigError(
            "hydra.job.env_set is set; the environment decides what a yaml may run, so a yaml may "
            "not set it: set the variable before the command"
        )
    written = OmegaConf.to_container(hydra_node)
    for path, neutral in FOLDERS.items():
        value = reduce(lambda node, key: node[key], path.split("."), written)
        if value != neutral:
            raise ConfigError(
                f"hydra.{path} is {value!r}: bluestab makes no folders of Hydra; what a run leaves "
                f"is in its store: store={value if isinstance(value, str) else 'FOLDER'}"
            )
    for node in ("launcher", "sweeper"):
        found = dict(_targets(OmegaConf.to_container(hydra_node[node])))
        target = found.pop("_target_", None)
        if found:
            raise ConfigError(
                f"hydra.{node}.{next(iter(found))} names code that Hydra would run; remove it"
            )
        if not str(target).startswith("hydra_plugins.bluestab."):
            raise ConfigError(
                f"hydra/{node} is {target}, which is not bluestab's"
                + did_you_mean("", (f.stem for f in (conf_dir() / "hydra" / node).glob("*.yaml")))
            )
    for node in ("job_logging", "hydra_logging"):
        if OmegaConf.to_container(hydra_node[node]) != QUIET:
            raise ConfigError(f"hydra.{node} is changed; bluestab keeps its own logs")
    return cfg


def _check_choice(override: Override, multirun: bool, to_sweep: str) -> None:
    """A choice between values, where one is possible."""
    said, key = override.input_line, override.key_or_group
    if not multirun:
        line = line_that_works(shlex.split(command_line()), str(said)) if key in NAMES else None
        raise ConfigError(
            f"{said} is a choice between several values; {to_sweep} to run them all"
            + (f"; if it is one name, type: {line}" if line else "")
        )
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        raise ConfigError(f"{said}: glob() is not known here; name the alternatives: {key}=a,b")
    if key in APPENDABLE:
        raise ConfigError(f"{said}: one {key.removesuffix('s')} at a time")
    if key.split(".")[0] in ("sweep", "search") and not key.startswith("sweep.knobs."):
        raise ConfigError(f"{said} is no choice to run; a list needs brackets: '{key}=[0,1,2]'")
    if key == "technique":
        for value in override.sweep_string_iterator():
            check_names(value)


def _check_whole(override: Override) -> None:
    """Raises ConfigError where a value is put in the place of a group of knobs."""
    key, said = override.key_or_group, str(override.input_line)
    value = said.partition("=")[2]
    if key == "technique" and value.strip() == "[]":
        raise ConfigError(f"{said}: plain fine-tuning is technique=none")
    if key.startswith("hydra.") and key not in WHOLE and not key.startswith(HEARD):
        raise ConfigError(
            f"{said}: this has no effect here; of Hydra's own knobs those below hydra.launcher. do"
        )
    if key in WHOLE and not said.startswith(("+", "~")) and not value.startswith("{"):
        seeds = f"'sweep.seeds=[{value.strip('[]')}]'" if "," in value else f"sweep.seeds={value}"
        raise ConfigError(f"{said}: {WHOLE[key].format(value, seeds=seeds)}")


def _check_added(override: Override) -> None:
    key = override.key_or_group
    if key.startswith("sweep.knobs.") or key.startswith("hydra."):
        return
    if key == "search":
        raise ConfigError(
            f"{override.input_line}: a search is chosen without the plus sign: "
            f"search={override.get_value_element_as_str()}"
        )
    if key not in APPENDABLE:
        if found := instead_of(key, str(override.input_line).partition("=")[2]):
            raise ConfigError(f"{override.input_line}: {found}")
        if key in known_keys() and key not in WHOLE:
            plain = str(override.input_line).lstrip("+")
            raise ConfigError(
                f"{override.input_line}: what exists is set without the plus: {plain}"
            )
        nearest = did_you_mean("+" + key, [f"+{group}" for group in APPENDABLE])
        raise ConfigError(
            f"{override.input_line}: '{key}' is no group that can be added{nearest} "
            "(a knob that exists is set without the plus sign)"
        )


def _first(override: Override) -> str:
    if not override.is_sweep_override():
        return str(override.input_line)
    if override.is_interval_sweep():
        return f"{override.get_key_element()}={override.value().start}"  # type: ignore[union-attr]
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and values of every `_target_`, inside lists too: Hydra instantiates those as well."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield f"{path}{key}", value
            yield from _targets(value, f"{path}{key}.")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{path}{i}.")


def without_launcher(arguments: list[str], kept: tuple[str, ...] = ()) -> list[str]:
    """The line of a sweep as it stands; of its launcher, only what is `kept` matters."""
    if not any(a.startswith("hydra/launcher=") for a in arguments):
        return arguments
    launcher = ("hydra/launcher=", "hydra.launcher.")
    return [a for a in arguments if a.startswith(kept) or not a.startswith(launcher)]


def of_launcher(arguments: list[str]) -> list[str]:
    """What `check` must know of the launcher that a line asks for."""
    mark, asked = "hydra/launcher=", ("hydra.launcher.gpus_per_node=", "hydra.launcher.gres=")
    named = [a.removeprefix(mark) for a in arguments if a.startswith(mark)] or ["auto"]
    gpus = any(a.startswith(asked) and a.partition("=")[2] not in ("0", "null") for a in arguments)
    known = ("auto", "local", "pool", "packed", "slurm")
    name = named[-1] if named[-1] in known else "local"
    return [f"hydra.launcher.launcher={name}", f"hydra.launcher.gpus={str(gpus).lower()}"]
