DRAW.blurb = (view) => {
  const rows = records(DATA.blurb).filter((row) => row.at === state.at && (!state.model || row.model === state.model));
  if (!rows.length) return null;
  const skip = ["model", "arm", "at", "low", "high", "std", "n_shared", "n_min", "missing", "ambiguous", "cut"];
  const shown = DATA.blurb.columns.filter((name) => !skip.includes(name) && rows.some((row) => there(row[name])));
  return [dataTable("BLURB scores", [["arm"], ["model"], ...shown.map((name) => [name, 1])], rows.map((row) => [row.arm, row.model, ...shown.map((name) => name === "blurb" ? [fixed(row.blurb, 4), " ", h("small", {}, span(row.low, row.high, 4))] : fixed(row[name], 4))])),
    rows.some((row) => row.missing) && h("p", { class: "note" }, `No BLURB score where a task is missing: ${unique(rows.map((row) => row.missing).filter(Boolean)).join("; ")}`)];
};
