// Pictures of a report in both themes, on a desk and on a phone, and what axe finds in it:
//
//   node look.mjs REPORT.html FOLDER
//
// from a folder in which `npm install puppeteer-core axe-core` was run. Ends with status 1 if there
// are findings, errors, requests to a network, or something wider than the window.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "package.json"));
const puppeteer = require("puppeteer-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [report, out] = process.argv.slice(2).map((name) => path.resolve(name));
const problems = [];

fs.mkdirSync(out, { recursive: true });
const browser = await puppeteer.launch({
  executablePath: process.env.BROWSER ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
for (const theme of ["light", "dark"]) {
  for (const width of [1280, 390]) await look(theme, width);
}
await browser.close();
console.log(problems.length ? problems.join("\n") : `no findings; pictures in ${out}`);
process.exit(problems.length ? 1 : 0);

async function look(theme, width) {
  const page = await browser.newPage();
  const name = `${theme}-${width}`;
  const say = (what) => problems.push(`${name}: ${what}`);
  page.on("pageerror", (error) => say(error.message));
  page.on(
    "request",
    (request) => /^(file|data):/.test(request.url()) || say(`asks for ${request.url()}`),
  );
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
  await page.setViewport({ width, height: 900, isMobile: width < 500, hasTouch: width < 500 });
  await page.goto(`file://${report}`);
  await page.evaluate(() => {
    document.querySelectorAll("img").forEach((image) => (image.loading = "eager"));
    document.getElementById("runs").style.position = "static"; // not amidst a picture
    return new Promise((done) => setTimeout(done, 500));
  });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > width) say(`is ${wide} pixels wide`);
  await page.screenshot({ path: path.join(out, `${name}.png`), fullPage: true });
  await page.evaluate(`${axe};0`);
  const { violations } = await page.evaluate(() => axe.run(document));
  violations.forEach(({ id, nodes }) =>
    say(
      `${id}: ${nodes
        .slice(0, 3)
        .map((node) => node.html)
        .join("  ")}`,
    ),
  );
  await page.close();
}
