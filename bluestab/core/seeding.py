"""One integer per run, many independent random streams: each derived from (seed, name) by a hash.

Because a stream depends on nothing but its seed and its name, arms with equal seeds see the same
items in the same batches and start from the same head, whatever technique they use: that is what
makes paired comparisons valid. No stream carries state, so a resume needs nothing of them. Those of
python, numpy and torch, which a technique may draw from, do: they are saved and put back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Seeds:
    """The four sources of randomness of a run.

    init     values of everything that has no pretrained value (head, re-initialised blocks)
    order    order of the training examples
    dropout  everything random inside a training step
    split    which items a training subset holds; 0 unless set
    """

    init: int
    order: int
    dropout: int
    split: int

    @classmethod
    def from_config(cls, seed: int, seeds: Mapping[str, int | None]) -> Seeds:
        """Streams that are not set follow `seed`, except `split`, which never does."""
        streams = {name: seeds[name] for name in ("init", "order", "dropout")}
        return cls(
            **{name: seed if value is None else value for name, value in streams.items()},
            split=seeds["split"] or 0,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` of `seed`: SHA-256, so streams are unrelated."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream `names` of `seed`."""
    import torch

    return torch.Generator().manual_seed(stream_seed(seed, *names))


def seed_global_streams(seed: int) -> None:
    """Start python's, numpy's and torch's own streams where this run's start, whatever ran before.

    Nothing of ours draws from them outside a training step; a technique may.
    """
    import random

    import numpy as np
    import torch

    value = stream_seed(seed, "global")
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


def torch_streams(device: torch.device) -> dict[str, Any]:
    """State of torch's own generators, from which dropout draws."""
    import torch

    state = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_torch_streams(state: Mapping[str, Any], device: torch.device) -> None:
    """Put torch's own generators where `torch_streams` found them."""
    import torch

    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state["mps"])


def random_streams(device: torch.device) -> dict[str, Any]:
    """State of every global generator that a technique may draw from."""
    import random

    import numpy as np
    import torch

    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        **torch_streams(device),
    }


def restore_random_streams(state: Mapping[str, Any], device: torch.device) -> None:
    """Put every global generator where `random_streams` found it."""
    import random

    import numpy as np

    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    restore_torch_streams(state, device)


def subset(items: Sequence[T], ids: Sequence[str], size: int, seed: int, name: str) -> list[T]:
    """`size` of the items, in their original order, drawn without replacement by the stream.

    Items are ranked by a hash of (seed, name, id): a larger subset contains every smaller one of
    the same seed, and adding or removing other items moves nothing.
    """
    ranked = sorted(range(len(items)), key=lambda i: (stream_seed(seed, name, ids[i]), i))
    return [items[i] for i in sorted(ranked[:size])]
