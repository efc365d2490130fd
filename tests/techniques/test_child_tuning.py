"""Child-tuning: masks and Fisher information by hand, and in trainings of the tiny models."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import pytorch_lightning as pl  # noqa: E402
from torch import nn  # noqa: E402

from bluestab.core.seeding import generator, stream_seed  # noqa: E402
from bluestab.techniques import child_tuning  # noqa: E402
from bluestab.techniques.parameters import pretrained  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.observed_training import watch  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.support.eleven_numbers import HEAD, OPTIM, adam, gradients, network, trained_by_hand  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

# --- child-tuning --------------------------------------------------------------------------------


def test_random_mask_has_mean_one() -> None:
    mask = child_tuning.random_mask(torch.Size((200, 300)), 0.3, generator(5, "mask"))
    assert mask.unique().tolist() == [0.0, pytest.approx(1 / 0.3)]
    assert abs(float(mask.double().mean()) - 1) < 5 * math.sqrt(0.7 / 0.3 / 60_000)


def test_top_share_by_hand() -> None:
    scores = {"a": torch.tensor([[5.0, 1.0], [0.0, 3.0]]), "b": torch.tensor([4.0, 2.0])}
    half = child_tuning.top_share(scores, 0.5)
    assert half["a"].tolist() == [[True, False], [False, True]]
    assert half["b"].tolist() == [True, False]
    assert sum(int(m.sum()) for m in child_tuning.top_share(scores, 0.01).values()) == 1
    assert all(bool(m.all()) for m in child_tuning.top_share(scores, 1.0).values())
    tied = child_tuning.top_share({"a": torch.tensor([1.0, 1.0, 0.0, 2.0])}, 0.5)
    assert tied["a"].tolist() == [True, True, False, True]


def test_child_tuning_f_by_hand() -> None:
    """Adam sees the masked gradients; the head's are whole."""
    technique = child_tuning.ChildTuning(mode="F", p=0.4, fisher_batch=None)
    weights, _, _ = trained_by_hand(technique, 6, gradients)
    model, lr = network(), OPTIM["lr"]
    expected = {}
    for name, parameter in model.named_parameters():
        w, given = parameter.detach().clone(), []
        for step in range(6):
            gradient = gradients(model, step)[name]
            if name != HEAD:
                random = torch.Generator().manual_seed(stream_seed(0, "child_tuning", name, step))
                keep = torch.empty(w.shape).bernoulli_(0.4, generator=random)
                gradient = gradient * (keep / 0.4)
            given.append(gradient)
            w = w - lr * (OPTIM["wd"] if w.ndim == 2 else 0.0) * w
            w = w - lr * adam(given)
        expected[name] = w
    for name, weight in weights.items():
        # the mask is drawn in float32, as the weights of a run are
        torch.testing.assert_close(weight, expected[name], rtol=1e-6, atol=1e-7)


