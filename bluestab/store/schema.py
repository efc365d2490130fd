"""What a record and a manifest may hold: files of strangers are checked before anything reads them.

Every reader of a store goes through `check_record` or `check_manifest`, so that a wrong type is one
sentence about one file, and never a failure somewhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from bluestab.core.types import SPLITS, WEIGHTS_TO_KEEP

DEEPEST = 40
"""Levels of nesting; those of the deepest record that bluestab writes are a dozen."""

MOST_RUNS = 250_000
"""Of one sweep; 100,000 can be asked for at once (sweeps/grid.py)."""

HEX = re.compile(r"[0-9a-f]{16}")
SEGMENT = re.compile(r"\w[\w.+-]{0,199}")
"""A name that may become a file name: one segment, no sign that a path or a shell knows."""

Check = Callable[[Any], bool]


def is_segment(value: Any) -> bool:
    """Whether a name can be a file name as it stands: letters, digits, `. _ + -`, no dot first."""
    return isinstance(value, str) and SEGMENT.fullmatch(value) is not None


def segment(name: object) -> str:
    """Any name as one safe part of a file name; a safe name is its own."""
    text = re.sub(r"[^\w.+-]", "_", str(name))[:200]
    return text if SEGMENT.fullmatch(text) else f"_{text.lstrip('.')}"[:200]


def _of(*kinds: type) -> Check:
    return lambda v: isinstance(v, kinds) and (bool in kinds or not isinstance(v, bool))


def _null_or(check: Check) -> Check:
    return lambda v: v is None or check(v)


def _map_of(check: Check) -> Check:
    return lambda v: isinstance(v, dict) and all(check(one) for one in v.values())


def _list_of(check: Check) -> Check:
    return lambda v: isinstance(v, list) and all(map(check, v))


TEXT, WHOLE, NUMBER = _of(str), _of(int), _of(int, float)
KEY: Check = lambda v: isinstance(v, str) and HEX.fullmatch(v) is not None  # noqa: E731
AT = tuple(WEIGHTS_TO_KEEP["all"])


def _by_at(check: Check) -> Check:
    return lambda v: isinstance(v, dict) and v.keys() >= {*AT} and all(map(check, v.values()))


def _scored(value: Any) -> bool:
    """Split -> metric -> number or null; validation and test are there."""
    known = isinstance(value, dict) and value.keys() <= {*SPLITS}
    return (
        known
        and {"validation", "test"} <= value.keys()
        and _map_of(_map_of(_null_or(NUMBER)))(value)
    )


RESULT: Mapping[str, tuple[Check, str]] = {
    "key": (KEY, "16 hexadecimal digits"),
    "cell": (KEY, "16 hexadecimal digits"),
    "config": (_map_of(lambda _: True), "a map"),
    "status": (lambda v: v in ("done", "diverged", "crashed"), "done, diverged or crashed"),
    "metric": (TEXT, "a name"),
    "metrics": (_null_or(_by_at(_scored)), "null, or numbers by last|best, split and metric"),
    "score": (_null_or(_by_at(NUMBER)), "null, or a number for last and best"),
    "degenerate": (_null_or(_map_of(_of(bool))), "null, or true|false for last and best"),
    "failed_below": (_null_or(NUMBER), "a number"),
    "failure_score": (_null_or(NUMBER), "a number"),
    "steps": (_null_or(WHOLE), "null or a whole number"),
    "warmup_steps": (_null_or(WHOLE), "null or a whole number"),
    "best_step": (_null_or(WHOLE), "null or a whole number"),
    "items": (_null_or(_map_of(WHOLE)), "null, or whole numbers by split"),
    "truncated": (_null_or(_map_of(WHOLE)), "null, or whole numbers by split"),
    "lost": (_null_or(_of(dict)), "null or a map"),
    "parameters": (_null_or(_of(dict)), "null or a map"),
    "effects": (_null_or(_of(dict)), "null or a map"),
    "censored": (_null_or(_of(dict)), "null or a map"),
    "earlier": (_list_of(_of(dict)), "a list of maps"),
    "micro_batch": (_null_or(WHOLE), "null or a whole number"),
    "error": (
        _null_or(lambda v: isinstance(v, dict) and TEXT(v.get("type")) and TEXT(v.get("message"))),
        "null, or type and message",
    ),
}
"""Field of a result -> what it may hold; those after `metric` may be absent."""

MEASURED: Mapping[str, tuple[Check, str]] = {
    "names": (
        lambda v: (
            isinstance(v, dict)
            and TEXT(v.get("task"))
            and TEXT(v.get("model"))
            and _list_of(TEXT)(v.get("technique"))
            and WHOLE(v.get("seed"))
            and _null_or(_of(dict))(v.get("init_from"))
        ),
        "task, model, technique (a list) and seed",
    ),
    "seconds": (_map_of(NUMBER), "seconds by phase"),
    "files": (_null_or(_map_of(TEXT)), "null, or digests by name of file"),
    "phases": (_null_or(_map_of(NUMBER)), "seconds by phase"),
    "versions": (_null_or(_map_of(TEXT)), "versions by package"),
    "command": (_null_or(TEXT), "a text"),
    "commit": (_null_or(TEXT), "null or a text"),
    "dirty": (_null_or(_of(bool)), "null, true or false"),
    "host": (_null_or(TEXT), "a text"),
    "device": (_null_or(TEXT), "a text"),
    "precision": (_null_or(_of(str, int)), "a text"),
    "finished": (_null_or(TEXT), "a time"),
    "packed": (_null_or(_of(dict)), "null or a map"),
    "memory": (_null_or(_map_of(WHOLE)), "bytes by part"),
}
"""Field of what was measured -> what it may hold; those after `files` may be absent."""

NEEDED = {
    "result": ("key", "cell", "config", "status", "metric"),
    "measured": ("names", "seconds", "files"),
}

RUN: Mapping[str, tuple[Check, str]] = {
    "key": (KEY, "16 hexadecimal digits"),
    "overrides": (_list_of(TEXT), "a list of texts"),
    "cell": (_null_or(KEY), "16 hexadecimal digits"),
    "seed": (_null_or(WHOLE), "a whole number"),
    "lends": (_null_or(_of(bool)), "true or false"),
}


LAUNCH: Mapping[str, tuple[Check, str]] = {
    "asked": (WHOLE, "a whole number"),
    "done": (WHOLE, "a whole number"),
    "added_to": (_list_of(KEY), "a list of cells, 16 hexadecimal digits each"),
    "command": (TEXT, "a text"),
}


def check_record(content: Any) -> None:
    """Raises ValueError with what is wrong with a record of the present schema."""
    _check_depth(content)
    for part, fields in (("result", RESULT), ("measured", MEASURED)):
        node = content[part]
        if not isinstance(node, dict):
            raise ValueError(f"{part} is {_short(node)}, not a map")
        if lacking := [name for name in NEEDED[part] if name not in node]:
            raise ValueError(f"it lacks {lacking[0]!r}")
        _check_fields(node, fields, part)
    if content["result"]["status"] == "done":
        for name in ("metrics", "score"):
            if name in content["result"] and content["result"][name] is None:
                raise ValueError(f"its status is done, but result.{name} is null")


def check_manifest(content: Any) -> None:
    """Raises ValueError with what is wrong with the manifest of a sweep."""
    _check_depth(content)
    if not isinstance(content, dict):
        raise ValueError(f"it is {_short(content)}, not a map")
    for name in ("name", "command", "runs"):
        if name not in content:
            raise ValueError(f"it lacks {name!r}")
    if not is_segment(content["name"]):
        raise ValueError(
            f"its name is {_short(content['name'])}, which cannot become a file name: expected "
            "letters, digits and . _ + -, a letter or digit first"
        )
    if not TEXT(content["command"]):
        raise ValueError(f"command is {_short(content['command'])}, not a text")
    if not isinstance(content["runs"], list):
        raise ValueError(f"runs is {_short(content['runs'])}, not a list")
    if len(content["runs"]) > MOST_RUNS:
        raise ValueError(f"it lists {len(content['runs']):,} runs; at most {MOST_RUNS:,} are read")
    for n, run in enumerate(content["runs"]):
        if not isinstance(run, dict) or not {"key", "overrides"} <= run.keys():
            raise ValueError(f"runs[{n}] is {_short(run)}, not a map with key and overrides")
        _check_fields(run, RUN, f"runs[{n}]")
    if not _map_of(lambda _: True)(content.get("declared", {})):
        raise ValueError(f"declared is {_short(content['declared'])}, not a map")
    if "confirms" in content and not _is_confirmation(content["confirms"]):
        raise ValueError(f"confirms is {_short(content['confirms'])}: expected sweep and arms")
    if not _map_of(lambda _: True)(content.get("settled", {})):
        raise ValueError(f"settled is {_short(content['settled'])}, not a map")
    for n, launch in enumerate(_launches(content.get("launches", []))):
        if not isinstance(launch, dict) or not launch.keys() >= LAUNCH.keys():
            raise ValueError(f"launches[{n}] is {_short(launch)}: expected {', '.join(LAUNCH)}")
        _check_fields(launch, LAUNCH, f"launches[{n}]")


def _is_confirmation(value: Any) -> bool:
    """The sweep that chose, and of every cell its role and the name of its arm."""
    arms = value.get("arms") if isinstance(value, dict) and TEXT(value.get("sweep")) else None
    return _map_of(lambda one: _map_of(TEXT)(one) and one.keys() == {"role", "arm"})(arms)


def _launches(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"launches is {_short(value)}, not a list")
    return value


def _check_fields(
    node: Mapping[str, Any], fields: Mapping[str, tuple[Check, str]], where: str
) -> None:
    for name, (check, expected) in fields.items():
        if name in node and not check(node[name]):
            raise ValueError(f"{where}.{name} is {_short(node[name])}, not {expected}")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        inner = [node for node in level if isinstance(node, dict | list)]
        if not inner:
            return
        level = [c for node in inner for c in (node.values() if isinstance(node, dict) else node)]
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
