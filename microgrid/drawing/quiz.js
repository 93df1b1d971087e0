// @ts-check
// The quiz: gradients are asked in backward order, and hidden until they are answered: the play waits before them.
"use strict";

const quiz = (() => {
  /** Whether a number is another, to the two digits that people compute with. @param {number} a @param {number} b */
  const isNear = (a, b) => Math.abs(a - b) <= 0.01 * Math.abs(b);

  /** The values that are asked, in the order in which their gradients are complete. */
  function questions() {
    const asked = nodes.filter((node) => node.single && node.reached && node !== outputNode && node.kind !== "constant" && Number.isFinite(passes.gradient[node.values[0]]));
    return asked.toSorted((a, b) => a.completeStep - b.completeStep || a.index - b.index).map((node) => node.values[0]);
  }

  const use = (/** @type {number} */ edge) => {
    const child = held(passes.child[edge]);
    return { child, flow: passes.gradient[passes.child[edge]], derivative: passes.derivative[edge], part: passes.flow[edge] };
  };

  /**
   * What is wrong with an answer, in words; empty if it is right.
   *
   * @param {number} i the value that was asked
   * @param {number} answer
   */
  function judge(i, answer) {
    const right = passes.gradient[i];
    const name = held(i);
    if (isNear(answer, right)) return "";
    const flowing = passes.received[i].filter((edge) => passes.flow[edge] !== 0);
    const received = flowing.length ? flowing : passes.received[i];
    const uses = received.map(use);
    const near = (/** @type {number} */ x) => Number.isFinite(x) && isNear(answer, x);
    const names = (/** @type {any[]} */ list) => list.map((/** @type {any} */ { child }) => child).join(" and ");
    if (uses.length > 1 && uses.length <= 10) {
      // Every choice of some of the uses
      for (let some = 1; some < 2 ** uses.length - 1; some++) {
        const taken = uses.filter((_, k) => some & (1 << k));
        const left = uses.filter((_, k) => !(some & (1 << k)));
        if (!near(taken.reduce((sum, { part }) => sum + part, 0))) continue;
        const same = names(taken) === names(left);
        return same ? `${name} is used ${uses.length === 2 ? "twice" : `${uses.length} times`} by ${names(left.slice(0, 1))}. You took ${taken.length} of these paths: each adds its part.` : `You took the path through ${names(taken)} and forgot the one through ${names(left)}. Where a value is used more than once, the parts add up.`;
      }
      if (near(uses.reduce((product, { part }) => product * part, 1))) return "Along a path one multiplies, but the paths are added: take the sum of the parts, not their product.";
    }
    if (near(-right)) return "The size is right, the sign is not.";
    const sum = (/** @type {any} */ of) => uses.reduce((total, one) => total + of(one), 0);
    const [{ child, flow, derivative }] = uses;
    const slopes = [...new Set(uses.map((one) => `∂${one.child}/∂${name}`))].join(" and ");
    if (near(sum((/** @type {any} */ one) => one.derivative))) return uses.length === 1 ? `That is the local derivative ∂${child}/∂${name} alone. Multiply it by what arrives: ${child}.grad = ${format(flow)}.` : "Those are the local derivatives alone. Multiply each by the gradient that arrives at its end.";
    if (near(sum((/** @type {any} */ one) => one.flow))) return uses.length === 1 ? `That is ${child}.grad, what arrives. Multiply it by the local derivative ∂${child}/∂${name}.` : "That is the sum of what arrives. Multiply each part by its local derivative first.";
    if (near(sum((/** @type {any} */ one) => one.flow + one.derivative))) return uses.length === 1 ? `You added ${format(flow)} and ${format(derivative)}. The chain rule multiplies along a path: ${child}.grad × ∂${child}/∂${name}.` : `You added what arrives and the local derivative on each path: ${uses.map((one) => signed(`(${format(one.flow)} + ${format(one.derivative)})`)).join(" + ")}. The chain rule multiplies along a path; only the paths are added.`;
    if (near(sum((/** @type {any} */ one) => one.flow / one.derivative))) return `You divided by the local derivative${uses.length === 1 ? "" : "s"} ${slopes}; multiply by ${uses.length === 1 ? "it" : "them"}.`;
    if (near(sum((/** @type {any} */ one) => one.flow * passes.data[i]))) return `You took ${name} itself for the local derivative. That of a product is the other factor: look at ${slopes}.`;
    if (uses.length === 1 && flow) {
      const at = passes.child[received[0]];
      const formula = fill(passes.row(at).derivatives[received[0] - passes.first[at]], at, (j) => (isConstant(j) ? nameOf(j) : held(j)));
      return `What arrives is ${child}.grad = ${format(flow)}, so your local derivative would be ${format(answer / flow)}. But ∂${child}/∂${name} = ${formula}${formula === format(derivative) ? "." : ": what is that here?"}`;
    }
    return `Not yet. Add up, over ${count(uses.length, "use")} of ${name}, the gradient that arrives × the local derivative.`;
  }

  return { questions, judge, isNear };
})();

