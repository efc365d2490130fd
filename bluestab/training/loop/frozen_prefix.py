"""The frozen lower part of a network, computed once: its output is a constant of the data.

With `freeze` and its `eval_mode`, nothing below block k trains or drops units, so that what block k
gives for a text is the same in every epoch, seed, trial and process. It is computed once per text,
in evaluation batches, kept on disk beside the word pieces (`data/cache.py`) and memory-mapped; the
blocks up to k then pass on what a batch brings along. Masks and positions still come from the
model. What a run computes differs from computing it anew by float rounding.

Whether a network has such a part is read off the network, not off the names of techniques:
parameters that train, dropout that is on, or a hook below k rule it out.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from bluestab.core.types import Split
from bluestab.data import cache
from bluestab.models.built import Built
from bluestab.models.param_plan import ParamPlan
from bluestab.models.passes import PREFIX, inputs_of, word_embeddings
from bluestab.techniques.base import Technique
from bluestab.training.loop.batches import evaluation_batches, loader
from bluestab.training.loop.observed import pinned_modules

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

log = logging.getLogger("bluestab")

FOLDER = "hidden_states"
FAMILIES = ("bert", "electra", "roberta", "modernbert", "xlm-roberta", "camembert")
"""Families whose blocks run once per pass, give a tensor and nothing beside it, and whose masks
come from the model: in others the frozen blocks are computed in every step."""
FORMAT = 1
"""Part of every key: bumped when what is stored, or how it is computed, changes."""


@dataclass(frozen=True)
class Prefix:
    """Embeddings and blocks 1..depth of `built.model`: nothing in them trains, drops units or has
    hooks.

    digest  SHA-256 of its weights and of the model's config
    """

    depth: int
    digest: str


def find_prefix(built: Built, plan: ParamPlan, techniques: Sequence[Technique]) -> Prefix | None:
    """The constant part of the network as techniques left it; None if not even one block is."""
    if getattr(built.model.config, "model_type", None) not in FAMILIES:
        return None
    if any(technique.reads_embeddings and not technique.is_neutral() for technique in techniques):
        return None
    model, layers = built.model, built.layers
    paths = [path for depth in range(layers.n_layers + 1) for path in layers.modules[depth]]
    still = set(pinned_modules(model, paths))
    depth = 0
    for at in range(layers.n_layers + 1):
        own = layers.modules[at]
        if not still.issuperset(own) or any(plan[name].trainable for name in layers.names(at)):
            break
        if any(_has_hooks(part) for path in own for part in list(_parts(model, path))[1:]):
            break
        depth = at
        if any(_has_hooks(model.get_submodule(path)) for path in own):
            break  # what the block itself gives is what will be supplied; below it, it is not
    return Prefix(depth, _digest(built, depth)) if depth > 0 else None


def _parts(model: nn.Module, path: str) -> Iterator[nn.Module]:
    return model.get_submodule(path).modules()


def _has_hooks(module: nn.Module) -> bool:
    """Whether a module has forward or backward hooks, or parametrizations."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks) or hasattr(module, "parametrizations")


