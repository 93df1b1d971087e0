// @ts-check
// The two passes over a program of Python's making (see program.py). Operations are computed, multiplied and added;
// every local derivative is a program that Python found by running the row's own derivative.
"use strict";

class Passes {
  /** @param {{ rows: any[], op: number[], parents: number[][], data: Record<string, any>, derivatives: Record<string, any[]> }} given @param {Function[]} functions */
  constructor({ rows, op, parents, data, derivatives }, functions) {
    this.rows = rows.map((row, i) => ({
      ...row,
      function: functions[i],
      tape: (row.tape ?? []).map((/** @type {any} */ entry) =>
        Array.isArray(entry) ? { function: functions[entry[0]], row: entry[0], from: entry.slice(1) } : Number(entry),
      ),
    }));
    this.op = op;
    this.parents = parents;
    this.count = op.length;
    this.output = this.count - 1;
    this.data = new Float64Array(this.count);
    this.gradient = new Float64Array(this.count);
    // The edges into value i are numbered from first[i] on, one per argument.
    this.first = new Int32Array(this.count + 1);
    parents.forEach((list, i) => (this.first[i + 1] = this.first[i] + list.length));
    const edges = this.first[this.count];
    this.derivative = new Float64Array(edges);
    this.flow = new Float64Array(edges);
    this.sumBefore = new Float64Array(edges);
    this.child = new Int32Array(edges);
    this.firstUse = new Int32Array(this.count).fill(-1); // of each value the first edge from it
    parents.forEach((list, i) =>
      list.forEach((parent, argument) => {
        const edge = this.first[i] + argument;
        this.child[edge] = i;
        if (this.firstUse[parent] < 0) this.firstUse[parent] = edge;
      }),
    );
    this.given = new Map(Object.entries(data).map(([i, x]) => [Number(i), Number(x)]));
    this.givenDerivatives = new Map(Object.entries(derivatives).map(([i, xs]) => [Number(i), xs.map(Number)]));
    this.given.forEach((x, i) => (this.data[i] = x));
    this.checkOwnOperations();
    this.problems = this.findProblems();
    this.received = parents.map(() => /** @type {number[]} */ ([]));
    this.reached = new Uint8Array(this.count); // where no gradient arrives none is sent, not 0 × ∞
    this.reached[this.output] = 1;
    for (let i = this.count - 1; i >= 0; i--)
      parents[i].forEach((parent, argument) => {
        if (!this.sends(i, argument)) return;
        this.reached[parent] = 1;
        this.received[parent].push(this.first[i] + argument);
      });
    this.run();
  }

  /** @param {number} i */
  isLeaf(i) {
    return this.parents[i].length === 0;
  }

  /** @param {number} i */
  row(i) {
    return this.rows[this.op[i]];
  }

  // Whether a tangent passes along an edge: not where the local derivative is always 0.
  /** @param {number} i @param {number} argument */
  connects(i, argument) {
    return this.row(i).results[argument] !== null || (this.row(i).problem !== "" && this.givenDerivatives.has(i));
  }

  // Whether a gradient ever flows back along an edge: not from where none arrives, either.
  /** @param {number} argument @param {number} i */
  sends(i, argument) {
    return this.reached[i] === 1 && this.connects(i, argument);
  }

  /** @param {number} edge */
  parentOf(edge) {
    const i = this.child[edge];
    return this.parents[i][edge - this.first[i]];
  }

  // An operation of the user's own is believed where its JavaScript gives what Python gave.
  checkOwnOperations() {
    for (let i = 0; i < this.count; i++) {
      if (this.isLeaf(i)) continue;
      const row = this.row(i);
      const known = this.given.get(i);
      if (row.problem) continue;
      if (known === undefined) {
        this.data[i] = this.evaluate(i);
        continue;
      }
      const broken = [row, ...row.tape.filter((/** @type {any} */ entry) => entry.from).map((/** @type {any} */ entry) => this.rows[entry.row])].find((r) => !r.function);
      if (broken) row.problem = `the JavaScript expression of ${broken.name} cannot be read`;
      else
        try {
          const derivatives = this.localDerivatives(i);
          if (!near(this.evaluate(i), known)) row.problem = `the JavaScript expression of ${row.name} gives ${this.evaluate(i)} where Python gives ${known}`;
          else if (!derivatives.every((/** @type {any} */ d, /** @type {number} */ k) => near(d ?? 0, this.givenDerivatives.get(i)[k])))
            row.problem = `the local derivative of ${row.name} is not the same in JavaScript as in Python`;
        } catch (error) {
          row.problem = `the JavaScript expression of ${row.name} fails: ${error.message}`;
        }
    }
  }

  // Why a value cannot change: something computed from it can only be computed in Python.
  findProblems() {
    const problems = new Array(this.count).fill("");
    for (let i = this.count - 1; i >= 0; i--) {
      const problem = this.isLeaf(i) ? "" : problems[i] || this.row(i).problem;
      if (problem) this.parents[i].forEach((parent) => (problems[parent] = problems[parent] || problem));
    }
    return problems;
  }

