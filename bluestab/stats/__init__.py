"""Statistics over seeds: describe a cell, compare two, say how sure that is. Pure functions.

    describe     mean, std, iqm, shares, paired deltas   tests       permutation, Holm, folds
    intervals    t, Wilson, bootstrap, items and seeds   variance    spread of two arms
    budget       expected best of k runs                 power       how many seeds
    components   two kinds of seed; stages; folds        dominance   P(improvement), ASO
    changes      sign flips of a family of arms          failing     failed shares of two arms
    designs      blocks of runs, crossed seeds           verdict     which arm to use
    across       means over tasks                        anytime     changes looked at again
    items        other test items                        over_folds  cross-validated means
    layouts      seeds and folds of a verdict

None stands for what is undefined, never NaN. Scores that are not finite raise ValueError. Whatever
is drawn comes from a `seed` and does not depend on the order of the runs. scipy is imported late.

How well each keeps its promise was measured; `tests/stats/test_calibration.py` holds every figure
below. 2,000 experiments per cell (999 resamples), so that 5 % is known to 1 point and 95 % too;
families of eight arms 1,000. Arms share seeds, whose effects correlate by 0.5. Scores are normal;
skewed (-exp(0.75 z)); or `failures`: with probability 0.2 a run falls 20 standard deviations below.

Coverage of 95 % intervals, per cent. `remedy`: the other arm has half the spread, or no failure.

                                          normal |            skewed |          failures
seeds                              5    10    20 |     5    10    20 |     5    10    20
mean: t                         95.2  95.3  95.8 |  87.6  88.0  90.5 |  66.5  88.5  91.3
mean: bca                       83.4  90.4  92.0 |  77.8  84.5  88.0 |  65.2  87.7  94.7
mean: percentile                83.2  90.5  92.2 |  75.4  83.1  88.4 |  64.7  87.8  90.5
delta: t                        95.7  95.0  94.7 |  97.2  96.5  95.6 |  98.2  97.6  95.6
delta: bca                      84.1  89.3  91.5 |  78.9  85.5  88.3 |  77.4  78.4  85.5
delta: percentile               84.6  89.8  91.7 |  81.2  88.8  91.4 |  82.3  85.9  89.8
delta, remedy: t                95.8  94.7  95.0 |  91.3  91.2  91.8 |  64.5  88.7  92.7
delta, remedy: bca              84.2  89.8  92.2 |  78.6  85.5  88.3 |  62.7  87.6  94.7
4 tasks: welch                  94.3  95.9  94.8 |  90.0  91.2  92.0 |  86.8  90.8  94.0
4 tasks: percentile             86.8  92.3  92.2 |  83.8  87.5  89.6 |  81.5  88.9  92.5
std ratio: jackknife            95.2  95.2  94.0 |  90.6  87.1  87.9 |  89.2  89.2  97.8
std ratio: bca                  90.6  92.7  90.8 |  86.4  85.1  85.2 |  90.1  92.0  92.8
std ratio: percentile           90.7  92.0  90.8 |  87.5  87.5  88.5 |  89.7  88.6  90.0
P(improvement)                  93.2  94.5  93.7 |  91.8  95.1  93.9 |  91.5  93.2  93.8

failed share: wilson          94.2  96.7  95.6
20 items x seeds: pearson     96.8  96.2  95.2

- No interval is right for failures at n = 5: a third of such fives hold no failed run. Show the
  failed share with its interval beside the mean.
- Bootstrap intervals of means and deltas cover too seldom: 63 to 87 % at n = 5, 86 to 95 % at 20.
- Defaults: Student's t for a mean and for a delta, Welch's for a mean over tasks, the jackknife for
  a ratio of stds. The line of items is for 5, 10, 20 seeds, 400 experiments of 299 resamples, 20
  normal pairs, Pearson near 0.9; that of Wilson is exact.

Rejections of a true null hypothesis at 5 %, per cent. At n = 5 no paired test can reject: its p is
None. With Holm's correction eight arms need 9 seeds (`fewest_pairs(0.05 / 8)`), with `changes` 6.

                                          normal |            skewed |          failures
seeds                              6    10    20 |     6    10    20 |     6    10    20
paired permutation               3.8   5.7   4.9 |   3.1   5.5   5.0 |   3.7   4.9   4.5
wilcoxon                         3.8   5.8   4.1 |   3.1   5.3   4.7 |   3.7   4.9   5.3
paired variance                  1.8   4.0   4.4 |   2.7   6.2   5.9 |   3.2   4.1   6.0
paired variance, agree 0         1.7   3.8   4.3 |   3.4   6.2   6.4 |   5.5   4.0   5.0
brown-forsythe                   2.9   2.3   1.9 |   4.0   2.5   1.9 |   2.9   2.4   2.6
brown-forsythe, agree 0          4.1   4.1   4.1 |   5.0   5.0   4.5 |   5.0   5.2   5.1
aso e_min < 0.2                  2.3   0.9   0.5 |   3.2   1.5   0.9 |   5.3   3.2   1.4
aso e_min < 0.5                 14.7  12.2  12.5 |  18.2  13.9  11.1 |  17.3  14.3   8.2
8 arms, holm                     0.0   5.4   5.4 |   0.0   3.9   3.1 |   0.0   4.2   4.7
unlike arms: permutation         4.5   7.3   7.3 |  10.2  12.8  11.2 |  23.9  11.7   7.6
unlike arms: wilcoxon            4.5   7.3   6.5 |  10.2  12.4  17.8 |  23.9  11.1  20.2

10 splits: corrected, plain t   5.8  15.8

- At n = 6 p comes in steps of 3.1 %, hence the low figures. `agree 0`: seeds have no shared effect.
- `unlike arms`: equal means, but the second arm is normal and has a fifth of the spread. There a
  rejection says that the arms differ, not that their means do.
- Brown and Forsythe's test is too shy where seeds are shared. Almost stochastic order is no 5 %
  test: e_min < 0.5 errs in 8 to 18 % of cases, e_min < 0.2 in up to 5 %.
- Defaults: `paired_permutation` for a delta, `paired_variance` for spread.

Rejections where arms differ, per cent: the mean by one standard deviation, or the std threefold.

                                          normal |            skewed |          failures
seeds                              6    10    20 |     6    10    20 |     6    10    20
mean + 1 std: permutation       32.8  77.1  99.0 |  50.5  81.8  95.9 |  50.4  67.3  94.0
mean + 1 std: wilcoxon          32.8  75.6  98.9 |  50.5  79.9  98.8 |  50.4  43.2  76.8
3 x std: paired variance        20.6  67.8  99.3 |  18.1  53.4  81.9 |  15.4  23.8  36.5
3 x std: brown-forsythe         29.1  64.3  98.3 |  18.8  34.2  71.8 |  13.1   8.5  30.2
"""

