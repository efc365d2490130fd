"""Invariant: ten steps against a loop of its own in float64, what it takes away, and its data."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.seeding import Seeds, generator, stream_seed  # noqa: E402
from bluestab.core.types import Example, StepOutput  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.techniques.invariant import PENALTIES, Invariant, make_critic  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import NAMES, chosen  # noqa: E402
from bluestab.testing.techniques import TechniqueSuite  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

F64 = torch.float64
SEEDS = Seeds(0, 0, 0, 0)
N, LR, WEIGHT = 24, 0.05, 0.5

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


class GroupedLab(Lab):
    """Trains on a table of ours with a column of hospitals."""

    def config(self, task: str, model: str, *overrides: str) -> dict[str, Any]:
        if task != "classification":
            return super().config(task, model, *overrides)
        files = [f"task.{name}={self.folder}/{name}.csv" for name in ("train", "validation")]
        test = f"task.test={self.folder}/validation.csv"
        return super().config(task, model, *files, test, "task.group=hospital", *overrides)


class TestContract(TechniqueSuite):
    """On texts of three hospitals."""

    technique = "invariant"
    at = ("classification", "tiny")
    neutral_places = (("classification", "tiny"),)
    claims = {"groups": lambda seen, plain: 0 if seen is plain else 3}  # noqa: RUF012

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, tmp_path_factory: pytest.TempPathFactory) -> Any:
        folder = tmp_path_factory.mktemp("grouped")
        for name in ("train", "validation"):
            table(folder / f"{name}.csv", "ABC")
        return GroupedLab(folder)

    @pytest.mark.slow
    @pytest.mark.parametrize("other", NAMES)
    def test_it_goes_with_any_other(self, lab: Lab, other: str) -> None:
        for order in (("invariant", other), (other, "invariant")):
            assembly, seen = lab.train_again(*self.at, *chosen(*order))
            assert all(map(math.isfinite, seen.losses))
            assert assembly.effects()["invariant"]["groups"] == 3


class Pooled(nn.Module):
    """Three numbers per item -> a vector of two -> two logits, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 2, bias=False, dtype=F64)
        self.classifier = nn.Linear(2, 2, dtype=F64)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                drawn = torch.randn(parameter.shape, dtype=F64, generator=generator(2, name))
                parameter.copy_(drawn)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.encoder(features))


FEATURES = torch.randn(N, 3, dtype=F64, generator=generator(1, "features"))
GROUPS = torch.arange(N) % 3
LABELS = (torch.arange(N) // 3) % 2
FEATURES[:, 0] += 2.0 * (GROUPS == 1)  # a trace of the group
FEATURES[:, 1] += 2.0 * LABELS


def batch_of(step: int, size: int = 8) -> dict[str, torch.Tensor]:
    rows = torch.arange(step * size, (step + 1) * size) % N
    return {"features": FEATURES[rows], "labels": LABELS[rows], "items": rows}


def trained(technique: Invariant, steps: int, show: bool = False) -> Pooled:
    """As the trainer would: data, optimizer, step, callback before each step.

    show  begin with an encoder whose first number is the trace of the group
    """
    model = Pooled()
    if show:
        with torch.no_grad():
            model.encoder.weight[0] = torch.tensor([2.0, 0.0, 0.0], dtype=F64)
            model.classifier.weight[:, 0] = 0.0
    head = frozenset({"classifier.weight", "classifier.bias"})
    layers: Any = SimpleNamespace(head=head)
    built = Built(model, layers, head, {}, lambda *_: None, lambda *_: torch.zeros(()))
    items = [Example(str(i), "", None, "", f"g{g}") for i, g in enumerate(GROUPS.tolist())]
    technique.edit_data(items, SEEDS)
    optimizer = technique.wrap_optimizer(torch.optim.SGD(model.parameters(), lr=LR), built)

    def plain(batch: Any) -> StepOutput:
        logits = model(batch["features"])
        return StepOutput(torch.nn.functional.cross_entropy(logits, batch["labels"]), logits)

    step, callbacks = technique.wrap_step(plain, built), technique.callbacks(built)
    for number in range(steps):
        for callback in callbacks:
            callback.on_train_batch_start(SimpleNamespace(global_step=number), None, None, 0)
        optimizer.zero_grad()
        step(batch_of(number)).loss.backward()
        optimizer.step()
    return model


def by_definition(penalty: str, steps: int) -> Pooled:
    model = Pooled()
    critic = make_critic(penalty, 2, 3, stream_seed(0, "invariant")).double()
    adam = torch.optim.AdamW(critic.parameters(), lr=1e-2)

    def of_pair(z: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return critic(torch.cat([z, torch.eye(3, dtype=F64)[s]], dim=1))[:, 0]

    for number in range(steps):
        drawn = torch.randperm(N, generator=generator(0, "invariant", number))
        batch = batch_of(number)
        s, other = GROUPS[batch["items"]], GROUPS[drawn][batch["items"]]
        z = model.encoder(batch["features"])
        task = torch.nn.functional.cross_entropy(model.classifier(z), batch["labels"])
        critic.eval()
        if penalty == "adversarial":
            log_p = critic(z).log_softmax(dim=1)
            dependence = torch.log(torch.tensor(3.0)) + log_p[torch.arange(len(s)), s].mean()
        elif penalty == "density_ratio":
            dependence = of_pair(z, s).mean()
        else:
            dependence = of_pair(z, s).mean() - of_pair(z, other).mean()
        found = torch.autograd.grad(task + WEIGHT * dependence, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), found, strict=True):
                parameter -= LR * gradient
        critic.train()
        z = z.detach()
        if penalty == "adversarial":
            loss = -critic(z).log_softmax(dim=1)[torch.arange(len(s)), s].mean()
        elif penalty == "density_ratio":
            sigmoid = torch.sigmoid
            loss = -(sigmoid(of_pair(z, s)).log() + sigmoid(-of_pair(z, other)).log()).mean()
        else:
            loss = of_pair(z, other).mean() - of_pair(z, s).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model


def technique(penalty: str, weight: float = WEIGHT) -> Invariant:
    return Invariant(weight=weight, penalty=penalty, critic_lr=1e-2, critic_steps=1)


@pytest.mark.parametrize("penalty", ["adversarial", "density_ratio"])
def test_ten_steps_are_those_of_the_definition(penalty: str) -> None:
    ours, theirs = trained(technique(penalty), 10), by_definition(penalty, 10)
    plain = trained(technique(penalty, 0.0), 10)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=1e-9, atol=1e-11)
    assert (plain.encoder.weight - ours.encoder.weight).abs().max() > 1e-3


