// @ts-check
// What a model of one or two inputs says everywhere: a field over the plane, or curves over a line (see curve.js).
"use strict";

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

/** How much a column weighs against a row in the hatching of a class; so two classes differ without colours. */
const HATCHES = [1, null, -1, 0];

/**
 * `inputs`, `outputs`, `neurons`: nodes of the graph; `range`: of the picture, across and up.
 * @typedef {{ inputs: number[], outputs: number[], neurons: (number | null)[][], range: number[][],
 *   points: number[][], targets: number[] | null }} Ground
 */

const plane = {
  /** @type {Batch} */
  model: null,
  /** @type {Ground} */
  ground: { inputs: [], outputs: [], neurons: [], range: [], points: [], targets: null },
  side: 0,
  /** @type {Float64Array[]} the places, and the points: one row per input */
  places: [],
  /** @type {Float64Array[]} */
  pointColumns: [],
  /** @type {number[]} */
  mapped: [],
  /** @type {number} */
  chosen: null,
  /** @type {Map<number, Float64Array>} */
  fields: new Map(),
  /** @type {SVGElement[]} */
  marks: [],
  isRegression: false,
  scale: 1,
};

/** @param {Batch} model @param {Ground} ground */
function layPlane(model, ground) {
  const { inputs, outputs, neurons, range, points, targets } = ground;
  const isLine = inputs.length === 1;
  const kinds = new Set(targets ?? []).size;
  const isRegression = outputs.length === 1 && kinds > 2;
  Object.assign(plane, { model, ground, isRegression, scale: isRegression ? largest(targets ?? []) : 1 });
  // As many places as are computed in about 30 ms.
  plane.side = isLine ? 121 : Math.max(16, Math.min(48, Math.floor(Math.sqrt(2.5e6 / model.varying.length))));
  const { side } = plane;
  const tick = (/** @type {number[]} */ ends, /** @type {number} */ k) => ends[0] + ((ends[1] - ends[0]) * k) / (side - 1);
  const across = new Float64Array(isLine ? side : side ** 2).map((_, i) => tick(range[0], i % side));
  plane.places = isLine ? [across] : [across, across.map((_, i) => tick([...range[1]].reverse(), Math.floor(i / side)))];
  plane.mapped = [...new Set([...outputs, ...inputs, ...neurons.flat()])].filter((i) => i !== null && i >= 0);
  plane.pointColumns = inputs.map((_, k) => Float64Array.from(points, (point) => point[k]));
  byId("points").replaceChildren();
  byId("plane").classList.toggle("line", isLine);
  if (isLine) layCurves();
  plane.marks = points.map((point, i) => {
    const kind = targets && !isRegression ? classOf(targets[i]) : 0;
    return mark(placeOnPicture(point[0], isLine ? (targets ? targets[i] : range[1][0]) : point[1]), isLine ? 0 : kind);
  });
  const inWords = (/** @type {number[]} */ ends) => ends.map((x) => format(Number(x.toPrecision(2)))).join(" to ");
  const names = isLine ? ["x →", "y ↑"] : ["x₁ →", "x₂ ↑"];
  byId("ranges").replaceChildren(...names.map((name, k) => element("span", {}, `${name} ${inWords(range[k])}`)));
}

/** @param {number} x @param {number} y */
function placeOnPicture(x, y, [[left, right], [low, high]] = plane.ground.range) {
  return [(FIELD * (x - left)) / (right - left), (FIELD * (high - y)) / (high - low)];
}

/** @param {number[]} center @param {number} kind */
function mark(center, kind) {
  const [corners, turn] = SHAPES[kind % SHAPES.length];
  if (!corners) return shape("circle", { class: "point", cx: center[0], cy: center[1], r: 4.2 }, byId("points"));
  const corner = (/** @type {number} */ k) => center.map((c, axis) => c + 5.4 * [Math.cos, Math.sin][axis](turn + (2 * Math.PI * k) / corners));
  return shape("polygon", { class: "point", points: Array.from({ length: corners }, (_, k) => corner(k).join(",")).join(" ") }, byId("points"));
}

/** A single output decides by its sign, several by the largest. @param {number} target */
function classOf(target) {
  return plane.ground.outputs.length === 1 ? Number(target > 0) : target;
}

function colorPoints() {
  const { targets, inputs } = plane.ground;
  plane.marks.forEach((point, i) => {
    const x = targets ? targets[i] / plane.scale : 0;
    const ofClass = colors.classes[targets && !plane.isRegression ? classOf(targets[i]) % 10 : 8];
    const color = plane.isRegression && inputs.length > 1 ? mix(x < 0 ? colors.negative : colors.positive, Math.abs(x)) : ofClass;
    point.setAttribute("fill", `rgb(${color})`);
    point.classList.toggle("wrong", plane.isRegression && inputs.length > 1);
  });
}

/** @param {Numbers[]} outputs @param {number} i */
function winner(outputs, i) {
  let best = 0;
  for (let k = 1; k < outputs.length; k++) if (!(outputs[k][i] <= outputs[best][i])) best = k;
  return best;
}

