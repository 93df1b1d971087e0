// @ts-check
// A model of one input: its answer is a curve through the points, over those of earlier moments.
"use strict";

const curves = {
  /** @type {SVGElement} */
  past: null,
  /** @type {SVGElement[]} one per output */
  lines: [],
  /** @type {SVGElement} */
  zero: null,
  /** @type {Float64Array[][]} of earlier moments: per moment, per output */
  history: [],
};

function layCurves() {
  const svg = byId("points");
  curves.zero = shape("path", { class: "zero" }, svg);
  curves.past = shape("g", { class: "past" }, svg);
  curves.lines = plane.ground.outputs.map(() => shape("path", { class: "answer" }, svg));
}

/** @param {Numbers} ys @param {number[]} range up */
function pathOf(ys, range) {
  let d = "";
  plane.places[0].forEach((x, i) => {
    if (!Number.isFinite(ys[i])) return;
    const [across, down] = placeOnPicture(x, ys[i], [plane.ground.range[0], range]);
    // Far outside, the numbers of a path have no room in a browser.
    d += `${d && Number.isFinite(ys[i - 1]) ? "L" : "M"}${across.toFixed(1)} ${Math.max(-9999, Math.min(9999, down)).toFixed(1)}`;
  });
  return d;
}

/** The range of some numbers with a margin, zero within. @param {Numbers} ys */
function rangeAround(ys) {
  const finite = [0, ...ys].filter(Number.isFinite);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const margin = 0.12 * (high - low) || 1;
  return [low - margin, high + margin];
}

// Of one neuron the curve has a range of its own, where the points have no place.
function paintCurves() {
  const { outputs, range } = plane.ground;
  const nodes = plane.chosen === null ? outputs : [plane.chosen];
  const up = plane.chosen === null ? range[1] : rangeAround(fieldOf(nodes[0]));
  const zero = placeOnPicture(0, 0, [range[0], up])[1];
  curves.zero.setAttribute("d", `M0 ${zero}H${FIELD}`);
  curves.lines.forEach((line, k) => {
    line.setAttribute("d", k < nodes.length ? pathOf(fieldOf(nodes[k]), up) : "");
    line.style.stroke = nodes.length > 1 ? `rgb(${colors.classes[k % 10]})` : "";
  });
  const count = plane.chosen === null ? curves.history.length : 0;
  curves.past.replaceChildren();
  for (let k = 0; k < count; k++)
    for (const ys of curves.history[k]) shape("path", { d: pathOf(ys, up), opacity: (0.12 + (0.3 * (k + 1)) / count).toFixed(2) }, curves.past);
  for (const point of plane.marks) point.style.display = plane.chosen === null ? "" : "none";
  const label = byId("ranges").lastElementChild;
  if (label) label.textContent = `y ↑ ${up.map((y) => format(Number(y.toPrecision(2)))).join(" to ")}`;
}

// The picture is an svg of 48 by 48.
/** @param {any} picture @param {Numbers} ys */
function drawSmallCurve(picture, ys) {
  const [low, high] = rangeAround(ys);
  const [zero, line] = picture.children;
  const down = (/** @type {number} */ y) => ((48 * (high - y)) / (high - low)).toFixed(1);
  zero.setAttribute("d", `M0 ${down(0)}H48`);
  line.setAttribute("d", Array.from(ys, (y, i) => (Number.isFinite(y) ? `${i && Number.isFinite(ys[i - 1]) ? "L" : "M"}${((48 * i) / (ys.length - 1)).toFixed(1)} ${down(y)}` : "")).join(""));
}
