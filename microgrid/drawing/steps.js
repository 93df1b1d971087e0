// @ts-check
// The graph that is played, and the steps of the play: the leaves, the forward pass, the output's own gradient, the
// backward pass. And what is known at each.
"use strict";

/**
 * A box of the picture: a single value, or a group that stands for several.
 * @typedef {object} GraphNode
 * @property {number} index
 * @property {number[]} values what it stands for, as numbers of the program
 * @property {number[]} exits those of them that others use
 * @property {"input" | "parameter" | "constant" | "operation" | "group"} kind
 * @property {string} title
 * @property {number | null} module whose box it is
 * @property {number | null} cluster the innermost frame around it
 * @property {Point} at
 * @property {Point} size
 * @property {number[]} box left, top, right and bottom
 * @property {GraphEdge[]} into
 * @property {GraphEdge[]} from
 * @property {Set<GraphNode>} operands
 * @property {boolean} single
 * @property {boolean} computes
 * @property {boolean} reached whether any gradient ever comes to it
 * @property {number} forwardStep
 * @property {number} backwardStep
 * @property {number} completeStep
 * @property {SVGElement} element
 * @property {SVGElement} [tint]
 * @property {SVGElement} [labelText]
 * @property {number} [labelRoom] how wide its label may be
 * @property {SVGElement} [dataText]
 * @property {SVGElement} [gradientText]
 * @property {SVGElement} [faultText]
 * @property {SVGElement} [markText]
 * @property {boolean} [markIsShown]
 * @property {boolean} [away]
 *
 * @typedef {object} GraphEdge
 * @property {number} index
 * @property {number} source
 * @property {number} target
 * @property {number} argument
 * @property {number[]} stands the edges of the program that it stands for
 * @property {number} program the one between two single values, or −1
 * @property {number} [flows] how many of them carry a gradient back
 * @property {number} [flow] what flows back: a number, or the norm of several
 * @property {Point[]} path the start, then three control points for each Bézier piece
 * @property {Point | null} label
 * @property {number[]} box left, top, right and bottom
 * @property {SVGElement} element
 * @property {Drawn | null} labelElement
 * @property {SVGElement} [derivativeText]
 * @property {SVGElement} [flowText]
 *
 * @typedef { { element: SVGElement } } Drawn
 * @typedef {[number, number]} Point
 * @typedef { { phase: "leaves" | "forward" | "seed" | "backward", node: any } } Step
 */

/** @type {any} what Python made of the graph (see program.py) */
let program;
/** @type {Passes} */
let passes;
/** @type {any} where its boxes and edges stand (see layout.py) */
let picture;
/** @type {GraphNode[]} */
let nodes = [];
/** @type {GraphEdge[]} */
let edges = [];
/** @type {Int32Array} for each value the node that shows it, or −1 */
let nodeOf;
/** @type {GraphNode} */
let outputNode;
/** @type {GraphNode[]} the nodes that compute, in the order of the forward pass */
let order = [];
/** @type {Step[]} */
let steps = [];
let seedStep = 0;
let lastStep = 0;
/** @type {GraphNode | null} */
let selected = null;

const LARGE = 300; // nodes; with more, what is out of sight is taken out of the document, and the view jumps
let isLarge = false;

/**
 * @param {any} given
 * @param {Function[]} functions
 */
function setProgram(given, functions) {
  program = given;
  setModules(given);
  passes = new Passes(program, functions);
}

/** @param {any} given a picture of the program */
function setPicture(given) {
  picture = given;
  selected = null;
  nodes = picture.nodes.map((/** @type {any} */ node, /** @type {number} */ index) => ({
    ...node,
    index,
    at: picture.at[index],
    size: picture.size[index],
    box: boxAround(picture.at[index], picture.size[index]),
    into: [],
    from: [],
    single: node.kind !== "group",
    computes: node.values.some((/** @type {number} */ i) => !passes.isLeaf(i)),
  }));
  nodeOf = new Int32Array(passes.count).fill(-1);
  for (const node of nodes) for (const i of node.values) nodeOf[i] = node.index;
  outputNode = nodes[nodeOf[passes.output]];
  isLarge = nodes.length > LARGE;
  edges = picture.edges.map((/** @type {any} */ [source, target, argument, stands], /** @type {number} */ index) => {
    const single = nodes[source].single && nodes[target].single;
    const path = picture.routes[index];
    /** @type {GraphEdge} */
    const edge = {
      index, source, target, argument, stands, path,
      label: picture.labels[index],
      element: null,
      labelElement: null,
      program: single ? stands[0] : -1,
      box: around(path.map((/** @type {any} */ [x, y]) => [x, y, x, y])),
    };
    nodes[target].into.push(edge);
    nodes[source].from.push(edge);
    return edge;
  });
  for (const node of nodes) node.operands = new Set(node.into.map((edge) => nodes[edge.source]));
  setSteps();
}

function setSteps() {
  order = nodes.filter((node) => node.computes);
  steps = [
    { phase: "leaves", node: null },
    ...order.map((node) => /** @type {Step} */ ({ phase: "forward", node })),
    { phase: "seed", node: outputNode },
    ...order.toReversed().map((node) => /** @type {Step} */ ({ phase: "backward", node })),
  ];
  seedStep = order.length + 1;
  lastStep = steps.length - 1;
  order.forEach((node, i) => {
    node.forwardStep = i + 1;
    node.backwardStep = lastStep - i;
  });
  for (const node of nodes) {
    // A gradient is complete when every consumer has sent its part.
    const senders = node.values.flatMap((i) => passes.received[i].map((/** @type {number} */ edge) => nodes[nodeOf[passes.child[edge]]]));
    const outside = senders.filter((sender) => sender !== node);
    node.completeStep = Math.max(node === outputNode ? seedStep : 0, ...outside.map((sender) => sender.backwardStep));
    node.reached = node.completeStep > 0;
  }
}

/** @param {Point} middle @param {Point} size */
function boxAround(middle, size) {
  return [0, 1, 2, 3].map((k) => middle[k % 2] + (k < 2 ? -0.5 : 0.5) * size[k % 2]);
}

// The smallest box around some boxes.
/** @param {number[][]} boxes */
function around(boxes) {
  const all = [Infinity, Infinity, -Infinity, -Infinity];
  for (const box of boxes) box.forEach((x, k) => (all[k] = k < 2 ? Math.min(all[k], x) : Math.max(all[k], x)));
  return all;
}

/** @param {GraphNode} node */
function dataShown(node) {
  return !node.computes || node.forwardStep <= now;
}

// The gradient of a single value as it stands after the current step; null before anything came.
/** @param {GraphNode} node */
function gradientNow(node) {
  const i = node.values[0];
  let gradient = node === outputNode && now >= seedStep ? 1 : null;
  for (const edge of passes.received[i]) {
    if (nodes[nodeOf[passes.child[edge]]].backwardStep > now) break;
    gradient = passes.sumBefore[edge] + passes.flow[edge];
  }
  return gradient !== null && Math.abs(gradient) <= passes.gradientError[i] && Math.abs(gradient) < 1e-12 ? 0 : gradient;
}

/** @param {number} edge an edge of the program */
function arrived(edge) {
  return nodes[nodeOf[passes.child[edge]]].backwardStep <= now;
}
