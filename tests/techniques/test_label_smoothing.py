"""Label smoothing: losses by hand and torch's own, on every kind of head."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.techniques.label_smoothing import uniform_loss  # noqa: E402
from bluestab.testing.observed_training import watch  # noqa: E402
from tests.support.averages import FAST, fitted  # noqa: E402

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def smoothed(task: str, make_assembly: Make, epsilon: float = 0.1) -> Any:
    """The loss of a task, smoothed."""
    knobs = ("technique=label_smoothing", f"technique.label_smoothing.epsilon={epsilon}")
    return make_assembly(*FAST, f"task={task}", *knobs).built.loss


def logits_of(*shape: int) -> Any:
    random = torch.Generator().manual_seed(3)
    return 3 * torch.randn(shape, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_smoothed_classes_are_torch_s_own(make_assembly: Make, epsilon: float) -> None:
    loss = smoothed("gad", make_assembly, epsilon)
    logits, labels = logits_of(5, 2), torch.tensor([0, 1, 1, 0, 1])
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=epsilon)
    assert float(loss(logits, {"labels": labels})) == pytest.approx(float(expected), rel=1e-12)


def test_smoothed_by_hand(make_assembly: Make) -> None:
    """Logits (0, ln 3): p = (1/4, 3/4). Target for class 1 with epsilon 0.2: (0.1, 0.9)."""
    logits = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    found = smoothed("gad", make_assembly, 0.2)(logits, {"labels": torch.tensor([1])})
    assert float(found) == pytest.approx(-0.1 * math.log(1 / 4) - 0.9 * math.log(3 / 4), rel=1e-12)


def test_smoothed_tags_count_labelled_pieces_only(make_assembly: Make) -> None:
    loss = smoothed("ncbi_disease", make_assembly)
    logits = logits_of(2, 4, 3)
    labels = torch.tensor([[-100, 0, 2, -100], [1, -100, -100, -100]])
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=0.1
    )
    assert float(loss(logits, {"labels": labels})) == pytest.approx(float(expected), rel=1e-12)


def test_smoothed_flags_are_softer_flags(make_assembly: Make) -> None:
    loss = smoothed("hoc", make_assembly)
    logits = logits_of(3, 10)
    flags = (logits_of(3, 10).flip(0) > 0).double()
    soft = 0.9 * flags + 0.05
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft)
    assert float(loss(logits, {"labels": flags})) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("task", "share"), [("gad", 0.95), ("ncbi_disease", 0.9 + 0.1 / 3), ("hoc", 0.95)]
)
def test_smoothing_reaches_the_training(make_assembly: Make, task: str, share: float) -> None:
    """The first loss of a training is that of the same logits under soft targets."""
    overrides = (f"task={task}", "optim.steps=3", "optim.warmup=0", "technique=label_smoothing")
    assembly = make_assembly(*FAST, *overrides)
    logits: list[Any] = []
    assembly.built.model.register_forward_hook(
        lambda module, _, output: (
            logits.append(output.logits.detach().clone()) if module.training else None
        )
    )
    batch = next(iter(make_assembly(*FAST, *overrides).loaders["train"]))
    seen = watch(assembly, {})
    labels = batch["labels"]
    if labels.is_floating_point():
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            logits[0], 0.9 * labels + 0.05
        )
    else:
        expected = torch.nn.functional.cross_entropy(
            logits[0].reshape(-1, logits[0].shape[-1]), labels.flatten(), label_smoothing=0.1
        )
    assert seen.losses[0] == pytest.approx(float(expected), rel=1e-5)
    said = assembly.effects()["label_smoothing"]
    assert said == {"epsilon": 0.1, "gold_share": pytest.approx(share)}
    assert seen.gold_share == pytest.approx(share, rel=1e-9)
    assert fitted(make_assembly, *overrides[:-1])[1].gold_share == pytest.approx(1.0, rel=1e-9)


def test_what_cannot_be_smoothed_is_refused(make_run: Make) -> None:
    asked = (*FAST, "technique=label_smoothing")
    with pytest.raises(ConfigError, match="nothing to smooth: task biosses predicts a number"):
        make_run("task=biosses", *asked)
    with pytest.raises(ConfigError, match="which stop_degenerate=true compares"):
        make_run("task=gad", *asked, "stop_degenerate=true")
    make_run("task=biosses", *asked, "technique.label_smoothing.epsilon=0")
    with pytest.raises(ValueError, match="numbers cannot be smoothed"):
        uniform_loss(torch.zeros(3, 1), torch.zeros(3))


@pytest.mark.parametrize("value", ["1", "-0.1", "true"])
def test_epsilon_out_of_range(make_run: Make, value: str) -> None:
    with pytest.raises(ConfigError, match=r"label_smoothing\.epsilon is .*: expected a number in"):
        make_run(
            "task=gad", *FAST, "technique=label_smoothing",
            f"technique.label_smoothing.epsilon={value}",
        )  # fmt: skip
