// Data is shown as text only: strings become text nodes, and nothing here or elsewhere writes markup.

const DASH = "—";
const byId = (id) => document.getElementById(id);

// el makes an element. Properties are attributes, except for class and on.
function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

// setText writes only what differs, so that an idle page is not laid out again every second.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

const known = (v) => v !== null && v !== undefined;
const grouped = new Intl.NumberFormat("en-US");
const timeOfDay = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const clock = (ms) => timeOfDay.format(new Date(ms));
const count = (v) => (known(v) ? grouped.format(v) : DASH);
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

// compact is a number of things in at most four characters or so: 950, 12.3k, 4.1M.
function compact(v) {
  if (!known(v)) return DASH;
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (v >= limit) {
      const scaled = v / (unit === "k" ? 1e3 : limit);
      return (scaled < 100 ? scaled.toFixed(1) : scaled.toFixed(0)) + unit;
    }
  }
  return count(Math.round(v));
}

function rate(v) {
  if (!known(v)) return DASH;
  if (v === 0) return "0";
  if (v < 0.01) return "<0.01";
  if (v < 1) return v.toFixed(2);
  return v < 100 ? v.toFixed(1) : compact(v);
}

function millis(v) {
  if (!known(v)) return DASH;
  if (v < 1) return v.toFixed(2) + " ms";
  if (v < 10) return v.toFixed(1) + " ms";
  if (v < 999.5) return v.toFixed(0) + " ms";
  if (v < 9995) return (v / 1000).toFixed(2) + " s";
  return (v / 1000).toFixed(v < 99950 ? 1 : 0) + " s";
}

function percent(v) {
  if (!known(v)) return DASH;
  if (v === 0) return "0%";
  if (v < 0.0005) return "<0.1%";
  return (v * 100).toFixed(v < 0.0995 ? 1 : 0) + "%";
}

// span is a length of time in words, from seconds.
function span(seconds) {
  if (seconds < 60) return plural(Math.round(seconds), "second");
  if (seconds < 5400) return plural(Math.round(seconds / 60), "minute");
  if (seconds < 172800) return plural(Math.round(seconds / 3600), "hour");
  return plural(Math.round(seconds / 86400), "day");
}

const lastSpan = (seconds) => "last " + span(seconds).replace(/^1 /, "");

// age is a short length of time: 0.8 s, 45 s, 12 minutes.
function age(ms) {
  if (ms < 9950) return (ms / 1000).toFixed(1) + " s";
  return ms < 99500 ? (ms / 1000).toFixed(0) + " s" : span(ms / 1000);
}

const modelName = (r) => (r.adapter ? `${r.model} + ${r.adapter}` : r.model || DASH);
