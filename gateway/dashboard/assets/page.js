// The page: fetches the data once a second while it is visible, and hands it to its parts.

const PULL_MS = 1000;
const TIMEOUT_MS = 5000;
const url = location.pathname.replace(/\/$/, "") + "/data"; // whatever prefix a proxy has put before it

const TILES = [
  { label: "Requests", value: (d) => rate(d.recent.requests_per_second), unit: () => "per second",
    note: (d) => `${compact(d.ended.requests)} since the start` },
  { label: "TTFT p50", value: (d) => millis(d.recent.ttft_p50_ms), note: () => "time to first token" },
  { label: "TTFT p95", value: (d) => millis(d.recent.ttft_p95_ms), note: () => "time to first token" },
  { label: "Prefix hit ratio", value: (d) => percent(d.recent.hit_ratio),
    note: (d) => (known(d.recent.hit_ratio) ? "of prompt tokens" : "no engine has reported it") },
  { label: "Output", value: (d) => compact(d.recent.output_tokens_per_second), unit: () => "tokens/s", note: () => "of ended requests" },
  { label: "In flight", value: (d) => count(d.in_flight.requests), unit: (d) => (d.in_flight.requests === 1 ? "request" : "requests"),
    note: (d) => `${compact(d.in_flight.prefill_tokens)} tokens to prefill` },
  { label: "Failed", value: (d) => percent(d.recent.requests ? d.recent.failed / d.recent.requests : null), bad: (d) => d.recent.failed > 0,
    note: (d) => `${compact(d.recent.failed)} failed, ${compact(d.recent.rejected)} rejected` },
];

class Page {
  constructor() {
    this.started = null;
    this.paused = false;
    this.timer = null;
    this.pulling = false;
    this.lastAt = null; // when data last came, by this machine's clock
    this.tiles = TILES.map((tile) => {
      const nodes = { value: document.createTextNode(DASH), unit: el("small"), note: el("dd", { class: "note" }) };
      nodes.box = el("dd", { class: "value" }, nodes.value, nodes.unit);
      byId("tiles").append(el("div", { class: "tile" }, el("dt", {}, tile.label), nodes.box, nodes.note));
      return { tile, nodes };
    });
    this.charts = [
      new Chart(byId("charts"), { title: "Requests per second", format: (v) => rate(v) + "/s", least: 1, area: true, none: "no request has ended in this time",
        lines: [{ key: "requests_per_second", label: "ended", color: "blue" }] }),
      new Chart(byId("charts"), { title: "Time to first token", format: millis, least: 1, none: "no answer has begun in this time",
        lines: [{ key: "ttft_p50_ms", label: "p50", color: "blue" }, { key: "ttft_p95_ms", label: "p95", color: "orange", dashed: true }] }),
      new Chart(byId("charts"), { title: "Error rate", format: percent, least: 0.01, none: "no request has ended in this time",
        lines: [{ key: "failed", label: "failed", color: "red" }, { key: "rejected", label: "rejected", color: "violet", dashed: true }] }),
    ];
    this.endpoints = new Endpoints();
    this.flow = new Flow();
    this.decisions = new Decisions();
    this.failures = new Failures();
    byId("pause").addEventListener("click", () => this.pause(!this.paused));
    document.addEventListener("visibilitychange", () => this.pull());
    this.pull();
  }

  pause(paused) {
    this.paused = paused;
    const button = byId("pause");
    button.setAttribute("aria-pressed", String(paused));
    setText(button, paused ? "Resume" : "Pause");
    if (paused) this.state("", "paused");
    this.pull();
  }

  // pull fetches once and comes back after a second, unless nobody looks.
  async pull() {
    clearTimeout(this.timer);
    if (this.paused || document.hidden || this.pulling) return;
    this.pulling = true;
    try {
      const answer = await fetch(`${url}?after=${this.decisions.newest}`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const doc = await answer.json();
      this.lastAt = Date.now();
      if (!this.paused) this.show(doc);
    } catch (e) {
      this.lost(e);
    } finally {
      this.pulling = false;
    }
    this.timer = setTimeout(() => this.pull(), PULL_MS);
  }

  state(kind, text) {
    byId("status").className = kind;
    setText(byId("status-text"), text); // announced only when it changes
  }

  lost(e) {
    this.state("lost", "no connection");
    const since = this.lastAt === null ? "" : ` What is shown is from ${span((Date.now() - this.lastAt) / 1000)} ago.`;
    setText(byId("message"), `The gateway does not answer (${e.name === "TimeoutError" ? "timeout" : e.message}); trying again every second.${since}`);
    setHidden(byId("message"), false);
  }

  show(doc) {
    if (this.started !== doc.started_ms) {
      if (this.started !== null) { // the gateway has started anew and counts from one: the next pull asks for all
        this.decisions.clear();
        doc.decisions = [];
      }
      this.started = doc.started_ms;
      if (doc.title) document.title = `${doc.title} · inferloom`;
      setText(byId("title"), doc.title ?? "");
    }
    this.state("live", "live");
    setText(byId("clock"), `${clock(doc.now_ms)} · up ${span((doc.now_ms - doc.started_ms) / 1000)}`);
    const idle = doc.ended.requests === 0 && doc.in_flight.requests === 0;
    setText(byId("message"), "Nothing has happened yet: no request has come since the gateway started. Send one, and it shows here.");
    setHidden(byId("message"), !idle);
    setText(byId("now-note"), `over the ${lastSpan(doc.recent_seconds)}`);
    setText(byId("series-note"), `the ${lastSpan(doc.window_seconds)} in steps of ${span(doc.series.step_ms / 1000)}; a request counts when it ends`);
    for (const { tile, nodes } of this.tiles) {
      const text = tile.value(doc);
      if (nodes.value.data !== text) nodes.value.data = text;
      setText(nodes.unit, text !== DASH && tile.unit ? tile.unit(doc) : "");
      setText(nodes.note, tile.note(doc));
      nodes.box.classList.toggle("absent", text === DASH);
      nodes.box.classList.toggle("bad", Boolean(tile.bad && tile.bad(doc)));
    }
    for (const c of this.charts) c.update(doc.series);
    this.endpoints.update(doc);
    this.flow.update(doc.flow);
    this.decisions.update(doc.decisions, doc.max_decisions);
    this.failures.update(doc.failures);
  }
}

new Page();
