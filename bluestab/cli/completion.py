"""Completion in bash, zsh and fish: verbs, flags, groups with their choices, knobs, files.

The scripts ask `bluestab completion SHELL --words ...` for candidates: whole words, a line each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

BASH = r"""_bluestab() {
    local line="${COMP_LINE:0:COMP_POINT}" current
    local -a words
    read -ra words <<< "$line"
    current="${line##* }"
    [[ -n $current ]] || words+=("")
    mapfile -t COMPREPLY < <(bluestab completion bash --words "${words[@]:1}" 2>/dev/null)
    # readline replaces what follows the last sign of COMP_WORDBREAKS, unless a quote is open
    if [[ $current == *=* && $current != [\'\"]* && $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%%=*}="}")
    fi
}
complete -o nospace -F _bluestab bluestab
"""
ZSH = r"""(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u }
_bluestab() {
    local -a found
    found=("${(@f)$(bluestab completion zsh --words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    found=(${found:#})
    compadd -Q -S '' -- "${(@)found}"
}
compdef _bluestab bluestab
"""
FISH = r"""function __bluestab_words
    set -l words (commandline -opc) (commandline -ct)
    bluestab completion fish --words $words[2..-1] 2>/dev/null | string trim --right
end
complete -c bluestab -f -a '(__bluestab_words)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
HOW = """\
bash: eval "$(bluestab completion bash)"      for good: the same line in ~/.bashrc
zsh:  eval "$(bluestab completion zsh)"       in ~/.zshrc
fish: bluestab completion fish | source       in ~/.config/fish/config.fish"""
OVERRIDES = ("run", "check", "fetch", "inspect", "auto")
FLAGS = {"run": ("-m", "--dry-run"), "check": ("-m", "--dry-run"), "fetch": ("-m",)}
"""Of verbs that hand their words on to Hydra."""
GROUPS = ("task", "model", "model/vision", "technique", "optim", "trainer", "search", "logger",
          "hydra/launcher", "hydra/sweeper")  # fmt: skip
VALUES = {
    "device": ("auto", "cpu", "cuda", "mps"),
    "keep": ("none", "best", "last", "all"),
    "on_oom": ("halve", "crash"),
    "trainer.precision": ("32", "bf16"),
}
INTERNAL = ("check", "fetch", "_target_")


def completion(
    context: typer.Context,
    shell: Annotated[str | None, typer.Argument(help="bash, zsh or fish")] = None,
    words: Annotated[
        list[str] | None, typer.Argument(hidden=True, help="Of a command, for the scripts")
    ] = None,
    ask: Annotated[bool, typer.Option("--words", hidden=True)] = False,
) -> None:
    """Completion for bash, zsh or fish: prints the script.

    Example: eval "$(bluestab completion bash)"
    """
    from bluestab.core.errors import ConfigError, did_you_mean

    if shell is None:
        print(HOW)
    elif shell not in SCRIPTS:
        raise ConfigError(f"no completion for '{shell}'" + did_you_mean(shell, SCRIPTS))
    elif ask:
        print("\n".join(candidates(words or [""], context.find_root().command)))
    else:
        print(SCRIPTS[shell], end="")


def candidates(words: Sequence[str], verbs: Any) -> list[str]:
    """What the last word may become, given those before it (without `bluestab`).

    verbs  the command line as a whole
    """
    *before, current = words
    current = current.lstrip("'\"")
    return [found for found in _options(verbs, before, current) if found.startswith(current)]


def _options(verbs: Any, before: Sequence[str], current: str) -> Iterable[str]:
    words = [word for word in before if not word.startswith("-")]
    command = verbs
    for word in words[:2]:
        command = getattr(command, "commands", {}).get(word, command)
    if current.startswith("-"):
        shown = (param for param in command.params if not getattr(param, "hidden", False))
        own = [name for param in shown for name in param.opts if name[:1] == "-"]
        return [f"{n} " for n in (*own, "--help", *FLAGS.get(words[0] if words else "", ()))]
    if hasattr(command, "commands"):
        return [f"{name} " for name in command.commands]
    verb = words[0]
    if verb in OVERRIDES:
        return _overrides(before, current)
    if verb in ("list", "explain", "completion"):
        return [f"{name} " for name in _names(verb)]
    return _files(current)


def _names(verb: str) -> Iterable[str]:
    from bluestab.core.catalogue import KINDS, files

    if verb != "explain":
        return KINDS if verb == "list" else SCRIPTS
    return [name for kind in KINDS for name in files(kind)]


def _overrides(before: Sequence[str], current: str) -> Iterator[str]:
    from bluestab.cli.names import FILES

    key, sign, value = current.partition("=")
    if sign:
        head = re.match(r"(.*[,\[])?", value)
        begun = f"{key}={head[0] if head else ''}"
        if key in (*FILES, "store", "model.path"):
            yield from (f"{key}={path}" for path in _files(value))
        else:
            open_list = "[" in value and "]" not in value
            yield from (f"{begun}{one}{'' if open_list else ' '}" for one in _values(key))
        return
    yield from (f"{group}=" for group in GROUPS)
    yield from ("+sweeps=", "+sequence=")
    yield from (f"{path}=" for path in _knobs(before, current))


def _values(key: str) -> Iterable[str]:
    """Choices of a group, or of a knob that has few."""
    group = key.lstrip("+")
    if key in GROUPS or group in ("sweeps", "sequence"):
        found = dict.fromkeys(file.stem for folder in _folders(group) for file in _yamls(folder))
        return [name for name in found if group != "hydra/launcher" or name not in INTERNAL]
    return VALUES.get(key, ())


def _knobs(before: Sequence[str], current: str) -> Iterator[str]:
    """Knobs of the primary config, and of the group or technique whose name is typed already."""
    from bluestab.core.paths import conf_dir
    from bluestab.core.reference import knobs_of

    group, dot, rest = current.partition(".")
    chosen = dict(word.split("=", 1) for word in before if "=" in word)
    defaults = {"task": "ncbi_disease", "model": "minilm", "optim": "adamw"}
    if not dot:
        yield from (k.path for k in knobs_of(conf_dir() / "bluestab.yaml")
                    if not k.path.startswith(("hydra", "defaults")))  # fmt: skip
        return
    techniques = group == "technique"
    name = rest.partition(".")[0] if techniques else chosen.get(group, defaults.get(group))
    for folder in _folders(group):
        if techniques and "." not in rest:
            yield from (f"technique.{file.stem}." for file in _yamls(folder))
        elif (file := folder / f"{name or 'default'}.yaml").is_file():
            yield from (f"{group}.{knob.path}" for knob in knobs_of(file)
                        if not re.search("_target_|about|search_space", knob.path))  # fmt: skip


def _folders(group: str) -> list[Path]:
    from bluestab.core.catalogue import KINDS, folders
    from bluestab.core.paths import conf_dir

    kind = "sweep" if group == "sweeps" else group
    return folders(kind) if kind in KINDS else [conf_dir() / group]


def _yamls(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"))


def _files(begun: str) -> Iterator[str]:
    """Paths that begin so; a folder ends in a slash and goes on."""
    from bluestab.core.paths import expanded

    folder, _, name = begun.rpartition("/")
    where = expanded(folder or ("/" if begun.startswith("/") else "."))
    if not where.is_dir():
        return
    for entry in sorted(os.scandir(where), key=lambda entry: entry.name):
        if entry.name.startswith(name or "") and (name or not entry.name.startswith(".")):
            path = f"{begun[: len(begun) - len(name)]}{entry.name}"
            yield f"{path}/" if entry.is_dir() else f"{path} "
