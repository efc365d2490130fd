"""Array tasks on a SLURM cluster that take their runs from the store, one after another.

Submitting is all this does: what a task does is in `sweeps/slurm/task.py`, and whoever watches,
this process or `bluestab status`, reads the store first and asks SLURM for the rest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core import devices, rules
from bluestab.core.errors import ConfigError
from bluestab.core.printable import counted
from bluestab.core.provenance import command_line
from bluestab.core.secrets import literals
from bluestab.store.files import alone
from bluestab.store.store import Store
from bluestab.sweeps.grouping import GROUP, in_blocks
from bluestab.sweeps.launchers.base import Backend
from bluestab.sweeps.lifecycle import close, make_ready, tell_damaged
from bluestab.sweeps.plan import PlannedRun, Sweep
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.arrays import PlannedArray, hand_over, split
from bluestab.sweeps.slurm.environment import knobs_from
from bluestab.sweeps.slurm.following import cancel_if_asked, live_submissions, named, see_through
from bluestab.sweeps.slurm.script import (
    OPTIONS,
    SIGNAL_DELAY,
    batch_script,
    gpus,
    option_problems,
)
from bluestab.sweeps.slurm.sizing import (
    TaskSize,
    TimeLimit,
    minutes_of,
    size_of_tasks,
    time_limit,
)
from bluestab.sweeps.slurm.status import status_line
from bluestab.sweeps.slurm.submission import (
    Submission,
    crashes,
    next_folder,
    root_of,
    write_orders,
    write_search,
)
from bluestab.sweeps.stages import still_to_do
from bluestab.training.defaults import PRECISION

if TYPE_CHECKING:
    from bluestab.sweeps.search.spec import Search
    from bluestab.training.check import Run


class Slurm(Backend):
    """Knobs: see conf/hydra/launcher/slurm.yaml."""

    def __init__(
        self,
        *,
        wait: bool,
        dry_run: bool,
        dry_step: bool,
        runs_per_task: int | None,
        workers_per_task: int | None,
        per_gpu: int,
        group: int | None,
        array_parallelism: int | None,
        partition: str | None,
        account: str | None,
        qos: str | None,
        time: int | str | None,
        mem: int | str | None,
        cpus_per_task: int | None,
        gpus_per_node: int | str | None,
        gres: str | None,
        constraint: str | None,
        nodelist: str | None,
        exclude: str | None,
        reservation: str | None,
        nice: int | None,
        mail_type: str | None,
        mail_user: str | None,
        setup: Sequence[str] | None,
        srun_args: Sequence[str] | None,
        python: str | None,
        additional_parameters: Mapping[str, Any],
    ) -> None:
        known = locals()
        self.wait, self.dry_run, self.python = wait, dry_run, python
        self.dry_step, self.trains = dry_step, not dry_run
        self.runs_per_task, self.workers_per_task = runs_per_task, workers_per_task
        self.per_gpu, self.group, self.array_parallelism = per_gpu, group, array_parallelism
        self.options: dict[str, Any] = {name: known[name] for name in OPTIONS}
        self._told: set[str] = set()

    def launch(self, sweep: Sweep) -> None:
        self._check(sweep)
        self._take_environment()
        runs = in_blocks(sweep.runs, self.group)
        missing = still_to_do(runs, sweep.store)
        if self.dry_run:
            if missing:
                arrays = self._arrays(math.ceil(len(missing) / self._size(sweep, missing).runs))
                self._print_scripts(sweep, arrays, counted(len(missing), "run"))
            else:
                print("nothing to submit: every run is in the store")
            return
        make_ready((p.run for p in missing), sweep.store, here=False)
        tell_damaged(sweep.store, (p.run for p in sweep.runs))
        missing = still_to_do(runs, sweep.store)
        if not missing:
            sweep.store.write_manifest(sweep.name, sweep.manifest())
            close(sweep)
            return
        _need_slurm()
        before = crashes(sweep.store, [p.run.key for p in missing])
        with alone(root_of(sweep.store)):
            attached, covered = live_submissions(sweep)
            rest = [p for p in missing if p.run.key not in covered]
            if rest or sweep.store.manifests().get(sweep.name) is None:
                sweep.store.write_manifest(sweep.name, sweep.manifest())
            for one in attached:
                with_it = counted(len(one.keys & covered), "run is", "runs are")
                print(f"{with_it} with {named(one)} already; attached")
            if rest:
                attached.append(self._submit(sweep, rest))
        for one in attached:
            before |= one.content["crashes"]
        if not self.wait:
            print(f"to see how it goes on: {status_line(sweep.store, sweep.name)}")
            return
        see_through(sweep, attached, before)
        close(sweep)

    def at_once(self, runs: Sequence[Run], store: Store) -> int:
        return (self.array_parallelism or 1) * (self.workers_per_task or 1)

    def search(self, search: Search) -> None:
        """Its tasks ask for points when they are free; they need the study and the store alone."""
        from bluestab.sweeps.search.drive import begin_search, conclude
        from bluestab.sweeps.search.plan import first_run
        from bluestab.sweeps.slurm.searching import follow, live_tasks, shared

        search, store = replace(shared(search), group=self.group), Store(search.root)
        sweep = Sweep(search.name, store, (PlannedRun(first_run(search), ()),))
        self._check(sweep)
        self._take_environment()
        tasks = math.ceil((search.workers or 1) / (self.workers_per_task or 1))
        if self.dry_run:
            self._print_scripts(sweep, self._arrays(tasks), "a search")
            return
        _need_slurm()
        trials = begin_search(search, here=False)
        with alone(root_of(store)):
            attached = live_tasks(store, search.name)
            if attached:
                print(f"{', '.join(map(named, attached))} works on it already; attached")
            else:
                again = trials.begin()
                if again:
                    print(f"{again} points that crashed are tried again")
                if trials.left() > 0 or trials.under_way():
                    attached.append(self._submit_search(sweep, tasks))
        if attached and not self.wait:
            line = status_line(store, search.name, is_search=True)
            print(f"to see how it goes on: {line}; winner and report: the same command again")
            return
        if attached:
            follow(search, trials, attached, lambda: cancel_if_asked(attached))
        conclude(search, trials, self.launch)

    # --- what is asked for ---

    def _check(self, sweep: Sweep) -> None:
        wrong = rules.problems(
            {
                "hydra.launcher.wait": (self.wait, rules.FLAG),
                "hydra.launcher.dry_run": (self.dry_run, rules.FLAG),
                "hydra.launcher.dry_step": (self.dry_step, rules.FLAG),
                "hydra.launcher.runs_per_task": (self.runs_per_task, rules.whole(1, null=True)),
                "hydra.launcher.workers_per_task": (
                    self.workers_per_task,
                    rules.whole(1, null=True),
                ),
                "hydra.launcher.per_gpu": (self.per_gpu, rules.whole(1)),
                "hydra.launcher.group": (self.group, GROUP),
                "hydra.launcher.array_parallelism": (
                    self.array_parallelism,
                    rules.whole(1, null=True),
                ),
                "hydra.launcher.cpus_per_task": (
                    self.options["cpus_per_task"],
                    rules.whole(1, null=True),
                ),
                "hydra.launcher.time": (self.options["time"], TIME_RULE),
                "hydra.launcher.setup": (self.options["setup"] or [], LINES),
                "hydra.launcher.srun_args": (self.options["srun_args"] or [], LINES),
            }
        )
        wrong += option_problems(self.options)
        wrong += [
            f"{path} holds a password, token or key: tasks are told their configs through a file, "
            f"where none belongs; give it by a variable: '{path}=${{oc.env:NAME}}'"
            for path in dict.fromkeys(p for one in sweep.runs for p in literals(one.run.cfg))
        ]
        asked = {p.run.cfg["device"] for p in sweep.runs}
        if numbered := sorted(d for d in asked if d.startswith("cuda:")):
            wrong.append(
                f"device is {numbered[0]}, but SLURM chooses the GPUs of a task; say device=cuda"
            )
        if "cuda" in asked and not self.gpus:
            wrong.append(
                "device is cuda, but no GPU is asked for; say hydra.launcher.gpus_per_node=1"
            )
        if self.gpus and asked <= {"cpu", "mps"}:
            wrong.append(
                f"device is {', '.join(sorted(asked))}, but hydra.launcher asks for GPUs; say "
                "device=auto, or leave gpus_per_node and gres out"
            )
        each = max(p.run.cfg["trainer"]["devices"] for p in sweep.runs)
        if 0 < self.gpus < each:
            knob = "gres" if self.options["gpus_per_node"] is None else "gpus_per_node"
            wrong.append(
                f"trainer.devices is {each}, but hydra.launcher.{knob} is {self.options[knob]}; "
                f"say hydra.launcher.gpus_per_node={each}"
            )
        if wrong:
            raise ConfigError(*wrong)

    def _take_environment(self) -> None:
        """Fill knobs that are null from SBATCH_*, and say what is taken and what is left out."""
        taken, told = knobs_from(os.environ, self.options)
        self.options |= taken
        for line in told:
            if line not in self._told:
                print(f"# {line}" if self.dry_run else line)
        self._told.update(told)

    def say(self, line: str) -> None:
        print(f"# {line}" if self.dry_run else line)

    def kind_of(self, device: str) -> devices.Kind:
        return devices.kind_in_job(device, gpus=self.gpus > 0)

    @property
    def gpus(self) -> int:
        """How many a task is asked for with."""
        return gpus(self.options)

    # --- submitting ---

    def _size(self, sweep: Sweep, runs: Sequence[PlannedRun]) -> TaskSize:
        return size_of_tasks(
            sweep,
            runs,
            asked=self.runs_per_task,
            workers=self.workers_per_task or 1,
            dry_step=self.dry_step,
            has_gpus=self.gpus > 0,
        )

    @cached_property
    def _limit(self) -> TimeLimit:
        """Of a task; said once where it is too short for the usual notice."""
        limit = time_limit(self.options["time"], self.options["partition"])
        if limit.signal_delay < SIGNAL_DELAY:
            line = (
                f"{limit.said} ends a task soon: {limit.signal_delay} seconds before, its runs are "
                "given back with a checkpoint, and it requeues itself"
            )
            print(f"# {line}" if self.dry_run else line)
        return limit

    def _script(self, sweep: Sweep, folder: Path, array: PlannedArray) -> str:
        return batch_script(
            folder,
            knobs={**self.options, "signal_delay_s": self._limit.signal_delay},
            first=array.first,
            tasks=array.tasks,
            parallel=array.at_once,
            job_name=sweep.name,
            python=self.python,
        )

    def _arrays(self, tasks: int) -> list[PlannedArray]:
        return split(tasks, self.array_parallelism)

    def _print_scripts(self, sweep: Sweep, arrays: Sequence[PlannedArray], what: str) -> None:
        folder = next_folder(sweep.store, sweep.name)
        for array in arrays:
            print(self._script(sweep, folder, array))
        print(f"# {what} in {sum(a.tasks for a in arrays)} tasks; nothing was submitted")

    def _hand_over(
        self, sweep: Sweep, submission: Submission, arrays: Sequence[PlannedArray]
    ) -> None:
        hand_over(submission, arrays, lambda array: self._script(sweep, submission.folder, array))

    def _submit(self, sweep: Sweep, runs: Sequence[PlannedRun]) -> Submission:
        size = self._size(sweep, runs)
        arrays = self._arrays(math.ceil(len(runs) / size.runs))
        submission = write_orders(
            sweep.store,
            sweep.name,
            runs,
            tasks=sum(array.tasks for array in arrays),
            launcher={
                **self._for_tasks(),
                "needs_bf16": sweep.settled.get(PRECISION) == "bf16",
                "runs_per_task": size.runs,
                "task_seconds": size.seconds,
            },
            command=command_line(),
        )
        self._hand_over(sweep, submission, arrays)
        per_task = f", {size.runs} per task" if size.seconds is None else ""
        print(f"submitted {counted(len(runs), 'run')}{per_task}, as {named(submission)}")
        return submission

    def _submit_search(self, sweep: Sweep, tasks: int) -> Submission:
        arrays = self._arrays(tasks)
        submission = write_search(
            sweep.store,
            sweep.name,
            tasks=sum(array.tasks for array in arrays),
            launcher={**self._for_tasks(), "workers_per_task": self.workers_per_task or 1},
            command=command_line(),
        )
        self._hand_over(sweep, submission, arrays)
        print(f"submitted as {named(submission)}")
        return submission

    def _for_tasks(self) -> dict[str, Any]:
        """What tasks must know of the knobs."""
        return {
            "workers_per_task": self.workers_per_task,
            "per_gpu": self.per_gpu,
            "group": self.group,
            "gpus": self.gpus > 0,
            "signal_delay": self._limit.signal_delay,
            "limit": self._limit.said,
            "mem": self.options["mem"],
        }


def _is_time(value: object) -> bool:
    return value is None or (
        not isinstance(value, bool) and isinstance(value, int | str) and bool(minutes_of(value))
    )


TIME_RULE: rules.Rule = (_is_time, "minutes, or a time like 2:00:00 or 1-12:00:00, or null")
LINES = rules.list_of(lambda line: isinstance(line, str), "lines of text")


def _need_slurm() -> None:
    if not scheduler.installed():
        raise ConfigError(
            "hydra/launcher=slurm needs sbatch and squeue, which are not on this machine; run "
            "the command on a login node of the cluster (hydra.launcher.dry_run=true shows the "
            "script anywhere)"
        )
