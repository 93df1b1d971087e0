// @ts-check
// The playground: settings, playing, and painting what the learner is.
"use strict";

/** @type {Settings} */
const settings = page.settings;
const HISTORY = 400; // moments of the learning curves

/** @type {Learner} */
let learner = null;
let isTraining = false;
let alertWords = "";
/** @type {{ epochs: number, train: { loss: number, accuracy: number }, test: { loss: number, accuracy: number } }[]} */
let notes = [];
/** @type {string[]} what was changed since the start, so that one call of fit() does not repeat it */
let changedOnTheWay = [];

function weightsNow() {
  return learner.theta;
}

// ---------------------------------------------------------------------------------------------------
// Training

function restart() {
  learner = new Learner({ ...settings });
  changedOnTheWay = [];
  alertWords = "";
  notes = [];
  curves.history = [];
  layPicture();
  note();
  sample.learner = learner;
  sample.index = Math.min(sample.index, learner.points.length - 1);
  if (sample.isOpen) laySample();
  show();
}

/** Remember how it does; of a long training every second moment goes. */
function note() {
  notes.push({ epochs: learner.epochs, train: learner.measure(learner.train), test: learner.measure(learner.test) });
  if (notes.length > HISTORY) notes = notes.filter((_, i) => i % 2 === 0 || i === notes.length - 1);
}

/** Train so many minibatches. @param {number} count */
function train(count) {
  const { length } = curves.history;
  if (learner.isCurve && length < 9 && learner.epochs >= 2 ** length - 1) curves.history.push(plane.model.run(learner.theta, plane.places, plane.ground.outputs));
  for (let k = 0; k < count; k++) {
    if (learner.step()) continue;
    setTraining(false);
    alertWords = "The gradient is not a finite number any more: the learning rate is too large. Take a smaller one and start again.";
    break;
  }
  note();
  show();
}

function toEndOfEpoch() {
  train(learner.batches - (learner.steps % learner.batches));
}

/** @param {boolean} on */
function setTraining(on) {
  if (on === isTraining) return;
  isTraining = on;
  document.body.classList.toggle("playing", on);
  byId("play").setAttribute("aria-label", on ? "Pause" : "Train");
  byId("play").title = on ? "Pause (space)" : "Train (space)";
  byId("now").setAttribute("aria-live", on ? "off" : "polite");
  if (on) requestAnimationFrame(frame);
  else show();
}

function frame() {
  if (!isTraining) return;
  const pace = byId("pace").value;
  if (pace === "1") train(1);
  else if (pace === "epoch") toEndOfEpoch();
  else train(5 * learner.batches - (learner.steps % learner.batches));
  requestAnimationFrame(frame);
}

// ---------------------------------------------------------------------------------------------------
// Painting

/** @param {number[]} column */
function rangeOf(column) {
  const [low, high] = [Math.min(...column), Math.max(...column)];
  const margin = 0.12 * (high - low) || 1;
  return [low - margin, high + margin];
}

function layPicture() {
  const { networks, points, targets, isCurve, sizes } = learner;
  const { inputs, parameters, neurons, score, graph } = networks[0];
  layPlane(new Batch(graph, inputs, parameters), {
    inputs,
    outputs: [score],
    neurons: neurons.map((layer) => layer.map(({ answer }) => answer)),
    range: [rangeOf(points.map(([x]) => x)), rangeOf(isCurve ? targets : points.map((point) => point[1]))],
    points,
    targets,
  });
  plane.marks.forEach((mark, i) => mark.classList.toggle("playground-test", i >= settings.train));
  byId("boundary-title").textContent = boundaryTitle();
  colorPoints();
  let first = 0;
  const positions = sizes.slice(1).map((size, k) => Array.from({ length: size }, () => (first += sizes[k] + 1) - sizes[k] - 1));
  layDiagram(
    {
      sizes,
      shown: sizes.map((size) => Array.from({ length: size }, (_, i) => i)),
      names: sizes.map((_, k) => (k ? `Layer ${k - 1}` : "Inputs")),
      weights: positions,
      biases: positions.map((layer, k) => layer.map((start) => start + sizes[k])),
      others: 0,
    },
    largest(learner.theta) || 1,
  );
  placeDiagram();
}

