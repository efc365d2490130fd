"""Which items train, which validate, which test: by rule and seed, where no file says it.

Parts are *stratified* (every label keeps its share in each of them), *group-aware* (items of one
document, and items with the same text, stay together) and a pure function of (items, seed).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from bluestab.core.seeding import stream_seed


def assign(
    strata: Sequence[Hashable],
    groups: Sequence[Hashable],
    shares: Sequence[float],
    *,
    seed: int,
    name: str,
) -> list[int]:
    """Part of each item, 0 .. len(shares) - 1; part k gets about `shares[k]` of every stratum.

    strata  of each item: what is to be spread evenly
    groups  of each item: items of one group come into one part
    shares  of the parts, positive; their proportions count
    name    of the stream

    Groups are placed one by one, large ones first, equally large ones in the order of the stream,
    each where most of its strata are still lacking. With single items the sizes of the parts are
    exact to one item per stratum, and a stratum of one item goes to the part with the largest
    share.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    total = Counter(strata)
    scale = sum(shares)
    lacking = [{s: n * share / scale for s, n in total.items()} for share in shares]
    room = [len(strata) * share / scale for share in shares]
    order = sorted(
        members, key=lambda g: (-len(members[g]), stream_seed(seed, name, str(g)), str(g))
    )
    part_of = [0] * len(strata)
    for group in order:
        own = Counter(strata[i] for i in members[group])
        n = len(members[group])

        def gain(part: int, own: Counter[Hashable] = own, n: int = n) -> tuple[float, float]:
            # per stratum, so that a rare one weighs as much as a frequent one
            strata_gain = sum(c * lacking[part][s] / total[s] for s, c in own.items())
            return (strata_gain + room[part] / len(strata) * n * 1e-6, room[part])

        best = max(range(len(shares)), key=gain)
        for i in members[group]:
            part_of[i] = best
        room[best] -= n
        for s, c in own.items():
            lacking[best][s] -= c
    return part_of


def joined(*keys: Sequence[Hashable | None]) -> list[int]:
    """Groups of items that share any key, as numbers in order of appearance; None joins nothing."""
    n = len(keys[0])
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for of_kind in keys:
        first: dict[Hashable, int] = {}
        for i, key in enumerate(of_kind):
            if key is None:
                continue
            a, b = sorted((root(first.setdefault(key, i)), root(i)))
            parent[b] = a
    return [root(i) for i in range(n)]


def bins(values: Sequence[float], n: int = 5) -> list[int]:
    """Numbers as strata: which n-th of the sorted values each belongs to."""
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    found = [0] * len(values)
    for place, i in enumerate(order):
        found[i] = place * n // len(values)
    return found


def rarest(names: Sequence[Sequence[str]]) -> list[str]:
    """Of each item's names the one that fewest items have; empty for an item without any."""
    counts = Counter(name for own in names for name in set(own))
    return [min(set(own), key=lambda name: (counts[name], name), default="") for own in names]
