"""A described model -> network, head, layer map, by transformers; its tokenizer: `tokenizers.py`.

Heads are transformers' own, so that plain transformers loads what we save, unless the yaml says
`head: linear`. The facts a model yaml claims are verified here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.caching import Shared
from bluestab.core.errors import BRING, ConfigError
from bluestab.core.plain_files import read_json
from bluestab.core.seeding import generator
from bluestab.core.types import DETECTION, MASKED, Head
from bluestab.data.locate import sha256_of
from bluestab.models.clean_config import clean_config
from bluestab.models.description import Model
from bluestab.models.discover import longest_input
from bluestab.models.dropout import KNOBS, set_head_dropout, with_dropout
from bluestab.models.foreign import check_shapes, foreign
from bluestab.models.global_attention import set_global_attention
from bluestab.models.hub import local_copy
from bluestab.models.init_from import SavedWeights
from bluestab.models.initialisation import initialise
from bluestab.models.insertion_places import missing_encoder, refuse_inserted
from bluestab.models.layers import LayerMap, layer_map
from bluestab.models.passes import read_at_positions
from bluestab.models.untrusted import check_code
from bluestab.models.vocabulary import config_of, exchange

if TYPE_CHECKING:
    import torch
    from torch import nn


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


def load(
    model: Model,
    *,
    head: Head,
    n_labels: int,
    attention: str,
    init_from: SavedWeights | None = None,
    shared_head: bool = False,
) -> Loaded:
    """A copy of the pretrained network with a head of `n_labels` = C outputs: word pieces (B, T) ->
    logits (B, C), or (B, T, C) where `head.per_word`.

    init_from  weights of an earlier run that take the place of the pretrained encoder's
    shared_head  its head is taken, too

    The pristine weights are read once per process and shared as `reference`. Raises ConfigError if
    weights lack something, are not what the yaml says, or have changed since they were found.
    """
    refuse_inserted(model.path)
    shared = shared_of(model, init_from)
    pristine, fresh = _pristine(shared, head, n_labels, attention, shared_head)
    _verify_facts(model, pristine)
    layers = _layer_map(model, pristine)
    below = [name for name in fresh if layers.depth[name] <= layers.n_layers]
    if below and not starts_random(model, head):
        raise ConfigError(
            f"model '{model.name}': its checkpoint has no values for {len(below)} parameters of "
            f"the encoder, e.g. '{below[0]}'"
        )
    reference = {name: p.detach() for name, p in pristine.named_parameters()}
    # from_pretrained hands out evaluation mode and Lightning keeps the mode it finds: without
    # this line a checkpoint would be trained without dropout
    network = copy.deepcopy(pristine).train()
    if head == MASKED:
        read_at_positions(network)
    return Loaded(
        network=network,
        layers=layers,
        head_modules=_head_modules(model, pristine),
        fresh=frozenset(fresh),
        reference=reference,
        initializer_range=float(pristine.config.initializer_range),  # type: ignore[union-attr, arg-type]
    )


def starts_random(model: Model, head: Head) -> bool:
    """Whether the run's seed draws the whole network: a pretraining from nothing. Elsewhere random
    weights stand for a checkpoint, the same in every run."""
    return head.pretrains and model.folder() is None


def load_trained(
    model: Model, *, head: Head, n_labels: int, attention: str, base: Model | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """A trained network, head included, in evaluation mode, and the paths of its head.

    model  whose `path` is the folder of the weights
    base   the model that was trained, which gives the encoder where the folder holds the rest alone

    Raises ConfigError if a value is missing there: it would be random.
    """
    from bluestab.models.insertions import insert_as_saved

    folder = Path(str(model.path))
    if (said := missing_encoder(folder)) is not None:
        network, missing = _on_base(folder, *said, base, head, n_labels, attention)
    else:
        network, missing = _pretrained(model, head, n_labels, attention)
        if new := insert_as_saved(network, model.blocks, folder):
            missing = (*missing, *sorted(new - _read(network, new, folder)))
    _verify_facts(model, network)
    if missing:
        raise ConfigError(
            f"{model.path} has no values for {len(missing)} parameters, e.g. '{missing[0]}'"
        )
    return network.eval(), _head_modules(model, network)


def _on_base(
    folder: Path,
    encoder: str,
    tensors: int,
    base: Model | None,
    head: Head,
    n_labels: int,
    attention: str,
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network of `base` with what a folder holds beside its encoder, and what has no value."""
    from bluestab.models.insertions import insert_as_saved

    where = f"{folder} holds what was trained beside the encoder {encoder}"
    if base is None:
        raise ConfigError(f"{where}, and nothing says where that is; name the run that kept it")
    if base.hub is not None and local_copy(base.hub, base.revision) is None:
        raise ConfigError(f"{where}, which is not on this machine; {BRING} model={base.name}")
    if (found := base.identity()) != encoder:
        raise ConfigError(
            f"{where}, but model '{base.name}' is {found} here; put in its place what it was"
        )
    network, fresh = _pretrained(base, head, n_labels, attention)
    insert_as_saved(network, base.blocks, folder)
    names = {name for name, _ in network.named_parameters()}
    read = _read(network, names, folder)
    if len(read) != tensors:
        raise ConfigError(
            f"{folder} holds {len(read)} tensors that the network has, expected {tensors}"
        )
    return network, tuple(name for name in fresh if name not in read)


