// @ts-check
// Mouse, touch and keyboard.
"use strict";

function connect() {
  /** @type {Record<string, () => any>} */
  const buttons = {
    "zoom-in": () => zoomMiddle(1.3),
    "zoom-out": () => zoomMiddle(1 / 1.3),
    fit: () => (setFollowing(false), fit()),
    "open-level": () => changeLevel(1),
    "close-level": () => changeLevel(-1),
    turn,
    "copy-link": copyLink,
    "save-svg": saveSvg,
    "save-png": savePng,
    "save-gif": saveFilm,
    "hide-panel": togglePanel,
    present: togglePresenting,
    follow: () => (setFollowing(!following), following && follow(steps[now].node ?? selected)),
  };
  for (const id in buttons) byId(id).addEventListener("click", buttons[id]);
  startPlayback({
    last: lastStep,
    pause: 1300,
    show: showStep,
    words: stepInWords,
    live: panel.now,
    keys: {
      "+": buttons["zoom-in"],
      "=": buttons["zoom-in"],
      "-": buttons["zoom-out"],
      0: buttons.fit,
      f: buttons.follow,
      o: buttons["open-level"],
      c: buttons["close-level"],
      t: turn,
      "/": isSearched ? openSearch : null,
      p: togglePanel,
      s: togglePresenting,
      PageDown: controls.forward, // what presenters' remote controls send
      PageUp: controls.back,
      Escape: () => (hasMode("presenting") ? togglePresenting() : select(null)),
    },
  });
  connectStage();
}

function connectStage() {
  const touches = new Map();
  let pinch = 0;
  stage.addEventListener("pointerdown", (/** @type {Aimed<PointerEvent>} */ event) => {
    const rect = stage.getBoundingClientRect();
    touches.set(event.pointerId, [event.clientX - rect.left, event.clientY - rect.top]);
    const hit = event.target.closest("[data-node], [data-frame]");
    stage.dragged = false;
    if (!hit) stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (/** @type {Aimed<PointerEvent>} */ event) => {
    const last = touches.get(event.pointerId);
    if (!last) return;
    const rect = stage.getBoundingClientRect();
    const here = [event.clientX - rect.left, event.clientY - rect.top];
    if (touches.size === 2) {
      touches.set(event.pointerId, here);
      const [[ax, ay], [bx, by]] = touches.values();
      const distance = Math.hypot(ax - bx, ay - by);
      if (pinch) zoomAt((ax + bx) / 2, (ay + by) / 2, distance / pinch);
      pinch = distance;
      stage.dragged = true;
      return;
    }
    if (!stage.dragged && Math.hypot(here[0] - last[0], here[1] - last[1]) < 4) return;
    stage.dragged = true;
    setFollowing(false);
    touches.set(event.pointerId, here);
    moveView(view.x + here[0] - last[0], view.y + here[1] - last[1], view.scale);
  });
  const release = (/** @type {Aimed<PointerEvent>} */ event) => {
    touches.delete(event.pointerId);
    pinch = 0;
  };
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) stage.addEventListener(name, release);
  stage.addEventListener("click", (/** @type {Aimed<PointerEvent>} */ event) => {
    if (stage.dragged) return;
    const frame = /** @type {HTMLElement} */ (event.target.closest("[data-frame]"));
    if (frame) return closeBox(picture.clusters[Number(frame.dataset.frame)].module);
    const hit = /** @type {HTMLElement} */ (event.target.closest("[data-node]"));
    if (hit && hit.classList.contains("editable")) return; // its own handler tells a click from a drag
    const node = hit ? nodes[Number(hit.dataset.node)] : null;
    if (node && !node.single) openBox(node.module);
    else if (node !== selected) select(node);
  });
  // Within a notebook the wheel scrolls the notebook; there Ctrl zooms.
  const embedded = window.parent !== window;
  document.body.classList.toggle("embedded", embedded);
  stage.addEventListener(
    "wheel",
    (/** @type {WheelEvent} */ event) => {
      if (embedded && !event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const rect = stage.getBoundingClientRect();
      zoomAt(event.clientX - rect.left, event.clientY - rect.top, Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)));
    },
    { passive: false },
  );
  // One tab stop for the whole graph; up and down walk it in topological order.
  stage.addEventListener("focusin", (/** @type {Aimed<FocusEvent>} */ event) => {
    const hit = /** @type {HTMLElement} */ (event.target.closest("[data-node]"));
    if (!hit) return;
    inside.element.setAttribute("tabindex", "-1");
    inside = nodes[Number(hit.dataset.node)];
    inside.element.setAttribute("tabindex", "0");
    inside.element.setAttribute("aria-label", spoken(inside));
    if (hit.matches(":focus-visible")) follow(inside);
  });
  stage.addEventListener("focusout", (/** @type {Aimed<FocusEvent>} */ event) => event.target.closest("[data-node]") && callNode(inside));
  stage.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) {
      focusNode(nodes[Math.min(nodes.length - 1, Math.max(0, inside.index + by))]);
    } else if (event.key === "Enter" && !inside.single) openBox(inside.module);
    else if (event.key === "Backspace" && inside.cluster !== null) closeBox(picture.clusters[inside.cluster].module);
    else if (event.key === "Enter" || event.key === " ") {
      select(inside);
      if (event.key === "Enter" && inside.element.classList.contains("editable")) openField(inside);
    }
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/** @param {GraphNode} node */
function focusNode(node) {
  node.element.setAttribute("aria-label", spoken(node));
  node.element.style.display = ""; // what is out of sight cannot be focused
  node.away = false;
  node.element.focus({ preventScroll: true });
}

/** @param {GraphNode} node */
function spoken(node) {
  if (!node.single) return calledNode(node);
  const i = node.values[0];
  const formula = node.computes ? ` = ${formulaOf(i)}` : `, ${node.kind}`;
  const gradient = gradientNow(node);
  return `${nameOf(i, 60)}${formula}, data ${dataShown(node) ? format(passes.shown.data[i]) : "not yet computed"}${gradient === null ? "" : `, gradient ${format(gradient)}`}`;
}
