"""The config: composed from the yamls and overrides, resolved to plain containers, walked."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bluestab.core.errors import ConfigError
from bluestab.core.paths import conf_dir
from bluestab.core.secrets import MASK, REFERENCES

PRIMARY = "bluestab"
"""Name of the primary config, and what the application is called."""

REFERENCE = re.compile(r"\$\{oc\.env:")


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config that these overrides make of the primary one, Hydra's own node included."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    around = GlobalHydra.instance()
    outer, around.hydra = around.hydra, None  # of the application that asks, if there is one
    try:
        with hydra.initialize_config_dir(
            version_base="1.3", config_dir=str(conf_dir()), job_name=PRIMARY
        ):
            return hydra.compose(PRIMARY, overrides=list(overrides), return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = outer


def quoted(text: str, mark: str = "'") -> str:
    """Any text, as Hydra's grammar takes it: nothing in it is read as anything else.

    mark  the quotation mark around it, ' or "
    """
    text = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", text)
    escaped = re.sub(
        rf"(\\*)({mark}|$)", lambda m: m[1] * 2 + m[2].replace(mark, f"\\{mark}"), text
    )
    return f"{mark}{escaped}{mark}"


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as plain containers, without what is no part of a run.

    These are Hydra's own node, that of `bluestab auto`, and that of a search, whose storage may be
    a matter of passwords.
    What loggers have from the environment is noted below `references`, for `secrets.stored`.
    """
    node = OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k not in ("hydra", "search", "auto")])
    try:
        found: dict[str, Any] = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        kept = references(node, found, "logger")
        return {**found, REFERENCES: kept} if kept else found
    except OmegaConfBaseException as error:
        raise ConfigError(f"the config cannot be resolved: {str(error).splitlines()[0]}") from error


def leaves(
    node: Mapping[str, Any], path: str = "", *, without: Collection[str] = ()
) -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything in nested maps; a list is one value.

    without  keys at the top whose branches are left out
    """
    for key, value in node.items():
        if key in without:
            continue
        where = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{where}.")
        else:
            yield where, value


def references(cfg: DictConfig, resolved: Mapping[str, Any], node: str) -> dict[str, str]:
    """Dotted path -> text, of the values of a node that come from the environment, through however
    many other values. Nothing else of the text is a reference.

    resolved  the same config with its values
    """
    raw = OmegaConf.to_container(cfg, resolve=False)
    if not any(REFERENCE.search(str(text)) for _, text in _texts(raw)):
        return {}
    from omegaconf.resolvers import oc

    def named(name: str, *_: object) -> str:
        return f"${{oc.env:{name}}}"

    found = {}
    OmegaConf.register_new_resolver("oc.env", named, replace=True)
    try:
        for path, value in _texts(resolved.get(node), f"{node}."):
            try:
                text = OmegaConf.select(cfg, path)
            except OmegaConfBaseException:  # what is made of it would need the value
                text = None
            if text is None or str(text) != value:
                found[path] = str(text) if isinstance(text, str) else MASK
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
    return found


def filled(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A config that was stored for another process, with the values that it refers to.

    Raises ConfigError if a variable is not set here.
    """
    found = {name: node for name, node in cfg.items() if name != "logger"}
    logger = OmegaConf.create({"logger": cfg.get("logger") or {}})
    kept = {p: t for p, t in _texts(cfg.get("logger"), "logger.") if REFERENCE.search(t)}
    try:
        found["logger"] = OmegaConf.to_container(logger, resolve=True)["logger"]  # type: ignore[index, call-overload]
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{', '.join(kept)} cannot be filled in: {str(error).splitlines()[0]}; set the "
            "variable where the run is done"
        ) from error
    return {**found, REFERENCES: kept} if kept else found


def _texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path and text of every text in nested maps and lists."""
    if isinstance(node, str):
        yield path.rstrip("."), node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(value, f"{path}{key}.")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _texts(value, f"{path.rstrip('.')}[{i}].")
