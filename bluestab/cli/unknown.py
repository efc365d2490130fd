"""What does not exist: one sentence with the way out, however a key or a choice was written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf

from bluestab.cli.foreign_names import CHOICES, INSTEAD, RENAMED
from bluestab.core.catalogue import KINDS, files, outer_level_problems
from bluestab.core.config import compose
from bluestab.core.errors import did_you_mean, nearest
from bluestab.core.paths import conf_dir
from bluestab.core.provenance import command_line

SIMILAR = 0.72  # of names that may be meant; below, the names that there are say more
ASIDE = re.compile(r"\.(about|recipe|sha256)\.|_target_")  # keys that nobody means
MANY = 12  # names that a sentence may hold


def unknown_key(key: str) -> str:
    """Of a key that no config has: what other tools call so, the same name elsewhere, a similar
    one below the same group, else what there is in that group."""
    known = known_keys()
    head, value = f"there is no key '{key}'", _typed_value(key)
    group, _, name = key.rpartition(".")
    if key.replace("/", ".") in known:
        return head + _meant(key.replace("/", "."))
    if found := instead_of("sequence" if key.startswith("sequence.") else key, value):
        return f"{head}; {found}"
    if own := _elsewhere(key, known):
        return head + _meant(*own)
    top = key.partition(".")[0]
    if top in files("technique"):
        return f"{head}; knobs of {top} are set as technique.{key}=... where technique={top} is"
    while group and group not in known:
        group = group.rpartition(".")[0]
    below = [k for k in known if k.rpartition(".")[0] == group]
    shown = [k for k in below if not k.endswith("._target_")]
    if close := nearest(name, [k.rpartition(".")[2] for k in below], SIMILAR):
        return head + _meant(f"{group}.{close[0]}".lstrip("."))
    if not shown and group == "model.vision":
        return f"{head} where model.vision is null; say model/vision=conv, patch or frozen"
    where = f"below {group} there are" if group else "at the top there are"
    names = ", ".join(k.rpartition(".")[2] for k in shown)
    return f"{head}; {where} {names} (bluestab explain KEY says what each is)"


def instead_of(name: str, value: str = "") -> str | None:
    """What is typed here in place of a name of another tool; None where it is no such name."""
    for part in (name, name.rpartition(".")[2]):
        part = re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_")
        if part in RENAMED:
            here = RENAMED[part]
            return f"here it is {here}" + (f": {here}={value}" if value else "")
        if part in INSTEAD:
            return INSTEAD[part]
    return None


def _elsewhere(key: str, known: Iterable[str]) -> list[str]:
    """Keys of the same last part in other groups; the key itself, if it was written otherwise."""
    name = key.rpartition(".")[2].lower().replace("-", "_")
    found = [k for k in known if k.rpartition(".")[2] == name and not ASIDE.search(k)]
    same = [k for k in found if k.lower() == key.lower().replace("-", "_")]
    return same or found if len(found) <= 3 else []


def unknown_choice(group: str, name: str, options: Sequence[str]) -> str:
    """Of a choice that its group does not have."""
    group, _, folder = group.partition("/") if not group.startswith("hydra/") else (group, "", "")
    whole = f"{folder}/{name}" if folder else name
    kind = "sweep" if group == "sweeps" else group
    options = [o for o in options if o not in ("basic", "check", "fetch")]
    head = f"there is no {kind} '{whole}'"
    if kind == "model" and (ours := _of_hub(whole)):
        return head + _meant(ours)
    other = CHOICES.get(kind, {}).get(re.sub(r"[^a-z0-9]+", "_", name.lower()))
    if other:
        return f"{head}; here it is {kind}={other}"
    stem = name.removesuffix(".yaml")
    if stem != name and stem in options:
        return head + _meant(stem)
    if kind == "task" and re.search(r"\.(csv|tsv|jsonl?|parquet|conll|txt)$", name):
        return f"{head}; for data of your own: task=classification task.train={whole}"
    several = re.split(r"[+ &]+", name)
    if kind == "technique" and len(several) > 1 and set(several) <= set(options):
        return f"{head}; several in one run are a list: 'technique=[{','.join(several)}]'"
    if kind == "model" and folder == "vision":
        return f"there is no {group}/vision '{name}'" + did_you_mean(name, options)
    if kind == "model" and folder:
        return (
            f"{head}; one that no yaml names: model=auto model.hub={whole}, or of a folder with "
            f"its config.json, model.safetensors and tokenizer: model=auto model.path={whole}"
        )
    if len(options) > MANY and not nearest(name, options):
        shown = f"bluestab list {kind}" if kind in KINDS else "bluestab run --help"
        return f"{head}; {shown} shows all {len(options)}"
    return head + did_you_mean(name, options)


def unknown_technique_knob(key: str, parts: Sequence[str]) -> str:
    """A knob of a technique that the run lacks, or that the technique does not have."""
    name, every = parts[1], files("technique")
    if name not in every:
        return f"{key}: " + unknown_choice("technique", name, list(every))
    nodes: Any = OmegaConf.to_container(compose([f"technique={name}"]).technique, resolve=False)
    if wrong := outer_level_problems("technique", nodes):
        return "; ".join(wrong)
    knobs = [k for k in nodes.get(name, {}) if k not in ("_target_", "search_space")]
    if len(parts) == 2:
        first = f" technique.{name}.{knobs[0]}=..." if knobs else ""
        return f"'{key}' is no value but the knobs of {name}; say technique={name}{first}"
    if parts[2] not in nodes.get(name, {}):
        return f"there is no key '{key}'" + did_you_mean(
            key, [f"technique.{name}.{knob}" for knob in knobs]
        )
    return f"{key} is set, but the run does not use {name}; add technique={name}"


def _meant(*keys: str) -> str:
    return f"; did you mean {' or '.join(map(repr, keys))}?"


def known_keys(chosen: Sequence[str] | None = None) -> list[str]:
    """Every key of the config that these choices make; None: those of the command at hand."""
    if chosen is None:
        chosen = [
            w for w in shlex.split(command_line()) if re.match(r"(task|model(/vision)?)=\w+$", w)
        ]
    try:
        config = compose(chosen)
    except HydraException:  # a choice that is refused, too
        config = compose([])
    node: Any = OmegaConf.to_container(config, resolve=False)
    return list(_paths(node))


def _paths(
    node: Mapping[str, Any], path: str = "", hidden: Collection[str] = ("hydra",)
) -> Iterator[str]:
    for key, value in node.items():
        if key not in hidden:
            yield f"{path}{key}"
            if isinstance(value, Mapping):
                yield from _paths(value, f"{path}{key}.", ())


def _typed_value(key: str) -> str:
    """What the command sets the key to; empty where nothing plain is set."""
    for word in shlex.split(command_line()):
        name, sign, value = word.partition("=")
        if sign and name.lstrip("+-") == key and re.fullmatch(r"[\w./~:-]+", value):
            return value
    return ""


def _of_hub(name: str) -> str | None:
    """Our yaml for a model of the hub, with or without the name of its owner."""
    for file in sorted((conf_dir() / "model").glob("*.yaml")):
        hub = re.search(r"^hub: (\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        if hub and name.lower() in (hub[1].lower(), hub[1].lower().rpartition("/")[2]):
            return file.stem
    return None
