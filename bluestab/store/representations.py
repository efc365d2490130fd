"""The vectors a run saw its test items as: first word piece ([CLS]), after the last layer.

`keep_representations=true` leaves them in `representations.safetensors` beside the predictions:
float32, `(n_items, hidden)`, rows in the order of the predictions, one tensor per weights, `last`
and `best`; `best` is left out where those are the same weights. Half precision would do for runs
that learnt something, but in collapsed ones, which matter here, the vectors of all items agree in
their first three digits. The file names the SHA-256 of what is in it, so that it can be verified
whether it was written with the record or added to a finished run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import StoreError
from bluestab.core.plain_files import check_plain

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

FILE = "representations.safetensors"


@contextmanager
def first_pieces(network: nn.Module) -> Iterator[list[torch.Tensor]]:
    """The encoder's last vector of the first word piece: (B, H) float32 per forward pass inside.

    By a forward hook: nothing is computed that would not be computed anyway.
    """
    found: list[torch.Tensor] = []

    def note(encoder: nn.Module, args: Any, output: Any) -> None:
        found.append(output[0][:, 0].detach().float())

    encoder: Any = network.base_model
    handle = encoder.register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()


def of_items(
    found: Sequence[torch.Tensor], order: Sequence[int], example: Sequence[int]
) -> np.ndarray:
    """Vectors of all rows -> those of the items: a long one's first window.

    order    which row each vector is of
    example  row -> position of its item, every item in order
    """
    import numpy as np
    import torch

    stacked = torch.cat(list(found)).cpu().numpy()
    if len(stacked) != len(example):
        raise RuntimeError(f"{len(stacked)} vectors were heard for {len(example)} rows")
    rows = np.empty_like(stacked)
    rows[np.asarray(order)] = stacked
    vectors: np.ndarray = rows[np.unique(np.asarray(example), return_index=True)[1]]
    return vectors


def write_representations(path: Path, vectors: Mapping[str, np.ndarray]) -> None:
    """`at` -> (n_items, hidden) float32."""
    from safetensors.numpy import save_file

    save_file(dict(vectors), path, metadata={"sha256": _digest(vectors)})


def read_representations(path: Path) -> dict[str, np.ndarray]:
    """What was written there. Raises StoreError with a sentence if it is not that any more."""
    from safetensors import SafetensorError, safe_open

    try:
        check_plain(path)
        with safe_open(path, framework="np") as file:
            vectors = {at: file.get_tensor(at) for at in file.keys()}  # noqa: SIM118
            said = (file.metadata() or {}).get("sha256")
        if said != _digest(vectors):
            raise ValueError("its SHA-256 is not the one it names")
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise StoreError(
            f"{path} cannot be used ({error}); delete it, and the run's command with "
            "keep_representations=true makes it again"
        ) from error
    return vectors


def _digest(vectors: Mapping[str, np.ndarray]) -> str:
    import numpy as np

    digest = hashlib.sha256()
    for at, values in sorted(vectors.items()):
        digest.update(f"{at} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
