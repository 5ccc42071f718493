// A Chart is lines over the last minutes: inline SVG, drawn in pixels so that text keeps its size.

const PLOT = { height: 172, left: 52, right: 10, top: 8, bottom: 24 };

class Chart {
  // lines: [{key, label, color, dashed}]; format writes a value with its unit; least is the smallest top of the scale;
  // none says in words that there is nothing to draw.
  constructor(into, { title, lines, format, least, area, none }) {
    Object.assign(this, { title, lines, format, least, area, none, data: null, cursor: null });
    this.keys = lines.map((line) => {
      const value = el("b");
      return { value, node: el("span", { class: "key" },
        svg("svg", { viewBox: "0 0 18 8", "aria-hidden": "true" },
          svg("path", { d: "M1 4h16", class: `line ${line.color} ${line.dashed ? "dashed" : ""}` })),
        el("span", {}, line.label), value) };
    });
    this.svg = svg("svg", { class: "plot", role: "img", tabindex: "0" });
    this.tip = el("div", { class: "tip", hidden: "" });
    this.box = el("figure", { class: "chart" },
      el("figcaption", { class: "chart-head" }, el("h3", {}, title), el("span", { class: "keys" }, ...this.keys.map((k) => k.node))),
      this.svg, this.tip);
    into.append(this.box);
    this.svg.addEventListener("pointermove", (e) => this.point(this.indexAt(e.offsetX)));
    this.svg.addEventListener("pointerdown", (e) => this.point(this.indexAt(e.offsetX)));
    // A finger leaves the plot with every tap: what it pointed at stays until another place is tapped.
    this.svg.addEventListener("pointerleave", (e) => e.pointerType === "mouse" && this.point(null));
    this.svg.addEventListener("blur", () => this.point(null));
    this.svg.addEventListener("keydown", (e) => this.step(e));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  update(series) {
    // A new drawing only for new data: steps are complete and never change.
    if (this.data && this.data.end_ms === series.end_ms && this.data.step_ms === series.step_ms) return;
    this.data = series;
    this.draw();
  }

  get size() { return this.data ? this.data[this.lines[0].key].length : 0; }

  x(i) { return PLOT.left + ((this.width - PLOT.left - PLOT.right) * (i + 1)) / this.size; }
  y(v) { return PLOT.top + (PLOT.height - PLOT.top - PLOT.bottom) * (1 - v / this.top); }

  indexAt(px) {
    if (!this.size) return null;
    const i = Math.round(((px - PLOT.left) / (this.width - PLOT.left - PLOT.right)) * this.size) - 1;
    return Math.min(Math.max(i, 0), this.size - 1);
  }

  step(e) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (e.key === "Escape") this.point(null);
    if (!by || !this.size) return;
    e.preventDefault();
    const from = this.cursor === null ? this.size : this.cursor;
    this.point(Math.min(Math.max(from + by, 0), this.size - 1));
  }

  point(i) {
    this.cursor = i;
    this.drawCursor();
  }

