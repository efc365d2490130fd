"""One step: clipping with the bits of torch's own, micro-batches with the gradient of the whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.training.loop.gradients import gradient_norms  # noqa: E402
from bluestab.training.loop.micro_batches import counted_items, counted_labels, micro_batches  # noqa: E402
from bluestab.training.loop.module import run_in_float32  # noqa: E402
from tests.training.test_execute import TINY, done, kept  # noqa: E402

Make = Callable[..., Any]


# --- clipping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping_has_the_bits_of_torch_s_own(seed: int, limit: float) -> None:
    random = torch.Generator().manual_seed(seed)
    shapes = [(193, 32), (32,), (64, 32), (1,), (7, 5, 3), (2000, 17)]
    gradients = [torch.randn(shape, generator=random) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(torch.zeros(s)) for s in shapes] for _ in range(2))
    for parameters in (ours, theirs):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
    theirs_total = torch.nn.utils.clip_grad_norm_(theirs, limit)
    norms = gradient_norms([p.grad for p in ours])
    total = torch.linalg.vector_norm(norms, 2.0)
    torch.nn.utils.clip_grads_with_norm_(ours, limit, total)
    assert torch.equal(total, theirs_total)
    for one, other, gradient in zip(ours, theirs, gradients, strict=True):
        assert torch.equal(one.grad, other.grad)
        assert torch.equal(one.grad, gradient) is (limit > 1e3)


@pytest.mark.parametrize("clip", ["0.1", "null"])
def test_a_training_clips_as_the_trainer_would(
    make_assembly: Make, monkeypatch: pytest.MonkeyPatch, clip: str
) -> None:
    """The same losses as with Lightning's own clipping."""
    import pytorch_lightning as pl

    from bluestab.training.loop.module import FineTuning

    overrides = ("task=ncbi_disease", *TINY, "optim.steps=8", f"optim.clip={clip}", "optim.lr=1e-2")

    def losses() -> list[float]:
        assembly = make_assembly(*overrides)
        loaders = assembly.loaders
        assembly.trainer.fit(assembly.module, loaders["train"], loaders["validation"])
        return [row["train_loss"] for row in assembly.history.rows]

    ours = losses()
    monkeypatch.setattr(
        FineTuning,
        "configure_gradient_clipping",
        pl.LightningModule.configure_gradient_clipping,
    )
    monkeypatch.setattr(FineTuning, "mean_gradient_norms", lambda self: {})
    assert losses() == ours
    assert len(set(ours)) == 8


# --- micro-batches -------------------------------------------------------------------------------


def batch_of(labels: Any) -> dict[str, Any]:
    """As many items as labels, all of three word pieces."""
    tensor, pieces = torch.tensor(labels), torch.ones((len(labels), 3), dtype=torch.int64)
    items = torch.arange(len(tensor))
    return {"labels": tensor, "items": items, "input_ids": pieces, "attention_mask": pieces}


def test_parts_and_shares() -> None:
    batch = batch_of([0, 1, 0, 1, 1])
    parts = micro_batches(batch, 2, counted_items)
    assert [share for share, _ in parts] == [0.4, 0.4, 0.2]
    assert [part["items"].tolist() for _, part in parts] == [[0, 1], [2, 3], [4]]
    for size in (None, 5, 6):
        ((share, whole),) = micro_batches(batch, size, counted_items)
        assert share == 1.0
        assert whole is batch


def test_parts_hold_items_of_like_length_and_no_more_padding_than_they_need() -> None:
    lengths = torch.tensor([5, 2, 4, 2, 1])
    mask = (torch.arange(5) < lengths[:, None]).long()
    several = torch.rand((5, 5))  # as many labels as the longest item has pieces
    batch = {"attention_mask": mask, "input_ids": mask * 7, "items": torch.arange(5)}
    for labels, shapes in (
        (several, [(2, 5), (2, 5), (1, 5)]),
        (mask * 3, [(2, 2), (2, 4), (1, 5)]),
        (lengths * 1.0, [(2,), (2,), (1,)]),
    ):
        parts = [part for _, part in micro_batches({**batch, "labels": labels}, 2, counted_items)]
        assert [part["items"].tolist() for part in parts] == [[4, 1], [3, 2], [0]]
        assert [tuple(part["input_ids"].shape) for part in parts] == [(2, 2), (2, 4), (1, 5)]
        assert [tuple(part["labels"].shape) for part in parts] == shapes
        for part in parts:
            assert part["attention_mask"].sum(1).tolist() == lengths[part["items"]].tolist()
            assert torch.equal(
                part["labels"],
                labels[part["items"], : part["labels"].shape[-1]]
                if labels.dim() == 2
                else labels[part["items"]],
            )


def test_tagging_counts_labelled_pieces() -> None:
    batch = batch_of([[0, 1, -100], [-100, -100, -100], [2, -100, -100]])
    parts = micro_batches(batch, 1, counted_labels)
    assert [(share, part["items"].tolist()) for share, part in parts] == [
        (2 / 3, [0]),
        (1 / 3, [2]),
    ]
    nothing = batch_of([[-100] * 3, [-100] * 3])
    assert len(micro_batches(nothing, 1, counted_labels)) == 1, "undefined, as for the whole batch"


