"""EWC, its Kronecker kin and MAS against loops that hold the papers' formulas, in float64."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bluestab.models.fisher import fisher  # noqa: E402
from bluestab.techniques.ewc import Ewc  # noqa: E402
from bluestab.techniques.kfac_ewc import KfacEwc  # noqa: E402
from bluestab.techniques.mas import Mas  # noqa: E402
from tests.support.earlier_toy import (  # noqa: E402
    LR,
    SEEDS,
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

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

ENCODER = ("bert.embeddings.weight", "bert.encoder.layer.0.dense.weight",
           "bert.encoder.layer.0.dense.bias")  # fmt: skip


def ewc(**knobs: Any) -> Ewc:
    return Ewc(**{"strength": 3.0, "anchors": "separate", "decay": 1.0, "labels": "gold", **knobs})


def squares(task: Any, names: Any = ENCODER) -> dict[str, Any]:
    """Mean over items of the squared gradient of log p of all their labels; then over its mean."""
    total: dict[str, Any] = dict.fromkeys(names, 0.0)
    for row in range(task.size):
        item = task.batch([row])
        n_labels = int((item["labels"] != -100).sum())
        task.network.zero_grad()
        (loss(answers(task.network, item), item) * n_labels).backward()
        for name in names:
            total[name] = total[name] + task.network.get_parameter(name).grad ** 2 / task.size
    mean = sum(float(f.sum()) for f in total.values()) / sum(f.numel() for f in total.values())
    return {name: f / mean for name, f in total.items()}


def pull(network: Any, f: Any, task: Any) -> Any:
    return sum(
        (f[n] * (network.get_parameter(n) - task.network.get_parameter(n).detach()) ** 2).sum()
        for n in f
    )


def test_ewc_is_its_formula() -> None:
    """Kirkpatrick et al. 2017: lambda / 2 sum F (w - w_t)^2 for each earlier task."""
    tasks = earlier()
    fishers = [squares(task) for task in tasks]
    expected = by_formula(
        lambda network, _: 1.5 * sum(map(pull, [network] * 2, fishers, tasks))  # type: ignore[arg-type]
    )
    found, built = trained(ewc())
    close(found, expected)
    assert apart(found, trained(ewc(strength=0.0))[0])
    assert built.model.get_parameter("classifier.weight").grad is not None


@pytest.mark.parametrize("kind", ["ewc", "kfac_ewc"])
def test_a_head_that_all_tasks_share_is_held_too(kind: str) -> None:
    names = (*ENCODER, "classifier.weight", "classifier.bias")
    tasks = earlier(one_head=True)
    if kind == "ewc":
        fishers = [squares(task, names) for task in tasks]
        expected = by_formula(
            lambda network, _: 1.5 * sum(map(pull, [network] * 2, fishers, tasks)),  # type: ignore[arg-type]
            one_head=True,
        )
        found, _ = trained(ewc(), one_head=True)
        close(found, expected)
    else:
        strong = KfacEwc(strength=1e3, labels="gold", sharing="expand")
        found, _ = trained(strong, n_steps=1, one_head=True)
        assert [sorted(c.names) for c, _ in strong._penalties] == [sorted(names)] * 2
    free, _ = trained(ewc(strength=0.0), one_head=True)
    assert not torch.equal(found["classifier.weight"], free["classifier.weight"])


@pytest.mark.slow
def test_online_ewc_is_its_formula() -> None:
    """Schwarz et al. 2018: F <- decay F + F_new, one anchor."""
    tasks = earlier()
    first, last = (squares(task) for task in tasks)
    total = {n: 0.3 * first[n] + last[n] for n in ENCODER}
    mean = sum(float(f.sum()) for f in total.values()) / sum(f.numel() for f in total.values())
    total = {n: f / mean for n, f in total.items()}
    expected = by_formula(lambda network, _: 1.5 * pull(network, total, tasks[-1]))
    close(trained(ewc(anchors="online", decay=0.3))[0], expected)


@pytest.mark.slow
def test_mas_is_its_formula() -> None:
    """Aljundi et al. 2018: sum over tasks of mean |d ||f(x)||^2 / d w|, one anchor."""
    tasks = earlier()
    total: dict[str, Any] = dict.fromkeys(ENCODER, 0.0)
    for task in tasks:
        for row in range(task.size):
            item = task.batch([row])
            task.network.zero_grad()
            logits = answers(task.network, item)
            real = logits[item["attention_mask"].bool()] if logits.ndim == 3 else logits
            (real**2).sum().backward()
            for name in ENCODER:
                total[name] = total[name] + task.network.get_parameter(name).grad.abs() / task.size
    mean = sum(float(f.sum()) for f in total.values()) / sum(f.numel() for f in total.values())
    total = {n: f / mean for n, f in total.items()}
    expected = by_formula(lambda network, _: 1.5 * pull(network, total, tasks[-1]))
    close(trained(Mas(strength=3.0))[0], expected)


@pytest.mark.parametrize("sharing", ["expand", pytest.param("reduce", marks=pytest.mark.slow)])
def test_kfac_ewc_is_its_formula(sharing: Any) -> None:
    """lambda / 2 tr(D' G D A) for each layer and earlier task, by autograd of the penalty."""
    tasks = earlier()
    factors = []
    for task in tasks:
        every = {n: task.network.get_parameter(n).detach() for n in ENCODER}
        found = fisher(task.network, ENCODER, task.items(), labels="gold", sharing=sharing)
        factors.append({b.names: b for b in found.normalised(every).blocks})

    def penalty(network: Any, _: Any) -> Any:
        total = 0.0
        for task, blocks in zip(tasks, factors, strict=True):
            d = {n: network.get_parameter(n) - task.network.get_parameter(n).detach()
                 for n in ENCODER}  # fmt: skip
            layer: Any = blocks[ENCODER[1:]]
            change = torch.cat([d[ENCODER[1]], d[ENCODER[2]][:, None]], dim=1)
            total = total + torch.trace(change.T @ layer.g @ change @ layer.a)
            table: Any = blocks[ENCODER[:1]]
            change = d[ENCODER[0]].T
            total = total + torch.trace(change.T @ table.g @ change @ torch.diag(table.a))
        return 1.5 * total

    found_weights, _ = trained(KfacEwc(strength=3.0, labels="gold", sharing=sharing))
    close(found_weights, by_formula(penalty))
    assert apart(found_weights, trained(ewc())[0])


def test_the_loss_has_no_graph_of_the_penalty_and_stays_the_task_s() -> None:
    technique = ewc()
    trained(technique, 0)
    assert all(not value.requires_grad for value in technique.pull().values())
    batch = items(5, 4, 1)
    step: Any = lambda batch: batch  # noqa: E731
    assert technique.wrap_step(step, None)(batch) is batch  # type: ignore[arg-type]


def test_auto_is_its_formula() -> None:
    """|g| / (lr sqrt(steps / 3) |pull of F = 1 at a change of 1|), two tasks pulling."""
    technique = ewc(strength="auto")
    trained(technique, 1)
    network, batch = started(), items(5, 4, 100)
    loss(answers(network, batch), batch).backward()
    task = torch.cat([network.get_parameter(n).grad.flatten() for n in ENCODER]).norm()
    n = sum(network.get_parameter(name).numel() for name in ENCODER)
    assert technique._found == pytest.approx(
        float(task) / (LR * (STEPS / 3) ** 0.5 * (2**2 * n) ** 0.5), rel=1e-9
    )
    # as far as steps of length lr (1 - s / steps) with random signs go, on average over weights
    random = torch.Generator().manual_seed(0)
    steps = LR * (1 - torch.arange(200, dtype=torch.float64) / 200)
    signs = torch.randint(0, 2, (5000, 200), generator=random) * 2.0 - 1
    gone = (signs * steps).sum(dim=1).square().mean().sqrt()
    assert float(gone) == pytest.approx(LR * (200 / 3) ** 0.5, rel=0.05)
    again = ewc(strength="auto")
    trained(again, 0)
    again.load_state_dict(technique.state_dict())
    assert again._found == technique._found


def test_a_weight_by_another_name_is_an_error() -> None:
    network: Any = started()
    built = built_of(network)
    block = network.bert.encoder.layer[0]
    block.wrapped = nn.Sequential(block.dense)
    del block.dense
    with pytest.raises(RuntimeError, match=r"layer\.0\.dense\.weight' and 1 more of the weights"):
        ewc().recall(earlier(), built, SEEDS)


def test_a_frozen_weight_is_not_pulled() -> None:
    technique = ewc()
    _, built = trained(technique, 1)
    frozen = built.model.get_parameter(ENCODER[1])
    frozen.requires_grad_(False)
    frozen.grad = None
    technique._add(LR, STEPS)
    assert frozen.grad is None
