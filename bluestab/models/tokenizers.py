"""A described model -> its tokenizer, by transformers; for random weights one of characters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bluestab.core.caching import Shared
from bluestab.core.errors import ConfigError
from bluestab.models.clean_config import clean_tokenizer
from bluestab.models.description import BYTE_LEVEL, Model
from bluestab.models.foreign import foreign
from bluestab.models.networks import shared_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def load_tokenizer(model: Model, *, words: bool = False) -> PreTrainedTokenizerFast:
    """The model's tokenizer, read once per process; `words`: for texts that come word by word."""
    shared = shared_of(model)  # known by its weights alone, which two folders may share
    own = Shared((shared.content, model.path, model.vocabulary), *shared.values)
    spaced = words and (model.family in BYTE_LEVEL or is_byte_level(_tokenizer(own, False)))
    return _tokenizer(own, spaced)


@lru_cache(maxsize=8)
def _tokenizer(shared: Shared, spaced: bool) -> PreTrainedTokenizerFast:
    """`spaced`: every word gets the space before it that it has inside a text."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    model, _ = shared.values
    folder = model.folder() if model.vocabulary is None else model.vocabulary_folder()
    more: dict[str, Any] = {}
    if spaced:
        more["add_prefix_space"] = True
    if model.lower_case is not None:
        more["do_lower_case"] = model.lower_case
    tokenizer: Any
    if folder is None:
        tokenizer = _CHARACTERS[model.family](model.max_length, **more)
    elif model.path is None and model.vocabulary is None:
        with foreign(folder, "holds no tokenizer that can be read"):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **more)
    else:  # from anywhere, where the others are pinned
        with (
            foreign(folder, "holds no tokenizer that can be read"),
            clean_tokenizer(folder, model.family) as clean,
        ):
            tokenizer = AutoTokenizer.from_pretrained(clean, local_files_only=True, **more)
    if spaced:
        _insist(tokenizer, "pre_tokenizer", "add_prefix_space", True, model.name)
    if model.lower_case is not None:
        _insist(tokenizer, "normalizer", "lowercase", model.lower_case, model.name)
    if folder is not None:
        _check_padding(tokenizer, folder)
    return tokenizer  # type: ignore[no-any-return]


def is_byte_level(tokenizer: Any) -> bool:
    """Whether its word pieces are of bytes, and begin with the space before them: words that come
    one by one must get that space, or all of them are glued together."""
    from tokenizers.pre_tokenizers import ByteLevel

    return isinstance(tokenizer.backend_tokenizer.pre_tokenizer, ByteLevel)


def _check_padding(tokenizer: Any, folder: Any) -> None:
    """Raises ConfigError where transformers would make up a piece to fill batches with."""
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"{folder}: its tokenizer names no pad_token, which batches need")


def _insist(tokenizer: Any, part: str, setting: str, value: bool, name: str) -> None:
    """Set what `from_pretrained` was asked for: it passes the wish on to some classes only.

    Where it does not arrive, tagging sees one long word instead of a sentence, or a cased model
    gets lowered words, and nothing says so.
    """
    backend = tokenizer.backend_tokenizer
    inner = getattr(backend, part)
    if not hasattr(inner, setting):
        raise ConfigError(
            f"model '{name}': the {part} of its tokenizer is {inner}, which has no {setting}; "
            f"give a folder with another tokenizer as model.path="
        )
    setattr(inner, setting, value)
    setattr(backend, part, inner)


def _word_piece(max_length: int, do_lower_case: bool = True) -> PreTrainedTokenizerFast:
    """WordPiece over single ASCII characters: for random BERT and ELECTRA."""
    from transformers import BertTokenizer

    characters = [chr(code) for code in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += characters + [f"##{c}" for c in characters]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=do_lower_case, model_max_length=max_length)


def _bytes() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def _roberta_bytes(max_length: int, **more: Any) -> PreTrainedTokenizerFast:
    """Single bytes with RoBERTa's special pieces at RoBERTa's places."""
    from transformers import RobertaTokenizer

    pieces = ["<s>", "<pad>", "</s>", "<unk>", *_bytes(), "<mask>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=max_length, **more)


def _modernbert_bytes(max_length: int, **more: Any) -> PreTrainedTokenizerFast:
    """Single bytes with ModernBERT's special pieces; no segments, one separator between texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {piece: i for i, piece in enumerate([*special, *_bytes()])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0",
        special_tokens=[(piece, vocabulary[piece]) for piece in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{f"{p[1:-1].lower()}_token": p for p in special},
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=max_length,
        **more,
    )


_CHARACTERS: Mapping[str, Callable[..., PreTrainedTokenizerFast]] = {
    "bert": _word_piece,
    "electra": _word_piece,
    "roberta": _roberta_bytes,
    "modernbert": _modernbert_bytes,
}
"""Family -> the tokenizer of its models with random weights."""
