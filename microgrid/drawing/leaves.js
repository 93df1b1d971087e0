// @ts-check
// Leaves that can be edited, in a field, by dragging, and by arrow keys.
"use strict";

const LEAVES = 60;
/** @type {number[]} */
let leaves = [];
/** @typedef { { input: HTMLInputElement, handle: HTMLElement, gradient: HTMLElement, box: HTMLElement } } Editor */
/** @type {Map<number, Editor>} */
const editors = new Map();

function isLocked(i) {
  return passes.problems[i] !== "";
}

// One hundredth of the number's size, as a power of ten: the step of dragging.
function stepSize(x) {
  return 10 ** (Math.floor(Math.log10(Math.min(Math.max(Math.abs(x), 0.1), 1e100))) - 2);
}

function rounded(x, step) {
  return Number(x.toFixed(Math.max(0, -Math.round(Math.log10(step)))));
}

function compute() {
  passes.run();
  measure();
  paintAll();
  refresh();
}

function isEditable(node) {
  return node.single && !node.computes && node.kind !== "constant";
}

function setLeaf(i, x) {
  if (isLocked(i) || x !== x) return;
  passes.data[i] = x;
  compute();
}

// Drag a handle sideways to change a leaf; a press that does not move is a click.
function drag(i, handle, clicked) {
  let start = null;
  handle.addEventListener("pointerdown", (event) => {
    if (event.button || isLocked(i)) return;
    const x = passes.data[i];
    start = { at: event.clientX, x, step: stepSize(x), moved: false };
    handle.setPointerCapture(event.pointerId);
    event.stopPropagation();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!start) return;
    const distance = Math.round(event.clientX - start.at);
    if (!start.moved && Math.abs(distance) < 4) return;
    start.moved = true;
    setLeaf(i, rounded(start.x + distance * start.step, start.step));
  });
  for (const name of ["pointerup", "pointercancel"])
    handle.addEventListener(name, () => {
      if (start && !start.moved) clicked();
      start = null;
    });
}

// Arrow keys change a leaf by a tenth of its size; in the number field, up and down alone.
function nudge(event, i) {
  const directions = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
  const times = directions[event.key];
  if (!times || isLocked(i) || (event.target.tagName === "INPUT" && /Left|Right/.test(event.key))) return;
  const step = 10 * stepSize(passes.data[i]);
  setLeaf(i, rounded(passes.data[i] + times * step, step));
  event.preventDefault();
  event.stopPropagation();
}

function buildLeaves() {
  leaves = passes.parents.map((_, i) => i).filter((i) => passes.isLeaf(i) && !isConstant(i));
  editors.clear();
  const reset = element("button", { class: "plain", id: "reset" }, "reset");
  reset.addEventListener("click", () => {
    leaves.forEach((i) => (passes.data[i] = passes.given.get(i)));
    compute();
  });
  // What the user named comes first, then the parameters, then the rest.
  const rank = (i) => (!program.labels[i] ? 2 : nodes[nodeOf[i]].kind === "parameter" || contextOf(i) ? 1 : 0);
  const shown = leaves.toSorted((i, j) => rank(i) - rank(j) || i - j).slice(0, LEAVES);
  const list = element("div", { class: "list" }, element("p", { class: "why" }, "Type, or drag ↔ or a leaf's card: both passes are computed again."), ...shown.map(editorOf));
  panel.leaves.replaceChildren(
    element("h2", {}, "Leaves", element("span", { class: "line", id: "result" }), reset),
    list,
  );
  if (leaves.length > LEAVES) list.append(element("p", { class: "why" }, `${count(leaves.length - LEAVES, "more leaf").replace("leafs", "leaves")}: click one in the graph to edit it.`));
}

function editorOf(i) {
  const name = nameOf(i, 60);
  const id = `leaf-${i}`;
  const input = element("input", { id, type: "number", step: "any", inputmode: "decimal" });
  const handle = element("span", { class: "handle", role: "slider", tabindex: "0", "aria-label": `Drag ${name} ${contextOf(i)}`.trim(), title: "Drag, or use the arrow keys" }, "↔");
  const gradient = element("span", { class: "leaf-gradient" });
  const box = element("div", { class: "leaf" }, element("label", { for: id, title: name }, name, contextOf(i) ? element("small", {}, contextOf(i)) : null), handle, input, gradient);
  if (isLocked(i)) {
    input.disabled = true;
    handle.setAttribute("aria-disabled", "true");
    box.classList.add("locked");
    box.append(element("p", { class: "why" }, `Read-only: ${passes.problems[i]}, so the page cannot compute what follows from it.`));
  }
  input.addEventListener("input", () => {
    if (input.value !== "") setLeaf(i, Number(input.value));
  });
  input.addEventListener("blur", () => refreshLeaf(i));
  for (const control of [input, handle]) control.addEventListener("keydown", (event) => nudge(event, i));
  drag(i, handle, () => handle.focus());
  editors.set(i, { input, handle, gradient, box });
  return box;
}

function refreshLeaf(i) {
  const { input, handle, gradient } = editors.get(i);
  const x = passes.data[i];
  const node = nodes[nodeOf[i]];
  if (document.activeElement !== input || (input.value !== "" && Number(input.value) !== x)) input.value = Number.isFinite(x) ? String(x) : "";
  input.placeholder = exact(x);
  handle.setAttribute("aria-valuenow", String(x));
  handle.setAttribute("aria-valuetext", format(x));
  gradient.replaceChildren("grad ", node.reached && node.completeStep <= now ? num(passes.shown.gradient[i]) : "–");
}

// ---------------------------------------------------------------------------------------------------
// The field on a card

const field = byId("on-card");
/** @type {GraphNode | null} */
let fieldOn = null;
let dataBefore = 0;

function openField(node) {
  const i = node.values[0];
  fieldOn = node;
  dataBefore = passes.data[i];
  field.hidden = false;
  field.setAttribute("aria-label", `Data of ${nameOf(i, 60)} ${contextOf(i)}`.trim());
  field.value = Number.isFinite(dataBefore) ? String(dataBefore) : "";
  placeField();
  field.focus();
  field.select();
}

function placeField() {
  if (!fieldOn) return;
  field.style.left = `${view.x + view.scale * fieldOn.at[0]}px`;
  field.style.top = `${view.y + view.scale * fieldOn.at[1]}px`;
}

function closeField() {
  fieldOn = null;
  field.hidden = true;
}

function connectField() {
  field.addEventListener("input", () => {
    if (field.value !== "") setLeaf(fieldOn.values[0], Number(field.value));
  });
  field.addEventListener("keydown", (event) => {
    const node = fieldOn;
    nudge(event, node.values[0]);
    if (event.defaultPrevented) field.value = String(passes.data[node.values[0]]);
    if (event.key === "Escape") setLeaf(node.values[0], dataBefore);
    if (event.key !== "Enter" && event.key !== "Escape") return;
    closeField();
    node.element.focus({ preventScroll: true });
  });
  field.addEventListener("blur", closeField);
}

function refreshLeaves() {
  byId("result").replaceChildren(bold(nameOf(passes.output)), " = ", num(passes.shown.data[passes.output]));
  for (const i of editors.keys()) refreshLeaf(i);
}
