// A search: its points in order, along each knob, over seeds. Stopped points are hollow everywhere:
// what is drawn of them is the mean of the seeds they had.

const SEARCHES = DATA.searches.map((one) => ({ ...one, rows: records(one.points) }));
const MOST_POINTS = 30; // in the figure of seeds, and in the table at first

const pointTip = (one, row) => [
  `trial ${row.trial}: ${fixed(row.mean_so_far, 4)}`, row.point,
  row.censored ? `${row.state} after ${count(row.n_seeds, "seed")} of ${one.seeds.length}` : `${row.state}; ${count(row.n_seeds, "seed")}`,
  row.failed_share > 0 ? `${percent(row.failed_share)} of its runs failed` : null,
];
const pointMark = (one, row, cx, cy) => tip(row.infeasible && !row.censored ? cross(cx, cy)
  : s("circle", { class: row.censored ? "hollow" : "dot", cx, cy, r: row.censored ? 3.6 : 4.4 }), ...pointTip(one, row));
const drawnPoints = (one) => one.rows.filter((row) => there(row.mean_so_far));

// in the order in which they were drawn, with the best so far
function historyChart(one, width) {
  const rows = drawnPoints(one), name = one.objective[0];
  const height = 280, left = 52, right = width - 12, bottom = height - 44;
  const bounds = extentIn(one.range, rows.map((row) => row.mean_so_far)), x = linear([-0.5, Math.max(...rows.map((row) => row.trial)) + 0.5], [left, right]), y = linear(bounds, [bottom, 10]);
  let best = null;
  const steps = [];
  for (const row of rows.filter((row) => !row.censored && !row.infeasible && there(row[name]))) {
    const better = best === null || (one.maximised[0] ? row[name] > best : row[name] < best);
    if (!better) continue;
    if (best !== null) steps.push([x(row.trial), y(best)]);
    best = row[name];
    steps.push([x(row.trial), y(best)]);
  }
  if (best !== null) steps.push([right, y(best)]);
  return frame(width, height, `Validation score of ${count(rows.length, "point")} of search ${one.name}, in order; best ${name} ${fixed(best)}`,
    yAxis(y, bounds, left, right),
    xAxis(x, [0, Math.max(...rows.map((row) => row.trial))], bottom, bottom, "trial", { text: (v) => (Number.isInteger(v) ? String(v) : "") }),
    steps.length > 0 && s("path", { class: "line back", d: path(steps) }),
    rows.map((row) => pointMark(one, row, x(row.trial), y(row.mean_so_far))));
}

// along one knob: a scale for numbers, places for names
function sliceChart(one, knob, bounds) {
  const width = 250, height = 170, left = 40, right = width - 8, bottom = 132;
  const rows = drawnPoints(one).filter((row) => there(row[knob.name])), values = rows.map((row) => row[knob.name]);
  const numeric = values.every((value) => typeof value === "number"), named = unique(values.map(String)).sort();
  const place = (value) => (!numeric ? named.indexOf(String(value)) : knob.log ? Math.log10(value) : value);
  const ends = numeric ? extent(values.map(place), 0.04) : [-0.5, named.length - 0.5];
  const x = linear(ends, [left + 4, right - 4]), y = linear(bounds, [bottom, 8]);
  const power = (v) => (Number.isInteger(v) ? `1e${String(v).replace("-", MINUS)}` : "");
  const room = (right - left) / Math.max(1, named.length);
  return h("div", {},
    h("p", { class: "sub", title: `${knob.name}: ${knob.text}` }, knob.name.replace(/^technique\./, "")),
    frame(width, height, `Validation score along ${knob.name}, ${count(rows.length, "point")}`,
      yAxis(y, bounds, left, right, { most: 3 }),
      !numeric ? named.map((name, i) => s("text", { class: "soft", x: x(i), y: bottom + 16, "text-anchor": "middle" }, short(name, room)))
        : knob.log && ticks(...ends, 4).filter(Number.isInteger).length < 2
          ? [Math.min(...values), Math.max(...values)].map((v, i) => s("text", { class: "soft num", x: x(place(v)), y: bottom + 16, "text-anchor": i ? "end" : "start" }, v < 1e-3 ? v.toExponential(1).replace("-", MINUS) : v.toPrecision(2)))
          : xAxis(x, ends, 8, bottom, null, { most: 4, ...(knob.log ? { text: power } : {}) }),
      rows.map((row) => pointMark(one, row, x(place(row[knob.name])), y(row.mean_so_far)))));
}

// which knobs decide whether a point is among the best quarter
function importanceChart(one, width) {
  const rows = Object.entries(one.importance).sort((a, b) => b[1] - a[1]);
  const left = Math.min(width * 0.4, 12 + 6.7 * Math.max(...rows.map(([name]) => name.length))), step = 26, bottom = 6 + rows.length * step;
  const x = linear([0, 1], [left + 8, width - 60]);
  return frame(width, bottom + 40, `Importance of knobs: ${rows.map(([name, share]) => `${name} ${fixed(share, 2)}`).join(", ")}`,
    xAxis(x, [0, 1], 6, bottom, "importance (PED-ANOVA; knobs under one condition share 1)"),
    rows.map(([name, share], i) => [
      s("text", { x: left - 4, y: 6 + (i + 0.5) * step + 4, "text-anchor": "end" }, short(name, left - 8)),
      tip(s("rect", { x: x(0), y: 6 + (i + 0.5) * step - 7, width: Math.max(1, x(share) - x(0)), height: 14, rx: 2, fill: "var(--accent)" }), `${name}: ${fixed(share, 3)}`),
      s("text", { class: "num soft", x: width - 4, y: 6 + (i + 0.5) * step + 4, "text-anchor": "end" }, fixed(share, 2))]));
}

