"""The shape of the package, counted: entries, wings, floors, circles, long files, names used twice.

    python benchmarks/house.py [CHECKOUT ...]

One column per checkout, this one by default; two show before and after side by side. What is
counted is read with `ast`, nothing is imported. `tests/test_floors.py` holds most of these figures.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

LONG = 400  # lines
NOT_WINGS = {"testing", "conf"}  # folders of the package that hold no stage of a run


def modules(package: Path) -> dict[str, Path]:
    """Dotted name -> file of every module below the package's folder."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(tree: ast.Module, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules among `known` that this tree imports when it runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Import):
                yield from (alias.name for alias in inner.names if alias.name in known)
            elif isinstance(inner, ast.ImportFrom) and inner.module in known:
                for alias in inner.names:
                    inside = f"{inner.module}.{alias.name}"
                    yield inside if inside in known else inner.module


def circles(graph: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Groups of nodes that import each other: every strongly connected part with two or more."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            part = tuple(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(tuple(sorted(part)))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def floors(graph: Mapping[str, set[str]]) -> int | None:
    """Length of the longest chain of imports; None where there are circles."""
    height: dict[str, int] = {}
    try:
        for node in TopologicalSorter(graph).static_order():
            height[node] = 1 + max((height[other] for other in graph.get(node, ())), default=0)
    except CycleError:
        return None
    return max(height.values())


def count(checkout: Path) -> dict[str, str]:
    """Figure -> value, as text."""
    package = checkout / "bluestab"
    known = modules(package)
    trees = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in known.items()}
    graph = {name: set(imported(tree, known)) - {name} for name, tree in trees.items()}

    def room(name: str) -> str:
        return name.split(".")[1] if "." in name else name

    rooms: dict[str, set[str]] = {room(name): set() for name in known}
    for name, others in graph.items():
        rooms[room(name)] |= {room(other) for other in others} - {room(name)}
    entries = [p for p in package.iterdir() if p.name != "__pycache__"]
    wings = [p for p in entries if (p / "__init__.py").is_file() and p.name not in NOT_WINGS]
    lines = {name: len(file.read_text("utf-8").splitlines()) for name, file in known.items()}
    classes = Counter(
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    tested = {file.stem.removeprefix("test_") for file in (checkout / "tests").rglob("test_*.py")}
    around = circles(rooms)
    return {
        "entries of the package's folder": str(len(entries)),
        "folders with modules (wings)": str(len(wings)),
        "modules": str(len(known)),
        "floors between rooms": str(floors(rooms) or "circles"),
        "circles of rooms": str(len(around)) + "".join(f"; {' '.join(c)}" for c in around),
        "circles of modules": str(len(circles(graph))),
        f"files over {LONG} lines": str(sum(n > LONG for n in lines.values())),
        "longest file, lines": str(max(lines.values())),
        "class names used twice or more": str(sum(n > 1 for n in classes.values())),
        "modules with a test file of their name": str(
            sum(name.rpartition(".")[2] in tested for name in known)
        ),
    }


def main() -> None:
    checkouts = [Path(name) for name in sys.argv[1:]] or [Path(__file__).parents[1]]
    counted = [count(checkout.resolve()) for checkout in checkouts]
    width = max(map(len, counted[0]))
    for figure in counted[0]:
        print(f"{figure:<{width}}  " + "  |  ".join(f"{one[figure]:>10}" for one in counted))


if __name__ == "__main__":
    main()
