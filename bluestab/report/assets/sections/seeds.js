DRAW.seeds = (view) => each(view, (one) => one.rows.some((row) => row.runs.length) && [
    figure(`seeds ${one.task} ${one.model}`, seedsChart(one, wide())),
    ruled(one.rows.filter((row) => row.n), [["arm"], ["n", 1], ["mean \u00b1 std"], ["mean", 1], ["95 % interval", 1], ["with test items", 1], ["std", 1], ["median", 1], ["min", 1], ["max", 1], ["without failed", 1], ["time per run", 1]],
      (row) => [row.arm, row.n, h("span", { class: "pm" }, plusMinus(row), copy(plusMinus(row), `mean and std of ${row.arm}`)), fixed(row.mean, 4), span(row.ci_low, row.ci_high, 4), span(row.items_low, row.items_high, 4), fixed(row.std, 4), fixed(row.median, 4), fixed(row.min, 4), fixed(row.max, 4), fixed(row.mean_without_failed, 4), duration(row.seconds_mean)],
      `Scores per arm, ${one.task} with ${one.model}`)]);
