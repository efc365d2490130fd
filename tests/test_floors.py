"""The house: twelve wings, imports that point down, no circles, and torch stays upstairs.

Floors are read with `ast`, imports for type checkers included; the rule for torch is tried in a
process of its own. `python benchmarks/house.py` prints the figures.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import bluestab

PACKAGE = Path(bluestab.__file__).parent
ROOT = PACKAGE.parent

WINGS = {
    "stats": 1,
    "core": 1,
    "store": 2,
    "data": 3,
    "models": 4,
    "tasks": 4,
    "techniques": 5,
    "training": 6,
    "report": 7,
    "sweeps": 8,
    "inference": 9,
    "cli": 10,
}
"""Wing -> its floor. A module imports from its own wing and from floors below."""
ABOVE = {"api": 11, "testing": 11, "__main__": 11}

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


def wing(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def without_type_checking(tree: ast.Module) -> ast.Module:
    """What runs: blocks for type checkers may point back and forth inside a wing."""

    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                return node.orelse
            return self.generic_visit(node)

    return Drop().visit(tree)  # type: ignore[no-any-return]


def test_the_package_holds_its_wings_and_little_else() -> None:
    entries = {p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    expected = {"__init__.py", "__main__.py", "api.py", "py.typed", "testing"} | set(WINGS)
    assert entries - {"conf", "notebooks"} == expected  # where a wheel put these
    assert len(WINGS) == 12
    assert len(MODULES) == len(FILES) > 200


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    floors = WINGS | ABOVE
    for imported in imports(parsed(MODULES[module])):
        if imported == "bluestab":
            raise AssertionError(f"{module} imports {imported}: the package itself holds no code")
        if module == "bluestab":  # it hands out the Python API, and answers old names
            assert imported in ("bluestab.api", "bluestab.report.figures", "bluestab.core.moved")
            continue
        assert wing(imported) == wing(module) or floors[wing(imported)] < floors[wing(module)], (
            f"{module} (floor {floors[wing(module)]}) imports {imported} "
            f"(floor {floors[wing(imported)]})"
        )


def test_no_circles() -> None:
    graph = {
        module: set(imports(without_type_checking(parsed(file)))) - {module}
        for module, file in MODULES.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


BY_NAME = {
    "bluestab": "the Python API, when it is first asked for",
    "bluestab.core.moved": "old names of modules",
    "bluestab.core.instantiate": "what a yaml names, by the rules for that",
    "bluestab.sweeps.fetch.data": "the converter that a task's yaml names",
}


@pytest.mark.parametrize("module", MODULES)
def test_none_of_our_modules_is_imported_by_a_string(module: str) -> None:
    """It would hide from the tests above."""
    calls = [
        ast.unparse(node)
        for node in ast.walk(parsed(MODULES[module]))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
    ]
    assert not calls or module in BY_NAME, calls


@pytest.mark.parametrize("module", [m for m in MODULES if wing(m) in ("tasks", "techniques")])
def test_tasks_techniques_and_models_do_not_know_each_other(module: str) -> None:
    """That is what makes every task run with every technique on every model."""
    found = set(imports(parsed(MODULES[module])))
    if wing(module) == "tasks":
        assert not {i for i in found if wing(i) in ("models", "techniques")}
        return
    assert not {i for i in found if wing(i) == "tasks"}
    assert not found & {"bluestab.models.description", "bluestab.models.networks"}
    shared = {f"bluestab.techniques.{name}" for name in SHARED_BY_TECHNIQUES}
    if module not in shared:
        assert {i for i in found if wing(i) == "techniques"} <= shared


SHARED_BY_TECHNIQUES = (
    *("base", "packing", "parameters", "effects", "anchored", "replay"),
    "around_layers",
)


def test_files_stay_readable() -> None:
    lines = {m: len(file.read_text(encoding="utf-8").splitlines()) for m, file in MODULES.items()}
    assert {m: n for m, n in lines.items() if n > 400} == {}


TESTED_BY = {
    "bluestab.__main__": "test_floors.py",
    "bluestab.cli.cluster": "slurm/test_slurm.py",
    "bluestab.cli.data": "tasks/test_own.py",
    "bluestab.cli.hydra_errors": "cli/test_hydra_app.py",
    "bluestab.cli.inference": "inference/test_reproduce.py",
    "bluestab.cli.notebooks": "test_docs.py",
    "bluestab.cli.store": "store/test_gc.py",
    "bluestab.core.caching": "models/test_tokenizers.py",
    "bluestab.core.devices": "training/loop/test_ranks.py",
    "bluestab.core.knobs": "cli/test_app.py",
    "bluestab.core.paths": "data/test_cache.py",
    "bluestab.models.templates": "techniques/test_mixture_growth.py",
    "bluestab.tasks.label_names": "tasks/test_own_labels.py",
    "bluestab.models.initialisation": "models/test_networks.py",
    "bluestab.models.quantised": "models/test_activations.py",
    "bluestab.models.foreign": "models/test_clean_config.py",
    "bluestab.core.provenance": "store/test_store.py",
    "bluestab.core.rules": "techniques/test_smoothness.py",
    "bluestab.core.types": "training/test_execute.py",
    "bluestab.data.converters": "data/converters/test_converters.py",
    "bluestab.data.formats": "data/formats/test_own_files.py",
    "bluestab.data.locate": "data/test_readers.py",
    "bluestab.inference": "inference/test_reproduce.py",
    "bluestab.inference.answers": "inference/test_export.py",
    "bluestab.inference.brat": "inference/formats/test_formats.py",
    "bluestab.inference.delivery": "cli/test_auto.py",
    "bluestab.inference.card": "inference/test_export.py",
    "bluestab.inference.formats": "inference/formats/test_formats.py",
    "bluestab.inference.formats.recognise": "inference/test_export.py",
    "bluestab.inference.members": "inference/test_soup.py",
    "bluestab.inference.merge_record": "inference/test_soup.py",
    "bluestab.inference.merging": "inference/test_soup.py",
    "bluestab.inference.predicting": "inference/test_export.py",
    "bluestab.models.built": "techniques/test_mixout.py",
    "bluestab.models.insertion_places": "models/test_insertions.py",
    "bluestab.models.vision_spec": "models/test_vision.py",
    "bluestab.models.likelihood": "models/test_curvature.py",
    "bluestab.models.replaced_tokens": "training/test_pretraining.py",
    "bluestab.tasks.replaced_tokens": "training/test_pretraining.py",
    "bluestab.models.model_inspection": "models/test_discover.py",
    "bluestab.models.native": "models/test_discover.py",
    "bluestab.models.saved": "models/test_discover.py",
    "bluestab.store.own_yamls": "tasks/test_own.py",
    "bluestab.report": "report/test_report.py",
    "bluestab.report.frames.blurb_scores": "report/frames/test_blurb.py",
    "bluestab.report.frames.curves": "report/test_page.py",
    "bluestab.report.page_data": "report/test_page.py",
    "bluestab.report.searches": "sweeps/search/test_page.py",
    "bluestab.report.section": "report/test_sections.py",
    "bluestab.report.terminal.closing_table": "report/test_sections.py",
    "bluestab.report.terminal.inspection_view": "tasks/test_own.py",
    "bluestab.report.terminal.time_left": "sweeps/test_forecast.py",
    "bluestab.report.words.headline": "report/frames/test_summary.py",
    "bluestab.stats.arrays": "stats/test_tests.py",
    "bluestab.stats.layouts": "stats/test_verdict.py",
    "bluestab.stats.over_folds": "report/frames/test_folds.py",
    "bluestab.stats.resampling": "stats/test_intervals.py",
    "bluestab.stats.signflips": "stats/test_tests.py",
    "bluestab.store": "store/test_store.py",
    "bluestab.store.disk": "store/test_representations.py",
    "bluestab.sweeps": "contracts/test_launchers.py",
    "bluestab.sweeps.auto": "cli/test_auto.py",
    "bluestab.sweeps.fetch.base": "sweeps/fetch/test_data.py",
    "bluestab.sweeps.launchers.base": "cli/test_search.py",
    "bluestab.sweeps.launchers.check": "sweeps/test_forecast.py",
    "bluestab.sweeps.launchers.local": "cli/test_search.py",
    "bluestab.sweeps.launchers.packed": "sweeps/test_grouping.py",
    "bluestab.sweeps.launchers.plan_table": "sweeps/test_forecast.py",
    "bluestab.sweeps.search": "contracts/test_searches.py",
    "bluestab.sweeps.search.confirm": "cli/test_search.py",
    "bluestab.sweeps.search.entry": "cli/test_search.py",
    "bluestab.sweeps.search.reading": "sweeps/search/test_saved.py",
    "bluestab.sweeps.search.figures": "sweeps/search/test_page.py",
    "bluestab.sweeps.search.patient_storage": "sweeps/search/test_patience.py",
    "bluestab.sweeps.slurm.following": "sweeps/slurm/test_submission.py",
    "bluestab.sweeps.slurm.scheduler": "sweeps/slurm/test_submission.py",
    "bluestab.tasks": "contracts/test_tasks.py",
    "bluestab.tasks.saved": "tasks/test_own.py",
    "bluestab.tasks.splits": "tasks/test_own.py",
    "bluestab.tasks.metric": "contracts/test_metrics.py",
    "bluestab.tasks.outputs": "contracts/test_outputs.py",
    "bluestab.tasks.own_cells": "tasks/test_own.py",
    "bluestab.techniques": "contracts/test_techniques.py",
    "bluestab.techniques.packing": "contracts/test_packing.py",
    "bluestab.testing": "test_testing.py",
    "bluestab.testing.simulated_runs": "contracts/test_launchers.py",
    "bluestab.training": "training/test_execute.py",
    "bluestab.training.dry_run_step": "sweeps/test_forecast.py",
    "bluestab.techniques.anchored": "techniques/test_ewc.py",
    "bluestab.techniques.der": "techniques/test_derpp.py",
    "bluestab.techniques.er": "techniques/test_derpp.py",
    "bluestab.techniques.ia3": "techniques/test_around_layers.py",
    "bluestab.techniques.kfac_ewc": "techniques/test_ewc.py",
    "bluestab.techniques.lwf": "techniques/test_derpp.py",
    "bluestab.techniques.mas": "techniques/test_ewc.py",
    "bluestab.training.path_integral": "techniques/test_si.py",
    "bluestab.report.frames.references": "report/frames/test_sequences.py",
    "bluestab.techniques.replay": "techniques/test_derpp.py",
    "bluestab.techniques.vera": "techniques/test_around_layers.py",
    "bluestab.models.earlier": "training/test_stages.py",
    "bluestab.training.families": "training/packed/test_training.py",
    "bluestab.training.inspection": "tasks/test_own.py",
    "bluestab.training.loop.checkpoints": "training/test_resume.py",
    "bluestab.training.loop.gradients": "training/loop/test_module.py",
    "bluestab.training.loop.micro_batches": "training/loop/test_module.py",
    "bluestab.training.packable": "contracts/test_packing.py",
    "bluestab.training.packed": "training/packed/test_training.py",
    "bluestab.training.rank_process": "training/loop/test_ranks.py",
}
"""Module or package -> the test file that runs what has no file of its name; the longest counts."""


def own_tests(module: str) -> Path:
    """Where the tests of a module lie: the folders mirror those of the package."""
    *folders, name = module.split(".")[1:]
    return ROOT.joinpath("tests", *folders, f"test_{name}.py")


def longest_entry(module: str) -> str | None:
    """The entry of TESTED_BY that speaks for the module: its own, or its nearest package's."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 1, -1))
    return next((name for name in names if name in TESTED_BY), None)


