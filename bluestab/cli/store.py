"""The verbs that look after files: `bluestab store gc | verify | merge`, `cache size | clear`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

STORE = Annotated[
    Path | None,
    typer.Argument(help="Folder of results; default: $BLUESTAB_STORE, else runs"),
]
store_app = typer.Typer(
    help="Look after a folder of results: gc, verify, merge.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cache_app = typer.Typer(
    help="Look after what is kept between runs: size, clear.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def store_of(path: Path | None) -> Any:
    """The store that is meant, whether it is there or not."""
    from bluestab.store.store import Store

    return Store(path or os.environ.get("BLUESTAB_STORE") or "runs")


def existing(path: Path | None) -> Any:
    """The store that is meant. Raises StoreError if there is none."""
    from bluestab.core.errors import StoreError
    from bluestab.core.paths import check_readable

    store = store_of(path)
    check_readable(store.root, "the store is")
    if not store.root.is_dir():
        raise StoreError(
            f"there is no store '{store.root}' here; give its folder, or start with: "
            "bluestab run -m +sweeps=quickstart"
        )
    return store


@store_app.command()
def gc(
    store: STORE = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, do not do it")] = False,
    older: Annotated[
        float, typer.Option("--older", min=0, help="Days untouched, for what others may work on")
    ] = 7.0,
    secrets: Annotated[
        bool,
        typer.Option("--secrets", help="Take passwords, tokens and keys out of its files instead"),
    ] = False,
) -> None:
    """Remove what dead processes and finished stages left.

    Example: bluestab store gc --dry-run
    """
    from bluestab.core.printable import printable
    from bluestab.report.terminal.tables import size
    from bluestab.store.gc import orphans, remove

    found = existing(store)
    if secrets:
        _clean(found, dry_run=dry_run)
        return
    left = orphans(found, older)
    problems = []
    freed = 0
    for leftover in left:
        problem = None if dry_run else remove(leftover)
        if problem is not None:
            problems.append(problem)
            continue
        freed += leftover.bytes
        print(f"  {printable(leftover.path)}  {size(leftover.bytes)}  ({leftover.why})")
    said = "would be removed" if dry_run else "removed"
    print(f"{found.root}: {len(left) - len(problems)} leftovers {said}, {size(freed)}")
    _leave_with(problems)


def _clean(store: Any, *, dry_run: bool) -> None:
    from bluestab.store.cleaning import clean, files_with_secrets

    done = ((path, None) for path in files_with_secrets(store)) if dry_run else clean(store)
    n_cleaned, problems = 0, []
    for path, problem in done:
        if problem is not None:
            problems.append(problem)
            continue
        n_cleaned += 1
        print(f"  {path}")
    said = (
        "would be cleaned" if dry_run else "cleaned; what was in them is to be changed all the same"
    )
    print(f"{store.root}: {n_cleaned} files with passwords, tokens or keys {said}")
    _leave_with(problems)


@store_app.command()
def verify(store: STORE = None) -> None:
    """Read everything and compare it with its checksums.

    Example: bluestab store verify
    """
    from bluestab.store.verify import problems

    found = existing(store)
    lines = list(problems(found))
    n_aside = len(list((found.root / ".damaged").glob("*")))
    print(
        f"{found.root}: {len(found.keys())} finished runs, {len(found.manifests())} sweeps, "
        f"{len(lines)} problems" + (f"; {n_aside} set aside in .damaged" if n_aside else "")
    )
    if lines:
        lines.append(
            "what to do: delete the folders of runs named here, then run the command of the sweep "
            "again, or take whole runs from a copy (bluestab store merge STORE COPY)"
        )
    _leave_with(lines)


@store_app.command()
def merge(
    into: Annotated[Path, typer.Argument(help="The store that grows", metavar="INTO")],
    source: Annotated[Path, typer.Argument(help="The store to take from", metavar="FROM")],
) -> None:
    """Add the runs, crashes and sweeps of another store.

    Example: bluestab store merge runs colleague
    """
    from bluestab.core.printable import counted
    from bluestab.store.merge import merge as merge_stores
    from bluestab.store.store import Store

    merged = merge_stores(Store(into), existing(source))
    print(
        f"{into}: added {counted(len(merged.runs), 'run')}, "
        f"{counted(len(merged.crashes), 'crash', 'crashes')}, "
        f"{counted(len(merged.sweeps), 'sweep')}"
        + (f" ({', '.join(merged.sweeps)})" if merged.sweeps else "")
    )
    print(f"  {counted(merged.present, 'run was', 'runs were')} in both, with equal results")
    for place in merged.replaced:
        print(f"  a damaged run was replaced, and is now in {place}")
    if merged.left_out:
        print("  not taken:")
    _leave_with(merged.left_out)


def _leave_with(problems: list[str]) -> None:
    """Print what went wrong, if anything, and exit 1."""
    from bluestab.core.printable import printable_lines

    for line in problems:
        print(f"  {printable_lines(line)}")
    if problems:
        raise typer.Exit(1)


@cache_app.command("size")
def cache_size() -> None:
    """Where the cache is and how much disk it takes."""
    from bluestab.core.paths import cache_dir
    from bluestab.data.cache import files
    from bluestab.report.terminal.tables import size
    from bluestab.sweeps.fetch.folder import fetched

    kept, corpora = files(), fetched()
    print(f"{cache_dir()}: {len(kept)} files, {size(sum(_bytes(path) for path in kept))}")
    if corpora:
        names = ", ".join(folder.name for folder in corpora)
        print(f"  data that bluestab fetch brought: {names}; {size(sum(corpora.values()))}")


@cache_app.command("clear")
def cache_clear(
    data: Annotated[
        bool, typer.Option("--data", help="The data that bluestab fetch brought, too")
    ] = False,
) -> None:
    """Remove what was kept of texts and images: it is computed again.

    Runs that are going on keep what they have open; on a network file system, clear the cache when
    no other machine uses it.
    """
    from bluestab.core.errors import BluestabError
    from bluestab.core.paths import cache_dir
    from bluestab.data.cache import files
    from bluestab.report.terminal.tables import size
    from bluestab.sweeps.fetch.folder import clear, fetched

    problems, freed, n_removed = [], 0, 0
    for path in files():
        n_bytes = _bytes(path)
        try:
            path.unlink()
        except OSError as error:
            problems.append(f"{path} cannot be removed ({error.strerror})")
            continue
        freed, n_removed = freed + n_bytes, n_removed + 1
    print(f"{cache_dir()}: removed {n_removed} files, {size(freed)}")
    for folder, n_bytes in fetched().items():
        if not data:
            print(f"  {folder} stays, {size(n_bytes)}; --data removes it, too")
            continue
        try:
            clear(folder)
        except BluestabError as error:
            problems.append(str(error))
            continue
        print(f"  removed {folder}, {size(n_bytes)}")
    _leave_with(problems)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
