"""Heads on one vector per text: by hand, on every family, kept and read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.types import SEQUENCE  # noqa: E402
from bluestab.models.heads import last_blocks, pooled  # noqa: E402
from bluestab.models.networks import load  # noqa: E402
from bluestab.models.tokenizers import load_tokenizer  # noqa: E402
from tests.store.test_artefacts import reproducing  # noqa: E402
from tests.support.model_yamls import FAMILIES, SENTENCES, model_of, sharpened  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
HEADS = ("mean", "max", "attention", "average:2", "concat:2", "concat:1")
SHORT = ("device=cpu", "optim.batch_size=8", "optim.steps=6", "trainer.eval_every=3")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")


def test_vectors_by_hand() -> None:
    lower = torch.tensor([[[1.0, 2.0], [3.0, 8.0], [9.0, 9.0]]], dtype=torch.float64)
    upper = torch.tensor([[[5.0, -2.0], [-1.0, 4.0], [7.0, 7.0]]], dtype=torch.float64)
    upper[0, 2] = torch.nan  # padding must not be looked at
    mask = torch.tensor([[1, 1, 0]])
    found = {
        kind: pooled(kind, [lower, upper], mask, torch.tensor([[0.0, 0.0, 5.0]])).tolist()
        for kind in ("mean", "max", "attention", "average", "concat")
    }
    assert found == {
        "mean": [[2.0, 1.0]],
        "max": [[5.0, 4.0]],
        "attention": [[2.0, 1.0]],
        "average": [[3.0, 0.0]],
        "concat": [[1.0, 2.0, 5.0, -2.0]],
    }
    sharp = pooled("attention", [upper], mask, torch.tensor([[0.0, 3.0, 9.0]]).double().log1p())
    assert sharp[0].tolist() == pytest.approx([(5.0 - 4.0) / 5, (-2.0 + 16.0) / 5])


def test_last_blocks() -> None:
    assert [last_blocks(h) for h in ("mean", "concat:4")] == [("mean", 1), ("concat", 4)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_pooled_heads_are_one_layer_on_that_vector(family: str, head: str) -> None:
    model = model_of(FAMILIES[family], head=head)
    loaded = load(model, head=SEQUENCE, n_labels=3, attention="eager")
    last = "classifier.out_proj" if family in ("electra", "roberta") else "classifier"
    expected_fresh = {f"{last}.weight", f"{last}.bias"}
    network = sharpened(loaded.network).eval()
    scores = [n for n in loaded.fresh if n.endswith("score.weight")]
    assert len(scores) == (head == "attention")
    assert loaded.fresh == expected_fresh | set(scores)
    assert set(loaded.layers.names(loaded.layers.top)) - loaded.fresh <= {"model.final_norm.weight"}
    batch = load_tokenizer(model)(SENTENCES, padding=True, return_tensors="pt")
    assert (batch["attention_mask"] == 0).any()
    with torch.no_grad():
        out = network.base_model(**batch, output_hidden_states=True)
        states = list(out.hidden_states[-2:])
        if family == "modernbert":
            states[0] = network.base_model.final_norm(states[0])
        states[1] = out.last_hidden_state
        score = None
        if scores:
            weight = network.get_parameter(scores[0])
            score = (states[1] @ weight[0]).squeeze(-1)
        kind, k = last_blocks(head)
        vector = pooled(kind, states[-k:], batch["attention_mask"], score)
        expected = network.get_submodule(last)(vector)
        logits = network(**batch).logits
        assert torch.allclose(logits, expected, atol=1e-6)
        alone = load_tokenizer(model)(SENTENCES[1], return_tensors="pt")
        assert torch.allclose(network(**alone).logits[0], logits[1], atol=1e-5), "padding is unseen"
        # transformers' own arguments by position
        by_place = network(batch["input_ids"], batch["attention_mask"])
        if "token_type_ids" not in batch or not batch["token_type_ids"].any():
            assert torch.equal(by_place.logits, logits)
        # the only dropout outside the encoder is that before the layer
        network.train()
        network.base_model.eval()
        assert not torch.equal(network(**batch).logits, network(**batch).logits)
    for path in loaded.head_modules:
        network.get_submodule(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_copy_hears_its_own_blocks(family: str) -> None:
    """A network is a deep copy of a shared one: hooks must not reach into another's."""
    model = model_of(FAMILIES[family], head="attention")
    one, other = (load(model, head=SEQUENCE, n_labels=2, attention="eager") for _ in range(2))
    batch = load_tokenizer(model)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        one.network.eval()
        other.network.eval()
        before = one.network(**batch).logits
        for parameter in other.network.parameters():
            parameter.add_(torch.randn(parameter.shape))
        changed = other.network(**batch).logits
        assert torch.equal(one.network(**batch).logits, before)
    assert not torch.allclose(changed, before)


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert"])
@pytest.mark.parametrize("head", ["attention", "concat:2"])
def test_a_pooled_head_is_kept_and_reproduces_the_record(
    make_run: Make, tmp_path: Path, model: str, head: str
) -> None:
    line = ("task=gad", f"model={model}", *SHORT, "keep=last")
    run = make_run(*line, f"model.head='{head}'", "optim.lr=1e-2")
    record = done(run, tmp_path / "runs")
    assert record.status == "done"
    assert record.result["config"]["head"] == head
    kept = reproducing(run, tmp_path / "runs" / record.key)
    with pytest.raises(ConfigError, match=rf"trained with model\.head={head}, but .* is mean"):
        load(replace(kept, head="mean"), head=SEQUENCE, n_labels=2, attention="eager")


@pytest.mark.parametrize("model", ["tiny", "tiny_modernbert"])
@pytest.mark.parametrize("task", ["biosses", "hoc"])
@pytest.mark.parametrize("head", HEADS)
def test_they_train_in_bf16_with_techniques(
    make_assembly: Make, task: str, model: str, head: str
) -> None:
    assembly = make_assembly(
        f"task={task}", f"model={model}", "device=cpu", "optim.steps=2", f"model.head='{head}'",
        "trainer.precision=bf16", "technique=[llrd,rdrop]",
    )  # fmt: skip
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    trained = assembly.trained()
    assert assembly.built.fresh <= trained.moved
    assert trained.forwards == 4
    assert assembly.history.rows[-1]["step"] == 2


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("maen", "did you mean 'mean'"),
        ("concat:K", "model.head is 'concat:K'"),
        ("concat:0", "model.head is 'concat:0'"),
        ("average:3", "tiny has 2 blocks: expected average:1 to average:2"),
    ],
)
def test_heads_that_are_none(make_run: Make, head: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_run("task=gad", "model=tiny", f"model.head='{head}'")
    (problem,) = caught.value.problems
    assert expected in problem


def test_words_have_no_vector_of_the_text(make_run: Make) -> None:
    with pytest.raises(ConfigError, match=r"model\.head is mean, one vector per text, but task"):
        make_run("task=ncbi_disease", "model=tiny", "model.head=mean")
    make_run("task=ncbi_disease", "model=tiny", "model.head=linear")
