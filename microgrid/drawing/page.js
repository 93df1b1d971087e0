// @ts-check
// What all pages share: numbers in words, making elements, and the controls that play a page step by step.
"use strict";

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

const page = JSON.parse(byId("data").textContent);
document.title = page.title;

/** @template {Event} E @typedef {E & { target: HTMLElement }} Aimed an event at something on the page */

const MINUS = "−";
const SVG = "http://www.w3.org/2000/svg";

// Four significant digits, whole numbers in full, as in all pictures.
/** @param {number} x */
function format(x) {
  if (x !== x) return "nan";
  if (Math.abs(x) === Infinity) return x > 0 ? "inf" : MINUS + "inf";
  let text = String(x);
  if (!(Number.isInteger(x) && Math.abs(x) < 1e6)) {
    const size = Math.abs(x);
    text = size >= 1e6 || size < 1e-4 ? x.toExponential(3).replace(/\.?0*e\+?/, "e") : size >= 1e4 ? x.toFixed(0) : String(Number(x.toPrecision(4)));
  }
  return text.replace(/-/g, MINUS);
}

/** @param {string} tag @param {Record<string, any>} attributes @param {(Node | string | null | undefined)[]} children @returns {any} */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** @param {string} tag @param {Record<string, any>} attributes @param {any} parent @param {string} [text] @returns {any} */
function shape(tag, attributes, parent, text) {
  const made = document.createElementNS(SVG, tag);
  for (const name in attributes) made.setAttribute(name, attributes[name]);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// ---------------------------------------------------------------------------------------------------
// Playing

const slider = byId("slider");
const playButton = byId("play");
const speed = byId("speed");
let now = 0;
let timer = 0;
/** @typedef {{ last: number, pause: number, show: (before: number) => void, words: () => string, live: HTMLElement, keys?: Record<string, (() => void) | null> }} Playback */
/** @type {Playback} */
let playback = null;

/** @type {Record<string, () => void>} */
const controls = {
  first: () => step(-Infinity),
  back: () => step(-1),
  play: () => setPlaying(!isPlaying()),
  forward: () => step(1),
  last: () => step(Infinity),
};

// last: the number of the last step; pause: milliseconds between steps at speed 1; show(before): paints step
// `now`; words(): what a screen reader says of it; live: what says it, too; keys: what more keys do.
/** @param {Playback} options */
function startPlayback(options) {
  playback = options;
  for (const id in controls) byId(id).addEventListener("click", controls[id]);
  slider.max = String(playback.last);
  slider.addEventListener("input", () => step(Number(slider.value) - now));
  document.addEventListener("keydown", (event) => {
    const target = /** @type {Element} */ (event.target);
    const typing = target.matches("input:not([type=range], [type=checkbox], [type=radio]), textarea, select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    /** @type {Record<string, (() => void) | null>} */
    const keys = {
      ArrowRight: controls.forward,
      ArrowLeft: controls.back,
      Home: controls.first,
      End: controls.last,
      " ": target.matches("button, [type=checkbox]") ? null : controls.play,
      ...playback.keys,
    };
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  showPlace();
}

function showPlace() {
  slider.value = String(now);
  slider.setAttribute("aria-valuetext", `Step ${now} of ${playback.last}: ${playback.words()}`);
  for (const id of ["first", "back"]) byId(id).disabled = now === 0;
  for (const id of ["forward", "last"]) byId(id).disabled = now === playback.last;
}

/** @param {number} step */
function goTo(step) {
  const target = Math.min(playback.last, Math.max(0, step));
  const before = now;
  if (target === before) return;
  now = target;
  playback.show(before);
  showPlace();
}

function isPlaying() {
  return timer !== 0;
}

/** @param {boolean} on */
function setPlaying(on) {
  clearTimeout(timer);
  timer = 0;
  if (on) {
    if (now === playback.last) goTo(0);
    const tick = () => {
      goTo(now + 1);
      if (now === playback.last) setPlaying(false);
      else timer = setTimeout(tick, playback.pause / Number(speed.value));
    };
    timer = setTimeout(tick, Math.min(300, playback.pause / Number(speed.value)));
  }
  document.body.classList.toggle("playing", on);
  playButton.setAttribute("aria-label", on ? "Pause" : "Play");
  playButton.title = on ? "Pause (space)" : "Play (space)";
  // A screen reader reads each step when stepping, and is not talked over when playing.
  playback.live.setAttribute("aria-live", on ? "off" : "polite");
}

/** @param {number} by */
function step(by) {
  setPlaying(false);
  goTo(now + by);
}
