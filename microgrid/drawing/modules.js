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
  modules = given.modules.map((/** @type {any} */ [title, path, parent]) => ({ title, path, parent }));
  innermost = given.innermost;
}

/** @param {number} i a value @returns {number} −1 if no module made it */
function moduleOf(i) {
  return innermost[i] ?? -1;
}

// "Layer 0 · Neuron 3": an outermost one that is the same for all is left out.
/** @param {number} at */
function titleOf(at) {
  const isAlone = modules.filter(({ parent }) => parent === null).length === 1;
  const titles = [];
  for (let m = at; m >= 0 && !(isAlone && modules[m].parent === null); m = modules[m].parent ?? -1) titles.unshift(modules[m].title);
  return titles.join(" · ");
}

/** @param {number} i */
function contextOf(i) {
  return titleOf(moduleOf(i));
}

// "Layer 0 · Neuron 3 · w0"
/** @param {number} i */
function fullName(i) {
  const module = contextOf(i);
  return module && program.labels[i] ? `${module} · ${program.labels[i]}` : isConstant(i) && inputNumber(i) === undefined ? `${nameOf(i)} in ${leafName(i)}` : leafName(i);
}

// ---------------------------------------------------------------------------------------------------
// Boxes: a closed module is one, an open one is a frame

/** @type {Set<number>} the modules that are open; one within a closed one counts for nothing */
let opened = new Set();

// A picture that Python laid out. Boxes of its that no module made, the stages of an outline, open and close likewise.
/** @param {any} given */
function adopt(given) {
  const boxOf = new Int32Array(passes.count);
  given.nodes.forEach((/** @type {any} */ node, /** @type {number} */ k) => {
    for (const i of node.values) boxOf[i] = k;
    node.module = null;
    if (node.kind !== "group") return;
    for (const i of node.values) innermost[i] = modules.length;
    node.module = modules.length;
    modules.push({ title: node.title, path: node.title, parent: null });
  });
  const isGroup = (/** @type {number} */ k) => given.nodes[k].kind === "group";
  const keyOf = (/** @type {number} */ source, /** @type {number} */ target, /** @type {number} */ argument) => (isGroup(source) || isGroup(target) ? `${source} ${target}` : `${source} ${target} ${argument}`);
  const stands = new Map(given.edges.map((/** @type {any} */ [source, target, argument]) => /** @type {[string, number[]]} */ ([keyOf(source, target, argument), []])));
  for (let edge = 0; edge < passes.child.length; edge++) {
    const child = passes.child[edge];
    stands.get(keyOf(boxOf[passes.parentOf(edge)], boxOf[child], edge - passes.first[child]))?.push(edge);
  }
  return { ...given, edges: given.edges.map((/** @type {any} */ [source, target, argument]) => [source, target, argument, stands.get(keyOf(source, target, argument))]) };
}

/** @param {number} at */
function levelOf(at) {
  let level = 0;
  for (let m = at; modules[m].parent !== null; m = modules[m].parent) level++;
  return level;
}

/** @param {number} depth */
function openTo(depth) {
  opened = new Set([...modules.keys()].filter((m) => levelOf(m) < depth));
}

// For each module the outermost closed one that holds it, or −1.
function closedAround() {
  /** @type {number[]} */
  const found = [];
  modules.forEach(({ parent }, m) => (found[m] = parent !== null && found[parent] >= 0 ? found[parent] : opened.has(m) ? -1 : m));
  return found;
}

// For each module its place in the order of all names: the third of a list before the eleventh.
function siblingPlaces() {
  /** @type {number[]} */
  const places = [];
  [...modules.keys()].toSorted((a, b) => byName(modules[a].path, modules[b].path)).forEach((m, place) => (places[m] = place));
  return places;
}

// Whether a module is the one of that index in a list: the query of a head has no place of its own beside the key.
/** @param {number | null} at */
function isNumberedModule(at) {
  return at !== null && /\.\d+$/.test(modules[at].path);
}

/**
 * Which boxes stand for the program's values, and the edges between them.
 * @returns {any} nodes, clusters and edges as in a picture of Python's, and which module is which
 */
