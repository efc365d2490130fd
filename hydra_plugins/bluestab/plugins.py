"""The few lines that hand bluestab's sweeper, launchers and folders to Hydra.

Hydra accepts plug-ins from packages named `hydra_plugins` only and imports this module at every
start: it must not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from bluestab.core.config import references
from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.paths import conf_dir, own_conf_dir, sweeps_dir

if TYPE_CHECKING:
    from bluestab.sweeps.auto.drive import AutoRun
    from bluestab.sweeps.auto.plan import AutoRequest
    from bluestab.sweeps.launchers.base import Backend
    from bluestab.sweeps.search.spec import Search


class BluestabSearchPath(SearchPathPlugin):
    """A person's own ./conf, own folder of configs and ./sweeps come before ours, so own plug-ins
    need no fork."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if not any(element.provider == "main" for element in search_path.get_path()):
            return
        own = Path.cwd() / "conf"
        if own.is_dir() and own.resolve() != conf_dir().resolve():
            search_path.prepend("own", f"file://{own}", anchor="main")
        kept = own_conf_dir()
        if kept is not None and kept.is_dir():
            search_path.prepend("kept", f"file://{kept.absolute()}", anchor="main")
        for folder in dict.fromkeys([Path.cwd() / "sweeps", sweeps_dir()]):
            if folder.is_dir():
                search_path.append("sweeps", f"sweeps://{folder}")


class SweepFiles(ConfigSource):
    """The yaml files of one folder as the config group `sweeps`."""

    @staticmethod
    def scheme() -> str:
        return "sweeps"

    def _file(self, config_path: str) -> Path | None:
        group, _, name = self._normalize_file_name(config_path).partition("/")
        return Path(self.path) / name if group == "sweeps" and name else None

    def available(self) -> bool:
        return Path(self.path).is_dir()

    def load_config(self, config_path: str) -> ConfigResult:
        file = self._file(config_path)
        if file is None or not file.is_file():
            raise ConfigLoadError(f"no sweep file {config_path}")
        with file.open(encoding="utf-8") as stream:
            header = ConfigSource._get_header_dict(stream.read())
        header["package"] = header["package"] or "_global_"  # where a sweep file always belongs
        return ConfigResult(
            config=OmegaConf.load(file),
            path=f"sweeps://{self.path}",
            provider=self.provider,
            header=header,
        )

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("", "sweeps")

    def is_config(self, config_path: str) -> bool:
        file = self._file(config_path)
        return file is not None and file.is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if not config_path.strip("/"):
            return [] if results_filter is ObjectType.CONFIG else ["sweeps"]
        if config_path.strip("/") != "sweeps" or results_filter is ObjectType.GROUP:
            return []
        return sorted(file.stem for file in Path(self.path).glob("*.yaml"))


class OurSweeper(Sweeper):
    """What both sweepers are made of."""

    def __init__(self, params: Mapping[str, str] | None) -> None:
        self.params = params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra.core.plugins import Plugins

        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def overrides(self, arguments: list[str]) -> Iterator[tuple[str, Override]]:
        """Key and override, of all but what is read from the config."""
        lines = [f"{key}={value}" for key, value in self.params.items()] + arguments
        for override in OverridesParser.create().parse_overrides(lines):
            key = technique_key(override.get_key_element())
            if not re.match(r"sweep\.|search\b|auto\.", key):
                yield key, override

    def sweep_node(self) -> dict[str, Any]:
        """`sweep` of the config, its keys checked."""
        sweep = OmegaConf.to_container(self.config.sweep, resolve=True)
        assert isinstance(sweep, dict)
        for key in sweep:
            if key not in SWEEP_KEYS:
                raise ConfigError(
                    f"unknown key sweep.{key}" + did_you_mean(key, set(SWEEP_KEYS) - {"knobs"})
                )
        return sweep  # type: ignore[return-value]


