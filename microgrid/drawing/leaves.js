// @ts-check
// The list of the leaves, module by module: each with its number to be edited, and its gradient.
"use strict";

const ROWS = 60; // of a group, until more are asked for
const FEW = 24; // leaves that are listed unfolded; with more, a box finds them by name

/** @typedef { { input: HTMLInputElement, handle: HTMLElement, gradient: HTMLElement, box: HTMLElement } } Editor */
/** @type {Map<number, Editor>} */
const editors = new Map();
/** @type {number[]} in the order of the list; plain numbers are among them */
let leaves = [];
/** @typedef { { title: string, path: string, leaves: number[], box: HTMLDetailsElement, rows: HTMLElement, shown: number } } LeafGroup */
/** @type {LeafGroup[]} */
let leafGroups = [];

// As people order names: w2 before w10, and what is numbered before what is not.
const byName = new Intl.Collator("en", { numeric: true }).compare;

/** @param {number} i */
function isNumbered(i) {
  return /\d$/.test(program.labels[i] ?? "") ? 0 : 1;
}

/** z0, z2, z1 is z0, z1, z2, each in a place of one of them; so x1, w1, x2, w2 stay. @param {number[]} list */
function inOrder(list) {
  const stem = (/** @type {number} */ i) => (program.labels[i] ?? "").replace(/\d+(?=\]?$)/, "#");
  const kin = new Map();
  for (const i of list.toSorted((i, j) => byName(program.labels[j] ?? "", program.labels[i] ?? ""))) {
    if (!kin.has(stem(i))) kin.set(stem(i), []);
    kin.get(stem(i)).push(i);
  }
  return list.map((i) => kin.get(stem(i)).pop());
}

// What the user named comes first, then the numbers without a name, then the parameters, module by module.
function groupLeaves() {
  /** @type {number[][]} */
  const [named, unnamed, inputs, numbers] = [[], [], [], []];
  const byModule = new Map();
  for (let i = 0; i < passes.count; i++) {
    if (!passes.isLeaf(i)) continue;
    const at = moduleOf(i);
    if (isConstant(i)) (inputNumber(i) === undefined ? numbers : inputs).push(i);
    else if (at < 0) (program.labels[i] ? named : unnamed).push(i);
    else if (byModule.has(at)) byModule.get(at).push(i);
    else byModule.set(at, [i]);
  }
  /** @type {any[]} */
  const groups = [];
  const add = (/** @type {string} */ title, /** @type {string} */ path, /** @type {number[]} */ list) => list.length && groups.push({ title, path, leaves: list, shown: 0 });
  add("Leaves", "", [...inOrder(named), ...unnamed]);
  add("Inputs", "", inputs.toSorted((i, j) => byName(leafName(i), leafName(j))));
  add("Plain numbers", "", numbers);
  for (const at of [...byModule.keys()].toSorted((a, b) => byName(modules[a].path, modules[b].path)))
    add(titleOf(at) || modules[at].title, modules[at].path, byModule.get(at).toSorted((/** @type {number} */ i, /** @type {number} */ j) => isNumbered(i) - isNumbered(j) || byName(program.labels[i] ?? "", program.labels[j] ?? "") || i - j));
  return groups;
}

function buildLeaves() {
  editors.clear();
  leafGroups = groupLeaves();
  leaves = leafGroups.flatMap((group) => group.leaves);
  const reset = element("button", { class: "plain", id: "reset" }, "reset");
  reset.addEventListener("click", () => {
    leaves.forEach((i) => (passes.data[i] = passes.given.get(i)));
    compute();
  });
  const list = element("div", { class: "list" }, element("div", { class: "leaf head" }, "Type a number, or drag ↔ or a card", element("span", { class: "leaf-gradient" }, "grad")));
  panel.leaves.replaceChildren(element("h2", {}, leafGroups.length > 1 ? "" : "Leaves", element("span", { class: "line", id: "result" }), reset), list);
  if (leaves.length > FEW) list.append(finder());
  leafGroups.forEach((group, k) => {
    group.rows = element("div", {});
    group.box = element("details", {}, element("summary", {}, element("b", {}, group.title), " ", element("span", { class: "note" }, String(group.leaves.length))), group.rows);
    group.box.addEventListener("toggle", () => openGroup(group));
    group.box.open = leaves.length <= FEW || (k === 0 && group.leaves.length <= FEW);
    if (group.box.open) openGroup(group);
    list.append(leafGroups.length > 1 ? group.box : group.rows);
  });
  if (leafGroups.length === 1) addRows(leafGroups[0], ROWS);
}

// Rows are made when they are first seen: a network has hundreds.
/** @param {LeafGroup} group */
function openGroup(group) {
  if (group.box.open && !group.shown) addRows(group, ROWS);
  else if (group.box.open) for (const i of group.leaves) if (editors.has(i)) refreshLeaf(i);
}

