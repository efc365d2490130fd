DRAW.setup = (view) => {
  const from = DATA.provenance, counted = (all) => Object.entries(all).map(([name, n]) => (Object.keys(all).length > 1 ? `${name} (${count(n, "run")})` : name)).join("; ");
  const rows = view.subjects.flatMap((one) => one.rows.map((row) => ({ one, row, arm: DATA.arms[row.cell] })));
  return [
    dataTable("What sets the arms apart", [["arm"], ...(view.subjects.length > 1 ? [["task"], ["model"]] : []), ["techniques and their knobs"], ["else, against the baseline"], ["seeds", 1], ["to repeat one seed"]],
      rows.map(({ one, row, arm }) => {
        const command = row.runs[0]?.command ?? row.all[0]?.command;
        return [row.arm, ...(view.subjects.length > 1 ? [one.task, one.model] : []), h("code", {}, arm?.technique ?? ""), h("code", {}, arm?.differs || (row.isBaseline ? row.config_diff : "") || ""), row.n, repeat(command, `the command of ${row.arm}`)];
      })),
    h("dl", {}, [["command", DATA.command && h("code", {}, DATA.command)], ["versions", Object.entries(from.versions).map(([name, all]) => `${name} ${counted(all)}`).join(", ")],
      ["commit", counted(from.commits)], ["hardware", counted(from.machines)], ["time", RUNS.length ? `${duration(from.seconds)} over all runs${from.first ? `, ${from.first.slice(0, 10)} to ${from.last.slice(0, 10)}` : ""}` : null],
      ["recipe version", counted(from.recipes)]].filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))];
};