class GridSweeper(OurSweeper):
    """Shell of `bluestab.sweeps.grid`."""

    def sweep(self, arguments: list[str]) -> Any:
        from bluestab.sweeps.grid import MOST_RUNS, expand

        choices: dict[str, list[str]] = {}
        for key, override in self.overrides(arguments):
            if override.is_sweep_override():
                if not override.is_discrete_sweep():
                    raise ConfigError(
                        f"{override.input_line}: the grid sweeper takes lists and range() only; "
                        "intervals belong to a search: hydra/sweeper=optuna"
                    )
                values = islice(override.sweep_string_iterator(), MOST_RUNS + 1)
                choices[key] = [f"{key}={value}" for value in values]
            else:
                choices[key] = [f"{key}={override.get_value_element_as_str()}"]
        sweep = self.sweep_node()
        jobs = expand(
            list(choices.items()),
            arms=arms_of(sweep["arms"]),
            seeds=seeds_of(sweep["seeds"]),
            default_technique=list(self.config.technique or {}),
        )
        return [self.launcher.launch(jobs, initial_job_idx=0)]


class OptunaSweeper(OurSweeper):
    """Shell of `bluestab.sweeps.search.drive`."""

    def sweep(self, arguments: list[str]) -> Any:
        from bluestab.sweeps.search.plan import plan_search

        fixed: dict[str, str] = {}
        choices: dict[str, str | list[str]] = {}
        for key, override in self.overrides(arguments):
            if re.match(r"\+?sequence\b", key):
                raise ConfigError(
                    f"{override.input_line}: a search draws points of one task each; a sequence of "
                    "tasks is a grid: leave out hydra/sweeper=optuna"
                )
            fixed.pop(key, None)  # what comes later wins: the command line over a file
            choices.pop(key, None)
            if not override.is_sweep_override():
                fixed[key] = override.get_value_element_as_str()
            elif key == "technique":
                choices[key] = list(override.sweep_string_iterator())
            else:
                choices[key] = space_text(override)
        sweep = self.sweep_node()
        if sweep["arms"] is not None:
            raise ConfigError(
                "sweep.arms declares the arms of a grid; a search draws its points: name its "
                "knobs, or leave out hydra/sweeper=optuna"
            )
        if sweep["confirm"]:
            raise ConfigError(
                f"sweep.confirm is {sweep['confirm']!r}, which a grid reads; a search keeps fresh "
                "seeds by search.confirm"
            )
        node = OmegaConf.to_container(self.config.search, resolve=True)
        search = plan_search(node, name=sweep["name"], fixed=fixed, choices=choices)  # type: ignore[arg-type]
        kept = references(self.config, {"search": node}, "search").get("search.storage")
        self.launcher.search(replace(search, storage_reference=kept))


class AutoSweeper(OurSweeper):
    """Shell of `bluestab.sweeps.auto`."""

    def sweep(self, arguments: list[str]) -> Any:
        from bluestab.inference.delivery import deliver
        from bluestab.sweeps.auto.start import request_of

        choices: dict[str, list[str]] = {}
        for key, override in self.overrides(arguments):
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise ConfigError(
                    f"{override.input_line}: auto races the arms of a list; intervals belong to a "
                    "search: bluestab run -m hydra/sweeper=optuna"
                )
            choices[key] = (
                [f"{key}={value}" for value in override.sweep_string_iterator()]
                if override.is_sweep_override()
                else [f"{key}={override.get_value_element_as_str()}"]
            )
        node, sweep = OmegaConf.to_container(self.config.auto), self.sweep_node()
        self.launcher.auto(request_of(node, sweep, choices), deliver)


def space_text(override: Override) -> str:
    """The space of a knob as `bluestab.core.spaces` reads it: `a,b` is `choice(a,b)`."""
    if override.is_choice_sweep():
        return f"choice({','.join(override.sweep_string_iterator())})"
    return str(override.input_line).partition("=")[2]


