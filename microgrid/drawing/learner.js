// @ts-check
// A network on a toy set: its graph, put together from the pieces that Python traced, and how it learns.
// Nothing here knows a formula: neurons, activations, losses and optimisers are graphs of the table's operations.
"use strict";

/**
 * @typedef {{ data: string, layers: number[], activation: string, loss: string, optimizer: string, rate: number,
 *   decay: number, batch: number, train: number, noise: number, seed: number }} Settings
 * @typedef {{ points: number[][], targets: number[], isCurve: boolean, noise: number, python: string }} Toy
 * @typedef {{ own: number[], answer: number, weights: number[], name: string }} NeuronNodes
 */

/** @type {Program} */
const library = page.library;
/** @type {Record<string, number[][]>} the nodes of the library that go into a piece, and those that come out */
const pieces = page.pieces;
/** @type {Record<string, Toy>} */
const toys = page.sets;
const LEAF_OP = library.op[pieces["neuron 1"][0][0]];

class Graph {
  constructor() {
    /** @type {number[]} */
    this.op = [];
    /** @type {number[][]} */
    this.parents = [];
    /** @type {Record<string, number | string>} */
    this.data = {};
    /** @type {string[]} */
    this.labels = [];
    this.rows = library.rows;
  }

  /** @param {number} op @param {number[]} parents */
  add(op, parents, label = "") {
    this.labels.push(label);
    this.parents.push(parents);
    return this.op.push(op) - 1;
  }

  /** @param {string} label */
  leaf(label) {
    return this.add(LEAF_OP, [], label);
  }

  /** Put a piece of the library in, on these nodes; return what comes out. @param {string} piece @param {number[]} given */
  place(piece, given) {
    const [from, to] = pieces[piece];
    const placed = new Map(from.map((node, k) => [node, given[k]]));
    /** @param {number} node @returns {number} */
    const copy = (node) => {
      if (!placed.has(node)) {
        const made = this.add(library.op[node], library.parents[node].map(copy));
        if (node in library.data) this.data[made] = library.data[node];
        placed.set(node, made);
      }
      return placed.get(node);
    };
    return to.map(copy);
  }
}

/** The graph of one sample: the network, then its loss. @param {number[]} sizes @param {string} activation @param {string} loss the piece */
function networkGraph(sizes, activation, loss) {
  const graph = new Graph();
  const inputs = Array.from({ length: sizes[0] }, (_, i) => graph.leaf(sizes[0] === 1 ? "x" : `x${"₁₂"[i]}`));
  /** @type {number[]} */
  const parameters = [];
  /** @type {NeuronNodes[][]} */
  const neurons = [];
  let xs = inputs;
  sizes.slice(1).forEach((size, k) => {
    neurons.push([]);
    for (let j = 0; j < size; j++) {
      const first = graph.op.length;
      const weights = xs.map((_, i) => graph.leaf(`w${"₀₁₂₃₄₅₆₇"[i]}`));
      weights.push(graph.leaf("b"));
      parameters.push(...weights);
      let [answer] = graph.place(`neuron ${xs.length}`, [...xs, ...weights]);
      if (k < sizes.length - 2 && activation !== "none") [answer] = graph.place(activation, [answer]);
      const own = Array.from({ length: graph.op.length - first }, (_, i) => first + i);
      neurons[k].push({ own, answer, weights, name: `Layer ${k} · Neuron ${j}` });
    }
    xs = neurons[k].map(({ answer }) => answer);
  });
  const score = xs[0];
  const first = graph.op.length;
  const target = pieces[loss][0].length > 1 ? graph.leaf("target") : -1;
  const [output] = graph.place(loss, [score, target]);
  const tail = Array.from({ length: graph.op.length - first }, (_, i) => first + i);
  return { graph, inputs, parameters, neurons, score, target, output, tail };
}

/** A set as microgrid.data has it: in random order, with noise. @param {Toy} toy @param {number} noise @param {number} seed */
function sampled({ points, targets, isCurve }, noise, seed) {
  const random = new NumpyRandom(seed);
  const order = random.permutation(points.length);
  const noisy = () => noise * random.normal();
  return isCurve
    ? { points: order.map((i) => points[i]), targets: order.map((i) => targets[i] + noisy()) }
    : { points: order.map((i) => points[i].map((x) => x + noisy())), targets: order.map((i) => targets[i]) };
}

