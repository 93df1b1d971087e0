// @ts-check
// What Python was asked to point out: nodes, or what why() and precision() found. It holds for the numbers that Python
// gave, so it goes when a leaf is changed.
"use strict";

/** @typedef { { summary: string, pass: "forward" | "backward" | "", quotes: { fact: string, remedy: string, place: number | null }[] } } Findings */
/** @type {Findings | null} */
const findings = page.findings ?? null;
let findingsHold = true;

function checkFindings() {
  findingsHold = !program.marks || [...passes.given].every(([i, x]) => !passes.isLeaf(i) || Object.is(passes.data[i], x));
}

/** @param {GraphNode} node */
function isMarked(node) {
  return program.marks !== undefined && node.values.some((i) => program.marks[i]);
}

// What is said at a node in all, a line for each, and by now: of a gradient once it is complete.
/** @param {{ values: number[] }} node @returns {string[]} */
function marksOn(node) {
  return [...new Set(node.values.flatMap((i) => program.marks?.[i] ?? []))].slice(0, 2);
}

/** @param {GraphNode} node */
function isMarkShown(node) {
  if (!findingsHold || !isMarked(node)) return false;
  return findings.pass === "backward" ? now >= Math.max(seedStep, node.completeStep) : findings.pass !== "forward" || dataShown(node);
}

/** @param {GraphNode} node */
function paintMark(node) {
  if (!isMarked(node)) return false;
  const shown = isMarkShown(node);
  node.markText ??= shape("text", { class: "fault mark" }, /** @type {any} */ (node.element));
  if (!set(node, "markIsShown", shown)) return shown;
  const room = Math.floor((node.size[0] - 22) / CARD.said); // the panel has all of it
  node.markText.replaceChildren();
  for (const [k, text] of (shown ? marksOn(node) : []).entries())
    shape("tspan", { x: 11, y: CARD.height + 14 + k * CARD.mark }, node.markText, shorten(text, room));
  return shown;
}

if (findings?.quotes.length)
  tools.add({
    name: "findings",
    title: "Findings",
    about: "What Python found in this graph",
    build() {
      const quotes = findings.quotes.map(({ fact, remedy, place }) => {
        const button = place === null ? null : toolButton(`finding-${place}`, "Show where", () => showFinding(place));
        return element("div", { class: "finding" }, element("p", {}, element("b", {}, fact)), element("p", { class: "why" }, remedy), button);
      });
      const [first, ...more] = quotes;
      const rest = more.length ? element("details", { class: "finding" }, element("summary", {}, `${count(more.length, "more finding")}`), ...more) : null;
      return [element("p", { class: "line" }, findings.summary), first, ...(rest ? [rest] : []), element("p", { id: "findings-hold", class: "why remark", role: "status" })];
    },
    refresh() {
      byId("findings-hold").textContent = program === page.program && findingsHold ? "" : "This is of the numbers that Python gave: reset brings them back.";
    },
  });

/** @param {number} place a value */
function showFinding(place) {
  if (program !== page.program) return;
  const node = nodes[nodeOf[place]];
  goTo(lastStep);
  select(node);
  follow(node);
}
