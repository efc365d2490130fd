let order = ["", 1];
DRAW.runs = (view) => {
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
};
