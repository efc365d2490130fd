"""How a command is written: flags in place of KEY=VALUE, blanks round the sign, brackets and quotes
that a shell or a word processor changed. Each is refused with the words that were meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from bluestab.cli.names import FILES, NAMES
from bluestab.cli.unknown import instead_of, known_keys
from bluestab.core.catalogue import KINDS, files
from bluestab.core.errors import ConfigError, nearest

ALONE = ("-m", "--multirun", "-r", "--run", "--help", "-h", "--hydra-help", "--version",
         "--resolve", "--debug")  # fmt: skip
WITH_VALUE = ("-c", "--cfg", "-p", "--package", "-i", "--info", "-cn", "--config-name", "-cp",
              "--config-path", "-cd", "--config-dir", "--experimental-rerun")  # fmt: skip
WINDOWS = re.compile(r"[A-Za-z]:(?!\Z)")
DATA = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".conll", ".txt")
SHOWN = "--cfg job, --info, --debug and those that --help shows"
CURLY = str.maketrans("\u2018\u2019\u201a\u201c\u201d\u201e\u2010\u2011\u2012\u2013\u2014\u2212",
                      "'''\"\"\"------")  # fmt: skip
"""Quotation marks and dashes of word processors -> those of a shell."""


def check_spelling(arguments: Sequence[str]) -> None:
    """Raises ConfigError for the first word that is no flag and no KEY=VALUE: what was meant."""
    words = list(arguments)
    chosen = list(dict.fromkeys(w for w in words if w.startswith("technique=")))
    if len(chosen) > 1:
        names = ",".join(word.partition("=")[2].strip("[]") for word in chosen)
        raise ConfigError(f"{' '.join(chosen)}: one of them would win; {_both(names)}")
    before = ""
    while words:
        word, rest = words[0], words[1:]
        if "=" not in word and before.partition("=")[0] in NAMES:  # a name with a blank in it
            return
        before = word
        if word in WITH_VALUE:
            words = rest[1:] if rest and "=" not in rest[0] else rest
            continue
        if problem := _problem(word, rest):
            raise ConfigError(problem)
        words = rest


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Hydra's parser takes overrides in one row alone; people put flags anywhere among them."""
    words = list(arguments)
    flags: list[str] = []
    overrides: list[str] = []
    while words:
        word = words.pop(0)
        (flags if word.startswith("-") else overrides).append(word)
        if word in WITH_VALUE:
            given = bool(words) and "=" not in words[0] and not words[0].startswith("-")
            flags += [words.pop(0)] if given else ["all"] if word in ("-i", "--info") else []
    return [*flags, *overrides]


def _problem(word: str, rest: Sequence[str]) -> str | None:
    key, _, value = word.partition("=")
    if any(text[:1].translate(CURLY) != text[:1] for text in (word, "" if key in NAMES else value)):
        return f"{word} holds marks of a word processor; type it anew: {word.translate(CURLY)}"
    if word.startswith("-"):
        known = (*ALONE, *WITH_VALUE)
        if key in ALONE and key != word:
            return f"{word}: the flag {key} takes no value"
        return None if word.partition("=")[0] in known else _flag(word, rest)
    if "=" in word or word.startswith("~"):
        return _override(word, rest)
    return _lone_word(word, rest)


def _flag(word: str, rest: Sequence[str]) -> str:
    """`--learning_rate 3e-5`, `--seed=3`, `--mulitrun`."""
    name, sign, value = word.lstrip("-").partition("=")
    if name in ("sc", "shell-completion"):
        return f'{word} is for other Hydra programs; say eval "$(bluestab completion bash)"'
    if close := nearest(f"--{name}", (*ALONE, *WITH_VALUE, "--multi-run"), 0.8):
        return f"there is no flag {word}; did you mean {close[0].replace('multi-run', 'multirun')}?"
    if not sign and rest and not rest[0].startswith("-") and "=" not in rest[0]:
        value = rest[0]
    said = f"{word} {value}" if value and not sign else word
    if own := _own_key(name):
        return f"{said}: knobs are set without dashes: {own}={value or '...'}"
    if found := instead_of(name, value):
        return f"{said}: knobs are set without dashes, as KEY=VALUE; {found}"
    return f"there is no flag {word}; knobs are set as KEY=VALUE, flags are {SHOWN}"


def _own_key(name: str) -> str | None:
    """The key or the group of this name, with dashes for underscores or without its group."""
    text = name.lower().replace("-", "_")
    known = known_keys()
    if text in known or text in ("task", "model", "technique"):
        return text
    found = [k for k in known if k.rpartition(".")[2] == text and ".recipe." not in k]
    return found[0] if len(found) == 1 else None


def _override(word: str, rest: Sequence[str]) -> str | None:
    """What a blank or a bracket cut off, or put in front."""
    key, _, value = word.partition("=")
    if word.startswith("="):
        return f"{word}: no blanks round the sign: KEY{word}"
    if key != key.strip() or (value.startswith(" ") and key not in NAMES):
        return f"{word}: no blanks round the sign: {key.strip()}={value.strip()}"
    if value.startswith("="):
        return f"{word}: one sign is enough: {key}={value.lstrip('=')}"
    following = [w for w in rest if not w.startswith("-")][:1]
    if following and "=" not in following[0]:
        if not value:
            return f"{word} {following[0]}: no blanks round the sign: {word}{following[0]}"
        if value[-1] in ",[" or value.count("[") > value.count("]"):
            return _joined(word, rest)
    if key in (*FILES, "store", "model.path") and WINDOWS.match(value) and not Path(value).exists():
        path = f"/mnt/{value[0].lower()}/" + value[2:].replace("\\", "/").strip("/")
        return f"{word} is a path of Windows; in WSL it is {key}={path}"
    names = re.findall(r"\w+", value)
    odd = re.search(r"[(){}]", value) or value.count("[") != value.count("]")
    if key == "technique" and odd and set(names) <= {*files("technique")}:
        return f"{word!r}: {_both(','.join(names))}"
    return None


def _both(names: str) -> str:
    return (
        f"several in one run are a list, with quotes in the shell: 'technique=[{names}]'; arms of "
        f"a sweep are -m technique={names}"
    )


def _joined(word: str, rest: Sequence[str]) -> str:
    """`technique=[freeze, llrd]` without quotes reaches us as two words."""
    parts = [word]
    for more in rest:
        if "=" in more or more.startswith("-"):
            break
        parts.append(more)
    return f"{' '.join(parts)}: a list holds no blanks, or stands in quotes: " + shlex.quote(
        "".join(parts)
    )


def _lone_word(word: str, rest: Sequence[str]) -> str | None:
    """`seed 3`, `seed = 3`, `seed: 3`, or the name of something that can be chosen."""
    following = rest[0] if rest else ""
    if following == "=":
        following += " ".join(["", *rest[1:2]])
    key = word.rstrip(":")
    if following.startswith("=") or (following and key in known_keys()):
        return f"{word} {following}: no blanks round the sign: {key}={following.lstrip('= ')}"
    if match := re.fullmatch(r"([\w./]+):(.+)", word):
        return f"{word}: a knob is set with the sign =: {match[1]}={match[2]}"
    if Path(word).suffix in DATA:
        return (
            f"'{word}' is no KEY=VALUE; for data of your own: task=classification task.train={word}"
        )
    name = Path(word).stem if word.endswith(".yaml") else word
    for kind in KINDS:
        if name in files(kind):
            line = f"bluestab run -m +sweeps={name}" if kind == "sweep" else f"{kind}={name}"
            return f"'{word}' is no KEY=VALUE, but the name of a {kind}; say {line}"
    return None
