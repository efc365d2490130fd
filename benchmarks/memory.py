"""Bytes of a training step, counted, and its seconds: plain, frozen, LoRA, recomputed, SlimFit.

    python benchmarks/memory.py [--shapes base large] [--batches 32x128 8x512] [--steps 40]
    python benchmarks/memory.py --seconds 2 [--device cuda] [ARM ...]    and time real steps

BERT with random weights, float32, eager attention, AdamW, one label per text; all arms alike in
every knob but their own. Counted as in every record (`training/loop/counted_memory.py`) on tensors
without numbers (`meta`), which costs no arithmetic: what is saved depends on shapes alone, as on a
CPU (a GPU keeps the masks of dropout as one byte per number, not four, if they are not compressed).
Which units SlimFit freezes does depend on numbers: real steps of the same network with 2 texts of
16 pieces choose them, and the count goes through the same choice. Two figures: the peak of the
whole run, and (after) that of the steps after every unit was tried once. Recomputed blocks
(`checkpointing`) count with their inputs alone: a block's own activations come on top.
Seconds: of the CPU, or of the clock on a GPU; the mean over real steps but the first.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import nn

from bluestab.core.config import compose, resolved
from bluestab.core.instantiate import instantiate
from bluestab.core.seeding import Seeds
from bluestab.core.spaces import SEARCH_SPACE
from bluestab.models.activations import Compression, saving
from bluestab.models.built import Built
from bluestab.models.layers import layer_map
from bluestab.techniques.base import Technique
from bluestab.training.loop.counted_memory import Ledger, moment_bytes
from bluestab.training.prepare import apply_to_model, build_optimizer, finished_plan

SHAPES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 256, "vocab_size": 1000},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
             "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
              "intermediate_size": 4096},
}  # fmt: skip
COMPRESSED = "trainer.activations=compressed"


def slimfit(rate: float, *more: str) -> tuple[str, ...]:
    return ("technique=slimfit", f"technique.slimfit.rate={rate}", *more)


DROP = "technique.slimfit.moments=drop"
ARMS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "compressed": (COMPRESSED,),
    "freeze": ("technique=freeze", "technique.freeze.depth={below}"),
    "lora": ("technique=lora",),
    "checkpointing": ("trainer.gradient_checkpointing=true",),
    **{f"slimfit {r}": slimfit(r) for r in (0.8, 0.9, 0.95)},
    **{f"slimfit {r} compressed": slimfit(r, COMPRESSED) for r in (0.8, 0.9, 0.95)},
    **{f"slimfit {r} compressed drop": slimfit(r, COMPRESSED, DROP) for r in (0.8, 0.9, 0.95)},
}
"""`freeze` leaves the top block and the pooler: as many tensors as SlimFit at 0.9, nearly."""


@dataclass
class Setup:
    """A network with its technique and optimizer, ready for steps."""

    cfg: Mapping[str, Any]
    built: Built
    techniques: Sequence[Technique]
    optimizer: torch.optim.Optimizer
    ledger: Ledger
    callbacks: Sequence[Any]


def set_up(shape: str, arm: str, device: str) -> Setup:
    from transformers import BertConfig, BertForSequenceClassification

    size = SHAPES[shape]
    n_layers = size["num_hidden_layers"]
    asked = [o.format(below=n_layers - 1) for o in ARMS[arm]]
    # a model of these blocks is named for its facts alone; its weights are not read
    cfg = resolved(compose(["task=gad", "model=tiny", "optim.lr=5e-5", *asked]))
    torch.manual_seed(0)
    config = BertConfig(**size, num_labels=2, attn_implementation="eager")
    model: Any = BertForSequenceClassification(config).train()
    layers = layer_map(
        [name for name, _ in model.named_parameters()],
        encoder="bert",
        embeddings=["embeddings"],
        blocks="encoder.layer",
        above=["pooler"],
        n_layers=n_layers,
    )
    built = Built(
        model=model,
        layers=layers,
        fresh=frozenset(layers.head),
        reference={},
        initialise=lambda name, random: None,
        loss=lambda logits, batch: nn.functional.cross_entropy(logits, batch["labels"]),
    )
    if "lora" in cfg["technique"]:
        built.reference.update({n: p.detach() for n, p in model.named_parameters()})  # type: ignore[attr-defined]
    techniques = [
        instantiate({k: v for k, v in node.items() if k != SEARCH_SPACE}, Technique, name)
        for name, node in cfg["technique"].items()
    ]
    built = apply_to_model(techniques, built, Seeds(0, 0, 0, 0))
    plan = finished_plan(techniques, built, cfg["optim"]["weight_decay"])
    if cfg["trainer"]["gradient_checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.to(device)
    optimizer = build_optimizer(built, plan, cfg["optim"])
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    callbacks = [c for technique in techniques for c in technique.callbacks(built)]
    ledger = Ledger(model, lambda: moment_bytes(optimizer))
    return Setup(cfg, built, techniques, optimizer, ledger, callbacks)


def batch_of(items: int, pieces: int, device: str, step: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(step)
    ids = torch.randint(0, 1000, (items, pieces), generator=random)
    labels = torch.randint(0, 2, (items,), generator=random)
    return {"input_ids": ids.to(device), "labels": labels.to(device)}


def update(setup: Setup, device: str) -> None:
    """One of the optimizer; where there are no numbers, the moments that it would have."""
    if device != "meta":
        setup.optimizer.step()
        return
    for group in setup.optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None and p not in setup.optimizer.state:
                setup.optimizer.state[p] = {
                    name: torch.empty_like(p) for name in ("exp_avg", "exp_avg_sq")
                }


def steps(
    setup: Setup, n: int, items: int, pieces: int, device: str, replay: Sequence[set[str]] | None
) -> Iterator[set[str]]:
    """Train; gives the names of what was frozen in each step.

    replay  what is to be frozen in each, where no numbers can say
    """
    model, optimizer, ledger = setup.built.model, setup.optimizer, setup.ledger
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    trainer: Any = SimpleNamespace(global_step=0, max_steps=n, optimizers=[optimizer])
    how = Compression.of(setup.cfg["trainer"])
    for step in range(n):
        trainer.global_step = step
        if replay is not None:
            for name, p in named.items():
                p.requires_grad_(name not in replay[step])
                if getattr(setup.techniques[0], "moments", "") == "drop" and name in replay[step]:
                    optimizer.state.pop(p, None)
        elif device != "meta":
            for callback in setup.callbacks:
                callback.on_train_batch_start(trainer)
        frozen = {name for name, p in named.items() if not p.requires_grad}
        optimizer.zero_grad()
        ledger.look()
        batch = batch_of(items, pieces, device, step)
        with saving(how, ledger):
            logits = model(input_ids=batch["input_ids"]).logits
            loss = setup.built.loss(logits, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if replay is None and device != "meta":
            for callback in setup.callbacks:
                callback.on_before_optimizer_step(trainer, None, optimizer)
        update(setup, device)
        ledger.look()
        if replay is None and device != "meta":
            for callback in setup.callbacks:
                callback.on_train_batch_end(trainer)
        yield frozen


@cache
def choices(shape: str, rate: str, n: int) -> list[set[str]]:
    """Step -> what SlimFit freezes in it, from real steps on short texts."""
    found = list(steps(set_up(shape, f"slimfit {rate}", "cpu"), n, 2, 16, "cpu", None))
    gc.collect()
    return found


def counted(shape: str, arm: str, items: int, pieces: int, n: int) -> list[dict[str, int]]:
    """Bytes over the whole run, and after every unit was tried."""
    replay = choices(shape, arm.split()[1], n) if "slimfit" in arm else None
    setup = set_up(shape, arm, "meta")
    n = 3 if replay is None else n
    every = {name for frozen in replay or () for name in frozen}
    tried: set[str] = set()
    whole: list[dict[str, int]] = []
    for frozen in steps(setup, n, items, pieces, "meta", replay):
        tried |= every - frozen
        if replay is not None and tried == every and not whole:
            whole.append(_report(setup))
            setup.ledger.restart()
    later = _report(setup)
    if not whole:
        return [later, later]
    peak = max(whole[0], later, key=lambda report: report["total"])
    most = max(whole[0]["most saved"], later["most saved"])
    return [{**peak, "most saved": most}, later]


def _report(setup: Setup) -> dict[str, int]:
    return {**setup.ledger.report(), "most saved": setup.ledger.most_saved}


def seconds(shape: str, arm: str, items: int, pieces: int, n: int, device: str) -> float:
    """Of one real step."""
    setup = set_up(shape, arm, device)
    on_gpu = device.startswith("cuda")

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    ticks = [now() for _ in steps(setup, n + 1, items, pieces, device, None)]
    return (ticks[-1] - ticks[0]) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arms", nargs="*", metavar="ARM", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["base"])
    parser.add_argument("--batches", nargs="+", default=["32x128"], metavar="ITEMSxPIECES")
    parser.add_argument("--steps", type=int, default=40, help="of SlimFit; the others are alike")
    parser.add_argument("--seconds", type=int, default=0, help="real steps to time; 0: none")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    if wrong := [arm for arm in asked.arms if arm not in ARMS]:
        sys.exit(f"no arm {wrong[0]!r}; there are {', '.join(ARMS)}")
    torch.set_num_threads(1)
    arms = asked.arms or list(ARMS)
    for shape in asked.shapes:
        for batch in asked.batches:
            items, pieces = map(int, batch.split("x"))
            print(
                f"\nBERT-{shape}, {items} x {pieces}, float32; MB (2^20 bytes), over the whole run"
            )
            print("(saved: at most; where the total is largest it may be less)")
            print(
                f"{'arm':30} {'weights':>8} {'grads':>7} {'moments':>8} {'saved':>8} {'unpack':>7} "
                f"{'total':>8} {'ratio':>6} {'saved/':>7} | {'after':>8} {'ratio':>6} {'s/step':>7}"
            )
            base: list[dict[str, int]] = []
            for arm in arms:
                whole, after = counted(shape, arm, items, pieces, asked.steps)
                base = base or [whole, after]
                took = (
                    f"{seconds(shape, arm, items, pieces, asked.seconds, asked.device):7.2f}"
                    if asked.seconds
                    else ""
                )
                mb = {part: n_bytes / 2**20 for part, n_bytes in whole.items()}
                print(
                    f"{arm:30} {mb['weights']:8.0f} {mb['gradients']:7.0f} {mb['moments']:8.0f} "
                    f"{mb['most saved']:8.0f} {mb['unpacked']:7.0f} {mb['total']:8.0f} "
                    f"{base[0]['total'] / whole['total']:6.2f} "
                    f"{base[0]['most saved'] / whole['most saved']:7.2f} | "
                    f"{after['total'] / 2**20:8.0f} "
                    f"{base[1]['total'] / after['total']:6.2f} {took}",
                    flush=True,
                )
                gc.collect()


if __name__ == "__main__":
    main()
