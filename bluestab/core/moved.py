"""Old names of modules that have moved: importing one gives the module at its new place.

Stored configs, people's own yamls and plug-ins, and batch scripts that wait in a queue name modules
by where they were up to version 0.1.0. `install` puts one finder before all others; for a name of
the table it answers with the *same* module object, so that classes are equal whichever name they
were reached by, and warns once (DeprecationWarning). Names that were never moved cost a look into
a dictionary.

`bluestab.run`, which was a module, is the function of the Python API and no module any more.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import CodeType, ModuleType

MOVED: dict[str, str] = {
    "artefacts": "store.artefacts",
    "assemble": "training.assemble",
    "attempt": "training.attempt",
    "audit": "training.truncation",
    "averaging": "models.averaging",
    "blurb": "report.frames.blurb",
    "caching": "core.caching",
    "catalogue": "core.catalogue",
    "checkpoints": "training.loop.checkpoints",
    "checks": "training.check",
    "circumstances": "core.provenance",
    "claims": "store.claims",
    "cli_cluster": "cli.cluster",
    "cli_data": "cli.data",
    "cli_search": "cli.search",
    "cli_store": "cli.store",
    "cli_use": "cli.inference",
    "cluster": "sweeps.slurm",
    "cluster.deaths": "sweeps.slurm.failures",
    "cluster.standing": "sweeps.slurm.status",
    "converters": "data.converters",
    "devices": "core.devices",
    "diagnostics": "training.loop.diagnostics",
    "divergences": "models.divergences",
    "downloads": "data.downloads",
    "drystep": "training.dry_run_step",
    "errors": "core.errors",
    "figures": "report.figures",
    "forecast": "sweeps.forecast",
    "formats": "data.formats",
    "group": "training.execute",
    "heads": "models.heads",
    "history": "training.loop.history",
    "hub": "models.hub",
    "hydra_app": "cli.hydra_app",
    "index": "store.index",
    "init_from": "models.init_from",
    "inspection": "training.inspection",
    "instability": "stats.instability",
    "instantiate": "core.instantiate",
    "interruption": "core.preemption",
    "item_sums": "tasks.score_sums",
    "keys": "core.keys",
    "launchers": "sweeps.launchers",
    "layers": "models.layers",
    "loggers": "training.loggers",
    "memory": "training.loop.memory",
    "micro": "training.loop.micro_batches",
    "module": "training.loop.module",
    "networks": "models.networks",
    "optimizers": "training.loop.optimizers",
    "packed": "training.packed",
    "packing": "sweeps.grouping",
    "parts": "tasks.splits",
    "passes": "models.passes",
    "paths": "core.paths",
    "phases": "training.loop.phases",
    "plan": "models.param_plan",
    "planning": "sweeps.plan",
    "pool_worker": "sweeps.pool_worker",
    "prefix": "training.loop.frozen_prefix",
    "published": "report.frames.published",
    "rank_process": "training.rank_process",
    "ranks": "training.loop.ranks",
    "recommendation": "stats.verdict",
    "records": "store.records",
    "remotes": "data.remotes",
    "report.advice": "report.words.advice",
    "report.arms": "report.frames.arms",
    "report.blurb_frame": "report.frames.blurb_scores",
    "report.compare": "report.frames.compare",
    "report.curves": "report.frames.curves",
    "report.flags": "report.words.caveats",
    "report.folds": "report.frames.folds",
    "report.headline": "report.words.headline",
    "report.inspected": "report.terminal.inspection_view",
    "report.instability_frame": "report.frames.instability",
    "report.items_frame": "report.frames.items",
    "report.live": "report.terminal.watch",
    "report.outcome": "report.terminal.closing_table",
    "report.progress": "report.terminal.progress",
    "report.published_frame": "report.frames.beside_published",
    "report.results": "report.frames.results",
    "report.runs_frame": "report.frames.runs",
    "report.search_entry": "sweeps.search.entry",
    "report.search_figures": "sweeps.search.figures",
    "report.search_frame": "sweeps.search.findings",
    "report.search_page": "sweeps.search.page",
    "report.strips": "report.terminal.sparklines",
    "report.summary_frame": "report.frames.summary",
    "report.sweep_view": "report.terminal.sweep_view",
    "representations": "store.representations",
    "results": "training.results",
    "rules": "core.rules",
    "saved_tasks": "tasks.saved",
    "schedules": "training.loop.schedules",
    "scoring": "tasks.scoring",
    "search": "sweeps.search",
    "search.crew": "sweeps.search.pool",
    "seeding": "core.seeding",
    "siblings": "training.packable",
    "sources": "data.locate",
    "spaces": "core.spaces",
    "splitting": "data.stratify",
    "supplies": "sweeps.fetch",
    "sweepers": "sweeps",
    "sweepers.optuna": "sweeps.search.drive",
    "tasks.readers": "data.readers",
    "token_cache": "data.cache",
    "tokenization": "models.tokenizers",
    "trust": "models.untrusted",
    "types": "core.types",
    "upkeep": "store",
    "upkeep.leftovers": "store.gc",
    "use": "inference",
    "use.formats": "inference.formats.recognise",
    "workers": "sweeps.lifecycle",
}
"""Name below `bluestab.` -> the new one; that of a package stands for everything in it too."""

LEFT: dict[str, dict[str, str]] = {
    "types": {"Built": "models.built.Built", "Trained": "models.built.Trained"},
    "loggers.base": {"Told": "training.loggers.base.RunInfo"},
    "workers": {"attempt": "sweeps.attempt.attempt"},
}
"""Old module -> names that plug-ins take from it and that went elsewhere -> where they are."""


def new_name(name: str) -> str | None:
    """Where the module of this full name is now; None if it has not moved."""
    package, _, rest = name.partition(".")
    if package != "bluestab" or not rest:
        return None
    parts = rest.split(".")
    for n in range(len(parts), 0, -1):
        if new := MOVED.get(".".join(parts[:n])):
            return ".".join(("bluestab", new, *parts[n:]))
    return None


def install() -> None:
    """Answer old names from now on; once is enough."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, OldNames())  # before the one that looks into the package's folder


class OldNames:
    """Finds the modules of the table by their old names. (A plain class: `importlib.abc` would take
    a tenth of what `bluestab --help` may.)"""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        new = new_name(fullname)
        if new is None:
            return None
        found = find_spec(new)
        if found is None:
            return None
        warnings.warn(f"{fullname} is now {new}", DeprecationWarning, stacklevel=2)
        return spec_from_loader(fullname, _SameModule(new), origin=found.origin)  # type: ignore[arg-type]


class _SameModule:
    """Loads, for an old name, the module of the new one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.name)
        for name, place in LEFT.get(spec.name.removeprefix("bluestab."), {}).items():
            home, _, there = place.rpartition(".")
            setattr(module, name, getattr(import_module(f"bluestab.{home}"), there))
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already; the import system has put the old name's spec into it meanwhile."""
        module.__spec__ = self.spec

    def get_code(self, fullname: str) -> CodeType | None:
        """For `python -m` with an old name."""
        found = find_spec(self.name)
        assert found is not None
        return found.loader.get_code(self.name)  # type: ignore[union-attr, no-any-return]
