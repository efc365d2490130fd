"""Files that are not what their names say, put anywhere into a store or an export.

Pipes, sockets, devices, folders, links, holes of a terabyte, strange names and dates, bytes that
are no text: every verb that reads a store or an export says what is wrong in a sentence, or goes on
without; none waits, fills the memory, ends in a traceback, or touches anything outside.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from bluestab.store.schema import MOST_RUNS
from bluestab.store.store import Store
from tests.contracts.test_hostile import ORDERS
from tests.store.test_artefacts import SHORT
from tests.support import simulated_search
from tests.support.hostile_commands import SECONDS, complaint, watched
from tests.support.stored_runs import put, run, sweep

TERABYTE = 2**40


def a_socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening, chdir(file.parent):
        listening.bind(file.name)


def a_device(file: Path) -> None:
    try:
        os.mknod(file, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        file.symlink_to("/dev/zero")


def holes(file: Path) -> None:
    file.touch()
    os.truncate(file, TERABYTE)


def closed(file: Path) -> None:
    """As it was, but nobody may read it, or look into it."""
    if before[file]:
        file.write_bytes(before[file])
    else:
        file.mkdir()
    file.chmod(0)


def foreign(file: Path) -> None:
    """Somebody else's, as a colleague with umask 077 leaves it."""
    closed(file)
    if os.geteuid() == 0:
        file.chmod(0o700 if file.is_dir() else 0o600)
        os.chown(file, 65534, 65534)


before: dict[Path, bytes] = {}
"""What was in the place of the file."""


