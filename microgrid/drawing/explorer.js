// @ts-check
// The page that plays backpropagation, and recomputes both passes when a leaf is edited.
"use strict";

function paintAll() {
  nodes.forEach(paintNode);
  edges.forEach(paintEdge);
}

// What a step touches: its node, the operands, the edges between them, and what they show.
/** @param {number} step */
function touched(step) {
  const node = steps[step].node;
  return node ? [node, ...node.operands] : [];
}

function refresh() {
  panel.now.replaceChildren(...explain().filter((part) => part !== null));
  if (now === 0 && lastStep > 0) panel.now.append(element("p", { class: "why" }, "Press play, or → for one step."));
  describeNode();
  refreshLeaves();
  if (document.activeElement === inside.element) inside.element.setAttribute("aria-label", spoken(inside));
  tools.refresh();
}

/** @param {number} before */
function showStep(before) {
  if (Math.abs(now - before) === 1) {
    const changed = new Set([...touched(before), ...touched(now)]);
    const lines = new Set([before, now].flatMap((s) => (steps[s].node ? steps[s].node.into : [])));
    changed.forEach(paintNode);
    lines.forEach(paintEdge);
  } else paintAll();
  if (following) follow(steps[now].node);
  refresh();
}

function stepInWords() {
  const { phase, node } = steps[now];
  if (phase === "leaves") return "the leaves";
  return `${phase === "seed" ? "backward begins" : phase} at ${node.single ? nameOf(node.values[0]) : node.title}`;
}

/** @param {GraphNode | null} node */
function select(node) {
  const before = selected;
  selected = node;
  for (const changed of [before, node]) {
    if (!changed) continue;
    paintNode(changed);
    [...changed.into, ...changed.from].forEach(paintEdge);
  }
  describeNode();
  if (node && isEditable(node)) {
    showLeaf(node.values[0]);
  }
}

// Put a picture of the program in the place of the one that is shown; the play goes on where it stood.
/** @param {any} given */
function showPicture(given) {
  const place = placeInPlay();
  const chosen = selected?.single ? selected.values[0] : -1;
  setPicture(given);
  for (const layer of Object.values(layers)) layer.replaceChildren();
  stage.classList.toggle("large", isLarge);
  drawClusters();
  edges.forEach(drawEdge);
  nodes.forEach(drawNode);
  for (const node of nodes) if (isEditable(node) && !isLocked(node.values[0])) drag(node.values[0], node.element, () => (node === selected ? openField(node) : select(node)));
  inside = nodes[0];
  inside.element.setAttribute("tabindex", "0");
  bounds = around([...nodes.map((node) => node.box), ...picture.frames.map((/** @type {any} */ frame) => frame.corners)]);
  collectNames();
  nodes.forEach(callNode);
  selected = chosen >= 0 && nodes[nodeOf[chosen]].single ? nodes[nodeOf[chosen]] : null;
  byId("note").textContent = picture.note;
  byId("back-arrow").textContent = back();
  const turn = `${(100 * (seedStep - 0.5)) / Math.max(1, lastStep)}%`;
  for (const id of ["phases", "timeline"]) byId(id).style.setProperty("--turn", turn);
  now = stepOf(place);
  measure();
  paintAll();
}

// Where the play stands, in terms of the program: of a box that computes, what it computes last in either pass.
function placeInPlay() {
  const { phase, node } = steps[now] ?? { phase: "leaves", node: null };
  const computing = node?.values.filter((/** @type {number} */ i) => !passes.isLeaf(i));
  return { phase, value: !node ? -1 : phase === "backward" ? computing[0] : computing.at(-1) };
}

/** @param {{ phase: string, value: number }} given */
function stepOf({ phase, value }) {
  if (phase === "leaves") return 0;
  if (phase === "seed") return seedStep;
  const node = nodes[nodeOf[value]];
  return phase === "forward" ? node.forwardStep : node.backwardStep;
}

// ---------------------------------------------------------------------------------------------------
// Boxes that open and close

const MOST_BOXES = 1500; // that are drawn at once after a box was opened

function redraw(given = pictureOf()) {
  showPicture({ ...given, note: page.view.note });
  playback.last = lastStep;
  slider.max = String(lastStep);
  showPlace();
  refresh();
}

