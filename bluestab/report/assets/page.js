// The page: what stands at the top, what can be chosen, and its sections.

const subjectTitle = (one, note) => h("h3", {}, one.task, h("small", {}, ` with ${one.model}${note ? `; ${note}` : ""}`));
const FIRST = 24; // small multiples that are drawn at once
const PAGE = 50; // rows of runs, likewise
const LONG = 25; // rows that one printed page holds
const open = new Set(); // what the reader has asked to see in full
const wide = (max = 1040) => Math.max(280, Math.min(max, byId("main").clientWidth - (innerWidth <= 640 ? 32 : 48)));

function dataTable(label, headings, rows) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", { class: rows.length > LONG ? "long" : null }, h("caption", { class: "unseen" }, label),
      h("thead", {}, h("tr", {}, headings.map(([name, numeric]) => h("th", { scope: "col", class: numeric ? "n" : null }, typeof name === "string" ? term(name) : name)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, i) => i === 0
        ? h("th", { scope: "row" }, cell) : h("td", { class: headings[i][1] ? "n" : null }, cell)))))));
}
const numbers = (title, made) => h("details", { class: "numbers" }, h("summary", {}, title), made());
const copy = (text, what) => h("button", {
  type: "button", class: "plain", "aria-label": `Copy ${what}`,
  onclick: async (event) => {
    const button = event.currentTarget;
    try { await navigator.clipboard.writeText(text); button.textContent = "copied"; }
    catch { prompt("Copy:", text); } // a page opened from disk may not reach the clipboard
    setTimeout(() => (button.textContent = "copy"), 1500);
  } }, "copy");

const repeat = (command, what) => command && [copy(command, what), h("code", { class: "on-paper" }, command)];

// --- the answer

