// @ts-check
// The page that plays backpropagation, and recomputes both passes when a leaf is edited.
"use strict";

function paintAll() {
  nodes.forEach(paintNode);
  edges.forEach(paintEdge);
}

// What a step touches: its node, the operands, the edges between them, and what they show.
function touched(step) {
  const node = steps[step].node;
  return node ? [node, ...node.operands] : [];
}

function refresh() {
  panel.now.replaceChildren(...explain().filter((part) => part !== null));
  describeNode();
  refreshLeaves();
}

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

// Put a picture of the program in the place of the one that is shown.
/** @param {any} given */
function showPicture(given) {
  setPicture(given);
  for (const layer of Object.values(layers)) layer.replaceChildren();
  stage.classList.toggle("large", isLarge);
  drawClusters();
  edges.forEach(drawEdge);
  nodes.forEach(drawNode);
  for (const node of nodes) if (isEditable(node) && !isLocked(node.values[0])) drag(node.values[0], node.element, () => (node === selected ? openField(node) : select(node)));
  inside = nodes[0];
  inside.element.setAttribute("tabindex", "0");
  bounds = around(nodes.map((node) => node.box));
  byId("note").textContent = picture.note;
  const turn = `${(100 * (seedStep - 0.5)) / Math.max(1, lastStep)}%`;
  for (const id of ["phases", "timeline"]) byId(id).style.setProperty("--turn", turn);
}

setProgram(page.program, operations);
showPicture(page.picture);
measure();
buildLeaves();
connect();
connectField();
paintAll();
refresh();
Object.assign(room, { width: stage.clientWidth, height: stage.clientHeight });
showAll();
setFollowing(view.scale < READABLE);
new ResizeObserver(() => {
  Object.assign(room, { width: stage.clientWidth, height: stage.clientHeight });
  if (view.scale === view.fitted) showAll();
}).observe(stage);
