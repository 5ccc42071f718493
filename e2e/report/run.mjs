// Opens reports (pages that -report wrote) in Chromium as different readers would, checks what they see, and takes a picture
// of each.
//
//   node run.mjs OUTDIR FILE...
//
// CHROMIUM names the browser if it is not /usr/bin/chromium.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [out, ...files] = process.argv.slice(2);
if (!files.length) {
  console.error("usage: node run.mjs OUTDIR FILE...");
  process.exit(2);
}
await mkdir(out, { recursive: true });
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const views = [
  { name: "light", viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  { name: "dark", viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  { name: "phone", viewport: { width: 390, height: 844 }, colorScheme: "light", isMobile: true, hasTouch: true },
  { name: "narrow", viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true },
  { name: "scriptless", viewport: { width: 1280, height: 900 }, colorScheme: "light", javaScriptEnabled: false },
];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

async function open(view, file) {
  const context = await browser.newContext(view);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && problems.push(`console: ${m.text()}`));
  page.on("pageerror", (e) => problems.push(`exception: ${e.message}`));
  const address = pathToFileURL(path.resolve(file)).href;
  page.on("request", (r) => r.url() !== address && !r.url().startsWith("data:") && problems.push(`request of ${r.url()}`));
  try {
    await page.goto(address);
    await look(page, view);
    const name = `${path.basename(file, ".html")}-${view.name}.png`;
    await page.screenshot({ path: path.join(out, name), fullPage: true });
    assert.deepEqual(problems, []);
    console.log(`ok   ${name}`);
  } finally {
    await context.close();
  }
}

async function look(page, view) {
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.getByRole("heading", { name: "Do it again" }).waitFor();
  const charts = page.locator("figure.chart:has(.area)");
  const count = await charts.count();
  assert.ok(count > 1, `${count} charts`);
  for (let i = 0; i < count; i++) {
    const chart = charts.nth(i);
    const drawn = await chart.locator(".area path.line[d], .area i.dot").count();
    assert.ok(drawn > 0, "a chart is empty");
    assert.match(await chart.locator(".area").getAttribute("aria-label"), /At .*: .*Arrow keys/);
    assert.ok((await chart.locator("details tbody tr").count()) > 0, "no values beneath a chart");
  }
  if (view.javaScriptEnabled === false) return;

  const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= width, `the page is ${content} px wide in a view of ${width} px`);
  for (let i = 0; i < count; i++) await read(page, charts.nth(i), view);

  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa"] }));
  assert.deepEqual(found.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes[0].html.slice(0, 200)}`), []);
}

// read reads values of a chart with the pointer and with the keys.
async function read(page, chart, view) {
  const area = chart.locator(".area");
  const tip = chart.locator(".tip");
  await area.scrollIntoViewIfNeeded();
  await (view.hasTouch ? area.tap() : area.hover());
  await tip.waitFor({ state: "visible" });
  const series = await chart.locator(".keys .key").count();
  assert.equal(await tip.locator("div").count(), series + 1, "a row for each line, and where it is");
  const [box, at] = await Promise.all([chart.boundingBox(), tip.boundingBox()]);
  assert.ok(at.x >= box.x - 1 && at.x + at.width <= box.x + box.width + 1, "the values stick out of the chart");
  await area.focus();
  await page.keyboard.press("Escape");
  assert.ok(await tip.isHidden());
  await page.keyboard.press("ArrowRight");
  const first = await tip.innerText();
  await page.keyboard.press("ArrowRight");
  if (JSON.parse(await chart.locator(".points").textContent()).steps.length > 1) assert.notEqual(await tip.innerText(), first, "the arrow key moves on");
  await page.keyboard.press("Escape");
}

let failed = false;
for (const file of files) {
  for (const view of views) {
    await open(view, file).catch((e) => {
      failed = true;
      console.error(`FAIL ${file} ${view.name}: ${e.stack}`);
    });
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