/** @param {Numbers[]} outputs @param {number} i @param {number} first */
function runnerUp(outputs, i, first) {
  let best = first === 0 ? 1 : 0;
  for (let k = 0; k < outputs.length; k++) if (k !== first && outputs[k][i] > outputs[best][i]) best = k;
  return best;
}

/** Fill in between the computed places, bilinearly. @param {Numbers} field */
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

/** @param {Numbers} weights */
function computePlane(weights) {
  const results = plane.model.run(weights, plane.places, plane.mapped);
  plane.fields = new Map(plane.mapped.map((node, k) => [node, results[k]]));
}

/** @param {number} node */
function fieldOf(node) {
  return plane.fields.get(node);
}

function paintPlane() {
  if (plane.ground.inputs.length === 1) return paintCurves();
  const chosen = plane.chosen === null ? plane.ground.outputs : [plane.chosen];
  const fine = chosen.map((node) => refine(fieldOf(node)));
  let pixels;
  if (fine.length === 1) pixels = shadesOf(fine[0], FIELD, plane.scale, 9);
  else {
    const soft = colors.classes.map((color) => pixelOf(mix(color, 0.28)));
    const winners = Uint8Array.from(fine[0], (_, i) => winner(fine, i));
    pixels = Uint32Array.from(winners, (k) => soft[k % 10]);
    hatch(pixels, FIELD, 9, (i) => HATCHES[winners[i] % HATCHES.length]);
  }
  drawEdge(fine, pixels, FIELD, 1.6);
  paint(byId("field"), FIELD, FIELD, pixels);
}

/**
 * A line where the answer changes: how far a pixel is from it is the margin over the margin's slope. Where the margin
 * only comes near 0, as on the flat side of a ReLU or in a valley between two classes, there is none.
 * @param {Numbers[]} fine @param {Uint32Array} pixels @param {number} side @param {number} width of half the line
 */
function drawEdge(fine, pixels, side, width) {
  const bytes = new Uint8ClampedArray(pixels.buffer);
  const answers = Uint8Array.from(pixels, (_, i) => (fine.length > 1 ? winner(fine, i) : Number(fine[0][i] < 0)));
  const reach = Math.ceil(width) + 1;
  const changes = (/** @type {number} */ i) => {
    const [row, column] = [Math.floor(i / side), i % side];
    const within = (/** @type {number} */ k) => Math.max(0, Math.min(side - 1, k));
    return [-reach, reach].some((d) => answers[within(row + d) * side + column] !== answers[i] || answers[row * side + within(column + d)] !== answers[i]);
  };
  for (let i = 0; i < pixels.length; i++) {
    if (!changes(i)) continue;
    const first = fine.length > 1 ? answers[i] : 0;
    const second = fine.length > 1 ? runnerUp(fine, i, first) : -1;
    const margin = (/** @type {number} */ k) => fine[first][k] - (second < 0 ? 0 : fine[second][k]);
    const here = margin(i);
    const right = i % side < side - 1 ? i + 1 : i - 1;
    const below = i < pixels.length - side ? i + side : i - side;
    const share = width - Math.abs(here) / Math.hypot(margin(right) - here, margin(below) - here);
    if (share > 0) ink(bytes, i, Math.min(1, share));
  }
}

/** A neuron's answer, small: on a canvas, or in an svg as a curve. @param {any} picture @param {number} node */
function paintMapped(picture, node) {
  const field = fieldOf(node);
  if (plane.ground.inputs.length === 1) return drawSmallCurve(picture, field);
  const pixels = shadesOf(field, plane.side, 1, 6);
  drawEdge([field], pixels, plane.side, 1);
  paint(picture, plane.side, plane.side, pixels);
}

/** How many points are right, or how far off the answers are, in words; the wrong ones are ringed. @param {Numbers} weights @param {string} when the weights are those */
function judge(weights, total = plane.ground.points.length, when = "") {
  const { points, targets, outputs, inputs } = plane.ground;
  let words = targets ? "" : `${points.length} points`;
  if (targets) {
    const answers = plane.model.run(weights, plane.pointColumns, outputs);
    if (plane.isRegression) {
      const squares = targets.map((target, i) => (answers[0][i] - target) ** 2);
      const more = inputs.length > 1 ? "Points have the colour of their targets" : "Faint: the curve at earlier moments";
      words = `Off by ${format(Math.sqrt(squares.reduce((a, b) => a + b) / squares.length))} in the root mean square${when}. ${more}.`;
    } else {
      const right = targets.map((target, i) => (outputs.length === 1 ? Number(answers[0][i] > 0) : winner(answers, i)) === classOf(target));
      right.forEach((isRight, i) => plane.marks[i].classList.toggle("wrong", !isRight));
      const count = right.filter(Boolean).length;
      words = `${count} of ${points.length} points right${when}${count < points.length ? "; the others are ringed" : ""}.`;
    }
  }
  if (total > points.length) words += ` ${points.length} of ${total.toLocaleString("en")} points are shown.`;
  byId("verdict").textContent = words;
  byId("plane").setAttribute("aria-label", `${inputs.length > 1 ? "The plane of the two inputs, coloured by the model's answer" : "The model's answer as a curve over its input"}. ${words}`);
}
