"""Questions about images: answers as classes, kinds of questions, and whole runs with a tower."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError, DataError  # noqa: E402
from bluestab.inference.export import export  # noqa: E402
from bluestab.inference.weights import find_run, of_run  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.tasks.visual_question_answering import (  # noqa: E402
    ClosedAnswer,
    normalised,
    target_of,
)
from bluestab.testing.technique_arms import chosen  # noqa: E402
from bluestab.training.assemble import assemble  # noqa: E402
from tests.conftest import real_data  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
LINE = ("task=vqa_rad", "model=tiny", "device=cpu", "optim.steps=3", "optim.lr=3e-3",
        "task.max_length=48", "optim.batch_size=8", "optim.warmup=0")  # fmt: skip
SEES = (*LINE, "model/vision=conv", "model.vision.image_size=32")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


@pytest.mark.parametrize(
    ("said", "found"),
    [("Yes", "yes"), (" No. ", "no"), (3, "3"), ("5  cm", "5 cm"), ("\uff59\uff45\uff53", "yes")],
)
def test_answers_are_compared_without_their_spelling(said: object, found: str) -> None:
    assert normalised(said) == found


@pytest.mark.parametrize(
    ("answer", "kind", "closed"),
    [
        ("Yes", "CLOSED ", True),
        ("left", "CLOSED", True),
        ("yes", "OPEN", False),
        ("yes", None, True),
        ("lung", None, False),
    ],
)
def test_closed_questions(answer: str, kind: str | None, closed: bool) -> None:
    found = target_of(answer, kind)
    assert isinstance(found, ClosedAnswer) is closed
    assert found == normalised(answer)
    assert json.dumps(found) == json.dumps(str(found))


def test_scores_by_kind(make_run: Make) -> None:
    task = make_run(*LINE).data.task
    targets = [ClosedAnswer("yes"), ClosedAnswer("no"), "lung", "heart", "never seen"]
    scores = task.score(["yes", "yes", "lung", "lung", "lung"], targets)
    assert scores == {"accuracy": 2 / 5, "closed_accuracy": 1 / 2, "open_accuracy": 1 / 3}
    assert task.score(["yes"], [ClosedAnswer("yes")])["open_accuracy"] is None


def test_parts_share_no_image_that_is_drawn(make_run: Make) -> None:
    data = make_run(*LINE).data
    images = {split: {e.image.path for e in items} for split, items in data.splits.items()}
    assert not images["train"] & images["validation"]
    assert sum(map(len, data.splits.values())) == 44
    assert len(data.splits["test"]) == 10


def test_a_published_count_is_what_the_files_hold() -> None:
    """Read off the README of the data: 1797 and 451 questions on 315 images, 1299 of them closed;
    of the test questions 272 are."""
    real_data()
    from bluestab.core.config import compose, resolved
    from bluestab.tasks.data import load_task

    data = load_task(resolved(compose(["task=vqa_rad"]))["task"])
    assert len(data.splits["train"]) + len(data.splits["validation"]) == 1797
    assert len(data.splits["test"]) == 451
    items = [e for part in data.splits.values() for e in part]
    assert len({e.image.path for e in items if e.image}) <= 315
    assert sum(isinstance(e.target, ClosedAnswer) for e in items) == 1299
    assert sum(isinstance(e.target, ClosedAnswer) for e in data.splits["test"]) == 272
    assert any("115 of 451 test questions have an answer" in note for note in data.notes)
    assert data.baseline == ("always 'no'", pytest.approx(133 / 451))


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_that_sees(make_run: Make, tmp_path: Path) -> None:
    """Its tower trains; what it looks at and with is in its key; nothing reads it as text alone."""
    run = make_run(*SEES, "keep=last")
    assembly = assemble(run, device=torch.device("cpu"), progress=lambda *_: None)
    batch = next(iter(assembly.loaders["train"]))
    assert batch["images"].shape == (8, 3, 32, 32)
    assert batch["input_ids"].shape[1] <= 48
    tower = {n: p.clone() for n, p in assembly.built.model.named_parameters() if "vision" in n}
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    for name, weight in assembly.built.model.named_parameters():
        assert name not in tower or not torch.equal(weight, tower[name]), name
    record = done(run, tmp_path / "runs")
    assert record.status == "done", record.result["error"]
    assert set(record.result["metrics"]["last"]["test"]) == {
        "accuracy", "closed_accuracy", "open_accuracy"
    }  # fmt: skip
    assert record.result["config"]["vision"]["kind"] == "conv"
    keys = {make_run(*more).key for more in (LINE, SEES, (*SEES, "task.images_of=other"))}
    assert len(keys) == 3
    found = find_run(record.key, Store(tmp_path / "runs"))
    with pytest.raises(ConfigError, match="would read the questions alone"):
        export(found, tmp_path / "out", "cpu")


def test_kept_weights_hold_the_tower(make_run: Make, tmp_path: Path) -> None:
    from bluestab.models.networks import load_trained

    run = make_run(*SEES, "keep=last", *chosen("inner_adaptors"))
    record = done(run, tmp_path / "runs")
    assert record.status == "done", record.result["error"]
    own = of_run(find_run(record.key, Store(tmp_path / "runs")))
    network, _ = load_trained(
        own.model,
        head=own.task.output.head,
        n_labels=len(own.labels),
        attention="eager",
        base=own.base,
    )
    names = {name.partition(".")[0] for name, _ in network.named_parameters()}
    assert names == {"bert", "classifier", "vision", "insertions"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conv", "patch"])
def test_going_on_gives_the_same_bytes(make_run: Make, tmp_path: Path, kind: str) -> None:
    line = (*LINE, f"model/vision={kind}", "model.vision.image_size=32", "optim.steps=6")
    compare(lambda: make_run(*line, "trainer.micro_batch=3"), tmp_path, 4)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_electra", "tiny_roberta", "tiny_modernbert"])
@pytest.mark.parametrize("technique", ["none", "freeze", "sam", "freelb", "inner_adaptors"])
def test_every_family_sees(make_run: Make, tmp_path: Path, model: str, technique: str) -> None:
    techniques = () if technique == "none" else chosen(technique)
    record = done(make_run(*SEES, f"model={model}", *techniques), tmp_path / "runs")
    assert record.status == "done", record.result["error"]


def test_the_question_alone_cannot_tell_images_apart(make_run: Make) -> None:
    """With images_of=other no item has its own, and items of one image see several."""
    own = make_run(*SEES).data.splits
    other = make_run(*SEES, "task.images_of=other").data.splits
    for split, items in own.items():
        for one, shown in zip(items, other[split], strict=True):
            assert (one.id, one.text, one.target) == (shown.id, shown.text, shown.target)
            assert one.image != shown.image
    by_image: dict[str, set[str]] = {}
    for one, shown in zip(own["train"], other["train"], strict=True):
        by_image.setdefault(one.image.path, set()).add(shown.image.path)
    assert max(map(len, by_image.values())) > 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("task=gad", "model=tiny", "model/vision=conv"), "the items of task 'gad' have no images"),
        ((*SEES, "task.max_length=10"), "no room for a question; say task.max_length="),
        ((*SEES, "task.images_of=nobody"), "task.images_of is 'nobody': expected own, or other"),
        ((*SEES, "task.images=null"), "task.images is None: expected the folder"),
        ((*SEES, "model.vision.image_size=30"), "model.vision.image_size is 30: expected a mult"),
        ((*SEES, "model.vision.kind=eye"), "model.vision.kind is 'eye': expected one of"),
        ((*SEES, "task.images=elsewhere"), "but there is no file"),
        ((*SEES, "trainer.engine=packed"), "model.vision is set"),
    ],
)
def test_refusals(make_run: Make, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        make_run(*overrides)
    assert said in str(caught.value)


def test_tasks_with_and_without_images_go_on_from_each_other(
    make_run: Make, tmp_path: Path
) -> None:
    """Each is scored again with what it looked at images with, or without: to the last bit."""
    root = tmp_path / "runs"
    plain = ("task=ncbi_disease", *LINE[1:5], "keep=last")
    first = done(make_run(*plain), root)
    line = ("score_earlier=true", "keep=last", *chosen("inner_adaptors"))
    second = done(make_run(*SEES, f"model.init_from={first.key}", *line), root)
    assert second.result["earlier"][0]["last"] == first.result["metrics"]["last"]["test"]
    text = ("task=gad", *LINE[1:5], f"model.init_from={second.key}")
    third = done(make_run(*text, *line), root)
    earlier = [entry["last"] for entry in third.result["earlier"]]
    assert earlier == [r.result["metrics"]["last"]["test"] for r in (first, second)]
