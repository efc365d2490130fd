"""PELA against its formula: the cut, the full rank, ten steps beside the original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.seeding import generator  # noqa: E402
from bluestab.core.types import StepOutput  # noqa: E402
from bluestab.techniques.pela import NEED_WEIGHTS, Pela, factors, rank_of  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.store.test_artefacts import plain_logits, recorded  # noqa: E402
from tests.support.adapted import FAMILIES, SEEDS, inputs_of, plain_built  # noqa: E402
from tests.support.eleven_numbers import refusals  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
F64 = torch.float64

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def technique(compression: float | None, stage: float = 0.5) -> Pela:
    return Pela(compression=compression, distill=0.3, stage=stage, targets="all")


def test_the_cut_is_the_best_of_its_rank() -> None:
    """Eckart & Young: what is lost are the smallest singular values."""
    w = torch.randn(6, 9, dtype=F64, generator=generator(1, "w"))
    u, v = factors(w, 4)
    assert u.shape == (6, 4)
    assert v.shape == (4, 9)
    lost = torch.linalg.svdvals(w)[4:].square().sum().sqrt()
    torch.testing.assert_close((w - u @ v).norm(), lost)
    torch.testing.assert_close(u.T @ u, v @ v.T)  # half of each singular value on each side


def test_ranks() -> None:
    assert rank_of(384, 384, 3.0) == 64
    assert rank_of(3072, 768, 3.0) == 204
    assert rank_of(384, 384, None) == rank_of(384, 1536, None) == 384
    assert rank_of(2, 2, 100.0) == 1


@pytest.mark.parametrize(
    "model", [m if m == "tiny" else pytest.param(m, marks=pytest.mark.slow) for m in FAMILIES]
)
def test_at_full_rank_it_is_the_original_to_rounding(lab: Lab, model: str) -> None:
    bare = plain_built(lab, model, SEEDS)
    inputs = inputs_of(lab.assembly(lab.run("gad", model)))
    expected = bare.model.eval()(**inputs).logits
    for compression, near in ((None, True), (3.0, False)):
        built = technique(compression).edit_model(plain_built(lab, model, SEEDS), SEEDS)
        logits = built.model.eval()(**inputs).logits
        assert torch.allclose(logits, expected, atol=1e-5) == near
        merged = built.plain({n: p.detach() for n, p in built.model.named_parameters()})
        assert list(merged) == list(bare.layers.depth)
        assert (
            all(torch.allclose(merged[n], p, atol=1e-5) for n, p in bare.model.named_parameters())
            == near
        )


def test_ten_steps_are_those_of_the_formula(lab: Lab) -> None:
    """Five with the hidden states of the original, five without, in float64."""
    ours, other = technique(3.0), plain_built(lab, "tiny", SEEDS).model.double().eval()
    built = ours.edit_model(plain_built(lab, "tiny", SEEDS), SEEDS)
    network = built.model.double().eval()
    built = SimpleNamespace(
        model=network,
        layers=built.layers,
        reference={n: w.double() for n, w in built.reference.items()},
    )
    for name, weight in network.named_parameters():
        weight.requires_grad_(not name.endswith("base_layer.weight"))
    free = {
        n: p.detach().clone().requires_grad_()
        for n, p in network.named_parameters()
        if p.requires_grad
    }
    inputs = inputs_of(lab.assembly(lab.run("gad", "tiny")))
    labels = torch.arange(len(inputs["input_ids"])) % 2
    original = other(**inputs, output_hidden_states=True).hidden_states[1:]
    real = inputs["attention_mask"].bool()

    def task(batch: Any) -> StepOutput:
        logits = network(**{n: v for n, v in batch.items() if n != "labels"}).logits
        return StepOutput(torch.nn.functional.cross_entropy(logits, batch["labels"]), logits)

    step, (callback,) = ours.wrap_step(task, built), ours.callbacks(built)
    for number in range(10):
        clock = SimpleNamespace(global_step=number, max_steps=10)
        callback.on_train_batch_start(clock, None, None, 0)
        step({**inputs, "labels": labels}).loss.backward()
        weights = {n.replace("base_layer.", ""): w for n, w in free.items() if ".pela_" not in n}
        for name, u in free.items():
            if name.endswith("pela_u"):
                weights[name.replace("pela_u", "weight")] = u @ free[name.replace("_u", "_v")]
        out = torch.func.functional_call(
            other, weights, (), {**inputs, "output_hidden_states": True}
        )
        loss = torch.nn.functional.cross_entropy(out.logits, labels)
        if number < 5:
            apart = [
                (a - b.detach())[real].square().mean()
                for a, b in zip(out.hidden_states[1:], original, strict=True)
            ]
            loss = loss + 0.3 * sum(apart) / len(apart)
        loss.backward()
        with torch.no_grad():
            for n, w in free.items():
                mine = network.get_parameter(n)
                for weight in (mine, w):
                    if weight.grad is not None:
                        weight -= 0.05 * weight.grad
                        weight.grad = None
                torch.testing.assert_close(mine, w, rtol=1e-7, atol=1e-10, msg=n)
    assert all(not module.training for module in network.modules())


@pytest.mark.slow
def test_plain_transformers_reproduces_the_record(make_run: Make, tmp_path: Path) -> None:
    knobs = ("device=cpu", "optim.batch_size=8", "optim.steps=6", "optim.lr=3e-3", "keep=last")
    run = make_run("task=gad", "model=tiny", *knobs, *chosen("pela"))
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    found, expected = plain_logits(folder / "checkpoint" / "last", run), recorded(folder, "last")
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("other", NEED_WEIGHTS)
def test_what_it_does_not_go_with(make_run: Make, other: str) -> None:
    problems = refusals(make_run, f"technique=[pela,{other}]")
    assert any("pela" in problem and other in problem for problem in problems)


@pytest.mark.slow
def test_going_on_gives_the_same_bytes(make_run: Make, tmp_path: Path) -> None:
    line = ("device=cpu", "optim.batch_size=7", "optim.epochs=3", "optim.lr=3e-3")
    for step in (3, 8):
        compare(lambda: make_run("task=gad", "model=tiny", *line, *chosen("pela")), tmp_path, step)