DECLARED = ("baseline", "difference", "confirm")
SWEEP_KEYS = (
    "name",
    "seeds",
    "baseline",
    "difference",
    "confirm",
    "arms",
    "search",
    "knobs",
)  # knobs: see below


def technique_key(key: str) -> str:
    """`+sweep.knobs.llrd.decay` -> `technique.llrd.decay`, undoing what the command line did.

    Hydra composes a multirun once before any arm is chosen and would refuse the knob of a
    technique that is not the default, so the knobs travel under `sweep.knobs`.
    """
    prefix = "+sweep.knobs."
    return "technique." + key.removeprefix(prefix) if key.startswith(prefix) else key


def arms_of(value: object) -> dict[str, list[str]] | None:
    """`sweep.arms`, checked."""
    if value is None:
        return None
    if isinstance(value, dict) and value:
        for name, overrides in value.items():
            fine = isinstance(overrides, list) and all(isinstance(o, str) for o in overrides)
            if not fine or not all("=" in o for o in overrides):
                raise ConfigError(
                    f"sweep.arms.{name} is {overrides!r}: expected a list of overrides such as "
                    "[technique=llrd, technique.llrd.decay=0.8]"
                )
            for override in OverridesParser.create().parse_overrides(overrides):
                key, said = override.key_or_group, override.input_line
                if override.is_sweep_override():
                    raise ConfigError(
                        f"sweep.arms.{name}: {said} is a choice, but an arm is one configuration; "
                        "write one arm for each"
                    )
                if key == "seed" or key.split(".")[0] in ("sweep", "sweeps", "hydra"):
                    raise ConfigError(
                        f"sweep.arms.{name}: {said} cannot differ between the arms of a sweep"
                    )
        return {str(name): overrides for name, overrides in value.items()}
    raise ConfigError(f"sweep.arms is {value!r}: expected a map from arm name to overrides")


def seeds_of(value: object) -> int | list[int]:
    """`sweep.seeds`, checked: a number of seeds or a list of them."""

    def is_seed(item: object) -> bool:
        return isinstance(item, int) and not isinstance(item, bool) and item >= 0

    if is_seed(value) and value != 0:
        return value  # type: ignore[return-value]
    if isinstance(value, list) and value and all(map(is_seed, value)):
        return list(dict.fromkeys(value))
    raise ConfigError(
        f"sweep.seeds is {value!r}: expected a number of seeds >= 1, or a list such as [3,5,7]"
    )


class Launcher(HydraLauncher):
    """Shell of the launchers in `sweeps/launchers/`: plans the sweep, hands it to the backend.

    The backend is named by a plain string, not by a nested `_target_`: Hydra would instantiate
    that by itself, past the rule of `bluestab.core.instantiate`.
    """

    def __init__(self, backend: str, **knobs: Any) -> None:
        self.backend, self.knobs = backend, knobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        self._backend().take(self._composed, job_overrides, name=self.config.sweep.name)
        return []

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        loader = self.hydra_context.config_loader
        cfg = loader.load_sweep_config(self.config, list(overrides))
        for name in DECLARED:  # of the whole sweep, so no job has it among its overrides
            if name in self.config.sweep:
                cfg.sweep[name] = self.config.sweep[name]
        return cfg

    def auto(self, request: AutoRequest, deliver: Callable[[AutoRun, bool], None]) -> None:
        """From a budget to a delivered model."""
        from bluestab.sweeps.auto.start import run_auto

        run_auto(request, self._backend(), self._composed, deliver)

    def search(self, search: Search) -> None:
        """See a search through."""
        from bluestab.sweeps.search.defaults import settled
        from bluestab.sweeps.search.saved import fixed_before

        backend = self._backend()
        backend.search(settled(search, fixed_before(search), backend.kind_of))

    def _backend(self) -> Backend:
        from bluestab.core.instantiate import instantiate
        from bluestab.sweeps.launchers.base import Backend

        node = {"_target_": self.backend, **self.knobs}
        return instantiate(node, Backend, "hydra.launcher")  # type: ignore[type-abstract]
