"""Killed at any moment, started again: nothing lost, nothing twice, every byte the same.

Real runs, real processes, real SIGKILLs. Each test ends with the same command until the sweep is
complete and compares it with a sweep that nobody disturbed. What was killed in which phase is
printed (`make test-slow PYTEST_ARGS=-s`).
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bluestab.store import claims
from bluestab.store.gc import orphans, remove
from bluestab.store.records import to_json
from bluestab.store.store import Store
from bluestab.store.verify import problems
from bluestab.testing.corpora import write_corpora
from tests.support import killable_sweep

pytestmark = pytest.mark.slow

N = 40
FITTING = re.compile(r"fit|score|prepare|(before|after) (write|flush|rename|remove|release)")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("corpora"))


class Place:
    """A folder with a store, and the command that fills it."""

    def __init__(self, folder: Path, corpora: Path) -> None:
        self.folder, self.store = folder, Store(folder / "runs")
        self.marks = folder / "marks"
        self.marks.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "BLUESTAB_DATA": str(corpora),
            "BLUESTAB_CACHE": str(folder / "cache"),
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    def start(self, n: int, workers: int, *more: str, **environment: str) -> subprocess.Popen[str]:
        script = str(Path(killable_sweep.__file__))
        given = [str(self.store.root), str(self.marks), str(n), str(workers), *more]
        return subprocess.Popen(
            [sys.executable, script, *given],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def complete(self, n: int, workers: int, *more: str) -> int:
        """The same command until nothing is missing; how often it took."""
        for turn in range(1, 10):
            parent = self.start(n, workers, *more)
            said, _ = parent.communicate(timeout=1200)
            if parent.returncode == 0:
                return turn
            assert parent.returncode == 1, said  # a run that was killed twice is a crash
        raise AssertionError(said)

    def phase(self, pid: int) -> str:
        try:
            return (self.marks / str(pid)).read_text().strip()
        except OSError:
            return "start"

    def log(self, word: str) -> list[list[str]]:
        lines = (self.marks / "log").read_text().splitlines()
        return [line.split() for line in lines if line.startswith(word)]


def contents(store: Store) -> dict[str, tuple[bytes, ...]]:
    """What must be equal, by key; raises if a record is damaged."""
    found = {}
    for key in sorted(store.keys()):
        folder = store.folder(key)
        files = [(folder / name).read_bytes() for name in ("curve.csv", "predictions.parquet")]
        found[key] = (to_json(store.read(key).result).encode(), *files)
    return found


def assert_same(place: Place, reference: dict[str, tuple[bytes, ...]], n: int = N) -> None:
    found = contents(place.store)
    assert len(found) == n, f"lost: {set(reference) - set(found)}"
    different = [key for key in found if found[key] != reference[key]]
    assert not different
    assert place.store.running() == {}
    folders = [p.name for p in place.store.root.iterdir() if not p.name.startswith(".")]
    assert sorted({*folders} - {"sweeps"}) == sorted(found)
    assert list(problems(place.store)) == []
    for left in orphans(place.store):
        assert remove(left) is None
    dotted = {p.name for p in place.store.root.iterdir()} - {*folders, ".damaged", ".index.parquet"}
    assert [p for name in dotted for p in (place.store.root / name).glob("[0-9a-f]*")] == []
    assert contents(place.store) == found


@pytest.fixture(scope="module")
def reference(
    corpora: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[bytes, ...]]:
    """A sweep that nobody disturbs, run after run in one process."""
    place = Place(tmp_path_factory.mktemp("reference"), corpora)
    assert place.complete(N, 0) == 1
    found = contents(place.store)
    assert len(found) == N
    return found


def children(pid: int) -> list[int]:
    """The processes below a process, its children's children too."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            below.setdefault(parent, []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        new = below.get(left.pop(), [])
        found += new
        left += new
    return found


