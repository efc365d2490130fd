// The page: what stands at the top, what can be chosen, and its sections.

const subjectTitle = (one, note) => h("h3", {}, one.task, h("small", {}, ` with ${one.model}${note ? `; ${note}` : ""}`));
const FIRST = 24; // small multiples that are drawn at once
const PAGE = 50; // rows of runs, likewise
const open = new Set(); // what the reader has asked to see in full
const wide = (max = 1040) => Math.max(280, Math.min(max, byId("main").clientWidth - (innerWidth <= 640 ? 32 : 48)));

function dataTable(label, headings, rows) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", {}, h("caption", { class: "unseen" }, label),
      h("thead", {}, h("tr", {}, headings.map(([name, numeric]) => h("th", { scope: "col", class: numeric ? "n" : null }, name)))),
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

// --- the answer

function sentence(parts) {
  const whole = (words) => words.replace(/\[[^\]]*\]/g, (found) => found.replace(" ", "\u00a0").replaceAll("-", MINUS)); // an interval stays on its line
  return parts.map(([kind, words]) => (kind === "arm" ? h("b", {}, words) : whole(words)));
}
function answer(view) {
  const said = DATA.headlines.filter((one) => one.at === state.at && (!state.task || one.task === state.task) && (!state.model || one.model === state.model));
  const advice = DATA.advice.filter((text) => said.some((one) => text.startsWith(`${one.task} with ${one.model}: `)));
  const made = [];
  if (!said.length) {
    const crashed = RUNS.filter((run) => run.status === "crashed").length;
    made.push(h("p", { class: "headline" }, crashed ? `No run has finished: ${count(crashed, "run")} crashed.` : "No run has finished yet."));
  } else if (said.length === 1) {
    made.push(h("p", { class: "headline" }, sentence(said[0].parts)));
  } else {
    const better = said.filter((one) => one.verdict === "better").length;
    const compared = said.filter((one) => one.verdict !== "alone").length;
    made.push(h("p", { class: "headline" }, compared
      ? `In ${better} of ${compared} pairs of task and model an arm is shown to beat its baseline.`
      : `${count(said.length, "pair")} of task and model, nothing to compare.`),
      h("ul", { class: "answers" }, said.map((one) => h("li", {}, h("small", {}, `${one.task} with ${one.model}`), sentence(one.parts)))));
  }
  const failed = said.length > 0 && "Failed runs stay in every mean. In brackets: 95 % interval over seeds; p: exact paired test, corrected by Holm over the arms.";
  return [made, failed && h("p", { class: "evidence" }, failed, state.at === "best" ? " Scores are those of the weights that were best on validation." : " Scores are those after the last step."),
    advice.length > 0 && numbers("What validation recommends", () => h("ul", { class: "note" }, advice.map((text) => h("li", {}, text))))];
}

function facts() {
  const done = RUNS.filter((run) => run.status !== "crashed").length, crashed = RUNS.length - done;
  const names = (all, what) => (all.length <= 3 ? all.join(", ") : count(all.length, what));
  return [count(done, "run"), count(ARMS.length, "arm"), names(TASKS, "task"), names(MODELS, "model"),
    `${duration(DATA.provenance.seconds)} of computing`, crashed && count(crashed, "crash", "crashes"),
    DATA.left && `${DATA.left} still to run`, (DATA.provenance.last ?? "").slice(0, 10)].filter(Boolean).join(" \u00b7 ");
}

// --- sections: id, heading, what to know, and what draws it; nothing drawn, nothing shown

const each = (view, draw) => view.subjects.map((one) => {
  const made = draw(one);
  return made && [view.subjects.length > 1 || TASKS.length * MODELS.length > 1 ? subjectTitle(one) : null, made];
}).filter(Boolean);

const ruled = (rows, headings, cells, label) => numbers("Numbers", () => dataTable(label, headings, rows.map(cells)));

function costWords() {
  const lower = DATA.lower_is_better.map(metric);
  if (!lower.length) return "Up";
  return lower.length === Object.keys(DATA.metrics).length ? "Down" : `Up (of ${lower.join(", ")}: down)`;
}

