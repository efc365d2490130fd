"""Every parameter has exactly one depth; what matches nothing is an error, not a guess."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bluestab.models.layers import LayerMap, layer_map

BERT = [
    "bert.embeddings.word_embeddings.weight",
    "bert.embeddings.LayerNorm.bias",
    *(f"bert.encoder.layer.{i}.output.dense.weight" for i in range(12)),
    "bert.pooler.dense.weight",
    "classifier.weight",
    "classifier.bias",
]


def mapped(
    names: Sequence[str],
    *,
    embeddings: Sequence[str] = ("embeddings",),
    above: Sequence[str] = ("pooler",),
    n_layers: int = 12,
) -> LayerMap:
    return layer_map(
        names,
        encoder="bert",
        embeddings=embeddings,
        blocks="encoder.layer",
        above=above,
        n_layers=n_layers,
    )


def test_depths_by_hand() -> None:
    layers = mapped(BERT)
    assert list(layers.depth.values()) == [0, 0, *range(1, 13), 13, 13, 13]
    assert list(layers.depth) == BERT
    assert (layers.top, layers.n_layers) == (13, 12)
    assert layers.head == {"classifier.weight", "classifier.bias"}
    assert layers.names(0) == BERT[:2]
    assert layers.names(13, 1) == [BERT[2], *BERT[-3:]], "in the model's own order"
    assert layers.names() == []
    assert layers.modules[0] == ("bert.embeddings",)
    assert layers.modules[12] == ("bert.encoder.layer.11",)
    assert set(layers.modules) == set(range(13))


def test_block_10_is_not_block_1() -> None:
    assert mapped(BERT).names(2) == ["bert.encoder.layer.1.output.dense.weight"]


def test_a_prefix_of_a_name_is_not_its_path() -> None:
    """`embeddings` does not match `embeddings_project`, `bert` does not match `bertha`."""
    names = ["bert.embeddings_project.weight", *BERT]
    with pytest.raises(ValueError, match=r"1 parameters .*'bert\.embeddings_project\.weight'"):
        mapped(names)
    both = mapped(names, embeddings=("embeddings", "embeddings_project"))
    assert both.depth["bert.embeddings_project.weight"] == 0
    assert set(both.modules[0]) == {"bert.embeddings", "bert.embeddings_project"}
    assert mapped(["bertha.weight", *BERT]).depth["bertha.weight"] == 13


def test_parts_that_the_model_lacks_are_not_listed() -> None:
    """ELECTRA-base has no projection although small ELECTRA has: one yaml serves both."""
    layers = mapped(BERT, embeddings=("embeddings", "embeddings_project"))
    assert layers.modules[0] == ("bert.embeddings",)


@pytest.mark.parametrize(
    "stray", ["bert.final_norm.weight", "bert.encoder.layer.weight", "bert.encoder.layer.x.weight"]
)
def test_a_parameter_that_belongs_nowhere_is_an_error(stray: str) -> None:
    with pytest.raises(ValueError, match="belong to no layer") as caught:
        mapped([*BERT, stray])
    assert stray in str(caught.value)


def test_an_undeclared_pooler_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"bert\.pooler\.dense\.weight"):
        mapped(BERT, above=())


@pytest.mark.parametrize("said", [11, 13])
def test_the_number_of_blocks_must_be_right(said: int) -> None:
    with pytest.raises(ValueError, match=f"has 12 blocks .* says {said}"):
        mapped(BERT, n_layers=said)


def test_a_missing_block_in_the_middle_is_an_error() -> None:
    with pytest.raises(ValueError, match="has 11 blocks"):
        mapped([name for name in BERT if ".5." not in name])


def test_the_map_cannot_be_changed() -> None:
    layers = mapped(BERT)
    with pytest.raises(TypeError):
        layers.depth["classifier.bias"] = 0  # type: ignore[index]
    with pytest.raises(TypeError):
        layers.modules[0] = ()  # type: ignore[index]
