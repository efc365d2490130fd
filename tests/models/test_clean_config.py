"""What of a stranger's config reaches transformers: listed numbers and names, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import ConfigError
from bluestab.core.types import SEQUENCE
from bluestab.models.clean_config import (
    KEYS,
    clean_config,
    clean_tokenizer,
    clean_tokenizer_config,
)
from bluestab.models.foreign import foreign
from tests.support.model_yamls import FAMILIES, model_of

WHERE = Path("folder/config.json")
WRONG: tuple[Any, ...] = (-1, 10**12, 1e400, float("nan"), "evil/kernel", [1], {"a": 1}, True, 2.5)


def usual(family: str) -> dict[str, Any]:
    """As transformers writes the config of a network of this family."""
    from transformers import AutoConfig

    return json.loads(AutoConfig.for_model(family).to_json_string(use_diff=False))  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_that_a_network_needs_is_lost(family: str) -> None:
    from transformers import AutoConfig

    said = usual(family)
    assert set(KEYS) == set(FAMILIES)
    again = AutoConfig.for_model(family, **clean_config(said, WHERE))
    assert json.loads(again.to_json_string(use_diff=False)) == said


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_listed_is_dropped(family: str) -> None:
    more = {
        "_attn_implementation": "evil/kernel",
        "attn_implementation": "evil/kernel",
        "_experts_implementation": "evil/kernel",
        "dtype": "evil",
        "num_labels": 10**9,
        "a_key_of_later_days": {"name": "evil/code"},
    }
    assert clean_config({**usual(family), **more}, WHERE) == clean_config(usual(family), WHERE)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_has_values_that_are_refused(family: str) -> None:
    for key, (holds, _) in KEYS[family].items():
        refused = [value for value in WRONG if not holds(value)]
        assert len(refused) >= 5, key
        for value in refused:
            with pytest.raises(ConfigError, match=rf"config.json has {key} .*: expected") as caught:
                clean_config({**usual(family), key: value}, WHERE)
            assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": ["bert"]}, r"model_type \['bert'\]"),
        ({"model_type": "opt"}, "model_type 'opt': no encoder that can be trained here"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"num_attention_heads": 7}, "expected a multiple of num_attention_heads"),
        ({"pad_token_id": 40_000}, "less than vocab_size"),
    ],
)
def test_another_network_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        clean_config({**usual("bert"), **change}, WHERE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer_class", "LlamaTokenizer"),
        ("tokenizer_class", ["evil", "Evil"]),
        ("pad_token", {"content": "[PAD]", "__type": "os.system"}),
        ("pad_token", 3),
        ("added_tokens_decoder", {"1e9": "[PAD]"}),
        ("model_input_names", ["evil"]),
        ("model_max_length", -1),
        ("do_lower_case", "yes"),
    ],
)
def test_a_tokenizer_is_described_by_data(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"has {key}"):
        clean_tokenizer_config({key: value}, WHERE)


def test_a_tokenizer_is_read_from_a_folder_made_anew(tmp_path: Path) -> None:
    """It holds the vocabulary alone, and is gone afterwards."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / "chat_template.jinja").write_text("{{ evil }}")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_file": "/etc/passwd"}')
    before = sorted(tmp_path.iterdir())
    with clean_tokenizer(tmp_path, "bert") as clean:
        names = sorted(path.name for path in clean.iterdir())
        assert names == ["config.json", "tokenizer_config.json", "vocab.txt"]
        assert json.loads((clean / "tokenizer_config.json").read_text()) == {}
    assert not clean.exists()
    assert sorted(tmp_path.iterdir()) == before


PROMISES = {
    "intermediate_size": 2**18,
    "max_position_embeddings": 2**20,
    "type_vocab_size": 1024,
    "vocab_size": 2**24,
}


@pytest.mark.parametrize("key", PROMISES)
def test_shapes_are_compared_before_memory_is_taken(tmp_path: Path, key: str) -> None:
    pytest.importorskip("torch")
    from transformers import AutoConfig, BertForSequenceClassification

    from bluestab.models.networks import load_trained

    model = model_of("tiny", path=str(tmp_path))
    config = AutoConfig.for_model("bert", **(model.config or {}))
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    load_trained(model, head=SEQUENCE, n_labels=2, attention="eager")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: PROMISES[key]}))
    with pytest.raises(ConfigError, match=r"config.json promises .* of shape"):
        load_trained(model, head=SEQUENCE, n_labels=2, attention="eager")


def test_a_librarys_error_is_one_sentence_about_the_folder() -> None:
    class PanicException(BaseException):
        """As Rust's panics arrive in Python: no Exception."""

    for error in (RuntimeError("a\n  b"), KeyError("x"), PanicException("index out of bounds")):
        with pytest.raises(ConfigError) as caught, foreign("out", "cannot be read"):
            raise error
        assert str(caught.value).startswith(f"out cannot be read ({type(error).__name__}: ")
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is error
    passing: tuple[BaseException, ...] = (KeyboardInterrupt(), MemoryError(), ConfigError("said"))
    for error in passing:
        with pytest.raises(type(error)) as as_it_is, foreign("out", "cannot be read"):
            raise error
        assert as_it_is.value is error
