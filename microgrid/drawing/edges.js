// @ts-check
// The edges, with the local derivative and the flow on each.
"use strict";

/** @param {Point[]} path */
function curve(path) {
  const [start, ...rest] = path;
  return `M${start}C${rest.join(" ")}`;
}

/** @param {GraphEdge} edge */
function drawEdge(edge) {
  const path = edge.path;
  const [x, y] = path[path.length - 1];
  const [px, py] = path[path.length - 2];
  const angle = (Math.atan2(y - py, x - px) * 180) / Math.PI;
  edge.element = shape("g", {}, layers.edges);
  shape("path", { d: curve(path) }, edge.element);
  shape("path", { class: "head", d: "M0 0L-9 -4.2L-9 4.2Z", transform: `translate(${x} ${y}) rotate(${angle})` }, edge.element);
}

// The middle of a chain of Bézier pieces: of its middle piece.
/** @param {Point[]} path */
function middle(path) {
  const k = 3 * Math.floor((path.length - 1) / 6);
  const [a, b, c, d] = path.slice(k, k + 4);
  return [0, 1].map((axis) => (a[axis] + 3 * b[axis] + 3 * c[axis] + d[axis]) / 8);
}

/** @typedef {"LR" | "RL" | "TB" | "BT"} Direction */
/** @type {Direction} where the forward pass goes; left to the page, it is what shows the graph larger */
let direction = page.view.direction ?? "LR";

const back = () => ({ LR: "←", TB: "↑", RL: "→", BT: "↓" })[direction];
const isUpright = () => direction === "TB" || direction === "BT";

// The two numbers of an edge stand above and below it, or left and right of one that leads down; it is seen between them.
/**
 * @param {boolean} isAlone whether what flows stands without a local derivative, as beside a box
 * @returns {Point} the room that they take
 */
function labelRoom(isAlone) {
  return isUpright() ? [176, 24] : [76, isAlone ? 26 : 42];
}

// What flows along an edge: one number, or of several the norm with the sign of their sum.
function measureFlows() {
  for (const edge of edges) {
    const flowing = edge.stands.filter((e) => passes.sends(passes.child[e], e - passes.first[passes.child[e]]) && !isConstant(passes.parentOf(e)));
    edge.flows = flowing.length;
    const flows = flowing.map((e) => passes.shown.flow[e]);
    edge.flow = flows.length === 1 ? flows[0] : Math.hypot(...flows) * (flows.reduce((sum, x) => sum + x, 0) < 0 ? -1 : 1);
  }
}

/** @param {GraphEdge} edge */
function labelOf(edge) {
  if (!edge.labelElement) {
    const [x, y] = edge.label ?? middle(edge.path);
    const g = shape("g", { transform: `translate(${x} ${y})` }, layers.labels);
    const [one, other] = isUpright() ? [{ x: -7, y: 4, "text-anchor": "end" }, { x: 7, y: 4, "text-anchor": "start" }] : [{ y: -7, "text-anchor": "middle" }, { y: 17, "text-anchor": "middle" }];
    edge.derivativeText = shape("text", { class: "derivative", ...one }, g);
    edge.flowText = shape("text", { class: "flow", ...other }, g);
    edge.labelElement = { element: g };
  }
  return edge.labelElement;
}

/** @param {GraphEdge} edge */
function paintEdge(edge) {
  const step = steps[now];
  const target = nodes[edge.target];
  const passed = target.computes && target.backwardStep <= now;
  const sends = edge.flows > 0;
  const classes = ["edge"];
  if (!dataShown(target)) classes.push("unknown");
  const current = step.node === target && (step.phase === "forward" || (step.phase === "backward" && sends));
  if (current) classes.push("active", step.phase);
  if (highlighted.has(edge.program)) classes.push("on-path");
  if (passed) classes.push(sends ? tone(edge.flow) : "silent");
  setClass(edge, classes.join(" "));

  const beside = step.phase === "backward" && step.node === target;
  const chosen = selected && (selected === target || selected.index === edge.source);
  const labelled = passed && sends && (picture.labelled || beside || chosen);
  if (!labelled) {
    if (edge.labelElement) setClass(edge.labelElement, "hidden");
    return;
  }
  const label = labelOf(edge);
  setText(edge, "derivativeText", edge.program >= 0 ? `∂ ${format(passes.shown.derivative[edge.program])}` : edge.flows > 1 ? `${edge.flows.toLocaleString("en")} flows` : "");
  setText(edge, "flowText", edge.flows > 1 ? `‖${back()}‖ ${format(Math.abs(edge.flow))}` : `${back()} ${format(edge.flow)}`);
  setClass(label, `edge-label ${tone(edge.flow)}${current ? " active" : ""}`);
}
