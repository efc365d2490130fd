"""One run: the same bits everywhere, each seed changes its own part, and nothing is done twice."""

from __future__ import annotations

import csv
import gc
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bluestab.store.records import to_json
from bluestab.store.store import Store
from tests.support import forked_processes

torch = pytest.importorskip("torch")

from bluestab.core.errors import Diverged  # noqa: E402
from bluestab.core.types import Batch, Step, StepOutput  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.tasks.metric import metric_of  # noqa: E402
from bluestab.techniques.base import Technique  # noqa: E402
from bluestab.testing.corpora import ON_ANY_DEVICE  # noqa: E402
from bluestab.training.execute import execute_one  # noqa: E402
from bluestab.training.loop.history import ValidationHistory  # noqa: E402

Make = Callable[..., Any]

ANYTHING = ("task.sha256.train=null", "task.sha256.validation=null", "task.sha256.test=null")
TINY = (
    "model=tiny",
    "device=cpu",
    "optim.batch_size=8",
    "optim.steps=4",
    "trainer.eval_every=1",
    *ON_ANY_DEVICE,
)


def quiet(*_: Any) -> None:
    """Nobody looks at the progress."""


def done(run: Any, root: Path, progress: Callable[..., None] = quiet) -> Any:
    store = Store(root)
    store.make_writable()
    return execute_one(run, store, progress)


def kept(root: Path, key: str) -> dict[str, bytes]:
    """What must be equal between two repetitions of a run: everything but when and where."""
    folder = root / key
    files = {name: (folder / name).read_bytes() for name in ("curve.csv", "predictions.parquet")}
    return {**files, "result": to_json(Store(root).read(key).result).encode()}


# --- the same bits ---------------------------------------------------------------------------


def test_the_same_bytes_everywhere(
    cli: Callable[..., Any], make_run: Make, small: Path, tmp_path: Path
) -> None:
    """Alone, in a sweep of this process, and in another sweep of a process that is new.

    Neither what ran before, nor the other arms, nor the process can change a run.
    """
    overrides = ("task=gad", *TINY)
    alone = done(make_run(*overrides, "technique=[reinit,llrd]", "seed=3"), tmp_path / "alone")
    sweep = ("run", "-m", *ANYTHING, *overrides)
    said = cli(*sweep, "technique=none,[reinit,llrd]", "sweep.seeds=[3]", f"store={tmp_path}/here")
    assert (said.code, said.err) == (0, "")
    arms = ("technique=freeze,[reinit,llrd]", "technique.freeze.depth=1", "sweep.seeds=[3]")
    fresh = forked_processes.bluestab(
        *(*sweep, *arms, f"store={tmp_path}/fresh"),
        cwd=tmp_path,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("BLUESTAB")},
            "BLUESTAB_DATA": str(small),
        },
    )
    assert (fresh.returncode, fresh.stderr) == (0, "")
    assert kept(tmp_path / "here", alone.key) == kept(tmp_path / "alone", alone.key)
    assert kept(tmp_path / "fresh", alone.key) == kept(tmp_path / "alone", alone.key)
    assert len(Store(tmp_path / "here").keys()) == 2
    assert len(Store(tmp_path / "fresh").keys()) == 2
    files = [{f.name for f in (tmp_path / s / alone.key).iterdir()} for s in ("alone", "fresh")]
    assert files[0] == files[1]


# --- each seed its own part ------------------------------------------------------------------


