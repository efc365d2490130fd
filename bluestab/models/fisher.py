"""The Fisher information of a network over items, estimated: diagonal or Kronecker-factored.

Where gradients are asked for, items pass one at a time, so that these are those of items and not of
the mean of a batch. Networks are in evaluation mode; padding takes no part. For word pieces, which
share weights (Eschenhagen et al. 2023, arXiv 2311.00636), `expand` sums x x' and g g' over pieces,
`reduce` takes the mean of x and the sum of g over an item's pieces first. An Embedding is always
expanded. What sees other rows, too, as maps of relative positions do (DeBERTa, MPNet), has a
diagonal. What is estimated, and what for: `models/curvature.py`.

Own code, since curvlinops 3.0 factors Linear and Conv2d alone and gets tied weights wrong where it
works with hooks, and nngeometry 0.4 makes embedding factors of the square of the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from bluestab.core.types import Batch, Labels, Sharing
from bluestab.models.curvature import (
    Block,
    Curvature,
    Diagonal,
    InputFactor,
    KroneckerBlock,
    LookupBlock,
)
from bluestab.models.likelihood import add_square, answer_gradients, evaluating, parts_of
from bluestab.models.passes import PER_PIECE, inputs_of, text_mask

if TYPE_CHECKING:
    import torch
    from torch import nn

PIECES_AT_ONCE = 1024  # of items that pass together, where no gradient is asked for
ROWS_AT_ONCE = 256  # vectors whose outer products are one product of matrices


class _OuterProducts:
    """Sum of v v' over vectors v, many of them in one matrix product."""

    def __init__(self) -> None:
        self._waiting: list[torch.Tensor] = []
        self._sum: torch.Tensor | None = None

    def add(self, vectors: torch.Tensor) -> None:
        """vectors (R, I)."""
        self._waiting.append(vectors)
        if sum(map(len, self._waiting)) >= ROWS_AT_ONCE:
            self.total()

    def total(self) -> torch.Tensor | None:
        """(I, I); None if no vector ever came here."""
        import torch

        if self._waiting:
            rows = torch.cat(self._waiting)
            self._waiting.clear()
            self._sum = rows.T @ rows if self._sum is None else self._sum.addmm_(rows.T, rows)
        return self._sum


