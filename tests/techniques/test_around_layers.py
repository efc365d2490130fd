"""(IA)3 and VeRA against their formulas: layers, merged weights, a training without peft."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.seeding import stream_seed  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.techniques.around_layers import WRAPPERS, AroundLayers, is_adapter  # noqa: E402
from bluestab.techniques.ia3 import Ia3, is_second  # noqa: E402
from bluestab.techniques.vera import Vera  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.store.test_artefacts import plain_logits, recorded  # noqa: E402
from tests.support.adapted import FAMILIES, SEEDS, disturb, inputs_of, plain_built  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

F64 = torch.float64

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def technique(name: str) -> AroundLayers:
    if name == "ia3":
        return Ia3(targets="all", also=[])
    return Vera(r=5, d_initial=0.1, targets="all", also=[])


def adapted(lab: Lab, name: str, model: str) -> Built:
    return technique(name).edit_model(plain_built(lab, model, SEEDS), SEEDS)


def shared_matrices(built: Built) -> tuple[Any, Any]:
    """VeRA's A (r, largest in) and B (largest out, r) by the documented law, drawn by hand."""
    shapes = [m.base_layer.weight.shape for m in layers(built.model).values()]
    outs, ins = (max(s[n] for s in shapes) for n in (0, 1))
    random = torch.Generator().manual_seed(stream_seed(0, "vera"))
    return tuple(
        torch.empty(shape).uniform_(-((6 / fan) ** 0.5), (6 / fan) ** 0.5, generator=random)
        for shape, fan in (((5, ins), ins), ((outs, 5), 5))
    )


def layers(model: Any) -> dict[str, Any]:
    return {p: m for p, m in model.named_modules() if hasattr(m, "base_layer")}


def effective(name: str, built: Built, path: str, w: Any, c: Any, learnt: Any) -> tuple[Any, Any]:
    """Weight and bias that a layer with what it has learnt amounts to: the formula of the card."""
    if name == "vera":
        a, b = (m.to(w) for m in shared_matrices(built))
        d, scale = learnt(f"{path}.vera_lambda_d.default"), learnt(f"{path}.vera_lambda_b.default")
        outs, ins = w.shape
        return w + torch.diag(scale) @ b[:outs] @ torch.diag(d) @ a[:, :ins], c
    scale = learnt(f"{path}.ia3_l.default")
    if path.endswith(("layer.0.output.dense", "layer.1.output.dense", "mlp.Wo")):
        return w @ torch.diag(scale), c
    return torch.diag(scale) @ w, None if c is None else scale * c


@pytest.mark.parametrize("name", ["ia3", "vera"])
@pytest.mark.parametrize(
    "model", [m if m == "tiny" else pytest.param(m, marks=pytest.mark.slow) for m in FAMILIES]
)
def test_a_layer_and_its_merged_weight_are_the_formula(lab: Lab, name: str, model: str) -> None:
    built, bare = adapted(lab, name, model), plain_built(lab, model, SEEDS)
    start = built.plain({n: p.detach() for n, p in built.model.named_parameters()})
    assert list(start) == list(bare.layers.depth)
    assert all(torch.equal(start[n], p) for n, p in bare.model.named_parameters())
    assert [n for n in built.layers.depth if is_adapter(n)]
    for parameter, depth in built.layers.depth.items():
        if not is_adapter(parameter):
            assert depth == bare.layers.depth[parameter.replace(".base_layer.", ".")]
    disturb(built.model)
    network = copy.deepcopy(built.model).double()
    merged = built.plain({n: p.detach() for n, p in network.named_parameters()})
    for path, layer in layers(network).items():
        w, c = layer.base_layer.weight.detach(), layer.base_layer.bias
        c = None if c is None else c.detach()
        weight, bias = effective(name, built, path, w, c, network.get_parameter)
        x = torch.randn(3, w.shape[1], dtype=F64, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, weight, bias))
        torch.testing.assert_close(
            merged[f"{path}.weight"], weight.detach(), rtol=1e-13, atol=1e-15
        )
        if bias is not None:
            torch.testing.assert_close(
                merged[f"{path}.bias"], bias.detach(), rtol=1e-13, atol=1e-15
            )
        assert (weight - w).abs().max() > 0.01, "otherwise nothing is proved"