def kill_at(place: Place, pids: list[int], wanted: str, patience: float) -> tuple[int, str] | None:
    """Wait until one of the processes is in a phase like `wanted`, stop it there, and kill it."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        for pid in pids:
            if not re.search(wanted, place.phase(pid)):
                continue
            try:
                os.kill(pid, signal.SIGSTOP)
            except ProcessLookupError:
                continue
            phase = place.phase(pid)  # it stands still now
            os.kill(pid, signal.SIGKILL)
            return pid, phase
        time.sleep(0.0005)
    return None


WANTED = (
    "fit", "score", "write", "rename", "fit", "flush", "prepare", "remove", "fit", "score",
    "release", "plan|begin|dispatch|close",
)  # fmt: skip


def under_fire(place: Place, n: int, kills: int, *more: str) -> list[tuple[str, str]]:
    """Kill workers and parents of a sweep of n runs, in all phases, then let it end; who died in
    which phase."""
    dice = random.Random(0)
    killed: list[tuple[str, str]] = []
    parent = place.start(n, 2, *more)
    parents = 1
    while len(killed) < kills:
        if parent.poll() is not None:
            if len(place.store.keys()) == n:
                break
            parent.communicate()
            parent, parents = place.start(n, 2, *more), parents + 1
        wanted = WANTED[len(killed) % len(WANTED)]
        time.sleep(dice.random() * 0.25)
        if "dispatch" in wanted or dice.random() < 0.1:
            found = kill_at(place, [parent.pid], ".", 5)
            who = "parent"
        else:
            found = kill_at(place, children(parent.pid), wanted, 5)
            who = "worker"
        if found is not None:
            killed.append((who, found[1]))
    parent.kill()
    parent.communicate()
    before = len(place.store.keys())
    again = place.complete(n, 2, *more)
    phases = Counter(f"{who}: {re.sub('[0-9a-f]{16}', 'KEY', phase)}" for who, phase in killed)
    resumed = sum(
        json.loads((place.store.folder(k) / "record.json").read_text())["measured"]["resumed_from"]
        is not None
        for k in sorted(place.store.keys())
    )
    print(f"\n{len(killed)} kills, {parents} parents, {before} of {n} runs finished under fire, "
          f"{again} more commands; {resumed} runs were resumed from a checkpoint")  # fmt: skip
    for phase, count in sorted(phases.items()):
        print(f"  {count:3} {phase}")
    return killed


def test_sixty_kills(corpora: Path, tmp_path: Path) -> None:
    """Workers and parents, in all phases of a sweep of 40 runs."""
    longer = ("optim.steps=500", "trainer.eval_every=100", "checkpoint_every=7")
    undisturbed = Place(tmp_path / "undisturbed", corpora)
    assert undisturbed.complete(N, 2, *longer[:2]) == 1
    place = Place(tmp_path / "disturbed", corpora)
    killed = under_fire(place, N, 60, *longer)
    assert len(killed) == 60
    in_runs = sum(bool(FITTING.match(phase)) for _, phase in killed)
    assert in_runs >= 30
    assert_same(place, contents(undisturbed.store))
    ends = Counter(key for _, key, _ in place.log("end"))
    assert max(ends.values()) == 1, "a run was finished twice"


KILLS = 60


def test_kills_in_a_sequence_of_tasks(corpora: Path, tmp_path: Path) -> None:
    """Three stages, four arms, two seeds: nothing lost, and no byte changed."""
    n, longer = 22, (killable_sweep.IN_SEQUENCE, "optim.steps=600", "checkpoint_every=7")
    undisturbed = Place(tmp_path / "undisturbed", corpora)
    assert undisturbed.complete(n, 0, *longer[:2]) == 1
    place = Place(tmp_path / "disturbed", corpora)
    killed = under_fire(place, n, KILLS, *longer)
    assert len(killed) == KILLS
    assert_same(place, contents(undisturbed.store), n)
    ends = Counter(key for _, key, _ in place.log("end"))
    assert max(ends.values()) == 1, "a run was finished twice"


def local_sweep(place: Place, n: int, environment: dict[str, str]) -> None:
    """In a process of its own, forked from one that has imported everything."""
    os.environ.update({**place.environment, **environment, "MARKS": str(place.marks)})
    os.chdir(place.folder)
    from bluestab.sweeps.lifecycle import begin
    from bluestab.sweeps.local import run_here

    planned = killable_sweep.sweep(place.store.root, n, "checkpoint_every=15")
    begin(planned)
    run_here(planned, killable_sweep.execute)


def in_a_process(place: Place, n: int, **environment: str) -> int | None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["bluestab.training.assemble", "bluestab.training.execute", "bluestab.cli.hydra_app"]
    )
    process = context.Process(target=local_sweep, args=(place, n, environment))
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


def test_a_kill_at_every_write_point(
    corpora: Path, reference: dict[str, tuple[bytes, ...]], tmp_path: Path
) -> None:
    """Each named point of a run, before and after: die there once, start again, compare."""
    place = Place(tmp_path / "all", corpora)
    assert in_a_process(place, 3, COLLECT="1") == 0
    points = sorted({" ".join(words[1:]) for words in place.log("point")})
    print(f"\n{len(points)} write points:")
    assert {"before rename .work record", "after rename .work entry", "before rename claim"} <= {
        *points
    }
    assert any("resume" in point for point in points)
    for number, point in enumerate(points):
        place = Place(tmp_path / str(number), corpora)
        died = in_a_process(place, 3, DIE_AT=point)
        assert died == -signal.SIGKILL, point
        kept = len(place.store.keys())
        assert in_a_process(place, 3) == 0, point
        assert_same(place, reference, 3)
        print(f"  {point}: {kept} finished at the kill")


def test_two_parents_on_one_store(
    corpora: Path, reference: dict[str, tuple[bytes, ...]], tmp_path: Path
) -> None:
    place = Place(tmp_path, corpora)
    parents = [place.start(N, 2) for _ in range(2)]
    for parent in parents:
        said, _ = parent.communicate(timeout=1200)
        assert parent.returncode == 0, said
        assert said.count("test score at the last step") == 1, "one closing table"
    starts = Counter(key for _, key, _ in place.log("start"))
    assert len(starts) == N
    assert max(starts.values()) == 1
    assert_same(place, reference)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Take all but `leave` bytes of a disk."""
    filler = folder / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(folder).free) > leave:
            file.write(b"\0" * min(free - leave, 2**16))
            file.flush()
    return filler


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_fills_up(
    corpora: Path,
    reference: dict[str, tuple[bytes, ...]],
    small_disk: Path,
    tmp_path: Path,
    workers: int,
) -> None:
    """Full at random moments: the sweep pauses, says so, and goes on when there is room."""
    place = Place(small_disk / "sweep", corpora)
    place.environment["BLUESTAB_CACHE"] = str(tmp_path / "cache")
    dice = random.Random(workers)
    parent = place.start(N, workers, "checkpoint_every=7")
    while parent.poll() is None and not place.store.manifests():
        time.sleep(0.1)  # a sweep that cannot even begin says so and ends
    full = 0
    while parent.poll() is None and full < 8:
        time.sleep(1 + dice.random() * 2)
        filler = fill(small_disk, dice.choice([0, 0, 5_000, 20_000, 60_000]))
        full += 1
        time.sleep(2)
        filler.unlink()
    said, _ = parent.communicate(timeout=1200)
    assert parent.returncode == 0, said
    paused = said.count("paused: the disk of")
    print(f"\n{workers} workers: full {full} times, paused {paused} times")
    assert paused >= 1
    assert ": crashed, " not in said
    assert_same(place, reference)