def _per_piece(value: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether (S, T, ...) has a row for each piece of a mask (S, T), or of one text for all:
    positions are looked up once."""
    return len(value) in (1, len(mask)) and value.shape[1] == mask.shape[1]


class _Sums:
    """Sums over items, of one module with its own weight, towards its Kronecker factors.

    `module` is called any number of times per item; `seen` has its inputs and outputs.
    """

    def __init__(self, path: str, module: nn.Module, sharing: Sharing) -> None:
        self.path, self.module, self.sharing = path, module, sharing
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.positions = 0
        self.counts: Any = 0  # of an Embedding: how often each row was looked up
        self.inputs_of_all = _OuterProducts()
        self.gradients_of_all = _OuterProducts()

    def hook(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        self.seen.append((inputs[0].detach(), output))

    def rows(self, value: torch.Tensor, mask: torch.Tensor, per_row: bool) -> torch.Tensor:
        """What belongs to real word pieces, (R, ...), of (S, T, ...) or of one vector (S, ...) for
        each text of an item, of which it has S.

        mask     (S, T) of the item's word pieces
        per_row  each row of the value is a number, not a vector
        """
        if value.ndim == (1 if per_row else 2):
            return value
        if not _per_piece(value, mask):
            raise RuntimeError(
                f"{self.path} sees a tensor of shape {tuple(value.shape)} where {mask.numel()} "
                "word pieces of one item were expected: its curvature cannot be factored; try "
                "another attention kernel (trainer.attention)"
            )
        return value[mask.any(dim=0, keepdim=True) if len(value) == 1 else mask]

    def sees_pieces(self, mask: torch.Tensor) -> bool:
        """Whether all that it saw are rows for word pieces, or a vector for each text."""
        import torch

        per_row = isinstance(self.module, torch.nn.Embedding)
        return all(
            len(value) == len(mask) if value.ndim == one else _per_piece(value, mask)
            for x, y in self.seen
            for value, one in ((x, 1 if per_row else 2), (y, 2))
        )

    def add_inputs(self, mask: torch.Tensor) -> None:
        """Once per item."""
        import torch

        if isinstance(self.module, torch.nn.Embedding):
            ids = torch.cat([self.rows(x, mask, per_row=True) for x, _ in self.seen])
            n = self.module.num_embeddings
            self.counts = self.counts + torch.bincount(ids, minlength=n)
            self.positions += len(ids)
            return
        x = torch.cat([self.rows(x, mask, per_row=False) for x, _ in self.seen]).to(
            self.module.weight.dtype  # type: ignore[arg-type]
        )
        if self.module.bias is not None:
            x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        if self.sharing == "reduce":
            x = x.mean(dim=0, keepdim=True)
        self.inputs_of_all.add(x)
        self.positions += len(x)

    def add_gradients(self, found: Sequence[torch.Tensor | None], mask: torch.Tensor) -> None:
        """Once per answer of an item: the gradients at the outputs."""
        import torch

        rows = [self.rows(g, mask, per_row=False) for g in found if g is not None]
        if not rows:
            return
        g = torch.cat(rows).to(self.module.weight.dtype)  # type: ignore[arg-type]
        if self.sharing == "reduce" and not isinstance(self.module, torch.nn.Embedding):
            g = g.sum(dim=0, keepdim=True)
        self.gradients_of_all.add(g)

    def inputs(self) -> InputFactor | None:
        """None if no input ever came here."""
        if not self.positions:
            return None
        bias = None if getattr(self.module, "bias", None) is None else f"{self.path}.bias"
        products = self.inputs_of_all.total()
        a = self.counts.to(self.module.weight.dtype) if products is None else products
        return InputFactor(f"{self.path}.weight", bias, a / self.positions)

    def block(self, n_items: int) -> Block | None:
        """None if no gradient ever came here."""
        import torch

        products = self.gradients_of_all.total()
        if products is None or (seen := self.inputs()) is None:
            return None
        g = products / n_items
        if isinstance(self.module, torch.nn.Embedding):
            return LookupBlock(seen.weight, seen.a, g)
        return KroneckerBlock(seen.weight, seen.bias, seen.a, g)


def _factored(network: nn.Module, names: Collection[str], sharing: Sharing) -> list[_Sums]:
    """The modules whose weights, and biases if they have one, are all among `names` and theirs
    alone."""
    from torch import nn

    owners = Counter(
        id(p) for module in network.modules() for p in module.parameters(recurse=False)
    )
    found = []
    for path, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if (
            isinstance(module, nn.Linear | nn.Embedding)
            and all(f"{path}.{leaf}" in names for leaf in own)
            and all(owners[id(p)] == 1 for p in own.values())
        ):
            found.append(_Sums(path, module, sharing))
    return found


def _mask_of(item: Batch, network: nn.Module, modules: Sequence[_Sums]) -> torch.Tensor:
    """(S, T) of the word pieces of an item as the network sees them, which may pad its texts
    further (Longformer, to its window)."""
    import torch

    mask = text_mask(item).bool()
    table: Any = getattr(network, "get_input_embeddings", lambda: None)()
    seen = next((one.seen[0][0] for one in modules if one.module is table and one.seen), mask)
    return torch.nn.functional.pad(mask, (0, max(0, seen.shape[-1] - mask.shape[1])))


def _of_pieces(network: nn.Module, modules: Sequence[_Sums], item: Batch) -> list[_Sums]:
    """Those that see what belongs to word pieces and nothing else, with all of an item's and with
    one less: a table of relative positions may have as many rows as one text has pieces."""
    import torch

    found, n = list(modules), item["attention_mask"].shape[-1]
    for pieces in (n, n - 1) if n > 1 else (n,):
        short = {k: v[..., :pieces] if k in PER_PIECE else v for k, v in inputs_of(item).items()}
        for module in modules:
            module.seen.clear()
        with torch.no_grad():
            network(**short)
        mask = _mask_of(short, network, modules)
        found = [module for module in found if module.seen and module.sees_pieces(mask)]
    return found


def _at_once(batch: Batch) -> int:
    """How many of its items pass together; those of several texts pass alone."""
    mask = batch["attention_mask"]
    return max(1, PIECES_AT_ONCE // mask.shape[1]) if mask.ndim == 2 else 1


def input_factors(
    network: nn.Module, names: Collection[str], batches: Iterable[Batch]
) -> list[InputFactor]:
    """A of every Linear and Embedding with weights of its own, all among `names`, over all items;
    labels play no part.

    Raises RuntimeError where a module's inputs cannot be told by word piece.
    """
    import torch

    modules = _factored(network, names, "expand")
    with evaluating(network, ()), torch.no_grad(), ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.module.register_forward_hook(module.hook).remove)
        for part in (part for batch in batches for part in parts_of(batch, _at_once(batch))):
            network(**inputs_of(part))
            mask, n = text_mask(part).bool(), len(part["labels"])
            for module in modules:
                # positions are looked up once for all items
                module.seen = [(x.expand(max(n, len(x)), *x.shape[1:]), y) for x, y in module.seen]
                if module.seen:
                    module.add_inputs(mask)
                module.seen.clear()
    return [factor for module in modules if (factor := module.inputs()) is not None]


def fisher(
    network: nn.Module,
    names: Collection[str],
    batches: Iterable[Batch],
    *,
    labels: Labels,
    sharing: Sharing | None,
    random: torch.Generator | None = None,
) -> Curvature:
    """The Fisher information of these parameters at the network's weights, over all items.

    sharing  how Kronecker factors treat the word pieces of an item; None: diagonal throughout
    random   draws the answers of `sampled`

    Raises RuntimeError where a module's inputs cannot be told by word piece.
    """
    import torch

    parameters = {n: p for n, p in network.named_parameters() if n in names}
    modules = [] if sharing is None else _factored(network, parameters, sharing)
    factored = {f"{m.path}.{leaf}" for m in modules for leaf in ("weight", "bias")}
    single = {name: p for name, p in parameters.items() if name not in factored}
    squares: dict[str, Any] = {}
    n_items = 0
    with evaluating(network, parameters.values()), ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.module.register_forward_hook(module.hook).remove)
        for item in (item for batch in batches for item in parts_of(batch)):
            n_items += 1
            if n_items == 1 and modules:  # what no hook sees may still be used, by a fused kernel
                fitting = _of_pieces(network, modules, item)
                for module in [module for module in modules if module not in fitting]:
                    modules.remove(module)
                    single |= dict(module.module.named_parameters(prefix=module.path))
            for module in modules:
                module.seen.clear()
            logits = network(**inputs_of(item)).logits
            mask = _mask_of(item, network, modules)
            for module in modules:
                if module.seen:
                    module.add_inputs(mask)
            outputs = [output for module in modules for _, output in module.seen]
            wanted = [*outputs, *single.values()]
            for vector in answer_gradients(logits.detach(), item["labels"], labels, random):
                gradients = torch.autograd.grad(
                    logits, wanted, vector, retain_graph=True, allow_unused=True
                )
                at = 0
                for module in modules:
                    n = len(module.seen)
                    module.add_gradients(gradients[at : at + n], mask)
                    at += n
                for (name, p), gradient in zip(single.items(), gradients[at:], strict=True):
                    if gradient is not None:
                        add_square(squares.setdefault(name, torch.zeros_like(p)), gradient)
            for module in modules:
                module.seen.clear()
    blocks = [block for module in modules if (block := module.block(n_items)) is not None]
    diagonals = [Diagonal(name, square / n_items) for name, square in squares.items()]
    return Curvature((*blocks, *diagonals))
