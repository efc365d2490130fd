"""Stores, exports, searches and names of strangers: whatever they hold, one sentence.

Every input below changes one value of a file that bluestab writes itself; `tests/store/test_schema`
does the same with every field of records and manifests, `tests/core/test_plain_files` with yamls,
`tests/models/test_untrusted` with whole tricks. Watched from outside: nothing but a sentence comes
of it, and no file outside the folder in question is created, changed or removed.
"""

from __future__ import annotations

import copy
import json
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import BluestabError, ConfigError
from bluestab.store.schema import is_segment, segment
from bluestab.store.store import Store, parse_manifest
from bluestab.sweeps.plan import _file_name
from bluestab.sweeps.slurm.submission import submissions
from tests.store.test_artefacts import SHORT
from tests.support import simulated_search
from tests.support.hostile_commands import MEGABYTES, SECONDS, outside

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "a negative number": -1,
    "a large number": 10**9,
    "no number": float("nan"),
    "a code": "x\x1b[31m",
    "a way out": "../../outside",
    "a list": [1],
    "a map": {"a": 1},
    "deep": json.loads("[" * 200 + "]" * 200),
}
NAMES = (
    "..", ".", "", "/", "/etc/passwd", "../x", "a/b", "a\\b", "~", "~root", "-rf", ".hidden",
    "a\0b", "a\nb", "a\x1b[2Jb", "a b", "a:b", "a*", "a?", "a|b", "a;b", "$(x)", "`x`", "a'b",
    'a"b', "x" * 300, "\u202egpj.exe", "con/../..", "%2e%2e%2f", "a\tb", "\x7f", "é/ü",
)  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested maps and lists."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> str:
    found = copy.deepcopy(content)
    node = found
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return json.dumps(found)


def inputs(content: Any, every: int = 1) -> list[tuple[str, str]]:
    """(what was changed, text of the file), every so many of them."""
    found = [
        (f"{'.'.join(map(str, path))}: {name}", changed(content, path, value))
        for path in places(content)
        for name, value in VALUES.items()
    ]
    return found[::every]


def sentence(error: BluestabError) -> None:
    """One paragraph of some lines, readable."""
    said = str(error)
    assert said
    assert len(said) < 4000, said[:200]
    assert "Traceback" not in said


def all_are_sentences(tries: list[tuple[str, str]], file: Path, do: Any) -> None:
    """Every text in the place of the file: an answer or a sentence, in time and memory."""
    before, peak = outside(file.parents[2], file.parent), _peak()
    for what, text in tries:
        file.write_text(text)
        begun = time.monotonic()
        try:
            do()
        except BluestabError as error:
            sentence(error)
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        assert time.monotonic() - begun < SECONDS, what
    assert outside(file.parents[2], file.parent) == before
    assert _peak() - peak < MEGABYTES


def _peak() -> int:
    """The most memory that this process had so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_file_names(name: str, tmp_path: Path) -> None:
    """A sweep is not called so; a table of another's is written under a safe name."""
    with pytest.raises(ConfigError, match="it becomes a file name"):
        _file_name(name)
    safe = segment(name)
    assert is_segment(safe)
    assert (tmp_path / f"{safe}.tex").resolve().parent == tmp_path.resolve()
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"name": name, "command": "x", "runs": []}))
    with pytest.raises(BluestabError, match="cannot become a file name"):
        parse_manifest(file)


SEARCH = {
    "name": "s",
    "command": "bluestab run -m",
    "storage": "searches/s/study.journal",
    "storage_is_in": "store",
    "folder": "/nowhere",
    "asked": {"fixed": simulated_search.FIXED, "choices": simulated_search.CHOICES},
    "group": 1,
}


@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_searches(tmp_path: Path, every: int, small: Path) -> None:
    from bluestab.sweeps.search.reading import read_trials
    from bluestab.sweeps.search.saved import read_search

    content = copy.deepcopy(SEARCH)
    content["asked"]["node"] = simulated_search.node()  # type: ignore[index]
    root = tmp_path / "store"
    file = root / "searches" / "s" / "search.json"
    file.parent.mkdir(parents=True)

    def read() -> None:
        read_trials(read_search(root, "s"))

    all_are_sentences(inputs(content, every), file, read)
    assert sorted(p.name for p in file.parent.iterdir()) == ["search.json"], "nothing is created"


ORDERS = {
    "sweep": "s",
    "store": "/nowhere",
    "folder": "/nowhere",
    "command": "x",
    "environment": {},
    "launcher": {},
    "tasks": 1,
    "crashes": {},
    "configs": [{"store": "x", "logger": {}}],
    "runs": [{"key": "0" * 16, "config": 0, "seed": 1, "said": ["a=1"]}],
}


def test_orders_of_slurm(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    file = store.root / ".slurm" / "s.1" / "orders.json"
    file.parent.mkdir(parents=True)

    def read() -> None:
        for one in submissions(store, "s"):
            assert (one.sweep, one.tasks >= -1, type(one.keys)) == ("s", True, set)

    all_are_sentences(inputs(ORDERS), file, read)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["bluestab.json", "config.json", "tokenizer_config.json"])
def test_exports(make_run: Any, made: Path, tmp_path: Path, name: str, every: int) -> None:
    """The numbers, names and files that an export promises; loaded and asked for an answer."""
    from bluestab.core.types import Example
    from bluestab.inference.export import export
    from bluestab.inference.predictor import Predictor
    from bluestab.inference.weights import find_run, open_weights
    from tests.training.test_execute import done

    if not (made / "out").exists():
        run = make_run("task=gad", "model=tiny", *SHORT, "keep=last")
        done(run, made / "runs")
        export(find_run(run.key, Store(made / "runs")), made / "out", "cpu")
    folder = tmp_path / "in" / "out"
    shutil.copytree(made / "out", folder)
    content = json.loads((folder / name).read_text())

    def answer() -> None:
        weights = open_weights([str(folder)], Store(tmp_path / "none"))
        blank = weights[0].task.output.blank(weights[0].labels, "a gene")
        Predictor(weights, "cpu").answers([Example("1", "a gene", None, blank)])

    all_are_sentences(inputs(content, every), folder / name, answer)


def test_the_list_is_long() -> None:
    """Four hundred and more, without those of other files."""
    content = {**SEARCH, "asked": {**SEARCH["asked"], "node": simulated_search.node()}}  # type: ignore[dict-item]
    assert len(inputs(content)) + len(inputs(ORDERS)) + len(NAMES) > 400