function show() {
  const { theta, steps, epochs } = learner;
  const latest = notes[notes.length - 1];
  const whole = Math.floor(epochs);
  const place = steps % learner.batches ? `Epoch ${whole + 1}, minibatch ${steps % learner.batches} of ${learner.batches}` : `Epoch ${whole.toLocaleString("en")}`;
  byId("now").replaceChildren(element("strong", {}, steps ? place : "Untrained"), element("span", {}, steps ? "" : "press play, or try another data set"), element("span", { class: alertWords ? "alert" : "" }, alertWords || `loss ${format(latest.train.loss)}, test ${format(latest.test.loss)}`));
  computePlane(theta);
  paintPlane();
  judge(theta);
  byId("verdict").textContent = verdictInWords();
  diagram.most = Math.max(diagram.most, largest(theta));
  byId("legend-more").textContent = diagramLegend();
  paintDiagram(theta);
  showCharts();
  byId("python").textContent = python();
  plane.marks.forEach((mark, i) => mark.classList.toggle("picked", sample.isOpen && i === sample.index));
  paintSample();
}

function verdictInWords() {
  const { train, test } = notes[notes.length - 1];
  if (learner.isCurve) return "Dots: the samples, faint those of the test. Faint curves: earlier moments.";
  return `Right: ${inWords("accuracy", train.accuracy)} of the training samples, ${inWords("accuracy", test.accuracy)} of the test samples, which are faint. Wrong ones are ringed.`;
}

function showCharts() {
  clearCharts();
  const last = Math.max(1, notes[notes.length - 1].epochs);
  const xs = notes.map(({ epochs }) => epochs);
  for (const name of learner.isCurve ? ["loss"] : ["loss", "accuracy"])
    buildChart(name, ["training", "test"].map((kind) => ({ kind, xs, ys: notes.map((moment) => moment[kind === "training" ? "train" : "test"][/** @type {"loss" | "accuracy"} */ (name)]) })), last, () => {});
  paintCharts(learner.epochs, last, notes.length - 1);
}

/** The code that gives the same numbers. */
function python() {
  const { data, noise, seed, activation, loss, optimizer, rate, decay, batch, train } = settings;
  const [name, init] = page.activations[activation];
  const [lossName, targets] = page.losses[loss];
  const { sizes, isCurve, epochs } = learner;
  const lines = sizes.slice(1).map((size, k) => `    nn.Affine(${sizes[k]}, ${size}, init="${init}", seed=draws),${name && k < sizes.length - 2 ? ` ${name},` : ""}`);
  const y = targets === "signs" && !isCurve ? "2 * y - 1" : "y";
  return [
    "import random",
    "import microgrid as mg",
    "from microgrid import data, losses, nn, optim",
    "",
    `X, y = ${toys[data].python}noise=${noise}, seed=${seed})`,
    ...(y === "y" ? [] : [`y = ${y}`]),
    `draws = random.Random(${seed})`,
    `model = nn.Sequential(`,
    ...lines,
    ")",
    `optimizer = optim.${optimizer}(model.parameters(), ${rate}${decay ? `, weight_decay=${decay}` : ""})${changedOnTheWay.length ? `  # the page had another ${changedOnTheWay.join(" and ")} at first` : ""}`,
    `mg.fit(model, X[:${train}], y[:${train}], loss=${lossName}, optimizer=optimizer,`,
    `       epochs=${Math.max(1, Math.floor(epochs))}, batch_size=${batch}, seed=${seed}, validation=(X[${train}:], y[${train}:]))`,
    "# fit() prints the mean during each epoch; the page shows what holds after it:",
    `print(mg.evaluate(model, X[:${train}], y[:${train}], loss=${lossName}))`,
  ].join("\n");
}

// ---------------------------------------------------------------------------------------------------
// Settings

/** @param {string} id @param {(string | number)[]} choices @param {string | number} chosen */
function fillSelect(id, choices, chosen) {
  byId(id).replaceChildren(...choices.map((choice) => element("option", { value: choice, selected: choice === chosen ? "" : undefined }, String(choice))));
}

