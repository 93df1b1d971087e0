// @ts-check
// Finding nodes by name, module, operation or number, and going to them: the boxes around them open.
"use strict";

/** @type {number[]} */
let found = [];
let foundAt = -1;

const searchBox = /** @type {HTMLInputElement} */ (element("input", { id: "search", type: "search", "aria-label": "Search the nodes", placeholder: "layer 1 relu, w3, 0.25", autocomplete: "off", spellcheck: "false" }));

// Words may stand anywhere in what a node is called, "layer 0" is one of them; a number is the beginning of one, so 1 is
// not in 0.31.
/** @param {string} text */
function search(text) {
  const words = text.toLowerCase().replace(/-(?=[\d.])/g, MINUS).match(/[a-z]+ \d+(?![\d.])|\S+/g) ?? [];
  found = !words.length ? [] : [...Array(passes.count).keys()].filter((i) => {
    const { name, symbol } = passes.row(i);
    const data = format(passes.data[i]);
    const called = `${fullName(i)} · ${contextOf(i)} · ${passes.isLeaf(i) ? "" : `v${i} ${name} ${data} ${symbol}`} ${data} ${exact(passes.data[i])} `.toLowerCase();
    const parts = called.split(/\s+/);
    return words.every((word) => (word.includes(" ") ? called.includes(`${word} `) : /^[−.\d]/u.test(word) && word !== MINUS ? parts.some((part) => part.startsWith(word)) : called.includes(word)));
  });
  foundAt = -1;
  byId("search-says").textContent = words.length ? count(found.length, "node") : "";
  for (const id of ["search-back", "search-on"]) byId(id).disabled = !found.length;
}

/** Go to the next node that was found, or to the one before. @param {1 | -1} way */
function goToFound(way) {
  if (!found.length) return;
  foundAt = foundAt < 0 && way < 0 ? found.length - 1 : (foundAt + way + found.length) % found.length;
  const i = found[foundAt];
  const before = new Set(opened);
  for (let m = moduleOf(i); m >= 0; m = modules[m].parent ?? -1) opened.add(m);
  if (opened.size > before.size) {
    if (boxes().nodes.length > MOST_BOXES) opened = before;
    else redraw();
  }
  const node = nodes[nodeOf[i]];
  select(node);
  follow(node);
  const place = [contextOf(i), nameOf(i)].filter((part) => part).join(" · ");
  const isHidden = node.single ? "" : `, in the box ${node.title}: with all around it open, more than ${MOST_BOXES.toLocaleString("en")} boxes would be drawn`;
  byId("search-says").textContent = `${foundAt + 1} of ${count(found.length, "node")}: ${place} = ${format(passes.data[i])}${isHidden}`;
}

searchBox.addEventListener("input", () => search(searchBox.value));
searchBox.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  goToFound(event.shiftKey ? -1 : 1);
});

/** @type {Tool} */
const searchTool = {
  name: "search",
  title: "Search",
  about: "Find a node by name, module, operation or number (/)",
  build: () => [element("label", {}, "Find ", searchBox), toolButton("search-back", "Previous", () => goToFound(-1)), toolButton("search-on", "Next", () => goToFound(1)), element("span", { id: "search-says", role: "status" })],
  refresh: () => found.length || search(searchBox.value),
};

const isSearched = page.program.op.length > FEW; // what is seen at a glance needs no search
if (isSearched) tools.add(searchTool);

function openSearch() {
  tools.show(searchTool);
  searchBox.select();
}
