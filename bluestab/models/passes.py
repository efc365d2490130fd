"""Passes through the network: what it is called with, and for further passes inside a training
step their dropout, their noise, their perturbed embeddings.

The trainer starts torch's streams anew for every step and micro-batch, from a seed that names both.
All that is random here is derived from that seed, `torch.initial_seed()`: it needs no counter, a
resumed run finds it again, and the first pass of a step drops what it drops in any arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from bluestab.core.seeding import restore_torch_streams, stream_seed, torch_streams

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bluestab.core.types import Batch

Noise = Literal["normal", "uniform"]
NOISES: tuple[Noise, ...] = ("normal", "uniform")


PREFIX = "frozen_output"
"""Entry of a batch, (B, T, H): what the frozen blocks give for it (`loop/frozen_prefix.py`)."""
IMAGES = "images"
"""Entry of a batch, what the network looks at (`models/vision.py`): (B, 3, S, S) uint8, or pieces
(B, P, width) of a frozen tower."""
POSITIONS = "positions"
"""Entry of a batch, (B, K): the word pieces of each row whose logits count; all, if it is absent.
Their labels are (B, K), too."""
MASKED_AT, ORIGINALS, DRAWS = "masked_at", "originals", "draws"
"""Entries of a batch whose pieces a generator replaces, (B, K) each: where, what stood there
(IGNORED where a row has fewer), and a number in [0, 1) for each that decides what comes instead."""
MASKED_SCALE = "masked_scale"
"""Entry of a batch, (B,): real pieces of the batch for each masked one."""
PER_PIECE = (
    *("input_ids", "attention_mask", "token_type_ids", PREFIX, POSITIONS),
    *(MASKED_AT, ORIGINALS, DRAWS),
)
"""Entries whose second dimension counts pieces of a row, labels apart."""
NOT_FOR_THE_MODEL = (
    *("labels", "items", PREFIX, POSITIONS, MASKED_AT, ORIGINALS, DRAWS, MASKED_SCALE),
)


def inputs_of(batch: Batch) -> dict[str, Any]:
    """What of a batch the network is called with."""
    return {name: value for name, value in batch.items() if name not in NOT_FOR_THE_MODEL}


def model_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Logits in float32: (B, C) for sequences, (B, T, C) for tokens, (B, K, C) at the positions
    that a batch names.

    These, and the output of frozen blocks that the batch brings along, are at hand while the
    network runs.
    """
    with ExitStack() as held:
        for name in (PREFIX, MASKED_AT, ORIGINALS, DRAWS):
            if name in batch:
                held.enter_context(at_hand(model, name, batch[name]))
        if POSITIONS in batch:
            held.enter_context(at_hand(model.base_model, POSITIONS, batch[POSITIONS]))
        return model(**inputs_of(batch)).logits.float()  # type: ignore[no-any-return]


@contextmanager
def at_hand(module: Any, name: str, value: torch.Tensor) -> Iterator[None]:
    """Let a module find a value at itself, by this name."""
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name)


def read_at_positions(network: nn.Module) -> None:
    """Let the head of a transformers network see, of what its encoder gives, the positions of a
    batch alone: the last layer of a language model is as wide as its vocabulary, and the logits of
    pieces that were not masked are read by nobody (as in the original BERT, `gather_indexes`)."""

    def chosen(encoder: nn.Module, inputs: Any, output: Any) -> Any:
        positions = getattr(encoder, POSITIONS, None)
        if positions is None:
            return output
        states = output[0]  # (B, T, H)
        at = positions.unsqueeze(-1).expand(-1, -1, states.shape[-1])
        output["last_hidden_state"] = states.gather(1, at)
        return output

    network.base_model.register_forward_hook(chosen)  # type: ignore[union-attr]


def text_mask(batch: Batch) -> torch.Tensor:
    """1 at real word pieces, (texts, T): of items with several texts, one row for each."""
    return batch["attention_mask"].flatten(0, -2)  # type: ignore[no-any-return]


def device_of(batch: Batch) -> torch.device:
    return batch["input_ids"].device  # type: ignore[no-any-return]


# --- dropout -------------------------------------------------------------------------------------


@contextmanager
def replay_dropout_stream(
    start: Mapping[str, torch.Tensor], device: torch.device
) -> Iterator[None]:
    """Replay the dropout of the pass whose streams stood at `start`; restores the streams after."""
    now = torch_streams(device)
    restore_torch_streams(start, device)
    try:
        yield
    finally:
        restore_torch_streams(now, device)