def parts(assembly: Any) -> tuple[Mapping[str, Any], list[list[int]], float]:
    """Initial weights by name; items of each batch of the first epoch; loss of the first step."""
    weights = {n: p.detach().clone() for n, p in assembly.built.model.named_parameters()}
    batches = [batch["items"].tolist() for batch in assembly.loaders["train"]]
    first = next(iter(assembly.loaders["train"]))
    assembly.module.model.train()
    assembly.module.trainer = assembly.trainer
    with torch.no_grad():
        loss = float(assembly.module.training_step(first, 0))
    return weights, batches, loss


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("model", ["tiny", "tiny_electra"])
def test_each_stream_changes_what_it_names(make_assembly: Make, model: str) -> None:
    def of(*overrides: str) -> tuple[Mapping[str, Any], list[list[int]], float]:
        return parts(make_assembly("task=gad", *TINY, f"model={model}", *overrides))

    weights, batches, loss = of()
    again = of("seeds.init=0", "seeds.order=0", "seeds.dropout=0")
    assert (differing(weights, again[0]), again[1], again[2]) == (set(), batches, loss)

    init = of("seeds.init=1")
    heads = {name for name in weights if not name.startswith(("bert.", "electra."))}
    assert differing(weights, init[0]) == {name for name in heads if name.endswith("weight")}
    assert init[1] == batches

    order = of("seeds.order=1")
    assert differing(weights, order[0]) == set()
    assert order[1] != batches
    assert sorted(i for batch in order[1] for i in batch) == list(range(24))
    assert sorted(i for batch in batches for i in batch) == list(range(24))

    dropout = of("seeds.dropout=1")
    assert differing(weights, dropout[0]) == set()
    assert dropout[1] == batches
    assert dropout[2] != loss

    everything = of("seed=1")
    assert differing(weights, everything[0]) == differing(weights, init[0])
    assert everything[1] == order[1]


def test_split_seed_chooses_training_items_only(make_assembly: Make) -> None:
    def items(*overrides: str) -> dict[str, list[str]]:
        sizes = ("task.train_size=8", "task.validation_size=4", "task.test_size=4")
        assembly = make_assembly("task=gad", *TINY, *sizes, *overrides)
        return {split: [e.id for e in chosen] for split, chosen in assembly.examples.items()}

    first, other = items("seed=5"), items("seed=6")
    assert first == other, "the seed of a run chooses no items"
    split = items("seed=5", "seeds.split=1")
    assert split["train"] != first["train"]
    assert (split["validation"], split["test"]) == (first["validation"], first["test"])
    assert [len(split[name]) for name in ("train", "validation", "test")] == [8, 4, 4]


def test_arms_of_one_seed_share_items_batches_and_head(make_assembly: Make) -> None:
    """That is what makes paired comparisons valid."""
    arms = ["none", "freeze", "llrd", "reinit", "[freeze,llrd,reinit]"]
    found = []
    for arm in arms:
        depth = ["technique.freeze.depth=1"] if "freeze" in arm else []
        found.append(parts(make_assembly("task=gad", *TINY, f"technique={arm}", "seed=2", *depth)))
    plain = found[0]
    for arm, (weights, batches, _) in zip(arms, found, strict=True):
        assert batches == plain[1]
        changed = differing(plain[0], weights)
        assert not [name for name in changed if not name.startswith("bert.")]
        assert bool(changed) == ("reinit" in arm)


# --- done is done ----------------------------------------------------------------------------


def test_a_finished_run_is_not_run_again(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("task=gad", *TINY)
    first = done(run, tmp_path / "runs")
    assert first.status == "done"

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was assembled again")

    monkeypatch.setattr("bluestab.training.assemble.assemble", never)
    assert done(run, tmp_path / "runs").result == first.result
    assert done(run, tmp_path / "elsewhere").status == "crashed", "the trap works"


def test_interrupted_runs_leave_nothing(make_run: Make, tmp_path: Path) -> None:
    def interrupt(step: int, *_: Any) -> None:
        if step == 2:
            raise KeyboardInterrupt

    run = make_run("task=gad", *TINY)
    with pytest.raises(KeyboardInterrupt):
        done(run, tmp_path / "runs", interrupt)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".work"]
    assert list((tmp_path / "runs" / ".work").iterdir()) == []
    assert done(run, tmp_path / "runs").status == "done"


@pytest.mark.parametrize(
    "arm",
    ["technique=none", "technique=pst", "technique=vera", "trainer.engine=packed"],
)
def test_a_finished_run_leaves_no_tensor(make_run: Make, tmp_path: Path, arm: str) -> None:
    """Nor do its techniques, which a sweep holds as long as its plan."""
    asked = ("task=gad", arm, *TINY)
    runs = [make_run(*asked, f"seed={seed}") for seed in range(3)]
    held = []
    for run in runs:
        assert done(run, tmp_path / "runs").status == "done"
        gc.collect(2)
        held.append(sum(isinstance(one, torch.Tensor) for one in gc.get_objects()))
    assert held[1] == held[2]


