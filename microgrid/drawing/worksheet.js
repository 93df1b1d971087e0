// @ts-check
// The steps as text, to copy; and a sheet to print, with blanks to be filled in by hand.
"use strict";

/** What every step says, as Markdown. */
function transcript() {
  const before = now;
  const lines = [`# ${document.title}`];
  for (now = 0; now <= lastStep; now++) {
    const [heading, ...parts] = explain().filter((part) => part !== null);
    lines.push("", `## ${now}. ${heading.textContent.trim()}`, "");
    for (const part of parts) lines.push(part.classList.contains("why") ? `*${part.textContent.trim()}*` : part.tagName === "P" ? `- ${part.textContent.trim().replace(/\s+/g, " ")}` : part.textContent.trim());
  }
  now = before;
  return `${lines.join("\n")}\n`;
}

const BLANK = "_______";

/** The rows of the sheet: every node with its formula, and a blank or the number for each gradient. @param {boolean} solved */
function worksheetTable(solved) {
  const cell = (/** @type {number} */ x) => (solved ? format(x) : BLANK);
  const single = nodes.filter((node) => node.single && node.kind !== "constant");
  const rows = single.map((node) => {
    const i = node.values[0];
    const sums = passes.received[i].map((edge) => `${solved ? format(passes.shown.gradient[passes.child[edge]]) : BLANK} × ${cell(passes.shown.derivative[edge])}`);
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, nameOf(i, 30)),
      element("td", {}, node.computes ? formulaOf(i) : "given"),
      element("td", {}, node.computes ? cell(passes.shown.data[i]) : format(passes.shown.data[i])),
      element("td", {}, node === outputNode ? "1" : node.reached ? sums.join(" + ") : "–"),
      element("td", {}, node === outputNode ? "1" : node.reached ? cell(passes.shown.gradient[i]) : "0"),
    );
  });
  const head = element("tr", {}, ...["node", "formula", "data", "Σ child's gradient × local derivative", "gradient"].map((text) => element("th", { scope: "col" }, text)));
  return element("table", { class: "worksheet" }, element("thead", {}, head), element("tbody", {}, ...rows));
}

tools.add(
  (() => {
    const sheet = element("section", { id: "sheet", "aria-label": "Worksheet" });
    document.body.append(sheet);
    let numbers = new Float64Array();
    let write = () => {};

    /** @param {boolean} solved */
    function print(solved) {
      const before = now;
      sheet.replaceChildren(element("p", {}, solved ? "Solution" : "Name: ____________________   Fill in the data from left to right, then the gradients from right to left."), worksheetTable(solved));
      document.body.classList.add("worksheet");
      goTo(solved ? lastStep : 0); // the graph shows as much as the sheet
      showAll();
      window.print();
      document.body.classList.remove("worksheet");
      goTo(before);
    }

    return {
      name: "text",
      title: "Text",
      about: "The steps as text, and a worksheet to print",
      build() {
        const box = /** @type {HTMLTextAreaElement} */ (element("textarea", { id: "transcript", readonly: "", rows: "8", "aria-label": "The steps as Markdown" }));
        write = () => {
          numbers = passes.data.slice();
          box.value = transcript();
        };
        write();
        const says = element("span", { id: "copied", role: "status", class: "why" });
        const copy = toolButton("copy", "Copy as Markdown", async () => {
          box.select();
          try {
            await navigator.clipboard.writeText(box.value);
            says.textContent = "Copied.";
          } catch {
            says.textContent = document.execCommand("copy") ? "Copied." : "Press Ctrl-C: the text is selected.";
          }
        });
        return [copy, toolButton("print-blank", "Print a worksheet", () => print(false)), toolButton("print-solved", "Print its solution", () => print(true)), says, box];
      },
      // The text is that of all steps: it changes with the numbers, not with the step.
      refresh() {
        if (numbers.some((x, i) => !Object.is(x, passes.data[i]))) write();
      },
    };
  })(),
);
