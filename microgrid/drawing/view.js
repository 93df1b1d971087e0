// @ts-check
// What of the graph is in sight: pan, zoom and follow.
"use strict";

const room = { width: 1, height: 1 }; // of the stage: measured when it changes, as measuring costs a layout
const view = { x: 0, y: 0, scale: 1, fitted: 1, detail: "" };

let bounds = [0, 0, 1, 1]; // of the whole graph
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let gliding = 0;

function showView() {
  placeField();
  world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
  showNames();
  if (view.detail !== "far") holdTitles();
  if (isLarge) cull();
}

// Text far outside the stage costs as much to lay out as text within: it is taken out.
function cull() {
  const { width, height } = room;
  const [left, top] = [-view.x / view.scale, -view.y / view.scale];
  const [right, bottom] = [left + width / view.scale, top + height / view.scale];
  for (const thing of [...nodes, ...edges]) {
    const [l, t, r, b] = thing.box;
    const away = (r < left || l > right || b < top || t > bottom) && thing !== inside;
    if (set(thing, "away", away)) thing.element.style.display = away ? "none" : "";
  }
}

/** @param {number} x @param {number} y @param {number} scale */
function moveView(x, y, scale) {
  cancelAnimationFrame(gliding);
  Object.assign(view, { x, y, scale });
  showView();
}

/** @param {number} x @param {number} y @param {number} scale */
function glideView(x, y, scale) {
  if (calm.matches || document.hidden || isLarge) return moveView(x, y, scale);
  const from = { ...view };
  const began = performance.now();
  cancelAnimationFrame(gliding);
  const tick = (/** @type {number} */ time) => {
    const t = Math.min(1, Math.max(0, (time - began) / 260));
    const eased = 1 - (1 - t) ** 3;
    Object.assign(view, { x: from.x + (x - from.x) * eased, y: from.y + (y - from.y) * eased, scale: from.scale + (scale - from.scale) * eased });
    showView();
    if (t < 1) gliding = requestAnimationFrame(tick);
  };
  gliding = requestAnimationFrame(tick);
}

// Where the view must stand to show a box: its x, y and scale.
/**
 * @param {number[]} box
 * @param {number} most the largest scale
 * @returns {[number, number, number]}
 */
function fitTo([left, top, right, bottom], most) {
  const { width, height } = room;
  const margin = Math.min(24, width / 14);
  const scale = Math.min(most, (width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top));
  return [width / 2 - (scale * (left + right)) / 2, height / 2 - (scale * (top + bottom)) / 2, Math.max(scale, 0.01)];
}

const MOST_SCALE = 1.6;

// No more empty room than there must be: a graph smaller than the stage stands in its middle.
/**
 * @param {[number, number, number]} place
 * @returns {[number, number, number]}
 */
function within([x, y, scale]) {
  const { width, height } = room;
  const clamp = (/** @type {number} */ offset, /** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ room) => {
    const margin = 24;
    if ((high - low) * scale + 2 * margin <= room) return (room - (low + high) * scale) / 2;
    return Math.max(room - margin - high * scale, Math.min(margin - low * scale, offset));
  };
  return [clamp(x, bounds[0], bounds[2], width), clamp(y, bounds[1], bounds[3], height), scale];
}

function fit() {
  const [x, y, scale] = fitTo(bounds, MOST_SCALE);
  view.fitted = scale;
  glideView(x, y, scale);
}

// The same at once.
function showAll() {
  moveView(...fitTo(bounds, MOST_SCALE));
  view.fitted = view.scale;
}

/** @param {number} x @param {number} y @param {number} factor */
function zoomAt(x, y, factor) {
  const scale = Math.min(4, Math.max(Math.min(view.fitted, 0.2) / 2, view.scale * factor));
  moveView(x - ((x - view.x) * scale) / view.scale, y - ((y - view.y) * scale) / view.scale, scale);
}

/** @param {number} factor */
function zoomMiddle(factor) {
  const { width, height } = room;
  zoomAt(width / 2, height / 2, factor);
}

let following = false;
/** @type {GraphNode} */
let inside; // the node that has the keyboard's focus when the graph has it

/** @param {boolean} on */
function setFollowing(on) {
  following = on;
  byId("follow").setAttribute("aria-pressed", String(on));
}

// Bring a node into view with its operands, at a size that can be read.
/** @param {GraphNode | null} node */
function follow(node) {
  if (!node) return;
  const isSeen = (/** @type {number[]} */ box) => {
    const [left, top, right, bottom] = box.map((/** @type {number} */ at, /** @type {number} */ k) => (k % 2 ? view.y : view.x) + at * view.scale);
    return left >= 8 && top >= 8 && right <= room.width - 8 && bottom <= room.height - 8;
  };
  const near = around([node, ...node.operands].slice(0, 9).map((n) => n.box));
  if (view.scale >= FAR && isSeen(isLarge ? node.box : near)) return;
  // A large graph keeps its scale, as each new one lays out every text; and where the operands are too far
  // apart to be seen at once, the node itself is what counts.
  const scale = Math.max(view.scale, 0.8);
  const target = fitTo(near, scale);
  const [x, y] = node.at;
  /** @type {[number, number, number]} */
  const middle = [room.width / 2 - x * scale, room.height / 2 - y * scale, scale];
  glideView(...within(target[2] >= (isLarge ? scale : FAR) ? target : middle));
}
