"""A person's own questions about images: columns found, files checked, a sentence for a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import ConfigError, DataError
from bluestab.tasks.visual_question_answering import ClosedAnswer

Image = pytest.importorskip("PIL.Image")
Make = Callable[..., Any]
HEAD = "question,image,answer\n"


def written(folder: Path, rows: str = "", head: str = HEAD, n: int = 30) -> Path:
    """`items.csv` with n questions, two on each image, and images beside it."""
    (folder / "pictures").mkdir(exist_ok=True)
    lines = [head.rstrip()]
    for i in range(n):
        name = f"pictures/{i // 2}.png"
        Image.new("RGB", (9, 9), (i // 2 * 8, 0, 0)).save(folder / name)
        lines.append(f"is finding {i} there?,{name},{('yes', 'no', 'lung')[i % 3]}")
    (folder / "items.csv").write_text("\n".join([*lines, rows]) + "\n")
    return folder / "items.csv"


def made(make_run: Make, file: Path, *more: str) -> Any:
    line = ("task=visual_question_answering", f"task.train={file}", "model=tiny", "device=cpu")
    return make_run(*line, *more)


def test_what_is_found(make_run: Make, tmp_path: Path) -> None:
    data = made(make_run, written(tmp_path)).data
    items = [e for part in data.splits.values() for e in part]
    assert len(items) == 30
    assert sum(isinstance(e.target, ClosedAnswer) for e in items) == 20
    assert data.labels == ("lung", "no", "yes")
    assert any("image is 'image'" in note for note in data.notes)
    groups = {split: {e.group for e in part} for split, part in data.splits.items()}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]


def test_the_key_knows_the_pixels_and_not_where_they_lie(make_run: Make, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        files.append(written(tmp_path / name))
    Image.new("RGB", (9, 9), (1, 2, 3)).save(files[2].parent / "pictures" / "0.png")
    one, two, three = (made(make_run, file).key for file in files)
    assert one == two != three


def test_a_column_may_say_what_is_closed(make_run: Make, tmp_path: Path) -> None:
    file = written(tmp_path)
    lines = file.read_text().split("\n")
    kinds = ["answer_type", *("closed" if i % 2 else "open" for i in range(30))]
    file.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, kinds, strict=False)) + "\n")
    data = made(make_run, file).data
    closed = [isinstance(e.target, ClosedAnswer) for part in data.splits.values() for e in part]
    assert sum(closed) == 15


def test_a_run_from_a_folder_of_images(make_run: Make, tmp_path: Path) -> None:
    from tests.training.test_execute import done

    file = written(tmp_path)
    file.write_text(file.read_text().replace("pictures/", ""))
    line = ("task.images=pictures", "model/vision=patch", "optim.steps=2", "optim.batch_size=4")
    record = done(made(make_run, file, *line), tmp_path / "runs")
    assert record.status == "done", record.result["error"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("what?,pictures/none.png,yes", "names the image 'pictures/none.png', but there is no"),
        ("what?,,yes", "image (task.image) is empty"),
        ("what?,../../x.png,yes", "lies outside"),
        ("what?,items.csv,yes", "is no image that can be read"),
        (",pictures/0.png,yes", "question (task.text) is empty"),
        ("what?,pictures/0.png,", "answer (task.label) is empty"),
    ],
)
def test_a_broken_row_is_one_sentence(make_run: Make, tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        made(make_run, written(tmp_path, row))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_column_is_named(make_run: Make, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError), match=r"which column is the image\? say task"):
        made(make_run, written(tmp_path, head="question,photo,answer"))
    made(make_run, tmp_path / "items.csv", "task.image=photo")