function showSettings() {
  const isCurve = toys[settings.data].isCurve;
  /** @param {number[]} list @param {number} own */
  const withOwn = (list, own) => [...new Set([...list, own])].sort((a, b) => a - b);
  fillSelect("activation", Object.keys(page.activations), settings.activation);
  fillSelect("loss", Object.keys(page.losses).filter((name) => !isCurve || name === "squared error"), settings.loss);
  fillSelect("optimizer", page.optimizers, settings.optimizer);
  fillSelect("rate", withOwn(page.rates, settings.rate), settings.rate);
  fillSelect("decay", withOwn(page.decays, settings.decay), settings.decay);
  fillSelect("batch", withOwn([...page.batches, settings.train], settings.batch), settings.batch);
  byId("seed").value = String(settings.seed);
  byId("noise").value = String(settings.noise);
  byId("noise-now").textContent = settings.noise.toFixed(2);
  Object.assign(byId("train"), { min: page.fewest, max: page.most, value: settings.train });
  byId("train-now").textContent = `${settings.train} : ${toys[settings.data].points.length - settings.train}`;
  for (const radio of byId("sets").querySelectorAll("input")) radio.checked = radio.value === settings.data;
  byId("sizes").replaceChildren(
    ...settings.layers.map((size, k) => {
      const field = element("input", { type: "number", min: 1, max: page.widest, value: size, "aria-label": `Neurons of layer ${k}` });
      field.addEventListener("change", () => {
        settings.layers[k] = Math.min(page.widest, Math.max(1, Math.round(Number(field.value)) || 1));
        field.value = String(settings.layers[k]);
        restart();
        writeLink();
      });
      return element("label", {}, field);
    }),
  );
  byId("more").disabled = settings.layers.length >= page.deepest;
  byId("fewer").disabled = settings.layers.length === 0;
}

/** @param {Partial<Settings>} changes */
function change(changes) {
  Object.assign(settings, changes);
  if (toys[settings.data].isCurve) settings.loss = "squared error";
  showSettings();
  restart();
  writeLink();
}

function connectSettings() {
  for (const [name, toy] of Object.entries(toys)) {
    const picture = /** @type {any} */ (shape("svg", { viewBox: "0 0 46 40", "aria-hidden": "true" }, document.createDocumentFragment()));
    const { points, targets } = sampled(toy, toy.noise, 0);
    const columns = [points.map(([x]) => x), toy.isCurve ? targets : points.map((point) => point[1])];
    const [[left, right], [low, high]] = columns.map(rangeOf);
    for (let i = 0; i < points.length; i += 3)
      shape("circle", { cx: (46 * (columns[0][i] - left)) / (right - left), cy: (40 * (high - columns[1][i])) / (high - low), r: 1.7, fill: `var(--class-${toy.isCurve ? 8 : targets[i]})` }, picture);
    const radio = element("input", { type: "radio", name: "data", value: name });
    radio.addEventListener("change", () => change({ data: name, noise: toy.noise, ...(toys[settings.data].isCurve && !toy.isCurve ? { loss: Object.keys(page.losses)[0] } : {}) }));
    byId("sets").append(element("label", {}, radio, picture, name));
  }
  for (const id of ["activation", "loss", "optimizer"]) byId(id).addEventListener("change", () => change({ [id]: byId(id).value }));
  byId("batch").addEventListener("change", () => change({ batch: Number(byId("batch").value) }));
  for (const [id, words] of /** @type {["rate" | "decay", string][]} */ ([["rate", "rate"], ["decay", "weight decay"]]))
    byId(id).addEventListener("change", () => {
      settings[id] = learner.settings[id] = Number(byId(id).value);
      if (learner.steps && !changedOnTheWay.includes(words)) changedOnTheWay.push(words);
      show();
      writeLink();
    });
  byId("noise").addEventListener("input", () => change({ noise: Number(byId("noise").value) }));
  byId("train").addEventListener("input", () => change({ train: Number(byId("train").value) }));
  byId("seed").addEventListener("change", () => change({ seed: Math.min(2 ** 32 - 1, Math.max(0, Math.round(Number(byId("seed").value)) || 0)) }));
  byId("more").addEventListener("click", () => change({ layers: [...settings.layers, 4] }));
  byId("fewer").addEventListener("click", () => change({ layers: settings.layers.slice(0, -1) }));
  byId("log").addEventListener("change", showCharts);
  byId("settings").addEventListener("submit", (/** @type {SubmitEvent} */ event) => event.preventDefault());
}

// ---------------------------------------------------------------------------------------------------
// The link holds the settings, so that a link to a page leads to what its sender saw

