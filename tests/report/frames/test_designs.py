"""Arms whose seeds are crossed: what the summary makes of them, and what is said."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from bluestab import stats
from bluestab.report.frames.runs import Configs, named, rows_of
from bluestab.report.frames.summary import summary_frame
from bluestab.report.words.caveats import flags
from tests.report.test_report import LLRD, record, row


def crossed(shift: float, seed: int, **changed: Any) -> list[Any]:
    """Five initialisations x five orders: both matter as much as everything else together."""
    draw = np.random.default_rng(seed).normal
    scores = 0.7 + shift + 0.03 * (draw(size=(5, 1)) + draw(size=(1, 5)) + draw(size=(5, 5)))
    found = []
    for i, j in product(range(5), range(5)):
        one = record(float(scores[i, j]), **changed)
        one.result["config"]["seeds"] |= {"init": i, "order": j}
        one.result["key"] = f"{changed.get('technique', ())!r}{i}{j}"
        found.append(one)
    return found


def test_crossed_seeds_are_no_independent_runs() -> None:
    configs, rows = Configs(), []
    for one in [*crossed(0.0, 1), *crossed(0.01, 2, technique=LLRD)]:
        rows += list(rows_of(one))
        configs.add(one)
    runs = named(rows, configs.named())
    table = summary_frame(runs)
    none, llrd = row(table, "none"), row(table, "llrd")
    assert none["design"] == llrd["design"] == "5 init x 5 order"
    assert none["ci_method"] == "two-way t"
    plain = stats.t_interval(list(runs[(runs["arm"] == "none") & (runs["at"] == "last")]["score"]))
    assert plain is not None
    assert none["ci_high"] - none["ci_low"] > 1.3 * (plain.high - plain.low)
    assert llrd["test_name"] == "two-way t"
    assert llrd["n_paired"] == 25
    assert (llrd["p"] < 0.05) == (not llrd["delta_low"] <= 0 <= llrd["delta_high"])
    assert llrd["std_ratio"] > 0
    assert (llrd["p_std"], llrd["std_ratio_low"], llrd["more_seeds"]) == (None, None, None)
    (said,) = [s for s in flags(runs) if "llrd: 25 runs share seeds" in s]
    assert "(5 init x 5 order), so there are 5 independent repetitions at least" in said


def test_independent_seeds_have_no_design() -> None:
    configs, rows = Configs(), []
    for seed in range(6):
        one = record(0.5 + seed / 100, seed=seed)
        rows += list(rows_of(one))
        configs.add(one)
    runs = named(rows, configs.named())
    assert row(summary_frame(runs), "none")["design"] is None
    assert not [s for s in flags(runs) if "share seeds" in s]
    assert row(summary_frame(runs), "none")["ci_method"] == "t"
