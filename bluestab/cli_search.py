"""The verb for what a search left: `bluestab search`, its page again; `--work` helps it along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bluestab.cli_cluster import print_standing
from bluestab.cli_store import STORE, existing


def search(
    store: STORE = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of a search; default: the latest")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; default: report/<name>")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="URL of its study, where a password is not kept"),
    ] = None,
    work: Annotated[
        bool, typer.Option("--work", help="Be one more worker of it, until its points are told")
    ] = False,
) -> None:
    """What a search has found so far: bluestab search; more hands for it: bluestab search --work"""
    from bluestab.search.trials import Trials
    from bluestab.store import Store
    from bluestab.sweepers.optuna import confirmed, help_out, read_search, report

    found = read_search(existing(store).root, name, storage)
    if work:
        help_out(found)
        return
    trials = Trials.open(found)
    print_standing(Store(found.root), found.name)
    report(found, trials, confirmed(found, trials), out)
