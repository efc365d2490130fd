"""Sequences of tasks, put together from their stages: what was learnt, and what was forgotten."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bluestab import stats
from bluestab.core.types import At
from bluestab.models.init_from import START
from bluestab.report.frames.arms import arm_names
from bluestab.report.frames.runs import ATS, Row, scored
from bluestab.report.section import Results
from bluestab.report.tables import LEVEL
from bluestab.stats import forgetting as numbers
from bluestab.stats.arrays import FloatArray
from bluestab.tasks.metric import metric_of_row

OF_ONE_TASK = ("task", "data", "predecessor", "score_earlier", "shared_head", "init_from",
               "seeds")  # fmt: skip
"""Of a hashed config what differs between the stages of a sequence, and between its seeds."""

ONE_HEAD = ", one head"
"""What the name of an arm ends with where all tasks share a head."""


@dataclass(frozen=True)
class Chain:
    """One sequence that was seen through: an arm, in one order, at one seed.

    tasks   in the order in which they were trained
    scores  a(t, i), as `stats.forgetting` has it, in the units of the metric
    signs   +1, or -1 for a metric that falls with quality, `(T,)`
    reach   the least and the most that a mean of scores can be
    validation  mean over tasks of the score on validation after the last stage; NaN: not known
    alone   score of a run on task i alone with this seed, `(T,)`; NaN where there is none
    plain   what its first stage is but for the task, where nothing is held on to: as runs alone are
    techniques  of that stage, by name
    one_head  its tasks share a head
    """

    model: str
    arm: str
    at: At
    tasks: tuple[str, ...]
    seed: Any
    scores: FloatArray
    signs: FloatArray
    reach: tuple[float, float]
    validation: float
    alone: FloatArray
    plain: str
    techniques: str
    one_head: bool

    @property
    def upwards(self) -> FloatArray:
        """The scores so that they grow with quality."""
        found: FloatArray = self.scores * self.signs
        return found

    @property
    def subject(self) -> tuple[str, tuple[str, ...], str, bool]:
        """What chains must share to be compared: model, tasks in whatever order, weights, and
        whether they have one head."""
        return self.model, tuple(sorted(self.tasks)), self.at, self.one_head


def chains_of(results: Results) -> tuple[list[Chain], int]:
    """The sequences that were seen through, and how many were not."""
    runs = results.runs
    if runs.empty or "predecessor" not in runs or not any(map(_is_map, runs["predecessor"])):
        return [], 0
    found: list[Chain] = []
    left = 0
    for at in ATS:
        rows = {row["key"]: row for row in scored(runs, at)}
        stages = {k: r for k, r in rows.items() if _is_map(r["predecessor"])}
        stages = {
            k: r
            for k, r in stages.items()
            if r["predecessor"]["at"] == at and results.hashed[r["cell"]].get("score_earlier")
        }  # behind a pretraining nothing earlier can be scored
        gone_on = {row["predecessor"]["key"] for row in stages.values()}
        ends = [row for key, row in stages.items() if key not in gone_on]
        chains = [(row, chain) for row in ends if (chain := stages_to(row, rows)) is not None]
        most = {frozenset(r["task"] for r in chain) for _, chain in chains}
        whole = [
            (row, chain)
            for row, chain in chains
            if not any({r["task"] for r in chain} < other for other in most)
        ]
        left += len(ends) - len(whole)
        arms = _arms(results, [row for row, _ in whole])
        alone = _scores_alone(results, rows.values())
        for row, chain in whole:
            scores = _matrix(chain)
            if scores is not None:
                found.append(_chain(results, arms[row["cell"]], chain, scores, alone))
            else:
                left += 1
    return found, left


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def stages_to(row: Row, rows: Mapping[str, Row]) -> list[Row] | None:
    """The stages that led to this one, itself the last; None if one is not among the runs."""
    found = [row]
    while _is_map(row["predecessor"]):
        before = rows.get(row["predecessor"]["key"])
        if before is None:
            return None
        found.insert(0, row := before)
    return found


def trained_jointly(rows: Mapping[str, Row]) -> Iterator[tuple[Row, list[Row]]]:
    """Runs that were trained on all tasks at once, and the stages whose heads they have, themselves
    the last: they follow these and start from the model's own weights."""
    for row in rows.values():
        link = row.get("predecessor")
        starts = isinstance(link, Mapping) and link["at"] == START
        if starts and (stages := stages_to(row, rows)):
            yield row, stages


def joint_scores(row: Row, stages: Sequence[Row]) -> dict[str, float]:
    """Task -> what a run of `trained_jointly` scores on it; what is undefined counts as the failure
    score of its task."""
    scores = [*(score for _, score in row["earlier"]), row["score"]]
    return {
        stage["task"]: stage["failure_score"] if score is None else score
        for stage, score in zip(stages, scores, strict=True)
    }