function boxes() {
  const closed = closedAround();
  const moduleAt = [...Array(passes.count).keys()].map((i) => (moduleOf(i) < 0 ? -1 : closed[moduleOf(i)]));
  const members = new Map();
  moduleAt.forEach((m, i) => {
    const key = m < 0 ? i : -1 - m;
    if (members.has(key)) members.get(key).push(i);
    else members.set(key, [i]);
  });
  // A box stands where its last member does: after all that it uses.
  const keys = [...members.keys()].toSorted((a, b) => members.get(a).at(-1) - members.get(b).at(-1));
  const boxOf = new Int32Array(passes.count);
  keys.forEach((key, k) => members.get(key).forEach((/** @type {number} */ i) => (boxOf[i] = k)));
  const used = new Uint8Array(passes.count);
  used[passes.output] = 1;
  /** @type {[number, number, number, number[]][]} */
  const edges = [];
  const merged = new Map();
  const isGroup = (/** @type {number} */ k) => keys[k] < 0;
  keys.forEach((key, target) => {
    for (const i of members.get(key))
      passes.parents[i].forEach((parent, argument) => {
        const source = boxOf[parent];
        if (source === target) return;
        used[parent] = 1;
        const edge = passes.first[i] + argument;
        const pair = isGroup(source) || isGroup(target) ? source * keys.length + target : -1;
        if (pair >= 0 && merged.has(pair)) return merged.get(pair).push(edge);
        const stands = [edge];
        edges.push([source, target, argument, stands]);
        if (pair >= 0) merged.set(pair, stands);
      });
  });
  const places = siblingPlaces();
  const clusterOf = new Map();
  const clusters = [];
  const shown = new Set();
  const around = keys.map((key) => (key < 0 ? modules[-1 - key].parent : moduleOf(members.get(key)[0]))).map((m) => m ?? -1);
  for (let m of around) for (; m >= 0 && !shown.has(m); m = modules[m].parent ?? -1) shown.add(m);
  for (const m of [...shown].toSorted((a, b) => places[a] - places[b])) {
    clusterOf.set(m, clusters.length);
    clusters.push({ title: modules[m].title, parent: clusterOf.get(modules[m].parent) ?? null, sibling: places[m], module: m });
  }
  const nodes = keys.map((key, k) => {
    const values = members.get(key);
    const i = values[0];
    return {
      values,
      exits: values.length > 1 || key < 0 ? values.filter((/** @type {number} */ j) => used[j]) : values,
      kind: key < 0 ? "group" : !passes.isLeaf(i) ? "operation" : isConstant(i) ? "constant" : moduleOf(i) >= 0 ? "parameter" : "input",
      title: key < 0 ? modules[-1 - key].title : "",
      module: key < 0 ? -1 - key : null,
      cluster: clusterOf.get(around[k]) ?? null,
    };
  });
  return { nodes, clusters, edges };
}

const LABELLED = 300; // edges that each have room for their numbers; beyond, only the active ones show them
const ABREAST = 48; // the same of edges from box to box: those of two layers stand side by side

// The picture with some modules open, laid out in the page.
function pictureOf() {
  const { nodes, clusters, edges } = boxes();
  const abreast = edges.filter((/** @type {any} */ edge) => [edge[0], edge[1]].every((k) => nodes[k].kind === "group"));
  const labelled = edges.length <= LABELLED && abreast.length <= ABREAST;
  const isSingle = (/** @type {any} */ [source, target]) => nodes[source].kind !== "group" && nodes[target].kind !== "group";
  const places = siblingPlaces();
  // Into a box, which has no order of arguments of its own, siblings go by name.
  const rank = (/** @type {number} */ source) => (nodes[source].module === null ? -1 : places[nodes[source].module]);
  const laid = layered(
    nodes.map((/** @type {any} */ node) => ({ size: sizeOf(node), cluster: node.cluster, sibling: isNumberedModule(node.module) ? places[node.module] : null })),
    clusters,
    edges.map((/** @type {any} */ [source, target, argument, stands]) => [source, target, nodes[target].kind === "group" ? rank(source) : argument, stands.length]),
    { direction, rooms: edges.map((/** @type {any} */ edge) => (labelled && nodes[edge[0]].kind !== "constant" ? labelRoom(!isSingle(edge) && edge[3].length === 1) : null)) },
  );
  return { note: "", ...laid, labelled, nodes, clusters, edges };
}

const COMFORTABLE = 0.75; // the scale from which on a graph is not turned to be larger
const WORTH = 1.05; // how much larger it must be

// The same, and unless the user has said where it leads: downwards if it is small otherwise, and larger so.
function bestPicture() {
  direction = page.view.direction ?? "LR";
  const level = pictureOf();
  if (page.view.direction || scaleOf(level) >= COMFORTABLE) return level;
  direction = "TB";
  const upright = pictureOf();
  if (scaleOf(upright) >= WORTH * scaleOf(level)) return upright;
  direction = "LR";
  return level;
}

// The scale at which all of a picture is seen.
/** @param {any} given */
function scaleOf(given) {
  return fitTo(around([...given.at.map((/** @type {any} */ [x, y], /** @type {number} */ k) => boxAround([x, y], given.size[k])), ...given.frames.map((/** @type {any} */ frame) => frame.corners)]), MOST_SCALE)[2];
}
