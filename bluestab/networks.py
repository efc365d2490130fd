"""A described model -> network, head, layer map, tokenizer: the only file that knows transformers.

Heads are transformers' own, so that plain transformers loads what we save. The facts a model yaml
claims are verified here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from bluestab.caching import Shared
from bluestab.errors import ConfigError
from bluestab.layers import LayerMap, layer_map
from bluestab.models import Model
from bluestab.seeding import generator

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerFast

Head = Literal["sequence", "token"]


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