/** For each setting what a text in the link stands for; undefined for what it cannot be. */
/** @type {Record<string, (text: string) => any>} */
const readers = {
  data: (text) => (text in toys ? text : undefined),
  layers: (text) => {
    const sizes = text ? text.split("-").map(Number) : [];
    return sizes.length <= page.deepest && sizes.every((size) => Number.isInteger(size) && size >= 1 && size <= page.widest) ? sizes : undefined;
  },
  activation: (text) => (text in page.activations ? text : undefined),
  loss: (text) => (text in page.losses ? text : undefined),
  optimizer: (text) => (page.optimizers.includes(text) ? text : undefined),
  rate: (text) => within(text, 1e-9, 100),
  decay: (text) => within(text, 0, 100),
  batch: (text) => whole(text, 1, page.most),
  train: (text) => whole(text, page.fewest, page.most),
  noise: (text) => within(text, 0, 1),
  seed: (text) => whole(text, 0, 2 ** 32 - 1),
};

/** @param {string} text @param {number} least @param {number} most */
function within(text, least, most) {
  const x = Number(text);
  return text !== "" && x >= least && x <= most ? x : undefined;
}

/** @param {string} text @param {number} least @param {number} most */
function whole(text, least, most) {
  return Number.isInteger(Number(text)) ? within(text, least, most) : undefined;
}

function writeLink() {
  const link = new URLSearchParams(Object.entries(settings).map(([name, value]) => [name, Array.isArray(value) ? value.join("-") : String(value)]));
  // The frame of a notebook has no address.
  if (location.protocol !== "about:") history.replaceState(null, "", `#${link}`);
}

/** Take over the settings in the link; return what is wrong with it, in words. */
function readLink() {
  const wrong = [];
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    const value = readers[name]?.(text);
    if (value === undefined) wrong.push(`${name}=${text}`);
    else Object.assign(settings, { [name]: value });
  }
  if (toys[settings.data].isCurve) settings.loss = "squared error";
  return wrong.length ? `The link says ${wrong.join(", ")}, which this page does not know; it is left out.` : "";
}

function followLink() {
  const words = readLink();
  showSettings();
  restart();
  alertWords = words;
  if (words) show();
}

// ---------------------------------------------------------------------------------------------------
// Mouse and keys

/** @param {boolean} isOpen */
function openSample(isOpen, index = sample.index) {
  Object.assign(sample, { isOpen, index: Math.min(learner.points.length - 1, Math.max(0, index)) });
  byId("sample").hidden = !isOpen;
  byId("settings").inert = byId("model").inert = isOpen; // the sheet lies over them
  Object.assign(byId("sample-number"), { value: sample.index, max: learner.points.length - 1 });
  if (isOpen) laySample();
  show();
}

/** @param {MouseEvent} event */
function pickPoint(event) {
  const { left, top, width, height } = byId("plane").getBoundingClientRect();
  const [x, y] = [((event.clientX - left) / width) * FIELD, ((event.clientY - top) / height) * FIELD];
  const { points, targets } = plane.ground;
  const distances = points.map((point, i) => {
    const [across, down] = placeOnPicture(point[0], learner.isCurve ? targets[i] : point[1]);
    return Math.hypot(across - x, down - y);
  });
  const nearest = distances.indexOf(Math.min(...distances));
  if (distances[nearest] < 24) openSample(true, nearest);
}

/** @type {Record<string, () => void>} */
const actions = {
  reset: () => (setTraining(false), restart()),
  play: () => setTraining(!isTraining),
  forward: () => (setTraining(false), train(1)),
  epoch: () => (setTraining(false), toEndOfEpoch()),
};

function connectKeys() {
  for (const id in actions) byId(id).addEventListener("click", actions[id]);
  byId("plane").addEventListener("click", pickPoint);
  byId("open").addEventListener("click", () => openSample(true, learner.worst()));
  byId("close").addEventListener("click", () => (openSample(false), byId("open").focus()));
  byId("sample-number").addEventListener("input", () => {
    const number = Number(byId("sample-number").value);
    if (byId("sample-number").value !== "" && number >= 0 && number < learner.points.length) openSample(true, Math.round(number));
  });
  byId("sample-number").addEventListener("change", () => {
    const text = byId("sample-number").value;
    openSample(true, text === "" ? sample.index : Math.round(Number(text)));
  });
  document.addEventListener("keydown", (event) => {
    const target = /** @type {Element} */ (event.target);
    if (event.key === "Escape" && sample.isOpen) return openSample(false);
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input, select, summary")) return;
    const action = { " ": target.matches("button") ? null : actions.play, ArrowRight: actions.forward, e: actions.epoch, r: actions.reset }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColors();
    colorPoints();
    show();
  });
  new ResizeObserver(placeDiagram).observe(byId("network"));
}

readColors();
connectSettings();
connectKeys();
followLink();
addEventListener("hashchange", followLink);
