"""One file from one of its public addresses: the very bytes that were published, or none.

`pooch` decides what has to be done and renames what is right into place; `Downloader` replaces the
part of it that talks to servers. A server may be down, slow, endless, or give another file: what is
there stays as it is until the new file is whole and has the published hash.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from bluestab.core.errors import BluestabError, is_disk_full
from bluestab.data.remotes import Remote, url_problem
from bluestab.store.files import flush, put_in_place

if TYPE_CHECKING:
    import requests

CHUNK = 2**14  # bytes written at once; what a stall may lose
MOST = 2**30  # bytes of a file whose size the yaml does not state
REDIRECTS = 5
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers after which another try makes sense."""


Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, bytes so far, bytes in all (None: not known)."""


class DownloadError(BluestabError):
    """A file could not be brought; what was there before is untouched."""

    exit_code = 1


class Passing(Exception):
    """Worth another try, from where it ended."""


class Refused(Exception):
    """This address will not give the file, however often it is asked."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for servers, in seconds."""

    connect: float = 10.0
    stall: float = 30.0  # without a byte
    tries: int = 3  # of one address
    wait: float = 2.0  # before the second try; twice as long before each further one


@dataclass
class Downloader:
    """Brings files, one after another. `unreachable` hosts are not waited for again."""

    patience: Patience = field(default_factory=Patience)
    progress: Progress = lambda *_: None
    unreachable: dict[str, str] = field(default_factory=dict)
    _failed: dict[str, int] = field(default_factory=dict, repr=False)

    def bring(self, remote: Remote, target: Path) -> None:
        """Make `target` the published file. Nothing is asked for if it is already.

        An unfinished `.<name>.part` beside it is gone on with. Raises DownloadError with what each
        address said; then `target` is as it was.
        """
        import pooch

        pooch.get_logger().setLevel("ERROR")
        said = []
        with written_to(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for url in remote.urls:
                try:
                    pooch.retrieve(
                        url,
                        known_hash=remote.sha256 and f"sha256:{remote.sha256}",
                        fname=target.name,
                        path=target.parent,
                        downloader=self._from(remote, target),
                    )
                    target.with_name(f".{target.name}.part").unlink(missing_ok=True)
                    flush(target.parent)
                    return
                except (
                    Refused,
                    Passing,
                    ValueError,
                ) as error:  # ValueError: pooch saw another hash
                    said.append(f"{url}: {error}")
        kept = "; the file that is there is kept" if target.is_file() else ""
        raise DownloadError("\n".join(said) + kept)

    def _from(self, remote: Remote, target: Path) -> Callable[[str, str, object], None]:
        part = target.with_name(f".{target.name}.part")

        def download(url: str, output: str, _: object) -> None:
            """What pooch calls: the whole file at `url`, moved to `output`."""
            for attempt in range(1, self.patience.tries + 1):
                if attempt > 1:
                    time.sleep(self.patience.wait * 2 ** (attempt - 2))
                resumed, last = part.is_file(), attempt == self.patience.tries
                try:
                    self._go_on(url, remote, part)
                except Passing:
                    if last:
                        raise
                    continue
                found = _sha256(part)
                if remote.sha256 in (None, found):
                    break
                part.unlink()
                if last or not resumed:  # else what was there before may be to blame
                    raise Refused(
                        f"gave a file with sha256 {found}, expected {remote.sha256}; it was removed"
                    )
            flush(part)
            put_in_place(part, Path(output))

        return download

    def _go_on(self, url: str, remote: Remote, part: Path) -> None:
        """Bring what `part` lacks. Raises Passing or Refused."""
        done = part.stat().st_size if part.is_file() else 0
        if done > (remote.bytes or MOST):
            part.unlink()
            done = 0
        if done and done == remote.bytes:
            return
        with self._answer(url, done) as answer:
            done = _start(answer, done, part)
            if part.is_file() and not done:
                part.unlink()
            limit = remote.bytes or MOST
            _check_announced(answer, done, remote)
            _check_room(part, (remote.bytes or done) - done)
            self.progress(remote.file, done, remote.bytes)
            with part.open("ab") as out:
                for chunk in answer.iter_content(CHUNK):
                    done += len(chunk)
                    if done > limit:
                        out.close()
                        part.unlink()
                        raise Refused(f"gives more than the {limit} bytes of the published file")
                    out.write(chunk)
                    self.progress(remote.file, done, remote.bytes)
            if remote.bytes is not None and done < remote.bytes:
                raise Passing(f"ended after {done} of {remote.bytes} bytes")

    @contextmanager
    def _answer(self, url: str, done: int) -> Iterator[requests.Response]:
        """The answer to a request for what follows the first `done` bytes."""
        import requests

        host = urlsplit(url).netloc
        if host in self.unreachable:
            raise Refused(self.unreachable[host])
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
        waits = (self.patience.connect, self.patience.stall)
        connected = False
        try:
            with requests.Session() as session:
                for _ in range(REDIRECTS + 1):
                    with session.get(
                        url, headers=headers, timeout=waits, stream=True, allow_redirects=False
                    ) as answer:
                        connected = True
                        self._failed.pop(host, None)
                        location = session.get_redirect_target(answer)
                        if location is None:
                            _check_status(answer)
                            yield answer
                            return
                        url = _redirected(url, location)
                raise Refused(f"redirects more than {REDIRECTS} times")
        except requests.exceptions.SSLError as error:
            raise Refused(
                f"its certificate is not accepted ({_short(error)}); behind a proxy with a "
                "certificate of its own, set REQUESTS_CA_BUNDLE"
            ) from error
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise Refused(f"is no address ({_short(error)})") from error
        except requests.exceptions.RequestException as error:
            if connected:
                raise Passing(f"the connection broke ({_short(error)})") from error
            said = f"no answer from {host} ({_short(error)})"
            if isinstance(error, requests.exceptions.ConnectionError):
                self._count(host, said)
            raise Passing(said) from error

    def _count(self, host: str, said: str) -> None:
        """After so many tries in vain, other files of this host are not waited for."""
        tries = self._failed.get(host, 0) + 1
        self._failed[host] = tries
        if tries >= self.patience.tries:
            self.unreachable[host] = said


def _check_status(answer: requests.Response) -> None:
    code = answer.status_code
    if code in (200, 206, 416):
        return
    said = f"HTTP {code} {answer.reason or ''}".strip()
    raise Passing(said) if code in PASSING or code > 504 else Refused(said)


def _redirected(url: str, location: str) -> str:
    """The next address; no detour may leave https."""
    target = urljoin(url, location)
    problem = url_problem(target)
    if problem is None and urlsplit(url).scheme == "https" != urlsplit(target).scheme:
        problem = f"{target!r} is not used: it leaves https"
    if problem is not None:
        raise Refused(f"redirects to an address that {problem.partition(' is ')[2]} ({target})")
    return target


def _start(answer: requests.Response, done: int, part: Path) -> int:
    """Bytes of the part that the answer goes on after: 0 where a server ignores the range."""
    if answer.status_code == 416:
        part.unlink(missing_ok=True)
        raise Passing("has no such range; from the start")
    if answer.status_code != 206:
        return 0
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if not done or found is None or int(found[1]) != done or _is_packed(answer):
        part.unlink(missing_ok=True)
        raise Passing("gave another range than the one asked for; from the start")
    return done


def _is_packed(answer: requests.Response) -> bool:
    return answer.headers.get("Content-Encoding", "identity") != "identity"


def _check_announced(answer: requests.Response, done: int, remote: Remote) -> None:
    """A file of another size is refused before it is read."""
    length = answer.headers.get("Content-Length", "")
    if remote.bytes is None or _is_packed(answer) or not length.isdecimal():
        return
    if done + int(length) != remote.bytes:
        raise Refused(f"offers {done + int(length)} bytes, the published file has {remote.bytes}")


def _check_room(part: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < n_bytes:
        raise OSError(errno.ENOSPC, f"{n_bytes} bytes are needed, {free} are free")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(error: BaseException) -> str:
    """The innermost reason, without the objects and addresses that libraries print around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Errors of writing below `folder` become DownloadErrors that say what to do."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        if is_disk_full(error):
            raise DownloadError(
                f"the disk of {folder} is full ({said}); make room, or set BLUESTAB_CACHE to a "
                "folder on another disk"
            ) from error
        raise DownloadError(
            f"{error.filename or folder} cannot be written ({said}); set BLUESTAB_CACHE to a "
            "folder of your own"
        ) from error
