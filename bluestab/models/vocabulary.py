"""Word embeddings without the rows that no item of a run looks up.

Fine-tuning touches a few thousand of 30,522 rows; on a CPU, zeroing, clipping and updating all of
them takes a good part of a step of a small model. A row that is never looked up has no gradient:
its moments stay 0, and each update multiplies it by one number (weight decay, the pull to its
start), the same for all such rows. A tracer, a row of ones that nothing looks up, goes the same
way: what has become of it, times the first value, is the row as the whole table would hold it, up
to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bluestab.models.networks import Loaded

if TYPE_CHECKING:
    import torch
    from datasets import Dataset


def used_pieces(tables: Sequence[Dataset], tokenizer: Any) -> np.ndarray:
    """Sorted ids (U,) of the word pieces in these tables, of special ones, and of all up to
    padding, which keeps its id: RoBERTa finds positions by it."""
    found = [_flat(table) for table in tables]
    found += [np.array(tokenizer.all_special_ids), np.arange(tokenizer.pad_token_id + 1)]
    return np.unique(np.concatenate(found).astype(np.int64))


def renumbered(table: Dataset, used: np.ndarray) -> Dataset:
    """The same items, their `input_ids` as places in `used`."""
    import pyarrow as pa
    from datasets import Dataset

    data = table.data.table
    at = data.column_names.index("input_ids")
    ids = data.column(at).combine_chunks()
    places = pa.array(np.searchsorted(used, _flat(table)), ids.type.value_type)
    lists = type(ids).from_arrays(ids.offsets, places)
    return Dataset(
        data.set_column(at, data.field(at), lists), fingerprint=f"{table._fingerprint}-u"
    )


def _flat(table: Dataset) -> np.ndarray:
    """All word pieces of a table, one behind another."""
    lists = table.data.table.column("input_ids").combine_chunks()
    return lists.values.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def with_rows(loaded: Loaded, used: np.ndarray) -> Loaded:
    """The network with a table (U + 1, E) of these rows and the tracer; `whole` undoes it."""
    import torch
    from torch import nn

    table: Any = loaded.network.get_input_embeddings()  # type: ignore[operator]
    (name,) = (n for n, p in loaded.network.named_parameters() if p is table.weight)
    whole = loaded.reference[name]
    rows = torch.from_numpy(used)
    part = torch.cat([whole[rows], torch.ones_like(whole[:1])])
    table.weight = nn.Parameter(part.clone())
    table.num_embeddings = len(part)

    def complete(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = dict(weights)
        trained = found[name]
        full = whole.to(trained.device) * trained[-1]
        full[rows.to(trained.device)] = trained[:-1]
        return {**found, name: full}

    return replace(
        loaded,
        reference={**loaded.reference, name: part},
        complete=complete,
        left_out={name: whole.numel() - part.numel()},
    )
