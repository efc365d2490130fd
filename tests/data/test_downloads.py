"""One published file: its bytes or none, whatever servers, disks and people do."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from bluestab.data import downloads
from bluestab.data.downloads import Downloader, DownloadError, Patience
from bluestab.data.remotes import Remote
from tests.support.download_site import BODY, QUICK, SHA, Site, endless, good, status
from tests.support.published_files import remote

# --- a server that does as it is told -----------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "train.tsv"


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
