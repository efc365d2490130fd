"""The files of a task: downloaded as they are, or made from the originals by a converter."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bluestab.core.errors import ConfigError, DataError, did_you_mean
from bluestab.core.paths import corpora_dir
from bluestab.core.types import SPLITS
from bluestab.data.downloads import DownloadError, written_to
from bluestab.data.locate import access, fetched_folder, locate, locate_own, own_folder, sha256_of
from bluestab.data.remotes import Remote, is_safe, remotes
from bluestab.sweeps.fetch.base import FetchContext, FetchStatus, Resource, need_network
from bluestab.sweeps.fetch.folder import alone, write_bytes
from bluestab.tasks.base import Task


class TaskResource(Resource):
    """The files of a task. Raises ConfigError if its `fetch` is malformed."""

    kind = "task"

    def __init__(self, task: Task) -> None:
        self.task, self.name, self.about = task, task.name, task.about
        self.remotes = remotes(task.fetch)
        self.convert: str | None = task.fetch["convert"] if task.fetch is not None else None
        if not is_safe(task.name) or "/" in task.name:
            raise ConfigError(f"task.name is {task.name!r}: expected a name, it becomes a folder")
        if self.convert is not None:
            _converter(self.convert)

    def look(self, context: FetchContext, *, ask: bool = False) -> FetchStatus:
        if self.task.own:
            return self._look_at_own()
        if (folder := fetched_folder(self.name)) is None:
            folder = Path("nowhere")
        found, lacking = {}, []
        for split in self._splits():
            file = str(getattr(self.task, split))
            try:
                found[split] = locate(file, task=self.name, data_dir=self.task.data_dir)
            except DataError:
                lacking.append(file)
        wrong = [s for s, path in found.items() if not self._is_right(s, path)]
        own = [found[s] for s in wrong if self._is_own(found[s])]
        if own:
            return FetchStatus(
                str(own[0].parent),
                problem=f"{own[0]} is not the published file, and comes before what is brought; "
                "take it away, or accept it with task.sha256.SPLIT=null",
            )
        if not lacking and not wrong:
            bases = dict.fromkeys(self._base(split, path) for split, path in found.items())
            return FetchStatus(
                ", ".join(bases), n_bytes=sum(p.stat().st_size for p in found.values())
            )
        if self.task.data_dir is not None:
            return FetchStatus(
                self.task.data_dir,
                problem=f"task.data_dir is '{self.task.data_dir}', which holds no {lacking[0]}; "
                "no folder of yours is written: leave task.data_dir out, or put the file there",
            )
        made_by_hand = self._own_converter(context) is not None
        if not self.remotes and not made_by_hand:
            return FetchStatus(
                str(own_folder(self.name) or folder),
                problem=self._ask_for(lacking or [str(found[s]) for s in wrong]),
            )
        absent = [r for r in self.remotes if not _is_there(self._target(folder, r), r)]
        missing = tuple((remote.urls[0], remote.bytes) for remote in absent)
        where = f"in {context.folder}" if made_by_hand else "that are here"
        made = ((f"the files of the task, from originals {where}", 0),)
        return FetchStatus(str(folder), made if made_by_hand else missing or made)

    def _splits(self) -> list[str]:
        """Parts that come as files; others are drawn."""
        return [split for split in SPLITS if getattr(self.task, split) is not None]

    def _look_at_own(self) -> FetchStatus:
        """Files of a person's own are there or not; nothing brings them."""
        try:
            places = [
                locate_own(str(getattr(self.task, split)), self.task.data_dir)
                for split in self._splits()
            ]
        except DataError as error:
            return FetchStatus(self.task.data_dir or "", problem=str(error))
        folders = dict.fromkeys(str(place.parent) for place in places)
        return FetchStatus(", ".join(folders), note="your own files: nothing to bring")

    def bring(self, context: FetchContext) -> FetchStatus:
        folder = fetched_folder(self.name)
        if folder is None:
            raise DownloadError("there is no home folder; set BLUESTAB_CACHE to a folder")
        if context.folder is None:
            absent = [r.urls[0] for r in self.remotes if not _is_there(self._target(folder, r), r)]
            need_network(absent)
        with written_to(folder), alone(folder, self.name, context.say):
            found = self.look(context)
            if found.here:  # another process brought it meanwhile
                return found
            by_hand = self._own_converter(context)
            if by_hand is not None:
                self._convert(by_hand, InFolder(context.folder, self.name), folder)
            else:
                self._bring_remotes(context, folder)
        found = self.look(replace(context, folder=None))
        if not found.here:
            raise DownloadError(found.problem or self._not_brought())
        return found

    def _bring_remotes(self, context: FetchContext, folder: Path) -> None:
        for remote in self.remotes:
            target = self._target(folder, remote)
            if _is_there(target, remote):
                continue
            if context.folder is not None:
                _take(context.folder, self.name, remote, target)
            else:
                context.downloader.bring(remote, target)
        if self.convert is not None:
            originals = {remote.file: self._target(folder, remote) for remote in self.remotes}
            self._convert(self.convert, originals, folder)

    def _own_converter(self, context: FetchContext) -> str | None:
        """Name of the converter for originals in a person's folder, of a task whose files come as
        they are or not at all; None if that folder holds what would be downloaded."""
        if context.folder is None or self.convert is not None or self.name not in _converters():
            return None
        here = InFolder(context.folder, self.name)
        ready = bool(self.remotes) and all(remote.file in here for remote in self.remotes)
        return None if ready else self.name

    def _convert(self, convert: str, originals: Mapping[str, Path], folder: Path) -> None:
        """Make the files of the task from the originals, all of them or none."""
        try:
            made = _converter(convert)(originals)
        except DataError as error:
            self._forget_unknown(originals)
            raise DownloadError(f"converter {convert}: {error}") from error
        for name in made:
            if not is_safe(name):
                raise DownloadError(f"converter {convert} makes {name!r}, which is no file")
        for split in self._splits():
            name, expected = str(getattr(self.task, split)), self.task.sha256.get(split)
            if name not in made:
                raise DownloadError(f"converter {convert} makes no {name}")
            digest = hashlib.sha256(made[name]).hexdigest()
            if expected not in (None, digest):
                self._forget_unknown(originals)
                raise DownloadError(
                    f"converter {convert} makes a {name} with sha256 {digest}, expected "
                    f"{expected}; nothing of it is kept"
                )
        for name, content in made.items():
            write_bytes(folder / name, content)

    def _forget_unknown(self, originals: Mapping[str, Path]) -> None:
        """Originals whose hash is not known may be what is wrong: the next try brings them anew."""
        for remote in self.remotes:
            if remote.sha256 is None and self.convert is not None:
                originals[remote.file].unlink(missing_ok=True)

    def _target(self, folder: Path, remote: Remote) -> Path:
        return folder / remote.file if self.convert is None else folder / "original" / remote.file

    def _is_right(self, split: str, path: Path) -> bool:
        expected = self.task.sha256.get(split)
        if expected is None and not self._is_own(path) and self.convert is None:
            known = {remote.file: remote.sha256 for remote in self.remotes}
            expected = known.get(str(getattr(self.task, split)))
        try:
            return expected is None or sha256_of(path) == expected
        except DataError:  # a damaged .gz
            return False

    def _is_own(self, path: Path) -> bool:
        """Does this file lie where a person put it?"""
        ours = (fetched_folder(self.name), corpora_dir() / self.name)
        return self.task.data_dir is not None or not any(f and path.is_relative_to(f) for f in ours)

    def _base(self, split: str, path: Path) -> str:
        """The task's folder that holds this file."""
        depth = len(Path(str(getattr(self.task, split))).parts)
        return str(path.parents[depth - 1])

    def _not_brought(self) -> str:
        """Why the task is not complete although everything was brought."""
        names = [str(getattr(self.task, split)) for split in self._splits()]
        brought = {remote.file for remote in self.remotes} if self.convert is None else set()
        lacking = [name for name in names if name not in brought] if brought else []
        if lacking:
            return self._ask_for(lacking)
        return f"{', '.join(names)}: task.fetch brings another edition than task.sha256 names"

    def _ask_for(self, lacking: Sequence[str]) -> str:
        return (
            f"{', '.join(lacking)} cannot be downloaded; {access(self.about)}; then put "
            f"{'it' if len(lacking) == 1 else 'them'} into a folder {self.name} and set "
            "BLUESTAB_DATA to the folder around it"
        )