const SECTIONS = [
  ["seeds", "Every seed", "One point per seed over the box of its arm (quartiles, median, range); a cross is a failed run. The dashed line is the baseline's mean.",
    (view) => each(view, (one) => one.rows.some((row) => row.runs.length) && [
      figure(`seeds ${one.task} ${one.model}`, seedsChart(one, wide())),
      ruled(one.rows.filter((row) => row.n), [["arm"], ["n", 1], ["mean", 1], ["95 % interval", 1], ["with test items", 1], ["std", 1], ["median", 1], ["min", 1], ["max", 1], ["without failed", 1], ["time per run", 1]],
        (row) => [row.arm, row.n, fixed(row.mean, 4), span(row.ci_low, row.ci_high, 4), span(row.items_low, row.items_high, 4), fixed(row.std, 4), fixed(row.median, 4), fixed(row.min, 4), fixed(row.max, 4), fixed(row.mean_without_failed, 4), duration(row.seconds_mean)],
        `Scores per arm, ${one.task} with ${one.model}`)])],

  ["failed", "Runs that failed", "A run has failed when its loss was not finite or its test score is no better than that of a model that ignores its input. Wilson's interval: few seeds say little about a share.",
    (view) => each(view, (one) => one.rows.some((row) => row.n) && figure(`failed ${one.task} ${one.model}`, failedChart(one, wide(760))))],

  ["change", "What each technique changed", "Difference of the means on shared seeds, with its 95 % interval. Bold: shown to differ at 5 % after correction for all arms of its column. The deeper the tone, the larger the change.", changeMap],

  ["curves", "On the way", "Every run of every arm. In vermillion, with a cross: runs that failed.", curvesSection],

  ["gradients", "Gradients of runs that failed", "Mean gradient norm per layer group, from the embeddings (light) to the top (deep), median over runs. Where fine-tuning fails, gradients vanish below the top early on (Mosbach et al. 2021).", gradientSection],

  ["cost", "What it costs", `Change of the mean against time per run. ${costWords()} and to the left is better.`,
    (view) => each(view, (one) => { const made = costChart(one, wide(860)); return made && figure(`cost ${one.task} ${one.model}`, made); })],

  ["budget", "If you run several seeds and keep one", "Expected test score of the seed that validation picks among k; it may fall where validation selects noise. Dashed: the baseline.",
    (view) => each(view, (one) => { const made = budgetChart(one, wide()); return made && figure(`budget ${one.task} ${one.model}`, made); })],

  ["variance", "Where the spread comes from", "Components of variance (two-way, one run per combination). Rest: what neither explains on its own.", varianceSection],

  ["instability", "Seeds that score alike and answer differently", "How far the runs of an arm come apart on the test items; 0: not at all (Du & Nguyen 2023).", instabilitySection],

  ["search", "The search", "Validation scores of the points it tried, a point being a configuration measured over seeds. Hollow: stopped before it had all of them, and drawn at the mean of those it had. Cross: too many of its runs failed.", searchSection],

  ["published", "Beside published numbers", "The same task, model, metric and technique in the literature.", publishedSection],

  ["blurb", "BLURB", "Mean of the means of its six task types.", blurbSection],

  ["setup", "What was run", "What sets the arms apart, and where the numbers were made.", setupSection],

  ["crashes", "What crashed, and what to mind", null, crashSection],

  ["runs", "Every run, and the command that repeats it", null, runsSection],
];

