// The last failures. Those that follow one another and say the same are one line with a count.

const FAILURES_SHOWN = 6;

class Failures {
  constructor() {
    this.kept = [];
    this.all = false;
    this.newest = null;
    byId("failures-more").addEventListener("click", () => {
      this.all = !this.all;
      this.show();
    });
  }

  update(failures) {
    const newest = failures.length ? failures[0].number : 0;
    if (newest === this.newest) return;
    this.newest = newest;
    this.kept = together(failures);
    this.show();
  }

  show() {
    const rows = this.all ? this.kept : this.kept.slice(0, FAILURES_SHOWN);
    byId("failures").replaceChildren(...rows.map(failureItem));
    setHidden(byId("failures-empty"), this.kept.length > 0);
    setHidden(byId("failures-more"), this.kept.length <= FAILURES_SHOWN);
    setText(byId("failures-more"), this.all ? "Show fewer" : `Show all ${this.kept.length}`);
  }
}

// together gives the newest of each run of equal failures, with how many they are.
function together(failures) {
  const what = (f) => JSON.stringify([f.outcome, f.model, f.adapter, f.endpoint, f.attempts, f.error]);
  const runs = [];
  for (const f of failures) {
    const run = runs[runs.length - 1];
    if (run && what(run.failure) === what(f)) run.times++;
    else runs.push({ failure: f, times: 1 });
  }
  return runs;
}

function failureItem({ failure: f, times }) {
  return el("li", {},
    el("span", { class: "muted" }, clock(f.ended_ms)),
    el("span", {}, el("span", { class: `chip ${f.outcome}` }, f.outcome), times > 1 ? el("span", { class: "muted" }, ` × ${times}`) : null),
    el("span", {}, modelName(f), f.endpoint ? el("span", { class: "sub" }, f.endpoint + (f.attempts > 1 ? `, after ${f.attempts} attempts` : "")) : null),
    el("span", {}, f.error));
}
