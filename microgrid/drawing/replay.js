// @ts-check
// The page that plays a training back. Python recorded the parameters of some moments, and measures of more;
// the model's answers all over the plane are computed here, by the graph of one sample (see program.py).
"use strict";

const { unit, at, moments, measures, network, images, groups, boundary } = page;
const parameterCount = groups.reduce((sum, [, runs]) => sum + runs.reduce((s, [, length]) => s + length, 0), 0);
const numbers = decode(page.numbers);
const lastFrame = at.length - 1;

function decode(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

function parametersAt(frame) {
  return numbers.subarray(frame * parameterCount, (frame + 1) * parameterCount);
}

function largest(list) {
  let most = 0;
  for (const x of list) if (Math.abs(x) > most && Math.abs(x) < Infinity) most = Math.abs(x);
  return most;
}

// The rule of all pictures: the sign's colour, in four strengths.
function signAndLevel(x, most) {
  const size = Math.abs(x);
  if (size === 0) return "";
  const level = !(size < most * 0.5) ? 4 : size >= most * 0.1 ? 3 : size >= most * 0.01 ? 2 : 1;
  return `${x < 0 ? "negative" : "positive"}-${level}`;
}

// ---------------------------------------------------------------------------------------------------
// The model, computed for many points at once

const BLOCK = 128;

class Model {
  constructor({ program, inputs, parameters }) {
    this.op = program.op;
    this.parents = program.parents;
    this.inputs = inputs;
    this.parameters = parameters;
    this.values = this.op.map(() => new Float64Array(BLOCK));
    const varies = new Array(this.op.length).fill(false);
    inputs.forEach((i) => i >= 0 && (varies[i] = true));
    this.parents.forEach((list, i) => list.some((parent) => varies[parent]) && (varies[i] = true));
    const computed = this.parents.map((list, i) => i).filter((i) => this.parents[i].length);
    this.varying = computed.filter((i) => varies[i]);
    this.fixed = computed.filter((i) => !varies[i]);
    for (const [i, x] of Object.entries(program.data)) this.values[i].fill(Number(x));
  }

  // What the nodes `wanted` are at the points (xs, ys): one array for each.
  run(weights, xs, ys, wanted) {
    const { values, inputs } = this;
    this.parameters.forEach((i, k) => i >= 0 && values[i].fill(weights[k]));
    for (const i of this.fixed) this.compute(i, BLOCK);
    const results = wanted.map(() => new Float64Array(xs.length));
    for (let start = 0; start < xs.length; start += BLOCK) {
      const length = Math.min(BLOCK, xs.length - start);
      [xs, ys].forEach((given, k) => inputs[k] >= 0 && values[inputs[k]].set(given.subarray(start, start + length)));
      for (const i of this.varying) this.compute(i, length);
      wanted.forEach((i, k) => results[k].set(values[i].subarray(0, length), start));
    }
    return results;
  }

  compute(i, length) {
    const f = operations[this.op[i]];
    const out = this.values[i];
    const given = this.parents[i].map((parent) => this.values[parent]);
    const [a, b] = given;
    if (given.length === 1) for (let k = 0; k < length; k++) out[k] = f(a[k]);
    else if (given.length === 2) for (let k = 0; k < length; k++) out[k] = f(a[k], b[k]);
    else {
      const xs = new Array(given.length);
      for (let k = 0; k < length; k++) {
        for (let j = 0; j < given.length; j++) xs[j] = given[j][k];
        out[k] = f.apply(null, xs);
      }
    }
  }
}

// Why the plane cannot be shown; empty if the page's numbers are Python's.
function problemOf(model) {
  const { tried, answers, outputs } = boundary;
  try {
    const [xs, ys] = [0, 1].map((k) => Float64Array.from(tried, (point) => point[k]));
    const found = model.run(parametersAt(lastFrame), xs, ys, outputs);
    const scale = 1 + largest(answers.flat().map(Number));
    const isSame = (x, y) => Object.is(x, y) || x === y || Math.abs(x - y) <= 1e-3 * scale;
    const wrong = answers.findIndex((answer, i) => answer.length !== found.length || !answer.every((y, k) => isSame(Number(y), found[k][i])));
    if (wrong < 0) return "";
    return `at (${tried[wrong].map(format).join(", ")}) the page finds ${found.map((f) => format(f[wrong])).join(", ")} where Python finds ${answers[wrong].map((y) => format(Number(y))).join(", ")}: the model computes otherwise for other points, or an operation's JavaScript is not right`;
  } catch (error) {
    return `an operation's JavaScript fails: ${error.message}`;
  }
}

// ---------------------------------------------------------------------------------------------------
// Colours

let colors = {};

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => [1, 3, 5].map((k) => parseInt(style.getPropertyValue(name).trim().slice(k, k + 2), 16));
  colors = { paper: rgb("--paper"), ink: rgb("--ink"), negative: rgb("--negative-4"), positive: rgb("--positive-4") };
  colors.classes = Array.from({ length: 10 }, (_, i) => rgb(`--class-${i}`));
  mixShades();
}

