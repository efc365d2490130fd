"""What a model is made of, before anything is trained: `bluestab inspect model`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bluestab.core.errors import ConfigError
from bluestab.core.instantiate import instantiate
from bluestab.core.types import SEQUENCE, TOKEN
from bluestab.models.description import Model, check_model
from bluestab.models.networks import load
from bluestab.models.tokenizers import is_byte_level, load_tokenizer

CAPITALS = "Fever"


def inspect_model(node: Mapping[str, Any]) -> tuple[Model, list[tuple[str, str]]]:
    """The model, and heading and text of everything worth knowing of it.

    node  the resolved yaml, complete: see `discover.described`

    The network is loaded with both kinds of heads, so that every parameter is seen to have its
    depth. Raises ConfigError where a run would.
    """
    model = instantiate(node, Model, "model")
    if problems := check_model(model):
        raise ConfigError(*problems)
    load(model, head=TOKEN, n_labels=2, attention="eager")
    loaded = load(model, head=SEQUENCE, n_labels=2, attention="eager")
    config: Any = loaded.network.config
    sizes: Counter[int] = Counter()
    for name, parameter in loaded.network.named_parameters():
        if name not in loaded.layers.head:
            sizes[loaded.layers.depth[name]] += parameter.numel()
    runs = int(getattr(config, "num_hidden_layers", model.layers)) // model.layers
    again = "" if runs == 1 else f", which a text runs through {runs} times: one depth for all"
    offset = int(config.max_position_embeddings or 0) - model.max_length
    tokenizer = load_tokenizer(model)
    lowered = tokenizer.tokenize(CAPITALS) == tokenizer.tokenize(CAPITALS.lower())
    return model, [
        ("model", f"{model.name}, family {model.family}, {model.identity()}"),
        ("depth 0", f"{', '.join(model.embeddings)}: {_millions(sizes[0])}"),
        (
            f"depth 1 to {model.layers}",
            f"{model.blocks}{again}: {_millions(sizes[1])} in the first, "
            f"{_millions(sum(sizes[d] for d in range(1, model.layers + 1)))} in all",
        ),
        (
            f"depth {model.layers + 1}",
            f"final norm {model.final_norm or 'none (inside the blocks)'}, pooler "
            f"{model.pooler or 'none'}, then the head",
        ),
        ("width", str(model.hidden_size)),
        (
            "longest input",
            f"{model.max_length} word pieces"
            + (f" (positions begin at {offset})" if offset else ""),
        ),
        (
            "tokenizer",
            f"{type(tokenizer).__name__}, {len(tokenizer)} pieces"
            f"{' of bytes' if is_byte_level(tokenizer) else ''}, capitals are "
            f"{'lowered' if lowered else 'kept'}, padding {tokenizer.pad_token}",
        ),
    ]


def _millions(n: int) -> str:
    return f"{n / 1e6:.3g} M parameters"
