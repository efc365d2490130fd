"""SAM and ASAM against a quadratic by hand and against a loop of our own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.techniques.sam import Sam, ascent  # noqa: E402
from bluestab.testing.observed_training import watch  # noqa: E402
from tests.support.averages import FAST, away, fitted  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def quadratic(curvature: Any, weight: Any) -> Callable[[], float]:
    """Closure of 1/2 sum(a w^2), as a trainer gives it: gradients emptied, then computed."""

    def closure() -> float:
        weight.grad = None
        with torch.enable_grad():
            loss = 0.5 * (curvature * weight**2).sum()
            loss.backward()
        return float(loss.detach())

    return closure


def test_sam_on_a_quadratic_by_hand() -> None:
    """a = (1, 4), w = (3, 1): g = (3, 4), ||g|| = 5, e = rho (0.6, 0.8); with rho = 0.5 the second
    gradient is a (w + e) = (3.3, 5.6), and a step of SGD with rate 0.1 gives (2.67, 0.44)."""
    weight = torch.nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    sgd = torch.optim.SGD([weight], lr=0.1)
    sam = Sam(rho=0.5, adaptive=False).wrap_optimizer(sgd, None)  # type: ignore[arg-type]
    assert sam is sgd
    closure = quadratic(torch.tensor([1.0, 4.0], dtype=torch.float64), weight)
    assert sam.step(closure=closure) == pytest.approx(6.5), "the loss at w"
    assert weight.tolist() == pytest.approx([2.67, 0.44], rel=1e-12)


def test_asam_on_a_quadratic_by_hand() -> None:
    """|w| g = (9, 4), its norm sqrt(97); e = rho w^2 g / sqrt(97) = rho (27, 4) / sqrt(97)."""
    weight = torch.tensor([3.0, 1.0], dtype=torch.float64)
    (e,) = ascent([weight], [torch.tensor([3.0, 4.0], dtype=torch.float64)], 0.5, True)
    assert e.tolist() == pytest.approx([0.5 * 27 / math.sqrt(97), 0.5 * 4 / math.sqrt(97)])
    # scaling weights up and gradients down by ten, as a rescaled layer does, scales e with them
    (ten,) = ascent([10 * weight], [torch.tensor([0.3, 0.4], dtype=torch.float64)], 0.5, True)
    assert ten.tolist() == pytest.approx((10 * e).tolist())


def test_the_ball_is_one_for_all_tensors() -> None:
    """The norm is that of all tensors together, and clipping, a common factor, changes nothing."""
    random = torch.Generator().manual_seed(0)
    gradients = [
        torch.randn(s, generator=random, dtype=torch.float64) for s in ((3, 4), (5,), (1,))
    ]
    weights = [torch.ones_like(g) for g in gradients]
    found = ascent(weights, gradients, 0.2, False)
    assert math.sqrt(sum(float((e**2).sum()) for e in found)) == pytest.approx(0.2)
    clipped = ascent(weights, [0.01 * g for g in gradients], 0.2, False)
    for one, other, gradient in zip(found, clipped, gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-12)
        assert float((one * gradient).sum()) > 0
    nothing = ascent(weights, [torch.zeros_like(g) for g in gradients], 0.2, False)
    assert all(torch.equal(e, torch.zeros_like(e)) for e in nothing)


@pytest.mark.parametrize("clip", ["null", "0.1"])
@pytest.mark.parametrize("micro", ["null", "3"])
def test_sam_trains_as_a_loop_of_our_own(make_assembly: Make, micro: str, clip: str) -> None:
    """Weights after four steps: two passes per batch, clipping of the second gradient alone."""
    once = "trainer.eval_every=1"
    common = (once, "task=ncbi_disease", "optim.steps=4", "optim.warmup=0", f"optim.clip={clip}")
    assembly = make_assembly(
        *FAST, *common, "technique=sam", "technique.sam.rho=0.3", f"trainer.micro_batch={micro}"
    )
    for module in assembly.built.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    twin = copy.deepcopy(assembly.built.model).train()
    for module in twin.modules():
        vars(module).pop("forward", None)
    parameters = [p for _, p in twin.named_parameters()]
    assert all(p.requires_grad for p in parameters)
    adam = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=3e-3,
        eps=1e-6,
    )

    def passing(batch: Any) -> float:
        twin.zero_grad()
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "items")}
        logits = twin(**inputs).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, batch["labels"].flatten())
        loss.backward()
        return float(loss.detach())

    expected = []
    for step, batch in enumerate(list(assembly.loaders["train"])[:4]):
        expected.append(passing(batch))
        with torch.no_grad():
            norm = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters))
            shift = [0.3 / norm * p.grad for p in parameters]
            for p, e in zip(parameters, shift, strict=True):
                p += e
        passing(batch)
        with torch.no_grad():
            for p, e in zip(parameters, shift, strict=True):
                p -= e
        if clip != "null":
            assert torch.nn.utils.clip_grad_norm_(parameters, float(clip)) > float(clip)
        for group in adam.param_groups:
            group["lr"] = 3e-3 * (1 - step / 4)
        adam.step()
    seen = watch(assembly, {})
    noted = [row["train_loss"] for row in assembly.history.rows]
    assert noted == pytest.approx(expected, abs=2e-4), "the loss at w, of the whole batch"
    for name, weight in twin.named_parameters():
        if not name.endswith("key.bias"):  # its gradient is noise
            difference = (seen.end[name] - weight).abs().mean()
            assert difference < 0.02 * (seen.end[name] - seen.start[name]).abs().mean(), name


def test_sam_notes_the_first_look(make_assembly: Make) -> None:
    """Loss and gradient norms of the first evaluation are plain training's; passes are twice."""
    common = ("task=gad", "optim.steps=3", "trainer.eval_every=1", "optim.warmup=0")
    plain, plain_seen = fitted(make_assembly, *common, "trainer.micro_batch=4")
    sam, seen = fitted(make_assembly, *common, "trainer.micro_batch=4", "technique=sam")
    noted = [k for k in plain.history.rows[0] if k == "train_loss" or k.startswith("grad_norm")]
    assert len(noted) == 5
    for name in noted:
        assert sam.history.rows[0][name] == plain.history.rows[0][name], name
    assert sam.history.rows[1]["train_loss"] != plain.history.rows[1]["train_loss"]
    assert (plain_seen.forwards, seen.forwards) == (6, 12)
    assert sam.effects()["sam"] == {"rho": 0.05, "extra_forwards": 6}
    assert plain.trained().forwards == plain.trained().batches == sam.trained().batches == 6