class Learner {
  /** @param {Settings} settings */
  constructor(settings) {
    const toy = toys[settings.data];
    const [, targets] = page.losses[settings.loss];
    this.settings = settings;
    this.isCurve = toy.isCurve;
    const { points, targets: classes } = sampled(toy, settings.noise, settings.seed);
    this.points = points;
    this.targets = targets === "signs" && !toy.isCurve ? classes.map((c) => 2 * c - 1) : classes;
    this.sizes = [points[0].length, ...settings.layers, 1];
    // Where a certain target leaves half of the formula out, each class has its graph.
    const variants = targets === "classes" ? [0, 1].map((kind) => `${settings.loss} ${kind}`) : [settings.loss];
    this.networks = variants.map((piece) => networkGraph(this.sizes, settings.activation, piece));
    this.columns = [...this.sizes.slice(0, 1).flatMap((n) => Array.from({ length: n }, (_, k) => points.map((point) => point[k]))), this.targets];
    const rows = points.map((_, i) => i);
    this.train = rows.slice(0, settings.train);
    this.test = rows.slice(settings.train);
    this.steppers = this.networks.map((network) => batchOf(network, settings.batch));
    this.meters = this.networks.map((network) => batchOf(network, points.length));
    const { graph, parameters } = this.networks[0];
    this.needed = this.steppers.map((stepper) => stepper.reached(parameters));
    this.theta = this.initial();
    this.layOptimizer();
    this.random = new NumpyRandom(settings.seed);
    /** @type {number[]} what is left of the epoch's order */
    this.order = [];
    this.steps = 0;
    this.batches = Math.ceil(settings.train / settings.batch);
    this.nodes = graph.op.length;
  }

  /** As nn.Affine draws weights, neuron by neuron; biases are 0. */
  initial() {
    const random = new PythonRandom(this.settings.seed);
    const gain = page.activations[this.settings.activation][1] === "he" ? 2 : 1;
    /** @type {number[]} */
    const numbers = [];
    this.sizes.slice(1).forEach((size, k) => {
      const inputs = this.sizes[k];
      for (let j = 0; j < size; j++) {
        for (let i = 0; i < inputs; i++) numbers.push(random.gauss(Math.sqrt(gain / inputs)));
        numbers.push(0);
      }
    });
    return Float64Array.from(numbers);
  }

  layOptimizer() {
    const graph = new Graph();
    const given = pieces[this.settings.optimizer][0].map(() => graph.leaf(""));
    const [settings, numbers] = [given.slice(0, 3), given.slice(3)];
    this.moved = graph.place(this.settings.optimizer, given);
    this.optimizer = new Batch(graph, numbers, settings, this.theta.length);
    /** @type {Float64Array[]} */
    this.memory = numbers.slice(2).map(() => new Float64Array(this.theta.length));
  }

  /** @param {number[]} rows @param {number} variant */
  ofVariant(rows, variant) {
    return this.networks.length === 1 ? rows : rows.filter((i) => this.targets[i] === variant);
  }

  /** @param {number[]} rows */
  gather(rows) {
    return this.columns.map((column) => Float64Array.from(rows, (i) => column[i]));
  }

  /** The gradient of the mean loss of some samples. @param {number[]} rows */
  gradient(rows) {
    const gradient = new Float64Array(this.theta.length);
    this.networks.forEach(({ parameters, output }, variant) => {
      const some = this.ofVariant(rows, variant);
      const stepper = this.steppers[variant];
      stepper.setParameters(this.theta);
      stepper.forward(this.gather(some), 0, some.length);
      stepper.backward(output, 1 / rows.length, this.needed[variant], some.length);
      parameters.forEach((node, k) => {
        const row = stepper.gradients[node];
        for (let i = 0; i < some.length; i++) gradient[k] += row[i];
      });
    });
    return gradient;
  }

  /** One minibatch; false if its gradient is not finite, and nothing moved. */
  step() {
    if (!this.order.length) this.order = this.random.permutation(this.settings.train);
    const rows = this.order.slice(0, this.settings.batch);
    const gradient = this.gradient(rows);
    if (!gradient.every(Number.isFinite)) return false;
    this.order = this.order.slice(this.settings.batch);
    this.steps += 1;
    const { rate, decay } = this.settings;
    [this.theta, ...this.memory] = this.optimizer.run([rate, decay, this.steps], [this.theta, gradient, ...this.memory], this.moved);
    return true;
  }

  get epochs() {
    return this.steps / this.batches;
  }

  /** Of some samples the loss and whether the score's sign is right, as they are now. @param {number[]} rows */
  results(rows) {
    return this.networks.flatMap(({ score, output }, variant) => {
      const some = this.ofVariant(rows, variant);
      const [scores, found] = this.meters[variant].run(this.theta, this.gather(some), [score, output]);
      return some.map((row, i) => ({ row, loss: found[i], isRight: scores[i] > 0 === this.targets[row] > 0 }));
    });
  }

  /** Mean loss and accuracy. @param {number[]} rows */
  measure(rows) {
    const results = this.results(rows);
    const loss = results.reduce((sum, result) => sum + result.loss, 0) / rows.length;
    return { loss, accuracy: this.isCurve ? NaN : results.filter(({ isRight }) => isRight).length / rows.length };
  }

  /** The training sample with the largest loss. */
  worst() {
    return this.results(this.train).reduce((worst, result) => (result.loss > worst.loss ? result : worst)).row;
  }
}

/** @param {ReturnType<typeof networkGraph>} network @param {number} size */
function batchOf({ graph, inputs, target, parameters }, size) {
  return new Batch(graph, [...inputs, target], parameters, size);
}