def changed(how: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(how(before[file]))


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": a_socket,
    "a device": a_device,
    "a folder": Path.mkdir,
    "a terabyte of nothing": holes,
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a link to nowhere": lambda file: file.symlink_to("nowhere"),
    "a link out": lambda file: file.symlink_to("/etc/hostname"),
    "empty": Path.touch,
    "no text": lambda file: file.write_bytes(b"\xff\xfe\x00\x80" * 99),
    "NULs": lambda file: file.write_bytes(b"\0" * 4096),
    "a mark of byte order": changed(lambda data: b"\xef\xbb\xbf" + data),
    "the half of it": changed(lambda data: data[: len(data) // 2]),
    "twice": changed(lambda data: data + data),
    "every key twice": changed(lambda data: data.replace(b"{", b'{"name": [], "key": 1,', 1)),
    "deep": lambda file: file.write_text('{"a":' * 50_000 + "1" + "}" * 50_000),
    "a list": lambda file: file.write_text("[[], {}, null]"),
    "a large header": lambda file: file.write_bytes((2**62).to_bytes(8, "little") + b"{" * 99),
    "closed": closed,
    "somebody else's": foreign,
    "not there": lambda file: None,
}
"""What stands in the place of a file."""

STORED = (
    *("KEY/record.json", "KEY/config.yaml", "KEY/predictions.parquet", "KEY/curve.csv"),
    *("KEY/log.txt", "CRASHED/record.json", "sweeps/s.json", ".claims/KEY", ".index.parquet"),
    *("searches/s/search.json", "searches/s/study.journal", "searches/s/found.json"),
    *(".slurm/s.1/orders.json", "KEY", "sweeps", ".crashed", ".work", ".claims", ".claims/.lock"),
)
EXPORTED = (
    *("bluestab.json", "config.json", "model.safetensors", "tokenizer.json"),
    *("tokenizer_config.json", "README.md", "vocab.txt"),
)
READING = (
    *("status", "report --out out", "report --all --out out", "store verify", "search --out out"),
    *("store gc --older 0", "store gc --secrets", "store merge", "compare"),
)
"""Verbs about a store."""

OF_A_RUN = ("reproduce", "export", "predict")
"""Verbs about one run of it."""

SEARCHED = ("searches", "sweeps", "KEY/record.json", "CRASHED", ".index.parquet", ".crashed")
"""Beginnings of what `search`, which draws for two seconds, may read."""

NAMES = (
    *("a\nb", "x" * 255, "\x1b[2J", " ", "-rf", "0" * 16 + "\n", "ABCDEF0123456789", "a b.json"),
    *("..json", ".json", "0" * 17, "é" * 100, "*.json", "{}", "${oc.env:HOME}.json"),
)
"""Names that files and folders of a store may have; the last of bytes that are no text."""

PLACES = ("", "sweeps", ".work", ".claims", ".crashed", ".damaged", ".resume", ".slurm", "searches")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, corpora: Path) -> Path:
    """A store with runs, a crash, a sweep, a search and what was handed to SLURM."""
    pytest.importorskip("torch")
    import bluestab.inference.export
    import bluestab.inference.predictor
    import bluestab.inference.reproduce  # noqa: F401  not once per child
    from bluestab.sweeps.search.pool import see_through
    from bluestab.sweeps.search.saved import write_search_file

    folder = tmp_path_factory.mktemp("pristine")
    store = Store(folder / "theirs")
    records = [run(0), run(1), run(2, "diverged"), run(3, "crashed")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLUESTAB_DATA", str(corpora))
        search = simulated_search.plan(store.root, n_trials=2, seeds=1)
        simulated_search.begin(search)
        see_through(search, [None], simulated_search.execute)
        write_search_file(search)
    (store.root / "searches/s/found.json").write_text("{}")
    for record in records:
        put(store, record)
    sweep(store, "s", *records)
    claim = store.claims.take(run(0).key)
    assert claim is not None
    orders = store.root / ".slurm/s.1/orders.json"
    orders.parent.mkdir(parents=True)
    orders.write_text(json.dumps(ORDERS))
    (store.root / ".index.parquet").write_bytes(b"PAR1")
    (folder / "mine.txt").write_text("a text\n")
    return folder


@pytest.fixture(scope="module")
def warm(pristine: Path) -> Path:
    """The same, with all that the verbs import imported: once instead of in every child."""
    copy = shutil.copytree(pristine, pristine.with_name("warm"))
    with chdir(copy), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [])
        assert [complaint(words(verb)) for verb in READING] == [""] * len(READING)
    return pristine


def words(verb: str) -> Sequence[str]:
    """The verb about the store `theirs`, from the folder that it lies in."""
    name, *rest = verb.split()
    if name in ("reproduce", "export", "predict"):
        more = {"export": ["--out", "out"], "predict": ["--input", "mine.txt", "--output", "o"]}
        return [name, run(0).key, "--store", "theirs", *more.get(name, []), "--device", "cpu"]
    if name == "compare":
        return ["compare", "theirs", "theirs"]
    if name == "store":
        return [
            name,
            rest[0],
            *(["grown", "theirs"] if rest[0] == "merge" else ["theirs", *rest[1:]]),
        ]
    return [name, "theirs", *rest]


def verbs(name: str) -> list[str]:
    """Those that may read a file of a store."""
    reading = [v for v in READING if name.startswith(SEARCHED) or not v.startswith("search")]
    return [*reading, *(OF_A_RUN if name.startswith("KEY") else ())]


def place_of(root: Path, name: str) -> Path:
    return root / name.replace("KEY", run(0).key).replace("CRASHED", f".crashed/{run(3).key}")


def in_the_place(file: Path, kind: str) -> None:
    before[file] = file.read_bytes() if file.is_file() else b""
    if file.is_dir():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](file)


QUICK = (
    *(("KEY/record.json", "a pipe"), ("sweeps/s.json", "a terabyte of nothing")),
    *((".claims/KEY", "a device"), ("KEY/predictions.parquet", "a folder")),
)


@pytest.mark.parametrize(("name", "kind"), QUICK)
def test_a_few_files_of_a_store(
    pristine: Path, tmp_path: Path, small: Path, name: str, kind: str
) -> None:
    folder = shutil.copytree(pristine, tmp_path / "here", symlinks=True)
    in_the_place(place_of(folder / "theirs", name), kind)
    commands = [words(verb) for verb in ("status", "store verify", "store gc --older 0")]
    found = watched(folder, folder / "theirs", commands)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_a_store(warm: Path, tmp_path: Path, small: Path, name: str, kind: str) -> None:
    found = []
    for verb in verbs(name):
        folder = shutil.copytree(warm, tmp_path / "here", symlinks=True)
        in_the_place(place_of(folder / "theirs", name), kind)
        found += watched(folder, folder / "theirs", [words(verb)])
        shutil.rmtree(folder)
    assert not found, "\n".join(found)


