// @ts-check
// The graph of one sample: every node of it with its number and the gradient of the sample's loss. A neuron is open,
// with its weights and products, or closed; what flows through a closed one is drawn from its inputs to its sum.
"use strict";

const CARD = { width: 60, height: 44, across: 72, down: 48, gap: 0.55 };

/**
 * An edge is drawn from a node to the node that its product, or it itself, flows into; what flows goes by argument
 * `argument` of `through`.
 * @typedef {{ from: number, to: number, through: number, argument: number, line: SVGElement }} Flow
 * @typedef {{ x: number, y: number, kind: string }} Place
 * @typedef {{ node: number, kind: string, group: SVGElement, data: SVGElement, gradient: SVGElement }} Card
 */

const sample = {
  index: 0,
  isOpen: false,
  chosen: -1,
  /** @type {Set<string>} the names of open neurons */
  open: new Set(["Layer 0 · Neuron 0"]),
  /** @type {ReturnType<typeof networkGraph>} */
  network: null,
  /** @type {Batch} */
  batch: null,
  /** @type {Card[]} */
  cards: [],
  /** @type {Flow[]} */
  flows: [],
  /** @type {Learner} */
  learner: null,
};

// ---------------------------------------------------------------------------------------------------
// Where things stand

/** Layers from left to right, in each the neurons from top to bottom, in each its nodes by their depth. @param {ReturnType<typeof networkGraph>} given */
function placesOf({ graph, inputs, neurons, tail, target }) {
  /** @type {Map<number, Place>} */
  const places = new Map();
  /** @type {any[]} */
  const frames = [];
  const rowsOf = (/** @type {any} */ { name, weights }) => (sample.open.has(name) ? weights.length : 1);
  const heights = neurons.map((layer) => layer.reduce((sum, neuron) => sum + rowsOf(neuron) + CARD.gap, 0));
  const height = Math.max(inputs.length, ...heights);
  inputs.forEach((node, i) => places.set(node, { x: 0, y: (height - inputs.length) / 2 + i, kind: "input" }));
  let left = 1.15;
  neurons.forEach((layer, k) => {
    const isOpen = layer.some(({ name }) => sample.open.has(name));
    let top = (height - heights[k]) / 2 + CARD.gap / 2;
    let right = left;
    for (const neuron of layer) {
      const { own, weights, name } = neuron;
      const depth = new Map();
      const row = new Map();
      for (const node of own) {
        const within = graph.parents[node].filter((parent) => depth.has(parent));
        depth.set(node, within.length ? 1 + Math.max(...within.map((parent) => depth.get(parent))) : 0);
        row.set(node, within.length ? within.reduce((sum, parent) => sum + row.get(parent), 0) / within.length : weights.indexOf(node));
      }
      // Of a closed neuron the sum of its products stays, and what follows; sums of one layer stand below each other.
      const shown = sample.open.has(name) ? own : own.filter((node) => depth.get(node) > 1);
      for (const node of shown) {
        const x = left + depth.get(node) - (isOpen ? 0 : 2);
        places.set(node, { x, y: top + (sample.open.has(name) ? row.get(node) : 0), kind: weights.includes(node) ? "parameter" : "operation" });
        right = Math.max(right, x);
      }
      frames.push({ name, x: Math.min(...shown.map((node) => places.get(node).x)), y: top, right: places.get(neuron.answer).x, rows: rowsOf(neuron) });
      top += rowsOf(neuron) + CARD.gap;
    }
    left = right + 1.3;
  });
  const { y } = places.get(neurons[neurons.length - 1][0].answer);
  for (const node of tail) {
    if (!graph.parents[node].length) continue;
    const leaves = graph.parents[node].filter((parent) => tail.includes(parent) && !graph.parents[parent].length);
    leaves.forEach((leaf, i) => places.set(leaf, { x: left - 0.5, y: y + 1.2 + i, kind: leaf === target ? "input" : "constant" }));
    places.set(node, { x: left, y, kind: "operation" });
    left += 1;
  }
  return { places, frames, width: left, height };
}

/** What flows into a node, by way of hidden nodes too. @param {Map<number, Place>} places @param {number} node @returns {any[]} */
function flowsInto(places, node, into = node) {
  const { parents } = sample.network.graph;
  return parents[node].flatMap((parent, argument) => (places.has(parent) ? [{ from: parent, to: into, through: node, argument }] : flowsInto(places, parent, into)));
}

