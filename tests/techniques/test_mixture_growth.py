"""MixtureGrowth against a loop of its own around both events, its counts, and its bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.seeding import generator  # noqa: E402
from bluestab.core.types import IGNORED  # noqa: E402
from bluestab.models.passes import POSITIONS, inputs_of  # noqa: E402
from bluestab.techniques.mixture_growth import (  # noqa: E402
    COEFFICIENTS,
    first_coefficients,
    new_coefficients,
    stages,
)
from bluestab.testing.technique_arms import node_of  # noqa: E402
from bluestab.training.check import check_parts  # noqa: E402
from bluestab.training.loop.history import ValidationHistory  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.training.test_execute import done  # noqa: E402
from tests.training.test_pretraining import MLM, PLAIN, fitted, text  # noqa: E402, F401

Make = Callable[..., Any]
F64 = torch.float64
GROWS = (
    "technique=mixture_growth",
    "technique.mixture_growth.grow_at=0.667",
    "optim.steps=9",
    "optim.batch_size=7",
)
"""Member 0 in steps 0 to 2, member 1 in 3 to 5, the grown network in 6 to 8."""
RDROP = node_of("rdrop")
STILL = ("model.dropout=0", "model.attention_dropout=0")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def leaves_of(assembly: Any) -> dict[str, torch.Tensor]:
    """What the network in halves is made of, copied, in float64."""
    network = assembly.built.model
    return {n: p.detach().double().requires_grad_() for n, p in network.named_parameters()}


def weights_of(leaves: dict[str, torch.Tensor], member: int | None) -> dict[str, torch.Tensor]:
    """Those of a plain transformers network: a member's, or the grown one's."""

    def block(path: str, number: int) -> torch.Tensor:
        pair, c = leaves[f"{path}.templates.{number % 2}"], leaves[f"{path}.coefficients.{number}"]
        return c[0] * pair[0] + c[1] * pair[1]

    found = {}
    for name in leaves:
        path, _, last = name.rpartition(".")
        if last not in ("0", "1", "2", "3"):
            found[name] = leaves[name]
        elif path.endswith(".templates"):
            path = path.removesuffix(".templates")
            w0, w1, w2, w3 = (block(path, n) for n in range(4))
            rows = torch.hstack([w0, w2]), torch.hstack([w3, w1])
            found[f"{path}.weight"] = torch.vstack(rows) if member is None else (w0, w1)[member]
        elif not path.endswith(".coefficients"):
            both = leaves[f"{path}.0"], leaves[f"{path}.1"]
            found[path] = torch.cat(both, -1) if member is None else both[member]
    return found


def plain_network(assembly: Any, share: int) -> Any:
    """transformers' own, `share` times narrower, in float64."""
    from transformers import BertConfig, BertForMaskedLM

    config = assembly.built.model.config.to_dict()
    for size in ("hidden_size", "intermediate_size", "num_attention_heads"):
        config[size] //= share
    return BertForMaskedLM(BertConfig(**config)).double()


