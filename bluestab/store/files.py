"""Files that survive the death of their writer at any instruction: aside, flushed, renamed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from bluestab.core.errors import StoreError
from bluestab.core.plain_files import check_plain
from bluestab.store.processes import owner, owner_dead

WRITTEN = re.compile(rb'"written": "([^"]{10,40})"\s*}\s*\Z')


def flush(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Bring everything below a folder to the disk itself."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers see the old content or the new, never a part of it."""
    make_folder(path.parent)
    aside = new_aside(path)
    aside.write_text(text, encoding="utf-8")
    share(aside)
    flush(aside)
    put_in_place(aside, path)


NO_REPLACING = (errno.EEXIST, errno.EPERM, errno.EACCES, errno.ENOTSUP)
"""Errors of a file system that renames a file over no other (sshfs); some mean missing rights."""


def put_in_place(aside: Path, path: Path) -> None:
    """Rename a file that is whole to its name, in place of the one that has it.

    Where the file system refuses that, the old one is moved away first: for a moment none has the
    name, and if the process dies in it, until it is written again.

    Raises OSError.
    """
    try:
        aside.replace(path)
    except OSError as error:
        if error.errno not in NO_REPLACING or not os.path.isfile(path):
            raise
        old = path.with_name(f".{path.name}.old.{owner()}")
        try:
            path.rename(old)
        except OSError:
            raise error from None
        try:
            aside.rename(path)
        except OSError:
            old.rename(path)
            raise
        old.unlink()


def new_aside(path: Path) -> Path:
    """Where this process writes a file or folder before it renames it to `path`.

    What it, or a process that died, left there of an earlier try is removed.
    """
    aside = path.with_name(f".{path.name}.{owner()}")
    for left in (aside, *dead_asides(path)):
        with suppress(OSError):  # whoever writes there says what is wrong
            if os.path.isdir(left) and not os.path.islink(left):
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
    return aside


def dead_asides(path: Path) -> list[Path]:
    """What processes left that died while they wrote `path`."""
    beginning = f".{path.name}."
    try:
        names = [name for name in os.listdir(path.parent) if name.startswith(beginning)]
    except OSError:
        return []
    return [path.with_name(n) for n in names if owner_dead(n.removeprefix(beginning))]


def entries(folder: Path, *, root: bool = False) -> list[Path]:
    """What a folder holds; nothing if it is a link, which may lead out of the store.

    root  the folder is a store itself, whose place is its owner's choice
    """
    if os.path.islink(folder) and not root:
        return []
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def files_below(folder: Path) -> dict[str, Path]:
    """Name below `folder` -> file, `record.json` left out."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*"))}
    return {name: f for name, f in files.items() if name != "record.json" and os.path.isfile(f)}


def is_sparse(file: Path) -> bool:
    """Whether a file says to be far larger than what it takes of the disk; nothing here writes so.

    Reading a terabyte of nothing takes an hour. Raises OSError.
    """
    found = file.stat()
    return found.st_size > 2**30 and found.st_blocks * 512 < found.st_size // 16


def digest_of(path: Path) -> str:
    """SHA-256 of a file. Raises OSError also for what is no file, or for the most part a hole."""
    check_plain(path)
    if is_sparse(path):
        raise OSError(errno.EFBIG, "most of it is a hole")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def written_at(path: Path) -> float:
    """When a file of JSON says at its end that it was `written`, in seconds since the epoch; where
    it does not say so, when it was changed; 0 of what is gone. Of a link, its own."""
    try:
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            with path.open("rb") as file:
                file.seek(max(0, found.st_size - 200))
                if said := WRITTEN.search(file.read()):
                    return datetime.fromisoformat(said[1].decode()).timestamp()
    except OSError:
        return 0.0
    except (ValueError, OverflowError):
        pass
    return found.st_mtime


# --- several people, one store ----------------------------------------------------------------


def share(path: Path) -> None:
    """Give a new file or folder to the group that may write to the folder it lies in.

    That group gets the rights that its owner has, whatever the umask; a folder passes its group on.
    Nothing is changed below a folder that its group may not write to, or that is open to everybody
    (`/tmp`). Without the right to change it, it stays as it is.
    """
    with suppress(OSError):
        above, own = path.parent.stat(), path.lstat()
        is_shared = above.st_mode & stat.S_IWGRP and not above.st_mode & stat.S_ISVTX
        if not is_shared or own.st_uid != os.geteuid() or stat.S_ISLNK(own.st_mode):
            return
        if own.st_gid != above.st_gid:
            os.chown(path, -1, above.st_gid)
        mode = own.st_mode | (own.st_mode & stat.S_IRWXU) >> 3
        mode |= stat.S_ISGID if stat.S_ISDIR(mode) else 0
        if mode != own.st_mode:
            path.chmod(stat.S_IMODE(mode))


def share_tree(folder: Path) -> None:
    """`share` a folder and everything below it."""
    share(folder)
    for path in folder.rglob("*"):
        share(path)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there; new ones are shared (`share`).

    Raises OSError.
    """
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    share(folder)


def belongs(path: Path) -> str:
    """`it belongs to mary`, for people."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return "it cannot be looked at"
    with suppress(KeyError):
        return f"it belongs to {pwd.getpwuid(owner).pw_name}"
    return f"it belongs to user {owner}"


@contextmanager
def alone(folder: Path, *, required: bool = True) -> Iterator[None]:
    """One process at a time, of those that ask for this folder; the lock dies with its holder.

    required  make the folder, and raise StoreError where no lock can be had; False: go without

    A file system without locks goes without in any case. A lock file of somebody else's need not
    be writable.
    """
    try:
        descriptor = _locked(folder, make=required)
    except OSError as error:
        if required:
            raise _no_lock(folder, error) from error
        yield
        return
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(folder: Path, *, make: bool) -> int:
    if make:
        make_folder(folder)
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        share(path)
    except PermissionError:
        if not path.exists():
            raise
        descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno == errno.EBADF:  # NFS, where an exclusive lock needs the right to write
            os.close(descriptor)
            raise
    return descriptor


def _no_lock(folder: Path, error: OSError) -> StoreError:
    said = f"the lock {folder / '.lock'} cannot be had ({error.strerror})"
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EBADF):
        return StoreError(said)
    found = next((p for p in (folder / ".lock", folder, *folder.parents) if p.exists()), folder)
    return StoreError(
        f"{said}: {found}: {belongs(found)}; several people share a store whose folders their "
        "group may write to: chgrp -R GROUP STORE; chmod -R g+rwX STORE; "
        "find STORE -type d -exec chmod g+s {} +"
    )
