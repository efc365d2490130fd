"""A group from its jobs to the records of its runs, and what fails on the way."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import GroupTooLarge  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.training.execute import execute, execute_one, is_done  # noqa: E402
from bluestab.training.packed.training import Group  # noqa: E402
from tests.conftest import Make  # noqa: E402
from tests.support.packed_groups import ASKED, fitted, told  # noqa: E402


def test_each_run_has_the_record_of_a_run(make_run: Make, store: Store) -> None:
    asked = (*ASKED, "keep=all", "keep_representations=true", "technique=llrd")
    runs = [make_run(*asked, f"seed={s}") for s in range(3)]
    ticks: list[list[int]] = [[], [], []]
    progress = [lambda step, *_, at=at: at.append(step) for at in ticks]
    records = execute(runs, store, progress)
    assert [record.key for record in records] == [run.key for run in runs]
    for run, record, seen in zip(runs, records, ticks, strict=True):
        assert store.read(run.key).result == record.result
        assert is_done(run, store), "weights and vectors are there"
        folder = store.folder(run.key)
        files = {"config.yaml", "curve.csv", "log.txt", "predictions.parquet", "record.json"}
        assert {"representations.safetensors", "checkpoint", *files} <= {
            path.name for path in folder.iterdir()
        }
        assert "3 runs train as one" in (folder / "log.txt").read_text()
        assert record.measured["packed"]["runs"] == 3
        assert record.measured["seconds"]["total"] == pytest.approx(
            record.measured["packed"]["seconds"] / 3, abs=0.01
        )
        assert record.measured["names"]["seed"] == run.cfg["seed"]
        assert seen[-1] == 4
        assert sorted(set(seen)) == [1, 2, 3, 4]
    assert len({str(record.result["metrics"]) for record in records}) > 1


def test_runs_that_are_in_the_store_are_not_trained_again(make_run: Make, store: Store) -> None:
    runs = [make_run(*ASKED, f"seed={s}") for s in range(3)]
    first = execute_one(runs[1], store, told)
    records = execute(runs, store, [told] * 3)
    assert [record.key for record in records] == [run.key for run in runs]
    assert [record.measured["packed"]["runs"] for record in records] == [2, 1, 2]
    assert records[1].measured == first.measured


def test_both_engines_measure_the_same(make_run: Make, store: Store) -> None:
    packed = execute_one(make_run(*ASKED), store, told).measured
    alone = execute_one(make_run(*ASKED, "trainer.engine=lightning"), store, told).measured
    assert packed.keys() - alone.keys() == {"packed"}
    assert alone.keys() <= packed.keys()
    assert packed["phases"].keys() == alone["phases"].keys()
    assert packed["seconds"].keys() == alone["seconds"].keys()
    assert min(packed["tokens_per_second"], alone["tokens_per_second"]) > 0


def test_saved_weights_give_the_predictions_of_the_record(make_run: Make, store: Store) -> None:
    from safetensors.torch import load_file

    runs = [make_run(*ASKED, "keep=last", f"seed={s}") for s in range(2)]
    execute(runs, store, [told] * 2)
    group = fitted([make_run(*ASKED, "keep=last", f"seed={s}") for s in range(2)])
    for place, run in enumerate(runs):
        saved = load_file(store.folder(run.key) / "checkpoint" / "last" / "model.safetensors")
        found = dict(group.siblings[place].built.model.named_parameters())
        assert saved.keys() == found.keys()
        assert all(torch.equal(saved[name], found[name].detach()) for name in saved)


def test_weights_asked_for_later_cannot_be_made_again_alone(make_run: Make, store: Store) -> None:
    execute([make_run(*ASKED, f"seed={s}") for s in range(2)], store, [told] * 2)
    run = make_run(*ASKED, "keep=last", "seed=1")
    assert not is_done(run, store)
    with pytest.raises(Exception, match=r"trained in one step with 1 more.*another store=FOLDER"):
        execute_one(run, store, told)


def test_what_fails_for_one_run_is_its_own(
    make_run: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bluestab.training.packed.siblings import Sibling

    whole = Sibling.effects

    def fails(self: Sibling) -> dict[str, Any]:
        if self.run.cfg["seed"] == 1:
            raise ValueError("as told")
        return whole(self)

    monkeypatch.setattr(Sibling, "effects", fails)
    records = execute([make_run(*ASKED, f"seed={s}") for s in range(3)], store, [told] * 3)
    assert [record.status for record in records] == ["done", "crashed", "done"]
    assert records[1].result["error"] == {"type": "ValueError", "message": "as told"}


def test_what_fails_for_all_is_recorded_for_all(
    make_run: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("as told")

    monkeypatch.setattr(Group, "fit", fails)
    runs = [make_run(*ASKED, f"seed={s}") for s in range(2)]
    records = execute(runs, store, [told] * 2)
    assert [record.status for record in records] == ["crashed", "crashed"]
    assert all(store.crash(run.key) is not None for run in runs)
    log = (store.crash_folder(runs[0].key) / "log.txt").read_text()
    assert "as told" in log


def test_a_group_too_large_says_so_and_leaves_nothing(
    make_run: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Group, "fit", fails)
    runs = [make_run(*ASKED, f"seed={s}") for s in range(2)]
    with pytest.raises(GroupTooLarge, match="2 runs at once"):
        execute(runs, store, [told] * 2)
    assert store.keys() == []
    assert [p.name for p in (store.root / ".work").iterdir()] == []
    crash = [make_run(*ASKED, "on_oom=crash", f"seed={s}") for s in range(2)]
    assert {r.status for r in execute(crash, store, [told] * 2)} == {"crashed"}


def test_timeout_ends_a_group(make_run: Make, store: Store) -> None:
    runs = [make_run(*ASKED, "timeout=0.001", f"seed={s}") for s in range(2)]
    for record in execute(runs, store, [told] * 2):
        assert record.status == "crashed"
        assert record.result["error"]["type"] == "TimedOut"


@pytest.mark.parametrize(
    ("knobs", "why"),
    [
        (("trainer.micro_batch=2",), "a group passes whole batches"),
        (("model=tiny_modernbert",), "of family modernbert"),
        (("trainer.attention.cuda=flash_attention_2",), "which units to drop"),
    ],
)
def test_what_cannot_be_packed_is_refused(make_run: Make, knobs: tuple[str, ...], why: str) -> None:
    with pytest.raises(Exception, match=f"trainer.engine is packed, but .*{why}"):
        make_run(*ASKED, *knobs)
