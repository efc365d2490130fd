"""Bytes of a training, against what is known of a small network, and that counting moves no bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bluestab.models.activations import Compression, saving  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from bluestab.training.loop.counted_memory import Ledger, bytes_of, moment_bytes  # noqa: E402

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

PLACE = ("gad", "tiny")
COMPRESSED = "trainer.activations=compressed"


def counted(model: nn.Module, x: Any, steps: int, how: Compression | None = None) -> dict[str, int]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    ledger = Ledger(model, lambda: moment_bytes(optimizer))
    for _ in range(steps):
        optimizer.zero_grad()
        ledger.look()
        with saving(how, ledger):
            loss = model(x).sum()
        loss.backward()
        optimizer.step()
        ledger.look()
    assert ledger.saved == 0, "nothing is held after a backward pass"
    return ledger.report()


def test_two_layers_by_hand() -> None:
    """Saved: x (8, 4) and the input (8, 16) of ReLU's successor, which is ReLU's own output; once
    each, though both save it. Weights are not counted twice."""
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    n = sum(p.numel() for p in model.parameters())
    found = counted(model, torch.randn(8, 4), steps=1)
    saved = 4 * (8 * 4 + 8 * 16)
    # the first step has no moments before its update, which meets all gradients
    assert found == {
        "weights": 4 * n, "gradients": 4 * n, "moments": 8 * n, "saved": 0, "unpacked": 0,
        "total": 16 * n,
    }  # fmt: skip
    wide = torch.randn(4000, 4)
    found = counted(model, wide, steps=2)
    assert found["saved"] == saved * 500
    # those of the last layer come before what it saved is let go
    assert found["gradients"] == 4 * (16 * 2 + 2)
    assert found["moments"] == 8 * n
    model[2].requires_grad_(False)
    assert counted(model, wide, steps=2)["saved"] == saved * 500, "ReLU saves it all the same"
    model[0].requires_grad_(False)
    model[2].requires_grad_(True)
    found = counted(model, wide, steps=2)
    assert found["saved"] == 4 * 4000 * 16
    assert found["moments"] == 8 * (16 * 2 + 2)


def test_what_is_restored_counts_at_its_largest() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64, bias=False))
    found = counted(model, torch.randn(100, 64), 2, Compression(4, None, None, None))
    assert found["unpacked"] == 4 * 100 * 64
    assert found["saved"] == 4 * 100 * 64 * 2 + 100 * 64 // 2
    assert sum(found.values()) == 2 * found["total"]


def test_gradients_of_parts_of_a_batch_count_once() -> None:
    model = nn.Linear(300, 300)
    ledger = Ledger(model, lambda: 0)
    ledger.look()
    for _ in range(3):
        with saving(None, ledger):
            loss = model(torch.randn(2, 300)).sum()
        loss.backward()
    assert ledger.report()["gradients"] == sum(bytes_of(p) for p in model.parameters())


def test_counting_moves_no_bit(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    _, seen = lab.trained(*PLACE, "technique=none")
    monkeypatch.setattr(
        "bluestab.training.loop.module.saving", lambda how, ledger: saving(how, None)
    )
    _, bare = lab.train_again(*PLACE, "technique=none")
    assert bare.losses == seen.losses
    assert all(torch.equal(w, seen.end[n]) for n, w in bare.end.items())


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("gad", "tiny"),
        pytest.param("ncbi_disease", "tiny_modernbert", marks=pytest.mark.slow),
        pytest.param("hoc", "tiny_electra", marks=pytest.mark.slow),
        pytest.param("biosses", "tiny_roberta", marks=pytest.mark.slow),
    ],
)
def test_slimfit_and_compression_need_less_and_less(lab: Lab, task: str, model: str) -> None:
    """With the same first loss: forward passes are the plain ones. An interrupted run goes on with
    the same bits."""
    slim = chosen("slimfit", slimfit__rate=0.8, slimfit__moments="drop")
    plain, frozen, both = (
        lab.trained(task, model, *asked)
        for asked in (["technique=none"], slim, [*slim, COMPRESSED])
    )
    memory = [assembly.module.ledger.report() for assembly, _ in (plain, frozen, both)]
    assert memory[0]["saved"] > memory[1]["saved"] > memory[2]["saved"]
    assert memory[0]["total"] > memory[1]["total"]
    assert both[1].losses[0] == plain[1].losses[0]
    assert both[1].losses != frozen[1].losses
    _, spy, goes_on = lab.resumed(task, model, *slim, COMPRESSED)
    assert spy.losses == both[1].losses[2:]
    end = dict(goes_on.built.model.named_parameters())
    assert all(torch.equal(end[name], weight) for name, weight in both[1].end.items())


@pytest.mark.slow
@pytest.mark.parametrize("technique", ["sam", "smart", "freelb", "rdrop", "lora", "mixout"])
def test_compression_goes_with_techniques_that_pass_often(lab: Lab, technique: str) -> None:
    task = "biosses" if technique != "rdrop" else "gad"
    _, seen = lab.trained(task, "tiny", *chosen(technique), COMPRESSED)
    _, full = lab.trained(task, "tiny", *chosen(technique))
    assert seen.losses != full.losses
    assert seen.losses == pytest.approx(full.losses, rel=0.05)


def test_it_goes_with_the_frozen_prefix_and_bfloat16(lab: Lab) -> None:
    asked = (*chosen("freeze"), "trainer.precision=bf16")
    full, _ = lab.trained(*PLACE, *asked)
    less, seen = lab.trained(*PLACE, *asked, COMPRESSED)
    assert full.prefix == less.prefix == 1
    assert less.module.ledger.report()["saved"] < full.module.ledger.report()["saved"]
    assert all(loss == pytest.approx(0.69, abs=0.2) for loss in seen.losses)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ("trainer.gradient_checkpointing=true", "computed again on the way back"),
        ("trainer.engine=packed", "scale of a tensor"),
    ],
)
def test_what_it_does_not_go_with_is_refused_with_the_reason(
    lab: Lab, other: str, why: str
) -> None:
    from bluestab.core.errors import ConfigError

    with pytest.raises(ConfigError, match=why) as caught:
        lab.run(*PLACE, COMPRESSED, other)
    assert len(caught.value.problems) == 1


def test_masks_are_bits_whoever_draws_them(make_assembly: Any) -> None:
    """Those of sfc64, too: as few bytes as with torch's, and the weights of full activations."""
    only_masks = ("activation_bits", "attention_bits", "wide_bits", "norm_share")
    packed = [COMPRESSED, *(f"trainer.{name}=null" for name in only_masks)]
    saved, ends = {}, {}
    for masks in ("torch", "sfc64"):
        for how in (["trainer.activations=full"], packed):
            line = ("task=gad", "model=tiny", "optim.steps=3", f"trainer.dropout_masks={masks}")
            assembly = make_assembly(*line, *how)
            assembly.trainer.fit(assembly.module, assembly.loaders["train"])
            saved[masks, len(how)] = assembly.module.ledger.report()["saved"]
            ends[masks, len(how)] = [p.detach() for p in assembly.built.model.parameters()]
    assert saved["sfc64", len(packed)] <= saved["torch", len(packed)] < saved["torch", 1]
    for one, other in zip(ends["sfc64", 1], ends["sfc64", len(packed)], strict=True):
        assert torch.equal(one, other)
