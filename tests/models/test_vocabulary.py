"""Another vocabulary: what random weights take from it, how pretrained ones are fitted to it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.types import MASKED, SEQUENCE  # noqa: E402
from bluestab.models.description import Model  # noqa: E402
from bluestab.models.learn_vocabulary import learn_pieces, write_vocabulary  # noqa: E402
from bluestab.models.networks import load  # noqa: E402
from bluestab.models.tokenizers import load_tokenizer  # noqa: E402
from tests.support.model_yamls import folder, model_of  # noqa: E402, F401

WORDS = Counter({"renal": 9, "renals": 5, "cab": 4, "ab": 3})


@pytest.fixture
def words(tmp_path: Path) -> Path:
    write_vocabulary(learn_pieces(WORDS, 60), tmp_path / "words", cased=False)
    return tmp_path / "words"


def loaded(model: Model, head: Any = MASKED) -> Any:
    return load(model, head=head, n_labels=1, attention="eager")


def test_random_weights_have_the_size_of_the_vocabulary(words: Path) -> None:
    model = model_of("tiny", vocabulary=str(words))
    n = len(load_tokenizer(model))
    found = loaded(model)
    assert found.network.config.vocab_size == n < 60
    assert found.network.bert.embeddings.word_embeddings.weight.shape == (n, 32)
    assert found.network.config.pad_token_id == 0
    assert load_tokenizer(model).tokenize("Renal cab") == ["renal", "cab"]


def test_its_content_is_part_of_what_the_weights_are(words: Path, tmp_path: Path) -> None:
    one = model_of("tiny", vocabulary=str(words)).identity()
    assert one != model_of("tiny").identity()
    (tmp_path / "moved").symlink_to(words)
    assert model_of("tiny", vocabulary=str(tmp_path / "moved")).identity() == one
    write_vocabulary(learn_pieces(WORDS, 20), tmp_path / "other", cased=False)
    assert model_of("tiny", vocabulary=str(tmp_path / "other")).identity() != one


def test_a_pretrained_network_keeps_known_rows_and_averages_for_new_ones(
    words: Path,
    folder: Path,  # noqa: F811
) -> None:
    plain = model_of("tiny", config=None, path=str(folder))
    other = model_of("tiny", config=None, path=str(folder), vocabulary=str(words))
    assert other.identity() == f"{plain.identity()}+vocabulary:{other.identity()[-16:]}"
    before, after = loaded(plain, SEQUENCE), loaded(other, SEQUENCE)
    was, becomes = load_tokenizer(plain), load_tokenizer(other)
    old = before.network.bert.embeddings.word_embeddings.weight
    new = after.network.bert.embeddings.word_embeddings.weight
    assert len(new) == len(becomes) == after.network.config.vocab_size
    for piece in ("[MASK]", "a", "##b"):
        ids = (was.convert_tokens_to_ids(piece), becomes.convert_tokens_to_ids(piece))
        assert torch.equal(old[ids[0]], new[ids[1]])
    pieces = was.convert_tokens_to_ids(["r", "##e", "##n", "##a", "##l"])
    row = new[becomes.convert_tokens_to_ids("renal")]
    assert torch.allclose(row, old[pieces].mean(dim=0), atol=1e-7)
    for name, value in after.network.named_parameters():
        if "word_embeddings" not in name and name not in after.fresh:
            assert torch.equal(value, dict(before.network.named_parameters())[name]), name
    again = loaded(plain, SEQUENCE).network.bert.embeddings.word_embeddings.weight
    assert torch.equal(again, old), "what others share was changed"


def test_tied_weights_stay_tied(words: Path, folder: Path) -> None:  # noqa: F811
    network = loaded(model_of("tiny", config=None, path=str(folder), vocabulary=str(words))).network
    assert network.cls.predictions.decoder.weight is network.bert.embeddings.word_embeddings.weight
    assert len(network.cls.predictions.bias) == network.config.vocab_size


def test_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a folder nor one of an installed") as error:
        model_of("tiny", vocabulary=str(tmp_path / "nowhere")).identity()
    assert "bluestab vocabulary TEXT --out DIR" in str(error.value)
    with pytest.raises(ConfigError, match=r"holds no tokenizer\.json"):
        model_of("tiny", vocabulary=str(tmp_path)).identity()
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no tokenizer that can be read"):
        loaded(model_of("tiny", vocabulary=str(tmp_path)))
