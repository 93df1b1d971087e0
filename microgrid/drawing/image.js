// @ts-check
// A sample that is an image: what the model says of it, and which pixels speak for it and against it.
"use strict";

const viewed = {
  /** @type {Batch} */
  model: null,
  /** @type {boolean[]} the nodes that depend on the pixels */
  needed: [],
  /** @type {Float64Array[]} the samples, one row per pixel */
  columns: [],
  side: 0,
  index: 0,
  /** the output whose gradient is shown; −1 for the one of the sample's target, or where it has none, the largest */
  asked: -1,
  /** @type {HTMLElement[]} */
  bars: [],
};

/** @param {Batch} model */
function layImage(model) {
  const { points, outputs, inputs } = boundary;
  const columns = inputs.map((/** @type {number} */ _, /** @type {number} */ k) => Float64Array.from(points, (point) => point[k]));
  Object.assign(viewed, { model, columns, side: Math.sqrt(inputs.length), needed: model.reached(inputs) });
  byId("image").hidden = false;
  byId("image-number").max = String(points.length - 1);
  viewed.bars = outputs.map((/** @type {number} */ _, /** @type {number} */ k) => {
    const bar = element("button", { type: "button", class: "bar", title: `∂ score of ${k}/∂ pixel` }, element("b", {}), " ", element("span", {}), " ", element("span", {}));
    const [name, track, number] = bar.children;
    name.append(String(k));
    track.className = "track";
    track.append(element("i", {}));
    number.className = "number";
    bar.addEventListener("click", () => {
      viewed.asked = k;
      showFrame();
    });
    return bar;
  });
  byId("bars").append(...viewed.bars);
  byId("image-number").addEventListener("input", () => {
    const number = Number(byId("image-number").value);
    if (byId("image-number").value !== "" && number >= 0 && number < points.length) viewImage(Math.round(number));
  });
  byId("next-wrong").addEventListener("click", () => {
    const wrong = wrongOnes(weightsNow());
    if (wrong.length) viewImage(wrong.find((/** @type {number} */ i) => i > viewed.index) ?? wrong[0]);
  });
}

/** @param {number} index */
function viewImage(index) {
  Object.assign(viewed, { index, asked: -1 });
  byId("image-number").value = String(index);
  showFrame();
}

/** @param {Numbers} weights */
function wrongOnes(weights) {
  const { targets, points, outputs } = boundary;
  const answers = viewed.model.run(weights, viewed.columns, outputs);
  return points.map((/** @type {number} */ _, /** @type {number} */ i) => i).filter((/** @type {number} */ i) => targets && outputs.length > 1 && winner(answers, i) !== targets[i]);
}

/** @param {Numbers} weights @param {string} when the weights are those */
function paintImage(weights, when) {
  const { model, side, index, columns, needed } = viewed;
  const { outputs, inputs, targets, points, total } = boundary;
  const wrong = wrongOnes(weights);
  model.setParameters(weights);
  model.forward(columns.map((column) => column.subarray(index, index + 1)), 0, 1);
  const scores = outputs.map((/** @type {number} */ node) => model.values[node][0]);
  const said = scores.indexOf(Math.max(...scores));
  const asked = viewed.asked >= 0 ? viewed.asked : targets && outputs.length > 1 ? targets[index] : said;
  model.backward(outputs[asked], 1, needed, 1);
  const gradient = inputs.map((/** @type {number} */ node) => (node < 0 ? 0 : model.gradients[node][0]));
  const most = largest(gradient) || 1;
  const pixels = columns.map((column) => column[index]);
  const brightest = largest(pixels) || 1;
  // Ink on paper, or, where a number is negative, the colours of signs.
  const tone = Math.min(...pixels) < 0 ? (/** @type {number} */ x) => shade(x / brightest) : (/** @type {number} */ x) => pixelOf(colors.paper.map((c, k) => Math.round(c + (x / brightest) * (colors.ink[k] - c))));
  paint(byId("pixels"), side, side, Uint32Array.from(pixels, tone));
  paintCells(byId("slopes"), gradient, side, most);
  const size = largest(scores) || 1;
  viewed.bars.forEach((bar, k) => {
    const [, track, number] = /** @type {any} */ (bar.children);
    number.textContent = format(Number(scores[k].toPrecision(3)));
    const width = 50 * Math.min(1, Math.abs(scores[k]) / size || 0);
    Object.assign(track.firstChild.style, { width: `${width}%`, left: `${scores[k] < 0 ? 50 - width : 50}%` });
    track.firstChild.className = signAndLevel(scores[k], size);
    bar.classList.toggle("target", Boolean(targets) && outputs.length > 1 && k === targets[index]);
    bar.setAttribute("aria-pressed", String(k === asked));
    bar.setAttribute("aria-label", `${k} ${number.textContent}: the score of ${k}${bar.classList.contains("target") ? ", the target" : ""}`);
  });
  byId("slopes-caption").textContent = outputs.length > 1 ? `∂ score of ${asked}/∂ pixel` : "∂ score/∂ pixel";
  byId("slopes").setAttribute("aria-label", `The gradient of the score of ${asked} at each pixel; the largest is ${format(most)}`);
  byId("pixels").setAttribute("aria-label", `Sample ${index}${targets ? `, target ${format(targets[index])}` : ""}`);
  const share = 1 / scores.reduce((/** @type {number} */ sum, /** @type {number} */ x) => sum + Math.exp(x - scores[said]), 0);
  const verdict = targets ? `, which is ${said === targets[index] ? "right" : `wrong: it is ${targets[index]}`}` : "";
  const shown = total > points.length ? ` ${points.length} of ${total.toLocaleString("en")} samples are here.` : "";
  byId("image-words").textContent =
    outputs.length > 1
      ? `It says ${said}, by softmax with ${(100 * share).toFixed(1)} %${verdict}.${targets ? ` ${points.length - wrong.length} of ${points.length} right${when}.` : ""}${shown}`
      : `It says ${format(scores[0])}${targets ? `, and the target is ${format(targets[index])}` : ""}.${shown}`;
  byId("next-wrong").hidden = wrong.length === 0;
}
