"""A model yaml -> network, head, layer map: the only file that knows transformers' models.

A model is described by one yaml: where its weights are, which of its parts are embeddings, blocks
and pooler, and the facts that `check` needs before anything is loaded; the facts are verified when
it is. Heads are transformers' own, so that plain transformers loads what we save.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bluestab.caching import Shared
from bluestab.errors import ConfigError, did_you_mean
from bluestab.layers import LayerMap, layer_map
from bluestab.seeding import generator
from bluestab.sources import sha256_of
from bluestab.types import ModelFacts

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerFast

Head = Literal["sequence", "token"]
HUB_FILES = ["*.json", "*.txt", "model.safetensors"]


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
    layers: int
    hidden_size: int
    max_length: int
    about: Mapping[str, Any]

    def facts(self) -> ModelFacts:
        return ModelFacts(
            name=self.name,
            family=self.family,
            layers=self.layers,
            hidden_size=self.hidden_size,
            max_length=self.max_length,
            pooler=self.pooler is not None,
        )

    def folder(self) -> Path | None:
        """Folder with weights and tokenizer on this machine, or None for random weights.

        Raises ConfigError if it is not here and may not be fetched now.
        """
        if self.path is not None:
            folder = Path(self.path).expanduser()
            if not folder.is_dir():
                raise ConfigError(f"model.path is '{self.path}': no such folder")
            return _complete(folder, f"model.path is '{self.path}'")
        if self.package is not None:
            return _complete(_package_folder(self.package, self.name), f"model '{self.name}'")
        if self.hub is not None:
            return _hub_folder(self.hub, self.revision, self.name)
        return None

    def identity(self) -> str:
        """What the weights are: commit on the hub, hash of a local file, or a random config."""
        if self.path is None and self.package is None:
            if self.hub is not None:
                return f"{self.hub}@{self.revision or _hub_commit(self.hub)}"
            text = json.dumps({"family": self.family, **(self.config or {})}, sort_keys=True)
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


def _complete(folder: Path, what: str) -> Path:
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ConfigError(f"{what}: {folder} holds no {name}")
    return folder


def _package_folder(package: str, name: str) -> Path:
    """`distribution_module/sub/folder` of an installed package, found without importing it."""
    module, _, inside = package.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"model '{name}' needs the Python package {module}, which is not installed: "
            f"pip install 'bluestab[embedded]', or give its folder as model.path=DIR"
        )
    return Path(spec.submodule_search_locations[0]) / inside


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _hub_commit(hub: str) -> str:
    """Commit that an unpinned model resolves to in the local cache (or 'main' if not there yet)."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub, "config.json")
    return Path(found).parent.name if isinstance(found, str) else "main"


