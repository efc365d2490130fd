"""The config of a network or a tokenizer with nothing in it but what the supported families need.

A `config.json` can name code, kernels of a hub or other files (`_attn_implementation:
"owner/kernel"`), and every version of transformers reads more such keys. So nothing is forbidden
here by name: what transformers sees is written anew, from the numbers and names listed below, each
of them checked. Other keys are dropped; the few that would make another network are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bluestab.core import rules
from bluestab.core.errors import ConfigError
from bluestab.core.paths import real
from bluestab.core.plain_files import read_json
from bluestab.core.rules import Rule
from bluestab.models.hub import SENTENCEPIECE

ACTIVATIONS = (
    "gelu",
    "gelu_new",
    "gelu_fast",
    "gelu_pytorch_tanh",
    "relu",
    "silu",
    "swish",
    "tanh",
)
SHARE = rules.within("[0, 1]")
SHARE_OR_NULL = rules.within("[0, 1]", null=True)
PIECE = rules.whole(0, null=True, high=2**24)
SIZE = rules.whole(1, high=2**16)
SMALL = rules.within("[0, 1]")

_COMMON: dict[str, Rule] = {
    "vocab_size": rules.whole(1, high=2**24),
    "hidden_size": SIZE,
    "num_hidden_layers": rules.whole(1, high=200),
    "num_attention_heads": rules.whole(1, high=1024),
    "intermediate_size": rules.whole(1, high=2**18),
    "max_position_embeddings": rules.whole(1, high=2**20),
    "initializer_range": SMALL,
    "pad_token_id": PIECE,
    "bos_token_id": PIECE,
    "eos_token_id": PIECE,
    "classifier_dropout": SHARE_OR_NULL,
    "tie_word_embeddings": rules.FLAG,
}
_BERT: dict[str, Rule] = {
    **_COMMON,
    "hidden_act": rules.one_of(*ACTIVATIONS),
    "hidden_dropout_prob": SHARE,
    "attention_probs_dropout_prob": SHARE,
    "type_vocab_size": rules.whole(0, high=1024),
    "layer_norm_eps": SMALL,
}
KINDS = ("full_attention", "sliding_attention")


def _is_rope(value: object) -> bool:
    return isinstance(value, dict) and all(
        kind in KINDS
        and isinstance(one, dict)
        and set(one) <= {"rope_type", "rope_theta"}
        and one.get("rope_type", "default") == "default"
        and rules.is_number(one.get("rope_theta", 1.0))
        and one.get("rope_theta", 1.0) > 0
        for kind, one in value.items()
    )


KEYS: Mapping[str, Mapping[str, Rule]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "electra": {
        **_BERT,
        "embedding_size": SIZE,
        "summary_type": rules.one_of("first", "last", "mean", "cls_index"),
        "summary_use_proj": rules.FLAG,
        "summary_activation": rules.one_of(*ACTIVATIONS),
        "summary_last_dropout": SHARE,
    },
    "modernbert": {
        **_COMMON,
        "hidden_activation": rules.one_of(*ACTIVATIONS),
        "initializer_cutoff_factor": rules.above(0),
        "norm_eps": SMALL,
        "norm_bias": rules.FLAG,
        "cls_token_id": PIECE,
        "sep_token_id": PIECE,
        "attention_bias": rules.FLAG,
        "attention_dropout": SHARE,
        "layer_types": rules.list_of(lambda kind: kind in KINDS, " or ".join(KINDS)),
        "global_attn_every_n_layers": rules.whole(1, high=1000),
        "global_rope_theta": rules.above(0),
        "local_rope_theta": rules.above(0),
        "rope_parameters": (_is_rope, "rope_theta per kind of attention, rope_type default"),
        "local_attention": rules.whole(1, high=2**20),
        "embedding_dropout": SHARE,
        "mlp_bias": rules.FLAG,
        "mlp_dropout": SHARE,
        "decoder_bias": rules.FLAG,
        "classifier_pooling": rules.one_of("cls", "mean"),
        "classifier_bias": rules.FLAG,
        "classifier_activation": rules.one_of(*ACTIVATIONS),
    },
}
"""transformers' `model_type` -> the keys of its config that are passed on, and what each may be."""

OTHERWISE: Mapping[str, tuple[object, ...]] = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "rope_scaling": (None,),
    "pruned_heads": ({}, None),
}
"""Keys that at any other value make a network that this version does not load."""


