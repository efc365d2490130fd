"""What was handed to SLURM for a sweep, in a folder of the store that its tasks read and mark.

    <store>/.slurm/<sweep>.<n>/
        orders.json        the runs and how they are done, or the search that is worked on; written
                           before anything is submitted
        script-<c>.sh      the batch script of each array, as submitit writes it
        array-<c>.json     the array SLURM made of it: its id, its tasks
        begun/<index>      tasks that have begun at least once
        exhausted          the space of its search has no more points
        refused            how many tasks SLURM did not take
        vain/<job>         starts in a row after which a task had nothing to show at its time limit
        excused/<job>      tasks that were told to stop: their death is not a run's fault
        <job>_0_log.out    what a task printed

Every script carries the folder's path as its comment, so that an array is found again even if the
process that submitted it was killed before it could write down the id.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluestab.core import secrets
from bluestab.core.config import filled
from bluestab.core.errors import StoreError
from bluestab.core.plain_files import read_text
from bluestab.store.files import make_folder, write_text
from bluestab.store.records import to_json
from bluestab.store.schema import is_segment
from bluestab.store.store import Store
from bluestab.sweeps.plan import PlannedRun
from bluestab.sweeps.slurm import scheduler

ENVIRONMENT = ("BLUESTAB_", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "PYTHONPATH")
"""Beginnings of the names of variables that tasks get, whatever the site exports."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
"""Compute nodes often have no network; what is missing there must fail at once, not in minutes."""


@dataclass(frozen=True)
class RunOrder:
    """A run that a task may be asked for: enough to find it in the store, and to make it."""

    key: str
    cfg: Mapping[str, Any]
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Array:
    """One job array: tasks `first` ... `first + tasks - 1` of the submission.

    cluster  that it was handed to; "" where that is not written down
    """

    job: str
    first: int
    tasks: int
    cluster: str = ""


class Submission:
    """One folder of orders."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError if the orders cannot be read."""
        self.folder = folder
        try:
            self.content: Mapping[str, Any] = json.loads(read_text(folder / "orders.json"))
            _ = [self.content[name] for name in ("sweep", "runs", "configs", "tasks", "launcher")]
            if not is_segment(self.content["sweep"]):
                raise ValueError(f"its sweep is {self.content['sweep']!r}, which is no file name")
            _check_types(self.content)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{folder}/orders.json cannot be read ({error}); the store must be on a disk that "
                "the nodes share with the machine that submits"
            ) from error

    @property
    def sweep(self) -> str:
        return str(self.content["sweep"])

    @property
    def is_search(self) -> bool:
        """Do its tasks work on a study, and not on runs that are written down?"""
        return bool(self.content.get("search"))

    @property
    def tasks(self) -> int:
        return int(self.content["tasks"])

    @property
    def tasks_taken(self) -> int:
        """Those that SLURM did not refuse."""
        return self.tasks - self._refused()

    @property
    def keys(self) -> set[str]:
        return {run["key"] for run in self.content["runs"]}

    def orders(self) -> list[RunOrder]:
        """The runs, in the order of the sweep."""
        configs = [filled(cfg) for cfg in self.content["configs"]]
        return [
            RunOrder(
                run["key"], {**configs[run["config"]], "seed": run["seed"]}, tuple(run["said"])
            )
            for run in self.content["runs"]
        ]

    # --- arrays ---

    def arrays(self) -> list[Array]:
        """What SLURM made of it, as far as it is written down."""
        found = []
        for path in sorted(self.folder.glob("array-*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(read_text(path))
                numbers = int(content["first"]), int(content["tasks"])
                found.append(Array(content["job"], *numbers, str(content.get("cluster", ""))))
        return found

    def write_array(self, chunk: int, array: Array) -> None:
        write_text(self.folder / f"array-{chunk}.json", to_json(vars(array)))

    def jobs(self) -> list[str]:
        """Ids of its arrays; also of one whose submitter died before it could write it down."""
        known = [array.job for array in self.arrays()]
        with suppress(scheduler.SchedulerError):
            known += self.find_jobs()
        return list(dict.fromkeys(known))

    def find_jobs(self) -> list[str]:
        """Ids by its comment, where a submitter died before it could write one down.

        Raises SchedulerError if SLURM is silent.
        """
        if len(self.arrays()) >= len(list(self.folder.glob("script-*.sh"))):
            return []
        owner = (self.folder / "orders.json").stat().st_uid
        found = scheduler.jobs_with_comment(self.comment, None if owner == os.geteuid() else owner)
        if found is None:
            raise scheduler.SchedulerError("SLURM does not answer")
        return found

    @property
    def comment(self) -> str:
        return str(self.folder)

    def may_own(self, comment: str, name: str) -> bool:
        """Is a job of accounting one of its? Most sites keep no comment there, but the name."""
        return comment == self.comment if comment else name in ("", self.sweep)

    # --- marks of its tasks ---

    def begin(self, index: int) -> None:
        _touch(self.folder / "begun" / str(index))

    def all_have_begun(self) -> bool:
        """Is there no task left that waits for its first start?"""
        with suppress(OSError):
            return len(os.listdir(self.folder / "begun")) >= self.tasks_taken
        return False

    def _refused(self) -> int:
        with suppress(OSError, ValueError):
            return int(read_text(self.folder / "refused"))
        return 0

    def refuse(self, tasks: int) -> None:
        """SLURM did not take so many of its tasks: they will never begin."""
        write_text(self.folder / "refused", str(tasks))

    def exhaust(self) -> None:
        """The space of its search has no more points."""
        _touch(self.folder / "exhausted")

    def is_exhausted(self) -> bool:
        return (self.folder / "exhausted").exists()

    def withdraw(self) -> None:
        """SLURM took nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def count_vain(self, job: str, *, got_on: bool) -> int:
        """Note how a start of a task ended at its time limit; starts in vain in a row, by now."""
        path = self.folder / "vain" / job
        before = 0
        with suppress(OSError, ValueError):
            before = int(read_text(path))
        now = 0 if got_on else before + 1
        make_folder(path.parent)
        write_text(path, str(now))
        return now

    def excuse(self, job: str) -> None:
        """A task was told to stop: should it be killed now, that is no run's doing."""
        with suppress(OSError):
            _touch(self.folder / "excused" / job)

    def is_excused(self, job: str) -> bool:
        return (self.folder / "excused" / job).exists()

    def log_of(self, job: str) -> Path:
        """What the task `<array>_<index>` printed, all its starts in one file."""
        return self.folder / f"{job}_0_log.out"


KINDS: Mapping[str, type] = {
    **{"runs": list, "configs": list, "launcher": dict, "tasks": int},
    **{"store": str, "folder": str, "command": str, "environment": dict, "crashes": dict},
}


def _check_types(content: Mapping[str, Any]) -> None:
    """Raises ValueError for orders that are not what `_write` writes."""
    for name, kind in KINDS.items():
        if name in content and (type(content[name]) is not kind):
            raise ValueError(f"its {name} is {str(content[name])[:60]!r}, no {kind.__name__}")
    for run in content["runs"]:
        if not (isinstance(run, dict) and isinstance(run["key"], str)):
            raise ValueError(f"one of its runs is {str(run)[:60]!r}")


def _touch(path: Path) -> None:
    make_folder(path.parent)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o644))


