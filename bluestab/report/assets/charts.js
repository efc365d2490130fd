// One function per figure: a subject (task and model, with its arms) and a width in, an SVG out.

const runTip = (run, metricName) => [
  `${run.of.arm}, seed ${run.seed}: ${fixed(run.score, 4)}`,
  `${run.of.task} with ${run.of.model}; ${metric(metricName)}`,
  `${run.status}${run.failed ? ", failed" : ""}${run.censored ? ", stopped early" : ""}; ${duration(run.seconds)}`,
  `key ${run.key}`, run.command,
];

// every seed as a point over the box of its arm
function seedsChart(subject, width) {
  const rows = subject.rows.filter((row) => row.runs.length);
  const left = labelWidth(rows, width), gutter = width > 640 ? 190 : 0, step = 27, top = gutter ? 22 : 8;
  const bottom = top + rows.length * step;
  const bounds = extentOf(subject.metric, rows.flatMap((row) => row.runs.map((run) => run.score)), 0.03);
  const x = linear(bounds, [left + 8, width - gutter - 12]);
  const reference = rows.find((row) => row.isBaseline);
  const marks = rows.map((row, i) => {
    const y = top + (i + 0.5) * step, values = sorted(row.runs.map((run) => run.score));
    const [q1, q3] = [quantile(values, 0.25), quantile(values, 0.75)];
    const jitter = Math.min(0.62, 0.05 * values.length) * step;
    return s("g", {},
      row.isBaseline && s("rect", { class: "band", x: 0, width, y: y - step / 2, height: step, rx: 3 }),
      s("text", { x: left - 4, y: y + 4, "text-anchor": "end", class: row.isBaseline ? "strong" : null }, short(row.arm, left - 8, row.isBaseline ? 7.6 : 6.6)),
      values.length > 1 && [
        s("line", { class: "whisker", x1: x(values[0]), x2: x(q1), y1: y, y2: y }),
        s("line", { class: "whisker", x1: x(q3), x2: x(values.at(-1)), y1: y, y2: y }),
        s("rect", { class: "box", x: x(q1), width: Math.max(0, x(q3) - x(q1)), y: y - 8, height: 16, rx: 2 }),
        s("line", { class: "median", x1: x(row.median), x2: x(row.median), y1: y - 8, y2: y + 8 })],
      row.runs.map((run, k) => {
        const at = y + (((k * 0.618) % 1) - 0.5) * jitter;
        const node = run.failed ? cross(x(run.score), at) : s("circle", { class: "good", cx: x(run.score), cy: at, r: 4.2 });
        return tip(node, ...runTip(run, subject.metric));
      }),
      gutter > 0 && [
        s("text", { class: "num strong", x: width - 128, y: y + 4, "text-anchor": "end" }, fixed(row.mean)),
        s("text", { class: "num", x: width - 62, y: y + 4, "text-anchor": "end" }, fixed(row.std)),
        s("text", { class: "num", x: width - 4, y: y + 4, "text-anchor": "end", style: row.failed_share > 0 ? "fill:var(--failed)" : null }, percent(row.failed_share))],
    );
  });
  return frame(width, bottom + 40,
    `Test ${metric(subject.metric)} of every seed for ${count(rows.length, "arm")} of ${subject.task} with ${subject.model}. ` +
    rows.slice(0, 8).map((row) => `${row.arm}: mean ${fixed(row.mean)}, failed ${percent(row.failed_share)}`).join("; "),
    xAxis(x, bounds, top, bottom, `test ${metric(subject.metric)}`, { most: width < 500 ? 4 : 7 }),
    reference && s("line", { class: "zero", x1: x(reference.mean), x2: x(reference.mean), y1: top, y2: bottom }),
    gutter > 0 && [["mean", 128], ["std", 62], ["failed", 4]].map(([name, right]) =>
      s("text", { class: "soft", x: width - right, y: 14, "text-anchor": "end" }, name)),
    marks);
}