# --- last and best ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.1, 0.3, 0.2], 2),
        ([0.3, 0.1, 0.3], 1),  # the earliest of equals
        ([0.3, 0.3, 0.31], 3),
        ([None, 0.1, None], 2),  # an undefined score beats nothing
        ([None, -0.5, -0.7], 2),
        ([0.0, None, None], 1),
        ([None, None], 1),  # and where all are undefined, the first stands
        ([-0.2], 1),
    ],
)
def test_best_step(scores: list[float | None], best: int) -> None:
    model = torch.nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    history = ValidationHistory(metric_of("pearson"), model)
    for step, score in enumerate(scores, start=1):
        with torch.no_grad():
            model.weight.fill_(step)
            model.bias.fill_(-1.0)
        history.add(step, {"pearson": score, "rmse": 9.0 - step}, loss=0.5)
    assert history.best_step == best
    assert history.best_score == scores[best - 1]
    assert [row["step"] for row in history.rows] == list(range(1, len(scores) + 1))
    history.restore_best()
    assert model.weight.item() == best
    assert set(history.best_weights) == {"weight"}, "what does not train need not be kept"


def test_a_record_names_last_and_best(make_run: Make, tmp_path: Path) -> None:
    """Read back from the curve, which knows nothing of the record."""
    import pyarrow.parquet as pq

    overrides = ("task=biosses", *TINY, "optim.steps=9", "optim.lr=3e-3", "technique=reinit")
    records = [done(make_run(*overrides, f"seed={seed}"), tmp_path / "runs") for seed in (0, 1, 2)]
    before_the_last = 0
    for record in records:
        folder = tmp_path / "runs" / record.key
        with (folder / "curve.csv").open() as file:
            curve = list(csv.DictReader(file))
        result = record.result
        assert [int(row["step"]) for row in curve] == list(range(1, 10))
        assert all(math.isfinite(float(row["train_loss"])) for row in curve)
        scores = [float(row["pearson"]) if row["pearson"] else -math.inf for row in curve]
        best = scores.index(max(scores))
        assert result["best_step"] == best + 1
        assert result["metrics"]["best"]["validation"]["pearson"] == scores[best]
        assert result["metrics"]["last"]["validation"]["pearson"] == scores[-1]
        assert result["steps"] == 9
        assert result["items"] == {"train": 24, "validation": 10, "test": 10}
        rows = pq.read_table(folder / "predictions.parquet").to_pylist()
        for at in ("last", "best"):
            part = [row for row in rows if row["at"] == at]
            assert [row["id"] for row in part] == [str(i) for i in range(34, 44)]
            assert [row["target"] for row in part] == [float(i % 5) for i in range(34, 44)]
            error = math.sqrt(sum((r["prediction"] - r["target"]) ** 2 for r in part) / len(part))
            assert result["metrics"][at]["test"]["rmse"] == pytest.approx(error, rel=1e-9)
            assert result["score"][at] == result["metrics"][at]["test"]["pearson"]
            assert result["degenerate"][at] == (result["score"][at] <= 0.378)
        last, other = ([r["prediction"] for r in rows if r["at"] == at] for at in ("last", "best"))
        assert (last == other) == (best == 8)
        before_the_last += best != 8
    assert before_the_last, "otherwise best was never restored"


def test_a_constant_prediction_has_the_failure_score(make_run: Make, tmp_path: Path) -> None:
    class Zero(Technique):
        def edit_model(self, built: Built, seeds: Any) -> Built:
            head = built.model.get_submodule("classifier")
            head.register_forward_hook(lambda *args: torch.zeros_like(args[-1], requires_grad=True))
            return built

    run = replace(make_run("task=biosses", *TINY), techniques={"zero": Zero()})
    result = done(run, tmp_path / "runs").result
    assert result["status"] == "done"
    assert result["metrics"]["last"]["test"]["pearson"] is None
    assert result["score"] == {"last": 0.0, "best": 0.0}
    assert result["degenerate"] == {"last": True, "best": True}
    assert result["best_step"] == 1


