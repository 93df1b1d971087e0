// @ts-check
// Colours and pixels: the sign's hue in four strengths, classes, and fields of numbers as pictures.
"use strict";

/** @typedef {number[]} Rgb */

/** @type {{ paper: Rgb, ink: Rgb, negative: Rgb, positive: Rgb, classes: Rgb[], unknown: number }} */
const colors = { paper: [], ink: [], negative: [], positive: [], classes: [], unknown: 0 };

/** @param {Iterable<number>} list */
function largest(list) {
  let most = 0;
  for (const x of list) if (Math.abs(x) > most && Math.abs(x) < Infinity) most = Math.abs(x);
  return most;
}

/** The rule of all pictures: the sign's colour, in four strengths. @param {number} x @param {number} most */
function signAndLevel(x, most) {
  const size = Math.abs(x);
  if (size === 0) return "";
  const level = !(size < most * 0.5) ? 4 : size >= most * 0.1 ? 3 : size >= most * 0.01 ? 2 : 1;
  return `${x < 0 ? "negative" : "positive"}-${level}`;
}

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (/** @type {string} */ name) => [1, 3, 5].map((k) => parseInt(style.getPropertyValue(name).trim().slice(k, k + 2), 16));
  Object.assign(colors, { paper: rgb("--paper"), ink: rgb("--ink"), negative: rgb("--negative-4"), positive: rgb("--positive-4") });
  colors.classes = Array.from({ length: 10 }, (_, i) => rgb(`--class-${i}`));
  for (let i = 0; i <= SHADES; i++) {
    const x = (2 * i) / SHADES - 1;
    shades[i] = pixelOf(mix(x < 0 ? colors.negative : colors.positive, Math.abs(x)));
  }
  colors.unknown = pixelOf([128, 128, 128]);
}

/** @param {Rgb} color @param {number} share */
function mix(color, share) {
  return color.map((c, k) => Math.round(colors.paper[k] + share * (c - colors.paper[k])));
}

// Colours are one number each, as the pixels of a canvas have them.
const SHADES = 512;
const shades = new Uint32Array(SHADES + 1);

/** @param {Rgb} rgb */
function pixelOf(rgb) {
  return new Uint32Array(Uint8Array.of(...rgb, 255).buffer)[0];
}

/** From the colour of −1 over paper to that of 1. @param {number} x */
function shade(x) {
  return x === x ? shades[Math.round((SHADES / 2) * (1 + Math.min(1, Math.max(-1, x))))] : colors.unknown;
}

/** @param {HTMLCanvasElement} canvas @param {number} width @param {number} height @param {Uint32Array<ArrayBuffer>} pixels */
function paint(canvas, width, height, pixels) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(new Uint8ClampedArray(pixels.buffer), width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** @param {Uint8ClampedArray} bytes @param {number} i @param {number} share of ink over what is there */
function ink(bytes, i, share) {
  for (let k = 0; k < 3; k++) bytes[4 * i + k] += share * (colors.ink[k] - bytes[4 * i + k]);
}

/**
 * Lines over part of a square picture, as its places tell: 1 and −1 are the two diagonals, 0 is across, null none.
 * @param {Uint32Array<ArrayBuffer>} pixels @param {number} side @param {number} pitch in pixels
 * @param {(i: number) => number | null} slant
 */
function hatch(pixels, side, pitch, slant) {
  const bytes = new Uint8ClampedArray(pixels.buffer);
  for (let i = 0; i < pixels.length; i++) {
    const along = slant(i);
    if (along !== null && (along * (i % side) + Math.floor(i / side)) % pitch === 0) ink(bytes, i, 0.22);
  }
}

/**
 * A square field in the colours of its signs. The negative side is hatched, so that the sign is also seen without
 * colours; a line is where it changes.
 * @param {Numbers} field @param {number} side @param {number} scale @param {number} pitch of the hatching, in pixels
 */
function shadesOf(field, side, scale, pitch) {
  const pixels = new Uint32Array(side * side).map((_, i) => shade(Math.tanh(field[i] / scale)));
  hatch(pixels, side, pitch, (i) => (field[i] < 0 ? 1 : null));
  return pixels;
}

/**
 * Numbers as the cells of a square, in the colours of their signs; negative ones are hatched.
 * @param {Numbers} list @param {number} side @param {number} most
 * @param {HTMLCanvasElement} canvas
 */
function paintCells(canvas, list, side, most) {
  const cell = Math.max(3, Math.round(96 / side));
  const width = side * cell;
  const pixels = new Uint32Array(width * width);
  const bytes = new Uint8ClampedArray(pixels.buffer);
  for (let i = 0; i < pixels.length; i++) {
    const [row, column] = [Math.floor(i / width), i % width];
    const x = list[Math.floor(row / cell) * side + Math.floor(column / cell)] / most;
    pixels[i] = shade(x);
    if (x < 0 && (row + column) % 6 === 0) ink(bytes, i, 0.3 * Math.min(1, -x));
  }
  paint(canvas, width, width, pixels);
}