// a share with its interval, per arm
function failedChart(subject, width) {
  const rows = subject.rows.filter((row) => row.n), left = labelWidth(rows, width), step = 22, top = 6;
  const bottom = top + rows.length * step, x = linear([0, 1], [left + 8, width - 60]);
  return frame(width, bottom + 40,
    `Share of failed runs per arm, ${subject.task} with ${subject.model}. ` +
    rows.slice(0, 12).map((row) => `${row.arm}: ${percent(row.failed_share)}`).join("; "),
    xAxis(x, [0, 1], top, bottom, "failed runs, with 95 % interval", { text: percent, most: width < 500 ? 2 : 5 }),
    rows.map((row, i) => {
      const y = top + (i + 0.5) * step, bad = row.failed_share > 0 ? " bad" : "";
      const failed = row.n_degenerate + row.n_diverged;
      return [
        s("text", { x: left - 4, y: y + 4, "text-anchor": "end", class: row.isBaseline ? "strong" : null }, short(row.arm, left - 8, row.isBaseline ? 7.6 : 6.6)),
        there(row.failed_low) && s("line", { class: "ci" + bad, x1: x(row.failed_low), x2: x(row.failed_high), y1: y, y2: y, "stroke-opacity": 0.5 }),
        tip(s("circle", { class: "dot" + bad, cx: x(row.failed_share), cy: y, r: 4.5 }),
          `${row.arm}: ${failed} of ${row.n} failed`, `${percent(row.failed_share)} ${span(100 * row.failed_low, 100 * row.failed_high, 0)}`,
          `${row.n_degenerate} degenerate, ${row.n_diverged} diverged`),
        s("text", { class: "num soft", x: width - 4, y: y + 4, "text-anchor": "end" }, `${failed} of ${row.n}`)];
    }));
}

