"""Tasks one after another, through `model.init_from`: what is remembered, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.report.frames.arms import arm_names  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.observed_training import equal_weights, weights  # noqa: E402
from bluestab.testing.technique_arms import HEADS, REMEMBERING, chosen, knobs_of, technique_class  # noqa: E402
from bluestab.testing.techniques import facts_of  # noqa: E402
from bluestab.training.assemble import assemble  # noqa: E402
from bluestab.training.dry_run_step import dry_step  # noqa: E402
from bluestab.training.stages import earlier_tasks  # noqa: E402
from tests.training.test_execute import done, kept  # noqa: E402

Make = Callable[..., Any]
SHORT = ("model=tiny", "device=cpu", "optim.batch_size=8", "optim.steps=3", "optim.lr=3e-3")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


@pytest.fixture
def first(make_run: Make, tmp_path: Path) -> str:
    """Key of a run on `gad` that kept its weights."""
    return done(make_run("task=gad", "keep=last", *SHORT), tmp_path / "runs").key  # type: ignore[no-any-return]


def then(key: str, technique: str, *overrides: str) -> tuple[str, ...]:
    line = ("task=ncbi_disease", f"model.init_from={key}", f"technique={technique}")
    return (*line, *SHORT, *overrides)


def test_a_run_that_remembers(make_run: Make, first: str, tmp_path: Path) -> None:
    """Its key names the earlier run; another technique is another result; strength 0 is none."""
    root = tmp_path / "runs"
    plain = done(make_run(*then(first, "none")), root)
    assert "earlier" not in plain.result["config"], "nothing changes for runs without"
    run = make_run(*then(first, "ewc"))
    assert run.hashed["earlier"] == [first]
    assert [stage.weights.task for stage in run.stages] == ["gad"]
    record = done(run, root)
    assert record.status == "done", record.result["error"]
    cells = {name: one.result["config"] for name, one in (("p", plain), ("e", record))}
    subject = ("ncbi_disease", "tiny")
    assert arm_names(cells, dict.fromkeys(cells, subject)) == {"p": ("none", ""), "e": ("ewc", "")}
    effects = record.result["effects"]["ewc"]
    assert effects["strength_used"] > 0
    assert kept(root, record.key)["curve.csv"] != kept(root, plain.key)["curve.csv"]
    off = done(
        make_run(*then(first, "ewc", "technique.ewc.strength=0", "score_earlier=true")), root
    )
    assert off.result["earlier"][0]["run"] == first
    assert off.result["effects"] == {"ewc": {}}
    assert kept(root, off.key)["curve.csv"] == kept(root, plain.key)["curve.csv"]


@pytest.mark.parametrize("name", REMEMBERING)
def test_without_an_earlier_run_they_are_refused(name: str) -> None:
    technique = technique_class(name)(**knobs_of(name))

    def problems(init_from: str | None, *others: str) -> list[str]:
        cfg = {"model": {"init_from": init_from}, "technique": dict.fromkeys((name, *others))}
        return technique.check(cfg, facts_of(2))

    assert problems("KEY") == []
    (problem,) = problems(None)
    assert f"technique {name} holds on to what an earlier run has learnt" in problem
    (problem,) = problems("KEY", "lora")
    assert f"techniques {name} and lora do not go together" in problem


@pytest.mark.slow
def test_changed_items_are_refused(make_run: Make, first: str, small: Path) -> None:
    """Where they are needed, and only there."""
    file = small / "gad" / "train.tsv"
    before = file.read_text(encoding="utf-8")
    lines = before.splitlines(keepends=True)
    try:
        file.write_text("".join(lines[:-1]), encoding="utf-8")
        with pytest.raises(
            ConfigError, match="'gad', whose items technique er needs; they have changed"
        ):
            make_run(*then(first, "er"))
        make_run(*then(first, "none"))
        file.unlink()
        with pytest.raises(
            ConfigError, match="'gad', whose items technique er needs; they are not here"
        ):
            make_run(*then(first, "er"))
    finally:
        file.write_text(before, encoding="utf-8")


@pytest.mark.slow
def test_a_chain_is_all_tasks_so_far(make_run: Make, first: str, tmp_path: Path) -> None:
    """Networks with the weights that each task left, under their own heads; items as trained on."""
    root = tmp_path / "runs"
    second = done(make_run(*then(first, "er", "keep=last")), root)
    assert second.result["effects"]["er"] == {"replayed_from": {"gad": 24}}
    line = ("task=biosses", f"model.init_from={second.key}", *SHORT)
    run = make_run(*line, "technique=er", "technique.er.buffer_size=30")
    assert run.hashed["earlier"] == [first, second.key]
    tasks = earlier_tasks(run.stages, "eager", torch.device("cpu"))
    assert [task.name for task in tasks] == ["gad", "ncbi_disease"]
    for task, key in zip(tasks, (first, second.key), strict=True):
        from safetensors.torch import load_file

        left = load_file(Store(root).folder(key) / "checkpoint" / "last" / "model.safetensors")
        own = dict(task.network.named_parameters())
        assert all(torch.equal(own[name], left[name]) for name in own)
        batch = task.batch([0, 1])
        logits = task.logits({}, batch, training=False)
        assert torch.isfinite(task.loss(logits, batch))
        assert torch.equal(logits, task.logits(own, batch, training=False))
    third = done(run, root)
    assert third.status == "done", third.result["error"]
    assert sum(third.result["effects"]["er"]["replayed_from"].values()) == 30
    again = done(make_run(*line, "technique=er", "technique.er.buffer_size=30"), tmp_path / "b")
    assert kept(root, third.key) == kept(tmp_path / "b", again.key)


@pytest.mark.slow
def test_earlier_tasks_are_scored_with_the_head_they_left(
    make_run: Make, first: str, tmp_path: Path
) -> None:
    """An encoder that did not move scores what it scored then; one that moved does not."""
    root = tmp_path / "runs"
    before = Store(root).read(first).result["metrics"]["last"]["test"]
    frozen = ("technique.freeze.depth=2", "technique.freeze.eval_mode=false")
    still = done(make_run(*then(first, "freeze", *frozen, "score_earlier=true")), root)
    (entry,) = still.result["earlier"]
    assert (entry["task"], entry["run"], entry["metric"]) == ("gad", first, "positive_f1")
    assert entry["last"] == entry["best"] == before
    on_validation = Store(root).read(first).result["metrics"]["last"]["validation"]
    assert entry["validation"]["last"] == entry["validation"]["best"] == on_validation
    moved = done(make_run(*then(first, "none", "score_earlier=true")), root)
    assert moved.result["earlier"][0]["last"] != before
    assert moved.result["config"]["earlier"] == [first]
    assert "earlier" not in done(make_run(*then(first, "none")), root).result


def test_nothing_earlier_to_score_is_refused(make_run: Make) -> None:
    with pytest.raises(ConfigError, match=r"score_earlier is true, but model\.init_from names no"):
        make_run("task=gad", *SHORT, "score_earlier=true")


@pytest.mark.slow
def test_a_forecast_remembers_too(make_run: Make, first: str) -> None:
    assert dry_step(make_run(*then(first, "kfac_ewc"))).step > 0


# --- one head for all tasks ----------------------------------------------------------------------


def again(key: str, technique: str, *overrides: str) -> tuple[str, ...]:
    """The same task after it, with the same head."""
    line = ("task=gad", f"model.init_from={key}", f"technique={technique}", "shared_head=true")
    return (*line, *SHORT, "seed=1", *overrides)


def test_a_shared_head_goes_on_and_is_the_one_that_earlier_tasks_are_scored_with(
    make_run: Make, first: str, tmp_path: Path
) -> None:
    """Training begins with every weight of the earlier run; on the same items the earlier task is
    then this one. With a head of its own it is not."""
    from safetensors.torch import load_file

    root = tmp_path / "runs"
    run = make_run(*again(first, "none", "score_earlier=true", "keep=last"))
    assert run.hashed["shared_head"] is True
    ready = assemble(run, device=torch.device("cpu"), progress=lambda *_: None)
    left = load_file(Store(root).folder(first) / "checkpoint" / "last" / "model.safetensors")
    live = dict(ready.built.model.named_parameters())
    assert live.keys() == left.keys()
    assert all(torch.equal(live[name], left[name]) for name in live)
    assert (ready.built.fresh, ready.edited) == (frozenset(), frozenset())
    record = done(run, root)
    assert record.status == "done", record.result["error"]
    for at in ("last", "best"):
        assert record.result["earlier"][0][at] == record.result["metrics"][at]["test"]
    line = (o for o in again(first, "none", "score_earlier=true") if o != "shared_head=true")
    own = done(make_run(*line), root)
    assert own.result["earlier"][0]["last"] != own.result["metrics"]["last"]["test"]


@pytest.mark.parametrize("technique", [*REMEMBERING, "reinit"])
def test_what_holds_on_with_a_shared_head(
    make_run: Make, first: str, tmp_path: Path, technique: str
) -> None:
    """It does something to the head, too; a second run comes out the same."""
    root = tmp_path / "runs"
    if technique == "si":
        line = ("task=gad", "keep=last", "keep_path_integral=true", *SHORT)
        done(make_run(*line), root)
    strong = (f"technique.{technique}.strength=1e6",) if technique in ANCHORED else ()
    line = (*again(first, technique, "keep=last", "optim.steps=6"), *strong)
    found = head_after(make_run, root, *line)
    plain = head_after(make_run, root, *again(first, "none", "keep=last", "optim.steps=6"))
    assert found.keys() == plain.keys()
    assert any(not torch.equal(found[name], plain[name]) for name in found)
    second = head_after(make_run, tmp_path / "second", *line)
    assert all(torch.equal(found[name], second[name]) for name in found)


ANCHORED = ("ewc", "kfac_ewc", "mas", "si")


def head_after(make_run: Make, root: Path, *line: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    record = done(make_run(*line), root)
    assert record.status == "done", record.result["error"]
    left = load_file(Store(root).folder(record.key) / "checkpoint" / "last" / "model.safetensors")
    return {name: value for name, value in left.items() if name.startswith("classifier.")}


def test_a_head_that_cannot_be_shared_is_refused(
    make_run: Make, first: str, tmp_path: Path
) -> None:
    def refused(said: str, *overrides: str) -> None:
        with pytest.raises(ConfigError, match=said):
            make_run(*SHORT, "shared_head=true", *overrides)

    refused("shared_head is true, but model.init_from names no earlier run", "task=gad")
    (tmp_path / "t.txt").write_text(
        "\n\n".join(f"words of text {n}" for n in range(30)), encoding="utf-8"
    )
    detect = ("task=rtd", f"task.train={tmp_path}/t.txt", *SHORT, "model=tiny_electra")
    pretrained = done(make_run(*detect, "keep=last"), tmp_path / "runs").key
    with pytest.raises(ConfigError, match="without the generator"):
        make_run(*detect, f"model.init_from={pretrained}", "shared_head=true")
    start = f"model.init_from={first}"
    refused(
        rf"{first} was trained on task 'gad'.*'biosses'.*different kinds", start, "task=biosses"
    )
    refused("model.head was default there, and is mean here", start, "task=gad", "model.head=mean")
    for labels, said in (("yn", "'0' is a label of one of them alone"), ("10", "different orders")):
        rows = [
            f"{label},{word} and {n}"
            for n in range(9)
            for label, word in zip(labels, "ab", strict=True)
        ]
        for part in ("train", "validation", "test"):
            text = "\n".join(["label,text", *rows])
            (tmp_path / f"{part}.csv").write_text(text, encoding="utf-8")
        own = [f"task.{part}={tmp_path}/{part}.csv" for part in ("train", "validation", "test")]
        refused(said, start, "task=classification", *own, f"task.label_names=[{','.join(labels)}]")


# --- every technique, slowly ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def before(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run on `gad` from the lab's checkpoint, with all that techniques ask of it."""
    root = tmp_path_factory.mktemp("before")
    run = lab.run("gad", "tiny", "keep=last", "keep_path_integral=true")
    return Store(root).folder(done(run, root).key)


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADS.values())
@pytest.mark.parametrize("name", REMEMBERING)
def test_interrupted_and_resumed_equals_uninterrupted(
    lab: Lab, before: Path, name: str, task: str
) -> None:
    """And each does something, on every kind of head, to the encoder."""
    asked = (task, "tiny", f"model.init_from={before}", *chosen(name))
    assembly, seen = lab.train_again(*asked)
    plain = lab.trained(task, "tiny", f"model.init_from={before}", "technique=none")[1]
    assert assembly.effects()[name]
    assert not equal_weights(seen.end, plain.end)
    assert seen.batches == plain.batches
    _, spy, goes_on = lab.resumed(*asked)
    assert equal_weights(weights(goes_on.built.model), seen.end)
    assert spy.losses == seen.losses[2:]


