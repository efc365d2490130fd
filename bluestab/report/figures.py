"""Figures for papers: one function each, from the tables of the Python API. Colour-blind safe.

    seeds, budget      of runs:     bluestab.load_store(path)
    failed, changes, cost, memory  of arms: bluestab.load_summary(path)
    curves, gradients  of evaluations: bluestab.load_curves(path)

Every function returns a matplotlib figure, one panel per task and model; `columns` is its width in
columns of a paper: 1 (3.4 inches) or 2 (7 inches). `save` writes it as PNG, SVG and PDF.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bluestab import stats
from bluestab.core.printable import counted
from bluestab.store.files import new_aside, put_in_place
from bluestab.tasks.metric import Metric, metric_of_row

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Columns = Literal[1, 2]

MOST_ARMS = 200
"""More do not fit on a figure that anybody could look at (and drawing 1000 takes a minute)."""
MOST_LINES = 7
"""Arms that get a colour of their own where lines cross; others are grey."""
WIDTH = {1: 3.4, 2: 7.0}  # inches: one column and the whole width of common two-column styles
BLUE, RED, GREY, DARK = "#0072B2", "#D55E00", "#999999", "#444444"  # Okabe & Ito 2008
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SUFFIXES = (".png", ".svg", ".pdf")


def seeds(runs: pd.DataFrame, at: str = "last", columns: Columns = 2) -> Figure:
    """Every seed as a point over the box of its arm; failed runs are crosses."""
    part = _scored(runs, at)
    panels = _panels(part)
    figure, axes = _figure(panels, columns, rows="cell")
    for axis, (title, group) in zip(axes, panels, strict=True):
        cells = list(group.groupby("cell", sort=False))  # not by name: two cells never share a box
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
        _arms_down(axis, [scores["arm"].iloc[0] for _, scores in cells])
        metric = metric_of_row(group.iloc[0])
        keep_in_range([axis], "x", metric.least, metric.most)
        axis.set_title(f"{title}: test {group['metric'].iloc[0]}", loc="left", fontsize=9)
    figure.supxlabel("one point per seed; cross: failed run", fontsize=8, color=DARK)
    return figure


def failed(summary: pd.DataFrame, at: str = "last", columns: Columns = 1) -> Figure:
    """Share of failed runs per arm with Wilson's 95 % interval."""
    panels = _panels(_arms(summary, at))
    figure, axes = _figure(panels, columns, rows="cell", each=0.22)
    for axis, (title, group) in zip(axes, panels, strict=True):
        for row, arm in enumerate(group.to_dict("records")):
            colour = RED if arm["failed_share"] > 0 else BLUE
            axis.plot([arm["failed_low"], arm["failed_high"]], [row, row], color=colour, alpha=0.5)
            axis.plot(arm["failed_share"], row, "o", color=colour, markersize=4.5)
        _arms_down(axis, list(group["arm"]))
        axis.set_xlim(-0.02, 1.02)
        axis.set_title(title, loc="left", fontsize=9)
    figure.supxlabel("share of failed runs", fontsize=8, color=DARK)
    return figure


def changes(summary: pd.DataFrame, at: str = "last", columns: Columns = 1) -> Figure:
    """Change of the mean against the baseline on shared seeds, with its 95 % interval; filled where
    the corrected test says that it is one."""
    part = _arms(summary, at)
    panels = _panels(part[part["delta"].notna()])
    figure, axes = _figure(panels, columns, rows="cell", each=0.22)
    for axis, (title, group) in zip(axes, panels, strict=True):
        axis.axvline(0, color=GREY, linewidth=0.8, linestyle="--")
        for row, arm in enumerate(group.to_dict("records")):
            colour = RED if metric_of_row(arm).better(0, arm["delta"]) else BLUE
            sure = arm["p_adjusted"] is not None and arm["p_adjusted"] < 0.05
            axis.plot(
                [arm["delta_all_low"], arm["delta_all_high"]], [row, row], color=colour, alpha=0.6
            )
            face = colour if sure else "white"
            axis.plot(arm["delta"], row, "o", color=colour, markerfacecolor=face, markersize=5)
        _arms_down(axis, list(group["arm"]))
        axis.set_title(f"{title}: {group['metric'].iloc[0]}", loc="left", fontsize=9)
    baselines = ", ".join(dict.fromkeys(part["baseline"].dropna()))
    figure.supxlabel(f"change against {baselines or 'the baseline'}", fontsize=8, color=DARK)
    return figure


