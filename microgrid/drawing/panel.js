// @ts-check
// The node that is selected, or current: its formula, its local derivatives, the paths of its gradient.
"use strict";

const panel = { now: byId("now"), node: document.getElementById("node"), leaves: document.getElementById("leaves") };
const PATHS = 8;
const LONG = 72; // letters of a formula that words are better than
const CASES = /where\(|=.*=/; // so are they where it tells cases apart
let highlighted = new Set();

/** @param {number[]} path */
function highlight(path) {
  const before = highlighted;
  highlighted = new Set(path);
  edges.forEach((edge) => {
    if (before.has(edge.program) || highlighted.has(edge.program)) paintEdge(edge);
  });
}

function describeNode() {
  highlight([]);
  const node = selected ?? steps[now].node;
  const heading = element("h2", {}, selected ? "Selected" : "This node");
  if (!node) {
    panel.node.replaceChildren(heading, element("p", { class: "why" }, "Click a node, or walk to it with Tab and ↑ ↓, to see its formula, its local derivatives and every path of its gradient."));
    return;
  }
  if (selected) {
    const close = element("button", { class: "plain", "aria-label": "Deselect" }, "×");
    close.addEventListener("click", () => select(null));
    heading.append(close);
  }
  panel.node.replaceChildren(heading, ...(node.single ? describeValue(node) : describeGroup(node)));
}

/** @param {GraphNode} node */
function describeGroup(node) {
  const parameters = parametersOf(node);
  return [
    line(bold(node.title), ` stands for ${count(node.values.length, "node")}${parameters.length ? `, ${parametersInWords(parameters)} among them` : ""}`),
    line("data ", bold(dataShown(node) ? range(node.exits.map((i) => passes.shown.data[i])) : "not yet computed", "number")),
    line("gradient ", bold(node.reached && node.completeStep <= now ? range(node.exits.map((i) => passes.shown.gradient[i])) : "not yet complete", "number")),
  ];
}

// The line of Python that made a value, where record_lines() noted it.
/** @param {number} i */
function lineOf(i) {
  const line = program.lines?.[program.lineOf[i]];
  return line ? element("p", { class: "why origin" }, `Made by ${line}`) : null;
}

/** @param {GraphNode} node */
function describeValue(node) {
  const i = node.values[0];
  const name = nameOf(i, 200);
  const known = dataShown(node);
  const complete = node.completeStep <= now;
  const gradient = gradientNow(node);
  /** @type {any[]} */
  const parts = [];
  /** @type {Record<string, string>} */
  const kinds = { input: "a leaf", parameter: "a parameter", constant: "a constant", operation: passes.row(i).name };
  parts.push(
    element("div", { class: "title" }, bold(name), element("span", { class: "kind" }, [kinds[node.kind], node === outputNode ? "the output" : "", contextOf(i)].filter((text) => text).join(", "))),
    element(
      "dl",
      { class: "facts" },
      element("dt", {}, "data"),
      element("dd", {}, known ? whole(passes.data[i], "full-data") : "not yet computed"),
      element("dt", {}, "grad"),
      element("dd", {}, ...(gradient === null ? [node.reached ? "nothing has arrived yet" : "nothing flows to it"] : [whole(gradient, "full-gradient"), complete ? "" : " so far"])),
    ),
  );
  parts.push(...[faultOf(node) ? element("p", { class: "line remark" }, faultOf(node)) : null, isMarkShown(node) && marksOn(node).length ? element("p", { class: "line remark" }, marksOn(node).join(", ")) : null, remarkOn(i), lineOf(i)].filter((part) => part));
  if (node.computes) {
    parts.push(element("h3", {}, "Formula"), line(bold(held(i)), ` = ${formulaOf(i)}`));
    if (known) parts.push(line(element("span", { class: "indent" }, `= ${numbersOf(i)}`), " = ", num(passes.shown.data[i])));
    if (passes.row(i).problem) parts.push(element("p", { class: "why" }, `Computed in Python: ${passes.row(i).problem}.`));
    parts.push(element("h3", {}, "Local derivatives"));
    let said = false; // in words, where a formula is too hard to be read
    const list = passes.parents[i].slice(0, 40).map((parent, argument) => {
      const formula = fill(passes.row(i).derivatives[argument], i, (j) => (isConstant(j) ? nameOf(j) : held(j)));
      const value = passes.shown.derivative[passes.first[i] + argument];
      const isHard = [...formula].length > LONG || CASES.test(formula);
      said ||= isHard;
      return line(`∂${held(i)}/∂${held(parent)}`, isHard ? "" : ` = ${formula}`, ...(known && formula !== format(value) ? [" = ", bold(format(value), "number")] : []));
    });
    parts.push(...list, said ? element("p", { class: "why" }, `${nameOf(i)}: ${passes.row(i).doc}.`) : "");
    if (passes.parents[i].length > 40) parts.push(line(`… and ${passes.parents[i].length - 40} more`));
  }
  const received = passes.received[i];
  if (node !== outputNode && received.length) {
    parts.push(element("h3", {}, "Gradient: what each use of it adds"));
    for (const edge of received.slice(0, 24)) {
      const child = passes.child[edge];
      const from = element("span", { class: "note" }, ` from ${nameOf(child)}`);
      parts.push(
        arrived(edge)
          ? line(...addition(edge), from)
          : element("p", { class: "line waiting" }, `${held(child)}.grad × ∂${held(child)}/∂${held(i)}`, from, ", not yet"),
      );
    }
    if (received.length > 24) parts.push(line(`… and ${received.length - 24} more uses`));
    if (received.length > 1 && gradient !== null) parts.push(element("p", { class: "line total" }, complete ? "sum = " : "so far = ", num(gradient)));
    parts.push(...describePaths(i, complete));
  }
  return parts;
}

/** @param {number} i @param {boolean} complete */
function describePaths(i, complete) {
  const { paths, total } = passes.pathsToOutput(i, PATHS);
  const heading = element("h3", {}, total === 1 ? "The path to the output" : `Sum over ${format(total)} paths to the output`);
  if (!complete) return [heading, element("p", { class: "why" }, "Along each path the local derivatives are multiplied; the products add up to the gradient. Step on until it is complete.")];
  const lines = paths.map((path) => {
    const products = path.map((edge) => passes.shown.derivative[edge]);
    const product = products.reduceRight((all, d) => all * d, 1);
    const stops = [nameOf(i, 10), ...path.map((edge) => nameOf(passes.child[edge], 10))];
    const shown = (/** @type {any[]} */ list) => (list.length > 7 ? [...list.slice(0, 3), "…", ...list.slice(-3)] : list);
    const item = element(
      "button",
      { class: "path" },
      element("span", { class: "stops" }, shown(stops).join(" → ")),
      element("span", { class: "product" }, `${shown(products.map(format)).join(" × ")} = `, num(product)),
    );
    for (const event of ["pointerenter", "focus"]) item.addEventListener(event, () => highlight(path));
    for (const event of ["pointerleave", "blur"]) item.addEventListener(event, () => highlight([]));
    item.addEventListener("click", () => highlight(path));
    return item;
  });
  if (total > paths.length) lines.push(element("p", { class: "why" }, `These are the first ${paths.length}; the gradient is the sum of all ${format(total)}, computed without walking them one by one. That is what backpropagation is for.`));
  else if (total > 1) lines.push(element("p", { class: "line total" }, "sum = ", num(passes.shown.gradient[i])));
  return [heading, ...lines];
}
