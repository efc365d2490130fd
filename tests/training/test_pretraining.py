"""Pretraining by masked language modelling, as a run: its loss, its bits, and what comes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from bluestab.core.types import IGNORED  # noqa: E402
from bluestab.models.passes import POSITIONS  # noqa: E402
from bluestab.testing.corpora import ON_ANY_DEVICE  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
PLAIN = ("device=cpu", *ON_ANY_DEVICE)
MLM = (
    "task=mlm",
    "model=tiny",
    "task.max_length=24",
    *PLAIN,
)


@pytest.fixture
def text(tmp_path: Path) -> str:
    """`task.train=` a file of 40 documents."""
    words = ["renal", "cell", "artery", "of", "the", "in", "was", "dose", "trial", "placebo"]
    drawn = random.Random(0)
    lines = [" ".join(drawn.choices(words, k=drawn.randint(1, 14))) for _ in range(40)]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return f"task.train={tmp_path / 'text.txt'}"


def fitted(assembly: Any) -> list[dict[str, Any]]:
    """Train; the batches of training as the network saw them."""
    seen: list[dict[str, Any]] = []
    step = assembly.module._step

    def noted(batch: Any) -> Any:
        out = step(batch)
        seen.append({**batch, "loss": float(out.loss.detach())})
        return out

    assembly.module._step = noted
    loaders = assembly.loaders
    assembly.trainer.fit(assembly.module, loaders["train"], loaders["validation"])
    return seen


def test_twenty_steps_are_those_of_a_plain_loop(make_assembly: Make, text: str) -> None:
    """Against transformers' own class with its own loss on all positions, torch's AdamW and a rate
    written out here: every loss, and the weights at the end."""
    from transformers import BertForMaskedLM

    assembly = make_assembly(
        *MLM, text, "optim.steps=20", "optim.batch_size=8", "optim.warmup=5", "optim.lr=1e-3",
        "model.dropout=0", "model.attention_dropout=0",
    )  # fmt: skip
    start = {n: v.clone() for n, v in assembly.built.model.state_dict().items()}
    plain = BertForMaskedLM(assembly.built.model.config)
    plain.load_state_dict(start)
    seen = fitted(assembly)
    assert len(seen) == 20

    decayed = [p for p in plain.parameters() if p.dim() > 1]
    others = [p for p in plain.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-6)
    for number, batch in enumerate(seen):
        rate = min(number / 5, (20 - number) / 15) * 1e-3
        for group in optimizer.param_groups:
            group["lr"] = rate
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for row, (places, right) in enumerate(zip(batch[POSITIONS], batch["labels"], strict=True)):
            labels[row, places[right != IGNORED]] = right[right != IGNORED]
        loss = plain(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss
        assert float(loss.detach()) == pytest.approx(batch["loss"], abs=2e-5)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    trained = dict(assembly.built.model.named_parameters())
    for name, value in plain.named_parameters():
        assert torch.allclose(value, trained[name], atol=5e-5), name


RTD = (
    "task=rtd",
    "model=tiny_electra",
    "task.max_length=24",
    *PLAIN,
)


def test_the_loss_of_electra_is_that_of_transformers_own_classes(
    make_assembly: Make, text: str
) -> None:
    """Generator and discriminator anew, from transformers, with their own losses."""
    from transformers import ElectraForMaskedLM, ElectraForPreTraining

    assembly = make_assembly(
        *RTD, text, "optim.steps=1", "model.dropout=0", "model.attention_dropout=0"
    )
    network = assembly.built.model
    assert network.generator.electra.embeddings is network.electra.embeddings
    table = network.electra.embeddings.word_embeddings.weight
    assert network.generator.generator_lm_head.weight is table
    assert [n for n, p in network.named_parameters() if p is table] == [
        "electra.embeddings.word_embeddings.weight"
    ]
    assert network.generator.config.hidden_size * 4 == network.config.hidden_size
    generator = ElectraForMaskedLM(network.generator.config)
    generator.load_state_dict({n: v.clone() for n, v in network.generator.state_dict().items()})
    detector = ElectraForPreTraining(network.config)
    own = {n: v.clone() for n, v in network.state_dict().items() if not n.startswith("generator.")}
    detector.load_state_dict(own)

    ((logits, batch),) = logits_of(assembly)
    masked, real = batch["input_ids"], batch["attention_mask"]
    labels = torch.full_like(masked, IGNORED)
    originals = masked.clone()
    for row, (places, right) in enumerate(zip(batch["masked_at"], batch["originals"], strict=True)):
        there = right != IGNORED
        labels[row, places[there]] = originals[row, places[there]] = right[there]
    generated = generator(input_ids=masked, attention_mask=real, labels=labels).loss
    replaced = logits[..., 1] > 0.5
    assert not (replaced & (labels == IGNORED)).any()
    seen = inputs_of_detector(assembly, batch)
    assert torch.equal(seen != originals, replaced)
    detection = detector(input_ids=seen, attention_mask=real, labels=replaced.float()).loss
    loss = assembly.data.task.loss(logits, batch)
    assert float(loss) == pytest.approx(float((generated + 50 * detection).detach()), abs=2e-4)


def logits_of(assembly: Any) -> list[Any]:
    """Of the first batch of training: its logits, detached, and it."""
    batch = next(iter(assembly.loaders["train"]))
    batch = assembly.data.task.corruption(assembly.tokenizer)(batch, 0, ("mask", 0))
    from bluestab.models.passes import model_logits

    return [(model_logits(assembly.built.model, batch).detach(), batch)]


def inputs_of_detector(assembly: Any, batch: Any) -> Any:
    """What the discriminator is given for a batch."""
    from bluestab.models.passes import model_logits

    given = []
    network = assembly.built.model.electra
    hook = network.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    model_logits(assembly.built.model, batch)
    hook.remove()
    return given[0]


def test_pieces_are_drawn_from_the_distribution_of_the_generator() -> None:
    from bluestab.models.replaced_tokens import sampled

    logits = torch.tensor([0.1, 0.2, 0.7]).log().expand(1, 30000, 3)
    drawn = sampled(logits, torch.rand(1, 30000, generator=torch.Generator().manual_seed(0)))
    shares = torch.bincount(drawn.flatten(), minlength=3) / 30000
    assert torch.allclose(shares, torch.tensor([0.1, 0.2, 0.7]), atol=0.01)
    assert sampled(logits, torch.full((1, 30000), 1 - 1e-7)).max() == 2


def test_a_killed_pretraining_of_electra_goes_on_bit_for_bit(
    make_run: Make, text: str, tmp_path: Path
) -> None:
    short = ("optim.batch_size=7", "optim.steps=8", "optim.lr=3e-3")
    compare(lambda: make_run(*RTD, text, *short), tmp_path, 3)


def test_electra_leaves_the_discriminator_alone(make_run: Make, text: str, tmp_path: Path) -> None:
    from transformers import AutoModelForPreTraining

    root = tmp_path / "runs"
    run = make_run(*RTD, text, "optim.steps=2", "keep=last")
    assert done(run, root).status == "done"
    folder = root / run.key / "checkpoint" / "last"
    plain, info = AutoModelForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert type(plain).__name__ == "ElectraForPreTraining"
    record = done(
        make_run("task=gad", "model=tiny_electra", "device=cpu", "optim.steps=1",
                 f"model.init_from={run.key}"), root
    )  # fmt: skip
    assert record.status == "done"


def perplexity(assembly: Any) -> float:
    fitted(assembly)
    return float(assembly.history.rows[-1]["perplexity"])


def test_what_is_masked_does_not_leak(make_assembly: Make, tmp_path: Path) -> None:
    """Letters drawn at random, one after another: nobody can say one better than by chance, 1 in
    20, unless he sees it. Where the chosen pieces stay as they are, he does."""
    drawn = random.Random(1)
    letters = "abcdefghijklmnopqrst"
    lines = [" ".join(drawn.choices(letters, k=20)) for _ in range(120)]
    (tmp_path / "noise.txt").write_text("\n".join(lines), encoding="utf-8")
    common = (
        *MLM, f"task.train={tmp_path / 'noise.txt'}", "optim.steps=70", "optim.lr=2e-2",
        "task.validation_size=0.3", "task.mask_share=0.3", "trainer.eval_every=70",
    )  # fmt: skip
    hidden = perplexity(make_assembly(*common, "task.masked=1.0", "task.randomly=0.0"))
    assert 19 < hidden < 25
    shown = perplexity(make_assembly(*common, "task.masked=0.0", "task.randomly=0.0"))
    assert shown < 10, "the check could not see a leak"


def test_seeds_draw_weights_and_masks_and_evaluation_is_the_same(
    make_assembly: Make, text: str
) -> None:
    one, same, other = (
        make_assembly(*MLM, text, "optim.steps=2", f"seed={seed}") for seed in (0, 0, 1)
    )
    weights = [dict(a.built.model.named_parameters()) for a in (one, same, other)]
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])
    assert torch.equal(one.built.reference[name], weights[0][name])
    batches = [fitted(a)[0] for a in (one, same, other)]
    assert torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])
    masks = []
    for assembly in (one, other):
        module = assembly.module
        batch = next(iter(assembly.loaders["test"]))
        assembly.trainer.test(module, assembly.loaders["test"], verbose=False)
        assert not assembly.trainer.training
        masks.append(module.on_before_batch_transfer(batch, 0))
    assert torch.equal(masks[0]["input_ids"], masks[1]["input_ids"])


@pytest.mark.parametrize("step", [3])
def test_a_killed_pretraining_goes_on_bit_for_bit(
    make_run: Make, text: str, tmp_path: Path, step: int
) -> None:
    short = ("optim.batch_size=7", "optim.steps=8", "optim.lr=3e-3")
    compare(lambda: make_run(*MLM, text, *short), tmp_path, step)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 5, 6])
def test_wherever_it_was_killed(make_run: Make, text: str, tmp_path: Path, step: int) -> None:
    test_a_killed_pretraining_goes_on_bit_for_bit(make_run, text, tmp_path, step)


@pytest.mark.parametrize("kind", [MLM, RTD], ids=["mlm", "rtd"])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(
    make_assembly: Make, text: str, kind: tuple[str, ...]
) -> None:
    def weights(*more: str) -> Any:
        assembly = make_assembly(
            *kind, text, "optim.steps=3", "model.dropout=0", "model.attention_dropout=0", *more
        )
        fitted(assembly)
        return dict(assembly.built.model.named_parameters())

    whole, parts = weights(), weights("trainer.micro_batch=3")
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=2e-5), name


def test_fine_tuning_starts_from_it(make_run: Make, text: str, tmp_path: Path) -> None:
    """By its key, and as a folder that plain transformers loads."""
    from transformers import AutoModelForMaskedLM

    root = tmp_path / "runs"
    run = make_run(*MLM, text, "optim.steps=2", "keep=last")
    assert done(run, root).status == "done"
    folder = root / run.key / "checkpoint" / "last"
    plain, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    name = "bert.encoder.layer.1.output.dense.weight"
    tuned = ("task=gad", "device=cpu", "optim.steps=1", "optim.lr=1e-30")
    for start in (
        ("model=tiny", f"model.init_from={run.key}"),
        ("model=auto", f"model.path={folder}"),
    ):
        record = done(make_run(*tuned, *start, "keep=last"), root)
        assert record.status == "done"
        kept = root / record.key / "checkpoint" / "last"
        from safetensors.torch import load_file

        assert torch.allclose(
            load_file(kept / "model.safetensors")[name], plain.get_parameter(name)
        )


def test_what_does_not_go_together_is_one_sentence(make_run: Make, text: str) -> None:
    from bluestab.core.errors import ConfigError

    for more, said in (
        (("model.head=mean",), "model.head is mean, but task 'text' pretrains"),
        (("trainer.engine=packed",), "what the task masks is drawn for each run by itself"),
        (("technique=label_smoothing",), "label_smoothing"),
        (("task=rtd",), "detects replaced pieces, as family electra does, but tiny is of family"),
        (("task=rtd", "model=tiny_electra", "task.detection_weight=0"), "task.detection_weight is"),
    ):
        with pytest.raises(ConfigError) as error:
            make_run("task=mlm", "model=tiny", text, "device=cpu", *more)
        (problem,) = error.value.problems
        assert said in problem


def test_on_two_devices_the_same_pieces_are_masked(
    make_run: Make, text: str, tmp_path: Path
) -> None:
    """Two processes are the run with two micro-batches on one device, equal to rounding."""
    shape = ("optim.batch_size=8", "optim.steps=4", "optim.lr=1e-3")
    curves = {}
    for name, knob in (("one", "trainer.micro_batch=4"), ("two", "trainer.devices=2")):
        run = make_run(*MLM, text, *shape, knob)
        record = done(run, tmp_path / name)
        assert record.status == "done"
        curves[name] = pd.read_csv(tmp_path / name / run.key / "curve.csv").to_numpy(dtype=float)
    np.testing.assert_allclose(curves["two"], curves["one"], rtol=1e-4, atol=1e-5)


def test_a_report_reads_runs_whose_predictions_are_lists_of_numbers() -> None:
    import pyarrow as pa

    from bluestab.report.frames.instability import _measured

    rows = [{"at": "last", "id": "a", "prediction": [0.5, 1.0], "target": 0.0, "logits": [0.5]}]
    assert _measured([pa.Table.from_pylist(rows)] * 2) == {}


@pytest.mark.slow
def test_a_sweep_over_seeds_of_pretraining_is_reported(cli: Any, text: str) -> None:
    said = cli(
        "run", "-m", "task=mlm", "model=tiny", text, "device=cpu", "optim.steps=2",
        "task.validation_size=0.2", "task.test_size=0.2", "sweep.seeds=2", "keep=last",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "perplexity, lower is better" in said.out
    (key, *_) = (p.name for p in Path("runs").iterdir() if len(p.name) == 16)
    for verb in (("predict", key, "--input", "x", "--output", "y"), ("export", key, "--out", "e")):
        Path("x").write_text("a", encoding="utf-8")
        refused = cli(*verb)
        assert refused.code == 2
        assert "is a pretrained encoder, which answers no question" in refused.err
