"""Where the spread comes from: head initialisation or order of examples, folds or seeds, the
pretraining or the fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bluestab.stats import describe
from bluestab.stats.arrays import TIE, FloatArray, finite, scale
from bluestab.stats.tests import f_tail


@dataclass(frozen=True)
class TwoWay:
    """Components of variance of scores over two kinds of seed, in squared units of the score.

    init, order, residual      variance components, >= 0; the residual holds the interaction of the
                               two and all else (dropout, nondeterminism): one run per combination
                               cannot tell them apart
    share_init, share_order, share_residual   of their sum, in [0, 1]; None if nothing varies
    std_init_alone, std_order_alone           expected std if only that seed is varied
    f_init, f_order            MS / MS residual, with df_init, df_order and df_residual
    p_init, p_order            of these; None if nothing is left over
    """

    init: float
    order: float
    residual: float
    share_init: float | None
    share_order: float | None
    share_residual: float | None
    std_init_alone: float
    std_order_alone: float
    f_init: float | None
    f_order: float | None
    p_init: float | None
    p_order: float | None
    df_init: int
    df_order: int
    df_residual: int


def two_way(scores: npt.ArrayLike) -> TwoWay | None:
    """Random-effects analysis of variance of `scores` `(n_init, n_order)`, one run per cell.

    MS_init = n_order var(row means), MS_order alike, MS_residual over (n_init - 1)(n_order - 1);
    component = (MS - MS_residual) / size of the other side, set to 0 where negative (Searle,
    Casella & McCulloch 1992). The layout of Dodge et al. (2020, Tables 3 and 4: head
    initialisation x data order). F tests assume normal effects; p-values are of each on its own.
    None if a side has fewer than two seeds. Raises ValueError for other shapes and scores that are
    not finite.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"scores are (n_init, n_order), not of shape {table.shape}")
    finite(table.ravel())
    n_init, n_order = table.shape
    if min(n_init, n_order) < 2:
        return None
    # canonical order: the numbers do not change to the last bit when seeds are listed otherwise
    table = table[np.argsort(table.mean(axis=1), kind="stable")]
    table = table[:, np.argsort(table.mean(axis=0), kind="stable")]
    df_init, df_order = n_init - 1, n_order - 1
    df_residual = df_init * df_order
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    left = table - rows[:, None] - columns[None] + table.mean()
    ms_init = n_order * float(np.var(rows, ddof=1))
    ms_order = n_init * float(np.var(columns, ddof=1))
    ms_residual = float(np.sum(left**2)) / df_residual
    nil = (TIE * scale(table)) ** 2
    ms_init, ms_order, ms_residual = (
        0.0 if m <= nil else m for m in (ms_init, ms_order, ms_residual)
    )
    init = max(0.0, (ms_init - ms_residual) / n_order)
    order = max(0.0, (ms_order - ms_residual) / n_init)
    total = init + order + ms_residual
    f_init = ms_init / ms_residual if ms_residual else None
    f_order = ms_order / ms_residual if ms_residual else None
    return TwoWay(
        init=init,
        order=order,
        residual=ms_residual,
        share_init=init / total if total else None,
        share_order=order / total if total else None,
        share_residual=ms_residual / total if total else None,
        std_init_alone=math.sqrt(float(np.mean(np.var(table, axis=0, ddof=1)))),
        std_order_alone=math.sqrt(float(np.mean(np.var(table, axis=1, ddof=1)))),
        f_init=f_init,
        f_order=f_order,
        p_init=None if f_init is None else f_tail(f_init, df_init, df_residual),
        p_order=None if f_order is None else f_tail(f_order, df_order, df_residual),
        df_init=df_init,
        df_order=df_order,
        df_residual=df_residual,
    )


@dataclass(frozen=True)
class TwoStages:
    """Components of variance of scores over settings of a pretraining, its seeds, and those of the
    fine-tuning, in squared units of the score, >= 0.

    setting    between means of settings; None for one setting
    before     between pretrainings of one setting
    after      between fine-tuning seeds, alike from every pretraining
    residual   fine-tuning seeds that act otherwise from each pretraining, and all else
    shares     of these four, in this order, of their sum, in [0, 1]; None if nothing varies
    """

    setting: float | None
    before: float
    after: float
    residual: float
    shares: tuple[float, float, float, float] | None


