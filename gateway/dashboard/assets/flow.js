// Flow control: who waits, for what, and who got what share.

const TENANT_COLUMNS = [
  { label: "Share", unit: "of all service", value: (t) => percent(t.share), bar: (t) => t.share },
  { label: "Weight", unit: "relative", value: (t) => rate(t.weight) },
  { label: "Waiting", unit: "requests", value: (t) => count(t.waiting) + (t.limited ? " (own limit)" : "") },
  { label: "In flight", unit: "requests", value: (t) => count(t.in_flight) },
  { label: "Served", unit: "tokens of cost", value: (t) => compact(t.served_tokens) },
];

class Flow {
  constructor() {
    const head = el("tr", { role: "row" }, el("th", { scope: "col", role: "columnheader" }, "Tenant"));
    for (const c of TENANT_COLUMNS) head.append(el("th", { scope: "col", role: "columnheader" }, c.label, el("small", {}, c.unit)));
    byId("flow-tenants").tHead.append(head);
    this.last = null;
  }

  update(flow) {
    setHidden(byId("flow"), !flow);
    const now = JSON.stringify(flow);
    if (!flow || now === this.last) return;
    this.last = now;
    const bands = flow.bands.map((b) => `${count(b.waiting)} of priority ${b.priority}`);
    const reasons = flow.reasons.map((r) => `${compact(r.count)} ${r.outcome.replaceAll("_", " ")}`);
    setText(byId("flow-note"), [
      flow.waiting === 0 ? "nobody waits" : `${plural(flow.waiting, "request")} waiting (${bands.join(", ")})`,
      `${compact(flow.granted)} granted since the start`,
      flow.refused > 0 ? `${compact(flow.refused)} refused (${reasons.join(", ")})` : "none refused",
    ].join(" · "));
    setHidden(byId("flow-lanes"), flow.lanes.length === 0);
    byId("flow-lanes").replaceChildren(...flow.lanes.map((l) =>
      el("li", {}, el("b", {}, plural(l.waiting, "request")), l.waiting === 1 ? " waits for " : " wait for ", l.for)));
    setHidden(byId("flow-empty"), flow.tenants.length > 0);
    setHidden(byId("flow-tenants"), flow.tenants.length === 0);
    byId("flow-tenants").tBodies[0].replaceChildren(...flow.tenants.map(tenantRow));
  }
}

function tenantRow(t) {
  const row = el("tr", { role: "row" },
    el("th", { scope: "row", role: "rowheader" }, el("span", { class: t.tenant ? "endpoint-id" : "absent" }, t.tenant || "unnamed")));
  for (const c of TENANT_COLUMNS) {
    const text = el("span", {}, c.value(t));
    let inner = text;
    if (c.bar) {
      const fill = el("span");
      fill.style.width = `${100 * (c.bar(t) ?? 0)}%`;
      inner = el("span", { class: "kv" }, el("span", { class: "bar", "aria-hidden": "true" }, fill), text);
    }
    row.append(el("td", { role: "cell", "data-label": c.label }, inner));
  }
  return row;
}
