"""PST against its formula: sparsity 0, ten steps as it rises, what is kept and left whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.models.built import Built  # noqa: E402
from bluestab.techniques.around_layers import is_adapter  # noqa: E402
from bluestab.techniques.pst import Pst, pruning_mask, sparsity_at  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.store.test_artefacts import plain_logits, recorded  # noqa: E402
from tests.support.adapted import SEEDS, inputs_of, plain_built  # noqa: E402
from tests.support.eleven_numbers import refusals  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
KNOBS = {"sparsity": 0.5, "rank": 3, "score_rank": 2, "beta": 0.7, "a1": 1.5, "a2": 0.5,
         "warmup": 0.1, "hold": 0.3, "targets": "all", "also": []}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def test_the_schedule() -> None:
    found = [round(sparsity_at(step, 10, 0.9, 0.1, 0.3), 6) for step in range(10)]
    by_hand = [0, 0, *(0.9 - 0.9 * (1 - (t - 1) / 6) ** 3 for t in range(2, 7)), 0.9, 0.9, 0.9]
    assert found == pytest.approx(by_hand, abs=1e-6)
    assert sparsity_at(0, 10, 0.9, 0.0, 0.0) == 0.0


def test_which_entries_are_kept() -> None:
    scores = torch.tensor([[0.5, -1.0, 3.0], [2.0, 0.1, 0.2]])
    assert pruning_mask(scores, 0.5).tolist() == [[True, False, True], [True, False, False]]
    assert pruning_mask(scores, 0.0).all()


def layers(model: Any) -> dict[str, Any]:
    return {p: m for p, m in model.named_modules() if hasattr(m, "base_layer")}


def ten_steps(lab: Lab, shares: list[float], **knobs: Any) -> tuple[Built, Any, Any]:
    """Ours and, beside it, gradient descent through the formula of the card, in float64."""
    technique = Pst(**{**KNOBS, **knobs})
    built = technique.edit_model(plain_built(lab, "tiny", SEEDS), SEEDS)
    other = plain_built(lab, "tiny", SEEDS).model.double().eval()
    network = built.model.double().eval()
    trains = {n for n in built.layers.depth if is_adapter(n)} | built.layers.head
    for name, weight in network.named_parameters():
        weight.requires_grad_(name in trains)
    fixed = {n: p.detach() for n, p in other.named_parameters()}
    free = {n: network.get_parameter(n).detach().clone().requires_grad_() for n in trains}
    inputs = inputs_of(lab.assembly(lab.run("gad", "tiny")))
    labels = torch.arange(len(inputs["input_ids"])) % 2
    for share in shares:
        weights = {**fixed, **{n: w for n, w in free.items() if not is_adapter(n)}}
        for path, layer in layers(network).items():
            layer.set_sparsity(share)  # as before each step
            u, v, a, b, r, c = (free[f"{path}.pst_{part}"] for part in "uvabrc")
            dense = fixed[f"{path}.weight"] + 0.7 * u @ v
            scores = dense.detach().abs() + 1.5 * a @ b + 0.5 * (r[:, None] + c[None, :])
            order = scores.detach().flatten().argsort()
            mask = torch.ones(order.shape, dtype=torch.float64)
            mask[order[: int(share * len(order))]] = 0.0
            mask = mask.view_as(dense) + scores - scores.detach()
            weights[f"{path}.weight"] = mask * dense if technique.sparsity else dense
        expected = torch.func.functional_call(other, weights, (), inputs).logits
        logits = network(**inputs).logits
        torch.testing.assert_close(logits, expected, rtol=1e-7, atol=1e-9)
        torch.nn.functional.cross_entropy(expected, labels).backward()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        with torch.no_grad():
            for n in trains:
                for weight in (network.get_parameter(n), free[n]):
                    if weight.grad is not None:
                        weight -= 0.5 * weight.grad
                        weight.grad = None
    for n in trains:
        torch.testing.assert_close(network.get_parameter(n), free[n], rtol=1e-6, atol=1e-9)
    return built, network, free


def test_ten_steps_are_those_of_the_formula(lab: Lab) -> None:
    shares = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5]
    built, network, free = ten_steps(lab, shares)
    merged = built.plain(network.state_dict())
    for path in layers(network):
        zeros = int((merged[f"{path}.weight"] == 0).sum())
        assert zeros == merged[f"{path}.weight"].numel() // 2
    moved = {n.rpartition(".")[2] for n in free if "pst_" in n and free[n].any()}
    assert moved == {f"pst_{part}" for part in "uvabrc"}


def test_at_sparsity_0_it_is_an_update_of_low_rank(lab: Lab) -> None:
    """The scores have no part in it: W + beta U V, as LoRA with alpha = beta * rank."""
    built, network, _ = ten_steps(lab, [0.0] * 10, sparsity=0.0)
    merged = built.plain(network.state_dict())
    for path, layer in layers(network).items():
        update = 0.7 * layer.pst_u @ layer.pst_v
        expected = (layer.base_layer.weight + update).detach()
        torch.testing.assert_close(merged[f"{path}.weight"], expected, rtol=1e-13, atol=1e-15)
        assert update.abs().max() > 1e-8
        assert not any(getattr(layer, f"pst_{part}").any() for part in "brc")


def test_frozen_blocks_stay_whole(lab: Lab) -> None:
    assembly, seen = lab.trained("gad", "tiny", *chosen("freeze", "pst"))
    for name, weight in seen.applied.items():
        if name.endswith(".weight"):
            share = float((weight == 0).double().mean())
            assert share == pytest.approx(0.0 if "layer.0." in name else 0.9, abs=0.01)
            if "layer.0." in name:
                torch.testing.assert_close(weight, seen.checkpoint[name])
    assert assembly.effects()["pst"]["zeros"] > 0


def test_plain_transformers_reproduces_the_record(make_run: Make, tmp_path: Path) -> None:
    knobs = ("device=cpu", "optim.batch_size=8", "optim.steps=8", "optim.lr=3e-2", "keep=all")
    run = make_run("task=gad", "model=tiny", *knobs, "trainer.eval_every=1", *chosen("pst"))
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    for at in ("last", "best"):
        found, expected = plain_logits(folder / "checkpoint" / at, run), recorded(folder, at)
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-5), at


def test_a_schedule_without_room_is_refused(make_run: Make) -> None:
    line = ("technique=pst", "technique.pst.warmup=0.6", "technique.pst.hold=0.5")
    (problem,) = refusals(make_run, *line)
    assert "technique.pst.warmup=0.6" in problem


@pytest.mark.slow
def test_going_on_gives_the_same_bytes(make_run: Make, tmp_path: Path) -> None:
    line = ("device=cpu", "optim.batch_size=7", "optim.epochs=3", "optim.lr=3e-3")
    for step in (3, 8):
        compare(lambda: make_run("task=gad", "model=tiny", *line, *chosen("pst")), tmp_path, step)
