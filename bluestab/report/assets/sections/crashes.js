DRAW.crashes = (view) => {
  const crashed = RUNS.filter((run) => run.status === "crashed" && (!run.of || ((!state.task || run.of.task === state.task) && (!state.model || run.of.model === state.model) && (!state.arms || state.arms.includes(run.of.arm)))));
  const diverged = view.runs.filter((run) => run.status === "diverged");
  const said = [...DATA.mind, ...DATA.damaged, ...DATA.left_out];
  if (!crashed.length && !diverged.length && !said.length) return null;
  const list = (runs, label) => runs.length > 0 && [h("h3", {}, label), dataTable(label, [["why"], ["task"], ["model"], ["arm"], ["seed"], ["repeat"]],
    runs.slice(0, PAGE).map((run) => [h("span", { class: "bad-text" }, run.error ?? "unknown"), run.of?.task ?? "", run.of?.model ?? "", run.of?.arm ?? "", run.seed, repeat(run.command, "its command")])),
    runs.length > PAGE && h("p", { class: "note" }, `and ${runs.length - PAGE} more: see the last table`)];
  return [list(crashed, `${count(crashed.length, "run")} crashed: in no number here, tried again by the same command`), list(diverged, `${count(diverged.length, "run")} diverged: failed, and in every number`),
    said.length > 0 && [h("h3", {}, "Mind"), h("ul", { class: "note" }, said.slice(0, 20).map((text) => h("li", {}, text))),
    said.length > 20 && numbers(`and ${said.length - 20} more`, () => h("ul", { class: "note" }, said.slice(20).map((text) => h("li", {}, text))))]];
};
