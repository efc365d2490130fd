"""Figures for papers: one function each, from the table of runs. Colour-blind safe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_ARMS = 200
"""More do not fit on a figure that anybody could look at (and drawing 1000 takes a minute)."""
BLUE, RED, GREY = "#0072B2", "#D55E00", "#999999"  # Okabe & Ito 2008


def seeds(runs: pd.DataFrame, at: str = "last") -> Figure:
    """Every seed as a point over the box of its arm; failed runs are crosses.

    runs  as `bluestab.report.frame.runs_frame` gives it; one panel per task and model
    """
    from matplotlib.figure import Figure

    part = runs[(runs["at"] == at) & (runs["status"] != "crashed")]
    panels = list(part.groupby(["task", "model"], sort=False))
    ratios = [0.6 + 0.34 * group["cell"].nunique() for _, group in panels]
    figure = Figure(figsize=(7.0, sum(ratios) + 0.5), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for axis, ((task, model), group) in zip(axes, panels, strict=True):
        cells = list(group.groupby("cell", sort=False))  # not by name: two cells never share a box
        arms = [scores["arm"].iloc[0] for _, scores in cells]
        for row, (_, scores) in enumerate(cells):
            axis.boxplot(
                scores["score"].astype(float),
                positions=[row],
                orientation="horizontal",
                widths=0.5,
                showfliers=False,
                medianprops={"color": GREY, "linewidth": 1.5},
                boxprops={"color": GREY},
                whiskerprops={"color": GREY},
                capprops={"color": GREY},
            )
            for failed, marker, colour in ((False, "o", BLUE), (True, "x", RED)):
                chosen = scores[scores["failed"].astype(bool) == failed]["score"].astype(float)
                axis.scatter(
                    chosen, [row] * len(chosen), marker=marker, color=colour, s=22, zorder=3
                )
        axis.set_yticks(range(len(arms)), arms)
        axis.invert_yaxis()
        axis.set_title(f"{task}, {model}: test {group['metric'].iloc[0]}", loc="left", fontsize=10)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
    figure.supxlabel("one point per seed; cross: failed run", fontsize=8, color="#555555")
    return figure


def save_seeds(runs: pd.DataFrame, path: Path) -> list[Path]:
    """Write `seeds` as PNG; nothing if no run has a score, or if there are more than MOST_ARMS."""
    scored = runs[runs["status"] != "crashed"]
    if scored.empty or scored["cell"].nunique() > MOST_ARMS:
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    seeds(runs).savefig(aside, dpi=150)
    aside.replace(path)
    return [path]
