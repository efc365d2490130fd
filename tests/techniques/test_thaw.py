"""Thaw: when groups open, and that they start like a fresh optimizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import pytorch_lightning as pl  # noqa: E402

from bluestab.techniques import thaw  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def test_opens_at_by_hand() -> None:
    def opens(**knobs: Any) -> list[int]:
        return [thaw.opens_at(d, 3, total_steps=100, **knobs) for d in range(5)]

    assert opens(share=0.4, phases=None) == [40, 30, 20, 10, 0]
    assert opens(share=0.4, phases=1) == [40, 40, 40, 40, 0]
    assert opens(share=0.4, phases=2) == [40, 40, 20, 20, 0]
    assert opens(share=0.4, phases=3) == [40, 27, 14, 14, 0]
    assert opens(share=0.0, phases=None) == [0] * 5
    assert thaw.opens_at(0, 11, share=0.07, phases=1, total_steps=100) == 7, "no rounding noise"


def test_thaw_opens_from_the_top_and_only_then_moves(lab: Lab) -> None:
    """Six steps, share 0.5: block 2 at step 1, block 1 at 2, embeddings at 3."""
    asked = (*chosen("thaw"), "optim.steps=6", "optim.warmup=0")
    assembly = lab.assembly(lab.run("gad", "tiny", *asked))
    built, moved = assembly.built, {}

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            for name, parameter in built.model.named_parameters():
                if not torch.equal(parameter, assembly.built.reference[name]):
                    moved.setdefault(built.layers.depth[name], trainer.global_step - 1)

    built.model.requires_grad_(True)
    assembly.trainer.callbacks.append(Watch())
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    assert {d: step for d, step in moved.items() if d < 3} == {2: 1, 1: 2, 0: 3}
    assert assembly.effects()["thaw"] == {"trains_from": {"0": 3, "1": 2, "2": 1, "3": 0}}
    optimizer = assembly.trainer.optimizers[0]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            steps = float(optimizer.state[parameter]["step"])
            assert steps == 6 - {0: 3, 1: 2, 2: 1, 3: 0}[group["depth"]], "own bias correction"


def test_a_thawed_group_starts_like_a_fresh_adam(lab: Lab) -> None:
    """Its first update is lr * sign(gradient), as Adam's first always is; not a decayed one."""
    asked = (*chosen("thaw", thaw__phases=1), "optim.steps=4", "optim.warmup=0",
             "optim.weight_decay=0", "optim.eps=1e-12")  # fmt: skip
    assembly = lab.assembly(lab.run("gad", "tiny", *asked))
    name, seen = "bert.encoder.layer.0.output.dense.weight", []
    weight = assembly.built.model.get_parameter(name)

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            self.rate, self.before = trainer.optimizers[0].param_groups[0]["lr"], weight.clone()

        def on_train_batch_end(self, *_: Any) -> None:
            seen.append((self.rate, weight.detach() - self.before, weight.grad))

    assembly.trainer.callbacks.append(Watch())
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    assert [grad is None for _, _, grad in seen] == [True, True, False, False]
    assert all(not change.any() for _, change, _ in seen[:2])
    rate, change, gradient = seen[2]
    torch.testing.assert_close(change, -rate * gradient.sign(), rtol=1e-2, atol=1e-6)


def test_the_best_weights_of_a_thaw_are_whole(lab: Lab) -> None:
    """Best before the thaw, then all moves: going back must bring frozen layers back as well."""
    asked = (*chosen("thaw", thaw__phases=1), "optim.steps=6", "trainer.eval_every=1")
    assembly = lab.assembly(lab.run("biosses", "tiny", *asked))
    history, scores = assembly.history, iter([0.9, 0.5, 0.4, 0.3, 0.2, 0.1])
    add = history.add
    history.add = lambda step, found, *rest: add(  # type: ignore[method-assign]
        step, {**found, history.metric.name: next(scores)}, *rest
    )
    parameters = dict(assembly.built.model.named_parameters())
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    below = assembly.built.layers.names(0, 1, 2)
    assert history.best_step == 1
    assert any(not torch.equal(parameters[n], assembly.built.reference[n]) for n in below)
    history.restore_best()
    for name in below:
        assert torch.equal(parameters[name], assembly.built.reference[name]), name


def test_thaw_trains_new_layers_from_the_start_and_frozen_ones_never(lab: Lab) -> None:
    assembly, _ = lab.trained("gad", "tiny", *chosen("thaw", "reinit", thaw__phases=1))
    assert assembly.effects()["thaw"]["trains_from"] == {"0": 2, "1": 2, "2": 0, "3": 0}
    assembly, seen = lab.trained("gad", "tiny", *chosen("freeze", "thaw", thaw__phases=1))
    assert assembly.effects()["thaw"]["trains_from"] == {"2": 2, "3": 0}
    assert {n for n in seen.start if n not in seen.moved} >= set(assembly.built.layers.names(0, 1))


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_thaw_goes_on_from_any_phase(make_run: Make, tmp_path: Path, step: int) -> None:
    """Twelve steps; openings at 2, 4, 6."""
    asked = (
        *("task=gad", "model=tiny", *chosen("thaw"), "device=cpu", "optim.batch_size=7"),
        *("optim.epochs=3", "optim.lr=3e-3"),
    )
    compare(lambda: make_run(*asked), tmp_path, step)