// an interval about zero, small enough for a table cell
function miniInterval(row, reach, width = 132) {
  const x = linear([-reach, reach], [2, width - 2]), clip = (v) => Math.max(-reach, Math.min(reach, v));
  return s("svg", { width, height: 12, viewBox: `0 0 ${width} 12`, "aria-hidden": "true" },
    s("line", { class: "grid", x1: 0, x2: width, y1: 6, y2: 6 }),
    s("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 12 }),
    there(row.delta_all_low) && s("line", { class: "ci" + (worse(row) ? " bad" : ""), x1: x(clip(row.delta_all_low)), x2: x(clip(row.delta_all_high)), y1: 6, y2: 6 }),
    s("circle", { class: "dot" + (worse(row) ? " bad" : ""), cx: x(clip(row.delta)), cy: 6, r: 3.5 }));
}

// all runs of one arm over steps
function curveChart(row, subject, kind, bounds, steps) {
  const width = 250, height = 132, left = 38, bottom = 112;
  const x = linear([0, steps], [left, width - 6]), y = linear(bounds, [bottom, 6]);
  const lines = [], ends = [];
  for (const run of row.all) {
    const curve = DATA.curves.runs[run.key];
    const points = curve.steps.map((step, i) => [step, curve[kind][i]]).filter(([, v]) => there(v)).map(([a, b]) => [x(a), y(b)]);
    if (!points.length) continue;
    const bad = run.failed || run.status === "crashed", said = runTip(run, subject.metric);
    if (run.status === "crashed") said[0] = `${run.of.arm}, seed ${run.seed}: crashed`;
    if (points.length > 1) lines.push(tip(s("path", { class: "curve" + (bad ? " bad" : ""), d: path(points) }), ...said));
    const [ex, ey] = points.at(-1);
    if (bad) ends.push(cross(ex, ey, 2.6));
    else if (points.length === 1) ends.push(tip(s("circle", { class: "good", cx: ex, cy: ey, r: 2.6 }), ...said));
  }
  const failed = row.all.filter((run) => run.failed).length;
  return h("div", {},
    h("p", { class: "sub", title: row.arm + (failed ? `, ${failed} of ${row.all.length} failed` : "") }, row.arm, h("small", {}, failed ? `, ${failed} of ${row.all.length} failed` : "")),
    frame(width, height, `${row.arm}: ${kind === "score" ? "validation score" : "training loss"} of ${count(row.all.length, "run")}, ${failed} failed`,
      yAxis(y, bounds, left, width - 6, { most: 3 }),
      [0, steps].map((v, i) => s("text", { class: "soft num", x: x(v), y: bottom + 15, "text-anchor": i ? "end" : "start" }, i ? `step ${v}` : "0")),
      lines, ends));
}

// gradient norms by layer, median over runs, on a logarithmic axis
function gradientChart(runs, title, bad, width, bounds, steps) {
  const height = 250, left = 44, right = width - 84, bottom = 210;
  const x = linear([0, steps], [left, right]), y = linear(bounds, [bottom, 10]);
  const groups = DATA.curves.groups;
  const named = (group) => group.replace("_", " ");
  const drawn = groups.map((group, g) => {
    const byStep = new Map();
    for (const run of runs) {
      const curve = DATA.curves.runs[run.key];
      (curve.norms[group] ?? []).forEach((v, i) => {
        if (v > 0) byStep.set(curve.steps[i], [...(byStep.get(curve.steps[i]) ?? []), v]);
      });
    }
    const points = sorted(byStep.keys()).map((step) => [x(step), y(Math.log10(quantile(sorted(byStep.get(step)), 0.5)))]);
    return { group, points, weight: 0.22 + (0.78 * g) / Math.max(1, groups.length - 1), runs: Math.max(0, ...[...byStep.values()].map((v) => v.length)) };
  }).filter((one) => one.points.length);
  const colour = bad ? "var(--failed)" : "var(--accent)";
  const labelled = [drawn[0], drawn.at(-1)].filter(Boolean);
  const places = labelled.map((one) => one.points.at(-1)[1]);
  if (places.length === 2 && Math.abs(places[0] - places[1]) < 14) places[places[0] < places[1] ? 1 : 0] = Math.max(...places) + 14 - Math.abs(places[0] - places[1]);
  return frame(width, height, `Gradient norm by layer, median over ${count(runs.length, "run")} that ${title}`,
    ticks(...bounds, 5).filter(Number.isInteger).map((v) => [
      s("line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) }),
      s("text", { class: "soft num", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, "10", s("tspan", { dy: -5, "font-size": 9 }, String(v).replace("-", MINUS)))]),
    xAxis(x, [0, steps], bottom, bottom, "step", { most: 4 }),
    drawn.map((one) => [
      one.points.length === 1 && s("circle", { cx: one.points[0][0], cy: one.points[0][1], r: 3, fill: colour, "fill-opacity": one.weight }),
      tip(s("path", { class: "line", d: path(one.points), stroke: colour, "stroke-opacity": one.weight }),
        `${named(one.group)}: gradient norm`, `median over ${count(one.runs, "run")} that ${title}`)]),
    labelled.length === 2 ? labelled.map((one, i) => s("text", { class: "soft", x: right + 6, y: places[i] + 4 }, named(one.group))) : null);
}

// what an arm costs beside what it gains
const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MB`;
const SPENT = { seconds: { words: "time per run", per: "per run (median)", short: "time", show: duration }, memory: { words: "memory of training", per: "of memory", short: "memory", show: megabytes } };
function costChart(subject, width, what = "seconds") {
  const spent = SPENT[what];
  const times = (row) => RUNS.filter((run) => run.cell === row.cell && run.status === "done" && there(run[what])).map((run) => run[what]);
  // the median: one run beside a busy neighbour says nothing about a technique
  const typical = (row) => { const found = sorted(times(row)); return found.length ? quantile(found, 0.5) : null; };
  const baselines = subject.all.filter((row) => row.isBaseline && typical(row));
  const rows = subject.rows.filter((row) => there(row.delta) && typical(row) && baselines.some((one) => one.arm === row.baseline));
  if (!rows.length) return null;
  const time = new Map(rows.map((row) => [row, typical(row)])), base = new Map(baselines.map((row) => [row.arm, typical(row)]));
  const reach = reachOf(rows), inside = (v) => Math.max(-reach, Math.min(reach, v));
  const height = 330, left = 52, right = width - 20, bottom = height - 44;
  const ratio = (row) => time.get(row) / base.get(row.baseline);
  const xs = extent([1, ...rows.map(ratio)], 0.12), ys = extent([0, ...rows.flatMap((row) => [row.delta, row.delta_all_low, row.delta_all_high].filter(there).map(inside))], 0.06);
  const x = linear(xs, [left, right]), y = linear(ys, [bottom, 12]), taken = [];
  const free = (cx, cy, length) => {
    const room = length * 6.4;
    for (const [dx, dy, anchor] of [[8, 4, "start"], [-8, 4, "end"], [8, -9, "start"], [8, 17, "start"], [-8, -9, "end"], [-8, 17, "end"]]) {
      const a = anchor === "start" ? cx + dx : cx + dx - room, box = [a, cy + dy - 10, a + room, cy + dy + 2];
      if (box[0] < left || box[2] > width || taken.some((o) => box[0] < o[2] && box[2] > o[0] && box[1] < o[3] && box[3] > o[1])) continue;
      taken.push(box);
      return { x: cx + dx, y: cy + dy, "text-anchor": anchor };
    }
    return null;
  };
  for (const row of rows) taken.push([x(ratio(row)) - 4, y(row.delta) - 4, x(ratio(row)) + 4, y(row.delta) + 4]);
  return frame(width, height, `Change of test ${metric(subject.metric)} against ${spent.words}, ${subject.task} with ${subject.model}. ` +
    rows.slice(0, 12).map((row) => `${row.arm}: ${signed(row.delta)} at ${ratio(row).toFixed(2)} times the ${spent.short}`).join("; "),
    yAxis(y, ys, left, right, { text: (v, all) => (v > 0 ? "+" : "") + tickText(v, all) }),
    xAxis(x, xs, bottom, bottom, `median ${spent.words}, in times of the baseline`, { text: (v, all) => `${tickText(v, all)}×` }),
    s("line", { class: "zero", x1: left, x2: right, y1: y(0), y2: y(0) }),
    s("line", { class: "zero", x1: x(1), x2: x(1), y1: 12, y2: bottom }),
    rows.map((row) => there(row.delta_all_low) && s("line", { class: "ci" + (worse(row) ? " bad" : ""), "stroke-opacity": 0.25, x1: x(ratio(row)), x2: x(ratio(row)), y1: y(inside(row.delta_all_low)), y2: y(inside(row.delta_all_high)) })),
    tip(s("circle", { class: "hollow", cx: x(1), cy: y(0), r: 5 }), `${baselines.map((row) => row.arm).join(", ")}: the baseline`, baselines.map((row) => `${spent.show(base.get(row.arm))} ${spent.per}`).join(", ")),
    [...rows].sort((a, b) => Math.abs(b.delta) - Math.abs(a.delta)).map((row) => {
      const cx = x(ratio(row)), cy = y(row.delta), spot = free(cx, cy, row.arm.length);
      return [
        tip(s("circle", { class: "dot" + (worse(row) ? " bad" : ""), cx, cy, r: 4.5 }), `${row.arm}: ${signed(row.delta)} ${span(row.delta_all_low, row.delta_all_high)}`,
          `${spent.show(time.get(row))} ${spent.per}, ${ratio(row).toFixed(2)} times the baseline's`),
        spot && s("text", spot, row.arm)];
    }));
}

