"""The verbs that say what there is: `bluestab list`, and `bluestab explain` for one thing of it.

All of it is read from where it is written: yamls and their comments, docstrings, the glossary.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

WIDTH = 96
MOST = 12  # texts about a knob of many files
METRICS = {
    "entity_f1": "entity_prf",
    "entity_precision": "entity_prf",
    "entity_recall": "entity_prf",
    "entity_f1_lenient": "entity_prf",
    "micro_f1": "multilabel_f1",
    "closed_accuracy": "accuracy",
    "open_accuracy": "accuracy",
    **dict.fromkeys(("accuracy_at_1", "accuracy_at_5", "recall_at_64"), "hits_at"),
    "detection_f1": "counted_f1",
}
"""Metric -> function that computes it, where the two have different names."""
SCORERS = ("scoring", "scoring_tags", "nearest")


def list_(
    kind: Annotated[
        str | None, typer.Argument(help="task, model, technique, sweep or sequence; default: all")
    ] = None,
) -> None:
    """What exists: tasks, models, techniques, sweeps, sequences.

    Example: bluestab list technique
    """
    from bluestab.core.catalogue import KINDS, entries, grouped_models
    from bluestab.report.terminal.fitted import print_names
    from bluestab.report.terminal.tables import console

    out = console()
    for one in (kind,) if kind else KINDS:
        if kind is None:
            out.print(f"{one}s", style="bold")
        groups = grouped_models() if one == "model" else {"": entries(one)}
        for group, names in groups.items():
            if group:
                out.print(f"{group}:")
            print_names(out, names)
    if kind is None:
        out.print("\nmore about one of them: bluestab explain NAME")


def explain(
    name: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Of a technique, task, model, sweep, metric, knob, "
            "column of summary.csv, or a term of the report",
        ),
    ] = None,
) -> None:
    """What a technique, task, model, metric, knob, column or term is.

    Examples: bluestab explain llrd; bluestab explain optim.warmup; bluestab explain p_adjusted
    """  # fmt: skip
    from bluestab.core.errors import ConfigError, nearest

    if not name:
        print(_everything())
        return
    asked = " ".join(name).strip()
    found = [text for source in SOURCES for text in source(asked)]
    if not found:
        from bluestab.cli.unknown import instead_of

        if other := instead_of(asked):
            raise ConfigError(f"bluestab knows no '{asked}'; {other}")
        near = nearest(asked, _names())
        meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ConfigError(f"bluestab knows no '{asked}'{meant or '; bluestab explain lists names'}")
    print("\n\n".join(found))


def _everything() -> str:
    from bluestab.core.catalogue import KINDS, files
    from bluestab.report.words.glossary import TERMS

    groups = {f"{kind}s": [*files(kind)] for kind in KINDS}
    groups["metrics"] = [*scorers()]
    groups["terms"] = [*TERMS]
    lines = ["bluestab explain NAME; names are", ""]
    for group, names in groups.items():
        lines += [_filled(f"{group + ':':12}{', '.join(names)}", " " * 12)]
    return "\n".join(
        [*lines, "knobs:      optim.lr, task.max_length, llrd.decay, ...: all that bluestab run "
                  "takes", "columns:    of summary.csv, such as ci_low, p_adjusted, more_seeds"]
    )  # fmt: skip


def _names() -> list[str]:
    from bluestab.core.catalogue import KINDS, files
    from bluestab.report.words.glossary import COLUMNS, TERMS

    kinds = [name for kind in KINDS for name in files(kind)]
    knobs = [path for path, _, _ in _knobs()]
    return list(dict.fromkeys([*kinds, *TERMS, *scorers(), *COLUMNS, *knobs]))


def _of_kind(asked: str) -> Iterator[str]:
    from omegaconf import OmegaConf

    from bluestab.core.catalogue import KINDS, files
    from bluestab.core.reference import card, opening

    for kind in KINDS:
        file = files(kind).get(asked)
        if file is None:
            continue
        node: Any = OmegaConf.load(file)
        group = {"sweep": "+sweeps", "sequence": "+sequence"}.get(kind)
        says = f"bluestab run -m {group}={asked}" if group else f"{kind}={asked}"
        lines = [f"{asked}: a {kind}, chosen by {says}", ""]
        if kind == "technique":
            target = str(OmegaConf.select(node, f"{asked}._target_"))
            lines += [card(target) or opening(file), "", *_knob_lines(file, kind)]
        elif kind == "sweep":
            lines += [opening(file)]
        else:
            about = node.get("about") or {}
            lines += [f"{key:10}{_fact(value)}" for key, value in about.items() if value]
            lines += ["", opening(file)] if opening(file) else []
            lines += ["", *_knob_lines(file, kind)]
        lines += ["", f"written in {file}"]
        yield "\n".join(lines).replace("\n\n\n", "\n\n")


def _fact(fact: Any) -> str:
    """A fact of the yaml: the sizes of parts in one line."""
    if not hasattr(fact, "items"):
        return str(fact)
    return ", ".join(f"{name} {n:,}" for name, n in fact.items() if n is not None)


def _knob_lines(file: Path, group: str) -> list[str]:
    """Knobs that a person sets, with their defaults and comments."""
    from bluestab.core.reference import knobs_of

    left_out = ("_target_", "about.", "search_space", "fetch", "sha256")
    found = [k for k in knobs_of(file) if not any(part in k.path for part in left_out)]
    if not found:
        return []
    return ["Knobs", *(_knob(f"{group}.{k.path}", k.default, k.comment) for k in found)]


def _knob(path: str, default: str, comment: str) -> str:
    return _filled(f"  {path}{f'={default}' if default else ''}  {comment}", " " * 6)


def _knobs() -> Iterator[tuple[str, str, Path]]:
    """Full path as it is typed, (default, comment) as a line, file."""
    from bluestab.core.paths import conf_dir
    from bluestab.core.reference import knobs_of

    conf = conf_dir()
    for file in [conf / "bluestab.yaml", *sorted(conf.glob("*/*.yaml")),
                 *sorted(conf.glob("hydra/*/*.yaml")),
                 *sorted(conf.glob("model/vision/*.yaml"))]:  # fmt: skip
        group = ".".join(file.parent.relative_to(conf).parts).removesuffix(".vision")
        for knob in knobs_of(file):
            if "about." in knob.path or knob.path.startswith(("hydra", "defaults")):
                continue
            path = f"{group}.{knob.path}".lstrip(".")
            yield path, _knob(path, knob.default, knob.comment), file


def _of_knob(asked: str) -> Iterator[str]:
    """By its whole path, or by its end: `llrd.decay`, `decay`. Equal texts are said once."""
    found: dict[str, list[str]] = {}
    every = [one for one in _knobs() if one[0] == asked or one[0].endswith(f".{asked}")]
    for _, text, file in [one for one in every if one[0] == asked] or every:
        found.setdefault(text, []).append(file.stem)
    if not found:
        return
    lines = [f"{asked}: a knob, set on the command line as KEY=VALUE", ""]
    for text, files in list(found.items())[:MOST]:
        names = ", ".join(files[:6]) + (", ..." if files[6:] else "")
        lines.append(f"{text}\n      [{names}]" if len(found) > 1 else text)
    if len(found) > MOST:
        lines.append(f"  and {len(found) - MOST} more, with other defaults")
    yield "\n".join(lines)


def scorers() -> dict[str, str]:
    """Metric -> what the function that computes it says of itself."""
    from bluestab.core.reference import functions
    from bluestab.tasks.metric import KNOWN

    said = {n: doc for m in SCORERS for n, doc in functions(f"bluestab.tasks.{m}").items()}
    return {name: said[METRICS.get(name, name)] for name in KNOWN}


def _of_metric(asked: str) -> Iterator[str]:
    from bluestab.tasks.metric import KNOWN

    if asked in KNOWN:
        metric = KNOWN[asked]
        better = "higher" if metric.higher_is_better else "lower"
        yield (
            f"{asked}: a metric, chosen by task.metric={asked} where the task has it; {better} is "
            f"better, from {metric.least:g} to {metric.most:g}\n\n{scorers()[asked]}"
        )


def _of_column(asked: str) -> Iterator[str]:
    from bluestab.report.words.glossary import column

    if said := column(asked):
        yield _filled(f"{asked}: a column of summary.csv: {said}")


def _of_term(asked: str) -> Iterator[str]:
    from bluestab.report.words.glossary import TERMS

    terms = {name.lower(): (name, said) for name, said in TERMS.items()}
    text = asked.lower().replace("_", " ")
    name, said = terms.get(text) or terms.get(text.removesuffix("s")) or ("", "")
    if said:
        yield _filled(f"{name}: a term: {said}")


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False,
                         break_on_hyphens=False, drop_whitespace=True)  # fmt: skip


SOURCES = (_of_term, _of_kind, _of_metric, _of_column, _of_knob)