/** @param {LeafGroup} group @param {number} count */
function addRows(group, count) {
  const rest = group.leaves.slice(group.shown, group.shown + count);
  group.shown += rest.length;
  group.rows.querySelector("button.more")?.remove();
  for (const i of rest) {
    group.rows.append(editorOf(i));
    refreshLeaf(i);
  }
  const left = group.leaves.length - group.shown;
  if (!left) return;
  const more = element("button", { class: "plain more" }, `${Math.min(left, ROWS)} more of ${left}`);
  more.addEventListener("click", () => addRows(group, ROWS));
  group.rows.append(more);
}

// Show the row of a leaf, wherever it is in the list.
/** @param {number} i */
function showLeaf(i) {
  const group = leafGroups.find((each) => each.leaves.includes(i));
  group.box.open = true;
  if (!editors.has(i)) addRows(group, group.leaves.indexOf(i) + 1 - group.shown);
  refreshLeaf(i);
  editors.get(i).box.scrollIntoView({ block: "nearest" });
}

function finder() {
  const box = element("input", { id: "find", type: "search", placeholder: "Find a leaf: w0, layer 1", "aria-label": "Find leaves by name" });
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter((/** @type {string} */ word) => word);
    for (const group of leafGroups) {
      const found = group.leaves.filter((i) => words.every((/** @type {string} */ word) => `${fullName(i)} ${group.title}`.toLowerCase().includes(word)));
      group.box.hidden = !found.length;
      if (words.length && found.length) showLeaf(found.at(-1));
      for (const i of group.leaves.slice(0, group.shown)) editors.get(i).box.hidden = !found.includes(i);
    }
  });
  return box;
}

// A number that modules multiply by nothing but weights of one name, w0 of each neuron, is their input of that number.
/** @param {number} i */
function inputNumber(i) {
  const weights = new Set();
  for (const edge of passes.received[i]) {
    const child = passes.child[edge];
    const weight = passes.parents[child].find((j) => j !== i) ?? i;
    weights.add(passes.row(child).name === "mul" && passes.isLeaf(weight) && moduleOf(weight) >= 0 ? program.labels[weight] : "");
  }
  return weights.size === 1 ? /\d+(?=\]?$)/.exec([...weights][0] ?? "")?.[0] : undefined;
}

// A number without a name is an input, or is called by its place in the formula that uses it first: "apple − ▢".
/** @param {number} i */
function leafName(i) {
  if (!isConstant(i)) return nameOf(i, 60);
  const input = inputNumber(i);
  if (input !== undefined) return `x${input}`;
  const edge = passes.firstUse[i];
  if (edge < 0) return "▢";
  const child = passes.child[edge];
  return fill(passes.row(child).formula, child, (j) => (j === i ? "▢" : nameOf(j)));
}

/** @param {number} i */
function editorOf(i) {
  const name = leafName(i);
  const id = `leaf-${i}`;
  const input = element("input", { id, type: "number", step: "any", inputmode: "decimal" });
  const handle = element("span", { class: "handle", role: "slider", tabindex: "0", "aria-label": `Drag ${fullName(i)}`, title: "Drag, or use the arrow keys" }, "↔");
  const gradient = element("span", { class: "leaf-gradient" });
  const box = element("div", { class: `leaf ${columns(name) > 4 ? "long" : ""} ${name.includes("▢") ? "formula" : ""}` }, element("label", { for: id, title: fullName(i) }, name), handle, input, gradient);
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
  for (const control of [input, handle]) control.addEventListener("keydown", (/** @type {Aimed<KeyboardEvent>} */ event) => nudge(event, i));
  drag(i, handle, () => handle.focus());
  editors.set(i, { input, handle, gradient, box });
  return box;
}

/** @param {number} i */
function refreshLeaf(i) {
  const { input, handle, gradient } = editors.get(i);
  const x = passes.data[i];
  const node = nodes[nodeOf[i]];
  if (document.activeElement !== input || (input.value !== "" && Number(input.value) !== x)) input.value = Number.isFinite(x) ? String(x) : "";
  input.placeholder = exact(x);
  handle.setAttribute("aria-valuenow", String(x));
  handle.setAttribute("aria-valuetext", format(x));
  gradient.replaceChildren(node.reached && node.completeStep <= now ? num(passes.shown.gradient[i]) : "–");
}

function refreshLeaves() {
  byId("result").replaceChildren(bold(nameOf(passes.output)), " = ", num(passes.shown.data[passes.output]));
  for (const group of leafGroups) if (group.box.open || leafGroups.length === 1) for (const i of group.leaves.slice(0, group.shown)) refreshLeaf(i);
}