// what a budget of seeds can be expected to find
const COLOURS = 6;
function budgetChart(subject, width) {
  const curves = DATA.budget[state.at] ?? {};
  const rows = subject.rows.filter((row) => (curves[row.cell] ?? []).length > 1);
  if (!rows.length) return null;
  const ranked = [...rows].sort((a, b) => sign(subject.metric) * (curves[b.cell].at(-1) - curves[a.cell].at(-1)));
  const front = new Set([...ranked.slice(0, COLOURS), ...rows.filter((row) => row.isBaseline)]);
  const height = 300, left = 48, right = width - Math.min(170, width * 0.3), bottom = height - 44;
  const longest = Math.max(...rows.map((row) => curves[row.cell].length));
  const bounds = extentOf(subject.metric, rows.flatMap((row) => curves[row.cell])), x = linear([1, longest], [left, right]), y = linear(bounds, [bottom, 10]);
  let used = 0;
  const colourOf = new Map(ranked.filter((row) => front.has(row)).map((row) => [row, row.isBaseline ? "var(--ink)" : `var(--arm-${++used})`]));
  const labels = [...colourOf.keys()].map((row) => ({ row, y: y(curves[row.cell].at(-1)) })).sort((a, b) => a.y - b.y);
  labels.forEach((one, i) => { if (i) one.y = Math.max(one.y, labels[i - 1].y + 14); });
  for (let i = labels.length - 1, limit = bottom; i >= 0; i--, limit -= 14) labels[i].y = Math.min(labels[i].y, limit);
  const line = (row) => tip(s("path", { class: "line" + (front.has(row) ? "" : " back"), d: path(curves[row.cell].map((v, i) => [x(i + 1), y(v)])), style: front.has(row) ? `stroke:${colourOf.get(row)}` : null, "stroke-dasharray": row.isBaseline ? "5 4" : null }),
    row.arm, ...unique([1, Math.ceil(curves[row.cell].length / 2), curves[row.cell].length]).map((k) => `best of ${k}: ${fixed(curves[row.cell][k - 1], 4)}`));
  return frame(width, height, `Expected test ${metric(subject.metric)} of the best of k seeds, chosen on validation; ${subject.task} with ${subject.model}. ` +
    ranked.slice(0, 8).map((row) => `${row.arm}: ${fixed(curves[row.cell][0])} with one seed, ${fixed(curves[row.cell].at(-1))} with ${curves[row.cell].length}`).join("; "),
    yAxis(y, bounds, left, right),
    xAxis(x, [1, longest], bottom, bottom, "seeds that are run, of which validation picks one", { text: (v) => (Number.isInteger(v) ? String(v) : ""), most: Math.min(longest - 1, 8) }),
    rows.filter((row) => !front.has(row)).map(line), [...colourOf.keys()].map(line),
    labels.map(({ row, y: at }) => s("text", { x: right + 8, y: at + 4, style: `fill:${colourOf.get(row)}`, class: row.isBaseline ? "strong" : null }, short(row.arm, width - right - 8))));
}

// shares of one whole
function sharesChart(shares, width) {
  const tones = ["var(--accent)", "var(--arm-5)", "var(--box)"];
  let start = 0;
  const parts = shares.map(([name, share], i) => {
    const from = start, wide = share * (width - 2);
    start += wide;
    return tip(s("rect", { x: from, y: 4, width: Math.max(0, wide - 1.5), height: 26, fill: tones[i], rx: 2 }), `${name}: ${percent(share)} of the variance`);
  });
  // every source by name, those that explain nothing, too
  const line = 20, labels = shares.map(([name, share], i) => [
    s("rect", { x: 0, y: 42 + i * line, width: 11, height: 11, fill: tones[i], rx: 2 }),
    s("text", { x: 17, y: 52 + i * line, class: "soft num" }, `${name} ${percent(share)}`)]);
  return frame(width, 42 + shares.length * line, shares.map(([name, share]) => `${name} ${percent(share)}`).join(", "), parts, labels);
}
