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
from bluestab.cli.auto import auto
from bluestab.cli.cluster import cancel, print_standing, standing_note
from bluestab.cli.completion import completion
from bluestab.cli.data import HYDRA as INSPECT
from bluestab.cli.data import inspect, vocabulary
from bluestab.cli.explain import explain, list_
from bluestab.cli.notebooks import notebooks
from bluestab.cli.search import search
from bluestab.cli.store import STORE, cache_app, existing, store_app
from bluestab.cli.verbs import Verbs, hydra_help, usage_problem
from bluestab.core.types import At

NEWCOMER = """\
bluestab compares remedies for unstable fine-tuning, over many seeds.
  bluestab run -m +sweeps=quickstart    a real sweep on this machine, in minutes
  bluestab list technique               the remedies; also: list task | model | sweep
  bluestab report                       tables and figures of the latest sweep
  bluestab --help                       everything else"""

HYDRA: dict[str, Any] = {**INSPECT, "help_option_names": []}
app = typer.Typer(
    cls=Verbs, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.add_typer(store_app, name="store")
app.add_typer(cache_app, name="cache")

SWEEP = Annotated[str | None, typer.Option("--sweep", help="Name of a sweep; default: the latest")]


@app.callback(invoke_without_command=True)
def newcomer(context: typer.Context) -> None:
    """Compares remedies for unstable fine-tuning of BERT and ELECTRA, over many seeds."""
    if context.invoked_subcommand is None:
        print(NEWCOMER)


def _helped(context: typer.Context) -> bool:
    """Print the screen of a verb whose arguments are Hydra's, if it is asked for."""
    asked = bool({"--help", "-h"} & set(context.args))
    if asked:
        print(hydra_help(str(context.info_name), str(context.command.help)), end="")
    return asked


@app.command(context_settings=HYDRA)
def run(context: typer.Context) -> None:
    """Fine-tune one model, or with -m a sweep over many seeds."""
    if _helped(context):
        return
    from bluestab.cli.hydra_app import run_app
    from bluestab.core.errors import ConfigError, Interrupted

    many = {"-m", "--multirun"} & {*context.args}
    if "--dry-run" in context.args and not (many and "hydra/launcher=slurm" in context.args):
        raise ConfigError(
            "--dry-run prints the script of a sweep on SLURM (-m hydra/launcher=slurm); bluestab "
            "check, in place of bluestab run, says what any other command would do"
        )
    arguments = ["hydra.launcher.dry_run=true" if a == "--dry-run" else a for a in context.args]
    try:
        run_app(_run_one, arguments)
    except KeyboardInterrupt as error:  # typer would leave with 130, but without a word
        raise Interrupted(
            "interrupted; what was finished is kept, the same command goes on"
        ) from error


app.command(context_settings=HYDRA)(auto)


@app.command(context_settings=HYDRA)
def check(context: typer.Context) -> None:
    """Validate a run or a sweep and forecast its cost; start nothing."""
    if _helped(context):
        return
    from bluestab.cli.hydra_app import of_launcher, run_app, without_launcher

    group = "hydra.launcher.group="
    kept = ("hydra.launcher.workers=", "hydra.launcher.dry_step=", group)
    asked = [a for a in context.args if a != "--dry-run"]  # every check is one
    arguments = [*without_launcher(asked, kept), "hydra/launcher=check"]
    if "hydra/launcher=packed" in context.args and not any(a.startswith(group) for a in arguments):
        arguments.append("hydra.launcher.group=null")  # its default
    run_app(_check_one, [*arguments, *of_launcher(context.args)])


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
    """Bring the data and the models of a run or a sweep here.

    Takes the same overrides as run.

    Examples: bluestab fetch task=gad model=biomedbert_base; bluestab fetch -m +sweeps=zhang2021
    """
    from bluestab.cli.hydra_app import run_app, without_launcher
    from bluestab.core.config import quoted
    from bluestab.core.errors import Interrupted

    knobs = [f"hydra.launcher.dry_run={'true' if dry_run else 'false'}"]
    if source is not None:
        knobs.append(f"hydra.launcher.source={quoted(str(source))}")
    try:
        run_app(_fetch_one, [*without_launcher(context.args), "hydra/launcher=fetch", *knobs])
    except KeyboardInterrupt as error:
        raise Interrupted(
            "interrupted; what was brought is kept, the same command goes on"
        ) from error


app.command("inspect", context_settings=INSPECT)(inspect)
app.command("vocabulary")(vocabulary)


app.command("list")(list_)
app.command("explain")(explain)
app.command("completion", context_settings={"ignore_unknown_options": True})(completion)


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
    """Where a sweep stands: done, running, crashed, missing.

    Example: bluestab status --watch
    """
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
    """What a sweep shows: a page, tables for papers, a figure.

    Examples: bluestab report; bluestab report runs --at best --baseline llrd
    """
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
    """The same arms in two stores, on shared seeds.

    Example: bluestab compare before/runs runs
    """
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
    from bluestab.core.errors import RunsCrashed, StoreError
    from bluestab.report.terminal.progress import RunBar
    from bluestab.report.terminal.tables import print_notes, print_record
    from bluestab.report.words.phrases import describe, reason
    from bluestab.store.store import Store
    from bluestab.sweeps.attempt import attempt
    from bluestab.sweeps.defaults import former_note
    from bluestab.sweeps.lifecycle import make_ready, tell_damaged
    from bluestab.training.check import check
    from bluestab.training.execute import is_done

    plain = resolved(cfg)
    checked = check(plain)
    store = Store(plain["store"])
    print_notes([checked], store)
    if former := former_note([checked], store):
        print(former)
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
    from bluestab.sweeps.defaults import former_note, settled_line
    from bluestab.sweeps.launchers.check import Check
    from bluestab.training.check import check

    knobs = HydraConfig.get().launcher
    plain = resolved(cfg)
    checked = check(plain)
    print_notes([checked])
    launcher = Check(
        dry_step=knobs.dry_step, workers=knobs.workers, group=1, launcher="local", gpus=False
    )
    for line in filter(
        None, (settled_line([checked]), former_note([checked], Store(plain["store"])))
    ):
        print(line)
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
app.command()(notebooks)
inference.register(app)


def main() -> None:
    """Console entry point."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--version"]:  # an option of typer would cost every start 0.2 s
        from bluestab.core.provenance import versions

        print(f"bluestab {versions()['bluestab']}")
        sys.exit(0)
    debug = "--debug" in arguments
    if debug:
        sys.argv = [sys.argv[0], *(a for a in arguments if a != "--debug")]
    # idle threads must sleep, not spin: two processes on two cores are 4 times faster so
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from bluestab.core.errors import BluestabError, file_problem, is_of_a_file
    from bluestab.core.printable import printable_lines
    from bluestab.core.secrets import cleaned

    try:
        sys.exit(app(standalone_mode=False) or 0)
    except BluestabError as error:
        if debug:
            raise
        said, code = str(error), error.exit_code
    except OSError as error:
        if debug or not is_of_a_file(error):
            raise
        said, code = file_problem(error), 2
    except Exception as error:
        if debug or not hasattr(error, "format_message"):  # typer's own errors have it
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the screen of help
            print(error.format_message(), file=sys.stderr)
            sys.exit(2)
        said, code = usage_problem(error), error.exit_code  # type: ignore[attr-defined]
    print(f"bluestab: {printable_lines(cleaned(said))}", file=sys.stderr)
    sys.exit(code)