def cost(summary: pd.DataFrame, at: str = "last", columns: Columns = 1) -> Figure:
    """Change of the mean against mean seconds per run, in times of the baseline's."""
    return _change_against(_arms(summary, at), "seconds_mean", "time per run", columns)


def memory(summary: pd.DataFrame, at: str = "last", columns: Columns = 1) -> Figure:
    """Change of the mean against counted bytes of training, in times of the baseline's."""
    part = _arms(summary, at)
    known = part[part["memory_mean"].notna()]
    return _change_against(known, "memory_mean", "memory of training", columns)


def _change_against(part: pd.DataFrame, column: str, words: str, columns: Columns) -> Figure:
    used = {(r["task"], r["model"], r["arm"]): r[column] for r in part.to_dict("records")}
    compared = [(r["task"], r["model"], r["baseline"]) in used for r in part.to_dict("records")]
    part = part.loc[compared]
    panels = _panels(part[part["delta"].notna()])
    figure, axes = _figure(panels, columns, height=2.5)
    for axis, (title, group) in zip(axes, panels, strict=True):
        axis.axhline(0, color=GREY, linewidth=0.8, linestyle="--")
        ranked = sorted(group.to_dict("records"), key=lambda arm: -abs(arm["delta"]))
        for place, arm in enumerate(ranked):
            times = arm[column] / used[arm["task"], arm["model"], arm["baseline"]]
            axis.plot(times, arm["delta"], "o", color=BLUE, markersize=4)
            if place < MOST_LINES:  # the largest changes; more names would lie over each other
                where = (times, arm["delta"])
                axis.annotate(arm["arm"], where, (4, 3), textcoords="offset points", fontsize=7)
        axis.axvline(1, color=GREY, linewidth=0.8, linestyle="--")
        axis.margins(x=0.2, y=0.15)
        axis.set_title(f"{title}: change in {group['metric'].iloc[0]}", loc="left", fontsize=9)
    figure.supxlabel(f"{words}, in times of the baseline", fontsize=8, color=DARK)
    return figure


def budget(runs: pd.DataFrame, at: str = "last", columns: Columns = 1) -> Figure:
    """Expected test score of the best of k seeds by validation (`stats.expected_chosen`)."""
    from matplotlib.ticker import MaxNLocator

    panels = _panels(_scored(runs, at))
    figure, axes = _figure(panels, columns, height=2.4)
    for axis, (title, group) in zip(axes, panels, strict=True):
        lines = []
        metric: Metric = metric_of_row(group.iloc[0])
        for _, scores in group.groupby("cell", sort=False):
            judged = (metric.sign * scores["judged"].astype(float)).tolist()
            test = scores["score"].astype(float).tolist()
            found = stats.expected_chosen(judged, test, len(test))
            lines.append((scores["arm"].iloc[0], found))
        lines.sort(key=lambda line: -metric.sign * line[1][-1])
        for place, (arm, values) in enumerate(lines):
            own = place < MOST_LINES - 1
            axis.plot(
                range(1, len(values) + 1),
                values,
                color=OKABE_ITO[place] if own else "#cccccc",
                linewidth=1.4 if own else 0.8,
                marker="osD^vP"[place] if own else None,
                markersize=3,
                label=arm if own else None,
                zorder=2 if own else 1,
            )
        axis.legend(fontsize=7, frameon=False)
        keep_in_range([axis], "y", metric.least, metric.most)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_title(f"{title}: test {group['metric'].iloc[0]}", loc="left", fontsize=9)
    figure.supxlabel("seeds, of which validation picks one", fontsize=8, color=DARK)
    return figure


