// @ts-check
// How much the page shows beside the graph: the panel or not, or the words of the step alone, in large letters.
"use strict";

/** @param {string} name @param {string} button @param {boolean} on */
function toggleMode(name, button, on) {
  document.body.classList.toggle(name, on);
  byId(button).setAttribute("aria-pressed", String(on));
}

const hasMode = (/** @type {string} */ name) => document.body.classList.contains(name);

function togglePanel() {
  toggleMode("bare", "hide-panel", !hasMode("bare"));
}

function togglePresenting() {
  const on = !hasMode("presenting");
  toggleMode("presenting", "present", on);
  // A frame in a notebook may not fill the screen: then it presents within the frame.
  if (on) document.documentElement.requestFullscreen?.().catch(() => {});
  else if (document.fullscreenElement) document.exitFullscreen();
}

document.addEventListener("fullscreenchange", () => {
  if (!document.fullscreenElement && hasMode("presenting")) togglePresenting();
});
