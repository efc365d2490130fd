"""The network that compares texts, against passes of single ones and a loop over pairs."""

import math
from typing import Any

import pytest
import torch

from bluestab.core.config import compose, resolved
from bluestab.core.instantiate import instantiate
from bluestab.core.types import VECTOR
from bluestab.models.bi_encoder import NEVER, TEMPERATURE, candidate_logits
from bluestab.models.description import Model
from bluestab.models.fisher import fisher
from bluestab.models.networks import load


def network(name: str, head: str = "default") -> Any:
    node = resolved(compose([f"model={name}", f"model.head={head}"]))["model"]
    model = instantiate(node, Model, "model")
    return load(model, head=VECTOR, n_labels=2, attention="eager").network.eval()


def batch(pad: int = 0) -> dict[str, torch.Tensor]:
    """Two items of a mention and three candidates, each text of its own length."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 60, (2, 4, 6 + pad), generator=random)
    lengths = torch.tensor([[3, 4, 6, 2], [5, 3, 4, 6]])
    mask = (torch.arange(6 + pad) < lengths[..., None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def by_loop(vectors: torch.Tensor, concepts: list[list[int]]) -> list[list[float]]:
    """(B, 1 + K, H) -> logits, pair by pair: own candidates first, the next items' after them."""
    n, k = len(vectors), vectors.shape[1] - 1
    found = []
    for i in range(n):
        row = []
        for turn in range(n):
            j = (i + turn) % n
            for c in range(k):
                a, b = vectors[i, 0], vectors[j, 1 + c]
                alike = j != i and concepts[j][c] == concepts[i][0]
                cosine = float(a @ b / (a.norm() * b.norm()))
                row.append(NEVER if alike else cosine / TEMPERATURE)
        found.append(row)
    return found


@pytest.mark.parametrize("name", ["tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert"])
def test_logits_are_those_of_single_texts(name: str) -> None:
    net, items, concepts = network(name), batch(), [[7, 1, 2], [3, 7, 4]]
    with torch.no_grad():
        alone = net(**{n: v.flatten(0, 1) for n, v in items.items()}).logits
        found = net(**items, concepts=torch.tensor(concepts)).logits
        assert net(**{n: v[:, 0] for n, v in items.items()}).logits.shape == (2, alone.shape[1])
    expected = by_loop(alone.unflatten(0, (2, 4)), concepts)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-3)
    assert (found == NEVER).nonzero().tolist() == [[0, 4]]


@pytest.mark.parametrize("head", ["linear", "max", "attention"])
def test_other_vectors_can_be_asked_for(head: str) -> None:
    with torch.no_grad():
        found = network("tiny", head)(**batch(), concepts=None).logits
    assert found.shape == (2, 6)
    assert torch.isfinite(found).all()


def test_one_item_is_told_from_its_own_candidates() -> None:
    random = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(3, 4, 5, generator=random), dim=-1)
    whole = candidate_logits(vectors[:, 0], vectors[:, 1:], None)
    for i in range(3):
        alone = candidate_logits(vectors[i : i + 1, 0], vectors[i : i + 1, 1:], None)
        assert torch.equal(alone[0], whole[i, :3])
    never = torch.tensor([0.0, NEVER]).softmax(dim=0)[1]
    assert never == 0
    assert math.isfinite(NEVER)


def test_padding_takes_no_part_in_curvature() -> None:
    """Factors of items with several texts are the same however far these are padded."""
    net = network("tiny")
    names = {n for n, _ in net.named_parameters() if "layer.0" in n or "embeddings" in n}
    found = []
    for pad in (0, 3):
        items = {
            **batch(pad),
            "labels": torch.zeros(2, dtype=torch.long),
            "concepts": torch.tensor([[7, 1, 2], [3, 7, 4]]),
        }
        items["input_ids"][..., :6] = batch()["input_ids"]
        found.append(fisher(net, names, [items], labels="gold", sharing="expand"))
    assert {type(block).__name__ for block in found[0].blocks} == {
        "KroneckerBlock", "LookupBlock", "Diagonal",
    }  # fmt: skip
    for one, other in zip(found[0].blocks, found[1].blocks, strict=True):
        for a, b in zip(one.factors(), other.factors(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
