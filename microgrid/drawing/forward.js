// @ts-check
// Forward mode beside backward: tangents that start at one leaf. And what a small change of a leaf really does.
"use strict";

/**
 * The tangent of every value with respect to a leaf, by one pass forward.
 *
 * @param {number} seed
 */
function tangentsFrom(seed) {
  const tangent = new Float64Array(passes.count);
  tangent[seed] = 1;
  for (let i = 0; i < passes.count; i++)
    passes.parents[i].forEach((parent, argument) => {
      // As backward: nothing goes where nothing depends on it, not 0 × ∞.
      if (tangent[parent] !== 0 && passes.connects(i, argument)) tangent[i] += passes.derivative[passes.first[i] + argument] * tangent[parent];
    });
  return tangent;
}

/** The output if a leaf were changed by so much, and its rounding error. @param {number} i @param {number} by */
function outputAfter(i, by) {
  const before = passes.data[i];
  passes.data[i] = before + by;
  passes.run();
  const [output, error] = [passes.data[passes.output], passes.dataError[passes.output]];
  passes.data[i] = before;
  passes.run();
  return [output, error];
}

tools.add(
  (() => {
    let seed = -1;
    /** @type {HTMLElement} */
    let body = null;
    const ROWS = 40;

    function refresh() {
      if (!body) return;
      const tangent = tangentsFrom(seed);
      const name = (/** @type {number} */ i) => held(i, 20);
      const done = (/** @type {number} */ i) => passes.isLeaf(i) || dataShown(nodes[nodeOf[i]]);
      const reached = [...tangent.keys()].filter((i) => tangent[i] !== 0 && !passes.isLeaf(i));
      const rows = reached.slice(0, ROWS).map((i) => {
        const edges = passes.parents[i].map((parent, argument) => [parent, passes.first[i] + argument]).filter(([parent]) => tangent[parent] !== 0);
        const terms = edges.map(([parent, edge]) => `${format(passes.shown.derivative[edge])} × ${format(tangent[parent])}`).join(" + ");
        return element("tr", { class: done(i) ? "" : "waiting" }, element("th", { scope: "row" }, `∂${name(i)}/∂${name(seed)}`), element("td", {}, done(i) ? terms : "not yet"), element("td", {}, done(i) ? num(tangent[i]) : ""));
      });
      const all = namedLeaves();
      const output = passes.output;
      highlight(reached.flatMap((i) => passes.parents[i].map((_, argument) => passes.first[i] + argument)).filter((edge) => tangent[passes.parentOf(edge)] !== 0 && done(passes.child[edge])));
      body.replaceChildren(
        element("table", { class: "tangents" }, element("caption", {}, `Forward from ${name(seed)}: its tangent is 1, that of the other leaves 0`), ...rows),
        element(
          "div",
          { class: "compare" },
          element("p", { class: "line" }, `one pass forward: ∂${name(output)}/∂${name(seed)} = `, num(tangent[output]), done(output) ? "" : " at its end"),
          element("p", { class: "line" }, `backward: ${name(seed)}.grad = `, num(passes.gradient[seed])),
          element("p", { class: "why" }, `A pass forward costs ${count(passes.first[passes.count], "product")} and tells about one leaf. For ${all.length === 1 ? "the one leaf here" : `all ${all.length} leaves`} that takes ${count(all.length, "pass")}; one pass backward, which costs as much, tells about every leaf. Forward wins where there are few leaves and many outputs.`),
          rows.length < reached.length ? element("p", { class: "why" }, `${count(reached.length - rows.length, "more node")} ${reached.length - rows.length === 1 ? "has" : "have"} a tangent.`) : "",
        ),
      );
    }

    return {
      name: "forward",
      title: "Forward mode",
      about: "Forward mode: seed a leaf and let tangents move with the forward pass",
      build() {
        const among = namedLeaves();
        if (!among.length) return [element("p", { class: "why" }, "No leaf leads to the output.")];
        if (!among.includes(seed)) seed = among[0];
        body = element("div", { id: "tangents" });
        const choice = leafChoice("seed", "Seed", among, (i) => ((seed = i), refresh()));
        choice.querySelector("select").value = String(seed);
        return [choice, toolButton("play-forward", "Play it forward", () => (goTo(0), setPlaying(true))), body];
      },
      refresh,
      close() {
        body = null;
        highlight([]);
      },
    };
  })(),
);

