"""Optimizer side: bias correction, warm-up in steps, averages of weights, SAM, label smoothing.

Each is held against a closed form or a case worked by hand, in float64 where it can be.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.techniques.ema import decay_after  # noqa: E402
from bluestab.techniques.label_smoothing import uniform_loss  # noqa: E402
from bluestab.techniques.sam import Sam, ascent  # noqa: E402
from bluestab.techniques.swa import first_step  # noqa: E402
from bluestab.testing.observed_training import watch  # noqa: E402
from bluestab.training.loop.optimizers import UncorrectedAdamW, adamw  # noqa: E402
from tests.training.test_execute import done  # noqa: E402
from tests.training.test_resume import compare, making  # noqa: E402, F401

Make = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

FAST = ("device=cpu", "model=tiny", "optim.batch_size=7", "optim.lr=3e-3")


def fitted(make_assembly: Make, *overrides: str) -> tuple[Any, Any]:
    """An assembly after its training, and what a witness saw of it."""
    assembly = make_assembly(*FAST, *overrides)
    return assembly, watch(assembly, {})


# --- bias correction -----------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "factor"), [(1, 0.316), (10, 0.153), (50, 0.222), (1000, 0.795)])
def test_length_of_a_step_without_correction(step: int, factor: float) -> None:
    """The gradient is always 1 and eps 0: AdamW then moves by lr, the other by lr times factor."""
    exact = math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    assert exact == pytest.approx(factor, abs=5e-4)
    moved = {}
    for corrected in (True, False):
        weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        group = {"params": [weight], "lr": 0.01, "weight_decay": 0.0}
        optimizer = adamw([group], betas=(0.9, 0.999), eps=0.0, bias_correction=corrected)
        for _ in range(step):
            before = weight.detach().clone()
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        moved[corrected] = float((before - weight).detach()[0])
    assert moved[True] == pytest.approx(0.01, rel=1e-9)
    # constant gradients: m = (1 - b1^t), v = (1 - b2^t), so the step is lr * (1-b1^t)/sqrt(1-b2^t)
    assert moved[False] == pytest.approx(0.01 / exact, rel=1e-9)


def test_uncorrected_steps_by_hand() -> None:
    """Five steps of two tensors in two groups, against the three lines of the rule in numbers."""
    rates, decays = (0.1, 0.02), (0.05, 0.0)
    random = torch.Generator().manual_seed(0)
    start = [torch.randn(4, 3, generator=random, dtype=torch.float64) for _ in range(2)]
    gradients = [
        [torch.randn(4, 3, generator=random, dtype=torch.float64) for _ in range(2)]
        for _ in range(5)
    ]
    weights = [torch.nn.Parameter(w.clone()) for w in start]
    idle = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    groups = [
        {"params": [w, idle] if i == 0 else [w], "lr": rates[i], "weight_decay": decays[i]}
        for i, w in enumerate(weights)
    ]
    optimizer = UncorrectedAdamW(groups, betas=(0.8, 0.95), eps=1e-3)
    for given in gradients:
        for weight, gradient in zip(weights, given, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
    for i, weight in enumerate(weights):
        for place in ((0, 0), (3, 2)):
            w, m, v = float(start[i][place]), 0.0, 0.0
            for given in gradients:
                g = float(given[i][place])
                m = 0.8 * m + 0.2 * g
                v = 0.95 * v + 0.05 * g * g
                w -= rates[i] * (m / (math.sqrt(v) + 1e-3) + decays[i] * w)
            assert float(weight.detach()[place]) == pytest.approx(w, rel=1e-12)
    assert torch.equal(idle, torch.ones(2, dtype=torch.float64)), "no gradient, no decay"


def test_a_closure_is_called_once_with_gradients() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = UncorrectedAdamW(
        [{"params": [weight], "lr": 0.1, "weight_decay": 0.0}], betas=(0.9, 0.999), eps=1e-6
    )
    calls = []

    def closure() -> float:
        calls.append(1)
        loss = (weight**2).sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 2.0
    assert calls == [1]
    assert (weight < 1).all()


def test_training_without_correction(make_assembly: Make) -> None:
    """The same losses as a loop of our own over the batches, and others than with correction."""
    common = ("task=gad", "optim.steps=6", "optim.warmup=0", "optim.clip=null")
    assembly = make_assembly(*FAST, *common, "optim.bias_correction=false")
    for module in assembly.built.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    twin = copy.deepcopy(assembly.built.model).train()
    for module in twin.modules():
        vars(module).pop("forward", None)
    parameters = {n: p for n, p in twin.named_parameters() if p.requires_grad}
    moments = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in parameters.items()}
    sampler = assembly.loaders["train"].sampler
    batches = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches += list(assembly.loaders["train"])
    sampler.set_epoch(0)
    expected = []
    for step, batch in enumerate(batches[:6]):
        twin.zero_grad()
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "items")}
        loss = torch.nn.functional.cross_entropy(twin(**inputs).logits, batch["labels"])
        loss.backward()
        expected.append(float(loss.detach()))
        with torch.no_grad():
            for name, p in parameters.items():
                m, v = moments[name]
                m.mul_(0.9).add_(0.1 * p.grad)
                v.mul_(0.999).add_(0.001 * p.grad**2)
                decay = 0.01 if p.ndim > 1 else 0.0
                p -= 3e-3 * (1 - step / 6) * (m / (v.sqrt() + 1e-6) + decay * p)
    found = watch(assembly, {}).losses
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 1e-2
    assert fitted(make_assembly, *common)[1].losses[2:] != found[2:]


def test_bias_correction_in_the_key_only_where_it_is_off(make_run: Make) -> None:
    plain, said, off = (
        make_run("task=gad", *FAST, *extra)
        for extra in ((), ("optim.bias_correction=true",), ("optim.bias_correction=false",))
    )
    assert plain.key == said.key != off.key
    assert "bias_correction" not in plain.hashed["optim"]
    assert off.hashed["optim"]["bias_correction"] is False


@pytest.mark.parametrize("step", [3, 5])
def test_uncorrected_goes_on(making: Make, tmp_path: Path, step: int) -> None:  # noqa: F811
    compare(making("task=biosses", "model=tiny", "optim.bias_correction=false"), tmp_path, step)


# --- warm-up in steps ----------------------------------------------------------------------------


def test_warmup_in_steps(make_assembly: Make) -> None:
    _, seen = fitted(make_assembly, "task=gad", "optim.steps=8", "optim.warmup=3")
    (rates,) = set(seen.rates.values())
    expected = [0, 1 / 3, 2 / 3, 1, 0.8, 0.6, 0.4, 0.2]
    assert rates == pytest.approx([3e-3 * factor for factor in expected])


def test_a_warmup_longer_than_the_run(make_run: Make, tmp_path: Path) -> None:
    record = done(make_run("task=gad", *FAST, "optim.steps=4", "optim.warmup=100"), tmp_path)
    assert (record.status, record.result["warmup_steps"]) == ("done", 4)


@pytest.mark.parametrize("value", ["1.0", "1.5", "-1", "true", "100.0"])
def test_warmup_is_one_or_the_other(make_run: Make, value: str) -> None:
    with pytest.raises(ConfigError, match=r"optim.warmup is .* or a whole number of steps >= 1"):
        make_run("task=gad", *FAST, f"optim.warmup={value}")


def test_a_fraction_keeps_its_key(make_run: Make) -> None:
    assert make_run("task=gad", *FAST).hashed["optim"]["warmup"] == 0.1
    half = make_run("task=gad", *FAST, "optim.warmup=0.5")
    steps = make_run("task=gad", *FAST, "optim.warmup=6")
    assert len({half.key, steps.key, make_run("task=gad", *FAST).key}) == 3


# --- averages of weights -------------------------------------------------------------------------


def away(one: Any, other: Any) -> float:
    """Largest difference of two sets of weights."""
    return max(float((w.double() - other[name].double()).abs().max()) for name, w in one.items())


def ema_of(start: Any, trail: Any, decay: float, warmup: bool) -> Any:
    """The recursion in float64, from weights that plain code noted."""
    average = {name: w.double() for name, w in start.items()}
    for t, weights in enumerate(trail, start=1):
        d = min(decay, (1 + t) / (10 + t)) if warmup else decay
        average = {name: d * a + (1 - d) * weights[name].double() for name, a in average.items()}
    return average


@pytest.mark.parametrize(
    ("step", "decay", "warmup", "expected"),
    [(1, 0.999, True, 2 / 11), (90, 0.999, True, 0.91), (90, 0.9, True, 0.9), (1, 0.9, False, 0.9)],
)
def test_decay_by_hand(step: int, decay: float, warmup: bool, expected: float) -> None:
    assert decay_after(step, decay, warmup) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", ["true", "false"])
@pytest.mark.parametrize("extra", [(), ("trainer.micro_batch=3",)])
def test_ema_is_its_recursion(make_assembly: Make, warmup: str, extra: tuple[str, ...]) -> None:
    knobs = ("technique=ema", "technique.ema.decay=0.7", f"technique.ema.warmup={warmup}")
    common = ("task=gad", "optim.steps=9", *extra)
    assembly, seen = fitted(make_assembly, *common, *knobs)
    plain = fitted(make_assembly, *common)[1]
    assert seen.losses == plain.losses, "training itself is plain training"
    assert away(seen.trail[-1], plain.end) == 0
    expected = ema_of(plain.start, plain.trail, 0.7, warmup == "true")
    assert away(seen.end, expected) < 1e-6
    assert away(seen.end, ema_of(plain.start, plain.trail, 0.7, warmup == "false")) > 1e-4
    assert assembly.effects()["ema"]["decay"] == 0.7


@pytest.mark.parametrize(("tail", "n"), [(0.5, 5), (0.25, 3), (0.05, 1), (1, 9)])
def test_swa_is_the_mean_of_the_last_steps(make_assembly: Make, tail: float, n: int) -> None:
    knobs = ("technique=swa", f"technique.swa.tail={tail}")
    assembly, seen = fitted(make_assembly, "task=gad", "optim.steps=9", *knobs)
    plain = fitted(make_assembly, "task=gad", "optim.steps=9")[1]
    assert seen.losses == plain.losses
    last = plain.trail[-n:]
    assert away(seen.end, {k: sum(w[k].double() for w in last) / n for k in seen.end}) < 1e-6
    assert assembly.effects()["swa"].get("averaged_steps", 1) == n


@pytest.mark.parametrize(
    ("total", "tail", "first"),
    [(10, 0.3, 8), (10, 1, 1), (10, 0, 11), (3, 0.5, 2), (100, 0.07, 94)],
)
def test_first_averaged_step(total: int, tail: float, first: int) -> None:
    assert first_step(total, tail) == first


def test_swa_can_hold_the_rates(make_assembly: Make) -> None:
    knobs = ("technique=[swa,llrd]", "technique.swa.tail=0.5", "technique.swa.rate=0.8")
    _, seen = fitted(make_assembly, "task=gad", "optim.steps=8", "optim.warmup=0", *knobs)
    expected = [1, 7 / 8, 6 / 8, 5 / 8, 0.8, 0.8, 0.8, 0.8]
    for rates in set(seen.rates.values()):
        scale = rates[0] / 3e-3
        assert rates == pytest.approx([3e-3 * scale * factor for factor in expected])
    assert len(set(seen.rates.values())) == 4, "scales of layers are kept"
    mean = {k: sum(w[k].double() for w in seen.trail[-4:]) / 4 for k in seen.end}
    assert away(seen.end, mean) < 1e-6


class Watches:
    """Notes the weights that every validation and test meets."""

    def __init__(self) -> None:
        import pytorch_lightning as pl

        from bluestab.testing.observed_training import weights

        met = self.met = []

        class Notes(pl.Callback):
            def on_validation_epoch_start(self, trainer: Any, module: Any) -> None:
                met.append((trainer.global_step, weights(module.model)))

        self.callback = Notes()


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_validation_meets_the_averages(make_assembly: Make, name: str) -> None:
    """From the first averaged step on; what is kept as best are the weights that were evaluated."""
    common = ("task=gad", "optim.steps=6", "trainer.eval_every=1", "optim.warmup=0")
    assembly = make_assembly(*FAST, *common, f"technique={name}")
    watches = Watches()
    assembly.trainer.callbacks.append(watches.callback)
    seen = watch(assembly, {})
    assert [step for step, _ in watches.met] == [1, 2, 3, 4, 5, 6]
    for step, met in watches.met:
        if name == "ema":
            expected = ema_of(seen.start, seen.trail[:step], 0.999, True)
        else:
            window = seen.trail[min(3, step - 1) : step]
            expected = {k: sum(w[k].double() for w in window) / len(window) for k in met}
        assert away(met, expected) < 1e-6, step
    best = assembly.history
    met = dict(watches.met)[best.best_step]
    assert best.best_weights
    assert all(torch.equal(w, met[n]) for n, w in best.best_weights.items())
    assert away(seen.end, dict(watches.met)[6]) == 0, "the last weights are what was evaluated last"
    assert away(seen.end, seen.trail[-1]) > 1e-5


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_kept_weights_are_the_averages(make_run: Make, tmp_path: Path, name: str) -> None:
    """Weights on disk, scores and predictions belong together, for last and for best."""
    from safetensors.torch import load_file

    common = ("task=gad", *FAST, "optim.steps=6", "trainer.eval_every=1", "keep=all")
    record = done(make_run(*common, f"technique={name}"), tmp_path / "averaged")
    plain = done(make_run(*common), tmp_path / "plain")

    def weights(root: Path, key: str, at: str) -> Any:
        (file,) = (root / key / "checkpoint" / at).glob("*.safetensors")
        return load_file(file)

    averaged = weights(tmp_path / "averaged", record.key, "last")
    raw = weights(tmp_path / "plain", plain.key, "last")
    distance = math.sqrt(sum(float(((averaged[n] - raw[n]).double() ** 2).sum()) for n in raw))
    said = record.result["effects"][name]["distance_from_last_step"]
    assert distance == pytest.approx(said, rel=1e-5)
    assert distance > 1e-4
    if record.result["best_step"] != 6:
        assert away(weights(tmp_path / "averaged", record.key, "best"), averaged) > 0


def test_two_averages_are_refused(make_run: Make) -> None:
    for order in ("ema,swa", "swa,ema"):
        with pytest.raises(ConfigError, match="technique swa and technique ema both") as caught:
            make_run("task=gad", *FAST, f"technique=[{order}]")
        assert len(caught.value.problems) == 1


@pytest.mark.parametrize("knobs", [("ema", "ema.decay=0.9"), ("swa", "swa.rate=0.5")])
def test_averages_go_on(making: Make, tmp_path: Path, knobs: tuple[str, str]) -> None:  # noqa: F811
    """Before, in the middle of, and at the end of what is averaged, with weights evaluated."""
    name, knob = knobs
    make = making(
        "task=biosses", "model=tiny", f"technique={name}", f"technique.{knob}",
        "trainer.eval_every=2",
    )  # fmt: skip
    for step in (3, 5, 8):
        compare(make, tmp_path, step)


# --- SAM -----------------------------------------------------------------------------------------


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
def test_sam_goes_on(making: Make, tmp_path: Path, extra: tuple[str, ...]) -> None:  # noqa: F811
    make = making("task=gad", "model=tiny", "technique=sam", "technique.sam.adaptive=true", *extra)
    compare(make, tmp_path, 5)


# --- label smoothing -----------------------------------------------------------------------------


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


# --- knobs out of range --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("ema.decay", "1"), ("ema.decay", "-0.1"), ("ema.warmup", "1"), ("swa.tail", "1.1"),
        ("swa.rate", "0"), ("swa.rate", "1.5"), ("sam.rho", "-1"), ("sam.rho", "inf"),
        ("sam.rho", "nan"), ("sam.adaptive", "0"),
    ],
)  # fmt: skip
def test_out_of_range(make_run: Make, knob: str, value: str) -> None:
    name = knob.partition(".")[0]
    with pytest.raises(ConfigError, match=rf"technique\.{knob} is .*: expected") as caught:
        make_run("task=gad", *FAST, f"technique={name}", f"technique.{knob}={value}")
    assert len(caught.value.problems) == 1
