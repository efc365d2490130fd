"""Packed training itself: what siblings share, what they must not feel of each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import GroupTooLarge  # noqa: E402
from bluestab.store.records import to_json  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.training.check import Run  # noqa: E402
from bluestab.training.execute import execute, execute_one, is_done  # noqa: E402
from bluestab.training.families import pack_group_key  # noqa: E402
from bluestab.training.loop.phases import Phases  # noqa: E402
from bluestab.training.packed.drops import Drops, dropped, mixed  # noqa: E402
from bluestab.training.packed.training import Group  # noqa: E402
from tests.conftest import Make  # noqa: E402

SHORT = (
    *("device=cpu", "trainer.engine=packed", "optim.steps=4", "optim.batch_size=6"),
    *("optim.lr=1e-3", "trainer.eval_every=2", "task.max_length=32"),
)
ASKED = ("task=gad", "model=tiny", *SHORT)


def told(*_: Any) -> None:
    pass


def fitted(runs: Sequence[Run]) -> Group:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    group = Group(runs, [(told, told)] * len(runs), torch.device("cpu"), Phases())
    group.fit()
    return group


def bits(group: Group, place: int) -> tuple[Any, ...]:
    """All that training made of one run."""
    sibling = group.siblings[place]
    weights = [p.detach().clone() for p in sibling.built.model.parameters()]
    rows = [{k: v for k, v in row.items() if v is not None} for row in sibling.history.rows]
    return rows, weights, [logits.tolist() for logits in sibling.item_logits]


def assert_same_bits(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert repr(one[0]) == repr(other[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    assert repr(one[2]) == repr(other[2])


# --- dropout -------------------------------------------------------------------------------------


def keys_of(*seeds: int, site: str = "here", step: int = 3) -> Any:
    drops = Drops(seeds, torch.device("cpu"))
    drops.begin(step)
    return drops.keys(site)


@pytest.mark.parametrize("shape", [(9,), (40, 9), (2, 40, 40)])
def test_what_is_dropped_depends_on_the_seed_alone(shape: tuple[int, ...]) -> None:
    """Not on the place among siblings, their number, padding, or how many items there are."""
    alone = dropped(keys_of(5), (4, *shape), 0.3)
    among = dropped(keys_of(8, 5, 7), (12, *shape), 0.3).reshape(3, 4, *shape)
    assert torch.equal(among[1], alone)
    assert not torch.equal(among[0], alone)
    fewer = dropped(keys_of(5), (2, *shape), 0.3)
    assert torch.equal(fewer, alone[:2])
    if len(shape) > 1:
        longer = dropped(keys_of(5), (4, *shape[:-2], shape[-2] + 5, shape[-1]), 0.3)
        assert torch.equal(longer[..., : shape[-2], :], alone)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_units_are_dropped_evenly_and_independently(p: float) -> None:
    n = 500
    gone = dropped(keys_of(1), (1, n, n), p)[0].double()
    noise = math.sqrt(p * (1 - p) / n**2)
    assert float(gone.mean()) == pytest.approx(p, abs=5 * noise)
    one = math.sqrt(p * (1 - p) / n)
    for dim in (0, 1):
        assert float((gone.mean(dim=dim) - p).abs().max()) < 5 * one
    centred = (gone - p) / math.sqrt(p * (1 - p))
    for other in (
        centred.roll(1, 0),
        centred.roll(1, 1),
        centred.T,
        (dropped(keys_of(2), (1, n, n), p)[0].double() - p) / math.sqrt(p * (1 - p)),
        (dropped(keys_of(1, site="there"), (1, n, n), p)[0].double() - p) / math.sqrt(p * (1 - p)),
        (dropped(keys_of(1, step=4), (1, n, n), p)[0].double() - p) / math.sqrt(p * (1 - p)),
    ):
        off = ~torch.eye(n, dtype=torch.bool) if other is not centred.roll(1, 0) else slice(None)
        assert abs(float((centred * other)[off].mean())) < 5 / n
    # four corners of a rectangle: a hash of row and column that did not mix would tie them
    corners = centred[:250, :250] * centred[250:, :250] * centred[:250, 250:] * centred[250:, 250:]
    assert abs(float(corners.mean())) < 5 / 250


def test_the_hash_is_a_bijection_that_spreads() -> None:
    values = mixed(torch.arange(2**16, dtype=torch.int32))
    assert len(values.unique()) == 2**16
    flipped = mixed(torch.arange(2**16, dtype=torch.int32) ^ 1) ^ values
    share = sum(((flipped >> bit) & 1).double().mean() for bit in range(32)) / 32
    assert float(share) == pytest.approx(0.5, abs=0.01)


def test_passes_drop_other_units_and_the_first_is_first_again() -> None:
    drops = Drops([1, 2], torch.device("cpu"))
    drops.begin(0)
    first = drops.keys("x")
    with drops.passing("rdrop"):
        assert drops.number() == 1
        second = drops.keys("x")
    assert drops.number() == 0
    assert torch.equal(drops.keys("x"), first)
    assert not torch.equal(first, second)
    drops.begin(1)
    assert not torch.equal(drops.keys("x"), first)


# --- siblings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["none", "mixout,rdrop"])
def test_a_run_has_the_same_bits_wherever_it_stands(make_run: Make, arm: str) -> None:
    def run(seed: int) -> Run:
        return make_run(*ASKED, f"technique=[{arm}]".replace("[none]", "none"), f"seed={seed}")

    first = fitted([run(3), run(4), run(5)])
    last = fitted([run(4), run(5), run(3)])
    assert_same_bits(bits(first, 0), bits(last, 2))
    assert bits(first, 0)[2] != bits(first, 1)[2]


def test_how_many_train_together_changes_rounding_at_most(make_run: Make) -> None:
    alone = fitted([make_run(*ASKED, "seed=3")])
    among = fitted([make_run(*ASKED, f"seed={s}") for s in range(6)])
    one, other = alone.siblings[0].history.rows, among.siblings[3].history.rows
    assert [r["train_loss"] for r in one] == pytest.approx([r["train_loss"] for r in other], 1e-6)


def test_siblings_may_differ_in_scalars(make_run: Make) -> None:
    """Rate, warm-up, decay, clipping, bias correction, knobs of techniques: as each by itself."""
    asked = (*ASKED, "technique=[llrd,prior_decay,rdrop]")
    others = [
        ("optim.lr=3e-3", "technique.llrd.decay=0.5"),
        ("optim.warmup=3", "optim.weight_decay=0.3", "technique.prior_decay.alpha=0.2"),
        ("optim.clip=0.01", "optim.bias_correction=false", "technique.rdrop.alpha=4"),
        ("optim.beta1=0.5", "optim.beta2=0.9", "optim.eps=1e-3", "optim.clip=null"),
    ]
    runs = [make_run(*asked, *knobs, "seed=1") for knobs in others]
    assert len({pack_group_key(run) for run in runs}) == 1
    together = fitted(runs)
    ends = set()
    for place, knobs in enumerate(others):
        alone = fitted([make_run(*asked, *knobs, "seed=1")]).siblings[0].history.rows[-1]
        found = together.siblings[place].history.rows[-1]
        assert found["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-5)
        ends.add(round(found["train_loss"], 9))
    assert len(ends) == len(others)


FROZEN_2 = ("technique=freeze", "technique.freeze.depth=2")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("task=gad",), ("task=hoc",)),
        (("optim.batch_size=4",), ("optim.batch_size=5",)),
        (("technique=none",), ("technique=llrd",)),
        (("technique=rdrop",), ("technique=rdrop", "technique.rdrop.alpha=0")),
        (("technique=freeze", "technique.freeze.depth=1"), FROZEN_2),
        (("seeds.split=0",), ("seeds.split=1",)),
        (("keep=none",), ("keep=last",)),
    ],
)
def test_what_siblings_must_share(
    make_run: Make, one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    runs = [make_run("task=gad", "model=tiny", *SHORT[2:3], *knobs) for knobs in (one, other)]
    assert pack_group_key(runs[0]) != pack_group_key(runs[1])


def test_a_run_that_diverges_leaves_the_others_their_bits(make_run: Make) -> None:
    def run(seed: int, *knobs: str) -> Run:
        return make_run(*ASKED, *knobs, f"seed={seed}")

    calm = fitted([run(0), run(1), run(2)])
    wild = fitted([run(0), run(1, "optim.lr=1e30", "optim.clip=null", "optim.warmup=0"), run(2)])
    broken = wild.siblings[1]
    assert broken.diverged is not None
    assert broken.steps < 4 or "optimizer step 4" in str(broken.diverged)
    for place in (0, 2):
        assert wild.siblings[place].diverged is None
        assert_same_bits(bits(calm, place), bits(wild, place))


def test_all_may_diverge(make_run: Make, tmp_path: Path) -> None:
    knobs = ("optim.lr=1e30", "optim.clip=null", "optim.warmup=0")
    runs = [make_run(*ASKED, *knobs, f"seed={s}") for s in range(2)]
    store = Store(tmp_path / "runs")
    store.make_writable()
    for record in execute(runs, store, [told] * 2):
        assert record.status == "diverged"
        assert record.result["metrics"] is None
        assert record.failed
        assert store.has(record.key)


def test_a_run_that_is_stopped_early_stays_as_it_was(make_run: Make, monkeypatch: Any) -> None:
    asked = (*ASKED, "stop_degenerate=true")
    plain = fitted([make_run(*asked, f"seed={s}") for s in range(3)])

    def sign(rows: Sequence[Any], **_: Any) -> str | None:
        loss = plain.siblings[1].history.rows[0]["train_loss"]
        return "as told" if rows[0]["train_loss"] == loss else None

    monkeypatch.setattr("bluestab.training.loop.diagnostics.failure_sign", sign)
    group = fitted([make_run(*asked, f"seed={s}") for s in range(3)])
    assert [s.steps for s in group.siblings] == [4, 2, 4]
    assert group.siblings[1].history.censored == {"step": 2, "sign": "as told"}
    assert group.siblings[1].history.rows == plain.siblings[1].history.rows[:1]
    for place in (0, 2):
        assert_same_bits(bits(group, place), bits(plain, place))


def test_all_may_be_stopped_early(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bluestab.training.loop.diagnostics.failure_sign", lambda *_, **__: "as told"
    )
    group = fitted([make_run(*ASKED, "stop_degenerate=true", f"seed={s}") for s in range(2)])
    assert [(s.steps, s.diverged, len(s.history.rows)) for s in group.siblings] == [
        (2, None, 1)
    ] * 2


@pytest.mark.parametrize("arm", ["none", "mixout,rdrop"])
def test_computing_blocks_again_changes_no_bit(make_run: Make, arm: str) -> None:
    asked = (*ASKED, f"technique=[{arm}]".replace("[none]", "none"))
    plain = fitted([make_run(*asked, f"seed={s}") for s in range(2)])
    again = [make_run(*asked, "trainer.gradient_checkpointing=true", f"seed={s}") for s in range(2)]
    spared = fitted(again)
    assert spared.stack.network.is_gradient_checkpointing
    for place in range(2):
        assert_same_bits(bits(plain, place), bits(spared, place))


def test_a_frozen_part_is_shared_and_computed_once(make_run: Make) -> None:
    asked = (*ASKED, "technique=freeze", "technique.freeze.depth=1")
    cached = fitted([make_run(*asked, f"seed={s}") for s in range(2)])
    assert cached.prefix == 1
    names = set(cached.stack.weights)
    assert names == {n for n in cached.ready.plan if cached.ready.plan[n].trainable}
    frozen = dict(cached.stack.network.named_parameters())
    for sibling in cached.siblings:
        for name, parameter in sibling.built.model.named_parameters():
            if name not in names:
                assert parameter.data_ptr() == frozen[name].data_ptr()
    anew = fitted([make_run(*asked, "trainer.prefix_cache=false", f"seed={s}") for s in range(2)])
    assert anew.prefix is None
    for one, other in zip(cached.siblings, anew.siblings, strict=True):
        losses = [[row["train_loss"] for row in s.history.rows] for s in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_bfloat16(make_run: Make) -> None:
    group = fitted([make_run(*ASKED, "trainer.precision=bf16", f"seed={s}") for s in range(2)])
    full = fitted([make_run(*ASKED, f"seed={s}") for s in range(2)])
    for half, one in zip(group.siblings, full.siblings, strict=True):
        losses = [s.history.rows[-1]["train_loss"] for s in (half, one)]
        assert losses[0] != losses[1]
        assert losses[0] == pytest.approx(losses[1], rel=0.02)
        assert all(p.dtype == torch.float32 for p in half.built.model.parameters())


@pytest.mark.parametrize("corrects", [True, False])
def test_the_merged_optimizer_has_the_bits_of_the_plain_one(corrects: bool) -> None:
    """Groups of the same and of other rates, a rate that moves, a tensor without a gradient."""
    from bluestab.training.loop.optimizers import MergedAdamW, adamw

    def trained(make: Any) -> list[Any]:
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(n, 5)) for n in (3, 4, 5, 6)]
        groups = [
            {"params": [weights[0]], "lr": 1e-2, "weight_decay": 0.1},
            {"params": weights[1:3], "lr": 1e-2, "weight_decay": 0.1},
            {"params": [weights[3]], "lr": 3e-3, "weight_decay": 0.0},
        ]
        optimizer = make(groups, betas=(0.9, 0.99), eps=1e-6, bias_correction=corrects)
        for step in range(5):
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            if step == 2:
                weights[1].grad = None
            for group in optimizer.param_groups:
                group["lr"] *= 0.9
            optimizer.step()
            if step == 3:
                again = make(groups, betas=(0.9, 0.99), eps=1e-6, bias_correction=corrects)
                again.load_state_dict(optimizer.state_dict())
                optimizer = again
        return weights

    plain, merged = trained(adamw), trained(MergedAdamW)
    assert all(torch.equal(a, b) for a, b in zip(plain, merged, strict=True))


@pytest.mark.parametrize("dropout", [0, 0.1])
def test_the_other_attention_kernel(make_run: Make, dropout: float) -> None:
    """Where nothing is dropped it is used; where something is, it cannot be told what."""
    kinds = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    asked = (*ASKED, *(f"+model.config.{kind}={dropout}" for kind in kinds))
    ends = []
    for kernel in ("eager", "sdpa"):
        for precision in ("32", "bf16"):
            knobs = (f"trainer.attention.cpu={kernel}", f"trainer.precision={precision}")
            group = fitted([make_run(*asked, *knobs, f"seed={s}") for s in range(2)])
            ends.append([s.history.rows[-1]["train_loss"] for s in group.siblings])
    assert ends[0] == pytest.approx(ends[2], rel=1e-5)
    assert ends[1] == pytest.approx(ends[3], rel=1e-2)


# --- records -------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "runs")
    found.make_writable()
    return found


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


# --- going on --------------------------------------------------------------------------------


class Stopped(BaseException):
    """Stands for a kill."""


def stopping_at(step: int) -> Any:
    def progress(now: int, total: int, loss: Any, score: Any) -> None:
        if now == step and loss is None:
            raise Stopped

    return progress


@pytest.mark.parametrize(
    "knobs",
    [
        ("technique=[mixout,rdrop,llrd]",),
        ("technique=recadam", "technique.recadam.gamma=50", "optim.bias_correction=false"),
    ],
)
def test_a_group_goes_on_with_the_same_bits(
    make_run: Make, tmp_path: Path, knobs: tuple[str, ...]
) -> None:
    """Also with a run that has diverged, and one that had its best weights before."""
    wild = ("optim.lr=1e30", "optim.clip=null", "optim.warmup=0")
    asked = (*ASKED, "optim.steps=6", "checkpoint_every=3", *knobs)

    def runs() -> list[Run]:
        extra = () if "technique=recadam" in knobs else wild  # which recadam refuses
        return [make_run(*asked, "seed=0"), make_run(*asked, *extra, "seed=1")]

    stores = [Store(tmp_path / name) for name in ("whole", "cut")]
    whole = execute(runs(), stores[0], [told] * 2)
    with pytest.raises(Stopped):
        execute(runs(), stores[1], [stopping_at(5), told])
    assert stores[1].keys() == []
    assert len(list((stores[1].root / ".resume").glob("*/step-00000003-*.ckpt"))) == 1
    cut = execute(runs(), stores[1], [told] * 2)
    for one, other in zip(whole, cut, strict=True):
        assert (one.measured["resumed_from"], other.measured["resumed_from"]) == (None, 3)
        assert to_json(one.result) == to_json(other.result)
        for file in ("curve.csv", "predictions.parquet"):
            content = [(s.folder(one.key) / file).read_bytes() for s in stores]
            assert content[0] == content[1]
    assert list((stores[1].root / ".resume").glob("*/*.ckpt")) == []


def test_another_group_does_not_go_on(make_run: Make, store: Store) -> None:
    asked = (*ASKED, "checkpoint_every=1")
    with pytest.raises(Stopped):
        execute([make_run(*asked, f"seed={s}") for s in range(2)], store, [told, stopping_at(3)])
    records = execute([make_run(*asked, f"seed={s}") for s in (0, 2)], store, [told] * 2)
    assert [r.measured["resumed_from"] for r in records] == [None, None]
    log = (store.folder(records[0].key) / "log.txt").read_text()
    assert "is set aside: it was made with key" in log


def test_what_is_given_back_is_saved_first(
    make_run: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bluestab.core import preemption

    steps: list[int] = []
    monkeypatch.setattr(preemption, "asked", lambda: len(steps) >= 2)
    runs = [make_run(*ASKED, "checkpoint_every=1h", f"seed={s}") for s in range(2)]
    with pytest.raises(preemption.Preempted):
        execute(runs, store, [lambda *s: steps.append(s[0]), told])
    assert len(list((store.root / ".resume").glob("*/step-00000002-*.ckpt"))) == 1


# --- with dropout --------------------------------------------------------------------------------


def p_of_difference(one: Sequence[float], other: Sequence[float], statistic: Any) -> float:
    """Two-sided permutation test of a statistic of two samples, 9,999 draws."""
    import numpy as np

    both, n = np.asarray([*one, *other]), len(one)
    random = np.random.default_rng(0)
    seen = abs(statistic(both[:n]) - statistic(both[n:]))
    drawn = (random.permutation(both) for _ in range(9999))
    more = sum(abs(statistic(d[:n]) - statistic(d[n:])) >= seen - 1e-12 for d in drawn)
    return (1 + more) / 10_000


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["none", "rdrop"])
def test_dropout_follows_the_law_of_the_lightning_engine(make_run: Make, arm: str) -> None:
    """20 seeds packed, 20 apart, alike in all but what they drop: no test tells them apart, and it
    does tell them from a slightly other law."""
    import numpy as np

    from bluestab.training.assemble import assemble
    from bluestab.training.attempt import _fit

    asked = ("task=gad", "model=tiny", *SHORT, "optim.steps=10", "seeds.init=0", "seeds.order=0")
    asked = (*asked, f"technique={arm}", "trainer.eval_every=10")

    def law(p: float) -> tuple[str, ...]:
        kinds = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        return "+model.config.initializer_range=0.2", *(f"+model.config.{k}={p}" for k in kinds)

    def packed(p: float) -> list[float]:
        group = fitted([make_run(*asked, *law(p), f"seed={s}") for s in range(20)])
        return [sibling.history.rows[-1]["train_loss"] for sibling in group.siblings]

    def apart(p: float) -> list[float]:
        losses = []
        for seed in range(20):
            run = make_run(*asked, *law(p), "trainer.engine=lightning", f"seed={seed}")
            assembly = assemble(
                run.cfg,
                data=run.data,
                model=run.model,
                techniques=run.techniques,
                seeds=run.seeds,
                device=torch.device("cpu"),
                progress=told,
            )
            _fit(assembly)
            losses.append(assembly.history.rows[-1]["train_loss"])
        return losses

    def spread(sample: Any) -> float:
        return float(np.log(np.std(sample)))

    here, there = packed(0.2), apart(0.2)
    assert len({round(loss, 7) for loss in here}) == 20
    assert p_of_difference(here, there, np.mean) > 0.05
    assert p_of_difference(here, there, spread) > 0.05
    other = packed(0.5)
    assert min(p_of_difference(other, there, s) for s in (np.mean, spread)) < 0.01