def loss_of(network: Any, weights: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
    labels = torch.full_like(batch["input_ids"], IGNORED)
    for row, (places, right) in enumerate(zip(batch[POSITIONS], batch["labels"], strict=True)):
        labels[row, places[right != IGNORED]] = right[right != IGNORED]
    out = torch.func.functional_call(network, weights, (), {**inputs_of(batch), "labels": labels})
    return out.loss  # type: ignore[no-any-return]


def test_nine_steps_around_both_events_are_those_of_a_plain_loop(
    make_assembly: Make,
    text: str,  # noqa: F811
) -> None:
    """Weights of transformers' own networks made of templates by hand, a fresh AdamW for each part,
    the rate written out, in float64."""
    assembly = make_assembly(*MLM, text, *GROWS, *STILL, "optim.lr=1e-2", "optim.warmup=3")
    leaves = leaves_of(assembly)
    seen = fitted(assembly)
    narrow, wide = plain_network(assembly, 2), plain_network(assembly, 1)
    for number, batch in enumerate(seen):
        member = (0, 1, None)[number // 3]
        if number % 3 == 0:
            decayed = [p for p in leaves.values() if p.dim() > 1]
            groups = [
                {"params": decayed, "weight_decay": 0.01},
                {"params": [p for p in leaves.values() if p.dim() < 2], "weight_decay": 0.0},
            ]
            optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-6)
        if number == 6:
            grow(leaves)
        for group in optimizer.param_groups:
            group["lr"] = (0.0, 1e-2, 0.5e-2)[number % 3]  # nine steps with three of warm-up
        network = wide if member is None else narrow
        loss = loss_of(network, weights_of(leaves, member), batch)
        assert float(loss.detach()) == pytest.approx(batch["loss"], abs=2e-5), number
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves.values(), 1.0)
        optimizer.step()
    trained = dict(assembly.built.model.named_parameters())
    assert trained.keys() == leaves.keys()
    for name, value in leaves.items():
        assert torch.allclose(value, trained[name].double(), atol=5e-5), name
    dense = assembly.built.plain(assembly.built.model.state_dict())
    for name, value in weights_of(leaves, None).items():
        assert torch.allclose(value, dense[name].double(), atol=1e-4), name


def grow(leaves: dict[str, torch.Tensor]) -> None:
    """By the eigenvector of the least eigenvalue of the sum of c c'."""
    with torch.no_grad():
        for name in [n for n in leaves if n.endswith("coefficients.2")]:
            path = name.removesuffix("2")
            for new in (2, 3):
                c = torch.stack([leaves[f"{path}{n}"] for n in range(new)])
                least = torch.linalg.eigh(c.T @ c).eigenvectors[:, 0]
                sign = 1 if least.max() > -least.min() else -1
                leaves[f"{path}{new}"].copy_(sign * least)


def test_parameters_are_as_derived_and_members_rest_in_turn(
    make_run: Make,
    tmp_path: Path,
    text: str,  # noqa: F811
) -> None:
    """The four templates of a layer hold as many numbers as a plain one, and eight coefficients
    come to them; plain transformers loads what is kept, and says of the test items what the record
    says."""
    from transformers import AutoModelForMaskedLM

    run = make_run(*MLM, text, *GROWS, "keep=last", "trainer.eval_every=1", "optim.lr=3e-3")
    record = done(run, tmp_path / "runs")
    n, h, i, pieces = 2, 32, 64, 193
    matrices = n * (4 * h * h + 2 * h * i) + h * h
    layers = 6 * n + 1
    tables = (pieces + 512 + 2) * h
    vectors = 2 * h + n * (4 * h + i + h + 4 * h) + 3 * h  # norms and biases of what is wide
    assert record.result["effects"]["mixture_growth"] == {
        "grew_at": 6,
        "parameters_before": (matrices + tables + vectors) // 2 + pieces + 2 * layers,
        "parameters_after": matrices + tables + vectors + pieces + 8 * layers,
    }
    assert record.result["parameters"]["total"] == matrices + tables + vectors + pieces + 8 * layers
    assert record.result["best_step"] > 6
    folder = tmp_path / "runs" / record.key / "checkpoint" / "last"
    plain, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert sum(p.numel() for p in plain.parameters()) == matrices + tables + vectors + pieces