/** @param {string} title @param {string} when */
function refuse(title, when) {
  panel.node.replaceChildren(element("h2", {}, title), element("p", { class: "why" }, `${when} more than ${MOST_BOXES.toLocaleString("en")} boxes would be drawn at once. Open some by a click, or close others first.`));
}

/** @param {number} at a module */
function openBox(at) {
  for (let m = at; m !== null; m = modules[m].parent) opened.add(m);
  if (boxes().nodes.length > MOST_BOXES) {
    opened.delete(at);
    return refuse(modules[at].title, "With this box open,");
  }
  redraw();
  const frame = picture.frames.find((/** @type {any} */ { cluster }) => picture.clusters[cluster].module === at);
  showPart(frame ? frame.corners : bounds);
  const first = nodes.find((node) => node.cluster !== null && picture.clusters[node.cluster].module === at);
  if (first) focusNode(first);
}

/** @param {number} at a module */
function closeBox(at) {
  opened.delete(at);
  redraw();
  const node = nodes.find((each) => each.module === at);
  showPart(node ? node.box : bounds);
  if (node) focusNode(node);
}

// All of the graph if it can be read, else a part of it.
/** @param {number[]} box */
function showPart(box) {
  const whole = fitTo(bounds, MOST_SCALE);
  if (whole[2] >= FAR) return fit();
  glideView(...within(fitTo(box, 0.9)));
}

// Open the closed boxes that are outermost, or close the innermost open ones.
/** @param {1 | -1} way */
function changeLevel(way) {
  const closed = closedAround();
  const levels = [...modules.keys()].filter((m) => (way > 0 ? closed[m] === m : closed[m] < 0)).map(levelOf);
  if (!levels.length) return;
  const before = new Set(opened);
  openTo(way > 0 ? Math.min(...levels) + 1 : Math.max(...levels));
  if (boxes().nodes.length > MOST_BOXES && way > 0) {
    opened = before;
    return refuse("Open the boxes by one level", "With all of this level open,");
  }
  redraw(isTurned ? pictureOf() : bestPicture());
  showPart(bounds);
}

let isTurned = false; // by the user

// Let the forward pass go down instead of on, or on instead of down.
function turn() {
  if (boxes().nodes.length > MOST_BOXES) return refuse("Turn the graph", "To be turned it is laid out anew:");
  isTurned = true;
  direction = /** @type {Record<Direction, Direction>} */ ({ LR: "TB", TB: "LR", RL: "BT", BT: "RL" })[direction];
  redraw();
  showAll();
}

// What opens at first: as asked, else as much as can be read at once.
function openAtFirst() {
  const deepest = Math.max(0, ...[...modules.keys()].map((m) => levelOf(m) + 1));
  const { depth, limit } = page.view;
  const most = Math.min(depth ?? deepest, deepest);
  let best = null;
  for (let level = depth === null ? Math.min(1, most) : most; level <= most; level++) {
    openTo(level);
    const amount = boxes().nodes.length;
    if (best && amount > (depth === null ? Math.min(limit ?? Infinity, MOST_BOXES) : limit ?? Infinity)) break;
    const given = bestPicture();
    if (best && depth === null && scaleOf(given) < FAR) break;
    best = { level, given, direction };
  }
  openTo(best.level);
  direction = best.direction;
  return { ...best.given, note: page.view.note };
}

// ---------------------------------------------------------------------------------------------------

setProgram(page.program, operations);
Object.assign(room, { width: stage.clientWidth, height: stage.clientHeight });
showPicture(page.picture ? { ...adopt(page.picture), note: page.view.note } : openAtFirst());
document.body.classList.toggle("has-modules", modules.length > 0);
buildLeaves();
openedAtFirst = new Set(opened);
directionAtFirst = direction;
connect();
connectField();
if (findings?.pass) goTo(lastStep);
refresh();
tools.openFirst();
showAll();
setFollowing(view.scale < FAR);
if (location.hash) restoreState();
new ResizeObserver(() => {
  Object.assign(room, { width: stage.clientWidth, height: stage.clientHeight });
  if (view.scale === view.fitted) showAll();
}).observe(stage);
