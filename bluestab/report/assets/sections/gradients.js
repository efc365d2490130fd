DRAW.gradients = (view) => {
  if (!DATA.curves.groups.length) return null;
  const made = each(view, (one) => {
    const runs = one.rows.flatMap((row) => row.all);
    const good = runs.filter((run) => !run.failed && run.status === "done"), bad = runs.filter((run) => run.failed);
    const norms = runs.flatMap((run) => Object.values(DATA.curves.runs[run.key].norms).flat()).filter((v) => v > 0).map(Math.log10);
    if (!norms.length || !bad.length) return null;
    const ranked = sorted(norms); // medians are drawn: single runs may lie beyond
    const bounds = [Math.floor(quantile(ranked, 0.02)), Math.ceil(ranked.at(-1))];
    if (bounds[0] === bounds[1]) bounds[1] += 1;
    const steps = Math.max(...runs.map((run) => DATA.curves.runs[run.key].steps.at(-1)));
    const width = Math.min(500, wide() > 760 ? wide() / 2 - 16 : wide());
    const panel = (which, title, isBad) => which.length > 0 && h("div", {}, h("p", { class: "sub" }, `${count(which.length, "run")} that ${title}`),
      figure(`gradients ${one.task} ${one.model} ${isBad ? "failed" : "good"}`, gradientChart(which, title, isBad, width, bounds, steps)));
    return h("div", { class: "pair" }, panel(good, "did not fail", false), panel(bad, "failed", true));
  });
  return made;
};