function changeMap(view) {
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
      sure ? h("b", {}, value, "\u2009*") : value, " ", h("small", {}, span(row.delta_low, row.delta_high)),
      few ? null : tip(miniInterval(row, reach.get(one), room), `${row.arm}: ${value}`, `p ${pvalue(row.p_adjusted)}, ${row.n_paired} shared seeds`));
  };
  const rest = (one, arm) => {
    const row = one.compared.find((found) => found.arm === arm);
    if (!row) return [h("td", {}), h("td", { class: "n" }), h("td", { class: "n" }), h("td", { class: "n" })];
    return [h("td", {}, miniInterval(row, reach.get(one), room)), h("td", { class: "n" }, pvalue(row.p_adjusted)),
      h("td", { class: "n" }, fixed(row.std_ratio, 2), " ", h("small", {}, span(row.std_ratio_low, row.std_ratio_high, 2))), h("td", { class: "n" }, row.n_paired)];
  };
  const label = "Change against the baseline, arms by task and model";
  const dashes = subjects.some((one) => one.compared.some((row) => !there(row.p_adjusted)));
  return [
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
      h("table", { id: "change-table" }, h("caption", { class: "unseen" }, label),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "arm"), subjects.map((one) => h("th", { scope: "col" }, few ? `change in ${metric(one.metric)} against ${one.compared[0].baseline}` : h("span", {}, one.task, h("br"), h("small", {}, one.model)))),
          few && ["", "p", "ratio of std", "seeds"].map((name, i) => h("th", { scope: "col", class: i ? "n" : null }, name || h("span", { class: "unseen" }, "drawn"))))),
        h("tbody", {}, arms.map((arm) => h("tr", {}, h("th", { scope: "row" }, arm), subjects.map((one) => cell(one, arm)), few && rest(subjects[0], arm)))))),
    h("p", { class: "note" }, dashes && "A dash in place of p: so few shared seeds cannot reach 5 % in an exact test, whatever the scores. ", "An interval that reaches the edge of its drawing goes on beyond it.")];
}

function curvesSection(view) {
  const kind = state.curve;
  const made = each(view, (one) => {
    const rows = one.rows.filter((row) => row.all.length);
    const values = rows.flatMap((row) => row.all.flatMap((run) => DATA.curves.runs[run.key][kind]));
    if (!values.some(there)) return null;
    const bounds = extent(values), steps = Math.max(...rows.flatMap((row) => row.all.map((run) => DATA.curves.runs[run.key].steps.at(-1))));
    const name = `curves ${one.task} ${one.model}`, shown = open.has(name) ? rows : rows.slice(0, FIRST);
    return [h("div", { class: "many" }, shown.map((row) => curveChart(row, one, kind, bounds, steps))),
      shown.length < rows.length && h("p", {}, h("button", { type: "button", onclick: () => { open.add(name); render(); } }, `Show all ${rows.length} arms`))];
  });
  if (!made.length) return null;
  return [h("div", { class: "key" }, radios("curve", "show", [["score", "validation score"], ["loss", "training loss"]])), made];
}

