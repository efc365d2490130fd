"""Terminal codes in names and messages of others are shown, never obeyed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.printable import counted, printable, printable_lines, printable_tree
from bluestab.store.records import from_text, to_text
from bluestab.store.store import Store
from tests.support.stored_runs import put, run, sweep

CODES = ("\x1b[2J", "\x1b]52;c;aGk=\x07", "\x9b31m", "\r", "\x08", "\u202e", "\u2066", "\x7f")


def test_one_is_no_plural() -> None:
    assert [counted(n, "run") for n in (0, 1, 2, 1234)] == [
        "0 runs",
        "1 run",
        "2 runs",
        "1,234 runs",
    ]
    assert [counted(n, "seed is", "seeds are") for n in (1, 3)] == ["1 seed is", "3 seeds are"]


@pytest.mark.parametrize("code", CODES)
def test_codes_become_signs_that_are_seen(code: str) -> None:
    for found in (printable(f"a{code}b"), printable_lines(f"a{code}b")):
        assert not set(found) & set("\x1b\x07\x9b\r\x08\u202e\u2066\x7f")
        assert found[0] == "a"
        assert found[-1] == "b"
    assert printable_lines("a\n\tb é 漢") == "a\n\tb é 漢"
    assert printable_tree({f"k{code}": [f"v{code}", 3, None]}) == {
        printable_lines(f"k{code}"): [printable_lines(f"v{code}"), 3, None]
    }


@pytest.mark.parametrize("code", CODES)
def test_records_and_manifests_of_strangers(cli: Callable[..., Any], code: str) -> None:
    """In every name, command, override and message: none reaches the terminal or a table."""
    store, records = Store("runs"), [run(0), run(1), run(2, "crashed")]
    evil = f"x{code}y"
    sweep(store, "s", *records)
    file = Path("runs/sweeps/s.json")
    content = json.loads(file.read_text())
    content["command"] = f"bluestab {evil}"
    for one in content["runs"]:
        one["overrides"] = [f"task={evil}"]
    file.write_text(json.dumps(content))
    for record in records:
        names = {"task": evil, "model": evil, "technique": [evil], "seed": 1}
        measured = {**record.measured, "names": names, "command": evil, "host": evil}
        result = dict(record.result)
        if record.status == "crashed":
            result["error"] = {"type": evil, "message": f"{evil}\nmore"}
        put(store, replace(record, result=result, measured=measured))
    for words in (["status"], ["report", "--out", "out"], ["store", "verify"], ["store", "gc"]):
        said = cli(*words)
        assert "Traceback" not in said.err
        assert code not in said.out + said.err, words
    for file in Path("out").rglob("*"):
        if file.suffix in (".csv", ".md", ".tex"):
            assert code.encode() not in file.read_bytes(), file


def test_what_decides_the_key_is_as_it_was(tmp_path: Path) -> None:
    record = run(0)
    evil = {**record.measured, "host": "a\x1b[31mb\x9b"}
    found = from_text(to_text(replace(record, measured=evil)), tmp_path, record.key)
    assert found.measured["host"] == "a?[31mb?"
    assert dict(found.result) == dict(record.result)
