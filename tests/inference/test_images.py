"""New questions about images: answered as the run answered its test items, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import BluestabError, ConfigError, DataError  # noqa: E402
from bluestab.inference.members import members_of  # noqa: E402
from bluestab.inference.predicting import Order, carry_out, predict_texts, score_lines  # noqa: E402
from bluestab.inference.predictor import Predictor  # noqa: E402
from bluestab.inference.soup import make_soup  # noqa: E402
from bluestab.inference.weights import find_run, of_run, open_weights  # noqa: E402
from bluestab.store.artefacts import read_predictions  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.support.towers import frozen, saved, tower_of  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Image = pytest.importorskip("PIL.Image")
Make = Callable[..., Any]
SHORT = ("model=tiny", "device=cpu", "optim.steps=3", "optim.lr=3e-3", "optim.batch_size=8",
         "task.max_length=48", "keep=last")  # fmt: skip


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    return saved(tmp_path / "tower", tower_of("vit"))


def line_of(kind: str, tower: Path) -> tuple[str, ...]:
    more = f"model.vision.path={tower}" if kind == "frozen" else "model.vision.image_size=32"
    return (*SHORT, f"model/vision={kind}", more)


def recorded(store: Path, key: str) -> dict[str, tuple[str, list[float]]]:
    rows = read_predictions(store / key / "predictions.parquet").to_pylist()
    return {r["id"]: (r["prediction"], r["logits"]) for r in rows if r["at"] == "last"}


def order(run: str, source: Path, output: Path, **more: Any) -> Order:
    rest = {"form": None, "text": None, "text_pair": None, "image": None, "threshold": None,
            "score": False}  # fmt: skip
    return Order(names=(run,), source=source, output=output, **{**rest, **more})


def predicted(asked: Order, root: Path) -> Any:
    return carry_out(asked, Store(root), "cpu", 8192)


@pytest.mark.parametrize("kind", ["conv", "patch", "frozen"])
def test_the_test_items_get_the_answers_of_the_record(
    make_run: Make, tmp_path: Path, tower: Path, kind: str
) -> None:
    run = make_run("task=vqa_rad", *line_of(kind, tower))
    root = tmp_path / "runs"
    record = done(run, root)
    assert record.status == "done", record.result["error"]
    weights = of_run(find_run(record.key, Store(root)))
    items = run.data.select(run.seeds)["test"]
    own = recorded(root, record.key)
    predictor = Predictor([weights], "cpu")
    for example, answer in zip(items, predictor.answers(items), strict=True):
        assert answer.prediction == own[example.id][0]
    for example, (_, _, (logits,)) in zip(items, predictor.logits(items), strict=True):
        assert logits.ravel().tolist() == pytest.approx(own[example.id][1], abs=1e-4)


def table(folder: Path, n: int = 30, answers: bool = True) -> Path:
    """A table of n questions, two on each image, images in pictures/."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = ["question,image" + (",answer" if answers else "")]
    for i in range(n):
        name = f"{i // 2}.png"
        Image.new("RGB", (9, 9), (i // 2 * 8, 255 - i, 0)).save(folder / "pictures" / name)
        more = f",{('yes', 'no', 'lung')[i % 3]}" if answers else ""
        lines.append(f"is finding {i} there?,{name}{more}")
    (folder / "items.csv").write_text("\n".join(lines) + "\n")
    return folder / "items.csv"


@pytest.fixture(params=["conv", "frozen"])
def own(
    request: pytest.FixtureRequest, make_run: Make, tmp_path: Path, tower: Path
) -> tuple[str, Path]:
    """A run on tables of a person's own, and its store; the test file is test/items.csv."""
    train, test = table(tmp_path / "train"), table(tmp_path / "test", 9)
    task = ("task=visual_question_answering", f"task.train={train}", f"task.test={test}")
    line = line_of(request.param, tower)
    record = done(make_run(*task, "task.images=pictures", *line), tmp_path / "runs")
    assert record.status == "done", record.result["error"]
    return record.key, tmp_path / "runs"


def test_files_of_new_questions(own: tuple[str, Path], tmp_path: Path) -> None:
    """Rows and JSON lines, images where `task.images` says or beside the file; the answers are
    those that the run recorded of the same items."""
    key, root = own
    expected = [said for said, _ in recorded(root, key).values()]
    source = table(tmp_path / "new", 9, answers=False)
    predicted(order(key, source, tmp_path / "out.csv"), root)
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[0].startswith("question,image,prediction,")
    assert [row.split(",")[2] for row in rows[1:]] == expected
    lines = [
        json.dumps({"q": f"is finding {i} there?", "picture": f"{i // 2}.png", "n": i})
        for i in range(9)
    ]
    beside = tmp_path / "new" / "pictures" / "items.jsonl"
    beside.write_text("\n".join(lines) + "\n")
    predicted(order(key, beside, tmp_path / "out.jsonl", text="q", image="picture"), root)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["prediction"]["prediction"] for one in found] == expected
    assert [one["n"] for one in found] == list(range(9))
    with pytest.raises(ConfigError, match="of which --format text has none; use csv"):
        predicted(order(key, source, tmp_path / "x.txt", form="text"), root)


def test_the_task_s_own_file_is_scored(own: tuple[str, Path], tmp_path: Path) -> None:
    key, root = own
    asked = order(key, tmp_path / "test" / "items.csv", tmp_path / "o.csv", form="task", score=True)
    said = list(score_lines(asked, predicted(asked, root)))
    assert said[-1].endswith(", the same")


def test_questions_in_python(own: tuple[str, Path], tmp_path: Path) -> None:
    key, root = own
    weights = open_weights([key], Store(root))
    folder = tmp_path / "test" / "pictures"
    asked = [(f"is finding {i} there?", folder / f"{i // 2}.png") for i in range(9)]
    found = [one["prediction"] for one in predict_texts(weights, asked, "cpu")]
    assert found == [said for said, _ in recorded(root, key).values()]
    for wrong in ("a question alone", ("what?",), ("what?", 3)):
        with pytest.raises(ConfigError, match="reads a question and the path of an image"):
            predict_texts(weights, [wrong], "cpu")
    with pytest.raises(DataError, match="there is no file"):
        predict_texts(weights, [("what?", tmp_path / "none.png")], "cpu")


def broken(folder: Path) -> dict[str, tuple[str, str]]:
    """What is wrong -> (name in the table, part of the sentence)."""
    pictures = folder / "pictures"
    whole = (pictures / "0.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[:50])
    (pictures / "text.png").write_text("hello")
    (pictures / "empty.png").write_bytes(b"")
    Image.new("RGB", (9000, 6000)).save(pictures / "huge.png")
    frames = [Image.new("RGB", (5, 5), (i * 100, 0, 0)) for i in range(3)]
    frames[0].save(pictures / "moving.gif", save_all=True, append_images=frames[1:])
    (pictures / "folder.png").mkdir()
    return {
        "missing": ("none.png", "names the image 'none.png', but there is no file"),
        "nameless": ("", "names no image"),
        "outside": ("../../x.png", "lies outside"),
        "cut": ("cut.png", "cut.png: is broken"),
        "text": ("text.png", "text.png: is no image that can be read"),
        "empty": ("empty.png", "empty.png: is no image that can be read"),
        "huge": ("huge.png", "has 9000 x 6000 pixels; an image may have 50000000"),
        "animated": ("moving.gif", "has 3 frames; one image each is read"),
        "folder": ("folder.png", "there is no file"),
    }


def test_images_that_cannot_be_read_are_named(own: tuple[str, Path], tmp_path: Path) -> None:
    key, root = own
    source = table(tmp_path / "new", 4, answers=False)
    for kind, (name, said) in broken(tmp_path / "new").items():
        own_file = source.with_name(f"{kind}.csv")
        own_file.write_text(source.read_text() + f"what?,{name}\n")
        with pytest.raises(BluestabError) as caught:
            predicted(order(key, own_file, tmp_path / f"{kind}.csv"), root)
        assert said in str(caught.value), kind
        assert len(str(caught.value).splitlines()) == 1
        assert not (tmp_path / f"{kind}.csv").exists()


@pytest.mark.parametrize(
    ("head", "more", "said"),
    [
        ("question,foto", {}, "has no column 'image' in its header; name one with --image"),
        ("question,foto", {"image": "photo"}, "has no column 'photo'"),
        ("q,image", {}, "has no column 'text'"),
    ],
)
def test_columns_that_are_not_found(
    own: tuple[str, Path], tmp_path: Path, head: str, more: dict[str, str], said: str
) -> None:
    key, root = own
    source = table(tmp_path / "new", 4, answers=False)
    source.write_text(source.read_text().replace("question,image", head))
    with pytest.raises(DataError, match=said):
        predicted(order(key, source, tmp_path / "out.csv", **more), root)


def test_a_run_that_reads_the_questions_alone_needs_no_images(
    make_run: Make, tmp_path: Path
) -> None:
    task = ("task=visual_question_answering", f"task.train={table(tmp_path / 'train')}")
    record = done(make_run(*task, "task.images=pictures", *SHORT), tmp_path / "runs")
    source = tmp_path / "new.csv"
    source.write_text("question,n\nwhat is it?,1\nis it there?,2\n")
    predicted(order(record.key, source, tmp_path / "out.csv"), tmp_path / "runs")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3
    with pytest.raises(ConfigError, match="--image names a column, but the runs look at no"):
        predicted(order(record.key, source, tmp_path / "o.csv", image="n"), tmp_path / "runs")


def test_a_tower_that_is_gone_or_another_is_noticed(
    make_run: Make, tmp_path: Path, tower: Path
) -> None:
    root = tmp_path / "runs"
    record = done(make_run("task=vqa_rad", *line_of("frozen", tower)), root)
    weights = of_run(find_run(record.key, Store(root)))
    saved(tower, tower_of("vit", num_hidden_layers=1))
    with pytest.raises(ConfigError, match="put the tower in its place that it was"):
        Predictor([weights], "cpu")
    tower.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="no such folder"):
        Predictor([weights], "cpu")


def test_several_that_look_differently(make_run: Make, tmp_path: Path, tower: Path) -> None:
    """Their mean, each network on its own pieces; one of them may look at nothing."""
    root = tmp_path / "runs"
    lines = [line_of("conv", tower), line_of("frozen", tower), SHORT]
    runs = [make_run("task=vqa_rad", *line) for line in lines]
    keys = [done(run, root).key for run in runs]
    predictor = Predictor(open_weights(keys, Store(root)), "cpu")
    items = runs[0].data.select(runs[0].seeds)["test"]
    for example, (_, _, found) in zip(items, predictor.logits(items), strict=True):
        for key, logits in zip(keys, found, strict=True):
            expected = recorded(root, key)[example.id][1]
            assert logits.ravel().tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["uniform", "regmean"])