def shared_of(model: Model, init_from: SavedWeights | None = None) -> Shared:
    """What is read once per process for all runs that ask for the same."""
    kept = None if init_from is None else init_from.sha256
    dropout = tuple(getattr(model, knob) for knob in KNOBS)
    content = (
        model.name,
        model.family,
        model.identity(),
        model.head,
        model.lower_case,
        model.global_attention,
        model.sees,
        dropout,
        kept,
    )
    return Shared(content, model, init_from)


@lru_cache(maxsize=2)
def _pristine(
    shared: Shared, head: Head, n_labels: int, attention: str, shared_head: bool = False
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network as training finds it, and the parameters nothing has a value for."""
    model, kept = shared.values
    network, fresh = _pretrained(model, head, n_labels, attention)
    if kept is None:
        return network, fresh
    found = _take_from(kept, network, model, shared_head)
    return network, tuple(name for name in fresh if name not in found)


def _take_from(kept: SavedWeights, network: nn.Module, model: Model, shared_head: bool) -> set[str]:
    """Give the encoder, and a head that is shared, the weights of an earlier run; the names of what
    got some.

    The pooler is a part of the encoder, as in STILTs; runs of taggers and of other heads have none,
    then the checkpoint's stays. What stands outside the encoder, and learnt pooling, is the head.
    """
    if sha256_of(kept.file) != kept.sha256:
        raise ConfigError(
            f"{kept.file} was replaced after model.init_from={kept.said} had been checked; start "
            f"the command again"
        )
    prefix = f"{network.base_model_prefix}."
    names = {name for name, _ in network.named_parameters()}
    encoder = {name for name in names if name.startswith(prefix)} - _new(model, network)
    found = _read(network, names if shared_head else encoder, kept.folder)
    pooler = f"{prefix}{model.pooler}."
    needed = {name for name in encoder if not name.startswith(pooler)}
    if missing_encoder(kept.folder) is not None:  # beside the encoder that the network has already
        needed = set()
    for part, own in (("encoder", needed), ("head", names - encoder if shared_head else set())):
        if lacking := sorted(own - found):
            raise ConfigError(
                f"model.init_from={kept.said}: {kept.file} has no values of the right shape for "
                f"{len(lacking)} parameters of the {part} of '{model.name}', e.g. '{lacking[0]}'; "
                f"name a run of {model.name}"
            )
    return found


def _pretrained(
    model: Model, head: Head, n_labels: int, attention: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network as loaded, and the parameters the checkpoint has no value for."""
    import torch
    import transformers
    from transformers import AutoConfig
    from transformers.utils import logging

    from bluestab.models.heads import verify_head

    auto: Any = getattr(transformers, head.auto_class)
    folder = model.folder()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if folder is None:
        said = dict(model.config or {})
        if model.vocabulary is not None:
            said |= config_of(model.vocabulary_folder())
        own = AutoConfig.for_model(model.family, num_labels=n_labels, **said)
        config = with_dropout(own, model)
        network = auto.from_config(config, attn_implementation=attention, dtype=torch.float32)
        set_head_dropout(network, own, model)
        set_global_attention(network, model)
        network = _with_head(model, network, head)
        # a checkpoint that never was: the same random values in every run and on every machine
        names = [name for name, _ in network.named_parameters()]
        for name in names:
            random = generator(0, model.identity(), name)
            initialise(network, name, random, config.initializer_range)
        if head.pretrains:
            return network, tuple(names)
        prefix = f"{network.base_model_prefix}."
        fresh = {n for n in names if not n.startswith(prefix)} | _new(model, network)
        return network, tuple(name for name in names if name in fresh)
    verify_head(model.head, model.name, folder)
    own = config_of_folder(folder, n_labels)
    config = with_dropout(own, model)
    with foreign(folder, "cannot be read as weights"):
        if model.path is not None:  # from anywhere, where the others are pinned
            check_code(folder)
            check_shapes(auto, config, folder, attention, model.head)
        network, info = auto.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
            local_files_only=True,
            # a head of ours may be wider than transformers expects; it is read below
            ignore_mismatched_sizes=model.head.startswith("concat"),
        )
    if model.vocabulary is not None:
        exchange(network, folder, model.vocabulary_folder())
    set_head_dropout(network, own, model)
    set_global_attention(network, model)
    before = {id(p): p for p in network.parameters()}  # held, lest a new one gets an old id
    network = _with_head(model, network, head)
    new = {n for n, p in network.named_parameters() if id(p) not in before}
    missing = (set(info["missing_keys"]) | new) - _read(network, new, folder)
    return network, tuple(n for n, _ in network.named_parameters() if n in missing)