// every seed of the best points: how far they come apart
function spreadChart(one, width) {
  const rows = one.ranked.slice(0, MOST_POINTS).map((trial) => one.rows.find((row) => row.trial === trial)).filter(Boolean);
  const seedsOf = (row) => one.seeds.map((seed) => [seed, row[`seed_${seed}`]]).filter(([, score]) => there(score));
  const left = Math.min(width * 0.45, 12 + 7 * Math.max(...rows.map((row) => row.point.length))), step = 24, bottom = 6 + rows.length * step;
  const bounds = extentIn(one.range, rows.flatMap((row) => seedsOf(row).map(([, score]) => score)), 0.03), x = linear(bounds, [left + 8, width - 12]);
  return frame(width, bottom + 40, `Validation score of every seed of the ${count(rows.length, "best point", "best points")} of search ${one.name}`,
    xAxis(x, bounds, 6, bottom, "validation score, a point per seed; the line is their mean"),
    rows.map((row, i) => {
      const y = 6 + (i + 0.5) * step, all = seedsOf(row), scores = all.map(([, score]) => score);
      if (!scores.length) return null;
      return [
        s("text", { x: left - 4, y: y + 4, "text-anchor": "end", class: i ? null : "strong" }, short(row.point, left - 8, i ? 6.6 : 7)),
        s("line", { class: "whisker", x1: x(Math.min(...scores)), x2: x(Math.max(...scores)), y1: y, y2: y }),
        s("line", { class: "median", x1: x(row.mean_so_far), x2: x(row.mean_so_far), y1: y - 7, y2: y + 7 }),
        all.map(([seed, score]) => tip(s("circle", { class: "good", cx: x(score), cy: y, r: 4 }), `seed ${seed}: ${fixed(score, 4)}`, row.point, `trial ${row.trial}`))];
    }));
}

// two objectives, the front joined
function paretoChart(one, width) {
  const [b, a] = one.objective, rows = one.rows.filter((row) => there(row[a]) && there(row[b]));
  const height = 320, left = 56, right = width - 16, bottom = height - 44;
  const xs = extentIn(one.ranges?.[a], rows.map((row) => row[a])), ys = extentIn(one.ranges?.[b], rows.map((row) => row[b])), x = linear(xs, [left, right]), y = linear(ys, [bottom, 12]);
  const front = rows.filter((row) => one.ranked.includes(row.trial)).sort((p, q) => p[a] - q[a]);
  return frame(width, height, `${b} against ${a}, ${count(rows.length, "point")}, ${front.length} on the Pareto front`,
    yAxis(y, ys, left, right), xAxis(x, xs, bottom, bottom, `${a} (up: ${b})`),
    s("path", { class: "line", d: path(front.map((row) => [x(row[a]), y(row[b])])), style: "stroke:var(--accent)" }),
    rows.map((row) => tip(s("circle", { class: one.ranked.includes(row.trial) ? "dot" : "hollow", cx: x(row[a]), cy: y(row[b]), r: 4.4 }),
      `trial ${row.trial}`, row.point, ...one.objective.map((name) => `${name} ${fixed(row[name], 4)}`))));
}

DRAW.search = () => {
  return SEARCHES.filter((one) => (!state.task || one.task === state.task) && (!state.model || one.model === state.model)).map((one) => {
    const rows = drawnPoints(one), several = one.objective.length > 1, bounds = extentIn(one.range, rows.map((row) => row.mean_so_far));
    const knobs = one.knobs.filter((knob) => rows.some((row) => there(row[knob.name])));
    const place = new Map(one.ranked.map((trial, i) => [trial, i]));
    const listed = [...one.rows].sort((a, b) => (place.get(a.trial) ?? 1e9) - (place.get(b.trial) ?? 1e9) || b.n_seeds - a.n_seeds || a.trial - b.trial);
    const all = open.has(`search ${one.name}`), shown = all ? listed : listed.slice(0, MOST_POINTS);
    return [
      h("h3", {}, one.name, h("small", {}, one.task ? `; ${one.task} with ${one.model}` : "")),
      h("ul", { class: "note" }, one.sentences.map((text) => h("li", {}, text))),
      rows.length > 0 && !several && [
        figure(`search ${one.name}`, historyChart(one, wide())),
        h("div", { class: "many" }, knobs.map((knob) => sliceChart(one, knob, bounds))),
        Object.keys(one.importance).length > 0 && [h("h3", {}, "Which knobs matter"), figure(`importance ${one.name}`, importanceChart(one, wide(760)))],
        one.ranked.length > 0 && [h("h3", {}, "Every seed of the best points"), figure(`spread ${one.name}`, spreadChart(one, wide()))]],
      rows.length > 0 && several && figure(`pareto ${one.name}`, paretoChart(one, wide(760))),
      one.rows.length > 0 && numbers("Points", () => [dataTable(`Points of search ${one.name}`, [["trial"], ["point"], ...one.objective.map((name) => [name, 1]), ["seeds", 1], ["state"], [""]],
        shown.map((row) => [row.trial, row.point, ...one.objective.map((name) => fixed(row[name], 4)), `${row.n_seeds}/${one.seeds.length}`, row.state, row.note])),
        shown.length < listed.length && h("p", {}, h("button", { type: "button", onclick: () => { open.add(`search ${one.name}`); render("search"); } }, `Show all ${count(listed.length, "point")}`))])];
  });
};
