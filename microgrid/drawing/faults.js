// @ts-check
// What is known to be wrong with the numbers: where nan or infinity begins, and what Python's nodes held beside it.
"use strict";

/** @typedef { { value: number, text: string, edge?: number } } Fault */
/** @type {Record<"forward" | "backward", Fault | null>} where numbers stop being finite, in either pass */
const begins = { forward: null, backward: null };

// The first number that is not finite; a leaf may have been given so, and a constant may be infinite.
function findFaults() {
  begins.forward = null;
  begins.backward = null;
  for (let i = 0; i < passes.count && !begins.forward; i++)
    if (!Number.isFinite(passes.data[i]) && !isConstant(i))
      begins.forward = { value: i, text: `${format(passes.data[i])} begins here${passes.isLeaf(i) ? "" : `: ${numbersOf(i)}`}` };
  for (let i = passes.count - 1; i >= 0 && !begins.backward; i--)
    for (let edge = passes.first[i]; edge < passes.first[i + 1] && !begins.backward; edge++)
      if (!Number.isFinite(passes.flow[edge]) && !isConstant(passes.parentOf(edge)))
        begins.backward = { value: passes.parentOf(edge), edge, text: `${format(passes.flow[edge])} begins here: ${format(passes.gradient[i])} × ${format(passes.derivative[edge])}` };
}

// The words for a card, once the play has come to where it happens.
/** @param {GraphNode} node */
function faultOf(node) {
  const { forward, backward } = begins;
  if (forward && nodeOf[forward.value] === node.index && dataShown(node)) return forward.text;
  if (backward && nodeOf[backward.value] === node.index && gradientNow(node) !== null && !Number.isFinite(gradientNow(node))) return backward.text;
  return "";
}

// A sign above the card that begins it.
/** @param {GraphNode} node */
function markFault(node) {
  const text = faultOf(node);
  if (text && !node.faultText) node.faultText = shape("text", { class: "fault", x: 1, y: -8 }, /** @type {any} */ (node.element));
  setText(node, "faultText", text.split(":")[0]); // the panel says why
  return text !== "";
}

// "In Python x.grad = 6 + 6 from before": what the nodes held that Python gave to the page, which begins at 0.
/** @param {number} i */
function remarkOn(i) {
  const remark = program.remarks[i];
  if (!remark) return null;
  const begin = remark.startsWith("out of date") ? `${nameOf(i)} is` : `${held(i)}.grad`;
  return element("p", { class: "why remark" }, `In Python ${begin} ${remark}. Here both passes are computed anew, from 0.`);
}