function gradientSection(view) {
  if (!DATA.curves.groups.length) return null;
  const made = each(view, (one) => {
    const runs = one.rows.flatMap((row) => row.all);
    const good = runs.filter((run) => !run.failed && run.status === "done"), bad = runs.filter((run) => run.failed);
    const norms = runs.flatMap((run) => Object.values(DATA.curves.runs[run.key].norms).flat()).filter((v) => v > 0).map(Math.log10);
    if (!norms.length) return null;
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
}

function varianceSection(view) {
  const shown = DATA.variance.filter((one) => one.at === state.at && view.subjects.some((subject) => subject.task === one.task && subject.model === one.model &&
    (one.cell === null || subject.rows.some((row) => row.cell === one.cell))));
  // shares are of all arms together: with arms hidden they would be of something else
  const whole = shown.filter((one) => one.cell !== null || !state.arms);
  if (!whole.length) return null;
  return whole.map((one) => [
    h("h3", {}, one.cell === null ? one.task : CELLS.get(one.cell).arm, h("small", {}, one.cell === null ? ` with ${one.model}` : `; ${one.task} with ${one.model}`,
      `; ${one.n_columns} ${one.shares[0][0]}s, ${one.n_rows} ${one.shares[1][0]}s`)),
    figure(`variance ${one.task} ${one.model}`, sharesChart(one.shares, wide(760)))]);
}

const MEASURE = {
  i_pwd: "pairwise disagreement", i_kappa: "1 \u2212 kappa", i_jsd: "Jensen-Shannon", i_difference: "difference (in std of targets)", i_discordance: "1 \u2212 concordance",
  i_entity: "1 \u2212 entity F1", i_cka: "1 \u2212 CKA", i_op: "Procrustes",
};
function instabilitySection(view) {
  const measures = DATA.instability.columns.filter((name) => name in MEASURE);
  return each(view, (one) => {
    const rows = one.rows.map((row) => ({ row, found: INSTABILITY.find((i) => i.cell === row.cell && i.at === state.at) })).filter(({ found }) => found && found.n >= 2);
    const shown = measures.filter((name) => rows.some(({ found }) => there(found[name])));
    if (!shown.length) return null;
    const most = new Map(shown.map((name) => [name, Math.max(...rows.map(({ found }) => found[name] ?? 0)) || 1]));
    const bar = (name, value) => there(value) && h("span", {}, fixed(value, 4), s("svg", { width: 64, height: 8, viewBox: "0 0 64 8", "aria-hidden": "true" },
      s("rect", { x: 0, y: 1, height: 6, width: 64, rx: 2, fill: "var(--wash)" }), s("rect", { x: 0, y: 1, height: 6, width: (64 * value) / most.get(name), rx: 2, fill: "var(--accent)", "fill-opacity": 0.75 })));
    return dataTable(`Instability of predictions, ${one.task} with ${one.model}`, [["arm"], ["n", 1], ["std of score", 1], ...shown.map((name) => [MEASURE[name]])],
      rows.map(({ row, found }) => [row.arm, found.n, fixed(found.sd_sample, 4), ...shown.map((name) => bar(name, found[name]))]));
  });
}

function publishedSection(view) {
  const rows = records(DATA.published).filter((row) => view.subjects.some((one) => one.task === row.task && one.model === row.model && one.rows.some((found) => found.arm === row.arm)));
  return rows.length > 0 && dataTable("Our means beside published ones", [["task"], ["model"], ["arm"], ["ours", 1], ["n", 1], ["published", 1], ["source"], ["verdict"]],
    rows.map((row) => [row.task, row.model, row.arm, fixed(row.mean, 4), row.n, fixed(row.published_mean, 4), `${row.source}, ${row.table}`, row.verdict ?? "too few seeds"]));
}

function blurbSection(view) {
  const rows = records(DATA.blurb).filter((row) => row.at === state.at && (!state.model || row.model === state.model));
  if (!rows.length) return null;
  const skip = ["model", "arm", "at", "std", "n_shared", "n_min", "missing", "ambiguous", "cut"];
  const shown = DATA.blurb.columns.filter((name) => !skip.includes(name) && rows.some((row) => there(row[name])));
  return [dataTable("BLURB scores", [["arm"], ["model"], ...shown.map((name) => [name, 1])], rows.map((row) => [row.arm, row.model, ...shown.map((name) => fixed(row[name], 4))])),
    rows.some((row) => row.missing) && h("p", { class: "note" }, `No BLURB score where a task is missing: ${unique(rows.map((row) => row.missing).filter(Boolean)).join("; ")}`)];
}

function setupSection(view) {
  const from = DATA.provenance, counted = (all) => Object.entries(all).map(([name, n]) => (Object.keys(all).length > 1 ? `${name} (${count(n, "run")})` : name)).join("; ");
  const rows = view.subjects.flatMap((one) => one.rows.map((row) => ({ one, row, arm: DATA.arms[row.cell] })));
  return [
    dataTable("What sets the arms apart", [["arm"], ...(view.subjects.length > 1 ? [["task"], ["model"]] : []), ["techniques and their knobs"], ["else, against the baseline"], ["seeds", 1], ["to repeat one seed"]],
      rows.map(({ one, row, arm }) => {
        const command = row.runs[0]?.command ?? row.all[0]?.command;
        return [row.arm, ...(view.subjects.length > 1 ? [one.task, one.model] : []), h("code", {}, arm?.technique ?? ""), h("code", {}, arm?.differs || (row.isBaseline ? row.config_diff : "") || ""), row.n, command ? copy(command, `the command of ${row.arm}`) : ""];
      })),
    h("dl", {}, [["command", DATA.command && h("code", {}, DATA.command)], ["versions", Object.entries(from.versions).map(([name, all]) => `${name} ${counted(all)}`).join(", ")],
      ["commit", counted(from.commits)], ["hardware", counted(from.machines)], ["time", RUNS.length ? `${duration(from.seconds)} over all runs${from.first ? `, ${from.first.slice(0, 10)} to ${from.last.slice(0, 10)}` : ""}` : null],
      ["recipe version", counted(from.recipes)]].filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))];
}

function crashSection(view) {
  const crashed = RUNS.filter((run) => run.status === "crashed" && (!run.of || ((!state.task || run.of.task === state.task) && (!state.model || run.of.model === state.model) && (!state.arms || state.arms.includes(run.of.arm)))));
  const diverged = view.runs.filter((run) => run.status === "diverged");
  const said = [...DATA.mind, ...DATA.damaged, ...DATA.instability.left_out];
  if (!crashed.length && !diverged.length && !said.length) return [h("p", {}, "Nothing crashed, nothing diverged, and all runs were made alike.")];
  const list = (runs, label) => runs.length > 0 && [h("h3", {}, label), dataTable(label, [["why"], ["task"], ["model"], ["arm"], ["seed"], ["repeat"]],
    runs.slice(0, PAGE).map((run) => [h("span", { class: "bad-text" }, run.error ?? "unknown"), run.of?.task ?? "", run.of?.model ?? "", run.of?.arm ?? "", run.seed, run.command ? copy(run.command, "its command") : ""])),
    runs.length > PAGE && h("p", { class: "note" }, `and ${runs.length - PAGE} more: see the last table`)];
  return [list(crashed, `${count(crashed.length, "run")} crashed: in no number here, tried again by the same command`), list(diverged, `${count(diverged.length, "run")} diverged: failed, and in every number`),
    said.length > 0 && [h("h3", {}, "Mind"), h("ul", { class: "note" }, said.slice(0, 20).map((text) => h("li", {}, text))),
    said.length > 20 && numbers(`and ${said.length - 20} more`, () => h("ul", { class: "note" }, said.slice(20).map((text) => h("li", {}, text))))]];
}

let order = ["", 1];
function runsSection(view) {
  if (!view.runs.length) return null;
  const keys = { arm: (r) => r.of.arm, task: (r) => r.of.task, model: (r) => r.of.model, seed: (r) => Number.parseFloat(r.seed) || 0, status: (r) => (r.failed ? "failed" : r.status), score: (r) => r.score ?? -Infinity, validation: (r) => r.validation ?? -Infinity, time: (r) => r.seconds };
  const runs = [...view.runs];
  if (keys[order[0]]) runs.sort((a, b) => { const [x, y] = [keys[order[0]](a), keys[order[0]](b)]; return order[1] * (x < y ? -1 : x > y ? 1 : 0); });
  const all = open.has("runs"), shown = all ? runs : runs.slice(0, PAGE);
  const head = (name) => [h("button", { type: "button", onclick: () => { order = [name, order[0] === name ? -order[1] : 1]; render("runs"); } }, name + (order[0] === name ? (order[1] > 0 ? " \u2191" : " \u2193") : "")), ["score", "validation", "time"].includes(name)];
  return [dataTable("All runs", [...["arm", "seed", "task", "model", "status", "score", "validation", "time"].map(head), ["key"], ["command"]],
    shown.map((run) => [run.of.arm, run.seed, run.of.task, run.of.model, run.failed ? h("span", { class: "bad-text" }, run.status === "diverged" ? "diverged" : "failed") : run.status + (run.censored ? ", stopped early" : ""),
      fixed(run.score, 4), fixed(run.validation, 4), duration(run.seconds), h("code", {}, run.key), run.command ? h("span", { class: "command" }, h("code", { title: run.command }, run.command), copy(run.command, `the command of ${run.key}`)) : ""])),
    shown.length < runs.length && h("p", {}, h("button", { type: "button", onclick: () => { open.add("runs"); render("runs"); } }, `Show all ${runs.length.toLocaleString("en")} runs`))];
}

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
  section.replaceChildren(h("h2", { tabindex: -1 }, title), about ? h("p", { class: "about" }, about) : "", ...made);
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
    drawAll();
    document.documentElement.dataset.theme = "light";
  });
  addEventListener("afterprint", showState);
}
start();
