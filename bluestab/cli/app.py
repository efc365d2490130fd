"""The door: parse the verb, call one function, exit.

Exit codes: 0 fine; 1 something ran and some run crashed; 2 what was asked for is impossible, and
nothing was started; 130 interrupted. Heavy imports wait until a verb needs them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bluestab.cli import inference
from bluestab.cli.cluster import cancel, print_standing, standing_note
from bluestab.cli.data import HYDRA as INSPECT
from bluestab.cli.data import inspect
from bluestab.cli.search import search
from bluestab.cli.store import STORE, cache_app, existing, store_app
from bluestab.core.types import At

NEWCOMER = """\
bluestab compares remedies for unstable fine-tuning, over many seeds.
  bluestab run -m +sweeps=quickstart    a real sweep on this machine, in minutes
  bluestab list technique               the remedies; also: list task | model | sweep
  bluestab report                       tables and figures of the latest sweep
  bluestab --help                       everything else"""

HYDRA: dict[str, Any] = {**INSPECT, "help_option_names": []}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(store_app, name="store")
app.add_typer(cache_app, name="cache")

SWEEP = Annotated[str | None, typer.Option("--sweep", help="Name of a sweep; default: the latest")]


@app.callback(invoke_without_command=True)
def newcomer(context: typer.Context) -> None:
    """Seed-honest comparison of stabilisation techniques for fine-tuning BERT and ELECTRA."""
    if context.invoked_subcommand is None:
        print(NEWCOMER)


@app.command(context_settings=HYDRA)
def run(context: typer.Context) -> None:
    """Fine-tune one run, or with -m a sweep: bluestab run -m task=biosses technique=none,reinit"""
    from bluestab.cli.hydra_app import run_app
    from bluestab.core.errors import Interrupted

    arguments = ["hydra.launcher.dry_run=true" if a == "--dry-run" else a for a in context.args]
    try:
        run_app(_run_one, arguments)
    except KeyboardInterrupt as error:  # typer would leave with 130, but without a word
        raise Interrupted(
            "interrupted; what was finished is kept, the same command goes on"
        ) from error


@app.command(context_settings=HYDRA)
def check(context: typer.Context) -> None:
    """Compose, validate and forecast, start nothing: bluestab check -m +sweeps=quickstart"""
    from bluestab.cli.hydra_app import run_app

    group = "hydra.launcher.group="
    kept = ("hydra.launcher.workers=", "hydra.launcher.dry_step=", group)
    arguments = [*_without_launcher(context.args, kept), "hydra/launcher=check"]
    if "hydra/launcher=packed" in context.args and not any(a.startswith(group) for a in arguments):
        arguments.append("hydra.launcher.group=null")  # its default
    run_app(_check_one, arguments)


@app.command(context_settings={**HYDRA, "help_option_names": ["--help"]})
def fetch(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be brought, write nothing")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Take the original files from this folder; no network"),
    ] = None,
) -> None:
    """Bring the data and the models of a run or a sweep here: bluestab fetch -m +sweeps=quickstart

    Takes the same overrides as run: bluestab fetch task=gad model=biomedbert_base
    """
    from bluestab.cli.hydra_app import run_app
    from bluestab.core.config import quoted
    from bluestab.core.errors import Interrupted

    knobs = [f"hydra.launcher.dry_run={'true' if dry_run else 'false'}"]
    if source is not None:
        knobs.append(f"hydra.launcher.source={quoted(str(source))}")
    try:
        run_app(_fetch_one, [*_without_launcher(context.args), "hydra/launcher=fetch", *knobs])
    except KeyboardInterrupt as error:
        raise Interrupted(
            "interrupted; what was brought is kept, the same command goes on"
        ) from error


def _without_launcher(arguments: list[str], kept: tuple[str, ...] = ()) -> list[str]:
    """The line of a sweep as it stands; of its launcher, only what is `kept` matters."""
    if not any(a.startswith("hydra/launcher=") for a in arguments):
        return arguments
    launcher = ("hydra/launcher=", "hydra.launcher.")
    return [a for a in arguments if a.startswith(kept) or not a.startswith(launcher)]


app.command("inspect", context_settings=INSPECT)(inspect)


@app.command("list")
def list_(kind: Annotated[str, typer.Argument(help="task, model, technique or sweep")]) -> None:
    """What exists, one line each: bluestab list technique"""
    from rich.markup import escape
    from rich.table import Table

    from bluestab.core.catalogue import entries, grouped_models
    from bluestab.report.terminal.tables import console

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    if kind == "model":
        for group, rows in grouped_models().items():
            table.add_row(f"[bold]{escape(group)}[/bold]")
            for row in rows:
                table.add_row(*map(escape, row))
    else:
        for name, line in entries(kind).items():
            table.add_row(name, escape(line))
    console().print(table)


@app.command()
def status(
    store: STORE = None,
    sweep: SWEEP = None,
    live: Annotated[
        bool, typer.Option("--watch", help="Stay and show it live, until it is complete or Ctrl-C")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="With --watch: seconds between two looks")
    ] = 2.0,
) -> None:
    """Done, running, crashed and missing runs of a sweep: bluestab status --watch"""
    from bluestab.cli.search import print_searches

    found = existing(store)
    if not live and sweep is None and print_searches(found) and not found.manifests():
        return
    manifest = _manifest(found, sweep)
    if live:
        from bluestab.report.terminal.watch import watch

        name = sweep or manifest["name"]
        watch(found, name, every, also=standing_note(found, name))
        return
    from bluestab.report.terminal.tables import print_status

    print_status(found, manifest)
    print_standing(found, manifest["name"])


@app.command()
def report(
    store: STORE = None,
    sweep: SWEEP = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; default: report/<sweep>")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            help="Arm that the others are compared with; default: sweep.baseline, else none",
        ),
    ] = None,
    at: Annotated[
        At, typer.Option("--at", help="Weights that are scored: after the last step or the best")
    ] = "last",
    difference: Annotated[
        float | None,
        typer.Option(
            "--difference",
            min=1e-6,
            help="Change worth finding: how many seeds more? default: sweep.difference, else 0.01",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All runs of the store, not one sweep")
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures", help="Figures for papers, too, as PNG, SVG and PDF")
    ] = False,
) -> None:
    """The page of a sweep, report.html, its tables and figure: bluestab report --at best"""
    from bluestab.core.errors import StoreError
    from bluestab.report.figures import MOST_ARMS
    from bluestab.report.frames.results import read_results
    from bluestab.report.terminal.closing_table import print_outcome
    from bluestab.report.write import write_report

    found = existing(store)
    manifest = None if everything else _manifest(found, sweep)
    results = read_results(found, manifest, baseline, at=at, difference=difference, vectors=True)
    print_outcome(results)
    written = write_report(results, out, store=found, manifest=manifest, figures=figures)
    if not written:
        raise StoreError(f"the store '{found.root}' holds no finished run to report")
    print("wrote " + ", ".join(str(path) for path in written))
    n_arms = 0 if results.runs.empty else results.runs["cell"].nunique()
    if n_arms > MOST_ARMS:
        print(f"no seeds.png: {n_arms} arms, and one figure holds {MOST_ARMS}; report one sweep")


@app.command()
def compare(
    store_a: Annotated[Path, typer.Argument(metavar="STORE_A", help="Folder of the first store")],
    store_b: Annotated[Path, typer.Argument(metavar="STORE_B", help="Folder of the second store")],
    at: Annotated[
        At, typer.Option("--at", help="Weights that are scored: after the last step or the best")
    ] = "last",
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV file to write the table to")
    ] = None,
) -> None:
    """The same arms in two stores, on shared seeds: bluestab compare before/runs runs"""
    from bluestab.core.errors import StoreError
    from bluestab.report.frames.compare import compare as compared
    from bluestab.report.terminal.closing_table import print_comparison
    from bluestab.store.files import write_text

    found = compared(existing(store_a), existing(store_b), at)
    if found.table.empty and not found.alone:
        raise StoreError(f"neither {store_a} nor {store_b} holds a finished run")
    print_comparison(found)
    if out is not None:
        try:
            write_text(out, found.table.to_csv(index=False))
        except OSError as error:
            raise StoreError(f"{out} cannot be written ({error.strerror})") from error
        print(f"wrote {out}")


def _manifest(store: Any, name: str | None) -> Any:
    from bluestab.core.errors import StoreError

    manifest = store.manifest(name)
    if manifest is None:
        raise StoreError(
            f"the store '{store.root}' holds no sweep (single runs only); "
            "for all its runs: bluestab report --all"
        )
    return manifest


def _run_one(cfg: Any) -> None:
    """The Hydra task function of `run`."""
    from bluestab.core.config import resolved
    from bluestab.core.errors import StoreError
    from bluestab.report.terminal.progress import RunBar
    from bluestab.report.terminal.tables import print_notes, print_record
    from bluestab.report.words.phrases import describe, reason
    from bluestab.store.store import Store
    from bluestab.sweeps.attempt import attempt
    from bluestab.sweeps.lifecycle import RunsCrashed, make_ready, tell_damaged
    from bluestab.training.check import check
    from bluestab.training.execute import is_done

    plain = resolved(cfg)
    checked = check(plain)
    print_notes([checked])
    store = Store(plain["store"])
    tell_damaged(store, [checked])
    if is_done(checked, store):
        print("already in the store:")
        record = store.read(checked.key)
    else:
        make_ready([checked], store)
        with RunBar(describe(checked)) as display:
            found = attempt(checked, store, display.progress)
        if found is None:
            raise StoreError(_at_work(store, checked.key))
        record = found
    if record.status == "crashed":
        folder = store.crash_folder(record.key)
        raise RunsCrashed(f"the run crashed: {reason(record)}\n  {folder}/log.txt")
    print_record(record, str(store.folder(record.key)))


def _at_work(store: Any, key: str) -> str:
    claim = store.running().get(key, {})
    return (
        f"run {key} is being done by another process ({claim.get('host', 'unknown host')}, pid "
        f"{claim.get('pid', 'unknown')}); wait for it, or stop it"
    )


def _check_one(cfg: Any) -> None:
    """The Hydra task function of `check`."""
    from hydra.core.hydra_config import HydraConfig

    from bluestab.core.config import resolved
    from bluestab.report.terminal.tables import print_notes
    from bluestab.store.store import Store
    from bluestab.sweeps.launchers.check import Check
    from bluestab.training.check import check

    knobs = HydraConfig.get().launcher
    plain = resolved(cfg)
    checked = check(plain)
    print_notes([checked])
    launcher = Check(dry_step=knobs.dry_step, workers=knobs.workers, group=1)
    launcher.show(Store(plain["store"]), [checked])


def _fetch_one(cfg: Any) -> None:
    """The Hydra task function of `fetch`."""
    from hydra.core.hydra_config import HydraConfig

    from bluestab.core.config import resolved
    from bluestab.sweeps.launchers.fetch import Fetch
    from bluestab.training.check import check_parts

    knobs = HydraConfig.get().launcher
    Fetch(dry_run=knobs.dry_run, source=knobs.source).bring([check_parts(resolved(cfg))])


app.command()(cancel)
app.command()(search)
inference.register(app)


def main() -> None:
    """Console entry point."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if debug:
        sys.argv = [sys.argv[0], *(a for a in arguments if a != "--debug")]
    # idle threads must sleep, not spin: two processes on two cores are 4 times faster so
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from bluestab.core.errors import BluestabError
    from bluestab.core.printable import printable_lines
    from bluestab.core.secrets import cleaned

    try:
        app(standalone_mode=True)
    except BluestabError as error:
        if debug:
            raise
        print(f"bluestab: {printable_lines(cleaned(str(error)))}", file=sys.stderr)
        sys.exit(error.exit_code)