function laySample() {
  const { learner, index, network: before } = sample;
  sample.network = learner.networks[learner.networks.length === 1 ? 0 : learner.targets[index]];
  sample.batch = batchOf(sample.network, 1);
  const { places, frames, width, height } = placesOf(sample.network);
  // Up to the score all graphs of a network are alike; losses of two classes are not.
  if (!places.has(sample.chosen) || (sample.network !== before && sample.chosen > sample.network.score)) sample.chosen = sample.network.output;
  const room = byId("sample-graph");
  const size = [width * CARD.across, (height + 0.3) * CARD.down];
  const scale = Math.min(1.6, Math.max(0.96, Math.min((room.clientWidth - 12) / (size[0] + 12), (room.clientHeight - 6) / size[1])));
  const label = "The graph of the sample: arrow keys move from node to node";
  const svg = shape("svg", { viewBox: `-8 -8 ${size[0] + 12} ${size[1]}`, width: (size[0] + 12) * scale, height: size[1] * scale, role: "group", "aria-label": label }, document.createDocumentFragment());
  for (const frame of frames) layFrame(svg, frame);
  sample.flows = [...places.keys()].flatMap((node) => flowsInto(places, node)).map((flow) => {
    const [from, to] = [places.get(flow.from), places.get(flow.to)];
    const [x1, y1] = [from.x * CARD.across + CARD.width, from.y * CARD.down + CARD.height / 2];
    const [x2, y2] = [to.x * CARD.across, to.y * CARD.down + CARD.height / 2];
    const bend = Math.max(10, (x2 - x1) / 2);
    return { ...flow, line: shape("path", { class: "weight", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }, svg) };
  });
  sample.cards = [...places.keys()].sort((a, b) => a - b).map((node) => layCard(svg, node, places.get(node)));
  svg.addEventListener("keydown", moveChoice);
  room.replaceChildren(svg);
}

/** @param {SVGElement} svg @param {any} given */
function layFrame(svg, { name, x, y, right, rows }) {
  const isOpen = sample.open.has(name);
  const [left, width] = [x * CARD.across - 6, (right - x) * CARD.across + CARD.width + 12];
  shape("rect", { class: "frame", x: left, y: y * CARD.down - 6, width, height: (rows - 1) * CARD.down + CARD.height + 12, rx: 8 }, svg);
  const words = `${isOpen ? "Close" : "Open"} ${name}`;
  const button = shape("g", { class: "opener", role: "button", tabindex: 0, "aria-expanded": isOpen, "aria-label": words, transform: `translate(${left + 1} ${y * CARD.down - 7})` }, svg);
  shape("title", {}, button, words);
  shape("circle", { r: 8 }, button);
  shape("text", { y: 4 }, button, isOpen ? MINUS : "+");
  const toggle = () => {
    if (isOpen) sample.open.delete(name);
    else sample.open.add(name);
    laySample();
    paintSample();
    byId("sample-graph").querySelector(`[aria-label="${isOpen ? "Open" : "Close"} ${name}"]`).focus();
  };
  button.addEventListener("click", toggle);
  button.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    toggle();
  });
}

/** @returns {Card} @param {SVGElement} svg @param {number} node @param {any} given */
function layCard(svg, node, { x, y, kind }) {
  const group = shape("g", { role: "button", transform: `translate(${x * CARD.across} ${y * CARD.down})` }, svg);
  shape("rect", { width: CARD.width, height: CARD.height, rx: 6 }, group);
  const write = (/** @type {string} */ kindOfText, /** @type {number} */ y, text = "") => {
    group.append(" "); // between words that are read aloud
    return shape("text", { class: kindOfText, x: CARD.width / 2, y }, group, text);
  };
  write("name", 12.5, nameOfNode(node));
  const [data, gradient] = [write("data", 26), write("gradient", 39)];
  group.addEventListener("click", () => chooseNode(node));
  group.addEventListener("focus", () => chooseNode(node));
  return { node, kind, group, data, gradient };
}

/** @param {number} node */
function chooseNode(node) {
  if (node === sample.chosen) return;
  sample.chosen = node;
  paintSample();
}

/** @param {KeyboardEvent} event */
function moveChoice(event) {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  event.stopPropagation();
  const place = sample.cards.findIndex(({ node }) => node === sample.chosen);
  sample.cards[Math.min(sample.cards.length - 1, Math.max(0, place + by))].group.focus();
}

// ---------------------------------------------------------------------------------------------------
// Numbers and words

/** Compute both passes for the sample; the gradients are those of its own loss. */
function computeSample() {
  const { batch, network, learner } = sample;
  batch.setParameters(learner.theta);
  batch.forward(learner.gather([sample.index]), 0, 1);
  batch.backward(network.output, 1, network.graph.op.map(() => true), 1);
}

const dataOf = (/** @type {number} */ node) => sample.batch.values[node][0];
const gradientOf = (/** @type {number} */ node) => sample.batch.gradients[node][0];

