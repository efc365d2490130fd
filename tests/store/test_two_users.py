"""Two people and one store that their group may write to; and one that it may only read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bluestab.store.claims import Claims, seen_dead
from bluestab.store.files import alone, make_folder, share_tree, write_text
from bluestab.store.processes import UNKNOWN, process_start
from bluestab.store.store import Store
from bluestab.testing.corpora import ANY_FILE
from tests.support.two_users import (
    ANN,
    BOB,
    GROUP,
    People,
    in_child_as,
    need_root,
    open_folder,
    shared_folder,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    need_root()
    with open_folder() as found:
        yield found


def not_shared(root: Path) -> list[str]:
    """What the group may not read and write as its owner may."""
    found = []
    for path in (root, *root.rglob("*")):
        own = path.lstat()
        wanted = stat.S_IMODE(own.st_mode) & stat.S_IRWXU
        missing = wanted & ~(own.st_mode << 3)
        if missing or own.st_gid != GROUP:
            found.append(f"{path} {own.st_mode:o} {own.st_gid}")
    return found


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("mode", [0o2775, 0o775])
def test_what_is_made_in_a_shared_folder_is_shared(folder: Path, umask: int, mode: int) -> None:
    """Whatever the umask; also where the folder does not pass on its group by itself."""
    root = shared_folder(folder / "runs", mode=mode)

    def make() -> None:
        write_text(root / "a" / "b" / "text.txt", "x")
        make_folder(root / "tree")
        os.makedirs(root / "tree" / "c" / "d")
        (root / "tree" / "c" / "file").write_text("x")
        share_tree(root / "tree")
        with alone(root / "locked"):
            pass

    assert in_child_as(ANN, make, umask) == "None"
    assert not_shared(root) == []


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_elsewhere_rights_stay_as_they_are(folder: Path, mode: int) -> None:
    root = shared_folder(folder / "runs", mode=mode)

    def make() -> None:
        write_text(root / "a" / "text.txt", "x")

    assert in_child_as(ANN, make) == "None"
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "a" / "text.txt").stat().st_mode) == 0o644


def test_a_lock_of_somebody_elses_needs_no_right_to_write(folder: Path) -> None:
    """As stores of before have it: 0644, in a folder that the group may write to."""
    root = shared_folder(folder / "runs")
    (root / ".lock").touch(mode=0o644)

    def lock() -> str:
        with alone(root):
            return "had"

    assert in_child_as(BOB, lock) == "had"


def test_a_lock_that_cannot_be_had_is_a_sentence(folder: Path) -> None:
    root = shared_folder(folder / "runs", mode=0o755)

    def lock() -> str:
        with alone(root):
            return "had"

    said = in_child_as(BOB, lock).splitlines()[-1]
    assert said.startswith("bluestab.core.errors.StoreError: the lock ")
    assert f"runs/.lock cannot be had (Permission denied): {root}: it belongs to user {ANN}" in said
    assert "chmod -R g+rwX STORE" in said

    def claim() -> str:
        return str(Claims(root).live())

    assert in_child_as(BOB, claim) == "{}", "who only looks takes no lock"


def test_a_claim_goes_over_from_one_to_the_other(folder: Path) -> None:
    root = shared_folder(folder / "runs")

    def die() -> str:
        claim = Claims(root).take("0123456789abcdef")
        assert claim is not None
        return claim.content["token"]

    token = in_child_as(ANN, die)

    def take() -> str:
        claims = Claims(root)
        claim = claims.take("0123456789abcdef")
        return (
            f"{claim is not None} {[dead['token'] for dead in claims.deaths('0123456789abcdef')]}"
        )

    assert in_child_as(BOB, take) == f"True ['{token}']"


def test_a_process_of_somebody_else_that_proc_hides_is_not_dead(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/proc` mounted with hidepid shows everybody's own processes alone."""
    root = shared_folder(folder / "runs")
    claim = Claims(root).take("0123456789abcdef")
    assert claim is not None
    real = Path.read_text

    def hidden(self: Path, *args: object, **kwargs: object) -> str:
        if str(self) == f"/proc/{os.getppid()}/stat":
            raise FileNotFoundError(self)
        return real(self, *args, **kwargs)  # type: ignore[arg-type]

    def look() -> str:
        monkeypatch.setattr(Path, "read_text", hidden)
        return f"{process_start(os.getppid())} {seen_dead(claim.content)}"

    assert in_child_as(BOB, look) == f"{UNKNOWN} None"
    claim.release()


# --- whole commands --------------------------------------------------------------------------

QUICK = (*ANY_FILE, "task=gad", "model=tiny", "device=cpu", "optim.epochs=null", "optim.steps=4")
SEARCH = (
    *("hydra/sweeper=optuna", "search.space=[llrd]", "search.confirm=0", "search.seeds=1"),
    *("sweep.name=s", "search.race.kind=none"),
)


@pytest.mark.slow
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_sweep_and_a_search_by_turns(folder: Path, umask: int) -> None:
    people = People.at(folder)
    people.umask = umask
    people.bluestab(ANN, "run", "-m", *QUICK, "sweep.seeds=1")
    assert "1 already there" in people.bluestab(BOB, "run", "-m", *QUICK, "sweep.seeds=2")
    assert "2 already there" in people.bluestab(ANN, "run", "-m", *QUICK, "sweep.seeds=3")
    people.bluestab(ANN, "run", "-m", *QUICK, *SEARCH, "search.n_trials=1")
    said = people.bluestab(BOB, "run", "-m", *QUICK, *SEARCH, "search.n_trials=2")
    assert "going on with search s: 1 points are told" in said
    assert "2 of 2 points told" in people.bluestab(BOB, "status")
    assert "winner" in people.bluestab(BOB, "search")
    people.bluestab(BOB, "report")
    assert not_shared(people.store) == []
    assert len(Store(people.store).keys()) == 5


@pytest.mark.slow
def test_a_store_that_one_may_only_read(folder: Path) -> None:
    """Reading verbs work; what must write says in a sentence whose store it is."""
    people = People.at(folder)
    people.store.chmod(0o755)
    people.bluestab(ANN, "run", "-m", *QUICK, "sweep.seeds=1")
    people.bluestab(ANN, "run", "-m", *QUICK, *SEARCH, "search.n_trials=1")
    before = sorted(people.store.rglob("*"))
    assert "1 of 1 points told" in people.bluestab(BOB, "status")
    assert "winner" in people.bluestab(BOB, "search")
    people.bluestab(BOB, "report")
    for more in (("sweep.seeds=2",), (*SEARCH, "search.n_trials=2")):
        said = people.bluestab(BOB, "run", "-m", *QUICK, *more, code=2)
        assert "cannot be written (Permission denied)" in said
    assert sorted(people.store.rglob("*")) == before