def config_of_folder(folder: Path, n_labels: int) -> Any:
    """The config of a folder of weights for transformers, made anew: see `clean_config`."""
    from transformers import AutoConfig

    path = folder / "config.json"
    said = read_json(path)
    kept = clean_config(said, path)
    with foreign(path, "describes no network"):
        return AutoConfig.for_model(said["model_type"], num_labels=n_labels, **kept)


def _with_head(model: Model, network: nn.Module, head: Head) -> nn.Module:
    """With the head that the yaml asks for, and what looks at images."""
    from bluestab.models.bi_encoder import make_bi_encoder
    from bluestab.models.heads import make_linear, make_pooled
    from bluestab.models.replaced_tokens import make_detecting
    from bluestab.models.vision import add_vision

    if head == DETECTION:
        return make_detecting(network)
    if model.sees is not None:
        add_vision(network, model.sees)
    if head.vector:
        make_bi_encoder(network, model.head, model.blocks, model.final_norm)
    elif model.head == "linear" or (model.head != "default" and head.per_word):
        make_linear(network, per_word=head.per_word)
    elif model.head != "default":
        make_pooled(network, model.head, model.blocks, model.final_norm)
    return network


def _new(model: Model, network: nn.Module) -> set[str]:
    """Parameters of the pooling, which transformers' networks have not."""
    from bluestab.models.heads import Pooling

    paths = [path for path, m in network.named_modules() if isinstance(m, Pooling)]
    return {n for n, _ in network.named_parameters() if n.startswith(tuple(f"{p}." for p in paths))}


def _read(network: nn.Module, names: set[str], folder: Path) -> set[str]:
    """Give parameters their values in the folder's weights; the names of those it has.

    Weights that bluestab kept under such a head hold them, those of a pretraining do not.
    """
    import torch
    from safetensors import safe_open

    parameters = dict(network.named_parameters())
    found: set[str] = set()
    if not names:
        return found
    with safe_open(folder / "model.safetensors", framework="pt") as file, torch.no_grad():
        for name in names.intersection(file.keys()):
            value = file.get_tensor(name)
            if value.shape == parameters[name].shape:
                parameters[name].copy_(value)
                found.add(name)
    return found


def _verify_facts(model: Model, network: nn.Module) -> None:
    config: Any = network.config
    encoder, parameters = f"{network.base_model_prefix}.{model.blocks}.", network.named_parameters()
    names = [n.removeprefix(encoder) for n, _ in parameters if n.startswith(encoder)]
    for fact, seen, said in (
        ("family", config.model_type, model.family),
        ("layers", len({name.partition(".")[0] for name in names}), model.layers),
        ("hidden_size", config.hidden_size, model.hidden_size),
        ("max_length", longest_input(network), model.max_length),
    ):
        if seen is not None and seen != said:
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
            above=[path for path in (model.pooler, model.final_norm) if path is not None],
            n_layers=model.layers,
        )
    except ValueError as error:
        raise ConfigError(f"model '{model.name}': {error}") from error
