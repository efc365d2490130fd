"""R-Drop, R3F, SMART and FreeLB on every head and family, with micro-batches and in bfloat16."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.types import StepOutput  # noqa: E402
from bluestab.models.passes import noise, perturbed, word_embeddings  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.support.interrupted_runs import SHORT as RESUMED  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

# --- every head, every family --------------------------------------------------------------------

TECHNIQUES = ("rdrop", "r3f", "smart", "freelb")
PASSES = {"rdrop": 2, "r3f": 2, "smart": 3, "freelb": 3}
TASKS = ("biosses", "gad", "hoc", "ncbi_disease")
MODELS = ("tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("model", MODELS)
def test_the_hook_perturbs_what_inputs_embeds_would(make_assembly: Make, model: str) -> None:
    network = make_assembly("task=gad", f"model={model}", "device=cpu").built.model.eval()
    ids = torch.arange(5, 17).view(2, 6)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    z = 0.1 * noise(network, batch, "normal", "test")
    table = word_embeddings(network)
    assert z.shape == (*ids.shape, table.weight.shape[1])
    with torch.no_grad():
        plain = network(**batch).logits
        with perturbed(network, z):
            found = network(**batch).logits
        given = {"inputs_embeds": table(ids) + z, "attention_mask": batch["attention_mask"]}
        expected = network(**given).logits
        assert torch.allclose(found, expected, atol=1e-6)
        assert not torch.allclose(found, plain, atol=1e-6)
        assert torch.equal(network(**batch).logits, plain), "the hook is gone"
        with pytest.raises(RuntimeError, match="attention kernel"), perturbed(network, z[:1]):
            network(**batch)


@pytest.mark.parametrize(
    ("task", "model"), [*((t, "tiny") for t in TASKS), *(("hoc", m) for m in MODELS[1:])]
)
@pytest.mark.parametrize("name", TECHNIQUES)
def test_first_pass_and_counts(make_assembly: Make, name: str, task: str, model: str) -> None:
    """The logits of a wrapped step are those of plain training: same head, batch and dropout."""
    overrides = (f"task={task}", f"model={model}", "device=cpu", "optim.steps=1")
    outputs = {}
    for technique in ("technique=none", *([chosen(name)])):
        asked = (technique,) if isinstance(technique, str) else technique
        assembly = make_assembly(*overrides, *asked)
        batch = next(iter(assembly.loaders["train"]))
        assembly.built.model.train()
        torch.manual_seed(18)
        outputs[asked[0]] = assembly.module._step(batch)
        assert assembly.module.forwards == (1 if asked[0] == "technique=none" else PASSES[name])
    plain, wrapped = outputs.values()
    assert torch.isfinite(wrapped.loss)
    assert wrapped.loss.dtype == torch.float32
    assert not torch.equal(plain.loss, wrapped.loss)
    if name != "freelb":  # whose first pass is perturbed already, and whose last is reported
        assert torch.equal(plain.logits, wrapped.logits)
    wrapped.loss.backward()
    gradient = word_embeddings(assembly.built.model).weight.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("task", TASKS)
def test_small_dose_is_close_to_plain(make_assembly: Make, task: str) -> None:
    """FreeLB with a tiny perturbation has the loss and the gradient of plain training."""
    overrides = (f"task={task}", "model=tiny", "device=cpu")
    tiny = [f"technique.freelb.{k}=1e-7" for k in ("step_size", "init", "max_norm")]
    losses, norms = [], []
    for asked in (("technique=none",), ("technique=freelb", *tiny)):
        assembly = make_assembly(*overrides, *asked)
        batch = next(iter(assembly.loaders["train"]))
        assembly.built.model.train()
        torch.manual_seed(19)
        loss = assembly.module._step(batch).loss
        loss.backward()
        losses.append(loss.item())
        norms.append(
            torch.stack([p.grad.norm() for p in assembly.built.model.parameters()]).norm().item()
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


IN_PARTS = ("trainer.micro_batch=3", "trainer.precision=bf16")


@pytest.mark.parametrize("name", TECHNIQUES)
@pytest.mark.parametrize(
    ("task", "extra"),
    [
        *((task, ()) for task in TASKS),
        ("ncbi_disease", IN_PARTS),
        ("gad", IN_PARTS),
        *(
            pytest.param(task, IN_PARTS, marks=pytest.mark.slow)
            for task in TASKS
            if task not in ("ncbi_disease", "gad")
        ),
    ],
)
def test_training_counts_its_passes(
    make_assembly: Make, name: str, task: str, extra: tuple[str, ...]
) -> None:
    overrides = (f"task={task}", "model=tiny", "device=cpu", "optim.steps=3", "optim.batch_size=8")
    assembly = make_assembly(*overrides, *chosen(name), *extra)
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    trained = assembly.trained()
    assert trained.steps == 3
    assert trained.batches >= (3 * 3 if extra and task != "ncbi_disease" else 3)
    assert trained.forwards == PASSES[name] * trained.batches
    extra_forwards = (PASSES[name] - 1) * trained.batches
    assert assembly.effects() == {name: {"extra_forwards": extra_forwards}}
    assert all(math.isfinite(row["train_loss"]) for row in assembly.history.rows)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["rdrop", "freelb"])
def test_micro_batches_have_the_gradient_of_the_whole(
    make_assembly: Make, name: str, task: str
) -> None:
    """Without dropout, and with an ascent that starts at 0: nothing random is left."""
    from tests.training.loop.test_module import gradients as step_gradients

    start = ("technique.freelb.init=0",) if name == "freelb" else ()
    overrides = (f"task={task}", "model=tiny", "device=cpu", "optim.batch_size=10")
    assembly = make_assembly(*overrides, *chosen(name), *start)
    for module in assembly.built.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = next(iter(assembly.loaders["train"]))
    whole, loss = step_gradients(assembly, batch, None)
    parts, part_loss = step_gradients(assembly, batch, 3)
    assert part_loss == pytest.approx(loss, rel=1e-4)
    scale = max(float(g.abs().max()) for g in whole.values())
    for parameter, gradient in whole.items():
        assert torch.allclose(parts[parameter], gradient, rtol=1e-2, atol=1e-3 * scale), parameter


PAIRS = [
    pytest.param(
        pair,
        id="-".join(pair),
        # each is once the inner and once the outer one; the rest is slow
        marks=[]
        if TECHNIQUES.index(pair[1]) == (TECHNIQUES.index(pair[0]) + 1) % len(TECHNIQUES)
        else pytest.mark.slow,
    )
    for pair in itertools.permutations(TECHNIQUES, 2)
]


@pytest.mark.parametrize("pair", PAIRS)
def test_they_wrap_each_other(make_assembly: Make, pair: tuple[str, str]) -> None:
    overrides = ("task=hoc", "model=tiny_electra", "device=cpu", "optim.steps=2")
    assembly = make_assembly(*overrides, *chosen(*pair))
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    trained = assembly.trained()
    assert trained.forwards == PASSES[pair[0]] * PASSES[pair[1]] * trained.batches


def test_the_proximal_pass_in_bf16(make_assembly: Make) -> None:
    """The cache of autocast must not hand one set of weights to the pass of the other."""
    knobs = [f"technique.smart.{k}" for k in ("proximal=1", "momentum=0.5")]
    overrides = ("task=gad", "model=tiny", "device=cpu", "optim.steps=3", "optim.lr=1e-2")
    assembly = make_assembly(*overrides, *chosen("smart"), *knobs, "trainer.precision=bf16")
    technique, module = assembly.techniques["smart"], assembly.module
    assembly.trainer.fit(module, assembly.loaders["train"])
    batch = next(iter(assembly.loaders["train"]))
    assembly.built.model.train()
    from bluestab.models.passes import model_logits

    found: list[Any] = []

    def plain() -> Any:
        return torch.autocast("cpu", torch.bfloat16)  # the trainer's own has no cache

    def step(batch: Any) -> StepOutput:
        logits = model_logits(assembly.built.model, batch)
        found.append(logits.detach())
        return StepOutput(logits.sum(), logits)

    torch.manual_seed(20)
    with plain():
        technique.wrap_step(step, assembly.built)(batch)
    with torch.no_grad():
        for name, parameter in assembly.built.model.named_parameters():
            parameter.copy_(technique.state_dict()["mean"][name])
    torch.manual_seed(20)
    with plain(), torch.no_grad():
        expected = model_logits(assembly.built.model, batch)
    assert torch.equal(found[-1], expected)
    assert not torch.equal(found[0], expected)
    assert module.forwards == 4 * 3 + 4 + 1


# --- refused, and resumed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "knob", "value", "expected"),
    [
        ("rdrop", "alpha", -0.1, "a number >= 0"),
        ("r3f", "weight", -1, "a number >= 0"),
        ("r3f", "eps", 0, "a number > 0"),
        ("r3f", "noise", "gaussian", "uniform"),
        ("r3f", "same_dropout", 1, "true or false"),
        ("smart", "weight", 0, "a number > 0"),
        ("smart", "steps", 0, "a whole number >= 1"),
        ("smart", "steps", 1.5, "a whole number >= 1"),
        ("smart", "eps", -1e-5, "a number > 0"),
        ("smart", "proximal", -1, "a number >= 0"),
        ("smart", "momentum", 1.0, "a number in [0, 1)"),
        ("freelb", "ascents", 1, "a whole number >= 2"),
        ("freelb", "step_size", 0, "a number > 0"),
        ("freelb", "init", -0.1, "a number >= 0"),
        ("freelb", "max_norm", 0, "a number > 0"),
    ],
)
def test_values_out_of_range(
    make_run: Make, name: str, knob: str, value: Any, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_run("task=gad", "model=tiny", f"technique={name}", f"technique.{name}.{knob}={value}")
    (problem,) = caught.value.problems
    assert problem.startswith(f"technique.{name}.{knob} is {value!r}")
    assert expected in problem


def test_what_drowns_in_rounding_is_refused(make_run: Make) -> None:
    gad = ("task=gad", "model=tiny", "trainer.precision=bf16")
    with pytest.raises(ConfigError, match=r"technique\.r3f\.eps is 1e-05 with trainer\.prec"):
        make_run(*gad, "technique=r3f")
    make_run(*gad, "technique=r3f", "technique.r3f.eps=0.01")
    make_run(*gad, "technique=r3f", "technique.r3f.same_dropout=false")
    with pytest.raises(ConfigError, match=r"smart\.step_size is 0\.001.* with trainer\.prec"):
        make_run(*gad, "technique=smart", "technique.smart.eps=0.03")
    make_run(*gad, *chosen("smart"))
    make_run(*gad, *chosen("freelb"))


@pytest.mark.parametrize("extra", [(), ("trainer.micro_batch=3", "trainer.precision=bf16")])
def test_the_mean_of_the_weights_goes_on(
    making: Make,
    tmp_path: Path,
    extra: tuple[str, ...],
) -> None:
    assert "optim.batch_size=7" in RESUMED
    knobs = ("technique.smart.proximal=1", "technique.smart.momentum=0.5")
    compare(making("task=gad", "model=tiny", *chosen("smart"), *knobs, *extra), tmp_path, 5)
