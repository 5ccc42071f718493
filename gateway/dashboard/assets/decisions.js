// The last decisions. The list stands still while one of them is open: nobody can read what moves away.

const FIRST_SHOWN = 10;
const DECISION_COLUMNS = ["Time", "Model", "Endpoint", "Prompt", "TTFT", "Total", "Outcome"];

class Decisions {
  constructor() {
    this.kept = []; // newest first
    this.items = new Map(); // by number
    this.all = false;
    this.list = byId("decisions");
    byId("decisions-legend").append(...DECISION_COLUMNS.map((c, i) => el("span", { class: i === 4 || i === 5 ? "num" : "" }, c)));
    this.list.addEventListener("toggle", () => this.show(), true);
    byId("decisions-more").addEventListener("click", () => {
      this.all = !this.all;
      this.show();
    });
  }

  get newest() { return this.kept.length ? this.kept[0].number : 0; }

  clear() {
    this.kept = [];
    this.items.clear();
    this.list.replaceChildren();
  }

  update(fresh, limit) {
    this.kept = [...fresh, ...this.kept].slice(0, limit);
    this.show();
  }

  show() {
    const open = this.list.querySelector("details[open]") !== null;
    if (!open) this.render();
    const shown = this.list.firstElementChild ? Number(this.list.firstElementChild.dataset.number) : 0;
    const waiting = this.kept.filter((d) => d.number > shown).length;
    const explained = this.kept.some((d) => d.explanation);
    let note = "";
    if (this.kept.length && !explained) {
      note = "none of them was explained: ask for explanations with BrainOptions.ExplainEvery";
    } else if (open && waiting) {
      note = `held while one is open · ${waiting}${waiting === this.kept.length ? " or more" : ""} newer`;
    } else if (explained) {
      note = "open one to see why";
    }
    setText(byId("decisions-note"), note);
    setHidden(byId("decisions-empty"), this.kept.length > 0);
    setHidden(byId("decisions-legend"), this.kept.length === 0);
  }

  render() {
    const rows = this.all ? this.kept : this.kept.slice(0, FIRST_SHOWN);
    const stay = new Set(rows.map((d) => d.number));
    for (const [number, node] of this.items) {
      if (!stay.has(number)) {
        node.remove();
        this.items.delete(number);
      }
    }
    rows.forEach((d, i) => {
      let node = this.items.get(d.number);
      if (!node) this.items.set(d.number, node = decisionItem(d));
      if (this.list.children[i] !== node) this.list.insertBefore(node, this.list.children[i] ?? null);
    });
    const more = byId("decisions-more");
    setHidden(more, this.kept.length <= FIRST_SHOWN);
    setText(more, this.all ? "Show fewer" : `Show all ${this.kept.length}`);
  }
}

function decisionItem(d) {
  const cached = known(d.cached_tokens) ? d.cached_tokens : null;
  const prompt = known(d.prompt_tokens) ? d.prompt_tokens : null;
  let cache = DASH;
  if (prompt !== null) cache = `${compact(prompt)} tokens` + (cached === null ? "" : `, ${percent(prompt ? cached / prompt : null)} cached`);
  else if (d.explanation) cache = `about ${compact(d.explanation.prompt_tokens)} tokens`;
  const end = d.outcome === "answered" && d.attempts > 1 ? `${d.attempts} attempts` : d.outcome;
  const cells = [
    el("span", { class: "when" }, clock(d.ended_ms)),
    el("span", { class: "model name", title: modelName(d) }, modelName(d)),
    el("span", { class: "place name", title: d.endpoint }, d.endpoint),
    el("span", { class: "cache" }, cache),
    el("span", { class: "ttft num", "data-label": "TTFT" }, millis(d.ttft_ms)),
    el("span", { class: "total num", "data-label": "Total" }, millis(d.total_ms)),
    el("span", { class: "end" }, el("span", { class: `chip ${d.outcome === "failed" ? "failed" : ""}` }, end)),
  ];
  if (!d.explanation) return el("li", { "data-number": d.number }, el("div", { class: "decision" }, ...cells));
  const details = el("details", {}, el("summary", { class: "decision" }, ...cells));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(why(d));
  });
  return el("li", { "data-number": d.number }, details);
}

// why is made when it is first looked at.
function why(d) {
  const x = d.explanation;
  const fact = (name, value) => el("span", {}, name + " ", el("b", {}, value));
  const box = el("div", { class: "why" }, el("div", { class: "facts" },
    fact("prompt", `about ${count(x.prompt_tokens)} tokens`),
    fact("expected in the cache", count(d.predicted_cached_tokens)),
    fact("reported by the engine", count(d.cached_tokens)),
    fact("output", known(d.output_tokens) ? `${count(d.output_tokens)} tokens` : DASH),
    fact("decided in", millis(d.decide_ms)),
    fact("took", millis(d.total_ms)),
    x.attempts > 1 ? fact("scored", `${x.attempts} times, as others placed requests meanwhile`) : null,
    d.attempts > 1 ? fact("sent to", `${d.attempts} endpoints, last ${d.endpoint}`) : null));
  box.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Candidates and their scores" }, scoreTable(x)));
  const notes = [];
  if (x.more) notes.push(`${plural(x.more, "more candidate")} with lower rank.`);
  if (!x.scorers.length) notes.push("The profile has no scorers: its picker chose alone.");
  else if (x.candidates.some((c) => c.scores.some((s) => !known(s)))) {
    notes.push("A scorer that abstains for one endpoint counts there as its mean over the others; one that abstains for all does not count.");
  }
  if (notes.length) box.append(el("p", { class: "muted" }, notes.join(" ")));
  for (const r of x.removed ?? []) {
    const rest = r.count - r.endpoints.length;
    box.append(el("p", {}, el("b", {}, r.filter), ` removed ${plural(r.count, "endpoint")}: `,
      el("span", { class: "muted" }, r.endpoints.join(", ") + (rest ? ` and ${rest} more` : ""))));
  }
  return box;
}

function scoreTable(x) {
  const head = el("tr", {}, el("th", { scope: "col" }, "Candidate"), el("th", { scope: "col" }, "Total", el("small", {}, "0 to 1")));
  for (const s of x.scorers) head.append(el("th", { scope: "col" }, s.scorer, el("small", {}, `weight ${s.weight}`)));
  head.append(el("th", { scope: "col" }, "Cached", el("small", {}, "tokens")),
    el("th", { scope: "col" }, "In flight", el("small", {}, "requests")),
    el("th", { scope: "col" }, "To prefill", el("small", {}, "tokens")));
  const body = el("tbody");
  for (const c of x.candidates) {
    const place = c.rank === 1 ? "chosen" : c.rank ? `fallback ${c.rank - 1}` : "";
    const row = el("tr", { class: c.rank === 1 ? "choice" : "" },
      el("th", { scope: "row" }, el("span", { class: "endpoint-id", title: c.endpoint }, c.endpoint), place ? el("span", { class: "sub" }, place) : null),
      el("td", {}, el("b", {}, known(c.total) ? c.total.toFixed(3) : DASH)));
    for (const s of c.scores) row.append(el("td", {}, known(s) ? s.toFixed(3) : el("i", {}, "abstains")));
    row.append(el("td", {}, count(c.cached_tokens)), el("td", {}, count(c.requests)), el("td", {}, count(c.prefill_tokens)));
    body.append(row);
  }
  return el("table", { class: "scores" }, el("thead", {}, head), body);
}