def curves(evaluations: pd.DataFrame, value: str = "validation", columns: Columns = 2) -> Figure:
    """Every run over steps, a panel per arm; failed runs in vermillion.

    value  `validation` or `train_loss`
    """
    groups = list(evaluations.groupby(["task", "model", "arm"], sort=False))
    wide = 4 if columns == 2 else 2
    return _grid(groups, value, columns, wide)


def gradients(evaluations: pd.DataFrame, columns: Columns = 2) -> Figure:
    """Gradient norm per layer group, median over runs, of good runs beside failed ones.

    From the embeddings (light) to the top (deep), after Mosbach et al. (2021, Figure 2).
    """
    groups = [name for name in evaluations.columns if str(name).startswith("grad_norm_")]
    panels = _panels(evaluations)
    figure, flat = _figure(panels, columns, height=2.4, across=2)
    for (title, part), pair in zip(panels, _pairs(flat), strict=True):
        is_failed = part["failed"].astype(bool)
        for axis, chosen, colour, word in (
            (pair[0], part[~is_failed], BLUE, "did not fail"),
            (pair[1], part[is_failed], RED, "failed"),
        ):
            n = chosen["key"].nunique()
            axis.set_title(f"{title}: {counted(n, 'run')} {word}", loc="left", fontsize=8)
            axis.set_yscale("log")
            for depth, group in enumerate(groups):
                median = chosen.groupby("step")[group].median().dropna()
                if len(median):
                    alpha = 0.25 + 0.75 * depth / max(1, len(groups) - 1)
                    axis.plot(median.index, median, color=colour, alpha=alpha, linewidth=1.3)
        pair[1].sharey(pair[0])
    figure.supxlabel("optimizer step", fontsize=8, color=DARK)
    return figure


def save_all(
    runs: pd.DataFrame, summary: pd.DataFrame, evaluations: pd.DataFrame, folder: Path, at: str
) -> list[Path]:
    """Write every figure that these tables have something for, as PNG, SVG and PDF."""
    drawn: dict[str, Callable[[], Figure]] = {
        "seeds": lambda: seeds(runs, at),
        "failed": lambda: failed(summary, at),
        "changes": lambda: changes(summary, at),
        "cost": lambda: cost(summary, at),
        "memory": lambda: memory(summary, at),
        "budget": lambda: budget(runs, at),
        "curves": lambda: curves(evaluations),
        "gradients": lambda: gradients(evaluations),
    }
    written = []
    for name, draw in drawn.items():
        try:
            figure = draw()
        except ValueError:  # nothing to draw, as changes where there is one arm
            continue
        written += save(figure, folder / name)
    return written


