// Opens a page in headless Chromium and says what a person would notice: JSON on standard output.
//   node look.mjs PAGE [FOLDER_FOR_SCREENSHOTS]
import { createRequire } from "node:module";
import { readFileSync, mkdirSync } from "node:fs";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [page, shots] = process.argv.slice(2);
const address = pathToFileURL(page).href;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const found = { console: [], requests: [], dialogs: [], axe: {}, sections: {}, widths: {}, states: {} };

async function opened({ width = 1280, theme = "light", fragment = "" } = {}) {
  const tab = await browser.newPage();
  tab.on("console", (said) => ["error", "warning"].includes(said.type()) && found.console.push(said.text()));
  tab.on("pageerror", (error) => found.console.push(String(error)));
  tab.on("dialog", (dialog) => { found.dialogs.push(dialog.message()); dialog.dismiss(); });
  tab.on("request", (request) => {
    if (!request.url().startsWith(address) && !/^(data|blob):/.test(request.url())) found.requests.push(request.url());
  });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
  await tab.setViewport({ width, height: 900 });
  await tab.goto(address + fragment, { waitUntil: "load" });
  await drawn(tab);
  return tab;
}
const drawn = (tab) => tab.waitForSelector('#main[data-drawn="all"]', { timeout: 120000 });
const bodies = (tab) => tab.evaluate(() => Object.fromEntries(
  [...document.querySelectorAll("section, #answer")].map((one) => [one.id, one.hidden ? "" : one.innerHTML])));

// words that stand on two lines, and tables that go on beyond their edge without a word about it
function phone() {
  for (const one of document.querySelectorAll("details.numbers")) one.open = true;
  const broken = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.parentElement.checkVisibility() || node.parentElement.closest("svg, script, .unseen")) continue;
    for (const { 0: word, index } of node.data.matchAll(/[\p{L}\p{N}.]{2,24}/gu)) {
      const range = document.createRange();
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      const rows = new Set([...range.getClientRects()].filter((box) => box.width).map((box) => Math.round(box.top)));
      if (rows.size > 1) broken.push(word);
    }
  }
  return new Promise((done) => setTimeout(() => done({
    broken,
    cut: [...document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth + 1 && !box.classList.contains("cut")).length,
    tables: document.querySelectorAll(".scroll.cut").length,
  }), 100));
}
function printed() {
  const seen = (one) => one.checkVisibility({ visibilityProperty: true });
  return {
    closed: document.querySelectorAll("details.numbers:not([open])").length,
    opened: document.querySelectorAll("details.numbers").length,
    buttons: [...document.querySelectorAll("button, input, select, summary.button")].filter((one) => seen(one) && !one.closest("th")).map((one) => one.textContent),
    short: [...document.querySelectorAll("td code")].filter((one) => seen(one) && one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflow !== "visible").length,
    commands: [...document.querySelectorAll("#runs td code, #setup td code.on-paper")].filter((one) => seen(one) && one.textContent.startsWith("bluestab run")).length,
    breaking: [...document.querySelectorAll("table:not(.long)")].filter((one) => getComputedStyle(one).breakInside !== "avoid").length,
    theme: document.documentElement.dataset.theme,
  };
}

// how long until a person can read the answer and use the filters
const timed = await opened();
found.open_ms = await timed.evaluate(() => performance.getEntriesByType("navigation")[0].loadEventEnd);
found.title = await timed.title();
found.headline = await timed.evaluate(() => document.querySelector(".headline")?.textContent ?? null);
found.sections = await timed.evaluate(() => Object.fromEntries([...document.querySelectorAll("section")].map((one) => [one.id, one.hidden ? 0 : one.querySelectorAll("svg, table").length])));
found.text = await timed.evaluate(() => document.body.innerText);
found.first = await timed.evaluate(() => [...document.querySelectorAll("#top p")].filter((one) => one.getBoundingClientRect().bottom <= innerHeight).map((one) => one.textContent));
if (await timed.$("#top abbr")) {
  await timed.hover("#top abbr");
  found.glossary = await timed.evaluate(() => document.getElementById("tip").textContent);
  await timed.mouse.move(1, 1);
}
found.change = await timed.evaluate(() => [...document.querySelectorAll("#change-table tbody tr")].map((row) => [...row.children].map((cell) => cell.textContent)));

// every filter, and which sections it changes
const before = await bodies(timed);
const compare = async (name, act) => {
  await act();
  await drawn(timed);
  const after = await bodies(timed);
  found.states[name] = { changed: Object.keys(before).filter((id) => before[id] !== after[id]), hash: await timed.evaluate(() => location.hash) };
};
for (const name of ["task", "model"]) {
  if (!(await timed.$(`#choose-${name}`))) continue;
  await compare(name, () => timed.evaluate((id) => {
    const box = document.getElementById(id);
    box.value = box.options[1].value;
    box.dispatchEvent(new Event("change"));
  }, `choose-${name}`));
  await timed.evaluate((id) => {
    const box = document.getElementById(id);
    box.value = "";
    box.dispatchEvent(new Event("change"));
  }, `choose-${name}`);
  await drawn(timed);
}
if (await timed.$("#choose-arms")) {
  await compare("arms", () => timed.evaluate(() => document.querySelector(".sheet input[type=checkbox]:last-of-type, .sheet input[type=checkbox]").click()));
  const fragment = found.states.arms.hash, there = await bodies(timed);
  const again = await opened({ fragment });
  const same = await bodies(again);
  found.states.link = Object.keys(there).filter((id) => there[id] !== same[id]);
  await again.close();
}
// the arrow keys walk along the points of a figure
const figure = await timed.$("#seeds svg");
if (figure) {
  await timed.evaluate(() => document.querySelector("#seeds svg").focus());
  await timed.keyboard.press("ArrowRight");
  found.keyboard = await timed.evaluate(() => [document.getElementById("live").textContent, document.getElementById("tip").hidden]);
}
await timed.close();

for (const theme of ["light", "dark"]) for (const width of [390, 820, 1280]) {
  const tab = await opened({ width, theme });
  found.widths[`${width}`] = await tab.evaluate(() => document.documentElement.scrollWidth);
  if (shots) {
    mkdirSync(shots, { recursive: true });
    await tab.screenshot({ path: `${shots}/${theme}-${width}.png`, clip: { x: 0, y: 0, width, height: 3000 }, captureBeyondViewport: true });
  }
  if (width === 390 && theme === "light") found.phone = await tab.evaluate(phone);
  if (width === 1280 && theme === "light") {
    await tab.emulateMediaType("print");
    await tab.evaluate(() => dispatchEvent(new Event("beforeprint")));
    found.print = await tab.evaluate(printed);
    await tab.evaluate(() => dispatchEvent(new Event("afterprint")));
    found.print.closed_after = await tab.evaluate(() => document.querySelectorAll("details.numbers:not([open])").length);
    await tab.emulateMediaType("screen");
  }
  if (width !== 820) {
    await tab.evaluate(() => { for (const one of document.querySelectorAll("details")) one.open = !one.classList.contains("menu"); });
    // a session of its own: the page's policy forbids added scripts
    await tab.evaluate(axe);
    const { violations } = await tab.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    found.axe[`${theme} ${width}`] = violations.map((v) => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 160), v.nodes[0].failureSummary]);
  }
  await tab.close();
}
await browser.close();
console.log(JSON.stringify(found));
