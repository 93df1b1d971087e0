// @ts-check
// The edges, with the local derivative and the flow on each.
"use strict";

function curve(path) {
  const [start, ...rest] = path;
  return `M${start}C${rest.join(" ")}`;
}

function drawEdge(edge) {
  const path = edge.path;
  const [x, y] = path[path.length - 1];
  const [px, py] = path[path.length - 2];
  const angle = (Math.atan2(y - py, x - px) * 180) / Math.PI;
  edge.element = shape("g", {}, layers.edges);
  shape("path", { d: curve(path) }, edge.element);
  shape("path", { class: "head", d: "M0 0L-9 -4.2L-9 4.2Z", transform: `translate(${x} ${y}) rotate(${angle})` }, edge.element);
  if (edge.count > 1) {
    const at = edge.label ?? middle(path);
    shape("text", { class: "times", x: at[0], y: at[1] + 4, "text-anchor": "middle" }, edge.element, `×${edge.count.toLocaleString("en")}`);
  }
}

// The middle of a chain of Bézier pieces: of its middle piece.
function middle(path) {
  const k = 3 * Math.floor((path.length - 1) / 6);
  const [a, b, c, d] = path.slice(k, k + 4);
  return [0, 1].map((axis) => (a[axis] + 3 * b[axis] + 3 * c[axis] + d[axis]) / 8);
}

function labelOf(edge) {
  if (!edge.labelElement) {
    const [x, y] = edge.label ?? middle(edge.path);
    const g = shape("g", { transform: `translate(${x} ${y})` }, layers.labels);
    shape("rect", { x: -40, y: -17, width: 80, height: 34, rx: 7 }, g);
    edge.derivativeText = shape("text", { class: "derivative", y: -3, "text-anchor": "middle" }, g);
    edge.flowText = shape("text", { class: "flow", y: 12, "text-anchor": "middle" }, g);
    edge.labelElement = { element: g };
  }
  return edge.labelElement;
}

function paintEdge(edge) {
  const step = steps[now];
  const target = nodes[edge.target];
  const passed = target.computes && target.backwardStep <= now;
  const sends = edge.program < 0 || passes.sends(target.values[0], edge.argument);
  const classes = ["edge"];
  if (!dataShown(target)) classes.push("unknown");
  const current = step.node === target && (step.phase === "forward" || (step.phase === "backward" && sends));
  if (current) classes.push("active", step.phase);
  if (highlighted.has(edge.program)) classes.push("on-path");
  const silent = nodes[edge.source].kind === "constant";
  if (passed && edge.program >= 0) classes.push(sends && !silent ? tone(passes.shown.flow[edge.program]) : "silent");
  setClass(edge, classes.join(" "));

  const beside = step.phase === "backward" && step.node === target;
  const chosen = selected && (selected === target || selected.index === edge.source);
  const labelled = passed && edge.program >= 0 && sends && !silent && (picture.labelled || beside || chosen);
  if (!labelled) {
    if (edge.labelElement) setClass(edge.labelElement, "hidden");
    return;
  }
  const label = labelOf(edge);
  setText(edge, "derivativeText", `∂ ${format(passes.shown.derivative[edge.program])}`);
  setText(edge, "flowText", `← ${format(passes.shown.flow[edge.program])}`);
  setClass(label, `edge-label ${tone(passes.shown.flow[edge.program])}${current ? " active" : ""}`);
}
