"""Runs that train as one have the bits of runs that train alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.store.store import Store  # noqa: E402
from bluestab.training.check import Run  # noqa: E402
from bluestab.training.execute import execute  # noqa: E402
from bluestab.training.families import pack_group_key  # noqa: E402
from bluestab.training.packed.training import Group  # noqa: E402
from tests.conftest import Make  # noqa: E402
from tests.support.packed_groups import ASKED, SHORT, fitted, told  # noqa: E402


def bits(group: Group, place: int) -> tuple[Any, ...]:
    """All that training made of one run."""
    sibling = group.siblings[place]
    weights = [p.detach().clone() for p in sibling.built.model.parameters()]
    rows = [{k: v for k, v in row.items() if v is not None} for row in sibling.history.rows]
    return rows, weights, [logits.tolist() for logits in sibling.item_logits]


def assert_same_bits(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert repr(one[0]) == repr(other[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    assert repr(one[2]) == repr(other[2])


@pytest.mark.parametrize("arm", ["none", "mixout,rdrop"])
def test_a_run_has_the_same_bits_wherever_it_stands(make_run: Make, arm: str) -> None:
    def run(seed: int) -> Run:
        return make_run(*ASKED, f"technique=[{arm}]".replace("[none]", "none"), f"seed={seed}")

    first = fitted([run(3), run(4), run(5)])
    last = fitted([run(4), run(5), run(3)])
    assert_same_bits(bits(first, 0), bits(last, 2))
    assert bits(first, 0)[2] != bits(first, 1)[2]


def test_how_many_train_together_changes_rounding_at_most(make_run: Make) -> None:
    alone = fitted([make_run(*ASKED, "seed=3")])
    among = fitted([make_run(*ASKED, f"seed={s}") for s in range(6)])
    one, other = alone.siblings[0].history.rows, among.siblings[3].history.rows
    assert [r["train_loss"] for r in one] == pytest.approx([r["train_loss"] for r in other], 1e-6)


def test_siblings_may_differ_in_scalars(make_run: Make) -> None:
    """Rate, warm-up, decay, clipping, bias correction, knobs of techniques: as each by itself."""
    asked = (*ASKED, "technique=[llrd,prior_decay,rdrop]")
    others = [
        ("optim.lr=3e-3", "technique.llrd.decay=0.5"),
        ("optim.warmup=3", "optim.weight_decay=0.3", "technique.prior_decay.alpha=0.2"),
        ("optim.clip=0.01", "optim.bias_correction=false", "technique.rdrop.alpha=4"),
        ("optim.beta1=0.5", "optim.beta2=0.9", "optim.eps=1e-3", "optim.clip=null"),
    ]
    runs = [make_run(*asked, *knobs, "seed=1") for knobs in others]
    assert len({pack_group_key(run) for run in runs}) == 1
    together = fitted(runs)
    ends = set()
    for place, knobs in enumerate(others):
        alone = fitted([make_run(*asked, *knobs, "seed=1")]).siblings[0].history.rows[-1]
        found = together.siblings[place].history.rows[-1]
        assert found["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-5)
        ends.add(round(found["train_loss"], 9))
    assert len(ends) == len(others)


FROZEN_2 = ("technique=freeze", "technique.freeze.depth=2")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("task=gad",), ("task=hoc",)),
        (("optim.batch_size=4",), ("optim.batch_size=5",)),
        (("technique=none",), ("technique=llrd",)),
        (("technique=rdrop",), ("technique=rdrop", "technique.rdrop.alpha=0")),
        (("technique=freeze", "technique.freeze.depth=1"), FROZEN_2),
        (("seeds.split=0",), ("seeds.split=1",)),
        (("keep=none",), ("keep=last",)),
    ],
)
def test_what_siblings_must_share(
    make_run: Make, one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    runs = [make_run("task=gad", "model=tiny", *SHORT[2:3], *knobs) for knobs in (one, other)]
    assert pack_group_key(runs[0]) != pack_group_key(runs[1])


def test_a_run_that_diverges_leaves_the_others_their_bits(make_run: Make) -> None:
    def run(seed: int, *knobs: str) -> Run:
        return make_run(*ASKED, *knobs, f"seed={seed}")

    calm = fitted([run(0), run(1), run(2)])
    wild = fitted([run(0), run(1, "optim.lr=1e30", "optim.clip=null", "optim.warmup=0"), run(2)])
    broken = wild.siblings[1]
    assert broken.diverged is not None
    assert broken.steps < 4 or "optimizer step 4" in str(broken.diverged)
    for place in (0, 2):
        assert wild.siblings[place].diverged is None
        assert_same_bits(bits(calm, place), bits(wild, place))


def test_all_may_diverge(make_run: Make, tmp_path: Path) -> None:
    knobs = ("optim.lr=1e30", "optim.clip=null", "optim.warmup=0")
    runs = [make_run(*ASKED, *knobs, f"seed={s}") for s in range(2)]
    store = Store(tmp_path / "runs")
    store.make_writable()
    for record in execute(runs, store, [told] * 2):
        assert record.status == "diverged"
        assert record.result["metrics"] is None
        assert record.failed
        assert store.has(record.key)


def test_a_run_that_is_stopped_early_stays_as_it_was(make_run: Make, monkeypatch: Any) -> None:
    asked = (*ASKED, "stop_degenerate=true")
    plain = fitted([make_run(*asked, f"seed={s}") for s in range(3)])

    def sign(rows: Sequence[Any], **_: Any) -> str | None:
        loss = plain.siblings[1].history.rows[0]["train_loss"]
        return "as told" if rows[0]["train_loss"] == loss else None

    monkeypatch.setattr("bluestab.training.loop.diagnostics.failure_sign", sign)
    group = fitted([make_run(*asked, f"seed={s}") for s in range(3)])
    assert [s.steps for s in group.siblings] == [4, 2, 4]
    assert group.siblings[1].history.censored == {"step": 2, "sign": "as told"}
    assert group.siblings[1].history.rows == plain.siblings[1].history.rows[:1]
    for place in (0, 2):
        assert_same_bits(bits(group, place), bits(plain, place))


def test_all_may_be_stopped_early(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bluestab.training.loop.diagnostics.failure_sign", lambda *_, **__: "as told"
    )
    group = fitted([make_run(*ASKED, "stop_degenerate=true", f"seed={s}") for s in range(2)])
    assert [(s.steps, s.diverged, len(s.history.rows)) for s in group.siblings] == [
        (2, None, 1)
    ] * 2


@pytest.mark.parametrize("arm", ["none", "mixout,rdrop"])
def test_computing_blocks_again_changes_no_bit(make_run: Make, arm: str) -> None:
    asked = (*ASKED, f"technique=[{arm}]".replace("[none]", "none"))
    plain = fitted([make_run(*asked, f"seed={s}") for s in range(2)])
    again = [make_run(*asked, "trainer.gradient_checkpointing=true", f"seed={s}") for s in range(2)]
    spared = fitted(again)
    assert spared.stack.network.is_gradient_checkpointing
    for place in range(2):
        assert_same_bits(bits(plain, place), bits(spared, place))


def test_a_frozen_part_is_shared_and_computed_once(make_run: Make) -> None:
    asked = (*ASKED, "technique=freeze", "technique.freeze.depth=1")
    cached = fitted([make_run(*asked, f"seed={s}") for s in range(2)])
    assert cached.prefix == 1
    names = set(cached.stack.weights)
    assert names == {n for n in cached.ready.plan if cached.ready.plan[n].trainable}
    frozen = dict(cached.stack.network.named_parameters())
    for sibling in cached.siblings:
        for name, parameter in sibling.built.model.named_parameters():
            if name not in names:
                assert parameter.data_ptr() == frozen[name].data_ptr()
    anew = fitted([make_run(*asked, "trainer.prefix_cache=false", f"seed={s}") for s in range(2)])
    assert anew.prefix is None
    for one, other in zip(cached.siblings, anew.siblings, strict=True):
        losses = [[row["train_loss"] for row in s.history.rows] for s in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_bfloat16(make_run: Make) -> None:
    group = fitted([make_run(*ASKED, "trainer.precision=bf16", f"seed={s}") for s in range(2)])
    full = fitted([make_run(*ASKED, f"seed={s}") for s in range(2)])
    for half, one in zip(group.siblings, full.siblings, strict=True):
        losses = [s.history.rows[-1]["train_loss"] for s in (half, one)]
        assert losses[0] != losses[1]
        assert losses[0] == pytest.approx(losses[1], rel=0.02)
        assert all(p.dtype == torch.float32 for p in half.built.model.parameters())


@pytest.mark.parametrize("corrects", [True, False])
def test_the_merged_optimizer_has_the_bits_of_the_plain_one(corrects: bool) -> None:
    """Groups of the same and of other rates, a rate that moves, a tensor without a gradient."""
    from bluestab.training.loop.optimizers import MergedAdamW, adamw

    def trained(make: Any) -> list[Any]:
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(n, 5)) for n in (3, 4, 5, 6)]
        groups = [
            {"params": [weights[0]], "lr": 1e-2, "weight_decay": 0.1},
            {"params": weights[1:3], "lr": 1e-2, "weight_decay": 0.1},
            {"params": [weights[3]], "lr": 3e-3, "weight_decay": 0.0},
        ]
        optimizer = make(groups, betas=(0.9, 0.99), eps=1e-6, bias_correction=corrects)
        for step in range(5):
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            if step == 2:
                weights[1].grad = None
            for group in optimizer.param_groups:
                group["lr"] *= 0.9
            optimizer.step()
            if step == 3:
                again = make(groups, betas=(0.9, 0.99), eps=1e-6, bias_correction=corrects)
                again.load_state_dict(optimizer.state_dict())
                optimizer = again
        return weights

    plain, merged = trained(adamw), trained(MergedAdamW)
    assert all(torch.equal(a, b) for a, b in zip(plain, merged, strict=True))