def _digest(built: Built, depth: int) -> str:
    digest = hashlib.sha256(built.model.config.to_json_string().encode())  # type: ignore[union-attr, operator]
    inside = [path for at in range(depth + 1) for path in built.layers.modules[at]]
    for path in inside:
        for name, value in built.model.get_submodule(path).state_dict().items():
            digest.update(f"{path} {name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class _StopForward(Exception):
    """Ends a forward pass after the last block of the prefix: the layers above are not needed."""


class States:
    """The prefix's output for every row of a tokenised split: float32, memory-mapped.

    values   (all word pieces, H)
    lengths  word pieces of each row
    """

    def __init__(self, values: np.ndarray, lengths: Sequence[int]) -> None:
        self.values = values
        self.ends = np.cumsum(lengths)
        self.lengths = np.asarray(lengths)

    def batch(self, rows: Sequence[int], width: int) -> torch.Tensor:
        """(B, width, H) of these rows; 0 at padding, which no block attends to."""
        found = torch.zeros((len(rows), width, self.values.shape[1]))
        for place, row in enumerate(rows):
            end, length = self.ends[row], self.lengths[row]
            found[place, :length] = torch.from_numpy(self.values[end - length : end].copy())
        return found


def states_of(
    prefix: Prefix,
    built: Built,
    table: Dataset,
    *,
    pad_token_id: int,
    batches: list[list[int]],
    precision: str,
    attention: str,
    budget: float,
) -> States | None:
    """What the prefix gives for a tokenised split, from the disk or computed (and kept).

    batches  rows that pass together, from the shortest to the longest
    budget  GB of disk for all such files together; older ones go to make room. None, and a word in
            the log, where this one alone would be larger.
    """
    lengths = [len(pieces) for pieces in table["input_ids"]]
    hidden = int(built.model.config.hidden_size)  # type: ignore[union-attr, arg-type]
    n_bytes = 4 * hidden * sum(lengths)
    if n_bytes > budget * 1e9:
        log.info(
            "the output of the frozen blocks takes %.1f GB, trainer.prefix_gb allows %g: they are "
            "computed in every step",
            n_bytes / 1e9,
            budget,
        )
        return None
    device = next(built.model.parameters()).device
    key = cache.key_of(
        {
            "prefix": FORMAT,
            "depth": prefix.depth,
            "weights": prefix.digest,
            "pieces": _content(table),
            "padding": pad_token_id,
            "batches": [len(rows) for rows in batches],
            "precision": precision,
            "attention": attention,
            "device": device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
    )

    def compute() -> pa.Table:
        return _compute(prefix, built, table, pad_token_id, batches, precision)

    found = cache.cached(key, compute, folder=FOLDER, budget=budget)
    values = found["states"].combine_chunks().flatten().to_numpy(zero_copy_only=True)
    return States(values.reshape(-1, hidden), lengths)


def _content(table: Dataset) -> str:
    """SHA-256 of the word pieces as the model is given them."""
    digest = hashlib.sha256()
    for name in ("input_ids", "token_type_ids"):
        if name in table.column_names:
            rows = table[name]
            digest.update(np.asarray([len(row) for row in rows], dtype=np.int64).tobytes())
            flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
            digest.update(flat.tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _compute(
    prefix: Prefix,
    built: Built,
    table: Dataset,
    pad_token_id: int,
    batches: list[list[int]],
    precision: str,
) -> pa.Table:
    import pyarrow as pa

    model, device = built.model, next(built.model.parameters()).device
    rows: list[np.ndarray | None] = [None] * len(table)
    outputs: list[torch.Tensor] = []

    def note(block: nn.Module, args: Any, output: Any) -> None:
        outputs.append(output if isinstance(output, torch.Tensor) else output[0])
        raise _StopForward

    was_training = model.training
    handle = _block(built, prefix.depth).register_forward_hook(note)
    model.eval()
    try:
        for batch in loader(table, pad_token_id, batch_sampler=batches):
            on_device = {name: value.to(device) for name, value in batch.items()}
            try:
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                    model(**inputs_of(on_device))
            except _StopForward:
                pass
            states = outputs.pop().float().cpu().numpy()
            for row, vectors, mask in zip(
                batch["items"].tolist(), states, batch["attention_mask"].numpy(), strict=True
            ):
                rows[row] = vectors[: int(mask.sum())]
    finally:
        handle.remove()
        model.train(was_training)
    values = np.concatenate([row for row in rows if row is not None])
    flat = pa.array(values.reshape(-1), type=pa.float32())
    return pa.table({"states": pa.FixedSizeListArray.from_arrays(flat, values.shape[1])})


def _block(built: Built, depth: int) -> nn.Module:
    path, *_ = built.layers.modules[depth]  # behind it, what was inserted after the block
    return built.model.get_submodule(path)


def replace_by_passthrough(prefix: Prefix, built: Built) -> None:
    """Replace the forward passes of the prefix's blocks: the last returns the states that come with
    the batch (`supplied`), those below return their input. Their weights stay."""
    model = built.model
    for depth in range(1, prefix.depth + 1):
        block = _block(built, depth)
        block.forward = _pass_through if depth < prefix.depth else _given(model)


def _pass_through(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return hidden_states


def _given(model: nn.Module) -> Callable[..., torch.Tensor]:
    def given(*_: Any, **__: Any) -> torch.Tensor:
        states: torch.Tensor | None = getattr(model, PREFIX, None)
        if states is None or _has_hooks(word_embeddings(model)):
            raise RuntimeError(
                "the output of the frozen blocks was computed before, but the network was called "
                "with another input, or without it: set trainer.prefix_cache=false (a technique "
                "that does this should say `reads_embeddings`)"
            )
        return states

    return given


def frozen_states(
    knobs: Mapping[str, Any],
    built: Built,
    plan: ParamPlan,
    techniques: Sequence[Technique],
    tables: Mapping[Split, Dataset],
    pad_token_id: int,
    attention: str,
) -> tuple[int | None, dict[Split, States]]:
    """How many blocks are computed once, and what they give for every split; none, if no block is
    frozen for good or the budget does not hold it. Those blocks stop computing."""
    prefix = find_prefix(built, plan, techniques) if knobs["prefix_cache"] else None
    if prefix is None:
        return None, {}
    found: dict[Split, States] = {}
    for split, table in tables.items():
        states = states_of(
            prefix,
            built,
            table,
            pad_token_id=pad_token_id,
            batches=evaluation_batches(table, knobs),
            precision=str(knobs["precision"]),
            attention=attention,
            budget=knobs["prefix_gb"],
        )
        if states is None:
            return None, {}
        found[split] = states
    replace_by_passthrough(prefix, built)
    log.info("the output of blocks 1 to %d is computed once", prefix.depth)
    return prefix.depth, found