@pytest.mark.parametrize("name", ["ia3", "vera"])
def test_ten_steps_are_those_of_the_formula(lab: Lab, name: str) -> None:
    """Gradient descent in float64 against a network without peft."""
    built, bare = adapted(lab, name, "tiny"), plain_built(lab, "tiny", SEEDS)
    trains = {n for n in built.layers.depth if is_adapter(n)} | built.layers.head
    network, other = built.model.double().eval(), bare.model.double().eval()
    for parameter, weight in network.named_parameters():
        weight.requires_grad_(parameter in trains)
    fixed = {n: p.detach() for n, p in other.named_parameters()}
    free = {
        n: p.detach().clone().requires_grad_() for n, p in network.named_parameters() if n in trains
    }
    inputs = inputs_of(lab.assembly(lab.run("gad", "tiny")))
    labels = torch.arange(len(inputs["input_ids"])) % 2
    for _ in range(10):
        weights = {**fixed, **{n: w for n, w in free.items() if not is_adapter(n)}}
        for path in layers(network):
            w, c = fixed[f"{path}.weight"], fixed[f"{path}.bias"]
            found = effective(name, built, path, w, c, free.__getitem__)
            weights[f"{path}.weight"], weights[f"{path}.bias"] = found
        expected = torch.func.functional_call(other, weights, (), inputs).logits
        logits = network(**inputs).logits
        torch.testing.assert_close(logits, expected, rtol=1e-7, atol=1e-9)
        torch.nn.functional.cross_entropy(expected, labels).backward()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        with torch.no_grad():
            for n in trains:
                for weight in (network.get_parameter(n), free[n]):
                    weight -= 0.5 * weight.grad
                    weight.grad = None
    moved = [n for n in free if not torch.equal(free[n], built.reference[n].double())]
    assert sorted(moved) == sorted(free)


def test_which_layer_is_the_second() -> None:
    second = ["output.dense", "mlp.Wo", "ffn.lin2", "ffn_output", "mlp.down_proj"]
    others = ["attention.output.dense", "attn.Wo", "intermediate.dense", "ffn.lin1", "mlp.Wi"]
    assert all(map(is_second, second))
    assert not any(map(is_second, others))


@pytest.mark.parametrize("pair", [("ia3", "lora"), ("lora", "vera"), ("ia3", "vera")])
def test_one_thing_around_a_layer(make_run: Callable[..., Any], pair: tuple[str, str]) -> None:
    for order in (pair, pair[::-1]):
        with pytest.raises(ConfigError) as caught:
            make_run("task=gad", "model=tiny", *chosen(*order))
        (problem,) = caught.value.problems
        assert all(name in problem for name in pair)


@pytest.mark.parametrize(
    "name", [n if n == "vera" else pytest.param(n, marks=pytest.mark.slow) for n in WRAPPERS]
)
@pytest.mark.parametrize(
    ("other", "knobs"),
    [
        *(("reinit", {}), ("train_only", {}), ("powerprop", {}), ("sara", {})),
        ("freeze", {"freeze__depth": 2}),
        ("ewc", {}),
    ],
)
def test_refusals(make_run: Callable[..., Any], name: str, other: str, knobs: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        make_run("task=gad", "model=tiny", *chosen(name, other, **knobs))
    assert any(name in problem and other in problem for problem in caught.value.problems)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ia3", "vera"])
def test_plain_transformers_reproduces_the_record(
    make_run: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    knobs = ("device=cpu", "optim.batch_size=8", "optim.steps=6", "optim.lr=3e-2", "keep=last")
    run = make_run("task=gad", "model=tiny", *knobs, *chosen(name))
    record = done(run, tmp_path / "runs")
    folder = tmp_path / "runs" / record.key
    found, expected = plain_logits(folder / "checkpoint" / "last", run), recorded(folder, "last")
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ia3", "vera"])
def test_going_on_gives_the_same_bytes(
    make_run: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    line = ("device=cpu", "optim.batch_size=7", "optim.epochs=3", "optim.lr=3e-3")
    compare(lambda: make_run("task=gad", "model=tiny", *line, *chosen(name)), tmp_path, 3)