class Gradients(pl.Callback):
    """Of the first step: gradients after clipping, and those the optimizer used."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.used = model, {}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        if not self.used:
            self.used = {n: p.grad.clone() for n, p in self.model.named_parameters()}


def clipped_and_used(assembly: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    module, clipped = assembly.module, {}
    clip = module.configure_gradient_clipping

    def spy(*args: Any, **kwargs: Any) -> None:
        clip(*args, **kwargs)
        if not clipped:
            clipped.update({n: p.grad.clone() for n, p in module.model.named_parameters()})

    module.configure_gradient_clipping = spy
    seen = Gradients(module.model)
    assembly.trainer.callbacks.append(seen)
    assembly.trainer.fit(module, assembly.loaders["train"])
    return clipped, seen.used


@pytest.mark.parametrize("mode", ["F", "D"])
@pytest.mark.parametrize("extra", [(), ("trainer.micro_batch=5",)])
def test_child_tuning_masks_after_clipping(lab: Lab, mode: str, extra: tuple[str, ...]) -> None:
    knobs = chosen("child_tuning", child_tuning__mode=mode)
    assembly = lab.assembly(lab.run("gad", "tiny", *knobs, *extra, "optim.clip=0.01"))
    clipped, used = clipped_and_used(assembly)
    total = math.sqrt(sum(float(g.double().square().sum()) for g in clipped.values()))
    assert total == pytest.approx(0.01, rel=1e-3)
    built, scale = assembly.built, 1 / 0.3 if mode == "F" else 1.0
    masked = set(pretrained(built))
    if mode == "D":
        masked = set(built.layers.names(1, 2))
    kept, entries = 0, 0
    for name, gradient in used.items():
        if name not in masked:
            assert torch.equal(gradient, clipped[name]), name
            continue
        there = gradient != 0
        torch.testing.assert_close(gradient[there], clipped[name][there] * scale)
        some = clipped[name] != 0
        kept, entries = kept + int((there & some).sum()), entries + int(some.sum())
    assert kept / entries == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("task", ["biosses", "gad", "ncbi_disease", "hoc"])
def test_child_tuning_d_takes_its_child_from_the_training_items(lab: Lab, task: str) -> None:
    """By hand, from another assembly of the same run: no dropout, file order, training items."""
    knobs = chosen("child_tuning", child_tuning__mode="D")
    assembly = lab.assembly(lab.run(task, "tiny", *knobs, "optim.weight_decay=0"))
    seen = watch(assembly, lab.plain_transformers("tiny"))
    fresh = lab.assembly(lab.run(task, "tiny"))
    network, table = fresh.built.model.eval(), fresh.loaders["train"].dataset
    names = fresh.built.layers.names(1, 2)
    scores = {name: torch.zeros_like(network.get_parameter(name)) for name in names}
    for start in range(0, len(table), 16):
        items = [table[i] for i in range(start, min(start + 16, len(table)))]
        batch = fresh.loaders["train"].collate_fn(items)
        logits = network(**{k: v for k, v in batch.items() if k not in ("labels", "items")}).logits
        network.zero_grad()
        fresh.built.loss(logits, batch).backward()
        for name in names:
            scores[name] += network.get_parameter(name).grad ** 2 / 2
    expected = child_tuning.top_share(scores, 0.3)
    masks = assembly.techniques["child_tuning"]._masks  # type: ignore[attr-defined]
    assert masks.keys() == expected.keys()
    n, same = 0, 0
    for name, mask in masks.items():
        n, same = n + mask.numel(), same + int((mask == expected[name]).sum())
        still = seen.end[name] == seen.start[name]
        assert bool(still[~mask].all()), f"{name}: outside the child nothing moves"
    assert same / n > 0.999, "but for rounding at the bound"
    (effects,) = assembly.effects().values()
    assert effects["child_parameters"] == pytest.approx(0.3 * n, abs=2)
    assert any((seen.end[x] != seen.start[x]).any() for x in pretrained(fresh.built)
               if x not in masks)  # fmt: skip


def test_child_tuning_fisher_per_item(lab: Lab) -> None:
    """The paper's equation is not the code's: gradients of a batch cancel."""

    def child(batch: str) -> dict[str, Any]:
        knobs = chosen("child_tuning", child_tuning__mode="D", child_tuning__fisher_batch=batch)
        assembly = lab.assembly(lab.run("gad", "tiny", *knobs, "optim.steps=1"))
        assembly.trainer.fit(assembly.module, assembly.loaders["train"])
        return dict(assembly.techniques["child_tuning"]._masks)  # type: ignore[attr-defined]

    one, sixteen, usual = child("1"), child("16"), child("null")
    assert all(torch.equal(sixteen[n], usual[n]) for n in usual)
    assert any(not torch.equal(one[n], usual[n]) for n in usual)


def test_child_tuning_d_does_not_disturb_the_run(lab: Lab) -> None:
    """Batches, dropout and the first loss are those of plain training; with all kept, all is."""
    plain = lab.trained("gad", "tiny", "technique=none")[1]
    seen = lab.trained("gad", "tiny", *chosen("child_tuning", child_tuning__mode="D"))[1]
    assert seen.batches == plain.batches
    assert seen.forwards == plain.forwards, "Fisher passes are no training passes"
    assert seen.losses[:2] == plain.losses[:2]
    assert seen.losses[2] != plain.losses[2]


def test_child_tuning_d_sees_through_a_thaw(lab: Lab) -> None:
    """What is still frozen at the first step has scores all the same, and stays frozen."""
    knobs = chosen("thaw", "child_tuning", child_tuning__mode="D")
    assembly = lab.assembly(lab.run("gad", "tiny", *knobs))
    seen = watch(assembly, lab.plain_transformers("tiny"))
    masks = assembly.techniques["child_tuning"]._masks  # type: ignore[attr-defined]
    low = [m for n, m in masks.items() if ".layer.0." in n]
    assert 0 < sum(int(m.sum()) for m in low) < sum(m.numel() for m in low)
    assert assembly.effects()["thaw"]["trains_from"]["1"] == 1
    assert seen.gradients["bert.encoder.layer.0.output.dense.weight"][0] is None


# --- thaw ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3, 8])
def test_child_tuning_d_goes_on_with_its_child(make_run: Make, tmp_path: Path, step: int) -> None:
    asked = (
        *("task=ncbi_disease", "model=tiny_electra", "device=cpu", "optim.batch_size=7"),
        *("optim.epochs=3", "optim.lr=3e-3", *chosen("child_tuning", child_tuning__mode="D")),
    )
    compare(lambda: make_run(*asked), tmp_path, step)
