DRAW.curves = (view) => {
  const kind = state.curve;
  const made = each(view, (one) => {
    const rows = one.rows.filter((row) => row.all.length);
    const values = rows.flatMap((row) => row.all.flatMap((run) => DATA.curves.runs[run.key][kind]));
    if (!values.some(there)) return null;
    const bounds = kind === "score" ? extentOf(one.metric, values) : extent(values), steps = Math.max(...rows.flatMap((row) => row.all.map((run) => DATA.curves.runs[run.key].steps.at(-1))));
    const name = `curves ${one.task} ${one.model}`, shown = open.has(name) ? rows : rows.slice(0, FIRST);
    return [h("div", { class: "many" }, shown.map((row) => curveChart(row, one, kind, bounds, steps))),
      shown.length < rows.length && h("p", {}, h("button", { type: "button", onclick: () => { open.add(name); render(); } }, `Show all ${rows.length} arms`))];
  });
  if (!made.length) return null;
  return [h("div", { class: "key" }, radios("curve", "show", [["score", "validation score"], ["loss", "training loss"]])), made];
};
