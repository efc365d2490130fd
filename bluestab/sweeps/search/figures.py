"""Figures of a search, as PNG: history, slices, importance, spread over seeds, Pareto front.

Stopped points are hollow everywhere: what is drawn of them is the mean of the seeds they had.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bluestab.report.figures import BLUE, GREY, RED, keep_in_range
from bluestab.sweeps.search.findings import Findings
from bluestab.sweeps.search.objectives import maximised, range_of
from bluestab.sweeps.search.points import shown
from bluestab.sweeps.search.told import scores_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SPREAD = 30  # points in the figure of seeds, the best first


def figures(found: Findings) -> dict[str, Figure]:
    """Name -> figure, of those that have something to show."""
    drawn: Mapping[str, Callable[[Findings], Figure | None]] = {
        "history": history,
        "slice": slices,
        "importance": importance,
        "seeds": seeds,
        "pareto": pareto,
    }
    made = {name: draw(found) for name, draw in drawn.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def history(found: Findings) -> Figure | None:
    """Points in the order in which they were drawn, and the best so far."""
    name, frame = found.search.objective[0], found.frame
    if found.search.several or frame.empty:
        return None
    figure, axis = _one(7.0, 2.8)
    _scatter(axis, frame["trial"], frame)
    full = frame[~frame["censored"] & frame[name].notna() & ~frame["infeasible"]]
    best = full[name].cummax() if maximised(name, found.search.sign) else full[name].cummin()
    axis.step(full["trial"], best, where="post", color=GREY, linewidth=1.2)
    keep_in_range([axis], "y", *found.search.range)
    axis.set_xlabel("trial")
    axis.set_ylabel(f"validation {name}")
    _legend(axis)
    return figure


def slices(found: Findings) -> Figure | None:
    """The objective along each knob."""
    frame, search = found.frame, found.search
    if search.several or frame.empty:
        return None
    knobs = [knob for knob in search.space.knobs if frame[knob.name].notna().any()]
    columns = min(3, len(knobs))
    rows = -(-len(knobs) // columns)
    figure = _figure(2.6 * columns + 0.6, 2.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for axis, knob in zip(axes, knobs, strict=False):
        part = frame[frame[knob.name].notna()]
        values = part[knob.name]
        if getattr(knob.space, "log", False):
            axis.set_xscale("log")
        elif not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            values = values.astype(str)
        _scatter(axis, values, part)
        axis.set_xlabel(knob.name, fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in list(figure.axes)[len(knobs) :]:
        axis.set_visible(False)
    keep_in_range(list(figure.axes)[: len(knobs)], "y", *search.range)
    figure.supylabel(f"validation {search.objective[0]}", fontsize=8)
    return figure


def importance(found: Findings) -> Figure | None:
    """Which knobs decide whether a point is among the best quarter."""
    if not found.importance:
        return None
    names = sorted(found.importance, key=lambda name: found.importance[name])
    figure, axis = _one(6.0, 0.8 + 0.3 * len(names))
    axis.barh(names, [found.importance[name] for name in names], color=BLUE, height=0.6)
    axis.set_xlim(0, 1)
    axis.set_xlabel("importance: being among the best quarter (PED-ANOVA)", fontsize=8)
    return figure


def seeds(found: Findings) -> Figure | None:
    """Every seed's score of the best points: how far they come apart."""
    by_number = {t.number: t for t in found.ranked}
    shown_first = list(found.ranked)[:MOST_SPREAD]
    if found.search.several or not shown_first:
        return None
    figure, axis = _one(7.0, 0.9 + 0.26 * len(shown_first))
    for row, trial in enumerate(shown_first):
        scores = scores_of(by_number[trial.number])
        failed = set(trial.user_attrs.get("failed", []))
        for seed, score in zip(found.search.seeds, scores, strict=False):
            bad = seed in failed
            axis.scatter(score, row, marker="x" if bad else "o", color=RED if bad else BLUE, s=16)
        axis.plot([min(scores), max(scores)], [row, row], color=GREY, linewidth=1, zorder=0)
    axis.set_yticks(
        range(len(shown_first)), [shown(t.params)[:60] for t in shown_first], fontsize=6
    )
    axis.invert_yaxis()
    keep_in_range([axis], "x", *found.search.range)
    axis.set_xlabel("validation score, one point per seed; cross: failed run", fontsize=8)
    return figure


def pareto(found: Findings) -> Figure | None:
    """The first two objectives, the front joined."""
    search, frame = found.search, found.frame
    if not search.several or frame.empty:
        return None
    x, y = search.objective[1], search.objective[0]
    full = frame[frame[x].notna() & frame[y].notna()]
    figure, axis = _one(5.0, 3.6)
    axis.scatter(full[x], full[y], color=BLUE, s=22)
    front = full[full["trial"].isin([t.number for t in found.ranked])].sort_values(x)
    axis.plot(front[x], front[y], color=RED, linewidth=1, marker="o", markersize=5)
    keep_in_range([axis], "x", *range_of(x, search.range))
    keep_in_range([axis], "y", *range_of(y, search.range))
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    return figure


def _scatter(axis: Axes, x: Any, frame: Any) -> None:
    """Complete points filled, stopped ones hollow, infeasible ones crossed."""
    kinds: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("all seeds", ~frame["censored"] & ~frame["infeasible"], {"color": BLUE}),
        ("stopped", frame["censored"], {"facecolors": "none", "edgecolors": GREY}),
        ("failed", ~frame["censored"] & frame["infeasible"], {"color": RED, "marker": "x"}),
    )
    for label, chosen, style in kinds:
        part = frame[chosen & frame["mean_so_far"].notna()]
        if not part.empty:
            axis.scatter(x[part.index], part["mean_so_far"], s=20, label=label, **style)


def _legend(axis: Axes) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _one(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _figure(width, height)
    axis = figure.subplots()
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure, axis
