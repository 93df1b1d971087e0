// @ts-check
// The page that plays a training back. Python recorded the parameters of some moments, and measures of more;
// the model's answers are computed here, by the graph of one sample (see batch.js).
"use strict";

/** @type {{ unit: string, at: number[], moments: number[], measures: Record<string, Numbers>, network: Network | null, boundary: any }} */
const { unit, at, moments, measures, network, boundary } = page;
const parameterCount = groups.reduce((sum, [, runs]) => sum + runs.reduce((s, [, length]) => s + length, 0), 0);
const recorded = decode(page.numbers);
const lastFrame = at.length - 1;
const lastMoment = moments[moments.length - 1];

/** @param {string} text */
function decode(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** @param {number} frame */
function parametersAt(frame) {
  return recorded.subarray(frame * parameterCount, (frame + 1) * parameterCount);
}

function weightsNow() {
  return parametersAt(now);
}

// ---------------------------------------------------------------------------------------------------
// The model

/** Why the model's answers cannot be shown; empty if the page's numbers are Python's. @param {Batch} model */
function problemOf(model) {
  const { tried, answers, outputs, inputs } = boundary;
  try {
    const columns = inputs.map((/** @type {number} */ _, /** @type {number} */ k) => Float64Array.from(tried, (point) => point[k]));
    const found = model.run(parametersAt(lastFrame), columns, outputs);
    const scale = 1 + largest(answers.flat().map(Number));
    const isSame = (/** @type {number} */ x, /** @type {number} */ y) => Object.is(x, y) || x === y || Math.abs(x - y) <= 1e-3 * scale;
    const wrong = answers.findIndex((/** @type {any} */ answer, /** @type {number} */ i) => answer.length !== found.length || !answer.every((/** @type {number} */ y, /** @type {number} */ k) => isSame(Number(y), found[k][i])));
    if (wrong < 0) return "";
    return `at (${tried[wrong].map(format).join(", ")}) the page finds ${found.map((f) => format(f[wrong])).join(", ")} where Python finds ${answers[wrong].map((/** @type {number} */ y) => format(Number(y))).join(", ")}: the model computes otherwise for other points, or an operation's JavaScript is not right`;
  } catch (error) {
    return `an operation's JavaScript fails: ${error.message}`;
  }
}

function buildAnswers() {
  let { problem } = boundary;
  if (!problem) {
    const model = new Batch(boundary.program, boundary.inputs, boundary.parameters);
    problem = problemOf(model);
    if (!problem && boundary.inputs.length > 2) return layImage(model);
    if (!problem) layPlane(model, boundary);
  }
  byId("boundary").hidden = false;
  if (problem) {
    byId("plane").hidden = true;
    byId("verdict").textContent = `The model's answers cannot be shown: ${problem}.`;
  }
  byId("boundary-title").textContent = boundaryTitle();
}

// Of a curve, earlier moments are kept in sight: the first ones close together, where most happens.
const ghosts = Array.from(new Set(Array.from({ length: 9 }, (_, k) => Math.round(lastFrame * (k / 9) ** 2))));
/** @type {Map<number, Float64Array[]>} */
const ghostCurves = new Map();

function computeHistory() {
  if (plane.ground.inputs.length !== 1) return;
  for (const frame of ghosts)
    if (!ghostCurves.has(frame)) ghostCurves.set(frame, plane.model.run(parametersAt(frame), plane.places, plane.ground.outputs));
  curves.history = ghosts.filter((frame) => frame < now).map((frame) => ghostCurves.get(frame));
}

function largestWeight() {
  /** @type {number[]} */
  const all = [];
  for (let frame = 0; network && frame <= lastFrame; frame++) {
    const weights = parametersAt(frame);
    network.weights.forEach((firsts, k) => firsts.forEach((first) => all.push(largest(weights.subarray(first, first + network.sizes[k])))));
  }
  return largest(all) || 1;
}

// ---------------------------------------------------------------------------------------------------
// The curves of measures

// An epoch's training measure is a mean over the epoch, so it stands in the middle of it; the validation, after it,
// at its end.
function buildCharts() {
  clearCharts();
  const between = unit === "epoch" && Object.keys(measures).some((name) => name.startsWith("validation_")) ? 0.5 : 0;
  for (const name of Object.keys(measures)) measures[name] = Array.from(measures[name], (x) => (x === null ? NaN : Number(x)));
  for (const name of new Set(Object.keys(measures).map((key) => key.replace(/^validation_/, "")))) {
    /** @type {Curve[]} */
    const drawn = [
      { kind: "training", xs: moments.map((moment) => moment - between), ys: measures[name] },
      { kind: "validation", xs: moments, ys: measures[`validation_${name}`] },
    ].filter(({ ys }) => ys);
    if (unit === "epoch" && drawn.length === 1 && drawn[0].kind === "training") drawn[0].words = "mean during the epoch";
    buildChart(name, drawn, lastMoment, (moment) => {
      const nearest = at.reduce((best, m, i) => (Math.abs(m - moment) < Math.abs(at[best] - moment) ? i : best), 0);
      step(nearest - now);
    });
  }
  if (between) byId("charts").append(element("p", { class: "note" }, "training: the mean over an epoch, drawn at its middle; validation: after it"));
}

// ---------------------------------------------------------------------------------------------------
// Playing

function placeInWords() {
  return at[now] === 0 ? "untrained" : `${unit} ${at[now].toLocaleString("en")} of ${lastMoment.toLocaleString("en")}`;
}

/** A training measure is a mean during the epoch, so what the model says after it has other numbers. */
function whenInWords() {
  return at[now] === 0 ? "" : ` after ${unit} ${at[now].toLocaleString("en")}`;
}

function measuresNow() {
  const place = moments.indexOf(at[now]);
  return Object.keys(measures).filter((name) => !Number.isNaN(measures[name][place])).map((name) => `${name.replaceAll("_", " ")} ${inWords(name, measures[name][place])}`);
}

function showFrame() {
  const weights = weightsNow();
  const place = placeInWords();
  const hint = now === 0 && lastFrame > 0 ? [element("span", {}, "press play to see how it learns")] : [];
  byId("now").replaceChildren(element("strong", {}, place[0].toUpperCase() + place.slice(1)), ...hint, ...measuresNow().map((words) => element("span", { class: "spoken" }, words)));
  if (plane.model) {
    computePlane(weights);
    computeHistory();
    paintPlane();
    judge(weights, boundary.total, whenInWords());
  }
  if (viewed.model) paintImage(weights, whenInWords());
  if (network) paintDiagram(weights);
  if (images) paintImages(weights);
  if (!network) paintTable(weights, parametersAt(0));
  paintCharts(at[now], lastMoment, moments.indexOf(at[now]));
}

readColors();
if (boundary) buildAnswers();
if (network) {
  byId("model-title").textContent = "Neurons and weights";
  layDiagram(network, largestWeight());
  new ResizeObserver(placeDiagram).observe(byId("network"));
}
if (images) buildImages(parametersAt, lastFrame + 1);
if (!network) buildTable();
if (!network && !images) byId("legend").hidden = true;
buildCharts();
byId("log").addEventListener("change", () => (buildCharts(), showFrame()));
byId("log").parentElement.hidden = charts.length === 0;
if (plane.model) colorPoints();
startPlayback({
  last: lastFrame,
  pause: Math.min(600, Math.max(50, 12000 / (lastFrame + 1))),
  show: showFrame,
  words: () => [placeInWords(), ...measuresNow()].join(", "),
  live: byId("now"),
  keys: {},
});
showFrame();
placeDiagram();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColors();
  if (plane.model) colorPoints();
  showFrame();
});
