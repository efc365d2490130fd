"""One precision for all runs of a sweep where it is left open, and the same again when it goes on.

What a sweep settled for stands in its manifest (`settled`, and in the overrides of every run). A
command that asks for runs of such a manifest takes it from there, on whatever machine it is typed;
one that would need another precision, and lose what is finished, is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from bluestab.core.errors import ConfigError
from bluestab.core.keys import key_of, with_trainer
from bluestab.core.printable import counted
from bluestab.store.store import Store
from bluestab.training.check import Run
from bluestab.training.defaults import (
    FORMER,
    MASKS,
    OF_DEVICE,
    PRECISION,
    ROWS,
    KindOf,
    override_lines,
)

Manifest = Mapping[str, Any]
Check = Callable[[KindOf], list[Run]]
"""Checks every run of the sweep, for a machine with such devices."""


@dataclass(frozen=True)
class Agreed:
    """Runs of one precision, unless it was said for each; what was settled, for the manifest
    (empty: nothing was open), and the same in a line."""

    runs: list[Run]
    settled: Mapping[str, Any]
    line: str | None


def agree(check: Check, kind_of: KindOf) -> Agreed:
    """Check every run, at one precision where that was left open, and as the sweep was begun.

    Raises ConfigError as `check` does; and if the sweep was begun in bf16 and something of it is
    finished, but this machine does not compute in it, or a technique that was added cannot.
    """
    runs = check(kind_of)
    if not any(run.settled.values for run in runs):
        return Agreed(runs, {}, None)
    store = Store(str(runs[0].cfg["store"]))
    before = [manifest for manifest in store.whole_manifests() if manifest.get("settled")]
    if (begun_on := _begun_on(runs, before, kind_of)) is not None:
        kind_of = _as_on(begun_on, kind_of)
        runs = check(kind_of)
    open_ = [run for run in runs if PRECISION in run.settled.values]
    in_32 = [run for run in open_ if run.settled.values[PRECISION] == 32]
    refusing = [sentence for run in open_ for sentence in run.settled.float32]
    why = "the processor or GPU computes in it"
    if in_32:
        why = refusing[0] if refusing else "the processor or GPU has no bf16 arithmetic"
        if not _begun(open_, before, 32):
            n_done = sum(map(store.has, _begun(open_, before, "bf16")))
            _refuse_change(n_done, why, has_arms=bool(refusing))
        if len(in_32) < len(open_):
            runs = check(_without_bf16(kind_of))
    elif _begun(open_, before, 32) and not _begun(open_, before, "bf16"):
        why = "as an earlier command settled for"
        runs = check(_without_bf16(kind_of))
    return Agreed(runs, _settled(runs, kind_of), settled_line(runs, why))


def _settled(runs: Sequence[Run], kind_of: KindOf) -> dict[str, Any]:
    """What a manifest says of knobs that were open: precision, those of a kind of device, which."""
    found: dict[str, Any] = {}
    for run in runs:
        values = run.settled.values
        if PRECISION in values:
            found[PRECISION] = values[PRECISION]
        for knob in OF_DEVICE:
            if knob in values:
                found.setdefault(knob, [])
                if values[knob] not in found[knob]:
                    found[knob].append(values[knob])
    kinds = {kind_of(run.cfg["device"]).name for run in runs}
    return {**found, "device": kinds.pop()} if found and len(kinds) == 1 else found


def _begun_on(runs: Sequence[Run], before: Sequence[Manifest], kind_of: KindOf) -> str | None:
    """The kind of device for which an earlier command planned some of these runs, if it is another
    one than here, and none was planned for this one."""
    open_ = [run for run in runs if run.settled.values.keys() & {*OF_DEVICE}]
    if not open_:
        return None
    here = kind_of(open_[0].cfg["device"]).name

    @cache  # most manifests of a store settled for the same
    def keys_with(values: tuple[Any, ...], precision: int | str | None) -> frozenset[str]:
        then = dict(zip(OF_DEVICE, values, strict=True))
        then |= {} if precision is None else {PRECISION: precision}
        return frozenset(
            key_of(
                with_trainer(run.hashed, {p: v for p, v in then.items() if p in run.settled.values})
            )
            for run in open_
        )

    found = None
    for manifest in before:
        then = manifest["settled"]
        keys = {run["key"] for run in manifest["runs"]}
        settled = product(*(then.get(knob, [FORMER[knob]]) for knob in OF_DEVICE))
        if any(keys & keys_with(values, then.get(PRECISION)) for values in settled):
            if then.get("device") in (here, None):
                return None
            found = then["device"]
    return found


def _as_on(name: str, kind_of: KindOf) -> KindOf:
    return lambda device: kind_of(device)._replace(name=name)


def _refuse_change(n_done: int, why: str, *, has_arms: bool) -> None:
    """Raises ConfigError if runs are finished in bf16 that are to be done in float32 now."""
    if n_done:
        go_on = (
            "leave the arms that need float32 out here, and give them a command of their own"
            if has_arms
            else "go on on a machine that has it"
        )
        raise ConfigError(
            f"{counted(n_done, 'run of this sweep is', 'runs of this sweep are')} finished in "
            f"bf16, and its other runs cannot be done so here ({why}): either say {PRECISION}=32, "
            f"which does all of them in float32, or {go_on}"
        )


def settled_line(runs: Sequence[Run], why: str = "") -> str | None:
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


def _begun(runs: Sequence[Run], before: Sequence[Manifest], precision: int | str) -> set[str]:
    """Keys of these runs at this precision, as far as a sweep settled for it."""
    keys = {key_of(with_trainer(run.hashed, {PRECISION: precision})) for run in runs}
    return keys & {
        run["key"]
        for manifest in before
        if manifest["settled"].get(PRECISION) == precision
        for run in manifest["runs"]
    }


SINCE = ((MASKS, ROWS), (ROWS,))
"""Of `FORMER`, what the versions since 0.1 came to leave open, together and one by one."""


def former_note(runs: Iterable[Run], store: Store) -> str | None:
    """What to say if the store has runs of this command as it was understood before knobs were left
    to the device: how many, and the overrides that use them."""
    former: dict[str, Any] = {}
    n_all = n_found = 0
    for run in runs:
        n_all += 1
        for knobs in (FORMER, *({p: FORMER[p] for p in some} for some in SINCE)):
            then = {path: value for path, value in knobs.items() if path in run.settled.values}
            key = key_of(with_trainer(run.hashed, then))
            if key != run.key and store.has(key) and not store.has(run.key):
                n_found += 1
                former |= then
                break
    if not n_found:
        return None
    return (
        f"{n_found} of {n_all} runs are in the store as earlier versions did them by default: "
        f"to use those, add {' '.join(override_lines(former))}"
    )
