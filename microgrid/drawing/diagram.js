// @ts-check
// The diagram of a network: a line for each weight, and for each neuron what it answers everywhere, or its bias.
"use strict";

/**
 * `weights[k][j]` and `biases[k][j]` are the positions of a neuron's first weight and its bias among the parameters.
 * @typedef {{ sizes: number[], shown: number[][], names: string[], weights: number[][], biases: number[][], others: number }} Network
 * @typedef {{ column: number, row: number, unit: number, node: number | null, box: HTMLElement, name: string, picture: HTMLElement | null }} Unit
 * @typedef {{ line: SVGElement, from: number[], to: number[], index: number }} Line
 */

const diagram = {
  /** @type {Network} */
  network: { sizes: [], shown: [], names: [], weights: [], biases: [], others: 0 },
  /** @type {Unit[]} */
  neurons: [],
  /** @type {Line[]} */
  lines: [],
  /** @type {SVGElement[]} */
  inputs: [],
  /** @type {(SVGElement | null)[][]} */
  texts: [],
  most: 1,
  widest: 1,
  isSparse: true,
};

/**
 * Draw a network anew, in which the largest weight that is ever shown is `most`.
 * @param {Network} network @param {number} most
 */
function layDiagram(network, most) {
  const room = byId("network");
  room.hidden = false;
  room.replaceChildren();
  const count = network.shown.slice(1).reduce((sum, units, k) => sum + units.length * network.shown[k].length, 0);
  Object.assign(diagram, { network, most, neurons: [], lines: [], isSparse: count <= 200, widest: 4.5 * Math.min(1, Math.sqrt(200 / count)) });
  byId("legend-more").textContent = diagramLegend();
  const svg = shape("svg", { role: "img", id: "weights", class: diagram.isSparse ? "sparse" : "" }, room);
  network.shown.forEach((units, column) => units.forEach((unit, row) => layNeuron(room, column, row, unit)));
  const first = diagram.neurons.find((neuron) => neuron.picture);
  if (first) first.box.tabIndex = 0;
  for (let column = 1; column < network.shown.length; column++)
    network.shown[column].forEach((unit, row) =>
      network.shown[column - 1].forEach((input, inputRow) => {
        const line = shape("path", { class: "weight" }, svg);
        const title = shape("title", {}, line);
        const entry = { line, from: [column - 1, inputRow], to: [column, row], index: network.weights[column - 1][row] + input };
        line.addEventListener("pointerenter", () => {
          title.textContent = `${network.names[column]} · Neuron ${unit}: weight ${input} = ${format(weightsNow()[entry.index])}`;
        });
        diagram.lines.push(entry);
      }),
    );
  diagram.inputs = plane.model ? network.shown[0].map((unit) => shape("text", { class: "layer" }, svg, inputName(unit))) : [];
  diagram.texts = network.sizes.map((size, column) => [
    shape("text", { class: "layer" }, svg, network.names[column]),
    shape("text", {}, svg, `${size.toLocaleString("en")} ${column ? "neuron" : "input"}${size > 1 ? "s" : ""}`),
    size > network.shown[column].length ? shape("text", {}, svg, `⋮ ${size - network.shown[column].length} more`) : null,
  ]);
}

function diagramLegend() {
  const { isSparse, most, network } = diagram;
  const more = [`line: weight, ${isSparse ? "dashed if negative, " : ""}wide if large (widest ${format(most)})`];
  if (!plane.model) more.push("circle: the neuron's bias");
  else if (plane.ground.inputs.length === 1) more.push("square: the neuron's answer over the input; point at one to see it large");
  else more.push("square: the neuron's answer all over the plane, hatched if negative; point at one to see it large");
  if (network.others) more.push(`${network.others.toLocaleString("en")} parameters are in no neuron`);
  return more.join(" · ");
}

/** @param {number} unit */
function inputName(unit) {
  return plane.ground.inputs.length === 1 ? "x" : `x${"₁₂"[unit]}`;
}

/** @param {HTMLElement} room @param {number} column @param {number} row @param {number} unit */
function layNeuron(room, column, row, unit) {
  const { inputs, neurons } = plane.ground;
  // The output of a single neuron, of inputs the input itself.
  const node = !plane.model ? null : column ? neurons[column - 1][row] : (inputs[row] ?? null);
  const isMapped = node !== null && node >= 0;
  const name = column ? `${diagram.network.names[column]} · Neuron ${unit}` : isMapped ? `input ${inputName(unit)}` : `input ${unit}`;
  const box = element(isMapped ? "button" : "div", { class: `neuron ${isMapped ? "mapped" : "round"}`, title: name, tabindex: isMapped ? "-1" : undefined, "aria-label": isMapped ? `${name}: show it large` : undefined });
  /** @type {any} */
  let picture = null;
  if (isMapped && inputs.length === 1) {
    picture = shape("svg", { viewBox: "0 0 48 48", "aria-hidden": "true" }, box);
    shape("path", { class: "zero" }, picture);
    shape("path", { class: "answer" }, picture);
  } else if (isMapped) box.append((picture = element("canvas", {})));
  else box.append(String(unit));
  room.append(box);
  const neuron = { column, row, unit, node, box, name, picture };
  diagram.neurons.push(neuron);
  if (isMapped) connectNeuron(neuron);
}

