"""Statistics over seeds: describe one cell, compare two, and say how sure that is.

To be filled.
"""

from bluestab.stats.budget import expected_best, expected_best_std, expected_chosen
from bluestab.stats.components import Nested, TwoWay, nested_mean, two_way
from bluestab.stats.describe import (
    failed_share,
    iqm,
    mean,
    median,
    paired_delta,
    std,
    std_ratio,
    summary,
)
from bluestab.stats.dominance import (
    almost_stochastic_order,
    probability_of_improvement,
    probability_of_improvement_interval,
)
from bluestab.stats.intervals import (
    Interval,
    bootstrap,
    default_interval,
    items_and_seeds_bootstrap,
    paired_bootstrap,
    pearson_interval,
    stratified_bootstrap,
    t_interval,
    welch_interval,
    wilson,
)
from bluestab.stats.power import fewest_pairs, more_seeds_needed, power_of, seeds_needed
from bluestab.stats.tests import (
    Test,
    corrected_resampled_t,
    default_test,
    holm,
    paired_permutation,
    wilcoxon,
)
from bluestab.stats.variance import brown_forsythe, paired_variance, std_ratio_interval

__all__ = [
    "Interval",
    "Nested",
    "Test",
    "TwoWay",
    "almost_stochastic_order",
    "bootstrap",
    "brown_forsythe",
    "corrected_resampled_t",
    "default_interval",
    "default_test",
    "expected_best",
    "expected_best_std",
    "expected_chosen",
    "failed_share",
    "fewest_pairs",
    "holm",
    "iqm",
    "items_and_seeds_bootstrap",
    "mean",
    "median",
    "more_seeds_needed",
    "nested_mean",
    "paired_bootstrap",
    "paired_delta",
    "paired_permutation",
    "paired_variance",
    "pearson_interval",
    "power_of",
    "probability_of_improvement",
    "probability_of_improvement_interval",
    "seeds_needed",
    "std",
    "std_ratio",
    "std_ratio_interval",
    "stratified_bootstrap",
    "summary",
    "t_interval",
    "two_way",
    "welch_interval",
    "wilcoxon",
    "wilson",
]