def save(figure: Figure, path: Path | str, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Write a figure as `path` with each suffix, aside first; returns the files. Fonts are embedded
    in PDF, and stay text in SVG."""
    import matplotlib as mpl

    written = []
    base = Path(path)
    base.parent.mkdir(parents=True, exist_ok=True)
    for suffix in suffixes:
        target = base.with_name(base.name + suffix)
        aside = new_aside(target)
        with mpl.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):
            figure.savefig(aside, format=suffix[1:], dpi=300 if len(suffixes) > 1 else 150)
        put_in_place(aside, target)
        written.append(target)
    return written


def save_seeds(runs: pd.DataFrame, path: Path) -> list[Path]:
    """Write `seeds` as PNG; nothing if no run has a score, or if there are more than MOST_ARMS."""
    scored = runs[runs["status"] != "crashed"]
    if scored.empty or scored["cell"].nunique() > MOST_ARMS:
        return []
    return save(seeds(runs), path.with_suffix(""), (".png",))


def keep_in_range(axes: Sequence[Axes], which: str, least: float, most: float) -> None:
    """End the axis `x` or `y` of scores, which these share, where their range ends, but for the
    room that markers need, and for a score that is drawn beyond it, as that of a failed run."""
    low, high = getattr(axes[0], f"get_{which}lim")()
    drawn = [getattr(axis.dataLim, f"interval{which}") for axis in axes]
    least, most = min(least, *(one[0] for one in drawn)), max(most, *(one[1] for one in drawn))
    room = 0.01 * (high - low)
    getattr(axes[0], f"set_{which}lim")(max(low, least - room), min(high, most + room))


# --- parts -----------------------------------------------------------------------------------


def _scored(runs: pd.DataFrame, at: str) -> pd.DataFrame:
    """Runs with a result and their score at this `at`: from a row per run, as the API gives them,
    or from a row per run and `at`, as reports are made of."""
    part = runs[runs["status"] != "crashed"]
    if "at" in part.columns:
        return part[part["at"] == at]
    names = ("score", "validation", "judged", "failed")
    return part.rename(columns={f"{name}_{at}": name for name in names})


def _arms(summary: pd.DataFrame, at: str) -> pd.DataFrame:
    return summary[(summary["at"] == at) & (summary["n"] > 0)]


def _panels(part: pd.DataFrame) -> list[tuple[str, Any]]:
    """Title and rows per task and model. Raises ValueError if there is nothing to draw."""
    if part.empty:
        raise ValueError("there is nothing to draw: no run of these has what the figure shows")
    return [
        (f"{task}, {model}", group)
        for (task, model), group in part.groupby(["task", "model"], sort=False)
    ]


def _figure(
    panels: Sequence[tuple[str, Any]],
    columns: Columns,
    *,
    rows: str | None = None,
    each: float = 0.34,
    height: float = 2.4,
    across: int = 1,
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel (or `across`) per task and model.

    rows    column whose different values are lines of a panel, `each` inches high
    height  of a panel otherwise, inches
    """
    from matplotlib.figure import Figure

    if columns not in WIDTH:
        raise ValueError(f"columns is {columns!r}: 1 or 2 columns of a paper")
    heights = [height if rows is None else 0.6 + each * g[rows].nunique() for _, g in panels]
    figure = Figure(figsize=(WIDTH[columns], sum(heights) + 0.5), layout="constrained")
    axes = figure.subplots(len(panels), across, squeeze=False, height_ratios=heights)
    for axis in axes.flat:
        _calm(axis)
    return figure, list(axes.flat)


def _grid(groups: Sequence[tuple[Any, Any]], value: str, columns: Columns, wide: int) -> Figure:
    from matplotlib.figure import Figure

    if not groups or value not in groups[0][1].columns:
        raise ValueError(f"there is nothing to draw: no curve with a column {value!r}")
    tall = -(-len(groups) // wide)
    figure = Figure(figsize=(WIDTH[columns], 1.35 * tall + 0.4), layout="constrained")
    axes = figure.subplots(tall, wide, squeeze=False, sharex=True, sharey=True)
    several = len({(task, model) for (task, model, _), _ in groups}) > 1
    for axis, ((task, model, arm), group) in zip(axes.flat, groups, strict=False):
        _calm(axis)
        for _, run in group.groupby("key", sort=False):
            bad = bool(run["failed"].iloc[0])
            axis.plot(run["step"], run[value], color=RED if bad else BLUE, alpha=0.7, linewidth=0.9)
        axis.set_title(f"{task}, {model}: {arm}" if several else arm, loc="left", fontsize=7)
    for axis in list(axes.flat)[len(groups) :]:
        axis.set_axis_off()
    if value == "validation" and all("metric" in group for _, group in groups):
        metrics = [metric_of_row(group.iloc[0]) for _, group in groups]
        ends = min(m.least for m in metrics), max(m.most for m in metrics)
        keep_in_range(list(axes.flat)[: len(groups)], "y", *ends)
    said = "validation score" if value == "validation" else "training loss"
    figure.supxlabel(f"optimizer step; {said}; vermillion: failed", fontsize=8, color=DARK)
    return figure


def _pairs(axes: Sequence[Axes]) -> Iterator[tuple[Axes, Axes]]:
    return zip(axes[::2], axes[1::2], strict=True)


def _calm(axis: Axes) -> None:
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8, length=2)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _arms_down(axis: Axes, arms: Sequence[str]) -> None:
    """Names of arms down the left side, the first on top."""
    axis.set_yticks(range(len(arms)), list(arms))
    axis.set_ylim(len(arms) - 0.4, -0.6)
    axis.spines["left"].set_visible(False)