/** The local derivative of a node by one of its arguments. @param {number} node @param {number} argument */
function localOf(node, argument) {
  const local = sample.batch.locals(node, 1)[argument];
  return local === null ? 0 : typeof local === "number" ? local : local[0];
}

/** As many digits as a card has room for; the words below have more. @param {number} x */
function short(x) {
  const digits = Math.abs(x) < 0.1 || Math.abs(x) >= 1000 ? 2 : 3;
  const text = format(Number(x.toPrecision(digits)));
  return text.length > 7 ? x.toExponential(1).replace(/-/g, MINUS) : text;
}

/** @param {number} node */
function nameOfNode(node) {
  const { graph, score, output } = sample.network;
  if (node === output) return "loss";
  if (node === score) return "score";
  return graph.labels[node] || (graph.parents[node].length ? graph.rows[graph.op[node]].symbol : "const");
}

/** @param {number} node */
function placeInWords(node) {
  const neuron = sample.network.neurons.flat().find(({ own }) => own.includes(node));
  return neuron ? `${nameOfNode(node)} of ${neuron.name}` : nameOfNode(node);
}

/** A formula of Python's making with numbers in it. @param {string} formula @param {number} node */
function withNumbers(formula, node) {
  const { parents } = sample.network.graph;
  const numbers = formula.replace(/\{(\w+)\}/g, (_, place) => {
    const x = dataOf(place === "y" ? node : parents[node][Number(place)]);
    return x < 0 ? `(${format(x)})` : format(x);
  });
  return numbers.replace(/\((\([^()]*\))\)/g, "$1"); // tanh(−1), not tanh((−1))
}

/** What a node is, and where its gradient comes from. @param {number} node */
function nodeInWords(node) {
  const { graph, output } = sample.network;
  const row = graph.rows[graph.op[node]];
  const made = graph.parents[node].length ? `${withNumbers(row.formula, node)} = ` : "";
  const whole = `${placeInWords(node)} = ${made}${format(dataOf(node))}. `;
  if (node === output) return `${whole}Its gradient is 1: here the backward pass begins.`;
  const terms = graph.parents.flatMap((parents, to) =>
    parents.flatMap((parent, argument) => (parent === node ? [`${format(gradientOf(to))} × ${format(localOf(to, argument))}`] : [])),
  );
  return `${whole}∂loss/∂${nameOfNode(node)} = ${terms.join(" + ")} = ${format(gradientOf(node))}: of ${terms.length > 1 ? "each node" : "the node"} that it goes into, the gradient × the local derivative.`;
}

function paintSample() {
  if (!sample.isOpen) return;
  computeSample();
  const { network, learner, index, chosen } = sample;
  const most = largest(sample.cards.filter(({ node }) => node !== network.output).map(({ node }) => gradientOf(node))) || 1;
  for (const { node, kind, group, data, gradient } of sample.cards) {
    data.textContent = short(dataOf(node));
    gradient.textContent = `∂ ${short(gradientOf(node))}`;
    group.setAttribute("class", `card ${kind} ${signAndLevel(gradientOf(node), most)} ${node === chosen ? "chosen" : ""}`);
    group.setAttribute("tabindex", node === chosen ? "0" : "-1");
    group.setAttribute("aria-label", `${nameOfNode(node)} ${data.textContent} ${gradient.textContent}: ${placeInWords(node)}`);
  }
  for (const { line, from, to, through, argument } of sample.flows) {
    const flow = localOf(through, argument) * gradientOf(through);
    line.setAttribute("class", `weight ${signAndLevel(flow, most)}`);
    line.setAttribute("stroke-width", (0.7 + 3 * Math.min(1, Math.abs(flow) / most || 0)).toFixed(2));
    line.style.opacity = from === chosen || to === chosen ? "1" : "0.55";
  }
  const point = learner.points[index].map((x) => format(Number(x.toPrecision(4)))).join(", ");
  const target = learner.targets[index];
  const verdict = learner.isCurve ? "" : dataOf(network.score) > 0 === target > 0 ? ", which is right" : ", which is wrong";
  byId("sample-title").textContent = `${index < settings.train ? "Training" : "Test"} sample ${index}: its numbers and gradients`;
  byId("sample-words").textContent = `x = ${learner.isCurve ? point : `(${point})`}, target ${format(Number(target.toPrecision(4)))}. The network says ${format(dataOf(network.score))}${verdict}; the loss is ${format(dataOf(network.output))}. Edges are wide where much flows back. A minibatch takes the mean of such gradients.`;
  byId("node-words").textContent = nodeInWords(chosen);
}
