"""One screen of help for all and for each verb; a verb that does not exist names the one meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import typer

from bluestab.cli.app import app
from bluestab.cli.completion import OVERRIDES, candidates
from bluestab.cli.unknown import known_keys
from bluestab.cli.verbs import EXAMPLES, GROUPS, RUN_HELP, VERBS
from tests.support.refusals import GAD, refused

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


def screens() -> list[tuple[str, ...]]:
    """Every verb, those inside of `store` and `cache` included."""
    found = []
    for verb, command in COMMANDS.items():
        inner = getattr(command, "commands", {"": None})
        found += [tuple(filter(None, (verb, name))) for name in inner]
    return found


ADDED = {("run", "--dry-run"): ("-m", "hydra/launcher=slurm")}
"""Flag of a verb -> with what its line says that it goes."""


@pytest.mark.parametrize("verb", screens(), ids=" ".join)
def test_each_flag_that_is_listed_or_offered_is_taken(cli: Say, verb: tuple[str, ...]) -> None:
    """Alone, in an empty folder, where most verbs refuse for another reason, none for the flag."""
    screen = cli(*verb, "--help", COLUMNS="80").out
    flag_column = re.findall(r"^ +((?:-{1,2}[a-z][a-z-]*(?:, )?)+)", screen, re.MULTILINE)
    listed = re.findall(r"-{1,2}[a-z][a-z-]*", " ".join(flag_column))
    offered = [word.strip() for word in candidates([*verb, "-"], typer.main.get_command(app))]
    assert "--help" in offered
    valued = {
        name for p in command_of(verb).params if not getattr(p, "is_flag", 0) for name in p.opts
    }
    values = {"--cfg": "job", "--info": "plugins", **dict.fromkeys(valued, "100")}
    nothing = ("task=nothing",) if verb[0] in OVERRIDES else ()
    for flag in {*listed, *offered} - {"--help", "--debug"}:  # of all verbs
        value = [values[flag]] if flag in values else []
        said = cli(*verb, *nothing, *ADDED.get((verb[0], flag), ()), flag, *value)
        assert "Traceback" not in said.err
        assert not re.search("no such option|there is no (flag|key)", said.err), said.err
        assert "usage: bluestab [--help]" not in said.err, "the words of Hydra's own parser"


def command_of(verb: tuple[str, ...]) -> Any:
    command = COMMANDS[verb[0]]
    return command.commands[verb[1]] if verb[1:] else command


def test_flags_stand_where_people_put_them(cli: Say) -> None:
    for words in (("run", *GAD, "--cfg", "job", "seed=7"), ("check", *GAD, "seed=7", "-c", "job")):
        said = cli(*words)
        assert (said.code, said.err) == (0, "")
        assert "seed: 7" in said.out
    said = cli("check", *GAD, "-m", "technique=none,reinit", "hydra.launcher.dry_step=false")
    assert said.code == 0, said.err
    assert "in 2 cells" in said.out


def test_what_a_dry_run_is_of_each_verb(cli: Say) -> None:
    assert cli("check", *GAD, "--dry-run", "hydra.launcher.dry_step=false").code == 0
    for words in (("run", *GAD), ("run", "-m", *GAD), ("run", *GAD, "hydra/launcher=slurm")):
        refused(cli, (*words, "--dry-run"), "prints the script of a sweep on SLURM", "check")


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