/** One tab stop for all neurons; up and down move between them. @param {Unit} neuron */
function connectNeuron(neuron) {
  const show = (/** @type {number} */ node) => {
    plane.chosen = node;
    diagram.neurons.forEach((other) => other.box.classList.toggle("shown", node !== null && other === neuron));
    byId("boundary-title").textContent = node === null ? boundaryTitle() : `What ${neuron.name} says`;
    paintPlane();
  };
  neuron.box.addEventListener("pointerenter", () => show(neuron.node));
  neuron.box.addEventListener("pointerleave", () => show(null));
  neuron.box.addEventListener("focus", () => show(neuron.node));
  neuron.box.addEventListener("blur", () => show(null));
  neuron.box.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") neuron.box.blur();
    if (!by) return;
    event.preventDefault();
    const mapped = diagram.neurons.filter((other) => other.picture);
    const next = mapped[Math.min(mapped.length - 1, Math.max(0, mapped.indexOf(neuron) + by))];
    neuron.box.tabIndex = -1;
    next.box.tabIndex = 0;
    next.box.focus();
  });
}

function boundaryTitle() {
  return `What the model says, ${plane.ground.inputs.length === 1 ? "over its input" : "all over the plane"}`;
}

function placeDiagram() {
  const { network } = diagram;
  if (!network.sizes.length) return;
  const room = byId("network");
  const rows = Math.max(...network.shown.map((units, k) => units.length + (network.sizes[k] > units.length ? 1 : 0)));
  room.style.height = matchMedia("(max-width: 720px)").matches ? `${Math.min(620, rows * 44 + 60)}px` : "";
  const [width, height] = [room.clientWidth, room.clientHeight];
  const columns = network.shown.length;
  const most = Math.min(96, Math.max(64, width / (3 * columns))); // on a projector there is more room
  const pitch = Math.min(most, (height - 50) / rows);
  const size = Math.max(8, Math.min(most * 0.72, pitch * 0.78));
  const margin = Math.max(44, size / 2 + 21); // where the inputs have their names
  const x = (/** @type {number} */ column) => margin + (column * (width - 2 * margin)) / (columns - 1);
  const middle = (height - 44) / 2;
  const y = (/** @type {number} */ column, /** @type {number} */ row) => {
    const units = network.shown[column].length;
    const gap = network.sizes[column] > units ? 1 : 0;
    return middle + (row + (gap && row >= units / 2 ? 1 : 0) - (units + gap - 1) / 2) * pitch;
  };
  for (const { box, column, row } of diagram.neurons)
    Object.assign(box.style, { width: `${size}px`, height: `${size}px`, left: `${x(column) - size / 2}px`, top: `${y(column, row) - size / 2}px` });
  for (const { line, from, to } of diagram.lines) {
    const [x1, y1, x2, y2] = [x(from[0]) + size / 2, y(from[0], from[1]), x(to[0]) - size / 2, y(to[0], to[1])];
    const half = (x1 + x2) / 2;
    line.setAttribute("d", `M${x1} ${y1}C${half} ${y1} ${half} ${y2} ${x2} ${y2}`);
  }
  const put = (/** @type {SVGElement | null} */ text, /** @type {number} */ across, /** @type {number} */ down) => (text?.setAttribute("x", String(across)), text?.setAttribute("y", String(down)));
  diagram.inputs.forEach((text, row) => put(text, x(0) - size / 2 - 12, y(0, row) + 4));
  diagram.texts.forEach(([name, count, gap], column) => {
    put(name, x(column), height - 22);
    put(count, x(column), height - 7);
    put(gap, x(column), middle + 4);
  });
}

/** @param {Numbers} weights */
function paintDiagram(weights) {
  const { network, most, widest } = diagram;
  for (const { line, index } of diagram.lines) {
    const weight = weights[index];
    line.setAttribute("class", `weight ${signAndLevel(weight, most)}`);
    line.setAttribute("stroke-width", (0.4 + (widest * Math.min(1, Math.abs(weight) / most) || 0)).toFixed(2));
  }
  for (const { picture, node, box, column, row, name } of diagram.neurons) {
    const bias = column ? weights[network.biases[column - 1][row]] : undefined;
    if (bias !== undefined) box.title = `${name}: bias ${format(bias)}`;
    if (picture) paintMapped(picture, node);
    else if (column) box.className = `neuron round ${signAndLevel(bias ?? 0, most)}`;
  }
  byId("weights").setAttribute("aria-label", `${network.sizes.map((size, k) => `${network.names[k]}: ${size}`).join(", ")}. The largest weight shown is ${format(largest(diagram.lines.map(({ index }) => weights[index])))}.`);
}