def test_both_looks_have_the_same_dropout(make_assembly: Make) -> None:
    """With a ball of no size to speak of, the two passes agree to the bit."""
    assembly = make_assembly(*FAST, "task=gad", "optim.steps=3", "technique=sam")
    assembly.techniques["sam"].rho = 1e-30
    logits = []
    assembly.built.model.register_forward_hook(
        lambda module, _, output: (
            logits.append(output.logits.detach().clone()) if module.training else None
        )
    )
    watch(assembly, {})
    assert len(logits) == 6
    for first, second in zip(logits[::2], logits[1::2], strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("extra", [(), ("trainer.precision=bf16", "optim.bias_correction=false")])
def test_sam_trains_in_every_way(make_assembly: Make, extra: tuple[str, ...]) -> None:
    """Frozen weights stay; the perturbation leaves no trace where the rate is zero."""
    knobs = ("technique=[sam,freeze]", "technique.freeze.depth=1")
    _, seen = fitted(
        make_assembly, "task=biosses", "optim.steps=4", "optim.warmup=2", *knobs, *extra
    )
    assert away(seen.trail[0], seen.start) == 0, "the first step of a warm-up moves nothing"
    assert away({n: seen.start[n] for n in seen.frozen}, seen.end) == 0
    assert away(seen.start, seen.end) > 1e-4


@pytest.mark.parametrize("extra", [(), ("trainer.micro_batch=3",)])
def test_sam_goes_on(making: Make, tmp_path: Path, extra: tuple[str, ...]) -> None:
    make = making("task=gad", "model=tiny", "technique=sam", "technique.sam.adaptive=true", *extra)
    compare(make, tmp_path, 5)
