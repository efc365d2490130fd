"""Layers inserted into a frozen encoder are kept without it, and put on it again, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.inference.members import members_of  # noqa: E402
from bluestab.inference.predictor import Predictor  # noqa: E402
from bluestab.inference.soup import make_soup  # noqa: E402
from bluestab.inference.weights import Weights, find_run, of_run  # noqa: E402
from bluestab.models.growth import write_grown  # noqa: E402
from bluestab.models.insertion_places import BASE, KINDS, missing_encoder  # noqa: E402
from bluestab.models.networks import load_trained  # noqa: E402
from bluestab.store.artefacts import read_predictions  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from bluestab.training.assemble import assemble  # noqa: E402
from bluestab.training.weights import base_of  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
LINE = ("task=gad", "model=tiny", "device=cpu", "optim.steps=3", "optim.lr=3e-3", "keep=last",
        "task.max_length=32")  # fmt: skip
ADAPTED = (*LINE, *chosen("inner_adaptors"))


def kept(make_run: Make, root: Path, *line: str) -> Weights:
    record = done(make_run(*line), root)
    assert record.status == "done", record.result["error"]
    return of_run(find_run(record.key, Store(root)))


def loaded(weights: Weights, **changes: Any) -> Any:
    said = replace(weights, **changes)
    network, _ = load_trained(
        said.model, head=said.task.output.head, n_labels=2, attention="eager", base=said.base
    )
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_what_trained_is_kept_and_nothing_else(make_run: Make, tmp_path: Path, kind: str) -> None:
    """And put on the encoder it gives the network that was trained, to the last bit."""
    line = (*ADAPTED, f"technique.inner_adaptors.kind={kind}")
    run = make_run(*line)
    assembly = assemble(run, device=torch.device("cpu"), progress=lambda *_: None)
    trains = {name for name in assembly.plan if assembly.plan[name].trainable}
    weights = kept(make_run, tmp_path / "runs", *line)
    held = load_file(weights.folder / "model.safetensors")
    assert set(held) == trains
    assert missing_encoder(weights.folder) == (run.model.identity(), len(held))
    network = loaded(weights)
    start = dict(assembly.built.reference)
    found = dict(network.named_parameters())
    assert set(found) == set(dict(assembly.built.model.named_parameters()))
    for name, value in found.items():
        assert torch.equal(value, held.get(name, start[name])), name


def test_a_folder_and_an_earlier_run_may_be_gone_tomorrow(make_run: Make, tmp_path: Path) -> None:
    """Their encoder is kept, too."""
    root = tmp_path / "runs"
    first = kept(make_run, root, *LINE)
    key = first.said.partition(":")[0]
    after = make_run(*ADAPTED, f"model.init_from={key}")
    assert base_of(after) is None
    assert base_of(make_run(*ADAPTED)) is not None
    assert base_of(make_run(*LINE)) is None
    weights = kept(make_run, root, *ADAPTED, f"model.init_from={key}")
    assert missing_encoder(weights.folder) is None
    assert any(n.startswith("bert.") for n in load_file(weights.folder / "model.safetensors"))
    folder = make_run(*ADAPTED, "model.config=null", f"model.path={first.folder}")
    assert base_of(folder) is None


def test_a_run_goes_on_from_the_encoder_beside_what_was_kept(
    make_run: Make, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    key = kept(make_run, root, *ADAPTED).said.partition(":")[0]
    after = make_run("task=biosses", *LINE[1:], f"model.init_from={key}")
    plain = make_run("task=biosses", *LINE[1:])
    one, two = (
        assemble(run, device=torch.device("cpu"), progress=lambda *_: None).built
        for run in (after, plain)
    )
    for name, value in two.model.named_parameters():
        if name not in two.fresh:
            assert torch.equal(value, one.model.get_parameter(name)), name
    scored = ("score_earlier=true", *chosen("inner_adaptors"))
    record = done(make_run("task=biosses", *LINE[1:], f"model.init_from={key}", *scored), root)
    (entry,) = record.result["earlier"]
    first = find_run(key, Store(root)).record.result["metrics"]
    assert entry["last"] == first["last"]["test"]


def test_a_soup_of_them_is_whole(make_run: Make, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    seeds = [(*ADAPTED, "seeds.init=0", f"seed={seed}") for seed in (0, 1)]
    members = [kept(make_run, root, *line) for line in seeds]
    soup = make_soup(
        members_of([m.said.partition(":")[0] for m in members], Store(root)), "uniform", "cpu"
    )
    weights = of_run(find_run(soup.record.key, Store(root)))
    assert missing_encoder(weights.folder) is None
    one, two, mean = (dict(loaded(w).named_parameters()) for w in (*members, weights))
    for name, value in mean.items():
        assert torch.allclose(value, (one[name] + two[name]) / 2, atol=1e-6), name
    rows = read_predictions(root / soup.record.key / "predictions.parquet").to_pylist()
    items = make_run(*ADAPTED).data.splits["test"]
    answers = Predictor([weights], "cpu").answers(items)
    said = {row["id"]: row["prediction"] for row in rows if row["at"] == "last"}
    assert [a.prediction for a in answers] == [said[e.id] for e in items]


def test_another_encoder_is_refused(make_run: Make, tmp_path: Path) -> None:
    weights = kept(make_run, tmp_path / "runs", *ADAPTED)
    base = weights.base
    assert base is not None
    other = replace(base, config={**(base.config or {}), "vocab_size": 999})
    with pytest.raises(ConfigError, match="put in its place what it was"):
        loaded(weights, base=other)
    with pytest.raises(ConfigError, match="nothing says where that is"):
        loaded(weights, base=None)
    away = replace(base, config=None, hub="nobody/nothing", name="lost")
    with pytest.raises(ConfigError, match=r"is not on this machine; bring it with: .* model=lost"):
        loaded(weights, base=away)
    with pytest.raises(ConfigError, match="there is nothing to grow"):
        write_grown(weights.folder, tmp_path / "grown", layers=3)


@pytest.mark.parametrize(
    "said", ["tiny", {}, {"encoder": "x"}, {"encoder": 1, "tensors": 2},
             {"encoder": "x", "tensors": "2"}, {"encoder": "x", "tensors": 2, "code": "y"}]
)  # fmt: skip
def test_a_note_that_says_nothing_usable(tmp_path: Path, said: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({BASE: said}))
    with pytest.raises(ConfigError, match=r"has bluestab_base .*: expected encoder and tensors"):
        missing_encoder(tmp_path)


@pytest.mark.parametrize("change", ["lacking", "strange", "of another shape"])
def test_weights_that_do_not_fit_are_refused(make_run: Make, tmp_path: Path, change: str) -> None:
    weights = kept(make_run, tmp_path / "runs", *ADAPTED)
    file = weights.folder / "model.safetensors"
    held = load_file(file)
    if change == "lacking":
        held.pop("classifier.bias")
    elif change == "strange":
        held["strange"] = held.pop("classifier.bias")
    else:
        held["classifier.bias"] = torch.zeros(3)
    save_file(held, file, {"format": "pt"})
    with pytest.raises(ConfigError, match=rf"holds {len(load_file(file)) - (change != 'lacking')}"):
        loaded(weights)