const minus = (words) => words.replace(/(^|[\s([,])-(?=\d)/g, `$1${MINUS}`);
function sentence(parts) {
  const whole = (words) => minus(words).replace(/\[[^\]]*\]/g, (found) => found.replace(" ", "\u00a0")); // an interval stays on its line
  return parts.map(([kind, words]) => (kind === "arm" ? h("b", {}, words) : whole(words)));
}
// mean and spread of every arm, in order, as a text that papers take
function toCopy(one) {
  const rows = (one?.rows ?? []).filter((row) => row.n), shown = rows.slice(0, 6);
  return shown.length > 0 && h("p", { class: "evidence to-copy" }, h("span", {}, term("mean \u00b1 std"), ` of ${metric(one.metric)}:`),
    shown.map((row) => h("span", {}, h("b", {}, row.arm), " ", h("span", { class: "pm" }, plusMinus(row), ` (${row.n})`, copy(plusMinus(row), `mean and std of ${row.arm}`)))),
    rows.length > shown.length && `and ${count(rows.length - shown.length, "arm")} more below`);
}
const MANY = 6; // answers of which each takes a paragraph
function use(said, n) {
  const found = DATA.advice.find((one) => one.at === said.at && one.task === said.task && one.model === said.model);
  return found && h("p", { class: "use" }, h("b", {}, "What to use: "), minus((n > MANY ? found.text.split(";")[0] : found.text).replace(/^use /, "")), ".");
}
function answer(view) {
  const said = DATA.headlines.filter((one) => one.at === state.at && (!state.task || one.task === state.task) && (!state.model || one.model === state.model));
  const made = [];
  if (!said.length) {
    const crashed = RUNS.filter((run) => run.status === "crashed").length;
    made.push(h("p", { class: "headline" }, crashed ? `No run has finished: ${count(crashed, "run")} crashed.` : "No run has finished yet."));
  } else if (said.length === 1) {
    made.push(h("p", { class: `headline${said[0].text.length > 140 ? " long" : ""}` }, sentence(said[0].parts)), use(said[0], 1), toCopy(view.subjects[0]));
  } else {
    const better = said.filter((one) => one.verdict === "better").length;
    const compared = said.filter((one) => one.verdict !== "alone").length;
    made.push(h("p", { class: "headline" }, compared
      ? `In ${better} of ${compared} pairs of task and model an arm is shown to beat its baseline.`
      : `${count(said.length, "pair")} of task and model, nothing to compare.`),
      h("ul", { class: "answers" }, said.map((one) => h("li", {}, h("small", {}, `${one.task} with ${one.model}`), sentence(one.parts), use(one, said.length)))));
  }
  const failed = said.length > 0 && (view.rows.some((row) => row.failed_share > 0) ? ["Runs that ", term("failed"), " stay in every mean."] : ["No run ", term("failed"), "."]);
  return [made, failed && h("p", { class: "evidence" }, failed, " In brackets: ", term("95 % interval"), " over seeds, for all arms of a task and model at once, and ", term("p"), " by the same test.",
    state.at === "best" ? " Scores are those of the weights that were best on validation." : " Scores are those after the last step.")];
}

const sizes = (all) => (all.length === 1 ? all[0].toLocaleString("en") : `${all[0].toLocaleString("en")} to ${all.at(-1).toLocaleString("en")}`);
function tested() {
  const known = TASKS.filter((task) => DATA.test_items[task]?.length);
  if (known.length === 1) return `${sizes(DATA.test_items[known[0]])} test items`;
  return known.length > 0 && `test items: ${known.map((task) => `${task} ${sizes(DATA.test_items[task])}`).join(", ")}`;
}
function facts() {
  const done = RUNS.filter((run) => run.status !== "crashed").length, crashed = RUNS.length - done;
  const names = (all, what) => (all.length <= 3 ? all.join(", ") : count(all.length, what));
  return [count(done, "run"), count(ARMS.length, "arm"), names(TASKS, "task"), names(MODELS, "model"), tested(),
    `${duration(DATA.provenance.seconds)} of computing`, crashed && count(crashed, "crash", "crashes"),
    DATA.left && `${DATA.left} still to run`, (DATA.provenance.last ?? "").slice(0, 10)].filter(Boolean).join(" \u00b7 ");
}

// --- sections: each is drawn by sections/NAME.js; nothing drawn, nothing shown

const each = (view, draw) => view.subjects.map((one) => {
  const made = draw(one);
  return made && [view.subjects.length > 1 || TASKS.length * MODELS.length > 1 ? subjectTitle(one) : null, made];
}).filter(Boolean);

const ruled = (rows, headings, cells, label) => numbers("Numbers", () => dataTable(label, headings, rows.map(cells)));

// a section without a script of its own: its frame, as far as it is of what is chosen
const frameSection = (name, title) => () => {
  const frame = DATA[name], chosenIn = (row, column, value) => !value || !(column in row) || row[column] === value;
  const rows = records(frame).filter((row) => chosenIn(row, "at", state.at) && chosenIn(row, "task", state.task) && chosenIn(row, "model", state.model) &&
    (!state.arms || !("arm" in row) || state.arms.includes(row.arm)));
  const shown = (frame?.columns ?? []).filter((column) => column !== "at" && column !== "cell" && rows.some((row) => there(row[column])));
  const numeric = (column) => rows.every((row) => !there(row[column]) || typeof row[column] === "number");
  const cell = (value) => (!there(value) ? "" : typeof value !== "number" ? String(value) : Number.isInteger(value) ? value : fixed(value, 4));
  return rows.length > 0 && dataTable(title, shown.map((column) => [column.replaceAll("_", " "), numeric(column)]), rows.map((row) => shown.map((column) => cell(row[column]))));
};
const SECTIONS = DATA.sections.map(({ name, title, about }) => [name, title, about, DRAW[name] ?? frameSection(name, title)]);

// --- what can be chosen

function radios(name, legend, options) {
  return h("fieldset", { class: "choice" }, h("legend", {}, legend), options.map(([value, label]) => h("label", {},
    h("input", { type: "radio", name, value, checked: state[name] === value, onchange: () => choose({ [name]: value }) }), label)));
}
function select(name, label, values) {
  if (values.length < 2) return null;
  return [h("label", { for: `choose-${name}` }, label), h("select", { id: `choose-${name}`, onchange: (event) => choose({ [name]: event.target.value }) },
    h("option", { value: "" }, `all ${values.length}`), values.map((value) => h("option", { value, selected: state[name] === value }, value)))];
}
function armMenu() {
  if (ARMS.length < 2) return null;
  const lines = h("fieldset", {}, h("legend", { class: "unseen" }, "Arms that are shown"));
  const boxes = ARMS.map((arm) => h("input", { type: "checkbox", value: arm, checked: !state.arms || state.arms.includes(arm), onchange: () => take() }));
  const take = () => {
    const taken = boxes.filter((box) => box.checked).map((box) => box.value);
    choose({ arms: taken.length === ARMS.length ? null : taken });
  };
  const set = (checked) => { for (const box of boxes) if (!box.parentNode.hidden) box.checked = checked; take(); };
  boxes.forEach((box, i) => lines.append(h("label", { class: "line" }, box, h("span", {}, ARMS[i]))));
  const find = ARMS.length > 12 && h("input", { type: "search", placeholder: "find an arm", "aria-label": "Find an arm",
    oninput: (event) => { const part = event.target.value.toLowerCase(); for (const box of boxes) box.parentNode.hidden = !box.value.toLowerCase().includes(part); } });
  return h("details", { class: "menu" }, h("summary", { class: "button", id: "choose-arms" }), h("div", { class: "sheet" }, find,
    h("div", { class: "row" }, h("button", { type: "button", onclick: () => set(true) }, "All"), h("button", { type: "button", onclick: () => set(false) }, "None")), lines));
}
function buildControls() {
  const share = h("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(location.href); share.textContent = "Copied"; } catch { prompt("Copy:", location.href); }
    setTimeout(() => (share.textContent = "Copy link"), 1500);
  } }, "Copy link");
  byId("controls").replaceChildren(h("div", {}, select("task", "Task", TASKS), select("model", "Model", MODELS), armMenu(),
    radios("at", "Weights", [["last", "last step"], ["best", "best step"]]), radios("sort", "Order", [["mean", "by mean"], ["given", "as declared"]]),
    h("span", { class: "grow" }), share, h("button", { type: "button", id: "theme", onclick: () => choose({ theme: document.documentElement.dataset.theme === "dark" ? "light" : "dark" }) })));
}
function showState() {
  const dark = state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  byId("theme").textContent = "\u25d0";
  byId("theme").setAttribute("aria-label", `Change to ${dark ? "light" : "dark"} colours`);
  const arms = byId("choose-arms");
  if (arms) arms.textContent = state.arms ? `${state.arms.length} of ${ARMS.length} arms` : `all ${ARMS.length} arms`;
}

