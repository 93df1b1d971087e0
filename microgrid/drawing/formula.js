// @ts-check
// A formula typed in the page becomes its program: leaves, plain numbers, and the rows that Python's functions run.
"use strict";

/** @typedef {{ value?: number, number?: number }} Operand a node of the program, or a number that met none yet */

const formulas = (() => {
  const table = page.formulas;
  const powers = new Map(table.powers.map((/** @type {[number, any]} */ [n, recipe]) => [n, recipe]));
  const bases = new Map(table.bases.map((/** @type {[number, any]} */ [b, recipe]) => [b, recipe]));
  const powerRow = table.operators["**"].tape[0][0];
  const MOST = Math.max(...Object.keys(table.functions.total.recipes).map(Number));

  /**
   * The program of a formula.
   *
   * @param {string} text
   * @param {Map<string, number>} known the numbers that names have already
   */
  function compile(text, known) {
    const { names, program: todo } = expressions.parse(text, table.functions);
    const free = [...names.keys()].filter((name) => known.has(name) || !Object.hasOwn(table.constants, name));
    if (!free.length) throw new ExpressionError("a formula without a name has nothing to differentiate; write one, such as x * 2");
    const build = (/** @type {Map<string, number>} */ numbers) => {
      /** @type {any} a program, as Python makes them */
      const made = { rows: program.rows, op: [], parents: [], labels: {}, data: {}, derivatives: {}, modules: [], innermost: {}, remarks: {} };
      const leafOf = new Map();
      const add = (/** @type {number} */ op, /** @type {number[]} */ parents) => made.op.push(op) && made.parents.push(parents) - 1;
      // Numbers stay numbers until they meet a value; both are told apart by their kind, as in Python.
      const asValue = (/** @type {Operand} */ operand) => {
        if (operand.value !== undefined) return operand.value;
        const i = add(table.constant, []);
        made.data[i] = operand.number;
        return i;
      };
      /** @type {(recipe: any, given: Operand[]) => any} */
      const run = (recipe, given) => {
        const slots = [...given];
        for (const entry of recipe.tape) slots.push(Array.isArray(entry) ? apply(entry[0], entry.slice(1).map((slot) => slots[slot])) : { number: Number(entry) });
        return slots[recipe.result];
      };
      const apply = (/** @type {number} */ row, /** @type {Operand[]} */ operands) => {
        if (operands.every((/** @type {Operand} */ operand) => "number" in operand)) return { number: operations[row](...operands.map((/** @type {Operand} */ operand) => operand.number)) };
        if (row === powerRow) {
          const [base, exponent] = operands;
          const own = "number" in exponent ? powers.get(exponent.number) : "number" in base ? bases.get(base.number) : undefined;
          if (own) return run(own, ["number" in exponent ? base : exponent]);
        }
        const parents = operands.map(asValue);
        return { value: add(row, parents) };
      };
      /** @type {any[]} */
      const stack = [];
      for (const [step, count] of todo) {
        const operands = stack.splice(stack.length - count, count);
        if (typeof step === "number") stack.push({ number: step });
        else if (typeof step === "string") {
          if (!numbers.has(step)) stack.push({ number: Number(table.constants[step]) });
          else {
            if (!leafOf.has(step)) {
              const i = add(table.leaf, []);
              leafOf.set(step, i);
              made.labels[i] = step;
              made.data[i] = numbers.get(step);
            }
            stack.push({ value: leafOf.get(step) });
          }
        } else if ("operator" in step) {
          if (step.operator === "+" && count === 1) stack.push(operands[0]);
          else stack.push(run(table.operators[count === 1 ? "negative" : step.operator], operands));
        } else {
          const recipe = table.functions[step.call].recipes[count];
          if (!recipe) throw new ExpressionError(`${step.call}() takes at most ${MOST} arguments in the page, not ${count}; mg.explore() of a Value takes any number`, text, text.indexOf(step.call) + 1);
          stack.push(run(recipe, operands));
        }
      }
      return made;
    };
    // Without signs where the result would be no number
    const first = (/** @type {(x: number) => number} */ sign) => new Map(free.map((name, k) => [name, known.get(name) ?? sign(table.numbers[k % table.numbers.length])]));
    const made = build(first((x) => x));
    return Number.isFinite(new Passes(made, operations).data.at(-1)) ? made : build(first(Math.abs));
  }

  /** Show a program in the place of the one that is shown. @param {any} made @param {() => any} picture @param {string} title */
  function put(made, picture, title) {
    setPlaying(false);
    now = 0;
    selected = null;
    setProgram(made, operations);
    showPicture(picture());
    buildLeaves();
    playback.last = lastStep;
    slider.max = String(lastStep);
    now = lastStep;
    paintAll();
    showAll();
    showPlace();
    refresh();
    document.title = title;
    document.querySelector("h1").textContent = title;
  }

  /** Show the program of a formula. @param {string} text */
  function explore(text) {
    const known = new Map();
    for (let i = 0; i < passes.count; i++) if (passes.isLeaf(i) && program.labels[i]) known.set(program.labels[i], passes.data[i]);
    put(compile(text, known), () => ({ ...bestPicture(), note: "" }), text);
  }

  /** Show the graph from Python again, with Python's numbers. */
  function leave() {
    opened = new Set(openedAtFirst);
    direction = directionAtFirst;
    put(page.program, () => ({ ...(page.picture ? adopt(page.picture) : pictureOf()), note: page.view.note }), page.title);
    shown = page.formulas.text;
    typed = "";
  }

  tools.add({
    name: "formula",
    title: "Formula",
    about: "Type a formula and see its graph and both passes",
    build() {
      const box = /** @type {HTMLInputElement} */ (element("input", { id: "formula", type: "text", spellcheck: "false", autocomplete: "off", autocapitalize: "off", placeholder: "tanh(x1*w1 + x2*w2 + b)", "aria-describedby": "formula-says" }));
      const says = element("pre", { id: "formula-says", role: "status" });
      const back = toolButton("back-to-python", "Back to the graph from Python", () => {
        box.value = "";
        read();
        box.focus();
      });
      back.hidden = !typed;
      box.value = shown;
      const read = () => {
        try {
          says.textContent = "";
          if (box.value.trim()) {
            explore(box.value);
            shown = typed = box.value;
          } else {
            if (typed) leave();
            says.textContent = "This is the graph from Python. Type a formula to see another.";
          }
          back.hidden = !typed;
          box.setAttribute("aria-invalid", "false");
        } catch (error) {
          if (!(error instanceof ExpressionError)) throw error;
          box.setAttribute("aria-invalid", "true");
          says.textContent = error.message;
        }
      };
      box.addEventListener("input", read);
      queueMicrotask(() => box.focus());
      return [element("label", { for: "formula" }, "Formula"), box, back, says];
    },
  });
  let shown = page.formulas.text;
  let typed = "";

  return {
    compile,
    explore,
    /** The formula that was typed in place of what Python gave; empty if none was. */
    get typed() {
      return typed;
    },
    /** One that a link brings; what cannot be read is passed over. @param {string} text */
    restore(text) {
      try {
        explore(text);
        shown = typed = text;
      } catch (error) {
        if (!(error instanceof ExpressionError)) throw error;
      }
    },
  };
})();
