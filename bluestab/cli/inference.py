"""Verbs for what comes after a run: `bluestab predict`, `export`, `soup`, `grow`, `reproduce`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bluestab.cli.store import store_of
from bluestab.core.printable import counted

STORE = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of results that RUN is in; default: as in run"),
]
DEVICE = Annotated[str, typer.Option("--device", help="auto | cpu | cuda | cuda:N | mps")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(export)
    app.command()(predict)
    app.command()(soup)
    app.command()(grow)
    app.command()(reproduce)


def export(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Key of a run (KEY, KEY:best) or its folder"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="New folder to write")] = None,
    best: Annotated[
        str | None,
        typer.Option("--best", help="In place of RUN: the best of a task, chosen on validation"),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="With --best: of this model")] = None,
    ensemble: Annotated[
        int, typer.Option("--ensemble", min=1, help="This many seeds of the run's configuration")
    ] = 1,
    store: STORE = None,
    device: DEVICE = "auto",
) -> None:
    """Write a model as a folder that plain transformers loads.

    Example: bluestab export --best biosses --out model

    Weights that were not kept are trained again, and must come out as the record says.
    """
    from bluestab.cli.store import existing
    from bluestab.core import devices
    from bluestab.core.errors import ConfigError
    from bluestab.core.paths import real
    from bluestab.inference.cell import best as best_run
    from bluestab.inference.export import export as write
    from bluestab.inference.weights import find_run

    if best is not None and best.startswith("-"):
        raise ConfigError(f"--best names a task, and {best!r} is none: --best biosses --out model")
    if out is None:
        raise ConfigError("export needs --out FOLDER, the new folder to write")
    if (run is None) == (best is None):
        raise ConfigError("export needs the key of a run, or --best TASK (one of them)")
    if best is None:
        chosen = find_run(str(run), store_of(store))
    else:
        found = existing(store)
        record, why = best_run(found, best, model, "last")
        print(why)
        chosen = find_run(str(real(found.root) / record.key), found)
    exported = write(chosen, out, devices.resolve(device), ensemble=ensemble)
    for remark in exported.remarks:
        print(remark)
    print(f"wrote {out}; its card is {out / 'README.md'}")


def predict(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Key of a run that kept its weights (KEY, KEY:best), its folder, or a folder "
            "written by export; several: their mean, and how far they disagree",
        ),
    ],
    source: Annotated[
        Path, typer.Option("--input", help="File (.gz too), or for brat a folder of .txt")
    ],
    output: Annotated[Path, typer.Option("--output", help="File, for brat a folder; must be new")],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="text (a line, an item) | csv | tsv | jsonl | conll | brat | task (the task's own "
            "file; rows in a .csv or .tsv, else jsonl); default: by the name of the file",
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="Column or field of the text; default: text")
    ] = None,
    text_pair: Annotated[
        str | None, typer.Option("--text-pair", help="... of the second text; default: text_pair")
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="... of the image's file name; default: image")
    ] = None,
    abstain_below: Annotated[
        float | None,
        typer.Option("--abstain-below", min=0.0, max=1.0, help="Leave out what is less probable"),
    ] = None,
    score: Annotated[
        bool,
        typer.Option(
            "--score", help="The input holds gold labels: say the task's scores at the end"
        ),
    ] = False,
    store: STORE = None,
    device: DEVICE = "auto",
    batch_pieces: Annotated[
        int, typer.Option("--batch-pieces", min=16, help="Word pieces per batch, with padding")
    ] = 8192,
) -> None:
    """Labels, probabilities and offsets for new text.

    Example: bluestab predict KEY --input notes.csv --output labelled.csv

    The output is the input with predictions, probabilities and character offsets beside each item.
    The same command goes on after a kill.
    """
    from bluestab.core import devices
    from bluestab.core.errors import Interrupted
    from bluestab.inference.predicting import Order, carry_out, score_lines

    order = Order(
        names=tuple(runs),
        source=source,
        output=output,
        form=form,
        text=text,
        text_pair=text_pair,
        image=image,
        threshold=abstain_below,
        score=score,
    )
    begun = time.perf_counter()
    try:
        with _bar(source) as progress:
            done = carry_out(
                order, store_of(store), devices.resolve(device), batch_pieces, progress
            )
    except KeyboardInterrupt as error:
        raise Interrupted(
            "interrupted; what was answered is kept, the same command goes on"
        ) from error
    print(done.sentence(time.perf_counter() - begun))
    if score:
        for line in score_lines(order, done):
            print(line)


def soup(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Runs to merge, of one task or of several that began with the same weights; one: "
            "all seeds of its cell",
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="uniform: the mean | greedy: those that help on validation | task_arithmetic | "
            "ties | regmean: by the inputs of its training items | adamerging: by --texts",
        ),
    ] = "uniform",
    coefficient: Annotated[
        float | None,
        typer.Option(
            "--coefficient",
            help="How far from the start; task_arithmetic 0.4, ties 1, adamerging begins at 0.3",
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option("--density", help="ties: share of each member's changes that stays; 0.2"),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="adamerging: file of texts without labels, as predict reads"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="adamerging: of 16 texts per task; 500")
    ] = None,
    store: STORE = None,
    device: DEVICE = "auto",
) -> None:
    """Merge the weights of runs into one model.

    It is recorded like a run, per task. Example: bluestab soup KEY1 KEY2 --kind ties
    """
    from bluestab.core import devices
    from bluestab.core.errors import ConfigError, did_you_mean
    from bluestab.inference.members import members_of, task_name
    from bluestab.inference.merging import KINDS, How
    from bluestab.inference.soup import make_soups
    from bluestab.report.terminal.tables import print_record

    if kind not in KINDS:
        raise ConfigError(f"--kind is {kind!r}" + did_you_mean(kind, KINDS))
    how = How(kind=kind, coefficient=coefficient, density=density, texts=texts, steps=steps)
    devices.resolve(device)
    members = members_of(runs, store_of(store))
    soups = make_soups(members, how, device)
    for remark in soups[0].remarks:
        print(remark)
    at, root = members[0].at, members[0].store
    for one in soups:
        scores = [member.result["score"][at] for member in one.members]
        all_of = sum(task_name(m.record) == task_name(one.record) for m in members)
        if len(soups) > 1:
            print(f"\n{task_name(one.record)}:")
        print(
            f"{len(scores)} of {counted(all_of, 'seed is', 'seeds are')} in it; alone they score "
            f"{min(scores):.4f} to {max(scores):.4f}, mean {sum(scores) / len(scores):.4f}"
        )
        if one.average is not None:
            print(
                f"the plain mean of the same weights scores {one.average:.4f}, "
                f"{kind} {one.record.result['score'][at]:.4f}"
            )
        if texts is not None:
            print(
                "its coefficients were fitted to the texts of this file, without labels: if they "
                "are test texts, the score is transductive"
            )
        print_record(one.record, str(root.folder(one.record.key)))


def reproduce(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Key of a run or its folder")],
    store: STORE = None,
    device: DEVICE = "auto",
    keep_in: Annotated[
        Path | None, typer.Option("--keep-in", help="Store for the new run; default: not kept")
    ] = None,
) -> None:
    """Make a run again and compare the two.

    Identical, within the noise, or different, with exit code 1. Example: bluestab reproduce KEY
    """
    from bluestab.core import devices
    from bluestab.inference.reproduce import reproduce as again
    from bluestab.inference.reproduce import surroundings
    from bluestab.inference.weights import find_run

    devices.resolve(device)
    found = find_run(run, store_of(store))
    lines = surroundings(found.record, device)
    print("environment: the same" if not lines else "environment, what differs:")
    for line in lines:
        print(f"  {line}")
    verdict = again(found, device, keep_in)
    print(f"{found.record.key}: {verdict.word}")
    for line in verdict.why:
        print(f"  {line}")
    if verdict.word == "different":
        raise typer.Exit(1)


def grow(
    run: Annotated[str, typer.Argument(help="RUN, as for predict, or a folder of weights")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the larger network")],
    ffn: Annotated[
        int | None, typer.Option("--ffn", help="Feed-forward units of a block, as 1024")
    ] = None,
    layers: Annotated[int | None, typer.Option("--layers", help="Blocks, as 8")] = None,
    how: Annotated[
        str, typer.Option("--how", help="New units: zero (same answers) | net2net (noisy copies)")
    ] = "zero",
    seed: Annotated[int, typer.Option("--seed", min=0, help="What new units are drawn by")] = 0,
    store: STORE = None,
) -> None:
    """A larger network out of a trained one, which answers alike.

    Train on with model=auto model.path=DIR. Example: bluestab grow KEY --layers 8 --out large
    """
    from bluestab.core.errors import ConfigError, did_you_mean
    from bluestab.core.paths import expanded
    from bluestab.inference.weights import find_run
    from bluestab.models.growth import HOW, write_grown
    from bluestab.models.init_from import check_saved, verified

    if how not in HOW:
        raise ConfigError(f"--how is '{how}'" + did_you_mean(how, HOW))
    source = expanded(run)
    if not (source / "config.json").is_file():
        found = find_run(run, store_of(store))
        source = found.folder / "checkpoint" / found.at
        where = f"RUN is '{found.said}'"
        check_saved(found.folder, found.at, found.record, found.store, where)
        verified(found.folder, found.at, found.record, found.store, where)
    before, after, apart = write_grown(source, out, ffn=ffn, layers=layers, how=how, seed=seed)
    print(
        f"wrote {out}: {after:,} parameters in place of {before:,}; for a row of random pieces "
        f"what the encoder gives differs by {apart:.1g} at most; model=auto model.path={out}"
    )


@contextmanager
def _bar(source: Path) -> Iterator[Any]:
    """A bar of progress where somebody looks at it."""
    if not sys.stderr.isatty() or source.suffix == ".gz" or not source.is_file():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[items]:,} items"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=source.stat().st_size, items=0)
        yield lambda n_bytes, items: bar.update(task, completed=n_bytes, items=items)
