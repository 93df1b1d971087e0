// @ts-check
// The tools of the page, of which one at a time is open in a strip above the graph.
"use strict";

/** @typedef { { name: string, title: string, about: string, build: () => (Node | string)[], refresh?: () => void, close?: () => void } } Tool */

const tools = (() => {
  const bar = element("div", { id: "tools", role: "group", "aria-label": "Tools" });
  const strip = element("section", { id: "tool", hidden: "", "aria-label": "Tool" });
  byId("speeds").after(bar);
  document.querySelector("main").before(strip);
  // What is typed here is no key of the playback.
  strip.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") (show(null), buttons.get(last)?.focus());
    event.stopPropagation();
  });
  /** @type {Map<Tool, HTMLElement>} */
  const buttons = new Map();
  /** @type {Tool | null} */
  let open = null;
  /** @type {Tool | null} */
  let last = null;

  /** @param {Tool | null} tool */
  function show(tool) {
    open?.close?.();
    open = tool;
    last = tool ?? last;
    for (const [each, button] of buttons) button.setAttribute("aria-expanded", String(each === tool));
    strip.hidden = !tool;
    if (tool) strip.setAttribute("aria-label", tool.title);
    strip.replaceChildren(...(tool ? tool.build() : []));
    refresh();
  }

  function refresh() {
    open?.refresh?.();
  }

  return {
    /** What Python found is open at first. */
    openFirst() {
      const first = [...buttons.keys()][0];
      if (first.name === "findings") show(first);
    },
    /** @param {Tool} tool */
    add(tool) {
      const button = element("button", { id: `tool-${tool.name}`, title: tool.about, "aria-expanded": "false", "aria-controls": "tool" }, tool.title);
      button.addEventListener("click", () => show(open === tool ? null : tool));
      buttons.set(tool, button);
      bar.append(button);
    },
    show,
    refresh,
  };
})();

/** A button. @param {string} id @param {string} text @param {() => void} action */
function toolButton(id, text, action) {
  const button = element("button", { id, class: "tool-button" }, text);
  button.addEventListener("click", action);
  return /** @type {HTMLButtonElement} */ (button);
}

/** A choice among leaves. @param {string} id @param {string} label @param {number[]} among @param {(i: number) => void} chosen */
function leafChoice(id, label, among, chosen) {
  const select = /** @type {HTMLSelectElement} */ (element("select", { id }, ...among.map((i) => element("option", { value: String(i) }, fullName(i)))));
  select.addEventListener("change", () => chosen(Number(select.value)));
  return element("label", {}, label, " ", select);
}

/** The leaves that are no plain numbers and reach the output. */
function namedLeaves() {
  return leaves.filter((i) => !isConstant(i) && nodes[nodeOf[i]]);
}