def root_of(store: Store) -> Path:
    return store.root.absolute() / ".slurm"


def submissions(store: Store, sweep: str | None = None) -> list[Submission]:
    """What was ever submitted from this store, or for one of its sweeps; the latest last."""
    found = []
    with suppress(OSError):
        for folder in root_of(store).iterdir():
            with suppress(StoreError):
                found.append((folder.stat().st_mtime_ns, Submission(folder)))
    found.sort(key=lambda item: item[0])
    return [one for _, one in found if sweep is None or one.sweep == sweep]


def next_folder(store: Store, sweep: str) -> Path:
    """Where the next submission of a sweep will lie."""
    numbers = itertools.count(1)
    return next(p for n in numbers if not (p := root_of(store) / f"{sweep}.{n}").exists())


def write_orders(
    store: Store,
    sweep: str,
    runs: Sequence[PlannedRun],
    *,
    tasks: int,
    launcher: Mapping[str, Any],
    command: str,
) -> Submission:
    """Write down what is to be done, before anything is submitted.

    launcher  what a task must know of the launcher's knobs
    """
    configs: dict[str, int] = {}
    entries = []
    for planned in runs:
        cfg = {**secrets.stored(planned.run.cfg), "store": str(store.root.absolute())}
        seed = cfg.pop("seed")
        number = configs.setdefault(json.dumps(cfg), len(configs))
        said = [secrets.cleaned_value(one) for one in planned.overrides]
        entries.append({"key": planned.run.key, "config": number, "seed": seed, "said": said})
    for planned in runs:
        store.claims.forget_deaths(planned.run.key)
    content = {
        "crashes": crashes(store, [planned.run.key for planned in runs]),
        "configs": [json.loads(text) for text in configs],
        "runs": entries,
    }
    return _write(store, sweep, content, tasks=tasks, launcher=launcher, command=command)


def write_search(
    store: Store, name: str, *, tasks: int, launcher: Mapping[str, Any], command: str
) -> Submission:
    """The same for a search, whose points are asked for one by one: `<store>/searches/<name>`
    says what is drawn."""
    content = {"search": True, "crashes": {}, "configs": [], "runs": []}
    return _write(store, name, content, tasks=tasks, launcher=launcher, command=command)


def _write(
    store: Store,
    sweep: str,
    content: Mapping[str, Any],
    *,
    tasks: int,
    launcher: Mapping[str, Any],
    command: str,
) -> Submission:
    folder = next_folder(store, sweep)
    make_folder(folder)
    common = {
        "sweep": sweep,
        "store": str(store.root.absolute()),
        "folder": os.getcwd(),
        "command": secrets.cleaned_command(command),
        "environment": environment(),
        "launcher": secrets.cleaned_tree(launcher),
        "tasks": tasks,
    }
    write_text(folder / "orders.json", json.dumps({**common, **content}))
    return Submission(folder)


def environment() -> dict[str, str]:
    """Variables that say where data, models and caches are, and the order to stay offline.

    None that is a credential, and none in which there is one: SLURM's own export brings those.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(ENVIRONMENT) and not secrets.is_secret(name)
    }
    kept = {name: value for name, value in kept.items() if secrets.cleaned_value(value) == value}
    return {**kept, **OFFLINE}


def crashes(store: Store, keys: Iterable[str]) -> dict[str, int]:
    """Key -> which crash of that run is kept (a number that differs for the next one)."""
    found = {key: store.which_crash(key) for key in keys}
    return {key: crash for key, crash in found.items() if crash is not None}