# --- divergence ------------------------------------------------------------------------------


class NotFinite(Technique):
    """The loss is not finite at one step."""

    def __init__(self, at: int, value: float) -> None:
        self.at, self.value, self.taken = at, value, 0

    def wrap_step(self, step: Step, built: Built) -> Step:
        def broken(batch: Batch) -> StepOutput:
            self.taken += 1
            output = step(batch)
            loss = output.loss * self.value if self.taken == self.at else output.loss
            return StepOutput(loss, output.logits)

        return broken


@pytest.mark.parametrize(("patience", "every"), [(1, 1), (2, 4), (16, 4)])
@pytest.mark.parametrize(("at", "value"), [(1, math.nan), (3, math.inf)])
def test_a_divergence_is_a_result(
    make_run: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    value: float,
    patience: int,
    every: int,
) -> None:
    """Also where losses are looked at only now and then, as on a GPU."""
    monkeypatch.setattr("bluestab.training.loop.module.finite_check_every", lambda device: patience)
    overrides = ("task=biosses", *TINY, f"trainer.eval_every={every}", "task.failure_score=-0.25")
    run = replace(make_run(*overrides), techniques={"broken": NotFinite(at, value)})
    record = done(run, tmp_path / "runs")
    result = record.result
    assert record.status == result["status"] == "diverged"
    assert record.failed
    assert result["error"] == {"type": "Diverged", "message": str(Diverged(at))}
    assert result["score"] == {"last": -0.25, "best": -0.25}
    assert (result["metrics"], result["degenerate"], result["effects"]) == (None, None, None)
    assert result["steps"] == at - 1
    store = Store(tmp_path / "runs")
    assert store.read(run.key).result == record.result
    assert store.crash(run.key) is None
    curve = (store.folder(run.key) / "curve.csv").read_text().splitlines()
    assert len(curve) == 1 + (at - 1) // every, "a header, and what was evaluated before"


def test_weights_broken_by_the_last_update_are_a_divergence(make_run: Make, tmp_path: Path) -> None:
    overrides = ("task=gad", "model=tiny", "optim.steps=1", "optim.lr=1e30", "optim.warmup=0")
    record = done(make_run(*overrides), tmp_path / "runs")
    assert record.status == "diverged"
    assert record.result["error"]["message"] == str(Diverged(1))


def test_a_crash_is_no_result(make_run: Make, tmp_path: Path) -> None:
    class Crash(Technique):
        def wrap_step(self, step: Step, built: Built) -> Step:
            raise RuntimeError("no step today")

    run = replace(make_run("task=biosses", *TINY), techniques={"crash": Crash()})
    record = done(run, tmp_path / "runs")
    assert record.status == "crashed"
    assert record.result["error"] == {"type": "RuntimeError", "message": "no step today"}
    assert record.result["score"] is None
    store = Store(tmp_path / "runs")
    assert store.keys() == []
    log = (tmp_path / "runs" / ".crashed" / run.key / "log.txt").read_text()
    assert "Traceback" in log
    assert "no step today" in log


# --- what is cut off counts ------------------------------------------------------------------


