// @ts-check
// Seen from far, what a graph is made of keeps its names, in letters that do not shrink with it: the output, the
// modules, the leaves, then the signs of the operations, each where it has room.
"use strict";

const FAR = 0.56; // the scale below which the texts of the cards cannot be read
// How much there is to read, below which scale: no text is ever smaller than 10 pixels. Letters grow where there is room
// for them, and where there is none, captions go.
const DETAILS = /** @type {[string, number][]} */ ([["far", FAR], ["small", 2 / 3], ["middle", 0.8], ["", Infinity]]);
const NAME = { height: 11, letter: 7.4 };
const ROW = 14; // pixels from one title in the corner of frames to the next
const GRID = 4; // pixels: how finely names are kept apart
const APART = 1; // pixels on either side of a name: neurons side by side all keep theirs

/** @typedef { { text: string, kind: string, at: Point, room: number[], attributes: Record<string, any>, element: SVGElement | null } } Name */
/** @type {Name[]} the most important first */
let names = [];
let namesScale = 0;

function collectNames() {
  layers.names.replaceChildren();
  namesScale = 0;
  names = [];
  const anywhere = [Infinity, Infinity];
  const add = (/** @type {string} */ kind, /** @type {string} */ text, /** @type {any} */ at, /** @type {number[]} */ room, /** @type {Record<string, any>} */ attributes) => names.push({ text, kind, at, room, attributes, element: null });
  const card = (/** @type {string} */ kind, /** @type {GraphNode} */ node, /** @type {string} */ text, /** @type {number[]} */ room) => add(kind, text, node.at, room, { "data-node": node.index });
  card("output", outputNode, outputNode.single ? nameOf(outputNode.values[0], 16) : outputNode.title, anywhere);
  for (const node of nodes) if (!node.single && node !== outputNode) card("group", node, node.title, anywhere);
  for (const { title, corners, cluster } of picture.frames) add("frame", `− ${title}`, corners.slice(0, 2), [Infinity, corners[3] - corners[1]], { "data-frame": cluster });
  for (const node of nodes)
    if (node.single && !node.computes && node.kind !== "constant" && program.labels[node.values[0]]) card("leaf", node, nameOf(node.values[0], 16), node.kind === "input" ? anywhere : [Infinity, node.size[1]]);
  for (const node of order) if (node.single && node !== outputNode) card("sign", node, passes.row(node.values[0]).symbol, [node.size[0] + 16, node.size[1]]);
}

/** @param {string} detail */
function setDetail(detail) {
  if (!set(view, "detail", detail)) return;
  for (const [name] of DETAILS) if (name) stage.classList.toggle(name, name === detail);
  nodes.forEach(callNode);
  nodes.forEach(writeLabel);
}

// Names where there is room, in the order of their importance; anew only when the scale changes.
function showNames() {
  setDetail(DETAILS.find(([, below]) => view.scale < below)[0]);
  if (view.detail !== "far") return;
  layers.names.setAttribute("transform", `translate(${view.x} ${view.y})`);
  if (namesScale === view.scale) return;
  namesScale = view.scale;
  const taken = new Set(); // squares of the screen
  for (const name of names) {
    const place = placeOf(name, taken);
    if (place) {
      const [x, y] = place;
      const anchor = name.kind === "frame" ? "start" : "middle";
      name.element ??= shape("text", { class: `far-name ${name.kind}`, "text-anchor": anchor, ...name.attributes }, layers.names, name.text);
      name.element.setAttribute("x", String(x));
      name.element.setAttribute("y", String(y + NAME.height - 1));
    }
    if (name.element) name.element.style.display = place ? "" : "none";
  }
}

// Where a name has room: on its card, or in the corner of its frame, above or below it; then the place is taken.
/** @param {Name} name @param {Set<string>} taken */
function placeOf({ text, kind, at, room }, taken) {
  const width = [...text].length * NAME.letter;
  if (width > room[0] * view.scale || NAME.height > room[1] * view.scale) return null;
  const [x, y] = at.map((place) => place * view.scale);
  const isFrame = kind === "frame";
  const left = isFrame ? x + 4 : x - width / 2;
  const rows = isFrame ? [0, -1, 1, 2, 3].filter((row) => (row + 1) * ROW <= room[1] * view.scale) : [0];
  for (const row of rows) {
    const top = isFrame ? y + 3 + row * ROW : y - NAME.height / 2;
    const squares = [];
    for (let column = Math.floor((left - APART) / GRID); column <= Math.floor((left + width + APART) / GRID); column++)
      for (let line = Math.floor(top / GRID); line <= Math.floor((top + NAME.height) / GRID); line++) squares.push(`${column} ${line}`);
    if (squares.some((square) => taken.has(square))) continue;
    for (const square of squares) taken.add(square);
    return [isFrame ? left : x, top];
  }
  return null;
}
