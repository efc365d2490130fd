"""One precision for all runs of a sweep where it is left open, and the same again when it goes on.

What a sweep settled for stands in its manifest (`settled`, and in the overrides of every run). A
command that asks for runs of such a manifest takes the precision from there, on whatever machine it
is typed; one that would need another, and lose what is finished, is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bluestab.core.errors import ConfigError
from bluestab.core.keys import key_of, with_trainer
from bluestab.store.store import Store
from bluestab.training.check import Run
from bluestab.training.defaults import FORMER, PRECISION, KindOf, override_lines

Check = Callable[[KindOf], list[Run]]
"""Checks every run of the sweep, for a machine with such devices."""


@dataclass(frozen=True)
class Agreed:
    """Runs of one precision (None: it was said for each), and a sentence about what was open."""

    runs: list[Run]
    precision: int | str | None
    said: str | None


def agree(check: Check, kind_of: KindOf) -> Agreed:
    """Check every run, at one precision where that was left open.

    Raises ConfigError as `check` does; and if the sweep was begun in bf16 and something of it is
    finished, but this machine does not compute in it, or a technique that was added cannot.
    """
    runs = check(kind_of)
    open_ = [run for run in runs if PRECISION in run.settled.values]
    if not open_:
        return Agreed(runs, None, said_of(runs))
    in_32 = [run for run in open_ if run.settled.values[PRECISION] == 32]
    refusing = [sentence for run in open_ for sentence in run.settled.float32]
    if not in_32 and (_begun(open_, "bf16") or not _begun(open_, 32)):
        return Agreed(runs, "bf16", said_of(runs, "the processor or GPU computes in it"))
    if not in_32:
        runs, why = check(_without_bf16(kind_of)), "as an earlier command settled for"
        return Agreed(runs, 32, said_of(runs, why))
    why = refusing[0] if refusing else "the processor or GPU has no bf16 arithmetic"
    if not _begun(open_, 32):
        _refuse_change(open_, why, has_arms=bool(refusing))
    if len(in_32) < len(open_):
        runs = check(_without_bf16(kind_of))
    return Agreed(runs, 32, said_of(runs, why))


def _refuse_change(runs: Sequence[Run], why: str, *, has_arms: bool) -> None:
    """Raises ConfigError if some of these runs are finished in bf16, where they are to be done in
    float32 now."""
    store = Store(str(runs[0].cfg["store"]))
    n_done = sum(store.has(key) for key in _begun(runs, "bf16"))
    if n_done:
        go_on = (
            "leave the arms that need float32 out here, and give them a command of their own"
            if has_arms
            else "go on on a machine that has it"
        )
        raise ConfigError(
            f"{n_done} runs of this sweep are finished in bf16, and its other runs cannot be done "
            f"so here ({why}): either say {PRECISION}=32, which does all of them in float32, or "
            f"{go_on}"
        )


def said_of(runs: Sequence[Run], why: str = "") -> str | None:
    """What has become of knobs that were left open, in a line; None: nothing was."""
    values: dict[str, dict[str, None]] = {}
    for run in runs:
        for line in run.settled.overrides():
            values.setdefault(line.partition("=")[0], {})[line.partition("=")[2]] = None
    if not values:
        return None
    return "left open, and settled: " + ", ".join(
        f"{path}={' or '.join(found)}" + (f" ({why})" if why and path == PRECISION else "")
        for path, found in values.items()
    )


def _without_bf16(kind_of: KindOf) -> KindOf:
    return lambda device: kind_of(device)._replace(bf16=False)


def _begun(runs: Sequence[Run], precision: int | str) -> set[str]:
    """Keys of these runs at this precision, as far as a sweep of their store settled for it."""
    store = Store(str(runs[0].cfg["store"]))
    keys = {key_of(with_trainer(run.hashed, {PRECISION: precision})) for run in runs}
    return keys & {
        run["key"]
        for manifest in store.whole_manifests()
        if (manifest.get("settled") or {}).get(PRECISION) == precision
        for run in manifest["runs"]
    }


def former_note(runs: Iterable[Run], store: Store) -> str | None:
    """What to say if the store has runs of this command as it was understood before knobs were left
    to the device: how many, and the overrides that use them."""
    former: dict[str, Any] = {}
    n_all = n_found = 0
    for run in runs:
        then = {path: FORMER[path] for path in run.settled.values}
        key = key_of(with_trainer(run.hashed, then))
        n_all += 1
        if key != run.key and store.has(key) and not store.has(run.key):
            n_found += 1
            former |= then
    if not n_found:
        return None
    return (
        f"{n_found} of {n_all} runs are in the store as earlier versions did them by default: "
        f"to use those, add {' '.join(override_lines(former))}"
    )