from bluestab.stats.budget import expected_best, expected_best_std, expected_chosen
from bluestab.stats.components import (
    Nested,
    TwoStages,
    TwoWay,
    nested_mean,
    two_stages,
    two_way,
)
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
from bluestab.stats.designs import (
    Design,
    design_of,
    independent,
    mean_interval,
    mean_spread,
    mean_test,
    share_interval,
)
from bluestab.stats.dominance import (
    almost_stochastic_order,
    probability_of_improvement,
    probability_of_improvement_interval,
)
from bluestab.stats.intervals import (
    Interval,
    bootstrap,
    corrected_t_interval,
    default_interval,
    paired_bootstrap,
    pearson_interval,
    stratified_bootstrap,
    t_interval,
    t_interval_of,
    t_interval_of_error,
    welch_interval,
    wilson,
)
from bluestab.stats.items import items_and_seeds_interval
from bluestab.stats.power import fewest_pairs, more_seeds_needed, power_of, seeds_needed
from bluestab.stats.tests import (
    Test,
    corrected_resampled_t,
    default_test,
    holm,
    paired_permutation,
    wilcoxon,
)
from bluestab.stats.variance import (
    brown_forsythe,
    paired_variance,
    std_ratio_by_design,
    std_ratio_interval,
)

__all__ = [
    "Design",
    "Interval",
    "Nested",
    "Test",
    "TwoStages",
    "TwoWay",
    "almost_stochastic_order",
    "bootstrap",
    "brown_forsythe",
    "corrected_resampled_t",
    "corrected_t_interval",
    "default_interval",
    "default_test",
    "design_of",
    "expected_best",
    "expected_best_std",
    "expected_chosen",
    "failed_share",
    "fewest_pairs",
    "holm",
    "independent",
    "iqm",
    "items_and_seeds_interval",
    "mean",
    "mean_interval",
    "mean_spread",
    "mean_test",
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
    "share_interval",
    "std",
    "std_ratio",
    "std_ratio_by_design",
    "std_ratio_interval",
    "stratified_bootstrap",
    "summary",
    "t_interval",
    "t_interval_of",
    "t_interval_of_error",
    "two_stages",
    "two_way",
    "welch_interval",
    "wilcoxon",
    "wilson",
]
