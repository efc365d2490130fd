"""The files of a search: points.csv, best.yaml, figures, and a page that holds all of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bluestab.core.config import compose, resolved
from bluestab.core.errors import StoreError
from bluestab.store.files import flush, new_aside, put_in_place, write_text
from bluestab.sweeps.search.figures import figures, png
from bluestab.sweeps.search.findings import Findings, verdict_sentences
from bluestab.sweeps.search.points import Point, shown, spelled
from bluestab.sweeps.search.spec import Search

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;font-size:13px}td,th{padding:.2em .7em;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}tr.stopped{color:#888}
img{max-width:100%}pre{background:#f4f4f4;padding:.8em;overflow-x:auto}"""
SHOWN = 50  # points in the table of the page; points.csv has all


def best_yaml(search: Search, point: Point) -> str:
    """The winner as a sweep file: `./sweeps/best.yaml`, then `bluestab run -m +sweeps=best`.

    Task, model and techniques by the names of their yamls (an own task is called otherwise, after
    its file), and everything in which its runs differ from these alone.
    """
    composed = compose(search.job(point, search.seeds[0]))
    won, choices = resolved(composed), composed.hydra.runtime.choices
    techniques = f"[{','.join(won['technique'] or {})}]" if won["technique"] else "none"
    groups = {"task": choices["task"], "model": choices["model"], "technique": techniques}
    named = resolved(compose([f"{group}={name}" for group, name in groups.items()]))
    return "\n".join(
        [
            "# @package _global_",
            f"# Winner of search {search.name}: {shown(point)}",
            "defaults:",
            *(f"  - override /{group}: {name}" for group, name in groups.items()),
            *_yaml(_differing(won, named)),
            "",
        ]
    )


NOT_THE_WINNERS = ("store", "seed", "device", "sweep")


def _differing(
    one: Mapping[str, Any], other: Mapping[str, Any], top: bool = True
) -> dict[str, Any]:
    """The part of a tree that the other has not, or has differently."""
    found: dict[str, Any] = {}
    for key, value in one.items():
        if key not in other or (top and key in NOT_THE_WINNERS):
            continue  # what choices do not bring in belongs to no run
        if isinstance(value, Mapping) and isinstance(other[key], Mapping):
            if part := _differing(value, other[key], top=False):
                found[key] = part
        elif value != other[key]:
            found[key] = value
    return found


def _yaml(tree: Mapping[str, Any]) -> list[str]:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dict(tree))).splitlines() if tree else []


def write_search(found: Findings, folder: Path) -> list[Path]:
    """Write everything and return the files. Raises StoreError."""
    written = []
    best = None
    if found.ranked and not found.search.several:
        best = best_yaml(found.search, found.ranked[0].params)
    # composed before anything is written: a config that Hydra misses is an OSError as well

    def write(name: str, text: str) -> None:
        write_text(folder / name, text)
        written.append(folder / name)

    try:
        write("points.csv", found.frame.to_csv(index=False))
        if best is not None:
            write("best.yaml", best)
        drawn = {name: png(figure) for name, figure in figures(found).items()}
        for name, image in drawn.items():
            _write_bytes(folder / f"{name}.png", image)
            written.append(folder / f"{name}.png")
        write("search.html", page(found, drawn))
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror or error}); give another folder: "
            "bluestab search --out FOLDER"
        ) from error
    return written


def _write_bytes(path: Path, content: bytes) -> None:
    aside = new_aside(path)
    aside.write_bytes(content)
    flush(aside)
    put_in_place(aside, path)


def page(found: Findings, drawn: dict[str, bytes]) -> str:
    """The page, figures inside."""
    search = found.search
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{escape(search.name)}</title><style>{STYLE}</style>",
        f"<h1>Search {escape(search.name)}</h1><ul>",
        *(f"<li>{escape(sentence)}</li>" for sentence in verdict_sentences(found)),
        "</ul>",
        _arms(found),
        "<h2>Space</h2>",
        _table(["knob", "space"], [[k.name, k.text] for k in search.space.knobs]),
    ]
    titles = {
        "history": "Points in order",
        "slice": "Along each knob",
        "importance": "What matters",
        "seeds": "Spread over seeds of the best points",
        "pareto": "Pareto front",
    }
    for name, image in drawn.items():
        data = base64.b64encode(image).decode()
        parts.append(f"<h2>{titles[name]}</h2>")
        parts.append(f"<img alt='{titles[name]}' src='data:image/png;base64,{data}'>")
    parts.append("<p>Hollow points were stopped: they are censored, and drawn at the mean of the ")
    parts.append("seeds they had.</p><h2>Points</h2>")
    parts.append(_points(found))
    return "\n".join(part for part in parts if part) + "</html>\n"


def _arms(found: Findings) -> str:
    if not found.arms:
        return ""
    rows = [
        [
            arm.name,
            arm.point,
            _number(arm.searched),
            _number(arm.validation),
            _number(arm.shrinkage),
            _number(arm.mean),
            f"{arm.failed:.0%}",
            str(len(arm.scores)),
        ]
        for arm in found.arms
    ]
    heads = ["", "point", "search", "fresh validation", "shrinkage", "test", "failed", "n"]
    return "<h2>Confirmed on fresh seeds</h2>" + _table(heads, rows)


def _points(found: Findings) -> str:
    frame, search = found.frame, found.search
    if frame.empty:
        return ""
    order = {t.number: i for i, t in enumerate(found.ranked)}
    rows = sorted(
        frame.to_dict("records"),
        key=lambda row: (order.get(row["trial"], len(order)), row["censored"], -row["n_seeds"]),
    )
    names = [knob.name for knob in search.space.knobs]
    cells = [
        [
            str(row["trial"]),
            *(_said(row[name]) for name in names),
            *(_number(row[name]) for name in search.objective),
            f"{row['n_seeds']}/{len(search.seeds)}",
            str(row["note"])[:160],
        ]
        for row in rows[:SHOWN]
    ]
    classes = ["stopped" if row["censored"] else "" for row in rows[:SHOWN]]
    return _table(["trial", *names, *search.objective, "seeds", ""], cells, classes)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] = ()) -> str:
    lines = ["<table><tr>", *(f"<th>{escape(head)}</th>" for head in heads), "</tr>"]
    for i, row in enumerate(rows):
        kind = f" class='{classes[i]}'" if i < len(classes) and classes[i] else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return "".join(lines) + "</table>"


def _number(value: Any) -> str:
    return "" if value is None or value != value else f"{value:.4f}"


def _said(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else spelled(value)