tools.add(
  (() => {
    let leaf = -1;
    let by = 0.1;
    /** @type {HTMLElement} */
    let body = null;

    // Whether they are equal: a difference within the rounding errors of both is none.
    /** @param {number} predicted @param {number} there @param {number} thereError */
    function verdict(predicted, there, thereError) {
      const [here, gradient] = [passes.data[passes.output], passes.gradient[leaf]];
      const output = nameOf(passes.output);
      const broken = /** @type {[string, number][]} */ ([[output, here], [`${held(leaf)}.grad`, gradient], [`${output} after the nudge`, there]]).find(([, x]) => !Number.isFinite(x));
      if (broken) return `There is nothing to compare: ${broken[0]} is ${format(broken[1])}.`;
      const miss = Math.abs(there - here - predicted);
      const rounding = passes.dataError[passes.output] + thereError + Math.abs(by) * (passes.gradientError[leaf] + Math.abs(gradient) * 2 ** -52);
      if (miss <= rounding) return `They are equal${miss ? " up to rounding" : ""}: the function is a straight line here, or as good as one.`;
      return `They differ by ${format(miss)}: the slope itself changes on the way. Halve the nudge, and the difference falls to about a quarter.`;
    }

    function refresh() {
      if (!body) return;
      const predicted = passes.gradient[leaf] * by;
      const [there, thereError] = outputAfter(leaf, by);
      const actual = there - passes.data[passes.output];
      const largest = Math.max(Math.abs(predicted), Math.abs(actual)) || 1;
      const bar = (/** @type {string} */ kind, /** @type {string} */ words, /** @type {number} */ x) => {
        const share = Number.isFinite(x) ? Math.abs(x) / largest : 0;
        const width = 48 * share;
        const svg = shape("svg", { viewBox: "0 0 100 12", class: "bar", role: "img", "aria-label": `${words}: ${format(x)}`, preserveAspectRatio: "none" }, document.createDocumentFragment());
        shape("path", { d: "M50 0V12", class: "zero" }, svg);
        shape("rect", { x: x < 0 ? 50 - width : 50, y: 2, width, height: 8, class: `${kind} ${x < 0 ? "negative" : "positive"}` }, svg);
        return element("div", { class: "nudged" }, element("span", {}, words), svg, num(x));
      };
      body.replaceChildren(
        bar("predicted", `predicted: ${format(passes.shown.gradient[leaf])} × ${format(by)}`, predicted),
        bar("actual", `actual change of ${nameOf(passes.output)}`, actual),
        element("p", { class: "why", id: "nudge-says" }, verdict(predicted, there, thereError)),
      );
    }

    return {
      name: "nudge",
      title: "Nudge",
      about: "Change a leaf a little: what its gradient predicts, and what happens",
      build() {
        const among = namedLeaves().filter((i) => !isLocked(i));
        if (!among.length) return [element("p", { class: "why" }, "No leaf can be changed here.")];
        if (!among.includes(leaf)) leaf = among[0];
        body = element("div", { id: "nudge", role: "status" });
        const choice = leafChoice("nudged", "Leaf", among, (i) => ((leaf = i), refresh()));
        choice.querySelector("select").value = String(leaf);
        const box = /** @type {HTMLInputElement} */ (element("input", { id: "by", type: "number", step: "any", value: String(by) }));
        box.addEventListener("input", () => {
          if (box.value === "") return;
          by = Number(box.value);
          refresh();
        });
        const halve = toolButton("halve", "Halve it", () => {
          by /= 2;
          box.value = String(by);
          refresh();
        });
        return [choice, element("label", {}, "changes by ", box), halve, body];
      },
      refresh,
      close: () => (body = null),
    };
  })(),
);
