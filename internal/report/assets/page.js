"use strict";
// Reading single values of the plots, with the pointer or the arrow keys. The plots are complete without this.
for (const chart of document.querySelectorAll("figure.chart")) {
  const source = chart.querySelector(".points");
  if (!source) continue;
  const { across, series, steps } = JSON.parse(source.textContent);
  const area = chart.querySelector(".area");
  const tip = chart.querySelector(".tip");
  const overlay = document.createElement("div");
  area.append(overlay);
  let current = null;

  const node = (tag, name, text) => {
    const n = document.createElement(tag);
    if (name) n.className = name;
    if (text !== undefined) n.textContent = text;
    return n;
  };

  const show = (i) => {
    current = i;
    overlay.replaceChildren();
    tip.hidden = i === null;
    if (i === null) return;
    const step = steps[i];
    const cursor = node("div", `cursor ${across ? "over" : "down"}`);
    cursor.style[across ? "top" : "left"] = `${step.at / 10}%`;
    overlay.append(cursor);
    tip.replaceChildren(node("div", "muted", step.label));
    step.cells.forEach((cell, k) => {
      const row = node("div");
      const name = node("span");
      name.append(node("span", `swatch c${k % 6}`), series[k]);
      row.append(name, node("b", "", cell ? cell.text : "–"));
      tip.append(row);
      if (!cell) return;
      const dot = node("div", `dot c${k % 6}`);
      dot.style.left = `${cell.x / 10}%`;
      dot.style.top = `${cell.y / 10}%`;
      overlay.append(dot);
    });
    const box = chart.getBoundingClientRect(), plot = area.getBoundingClientRect();
    const known = step.cells.filter(Boolean).map((cell) => cell.x);
    const x = across ? Math.max(...known) : step.at;
    let left = plot.left - box.left + (x / 1000) * plot.width + 14;
    if (left + tip.offsetWidth > box.width - 6) {
      const low = across ? Math.min(...known) : step.at;
      left = plot.left - box.left + (low / 1000) * plot.width - tip.offsetWidth - 14;
    }
    tip.style.left = `${Math.max(6, Math.min(left, box.width - tip.offsetWidth - 6))}px`;
    const top = across ? (step.at / 1000) * plot.height - tip.offsetHeight / 2 : 6;
    tip.style.top = `${plot.top - box.top + Math.max(-20, Math.min(top, plot.height - tip.offsetHeight + 20))}px`;
  };

  const nearest = (e) => {
    const box = area.getBoundingClientRect();
    const at = 1000 * (across ? (e.clientY - box.top) / box.height : (e.clientX - box.left) / box.width);
    let best = null;
    steps.forEach((s, i) => { if (best === null || Math.abs(s.at - at) < Math.abs(steps[best].at - at)) best = i; });
    return best;
  };

  area.addEventListener("pointermove", (e) => show(nearest(e)));
  area.addEventListener("pointerdown", (e) => show(nearest(e)));
  // A finger leaves the plot with every tap: what it pointed at stays.
  area.addEventListener("pointerleave", (e) => e.pointerType === "mouse" && show(null));
  area.addEventListener("blur", () => show(null));
  area.addEventListener("keydown", (e) => {
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[e.key];
    if (e.key === "Escape") show(null);
    if (!by || !steps.length) return;
    e.preventDefault();
    const from = current === null ? (by > 0 ? -1 : steps.length) : current;
    show(Math.min(Math.max(from + by, 0), steps.length - 1));
  });
}
