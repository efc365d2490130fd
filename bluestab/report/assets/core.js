// The data, what is chosen, and what draws: elements, scales, axes, tips. Names are only ever text.
const DATA = JSON.parse(document.getElementById("data").textContent);
const records = (table) =>
  (table?.rows ?? []).map((row) => Object.fromEntries(table.columns.map((c, i) => [c, row[i]])));
const SUMMARY = records(DATA.summary);
const CELLS = new Map(SUMMARY.map((row) => [row.cell, row]));
const RUNS = records(DATA.runs).map((run) => ({ ...run, of: CELLS.get(run.cell) }));
const DRAW = {}; // name of a section -> what draws it, of what is chosen
const unique = (values) => [...new Set(values)];
const TASKS = unique(SUMMARY.map((row) => row.task));
const MODELS = unique(SUMMARY.map((row) => row.model));
const ARMS = unique(SUMMARY.map((row) => row.arm));
const there = (value) => value !== null && value !== undefined;
const byId = (id) => document.getElementById(id);
const sorted = (values) => [...values].sort((a, b) => a - b);

// --- elements

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (!there(value) || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) if (there(child) && child !== false) node.append(child);
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// --- numbers

const MINUS = "\u2212";
function fixed(value, digits = 3) {
  if (!there(value)) return "\u2013";
  if (Math.abs(value) >= 1000) return value.toPrecision(2).replace("-", MINUS);
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", MINUS);
}
const signed = (value, digits = 3) =>
  there(value) ? (Number(value.toFixed(digits)) > 0 ? "+" : "") + fixed(value, digits) : "\u2013";
const span = (low, high, digits = 3) =>
  there(low) && there(high) ? `[${fixed(low, digits)}, ${fixed(high, digits)}]` : "";
