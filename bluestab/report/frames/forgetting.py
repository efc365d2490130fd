"""The sections of a report about sequences of tasks: forgetting per arm, and every task after
every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bluestab.report.frames.sequences import forgetting_frame, stages_frame
from bluestab.report.section import Block, Grid, Json, Results, Section, table
from bluestab.report.tables import LEVEL, latex_grid, there
from bluestab.report.words.phrases import number

Row = Mapping[str, Any]

DEFINITIONS = (
    "a(t, i): score on task i after stage t, with the head of task i as it stood after stage i; "
    "the head is frozen later (no technique trains it again). Arms with one head for all tasks say "
    "so: there with that head as it stands after stage t.",
    "Average score: mean over all tasks i of a(T, i), T being the last stage.",
    "On validation: the average score with validation scores in place of test scores, by which a "
    "knob may be chosen.",
    "Forgetting: mean over i < T of max over i <= t < T of a(t, i) - a(T, i).",
    "Backward transfer: mean over i < T of a(T, i) - a(i, i).",
    "Forward transfer: mean over i > 1 of a(i, i) minus the score of a run on task i alone with "
    "the same seed, without what holds on to earlier tasks; shown where there are such runs.",
    "Relative reduction of forgetting: 1 - drop(arm) / drop(baseline), drop = a(i, i) - a(T, i), a "
    "ratio of means over orders and tasks, with an interval by resampling seeds; - where the drop "
    "of the baseline is not shown to be above 0. This is our reading: that of McInerney et al. "
    "2021 is not known.",
    "Intervals hold 95 % over orders and seeds, which are crossed: orders are no further seeds, "
    "and count as a sample of orders. Of few seeds the interval of the reduction is too narrow.",
    "Where a metric falls with quality, differences have their sign turned.",
)
"""What the columns mean, in words."""

HEADINGS = (
    "model", "arm", "orders x seeds", "average score", "on validation", "forgetting",
    "backward transfer", "forward transfer", "change of forgetting", "p", "relative reduction",
)  # fmt: skip


def _at(results: Results, name: str) -> list[Row]:
    frame = results.frame(name)
    return frame.to_dict("records") if len(frame) else []


def _cells(row: Row) -> list[str]:
    return [
        str(row["model"]),
        str(row["arm"]),
        f"{row['n_orders']} x {row['n_seeds']}",
        _span(row, "average"),
        number(row["validation"], 3),
        *(_span(row, name) for name in ("forgetting", "backward", "forward", "change")),
        _p(row),
        _percent(row),
    ]


def _span(row: Row, name: str) -> str:
    if not there(row[name]):
        return "" if name == "change" and not there(row["baseline"]) else "-"
    sign = "" if name == "average" else "+"
    ends = ""
    if there(row[f"{name}_low"]):
        ends = f" [{row[f'{name}_low']:{sign}.3f}, {row[f'{name}_high']:{sign}.3f}]"
    return f"{row[name]:{sign}.3f}{ends}"


def _p(row: Row) -> str:
    if not there(row["baseline"]):
        return ""
    if not there(row["p_adjusted"]):
        return "-"
    return "< 0.001" if row["p_adjusted"] < 0.001 else number(row["p_adjusted"], 3)


def _percent(row: Row) -> str:
    if not there(row["baseline"]):
        return ""
    if not there(row["reduction"]):
        return "-"
    ends = ""
    if there(row["reduction_low"]):
        ends = f" [{row['reduction_low']:.0%}, {row['reduction_high']:.0%}]"
    return f"{row['reduction']:.0%}{ends}"


def _tables(results: Results) -> dict[str, list[Row]]:
    """Tasks of a sequence -> its rows."""
    found: dict[str, list[Row]] = {}
    for row in _at(results, "forgetting"):
        found.setdefault(str(row["tasks"]), []).append(row)
    return found


def _printed(results: Results) -> list[Block]:
    blocks: list[Block] = []
    for tasks, rows in _tables(results).items():
        blocks.append(f"\nsequences of {tasks.replace(' ', ', ')}: what was learnt and forgotten")
        blocks.append(Grid(HEADINGS, [_cells(row) for row in rows], n_words=2))
        if rows[0]["unfinished"]:
            blocks.append(f"{rows[0]['unfinished']} sequences were not seen through: left out")
    return [*blocks, *DEFINITIONS] if blocks else []


def _sentences(results: Results) -> list[str]:
    said = []
    for tasks, rows in _tables(results).items():
        for row in rows:
            if not there(row["baseline"]) or not there(row["change"]):
                continue
            sure = there(row["p_adjusted"]) and row["p_adjusted"] < LEVEL
            word = "" if sure else ", which is not shown to be a change"
            reduced = _percent(row)
            less = "" if reduced == "-" else f"; relative reduction of forgetting {reduced}"
            said.append(
                f"{tasks.replace(' ', ', ')} with {row['model']}, {row['arm']} against "
                f"{row['baseline']}: forgetting {_span(row, 'forgetting')}, change "
                f"{_span(row, 'change')}{word}{less}"
            )
    return said


def _page(results: Results) -> Json:
    if not _at(results, "forgetting"):
        return {}
    return {
        "forgetting": table(results.frame("forgetting")),
        "forgetting_words": [
            {"tasks": tasks, "headings": list(HEADINGS), "rows": [_cells(row) for row in rows]}
            for tasks, rows in _tables(results).items()
        ],
        "forgetting_definitions": list(DEFINITIONS),
    }


def _latex(results: Results) -> str | None:
    found = [
        latex_grid(
            f"Sequences of {tasks.replace(' ', ', ')}: average score, forgetting and transfer.",
            f"forgetting-{tasks}",
            HEADINGS,
            [_cells(row) for row in rows],
            n_words=2,
        )
        for tasks, rows in _tables(results).items()
    ]
    return "\n".join(found) if found else None


def _stages_printed(results: Results) -> Sequence[Block]:
    """The matrices, where they are few enough to be read in a terminal."""
    rows = _at(results, "stages")
    groups = dict.fromkeys((row["order"], row["model"], row["arm"]) for row in rows)
    if not groups or len(groups) > 12:
        return []
    blocks: list[Block] = ["\nscore on every task so far after each stage, mean over seeds"]
    for order in dict.fromkeys(order for order, _, _ in groups):
        tasks = str(order).split(" > ")
        found = []
        for model, arm in ((m, a) for o, m, a in groups if o == order):
            own = {
                (row["stage"], row["task"]): row["score"]
                for row in rows
                if (row["order"], row["model"], row["arm"]) == (order, model, arm)
            }
            for t, trained in enumerate(tasks, 1):
                scores = [number(own[t, i]) if (t, i) in own else "" for i in tasks]
                found.append([model if t == 1 else "", arm if t == 1 else "", trained, *scores])
        blocks.append(Grid(("model", "arm", "after training", *tasks), found, n_words=3))
    return blocks


FORGETTING = Section(
    "forgetting",
    "What was forgotten",
    "Tasks one after another: what an arm has learnt of all of them at the end, and what it has "
    "lost of the earlier ones on the way.",
    frame=lambda results, _: forgetting_frame(results),
    sentences=_sentences,
    printed=_printed,
    data=_page,
    latex=_latex,
)

STAGES = Section(
    "stages",
    "Every task after every stage",
    "a(t, i), mean over seeds: rows are stages, columns tasks in the order in which they were "
    "trained. The deeper the tone, the further below its best so far. Then a line for each arm.",
    frame=lambda results, _: stages_frame(results),
    printed=_stages_printed,
)
