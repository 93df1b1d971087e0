// @ts-check
// Learning in the page: θ ← θ − η·∂ on the ticked leaves, and the curve of the output.
"use strict";

tools.add(
  (() => {
    const MOST = 500; // steps of one run
    const RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
    /** @type {Set<number>} the leaves that learn */
    let ticked = new Set();
    /** @type {Float64Array} the numbers where the run began */
    let begun;
    /** @type {Float64Array} those that its last step left */
    let left;
    /** @type {number[]} the output before the first step, and after each */
    let curve = [];
    let rate = 0.1;
    let timer = 0;
    /** @type {any} */
    let parts = null;

    // What modules train; else what is not called like data, x, y or t; else everything.
    function ticksAtFirst() {
      const free = namedLeaves().filter((i) => !isLocked(i));
      const trained = free.filter((i) => moduleOf(i) >= 0);
      const named = free.filter((i) => !/^[xyt](?![a-z])/i.test(program.labels[i] ?? ""));
      return new Set(trained.length ? trained : named.length ? named : free);
    }

    function begin() {
      begun = left = passes.data.slice();
      curve = [passes.data[passes.output]];
      draw();
    }

    function learn() {
      if (!Number.isFinite(passes.data[passes.output])) return false;
      for (const i of ticked) passes.data[i] -= rate * passes.gradient[i];
      left = passes.data.slice();
      compute();
      curve.push(passes.data[passes.output]);
      draw();
      const after = passes.data[passes.output];
      return Number.isFinite(after) && Math.abs(after) < 1e100;
    }

    /** @param {boolean} on */
    function setRunning(on) {
      clearTimeout(timer);
      timer = 0;
      if (on) {
        let steps = MOST;
        const tick = () => {
          const goes = learn();
          if (goes && --steps) timer = setTimeout(tick, 40);
          else setRunning(false);
        };
        timer = setTimeout(tick, 0);
      }
      if (parts) parts.run.textContent = on ? "Pause" : "Run";
    }

    function restart() {
      setRunning(false);
      for (const i of leaves) passes.data[i] = begun[i];
      compute();
      begin();
    }

    // It diverges where the output is far above where it began, or no number any more.
    function verdict() {
      const [start, end] = [curve[0], curve.at(-1)];
      const name = nameOf(passes.output);
      if (!Number.isFinite(start)) return `${name} is ${start === start ? "infinite" : "not a number"} to begin with, so no step can lower it: change a leaf first.`;
      if (curve.length < 2) return `Each step takes the rate × its gradient from every ticked leaf: ${name} goes down.`;
      if (!(Math.abs(end) < 1e100) || (end > start && end - start > 10 * (Math.abs(start) + 1))) return `It diverges: the steps are too long for this slope. Take a smaller rate and start over.`;
      const went = `After ${count(curve.length - 1, "step")} ${name} went from ${format(start)} to ${format(end)}.`;
      return end < start - 1e-9 * Math.abs(start) ? went : `${went} It does not go down: the steps are too long, or nothing is left to learn.`;
    }

    function draw() {
      if (!parts) return;
      const [width, height] = [260, 64];
      const finite = curve.filter((y) => Math.abs(y) < 1e100);
      const [low, high] = [Math.min(...finite), Math.max(...finite)];
      const range = high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high)) ? high - low : Infinity; // rounding errors are level
      const at = (/** @type {number} */ y, /** @type {number} */ k) => `${(4 + ((width - 8) * k) / Math.max(1, curve.length - 1)).toFixed(1)} ${(range < Infinity ? height - 5 - ((height - 10) * (y - low)) / range : height / 2).toFixed(1)}`;
      parts.line.setAttribute("d", finite.length ? `M${finite.map(at).join("L")}` : "");
      parts.curve.setAttribute("aria-label", curve.length > 1 ? `${nameOf(passes.output)} over ${count(curve.length - 1, "step")}: from ${format(curve[0])} to ${format(curve.at(-1))}` : "No step yet");
      parts.says.textContent = verdict();
      parts.rate.textContent = `η = ${format(rate)}`;
    }

    return {
      name: "learn",
      title: "Learn",
      about: "Let the leaves learn: each moves against its gradient",
      build() {
        ticked = ticksAtFirst();
        const slider = /** @type {HTMLInputElement} */ (element("input", { id: "rate", type: "range", min: "0", max: String(RATES.length - 1), step: "1", "aria-label": "Learning rate" }));
        slider.value = String(RATES.indexOf(rate));
        slider.addEventListener("input", () => {
          rate = RATES[Number(slider.value)];
          slider.setAttribute("aria-valuetext", format(rate));
          draw();
        });
        slider.setAttribute("aria-valuetext", format(rate));
        const svg = /** @type {SVGElement} */ (shape("svg", { id: "curve", role: "img", viewBox: "0 0 260 64", width: 260, height: 64 }, document.createDocumentFragment()));
        const run = toolButton("run", "Run", () => setRunning(!timer));
        parts = { curve: svg, line: shape("path", {}, svg), says: element("p", { id: "learn-says", role: "status", class: "why" }), rate: element("output", { for: "rate" }), run };
        const ticks = namedLeaves().map((i) => {
          const box = /** @type {HTMLInputElement} */ (element("input", { type: "checkbox", "aria-label": `${fullName(i)} learns` }));
          box.checked = ticked.has(i);
          box.disabled = isLocked(i);
          box.addEventListener("change", () => {
            if (box.checked) ticked.add(i);
            else ticked.delete(i);
            tally();
          });
          return element("label", { class: "tick" }, box, fullName(i));
        });
        const few = ticks.length <= 12;
        const summary = element("summary", {});
        const tally = () => (summary.textContent = `What learns: ${ticked.size} of ${count(ticks.length, "leaf").replace("leafs", "leaves")}`);
        tally();
        begin();
        return [
          element("span", { class: "line" }, "θ ← θ − η·∂"),
          element("label", {}, slider, parts.rate),
          toolButton("learn-step", "Step", () => (setRunning(false), learn())),
          run,
          toolButton("restart", "Start over", restart),
          svg,
          few ? element("span", { class: "ticks", role: "group", "aria-label": "What learns" }, ...ticks) : element("details", { class: "ticks" }, summary, ...ticks),
          parts.says,
        ];
      },
      // Numbers that no step made begin a new run.
      refresh() {
        if (leaves.some((i) => !Object.is(passes.data[i], left[i]))) begin();
      },
      close() {
        setRunning(false);
        parts = null;
      },
    };
  })(),
);