function mix(color, share) {
  return color.map((c, k) => Math.round(colors.paper[k] + share * (c - colors.paper[k])));
}

// Colours are one number each, as the pixels of a canvas have them.
const SHADES = 512;
const shades = new Uint32Array(SHADES + 1);

function pixelOf(rgb) {
  return new Uint32Array(Uint8Array.of(...rgb, 255).buffer)[0];
}

function mixShades() {
  for (let i = 0; i <= SHADES; i++) {
    const x = (2 * i) / SHADES - 1;
    shades[i] = pixelOf(mix(x < 0 ? colors.negative : colors.positive, Math.abs(x)));
  }
  colors.unknown = pixelOf([128, 128, 128]);
}

// From the colour of −1 over paper to that of 1.
function shade(x) {
  return x === x ? shades[Math.round((SHADES / 2) * (1 + Math.min(1, Math.max(-1, x))))] : colors.unknown;
}

function paint(canvas, width, height, pixels) {
  if (canvas.width !== width) Object.assign(canvas, { width, height });
  const image = new ImageData(new Uint8ClampedArray(pixels.buffer), width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// ---------------------------------------------------------------------------------------------------
// The plane

const plane = { model: null, side: 0, chosen: null, fields: new Map() };
const FIELD = 320; // pixels of the picture, each way
const SHAPES = [
  [0, 0], // a circle
  [4, Math.PI / 4],
  [3, -Math.PI / 2],
  [4, 0],
  [5, -Math.PI / 2],
  [3, Math.PI / 2],
  [6, 0],
]; // classes differ in shape too: so many corners, turned so far

function buildPlane() {
  byId("boundary").hidden = false;
  let { problem } = boundary;
  if (!problem) {
    plane.model = new Model(boundary);
    problem = problemOf(plane.model);
  }
  if (problem) {
    plane.model = null;
    byId("plane").hidden = true;
    byId("verdict").textContent = `The decision boundary cannot be shown: ${problem}.`;
    return;
  }
  // As many places as are computed in about 30 ms.
  plane.side = Math.max(16, Math.min(48, Math.floor(Math.sqrt(2.5e6 / plane.model.varying.length))));
  const [[left, right], [low, high]] = boundary.range;
  const tick = (from, to, k) => from + ((to - from) * k) / (plane.side - 1);
  plane.xs = new Float64Array(plane.side ** 2).map((_, i) => tick(left, right, i % plane.side));
  plane.ys = new Float64Array(plane.side ** 2).map((_, i) => tick(high, low, Math.floor(i / plane.side)));
  plane.mapped = [...new Set([...boundary.outputs, ...boundary.inputs, ...boundary.neurons.flat()])].filter((i) => i !== null && i >= 0);

  const { points, targets } = boundary;
  plane.pointXs = Float64Array.from(points, (point) => point[0]);
  plane.pointYs = Float64Array.from(points, (point) => point[1]);
  const kinds = [...new Set(targets ?? [])].sort((a, b) => a - b);
  const single = boundary.outputs.length === 1;
  plane.isRegression = single && kinds.length > 2;
  plane.scale = plane.isRegression ? largest(targets) : 1;
  // A single output decides by its sign, several by the largest.
  plane.classOf = (target) => (single ? Number(target > 0) : target);
  plane.marks = points.map(([x, y], i) => {
    const center = [(FIELD * (x - left)) / (right - left), (FIELD * (high - y)) / (high - low)];
    const kind = targets && !plane.isRegression ? plane.classOf(targets[i]) : 0;
    const [corners, turn] = SHAPES[kind % SHAPES.length];
    const round = { class: "point", cx: center[0], cy: center[1], r: 4.2 };
    if (!corners) return shape("circle", round, byId("points"));
    const corner = (k) => center.map((c, axis) => c + 5.4 * [Math.cos, Math.sin][axis](turn + (2 * Math.PI * k) / corners));
    return shape("polygon", { class: "point", points: Array.from({ length: corners }, (_, k) => corner(k).join(",")).join(" ") }, byId("points"));
  });
  const range = (from, to) => `${format(Number(from.toPrecision(2)))} to ${format(Number(to.toPrecision(2)))}`;
  byId("ranges").replaceChildren(element("span", {}, `x₁ → ${range(left, right)}`), element("span", {}, `x₂ ↑ ${range(low, high)}`));
}

function colorPoints() {
  plane.marks.forEach((mark, i) => {
    const { targets } = boundary;
    const index = targets ? plane.classOf(targets[i]) % 10 : 8;
    const x = targets ? targets[i] / plane.scale : 0;
    const color = plane.isRegression ? mix(x < 0 ? colors.negative : colors.positive, Math.abs(x)) : colors.classes[index];
    mark.setAttribute("fill", `rgb(${color})`);
    mark.classList.toggle("wrong", plane.isRegression);
  });
}

function winner(outputs, i) {
  let best = 0;
  for (let k = 1; k < outputs.length; k++) if (!(outputs[k][i] <= outputs[best][i])) best = k;
  return best;
}

function runnerUp(outputs, i, first) {
  let best = first === 0 ? 1 : 0;
  for (let k = 0; k < outputs.length; k++) if (k !== first && outputs[k][i] > outputs[best][i]) best = k;
  return best;
}

// Fill in between the computed places, bilinearly.
function refine(field) {
  const { side } = plane;
  const fine = new Float32Array(FIELD * FIELD);
  const places = Array.from({ length: FIELD }, (_, k) => Math.min(side - 1.000001, ((k + 0.5) / FIELD) * (side - 1)));
  for (let row = 0; row < FIELD; row++) {
    const [above, v] = [Math.floor(places[row]) * side, places[row] % 1];
    for (let column = 0; column < FIELD; column++) {
      const i = above + Math.floor(places[column]);
      const u = places[column] % 1;
      fine[row * FIELD + column] = (field[i] * (1 - u) + field[i + 1] * u) * (1 - v) + (field[i + side] * (1 - u) + field[i + side + 1] * u) * v;
    }
  }
  return fine;
}

function computePlane() {
  const results = plane.model.run(parametersAt(now), plane.xs, plane.ys, plane.mapped);
  plane.fields = new Map(plane.mapped.map((node, k) => [node, results[k]]));
}

function paintPlane() {
  const chosen = plane.chosen === null ? boundary.outputs : [plane.chosen];
  const fine = chosen.map((node) => refine(plane.fields.get(node)));
  const pixels = new Uint32Array(FIELD * FIELD);
  if (fine.length === 1) fine[0].forEach((x, i) => (pixels[i] = shade(Math.tanh(x / plane.scale))));
  else {
    const soft = colors.classes.map((color) => pixelOf(mix(color, 0.28)));
    for (let i = 0; i < pixels.length; i++) pixels[i] = soft[winner(fine, i) % 10];
  }
  if (fine.length > 1 || !plane.isRegression) drawEdge(fine, pixels);
  paint(byId("field"), FIELD, FIELD, pixels);
}

// A line where the answer changes: how far a pixel is from it is the margin over the margin's slope.
function drawEdge(fine, pixels) {
  const bytes = new Uint8ClampedArray(pixels.buffer);
  for (let i = 0; i < pixels.length; i++) {
    const first = winner(fine, i);
    const second = fine.length > 1 ? runnerUp(fine, i, first) : -1;
    const margin = (k) => fine[first][k] - (second < 0 ? 0 : fine[second][k]);
    const here = margin(i);
    const right = i % FIELD < FIELD - 1 ? i + 1 : i - 1;
    const below = i < pixels.length - FIELD ? i + FIELD : i - FIELD;
    const share = 1.6 - Math.abs(here) / Math.hypot(margin(right) - here, margin(below) - here);
    if (share > 0) for (let k = 0; k < 3; k++) bytes[4 * i + k] += Math.min(1, share) * (colors.ink[k] - bytes[4 * i + k]);
  }
}

function judge() {
  const { points, targets, outputs, total } = boundary;
  let words = targets ? "" : `${points.length} points`;
  if (targets) {
    const answers = plane.model.run(parametersAt(now), plane.pointXs, plane.pointYs, outputs);
    if (plane.isRegression) {
      const squares = targets.map((target, i) => (answers[0][i] - target) ** 2);
      words = `Off by ${format(Math.sqrt(squares.reduce((a, b) => a + b) / squares.length))} in the root mean square. Points have the colour of their targets.`;
    } else {
      const right = targets.map((target, i) => (outputs.length === 1 ? Number(answers[0][i] > 0) : winner(answers, i)) === plane.classOf(target));
      right.forEach((isRight, i) => plane.marks[i].classList.toggle("wrong", !isRight));
      const count = right.filter(Boolean).length;
      words = `${count} of ${points.length} points right${count < points.length ? "; the others are ringed" : ""}.`;
    }
  }
  if (total > points.length) words += ` ${points.length} of ${total.toLocaleString("en")} points are shown.`;
  byId("verdict").textContent = words;
  byId("plane").setAttribute("aria-label", `The plane of the two inputs, coloured by the model's answer. ${words}`);
}

// ---------------------------------------------------------------------------------------------------
// The network

const diagram = { neurons: [], lines: [], most: 0 };

function buildNetwork() {
  byId("network").hidden = false;
  byId("model-title").textContent = "Neurons and weights";
  const count = network.shown.slice(1).reduce((sum, units, k) => sum + units.length * network.shown[k].length, 0);
  diagram.isSparse = count <= 200;
  diagram.widest = 4.5 * Math.min(1, Math.sqrt(200 / count));
  const all = [];
  for (let frame = 0; frame <= lastFrame; frame++) {
    const weights = parametersAt(frame);
    network.weights.forEach((firsts, k) => firsts.forEach((first) => all.push(largest(weights.subarray(first, first + network.sizes[k])))));
  }
  diagram.most = largest(all) || 1;
  const more = [`line: weight, ${diagram.isSparse ? "dashed if negative, " : ""}wide if large (widest ${format(diagram.most)})`];
  if (plane.model) more.push("square: the neuron's answer all over the plane; point at one to see it large");
  if (network.others) more.push(`${network.others.toLocaleString("en")} parameters are in no neuron`);
  byId("legend-more").textContent = more.join(" · ");
  diagram.svg = shape("svg", { role: "img", class: diagram.isSparse ? "sparse" : "" }, byId("network"));
  network.shown.forEach((units, column) =>
    units.forEach((unit, row) => {
      // The output of a single neuron, of inputs the input itself.
      const node = !plane.model ? null : column ? boundary.neurons[column - 1][row] : boundary.inputs[row] ?? null;
      const isMapped = node !== null && node >= 0;
      const name = column ? `${network.names[column]}, neuron ${unit}` : isMapped ? `input x${"₁₂"[unit]}` : `input ${unit}`;
      const box = element(isMapped ? "button" : "div", { class: `neuron ${isMapped ? "mapped" : "round"}`, title: name, tabindex: isMapped ? "-1" : undefined, "aria-label": isMapped ? `${name}: show it on the plane` : undefined });
      const neuron = { column, row, unit, node, box, name, canvas: isMapped ? element("canvas", {}) : null };
      box.append(neuron.canvas ?? String(unit));
      byId("network").append(box);
      diagram.neurons.push(neuron);
      if (isMapped) connectNeuron(neuron);
    }),
  );
  const first = diagram.neurons.find((neuron) => neuron.canvas);
  if (first) first.box.tabIndex = 0;
  for (let column = 1; column < network.shown.length; column++)
    network.shown[column].forEach((unit, row) =>
      network.shown[column - 1].forEach((input, inputRow) => {
        const line = shape("path", { class: "weight" }, diagram.svg);
        const title = shape("title", {}, line);
        const entry = { line, from: [column - 1, inputRow], to: [column, row], index: network.weights[column - 1][row] + input };
        line.addEventListener("pointerenter", () => {
          title.textContent = `${network.names[column]}, neuron ${unit}: weight ${input} = ${format(parametersAt(now)[entry.index])}`;
        });
        diagram.lines.push(entry);
      }),
    );
  diagram.inputs = plane.model ? network.shown[0].map((unit) => shape("text", { class: "layer" }, diagram.svg, `x${"₁₂"[unit]}`)) : [];
  diagram.texts = network.sizes.map((size, column) => [
    shape("text", { class: "layer" }, diagram.svg, network.names[column]),
    shape("text", {}, diagram.svg, `${size.toLocaleString("en")} ${column ? "neuron" : "input"}${size > 1 ? "s" : ""}`),
    size > network.shown[column].length ? shape("text", {}, diagram.svg, `⋮ ${size - network.shown[column].length} more`) : null,
  ]);
  new ResizeObserver(placeNetwork).observe(byId("network"));
}

// One tab stop for all neurons; up and down move between them.
function connectNeuron(neuron) {
  const show = (node) => {
    plane.chosen = node;
    diagram.neurons.forEach((other) => other.box.classList.toggle("shown", node !== null && other === neuron));
    byId("boundary-title").textContent = node === null ? "What the model says, all over the plane" : `What ${neuron.name} says`;
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
    const mapped = diagram.neurons.filter((other) => other.canvas);
    const next = mapped[Math.min(mapped.length - 1, Math.max(0, mapped.indexOf(neuron) + by))];
    neuron.box.tabIndex = -1;
    next.box.tabIndex = 0;
    next.box.focus();
  });
}

function placeNetwork() {
  const room = byId("network");
  const rows = Math.max(...network.shown.map((units, k) => units.length + (network.sizes[k] > units.length ? 1 : 0)));
  if (matchMedia("(max-width: 720px)").matches) room.style.height = `${Math.min(620, rows * 44 + 60)}px`;
  else room.style.height = "";
  const [width, height] = [room.clientWidth, room.clientHeight];
  const pitch = Math.min(64, (height - 50) / rows);
  const size = Math.max(8, Math.min(46, pitch * 0.78));
  const columns = network.shown.length;
  const x = (column) => 44 + (column * (width - 88)) / (columns - 1);
  const middle = (height - 44) / 2;
  const y = (column, row) => {
    const units = network.shown[column].length;
    const gap = network.sizes[column] > units ? 1 : 0;
    return middle + (row + (gap && row >= units / 2 ? 1 : 0) - (units + gap - 1) / 2) * pitch;
  };
  for (const { box, column, row } of diagram.neurons)
    Object.assign(box.style, { width: `${size}px`, height: `${size}px`, left: `${x(column) - size / 2}px`, top: `${y(column, row) - size / 2}px` });
  for (const { line, from, to } of diagram.lines) {
    const [x1, y1, x2, y2] = [x(from[0]) + size / 2, y(...from), x(to[0]) - size / 2, y(...to)];
    const half = (x1 + x2) / 2;
    line.setAttribute("d", `M${x1} ${y1}C${half} ${y1} ${half} ${y2} ${x2} ${y2}`);
  }
  diagram.inputs.forEach((text, row) => (text.setAttribute("x", x(0) - size / 2 - 12), text.setAttribute("y", y(0, row) + 4)));
  diagram.texts.forEach(([name, count, gap], column) => {
    const put = (text, down) => (text.setAttribute("x", x(column)), text.setAttribute("y", down));
    put(name, height - 22);
    put(count, height - 7);
    if (gap) put(gap, middle + 4);
  });
}

function paintNetwork() {
  const weights = parametersAt(now);
  for (const { line, index } of diagram.lines) {
    const weight = weights[index];
    line.setAttribute("class", `weight ${signAndLevel(weight, diagram.most)}`);
    line.setAttribute("stroke-width", (0.4 + (diagram.widest * Math.min(1, Math.abs(weight) / diagram.most) || 0)).toFixed(2));
  }
  for (const { canvas, node, box, column, row, name } of diagram.neurons) {
    const bias = column ? weights[network.biases[column - 1][row]] : undefined;
    if (bias !== undefined) box.title = `${name}: bias ${format(bias)}`;
    if (canvas) {
      paint(canvas, plane.side, plane.side, Uint32Array.from(plane.fields.get(node), (x) => shade(Math.tanh(x))));
    } else if (column) box.className = `neuron round ${signAndLevel(bias ?? 0, diagram.most)}`;
  }
  diagram.svg.setAttribute("aria-label", `${network.sizes.map((size, k) => `${network.names[k]}: ${size}`).join(", ")}. The largest weight shown is ${format(largest(diagram.lines.map(({ index }) => weights[index])))}.`);
}

// ---------------------------------------------------------------------------------------------------
// Weights as images, and the table

function buildImages() {
  const { side, name, total, weights } = images;
  byId("images").hidden = false;
  byId("model-title").textContent = `What the neurons of ${name} look for: ${side * side} weights of each, as ${side} × ${side}`;
  images.most = largest(Array.from({ length: lastFrame + 1 }, (_, frame) => largest(weights.map((first) => largest(parametersAt(frame).subarray(first, first + side * side)))))) || 1;
  images.canvases = weights.map((_, k) => {
    const canvas = element("canvas", { role: "img", "aria-label": `Weights of neuron ${k}` });
    byId("images").append(element("figure", {}, canvas, element("figcaption", {}, String(k))));
    return canvas;
  });
  byId("legend-more").textContent = `strongest: ±${format(images.most)}${total > weights.length ? ` · ${weights.length} of ${total} neurons` : ""}`;
}

function paintImages() {
  const { side, weights, most, canvases } = images;
  canvases.forEach((canvas, k) => paint(canvas, side, side, Uint32Array.from(parametersAt(now).subarray(weights[k], weights[k] + side * side), (x) => shade(x / most))));
}

function buildTable() {
  if (!images) byId("model-title").textContent = "Parameters";
  const header = ["parameters", "count", "mean", "spread", "least", "greatest", "moved"];
  const rows = groups.map(([name]) => {
    const cells = header.slice(1).map(() => element("td", {}));
    return { cells, row: element("tr", {}, element("th", { scope: "row", title: name }, name), ...cells) };
  });
  byId("statistics").append(
    element("table", {}, element("thead", {}, element("tr", {}, ...header.map((text) => element("th", { scope: "col" }, text)))), element("tbody", {}, ...rows.map(({ row }) => row))),
    element("p", { class: "note" }, "spread: standard deviation; moved: root mean square of the way from the first moment"),
  );
  groups.cells = rows.map(({ cells }) => cells);
}

function paintTable() {
  const [weights, start] = [parametersAt(now), parametersAt(0)];
  groups.forEach(([, runs], k) => {
    const places = runs.flatMap(([first, length]) => Array.from({ length }, (_, i) => first + i));
    const mean = (f) => places.reduce((sum, i) => sum + f(i), 0) / places.length;
    const center = mean((i) => weights[i]);
    const statistics = [
      places.length,
      center,
      Math.sqrt(mean((i) => (weights[i] - center) ** 2)),
      places.reduce((least, i) => Math.min(least, weights[i]), Infinity),
      places.reduce((most, i) => Math.max(most, weights[i]), -Infinity),
      Math.sqrt(mean((i) => (weights[i] - start[i]) ** 2)),
    ];
    statistics.forEach((x, column) => (groups.cells[k][column].textContent = column ? format(Number(x.toPrecision(3))) : x.toLocaleString("en")));
  });
}

// ---------------------------------------------------------------------------------------------------
// The curves

const charts = [];
const [CHART_LEFT, CHART_RIGHT, CHART_TOP, CHART_BOTTOM] = [42, 346, 7, 74];
const lastMoment = moments[moments.length - 1];

function inWords(name, x) {
  return /accuracy$/.test(name) ? `${(100 * x).toFixed(1)} %` : format(x);
}

// A measure and its validation are two curves of one chart.
function buildCharts() {
  for (const name of Object.keys(measures)) measures[name] = measures[name].map((x) => (x === null ? NaN : Number(x)));
  const names = [...new Set(Object.keys(measures).map((name) => name.replace(/^validation_/, "")))];
  for (const name of names) {
    const curves = [
      ["training", measures[name]],
      ["validation", measures[`validation_${name}`]],
    ].filter(([, list]) => list);
    const finite = curves.flatMap(([, list]) => list.filter(Number.isFinite));
    const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
    const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
    const x = (moment) => CHART_LEFT + ((CHART_RIGHT - CHART_LEFT) * moment) / Math.max(1, lastMoment);
    const y = (value) => CHART_BOTTOM - (CHART_BOTTOM - CHART_TOP) * (high > low ? (value - low) / (high - low) : 0.5);
    const svg = element("div", { class: "chart" });
    const legend = curves.map(([kind]) => element("span", { class: kind }, curves.length > 1 ? `${kind} ` : "", element("b", {})));
    svg.append(element("h2", {}, name.replaceAll("_", " "), ...legend));
    const drawing = shape("svg", { viewBox: "0 0 354 80", role: "img" }, svg);
    shape("path", { class: "axis", d: `M${CHART_LEFT} ${CHART_TOP}V${CHART_BOTTOM}H${CHART_RIGHT}` }, drawing);
    const clip = shape("rect", { x: 0, y: 0, width: 0, height: 80 }, shape("clipPath", { id: `past-${charts.length}` }, shape("defs", {}, drawing)));
    const dots = curves.map(([kind, list]) => {
      let d = "";
      list.forEach((value, i) => {
        if (Number.isFinite(value)) d += `${i && Number.isFinite(list[i - 1]) ? "L" : "M"}${x(moments[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      });
      shape("path", { class: `curve ahead ${kind}`, d }, drawing);
      shape("path", { class: `curve ${kind}`, d, "clip-path": `url(#past-${charts.length})` }, drawing);
      return null;
    });
    const marker = shape("path", { class: "marker" }, drawing);
    curves.forEach(([kind], k) => (dots[k] = shape("circle", { class: `dot ${kind}`, r: 4.5 }, drawing)));
    if (finite.length) {
      shape("text", { x: CHART_LEFT - 5, y: CHART_TOP + 5, "text-anchor": "end" }, drawing, inWords(name, Number(high.toPrecision(3))).replace(/\.0 %/, "%"));
      if (high > low) shape("text", { x: CHART_LEFT - 5, y: CHART_BOTTOM + 2, "text-anchor": "end" }, drawing, inWords(name, Number(low.toPrecision(3))).replace(/\.0 %/, "%"));
    }
    const seek = (event) => {
      const box = drawing.getBoundingClientRect();
      const moment = ((((event.clientX - box.left) / box.width) * 354 - CHART_LEFT) / (CHART_RIGHT - CHART_LEFT)) * lastMoment;
      const nearest = at.reduce((best, m, i) => (Math.abs(m - moment) < Math.abs(at[best] - moment) ? i : best), 0);
      step(nearest - now);
    };
    drawing.addEventListener("pointerdown", (event) => (drawing.setPointerCapture(event.pointerId), seek(event)));
    drawing.addEventListener("pointermove", (event) => event.buttons && seek(event));
    byId("charts").append(svg);
    charts.push({ name, curves, x, y, clip, marker, dots, drawing, numbers: legend.map((part) => part.querySelector("b")) });
  }
}

function valueNow(list) {
  return list[moments.indexOf(at[now])];
}

function paintCharts() {
  for (const { name, curves, x, y, clip, marker, dots, drawing, numbers } of charts) {
    const place = x(at[now]);
    clip.setAttribute("width", place);
    marker.setAttribute("d", `M${place} ${CHART_TOP - 4}V${CHART_BOTTOM}`);
    const said = curves.map(([kind, list], k) => {
      const value = valueNow(list);
      dots[k].style.display = Number.isFinite(value) ? "" : "none";
      if (Number.isFinite(value)) Object.entries({ cx: place, cy: y(value) }).forEach(([key, v]) => dots[k].setAttribute(key, v));
      numbers[k].textContent = at[now] === 0 && value !== value ? "" : inWords(name, value);
      return `${kind} ${inWords(name, value)}`;
    });
    drawing.setAttribute("aria-label", `${name} over time. Now: ${said.join(", ")}`);
  }
}

// ---------------------------------------------------------------------------------------------------
// Playing

function placeInWords() {
  return at[now] === 0 ? "untrained" : `${unit} ${at[now].toLocaleString("en")} of ${lastMoment.toLocaleString("en")}`;
}

function measuresNow() {
  return Object.keys(measures).map((name) => [name.replaceAll("_", " "), valueNow(measures[name]), name]).filter(([, x]) => x === x);
}

function showFrame() {
  const parts = measuresNow().map(([name, x, key]) => element("span", { class: "spoken" }, `${name} ${inWords(key, x)}`));
  byId("now").replaceChildren(element("strong", {}, placeInWords()[0].toUpperCase() + placeInWords().slice(1)), ...parts);
  if (plane.model) {
    computePlane();
    paintPlane();
    judge();
  }
  if (network) paintNetwork();
  if (images) paintImages();
  if (!network) paintTable();
  paintCharts();
}

readColors();
if (boundary) buildPlane();
if (network) buildNetwork();
if (images) buildImages();
if (!network) buildTable();
if (!network && !images) byId("legend").hidden = true;
buildCharts();
if (plane.model) colorPoints();
startPlayback({
  last: lastFrame,
  pause: Math.min(600, Math.max(50, 12000 / (lastFrame + 1))),
  show: showFrame,
  words: () => [placeInWords(), ...measuresNow().map(([name, x, key]) => `${name} ${inWords(key, x)}`)].join(", "),
  live: byId("now"),
  keys: {},
});
showFrame();
if (network) placeNetwork();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColors();
  if (plane.model) colorPoints();
  showFrame();
});