@pytest.mark.parametrize("model", ["tiny", pytest.param("tiny_electra", marks=pytest.mark.slow)])
def test_the_dense_network_says_what_the_grown_one_says(
    make_assembly: Make,
    text: str,  # noqa: F811
    model: str,
) -> None:
    from transformers import AutoModelForMaskedLM

    assembly = make_assembly(*MLM, text, *GROWS, *STILL, f"model={model}")
    for loader in fitted(assembly)[-1:]:
        inputs = inputs_of(loader)
        network = assembly.built.model.eval()
        plain = AutoModelForMaskedLM.from_config(network.config).eval()
        missing = plain.load_state_dict(assembly.built.plain(network.state_dict()), strict=False)
        plain.tie_weights()
        assert not missing.unexpected_keys
        with torch.no_grad():
            expected = plain(**inputs).logits
            assert torch.allclose(network(**inputs).logits, expected, atol=1e-5)
            assembly.techniques["mixture_growth"]._part.member = 0
            assert not torch.allclose(network(**inputs).logits, expected, atol=1e-3)


def test_what_rests_keeps_its_bits(
    make_assembly: Make,
    text: str,  # noqa: F811
) -> None:
    """Neither moments of earlier steps nor weight decay reach it."""
    assembly = make_assembly(*MLM, text, *GROWS, "optim.weight_decay=0.1", "optim.warmup=0")
    trail = [leaves_of(assembly)]
    step = assembly.module.optimizer_step

    def noted(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        trail.append(leaves_of(assembly))

    assembly.module.optimizer_step = noted
    fitted(assembly)
    for number in range(6):
        before, after = trail[number : number + 2]
        moved = {n for n in before if not torch.equal(before[n], after[n])}
        resting = str(1 - number // 3)
        assert not {n for n in moved if n[-1] in (resting, "2", "3")}
        assert "bert.embeddings.word_embeddings.weight." + str(number // 3) in moved
    assert len({n for n in trail[6] if not torch.equal(trail[6][n], trail[7][n])}) > 100


def test_stages_and_coefficients() -> None:
    assert stages(440, 400 / 440) == (0, 200, 400)
    assert stages(3, 0.9) == (0, 1, 2)
    assert stages(10, 0.01) == (0, 1, 2)
    with pytest.raises(ConfigError, match="the run has 2 steps: three at least"):
        stages(2, 0.9)
    first = first_coefficients(generator(0, "c"))
    assert torch.allclose(first.norm(dim=1), torch.ones(4))
    one, other = first[0], first[1]
    made = {
        kind: new_coefficients(one, other, kind, 0.5, generator(1, "n")) for kind in COEFFICIENTS
    }
    for right in made["zero"]:
        assert not right.any()
    for right in made["random"]:
        assert ((right >= 0) & (right < 0.5)).all()
    noise = [(new - old).norm() for new, old in zip(made["copy"], (one, other), strict=True)]
    assert torch.allclose(torch.stack(noise), torch.tensor(0.5))
    right, left = made["orthogonal"]
    assert torch.allclose(torch.stack([right.norm(), left.norm()]), torch.tensor(0.5))
    alone = new_coefficients(one, one, "orthogonal", 1.0, generator(1, "n"))[0]
    assert float(alone @ one) == pytest.approx(0, abs=1e-6)


def test_weights_of_a_member_are_never_the_best() -> None:
    from bluestab.tasks.metric import PERPLEXITY

    network = torch.nn.Linear(1, 1)
    history = ValidationHistory(PERPLEXITY["perplexity"], network, begins=3)
    for step, score in ((1, 5.0), (2, 4.0), (3, 9.0), (4, 8.0), (5, 8.5)):
        history.add(step, {"perplexity": score}, 1.0)
    assert history.best_step == 4
    assert len(history.rows) == 5


@pytest.mark.parametrize("step", [6, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 5))])
def test_a_killed_run_goes_on_bit_for_bit(
    make_run: Make,
    tmp_path: Path,
    text: str,  # noqa: F811
    step: int,
) -> None:
    """At both events, and before each."""
    compare(lambda: make_run(*MLM, text, *GROWS, "optim.lr=3e-3"), tmp_path, step)


def test_what_does_not_go_with_it_is_one_sentence(
    make_run: Make,
    text: str,  # noqa: F811
) -> None:
    cfg = make_run("task=mlm", text, "model=tiny", "technique=mixture_growth", *PLAIN).cfg
    for path, value, said in (
        ("model.config.num_attention_heads", 1, "model.config.num_attention_heads is 1, of which"),
        (
            "model.init_from",
            "0123456789abcdef",
            "has pretrained weights (model.init_from), which are no",
        ),
        ("technique.rdrop", RDROP, "techniques mixture_growth and rdrop: a network"),
        ("optim.patience", 3, "optim.patience may end the run before"),
        ("stop_degenerate", True, "stop_degenerate may end the run before"),
        ("optim.steps", 2, "optim.steps is 2, and technique mixture_growth trains two"),
        ("technique.mixture_growth.grow_at", 1, "technique.mixture_growth.grow_at is 1"),
        ("trainer.engine", "packed", "trainer.engine is packed"),
        ("trainer.devices", 2, "technique mixture_growth runs on one device alone"),
    ):
        changed = OmegaConf.create(cfg)
        OmegaConf.update(changed, path, value, force_add=True)
        assert_refused(partial(check_parts, OmegaConf.to_container(changed)), said)


@pytest.mark.slow
def test_neither_models_nor_tasks_that_do_not_fit(
    make_run: Make,
    text: str,  # noqa: F811
) -> None:
    for more, said in (
        (("model=minilm",), "has pretrained weights (model.package), which are no templates"),
        (("task=gad", "task.train=train.tsv"), "say task=mlm, and fine-tune from that run without"),
        (("task=rtd", "model=tiny_electra"), "say task=mlm, and fine-tune"),
        (("model=tiny_modernbert",), "tiny_modernbert is of family modernbert"),
    ):
        asked = ("task=mlm", text, "model=tiny", "technique=mixture_growth", *PLAIN, *more)
        assert_refused(partial(make_run, *asked), said)


def assert_refused(start: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        start()
    problems = caught.value.problems
    assert [said in one for one in problems] == [True], problems


def operations(network: Any, pieces: int, rows: int = 32, masked: int = 19) -> int:
    """Of a step, forward and backward, by torch's counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        states = network.bert(
            input_ids=torch.zeros((rows, pieces), dtype=torch.long, device="meta")
        )
        network.cls(states.last_hidden_state[:, :masked]).sum().backward()
    return int(counter.get_total_flops())


@pytest.mark.slow
def test_the_arms_of_the_sweep_cost_the_same() -> None:
    """And a member costs what a network of its width does, but for what mixes its templates."""
    from transformers import BertConfig, BertForMaskedLM

    from bluestab.core.paths import conf_dir, sweeps_dir
    from bluestab.models.templates import halved

    shape = OmegaConf.load(conf_dir() / "model" / "bert_tiny.yaml").config
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads")
    costs = []
    for share in (1, 2):
        own = {**shape, **{size: shape[size] // share for size in sizes}}
        with torch.device("meta"):
            network = BertForMaskedLM(BertConfig(**own, attn_implementation="eager"))
        costs.append(operations(network, 128))
    large, member = costs
    arms = OmegaConf.to_container(OmegaConf.load(sweeps_dir() / "growth_small.yaml").sweep.arms)
    asked = [dict(one.split("=") for one in arm) for arm in arms.values()]  # type: ignore[union-attr]
    totals = []
    for arm in asked:
        total = int(arm["optim.steps"])
        share = float(arm.get("technique.mixture_growth.grow_at", 0))
        *_, grown = stages(total, share) if share else (0,)
        totals.append(grown * member + (total - grown) * large)
    assert totals == [pytest.approx(totals[0], rel=1e-3)] * 3

    with torch.device("meta"):
        network = BertForMaskedLM(BertConfig(**shape, attn_implementation="eager"))
    part = halved(network, lambda path: torch.ones((4, 2), device="meta"))
    assert operations(network, 128) == pytest.approx(member, rel=2e-3)
    part.member = None
    assert operations(network, 128) == pytest.approx(large, rel=2e-3)
