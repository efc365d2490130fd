"""What a shell is offered, and each shell really asked: a key of TAB in a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from bluestab.cli.app import app
from bluestab.cli.completion import candidates

Say = Callable[..., Any]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {"run ", "report ", "list ", "explain "}),
        ("re", {"report ", "reproduce "}),
        ("--h", {"--help "}),
        ("run task=bio", {"task=bioasq ", "task=biosses "}),
        ("run hydra/launcher=", {f"hydra/launcher={n} " for n in ("local", "pool", "slurm")}),
        ("run -m +sweeps=quick", {"+sweeps=quickstart "}),
        ("run -m technique=none,ll", {"technique=none,llrd "}),
        ("run 'technique=[freeze,ll", {"technique=[freeze,llrd"}),
        ("run optim.war", {"optim.warmup="}),
        ("run task=classification task.tra", {"task.train=", "task.train_size="}),
        ("run technique=llrd technique.llrd.c", {"technique.llrd.convention="}),
        ("run tech", {"technique="}),
        ("run -", {"-m ", "--dry-run ", "--help "}),
        ("auto task=bio", {"task=biosses "}),
        ("run keep=b", {"keep=best "}),
        ("check -m see", {"seed=", "seeds.init="}),
        ("run task.train=d", {"task.train=data/"}),
        ("run task.train=data/m", {"task.train=data/mine.csv "}),
        ("report --base", {"--baseline "}),
        ("report da", {"data/"}),
        ("store ", {"gc ", "verify ", "merge "}),
        ("list te", {"technique "}),
        ("explain lab", {"label_smoothing "}),
    ],
)
def test_candidates(
    line: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/mine.csv").touch()
    found = candidates(line.split(" "), typer.main.get_command(app))
    assert expected <= set(found)
    assert all(one.startswith(line.split(" ")[-1].lstrip("'")) for one in found)


def test_the_verb_says_how(cli: Say) -> None:
    assert 'eval "$(bluestab completion bash)"' in cli("completion").out
    assert "compdef _bluestab" in cli("completion", "zsh").out
    assert "did you mean 'fish'" in cli("completion", "fsh").err


def folder_with_command(tmp_path: Path) -> Path:
    """A folder for PATH in which `bluestab` is this Python's."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    script = bin_ / "bluestab"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m bluestab "$@"\n')
    script.chmod(0o755)
    return bin_


@pytest.mark.slow
def test_bash_asks_and_readline_gets_what_follows_the_sign(tmp_path: Path) -> None:
    lines = 'eval "$(bluestab completion bash)"; COMP_LINE="bluestab run task=bios"; ' + (
        'COMP_POINT=${#COMP_LINE}; _bluestab; printf "<%s>" "${COMPREPLY[@]}"'
    )
    path = f"{folder_with_command(tmp_path)}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", lines], capture_output=True, text=True, cwd=tmp_path, env={"PATH": path}
    )
    assert (done.stdout, done.stderr) == ("<biosses >", "")


SHELLS = {
    "bash": (["bash", "--norc", "-i"], 'eval "$(bluestab completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'eval "$(bluestab completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "bluestab completion fish | source"),
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_tab_in_a_terminal(shell: str, tmp_path: Path) -> None:
    """`task=bios` TAB becomes `task=biosses`, `technique.ll` goes on to the knob."""
    command, begin = SHELLS[shell]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    env = {"PATH": f"{folder_with_command(tmp_path)}:/usr/bin:/bin", "HOME": str(tmp_path),
           "TERM": "dumb" if shell != "fish" else "xterm", "PS1": "> "}  # fmt: skip
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=env, cwd=tmp_path,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(follower)
    try:
        until(leader, r"[>\$%#]")
        os.write(leader, f"{begin}; echo rea''dy\n".encode())
        until(leader, "ready")
        os.write(leader, b"echo bluestab; bluestab run task=bios\t")
        until(leader, r"bios(\x1b\S*)*ses ")
        os.write(leader, b"technique.llrd.conv\t")
        until(leader, r"conv(\x1b\S*)*ention=")
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def until(terminal: int, pattern: str, seconds: float = 60) -> str:
    """Read until the pattern has come. Raises AssertionError with what came in its place."""
    seen, end = "", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
        if re.search(pattern, seen):
            return seen
    raise AssertionError(f"{pattern!r} did not come: {seen!r}")
