"""Shared fixtures: small real-looking data, and runs made as the command line makes them."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bluestab.core.devices import Kind
from bluestab.testing.corpora import ANY_FILE, write_corpora
from tests.support import composed_once, more
from tests.support.in_process import exit_code

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("COLUMNS", None)  # that of the terminal, which pytest-xdist tells its workers
# a shell's background jobs ignore Ctrl-C, and so would the commands at which tests press it
signal.signal(signal.SIGINT, signal.default_int_handler)


DEAD = 2**22 + 1
"""Number of a process that is gone, and of none to come: Linux counts up to 2**22."""

collect_ignore = ["assets"]
"""Packages with tests of their own, which are run once they are installed."""


def position(text: str, n: int) -> int:
    """Where in the text its n-th character that is no blank ends."""
    seen = 0
    for at, character in enumerate(text):
        seen += character != " "
        if seen == n:
            return at + 1
    return len(text)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The cache of whoever runs the tests is neither read nor filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLUESTAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("BLUESTAB_CONF", str(tmp_path_factory.mktemp("conf")))
        composed_once.remember(patch)
        # what tests write need not survive a power cut; tests of `fsync` put their own in place
        patch.setattr("os.fsync", lambda descriptor: os.fstat(descriptor))
        # of one run after another, the youngest garbage: what lives on is never looked through
        young = SimpleNamespace(collect=lambda: gc.collect(1))
        for module in ("attempt", "dry_run_step", "execute"):
            patch.setattr(f"bluestab.training.{module}.gc", young)
        # the same on every machine: float32, whole batches and one worker where nothing is said;
        # what a machine makes of its defaults: test_defaults.py of training/ and sweeps/
        patch.setattr("bluestab.core.devices.kind_of", lambda device: Kind("mps", bf16=False))
        patch.setenv("SLURM_CPUS_PER_TASK", "1")
        yield


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture
def small(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tasks find the small corpora; own caches of the environment do not interfere."""
    monkeypatch.setenv("BLUESTAB_DATA", str(corpora))
    monkeypatch.delenv("BLUESTAB_STORE", raising=False)
    return corpora


Make = Callable[..., Any]


@pytest.fixture
def make_run(small: Path, tmp_path: Path) -> Make:
    """Overrides -> CheckedRun, composed by Hydra, on the small corpora, store in tmp_path."""
    from bluestab.core.config import compose, resolved
    from bluestab.training.check import check

    def make(*overrides: str, edit: Callable[[dict[str, Any]], None] | None = None) -> Any:
        cfg = resolved(compose([*ANY_FILE, f"store={tmp_path / 'runs'}", *overrides]))
        if edit is not None:
            edit(cfg)
        return check(cfg)

    return make


