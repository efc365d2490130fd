"""A tiny random checkpoint of any family that transformers has, made from its own config class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForMaskedLM, PreTrainedTokenizerFast
from transformers.utils import logging

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "embedding_size": 16,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "cls_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
    "mask_token_id": 4,
}
AFTER_PADDING = {"max_position_embeddings": 258, "pad_token_id": 1, "bos_token_id": 0}
V3 = {
    **{"relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm"},
    **{"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    "type_vocab_size": 0,
}
MORE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("roberta", "xlm-roberta", "camembert", "data2vec-text", "ibert", "roberta-prelayernorm"),
        AFTER_PADDING,
    ),
    **dict.fromkeys(("xlm-roberta-xl", "mpnet"), AFTER_PADDING),
    "deberta-v2": V3,
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
    "distilbert": {"hidden_dim": 48},
    "longformer": {**AFTER_PADDING, "attention_window": 8},
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "eurobert": {"num_key_value_heads": 2, "head_dim": 8},
    "nomic_bert": {"head_dim": 8},
    "luke": {**AFTER_PADDING, "entity_vocab_size": 10, "entity_emb_size": 16},
    "xmod": {**AFTER_PADDING, "languages": ["en_XX"], "default_language": "en_XX"},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "esm": {"mask_token_id": 4, "position_embedding_type": "absolute", **AFTER_PADDING},
    "mobilebert": {"intra_bottleneck_size": 16, "true_hidden_size": 16},
    "squeezebert": {"embedding_size": 32},
    "layoutlm": {"max_2d_position_embeddings": 64},
    "mra": {"block_per_row": 1},
}


def config_of(family: str, **changes: Any) -> Any:
    """transformers' config of a tiny network; sizes it does not know are left out."""
    kind = CONFIG_MAPPING[family]
    own = {}
    usual = kind()
    for name, value in {**SIZES, **MORE.get(family, {}), **changes}.items():
        own_name = kind.attribute_map.get(name, name)
        if hasattr(usual, own_name) or name in MORE.get(family, {}):
            own[own_name] = value
    return kind(**own)


def checkpoint(family: str, folder: Path, tokenizer: Any = None, **changes: Any) -> Path:
    """A folder as pretraining leaves it: a head for masked words, sharp weights, a tokenizer."""
    logging.set_verbosity_error()
    torch.manual_seed(0)
    network = AutoModelForMaskedLM.from_config(config_of(family, **changes))
    network.save_pretrained(folder)
    (bytes_of(family) if tokenizer is None else tokenizer).save_pretrained(folder)
    return folder


def bytes_of(family: str) -> PreTrainedTokenizerFast:
    """Single bytes, with special pieces at the family's places."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    places = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
    if MORE.get(family, {}).get("pad_token_id") == 1:
        places |= {"<pad>": 1, "<s>": 0}
    vocabulary = dict(places)
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[byte] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[("<s>", places["<s>"]), ("</s>", places["</s>"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"},
        **{"unk_token": "<unk>", "mask_token": "<mask>"},
        model_input_names=["input_ids", "attention_mask"],
    )
