// @ts-check
// The whole play as a moving picture, with the words of each step under the graph.
"use strict";

const FILM = { width: 1280, scale: 1.5, frames: 240, pause: 1300, last: 3000, lines: 4, letter: 16 };

// What a step says, in lines that fit.
/** @param {number} columns @returns {string[]} */
function captionOf(columns) {
  const [heading, ...parts] = explain().filter((part) => part !== null);
  const lines = parts.filter((part) => part.tagName === "P" && !part.classList.contains("why"));
  return [heading, ...lines].slice(0, FILM.lines).map((part) => shorten(part.textContent.trim().replace(/\s+/g, " "), columns));
}

async function saveFilm() {
  if (lastStep >= FILM.frames) return say(`A film has up to ${FILM.frames} steps, and this play has ${lastStep + 1}: close boxes first`);
  setPlaying(false);
  const before = now;
  const wide = bounds[2] - bounds[0] + 2 * STEP_MARGIN;
  const scale = Math.min(FILM.scale, FILM.width / wide);
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const frames = [];
  /** @type {Uint32Array | null} */
  let shown = null;
  for (let step = 0; step <= lastStep; step++) {
    say(`Filming: ${step + 1} of ${lastStep + 1}`);
    goTo(step);
    const image = await rasterOf(svgOfStep(captionOf(Math.floor((wide * scale) / (0.58 * FILM.letter))), FILM.letter / scale));
    if (!step) Object.assign(canvas, { width: Math.ceil(scale * image.naturalWidth), height: Math.ceil(scale * image.naturalHeight) });
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    const pixels = new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    frames.push(gif.changed(pixels, shown, canvas.width, step === lastStep ? FILM.last : FILM.pause));
    shown = pixels;
  }
  goTo(before);
  download(new Blob([gif.encode(canvas.width, canvas.height, frames)], { type: "image/gif" }), `${page.title}.gif`);
  say("The film is saved");
}
