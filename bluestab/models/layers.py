"""Parameter name -> depth: the one place that knows which layer a parameter belongs to.

Depth 0 are the embeddings, 1..L the blocks from input to output, L+1 all above them: pooler, norm
after the last block, head.
Freezing, layer-wise decay and re-initialisation all read this map. A parameter that matches
nothing is an error: filed under a default it would silently be trained wrongly, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class LayerMap:
    """Depths of all parameters and the module paths that make up each depth.

    depth    parameter name -> depth in 0..n_layers+1
    modules  depth -> module paths, for depths 0..n_layers
    head     names of the parameters outside the encoder
    """

    depth: Mapping[str, int]
    modules: Mapping[int, tuple[str, ...]]
    head: frozenset[str]
    n_layers: int

    @property
    def top(self) -> int:
        """Depth of all that stands above the blocks."""
        return self.n_layers + 1

    def names(self, *depths: int) -> list[str]:
        """Parameters at these depths, in the model's own order."""
        return [name for name, depth in self.depth.items() if depth in depths]


def _starts_with(name: str, path: str) -> bool:
    return name == path or name.startswith(path + ".")


def layer_map(
    names: Iterable[str],
    *,
    encoder: str,
    embeddings: Sequence[str],
    blocks: str,
    above: Sequence[str],
    n_layers: int,
) -> LayerMap:
    """Map every parameter name to its depth.

    encoder     attribute that holds the pretrained encoder (`bert`, `electra`)
    embeddings  paths inside the encoder that count as depth 0
    blocks      path of the list of blocks inside the encoder; block i (0-based) has depth i+1
    above       paths inside the encoder that come after the blocks (pooler, final norm)

    Raises ValueError if a parameter belongs nowhere or the number of blocks is not `n_layers`.
    """
    depth: dict[str, int] = {}
    head, lost, seen_blocks, seen_embeddings = set(), [], set(), []
    for name in names:
        if not _starts_with(name, encoder):
            depth[name] = n_layers + 1
            head.add(name)
            continue
        inner = name[len(encoder) + 1 :]
        path = next((p for p in embeddings if _starts_with(inner, p)), None)
        if path is not None:
            depth[name] = 0
            if path not in seen_embeddings:
                seen_embeddings.append(path)
        elif _starts_with(inner, blocks) and inner[len(blocks) + 1 :].split(".")[0].isdigit():
            block = int(inner[len(blocks) + 1 :].split(".")[0])
            seen_blocks.add(block)
            depth[name] = block + 1
        elif any(_starts_with(inner, path) for path in above):
            depth[name] = n_layers + 1
        else:
            lost.append(name)
    if lost:
        raise ValueError(
            f"{len(lost)} parameters belong to no layer, e.g. '{lost[0]}': they match neither "
            f"embeddings {list(embeddings)}, blocks '{blocks}' nor pooler or final norm "
            f"{list(above)} under '{encoder}'"
        )
    if seen_blocks != set(range(n_layers)):
        raise ValueError(
            f"the model has {len(seen_blocks)} blocks under '{encoder}.{blocks}', "
            f"its description says {n_layers}"
        )
    modules = {0: tuple(f"{encoder}.{path}" for path in seen_embeddings)}
    modules |= {i + 1: (f"{encoder}.{blocks}.{i}",) for i in range(n_layers)}
    return LayerMap(MappingProxyType(depth), MappingProxyType(modules), frozenset(head), n_layers)
