"""A WordPiece vocabulary of somebody's own text, the same whenever it is made of the same text.

The trainer of the tokenizers library numbers letters as it meets them in a hash table, and ties
between pairs are broken by these numbers: two runs of it give different pieces. Here letters have
their numbers before it starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bluestab.core.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MOST_LETTERS = 1000
"""Of a vocabulary; words with rarer ones become [UNK], as with BERT's."""
REPEATED = 4096
"""Times that a word is handed to the trainer in one line."""


def words_in(texts: Iterable[str], *, cased: bool) -> Counter[str]:
    """How often each word occurs, as BERT's tokenizer divides texts: lowered and without accents
    unless `cased`, punctuation by itself."""
    from tokenizers.pre_tokenizers import BertPreTokenizer

    divide, normalise = BertPreTokenizer(), normalizer(cased=cased)
    found: Counter[str] = Counter()
    for text in texts:
        words = divide.pre_tokenize_str(normalise.normalize_str(text))
        found.update(word for word, _ in words)
    return found


def normalizer(*, cased: bool) -> Normalizer:
    """What BERT's tokenizer does to a text first."""
    from tokenizers.normalizers import BertNormalizer

    return BertNormalizer(lowercase=not cased)


def learn_pieces(words: Counter[str], size: int) -> list[str]:
    """The pieces of a WordPiece vocabulary, special ones first; fewer than `size` if the text does
    not give more.

    Raises ConfigError if `size` does not hold even the letters.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    letters = Counter[str]()
    for word, n in words.items():
        for letter in set(word):
            letters[letter] += n
    frequent = sorted(letters.items(), key=lambda item: (-item[1], item[0]))
    kept = {letter for letter, _ in frequent[:MOST_LETTERS]}
    used = {word: n for word, n in sorted(words.items()) if kept.issuperset(word)}
    begin = sorted({word[0] for word in used})
    inside = sorted({f"##{letter}" for word in used for letter in word[1:]})
    fixed = [*SPECIAL, *begin, *inside]
    if not used:
        raise ConfigError("there is no word in the text")
    if size < len(fixed):
        raise ConfigError(
            f"--size is {size}, but the text has {len(fixed)} letters and special pieces alone; "
            f"say --size {max(1000, 2 * len(fixed))} or more"
        )
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=2, special_tokens=fixed, show_progress=False
    )
    tokenizer.train_from_iterator(_lines(used), trainer)
    numbers = tokenizer.get_vocab()
    return sorted(numbers, key=numbers.__getitem__)


def _lines(words: dict[str, int]) -> Iterator[str]:
    """Each word as often as it occurs."""
    for word, n in words.items():
        for start in range(0, n, REPEATED):
            yield " ".join([word] * min(REPEATED, n - start))


def write_vocabulary(
    pieces: list[str], folder: Path, *, cased: bool, max_length: int = 512
) -> None:
    """The folder of a tokenizer that plain transformers loads.

    Raises ConfigError if there is one already, or if it cannot be written.
    """
    from transformers import BertTokenizer

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--out is '{folder}', which is there and not empty; name a new folder")
    tokenizer = BertTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        do_lower_case=not cased,
        model_max_length=max_length,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(folder)
        text = "".join(f"{piece}\n" for piece in pieces)
        (folder / "vocab.txt").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out is '{folder}': cannot be written ({error.strerror})") from error
