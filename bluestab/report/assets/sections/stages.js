DRAW.stages = () => {
  const rows = records(DATA.stages);
  if (!rows.length) return null;
  const byOrder = Map.groupBy(rows, (row) => row.order);
  const matrices = (own) => [...Map.groupBy(own, (row) => JSON.stringify([row.model, row.arm])).values()];
  return [...byOrder].map(([order, own]) => [
    h("h3", {}, order), matrices(own).map(heat),
    order.split(" > ").slice(0, -1).map((task) => figure(`stages ${order} ${task}`, lines(task, order, matrices(own), wide(760))))]);
};
// one matrix: a cell is toned by how far it lies below the best of its column so far
const heat = (rows) => {
  const tasks = rows[0].order.split(" > "), label = `${rows[0].arm}, ${rows[0].model}: score on every task after each stage`;
  const at = new Map(rows.map((row) => [`${row.stage} ${row.task}`, row]));
  const lost = (row) => Math.max(0, ...rows.filter((one) => one.task === row.task && one.stage < row.stage).map((one) => row.metric_sign * (one.score - row.score)));
  const most = Math.max(...rows.map(lost), 1e-9);
  const cell = (row) => row ? h("td", { class: "heat", style: `background:color-mix(in srgb, var(--failed) ${Math.round((40 * lost(row)) / most)}%, var(--paper))` },
    fixed(row.score), there(row.std) && h("small", {}, ` \u00b1 ${fixed(row.std)}`)) : h("td", {});
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", {}, h("caption", { class: "unseen" }, label),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, `${rows[0].arm}, ${rows[0].model}: after`), tasks.map((task) => h("th", { scope: "col" }, task)))),
      h("tbody", {}, tasks.map((trained, t) => h("tr", {}, h("th", { scope: "row" }, trained), tasks.map((task) => cell(at.get(`${t + 1} ${task}`))))))));
};
// the score on one task from the stage that trains it to the last, a line per arm
const lines = (task, order, matrices, width) => {
  const drawn = matrices.map((rows) => rows.filter((row) => row.task === task));
  const height = 220, left = 48, right = width - Math.min(170, width * 0.3), bottom = height - 44;
  const stages = drawn[0].map((row) => row.stage), bounds = extent(drawn.flat().map((row) => row.score));
  const x = linear([stages[0], stages.at(-1)], [left, right]), y = linear(bounds, [bottom, 22]);
  const colour = (i) => (drawn[i][0].arm === DATA.baseline ? "var(--ink)" : `var(--arm-${1 + (i % COLOURS)})`);
  const labels = drawn.map((own, i) => ({ i, arm: own[0].arm, y: y(own.at(-1).score) })).sort((a, b) => a.y - b.y);
  labels.forEach((one, k) => { if (k) one.y = Math.max(one.y, labels[k - 1].y + 14); });
  for (let k = labels.length - 1, limit = bottom; k >= 0; k--, limit -= 14) labels[k].y = Math.min(labels[k].y, limit);
  return frame(width, height, `Score on ${task} after each stage of ${order}. ` + drawn.map((own) => `${own[0].arm}: ${own.map((row) => fixed(row.score)).join(", ")}`).join("; "),
    s("text", { class: "strong", x: left, y: 14 }, task),
    yAxis(y, bounds, left, right),
    xAxis(x, [stages[0], stages.at(-1)], 22, bottom, "stage", { text: (v) => (Number.isInteger(v) ? String(v) : ""), most: Math.max(1, stages.length - 1) }),
    drawn.map((own, i) => [
      s("path", { class: "line", d: path(own.map((row) => [x(row.stage), y(row.score)])), style: `stroke:${colour(i)}`, "stroke-dasharray": own[0].arm === DATA.baseline ? "5 4" : null }),
      own.map((row) => tip(s("circle", { cx: x(row.stage), cy: y(row.score), r: 3.5, style: `fill:${colour(i)}` }), `${row.arm}: ${fixed(row.score)}`, `after ${row.trained}, ${count(row.n, "seed")}`))]),
    labels.map(({ i, arm, y: at }) => s("text", { x: right + 8, y: at + 4, style: `fill:${colour(i)}` }, short(arm, width - right - 8))));
};