@pytest.mark.slow
@pytest.mark.parametrize("name", REMEMBERING)
def test_a_shared_head_goes_on_after_an_interruption(lab: Lab, before: Path, name: str) -> None:
    asked = ("gad", "tiny", f"model.init_from={before}", "shared_head=true", *chosen(name))
    seen = lab.train_again(*asked)[1]
    own = lab.train_again(*(one for one in asked if one != "shared_head=true"))[1]
    assert not equal_weights(seen.end, own.end)
    _, spy, goes_on = lab.resumed(*asked)
    assert equal_weights(weights(goes_on.built.model), seen.end)
    assert spy.losses == seen.losses[2:]


@pytest.mark.slow
@pytest.mark.parametrize("name", REMEMBERING)
@pytest.mark.parametrize("other", ["freeze", "llrd", "sam", "rdrop", "ema", "prior_decay", "er"])
def test_they_go_with_others(lab: Lab, before: Path, name: str, other: str) -> None:
    if name == other:
        pytest.skip("one technique")
    asked = ("gad", "tiny", f"model.init_from={before}", *chosen(name, other))
    assembly, seen = lab.train_again(*asked)
    alone = lab.trained("gad", "tiny", f"model.init_from={before}", *chosen(other))[1]
    assert assembly.effects()[name]
    assert not equal_weights(seen.end, alone.end)
