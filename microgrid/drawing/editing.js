// @ts-check
// Changing a leaf: by dragging, by arrow keys, and in a field on its card.
"use strict";

/** @param {number} i */
function isLocked(i) {
  return passes.problems[i] !== "";
}

// One hundredth of the number's size, as a power of ten: the step of dragging.
/** @param {number} x */
function stepSize(x) {
  return 10 ** (Math.floor(Math.log10(Math.min(Math.max(Math.abs(x), 0.1), 1e100))) - 2);
}

/** @param {number} x @param {number} step */
function rounded(x, step) {
  return Number(x.toFixed(Math.max(0, -Math.round(Math.log10(step)))));
}

function compute() {
  passes.run();
  measure();
  paintAll();
  refresh();
}

/** @param {GraphNode} node */
function isEditable(node) {
  return node.single && !node.computes;
}

/** @param {number} i @param {number} x */
function setLeaf(i, x) {
  if (isLocked(i) || x !== x) return;
  passes.data[i] = x;
  compute();
}

// Drag a handle sideways to change a leaf; a press that does not move is a click.
/** @param {number} i @param {any} handle an element an element @param {() => void} clicked */
function drag(i, handle, clicked) {
  /** @type {{ at: number, x: number, step: number, moved: boolean } | null} */
  let start = null;
  handle.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button || isLocked(i)) return;
    const x = passes.data[i];
    start = { at: event.clientX, x, step: stepSize(x), moved: false };
    handle.setPointerCapture(event.pointerId);
    event.stopPropagation();
  });
  handle.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
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
/** @param {Aimed<KeyboardEvent>} event @param {number} i */
function nudge(event, i) {
  /** @type {Record<string, number>} */
  const directions = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
  const times = directions[event.key];
  if (!times || isLocked(i) || (event.target.tagName === "INPUT" && /Left|Right/.test(event.key))) return;
  const step = 10 * stepSize(passes.data[i]);
  setLeaf(i, rounded(passes.data[i] + times * step, step));
  event.preventDefault();
  event.stopPropagation();
}

// ---------------------------------------------------------------------------------------------------
// The field on a card

const field = byId("on-card");
/** @type {GraphNode | null} */
let fieldOn = null;
let dataBefore = 0;

/** @param {GraphNode} node */
function openField(node) {
  const i = node.values[0];
  fieldOn = node;
  dataBefore = passes.data[i];
  field.hidden = false;
  field.setAttribute("aria-label", `Data of ${fullName(i)}`);
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
  field.addEventListener("keydown", (/** @type {Aimed<KeyboardEvent>} */ event) => {
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