def two_stages(scores: npt.ArrayLike) -> TwoStages | None:
    """Random-effects analysis of variance of `scores` `(n_settings, n_before, n_after)`: seeds of
    the pretraining are nested in settings, those of the fine-tuning are crossed with both.

    Expected mean squares (Searle, Casella & McCulloch 1992), s settings of p pretrainings with f
    seeds each: MS_residual = r; MS_after = r + s p a; MS_before = r + f b; MS_setting = r + f b +
    p f c. Components are solved from these and set to 0 where negative; of one setting they are
    those of `two_way`. None if there are fewer than two seeds of either. Raises ValueError for
    other shapes and scores that are not finite.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 3:
        raise ValueError(f"scores are (n_settings, n_before, n_after), not {table.shape}")
    finite(table.ravel())
    s, p, f = table.shape
    if s < 1 or min(p, f) < 2:
        return None
    runs, settings, seeds = table.mean(axis=2), table.mean(axis=(1, 2)), table.mean(axis=(0, 1))
    left = table - runs[..., None] - seeds + table.mean()
    nil = (TIE * scale(table)) ** 2

    def mean_square(squares: float, df: int) -> float:
        return 0.0 if squares / df <= nil else squares / df

    residual = mean_square(float(np.sum(left**2)), (s * p - 1) * (f - 1))
    of_seeds = mean_square(s * p * float(np.sum((seeds - table.mean()) ** 2)), f - 1)
    of_runs = mean_square(f * float(np.sum((runs - settings[:, None]) ** 2)), s * (p - 1))
    before = max(0.0, (of_runs - residual) / f)
    after = max(0.0, (of_seeds - residual) / (s * p))
    setting = None
    if s > 1:
        of_settings = mean_square(p * f * float(np.sum((settings - table.mean()) ** 2)), s - 1)
        setting = max(0.0, (of_settings - of_runs) / (p * f))
    parts = (setting or 0.0, before, after, residual)
    total = sum(parts)
    a, b, c, d = (part / total for part in parts) if total else (0.0,) * 4
    return TwoStages(setting, before, after, residual, (a, b, c, d) if total else None)


@dataclass(frozen=True)
class Nested:
    """Scores of seeds within folds.

    mean         of the means of the folds, each the same weight
    std_folds    sample std over these means; None if one fold
    std_seeds    root mean of the sample variances within folds; None if no fold has two seeds
    n_folds, n   folds and runs
    by_fold      mean over seeds of each fold, `(n_folds,)`, in order of the folds' names
    """

    mean: float
    std_folds: float | None
    std_seeds: float | None
    n_folds: int
    n: int
    by_fold: FloatArray


def nested_mean(scores_by_fold_and_seed: Mapping[Hashable, npt.ArrayLike]) -> Nested | None:
    """Mean over folds of the mean over seeds; fold -> scores `(n_seeds,)`; None if there are none.

    Seeds of one fold are no further data: ten folds with five seeds are ten values, not fifty.
    Folds share their training examples, and no unbiased estimate of their variance exists (Bengio &
    Grandvalet 2004): for an interval see `intervals.corrected_t_interval` of `by_fold`, for two
    arms `tests.corrected_resampled_t` of its differences. Raises ValueError for an empty fold.
    """
    folds = {
        name: finite(scores_by_fold_and_seed[name]) for name in _named(scores_by_fold_and_seed)
    }
    if not folds:
        return None
    for name, values in folds.items():
        if not len(values):
            raise ValueError(f"fold {name!r} has no score")
    means = [describe.mean(values) for values in folds.values()]
    centre = describe.mean(means)  # type: ignore[arg-type]
    assert centre is not None
    within = [std**2 for values in folds.values() if (std := describe.std(values)) is not None]
    pooled = describe.mean(within)
    return Nested(
        mean=centre,
        std_folds=describe.std(means),  # type: ignore[arg-type]
        std_seeds=None if pooled is None else math.sqrt(pooled),
        n_folds=len(folds),
        n=sum(map(len, folds.values())),
        by_fold=np.array(means, dtype=np.float64),
    )


def _named(folds: Mapping[Hashable, npt.ArrayLike]) -> list[Hashable]:
    """Numbers by size, all else by its text."""
    return sorted(folds, key=lambda f: (0, f, "") if isinstance(f, int) else (1, 0, str(f)))
