// @ts-check
// What happens in the current step.
"use strict";

const MANY = 12;

/** @param {number} i */
function sentEdges(i) {
  return passes.parents[i]
    .map((_, argument) => passes.first[i] + argument)
    .filter((edge) => passes.sends(i, edge - passes.first[i]) && !isConstant(passes.parentOf(edge)));
}

function explain() {
  const { phase, node } = steps[now];
  const counted = (/** @type {number} */ k, /** @type {number} */ of) => element("span", { class: "count" }, `${k} of ${of}`);
  const heading = (/** @type {string} */ text, /** @type {Node[]} */ ...more) => element("h2", { class: phase }, text, ...more);
  if (phase === "leaves") {
    const inputs = leaves.filter((i) => !isConstant(i) && moduleOf(i) < 0);
    const parameters = leaves.filter((i) => !isConstant(i)).length - inputs.length;
    const some = inputs.slice(0, MANY).flatMap((i, k) => [k ? ", " : "", bold(nameOf(i)), " = ", plain(passes.shown.data[i])]);
    const more = [
      inputs.length > MANY ? `${inputs.length - MANY} more` : "",
      parameters ? `${count(parameters, "parameter")}` : "",
    ].filter((text) => text);
    return [
      heading("The leaves"),
      element("p", {}, ...some, some.length && more.length ? ", and " : "", more.join(" and "), "."),
      ...Object.keys(program.remarks).slice(0, 3).map((i) => remarkOn(Number(i))),
      element("p", { class: "why" }, order.length ? "They were given. The forward pass computes everything else from them." : "Nothing is computed from it yet: it is a leaf."),
    ];
  }
  if (!node.single) return explainGroup(phase, node, heading);
  const i = node.values[0];
  const name = held(i);
  const fault = (/** @type {string} */ text) => (text ? element("p", { class: "line remark" }, text) : null);
  if (phase === "forward")
    return [
      heading("Forward ", counted(now, order.length)),
      line(bold(name), ` = ${formulaOf(i)}`),
      line(element("span", { class: "indent" }, `= ${numbersOf(i)}`), " = ", num(passes.shown.data[i])),
      fault(begins.forward?.value === i ? begins.forward.text : ""),
      element("p", { class: "why" }, passes.row(i).doc.replace(/\.$/, "") + "."),
    ];
  if (phase === "seed")
    return [
      heading("The backward pass begins"),
      line(bold(`${name}.grad`), " = ", num(1)),
      element("p", { class: "why" }, `The output changes exactly as much as itself: ∂${name}/∂${name} = 1. From here each node passes its gradient on to its operands, in reverse topological order.`),
    ];
  const sent = sentEdges(i);
  const consumers = passes.received[i].length;
  const arrivals = passes.received[i].map((edge) => Math.abs(passes.flow[edge]));
  const cancels = consumers > 1 && Math.abs(passes.gradient[i]) < 1e-12 * Math.max(...arrivals);
  const why = !sent.length
    ? passes.reached[i]
      ? `Nothing flows back from here: the local derivatives are always 0, or the operands are constants.${cancels ? " Nor is anything lost: what arrives cancels, it adds up to 0." : ""}`
      : "No gradient arrives here, so none is passed on."
    : `${consumers > 1 ? `${consumers === 2 ? "Both" : `All ${consumers}`} parts of ${name}.grad have arrived and are added up, so it` : `${name}.grad is complete, so it`} is passed on: times each local derivative.`;
  return [
    heading("Backward ", counted(now - seedStep, order.length)),
    line(bold(name), ` = ${formulaOf(i)} has ${passes.reached[i] ? "" : "no "}gradient `, passes.reached[i] ? num(passes.shown.gradient[i]) : ""),
    ...sent.slice(0, MANY).map((edge) => line(...addition(edge), arrivalNote(edge))),
    sent.length > MANY ? line(`… and ${sent.length - MANY} more operands alike.`) : null,
    fault(sent.some((edge) => edge === begins.backward?.edge) ? begins.backward.text : ""),
    element("p", { class: "why" }, why),
  ];
}

/** @param {number} edge */
function arrivalNote(edge) {
  const before = passes.sumBefore[edge];
  const parent = passes.parentOf(edge);
  if (passes.received[parent][0] === edge) return null;
  return element("span", { class: "note" }, ` added to ${format(before)} → ${format(before + passes.flow[edge])}`);
}

/** @param {GraphNode} node */
function computed(node) {
  return node.values.filter((i) => !passes.isLeaf(i));
}

/** @param {GraphNode} node */
function parametersOf(node) {
  const inside = new Set(node.values);
  return leaves.filter((i) => inside.has(i) && !isConstant(i));
}

// "8 weights and 4 biases"
/** @param {number[]} parameters */
function parametersInWords(parameters) {
  const kinds = new Map();
  for (const i of parameters) {
    const stem = (program.labels[i] ?? "").replace(/[\d_[\]]+$/, "");
    const kind = /** @type {Record<string, string>} */ ({ w: "weight", weight: "weight", b: "bias", bias: "bias", "": "parameter" })[stem] ?? stem;
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  const parts = [...kinds].map(([kind, n]) => count(n, kind));
  return parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}` : parts[0];
}

const CELLS = 96;

// Their gradients as a strip of colours, in the order of the list of leaves.
/** @param {number[]} parameters */
function strip(parameters) {
  const cells = parameters.slice(0, CELLS).map((i) => element("span", { class: `cell ${tone(passes.shown.gradient[i])}`, title: `${fullName(i)}.grad = ${format(passes.shown.gradient[i])}` }));
  const sizes = `${count(parameters.length, "gradient")}, ${range(parameters.map((i) => passes.shown.gradient[i]))}`;
  return element("div", { class: "strip", role: "img", "aria-label": sizes }, ...cells, parameters.length > CELLS ? " …" : "");
}

/** @param {string} phase @param {GraphNode} node @param {(text: string, ...more: Node[]) => HTMLElement} heading */
function explainGroup(phase, node, heading) {
  const values = computed(node);
  const parameters = parametersOf(node);
  if (phase === "forward")
    return [
      heading(`Forward: ${node.title}`),
      line(`${count(values.length, "node")} computed${parameters.length ? `, with ${parametersInWords(parameters)}` : ""}`),
      line(`${node.exits.length > 1 ? `${node.exits.length} numbers come` : "What comes"} out: `, bold(range(node.exits.map((i) => passes.shown.data[i])), "number")),
      element("p", { class: "why" }, "Click the box to see within."),
    ];
  const targets = node.into.filter((edge) => edge.flows).map((edge) => nodes[edge.source]);
  const names = [...new Set(targets)].map((target) => (target.single ? nameOf(target.values[0]) : target.title));
  const onwards = names.length ? `What is left flows on into ${names.slice(0, 4).join(", ")}${names.length > 4 ? ` and ${names.length - 4} more` : ""}.` : "Nothing flows further: what feeds it needs no gradient.";
  return [
    heading(`Backward: ${node.title}`),
    line(node.exits.length > 1 ? `${node.exits.length} gradients come in: ` : "What comes in: ", bold(range(node.exits.map((i) => passes.shown.gradient[i])), "number")),
    ...(parameters.length ? [element("p", {}, `The ${parametersInWords(parameters)} of ${node.title} have their gradients:`), strip(parameters)] : []),
    element("p", { class: "why" }, onwards),
  ];
}
