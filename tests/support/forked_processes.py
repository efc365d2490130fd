"""Processes for tests that need a real one, to kill it or to see what one that is new does.

Python and torch take seconds to start. These are forked from a server that has imported everything
and done nothing else, the same that forks the workers of a sweep: a start takes 20 ms. What such a
process starts for its own workers is forked as well.

Tests of what starting or importing itself does take `subprocess`.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluestab.sweeps.processes import LIBRARIES

EVERYTHING = [
    "bluestab.sweeps.pool_worker",
    "bluestab.sweeps.search.worker",
    "bluestab.training.assemble",
    "bluestab.training.execute",
]
EVERYTHING += ["bluestab.cli", "bluestab.cli.hydra_app", *LIBRARIES]


@dataclass(frozen=True)
class Done:
    """How a process ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Started:
    """A process under way; `process` is what multiprocessing has for it."""

    def __init__(self, process: Any, said: Path) -> None:
        self.process, self.said, self.pid = process, said, int(process.pid)

    def poll(self) -> int | None:
        return None if self.process.is_alive() else self.process.exitcode

    def wait(self, timeout: float = 120) -> Done:
        """Raises TimeoutError, after a kill."""
        self.process.join(timeout)
        late = self.process.is_alive()
        if late:
            self.process.kill()
            self.process.join()
        out, err = ((self.said / name).read_text(errors="replace") for name in ("out", "err"))
        shutil.rmtree(self.said)
        if late:
            raise TimeoutError(f"{out}{err}\n{timeout} s are over")
        return Done(self.process.exitcode, out, err)

    def read_until(self, wanted: str, seconds: float = 60) -> None:
        """Wait until it has printed this."""
        end = time.monotonic() + seconds
        while wanted not in (self.said / "out").read_text():
            assert time.monotonic() < end, f"{wanted!r} was not printed in {seconds} s"
            assert self.process.is_alive(), (self.said / "err").read_text()
            time.sleep(0.005)

    def kill(self) -> Done:
        self.process.kill()
        return self.wait()


def start(
    function: Callable[..., Any], *arguments: Any, cwd: Path, env: Mapping[str, str] | None = None
) -> Started:
    """A function of a module in a process of its own.

    env  its whole environment; None: that of this process
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(EVERYTHING)
    said = Path(tempfile.mkdtemp(prefix="process-"))
    for name in ("out", "err"):
        (said / name).touch()
    environment = dict(os.environ if env is None else env)
    process = context.Process(
        target=_work, args=(function, arguments, str(cwd), environment, str(said))
    )
    process.start()
    return Started(process, said)


def bluestab(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 120
) -> Done:
    """`bluestab ARGUMENTS` to its end, in a process of its own."""
    return start_bluestab(*arguments, cwd=cwd, env=env).wait(timeout)


def start_bluestab(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Started:
    return start(_command, arguments, cwd=cwd, env=env)


def start_python(code: str, *arguments: str, cwd: Path) -> Started:
    """`python -c CODE ARGUMENTS`, where most modules are imported already."""
    return start(_code, code, arguments, cwd=cwd)


def run_at_once(code: str, n: int, *arguments: str, go: Path, cwd: Path) -> None:
    """`n` processes of CODE with these arguments and the path `go`, which say `ready` and begin
    when there is such a file; all of them must end well."""
    crowd = [start_python(code, *arguments, str(go), cwd=cwd) for _ in range(n)]
    for process in crowd:
        process.read_until("ready\n")
    go.touch()
    for process in crowd:
        ended = process.wait()
        assert ended.returncode == 0, ended.stderr


# --- inside --------------------------------------------------------------------------------------


def _work(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    cwd: str,
    environment: Mapping[str, str],
    said: str,
) -> None:
    from multiprocessing import util

    for name, number in (("out", 1), ("err", 2)):
        file = os.open(f"{said}/{name}", os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    gc.freeze()  # see conftest.py
    util.spawnv_passfds = _forked  # type: ignore[attr-defined]
    function(*arguments)


def _command(arguments: Sequence[str]) -> None:
    from bluestab.cli.app import main

    sys.argv = ["bluestab", *arguments]
    main()


def _code(code: str, arguments: Sequence[str]) -> None:
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _forked(path: Any, args: Sequence[Any], passfds: Sequence[int]) -> int:
    """A `python -c CODE` as `multiprocessing` starts it for a fork server, forked instead."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        keep = {0, 1, 2, *passfds}
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in keep:
                try:
                    os.close(int(name))
                except OSError:
                    continue  # that of the listing itself
        exec(args[-1], {"__name__": "__main__"})
        code = 0
    finally:
        os._exit(code)
