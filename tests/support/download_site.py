"""A web server of our own that behaves and misbehaves; every wait is injected, not waited for."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bluestab.data.downloads import Patience

BODY = b"".join(b"line %d of the published file\n" % i for i in range(20_000))  # 700 kB
SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(connect=1.0, stall=0.3, tries=3, wait=0.0)


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
