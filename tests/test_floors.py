"""The house has floors: imports point down or stay level, without cycles, and torch stays upstairs.

Floors are read with `ast`, imports for type checkers included; the rule for torch is tried in a
process of its own.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import bluestab

PACKAGE = Path(bluestab.__file__).parent
ROOT = PACKAGE.parent

FLOORS = [
    "types errors caching paths seeding layers plan schedules scoring stats blurb instantiate "
    "keys circumstances devices records diagnostics memory micro rules spaces item_sums "
    "phases divergences passes instability recommendation splitting interruption ranks",
    "tasks formats techniques loggers converters sources models trust init_from heads networks "
    "tokenization claims store artefacts index upkeep token_cache hub remotes downloads averaging "
    "representations published",
    "siblings parts task_data data batches audit evaluation gradients observed module prefix "
    "optimizers checks history checkpoints prepare lightning_trainer assemble supplies",
    "results packed attempt rank_process run group drystep inspection",
    "report figures planning packing workers pool_worker launchers cluster sweepers search "
    "run_queue attempting failures stopping worker_process worker_pool local_engine forecast "
    "catalogue saved_tasks use",
    "hydra_app cli cli_cluster cli_data cli_search cli_store cli_use api testing __main__",
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}

FILES = sorted(PACKAGE.rglob("*.py"))
PLUGINS = sorted((ROOT / "hydra_plugins").rglob("*.py"))


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules of bluestab that are imported anywhere in the tree, as full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "bluestab")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            if (node.module or "").split(".")[0] != "bluestab":
                continue
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in MODULES else str(node.module)


def named_imports(tree: ast.AST) -> Iterator[str]:
    """Modules of bluestab that are imported by a string: what begins so, as far as it is known."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in ("import_module", "__import__"):
            first = node.args[0]
            start = first.values[0] if isinstance(first, ast.JoinedStr) else first
            name = str(getattr(start, "value", "")).rstrip(".")
            if name.split(".")[0] == "bluestab":
                yield name


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def without_type_checking(tree: ast.Module) -> ast.Module:
    """What runs: blocks for type checkers may point back and forth."""

    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                return node.orelse
            return self.generic_visit(node)

    return Drop().visit(tree)  # type: ignore[no-any-return]


def test_every_module_has_a_floor_and_every_floor_its_modules() -> None:
    assert {room(module) for module in MODULES} - {""} == set(FLOOR)
    assert len(FLOOR) == sum(len(rooms.split()) for rooms in FLOORS)
    assert len(MODULES) == len(FILES) > 30


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    for imported in imports(parsed(MODULES[module])):
        if imported == "bluestab":
            raise AssertionError(f"{module} imports {imported}: the package itself holds no code")
        if module == "bluestab":  # for type checkers: it hands out the Python API
            assert imported in ("bluestab.api", "bluestab.figures")
            continue
        assert FLOOR[room(imported)] <= FLOOR[room(module)], (
            f"{module} (floor {FLOOR[room(module)]}) imports {imported} "
            f"(floor {FLOOR[room(imported)]})"
        )


@pytest.mark.parametrize("module", [m for m in MODULES if m != "bluestab"])
def test_no_string_hides_an_import_upward(module: str) -> None:
    for imported in named_imports(parsed(MODULES[module])):
        assert imported != "bluestab", f"{module} imports a module of ours that a string names"
        assert FLOOR[room(imported)] <= FLOOR[room(module)], f"{module} imports {imported}"


def test_no_cycles() -> None:
    graph = {
        module: set(imports(without_type_checking(parsed(file)))) - {module}
        for module, file in MODULES.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in ("tasks", "techniques")])
def test_tasks_techniques_and_models_do_not_know_each_other(module: str) -> None:
    """That is what makes every task run with every technique on every model."""
    shelves = {"tasks", "techniques", "models", "networks"} - {room(module)}
    assert not {i for i in imports(parsed(MODULES[module])) if room(i) in shelves}
    shared = {
        f"bluestab.techniques.{name}" for name in ("base", "packing", "parameters", "effects")
    }
    if room(module) == "techniques" and module.count(".") == 2 and module not in shared:
        others = {i for i in imports(parsed(MODULES[module])) if room(i) == "techniques"}
        assert others <= shared


def test_the_checks_can_fail() -> None:
    upward = ast.parse("def f():\n    from bluestab import execute\n    import bluestab.tasks.base")
    assert sorted(imports(upward)) == ["bluestab.training.execute", "bluestab.tasks.base"]
    assert FLOOR["execute"] > FLOOR["data"]
    hidden = ast.parse(
        "if TYPE_CHECKING:\n    import bluestab.training.execute\nelse:\n    import bluestab.training.tokenise"
    )
    assert list(imports(without_type_checking(hidden))) == ["bluestab.training.tokenise"]
    strings = ast.parse(
        "import_module('bluestab.api').run()\nimportlib.import_module(f'bluestab.cli.{name}')\n"
        "import_module('torch')\nimport_module(name)"
    )
    assert sorted(named_imports(strings)) == ["bluestab.api", "bluestab.cli"]


LIGHT = [
    "hydra_plugins.bluestab.plugins",
    *(m for m in MODULES if room(m) in ("techniques", "tasks", "loggers")),
    *("bluestab.core.knobs", "bluestab.core.config"),
    *(
        "bluestab.training.check",
        "bluestab.cli",
        "bluestab.cli.hydra_app",
        "bluestab.core.catalogue",
    ),
]
"""Loaded by every start or to check a sweep, where a second for torch would be felt."""


def test_checking_loads_no_torch() -> None:
    assert len(PLUGINS) >= 1
    heavy = ("torch", "transformers", "datasets", "pytorch_lightning")
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [m for m in {heavy!r} if m in sys.modules]\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_importing_starts_nothing() -> None:
    """A yaml may name any module of ours; `bluestab.__main__` must not start a second run."""
    done = subprocess.run(
        [sys.executable, "-c", "import bluestab.__main__"], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