function go(id) {
  place = id;
  history.replaceState(null, "", link());
  drawAll();
  const heading = byId(id)?.querySelector("h2") ?? byId(id);
  heading?.scrollIntoView();
  heading?.focus({ preventScroll: true });
}

// sections that wait to be drawn: the first at once, the others one by one, so that a page of
// thousands of runs is there to be read while its lower end is still being drawn
let waiting = [], current = null;

function render(only) {
  hide();
  showState();
  current = chosen();
  if (only) return drawSection(SECTIONS.find(([id]) => id === only));
  byId("answer").replaceChildren(...[answer(current)].flat(Infinity).filter(Boolean));
  if (state.arms && !state.arms.length) byId("answer").append(h("p", { class: "note" }, "No arm is chosen: the figures below are empty."));
  delete byId("main").dataset.drawn;
  const idle = waiting.length === 0;
  waiting = [...SECTIONS];
  drawNext();
  if (idle) setTimeout(drawOn);
}
function drawSection([id, title, about, draw]) {
  const made = [draw(current)].flat(Infinity).filter(Boolean), section = byId(id);
  section.hidden = !made.length;
  byId(`to-${id}`).hidden = !made.length;
  section.replaceChildren(h("h2", { tabindex: -1 }, title), about ? h("p", { class: "about" }, about.replaceAll(" %", "\u00a0%")) : "", ...made);
  markCut(section);
}
// a table that goes on beyond its edge says so
function markCut(within) {
  for (const box of within.querySelectorAll(".scroll")) box.classList.toggle("cut", box.scrollWidth > box.clientWidth + 1);
}
// on paper nothing can be opened: everything is, as long as it prints
let folded = [];
function unfold() {
  drawAll();
  folded = [...document.querySelectorAll("details.numbers:not([open])")];
  for (const one of folded) one.open = true;
}
function fold() {
  for (const one of folded) one.open = false;
  folded = [];
}
function drawNext() {
  if (waiting.length) drawSection(waiting.shift());
  if (!waiting.length) byId("main").dataset.drawn = "all";
}
function drawOn() {
  drawNext();
  if (waiting.length) setTimeout(drawOn);
}
function drawAll() {
  while (waiting.length) drawNext();
}

function start() {
  readLink();
  byId("top").append(h("h1", {}, DATA.name, h("span", {}, "  \u00b7  bluestab report")), h("p", { class: "facts" }, facts()), h("div", { id: "answer", tabindex: -1 }));
  byId("main").append(h("nav", { "aria-label": "Sections" }, SECTIONS.map(([id, title]) => h("a", { href: `#${id}`, id: `to-${id}`, onclick: (event) => { event.preventDefault(); go(id); } }, title))),
    ...SECTIONS.map(([id]) => h("section", { id })),
    h("footer", {}, "Made by bluestab report. The same numbers stand in summary.csv and runs.csv beside this file; how each is computed, in bluestab.stats."));
  buildControls();
  watchTips();
  render();
  if (place) go(place);
  addEventListener("hashchange", () => { readLink(); buildControls(); render(); if (place) go(place); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (!state.theme) showState(); });
  let width = innerWidth, pause;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(pause);
    pause = setTimeout(() => render(), 120);
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  addEventListener("beforeprint", () => {
    unfold();
    document.documentElement.dataset.theme = "light";
  });
  addEventListener("afterprint", () => { fold(); showState(); });
  document.addEventListener("toggle", (event) => event.target.open && markCut(event.target), true);
}
start();
