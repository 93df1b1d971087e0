// @ts-check
// Curves of measures over time: a measure and its validation share a chart.
"use strict";

const CHART = { left: 42, right: 346, top: 7, bottom: 74 };

/**
 * @typedef {{ kind: string, words?: string, xs: Numbers, ys: Numbers }} Curve `xs` are moments, `words` what it is called
 * @typedef {{ name: string, curves: Curve[], y: (value: number) => number, clip: SVGElement, marker: SVGElement,
 *   dots: SVGElement[], drawing: SVGElement, numbers: HTMLElement[] }} Chart
 */

/** @type {Chart[]} */
const charts = [];

/** @param {string} name @param {number} x */
function inWords(name, x) {
  return /accuracy$/.test(name) ? `${(100 * x).toFixed(1)} %` : format(x);
}

/** @param {number} moment @param {number} last */
function acrossChart(moment, last) {
  return CHART.left + ((CHART.right - CHART.left) * Math.max(0, moment)) / Math.max(1, last);
}

/**
 * @param {string} name @param {Curve[]} curves @param {number} last the last moment
 * @param {(moment: number) => void} seek what a click or a drag to a moment does
 */
function buildChart(name, curves, last, seek) {
  const isLog = byId("log").checked && !/accuracy$/.test(name);
  const scale = isLog ? Math.log : (/** @type {number} */ x) => x;
  const finite = curves.flatMap(({ ys }) => [...ys].filter((x) => Number.isFinite(x) && (x > 0 || !isLog)));
  const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
  const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  const y = (/** @type {any} */ value) => CHART.bottom - (CHART.bottom - CHART.top) * (high > low ? (scale(Math.max(value, low)) - scale(low)) / (scale(high) - scale(low)) : 0.5);
  const box = element("div", { class: "chart" });
  const legend = curves.map(({ kind, words = curves.length > 1 ? kind : "" }) => element("span", { class: kind }, words && `${words} `, element("b", {})));
  box.append(element("h2", {}, `${name.replaceAll("_", " ")}${isLog ? ", log scale" : ""}`, ...legend));
  const drawing = shape("svg", { viewBox: "0 0 354 80", role: "img" }, box);
  shape("path", { class: "axis", d: `M${CHART.left} ${CHART.top}V${CHART.bottom}H${CHART.right}` }, drawing);
  const clip = shape("rect", { x: 0, y: 0, width: 0, height: 80 }, shape("clipPath", { id: `past-${charts.length}` }, shape("defs", {}, drawing)));
  for (const { kind, xs, ys } of curves) {
    let d = "";
    ys.forEach((value, i) => {
      if (Number.isFinite(value)) d += `${i && Number.isFinite(ys[i - 1]) ? "L" : "M"}${acrossChart(xs[i], last).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    shape("path", { class: `curve ahead ${kind}`, d }, drawing);
    shape("path", { class: `curve ${kind}`, d, "clip-path": `url(#past-${charts.length})` }, drawing);
  }
  const marker = shape("path", { class: "marker" }, drawing);
  const dots = curves.map(({ kind }) => shape("circle", { class: `dot ${kind}`, r: 4.5 }, drawing));
  const tick = (/** @type {any} */ value, /** @type {number} */ down) => shape("text", { x: CHART.left - 5, y: down, "text-anchor": "end" }, drawing, inWords(name, Number(value.toPrecision(3))).replace(/\.0 %/, "%"));
  if (finite.length) tick(high, CHART.top + 5);
  if (high > low) tick(low, CHART.bottom + 2);
  const follow = (/** @type {PointerEvent} */ event) => {
    const { left, width } = drawing.getBoundingClientRect();
    seek(((((event.clientX - left) / width) * 354 - CHART.left) / (CHART.right - CHART.left)) * last);
  };
  drawing.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => (drawing.setPointerCapture(event.pointerId), follow(event)));
  drawing.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => event.buttons && follow(event));
  byId("charts").append(box);
  charts.push({ name, curves, y, clip, marker, dots, drawing, numbers: legend.map((part) => part.querySelector("b")) });
}

function clearCharts() {
  charts.length = 0;
  byId("charts").replaceChildren();
}

/** @param {number} moment @param {number} last @param {number} place of the moment in the curves */
function paintCharts(moment, last, place) {
  const x = acrossChart(moment, last);
  for (const { name, curves, y, clip, marker, dots, drawing, numbers } of charts) {
    clip.setAttribute("width", String(x));
    marker.setAttribute("d", `M${x} ${CHART.top - 4}V${CHART.bottom}`);
    const said = curves.map(({ kind, xs, ys }, k) => {
      const value = ys[place];
      dots[k].style.display = Number.isFinite(value) ? "" : "none";
      if (Number.isFinite(value)) Object.entries({ cx: acrossChart(xs[place], last), cy: y(value) }).forEach(([key, v]) => dots[k].setAttribute(key, String(v)));
      numbers[k].textContent = moment === 0 && value !== value ? "" : inWords(name, value);
      return `${kind} ${inWords(name, value)}`;
    });
    drawing.setAttribute("aria-label", `${name} over time. Now: ${said.join(", ")}`);
  }
}
