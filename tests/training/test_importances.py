"""Runs that keep the importance of their weights for later ones (`keep_importance`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.core.errors import ConfigError, StoreError
from bluestab.store.artefacts import importance_file
from bluestab.store.store import Store
from bluestab.training import execute, importances
from tests.training.test_execute import done, kept

Make = Callable[..., Any]
SHORT = ("model=tiny", "device=cpu", "optim.batch_size=8", "optim.steps=3", "optim.lr=3e-3")
FIRST = ("task=gad", "keep=last", *SHORT)
OF = {
    "[ewc,refresh]": "diagonal-gold,weighted",
    "kfac_ewc": "kronecker-gold-expand",
    "mas": "sensitivity",
}


def then(key: str, technique: str) -> tuple[str, ...]:
    return ("task=ncbi_disease", f"model.init_from={key}", f"technique={technique}", *SHORT)


def keep_importance(names: str) -> str:
    return f"keep_importance=[{names}]"


@pytest.mark.parametrize("technique", OF)
def test_a_later_run_is_the_same_with_it_and_needs_no_items(
    technique: str, make_run: Make, small: Path, tmp_path: Path
) -> None:
    """Key and bytes; also where the files of the task are gone, and the record is the same, too."""
    from bluestab.tasks.data import _load

    roots = tmp_path / "measured", tmp_path / "kept"
    plain = done(make_run(*FIRST, f"store={roots[0]}"), roots[0])
    first = done(make_run(*FIRST, keep_importance(OF[technique]), f"store={roots[1]}"), roots[1])
    assert (first.key, first.result) == (plain.key, plain.result)
    assert first.measured["seconds"]["importance"] > 0
    files = sorted(Store(roots[1]).folder(first.key).glob("checkpoint/*/importance-*"))
    names = OF[technique].split(",")
    assert files == sorted(importance_file(files[0].parent, name) for name in names)
    there = done(make_run(*then(first.key, technique), f"store={roots[0]}"), roots[0])
    file = small / "gad" / "train.tsv"
    content = file.read_bytes()
    try:
        file.unlink()
        _load.cache_clear()
        run = make_run(*then(first.key, technique), f"store={roots[1]}")
        assert run.stages[0].data is None
        gone = done(run, roots[1])
        for bad in ("er", "score_earlier"):
            overrides = then(first.key, "none" if bad == "score_earlier" else bad)
            more = ["score_earlier=true"] if bad == "score_earlier" else []
            with pytest.raises(
                ConfigError, match=rf"'gad', whose items .*{bad} needs; they are not"
            ):
                make_run(*overrides, *more, f"store={roots[1]}")
    finally:
        file.write_bytes(content)
    assert gone.status == "done", gone.result["error"]
    assert kept(roots[0], there.key) == kept(roots[1], gone.key)


def test_a_network_alone_needs_no_items(make_run: Make, small: Path, tmp_path: Path) -> None:
    """`lwf` asks the earlier network about the new items; its head is found without the old."""
    root = tmp_path / "runs"
    first = done(make_run(*FIRST), root)
    there = done(make_run(*then(first.key, "lwf")), root)
    file = small / "gad" / "train.tsv"
    content = file.read_bytes()
    try:
        file.unlink()
        run = make_run(*then(first.key, "lwf"))
        again = done(run, tmp_path / "again")
    finally:
        file.write_bytes(content)
    assert kept(root, there.key) == kept(tmp_path / "again", again.key)


def test_a_finished_run_is_measured_without_training(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its weights are here; else it is made again for both."""
    root = tmp_path / "runs"
    first = done(make_run(*FIRST), root)
    run, store = make_run(*FIRST, keep_importance("diagonal-gold,sensitivity")), Store(root)
    assert not execute.is_done(run, store)
    with monkeypatch.context() as patch:
        patch.setattr(execute, "_train_one", None)
        assert done(run, root).result == first.result
    assert execute.is_done(run, store)
    weights = store.folder(first.key) / "checkpoint" / "last"
    before = {file: file.read_bytes() for file in weights.glob("importance-*")}
    assert len(before) == 2
    shutil.rmtree(weights)
    assert not execute.is_done(run, store)
    assert done(run, root).result == first.result
    assert {file: file.read_bytes() for file in weights.glob("importance-*")} == before


def test_what_cannot_be_measured_is_no_crash(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is done; half of what was wanted is removed, and asking again says why."""
    root = tmp_path / "runs"
    run = make_run(*FIRST, keep_importance("diagonal-gold,sensitivity"))
    measure = importances.measure_importances

    def half(run: Any, names: Any, *rest: Any) -> None:
        measure(run, [*names][:1], *rest)
        raise RuntimeError("no room for factors")

    monkeypatch.setattr(execute, "measure_importances", half)
    record = done(run, root)
    assert record.status == "done"
    folder = Store(root).folder(record.key)
    assert "no room for factors" in (folder / "log.txt").read_text(encoding="utf-8")
    assert not [*folder.glob("checkpoint/*/importance-*")]
    with pytest.raises(StoreError, match=r"keep_importance=\[diagonal-gold,sensitivity\].*no room"):
        done(run, root)
    assert not [*folder.glob("checkpoint/*/importance-*")]


def test_a_record_of_an_earlier_version_is_compared_as_far_as_it_goes() -> None:
    """Fields that came later are no difference; one that is gone, or another, is."""
    then = {"a": 1, "earlier": [{"task": "x", "last": {"f1": 0.5}}]}
    now = {"a": 1, "b": 2, "earlier": [{"task": "x", "last": {"f1": 0.5}, "validation": {}}]}
    assert execute._as_far(now, then) == then
    for other in (
        {**now, "a": 2},
        {**now, "earlier": [{"task": "x", "last": {"f1": 0.25}}]},
        {**now, "earlier": []},
        {"a": 1},
    ):
        assert execute._as_far(other, then) != then


def test_a_damaged_file_is_a_crash_that_names_it(make_run: Make, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    first = done(make_run(*FIRST, keep_importance("diagonal-gold")), root)
    (file,) = Store(root).folder(first.key).glob("checkpoint/last/importance-*")
    file.write_bytes(file.read_bytes()[:-7])
    record = done(make_run(*then(first.key, "ewc")), root)
    assert record.status == "crashed"
    assert f"{file} cannot be used" in record.result["error"]["message"]


@pytest.mark.parametrize(
    ("value", "keep", "said"),
    [
        ("[diagonal]", "last", "expected a list of diagonal-gold, "),
        ("diagonal-gold", "last", "expected a list of"),
        ("[weighted,weighted]", "last", "each once"),
        ("[{weighted: 1}]", "last", "each once"),
        ("weighted", "last", "each once"),
        ("[weighted]", "none", "but keep is none"),
    ],
)
def test_wrong_values(make_run: Make, value: str, keep: str, said: str) -> None:
    with pytest.raises(ConfigError, match="keep_importance is") as error:
        make_run("task=gad", *SHORT, f"keep_importance={value}", f"keep={keep}")
    assert said in str(error.value)


def test_a_pretraining_is_held_on_to_by_nobody(make_run: Make, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(f"words of text {n}" for n in range(30)), encoding="utf-8")
    pretraining = ("task=mlm", f"task.train={file}", "model=tiny", "optim.steps=2", "keep=last")
    make_run(*pretraining)
    with pytest.raises(ConfigError, match="but task texts is a pretraining"):
        make_run(*pretraining, keep_importance("weighted"))