@contextmanager
def fork_dropout_stream(device: torch.device, *names: str | int) -> Iterator[None]:
    """Draw dropout from another stream of this step, called `names`; restores the streams after."""
    import torch

    now = torch_streams(device)
    torch.manual_seed(stream_seed(torch.initial_seed(), *names))
    try:
        yield
    finally:
        restore_torch_streams(now, device)


# --- embeddings ----------------------------------------------------------------------------------


def word_embeddings(model: nn.Module) -> nn.Module:
    """The table that word pieces are looked up in: every family of transformers names it."""
    return model.get_input_embeddings()  # type: ignore[no-any-return, operator]


@contextmanager
def perturbed(model: nn.Module, delta: torch.Tensor) -> Iterator[None]:
    """Add `delta` (B, T, E) to what the table of word embeddings gives, in every pass inside.

    A hook, not `inputs_embeds`: the step and its batch stay what they are, so that other techniques
    wrap and are wrapped alike, and RoBERTa still reads its positions off the word pieces, which
    embeddings alone would not tell it.
    """
    import torch

    def add(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        more = output.shape[1] - delta.shape[1]  # Longformer fills up its last window
        padded = torch.nn.functional.pad(delta, (0, 0, 0, more)) if more > 0 else delta
        if output.shape != padded.shape:
            raise RuntimeError(
                f"word embeddings have shape {tuple(output.shape)}, their perturbation "
                f"{tuple(delta.shape)}: try another attention kernel (trainer.attention)"
            )
        return output + padded

    hook = word_embeddings(model).register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def noise(model: nn.Module, batch: Batch, law: Noise, *names: str | int) -> torch.Tensor:
    """Noise of size 1 for each word embedding, (B, T, E), 0 at padding, from this step's stream
    `names`: standard normal, or uniform in [-1, 1]. B counts texts, where items have several."""
    import torch

    table: Any = word_embeddings(model).weight
    device = device_of(batch)
    random = torch.Generator(device).manual_seed(stream_seed(torch.initial_seed(), *names))
    real = text_mask(batch)
    drawn: torch.Tensor = torch.empty(
        (*real.shape, table.shape[1]), device=device, dtype=table.dtype
    )
    if law == "normal":
        drawn.normal_(generator=random)
    else:
        drawn.uniform_(-1.0, 1.0, generator=random)
    return drawn * real.unsqueeze(-1)


BF16_VISIBLE = 1e-2
"""Perturbations of an entry smaller than this change an answer less than rounding in bfloat16."""


def rounding_problem(cfg: Mapping[str, Any], sizes: Mapping[str, float]) -> list[str]:
    """A sentence if one of these sizes (knob -> value) cannot be seen in the asked precision."""
    small = [f"{knob} is {size!r}" for knob, size in sizes.items() if size < BF16_VISIBLE]
    if str(cfg["trainer"]["precision"]) != "bf16" or not small:
        return []
    return [
        f"{', '.join(small)} with trainer.precision=bf16: its effect would drown in rounding; "
        f"expected {BF16_VISIBLE:g} or more, or trainer.precision=32"
    ]


# --- gradients inside a step ---------------------------------------------------------------------


def gradients(
    loss: torch.Tensor, inputs: Sequence[torch.Tensor]
) -> tuple[torch.Tensor | None, ...]:
    """Gradient of a scalar for each input (None: it has none), outside autocast, as the trainer's
    own backward pass is. The graph is gone afterwards."""
    import torch

    with torch.autocast(loss.device.type, enabled=False):
        found = torch.autograd.grad(loss, inputs, allow_unused=True)
    torch.clear_autocast_cache()
    return found


def with_gradients(
    value: torch.Tensor, parameters: Sequence[torch.Tensor], known: Sequence[torch.Tensor | None]
) -> torch.Tensor:
    """A scalar equal to `value` whose backward pass hands each parameter the `known` gradient.

    So a step may go backward by itself, and free the memory, and still return a loss that others
    scale (share of a micro-batch) or add to.
    """
    import torch

    class Known(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, *outer: torch.Tensor) -> Any:
            return (None, *(outer[0] * gradient for _, gradient in pairs))

    pairs = [(p, g) for p, g in zip(parameters, known, strict=True) if g is not None]
    return Known.apply(value.detach(), *(p for p, _ in pairs))  # type: ignore[no-any-return, no-untyped-call]
