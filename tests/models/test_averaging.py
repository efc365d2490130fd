"""Averages of weights: what validation meets, what is kept, and going on after an interruption."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.testing.observed_training import watch  # noqa: E402
from tests.support.averages import FAST, away, ema_of  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


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
def test_averages_go_on(making: Make, tmp_path: Path, knobs: tuple[str, str]) -> None:
    """Before, in the middle of, and at the end of what is averaged, with weights evaluated."""
    name, knob = knobs
    make = making(
        "task=biosses", "model=tiny", f"technique={name}", f"technique.{knob}",
        "trainer.eval_every=2",
    )  # fmt: skip
    for step in (3, 5, 8):
        compare(make, tmp_path, step)
