DRAW.change = (view) => {
  const subjects = view.subjects.map((one) => ({ ...one, compared: one.rows.filter((row) => there(row.delta)) })).filter((one) => one.compared.length);
  if (!subjects.length) return null;
  const arms = unique(subjects.flatMap((one) => one.rows.filter((row) => row.n && !row.isBaseline).map((row) => row.arm)));
  const reach = new Map(subjects.map((one) => [one, reachOf(one.compared)]));
  const most = Math.max(...subjects.flatMap((one) => one.compared.map((row) => Math.abs(row.delta))));
  const few = subjects.length === 1, room = few && wide() > 700 ? Math.min(420, wide() - 620) : 132;
  const cell = (one, arm) => {
    const row = one.compared.find((found) => found.arm === arm);
    if (!row) return h("td", { class: "heat" }, one.rows.some((found) => found.arm === arm) ? "\u2013" : "");
    const sure = there(row.p_adjusted) && row.p_adjusted < 0.05;
    const tone = Math.round(34 * Math.abs(row.delta) / (most || 1));
    const value = `${signed(row.delta)}`;
    return h("td", { class: "heat", style: `background:color-mix(in srgb, var(${worse(row) ? "--failed" : "--accent"}) ${tone}%, var(--paper))` },
      sure ? h("b", {}, value, "\u2009*") : value, " ", h("small", {}, span(row.delta_all_low, row.delta_all_high)),
      few ? null : tip(miniInterval(row, reach.get(one), room), `${row.arm}: ${value}`, `p ${pvalue(row.p_adjusted)}, pairs: ${row.pairs}`));
  };
  const rest = (one, arm) => {
    const row = one.compared.find((found) => found.arm === arm);
    if (!row) return [h("td", {}), h("td", { class: "n" }), h("td", { class: "n" }), h("td", { class: "n" })];
    return [h("td", {}, miniInterval(row, reach.get(one), room)), h("td", { class: "n" }, pvalue(row.p_adjusted)),
      h("td", { class: "n" }, fixed(row.std_ratio, 2), " ", h("small", {}, ratioSpan(row))), h("td", { class: "n" }, row.pairs)];
  };
  const label = "Change against the baseline, arms by task and model";
  const reasons = unique(subjects.flatMap((one) => one.rows.flatMap((row) => [row.no_p, row.no_ratio, row.not_paired && "the baseline has other test items or another metric"])).filter(there).filter(Boolean));
  return [
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
      h("table", { id: "change-table" }, h("caption", { class: "unseen" }, label),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, term("arm")), subjects.map((one) => h("th", { scope: "col" }, few ? `change in ${metric(one.metric)} against ${unique(one.compared.map((row) => row.baseline)).join(" and ")}` : h("span", {}, one.task, h("br"), h("small", {}, one.model)))),
          few && ["", "p", "ratio of std", "pairs"].map((name, i) => h("th", { scope: "col", class: i ? "n" : null }, name ? term(name) : h("span", { class: "unseen" }, "drawn"))))),
        h("tbody", {}, arms.map((arm) => h("tr", {}, h("th", { scope: "row" }, arm), subjects.map((one) => cell(one, arm)), few && rest(subjects[0], arm)))))),
    h("p", { class: "note" }, reasons.length > 0 && `A dash, or no interval: ${reasons.join("; or ")}. `, "An interval that reaches the edge of its drawing goes on beyond it.")];
};
