// @ts-check
// Moving pictures as GIF89a (CompuServe, 1990): one palette for all frames, and of each frame what changes.
"use strict";

/** @typedef {{ left: number, top: number, width: number, height: number, pixels: Uint32Array, pause: number }} Frame */

const gif = (() => {
  const COLORS = 256;
  const EXACT = 64;
  const LAST_CODE = 4095;

  /** What differs from the frame before, or all of the first. @param {Uint32Array} now @param {Uint32Array | null} before @param {number} width @param {number} pause in milliseconds @returns {Frame} */
  function changed(now, before, width, pause) {
    const height = now.length / width;
    let [left, top, right, bottom] = before ? [width, height, -1, -1] : [0, 0, width - 1, height - 1];
    if (before)
      for (let i = 0; i < now.length; i++)
        if (now[i] !== before[i]) {
          const x = i % width;
          if (x < left) left = x;
          if (x > right) right = x;
          bottom = (i - x) / width;
          top = Math.min(top, bottom);
        }
    if (right < 0) [left, top, right, bottom] = [0, 0, 0, 0]; // a frame has a pixel at least
    const [across, down] = [right - left + 1, bottom - top + 1];
    const pixels = new Uint32Array(across * down);
    for (let y = 0; y < down; y++) pixels.set(now.subarray((top + y) * width + left, (top + y) * width + right + 1), y * across);
    return { left, top, width: across, height: down, pixels, pause };
  }

  /** The colours that most pixels have, after the first no two of them alike; at most 256. @param {Frame[]} frames */
  function paletteOf(frames) {
    /** @type {Map<number, number>} */
    const counts = new Map();
    for (const { pixels } of frames) for (const color of pixels) counts.set(color, (counts.get(color) ?? 0) + 1);
    const coarse = new Set();
    const chosen = [];
    for (const [color] of [...counts].toSorted((a, b) => b[1] - a[1])) {
      const cell = color & 0xf0f0f0; // sixteen of each red, green and blue
      if (chosen.length >= EXACT && coarse.has(cell)) continue;
      coarse.add(cell);
      if (chosen.push(color) === COLORS) break;
    }
    return chosen;
  }

  /** For a colour the number of the nearest in the palette. @param {number[]} palette */
  function nearest(palette) {
    /** @type {Map<number, number>} */
    const known = new Map(palette.map((color, k) => [color, k]));
    const parts = (/** @type {number} */ color) => [color & 255, (color >> 8) & 255, (color >> 16) & 255];
    const listed = palette.map(parts);
    return (/** @type {number} */ color) => {
      let best = known.get(color);
      if (best === undefined) {
        const [r, g, b] = parts(color);
        let least = Infinity;
        listed.forEach(([x, y, z], k) => {
          const distance = (r - x) ** 2 + (g - y) ** 2 + (b - z) ** 2;
          if (distance < least) [least, best] = [distance, k];
        });
        known.set(color, best);
      }
      return best;
    };
  }

  /** Lempel, Ziv & Welch's compression, in codes of 9 to 12 bits, in blocks of up to 255 bytes. @param {number[]} out @param {Uint8Array} indices */
  function compress(out, indices) {
    const [clear, end] = [COLORS, COLORS + 1];
    /** @type {Map<number, number>} */
    const codes = new Map();
    let [next, bits] = [end + 1, 9];
    let [held, count] = [0, 0];
    /** @type {number[]} */
    let block = [];
    const flush = () => {
      out.push(block.length, ...block);
      block = [];
    };
    const write = (/** @type {number} */ code) => {
      held |= code << count;
      for (count += bits; count >= 8; count -= 8) {
        block.push(held & 255);
        held >>>= 8;
        if (block.length === 255) flush();
      }
    };
    write(clear);
    let prefix = indices[0];
    for (let i = 1; i < indices.length; i++) {
      const key = prefix * COLORS + indices[i];
      const code = codes.get(key);
      if (code !== undefined) {
        prefix = code;
        continue;
      }
      write(prefix);
      prefix = indices[i];
      if (next > LAST_CODE) {
        write(clear);
        codes.clear();
        [next, bits] = [end + 1, 9];
      } else {
        codes.set(key, next);
        if (next === 1 << bits) bits++; // the reader is one code behind
        next++;
      }
    }
    write(prefix);
    write(end);
    if (count) block.push(held & 255);
    if (block.length) flush();
    out.push(0);
  }

  /** The file. @param {number} width @param {number} height @param {Frame[]} frames */
  function encode(width, height, frames) {
    const palette = paletteOf(frames);
    const number = nearest(palette);
    const short = (/** @type {number} */ x) => [x & 255, x >> 8];
    const text = (/** @type {string} */ letters) => [...letters].map((letter) => letter.charCodeAt(0));
    const colors = Array.from({ length: COLORS }, (_, k) => palette[k] ?? 0).flatMap((color) => [color & 255, (color >> 8) & 255, (color >> 16) & 255]);
    const out = [...text("GIF89a"), ...short(width), ...short(height), 0xf7, 0, 0, ...colors, 0x21, 0xff, 11, ...text("NETSCAPE2.0"), 3, 1, 0, 0, 0];
    for (const frame of frames) {
      out.push(0x21, 0xf9, 4, 4, ...short(Math.round(frame.pause / 10)), 0, 0);
      out.push(0x2c, ...short(frame.left), ...short(frame.top), ...short(frame.width), ...short(frame.height), 0, 8);
      compress(out, Uint8Array.from(frame.pixels, number));
    }
    out.push(0x3b);
    return Uint8Array.from(out);
  }

  return { changed, encode };
})();
