"""A sweep as a declared set of runs: composed, checked and named before the first one starts."""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, TypeVar

from omegaconf import DictConfig

from bluestab.core import devices
from bluestab.core.config import resolved
from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.provenance import command_line
from bluestab.core.secrets import cleaned_value
from bluestab.models.init_from import START
from bluestab.report.frames.published import read_published
from bluestab.report.searches import confirmation_of
from bluestab.store.store import Store, parse_manifest
from bluestab.sweeps.defaults import agree, former_note
from bluestab.sweeps.launches import launches
from bluestab.sweeps.search.spec import SEEDS, fresh_seeds
from bluestab.sweeps.sequences import (
    BESIDE,
    StageJob,
    chains_of,
    has_sequence,
    keeping_all,
    tasks_before,
)
from bluestab.training.check import Run, check
from bluestab.training.defaults import KindOf

SEED = re.compile(r"seed=(\d+)")
STREAM = re.compile(r"seeds\.(init|order|dropout|split)=(\d+)")
LINK = re.compile(r"model\.init_from=(stage:.*)")

SILENCE = 5.0  # seconds that the checks of many runs may take without a word
MOST_COMPOSED = 500  # configs that are remembered at once: one takes 0.1 MB

Compose = Callable[[Sequence[str]], DictConfig]
T = TypeVar("T")


@dataclass(frozen=True)
class PlannedRun:
    """A run that can be started, and the overrides that make it from the primary config.

    lends  it keeps weights for the stages that go on from it, and for nobody else
    """

    run: Run
    overrides: tuple[str, ...]
    lends: bool = False

    @property
    def command(self) -> str:
        """The line that makes exactly this run."""
        return "bluestab run " + shlex.join(self.overrides)


@dataclass(frozen=True)
class Sweep:
    """The runs of one question, and where they go.

    baseline, difference  as `sweep.baseline` and `sweep.difference` declare them before any result
    settled               what became of knobs that were left open; empty: none was
    notes                 what is to be said of knobs that were left open
    confirm               fresh seeds, on which the arm that it chooses is measured afterwards
    confirms              of a confirmation: the sweep that chose; cell -> role and name of its arm
    blind                 nobody is shown a test score yet: no table and no report at its end
    deadline              `time.monotonic` after which no further run begins on this machine
    """

    name: str
    store: Store
    runs: tuple[PlannedRun, ...]
    baseline: str = "none"
    difference: float = 0.01
    settled: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    confirm: tuple[int, ...] = ()
    confirms: Mapping[str, Any] | None = None
    blind: bool = False
    deadline: float | None = None

    def manifest(self) -> dict[str, Any]:
        """What `status` and `report` refer to: what was declared, which launch asked for what, and
        every key with its overrides."""
        runs = [(planned.run.key, planned.run.cell) for planned in self.runs]
        own = None if self.confirms is None else self.name
        return {
            **({"settled": dict(self.settled)} if self.settled else {}),
            "name": self.name,
            "command": command_line(),
            "declared": {
                "seeds": sorted({planned.run.cfg["seed"] for planned in self.runs}),
                "baseline": self.baseline,
                "difference": self.difference,
                **({"confirm": list(self.confirm)} if self.confirm else {}),
            },
            **({} if self.confirms is None else {"confirms": self.confirms}),
            "launches": launches(self.store, runs, command_line(), own),
            "runs": [
                {
                    "key": planned.run.key,
                    "cell": planned.run.cell,
                    "seed": planned.run.cfg["seed"],
                    "overrides": list(planned.overrides),
                    **({"lends": True} if planned.lends else {}),
                }
                for planned in self.runs
            ],
        }


Job = Sequence[str]
"""The overrides that make one run from the primary config."""


def check_each(
    compose: Compose, jobs: Sequence[Job], check: Callable[[dict[str, Any]], T]
) -> list[tuple[Job, T]]:
    """Compose every job and check it. Raises ConfigError with the problems of all of them.

    Composing costs about 40 ms, so runs that differ in their seeds alone are composed once.
    """
    composed: dict[tuple[str, ...], DictConfig] = {}
    checked: list[tuple[Job, T]] = []
    problems: dict[str, list[str]] = {}
    last = time.monotonic()
    for n, job in enumerate(jobs):
        if time.monotonic() - last > SILENCE:
            last = time.monotonic()
            print(f"  checked {n:,} of {len(jobs):,} runs; nothing is started yet", flush=True)
        rest = tuple(_any_stream(override) for override in job if not SEED.fullmatch(override))
        if rest not in composed:
            if len(composed) >= MOST_COMPOSED:  # seeds of one arm come one after another
                composed.clear()
            composed[rest] = compose(rest)
        cfg = composed[rest]
        for override in job:
            if match := SEED.fullmatch(override):
                cfg.seed = int(match.group(1))
            elif match := STREAM.fullmatch(override):
                cfg.seeds[match.group(1)] = int(match.group(2))
            elif match := LINK.fullmatch(override):
                cfg.model.init_from = match.group(1)
        try:
            checked.append((job, check(resolved(cfg))))
        except ConfigError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(" ".join(job))
    if problems:
        raise ConfigError(*(_with_extent(p, where, len(jobs)) for p, where in problems.items()))
    if not checked:
        raise ConfigError("the sweep holds no run")
    return checked


