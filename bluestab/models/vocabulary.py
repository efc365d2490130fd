"""The folder of a tokenizer that stands in for a model's own: `model.vocabulary`, read here; made
of a text in `learn_vocabulary.py`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import ConfigError
from bluestab.data.locate import sha256_of
from bluestab.models.foreign import foreign

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

FILE = "tokenizer.json"
PADDING, UNKNOWN = ("[PAD]", "<pad>"), ("[UNK]", "<unk>")


def digest_of_vocabulary(folder: Path) -> str:
    """SHA-256 of what a tokenizer does, wherever it lies."""
    files = (folder / FILE, folder / "tokenizer_config.json")
    said = "".join(f"{file.name} {sha256_of(file)}\n" for file in files if file.is_file())
    return hashlib.sha256(said.encode()).hexdigest()


def config_of(folder: Path) -> dict[str, int]:
    """What the config of a network with random weights takes from its vocabulary: how many pieces
    there are, and which fills batches. Raises ConfigError if it cannot be read."""
    found = _read(folder)
    fills = [n for piece in PADDING if (n := found.token_to_id(piece)) is not None]
    return {"vocab_size": found.get_vocab_size(), **({"pad_token_id": fills[0]} if fills else {})}


def exchange(network: nn.Module, old: Path, new: Path) -> None:
    """Give a pretrained network another vocabulary: pieces that both have keep their row of the
    embeddings (and their bias in the head of a language model), a new one starts as the mean of the
    rows of the old pieces it is made of, or of all rows if they are unknown.

    old, new  folders of the tokenizers
    """
    import torch

    net: Any = network
    was, becomes = _read(old), _read(new)
    table = net.get_input_embeddings().weight.detach().clone()  # (V_old, E)
    head = net.get_output_embeddings()
    bias = None if head is None or head.bias is None else head.bias.detach().clone()  # (V_old,)
    pieces = sorted(becomes.get_vocab().items(), key=lambda item: item[1])
    if [number for _, number in pieces] != list(range(len(pieces))):
        raise ConfigError(f"{new / FILE}: the numbers of its pieces have gaps")
    rows = [_old_pieces(piece, was) for piece, _ in pieces]
    net.resize_token_embeddings(len(pieces), mean_resizing=False)
    every = list(range(len(table)))
    with torch.no_grad():
        embeddings = net.get_input_embeddings().weight
        for number, known in enumerate(rows):
            embeddings[number] = table[known or every].mean(dim=0)
            if bias is not None:
                net.get_output_embeddings().bias[number] = bias[known or every].mean()


def _old_pieces(piece: str, was: Tokenizer) -> list[int]:
    """The numbers of the old pieces that a new one is made of; its own, if it is known."""
    if (own := was.token_to_id(piece)) is not None:
        return [own]
    unknown = {was.token_to_id(name) for name in UNKNOWN}
    found = was.encode(piece.removeprefix("##"), add_special_tokens=False).ids
    return [number for number in found if number not in unknown]


def _read(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    with foreign(folder / FILE, "holds no tokenizer that can be read"):
        return Tokenizer.from_file(str(folder / FILE))
