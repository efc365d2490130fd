DRAW.instability = (view) => {
  const measures = DATA.instability.names, rowsOf = records(DATA.instability);
  return each(view, (one) => {
    const rows = one.rows.map((row) => ({ row, found: rowsOf.find((i) => i.cell === row.cell && i.at === state.at) })).filter(({ found }) => found && found.n >= 2);
    const shown = Object.keys(measures).filter((name) => rows.some(({ found }) => there(found[name])));
    if (!shown.length) return null;
    const most = new Map(shown.map((name) => [name, Math.max(...rows.map(({ found }) => found[name] ?? 0)) || 1]));
    const bar = (name, value) => there(value) && h("span", {}, fixed(value, 4), s("svg", { width: 64, height: 8, viewBox: "0 0 64 8", "aria-hidden": "true" },
      s("rect", { x: 0, y: 1, height: 6, width: 64, rx: 2, fill: "var(--wash)" }), s("rect", { x: 0, y: 1, height: 6, width: (64 * value) / most.get(name), rx: 2, fill: "var(--accent)", "fill-opacity": 0.75 })));
    return dataTable(`Instability of predictions, ${one.task} with ${one.model}`, [["arm"], ["n", 1], ["std of score", 1], ...shown.map((name) => [measures[name]])],
      rows.map(({ row, found }) => [row.arm, found.n, fixed(found.sd_sample, 4), ...shown.map((name) => bar(name, found[name]))]));
  });
};
