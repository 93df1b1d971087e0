// @ts-check
// Parameters without a diagram: weights as images, and statistics of groups in a table.
"use strict";

/** @type {{ side: number, name: string, total: number, weights: number[] }} */
const images = page.images;
const imageRoom = { canvases: /** @type {HTMLCanvasElement[]} */ ([]), most: 1 };

/** @type {[string, number[][]][]} runs of positions, first and length */
const groups = page.groups;
/** @type {HTMLElement[][]} */
let cells = [];

/** @param {(frame: number) => Numbers} weightsAt @param {number} frames */
function buildImages(weightsAt, frames) {
  const { side, name, total, weights } = images;
  byId("images").hidden = false;
  byId("model-title").textContent = `What the neurons of ${name} look for: ${side * side} weights of each, as ${side} × ${side}`;
  const sizes = Array.from({ length: frames }, (_, frame) => largest(weights.map((first) => largest(weightsAt(frame).slice(first, first + side * side)))));
  imageRoom.most = largest(sizes) || 1;
  imageRoom.canvases = weights.map((_, k) => {
    const canvas = /** @type {HTMLCanvasElement} */ (element("canvas", { role: "img", "aria-label": `Weights of neuron ${k}` }));
    byId("images").append(element("figure", {}, canvas, element("figcaption", {}, String(k))));
    return canvas;
  });
  byId("legend-more").textContent = `negative ones are hatched · strongest: ±${format(imageRoom.most)}${total > weights.length ? ` · ${weights.length} of ${total} neurons` : ""}`;
}

/** @param {Numbers} weights */
function paintImages(weights) {
  const { side } = images;
  imageRoom.canvases.forEach((canvas, k) => {
    const first = images.weights[k];
    paintCells(canvas, weights.slice(first, first + side * side), side, imageRoom.most);
  });
}

function buildTable() {
  if (!images) byId("model-title").textContent = "Parameters";
  const header = ["parameters", "count", "mean", "spread", "least", "greatest", "moved"];
  const rows = groups.map(([name]) => {
    const row = header.slice(1).map(() => element("td", {}));
    return { row, line: element("tr", {}, element("th", { scope: "row", title: name }, name), ...row) };
  });
  byId("statistics").append(
    element("table", {}, element("thead", {}, element("tr", {}, ...header.map((text) => element("th", { scope: "col" }, text)))), element("tbody", {}, ...rows.map(({ line }) => line))),
    element("p", { class: "note" }, "spread: standard deviation; moved: root mean square of the way from the first moment"),
  );
  cells = rows.map(({ row }) => row);
}

/** @param {Numbers} weights @param {Numbers} start */
function paintTable(weights, start) {
  groups.forEach(([, runs], k) => {
    const places = runs.flatMap(([first, length]) => Array.from({ length }, (_, i) => first + i));
    const mean = (/** @type {(i: number) => number} */ f) => places.reduce((sum, i) => sum + f(i), 0) / places.length;
    const center = mean((i) => weights[i]);
    const statistics = [
      places.length,
      center,
      Math.sqrt(mean((i) => (weights[i] - center) ** 2)),
      places.reduce((least, i) => Math.min(least, weights[i]), Infinity),
      places.reduce((most, i) => Math.max(most, weights[i]), -Infinity),
      Math.sqrt(mean((i) => (weights[i] - start[i]) ** 2)),
    ];
    statistics.forEach((x, column) => (cells[k][column].textContent = column ? format(Number(x.toPrecision(3))) : x.toLocaleString("en")));
  });
}
