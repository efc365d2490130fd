"""The verb for what a search left: `bluestab search`, its page again; `--work` helps it along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bluestab.cli.cluster import print_standing
from bluestab.cli.store import STORE, existing


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
    """What a search has found so far, or one more worker for it.

    Examples: bluestab search; bluestab search --work
    """
    from bluestab.store.store import Store
    from bluestab.sweeps.search.confirm import confirmed, report
    from bluestab.sweeps.search.drive import help_out
    from bluestab.sweeps.search.reading import read_trials
    from bluestab.sweeps.search.saved import read_search

    found = read_search(existing(store).root, name, storage)
    if work:
        help_out(found)
        return
    trials = read_trials(found)
    print_standing(Store(found.root), found.name)
    report(found, trials, confirmed(found, trials), out, keep=False)


def print_searches(store: Any) -> bool:
    """Where the searches of a store stand, a line each; False if it has none."""
    from bluestab.core.errors import BluestabError

    names = sorted(file.parent.name for file in store.root.glob("searches/*/search.json"))
    for name in names:
        try:
            said = _standing(store.root, name)
        except BluestabError as error:  # a database that needs its password, or is away
            said = str(error)
        print(f"search {name}: {said}")
        print_standing(store, name)
    return bool(names)


def _standing(root: Path, name: str) -> str:
    from bluestab.sweeps.search.findings import best_first
    from bluestab.sweeps.search.points import shown
    from bluestab.sweeps.search.reading import read_trials
    from bluestab.sweeps.search.saved import read_search
    from bluestab.sweeps.search.told import points

    found = read_search(root, name)
    trials = read_trials(found)
    every = trials.all()
    told = [t for t in points(every) if t.state.is_finished()]
    ranked = best_first(every, found)
    best = ""
    if ranked and not found.several:
        value = f"{found.objective[0]} {ranked[0].value:.4f}"
        best = f"; best so far: {value}, {shown(ranked[0].params)}"
    return (
        f"{len(told)} of {found.n_trials} points told, {len(trials.under_way())} under way{best}; "
        f"more: bluestab search {root} --name {name}"
    )
