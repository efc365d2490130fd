"""A table of word embeddings with the rows of a run's own word pieces alone.

BERT's table has 30,522 rows, of which the items of a small task touch a few thousand, and it is
half of the weights of a small encoder: filling its gradient for every part of a batch, its norm and
its update take a tenth to a quarter of a training step of MiniLM on a CPU. No gradient reaches the
other rows. What does reach them is the same for all, in proportion: weight decay. So one of them,
the witness, stays in the table, and what the others would have become is what they were, as much
shrunk as the witness. Up to rounding it is the training of the whole table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bluestab.models.built import Built
from bluestab.models.passes import word_embeddings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bluestab.models.param_plan import ParamPlan

ROW_OF = "row_of"
"""Buffer of the table, (V,): word piece -> its row; one past the last where it has none, which
raises IndexError."""


@dataclass(frozen=True)
class UsedRows:
    """name: of the table among the parameters; pieces: (U,) of its rows in order, the last of them
    the witness; whole: (V, E), the table before."""

    name: str
    pieces: torch.Tensor
    whole: torch.Tensor

    def widened(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of the network -> the same with all V rows."""
        rows, whole = weights[self.name].detach(), self.whole.to(weights[self.name].device)
        witness, then = rows[-1].double(), whole[self.pieces[-1]].double()
        table = (whole.double() * (witness @ then / (then @ then))).to(whole.dtype)
        table[self.pieces.to(table.device)] = rows
        return {**weights, self.name: table}


def hold_used_rows(built: Built, plan: ParamPlan, pieces: Collection[int]) -> Built:
    """Leave of a table of word embeddings that trains the rows of these word pieces and one more,
    where these are at most half of it; the network looks pieces up as before."""
    import torch

    table, name = _table(built)
    if table is None or name in built.fresh or not plan[name].trainable:
        return built
    weight, n_rows = table.weight.detach(), table.num_embeddings
    known = sorted({piece for piece in pieces if piece < n_rows})
    others = torch.ones(n_rows, dtype=torch.bool)
    others[known] = False
    others &= weight.abs().sum(dim=1).cpu() > 0  # a row of zeros witnesses nothing
    if not others.any() or 2 * (len(known) + 1) > n_rows:
        return built
    held = torch.tensor([*known, int(others.nonzero()[0])])
    row_of = torch.full((n_rows,), len(held))
    row_of[held] = torch.arange(len(held))
    if table.padding_idx is not None:
        table.padding_idx = int(row_of[table.padding_idx])
    table.weight = torch.nn.Parameter(weight[held].clone(), table.weight.requires_grad)
    table.num_embeddings = len(held)
    table.register_buffer(ROW_OF, row_of, persistent=False)
    table.register_forward_pre_hook(_look_up)
    rows = UsedRows(name, held, built.reference[name])
    return replace(
        built,
        reference=MappingProxyType({**built.reference, name: rows.whole[held].clone()}),
        unheld={name: rows.whole.numel() - table.weight.numel()},
        plain=lambda weights: built.plain(rows.widened(weights)),
    )


def _look_up(table: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(table, ROW_OF)[inputs[0]], *inputs[1:])


def _table(built: Built) -> tuple[nn.Embedding | None, str]:
    """The table of word embeddings and its name; None if its rows are more than rows (a language
    model's output layer, a kind of table of its own)."""
    from torch import nn

    table: Any = word_embeddings(built.model)
    found = [
        n for n, p in built.model.named_parameters(remove_duplicate=False) if p is table.weight
    ]
    if type(table) is not nn.Embedding or len(found) != 1 or table.max_norm is not None:
        return None, ""
    return table, found[0]
