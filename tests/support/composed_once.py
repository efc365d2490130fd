"""Hydra composes a config once; who asks for one like it gets a copy with other values in it.

A composition takes 70 ms, and the quick tests ask for thousands, most of them alike. Remembered is
what Hydra made of the same overrides and the same files. Numbers, words and paths are put in
afterwards where they choose no file: they differ from test to test.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

NUMBER = r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e-?\d+)?"
NAMED = {"null": None, "true": True, "false": False}
WORD = r"null|true|false|(?!(?i:null|true|false|nan|inf)\b)[A-Za-z_]\w*|/[\w./-]+"
VALUE = re.compile(
    rf"(?!hydra\.)(?P<key>(?:\w+\.)*\w+)=(?P<number>{NUMBER})"
    rf"|(?!hydra\.)(?P<knob>store|(?:\w+\.)+\w+)=(?P<word>{WORD})"
)


def remember(patch: pytest.MonkeyPatch) -> None:
    """From now on, and until the patch is undone, every kind of config is composed once."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    real, known = ConfigLoaderImpl._load_configuration_impl, {}

    def load(
        self: Any,
        config_name: str | None,
        overrides: list[str],
        run_mode: Any,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> Any:
        given = [_any_value(line) for line in overrides]
        rest = (run_mode, from_shell, validate_sweep_overrides)
        key = (config_name, *given, *rest, *surroundings(self))
        if key not in known:
            try:
                known[key] = pickle.dumps(real(self, config_name, given, *rest))
            except Exception:  # what is said of it may name the values
                if given == overrides:
                    raise
                return real(self, config_name, overrides, *rest)
        cfg = pickle.loads(known[key])
        cfg.hydra.runtime.cwd = os.getcwd()
        put_values(cfg, given, overrides)
        return cfg

    patch.setattr(ConfigLoaderImpl, "_load_configuration_impl", load)
    read_once(patch)


def _any_value(line: str) -> str:
    found = VALUE.fullmatch(line)
    return line if found is None else f"{_key(line)}=0"


def _value(found: re.Match[str]) -> Any:
    word, number = found["word"], found["number"]
    if word is not None:
        return NAMED.get(word, word)
    return (float if re.search("[.e]", number) else int)(number)


def _key(line: str) -> str:
    return line.lstrip("+~").partition("=")[0]


def put_values(cfg: Any, given: Sequence[str], overrides: Sequence[str]) -> None:
    """Everything a composed config says about its values."""
    from omegaconf import OmegaConf

    lines: Any = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    at = 0
    for number, (composed, line) in enumerate(zip(given, overrides, strict=True)):
        if at < len(lines) and lines[at] == composed:
            lines[at] = line
            at += 1
        found = VALUE.fullmatch(line)
        later = {_key(other) for other in overrides[number + 1 :]}
        if found and _key(line) not in later:  # what comes last wins
            OmegaConf.update(cfg, _key(line), _value(found))
    cfg.hydra.overrides.task = lines
    cfg.hydra.job.override_dirname = ",".join(sorted(lines))


def read_once(patch: pytest.MonkeyPatch) -> None:
    """A yaml file is parsed once, as long as nobody writes it anew."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    real, known = FileConfigSource.load_config, {}

    def load(self: Any, config_path: str) -> Any:
        file = Path(self.path, self._normalize_file_name(config_path))
        try:
            stat = file.stat()
        except OSError:
            return real(self, config_path)
        key = (self.path, self.provider, config_path, stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if key not in known:
            known[key] = pickle.dumps(real(self, config_path))
        return pickle.loads(known[key])

    patch.setattr(FileConfigSource, "load_config", load)


def surroundings(loader: Any) -> tuple[Any, ...]:
    """What a composition depends on besides the overrides: the files that may be read, above all.

    Those of the checkout do not change while tests run; others are told by time and size.
    """
    from hydra import version
    from hydra.core.singleton import Singleton

    from bluestab.core.paths import conf_dir, sweeps_dir

    ours = {str(conf_dir()), str(sweeps_dir())}
    found: list[Any] = [version.getbase(), job_name(Singleton)]
    for element in loader.config_search_path.get_path():
        scheme, _, path = str(element.path).rpartition("://")
        found.append((element.provider, scheme, path))
        if scheme in ("file", "sweeps", "") and path not in ours:
            found += [
                (str(file), stat.st_mtime_ns, stat.st_ino, stat.st_size)
                for file in sorted(Path(path).rglob("*"))
                if (stat := file.stat())
            ]
    return tuple(found)


def job_name(singletons: Any) -> str | None:
    """Of the Hydra application that runs now, if there is one."""
    from hydra.core.utils import JobRuntime

    runtime = singletons._instances.get(JobRuntime)
    return None if runtime is None else runtime.conf.get("name")