def test_a_wasserstein_critic_is_1_lipschitz() -> None:
    """Of every layer the largest singular value is 1, to what power iteration gives."""
    critic = make_critic("wasserstein", 4, 2, 0).double().train()
    x = torch.randn(5, 6, dtype=F64, generator=generator(4, "x"))
    for _ in range(200):
        critic(x)
    critic.eval()
    for layer in critic:
        if isinstance(layer, nn.Linear):
            largest = torch.linalg.matrix_norm(layer.weight.detach(), ord=2)
            assert abs(float(largest) - 1.0) < 1e-3


def between(model: Pooled) -> float:
    """Share of the variance of z that is between groups."""
    z = model.encoder(FEATURES).detach()
    z = z - z.mean(dim=0)
    means = torch.stack([z[g == GROUPS].mean(dim=0) for g in range(3)])
    return float((means[GROUPS] ** 2).sum() / (z**2).sum())


@pytest.mark.parametrize(
    "penalty",
    [p if p == "density_ratio" else pytest.param(p, marks=pytest.mark.slow) for p in PENALTIES],
)
def test_the_vector_says_less_of_the_group(penalty: str) -> None:
    """From a start that shows the group."""
    found = [between(trained(technique(penalty, weight), 300, show=True)) for weight in (0.0, 3.0)]
    assert found[1] < 0.5 * found[0]


# --- own data ------------------------------------------------------------------------------------


def table(path: Path, hospitals: str, n: int = 24) -> None:
    rows = [
        f"a finding number {i},{'yes' if i % 2 else 'no'},{hospitals[i % len(hospitals)]}"
        for i in range(n)
    ]
    path.write_text("\n".join(["text,label,hospital", *rows]) + "\n")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.chdir(tmp_path)
    for name, hospitals in (("train", "AB"), ("validation", "AB"), ("test", "C")):
        table(tmp_path / f"{name}.csv", hospitals)
    files = [f"task.{name}={name}.csv" for name in ("train", "validation", "test")]
    return ("task=classification", *files, "task.group=hospital", "model=tiny", "device=cpu")


def test_own_data_with_a_column_of_groups(
    make_run: Callable[..., Any], own: tuple[str, ...], tmp_path: Path
) -> None:
    line = ("optim.steps=3", "optim.batch_size=8", "trainer.eval_every=3", "technique=invariant")
    record = done(make_run(*own, *line), tmp_path / "runs")
    assert record.status == "done"
    assert record.result["effects"]["invariant"] == {"groups": 2, "penalty": "density_ratio"}


@pytest.mark.parametrize(
    ("hospitals", "knob", "said"),
    [
        ("AB", "task.train_size=1", "all its training items are of group"),
        ("A", "task.group=hospital", "all its training items are of group 'A'"),
        ("AB", "task.group=null", "all of its training items have no group"),
    ],
)
def test_without_groups_it_is_refused(
    make_run: Callable[..., Any],
    own: tuple[str, ...],
    tmp_path: Path,
    hospitals: str,
    knob: str,
    said: str,
) -> None:
    table(tmp_path / "train.csv", hospitals)
    with pytest.raises(ConfigError) as caught:
        make_run(*own, knob, "technique=invariant")
    (problem,) = caught.value.problems
    assert said in problem
    assert "task.group=COLUMN" in problem
    make_run(*own, knob, "technique=invariant", "technique.invariant.weight=0")
