"""A finished run made again from what it left: for weights it did not keep, or as a check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.keys import NEUTRAL, OF_THE_MODEL
from bluestab.core.knobs import RULES
from bluestab.core.paths import conf_dir
from bluestab.core.types import WEIGHTS_TO_KEEP, At, RunRecord
from bluestab.inference.weights import FinishedRun
from bluestab.store.artefacts import lacks_weights
from bluestab.store.store import Store
from bluestab.sweeps.attempt import attempt
from bluestab.sweeps.lifecycle import make_ready
from bluestab.tasks.data import complete_task
from bluestab.training.check import Run, check


def checked(run: FinishedRun, store: Store, device: str, **knobs: Any) -> Run:
    """The run, ready to start: its config as it was kept, what was added since at its default.

    store, device, knobs  where it goes now, and other knobs that change no result

    Raises ConfigError if its data or its model are not here, or if this version of bluestab would
    make another run of the same config.
    """
    cfg: dict[str, Any] = json.loads(json.dumps(run.cfg))
    for path, value in NEUTRAL.items():  # a knob that came later did nothing then
        if path in RULES:
            _fill(cfg, path.split("."), lambda value=value: value)
        elif path in OF_THE_MODEL:
            _fill(cfg, ["model", path], lambda value=value: value)
        elif (parts := path.split("."))[0] == "technique" and parts[1] in cfg["technique"]:
            _fill(cfg, parts, lambda value=value: value)
    cfg["task"] = complete_task(cfg["task"])
    cfg["technique"] = _in_order(cfg["technique"], run.record)
    for path in RULES:
        _fill(cfg, path.split("."), lambda path=path: _default(path))
    cfg |= {"store": str(store.root), "device": device, "logger": {}, **knobs}
    key = run.record.key
    try:
        found = check(cfg)
    except ConfigError as error:
        raise ConfigError(f"run {key} cannot be made again here:", *error.problems) from error
    if found.key != key:
        then, now = run.record.result["config"], found.hashed
        differing = sorted(n for n in {**then, **now} if then.get(n) != now.get(n))
        raise ConfigError(
            f"run {key} cannot be made again here: its {', '.join(differing)} would differ (data, "
            f"model, or the recipe version of bluestab changed since)"
        )
    return found


def _in_order(nodes: Mapping[str, Any], record: RunRecord) -> dict[str, Any]:
    """Techniques in the order in which they were applied, which decides the key: `config.yaml` is
    written with sorted names."""
    names = [name for name, _ in record.result["config"]["technique"]]
    return {name: nodes[name] for name in (*(n for n in names if n in nodes), *nodes)}


def keep_weights(run: FinishedRun, device: str) -> bool:
    """Have a finished run keep the weights that are meant; was it made again for them?

    It must come out the same in everything that its record says, the test score first. Raises
    StoreError if it does not; ConfigError as `checked` does.
    """
    have = [at for at in WEIGHTS_TO_KEEP["all"] if _has(run.folder, at)]
    if run.at in have:
        return False
    wanted = next(k for k, ats in WEIGHTS_TO_KEEP.items() if set(ats) == {*have, run.at})
    if not lacks_weights(run.folder, wanted):
        return False
    again = checked(run, run.store, device, keep=wanted)
    make_ready([again], run.store)
    if attempt(again, run.store) is None:
        raise StoreError(
            f"run {run.record.key} is being made again by another process; wait for it"
        )
    return True


def _has(folder: Path, at: At) -> bool:
    return (folder / "checkpoint" / at / "model.safetensors").is_file()


def _fill(node: dict[str, Any], parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            return
    if parts[-1] not in node:
        node[parts[-1]] = value()


def _default(path: str) -> Any:
    """What the shipped yamls say of a knob."""
    group, *rest = path.split(".")
    files = {"optim": "optim/adamw.yaml", "trainer": "trainer/default.yaml"}
    node: Any = _read(files.get(group, "bluestab.yaml"))
    for part in rest if group in files else [group, *rest]:
        node = node[part]
    return node


def _read(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load((conf_dir() / name).read_text(encoding="utf-8"))
    return found
