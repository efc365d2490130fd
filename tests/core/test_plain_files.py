"""A yaml that would fill memory or never end is refused at once, before anything is built of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import ConfigError
from bluestab.core.paths import conf_dir, sweeps_dir
from bluestab.core.plain_files import check_yaml, inside

NINE = ",".join(["*{}"] * 9)
LETTERS = list(zip("abcdefgh", "bcdefghi", strict=True))
MAPS = [("a", "k0"), *((f"k{i}", f"k{i + 1}") for i in range(30))]
BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{NINE.replace('{}', a)}]\n" for a, b in LETTERS),
    "aliases of maps": "a: &a {x: 1, y: 2}\n"
    + "".join(f"{b}: &{b} {{p: *{a}, q: *{a}}}\n" for a, b in MAPS),
    "brackets": "a: " + "[" * 20_000,
    "braces": "a: " + "{a: " * 5_000,
    "brackets on lines": "a: " + "[\n" * 5_000,
    "blocks": "".join(" " * i + "a:\n" for i in range(900)),
    "dashes": "- " * 5_000 + "x",
    "keys": "? " * 5_000,
    "size": "a: b\n" * 300_000,
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("folder", ["sweeps", "conf/task"])
def test_bombs_are_refused_at_once(cli: Callable[..., Any], kind: str, folder: str) -> None:
    file = Path(folder) / "bomb.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(BOMBS[kind])
    begun = time.process_time()
    with pytest.raises(ConfigError, match=r"bomb\.yaml"):
        check_yaml(file)
    for words in (("run", "-m", "+sweeps=bomb"), ("check", "task=bomb")):
        said = cli(*words)
        assert said.code == 2
        assert "bomb.yaml" in said.err
        assert "Traceback" not in said.err
    said = cli("list", "sweep" if folder == "sweeps" else "task")
    assert said.code == 0
    assert "cannot be read" in said.out or folder == "sweeps"
    assert time.process_time() - begun < 10


def test_ours_and_modest_aliases_pass(tmp_path: Path) -> None:
    for folder in (conf_dir(), sweeps_dir()):
        for file in folder.rglob("*.yaml"):
            check_yaml(file)
    own = tmp_path / "own.yaml"
    own.write_text(
        "a: &a {lr: 1.0e-5}\n" + "".join(f"b{i}: {{<<: *a, n: {i}}}\n" for i in range(500))
    )
    check_yaml(own)
    own.write_text("a: [unfinished")  # is another's to say
    check_yaml(own)
    check_yaml(tmp_path / "nowhere.yaml")


def test_loops_of_links_are_a_sentence_or_nothing(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Path.resolve ends in a RuntimeError there."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    export = tmp_path / "export"
    export.mkdir()
    (export / "README.md").symlink_to(loop)
    with pytest.raises(ConfigError, match="leads out of"):
        inside(export, "README.md", "bluestab.json")
    for name in ("sweeps", "conf"):
        Path(name).symlink_to(name)
    for words in (("list", "sweep"), ("list", "task"), ("check", "task=gad", "model=tiny")):
        said = cli(*words)
        assert (said.code, "Traceback" in said.err) == (0 if words[0] == "list" else 2, False), said


@pytest.mark.parametrize("path", ["loop", "~nobody-of-this-name/x"])
def test_a_model_path_that_leads_nowhere(cli: Callable[..., Any], path: str) -> None:
    Path("loop").symlink_to("loop")
    said = cli("check", "task=gad", "model=auto", f"model.path={path}")
    assert said.code == 2
    assert said.err.startswith("bluestab: ")


def test_a_reference_of_a_logger_is_text_when_it_is_read(tmp_path: Path) -> None:
    """Reading a stored config never needs the variable; elsewhere `${` is refused as before."""
    from bluestab.core.plain_files import read_yaml

    file = tmp_path / "config.yaml"
    file.write_text("logger: {mlflow: {uri: '${oc.env:NOWHERE}'}}\ntask: {name: gad}\n")
    found = read_yaml(file, may_refer=("logger",))
    assert found["logger"] == {"mlflow": {"uri": "${oc.env:NOWHERE}"}}
    with pytest.raises(ConfigError, match=r"has '\$\{' in logger"):
        read_yaml(file)
    file.write_text("logger: {}\ntask: {name: '${oc.env:NOWHERE}'}\n")
    with pytest.raises(ConfigError, match=r"has '\$\{' in task"):
        read_yaml(file, may_refer=("logger",))