def test_every_module_has_its_tests() -> None:
    modules = [module for module, file in MODULES.items() if file.name != "__init__.py"]
    without = {
        module: longest_entry(module) for module in modules if not own_tests(module).exists()
    }
    assert [module for module, entry in without.items() if entry is None] == []
    assert set(TESTED_BY) - set(MODULES) == set(), "modules that are not there"
    assert {t for t in TESTED_BY.values() if not (ROOT / "tests" / t).is_file()} == set()
    assert set(TESTED_BY) - set(without.values()) == set(), "entries that no module needs"
    shorter = {m: longest_entry(m.rpartition(".")[0]) for m in TESTED_BY}
    same = {m for m, e in shorter.items() if e is not None and TESTED_BY[e] == TESTED_BY[m]}
    assert same == set(), "entries that say what their package's says"


def test_a_class_name_stands_for_one_thing() -> None:
    classes = Counter(
        node.name
        for file in FILES
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ClassDef)
    )
    assert {name: n for name, n in classes.items() if n > 1} == {}


def test_the_checks_can_fail() -> None:
    upward = ast.parse("def f():\n    from bluestab import api\n    import bluestab.tasks.base")
    assert sorted(imports(upward)) == ["bluestab.api", "bluestab.tasks.base"]
    assert WINGS["training"] > WINGS["data"]
    hidden = ast.parse(
        "if TYPE_CHECKING:\n    import bluestab.api\nelse:\n    import bluestab.core"
    )
    assert list(imports(without_type_checking(hidden))) == ["bluestab.core"]


LIGHT = [
    "hydra_plugins.bluestab.plugins",
    *(m for m in MODULES if wing(m) in ("techniques", "tasks")),
    *(m for m in MODULES if m.startswith("bluestab.training.loggers")),
    *("bluestab.training.check", "bluestab.cli.app", "bluestab.cli.hydra_app"),
    "bluestab.core.catalogue",
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
