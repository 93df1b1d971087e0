// @ts-check
// The state of the page as a link, and the step that is shown as a picture.
"use strict";

/** @type {Set<number>} the modules that were open at first */
let openedAtFirst = new Set();
/** @type {Direction} */
let directionAtFirst = "LR";

// "step=7&node=3&open=0.2&4=2.5", and a formula that was typed: the leaves that were changed go by their numbers.
function stateInWords() {
  const state = new URLSearchParams();
  if (formulas.typed) state.set("formula", formulas.typed);
  if (now) state.set("step", String(now));
  if (selected?.single) state.set("node", String(selected.values[0]));
  if (opened.symmetricDifference(openedAtFirst).size) state.set("open", [...opened].join("."));
  if (direction !== directionAtFirst) state.set("direction", direction);
  for (const i of leaves) if (passes.data[i] !== passes.given.get(i)) state.set(String(i), String(passes.data[i]));
  return state.toString();
}

// What a link says of numbers or boxes that are not there is passed over.
function restoreState() {
  const state = new URLSearchParams(location.hash.slice(1));
  if (state.has("formula")) formulas.restore(state.get("formula"));
  const open = (state.get("open") ?? [...openedAtFirst].join(".")).split(".").filter((text) => text !== "");
  const wanted = new Set(open.map(Number).filter((m) => modules[m]));
  const turned = /** @type {Direction} */ (state.get("direction") ?? directionAtFirst);
  if (wanted.symmetricDifference(opened).size || (turned !== direction && /^(LR|RL|TB|BT)$/.test(turned))) {
    opened = wanted;
    direction = turned;
    redraw();
    showAll();
  }
  for (const i of leaves) {
    const x = state.has(String(i)) && !isLocked(i) ? Number(state.get(String(i))) : passes.given.get(i);
    passes.data[i] = x === x ? x : passes.given.get(i);
  }
  compute();
  goTo(Number(state.get("step") ?? 0) || 0);
  const node = state.has("node") ? nodes[nodeOf[Number(state.get("node"))]] : null;
  select(node ?? null);
}

/** @param {string} text */
function say(text) {
  byId("said").textContent = text;
  setTimeout(() => (byId("said").textContent = ""), 4000);
}

async function copyLink() {
  history.replaceState(null, "", `#${stateInWords()}`);
  try {
    await navigator.clipboard.writeText(location.href);
    say("Link copied");
  } catch {
    say("The link is in the address bar");
  }
}

const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "paint-order", "opacity", "font-family", "font-size", "font-weight", "font-style", "text-anchor"];

const STEP_MARGIN = 20;
const LINE = 1.5; // the height of a line of a caption, in letters

// The graph as it stands, in a file that needs no style sheet; under it the lines of a caption, for which room is left.
/** @param {string[]} [caption] @param {number} [letter] the size of its letters */
function svgOfStep(caption = [], letter = 0) {
  const margin = STEP_MARGIN;
  const [left, top, right, bottom] = bounds;
  const [width, height] = [right - left + 2 * margin, bottom - top + 2 * margin + FILM.lines * LINE * letter];
  const file = /** @type {SVGElement} */ (shape("svg", { xmlns: SVG, viewBox: `${left - margin} ${top - margin} ${width} ${height}`, width, height }, document.createDocumentFragment()));
  shape("title", {}, file, page.title);
  shape("desc", {}, file, stepInWords());
  shape("rect", { x: left - margin, y: top - margin, width, height, fill: getComputedStyle(document.body).backgroundColor }, file);
  caption.forEach((text, k) => {
    const style = getComputedStyle(document.body);
    shape("text", { x: left, y: bottom + margin + (k + 0.8) * LINE * letter, fill: style.color, "font-family": style.fontFamily, "font-size": letter, "font-weight": k ? 400 : 700 }, file, text);
  });
  const { detail } = view;
  setDetail(""); // a file is read as near as one likes
  const copy = (/** @type {any} */ from, /** @type {any} */ to) => {
    for (const child of from.children) {
      const style = getComputedStyle(child);
      if (style.display === "none" && !child.dataset.node && !child.closest(".edge")) continue;
      const made = child.cloneNode(false);
      for (const name of [...made.attributes].map((attribute) => attribute.name)) if (/^(class|style|role|tabindex|data-|aria-)/.test(name)) made.removeAttribute(name);
      if (handles.includes(child)) made.removeAttribute("transform"); // all of the frame is in sight
      if (!child.children.length) {
        made.textContent = child.textContent;
        for (const name of DRAWN) made.setAttribute(name, style.getPropertyValue(name));
      } else made.setAttribute("opacity", style.opacity);
      to.append(made);
      copy(child, made);
    }
  };
  copy(world, file);
  setDetail(detail);
  return new XMLSerializer().serializeToString(file);
}

/** @param {Blob} blob @param {string} name */
function download(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

const MOST_PIXELS = 8192; // on a side: browsers draw no larger picture

function saveSvg() {
  download(new Blob([svgOfStep()], { type: "image/svg+xml" }), `${page.title} - step ${now}.svg`);
}

/** @param {string} svg */
async function rasterOf(svg) {
  const address = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  const image = new Image();
  image.src = address;
  await image.decode();
  URL.revokeObjectURL(address);
  return image;
}

async function savePng() {
  const image = await rasterOf(svgOfStep());
  const scale = Math.min(2, MOST_PIXELS / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = Object.assign(document.createElement("canvas"), { width: Math.ceil(scale * image.naturalWidth), height: Math.ceil(scale * image.naturalHeight) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => download(blob, `${page.title} - step ${now}.png`));
}

window.addEventListener("hashchange", restoreState);
