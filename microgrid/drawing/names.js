// @ts-check
// Seen from far, what a graph is made of keeps its names, in letters that do not shrink with it: the output, the
// modules, the leaves, then the signs of the operations, each where it has room.
"use strict";

const FAR = 0.42; // the scale below which the texts of the cards cannot be read
const NAME = { height: 11, letter: 7.4 };
const GRID = 4; // pixels: how finely names are kept apart

/** @typedef { { text: string, at: Point, kind: string, width: number, element: SVGElement | null, attributes: Record<string, any> } } Name */
/** @type {Name[]} the most important first */
let names = [];
let namesScale = 0;

function collectNames() {
  layers.names.replaceChildren();
  namesScale = 0;
  const add = (kind, text, at, width, attributes = {}) => names.push({ kind, text, at, width, attributes, element: null });
  names = [];
  const label = (node) => (node.single ? nameOf(node.values[0], 16) : node.title);
  add("output", label(outputNode), outputNode.at, Infinity, { "data-node": outputNode.index });
  for (const { title, corners, cluster } of picture.frames) add("frame", `− ${title}`, [corners[0], corners[1]], corners[2] - corners[0], { "data-frame": cluster });
  for (const node of nodes) if (!node.single) add("group", node.title, node.at, Infinity, { "data-node": node.index });
  for (const node of nodes) if (node.single && !node.computes && node.kind !== "constant" && program.labels[node.values[0]]) add("leaf", label(node), node.at, Infinity, { "data-node": node.index });
  for (const node of order) if (node.single && node !== outputNode) add("sign", passes.row(node.values[0]).symbol, node.at, node.size[0] - 8, { "data-node": node.index });
}

// Names where there is room, in the order of their importance; anew only when the scale changes.
function showNames() {
  const far = view.scale < FAR;
  if (set(view, "far", far)) {
    stage.classList.toggle("far", far);
    nodes.forEach(callNode);
  }
  if (!far) return;
  layers.names.setAttribute("transform", `translate(${view.x} ${view.y})`);
  if (namesScale === view.scale) return;
  namesScale = view.scale;
  const taken = new Set(); // squares of the screen
  const squares = (x, y, width) => {
    const found = [];
    for (let column = Math.floor((x - 3) / GRID); column <= Math.floor((x + width + 3) / GRID); column++)
      for (let row = Math.floor(y / GRID); row <= Math.floor((y + NAME.height) / GRID); row++) found.push(`${column} ${row}`);
    return found;
  };
  for (const name of names) {
    const width = [...name.text].length * NAME.letter;
    const isFrame = name.kind === "frame";
    const [x, y] = name.at.map((at) => at * view.scale);
    const place = isFrame ? squares(x, y, width) : squares(x - width / 2, y - NAME.height / 2, width);
    const fits = width <= name.width * view.scale && !place.some((square) => taken.has(square));
    if (fits) for (const square of place) taken.add(square);
    if (!fits) {
      if (name.element) name.element.style.display = "none";
      continue;
    }
    name.element ??= shape("text", { class: `far-name ${name.kind}`, "text-anchor": isFrame ? "start" : "middle", ...name.attributes }, layers.names, name.text);
    name.element.style.display = "";
    name.element.setAttribute("x", String(isFrame ? x + 4 : x));
    name.element.setAttribute("y", String(isFrame ? y + 13 : y + 4));
  }
}