tools.add(
  (() => {
    /** @type {Map<number, boolean>} which were answered, and whether at the first attempt */
    let answered = new Map();
    let attempts = 0;
    /** @type {Float64Array} the numbers that are asked about */
    let asked;
    let predicting = false;
    /** @type {any} */
    let parts = null;

    const open = () => quiz.questions().find((i) => !answered.has(i)) ?? -1;

    // Gradients that are still asked have not begun to arrive: the play goes up to there.
    function hold() {
      const arrivals = quiz.questions().filter((i) => !answered.has(i)).map((i) => Math.min(...passes.received[i].map((edge) => nodes[nodeOf[passes.child[edge]]].backwardStep)));
      const until = Math.min(lastStep, ...arrivals.map((step) => step - 1));
      playback.last = until;
      slider.max = String(until);
      if (now > until) goTo(until);
      showPlace();
    }

    function begin() {
      answered = new Map();
      asked = passes.data.slice();
    }

    /** Ask the next one. @param {string} last what is said of the one before */
    function ask(last) {
      attempts = 0;
      parts.says.textContent = last;
      hold();
      goTo(playback.last);
      const i = open();
      const all = quiz.questions();
      if (i < 0) {
        const good = [...answered.values()].filter((first) => first).length;
        parts.form.hidden = true;
        parts.says.textContent = all.length ? `${last} That was all: ${good} of ${all.length} at the first attempt. Change a number to play again.`.trim() : "There is no gradient to ask for.";
        return;
      }
      parts.form.hidden = false;
      const question = predicting ? `which sign has ${held(i)}.grad, and is its size smaller or larger than that of what arrives?` : `what is ${held(i)}.grad?`;
      parts.question.textContent = `${all.indexOf(i) + 1} of ${all.length}: ${question}`;
      parts.box.value = "";
      parts.predict.hidden = !predicting;
      parts.box.closest("label").hidden = predicting;
      parts.check.hidden = predicting;
      select(nodes[nodeOf[i]]);
    }

    /** @param {number} i @param {boolean} first @param {string} words */
    function reveal(i, first, words) {
      answered.set(i, first);
      const chip = element("span", { class: `chip ${first ? "good" : ""}` }, `${held(i)}.grad = ${format(passes.shown.gradient[i])}`);
      parts.chips.append(chip);
      ask(words);
    }

    /** @param {number} i */
    function why(i) {
      const terms = passes.received[i].map((edge) => `${format(passes.shown.gradient[passes.child[edge]])} × ${format(passes.shown.derivative[edge])}`);
      return `${held(i)}.grad = ${terms.join(" + ")} = ${format(passes.shown.gradient[i])}`;
    }

    /** @returns {void} */
    function check() {
      const i = open();
      const text = parts.box.value.trim().replaceAll("−", "-").replace(",", ".");
      const answer = Number(text);
      if (text === "" || answer !== answer) return void (parts.says.textContent = "Type a number, such as −0.5.");
      const wrong = quiz.judge(i, answer);
      attempts++;
      if (wrong) parts.says.textContent = wrong;
      else reveal(i, attempts === 1, `Right: ${why(i)}.`);
    }

    function predict() {
      const i = open();
      const right = passes.shown.gradient[i];
      const arriving = passes.received[i].reduce((most, edge) => Math.max(most, Math.abs(passes.gradient[passes.child[edge]])), 0);
      const sign = parts.sign.value === (right < 0 ? "negative" : right > 0 ? "positive" : "zero");
      const relation = Math.abs(right) < arriving * (1 - 1e-9) ? "smaller" : Math.abs(right) > arriving * (1 + 1e-9) ? "larger" : "equal";
      const size = parts.size.value === relation;
      reveal(i, sign && size, `${sign ? "The sign is right" : "The sign is not right"}, ${size ? "the size too" : `the size is ${relation === "equal" ? "the same" : relation}`}: ${why(i)}.`);
    }

    return {
      name: "quiz",
      title: "Quiz",
      about: "Answer the gradients one by one, in backward order",
      build() {
        begin();
        const box = /** @type {HTMLInputElement} */ (element("input", { id: "answer", type: "text", inputmode: "text", autocomplete: "off", size: "12" }));
        const choice = (/** @type {string} */ id, /** @type {string} */ words, /** @type {any} */ options) => element("label", {}, `${words} `, element("select", { id }, ...options.map((/** @type {any} */ one) => element("option", { value: one }, one))));
        const sign = choice("sign", "Sign", ["negative", "zero", "positive"]);
        const size = choice("size", "Size", ["smaller", "equal", "larger"]);
        const mode = /** @type {HTMLInputElement} */ (element("input", { id: "predicting", type: "checkbox" }));
        mode.checked = predicting;
        mode.addEventListener("change", () => {
          predicting = mode.checked;
          ask("");
        });
        parts = {
          question: element("b", { id: "question" }),
          box,
          check: element("button", { id: "check", class: "tool-button", type: "submit" }, "Check"),
          predict: element("span", { class: "ticks" }, sign, size, toolButton("reveal", "Reveal", predict)),
          sign: sign.querySelector("select"),
          size: size.querySelector("select"),
          says: element("p", { id: "quiz-says", role: "status" }),
          chips: element("div", { id: "chips", role: "group", "aria-label": "Answered" }),
          form: element("form", { id: "quiz" }),
        };
        parts.form.append(parts.question, element("label", {}, "Your answer ", box), parts.check, parts.predict, toolButton("give-up", "Show me", () => reveal(open(), false, `${why(open())}.`)));
        for (const button of parts.form.querySelectorAll("button:not(#check)")) button.type = "button";
        parts.form.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
          event.preventDefault();
          if (!predicting) check();
        });
        setPlaying(false);
        queueMicrotask(() => parts && (ask(""), box.focus()));
        return [parts.form, element("label", { class: "tick" }, mode, "Predict sign and size only"), parts.says, parts.chips];
      },
      refresh() {
        if (!parts) return;
        if (leaves.every((i) => Object.is(passes.data[i], asked[i]))) return hold();
        begin();
        parts.chips.replaceChildren();
        ask("The numbers are others now: the quiz begins anew.");
      },
      close() {
        parts = null;
        playback.last = lastStep;
        slider.max = String(lastStep);
        showPlace();
        select(null);
      },
    };
  })(),
);