WATCH = """
import os, sys
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss, used.ru_utime + used.ru_stime)
"""


@pytest.mark.slow
@pytest.mark.parametrize("verb", READING)
def test_a_whole_process_takes_less_than_a_gigabyte(
    pristine: Path, tmp_path: Path, small: Path, verb: str
) -> None:
    """Everything that it imports included."""
    folder = shutil.copytree(pristine, tmp_path / "here", symlinks=True)
    for name in ("KEY/record.json", "KEY/config.yaml", "CRASHED/record.json", ".index.parquet"):
        in_the_place(place_of(folder / "theirs", name), "a terabyte of nothing")
    line = ["prlimit", "--fsize=1073741824", sys.executable, "-m", "bluestab", *words(verb)]
    # nothing fills the disk; the peak of a process is at least that of the one that starts it
    watch = [sys.executable, "-S", "-c", WATCH, *line]
    said = subprocess.run(watch, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout
    code, kilobytes, seconds = (float(word) for word in said.splitlines()[-1].split())
    assert code in (0, 1, 2)
    assert kilobytes < 2**20
    assert seconds < SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_strange_names_and_dates(warm: Path, tmp_path: Path, small: Path, place: str) -> None:
    folder = shutil.copytree(warm, tmp_path / "here", symlinks=True)
    inside = folder / "theirs" / place
    inside.mkdir(exist_ok=True)
    for n, name in enumerate((*NAMES, os.fsdecode(b"\xff\xfe.json"))):
        path = inside / name
        path.mkdir() if n % 2 else path.write_text("{}")
        os.utime(path, (2**33 + n, 2**33 + n) if n % 3 else (-(2**31), -(2**31)))
    assert watched(folder, folder / "theirs", [words(verb) for verb in READING]) == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_files_of_an_export(
    make_run: Any, exported: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bluestab.inference.export import export
    from bluestab.inference.weights import find_run
    from tests.training.test_execute import done

    monkeypatch.setattr("bluestab.inference.predictor.cores", lambda: 1)  # threads do not fork
    if not (exported / "out").exists():
        made = make_run("task=gad", "model=tiny", *SHORT, "keep=last")
        done(made, exported / "runs")
        export(find_run(made.key, Store(exported / "runs")), exported / "out", "cpu")
    found = []
    for kind in KINDS:
        here = tmp_path / "here"
        folder = shutil.copytree(exported / "out", here / "out")
        in_the_place(folder / name, kind)
        (here / "x.txt").write_text("a gene\n")
        line = ["predict", "out", "--input", "x.txt", "--output", "o.txt", "--device", "cpu"]
        found += [f"{kind}: {said}" for said in watched(here, folder, [line])]
        shutil.rmtree(here)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closed", "somebody else's"])
def test_an_export_that_may_not_be_looked_into(tmp_path: Path, small: Path, how: str) -> None:
    pytest.importorskip("torch")
    here = tmp_path / "here"
    here.mkdir()
    in_the_place(here / "out", how)
    (here / "x.txt").write_text("a gene\n")
    line = ["predict", "out", "--input", "x.txt", "--output", "o.txt", "--device", "cpu"]
    found = watched(here, here / "out", [line])
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("n_runs", [MOST_RUNS, 1_000_000])
def test_a_manifest_without_end(warm: Path, tmp_path: Path, small: Path, n_runs: int) -> None:
    """It is read, or refused; either in time."""
    folder = shutil.copytree(warm, tmp_path / "here", symlinks=True)
    file = folder / "theirs" / "sweeps" / "s.json"
    content = json.loads(file.read_text())
    content["runs"] = [{"key": f"{n:016x}", "overrides": []} for n in range(n_runs)]
    file.write_text(json.dumps(content))
    commands = [words(v) for v in ("status", "store verify", "store gc", "store merge")]
    found = watched(folder, folder / "theirs", commands)
    assert not found, "\n".join(found)


def test_how_many() -> None:
    n_verbs = sum(len(verbs(name)) for name in STORED)
    assert len(KINDS) * (n_verbs + len(EXPORTED)) + len(PLACES) * len(NAMES) > 3000