def _any_stream(override: str) -> str:
    """The same for every seed of a stream, and for every run that a stage goes on from; whether one
    is given decides what follows `seed`."""
    match = STREAM.fullmatch(override)
    if LINK.fullmatch(override):
        return "model.init_from=null"
    return f"seeds.{match.group(1)}=0" if match else override


def check_stages(
    compose: Compose, jobs: Sequence[Job], kind_of: KindOf
) -> list[tuple[StageJob, Run]]:
    """`check_each` where jobs may be sequences of tasks: all their stages, the first ones first."""
    composed = cache(lambda seedless: compose(seedless))
    chains = [chain for job in jobs for chain in _chains(composed, job)]
    runs: dict[str, Run] = {}
    known: dict[Job, Run] = {}
    before: list[Run | None] = [None] * len(chains)
    found = []
    for number in range(max(map(len, chains), default=1)):
        stages = {
            i: (chain[number], chain[number].after(before[i].key if before[i] else ""))  # type: ignore[union-attr]
            for i, chain in enumerate(chains)
            if number < len(chain)
        }
        new = [job for job in dict.fromkeys(job for _, job in stages.values()) if job not in known]
        checked = check_each(compose, new, partial(check, kind_of=kind_of, planned=runs))
        known.update(checked)
        for i, (stage, job) in stages.items():
            before[i] = known[job]
            runs[known[job].key] = known[job]
            found.append((replace(stage, overrides=tuple(job)), known[job]))
    return found


def _chains(compose: Compose, job: Job) -> list[list[StageJob]]:
    if has_sequence(job):
        seedless = tuple(override for override in job if not SEED.fullmatch(override))
        return chains_of(job, compose(seedless))
    return [[StageJob(tuple(job))]]


def plan_sweep(
    compose: Compose,
    jobs: Sequence[Job],
    name: str | None,
    kind_of: KindOf | None = None,
    confirms: Mapping[str, Any] | None = None,
) -> Sweep:
    """Compose and check every run. Raises ConfigError with the problems of all of them.

    name      what the manifest is called; None: the tasks and a hash of the keys
    kind_of   devices of the machines that will do the runs; None: those of this one
    confirms  see `Sweep`
    """

    stages: dict[str, StageJob] = {}

    def checked(kind_of: KindOf) -> list[Run]:
        found = keeping_all(check_stages(compose, jobs, kind_of))
        for stage, run in found:
            stages.setdefault(run.key, stage)
        return [run for _, run in found]

    agreed = agree(checked, kind_of or devices.kind_of)
    planned: dict[str, PlannedRun] = {}
    for run in agreed.runs:
        stage = stages[run.key]
        planned.setdefault(run.key, PlannedRun(run, stage.overrides, stage.lends))
    read_published()  # the table at the end shows them: what is wrong there is said before it
    first = next(iter(planned.values())).run
    tasks = list(dict.fromkeys(p.run.data.task.name for p in planned.values()))
    digest = hashlib.sha256("".join(sorted(planned)).encode()).hexdigest()[:8]
    name = _file_name(name or f"{'-'.join(tasks)[:80]}-{digest}")
    store, asked = Store(first.cfg["store"]), first.cfg.get("sweep") or {}
    return Sweep(
        name=name,
        store=store,
        runs=tuple(in_order(_spelled_out(_named(list(planned.values()), name)))),
        settled=agreed.settled,
        notes=tuple(filter(None, (agreed.line, former_note(agreed.runs, store)))),
        **_declared(asked),
        confirm=() if confirms else _fresh(asked.get("confirm", 0), planned, store, name),
        confirms=confirms,
    )


