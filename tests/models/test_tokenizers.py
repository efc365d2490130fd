"""Tokenizers follow their family, keep borders and capitals, and padding changes no logits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
)

from bluestab.core.errors import ConfigError
from bluestab.core.types import SEQUENCE, TOKEN, Head
from bluestab.models.networks import load
from bluestab.models.passes import model_logits
from bluestab.models.tokenizers import load_tokenizer
from bluestab.training.loop.batches import collate
from bluestab.training.tokenise import tokenised
from tests.support.model_yamls import FAMILIES, HEADS, NODES, SENTENCES, model_of, sharpened

each_head = pytest.mark.parametrize("head", HEADS, ids=("sequence", "token"))
each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_tokenizers_follow_their_family(family: str) -> None:
    tokenizer = load_tokenizer(model_of(FAMILIES[family]))
    pair = tokenizer("ab c", "d")
    pieces = tokenizer.convert_ids_to_tokens(pair["input_ids"])
    expected = {
        "bert": "[CLS] a ##b c [SEP] d [SEP]",
        "electra": "[CLS] a ##b c [SEP] d [SEP]",
        "roberta": "<s> a b Ġ c </s> </s> d </s>",
        "modernbert": "[CLS] a b Ġ c [SEP] d [SEP]",
    }[family]
    assert " ".join(pieces) == expected
    assert ("token_type_ids" in pair) == (family in ("bert", "electra"))
    config = AutoConfig.for_model(family, **NODES[FAMILIES[family]]["config"])
    assert tokenizer.pad_token_id == config.pad_token_id
    assert len(tokenizer) == config.vocab_size


@each_family
@pytest.mark.parametrize("own_folder", [False, True])
def test_words_that_come_one_by_one_keep_their_borders(
    family: str, own_folder: bool, tmp_path: Path
) -> None:
    """`add_prefix_space` of transformers has no effect on ModernBERT's class: words were glued."""
    model = model_of(FAMILIES[family])
    if own_folder:
        load(model, head=TOKEN, n_labels=2, attention="eager").network.base_model.save_pretrained(
            tmp_path
        )  # type: ignore[union-attr, operator]
        load_tokenizer(model).save_pretrained(tmp_path)
        model = replace(model, path=str(tmp_path))
    text, words = "ab c de", ["ab", "c", "de"]
    by_word = load_tokenizer(model, words=True)
    found = by_word(words, is_split_into_words=True)
    whole = load_tokenizer(model)
    assert found["input_ids"] == by_word(text)["input_ids"]
    borders = whole(text)["input_ids"]
    if family in ("roberta", "modernbert"):
        space = whole.convert_tokens_to_ids("Ġ")
        assert found["input_ids"] == [borders[0], space, *borders[1:]]
        assert borders.count(space) == 2
    else:
        assert found["input_ids"] == borders
        assert by_word is whole
    assert [w for w in found.word_ids(0) if w is not None] == sorted(
        w for w in found.word_ids(0) if w is not None
    )
    assert set(found.word_ids(0)) == {None, 0, 1, 2}


@pytest.mark.parametrize("lower_case", [None, True, False])
def test_capitals(lower_case: bool | None, folder: Path) -> None:
    """Three cased models come with a tokenizer that lowers, because their folders do not say."""
    bare = folder / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, bare)
    words = load_tokenizer(model_of("tiny")).get_vocab()
    cased = [*sorted(words, key=words.get), "T", "##P"]  # type: ignore[arg-type]
    (bare / "vocab.txt").write_text("\n".join(cased))
    for path in (None, str(folder), str(bare)):
        tokenizer = load_tokenizer(model_of("tiny", lower_case=lower_case, path=path))
        upper, lower = (tokenizer(text)["input_ids"] for text in ("TP", "tp"))
        assert (upper == lower) == (lower_case is not False)
    tokenizer.save_pretrained(folder / "saved")
    again = AutoTokenizer.from_pretrained(folder / "saved")
    assert again("TP")["input_ids"] == upper, "what a run keeps tokenises as the run did"


def test_capitals_of_one_process_do_not_mix(make_run: Any) -> None:
    """Same weights, same items: the word pieces kept in memory are told apart all the same."""
    pieces = []
    for lower_case in ("null", "false"):
        run = make_run("task=gad", "model=tiny", f"model.lower_case={lower_case}")
        table, _ = tokenised(run.data, run.data.splits["train"], run.model)
        pieces.append(table["input_ids"][:])
    assert pieces[0] != pieces[1]


def test_a_tokenizer_that_cannot_obey_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    model = model_of("tiny_modernbert")
    load(model, head=TOKEN, n_labels=2, attention="eager").network.save_pretrained(tmp_path)  # type: ignore[operator]
    backend = Tokenizer(WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]").save_pretrained(tmp_path)
    model = replace(model, path=str(tmp_path))
    with pytest.raises(ConfigError, match="which has no add_prefix_space; give a folder"):
        load_tokenizer(model, words=True)
    with pytest.raises(ConfigError, match="normalizer of its tokenizer is None"):
        load_tokenizer(replace(model, lower_case=False))


@each_family
@each_head
def test_padding_changes_no_logits(family: str, head: Head, tmp_path: Path) -> None:
    """A padded batch, its items alone, and plain transformers with its own padding agree."""
    model = model_of(FAMILIES[family])
    tokenizer = load_tokenizer(model)
    network = sharpened(load(model, head=head, n_labels=3, attention="eager").network)
    network.save_pretrained(tmp_path)  # type: ignore[operator]
    columns = tokenizer(SENTENCES, SENTENCES[::-1], return_attention_mask=False)
    items = [
        {**{k: columns[k][i] for k in columns}, "labels": 0, "item": i}
        for i in range(len(SENTENCES))
    ]

    def logits(which: list[dict[str, Any]], **changes: Any) -> torch.Tensor:
        batch = {**collate(which, int(tokenizer.pad_token_id)), **changes}  # type: ignore[arg-type]
        with torch.no_grad():
            return model_logits(network, batch)

    together = logits(items)
    bare = HEADS[head].from_pretrained(tmp_path, attn_implementation="sdpa").eval()
    with torch.no_grad():
        theirs = bare(
            **tokenizer(SENTENCES, SENTENCES[::-1], padding=True, return_tensors="pt")
        ).logits
    longest = max(map(len, columns["input_ids"]))
    unmasked = logits(items, attention_mask=torch.ones(len(items), longest, dtype=torch.long))
    for i, item in enumerate(items):
        n = len(item["input_ids"])
        rows = slice(None) if head == SEQUENCE else slice(0, n)
        alone = logits([item])[0]
        assert torch.allclose(together[i][rows], alone, atol=1e-5)
        assert torch.allclose(theirs[i][rows], alone, atol=1e-5)
        if n < longest:
            assert not torch.allclose(unmasked[i][rows], alone, atol=1e-2), "padding must matter"
    assert any(len(item["input_ids"]) < longest for item in items)


@each_family
def test_the_longest_input_fits(family: str) -> None:
    """RoBERTa numbers its positions from 2 on: 514 of them are 512 word pieces."""
    model = model_of(FAMILIES[family])
    network = load(model, head=TOKEN, n_labels=2, attention="eager").network.eval()
    pieces = torch.full((1, model.max_length), 7)
    with torch.no_grad():
        assert network(input_ids=pieces).logits.shape == (1, model.max_length, 2)
        if family != "modernbert":  # its positions are computed, not looked up
            with pytest.raises((IndexError, RuntimeError)):
                network(input_ids=torch.full((1, model.max_length + 1), 7))
