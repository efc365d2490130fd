"""Runs nothing: brings the data and the models that the runs need to this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from bluestab.core import rules
from bluestab.core.errors import BluestabError, ConfigError
from bluestab.core.paths import expanded
from bluestab.core.printable import printable
from bluestab.core.types import SPLITS
from bluestab.data.downloads import Downloader, DownloadError
from bluestab.models.vision_spec import FrozenSpec
from bluestab.report.terminal.tables import console, seconds, size
from bluestab.sweeps.fetch.base import FetchContext, FetchStatus, Resource
from bluestab.sweeps.fetch.data import TaskResource
from bluestab.sweeps.fetch.model import ModelResource, TowerResource
from bluestab.sweeps.launchers.base import Backend
from bluestab.sweeps.plan import SEED, Compose, Job, Sweep, check_each
from bluestab.sweeps.sequences import has_sequence, without_links
from bluestab.training.check import RunComponents, check_parts

if TYPE_CHECKING:
    from bluestab.sweeps.search.spec import Search


class NotBrought(BluestabError):
    """Something could not be brought; everything else was."""

    exit_code = 1


class Fetch(Backend):
    """dry_run: say what would be brought; source: a folder to take files from, not the network."""

    trains = False

    def __init__(self, *, dry_run: bool, source: str | None) -> None:
        if wrong := rules.problems({"hydra.launcher.dry_run": (dry_run, rules.FLAG)}):
            raise ConfigError(*wrong)
        if source is not None and not expanded(source).is_dir():
            raise ConfigError(f"--from {source}: no such folder")
        self.dry_run = dry_run
        self.source = None if source is None else expanded(source)

    def take(self, compose: Compose, jobs: Sequence[Job], name: str | None) -> None:
        """As far as it can be checked without the data: they are what is to be brought."""
        but_seeds = dict.fromkeys(tuple(o for o in j if not SEED.fullmatch(o)) for j in jobs)
        stages = {
            stage: None
            for job in but_seeds
            for stage in (without_links(job, compose(job)) if has_sequence(job) else [job])
        }
        self.bring([parts for _, parts in check_each(compose, list(stages), check_parts)])

    def launch(self, sweep: Sweep) -> None:
        self.bring([check_parts(planned.run.cfg) for planned in sweep.runs])

    def search(self, search: Search) -> None:
        from bluestab.sweeps.search.plan import possible_parts

        self.bring(possible_parts(search))

    def bring(self, parts: Sequence[RunComponents]) -> None:
        """Everything these runs need. Raises NotBrought with all that failed."""
        wanted = supplies(parts)
        display = Display()
        problems: list[str] = []
        n_here = n_brought = n_bytes = 0
        unknown = False
        context = FetchContext(self.source, Downloader(progress=display.progress), display.say)
        for resource in wanted:
            found = resource.look(context, ask=self.dry_run)
            display.tell(resource, found)
            if not found.problem and found.missing and not self.dry_run:
                found = self._brought(resource, context, display, found)
            if found.problem:
                problems.append(f"{resource.kind} {resource.name}: {found.problem}")
            elif found.missing:
                n_bytes += sum(n or 0 for _, n in found.missing)
                unknown |= any(n is None for _, n in found.missing)
                n_brought += 1
            else:
                n_here += 1
        if self.dry_run:
            total = size(n_bytes) + (" and what is of unknown size" if unknown else "")
            display.say(f"{n_here} here; {n_brought} to bring, {total}; nothing was written")
        else:
            display.say(f"{n_here} of {len(wanted)} here")
        if problems:
            what = "cannot be brought" if self.dry_run else "could not be brought"
            raise NotBrought(f"{len(problems)} of {len(wanted)} {what}:\n" + "\n".join(problems))

    def _brought(
        self, resource: Resource, context: FetchContext, display: Display, found: FetchStatus
    ) -> FetchStatus:
        try:
            started = time.monotonic()
            with display.bars_of(resource):
                brought = resource.bring(context)
        except DownloadError as error:
            display.say("  failed     see below")
            return FetchStatus(found.where, problem=str(error))
        took = seconds(time.monotonic() - started)
        display.say(f"  brought    to {brought.where}, {size(brought.n_bytes or 0)} in {took}")
        if brought.note:
            display.say(f"  note       {brought.note}")
        return brought


def supplies(parts: Sequence[RunComponents]) -> list[Resource]:
    """What these runs need, everything once, tasks first.

    Raises ConfigError if a yaml's `fetch` is malformed.
    """
    found: dict[object, Resource] = {}
    problems: dict[str, None] = {}
    for one in parts:
        task, model = one.task, one.model
        files = tuple(str(getattr(task, split)) for split in SPLITS)
        key = (task.name, task.data_dir, files, repr(task.sha256), repr(task.fetch))
        if key not in found:
            try:
                found[key] = TaskResource(task)
            except ConfigError as error:
                problems.update(dict.fromkeys(error.problems))
        identity = (model.name, model.path, model.package, model.hub, model.revision)
        found.setdefault(identity, ModelResource(model))
        if isinstance(tower := model.sees, FrozenSpec):
            found.setdefault((tower.path, tower.hub, tower.revision), TowerResource(tower))
    if problems:
        raise ConfigError(*problems)
    return sorted(found.values(), key=lambda resource: resource.kind, reverse=True)


class Display:
    """One paragraph per thing; a bar per file where standard output is a terminal."""

    def __init__(self) -> None:
        self.console = console()
        self.bars: Progress | None = None
        self.current: tuple[str, Any] = ("", None)

    @contextmanager
    def bars_of(self, resource: Resource) -> Iterator[None]:
        """Bars while a task is brought; the hub draws its own for models."""
        if resource.kind == "task" and self.console.is_interactive:
            self.bars = Progress(
                TextColumn("  {task.description}", markup=False),
                BarColumn(bar_width=30),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
        try:
            with self.bars or nullcontext():
                yield
        finally:
            self.bars, self.current = None, ("", None)

    def progress(self, file: str, done: int, total: int | None) -> None:
        """Called for every few kB of a file."""
        name, bar = self.current
        if self.bars is None:
            if file != name:
                self.say(f"  getting    {file}" + (f", {size(total)}" if total else ""))
                self.current = (file, None)
            return
        if file != name:
            if bar is not None:
                self.bars.remove_task(bar)
            bar = self.bars.add_task(printable(file), total=total)
            self.current = (file, bar)
        self.bars.update(bar, completed=done)

    def say(self, text: str) -> None:
        """A line, which stays."""
        self.console.print(printable(text, 2000), markup=False, soft_wrap=True)

    def tell(self, resource: Resource, found: FetchStatus) -> None:
        """What it is, whose it is, where it comes from and where it lies."""
        about = resource.about
        self.say(f"{resource.kind} {resource.name}: {about.get('summary', '')}")
        for name in ("licence", "citation", "url"):
            if about.get(name):
                self.say(f"  {name:<10} {about[name]}")
        for source, n_bytes in found.missing:
            self.say(
                f"  missing    {source} ({'size not known' if n_bytes is None else size(n_bytes)})"
            )
        if found.missing:
            self.say(f"  goes to    {found.where}")
        elif found.problem:
            self.say("  not here   see below")
        elif found.where:
            self.say(f"  have       {found.where} ({size(found.n_bytes or 0)})")
        if found.note:
            self.say(f"  note       {found.note}")