def gradients(assembly: Any, batch: Any, size: int | None) -> tuple[dict[str, Any], float]:
    """Gradients of one training step as the optimizer finds them, and its loss."""
    module = assembly.module
    module.trainer = assembly.trainer
    module._micro_batch = size
    module.begun = None  # each is the first look at its batch
    module.model.train()
    with assembly.trainer.precision_plugin.train_step_context():
        loss = module.training_step(batch, 0)
    loss.backward()
    return (
        {n: p.grad.clone() for n, p in module.model.named_parameters() if p.grad is not None},
        float(module._losses[-1]),
    )


def test_every_use_of_a_weight_has_a_cast_of_its_own(make_assembly: Make) -> None:
    """Where one cast serves two passes (R-Drop), their gradients would be summed in bfloat16."""
    assembly = make_assembly("task=gad", *TINY, "trainer.precision=bf16", "optim.steps=1")
    step, seen = assembly.module._step, []

    def watched(part: Any) -> Any:
        seen.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        return step(part)

    assembly.module._step = watched
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    assert seen == [(True, False)]


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("model", ["tiny", "tiny_electra"])
@pytest.mark.parametrize("task", ["biosses", "gad", "ncbi_disease"])
def test_gradients_are_those_of_the_whole_batch(
    make_assembly: Make, task: str, model: str, size: int
) -> None:
    """Without dropout, to the rounding of float32; the last batch of the epoch is a ragged one."""
    overrides = ("device=cpu", "optim.batch_size=10", "optim.steps=4", "technique=reinit")
    assembly = make_assembly(
        f"task={task}", f"model={model}", *overrides, "technique.reinit.depth=1"
    )
    for module in assembly.built.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batches = list(assembly.loaders["train"])
    assert [len(batch["items"]) for batch in batches] == [10, 10, 4]
    for batch in batches[1:]:
        whole, loss = gradients(assembly, batch, None)
        parts, part_loss = gradients(assembly, batch, size)
        assert part_loss == pytest.approx(loss, rel=1e-5)
        assert parts.keys() == whole.keys()
        scale = max(float(g.abs().max()) for g in whole.values())
        for name, gradient in whole.items():
            assert torch.allclose(parts[name], gradient, rtol=1e-4, atol=2e-6 * scale), name
    if task == "ncbi_disease":
        # weighted by items instead, they would be others
        assembly.module._count = counted_items
        wrong, _ = gradients(assembly, batches[1], size)
        whole, _ = gradients(assembly, batches[1], None)
        worst = max(float((wrong[n] - g).abs().max()) for n, g in whole.items())
        assert worst > 1e-3 * max(float(g.abs().max()) for g in whole.values())


def test_bf16_gradients_too(make_assembly: Make) -> None:
    """The backward passes inside the step run outside autocast: the head's stay float32."""
    assembly = make_assembly(
        "task=gad", "model=tiny", "device=cpu", "optim.batch_size=10", "optim.steps=4",
        "trainer.precision=bf16",
    )  # fmt: skip
    for module in assembly.built.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = next(iter(assembly.loaders["train"]))
    whole, _ = gradients(assembly, batch, None)
    parts, _ = gradients(assembly, batch, 3)
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.allclose(parts[name], whole[name], rtol=1e-3, atol=1e-5), name
    for name, gradient in whole.items():
        distance = float((parts[name] - gradient).norm() / (gradient.norm() + 1e-6))
        assert distance < 0.05 or name.endswith("key.bias"), (name, distance)


def test_micro_batches_have_dropout_of_their_own(make_assembly: Make) -> None:
    assembly = make_assembly("task=gad", "model=tiny", "device=cpu", "optim.batch_size=8")
    module = assembly.module
    module.trainer = assembly.trainer
    draws = []
    for micro in (0, 1, 2, 0):
        module.draw_dropout_anew(micro)
        draws.append(float(torch.rand(())))
    assert draws[0] == draws[3]
    assert len(set(draws)) == 3


def test_as_many_micro_batches_as_needed_is_the_plain_step(make_run: Make, tmp_path: Path) -> None:
    """A micro-batch that holds the whole batch changes nothing but the key."""
    plain = done(make_run("task=gad", *TINY), tmp_path)
    large = done(make_run("task=gad", *TINY, "trainer.micro_batch=8"), tmp_path)
    small = done(make_run("task=gad", *TINY, "trainer.micro_batch=3"), tmp_path)
    assert len({record.key for record in (plain, large, small)}) == 3
    assert kept(tmp_path, plain.key)["curve.csv"] == kept(tmp_path, large.key)["curve.csv"]
    assert kept(tmp_path, plain.key)["curve.csv"] != kept(tmp_path, small.key)["curve.csv"]
    assert [r.result["micro_batch"] for r in (plain, large, small)] == [None, None, 3]
    assert [r.result["steps"] for r in (plain, large, small)] == [4, 4, 4]


def test_a_copy_of_a_head_computes_with_its_own_weights() -> None:
    """In float32, whatever the precision around it."""
    head = torch.nn.Linear(2, 1)
    run_in_float32(head)
    other = copy.deepcopy(head)
    with torch.no_grad():
        other.weight.add_(1.0)
    x = torch.ones(3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert other(x).dtype == head(x).dtype == torch.float32
    torch.testing.assert_close(other(x), head(x) + 2.0)
