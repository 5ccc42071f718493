// Opens the live page in Chromium as three readers would, checks what they see, and takes a picture of each.
//
//   node run.mjs URL OUTDIR [--made-up]
//
// URL is of a page behind which requests run, OUTDIR takes the pictures. --made-up adds what only e2e/dashboard/serve
// has: hostile names, a gateway at which nothing happens, and one with 400 endpoints.
// CHROMIUM names the browser if it is not /usr/bin/chromium.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { chromium } from "playwright-core";

const [url, out] = process.argv.slice(2).filter((a) => !a.startsWith("--"));
const madeUp = process.argv.includes("--made-up");
if (!url || !out) {
  console.error("usage: node run.mjs URL OUTDIR [--made-up]");
  process.exit(2);
}
await mkdir(out, { recursive: true });

const views = [
  { name: "light", viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  { name: "dark", viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  { name: "phone", viewport: { width: 390, height: 844 }, colorScheme: "light", isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
  { name: "narrow", viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true },
];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

// open gives a page that records what must not happen, and checks it when it is done.
async function open(view, address, look, expected = null) {
  const context = await browser.newContext(view);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && !expected?.test(m.text()) && problems.push(`console: ${m.text()}`));
  page.on("pageerror", (e) => problems.push(`exception: ${e.message}`));
  page.on("request", (r) => {
    const u = new URL(r.url());
    if (u.protocol !== "data:" && u.origin !== new URL(address).origin) problems.push(`request to ${u.origin}`);
  });
  try {
    await page.goto(address);
    await look(page);
    assert.equal(await page.evaluate(() => window.pwned), undefined, "a name was run as markup");
    assert.equal(await page.locator("img").count(), 0, "a name was written as markup");
    assert.deepEqual(problems, []);
    console.log(`ok   ${view.name} ${new URL(address).pathname}`);
  } finally {
    await context.close();
  }
}

const tile = (page, label) => page.locator(".tile", { hasText: label }).locator("dd.value").innerText();
const shoot = (page, name, fullPage = true) => page.screenshot({ path: path.join(out, `${name}.png`), fullPage });

async function noSidewaysScroll(page) {
  const [content, view] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= view, `the page is ${content} px wide in a view of ${view} px`);
}

// changes waits until read gives something else than before.
async function changes(page, what, read) {
  const first = await read();
  for (let i = 0; i < 40; i++) {
    await page.waitForTimeout(250);
    if ((await read()) !== first) return;
  }
  assert.fail(`${what} stayed as it was for 10 s: ${first}`);
}

async function busy(view, page) {
  await page.locator("#status.live").waitFor();
  await page.locator("#endpoints tbody tr").first().waitFor();
  await page.locator("#decisions details").first().waitFor();
  for (const heading of ["Now", "Last minutes", "Endpoints", "Last decisions", "Last failures"]) {
    await page.getByRole("heading", { name: heading, exact: true }).waitFor();
  }
  assert.equal(await page.locator("#charts svg.plot path.line").count(), 5, "lines of the charts");
  assert.match(await page.locator("#charts svg.plot").nth(1).getAttribute("aria-label"), /Time to first token.*p50 .*p95 /);
  assert.equal(await page.getByRole("table").first().getByRole("columnheader").count(), 12);
  assert.match(await tile(page, "TTFT p50"), /^[\d.]+ m?s$/);
  await changes(page, "the time", () => page.locator("#clock").textContent());
  await changes(page, "the number of requests", () => page.locator(".tile .note").first().textContent());
  await noSidewaysScroll(page);
  await shoot(page, view.name);

  const summary = page.locator("#decisions summary").first();
  await summary.focus();
  await page.keyboard.press("Enter");
  const scores = page.locator("#decisions details[open] table.scores");
  await scores.waitFor();
  assert.ok((await scores.locator("thead th").count()) > 5, "a column for each scorer");
  assert.match(await scores.locator("tbody tr").first().innerText(), /chosen/);
  await noSidewaysScroll(page);
  const held = await page.locator("#decisions li").first().getAttribute("data-number");
  await page.waitForTimeout(2500);
  assert.equal(await page.locator("#decisions li").first().getAttribute("data-number"), held, "an open decision moved");
  await page.locator("#decisions").scrollIntoViewIfNeeded();
  await shoot(page, `${view.name}-decision`);
  await summary.focus();
  await page.keyboard.press("Enter");

  const plot = page.locator("#charts svg.plot").nth(1);
  await plot.scrollIntoViewIfNeeded();
  await (view.hasTouch ? plot.tap() : plot.hover());
  const tip = page.locator("#charts .tip:visible");
  assert.match(await tip.innerText(), /p50[\s\S]*p95/);
  await noSidewaysScroll(page);
  await shoot(page, `${view.name}-tooltip`, false);

  await page.locator("#pause").click();
  await page.getByText("paused", { exact: true }).waitFor();
  await asksNothing(page, "while paused");
  await page.locator("#pause").click();
  await page.locator("#status.live").waitFor();

  const hide = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await hide(true);
  await asksNothing(page, "while hidden");
  await hide(false);
  await changes(page, "the time after it was hidden", () => page.locator("#clock").textContent());
}

async function asksNothing(page, when) {
  await page.waitForTimeout(300); // what was on its way
  let asked = 0;
  const counted = () => asked++;
  page.on("request", counted);
  await page.waitForTimeout(2200);
  page.off("request", counted);
  assert.equal(asked, 0, `requests ${when}`);
}

async function lostAndFound(page) {
  await page.locator("#status.live").waitFor();
  await page.route("**/dashboard/data*", (route) => route.abort());
  await page.locator("#status.lost").waitFor();
  await page.getByText(/The gateway does not answer .* What is shown is from \d+ seconds? ago/).waitFor();
  await page.unroute("**/dashboard/data*");
  await page.locator("#status.live").waitFor();
  await page.locator("#message").waitFor({ state: "hidden" });
}

async function hostile(page) {
  await page.getByText('vllm-7 <img src=x onerror="window.pwned=2">').first().waitFor();
  await page.locator("#failures", { hasText: '<img src=x onerror="window.pwned=1">' }).waitFor();
  const silent = page.locator("#endpoints tbody tr", { has: page.getByRole("rowheader", { name: /^vllm-6/ }) });
  for (const label of ["Waiting", "Running", "KV use", "Reported"]) {
    assert.equal(await silent.locator(`td[data-label="${label}"]`).textContent(), "—", `${label} of an engine that does not report`);
  }
  assert.match(await page.locator("#endpoints tbody tr").nth(1).locator('td[data-label="Reported"]').innerText(), /stale/);
}

let failed = false;
const check = (view, address, look, expected) => open(view, address, look, expected).catch((e) => {
  failed = true;
  console.error(`FAIL ${view.name} ${new URL(address).pathname}: ${e.stack}`);
});

for (const view of views) {
  await check(view, url, async (page) => {
    await busy(view, page);
    if (madeUp) await hostile(page);
  });
}
await check(views[0], url, lostAndFound, /net::ERR_FAILED/);
if (madeUp) {
  for (const view of [views[0], views[2]]) {
    await check(view, new URL("/idle/dashboard", url).href, async (page) => {
      await page.getByText("Nothing has happened yet").waitFor();
      await page.getByText("The pool has no endpoints.").waitFor();
      assert.equal(await tile(page, "TTFT p95"), "—");
      await noSidewaysScroll(page);
      await shoot(page, `${view.name}-idle`);
    });
    await check(view, new URL("/large/dashboard/", url).href, async (page) => {
      await page.getByText("the 200 busiest of 400").waitFor();
      assert.equal(await page.locator("#endpoints tbody tr").count(), 200);
      await noSidewaysScroll(page);
      await shoot(page, `${view.name}-large`, false);
    });
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