def test_a_soup_of_runs_that_see(make_run: Make, tmp_path: Path, tower: Path, kind: str) -> None:
    root = tmp_path / "runs"
    line = ("task=vqa_rad", *line_of("frozen", tower), "seeds.init=0")
    keys = [done(make_run(*line, f"seed={seed}"), root).key for seed in (0, 1)]
    soup = make_soup(members_of(keys, Store(root)), kind, "cpu")
    assert soup.record.status == "done"
    assert set(soup.record.result["metrics"]["last"]["test"]) >= {"accuracy"}
    assert find_run(soup.record.key, Store(root)).record.key == soup.record.key


def test_an_earlier_task_with_images_is_scored_again(
    make_run: Make, tmp_path: Path, tower: Path
) -> None:
    root = tmp_path / "runs"
    adapted = ("score_earlier=true", *chosen("inner_adaptors"))
    first = done(make_run("task=vqa_rad", *line_of("frozen", tower)), root)
    text = ("task=gad", *SHORT, f"model.init_from={first.key}")
    second = done(make_run(*text, *adapted), root)
    assert second.status == "done", second.result["error"]
    (entry,) = second.result["earlier"]
    assert entry["last"] == first.result["metrics"]["last"]["test"]


def test_what_frozen_says_is_recorded_whole(make_run: Make, tmp_path: Path, tower: Path) -> None:
    run = make_run("task=vqa_rad", *line_of("frozen", tower))
    said = run.cfg["model"]["vision"]
    assert said.keys() == frozen(tower).keys()
    assert "auto" not in map(str, said.values())
