DRAW.published = (view) => {
  const rows = records(DATA.published).filter((row) => view.subjects.some((one) => one.task === row.task && one.model === row.model && one.rows.some((found) => found.arm === row.arm)));
  return rows.length > 0 && dataTable("Our means beside published ones", [["task"], ["model"], ["arm"], ["ours", 1], ["n", 1], ["published", 1], ["their n", 1], ["difference", 1], ["source"], ["verdict"]],
    rows.map((row) => [row.task, row.model, row.arm, fixed(row.mean, 4), row.n, fixed(row.published_mean, 4), row.published_n, [signed(row.difference, 4), " ", h("small", {}, span(row.difference_low, row.difference_high, 4))], `${row.source}, ${row.table}`, row.verdict === "within" ? "not shown to differ" : (row.verdict ?? "too few seeds")]));
};
