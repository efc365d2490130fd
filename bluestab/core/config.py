"""The config: composed from the yamls and overrides, resolved to plain containers, walked."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bluestab.core.errors import ConfigError
from bluestab.core.paths import conf_dir

PRIMARY = "bluestab"
"""Name of the primary config, and what the application is called."""


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

    These are Hydra's own node, and that of a search, whose storage may be a matter of passwords.
    """
    node = OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k not in ("hydra", "search")])
    try:
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
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
