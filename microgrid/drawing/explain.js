// @ts-check
// What happens in the current step.
"use strict";

const MANY = 12;

function sentEdges(i) {
  return passes.parents[i]
    .map((_, argument) => passes.first[i] + argument)
    .filter((edge) => passes.sends(i, edge - passes.first[i]) && !isConstant(passes.parentOf(edge)));
}

function explain() {
  const { phase, node } = steps[now];
  const counted = (k, of) => element("span", { class: "count" }, `${k} of ${of}`);
  const heading = (text, ...more) => element("h2", { class: phase }, text, ...more);
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
      element("p", { class: "why" }, order.length ? "They were given. The forward pass computes everything else from them: press play, or →." : "Nothing is computed from it yet: it is a leaf."),
    ];
  }
  if (!node.single) return explainGroup(phase, node, heading);
  const i = node.values[0];
  const name = nameOf(i);
  if (phase === "forward")
    return [
      heading("Forward ", counted(now, order.length)),
      line(bold(name), ` = ${formulaOf(i)}`),
      line(element("span", { class: "indent" }, `= ${numbersOf(i)}`), " = ", num(passes.shown.data[i])),
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
  const why = !sent.length
    ? "Nothing flows back from here: the local derivatives are always 0, or the operands are constants."
    : `${consumers > 1 ? `${consumers === 2 ? "Both" : `All ${consumers}`} parts of ${name}.grad have arrived and are added up, so it` : `${name}.grad is complete, so it`} is passed on: times each local derivative.`;
  return [
    heading("Backward ", counted(now - seedStep, order.length)),
    line(bold(name), ` = ${formulaOf(i)} has gradient `, num(passes.shown.gradient[i])),
    ...sent.slice(0, MANY).map((edge) => line(...addition(edge), arrivalNote(edge))),
    sent.length > MANY ? line(`… and ${sent.length - MANY} more operands alike.`) : null,
    element("p", { class: "why" }, why),
  ];
}

function arrivalNote(edge) {
  const before = passes.sumBefore[edge];
  const parent = passes.parentOf(edge);
  if (passes.received[parent][0] === edge) return null;
  return element("span", { class: "note" }, ` added to ${format(before)} → ${format(before + passes.flow[edge])}`);
}

function computed(node) {
  return node.values.filter((i) => !passes.isLeaf(i));
}

function explainGroup(phase, node, heading) {
  const values = computed(node);
  if (phase === "forward")
    return [
      heading(`Forward: ${node.title}`),
      line(`computes ${count(values.length, "node")}; what comes out: `, bold(range(node.exits.map((i) => passes.shown.data[i])), "number")),
    ];
  const targets = new Set(node.into.map((edge) => nodes[edge.source]));
  return [
    heading(`Backward: ${node.title}`),
    line(`${count(values.length, "node")} pass gradients on, from `, bold(range(node.exits.map((i) => passes.shown.gradient[i])), "number"), " where they come in"),
    element("p", { class: "why" }, `They flow on into ${count(targets.size, "box")}. Each node within multiplies its gradient by its local derivatives, as anywhere.`),
  ];
}
