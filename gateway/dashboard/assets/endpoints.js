// The table of endpoints: a row keeps its place and its nodes, only what changed is written.

const COLUMNS = [
  { label: "Waiting", unit: "requests", reported: "waiting", format: compact },
  { label: "Running", unit: "requests", reported: "running", format: compact },
  { label: "KV use", unit: "of the cache", reported: "kv_usage", format: percent, bar: true },
  { label: "Reported", unit: "ago", reportAge: true },
  { label: "In flight", unit: "requests", value: (e) => count(e.in_flight.requests) },
  { label: "In flight", unit: "prefill / KV tokens", short: "Prefill/KV", value: (e) => `${compact(e.in_flight.prefill_tokens)} / ${compact(e.in_flight.kv_tokens)}` },
  { label: "Hit ratio", unit: "of the prompts", value: (e) => percent(e.hit_ratio) },
  { label: "Requests", unit: "per second", short: "Requests/s", value: (e) => rate(e.requests_per_second) },
  { label: "Failed", unit: "requests", value: (e) => count(e.failed), bad: (e) => e.failed > 0 },
  { label: "TTFT", unit: "p50", short: "TTFT p50", value: (e) => millis(e.ttft_p50_ms) },
  { label: "TTFT", unit: "p95", short: "TTFT p95", value: (e) => millis(e.ttft_p95_ms) },
];

class Endpoints {
  constructor() {
    this.rows = new Map();
    this.body = byId("endpoints").tBodies[0];
    const head = el("tr", { role: "row" }, el("th", { scope: "col", role: "columnheader" }, "Endpoint", el("small", {}, "address, role, model")));
    for (const c of COLUMNS) head.append(el("th", { scope: "col", role: "columnheader" }, c.label, el("small", {}, c.unit)));
    byId("endpoints").tHead.append(head);
  }

  update(doc) {
    const { total, rows } = doc.endpoints;
    setHidden(byId("endpoints-empty"), total > 0);
    setHidden(byId("endpoints-box"), total === 0);
    setText(byId("endpoints-note"), total === 0 ? "" : [
      rows.length < total ? `the ${count(rows.length)} busiest of ${count(total)}` : plural(total, "endpoint"),
      `rates, hit ratio and TTFT over the ${lastSpan(doc.recent_seconds)}`,
    ].join(" · "));
    const stay = new Set(rows.map((e) => e.id));
    for (const [id, row] of this.rows) {
      if (!stay.has(id)) {
        row.node.remove();
        this.rows.delete(id);
      }
    }
    rows.forEach((e, i) => {
      let row = this.rows.get(e.id);
      if (!row) this.rows.set(e.id, row = this.newRow());
      if (this.body.children[i] !== row.node) this.body.insertBefore(row.node, this.body.children[i] ?? null);
      this.write(row, e, doc.max_metric_age_ms);
    });
  }

  newRow() {
    const row = { id: el("span", { class: "endpoint-id" }), at: el("span", { class: "endpoint-at" }), cells: [] };
    row.node = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, row.id, row.at));
    for (const c of COLUMNS) {
      const cell = { text: el("span"), bar: null };
      cell.node = el("td", { role: "cell", "data-label": c.short ?? c.label });
      if (c.bar) {
        cell.bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span"));
        cell.node.append(el("span", { class: "kv" }, cell.bar, cell.text));
      } else {
        cell.node.append(cell.text);
      }
      row.cells.push(cell);
      row.node.append(cell.node);
    }
    return row;
  }

  write(row, e, maxAge) {
    setText(row.id, e.id);
    row.id.title = e.id;
    const parts = [e.rank ? `${e.address} rank ${e.rank}` : e.address, e.role ? e.role.join(" + ") : null, e.model];
    const at = parts.filter((p) => p && p !== e.id).join(" · ");
    setText(row.at, at);
    row.at.title = at;
    const ages = [e.waiting, e.running, e.kv_usage].filter(known).map((r) => r.age_ms);
    COLUMNS.forEach((c, i) => {
      const cell = row.cells[i];
      let text = DASH, stale = false, title = "";
      if (c.reported) {
        const r = e[c.reported];
        if (known(r)) {
          text = c.format(r.value);
          stale = r.age_ms > maxAge;
          title = `reported ${age(r.age_ms)} ago`;
        }
        if (cell.bar) {
          setHidden(cell.bar, !known(r));
          cell.bar.firstChild.style.width = known(r) ? percent(Math.min(r.value, 1)) : "0";
          cell.bar.classList.toggle("full", known(r) && r.value >= 0.9);
        }
      } else if (c.reportAge) {
        if (ages.length) {
          const oldest = Math.max(...ages);
          stale = oldest > maxAge;
          text = age(oldest) + (stale ? " (stale)" : "");
        }
      } else {
        text = c.value(e);
      }
      if (text === DASH) title = c.reported || c.reportAge ? "the engine has not reported it" : "not known";
      setText(cell.text, text);
      if (cell.node.title !== title) cell.node.title = title;
      cell.node.classList.toggle("stale", stale);
      cell.node.classList.toggle("absent", text === DASH);
      cell.node.classList.toggle("bad", Boolean(c.bad && c.bad(e)));
    });
  }
}
