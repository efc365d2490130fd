"""Starts nothing. That a sweep exists means that it was composed and checked; says what it costs.

Costs come from runs of the store that are alike, else from a few timed steps that leave no trace.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bluestab.core import devices, rules
from bluestab.core.devices import Kind
from bluestab.core.errors import BRING, BluestabError, ConfigError
from bluestab.core.printable import counted
from bluestab.core.types import WEIGHTS_TO_KEEP
from bluestab.store.store import Store
from bluestab.sweeps.forecast import (
    Cost,
    Finished,
    KnownCosts,
    finished_runs,
    forecast,
    from_dry_step,
    on_device,
)
from bluestab.sweeps.forecast import workload as workload_of
from bluestab.sweeps.grouping import GROUP, is_packed
from bluestab.sweeps.launchers.auto import choose
from bluestab.sweeps.launchers.base import Backend
from bluestab.sweeps.launchers.plan_table import print_plan
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.pool import assign_devices
from bluestab.sweeps.sequences import tasks_before
from bluestab.training.check import Run
from bluestab.training.dry_run_step import DryStep, dry_step, is_here, planned_steps
from bluestab.training.truncation import dataset_truncation_note

if TYPE_CHECKING:
    from bluestab.sweeps.search.spec import Search

GROUPS = 6  # dry steps of one check
SECONDS = 60.0  # after which no further one is begun


class Check(Backend):
    """dry_step: time a few steps where no finished run is alike; group: as the launcher has it that
    would do the runs; launcher: its name; gpus: does it ask a scheduler for any? workers: of the
    forecast; null: one, or as many as the launchers `auto` and `pool` would take."""

    trains = False

    def __init__(
        self, *, dry_step: bool, workers: int | None, group: int | None, launcher: str, gpus: bool
    ) -> None:
        wrong = rules.problems(
            {
                "hydra.launcher.dry_step": (dry_step, rules.FLAG),
                "hydra.launcher.workers": (workers, rules.whole(1, null=True)),
                "hydra.launcher.group": (group, GROUP),
            }
        )
        if wrong:
            raise ConfigError(*wrong)
        self.dry_step, self.workers, self.group = dry_step, workers, group
        self.launcher, self.gpus = launcher, gpus

    def kind_of(self, device: str) -> Kind:
        if self.launcher == "slurm":
            return devices.kind_in_job(device, gpus=self.gpus)
        return super().kind_of(device)

    def at_once(self, runs: Sequence[Run], store: Store) -> int:
        if self.launcher == "auto":
            return choose(runs, store, most=self.workers).workers
        if self.launcher == "pool" and runs:
            return len(assign_devices([run.cfg for run in runs], self.workers, 1))
        return self.workers or 1

    def launch(self, sweep: Sweep) -> None:
        runs = [p.run for p in sweep.runs]
        finished = list(finished_runs(sweep.store))
        if self.launcher == "auto":
            to_do = [run for run in runs if not sweep.store.has(run.key)]
            choice = choose(to_do, sweep.store, most=self.workers, finished=finished)
            self.workers = choice.workers
            print(choice.line)
        elif self.launcher == "pool":
            self.workers = self.at_once(runs, sweep.store)
        if sweep.confirm:
            from bluestab.sweeps.confirmation import most_runs

            print(
                f"at most {counted(most_runs(sweep), 'run')} more, which the forecast leaves "
                f"out, measure what it chooses on {len(sweep.confirm)} fresh seeds"
            )
        self.show(sweep.store, runs, finished)

    def search(self, search: Search) -> None:
        """At most what it would run, at points drawn at random: racing stops about half of it."""
        from bluestab.sweeps.search.plan import possible_runs

        runs = possible_runs(replace(search, group=self.group))
        print(
            f"search {search.name}: at most {len(runs)} runs, here at points drawn at random, and "
            f"{4 * len(search.confirm)} to confirm the winner; racing usually stops half of them"
        )
        self.show(Store(search.root), runs)

    def show(
        self, store: Store, runs: Sequence[Run], finished: Iterable[Finished] | None = None
    ) -> None:
        """What would be run, and what it costs. Raises ConfigError if something for it is missing,
        once all is said.

        finished  as of `foresee`
        """
        to_do = [run for run in runs if not store.has(run.key)]
        missing = [*_missing(to_do), *(_no_device(to_do) if self.launcher != "slurm" else ())]
        outlook = foresee(store, to_do, dry_steps=self.dry_step, finished=finished)
        keep = [run.cfg["keep"] for run in to_do]
        costs = [_with_artefacts(run, outlook.costs.get(run.cell)) for run in to_do]
        print_plan(
            store,
            runs,
            outlook.costs,
            forecast(costs, workers=self.workers or 1, keep=keep),
            outlook.gaps,
            outlook.notes,
            missing=bool(missing),
        )
        if any(is_packed(run) for run in to_do):
            print("dry steps are those of a run by itself: packed runs share theirs")
        if missing:
            raise ConfigError(*missing)


def _missing(runs: Sequence[Run]) -> Iterator[str]:
    """A sentence for each model whose weights are not here."""
    needing: dict[str, list[Run]] = {}
    for run in runs:
        needing.setdefault(run.hashed["model"], []).append(run)
    for members in needing.values():
        model = members[0].model
        try:
            if is_here(model):
                continue
            why = f"the weights of model '{model.name}' are not on this machine"
            way_out = f"; {BRING} model={model.name}"
        except ConfigError as error:
            why, way_out = str(error), ""
        yield f"{why} ({len(members)} of {len(runs)} runs to do need them){way_out}"


def _no_device(runs: Sequence[Run]) -> Iterator[str]:
    """A sentence for each device that is asked for and not here."""
    for device, n in {(run.cfg["device"], run.cfg["trainer"]["devices"]): None for run in runs}:
        try:
            devices.of_ranks(devices.resolve(device), n)
        except ConfigError as error:
            yield str(error)


@dataclass
class Outlook:
    """costs: cell -> cost of one of its runs; gaps: why a cost is not known, one sentence each;
    notes: what the models will not read, likewise."""

    costs: dict[str, Cost] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def foresee(
    store: Store,
    runs: Sequence[Run],
    *,
    dry_steps: bool,
    finished: Iterable[Finished] | None = None,
    optional: bool = True,
) -> Outlook:
    """The cost of every cell, as far as it can be known. Nothing is written.

    finished  runs to learn from; None: the latest of the store
    optional  a person may say hydra.launcher.dry_step=false, and is told so
    """
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    outlook = Outlook()
    if finished is None and cells:
        finished = finished_runs(store)
    known_runs = list(finished or ())
    for cell, (run, *_) in cells.items():
        known = KnownCosts(on_device(known_runs, run.cfg["device"], _here()))
        cost = known.cost(
            cell, workload_of(run.hashed), tuple(run.techniques), planned_steps(run)[0]
        )
        if cost is not None:
            outlook.costs[cell] = cost
    unknown = [members for cell, members in cells.items() if cell not in outlook.costs]
    if not dry_steps and unknown:
        n = sum(map(len, unknown))
        said = counted(n, "run to do is", "runs to do are")
        outlook.gaps.append(f"{said} like none in the store, and dry_step is false")
    elif unknown:
        _try_out(unknown, outlook, "; hydra.launcher.dry_step=false leaves that out" * optional)
    return outlook


def _with_artefacts(run: Run, cost: Cost | None) -> Cost | None:
    """The cost of a run, and on disk what it keeps beside weights, in float32: representations,
    last and best; its path integral, two numbers per parameter (a little less: no head); of the
    importance of kept weights one, Kronecker factors as of blocks with 4h in the middle: of h x h
    four times 2 h^2, of h x 4h twice 17 h^2."""
    if cost is None:
        return None
    numbers = 0
    if run.cfg["keep_representations"]:
        numbers += 2 * run.data.size("test") * run.model.hidden_size
    if run.cfg["keep_path_integral"]:
        numbers += 2 * cost.parameters
    for name in run.cfg["keep_importance"]:
        factors = 42 * run.model.hidden_size**2 * run.model.layers
        one = factors if name.startswith("kronecker") else cost.parameters
        numbers += one * len(WEIGHTS_TO_KEEP[run.cfg["keep"]])
    return replace(cost, disk=cost.disk + 4 * numbers)


def _here() -> str:
    return "cpu" if not devices.cuda_devices() else "cuda"


Group = tuple[str, tuple[str, ...]]
"""Runs whose steps cost the same: workload, names of the techniques."""


def _try_out(cells: Sequence[Sequence[Run]], outlook: Outlook, way_out: str) -> None:
    """Dry steps for the largest groups, one of each workload first; the others are like them.

    way_out  how to go without, said behind what is announced
    """
    groups: dict[Group, list[Sequence[Run]]] = {}
    for members in cells:
        run = members[0]
        groups.setdefault((workload_of(run.hashed), tuple(run.techniques)), []).append(members)
    by_size = sorted(groups, key=lambda g: -sum(map(len, groups[g])))
    first = {group[0]: group for group in reversed(by_size)}  # the largest of each workload
    order = sorted(by_size, key=lambda group: first[group[0]] != group)
    measured: dict[Group, DryStep] = {}
    tried: set[Group] = set()
    end = time.monotonic() + SECONDS
    n = min(len(order), GROUPS)
    print(f"timing a few steps of {counted(n, 'kind')} of run{way_out}", flush=True)
    before = tasks_before([run for members in cells for run in members])
    if any(one.remembers for run, *_ in cells if run.waits for one in run.techniques.values()):
        outlook.notes.append(
            "what stages pay to hold on to earlier tasks is forecast as if these were as large as "
            "the stage's own"
        )
    outlook.notes += list(_cut([groups[group][0][0] for group in order[:GROUPS]]))
    for group in order[:GROUPS]:
        if time.monotonic() > end:
            break
        tried.add(group)
        found = _dry(groups[group][0][0])
        if isinstance(found, DryStep):
            measured[group] = found
        elif found not in outlook.gaps:
            outlook.gaps.append(found)
    for group, members_of in groups.items():
        dry = measured.get(group)
        alike = [d for (work, _), d in measured.items() if work == group[0]]
        if dry is None and group not in tried and alike:
            dry = max(alike, key=lambda d: d.step)  # the dearest, to be safe
        if dry is None:
            if group not in tried and not any(work == group[0] for work, _ in tried):
                run, n = members_of[0][0], sum(map(len, members_of))
                outlook.gaps.append(
                    f"{counted(n, 'run')} like {_called(run)}: not tried out, for time"
                )
            continue
        for members in members_of:
            steps, per_epoch = planned_steps(members[0])
            outlook.costs[members[0].cell] = from_dry_step(
                dry,
                steps=steps,
                steps_per_epoch=per_epoch,
                eval_every=members[0].cfg["trainer"]["eval_every"],
                earlier=len(before.get(members[0].cell, ())),
                source="dry step" if group in measured else "like dry step",
            )


def _dry(run: Run) -> DryStep | str:
    """A dry step, or in one line why there is none: a forecast is no reason to fail."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the log of a run is the place for them
            return dry_step(run)
    except BluestabError as error:
        return f"{_called(run)}: {' '.join(str(error).split())}"
    except Exception as error:  # out of memory, a technique that fails: the run would fail, too
        said = " ".join(str(error).split())[:200]
        return f"{_called(run)}: a dry step ends in {type(error).__name__}: {said}"


def _cut(runs: Sequence[Run]) -> Iterator[str]:
    """What lies beyond the maximum length, for each task and model that is here."""
    for run in {(id(r.data), r.model.name): r for r in runs}.values():
        with suppress(BluestabError):  # the dry step says what is missing
            if is_here(run.model) and (
                note := dataset_truncation_note(run.data, run.model, run.seeds)
            ):
                yield note


def _called(run: Run) -> str:
    return " ".join([run.data.task.name, run.model.name, "+".join(run.techniques) or "none"])
