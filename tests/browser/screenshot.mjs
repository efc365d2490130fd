// The top of a page as a picture: node screenshot.mjs PAGE PICTURE [WIDTH HEIGHT]
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [page, picture, width = "1200", height = "1000"] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const tab = await browser.newPage();
await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
await tab.setViewport({ width: Number(width), height: Number(height), deviceScaleFactor: 1 });
await tab.goto(pathToFileURL(page).href, { waitUntil: "load" });
await tab.waitForSelector('#main[data-drawn="all"]');
await tab.screenshot({ path: picture });
await browser.close();
