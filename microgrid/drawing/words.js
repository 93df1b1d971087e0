// @ts-check
// Names, formulas and numbers in words.
"use strict";

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";

/** @param {number} n */
function subscript(n) {
  return String(n).replace(/\d/g, (digit) => SUBSCRIPTS[Number(digit)]);
}

/** @param {string} text */
function shorten(text, length = 24) {
  const letters = [...text.replace(/\s+/g, " ").trim()];
  return letters.length > length ? letters.slice(0, length - 1).join("") + "…" : letters.join("");
}

/** @param {number} i */
function isConstant(i) {
  return passes.row(i).name === "constant" && passes.isLeaf(i);
}

/** @param {number} i @param {number} [length] */
function nameOf(i, length) {
  const label = program.labels[i];
  if (label && label.trim()) return shorten(label, length);
  return isConstant(i) ? format(passes.shown.data[i]) : "v" + subscript(i);
}

// The name as it stands in a formula: one that is itself an expression, "x1*w1 + b", or a number, is held by brackets.
/** @param {number} i @param {number} [length] */
function held(i, length) {
  const name = nameOf(i, length);
  return /^[\p{L}\p{M}\p{N}_.'′∇[\]]+$/u.test(name) && !isConstant(i) ? name : `(${name})`;
}

// Put names or numbers into a formula of Python's making, "{y} × (1 − {y})"; a brace of its own stands twice.
/** @param {string} formula @param {number} i @param {(i: number) => string} give */
function fill(formula, i, give) {
  return formula.replace(/\{\{|\}\}|\{(\w+)\}(?=(.?))/gu, (all, place, next) => {
    if (place === undefined) return all[0];
    const text = give(place === "y" ? i : passes.parents[i][Number(place)]);
    const power = /[⁰¹²³⁴⁵⁶⁷⁸⁹⁻^]/u.test(next);
    return power && !text.startsWith("(") && (text.startsWith(MINUS) || text.includes(" ")) ? `(${text})` : text;
  });
}

/** @param {number} i */
function formulaOf(i) {
  return signed(fill(passes.row(i).formula, i, (j) => (isConstant(j) ? nameOf(j) : held(j))));
}

// 2 + (−3)
/** @param {string} formula */
function signed(formula) {
  return formula.replace(/([+−] )(−[\d.e−]+)/gu, "$1($2)");
}

/** @param {number} i */
function numbersOf(i) {
  return signed(fill(passes.row(i).formula, i, (j) => format(passes.shown.data[j])));
}

const bold = (/** @type {string} */ text, kind = "name") => element("b", { class: kind }, text);
const num = (/** @type {number} */ x) => element("b", { class: `number ${x !== x ? "undefined" : x < 0 ? "negative" : x > 0 ? "positive" : "zero"}`, title: String(x) }, format(x));
const line = (/** @type {(Node | string)[]} */ ...children) => element("p", { class: "line" }, ...children);
const plain = (/** @type {number} */ x) => element("span", { title: String(x) }, format(x));

// What one edge adds: a.grad += 1 × −3
/** @param {number} edge */
function addition(edge) {
  const child = passes.child[edge];
  return [
    bold(`${held(passes.parentOf(edge))}.grad`),
    " += ",
    plain(passes.shown.gradient[child]),
    " × ",
    plain(passes.shown.derivative[edge]),
    " = ",
    num(passes.shown.flow[edge]),
  ];
}

/** @param {number[]} numbers */
function range(numbers) {
  let low = Infinity;
  let high = -Infinity;
  for (const x of numbers) {
    low = Math.min(low, x);
    high = Math.max(high, x);
  }
  return low === high || low !== low ? format(low) : `${format(low)} … ${format(high)}`;
}

/** @param {number} n @param {string} thing */
function count(n, thing) {
  return `${n.toLocaleString("en")} ${thing}${n === 1 ? "" : /[xs]$/.test(thing) ? "es" : "s"}`;
}

// A number in four digits, which a click shows whole.
/** @param {number} x @param {string} id */
function whole(x, id) {
  const button = element("button", { class: "whole", id, title: exact(x) }, format(x));
  button.addEventListener("click", () => (button.textContent = button.textContent === exact(x) ? format(x) : exact(x)));
  return button;
}

/** @param {number} x */
function exact(x) {
  return x !== x ? "nan" : String(x).replace("Infinity", "inf").replace("-", MINUS);
}