def test_a_store_that_cannot_be_written(
    corpora: Path, reference: dict[str, tuple[bytes, ...]], small_disk: Path, tmp_path: Path
) -> None:
    """Said before anything starts; what is in it can be read."""
    place = Place(small_disk / "sweep", corpora)
    assert place.complete(3, 0) == 1
    place.marks = tmp_path
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        parent = place.start(5, 2)
        said, _ = parent.communicate(timeout=120)
        assert parent.returncode == 2, said
        assert re.search(r"the store '.*' cannot be written \(Read-only file system\)", said)
        assert_same(place, reference, 3)
        for verb, said in ((["status"], "3 done"), (["report"], "wrote report")):
            command = [sys.executable, "-m", "bluestab", *verb, str(place.store.root)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=corpora)
            assert done.returncode == 0, done.stderr
            assert said in done.stdout
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


def test_what_dead_machines_and_clumsy_hands_leave(
    corpora: Path,
    reference: dict[str, tuple[bytes, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A truncated record, a claim of a host that is gone, a wall clock that jumps back."""
    place = Place(tmp_path, corpora)
    assert in_a_process(place, 4) == 0
    truncated, claimed, *_ = place.store.keys()
    record = place.store.folder(truncated) / "record.json"
    record.write_bytes(record.read_bytes()[:100])
    shutil.rmtree(place.store.folder(claimed))
    claim = claims.Claims(place.store.root).take(claimed)
    assert claim is not None
    content = json.loads(claim.path.read_text())
    tomorrow = time.time() + 86_400
    claim.path.write_text(json.dumps({**content, "machine": "gone//", "started": tomorrow}))
    os.utime(claim.path, (tomorrow, tomorrow))
    start = time.monotonic()
    parent = place.start(4, 2)
    said, _ = parent.communicate(timeout=400)
    took = time.monotonic() - start
    assert parent.returncode == 0, said
    print(f"\ntook {took:.0f} s, of which {claims.STALE:.0f} for the claim of the dead host")
    assert took > claims.STALE
    assert re.search(rf"{truncated}.*damaged", said)
    assert_same(place, reference, 4)
