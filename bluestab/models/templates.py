"""Networks of two halves: members of half the width, and the whole network that they grow into.

Every linear layer is a matrix [[W0, W2], [W3, W1]] whose blocks are mixtures of templates (Pham et
al. 2024, arXiv 2311.04251): a member computes with W0 or W1 alone, and has half of every embedding,
norm and bias. Templates are the four quarters of the matrix that was there, the upper two for W0
and W2, the lower two for W1 and W3, so that a grown network has the parameters of a plain one and
eight coefficients per layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, layer_norm, linear

from bluestab.core.errors import ConfigError

SETS = (0, 1, 0, 1)
"""Block W0, W1, W2, W3 -> the set of templates that it is mixed from."""
PART = re.compile(r"(.+)\.(templates|coefficients|weight|bias)\.(\d)")
"""Name of a parameter of which there are several -> the layer's path, its own name, its number."""


@dataclass
class Part:
    """What of a network computes. member: 0 or 1; None: all of it."""

    member: int | None = 0


class Halves(nn.Module):
    """A layer whose parameters have two halves, one for each member."""

    weight: Any
    bias: Any

    def __init__(self, base: nn.Module, part: Part, *names: str) -> None:
        super().__init__()
        self.part = part
        for name in names:
            value = getattr(base, name)
            setattr(self, name, None if value is None else halves(value))

    def now(self, values: nn.ParameterList) -> torch.Tensor:
        """The member's half, or both side by side."""
        member = self.part.member
        return torch.cat(list(values), -1) if member is None else values[member]


def halves(value: torch.Tensor) -> nn.ParameterList:
    """(..., n) -> two parameters (..., n / 2)."""
    return nn.ParameterList(one.detach().clone() for one in value.chunk(2, -1))


class HalvedEmbedding(Halves):
    """Numbers (...) -> (..., E), of a member (..., E / 2)."""

    def __init__(self, base: nn.Embedding, part: Part) -> None:
        super().__init__(base, part, "weight")
        self.padding_idx = base.padding_idx

    def forward(self, at: torch.Tensor) -> torch.Tensor:
        member = self.part.member
        tables = self.weight if member is None else [self.weight[member]]
        return torch.cat([embedding(at, table, self.padding_idx) for table in tables], -1)


class HalvedNorm(Halves):
    """Statistics are those of what computes: of half the width before the growth."""

    def __init__(self, base: nn.LayerNorm, part: Part) -> None:
        super().__init__(base, part, "weight", "bias")
        self.eps = base.eps

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        shape = states.shape[-1:]
        return layer_norm(states, shape, self.now(self.weight), self.now(self.bias), self.eps)


class HalvedOutput(nn.Module):
    """(..., E) -> logits (..., V) by the tied word embeddings: those of all are the sum of the
    members'. The bias is one for all."""

    def __init__(self, base: nn.Linear, table: HalvedEmbedding) -> None:
        super().__init__()
        self.bias = base.bias
        self._table = [table]  # in a list: it belongs to the embeddings

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        (table,) = self._table
        return linear(states, table.now(table.weight), self.bias)


class TemplateLinear(Halves):
    """(..., I) -> (..., O), of a member (..., I / 2) -> (..., O / 2).

    coefficients  of each of the four blocks for the two templates of its set, (4, 2)
    """

    def __init__(self, base: nn.Linear, coefficients: torch.Tensor, part: Part) -> None:
        super().__init__(base, part, "bias")
        quarters = [half.detach().chunk(2, 1) for half in base.weight.chunk(2)]
        self.templates = nn.ParameterList(torch.stack(one) for one in quarters)  # (2, O/2, I/2)
        self.coefficients = nn.ParameterList(one.clone() for one in coefficients)  # (2,)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        member = self.part.member
        blocks = [
            mixture(self.templates[SETS[n]], self.coefficients[n])
            for n in (range(4) if member is None else [member])
        ]
        matrix = blocks[0] if member is not None else grid(blocks)
        return linear(features, matrix, None if self.bias is None else self.now(self.bias))


def mixture(templates: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """(K, O, I) and (K,) -> (O, I)."""
    return torch.einsum("k,koi->oi", coefficients, templates)


def grid(blocks: list[torch.Tensor]) -> torch.Tensor:
    """W0, W1, W2, W3 -> [[W0, W2], [W3, W1]]."""
    first, second, right, left = blocks
    return torch.cat([torch.cat([first, right], 1), torch.cat([left, second], 1)])


def halved(network: nn.Module, coefficients: Callable[[str], torch.Tensor]) -> Part:
    """Put every layer of a network with tied word embeddings into its two halves, in place.

    coefficients  path of a linear layer -> (4, 2)

    Raises ConfigError for a layer of another kind, or of an odd width.
    """
    part = Part()
    output: Any = network.get_output_embeddings()  # type: ignore[operator]
    table: Any = network.get_input_embeddings()  # type: ignore[operator]
    if output is None or output.weight is not table.weight:
        raise ConfigError("a network in halves needs an output that is tied to its embeddings")
    made: dict[str, nn.Module] = {}
    for path, module in _layers(network):
        if module is output:
            continue
        shape = module.weight.shape
        for width in shape if isinstance(module, nn.Linear) else shape[-1:]:
            if width % 2:
                raise ConfigError(f"layer '{path}' is {width} wide, which has no half")
        if isinstance(module, nn.Embedding):
            made[path] = HalvedEmbedding(module, part)
        elif isinstance(module, nn.LayerNorm):
            made[path] = HalvedNorm(module, part)
        elif isinstance(module, nn.Linear):
            made[path] = TemplateLinear(module, coefficients(path), part)
        else:
            raise ConfigError(f"layer '{path}' is a {type(module).__name__}, which has no halves")
    at = {id(module): path for path, module in network.named_modules()}
    made[at[id(output)]] = HalvedOutput(output, made[at[id(table)]])  # type: ignore[arg-type]
    for path, layer in made.items():
        layer.train(network.get_submodule(path).training)
        network.set_submodule(path, layer)
    return part


def _layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Paths and modules with a weight of their own."""
    for path, module in network.named_modules():
        if "weight" in module._parameters:
            yield path, module


def whole(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a network in halves -> those of the grown one, dense, by their plain names."""
    found = {}
    for name, value in weights.items():
        match = PART.fullmatch(name)
        if match is None:
            found[name] = value
        elif match[3] == "0" and match[2] != "coefficients":
            parts = [weights[f"{match[1]}.{match[2]}.{n}"] for n in (0, 1)]
            if match[2] == "templates":
                mixed = [
                    mixture(parts[SETS[n]], weights[f"{match[1]}.coefficients.{n}"])
                    for n in range(4)
                ]
                found[f"{match[1]}.weight"] = grid(mixed)
            else:
                found[f"{match[1]}.{match[2]}"] = torch.cat(parts, -1)
    return found


def plain_name(name: str) -> str:
    """Of a parameter in a network in halves, the name of the plain one that it is made from."""
    match = PART.fullmatch(name)
    if match is None:
        return name
    return f"{match[1]}.{'bias' if match[2] == 'bias' else 'weight'}"


def of_member(name: str, member: int) -> bool:
    """Whether a member computes with the parameter of this name."""
    match = PART.fullmatch(name)
    return match is None or int(match[3]) == member