  draw() {
    this.width = this.svg.clientWidth;
    if (!this.data || !this.width) return;
    const values = this.lines.flatMap((l) => this.data[l.key]).filter(known);
    const nothing = !values.length || (this.area && values.every((v) => v === 0));
    const ticks = nothing ? [0] : niceTicks(Math.max(this.least, ...values));
    this.top = ticks[ticks.length - 1] || this.least;
    const base = PLOT.height - PLOT.bottom;
    const right = this.width - PLOT.right;
    const nodes = [];
    for (const v of ticks) {
      nodes.push(svg("line", { x1: PLOT.left, x2: right, y1: this.y(v), y2: this.y(v), class: v === 0 ? "axis" : "gridline" }),
        svg("text", { x: PLOT.left - 8, y: this.y(v) + 4, "text-anchor": "end" }, v === 0 ? "0" : this.format(v).replace(/\.0+(?=\D|$)/, "")));
    }
    nodes.push(...this.timeAxis(base));
    for (const line of this.lines) {
      const column = this.data[line.key];
      if (this.area) nodes.push(svg("path", { d: this.areaPath(column, base), class: `area fill-${line.color}` }));
      nodes.push(svg("path", { d: this.linePath(column), class: `line ${line.color} ${line.dashed ? "dashed" : ""}` }));
    }
    if (nothing) {
      nodes.push(svg("text", { class: "nothing", x: (PLOT.left + right) / 2, y: (PLOT.top + base) / 2 + 4, "text-anchor": "middle" },
        this.none));
    }
    this.overlay = svg("g");
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${PLOT.height}`);
    this.svg.replaceChildren(...nodes, this.overlay);
    const last = this.lines.map((l) => this.data[l.key][this.size - 1]);
    this.keys.forEach((k, i) => setText(k.value, known(last[i]) ? this.format(last[i]) : DASH));
    this.svg.setAttribute("aria-label", `${this.title}, ${span((this.size * this.data.step_ms) / 1000)}. Latest: `
      + this.lines.map((l, i) => `${l.label} ${known(last[i]) ? this.format(last[i]) : "not known"}`).join(", ")
      + ". Arrow keys read single values.");
    this.drawCursor();
  }

  timeAxis(base) {
    const nodes = [];
    const total = (this.size * this.data.step_ms) / 1000;
    const unit = total >= 120 ? { seconds: 60, name: "min" } : { seconds: 1, name: "s" };
    const every = niceStep(total / unit.seconds / 5) * unit.seconds;
    for (let ago = 0; ago <= total + 1e-9; ago += every) {
      const x = this.width - PLOT.right - ((this.width - PLOT.left - PLOT.right) * ago) / total;
      nodes.push(svg("line", { x1: x, x2: x, y1: base, y2: base + 4, class: "axis" }),
        svg("text", { x, y: base + 17, "text-anchor": ago === 0 ? "end" : "middle" }, ago === 0 ? "now" : `−${ago / unit.seconds} ${unit.name}`));
    }
    return nodes;
  }

  // A gap where a value is absent; a value between two gaps is a dot, which a line of no length with round ends draws.
  linePath(column) {
    let d = "";
    column.forEach((v, i) => {
      if (!known(v)) return;
      const start = !known(column[i - 1]);
      d += `${start ? "M" : "L"}${this.x(i).toFixed(1)} ${this.y(v).toFixed(1)}`;
      if (start && !known(column[i + 1])) d += "h0";
    });
    return d;
  }

  areaPath(column, base) {
    let d = "";
    column.forEach((v, i) => {
      if (!known(v)) return;
      const x = this.x(i).toFixed(1);
      d += `${known(column[i - 1]) ? "L" : `M${x} ${base}L`}${x} ${this.y(v).toFixed(1)}`;
      if (!known(column[i + 1])) d += `L${x} ${base}Z`;
    });
    return d;
  }

  drawCursor() {
    if (!this.overlay) return;
    this.overlay.replaceChildren();
    setHidden(this.tip, this.cursor === null);
    if (this.cursor === null) return;
    const x = this.x(this.cursor);
    const end = this.data.end_ms - (this.size - 1 - this.cursor) * this.data.step_ms;
    const rows = [el("div", { class: "muted" }, `${clock(end - this.data.step_ms)} – ${clock(end)}`)];
    this.overlay.append(svg("line", { x1: x, x2: x, y1: PLOT.top, y2: PLOT.height - PLOT.bottom, class: "cursor" }));
    for (const line of this.lines) {
      const v = this.data[line.key][this.cursor];
      rows.push(el("div", {}, el("span", {}, line.label), el("b", {}, known(v) ? this.format(v) : DASH)));
      if (known(v)) this.overlay.append(svg("circle", { cx: x, cy: this.y(v), r: 4, class: `point fill-${line.color}` }));
    }
    this.tip.replaceChildren(...rows);
    const room = this.box.clientWidth - this.tip.offsetWidth - 8;
    const right = x + 26; // of the cursor, or on its other side where there is no room
    this.tip.style.left = `${Math.max(8, right > room ? x - this.tip.offsetWidth : right)}px`;
    this.tip.style.top = `${this.svg.getBoundingClientRect().top - this.box.getBoundingClientRect().top + 4}px`;
  }
}

// niceStep is the smallest of 1, 2, 5 times a power of ten that is not below v.
function niceStep(v) {
  const power = 10 ** Math.floor(Math.log10(v));
  return [1, 2, 5, 10].map((m) => m * power).find((s) => s >= v * 0.999);
}

function niceTicks(max) {
  const step = niceStep(max / 4);
  const ticks = [];
  for (let i = 0; i === 0 || ticks[i - 1] < max * 0.999; i++) ticks.push(i * step);
  return ticks;
}
