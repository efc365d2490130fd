"""A worker process of the pool launcher, from inside: wait for a run, do it, answer."""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from bluestab import interruption
from bluestab.checks import check
from bluestab.circumstances import memory_now_mb
from bluestab.errors import BluestabError, DiskFull, StoreError
from bluestab.store import Store
from bluestab.workers import Execute, attempt


def serve(
    connection: Connection,
    root: str,
    output: str,
    environment: Mapping[str, str],
    *,
    budget_mb: float,
    execute: Execute | None,
) -> None:
    """Do runs as they come until the parent closes the connection or memory goes over budget.

    Ends also after a run that it was told to give back: see interruption.py.
    """
    # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption.obey()
    os.environ.clear()
    os.environ.update(environment)
    die_with_parent(connection)
    write_to(output)
    store = Store(root)
    answer = {"what": "ready"}
    while True:
        memory_mb = memory_now_mb()
        connection.send({**answer, "memory_mb": memory_mb})
        if answer["what"] == "given back" or (memory_mb > budget_mb and answer["what"] != "ready"):
            return
        try:
            key, cfg = connection.recv()
        except EOFError:
            return
        answer = _do(key, cfg, store, execute)


def _do(key: str, cfg: Mapping[str, Any], store: Store, execute: Execute | None) -> dict[str, Any]:
    try:
        run = check(cfg)
        if run.key != key:
            raise BluestabError(
                f"run {key} is now {run.key}: its data or weights changed after the sweep began; "
                "start the command again"
            )
        record = attempt(run, store, execute=execute)
    except (interruption.GivenBack, SystemExit, KeyboardInterrupt):
        if not interruption.asked():  # the latter two are how Lightning leaves at SIGTERM
            raise
        return {"what": "given back"}
    except DiskFull:
        return {"what": "full"}
    except StoreError as error:
        return {"what": "error", "said": str(error)}
    except BluestabError as error:
        return {"what": "refused", "said": str(error)}
    return {"what": "elsewhere" if record is None else record.status}


def die_with_parent(connection: Connection) -> None:
    """A worker without a parent would go on unseen, and hold its claim."""
    hung_up = select.poll()
    hung_up.register(connection.fileno(), getattr(select, "POLLRDHUP", 0))  # POLLHUP always counts

    def watch() -> None:
        hung_up.poll()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def write_to(path: str) -> None:
    """What libraries print, and the last words of a crash in native code, go to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()
