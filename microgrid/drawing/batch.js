// @ts-check
// A graph computed for many samples at once, forward and backward: each node has a row of numbers, one per sample.
// The operations and their local derivatives are those of Python's table (see program.py); none is written here.
"use strict";

/**
 * What program.py says of an operation: `tape` computes its local derivatives in slots, of which the first are
 * y and the operands; `results` are the slots of the derivatives, null where nothing flows.
 * @typedef {{ name: string, symbol: string, formula: string, derivatives: string[], tape: (number | string | number[])[],
 *   results: (number | null)[] }} Row
 * @typedef {{ op: number[], parents: number[][], data: Record<string, number | string>, rows: Row[] }} Program
 * @typedef {Float64Array | Float32Array | number[]} Numbers
 */

class Batch {
  /**
   * @param {Program} program
   * @param {number[]} inputs the nodes that differ from sample to sample; −1 for one that the graph lacks
   * @param {number[]} parameters the nodes that all samples share; −1 likewise
   * @param {number} size the most samples at once
   */
  constructor(program, inputs, parameters, size = 128) {
    this.op = program.op;
    this.parents = program.parents;
    this.rows = program.rows;
    this.inputs = inputs;
    this.parameters = parameters;
    this.size = size;
    this.values = this.op.map(() => new Float64Array(size));
    /** @type {Float64Array[]} */
    this.gradients = [];
    /** @type {Float64Array[]} */
    this.scratch = [];
    const varies = this.reached(inputs);
    const computed = this.parents.map((_, i) => i).filter((i) => this.parents[i].length);
    this.varying = computed.filter((i) => varies[i]);
    this.fixed = computed.filter((i) => !varies[i]);
    for (const [i, x] of Object.entries(program.data)) this.values[Number(i)].fill(Number(x));
  }

  /** Which nodes depend on some of the nodes. @param {number[]} nodes */
  reached(nodes) {
    /** @type {boolean[]} */
    const reached = new Array(this.op.length).fill(false);
    nodes.forEach((i) => i >= 0 && (reached[i] = true));
    this.parents.forEach((list, i) => list.some((parent) => reached[parent]) && (reached[i] = true));
    return reached;
  }

  /** @param {Numbers} weights */
  setParameters(weights) {
    this.parameters.forEach((i, k) => i >= 0 && this.values[i].fill(weights[k]));
    for (const i of this.fixed) this.compute(i, this.size);
  }

  /**
   * Compute the samples from `start` on, `length` of them; `columns` has one list of numbers per input.
   * @param {Float64Array[]} columns @param {number} start @param {number} length
   */
  forward(columns, start, length) {
    columns.forEach((column, k) => this.inputs[k] >= 0 && this.values[this.inputs[k]].set(column.subarray(start, start + length)));
    for (const i of this.varying) this.compute(i, length);
  }

  /**
   * What the nodes `wanted` are for all samples: one array for each.
   * @param {Numbers} weights @param {Float64Array[]} columns @param {number[]} wanted
   */
  run(weights, columns, wanted) {
    const total = columns[0].length;
    const results = wanted.map(() => new Float64Array(total));
    this.setParameters(weights);
    for (let start = 0; start < total; start += this.size) {
      const length = Math.min(this.size, total - start);
      this.forward(columns, start, length);
      wanted.forEach((i, k) => results[k].set(this.values[i].subarray(0, length), start));
    }
    return results;
  }

  /** @param {number} i @param {number} length */
  compute(i, length) {
    applyTo(operations[this.op[i]], this.parents[i].map((parent) => this.values[parent]), this.values[i], length);
  }

  /**
   * The gradients of Σ seed · output over the samples just computed, at all nodes that depend on `leaves`.
   * @param {number} output @param {number} seed @param {boolean[]} needed what `reached(leaves)` gave @param {number} length
   */
  backward(output, seed, needed, length) {
    if (!this.gradients.length) this.gradients = this.op.map(() => new Float64Array(this.size));
    for (const row of this.gradients) row.fill(0, 0, length);
    this.gradients[output].fill(seed, 0, length);
    for (let i = output; i >= 0; i--) if (needed[i] && this.parents[i].length) this.sendBack(i, needed, length);
  }

  /**
   * The local derivatives of a node by its arguments: a row of numbers, one number for all, or null where nothing flows.
   * They hold until the next call.
   * @param {number} i @param {number} length @returns {(Float64Array | number | null)[]}
   */
  locals(i, length) {
    const { tape, results } = this.rows[this.op[i]];
    /** @type {(Float64Array | number)[]} */
    const slots = [this.values[i], ...this.parents[i].map((parent) => this.values[parent])];
    tape.forEach((entry, k) => {
      if (!Array.isArray(entry)) return void slots.push(Number(entry));
      const out = (this.scratch[k] ??= new Float64Array(this.size));
      const [operation, ...operands] = entry;
      applyTo(operations[operation], operands.map((slot) => rowOf(slots[slot], this.size)), out, length);
      slots.push(out);
    });
    return results.map((slot) => (slot === null ? null : slots[slot]));
  }

  /** @param {number} i @param {boolean[]} needed @param {number} length */
  sendBack(i, needed, length) {
    const gradient = this.gradients[i];
    this.locals(i, length).forEach((local, argument) => {
      const parent = this.parents[i][argument];
      if (local === null || !needed[parent]) return;
      const into = this.gradients[parent];
      if (typeof local === "number") for (let k = 0; k < length; k++) into[k] += local * gradient[k];
      else for (let k = 0; k < length; k++) into[k] += local[k] * gradient[k];
    });
  }
}

/** @type {Map<string, Float64Array>} */
const constantRows = new Map();

/** @param {Float64Array | number} given @param {number} size */
function rowOf(given, size) {
  if (typeof given !== "number") return given;
  const key = `${Object.is(given, -0) ? "-0" : given} ${size}`;
  let row = constantRows.get(key);
  if (!row) constantRows.set(key, (row = new Float64Array(size).fill(given)));
  return row;
}

/** @param {Function} f @param {Float64Array[]} given @param {Float64Array} out @param {number} length */
function applyTo(f, given, out, length) {
  const [a, b] = given;
  if (given.length === 1) for (let k = 0; k < length; k++) out[k] = f(a[k]);
  else if (given.length === 2) for (let k = 0; k < length; k++) out[k] = f(a[k], b[k]);
  else {
    const xs = new Array(given.length);
    for (let k = 0; k < length; k++) {
      for (let j = 0; j < given.length; j++) xs[j] = given[j][k];
      out[k] = f.apply(null, xs);
    }
  }
}
