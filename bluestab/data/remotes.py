"""What a task yaml says about where its files come from: `fetch`, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from bluestab.core.errors import ConfigError

SHA256 = re.compile(r"[0-9a-f]{64}")
PART = re.compile(r"\w[\w.+-]*", re.ASCII)
"""What a folder or a file on the way to a data file may be called: nothing hidden, no `..`."""


@dataclass(frozen=True)
class Remote:
    """A file of a task yaml's `fetch.files`.

    file    where it lies below the task's folder, as a relative path
    urls    addresses with the same content, the first one preferred
    sha256  hex digits; None: not known (an archive that is packed anew for everyone)
    bytes   size; None: not known
    """

    file: str
    urls: tuple[str, ...]
    sha256: str | None
    bytes: int | None


def remotes(node: Mapping[str, Any] | None) -> tuple[Remote, ...]:
    """The files of a `fetch` node, in order; none if there is nothing to bring.

    Raises ConfigError with one sentence per problem.
    """
    if node is None:
        return ()
    if not isinstance(node, Mapping) or set(node) != {"convert", "files"}:
        raise ConfigError(f"task.fetch is {node!r}: expected the keys convert and files, or null")
    convert, files = node["convert"], node["files"]
    problems = []
    if convert is not None and not (isinstance(convert, str) and convert.isidentifier()):
        problems.append(
            f"task.fetch.convert is {convert!r}: expected the name of a module of "
            "bluestab/converters, or null"
        )
    if not isinstance(files, list):
        problems.append(f"task.fetch.files is {files!r}: expected a list")
        files = []
    found = []
    for i, entry in enumerate(files):
        where = f"task.fetch.files[{i}]"
        if not isinstance(entry, Mapping) or set(entry) != {"file", "url", "sha256", "bytes"}:
            problems.append(f"{where} is {entry!r}: expected the keys file, url, sha256 and bytes")
            continue
        urls = [entry["url"]] if isinstance(entry["url"], str) else entry["url"]
        wrong = _entry_problems(where, entry, urls, convert)
        problems += wrong
        if not wrong:
            found.append(Remote(entry["file"], tuple(urls), entry["sha256"], entry["bytes"]))
    names = [remote.file for remote in found]
    problems += [
        f"task.fetch.files names {n} twice" for n in {n for n in names if names.count(n) > 1}
    ]
    if problems:
        raise ConfigError(*problems)
    return tuple(found)


def _entry_problems(
    where: str, entry: Mapping[str, Any], urls: object, convert: object
) -> list[str]:
    problems = []
    if not is_safe(entry["file"]):
        problems.append(
            f"{where}.file is {entry['file']!r}: expected a path below the task's folder, such as "
            "conll/train.tsv"
        )
    if not isinstance(urls, list) or not urls:
        problems.append(f"{where}.url is {urls!r}: expected an address, or a list of them")
    else:
        problems += [f"{where}.url: {said}" for url in urls if (said := url_problem(url))]
    digest, size = entry["sha256"], entry["bytes"]
    if digest is None and convert is None:
        problems.append(f"{where}.sha256 is null: a file that is not converted needs its hash")
    elif digest is not None and not (isinstance(digest, str) and SHA256.fullmatch(digest)):
        problems.append(f"{where}.sha256 is {digest!r}: expected 64 hex digits")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        problems.append(f"{where}.bytes is {size!r}: expected a number of bytes >= 1")
    return problems


def is_safe(file: object) -> bool:
    """Is this a relative path that stays below the folder it is joined to?"""
    if not isinstance(file, str) or PurePosixPath(file).as_posix() != file:
        return False
    return all(PART.fullmatch(part) for part in file.split("/"))


def url_problem(url: object) -> str | None:
    """Why an address is not used: https only, and http on this machine itself."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host = parts.hostname
    except ValueError:
        return f"{url!r} is no address"
    if parts.scheme == "https" and host:
        return None
    if parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1"):
        return None
    return f"{url!r} is not used: expected https:// (http:// for localhost alone)"