// a ratio: of two or three seeds its interval may span what nobody would call knowledge
const ratioSpan = (row) => {
  if (!there(row.std_ratio_low) || !there(row.std_ratio_high)) return "";
  if (row.std_ratio_high < 100 * row.std_ratio_low) return span(row.std_ratio_low, row.std_ratio_high, 2);
  return /^\d+$/.test(row.pairs) ? `unknown with ${count(Number(row.pairs), "seed")}` : "unknown with so few";
};
const plusMinus = (row, digits = 3) => (there(row.std) ? `${fixed(row.mean, digits)} \u00b1 ${fixed(row.std, digits)}` : fixed(row.mean, digits));
const percent = (share) => (there(share) ? `${Math.round(100 * share)} %` : "\u2013");
const pvalue = (p) => (!there(p) ? "\u2013" : p < 0.001 ? "< 0.001" : p.toFixed(3));
const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : (many ?? one + "s")}`;
function duration(seconds) {
  if (!there(seconds)) return "\u2013";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
const metric = (name) => DATA.metrics[name] ?? name;
// times a score or a change: grows with quality, whatever the metric
const sign = (name) => (DATA.lower_is_better.includes(name) ? -1 : 1);
const worse = (row) => sign(row.metric) * row.delta < 0;
function quantile(values, q) {
  const place = (values.length - 1) * q, low = Math.floor(place);
  return values[low] + (place - low) * ((values[low + 1] ?? values[low]) - values[low]);
}

// --- what is chosen: it lives in the fragment of the address, so that a link brings it back

const DEFAULTS = { task: "", model: "", arms: null, at: DATA.at, sort: "mean", curve: "score", theme: "" };
const state = { ...DEFAULTS };
let place = "";

function readLink() {
  Object.assign(state, DEFAULTS);
  place = "";
  for (const part of location.hash.slice(1).split("&")) {
    const cut = part.indexOf("=");
    if (cut < 0) { place = part; continue; }
    let value;
    try { value = decodeURIComponent(part.slice(cut + 1)); } catch { continue; }
    const name = part.slice(0, cut);
    if (name === "arms" || name === "without") {
      const known = part.slice(cut + 1).split(",").map((one) => {
        try { return decodeURIComponent(one); } catch { return ""; }
      });
      state.arms = ARMS.filter((arm) => known.includes(arm) === (name === "arms"));
    } else if (name === "task" ? TASKS.includes(value) : name === "model" ? MODELS.includes(value)
      : (CHOICES[name] ?? []).includes(value)) state[name] = value;
  }
}
const CHOICES = { at: ["last", "best"], sort: ["mean", "given"], curve: ["score", "loss"], theme: ["light", "dark"] };

function link() {
  const parts = place ? [place] : [];
  for (const name of Object.keys(DEFAULTS)) {
    if (state[name] === DEFAULTS[name]) continue;
    if (name !== "arms") { parts.push(`${name}=${encodeURIComponent(state[name])}`); continue; }
    const hidden = ARMS.filter((arm) => !state.arms.includes(arm)), few = hidden.length < state.arms.length;
    parts.push(`${few ? "without" : "arms"}=${(few ? hidden : state.arms).map(encodeURIComponent).join(",")}`);
  }
  return "#" + parts.join("&");
}

function choose(changes) {
  Object.assign(state, changes);
  history.replaceState(null, "", link());
  render();
}

function chosen() {
  const fits = (of) =>
    of && (!state.task || of.task === state.task) && (!state.model || of.model === state.model) &&
    (!state.arms || state.arms.includes(of.arm));
  const rows = SUMMARY.filter((row) => row.at === state.at && fits(row));
  const runs = RUNS.filter((run) => fits(run.of)).map((run) => ({
    ...run, score: run[state.at], validation: run[`validation_${state.at}`], failed: run[`failed_${state.at}`] === true,
  }));
  const byCell = new Map();
  for (const run of runs) byCell.set(run.cell, [...(byCell.get(run.cell) ?? []), run]);
  const subjects = [];
  for (const row of rows) {
    let found = subjects.find((one) => one.task === row.task && one.model === row.model);
    if (!found) subjects.push((found = { task: row.task, model: row.model, metric: row.metric, rows: [] }));
    const own = byCell.get(row.cell) ?? [];
    found.rows.push({ ...row, runs: own.filter((run) => there(run.score)), all: own.filter((run) => DATA.curves.runs[run.key]) });
  }
  for (const one of subjects) {
    // the baseline is what it is, whether or not it is among the arms that are shown
    one.all = SUMMARY.filter((row) => row.at === state.at && row.task === one.task && row.model === one.model);
    const baselines = new Set(one.all.map((row) => row.baseline));
    for (const row of [...one.rows, ...one.all]) row.isBaseline = baselines.has(row.arm);
    if (state.sort === "mean") {
      const quality = (row) => (there(row.mean) ? sign(one.metric) * row.mean : -Infinity);
      one.rows.sort((a, b) => quality(b) - quality(a) || 0);
    }
  }
  return { rows, runs, subjects };
}

// --- tips: pointer, touch, and the arrow keys on a figure in focus

const tips = new WeakMap();
const tip = (node, ...lines) => (tips.set(node, lines), node.setAttribute("data-tip", ""), node);
// a word that says what it means to who points at it, or walks to it
const term = (name) => (DATA.glossary[name] ? tip(h("abbr", { tabindex: 0, "aria-label": `${name}: ${DATA.glossary[name]}` }, name), name, DATA.glossary[name]) : name);
let hot = null, byKey = false;

function show(node, x, y) {
  hide();
  const lines = tips.get(node);
  if (!lines) return;
  hot = node;
  byKey = false;
  node.classList.add("hot");
  const box = byId("tip");
  box.replaceChildren(...lines.filter(Boolean).map((line, i) =>
    h(i === 0 ? "b" : line.startsWith("bluestab ") ? "code" : "div", {}, line)));
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 8))}px`;
  box.style.top = `${y + 18 + height > innerHeight ? Math.max(8, y - height - 12) : y + 18}px`;
}
function hide() {
  hot?.classList.remove("hot");
  hot = null;
  byId("tip").hidden = true;
}
function watchTips() {
  document.addEventListener("pointerover", (event) => {
    const node = event.target.closest?.("[data-tip]");
    if (node) show(node, event.clientX, event.clientY);
    else if (event.pointerType === "mouse") hide();
  });
  document.addEventListener("scroll", () => byKey || hide(), { passive: true }); // a focus scrolls, too
  document.addEventListener("focusout", hide);
  document.addEventListener("focusin", ({ target }) => {
    if (!target.matches("abbr[data-tip]")) return;
    const box = target.getBoundingClientRect();
    show(target, box.left, box.bottom - 10);
    byKey = true;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      hide();
      for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
    }
    const figure = document.activeElement;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (figure?.tagName.toLowerCase() !== "svg" || !step) return;
    event.preventDefault();
    const marks = [...figure.querySelectorAll("[data-tip]")];
    if (!marks.length) return;
    const now = marks.indexOf(hot);
    const next = marks[now < 0 ? (step > 0 ? 0 : marks.length - 1) : (now + step + marks.length) % marks.length];
    const box = next.getBoundingClientRect();
    show(next, box.left + box.width / 2, box.top + box.height / 2);
    byKey = true;
    byId("live").textContent = tips.get(next).filter(Boolean).join(". ");
  });
}