def _spelled_out(planned: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The same runs, with what their overrides left open among them: the same on any machine."""
    found = []
    for one in planned:
        paths = tuple(f"{path}{mark}" for path in one.run.settled.values for mark in "=.")
        said = [override for override in one.overrides if not override.startswith(paths)]
        found.append(replace(one, overrides=(*one.run.settled.overrides(), *said)))
    return found


def _fresh(
    asked: Any, planned: Mapping[str, PlannedRun], store: Store, name: str
) -> tuple[int, ...]:
    """`sweep.confirm`: seeds that neither this sweep nor an earlier one had in its cells. Raises
    ConfigError if they could not be fresh."""
    if isinstance(asked, bool) or (asked != 0 and not SEEDS[0](asked)):
        raise ConfigError(f"sweep.confirm is {asked!r}: expected 0, {SEEDS[1]}")
    if not asked:
        return ()
    for one in planned.values():
        if one.run.predecessor is not None:
            raise ConfigError(
                "sweep.confirm chooses an arm of a task; for a sequence of tasks leave it out"
            )
        for override in one.overrides:
            if override.startswith(("seeds.init=", "seeds.order=", "seeds.dropout=")):
                raise ConfigError(
                    f"sweep.confirm: {override} is set, so no seed would be fresh in all streams; "
                    "leave one of the two out"
                )
    second = _file_name(confirmation_of(name))
    cells = {one.run.cell for one in planned.values()}
    used = {one.run.cfg["seed"] for one in planned.values()}
    for manifest in store.whole_manifests():
        if manifest["name"] != second:
            used |= {r["seed"] for r in manifest["runs"] if r.get("cell") in cells and "seed" in r}
    return fresh_seeds(asked, used, "sweep")


def _declared(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """`sweep.baseline` and `sweep.difference`. Raises ConfigError if the latter is no size."""
    baseline = sweep.get("baseline", Sweep.baseline)
    difference = sweep.get("difference", Sweep.difference)
    known = isinstance(difference, int | float) and not isinstance(difference, bool)
    if not known or not 0 < difference < float("inf"):
        raise ConfigError(
            f"sweep.difference is {difference!r}: expected the size of a change of the score that "
            "is worth finding, above 0, such as 0.01"
        )
    return {"baseline": str(baseline), "difference": float(difference)}


def check_name(sweep: Sweep) -> str | None:
    """What is to be said of an earlier sweep of this name in the store, whose manifest and page
    this one takes the place of; None if it holds all runs of that one.

    Raises ConfigError if the two have nothing in common: they are two questions.
    """
    path = sweep.store.manifests().get(sweep.name)
    try:
        before = None if path is None else parse_manifest(path)
    except StoreError:  # damaged: written anew
        return None
    if before is None:
        return None
    keys = {p.run.key for p in sweep.runs}
    cells = {p.run.cell for p in sweep.runs}
    others = [run for run in before["runs"] if run["key"] not in keys]
    if not others:
        return None
    if len(others) == len(before["runs"]) and not any(r.get("cell") in cells for r in others):
        raise ConfigError(
            f"sweep.name is '{sweep.name}', which is the name of another sweep in the store "
            f"'{sweep.store.root}' ({len(others)} runs, none of them of a configuration of this "
            f"one: {before['command']}); say sweep.name=OTHER, or remove {path} to give the name "
            "away (its runs stay)"
        )
    return (
        f"sweep {sweep.name}: {len(others)} of {len(before['runs'])} runs of its earlier command "
        f"({before['command']}) are not among these: they stay in the store, and its page no "
        "longer shows them"
    )


def _named(planned: Sequence[PlannedRun], name: str) -> list[PlannedRun]:
    """The same runs, each with the names of its sweep and its arm, for those who are told of it."""
    after = tasks_before([one.run for one in planned])
    rest = [[*_telling(p.overrides, after.get(p.run.cell, ()), p.lends)] for p in planned]
    shared = set.intersection(*map(set, rest))
    named = []
    for one, overrides in zip(planned, rest, strict=True):
        arm = " ".join(cleaned_value(o) for o in overrides if o not in shared) or None
        cfg = {
            **one.run.cfg,
            "sweep": {**(one.run.cfg.get("sweep") or {}), "name": name, "arm": arm},
        }
        named.append(replace(one, run=replace(one.run, cfg=cfg)))
    return named


def _telling(overrides: Job, after: Sequence[str], lends: bool) -> Iterator[str]:
    """What tells a run from others, its seed left out; of a stage, which tasks it comes after in
    place of what follows from that."""
    for override in overrides:
        follows = (after and override == "score_earlier=true") or LINK.fullmatch(override)
        kept = override.startswith(BESIDE) or (lends and override.startswith("keep="))
        if not (SEED.fullmatch(override) or follows or kept):
            yield override
    if after:
        jointly = any(LINK.fullmatch(o) and o.endswith(f":{START}") for o in overrides)
        yield f"{'with' if jointly else 'after'}={'>'.join(after)}"


def in_order(planned: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Task by task and model by model, so that data and weights are loaded once; inside, seed by
    seed over all arms, so that an interrupted sweep is a smaller sweep that still pairs its arms.
    Stages of sequences seed by seed alone, and as they follow each other.
    """
    subjects: dict[tuple[str, str], int] = {}
    seeds: dict[int, int] = {}
    if any(p.run.predecessor for p in planned):
        return sorted(planned, key=lambda p: p.run.cfg["seed"])
    for p in planned:
        subjects.setdefault((p.run.data.task.name, p.run.hashed["model"]), len(subjects))
        seeds.setdefault(p.run.cfg["seed"], len(seeds))
    return sorted(
        planned,
        key=lambda p: (
            subjects[p.run.data.task.name, p.run.hashed["model"]],
            seeds[p.run.cfg["seed"]],
        ),
    )


def _with_extent(problem: str, where: Sequence[str], n_jobs: int) -> str:
    if len(where) == n_jobs:
        return problem
    return f"{problem} (in {len(where)} of {n_jobs} runs, first: {where[0]})"


def _file_name(name: object) -> str:
    if not re.fullmatch(r"\w[\w.+-]{0,99}", str(name)):
        raise ConfigError(
            f"sweep.name is {name!r}: expected up to 100 letters, digits and . _ + -, a letter or "
            "digit first (it becomes a file name)"
        )
    return str(name)