def _matrix(chain: Sequence[Row]) -> FloatArray | None:
    """a(t, i); what is undefined counts as the failure score of its task. None if a stage has not
    scored the tasks before it."""
    table = np.full((len(chain), len(chain)), np.nan)
    for t, row in enumerate(chain):
        if [task for task, _ in row["earlier"]] != [one["task"] for one in chain[:t]]:
            return None
        for i, (_, score) in enumerate(row["earlier"]):
            table[t, i] = chain[i]["failure_score"] if score is None else score
        table[t, t] = row["score"]
    return table if np.isfinite(table[np.tril_indices(len(chain))]).all() else None


def _chain(
    results: Results,
    arm: str,
    chain: Sequence[Row],
    scores: FloatArray,
    alone: Mapping[tuple[str, str, Any], float],
) -> Chain:
    first, last = chain[0], chain[-1]
    plain = kind_of_all_else(results.hashed[first["cell"]])
    metrics = [metric_of_row(row) for row in chain]
    return Chain(
        model=last["model"],
        arm=arm,
        at=last["at"],
        tasks=tuple(row["task"] for row in chain),
        seed=last["streams"],
        scores=scores,
        signs=np.array([1.0 if one.higher_is_better else -1.0 for one in metrics]),
        reach=(min(one.least for one in metrics), max(one.most for one in metrics)),
        validation=_on_validation(chain),
        alone=np.array([alone.get((r["task"], plain, r["streams"]), math.nan) for r in chain]),
        plain=plain,
        techniques=first["technique"],
        one_head=last["shared_head"],
    )


def _on_validation(chain: Sequence[Row]) -> float:
    """Mean over tasks after the last stage; what is undefined counts as the failure score."""
    earlier = chain[-1]["earlier_validation"]
    if not isinstance(earlier, tuple):
        return math.nan
    pairs = zip((*earlier, chain[-1]["validation"]), chain, strict=True)
    scores = [row["failure_score"] if one is None else one for one, row in pairs]
    return float(np.mean(np.array(scores, dtype=np.float64)))


def _arms(results: Results, ends: Sequence[Row]) -> dict[str, str]:
    """Cell of a last stage -> the arm, named by its techniques and what else differs."""
    cells = {row["cell"]: row["model"] for row in ends}
    configs = {
        cell: {k: v for k, v in results.hashed[cell].items() if k not in OF_ONE_TASK}
        for cell in cells
    }
    names = arm_names(configs, {cell: ("", model) for cell, model in cells.items()})
    one_head = {row["cell"] for row in ends if row["shared_head"]}
    return {cell: name + ONE_HEAD * (cell in one_head) for cell, (name, _) in names.items()}


def kind_of_all_else(config: Mapping[str, Any]) -> str:
    """A hashed config but for its task, its seeds and what it goes on from, as text."""
    return json.dumps({k: v for k, v in config.items() if k not in OF_ONE_TASK}, sort_keys=True)


def _scores_alone(results: Results, rows: Any) -> dict[tuple[str, str, Any], float]:
    """Task, config of all else and seed -> score of a run that went on from no other."""
    return {
        (row["task"], kind_of_all_else(results.hashed[row["cell"]]), row["streams"]): row["score"]
        for row in rows
        if not _is_map(row["predecessor"]) and not isinstance(row["init_from"], str)
    }


COLUMNS = (
    "tasks", "model", "arm", "at", "n", "n_orders", "n_seeds", "unfinished",
    "average", "average_low", "average_high", "validation",
    "forgetting", "forgetting_low", "forgetting_high",
    "backward", "backward_low", "backward_high",
    "forward", "forward_low", "forward_high",
    "baseline", "n_paired", "change", "change_low", "change_high", "test_name", "p", "p_adjusted",
    "reduction", "reduction_low", "reduction_high",
)  # fmt: skip


def forgetting_frame(results: Results) -> pd.DataFrame:
    """One row per set of tasks, model and arm.

    tasks, n    the tasks, without an order; sequences that were seen through, in n_orders orders
                at n_seeds seeds; unfinished: others, of which a stage is missing
    average, forgetting, backward, forward   means over orders and seeds, with 95 % intervals that
        take neither orders for seeds nor seeds for orders (`stats.mean_interval`)
    validation  as average, on validation, by which a knob may be chosen
    change      of the forgetting against the baseline, at orders and seeds that both have; p of
                it, p_adjusted over the arms (Holm)
    reduction   relative, of the mean drop; none where the drop of the baseline is not shown to be
                above 0
    """
    chains, left = chains_of(results)
    table: list[Row] = []
    for subject in dict.fromkeys(chain.subject for chain in chains):
        arms: dict[str, list[Chain]] = defaultdict(list)
        for chain in chains:
            if chain.subject == subject:
                arms[chain.arm].append(chain)
        end = ONE_HEAD if subject[-1] else ""
        baseline = (results.baseline if results.baseline + end in arms else "none") + end
        rows = [_row(arm, own, arms.get(baseline), baseline) for arm, own in arms.items()]
        adjusted = stats.holm([row["p"] for row in rows if row["arm"] != baseline])
        for row in rows:
            row["unfinished"] = left
            row["p_adjusted"] = None if row["arm"] == baseline else adjusted.pop(0)
        table += rows
    return pd.DataFrame(table, columns=list(COLUMNS), dtype=object)