class InFolder(Mapping[str, Path]):
    """Name of a published file -> where in a person's folder it lies, if it does."""

    def __init__(self, folder: Path | None, task: str) -> None:
        self.folder, self.task = folder or Path("nowhere"), task

    def places(self, name: str) -> list[Path]:
        """Where a file of this name is looked for."""
        folders = [self.folder / self.task, self.folder]
        around = [f / part for f in folders for part in ("", "original", "conll", "pubtator")]
        found = [folder / name for folder in around] + [self.folder / Path(name).name]
        return list(dict.fromkeys(found))

    def __getitem__(self, name: str) -> Path:
        for path in self.places(name):
            if path.is_file():
                return path
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.name for path in self.folder.iterdir()))

    def __len__(self) -> int:
        return len(list(self.folder.iterdir()))


def _take(source: Path, task: str, remote: Remote, target: Path) -> None:
    """Copy the published file out of a person's folder, wherever in it it may lie."""
    names = InFolder(source, task).places(remote.file)
    seen = [path for path in names if path.is_file()]
    for path in seen:
        if _is_there(path, remote):
            write_bytes(target, path.read_bytes())
            return
    if seen:
        raise DownloadError(
            f"{seen[0]} has sha256 {sha256_of(seen[0])}, the published file has {remote.sha256}"
        )
    raise DownloadError(
        f"{source} holds no {remote.file} (looked at {', '.join(map(str, names))}); "
        f"it comes from {remote.urls[0]}"
    )


def _is_there(path: Path, remote: Remote) -> bool:
    """Is this the published file? Where its hash is not known, any file is."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return remote.sha256 in (None, hashlib.file_digest(file, "sha256").hexdigest())


Convert = Callable[[Mapping[str, Path]], dict[str, bytes]]


def _converters() -> list[str]:
    """Names of the modules of bluestab/converters."""
    rooms = importlib.import_module("bluestab.data.converters")
    return [room.name for room in pkgutil.iter_modules(rooms.__path__)]


def _converter(name: str) -> Convert:
    """`convert` of bluestab/converters/<name>.py, and of nothing else."""
    names = _converters()
    module = importlib.import_module(f"bluestab.data.converters.{name}") if name in names else None
    if module is None or not callable(getattr(module, "convert", None)):
        raise ConfigError(
            f"task.fetch.convert is {name!r}: there is no such converter"
            + did_you_mean(name, names)
        )
    convert: Convert = module.convert
    return convert
