"""Verbs about data before a run: `bluestab inspect`, which looks at them or at a model, and
`bluestab vocabulary`, which makes word pieces of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

HYDRA: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}


def inspect(
    context: typer.Context,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write it as a page, too: --html data.html")
    ] = None,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="With --html: random items on the page, their text")
    ] = False,
    examples: Annotated[
        int, typer.Option("--examples", min=0, help="Random training items to show")
    ] = 10,
    save_as: Annotated[
        str | None,
        typer.Option("--save-as", help="Keep the task (or model): task=NAME works anywhere"),
    ] = None,
) -> None:
    """What the data of a task are like; nothing is trained.

    Takes the same overrides as run: counts, labels, lengths, repeated texts, leaks between the
    parts, and what differences the test part can show.
    `bluestab inspect model model=auto model.path=DIR` looks at a model instead: what it is made of.

    Example: bluestab inspect task=classification task.train=mine.csv
    """
    from bluestab.cli.hydra_app import run_app
    from bluestab.core.errors import ConfigError

    if with_text and html is None:
        raise ConfigError("--with-text puts texts on the page that --html names; add --html FILE")
    if any(argument in ("-m", "--multirun") for argument in context.args):
        raise ConfigError("inspect looks at one task; leave -m out")

    if of_model := context.args[:1] == ["model"]:
        if html is not None:
            raise ConfigError("inspect model writes no page; leave --html out")
        context.args.pop(0)

    def look(cfg: Any) -> None:
        if of_model:
            _inspect_model(cfg, save_as)
        else:
            _inspect(cfg, html, with_text, examples, save_as)

    run_app(look, context.args)


def _inspect_model(cfg: Any, save_as: str | None) -> None:
    from bluestab.core.config import resolved
    from bluestab.models.discover import described
    from bluestab.models.model_inspection import inspect_model
    from bluestab.models.saved import save_model

    node = described(resolved(cfg)["model"])
    model, rows = inspect_model(node)
    for heading, text in rows:
        print(f"{heading:<16}{text}")
    if save_as is not None:
        file = save_model(save_as, node, model.identity())
        print(f"\nwrote {file}; from any folder: bluestab run model={save_as}")


def _inspect(
    cfg: Any, html: Path | None, with_text: bool, examples: int, save_as: str | None
) -> None:
    from hydra.core.hydra_config import HydraConfig

    from bluestab.core.config import resolved
    from bluestab.core.errors import StoreError
    from bluestab.report.terminal.inspection_view import page, print_inspection
    from bluestab.store.files import write_text
    from bluestab.tasks.saved import save_task
    from bluestab.training.check import check
    from bluestab.training.inspection import inspect as look

    plain = resolved(cfg)
    run = check(plain)
    found = look(run, examples)
    print_inspection(found)
    if html is not None:
        try:
            write_text(html, page(found, with_text=with_text))
            html.chmod(0o600)  # for its owner alone, until they decide otherwise
        except OSError as error:
            raise StoreError(f"{html} cannot be written ({error.strerror})") from error
        print(f"\nwrote {html}" + ("" if with_text else " (no text of the data is on it)"))
    if save_as is not None:
        kind = str(HydraConfig.get().runtime.choices["task"])
        file = save_task(save_as, kind, plain["task"], run.data)
        print(f"\nwrote {file}; from any folder: bluestab run task={save_as}")


def vocabulary(
    texts: Annotated[list[str], typer.Argument(help="Files or folders of text, as task.train")],
    out: Annotated[Path, typer.Option("--out", help="New folder of the tokenizer")],
    size: Annotated[int, typer.Option("--size", min=100, help="Word pieces, at most")] = 8000,
    text: Annotated[
        str | None, typer.Option("--text", help="Column of a table; default: one called text")
    ] = None,
    cased: Annotated[bool, typer.Option("--cased", help="Keep capitals and accents")] = False,
) -> None:
    """Word pieces (WordPiece) of your own text, for pretraining.

    The same text gives the same pieces. Then: model=bert_tiny model.vocabulary=DIR

    Example: bluestab vocabulary abstracts.jsonl.gz --size 8000 --out words
    """
    from bluestab.core.instantiate import instantiate
    from bluestab.core.paths import conf_dir
    from bluestab.core.plain_files import read_yaml
    from bluestab.data.formats.raw_text import files_in
    from bluestab.data.locate import locate_own
    from bluestab.models.learn_vocabulary import learn_pieces, words_in, write_vocabulary
    from bluestab.tasks.masked_language import MaskedLanguage

    node = {**read_yaml(conf_dir() / "task" / "mlm.yaml"), "train": texts[0], "text": text}
    task = instantiate(node, MaskedLanguage, "task")
    words: Counter[str] = Counter()
    n = 0
    for name in texts:
        for file in files_in(locate_own(name, None)):
            found, _ = task.documents_in(file)
            words += words_in((document for _, document in found), cased=cased)
            n += len(found)
    pieces = learn_pieces(words, size)
    write_vocabulary(pieces, out, cased=cased)
    print(
        f"wrote {out}: {len(pieces):,} pieces of {words.total():,} words in {n:,} documents; "
        f"bluestab run task=mlm task.train={texts[0]} model=bert_tiny model.vocabulary={out}"
    )
