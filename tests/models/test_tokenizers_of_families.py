"""Offsets, words and round trips of the kinds of tokenizers: bytes, word pieces, SentencePiece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer
from transformers import PreTrainedTokenizerFast

from bluestab.models.discover import AUTO, FOUND, described
from bluestab.models.tokenizers import load_tokenizer
from tests.support.encoders import checkpoint
from tests.support.model_yamls import NODES, model_of

TEXTS = {
    "ligature": "the \ufb01rst \ufb02are of p53",
    "combining": "nai\u0308ve cells, Gru\u0308n e\u0301t",
    "emoji": "fever \U0001f912 and \U0001f469\u200d\u2695\ufe0f care",
    "soft hyphen": "hyper\u00adtension and hypo\u00adtension",
    "CRLF": "first line\r\nsecond line",
    "plain": "Loss of TP53 is found in half of all colon cancers (1).",
}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def trained(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of its kind, as the family's published one is built, trained on these texts."""
    texts = [*TEXTS.values()] * 3
    trainer: Any
    if kind == "bytes":  # RoBERTa, Longformer, EuroBERT, ModernBERT
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = BpeTrainer(vocab_size=290, special_tokens=SPECIAL, initial_alphabet=alphabet)
    elif kind == "sentencepiece":  # DeBERTa-v3, XLM-RoBERTa, CamemBERT, ALBERT
        backend = Tokenizer(models.Unigram())
        backend.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Replace(" {2,}", " ")]
        )
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>")
    else:  # BERT, DistilBERT, MPNet
        backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = WordPieceTrainer(vocab_size=290, special_tokens=SPECIAL)
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"},
        **{"unk_token": "<unk>", "mask_token": "<mask>"},
    )


@pytest.fixture(scope="module", params=["bytes", "sentencepiece", "wordpiece"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    family = {"bytes": "longformer", "sentencepiece": "xlm-roberta", "wordpiece": "mpnet"}
    folder: Path = tmp_path_factory.mktemp(request.param)
    checkpoint(family[request.param], folder, trained(request.param))
    node = {**NODES["tiny"], "config": None, **dict.fromkeys(FOUND, AUTO), "path": str(folder)}
    return model_of("tiny", **described(node))


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_offsets_are_characters_of_the_text(model: Any, text: str) -> None:
    """In order, inside the text, and together all of it but blanks and what is not printed."""
    found = load_tokenizer(model)(text, return_offsets_mapping=True, add_special_tokens=False)
    offsets = found["offset_mapping"]
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert offsets == sorted(offsets)
    read = {i for start, end in offsets for i in range(start, end)}
    unread = {c for i, c in enumerate(text) if i not in read}
    assert unread <= {" ", "\r", "\n", "\u00ad", "\u200d", "\ufe0f", "\u0308", "\u0301"}, unread


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_words_one_by_one_have_the_pieces_they_have_in_the_text(model: Any, text: str) -> None:
    words = text.split()
    tokenizer = load_tokenizer(model, words=True)
    apart = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
    assert set(apart.word_ids()) == set(range(len(words))), "no word is lost"
    if "\r" not in text:
        together = tokenizer(" ".join(words), add_special_tokens=False)
        assert apart["input_ids"] == together["input_ids"]


AS_ON_THE_HUB = {
    "deberta-v2": "spm.model",
    "xlm-roberta": "sentencepiece.bpe.model",
    "camembert": "sentencepiece.bpe.model",
    "albert": "spiece.model",
}


@pytest.mark.parametrize(("family", "file"), AS_ON_THE_HUB.items())
def test_a_folder_with_a_model_of_sentencepiece_alone(
    family: str, file: str, tmp_path: Path
) -> None:
    """As DeBERTa-v3 is published: no tokenizer.json. Pieces are those of sentencepiece itself."""
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    folder = checkpoint(family, tmp_path / "checkpoint")
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text("{}")
    named: dict[str, Any] = {"bos_piece": "[CLS]", "eos_piece": "[SEP]"}
    own = {"deberta-v2": {**named, "unk_piece": "[UNK]"}, "albert": {**named, "pad_id": 3}}
    SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS.values()] * 20),
        model_prefix=str(tmp_path / "trained"),
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
        **own.get(family, {}),
    )
    (tmp_path / "trained.model").rename(folder / file)
    node = {**NODES["tiny"], "config": None, **dict.fromkeys(FOUND, AUTO), "path": str(folder)}
    tokenizer = load_tokenizer(model_of("tiny", **described(node)))
    reference = SentencePieceProcessor(model_file=str(folder / file))
    text = TEXTS["plain"].lower()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == reference.encode(text, out_type=str)
    assert tokenizer.unk_token_id not in ids
