DRAW.forgetting = () => {
  const found = DATA.forgetting_words ?? [];
  if (!found.length) return null;
  return [
    found.map((one) => {
      const label = `Sequences of ${one.tasks.replaceAll(" ", ", ")}`;
      return [h("h3", {}, label), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
        h("table", {}, h("caption", { class: "unseen" }, label),
          h("thead", {}, h("tr", {}, one.headings.map((name, i) => h("th", { scope: "col", class: i > 1 ? "n" : null }, name)))),
          h("tbody", {}, one.rows.map((row) => h("tr", {}, row.map((cell, i) => (i === 1 ? h("th", { scope: "row" }, cell) : h("td", { class: i > 1 ? "n" : null }, cell)))))))) ];
    }),
    h("ul", { class: "note" }, DATA.forgetting_definitions.map((text) => h("li", {}, text)))];
};