// --- scales and axes

function ticks(low, high, most = 6) {
  if (!(high > low)) return [low];
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= raw);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}
function extent(values, pad = 0.05) {
  const known = values.filter(there);
  if (!known.length) return [0, 1];
  let low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
  // means of equal scores differ in their last digits: an axis of such a span has no end of ticks
  if (high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) { low -= Math.abs(low) * 0.05 || 0.05; high += Math.abs(high) * 0.05 || 0.05; }
  const room = (high - low) * pad;
  return [low - room, high + room];
}
// no axis reaches beyond the range of what it shows, unless the score of a failed run does
function extentIn(range, values, pad) {
  const [low, high] = extent(values, pad), known = values.filter(there), [least, most] = range ?? [null, null];
  return [there(least) ? Math.max(low, Math.min(least, ...known)) : low, there(most) ? Math.min(high, Math.max(most, ...known)) : high];
}
const extentOf = (name, values, pad) => extentIn(DATA.ranges[name], values, pad);
const linear = ([a, b], [x, y]) => (value) => x + ((value - a) / (b - a || 1)) * (y - x);
const tickText = (value, all) => {
  const step = all.length > 1 ? Math.abs(all[1] - all[0]) : 1;
  return fixed(value, Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))));
};
const short = (text, width, size = 6.6) => {
  const room = Math.max(4, Math.floor(width / size));
  return text.length <= room ? text : text.slice(0, room - 1) + "\u2026";
};
// how far a scale of changes reaches: intervals of two or three seeds may be wider than anything to see
function reachOf(rows) {
  const known = rows.filter((row) => there(row.delta));
  const ends = sorted(known.flatMap((row) => [row.delta_all_low, row.delta_all_high]).filter(there).map(Math.abs));
  return Math.max(1e-9, 1.2 * Math.max(0, ...known.map((row) => Math.abs(row.delta))), ends.length ? 1.05 * quantile(ends, 0.8) : 0);
}
const labelWidth = (rows, width) =>
  Math.min(width * 0.36, 12 + 6.7 * rows.reduce((most, row) => Math.max(most, row.arm.length), 4));

function xAxis(x, [low, high], top, bottom, title, { text = tickText, most = 6 } = {}) {
  const all = ticks(low, high, most);
  return [
    all.map((v) => s("line", { class: "grid", x1: x(v), x2: x(v), y1: top, y2: bottom })),
    all.map((v) => s("text", { class: "soft num", x: x(v), y: bottom + 16, "text-anchor": "middle" }, text(v, all))),
    title && s("text", { class: "soft", x: (x(low) + x(high)) / 2, y: bottom + 34, "text-anchor": "middle" }, title),
  ];
}
function yAxis(y, [low, high], left, right, { text = tickText, most = 5 } = {}) {
  const all = ticks(low, high, most);
  return [
    all.map((v) => s("line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) })),
    all.map((v) => s("text", { class: "soft num", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, text(v, all))),
  ];
}
const frame = (width, height, label, ...children) =>
  s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, tabindex: 0 }, children);
const cross = (x, y, r = 4) =>
  s("path", { class: "bad", d: `M${x - r},${y - r}L${x + r},${y + r}M${x - r},${y + r}L${x + r},${y - r}` });
const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");

// a figure of its own file: colours written out, as variables mean nothing there
function saveSvg(figure, name) {
  const copy = figure.cloneNode(true);
  const from = [figure, ...figure.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  const kept = ["fill", "stroke", "stroke-width", "stroke-opacity", "fill-opacity", "stroke-dasharray",
    "stroke-linecap", "font-size", "font-weight"];
  from.forEach((node, i) => {
    const style = getComputedStyle(node);
    for (const rule of kept) to[i].setAttribute(rule, style.getPropertyValue(rule));
    to[i].removeAttribute("class");
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("font-family", "Helvetica, Arial, sans-serif");
  const address = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }));
  h("a", { href: address, download: `${name}.svg` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
function figure(name, drawn) {
  return h("figure", {}, drawn, h("div", { class: "tools" },
    h("button", { type: "button", onclick: () => saveSvg(drawn, name), "aria-label": `Save as SVG: ${name}` }, "Save as SVG")));
}
