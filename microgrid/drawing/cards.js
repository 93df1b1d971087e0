// @ts-check
// The cards of the nodes, and the frames of the modules.
"use strict";

const stage = byId("graph");

const world = shape("g", { id: "world" }, stage);
/** @type {Record<string, SVGElement>} */
const layers = {};
for (const name of ["clusters", "edges", "nodes", "labels"]) layers[name] = shape("g", { id: name }, world);
layers.names = shape("g", { id: "names" }, stage); // in pixels of the screen

// Write an attribute or a text only where it changed: touching the document is what costs time.
/** @param {any} node @param {string} name @param {any} value */
function set(node, name, value) {
  if (node[name] === value) return false;
  node[name] = value;
  return true;
}

/** @param {any} thing @param {string} value */
function setClass(thing, value) {
  if (set(thing, "shownClass", value)) thing.element.setAttribute("class", value);
}

/** @param {any} thing @param {string} slot @param {string} value */
function setText(thing, slot, value) {
  if (thing[slot] && set(thing, slot + "Shown", value)) thing[slot].textContent = value;
}

/** @type {SVGElement[]} the titles of the frames */
let handles = [];

function drawClusters() {
  handles = [];
  for (const { title, corners, cluster } of picture.frames) {
    const [left, top, right, bottom] = corners;
    shape("rect", { class: "frame", x: left, y: top, width: right - left, height: bottom - top, rx: 10 }, layers.clusters);
    const handle = shape("g", { class: "close", "data-frame": cluster }, layers.clusters);
    shape("title", {}, handle, `Close ${title}`);
    shape("rect", { x: left + 4, y: top + 4, width: 34 + 7.4 * [...shorten(title, 40)].length, height: TITLE.height, rx: 6 }, handle);
    shape("text", { x: left + 10, y: top + 17 }, handle, `− ${shorten(title, 40)}`);
    handles.push(handle);
  }
}

// The title of a frame that reaches beyond the stage stays in sight, one below the other: a click on it closes the frame.
function holdTitles() {
  const least = { x: -view.x / view.scale, y: -view.y / view.scale };
  /** @type {number[]} for each cluster where its title stands */
  const rows = [];
  picture.frames.forEach((/** @type {any} */ { corners: [left, top, right, bottom], cluster }, /** @type {number} */ k) => {
    const outer = rows[picture.clusters[cluster].parent] ?? -Infinity;
    const y = Math.max(0, Math.min(Math.max(least.y, outer + TITLE.height) - top, bottom - top - 2 * TITLE.height));
    const x = Math.max(0, Math.min(least.x - left, right - left - TITLE.width));
    rows[cluster] = top + y;
    if (set(handles[k], "shift", `translate(${x} ${y})`)) handles[k].setAttribute("transform", `translate(${x} ${y})`);
  });
}

const TITLE = { height: 19, width: 160 };
const CARD = { height: 78, mark: 22, widths: [132, 260], group: [220, 300], constant: /** @type {Point} */ ([76, 34]), letter: 9, said: 10.9 };