def _row(arm: str, own: Sequence[Chain], reference: Sequence[Chain] | None, baseline: str) -> Row:
    first = own[0]
    row: Row = {
        "tasks": " ".join(sorted(first.tasks)),
        "model": first.model,
        "arm": arm,
        "at": first.at,
        "n": len(own),
        "n_orders": len({chain.tasks for chain in own}),
        "n_seeds": len({chain.seed for chain in own}),
        "p": None,
    }
    forward = [numbers.forward(c.upwards, c.alone * c.signs) for c in own]
    measured: dict[str, list[float]] = {
        "forgetting": [numbers.forgetting(chain.upwards) for chain in own],
        "backward": [numbers.backward(chain.upwards) for chain in own],
    }
    if len({*first.signs.tolist()}) == 1:  # scores that grow and that fall have no common mean
        measured["average"] = [numbers.average(chain.scores) for chain in own]
        if np.isfinite([chain.validation for chain in own]).all():
            row["validation"] = stats.mean([chain.validation for chain in own])
    if np.isfinite(forward).all():
        measured["forward"] = forward
    for name, values in measured.items():
        row |= _with_ends(name, values, own)
    if "average_low" in row:
        least, most = first.reach
        row["average_low"] = max(row["average_low"], least)
        row["average_high"] = min(row["average_high"], most)
    if reference is not None and arm != baseline:
        row |= {"baseline": baseline, **_against(own, reference)}
    return row


def _design(chains: Sequence[Chain]) -> stats.Design:
    """Orders and seeds: chains of one seed share its luck, those of one order what it does."""
    return stats.design_of([(("order", c.tasks), ("seed", c.seed)) for c in chains])


def _with_ends(name: str, values: Sequence[float], chains: Sequence[Chain]) -> Row:
    interval = stats.mean_interval(values, _design(chains))
    found: Row = {name: stats.mean(values)}
    if interval is not None:
        found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def _against(own: Sequence[Chain], reference: Sequence[Chain]) -> Row:
    """Forgetting of an arm beside that of the baseline, at shared orders and seeds."""
    known = {(chain.tasks, chain.seed): chain for chain in reference}
    pairs = [(c, known[c.tasks, c.seed]) for c in own if (c.tasks, c.seed) in known]
    if not pairs:
        return {"n_paired": 0}
    mine, others = [a for a, _ in pairs], [b for _, b in pairs]
    forgot, forgot_before = (
        [numbers.forgetting(chain.upwards) for chain in side] for side in (mine, others)
    )
    changes = [a - b for a, b in zip(forgot, forgot_before, strict=True)]
    test = stats.mean_test(forgot, forgot_before, _design(mine))
    row = {
        "n_paired": len(pairs),
        **_with_ends("change", changes, mine),
        "test_name": test.name,
        "p": test.p,
    }
    drops, drops_before = (
        [float(numbers.drops(chain.upwards).mean()) for chain in side] for side in (mine, others)
    )
    of_baseline = stats.mean_interval(drops_before, _design(others))
    if of_baseline is None or of_baseline.low <= 0:
        return row
    own_seeds, other_seeds = (list(_by_seed(mine, side).values()) for side in (drops, drops_before))
    ratio, interval = numbers.reduction(own_seeds, other_seeds, 1 - LEVEL)
    row["reduction"] = ratio
    if interval is not None:
        row |= {"reduction_low": interval.low, "reduction_high": interval.high}
    return row


def _by_seed(chains: Sequence[Chain], values: Sequence[float]) -> dict[Any, list[float]]:
    found: dict[Any, list[float]] = defaultdict(list)
    for chain, value in zip(chains, values, strict=True):
        found[chain.seed].append(value)
    return found


STAGE_COLUMNS = (
    "order", "model", "arm", "at", "stage", "trained", "task", "metric_sign", "n", "score", "std",
)  # fmt: skip


def stages_frame(results: Results) -> pd.DataFrame:
    """a(t, i), one row per order, arm, stage and task so far.

    order, stage  the tasks as they were trained; which of them, from 1, and its name, trained
    score, std    of the task after that stage: mean and standard deviation over n seeds
    metric_sign   1, or -1 where a lower score is better
    """
    chains, _ = chains_of(results)
    groups: dict[tuple[Any, ...], list[Chain]] = defaultdict(list)
    for chain in chains:
        groups[chain.tasks, chain.model, chain.arm, chain.at].append(chain)
    table = [row for group in groups.values() for row in _stage_rows(group)]
    return pd.DataFrame(table, columns=list(STAGE_COLUMNS), dtype=object)


def _stage_rows(group: Sequence[Chain]) -> Iterator[Row]:
    first = group[0]
    for t, trained in enumerate(first.tasks):
        for i, task in enumerate(first.tasks[: t + 1]):
            values = [float(chain.scores[t, i]) for chain in group]
            yield {
                "order": " > ".join(first.tasks),
                "model": first.model,
                "arm": first.arm,
                "at": first.at,
                "stage": t + 1,
                "trained": trained,
                "task": task,
                "metric_sign": int(first.signs[i]),
                "n": len(values),
                "score": stats.mean(values),
                "std": stats.std(values),
            }
