// @ts-check
// The modules that made the values: neurons within layers within networks.
"use strict";

/** @typedef { { title: string, path: string, parent: number | null } } Module */
/** @type {Module[]} outer ones first */
let modules = [];
/** @type {Record<number, number>} of each value that modules made, the innermost */
let innermost = {};

/** @param {any} given titles, paths and parents, and which value is whose */
function setModules(given) {
  modules = given.modules.map(([title, path, parent]) => ({ title, path, parent }));
  innermost = given.innermost;
}

/** @param {number} i a value @returns {number} −1 if no module made it */
function moduleOf(i) {
  return innermost[i] ?? -1;
}

// "Layer 0 · Neuron 3": the outermost is left out, for it is the same for all.
/** @param {number} at */
function titleOf(at) {
  const titles = [];
  for (let m = at; m >= 0 && modules[m].parent !== null; m = modules[m].parent) titles.unshift(modules[m].title);
  return titles.join(" · ");
}

/** @param {string} path */
function withoutRoot(path) {
  return path.slice(path.indexOf(".") + 1 || path.length);
}

function contextOf(i) {
  return titleOf(moduleOf(i));
}

// "layers.0.neurons.3.w0"
function fullName(i) {
  const at = moduleOf(i);
  const path = at < 0 ? "" : withoutRoot(modules[at].path);
  return path && program.labels[i] ? `${path}.${program.labels[i]}` : isConstant(i) ? `${nameOf(i)} in ${leafName(i)}` : nameOf(i, 60);
}
