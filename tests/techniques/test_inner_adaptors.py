"""Inner adaptors: what is frozen keeps every bit on its route, whatever is trained beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.types import SEQUENCE  # noqa: E402
from bluestab.inference.export import export  # noqa: E402
from bluestab.inference.predictor import Predictor  # noqa: E402
from bluestab.inference.weights import find_run, of_run  # noqa: E402
from bluestab.models.insertion_places import KINDS  # noqa: E402
from bluestab.models.insertions import insertions_of, route  # noqa: E402
from bluestab.models.networks import load  # noqa: E402
from bluestab.models.passes import inputs_of  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.techniques.llrd import multiplier  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.observed_training import fit, watch, weights  # noqa: E402
from bluestab.testing.technique_arms import (  # noqa: E402
    REMEMBERING,
    chosen,
    knobs_of,
    technique_class,
)
from bluestab.testing.techniques import facts_of  # noqa: E402
from bluestab.training.assemble import Assembly  # noqa: E402
from tests.store.test_artefacts import recorded  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
NAME = "inner_adaptors"
EVERY_KIND = [k if k == "layer" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
SHORT = ("model=tiny", "device=cpu", "optim.batch_size=8", "optim.steps=4", "optim.lr=3e-3")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def logits(network: Any, batch: Any, head: Any, precision: str = "32") -> torch.Tensor:
    """Of the text route under a head of its own, in evaluation mode."""
    network.eval()
    with (
        torch.no_grad(),
        route(network, False),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        states = network.base_model(**inputs_of(batch)).last_hidden_state
        return head(states[:, 0])  # type: ignore[no-any-return]


def trained(lab: Lab, steps: int, *overrides: str) -> tuple[Assembly, Any, Any]:
    """An assembly before its training, one batch of its task, and the head of another task."""
    run = lab.run("gad", "tiny", *chosen(NAME), f"optim.steps={steps}", *overrides)
    assembly = lab.assembly(run)
    torch.manual_seed(3)
    head = torch.nn.Linear(32, 5)
    return assembly, next(iter(assembly.loaders["validation"])), head


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("precision", ["32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_the_text_route_keeps_every_bit_over_a_hundred_steps(
    lab: Lab, kind: str, precision: str
) -> None:
    """The largest difference is 0; on the other route it is not."""
    more = (f"technique.{NAME}.kind={kind}", f"trainer.precision={precision}")
    short = ("trainer.eval_every=100", "task.max_length=16", "optim.batch_size=4")
    assembly, batch, head = trained(lab, 100, *more, *short)
    network = assembly.built.model
    before = logits(network, batch, head, precision)
    with torch.no_grad():
        adapted = network(**inputs_of(batch)).logits
    fit(assembly)
    with torch.no_grad():
        after = logits(network, batch, head, precision)
        assert float((after - before).abs().max()) == 0
        assert torch.equal(after, before)
        assert float((network(**inputs_of(batch)).logits - adapted).abs().max()) > 1e-4
        # they begin at 0; how far they come depends on the order of sums
        assert all(abs(float(i.gate * i.gate_scale)) > 1e-4 for i in insertions_of(network))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_start_is_the_frozen_network(lab: Lab, kind: str) -> None:
    run = lab.run("gad", "tiny", *chosen(NAME, inner_adaptors__kind=kind))
    network = lab.assembly(run).built.model
    plain = lab.assembly(lab.run("gad", "tiny")).built.model
    batch = next(iter(lab.assembly(run).loaders["validation"]))
    found, expected = (m.eval()(**inputs_of(batch)).logits for m in (network, plain))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_trains(lab: Lab, kind: str) -> None:
    assembly, seen = lab.trained("gad", "tiny", *chosen(NAME, inner_adaptors__kind=kind))
    trains = {n for n in seen.rates if n.startswith("insertions.")}
    block = 8544  # parameters of a block of 32 with 64 inside: 4 * 1056 + 64 + 2112 + 2080 + 64
    per_place = {
        "layer": block + 1,
        "bottleneck": 32 * 16 + 16 + 16 * 32 + 32 + 1,
        "lora": 4 * 16 * (32 + 32) + 2 * 16 * (32 + 64) + 1,
    }
    assert seen.size(sorted(trains)) == 2 * per_place[kind]
    assert assembly.effects()[NAME]["inserted_parameters"] == 2 * per_place[kind]
    assert set(seen.rates) - trains == {"classifier.weight", "classifier.bias"}
    assert {n for n in seen.start if n.startswith("bert.")} <= set(seen.frozen)
    assert seen.silent >= {"bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"}
    assert not any(path.startswith("insertions") for path in seen.silent)


def test_the_places(lab: Lab) -> None:
    default = lab.assembly(lab.run("gad", "tiny", *chosen(NAME))).built
    assert {n.split(".")[1] for n in default.layers.depth if n.startswith("insertions")} == {
        "1", "2"
    }  # fmt: skip
    one = lab.assembly(lab.run("gad", "tiny", *chosen(NAME, inner_adaptors__after="[2]"))).built
    names = [n for n in one.layers.depth if n.startswith("insertions")]
    assert {one.layers.depth[n] for n in names} == {2}
    assert one.layers.modules[2] == ("bert.encoder.layer.1", "insertions.2")


@pytest.mark.slow
def test_drawn_values_have_streams_of_their_own(lab: Lab) -> None:
    """The same after another block less, others with another seed."""
    knobs = {"inner_adaptors__kind": "bottleneck"}
    both = weights(lab.assembly(lab.run("gad", "tiny", *chosen(NAME, **knobs))).built.model)
    few = chosen(NAME, **knobs, inner_adaptors__after="[2]")
    one = weights(lab.assembly(lab.run("gad", "tiny", *few)).built.model)
    other = weights(lab.assembly(lab.run("gad", "tiny", *few, "seed=1")).built.model)
    name = "insertions.2.layer.down.weight"
    assert torch.equal(both[name], one[name])
    assert not torch.equal(one[name], other[name])


# --- together ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((f"technique={NAME}", f"technique.{NAME}.after=[3]"), "expected a list of blocks from 1"),
        ((f"technique={NAME}", f"technique.{NAME}.after=[]"), "after is []: expected"),
        ((f"technique={NAME}", f"technique.{NAME}.after=[1,1]"), "each once"),
        ((f"technique={NAME}", f"technique.{NAME}.kind=brick"), "layer, bottleneck, lora"),
        ((f"technique={NAME}", f"technique.{NAME}.size=33"), "size is 33: expected a whole"),
        ((f"technique={NAME}", f"technique.{NAME}.gate_scale=0"), "expected a number > 0"),
        (chosen(NAME, "lora"), "both say what alone trains"),
        (chosen(NAME, "train_only"), "both say what alone trains"),
        (chosen(NAME, "sara"), "both say what alone trains"),
        (chosen(NAME, "reinit"), "which would never be trained"),
        (chosen(NAME, "mixout"), "mixout mixes its trained weights"),
        (chosen(NAME, "child_tuning"), "a whole layer hangs on a gate"),
        (chosen(NAME, "ia3"), "both say what alone trains"),
        (chosen(NAME, "freeze", freeze__depth=2), "lower technique.freeze.depth"),
    ],
)
def test_refusals(make_run: Make, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_run("task=gad", "model=tiny", *overrides)
    (problem,) = caught.value.problems
    assert said in problem


@pytest.mark.slow
def test_llrd_scales_an_inserted_layer_with_its_block(lab: Lab) -> None:
    _, seen = lab.trained("biosses", "tiny", *chosen(NAME, "llrd", llrd__decay=0.5))
    rates = {n: max(r) for n, r in seen.rates.items()}
    top = rates["classifier.weight"]
    for number in (1, 2):
        found = rates[f"insertions.{number}.gate"] / top
        assert found == pytest.approx(multiplier(number, 2, 0.5, "zhang"))


@pytest.mark.slow
@pytest.mark.parametrize("order", [(NAME, "freeze"), ("freeze", NAME)])
def test_a_frozen_insertion_stays_shut(lab: Lab, order: tuple[str, str]) -> None:
    _, seen = lab.trained("biosses", "tiny", *chosen(*order))
    assert float(seen.end["insertions.1.gate"]) == 0
    assert float(seen.end["insertions.2.gate"]) != 0
    assert {"insertions.1"} <= seen.silent
    assert "insertions.2" not in seen.silent


@pytest.mark.slow
def test_the_frozen_part_below_the_first_is_computed_once(lab: Lab) -> None:
    knobs = chosen(NAME, inner_adaptors__after="[2]")
    cached = lab.assembly(lab.run("gad", "tiny", *knobs))
    assert cached.prefix == 1
    seen = watch(cached, lab.plain_transformers("tiny"))
    anew = lab.trained("gad", "tiny", *knobs, "trainer.prefix_cache=false")[1]
    assert seen.losses == pytest.approx(anew.losses, abs=1e-4)


@pytest.mark.slow
def test_checkpointed_blocks_give_the_same_bits(lab: Lab) -> None:
    asked = ("gad", "tiny", *chosen(NAME))
    seen = lab.trained(*asked)[1]
    again = lab.trained(*asked, "trainer.gradient_checkpointing=true")[1]
    assert again.losses == seen.losses
    assert all(torch.equal(w, again.end[n]) for n, w in seen.end.items())


@pytest.mark.slow
def test_heads_see_what_was_inserted(lab: Lab) -> None:
    """Pooling over the last block takes its states after the insertion, whose copy has no hook."""
    knobs = chosen(NAME)
    mean = lab.assembly(lab.run("gad", "tiny", "model.head=mean", *knobs))
    network, batch = mean.built.model.eval(), next(iter(mean.loaders["validation"]))
    before = network(**inputs_of(batch)).logits
    assert torch.equal(network(**inputs_of(batch)).logits, before)
    with torch.no_grad():
        insertions_of(network)[-1].gate.fill_(0.01)
    assert not torch.allclose(network(**inputs_of(batch)).logits, before)


# --- what is left --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_kept_weights_are_read_with_what_was_inserted(
    make_run: Make, tmp_path: Path, kind: str
) -> None:
    """By predict, with the logits of the record; not by export, nor as a model to train."""
    more = (f"technique={NAME}", f"technique.{NAME}.kind={kind}", "keep=last")
    run = make_run("task=gad", *SHORT, *more)
    record = done(run, tmp_path / "runs")
    assert record.status == "done", record.result["error"]
    found = find_run(record.key, Store(tmp_path / "runs"))
    predictor = Predictor([of_run(found)], "cpu")
    assert len(insertions_of(predictor.network)) == 2
    items = run.data.select(run.seeds)["test"]
    said = [answer.prediction for answer in predictor.answers(items)]
    expected = recorded(tmp_path / "runs" / record.key, "last")
    labels = run.data.labels
    assert said == [labels[max(range(2), key=one.__getitem__)] for one in expected]
    with pytest.raises(ConfigError, match="layers of technique inner_adaptors between its blocks"):
        export(found, tmp_path / "out", "cpu")
    folder = tmp_path / "runs" / record.key / "checkpoint" / "last"
    with pytest.raises(ConfigError, match="whose weights hold layers that technique"):
        load(of_run(found).model, head=SEQUENCE, n_labels=2, attention="eager")
    assert folder.is_dir()


def test_an_earlier_task_keeps_its_scores_to_the_last_bit(make_run: Make, tmp_path: Path) -> None:
    """Beside a new task, and that of an adapted run beside a third."""
    root = tmp_path / "runs"
    first = done(make_run("task=ncbi_disease", *SHORT, "keep=last"), root)
    before = first.result["metrics"]["last"]["test"]
    line = (*SHORT, "score_earlier=true", f"technique={NAME}", "keep=last")
    second = done(make_run("task=gad", f"model.init_from={first.key}", *line), root)
    (entry,) = second.result["earlier"]
    assert entry["last"] == before
    third = done(make_run("task=biosses", f"model.init_from={second.key}", *line), root)
    one, two = third.result["earlier"]
    assert one["last"] == before
    assert two["last"] == second.result["metrics"]["last"]["test"]
    forgets = ("technique=none", "score_earlier=true", f"model.init_from={first.key}")
    other = done(make_run("task=gad", *SHORT, *forgets), root)
    assert other.result["earlier"][0]["last"] != before


@pytest.mark.parametrize("name", REMEMBERING)
def test_nothing_is_left_to_hold_on_to(name: str) -> None:
    technique = technique_class(name)(**knobs_of(name))
    cfg = {"model": {"init_from": "KEY"}, "technique": {name: {}, NAME: {}}}
    (problem,) = technique.check(cfg, facts_of(2))
    assert f"techniques {name} and {NAME} do not go together" in problem


def test_a_copied_network_has_hooks_of_its_own(lab: Lab) -> None:
    """Soups, averages and witnesses copy networks."""
    network = lab.assembly(lab.run("gad", "tiny", *chosen(NAME))).built.model
    other = copy.deepcopy(network)
    own = insertions_of(other)[0]
    hooks = other.bert.encoder.layer[0]._forward_hooks.values()
    assert [hook.__self__ for hook in hooks] == [own]