def clean_config(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """What a network of a supported family needs of its `config.json`, `model_type` aside.

    Raises ConfigError, one sentence per value that is out of its range.
    """
    family = config.get("model_type")
    if not isinstance(family, str):
        raise ConfigError(f"{where} says model_type {family!r}: expected the name of a family")
    keys = _rules_of(family, where)
    for key, usual in OTHERWISE.items():
        own = family not in KEYS and key == "position_embedding_type" and key in keys
        if key in config and config[key] not in usual and not own:
            raise ConfigError(f"{where} has {key} {_short(config[key])}: expected {usual[0]!r}")
    kept = {key: config[key] for key in keys if key in config}
    if family == "modernbert":  # an older transformers wrote nothing where these are the usual
        kept = {k: v for k, v in kept.items() if v is not None or keys[k][0](None)}
    for key, value in kept.items():
        holds, expected = keys[key]
        if not holds(value):
            raise ConfigError(f"{where} has {key} {_short(value)}: expected {expected}")
    if family == "big_bird":
        # its sparse attention goes over to the full one, for good, at the first batch of short
        # texts: what a text gets would depend on those before it
        kept["attention_type"] = "original_full"
    if family not in KEYS:  # how they go together is transformers' to check
        return kept
    heads, size = kept.get("num_attention_heads"), kept.get("hidden_size")
    if heads is not None and size is not None and size % heads:
        raise ConfigError(
            f"{where} has hidden_size {size}: expected a multiple of num_attention_heads ({heads})"
        )
    layers, kinds = kept.get("num_hidden_layers"), kept.get("layer_types")
    if kinds is not None and len(kinds) != layers:
        raise ConfigError(f"{where} has {len(kinds)} layer_types for {layers} blocks")
    pad, words = kept.get("pad_token_id"), kept.get("vocab_size")
    if pad is not None and words is not None and pad >= words:
        raise ConfigError(
            f"{where} has pad_token_id {pad}: expected less than vocab_size ({words})"
        )
    return kept


def _rules_of(family: str, where: Path) -> Mapping[str, Rule]:
    if family in KEYS:
        return KEYS[family]
    from bluestab.models.native import rules_of, why_no_encoder

    if why := why_no_encoder(family):
        raise ConfigError(f"{where} says model_type {family!r}: {why}")
    return rules_of(family, _BERT)


# --- tokenizers ----------------------------------------------------------------------------------

CLASSES = (
    *("BertTokenizer", "ElectraTokenizer", "RobertaTokenizer", "GPT2Tokenizer"),
    *("BertTokenizerFast", "ElectraTokenizerFast", "RobertaTokenizerFast", "GPT2TokenizerFast"),
    *("PreTrainedTokenizerFast", "TokenizersBackend"),
    *(
        f"{family}Tokenizer{kind}"
        for family in ("DebertaV2", "XLMRoberta", "Camembert", "MPNet", "Albert", "DistilBert")
        for kind in ("", "Fast")
    ),
    *("LongformerTokenizer", "LongformerTokenizerFast", "BigBirdTokenizer", "BigBirdTokenizerFast"),
)
TOKENS = tuple(f"{name}_token" for name in ("unk", "sep", "pad", "cls", "mask", "bos", "eos"))
INPUTS = ("input_ids", "token_type_ids", "attention_mask")
TOKEN_FLAGS = ("lstrip", "rstrip", "normalized", "single_word", "special")
FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", *SENTENCEPIECE)
"""Files of a tokenizer that hold its vocabulary: plain data, read by the tokenizers library."""


def _is_token(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= 256
    return (
        isinstance(value, dict)
        and isinstance(value.get("content"), str)
        and len(value["content"]) <= 256
        and set(value) <= {"content", "__type", *TOKEN_FLAGS}
        and value.get("__type", "AddedToken") == "AddedToken"
        and all(isinstance(value.get(flag, False), bool) for flag in TOKEN_FLAGS)
    )


def _are_added(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(number, str) and number.isdigit() and len(number) < 9 and _is_token(token)
        for number, token in value.items()
    )


FLAG_OR_NULL: Rule = (lambda value: value is None or isinstance(value, bool), "true, false or null")
SIDE = rules.one_of("left", "right")
SOME_TOKENS: Rule = (
    lambda v: v is None or (isinstance(v, list) and all(map(_is_token, v))),
    "a list of tokens",
)
TOKENIZER_KEYS: Mapping[str, Rule] = {
    "tokenizer_class": rules.one_of(*CLASSES, None),
    "do_lower_case": FLAG_OR_NULL,
    "strip_accents": FLAG_OR_NULL,
    "tokenize_chinese_chars": FLAG_OR_NULL,
    "do_basic_tokenize": FLAG_OR_NULL,
    "add_prefix_space": FLAG_OR_NULL,
    "trim_offsets": FLAG_OR_NULL,
    "clean_up_tokenization_spaces": FLAG_OR_NULL,
    "model_max_length": (lambda v: rules.is_number(v) and v >= 1, "a number >= 1"),
    "padding_side": SIDE,
    "truncation_side": SIDE,
    "errors": rules.one_of("replace", "strict", "ignore"),
    "model_input_names": rules.list_of(lambda name: name in INPUTS, ", ".join(INPUTS)),
    **{token: (lambda v: v is None or _is_token(v), "a token") for token in TOKENS},
    "additional_special_tokens": SOME_TOKENS,
    "added_tokens_decoder": (_are_added, "a map of numbers to tokens"),
}


def clean_tokenizer_config(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """What a tokenizer needs of its `tokenizer_config.json`. Raises ConfigError."""
    kept = {key: config[key] for key in TOKENIZER_KEYS if key in config}
    for key, value in kept.items():
        holds, expected = TOKENIZER_KEYS[key]
        if not holds(value):
            raise ConfigError(f"{where} has {key} {_short(value)}: expected {expected}")
    return kept


@contextmanager
def clean_tokenizer(folder: Path, family: str) -> Iterator[Path]:
    """A folder for the time of reading: the vocabulary of `folder`, and a config written anew.

    Raises ConfigError if a file leads out of the folder, or a value is not what it may be.
    """
    with TemporaryDirectory(prefix="bluestab-") as name:
        clean = Path(name)
        for file in FILES:
            if (folder / file).is_file():
                (clean / file).symlink_to(real(folder / file))
        own = {
            **_read(folder / "special_tokens_map.json"),
            **_read(folder / "tokenizer_config.json"),
        }
        said = clean_tokenizer_config(own, folder / "tokenizer_config.json")
        (clean / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
        (clean / "config.json").write_text(json.dumps({"model_type": family}), encoding="utf-8")
        yield clean


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
