"""What a search leaves to the device, settled once for all its points: scores at two precisions, or
with other micro-batches, are not compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError
from bluestab.sweeps.search.spec import Search
from bluestab.training.check import check_parts
from bluestab.training.defaults import (
    FORMER,
    OF_DEVICE,
    PRECISION,
    KindOf,
    override_lines,
)


def settled(search: Search, before: Mapping[str, str] | None, kind_of: KindOf) -> Search:
    """The search with plain values of the knobs of `training/defaults.py` in `fixed`.

    before   what an earlier command of this study fixed, which holds; None: there is none
    kind_of  devices of the machines that will do the runs
    """
    fixed = dict(search.asked["fixed"])
    chosen = {*search.asked["choices"], *search.asked["node"]["params"]}
    kind = kind_of(fixed.get("device", "auto"))
    values: dict[str, str] = {}
    if fixed.get(PRECISION, "auto") == "auto" and PRECISION not in chosen:
        bf16 = kind.bf16 and not _needs_float32(search)
        values[PRECISION] = _before(before, PRECISION) or ("bf16" if bf16 else "32")
    for path in OF_DEVICE:
        if any(said.startswith(path) for said in {*fixed, *chosen}):
            continue
        own = resolved(compose([]))["trainer"][path.removeprefix("trainer.")][kind.name]
        value = "null" if own is None else own
        # for every device, and still left open: a point may need another value
        values[path] = _before(before, path) or f"{{cpu:{value},cuda:{value},mps:{value}}}"
    kept = [line for line in search.fixed if line.partition("=")[0] not in values]
    return replace(
        search,
        fixed=(*kept, *(f"{path}={value}" for path, value in values.items())),
        asked={**search.asked, "fixed": fixed | values},
    )


def as_before(fixed: Mapping[str, str], others: Mapping[str, Any]) -> dict[str, str]:
    """What was fixed by a version in which these knobs had plain defaults, these spelled out.

    others  what is no default either: choices and spaces
    """
    then = dict(line.split("=") for line in override_lines(FORMER))
    said = {*fixed, *others}
    return {p: v for p, v in then.items() if not any(s.startswith(p) for s in said)} | {**fixed}


def _before(fixed: Mapping[str, str] | None, path: str) -> str | None:
    return None if fixed is None else fixed.get(path)


def _needs_float32(search: Search) -> bool:
    """Is some extreme point of the space refused in bf16 alone?"""
    for _, point in search.space.corners():
        job = search.job(point, search.seeds[0])
        if not _passes([*job, f"{PRECISION}=bf16"]) and _passes([*job, f"{PRECISION}=32"]):
            return True
    return False


def _passes(job: list[str]) -> bool:
    try:
        check_parts(resolved(compose(job)))
    except ConfigError:
        return False
    return True
