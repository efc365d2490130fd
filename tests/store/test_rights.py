"""What may not be read (umask 077 of a colleague) is one line, never the end of a command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bluestab.store.store import Store
from tests.support.stored_runs import put, run, sweep

WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Before a command: it has no more rights than the modes of files give, also as root."""


def bluestab(*words: str) -> subprocess.CompletedProcess[str]:
    prefix = WITHOUT_RIGHTS if os.geteuid() == 0 else ()
    return subprocess.run(
        [*prefix, sys.executable, "-m", "bluestab", *words], capture_output=True, text=True
    )


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`theirs`, of which a run, a record and a crash may not be read; `mine`."""
    if os.geteuid() == 0 and subprocess.run([*WITHOUT_RIGHTS, "true"]).returncode:
        pytest.skip("rights cannot be given up here")
    monkeypatch.chdir(tmp_path)
    for name, seeds in (("theirs", (0, 1, 2)), ("mine", (0, 1, 7))):
        store = Store(tmp_path / name)
        for seed in seeds:
            put(store, run(seed))
        put(store, run(9, "crashed"))
        sweep(store, "s", *map(run, seeds))
    theirs = Store(tmp_path / "theirs")
    closed = (
        theirs.folder(run(1).key),
        theirs.folder(run(2).key) / "record.json",
        theirs.crash_folder(run(9).key),
    )
    for path in closed:
        path.chmod(0)
    yield tmp_path
    for path in closed:
        path.chmod(0o755)


@pytest.mark.parametrize(
    ("words", "code", "n_lines"),
    [
        (("status", "theirs"), 0, 2),
        (("report", "theirs", "--out", "out"), 0, 2),
        (("store", "verify", "theirs"), 1, 3),
        (("store", "gc", "theirs", "--older", "0"), 0, 0),
        (("store", "gc", "theirs", "--secrets"), 0, 0),
        (("store", "merge", "mine", "theirs"), 1, 2),
        (("store", "merge", "theirs", "mine"), 1, 1),
    ],
)
def test_what_may_not_be_read_is_a_line(
    stores: Path, words: tuple[str, ...], code: int, n_lines: int
) -> None:
    said = bluestab(*words)
    assert said.returncode == code, said.stdout + said.stderr
    assert "Traceback" not in said.stderr
    assert said.stderr == ""
    assert said.stdout.count("cannot be read (Permission denied); ask whose it is") == n_lines
    if words[1:3] == ("merge", "theirs"):
        assert run(7).key in os.listdir(stores / "theirs"), "the others were added"


def test_damage_is_not_thought_of(stores: Path) -> None:
    """A record that may not be read is set aside by nobody."""
    before = sorted(os.listdir(stores / "theirs"))
    bluestab("status", "theirs")
    bluestab("store", "gc", "theirs", "--older", "0")
    assert sorted(os.listdir(stores / "theirs")) == before
