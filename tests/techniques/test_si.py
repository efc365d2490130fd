"""SI: its pull, and the path integrals it is made of, against loops with the paper's formulas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.store.artefacts import PATH_INTEGRAL  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.techniques.si import Si  # noqa: E402
from bluestab.training.path_integral import PathIntegral, read_path_integral  # noqa: E402
from tests.support.earlier_toy import (  # noqa: E402
    STEPS,
    answers,
    apart,
    built_of,
    by_formula,
    close,
    earlier,
    items,
    loss,
    started,
    trained,
)
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.training.test_execute import done, kept  # noqa: E402

Make = Callable[..., Any]
SHORT = ("model=tiny", "device=cpu", "optim.batch_size=8", "optim.steps=3", "optim.lr=3e-3")
KEEP = ("keep=last", "keep_path_integral=true")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def test_si_is_its_formula() -> None:
    """Zenke et al. 2017: c sum Omega (w - w_last)^2, Omega <- max(0, Omega + p / (m^2 + xi)); here
    strength / 2 = c, Omega over its mean."""
    tasks = earlier()
    omega: dict[str, Any] = {}
    for task in tasks:
        assert task.path_integral is not None
        for name, (integral, moved) in task.path_integral().items():
            omega[name] = torch.relu(omega.get(name, 0.0) + integral / (moved**2 + 0.1))
    mean = sum(float(o.sum()) for o in omega.values()) / sum(o.numel() for o in omega.values())

    def penalty(network: Any, _: Any) -> Any:
        last = tasks[-1].network
        return 1.5 * sum(
            (o / mean * (network.get_parameter(n) - last.get_parameter(n).detach()) ** 2).sum()
            for n, o in omega.items()
        )

    technique = Si(strength=3.0, damping=0.1)
    found, _ = trained(technique)
    close(found, by_formula(penalty))
    assert apart(found, trained(Si(strength=0.0, damping=0.1))[0])
    assert apart(found, trained(Si(strength=3.0, damping=10.0))[0])
    ((curvature, anchor),) = technique._penalties
    weights = sum(o.numel() for o in omega.values())
    assert curvature.numbers() == sum(w.numel() for w in anchor.values()) == weights


def test_the_path_integral_is_its_formula(tmp_path: Path) -> None:
    """Minus gradient times change, of 20 clipped steps with momentum and a pull that is no part of
    the gradient; an interruption after the seventh changes no bit."""
    network = started()
    built = built_of(network)
    start = {n: p.detach().clone() for n, p in network.named_parameters()}
    watching = PathIntegral(built, start)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9)
    expected = {n: torch.zeros_like(p) for n, p in start.items()}
    for number in range(STEPS):
        batch = items(5, 4, number)
        watching.on_train_batch_start()
        optimizer.zero_grad()
        loss(answers(network, batch), batch).backward()
        before = {n: p.detach().clone() for n, p in network.named_parameters()}
        value = loss(answers(network, batch), batch)
        gradient = torch.autograd.grad(value, [network.get_parameter(n) for n in expected])
        watching.on_before_optimizer_step()
        for parameter in network.parameters():
            parameter.grad.add_(0.1 * parameter.detach())  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        watching.on_train_batch_end()
        for name, g in zip(expected, gradient, strict=True):
            expected[name] -= g * (network.get_parameter(name).detach() - before[name])
        if number == 6:
            saved, watching = watching.state_dict(), PathIntegral(built, start)
            watching.load_state_dict(saved)
    watching.write(tmp_path / PATH_INTEGRAL)
    found = read_path_integral(tmp_path / PATH_INTEGRAL)
    assert found.keys() == expected.keys()
    for name, (integral, moved) in found.items():
        torch.testing.assert_close(integral, expected[name], rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(moved, network.get_parameter(name).detach() - start[name])


@pytest.mark.slow
def test_artefacts_of_a_run_with_its_path_integral(make_run: Make, tmp_path: Path) -> None:
    """A run that keeps its path integral is the same run, made again for it if it is there; without
    it si is refused with what to do."""
    root = tmp_path / "runs"
    plain = done(make_run("task=gad", "keep=last", *SHORT), root)
    then = ("task=ncbi_disease", f"model.init_from={plain.key}", "technique=si", *SHORT)
    with pytest.raises(
        ConfigError, match=f"technique si needs the path integral of run {plain.key}"
    ):
        make_run(*then)
    make_run(*then, "technique.si.strength=0")
    again = done(make_run("task=gad", *KEEP, *SHORT), root)
    assert (again.key, again.result) == (plain.key, plain.result)
    file = Store(root).folder(plain.key) / "checkpoint" / "last" / PATH_INTEGRAL
    found = read_path_integral(file)
    assert sum(float(integral.sum()) for integral, _ in found.values()) > 0, "the loss fell"
    record = done(make_run(*then), root)
    assert record.status == "done", record.result["error"]
    effects = record.result["effects"]["si"]
    assert effects["strength_used"] > 0
    head = ("bert.pooler.", "classifier.")
    both = [moved.numel() for name, (_, moved) in found.items() if not name.startswith(head)]
    assert effects["numbers_kept"] == 2 * sum(both), "of what both networks have"
    off = done(make_run(*then, "technique.si.strength=0"), root)
    assert kept(root, off.key)["curve.csv"] != kept(root, record.key)["curve.csv"]


@pytest.mark.slow
def test_it_goes_on_after_an_interruption(make_run: Make, making: Make, tmp_path: Path) -> None:
    """Record and path integral, byte for byte, also of a stage that is pulled by si itself."""
    root = tmp_path / "runs"
    first = done(make_run("task=gad", *KEEP, *SHORT), root)
    link = ("task=ncbi_disease", "model=tiny", f"model.init_from={root / first.key}")
    make = making(*link, "technique=si", *KEEP)
    compare(make, tmp_path, 3)
    key = make().key
    one, other = (
        (tmp_path / where / key / "checkpoint" / "last" / PATH_INTEGRAL).read_bytes()
        for where in ("whole", "parts-3")
    )
    assert one == other


def test_it_is_refused_where_it_means_nothing(make_run: Make) -> None:
    with pytest.raises(ConfigError, match="keep_path_integral is true, but keep is none"):
        make_run("task=gad", *SHORT, "keep_path_integral=true")
    with pytest.raises(ConfigError, match="a group does not follow the way of each weight"):
        make_run("task=gad", *SHORT, *KEEP, "trainer.engine=packed")