@pytest.fixture
def make_sweep(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Overrides and a number of seeds -> a Sweep of `gad` with `tiny`, in a folder of its own."""
    from bluestab.core.config import compose
    from bluestab.sweeps.plan import plan_sweep

    monkeypatch.chdir(tmp_path)

    def make(*overrides: str, seeds: int = 4) -> Any:
        common = [*ANY_FILE, "task=gad", "model=tiny", "device=cpu", f"store={tmp_path / 'runs'}"]
        return plan_sweep(
            lambda given: compose([*common, *overrides, *given]),
            [[f"seed={seed}"] for seed in range(seeds)],
            "s",
        )

    return make


@pytest.fixture
def make_assembly(make_run: Make) -> Make:
    """Overrides -> Assembly on the CPU, ready to be fitted."""

    def make(*overrides: str, **kwargs: Any) -> Any:
        import torch

        from bluestab.training.assemble import assemble

        run = make_run(*overrides, **kwargs)
        return assemble(
            run,
            device=torch.device("cpu"),
            progress=lambda *_: None,
        )

    return make


def real_data() -> Path:
    """Folder of the real corpora; skips the test where there is none."""
    root = os.environ.get("BLUESTAB_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("real corpora: set BLUESTAB_DATA to the folder that holds them")
    return Path(root)


@dataclass(frozen=True)
class Said:
    """What a command did: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


Say = Callable[..., Said]


@pytest.fixture
def cli(
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Say]:
    """`bluestab ARGUMENTS` in this process and in an empty folder, as the console script does it.

    What a call leaves behind in this process is undone after it.
    """
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("BLUESTAB_COMMAND", "BLUESTAB_ALLOW"):
        monkeypatch.delenv(name, raising=False)
    loaded = set(sys.modules)

    def say(*arguments: str, **env: str) -> Said:
        capsys.readouterr()
        code = exit_code(arguments, {**os.environ, **env})
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    yield say
    for name in set(sys.modules) - loaded:  # techniques that a test wrote into `here`
        if str(here) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.hookimpl(tryfirst=True)  # before marks decide what runs
def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle", type=int, metavar="SEED", help="test files, and tests in each, in random order"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (seed := config.getoption("--shuffle")) is not None:
        drawn = random.Random(seed)
        files = sorted({item.path for item in items})
        place = dict(zip(files, drawn.sample(range(len(files)), len(files)), strict=True))
        drawn.shuffle(items)
        items.sort(key=lambda item: place[item.path])  # fixtures of a file are made once
    for file, mark in ((more.FILE, pytest.mark.more), (more.SLOW, pytest.mark.slow)):
        listed = more.read(file.read_text(encoding="utf-8"))
        for item in items:
            if more.is_listed(item.nodeid, listed):
                item.add_marker(mark)


def pytest_collection_finish() -> None:
    """What was imported stays to the end: no collection of garbage need walk through it.

    Every run collects once, and through torch and its like that takes half as long as the run.
    """
    if "pytorch_lightning" in sys.modules:
        import transformers.modeling_layers  # noqa: F401  a network that is loaded imports it
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the suites of techniques found refused, or dependent on order: counted and spelled."""
    found: dict[str, list[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for topic, said in report.user_properties:
                    found.setdefault(topic, []).append(str(said))
    for topic, said in sorted(found.items()):
        remarks = sorted(filter(None, said))
        terminalreporter.write_line(f"{topic}: {len(said)}, of which {len(remarks)} to remark on")
        for remark in remarks:
            terminalreporter.write_line(f"  {remark}")


@pytest.fixture(scope="module")
def lab(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The laboratory in which techniques are tried, on one thread."""
    from bluestab.testing.laboratory import laboratory

    with laboratory(corpora, tmp_path_factory.mktemp("checkpoints")) as found:
        yield found


@dataclass
class PostgresServer:
    """A PostgreSQL server of a test's own, which it may stop and start."""

    url: str
    command: list[Any]
    user: dict[str, Any]

    def start(self) -> None:
        self._control("start")

    def stop(self, mode: str = "fast") -> None:
        self._control("-m", mode, "stop")

    def _control(self, *what: str) -> None:
        subprocess.run([*self.command, *what], check=True, capture_output=True, **self.user)


@pytest.fixture
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server that runs; skips where there is no PostgreSQL."""
    pytest.importorskip("psycopg", reason="the extra 'postgres' is missing")
    initdb = shutil.which("initdb") or max(
        map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None
    )
    if initdb is None:
        pytest.skip("PostgreSQL: apt-get install postgresql")
    folder = Path("/tmp") / f"pg{os.getpid()}"  # short: it holds a socket
    folder.mkdir()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        user = {"user": "postgres"}
        shutil.chown(folder, "postgres")
    try:
        data, make = folder / "data", [initdb, "-D", folder / "data", "-A", "trust", "-U", "me"]
        subprocess.run(make, check=True, capture_output=True, **user)
        options = f"-k {folder} -c listen_addresses="
        control = Path(initdb).parent / "pg_ctl"
        command = [control, "-D", data, "-o", options, "-l", folder / "log", "-w"]
        server = PostgresServer(f"postgresql://me@/postgres?host={folder}", command, user)
        server.start()
        try:
            yield server
        finally:
            if (data / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> str:
    """The URL of a database of a server of its own."""
    return postgres_server.url