def test_words_beyond_the_maximum_are_predicted_outside_and_counted(
    make_run: Make, tmp_path: Path
) -> None:
    """Entities that were cut off are missed, not left out of the score."""
    import pyarrow.parquet as pq

    class AllDisease(Technique):
        """The head answers B-Disease to every word piece."""

        def edit_model(self, built: Built, seeds: Any) -> Built:
            def answer(module: Any, inputs: Any, output: Any) -> Any:
                return output * 0 + torch.tensor([0.0, 9.0, 0.0])

            built.model.get_submodule("classifier").register_forward_hook(answer)
            return built

    overrides = (
        "task=ncbi_disease",
        *TINY,
        "task.max_length=24",
        "task.overlap=null",
        "optim.steps=1",
    )
    run = replace(make_run(*overrides), techniques={"all": AllDisease()})
    result = done(run, tmp_path / "runs").result
    test = run.data.splits["test"]
    rows = pq.read_table(tmp_path / "runs" / run.key / "predictions.parquet").to_pylist()
    rows = [row for row in rows if row["at"] == "last"]
    found = gold = correct = cut = 0
    for example, row in zip(test, rows, strict=True):
        # one piece per character, after [CLS], before [SEP]
        used, kept_words = 0, 0
        for word in example.text:
            if used >= 24 - 2:
                break
            used, kept_words = used + len(word), kept_words + 1
        cut += used > 24 - 2 or kept_words < len(example.text)
        lost = len(example.text) - kept_words
        assert row["prediction"] == ["B-Disease"] * kept_words + ["O"] * lost
        assert len(row["logits"]) == 3 * kept_words
        entities = [i for i, tag in enumerate(example.target) if tag == "B-Disease"]
        found += kept_words
        gold += len(entities)
        correct += sum(i < kept_words for i in entities)
    assert 0 < correct < gold
    assert result["truncated"]["test"] == cut > 0
    scores = result["metrics"]["last"]["test"]
    assert scores["entity_recall"] == pytest.approx(correct / gold)
    assert scores["entity_precision"] == pytest.approx(correct / found)
    assert scores["entity_f1"] == pytest.approx(2 * correct / (found + gold))


# --- half precision --------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert"])
@pytest.mark.parametrize("task", ["biosses", "ncbi_disease"])
def test_bf16_keeps_weights_head_and_loss_in_float32(
    make_assembly: Make, model: str, task: str
) -> None:
    assembly = make_assembly(
        f"task={task}", *TINY, f"model={model}", "trainer.precision=bf16", "optim.steps=1"
    )
    network = assembly.built.model
    seen: dict[str, set[Any]] = {}

    def watch(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            seen.setdefault(name, set()).add(output.dtype)

        return hook

    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(watch(name))
    losses = []
    step = assembly.module._step

    def watched_step(batch: Any) -> Any:
        output = step(batch)
        losses.append((output.loss.dtype, output.logits.dtype))
        return output

    assembly.module._step = watched_step
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])

    encoder = f"{network.base_model_prefix}."
    inside = {n: d for n, d in seen.items() if n.startswith(encoder) and ".pooler." not in n}
    head = {n: d for n, d in seen.items() if n not in inside}
    assert len(inside) >= (8 if model == "tiny_modernbert" else 12)
    assert set.union(*inside.values()) == {torch.bfloat16}, "otherwise nothing is proved"
    assert head
    assert set.union(*head.values()) == {torch.float32}
    assert losses == [(torch.float32, torch.float32)]
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert assembly.module.item_logits[0].dtype == "float32"


# --- blocks computed again -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        ("task=gad", "model=tiny"),
        ("task=ncbi_disease", "model=tiny_electra", "trainer.precision=bf16"),
        ("task=gad", "model=tiny_modernbert", "model.head=mean"),
        ("task=gad", "model=tiny", "technique=[freeze,mixout]", "technique.freeze.depth=1"),
        ("task=gad", "model=tiny_roberta", "technique=rdrop", "trainer.micro_batch=3"),
        ("task=gad", "model=tiny", "technique=lora"),
        ("task=gad", "model=tiny", "trainer.dropout_masks=sfc64", "trainer.micro_batch=3"),
    ],
    ids=" ".join,
)
def test_gradient_checkpointing_changes_no_bit(
    make_run: Callable[..., Any], tmp_path: Path, asked: tuple[str, ...]
) -> None:
    """Blocks are computed twice, with the dropout of the first time."""
    from transformers.models.bert import modeling_bert

    short = ("device=cpu", "optim.steps=4", "trainer.eval_every=2", "optim.batch_size=6")
    plain = done(make_run(*asked, *short), tmp_path / "plain")
    forward, called = modeling_bert.BertSelfAttention.forward, []

    def count(self: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(self.training)
        return forward(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_bert.BertSelfAttention, "forward", count)
        again = make_run(*asked, *short, "trainer.gradient_checkpointing=true")
        assert done(again, tmp_path / "again").key == plain.key
    assert kept(tmp_path / "plain", plain.key) == kept(tmp_path / "again", plain.key)
    if asked == ("task=gad", "model=tiny"):
        assert sum(called) == 2 * 2 * 4  # two blocks, there and back, four steps