  /** @param {number} i */
  evaluate(i) {
    const data = this.data;
    const parents = this.parents[i];
    const f = this.row(i).function;
    if (parents.length === 2) return f(data[parents[0]], data[parents[1]]);
    return parents.length === 1 ? f(data[parents[0]]) : f(...parents.map((parent) => data[parent]));
  }

  /** @param {number} i */
  localDerivatives(i, data = this.data) {
    const row = this.row(i);
    if (row.problem) return this.givenDerivatives.get(i);
    const slots = [data[i], ...this.parents[i].map((parent) => data[parent])];
    for (const entry of row.tape) slots.push(entry.from ? entry.function(...entry.from.map((/** @type {number | null} */ slot) => slots[slot])) : entry);
    return row.results.map((/** @type {number | null} */ slot) => (slot === null ? 0 : slots[slot]));
  }

  run() {
    const { data, gradient, parents, first } = this;
    for (let i = 0; i < this.count; i++)
      if (!this.isLeaf(i)) {
        data[i] = this.row(i).problem ? this.given.get(i) : this.evaluate(i);
        this.localDerivatives(i).forEach((/** @type {number} */ derivative, /** @type {number} */ argument) => (this.derivative[first[i] + argument] = derivative));
      }
    gradient.fill(0);
    gradient[this.output] = 1;
    for (let i = this.count - 1; i >= 0; i--)
      parents[i].forEach((parent, argument) => {
        if (!this.sends(i, argument)) return;
        const edge = first[i] + argument;
        this.flow[edge] = gradient[i] * this.derivative[edge];
        this.sumBefore[edge] = gradient[parent];
        gradient[parent] += this.flow[edge];
      });
    this.settle();
  }

  // The numbers as they are shown: those smaller than the rounding errors that went into them are 0. It is the
  // rule of all pictures: errors move along the graph as tangents do, forward and back.
  settle() {
    const { data, gradient, parents, first, derivative, flow } = this;
    const unit = 2 ** -52; // as in rounding.py
    const settled = (/** @type {number} */ x, /** @type {number} */ error) => (Math.abs(x) <= error && Math.abs(x) < 1e-12 ? 0 : x);
    const dataError = new Float64Array(this.count);
    const gradientError = new Float64Array(this.count);
    const moved = new Float64Array(this.count);
    const shown = { data: data.slice(), gradient: gradient.slice(), derivative: derivative.slice(), flow: flow.slice() };
    for (let i = 0; i < this.count; i++) {
      dataError[i] = Number.isFinite(data[i]) ? unit * Math.abs(data[i]) : 0; // what is infinite is not rounded
      parents[i].forEach((parent, argument) => (dataError[i] += Math.abs(derivative[first[i] + argument]) * dataError[parent]));
      moved[i] = data[i] + dataError[i];
      shown.data[i] = settled(data[i], dataError[i]);
    }
    for (let i = this.count - 1; i >= 0; i--) {
      shown.gradient[i] = settled(gradient[i], gradientError[i]);
      const error = gradientError[i] + unit * Math.abs(gradient[i]);
      this.localDerivatives(i, moved).forEach((/** @type {number} */ there, /** @type {number} */ argument) => {
        const edge = first[i] + argument;
        const derivativeError = Math.abs(there - derivative[edge]);
        const flowError = error * Math.abs(derivative[edge]) + Math.abs(gradient[i]) * derivativeError;
        shown.derivative[edge] = settled(derivative[edge], derivativeError);
        shown.flow[edge] = settled(flow[edge], flowError);
        gradientError[parents[i][argument]] += flowError;
      });
    }
    this.shown = shown;
    this.dataError = dataError;
    this.gradientError = gradientError;
  }

  // The paths from a value to the output, as lists of edges: all if they are few, else the first of them.
  /** @param {number} start @param {number} limit */
  pathsToOutput(start, limit) {
    const counts = new Float64Array(this.count);
    counts[this.output] = 1;
    for (let i = this.count - 1; i >= 0; i--)
      for (const edge of this.received[i]) counts[i] += counts[this.child[edge]];
    const paths = [];
    const path = [];
    const choices = [start === this.output ? [] : this.received[start].slice()];
    if (start === this.output) paths.push([]);
    while (choices.length && paths.length < limit) {
      const edge = choices[choices.length - 1].shift();
      if (edge === undefined) {
        choices.pop();
        path.pop();
        continue;
      }
      path.push(edge);
      const child = this.child[edge];
      if (child === this.output) {
        paths.push(path.slice());
        path.pop();
      } else choices.push(this.received[child].filter((next) => counts[this.child[next]] > 0));
    }
    return { paths, total: counts[start] };
  }
}

/** @param {number} a @param {number} b */
function near(a, b) {
  return Object.is(a, b) || a === b || Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));
}
