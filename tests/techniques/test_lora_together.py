"""LoRA together with the others, what its runs keep, and how they go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.techniques.llrd import multiplier  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.store.test_artefacts import CASES, plain_logits, recorded  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


# --- together ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    ["freeze", "llrd", "mixout", "child_tuning", "prior_decay", "recadam", "ema", "swa", "thaw"],
)
def test_the_order_in_the_list_changes_no_bit(lab: Lab, other: str) -> None:
    knobs = {"lora__targets": "all", "lora__dropout": 0.1}
    seen = [
        lab.trained("biosses", "tiny", *chosen(*names, **knobs))[1]
        for names in (("lora", other), (other, "lora"))
    ]
    assert seen[0].losses == seen[1].losses
    for name, weight in seen[0].end.items():
        assert torch.equal(weight, seen[1].end[name]), name


@pytest.mark.parametrize("order", [("freeze", "lora"), ("lora", "freeze")])
@pytest.mark.parametrize("eval_mode", ["true", "false"])
def test_frozen_blocks_stay_the_checkpoint_s(
    lab: Lab, order: tuple[str, str], eval_mode: str
) -> None:
    knobs = {"lora__dropout": 0.5, "freeze__eval_mode": eval_mode}
    assembly, seen = lab.trained("biosses", "tiny", *chosen(*order, **knobs))
    effects = assembly.effects()
    assert effects["lora"]["adapters"] == 2, "of four"
    below = [n for n in seen.added if "layer.0." in n]
    assert len(below) == 4
    assert not set(below) & set(seen.moved)
    for name in (n for n in seen.applied if "layer.0." in n):
        torch.testing.assert_close(seen.applied[name], seen.checkpoint[name])
    path = "bert.encoder.layer.0.attention.self.query"
    layer = assembly.built.model.train().get_submodule(path)
    assert layer.lora_dropout.default.training == (eval_mode == "false")


def test_updates_have_the_rate_of_their_block(lab: Lab) -> None:
    knobs = {"llrd__decay": 0.5}
    _, seen = lab.trained("biosses", "tiny", *chosen("lora", "llrd", **knobs))
    lr = seen.rates["classifier.weight"]
    for name in seen.added:
        factor = multiplier(1 if "layer.0." in name else 2, 2, 0.5, "zhang")
        assert factor < 1
        assert seen.rates[name] == pytest.approx([factor * rate for rate in lr])


def test_a_decay_to_the_start_shrinks_the_update(lab: Lab) -> None:
    """Nothing else moves A and B together to where their product is nothing."""
    found = []
    for alpha in (1e-6, 300):
        knobs = {"prior_decay__alpha": alpha}
        assembly, seen = lab.trained("biosses", "tiny", *chosen("lora", "prior_decay", **knobs))
        size = sum(float((seen.applied[n] - seen.end[n]).norm()) for n in seen.applied)
        found.append((size, assembly.effects()["prior_decay"]["distance"]))
    assert found[1][0] < 0.9 * found[0][0]
    assert found[1][1] < found[0][1]


# --- what a run keeps ----------------------------------------------------------------------------

KEPT = (
    "device=cpu",
    "optim.batch_size=8",
    "optim.steps=6",
    "trainer.eval_every=1",
    "optim.lr=3e-2",
)


@pytest.mark.parametrize(("task", "model"), [case for case in CASES if case[1] != "minilm"])
def test_plain_transformers_reproduces_the_record(
    make_run: Make, tmp_path: Path, task: str, model: str
) -> None:
    from safetensors.torch import load_file

    knobs = {"lora__targets": "all", "lora__dropout": 0.1}
    run = make_run(f"task={task}", f"model={model}", *KEPT, "keep=all", *chosen("lora", **knobs))
    record = done(run, tmp_path / "runs")
    assert record.status == "done"
    assert record.result["effects"]["lora"]["adapters"] == (8 if model == "tiny_modernbert" else 12)
    folder = tmp_path / "runs" / record.key
    weights = {}
    for at in ("last", "best"):
        found, expected = plain_logits(folder / "checkpoint" / at, run), recorded(folder, at)
        assert len(found) == len(expected) == 10
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
        assert not list((folder / "checkpoint" / at).glob("adapter*"))
        weights[at] = load_file(folder / "checkpoint" / at / "model.safetensors")
    same = all(torch.equal(w, weights["best"][n]) for n, w in weights["last"].items())
    assert same == (record.result["best_step"] == 6)
    plain = make_run(f"task={task}", f"model={model}", *KEPT, "keep=last")
    folder = tmp_path / "runs" / done(plain, tmp_path / "runs").key / "checkpoint" / "last"
    theirs = load_file(folder / "model.safetensors")
    assert weights["last"].keys() == theirs.keys()
    assert {n: w.shape for n, w in theirs.items()} == {
        n: w.shape for n, w in weights["last"].items()
    }


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra",
    [
        chosen("lora", lora__dropout=0.2, lora__targets="all"),
        (*chosen("lora", lora__also="[layernorms]"), "trainer.precision=bf16"),
        (*chosen("freeze", "lora", "mixout", lora__dropout=0.2), "trainer.micro_batch=3"),
        chosen("lora", "ema", "thaw", lora__dropout=0.2),
    ],
    ids=["dropout", "bf16", "freeze-mixout", "ema-thaw"],
)
def test_going_on_gives_the_same_bytes(
    make_run: Make, tmp_path: Path, extra: tuple[str, ...]
) -> None:
    line = ("device=cpu", "optim.batch_size=7", "optim.epochs=3", "optim.lr=3e-3")
    for step in (3, 8):
        compare(lambda: make_run("task=gad", "model=tiny_electra", *line, *extra), tmp_path, step)
