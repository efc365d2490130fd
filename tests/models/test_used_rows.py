"""A table with the rows of some word pieces trains as the whole table does."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification  # noqa: E402

from bluestab.models.built import Built  # noqa: E402
from bluestab.models.layers import LayerMap  # noqa: E402
from bluestab.models.param_plan import ParamPlan, base_plan  # noqa: E402
from bluestab.models.used_rows import hold_used_rows  # noqa: E402

TABLE = "bert.embeddings.word_embeddings.weight"
SIZES = {
    "vocab_size": 200, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
USED = (0, 3, 7, 42, 150, 199)


def network(kind: Any = BertForSequenceClassification) -> Any:
    torch.manual_seed(0)
    return kind(BertConfig(**SIZES)).train()


def built(model: Any, fresh: frozenset[str] = frozenset()) -> Built:
    return Built(
        model=model,
        layers=LayerMap({}, {}, frozenset(), 1),
        fresh=fresh,
        reference={n: p.detach().clone() for n, p in model.named_parameters()},
        initialise=lambda name, random: None,
        loss=lambda logits, batch: torch.nn.functional.cross_entropy(logits, batch["labels"]),
    )


def plan_of(model: Any) -> ParamPlan:
    return base_plan(dict(model.named_parameters()), 0.1)


def trained(model: Any, steps: int) -> None:
    """AdamW with decay over items of the used pieces, clipped; padding (0) among them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.3)
    random = torch.Generator().manual_seed(1)
    for _ in range(steps):
        ids = torch.tensor(USED)[torch.randint(len(USED), (4, 9), generator=random)]
        labels = torch.randint(2, (4,), generator=random)
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()


def test_it_trains_as_the_whole_table_does() -> None:
    whole, model = network(), network()
    narrow = hold_used_rows(built(model), plan_of(model), USED)
    assert model.get_parameter(TABLE).shape == (len(USED) + 1, 16)
    assert narrow.unheld == {TABLE: (200 - len(USED) - 1) * 16}
    assert narrow.numel(TABLE) == 200 * 16
    ids = torch.tensor([[3, 7, 42, 0], [199, 150, 0, 0]])
    assert torch.equal(model.eval()(ids).logits, whole.eval()(ids).logits)
    trained(whole.train(), 12)
    trained(model.train(), 12)
    wide = narrow.plain(model.state_dict())
    expected = whole.state_dict()
    assert wide.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(wide[name], value, rtol=1e-5, atol=1e-6)
    start = narrow.plain({TABLE: narrow.reference[TABLE]})[TABLE]
    moved = (expected[TABLE] - start).abs().amax(dim=1)
    assert moved[list(USED[1:])].min() > 1e-3
    assert 1e-3 < moved[1] < 0.1, "rows of no item decay"


def test_what_is_handed_on_is_what_it_was_at_the_start() -> None:
    model = network()
    one = built(model)
    narrow = hold_used_rows(one, plan_of(model), USED)
    assert torch.equal(narrow.plain(model.state_dict())[TABLE], one.reference[TABLE])
    assert torch.equal(narrow.reference[TABLE], model.get_parameter(TABLE))
    assert one.unheld == {}


def test_other_pieces_are_refused() -> None:
    model = network()
    hold_used_rows(built(model), plan_of(model), USED)
    with pytest.raises(IndexError):
        model(torch.tensor([[3, 8]]))


def test_a_copy_looks_up_in_its_own_table() -> None:
    model = network()
    hold_used_rows(built(model), plan_of(model), USED)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.get_parameter(TABLE).mul_(2)
    ids = torch.tensor([[3, 7]])
    table = twin.get_input_embeddings()
    assert torch.equal(table(ids), 2 * model.get_input_embeddings()(ids))
    assert set(twin.state_dict()) == set(network().state_dict())


def test_padding_stays_without_gradient() -> None:
    model = network()
    hold_used_rows(built(model), plan_of(model), USED)
    model(input_ids=torch.tensor([[3, 0, 0]]), labels=torch.tensor([1])).loss.backward()
    gradient = model.get_parameter(TABLE).grad
    assert [bool(row.any()) for row in gradient] == [False, True, *[False] * 5]


def test_tables_that_stay_whole() -> None:
    def stays(
        model: Any, pieces: Any = USED, fresh: Any = frozenset(), frozen: bool = False
    ) -> bool:
        one, plan = built(model, fresh), plan_of(model)
        name = next(n for n in plan if n.endswith("word_embeddings.weight"))
        if frozen:
            plan = plan.frozen([name])
        return hold_used_rows(one, plan, pieces) is one

    assert not stays(network())
    assert stays(network(), frozen=True)
    assert stays(network(), fresh=frozenset({TABLE}))
    assert stays(network(), range(100)), "little would be saved"
    assert stays(network(BertForMaskedLM)), "the table is the output layer, too"
