"""One screen of help for all and for each verb; a verb that does not exist names the one meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import typer

from bluestab.cli.app import app
from bluestab.cli.unknown import known_keys
from bluestab.cli.verbs import EXAMPLES, GROUPS, RUN_HELP, VERBS
from tests.support.refusals import refused

Say = Callable[..., Any]
COMMANDS: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", ["", *COMMANDS])
def test_help_is_a_screen(cli: Say, verb: str) -> None:
    said = cli(*filter(None, [verb]), "--help", COLUMNS="80")
    lines = said.out.splitlines()
    assert (said.code, said.err) == (0, "")
    assert len(lines) <= (60 if verb == "predict" else 48)
    assert max(map(len, lines)) <= 80
    assert not any(line.endswith("...") for line in lines if "Usage" not in line)


def test_the_first_screen_has_every_verb_with_a_line(cli: Say) -> None:
    lines = cli("--help").out.splitlines()
    assert len(lines) <= 40
    for verb in COMMANDS:
        (line,) = (line for line in lines if line.startswith(f"  {verb} "))
        assert len(line.split()) > 3
    assert {*COMMANDS} - {name for names in GROUPS.values() for name in names} == set()


def test_what_the_screen_of_run_names_exists() -> None:
    knobs = RUN_HELP.partition("Knobs")[2].partition("Examples")[0].split("\n", 1)[1]
    names = {word.strip(",") for line in knobs.splitlines() for word in line.split("  ") if word}
    own = {"technique.NAME.KNOB", "sweep.seeds, with -m"}
    there = {*known_keys(["task=classification"])}
    assert {name.strip() for name in names} - there - own == set()
    assert set(EXAMPLES) == {"run", "check"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["train"], "say bluestab run"),
        (["trian"], "say bluestab run"),
        (["fine-tune"], "say bluestab run"),
        (["sweep", "-m"], "say bluestab run -m"),
        (["Run"], "say bluestab run"),
        (["rnu"], "did you mean 'run'?"),
        (["evaluate"], "say bluestab report"),
        (["models"], "say bluestab list"),
        (["download"], "say bluestab fetch"),
        (["resume"], "the same command again goes on"),
        (["version"], "say bluestab --version"),
        (["task=gad"], "the verb is missing: bluestab run task=gad"),
        (["+sweeps=quickstart"], "bluestab run -m +sweeps=quickstart"),
        (["-m", "task=gad"], "-m belongs to a verb"),
        (["report", "--bsline"], "--baseline"),
        (["predict"], "missing argument"),
        (["status", "--every", "x"], "--every"),
        (["list", "technique", "model"], "bluestab list --help"),
    ],
)
def test_verbs_and_flags_that_do_not_exist(cli: Say, typed: list[str], meant: str) -> None:
    said = refused(cli, typed, meant)
    assert said.count("\n") == 1


def test_verbs_that_are_named_exist() -> None:
    for here in VERBS.values():
        verb = here.split()[0]
        assert verb in COMMANDS or verb in ("--help", "--version")


def test_version(cli: Say) -> None:
    import bluestab

    assert cli("--version").out == f"bluestab {bluestab.__version__}\n"


LONG = "x" * 300
NAMED_TOO_LONG = (
    *(("status", LONG), ("report", LONG), ("report", "--out", LONG), ("search", LONG)),
    *(("store", "gc", LONG), ("store", "verify", LONG), ("store", "merge", LONG, LONG)),
    *(("predict", LONG, "--input", "a", "--output", "b"), ("export", LONG, "--out", "o")),
    *(("reproduce", LONG), ("soup", LONG), ("compare", LONG, LONG), ("cancel", LONG)),
    ("run", "task=gad", "model=tiny", f"store={LONG}"),
    ("check", "task=gad", "model=auto", f"model.path={LONG}"),
    ("check", "task=gad", "model=tiny", f"task.data_dir={LONG}"),
    ("inspect", "task=classification", f"task.train={LONG}"),
    ("list", "task", LONG),
)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(w, marks=() if n == 14 else pytest.mark.slow)
        for n, w in enumerate(NAMED_TOO_LONG)
    ],
    ids=lambda words: " ".join(words)[:24],
)
def test_a_name_that_no_file_system_takes(cli: Say, words: tuple[str, ...]) -> None:
    """Path.is_file and the like raise OSError for it, as for a folder that may not be entered."""
    said = cli(*words)
    assert said.code in (1, 2)
    assert said.err.startswith("bluestab: ")
    assert "Traceback" not in said.err
