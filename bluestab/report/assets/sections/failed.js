DRAW.failed = (view) => each(view, (one) => {
  const rows = one.rows.filter((row) => row.n), compared = rows.filter((row) => there(row.failed_change));
  return rows.some((row) => row.failed_share > 0) && [
    figure(`failed ${one.task} ${one.model}`, failedChart(one, wide(760))),
    compared.some((row) => row.failed_paired || row.failed_baseline) && ruled(compared,
      [["arm"], ["pairs", 1], ["failed", 1], ["baseline failed", 1], ["difference", 1], ["p", 1], ["mean of the others", 1]],
      (row) => [row.arm, row.pairs, row.failed_paired, row.failed_baseline,
        [`${signed(100 * row.failed_change, 0)} %`, " ", h("small", {}, span(100 * row.failed_change_low, 100 * row.failed_change_high, 0))],
        pvalue(row.p_failed_adjusted), fixed(row.mean_without_failed, 3)],
      `Failed runs against the baseline, ${one.task} with ${one.model}`)];
});