def _hub_folder(hub: str, revision: str | None, name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    line = f"hf download {hub}" + (f" --revision {revision}" if revision else "")
    try:
        folder = Path(snapshot_download(hub, revision=revision, allow_patterns=HUB_FILES))
        if not (folder / "model.safetensors").is_file():
            # an old upload without safetensors; transformers reads it with weights_only=True
            patterns = [*HUB_FILES, "pytorch_model.bin"]
            snapshot_download(hub, revision=revision, allow_patterns=patterns)
        return folder
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        why = "HF_HUB_OFFLINE is set" if _offline() else f"the hub did not answer ({error})"
        raise ConfigError(
            f"model '{name}' is not on this machine and {why}; bring it with: {line}"
        ) from error


@dataclass(frozen=True)
class Loaded:
    """A network ready to be edited: own copy of the weights, head still to be drawn.

    head_modules are the paths that compute in float32 whatever the precision of the rest.
    """

    network: nn.Module
    layers: LayerMap
    head_modules: tuple[str, ...]
    fresh: frozenset[str]
    reference: Mapping[str, torch.Tensor]
    initializer_range: float


def load(model: Model, *, head: Head, n_labels: int, attention: str) -> Loaded:
    """A copy of the pretrained network with a transformers head of `n_labels` outputs.

    The pristine weights are read once per process and shared as `reference`.
    """
    pristine, fresh = _pristine(_shared(model), head, n_labels, attention)
    _verify_facts(model, pristine.config)
    layers = _layer_map(model, pristine)
    below = [name for name in fresh if layers.depth[name] <= layers.n_layers]
    if below:
        raise ConfigError(
            f"model '{model.name}': its checkpoint has no values for {len(below)} parameters of "
            f"the encoder, e.g. '{below[0]}'"
        )
    reference = {name: p.detach() for name, p in pristine.named_parameters()}
    return Loaded(
        # from_pretrained hands out evaluation mode and Lightning keeps the mode it finds: without
        # this line a checkpoint would be trained without dropout
        network=copy.deepcopy(pristine).train(),
        layers=layers,
        head_modules=_head_modules(model, pristine),
        fresh=frozenset(fresh),
        reference=reference,
        initializer_range=float(pristine.config.initializer_range),  # type: ignore[union-attr, arg-type]
    )


def _shared(model: Model) -> Shared:
    return Shared((model.name, model.identity()), model)


@lru_cache(maxsize=2)
def _pristine(
    shared: Shared, head: Head, n_labels: int, attention: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network as loaded, and the parameters the checkpoint has no value for."""
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )
    from transformers.utils import logging

    auto: Any = {
        "sequence": AutoModelForSequenceClassification,
        "token": AutoModelForTokenClassification,
    }[head]
    (model,) = shared.values
    folder = model.folder()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if folder is None:
        config = AutoConfig.for_model(model.family, num_labels=n_labels, **(model.config or {}))
        network = auto.from_config(config, attn_implementation=attention, dtype=torch.float32)
        # a checkpoint that never was: the same random values in every run and on every machine
        names = [name for name, _ in network.named_parameters()]
        for name in names:
            random = generator(0, model.identity(), name)
            initialise(network, name, random, config.initializer_range)
        prefix = f"{network.base_model_prefix}."
        return network, tuple(name for name in names if not name.startswith(prefix))
    network, info = auto.from_pretrained(
        folder,
        num_labels=n_labels,
        dtype=torch.float32,
        attn_implementation=attention,
        output_loading_info=True,
        local_files_only=True,
    )
    missing = set(info["missing_keys"])
    return network, tuple(n for n, _ in network.named_parameters() if n in missing)


def _verify_facts(model: Model, config: Any) -> None:
    for fact, seen, said in (
        ("family", config.model_type, model.family),
        ("layers", config.num_hidden_layers, model.layers),
        ("hidden_size", config.hidden_size, model.hidden_size),
        ("max_length", config.max_position_embeddings, model.max_length),
    ):
        if seen != said:
            raise ConfigError(
                f"model.{fact} is {said!r} but the checkpoint of '{model.name}' has {seen!r}"
            )


def _head_modules(model: Model, network: nn.Module) -> tuple[str, ...]:
    """Paths of the head: what stands outside the encoder, and the encoder's pooler."""
    encoder = str(network.base_model_prefix)
    outside = [name for name, _ in network.named_children() if name != encoder]
    pooler = f"{encoder}.{model.pooler}"
    inside = [path for path, _ in network.named_modules() if path == pooler]
    return (*outside, *inside)


def _layer_map(model: Model, network: nn.Module) -> LayerMap:
    try:
        return layer_map(
            [name for name, _ in network.named_parameters()],
            encoder=network.base_model_prefix,  # type: ignore[arg-type]
            embeddings=model.embeddings,
            blocks=model.blocks,
            pooler=model.pooler,
            n_layers=model.layers,
        )
    except ValueError as error:
        raise ConfigError(f"model '{model.name}': {error}") from error


def initialise(
    network: nn.Module, name: str, generator: torch.Generator, initializer_range: float
) -> None:
    """Fill one parameter as BERT-like models do (`_init_weights` of transformers).

    Linear and embedding weights from N(0, initializer_range^2), biases 0, LayerNorm weights 1, the
    padding row of an embedding 0. transformers' own function is not used: it skips parameters that
    were loaded from a checkpoint, so re-initialising with it changes nothing.
    """
    import torch
    from torch import nn

    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    parameter = getattr(module, leaf)
    with torch.no_grad():
        if leaf == "bias":
            parameter.zero_()
        elif isinstance(module, nn.LayerNorm):
            parameter.fill_(1.0)
        elif isinstance(module, nn.Linear | nn.Embedding):
            parameter.copy_(
                torch.empty(parameter.shape).normal_(0.0, initializer_range, generator=generator)
            )
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                parameter[module.padding_idx].zero_()
        else:
            raise ConfigError(
                f"do not know how to initialise '{name}' of a {type(module).__name__}"
            )


def load_tokenizer(model: Model) -> PreTrainedTokenizerFast:
    """The model's tokenizer, read once per process."""
    return _tokenizer(_shared(model))


@lru_cache(maxsize=8)
def _tokenizer(shared: Shared) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    (model,) = shared.values
    folder = model.folder()
    if folder is None:
        return _character_tokenizer(model.max_length)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)  # type: ignore[return-value]


def _character_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """WordPiece over single ASCII characters: the tokenizer of models with random weights."""
    from transformers import BertTokenizer

    characters = [chr(code) for code in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += characters + [f"##{c}" for c in characters]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_length)


CHARACTER_VOCABULARY = 5 + 2 * 94  # size of the tokenizer above


def check_model(model: Model) -> list[str]:
    """Problems of a model yaml, one sentence each, before anything is loaded."""
    given = [field for field in ("hub", "package", "config") if getattr(model, field) is not None]
    problems = []
    if len(given) != 1 and model.path is None:
        problems.append(
            f"model '{model.name}' must name exactly one of hub, package, config; it names "
            f"{', '.join(given) or 'none'}"
        )
    if model.family not in ("bert", "electra"):
        problems.append(
            f"model.family is '{model.family}'" + did_you_mean(model.family, ["bert", "electra"])
        )
    for fact in ("layers", "hidden_size", "max_length"):
        value = getattr(model, fact)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            problems.append(f"model.{fact} is {value!r}: expected a whole number >= 1")
    return problems