// How wide a text is, in half-width letters.
/** @param {string} text */
function columns(text) {
  return [...text].reduce((sum, letter) => sum + (/[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/u.test(letter) ? 2 : 1), 0);
}

/** @param {string} symbol */
function badgeWidth(symbol) {
  return Math.max(26, 12 + 8.4 * [...symbol].length);
}

/** @returns {Point} @param {any} node */
function sizeOf(node) {
  const i = node.values[0];
  if (node.kind === "constant") return [Math.max(CARD.constant[0], 20 + CARD.said * columns(format(passes.data[i]))), CARD.constant[1]];
  const [low, high] = node.kind === "group" ? CARD.group : CARD.widths;
  const text = node.kind === "group" ? `${node.title} ${count(node.values.length, "node")}` : nameOf(i);
  const badge = node.kind === "group" ? 22 : passes.isLeaf(i) ? 0 : badgeWidth(passes.row(i).symbol);
  const said = marksOn(node);
  const width = Math.max(28 + badge + CARD.letter * columns(text), ...said.map((line) => 22 + CARD.said * columns(line)));
  return [Math.min(Math.max(low, Math.ceil(width)), high), CARD.height + CARD.mark * said.length];
}

// What a card is called where it does not say so itself: from far it has no text.
/** @param {GraphNode} node */
function calledNode(node) {
  return node.single ? nameOf(node.values[0], 60) : `${node.title}, ${node.values.length} nodes in a box: Enter opens it`;
}

/** @param {GraphNode} node */
function callNode(node) {
  if (view.detail === "far") node.element.setAttribute("aria-label", calledNode(node));
  else node.element.removeAttribute("aria-label");
}

/** @param {GraphNode} node */
function drawNode(node) {
  const [width, height] = node.size;
  const g = shape("g", { transform: `translate(${node.at[0] - width / 2} ${node.at[1] - height / 2})`, role: "button", tabindex: "-1" }, layers.nodes);
  node.element = g;
  g.dataset.node = node.index;
  shape("rect", { class: "card", width, height, rx: node.kind === "constant" ? 17 : 9 }, g);
  const i = node.values[0];
  if (node.kind === "constant") {
    node.dataText = shape("text", { class: "data", x: width / 2, y: 22, "text-anchor": "middle" }, g);
    return;
  }
  const said = height > CARD.height;
  node.tint = shape("path", { class: "tint", d: said ? `M1 52H${width - 1}V77H1Z` : `M1 ${height - 26}H${width - 1}V${height - 9}a8 8 0 0 1 -8 8H9a8 8 0 0 1 -8 -8Z` }, g);
  let left = 11;
  if (node.computes || !node.single) {
    const symbol = node.single ? passes.row(i).symbol : "+";
    const badge = badgeWidth(symbol);
    shape("rect", { class: "badge", x: 6, y: 6, width: badge, height: 23, rx: 6 }, g);
    shape("text", { class: "symbol", x: 6 + badge / 2, y: 23, "text-anchor": "middle" }, g, symbol);
    left = badge + 13;
  }
  node.labelText = shape("text", { class: node.single && !program.labels[i] ? "label unnamed" : "label", x: left, y: 23 }, g);
  node.labelRoom = width - left - (node.single ? 6 : 78);
  writeLabel(node);
  if (!node.single) shape("text", { class: "caption", x: width - 11, y: 23, "text-anchor": "end" }, g, count(node.values.length, "node"));
  if (!isLarge) {
    shape("text", { class: "caption", x: 11, y: 45 }, g, "data");
    shape("text", { class: "caption", x: 11, y: 70 }, g, "grad");
  }
  node.dataText = shape("text", { class: "data", x: width - 11, y: 45, "text-anchor": "end" }, g);
  node.gradientText = shape("text", { class: "gradient", x: width - 11, y: 70, "text-anchor": "end" }, g);
}

// As much of a name as there is room for in the letters that can be read.
/** @param {GraphNode} node */
function writeLabel(node) {
  const room = Math.max(2, Math.floor(node.labelRoom / (CARD.letter * (view.detail === "small" ? 1.2 : 1))));
  setText(node, "labelText", node.single ? nameOf(node.values[0], room) : shorten(node.title, room));
}

let largest = 1;

// The strength of a colour, 0 to 4: the decade below the largest, as in all pictures.
/** @param {number} x */
function level(x) {
  const size = Math.abs(x);
  if (!size) return 0;
  if (!(size < largest * 0.5)) return 4;
  return size >= largest * 0.1 ? 3 : size >= largest * 0.01 ? 2 : 1;
}

const tone = (/** @type {number} */ x) => (x !== x ? "undefined-4" : x === 0 ? "zero" : `${x < 0 ? "negative" : "positive"}-${level(x)}`);

/** @param {GraphNode} node */
function paintNode(node) {
  const step = steps[now];
  const classes = ["node", node.kind];
  if (isEditable(node) && !isLocked(node.values[0])) classes.push("editable");
  if (node === outputNode) classes.push("output");
  if (node === selected) classes.push("selected");
  if (step.node === node) classes.push("current", step.phase);
  else if (step.node && (step.phase === "forward" || step.phase === "backward") && step.node.operands.has(node)) classes.push("operand", step.phase);
  const known = dataShown(node);
  if (!known) classes.push("unknown");
  let gradient = null;
  if (node.single) {
    gradient = gradientNow(node);
    setText(node, "dataText", known ? format(passes.shown.data[node.values[0]]) : "");
    const open = gradient !== null && node.completeStep > now;
    if (open) classes.push("open");
    setText(node, "gradientText", gradient === null ? "" : open ? `${format(gradient)} …` : format(gradient));
  } else {
    const values = node.exits;
    const done = node.reached && node.completeStep <= now;
    setText(node, "dataText", known ? range(values.map((i) => passes.shown.data[i])) : "");
    setText(node, "gradientText", done ? range(values.map((i) => passes.shown.gradient[i])) : "");
    if (done) gradient = values.map((i) => passes.shown.gradient[i]).reduce((a, b) => (b !== b || Math.abs(b) > Math.abs(a) ? b : a));
  }
  if (gradient !== null && node.kind !== "constant") classes.push(tone(gradient));
  if (markFault(node)) classes.push("faulty");
  if (paintMark(node)) classes.push("marked");
  setClass(node, classes.join(" "));
}

function measure() {
  findFaults();
  checkFindings();
  measureFlows();
  largest = 0;
  for (const gradient of passes.shown.gradient) if (Number.isFinite(gradient)) largest = Math.max(largest, Math.abs(gradient));
}
