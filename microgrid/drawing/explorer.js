// The page that plays backpropagation. It computes operations forward, multiplies and adds; every local
// derivative is a program that Python found by running the row's own derivative (see program.py).
"use strict";

const { program, picture } = page;

// ---------------------------------------------------------------------------------------------------
// The two passes

class Passes {
  constructor({ rows, op, parents, data, derivatives }, functions) {
    this.rows = rows.map((row, i) => ({
      ...row,
      function: functions[i],
      tape: (row.tape ?? []).map((entry) =>
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
    parents.forEach((list, i) => list.forEach((_, argument) => (this.child[this.first[i] + argument] = i)));
    this.given = new Map(Object.entries(data).map(([i, x]) => [Number(i), Number(x)]));
    this.givenDerivatives = new Map(Object.entries(derivatives).map(([i, xs]) => [Number(i), xs.map(Number)]));
    this.given.forEach((x, i) => (this.data[i] = x));
    this.checkOwnOperations();
    this.problems = this.findProblems();
    this.received = parents.map(() => []);
    for (let i = this.count - 1; i >= 0; i--)
      parents[i].forEach((parent, argument) => {
        if (this.sends(i, argument)) this.received[parent].push(this.first[i] + argument);
      });
    this.run();
  }

  isLeaf(i) {
    return this.parents[i].length === 0;
  }

  row(i) {
    return this.rows[this.op[i]];
  }

  // Whether anything ever flows along an edge: not where the local derivative is always 0.
  sends(i, argument) {
    return this.row(i).results[argument] !== null || (this.row(i).problem !== "" && this.givenDerivatives.has(i));
  }

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
      const broken = [row, ...row.tape.filter((entry) => entry.from).map((entry) => this.rows[entry.row])].find((r) => !r.function);
      if (broken) row.problem = `the JavaScript expression of ${broken.name} cannot be read`;
      else
        try {
          const derivatives = this.localDerivatives(i);
          if (!near(this.evaluate(i), known)) row.problem = `the JavaScript expression of ${row.name} gives ${this.evaluate(i)} where Python gives ${known}`;
          else if (!derivatives.every((d, k) => near(d ?? 0, this.givenDerivatives.get(i)[k])))
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

  evaluate(i) {
    const data = this.data;
    const parents = this.parents[i];
    const f = this.row(i).function;
    if (parents.length === 2) return f(data[parents[0]], data[parents[1]]);
    return parents.length === 1 ? f(data[parents[0]]) : f(...parents.map((parent) => data[parent]));
  }

  localDerivatives(i, data = this.data) {
    const row = this.row(i);
    if (row.problem) return this.givenDerivatives.get(i);
    const slots = [data[i], ...this.parents[i].map((parent) => data[parent])];
    for (const entry of row.tape) slots.push(entry.from ? entry.function(...entry.from.map((slot) => slots[slot])) : entry);
    return row.results.map((slot) => (slot === null ? 0 : slots[slot]));
  }

  run() {
    const { data, gradient, parents, first } = this;
    for (let i = 0; i < this.count; i++)
      if (!this.isLeaf(i)) {
        data[i] = this.row(i).problem ? this.given.get(i) : this.evaluate(i);
        this.localDerivatives(i).forEach((derivative, argument) => (this.derivative[first[i] + argument] = derivative));
      }
    gradient.fill(0);
    gradient[this.output] = 1;
    const reached = new Uint8Array(this.count); // where no gradient arrives none is sent, not 0 × ∞
    reached[this.output] = 1;
    for (let i = this.count - 1; i >= 0; i--)
      parents[i].forEach((parent, argument) => {
        if (!reached[i] || !this.sends(i, argument)) return;
        reached[parent] = 1;
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
    const unit = 2 ** -53;
    const settled = (x, error) => (Math.abs(x) <= error && Math.abs(x) < 1e-12 ? 0 : x);
    const dataError = new Float64Array(this.count);
    const gradientError = new Float64Array(this.count);
    const moved = new Float64Array(this.count);
    const shown = { data: data.slice(), gradient: gradient.slice(), derivative: derivative.slice(), flow: flow.slice() };
    for (let i = 0; i < this.count; i++) {
      dataError[i] = unit * Math.abs(data[i]);
      parents[i].forEach((parent, argument) => (dataError[i] += Math.abs(derivative[first[i] + argument]) * dataError[parent]));
      moved[i] = data[i] + dataError[i];
      shown.data[i] = settled(data[i], dataError[i]);
    }
    for (let i = this.count - 1; i >= 0; i--) {
      shown.gradient[i] = settled(gradient[i], gradientError[i]);
      const error = gradientError[i] + unit * Math.abs(gradient[i]);
      this.localDerivatives(i, moved).forEach((there, argument) => {
        const edge = first[i] + argument;
        const derivativeError = Math.abs(there - derivative[edge]);
        const flowError = error * Math.abs(derivative[edge]) + Math.abs(gradient[i]) * derivativeError;
        shown.derivative[edge] = settled(derivative[edge], derivativeError);
        shown.flow[edge] = settled(flow[edge], flowError);
        gradientError[parents[i][argument]] += flowError;
      });
    }
    this.shown = shown;
    this.gradientError = gradientError;
  }

  // The paths from a value to the output, as lists of edges: all if they are few, else the first of them.
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

function near(a, b) {
  return Object.is(a, b) || a === b || Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));
}

const passes = new Passes(program, operations);

// ---------------------------------------------------------------------------------------------------
// The steps: leaves, the forward pass, the output's own gradient, the backward pass

const nodes = picture.nodes.map((node, index) => ({
  ...node,
  index,
  at: picture.at[index],
  size: picture.size[index],
  into: [],
  from: [],
  single: node.kind !== "group",
  computes: node.values.some((i) => !passes.isLeaf(i)),
}));
const edges = picture.edges.map(([source, target, argument, count], index) => {
  const edge = { source, target, argument, count };
  const whole = { ...edge, index, path: picture.routes[index], label: picture.labels[index] };
  nodes[edge.target].into.push(whole);
  nodes[edge.source].from.push(whole);
  // The edge of the program, where it stands for a single one between two single values.
  const single = edge.count === 1 && nodes[edge.source].single && nodes[edge.target].single;
  whole.program = single ? passes.first[nodes[edge.target].values[0]] + edge.argument : -1;
  return whole;
});
const nodeOf = new Int32Array(passes.count).fill(-1);
nodes.forEach((node) => node.values.forEach((i) => (nodeOf[i] = node.index)));

const order = nodes.filter((node) => node.computes);
const outputNode = nodes[nodeOf[passes.output]];
const steps = [
  { phase: "leaves", node: null },
  ...order.map((node) => ({ phase: "forward", node })),
  { phase: "seed", node: outputNode },
  ...order.toReversed().map((node) => ({ phase: "backward", node })),
];
const seedStep = order.length + 1;
const lastStep = steps.length - 1;
order.forEach((node, i) => {
  node.forwardStep = i + 1;
  node.backwardStep = lastStep - i;
});
nodes.forEach((node) => {
  // A gradient is complete when every consumer has sent its part.
  const senders = node.values.flatMap((i) => passes.received[i].map((edge) => nodes[nodeOf[passes.child[edge]]]));
  const outside = senders.filter((sender) => sender !== node);
  node.completeStep = Math.max(node === outputNode ? seedStep : 0, ...outside.map((sender) => sender.backwardStep));
  node.reached = node.completeStep > 0;
});

const LARGE = 300; // nodes; with more, what is out of sight is taken out of the document, and the view jumps
const isLarge = nodes.length > LARGE;

let selected = null;

function dataShown(node) {
  return !node.computes || node.forwardStep <= now;
}

// The gradient of a single value as it stands after the current step; null before anything came.
function gradientNow(node) {
  const i = node.values[0];
  let gradient = node === outputNode && now >= seedStep ? 1 : null;
  for (const edge of passes.received[i]) {
    if (nodes[nodeOf[passes.child[edge]]].backwardStep > now) break;
    gradient = passes.sumBefore[edge] + passes.flow[edge];
  }
  return gradient !== null && Math.abs(gradient) <= passes.gradientError[i] && Math.abs(gradient) < 1e-12 ? 0 : gradient;
}

function arrived(edge) {
  return nodes[nodeOf[passes.child[edge]]].backwardStep <= now;
}

// ---------------------------------------------------------------------------------------------------
// Words and numbers

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";

function subscript(n) {
  return String(n).replace(/\d/g, (digit) => SUBSCRIPTS[digit]);
}

function shorten(text, length = 24) {
  const letters = [...text.replace(/\s+/g, " ").trim()];
  return letters.length > length ? letters.slice(0, length - 1).join("") + "…" : letters.join("");
}

function isConstant(i) {
  return passes.row(i).name === "constant" && passes.isLeaf(i);
}

function nameOf(i, length) {
  const label = program.labels[i];
  if (label && label.trim()) return shorten(label, length);
  return isConstant(i) ? format(passes.shown.data[i]) : "v" + subscript(i);
}

// Which module a value belongs to: "Layer 0 · Neuron 3". The outermost is the same for all.
function contextOf(i) {
  const node = nodes[nodeOf[i]];
  const titles = node.single || node.cluster === null ? [] : [node.title];
  for (let c = node.cluster; c !== null && picture.clusters[c][1] !== null; c = picture.clusters[c][1]) titles.unshift(picture.clusters[c][0]);
  return titles.join(" · ");
}

// Put names or numbers into a formula of Python's making, "{y} × (1 − {y})"; a brace of its own stands twice.
function fill(formula, i, give) {
  return formula.replace(/\{\{|\}\}|\{(\w+)\}(?=(.?))/gu, (all, place, next) => {
    if (place === undefined) return all[0];
    const text = give(place === "y" ? i : passes.parents[i][Number(place)]);
    const power = /[⁰¹²³⁴⁵⁶⁷⁸⁹⁻^]/u.test(next);
    return power && (text.startsWith(MINUS) || text.includes(" ")) ? `(${text})` : text;
  });
}

function formulaOf(i) {
  return fill(passes.row(i).formula, i, (j) => nameOf(j));
}

function numbersOf(i) {
  const text = fill(passes.row(i).formula, i, (j) => format(passes.shown.data[j]));
  return text.replace(/([+−] )(−[\d.e−]+)/gu, "$1($2)");
}

const bold = (text, kind = "name") => element("b", { class: kind }, text);
const num = (x) => element("b", { class: `number ${x < 0 ? "negative" : x > 0 ? "positive" : "zero"}`, title: String(x) }, format(x));
const line = (...children) => element("p", { class: "line" }, ...children);
const plain = (x) => element("span", { title: String(x) }, format(x));

// What one edge adds: a.grad += 1 × −3
function addition(edge) {
  const child = passes.child[edge];
  return [
    bold(`${nameOf(passes.parentOf(edge))}.grad`),
    " += ",
    plain(passes.shown.gradient[child]),
    " × ",
    plain(passes.shown.derivative[edge]),
    " = ",
    num(passes.shown.flow[edge]),
  ];
}

const MANY = 12;

function sentEdges(i) {
  return passes.parents[i]
    .map((_, argument) => passes.first[i] + argument)
    .filter((edge) => passes.sends(i, edge - passes.first[i]) && !isConstant(passes.parentOf(edge)));
}

function explain() {
  const { phase, node } = steps[now];
  const counted = (k, of) => element("span", { class: "count" }, `${k} of ${of}`);
  const heading = (text, ...more) => element("h2", { class: phase }, text, ...more);
  if (phase === "leaves") {
    const some = leaves.slice(0, MANY).flatMap((i, k) => [k ? ", " : "", bold(nameOf(i)), " = ", plain(passes.shown.data[i])]);
    return [
      heading("The leaves"),
      element("p", {}, ...some, leaves.length > MANY ? `, and ${leaves.length - MANY} more.` : "."),
      element("p", { class: "why" }, order.length ? "They were given. The forward pass computes everything else from them: press play, or →." : "Nothing is computed from it yet: it is a leaf."),
    ];
  }
  if (!node.single) return explainGroup(phase, node, heading);
  const i = node.values[0];
  const name = nameOf(i);
  if (phase === "forward")
    return [
      heading("Forward ", counted(now, order.length)),
      line(bold(name), ` = ${formulaOf(i)}`),
      line(element("span", { class: "indent" }, `= ${numbersOf(i)}`), " = ", num(passes.shown.data[i])),
      element("p", { class: "why" }, passes.row(i).doc.replace(/\.$/, "") + "."),
    ];
  if (phase === "seed")
    return [
      heading("The backward pass begins"),
      line(bold(`${name}.grad`), " = ", num(1)),
      element("p", { class: "why" }, `The output changes exactly as much as itself: ∂${name}/∂${name} = 1. From here each node passes its gradient on to its operands, in reverse topological order.`),
    ];
  const sent = sentEdges(i);
  const consumers = passes.received[i].length;
  const why = !sent.length
    ? "Nothing flows back from here: the local derivatives are always 0, or the operands are constants."
    : `${consumers > 1 ? `${consumers === 2 ? "Both" : `All ${consumers}`} parts of ${name}.grad have arrived and are added up, so it` : `${name}.grad is complete, so it`} is passed on: times each local derivative.`;
  return [
    heading("Backward ", counted(now - seedStep, order.length)),
    line(bold(name), ` = ${formulaOf(i)} has gradient `, num(passes.shown.gradient[i])),
    ...sent.slice(0, MANY).map((edge) => line(...addition(edge), arrivalNote(edge))),
    sent.length > MANY ? line(`… and ${sent.length - MANY} more operands alike.`) : null,
    element("p", { class: "why" }, why),
  ];
}

function arrivalNote(edge) {
  const before = passes.sumBefore[edge];
  const parent = passes.parentOf(edge);
  if (passes.received[parent][0] === edge) return null;
  return element("span", { class: "note" }, ` added to ${format(before)} → ${format(before + passes.flow[edge])}`);
}

function range(numbers) {
  let low = Infinity;
  let high = -Infinity;
  for (const x of numbers) {
    low = Math.min(low, x);
    high = Math.max(high, x);
  }
  return low === high ? format(low) : `${format(low)} … ${format(high)}`;
}

function count(n, thing) {
  return `${n.toLocaleString("en")} ${thing}${n === 1 ? "" : thing.endsWith("x") ? "es" : "s"}`;
}

function computed(node) {
  return node.values.filter((i) => !passes.isLeaf(i));
}

function explainGroup(phase, node, heading) {
  const values = computed(node);
  if (phase === "forward")
    return [
      heading(`Forward: ${node.title}`),
      line(`computes ${count(values.length, "node")}; what comes out: `, bold(range(node.exits.map((i) => passes.shown.data[i])), "number")),
    ];
  const targets = new Set(node.into.map((edge) => nodes[edge.source]));
  return [
    heading(`Backward: ${node.title}`),
    line(`${count(values.length, "node")} pass gradients on, from `, bold(range(node.exits.map((i) => passes.shown.gradient[i])), "number"), " where they come in"),
    element("p", { class: "why" }, `They flow on into ${count(targets.size, "box")}. Each node within multiplies its gradient by its local derivatives, as anywhere.`),
  ];
}

// ---------------------------------------------------------------------------------------------------
// The graph

const stage = document.getElementById("graph");

const world = shape("g", { id: "world" }, stage);
const layers = {};
for (const name of ["clusters", "edges", "nodes", "labels"]) layers[name] = shape("g", { id: name }, world);

// Write an attribute or a text only where it changed: touching the document is what costs time.
function set(node, name, value) {
  if (node[name] === value) return false;
  node[name] = value;
  return true;
}

function setClass(thing, value) {
  if (set(thing, "shownClass", value)) thing.element.setAttribute("class", value);
}

function setText(thing, slot, value) {
  if (thing[slot] && set(thing, slot + "Shown", value)) thing[slot].textContent = value;
}

function drawClusters() {
  for (const { title: text, corners } of picture.frames) {
    const [left, top, right, bottom] = corners;
    shape("rect", { x: left, y: top, width: right - left, height: bottom - top, rx: 10 }, layers.clusters);
    shape("text", { x: left + 10, y: top + 17 }, layers.clusters, shorten(text, 40));
  }
}

function drawNode(node) {
  const [width, height] = node.size;
  const g = shape("g", { transform: `translate(${node.at[0] - width / 2} ${node.at[1] - height / 2})`, role: "button", tabindex: "-1" }, layers.nodes);
  node.element = g;
  g.dataset.node = node.index;
  shape("rect", { class: "card", width, height, rx: node.kind === "constant" ? 15 : 9 }, g);
  const i = node.values[0];
  if (node.kind === "constant") {
    node.dataText = shape("text", { class: "data", x: width / 2, y: 20, "text-anchor": "middle" }, g);
    return;
  }
  node.tint = shape("path", { class: "tint", d: `M1 ${height - 21}H${width - 1}V${height - 9}a8 8 0 0 1 -8 8H9a8 8 0 0 1 -8 -8Z` }, g);
  let left = 11;
  if (node.computes && node.single) {
    const symbol = passes.row(i).symbol;
    const badge = Math.max(22, 12 + 7.2 * [...symbol].length);
    shape("rect", { class: "badge", x: 6, y: 5, width: badge, height: 19, rx: 6 }, g);
    shape("text", { class: "symbol", x: 6 + badge / 2, y: 19, "text-anchor": "middle" }, g, symbol);
    left = badge + 13;
  }
  const room = Math.max(2, Math.floor((width - left - 4) / 7));
  shape("text", { class: node.single && !program.labels[i] ? "label unnamed" : "label", x: left, y: 19 }, g, node.single ? nameOf(i, room) : shorten(node.title, room));
  if (!node.single) shape("text", { class: "caption", x: width - 11, y: 19, "text-anchor": "end" }, g, count(node.values.length, "node"));
  if (!isLarge) {
    shape("text", { class: "caption", x: 11, y: 37 }, g, "data");
    shape("text", { class: "caption", x: 11, y: 55 }, g, "grad");
  }
  node.dataText = shape("text", { class: "data", x: width - 11, y: 37, "text-anchor": "end" }, g);
  node.gradientText = shape("text", { class: "gradient", x: width - 11, y: 55, "text-anchor": "end" }, g);
}

function curve(path) {
  const [start, ...rest] = path;
  return `M${start}C${rest.join(" ")}`;
}

function drawEdge(edge) {
  const path = edge.path;
  const [x, y] = path[path.length - 1];
  const [px, py] = path[path.length - 2];
  const angle = (Math.atan2(y - py, x - px) * 180) / Math.PI;
  edge.element = shape("g", {}, layers.edges);
  shape("path", { d: curve(path) }, edge.element);
  shape("path", { class: "head", d: "M0 0L-9 -4.2L-9 4.2Z", transform: `translate(${x} ${y}) rotate(${angle})` }, edge.element);
  if (edge.count > 1) {
    const at = edge.label ?? middle(path);
    shape("text", { class: "times", x: at[0], y: at[1] + 4, "text-anchor": "middle" }, edge.element, `×${edge.count.toLocaleString("en")}`);
  }
}

// The middle of a chain of Bézier pieces: of its middle piece.
function middle(path) {
  const k = 3 * Math.floor((path.length - 1) / 6);
  const [a, b, c, d] = path.slice(k, k + 4);
  return [0, 1].map((axis) => (a[axis] + 3 * b[axis] + 3 * c[axis] + d[axis]) / 8);
}

function labelOf(edge) {
  if (!edge.labelElement) {
    const [x, y] = edge.label ?? middle(edge.path);
    const g = shape("g", { transform: `translate(${x} ${y})` }, layers.labels);
    shape("rect", { x: -40, y: -17, width: 80, height: 34, rx: 7 }, g);
    edge.derivativeText = shape("text", { class: "derivative", y: -3, "text-anchor": "middle" }, g);
    edge.flowText = shape("text", { class: "flow", y: 12, "text-anchor": "middle" }, g);
    edge.labelElement = { element: g };
  }
  return edge.labelElement;
}

let largest = 1;

// The strength of a colour, 0 to 4: the decade below the largest, as in all pictures.
function level(x) {
  const size = Math.abs(x);
  if (!size) return 0;
  if (!(size < largest * 0.5)) return 4;
  return size >= largest * 0.1 ? 3 : size >= largest * 0.01 ? 2 : 1;
}

const tone = (x) => (x === 0 ? "zero" : `${x < 0 ? "negative" : "positive"}-${level(x)}`);

function paintNode(node) {
  const step = steps[now];
  const classes = ["node", node.kind];
  if (isEditable(node) && !isLocked(node.values[0])) classes.push("editable");
  if (node === outputNode) classes.push("output");
  if (node === selected) classes.push("selected");
  if (step.node === node) classes.push("current", step.phase);
  else if (step.node && (step.phase === "forward" || step.phase === "backward") && step.node.operands.has(node)) classes.push("operand", step.phase);
  const known = dataShown(node);
  if (!known) classes.push("unknown");
  let gradient = null;
  if (node.single) {
    gradient = gradientNow(node);
    setText(node, "dataText", known ? format(passes.shown.data[node.values[0]]) : "");
    const open = gradient !== null && node.completeStep > now;
    if (open) classes.push("open");
    setText(node, "gradientText", gradient === null ? "" : open ? `${format(gradient)} …` : format(gradient));
  } else {
    const values = node.exits;
    const done = node.reached && node.completeStep <= now;
    setText(node, "dataText", known ? range(values.map((i) => passes.shown.data[i])) : "");
    setText(node, "gradientText", done ? range(values.map((i) => passes.shown.gradient[i])) : "");
    if (done) gradient = values.map((i) => passes.shown.gradient[i]).reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
  }
  if (gradient !== null && node.kind !== "constant") classes.push(tone(gradient));
  setClass(node, classes.join(" "));
}

function paintEdge(edge) {
  const step = steps[now];
  const target = nodes[edge.target];
  const passed = target.computes && target.backwardStep <= now;
  const sends = edge.program < 0 || passes.sends(target.values[0], edge.argument);
  const classes = ["edge"];
  if (!dataShown(target)) classes.push("unknown");
  const current = step.node === target && (step.phase === "forward" || (step.phase === "backward" && sends));
  if (current) classes.push("active", step.phase);
  if (highlighted.has(edge.program)) classes.push("on-path");
  const silent = nodes[edge.source].kind === "constant";
  if (passed && edge.program >= 0) classes.push(sends && !silent ? tone(passes.shown.flow[edge.program]) : "silent");
  setClass(edge, classes.join(" "));

  const beside = step.phase === "backward" && step.node === target;
  const chosen = selected && (selected === target || selected.index === edge.source);
  const labelled = passed && edge.program >= 0 && sends && !silent && (picture.labelled || beside || chosen);
  if (!labelled) {
    if (edge.labelElement) setClass(edge.labelElement, "hidden");
    return;
  }
  const label = labelOf(edge);
  setText(edge, "derivativeText", `∂ ${format(passes.shown.derivative[edge.program])}`);
  setText(edge, "flowText", `← ${format(passes.shown.flow[edge.program])}`);
  setClass(label, `edge-label ${tone(passes.shown.flow[edge.program])}${current ? " active" : ""}`);
}

function paintAll() {
  nodes.forEach(paintNode);
  edges.forEach(paintEdge);
}

// What a step touches: its node, the operands, the edges between them, and what they show.
function touched(step) {
  const node = steps[step].node;
  return node ? [node, ...node.operands] : [];
}

function measure() {
  largest = 0;
  for (const gradient of passes.shown.gradient) if (Number.isFinite(gradient)) largest = Math.max(largest, Math.abs(gradient));
}

// ---------------------------------------------------------------------------------------------------
// Pan, zoom and follow

const room = { width: 1, height: 1 }; // of the stage: measured when it changes, as measuring costs a layout
const view = { x: 0, y: 0, scale: 1, fitted: 1 };

function around(boxes) {
  const all = [Infinity, Infinity, -Infinity, -Infinity];
  for (const box of boxes) box.forEach((x, k) => (all[k] = k < 2 ? Math.min(all[k], x) : Math.max(all[k], x)));
  return all;
}

nodes.forEach((node) => (node.box = [0, 1, 2, 3].map((k) => node.at[k % 2] + (k < 2 ? -0.5 : 0.5) * node.size[k % 2])));
const bounds = around(nodes.map((node) => node.box));
edges.forEach((edge) => (edge.box = around(edge.path.map(([x, y]) => [x, y, x, y]))));
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let gliding = 0;

function showView() {
  world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
  const far = view.scale < 0.4;
  if (set(view, "far", far)) stage.classList.toggle("far", far);
  if (isLarge) cull();
}

// Text far outside the stage costs as much to lay out as text within: it is taken out.
function cull() {
  const { width, height } = room;
  const [left, top] = [-view.x / view.scale, -view.y / view.scale];
  const [right, bottom] = [left + width / view.scale, top + height / view.scale];
  for (const thing of [...nodes, ...edges]) {
    const [l, t, r, b] = thing.box;
    const away = (r < left || l > right || b < top || t > bottom) && thing !== inside;
    if (set(thing, "away", away)) thing.element.style.display = away ? "none" : "";
  }
}

function moveView(x, y, scale) {
  cancelAnimationFrame(gliding);
  Object.assign(view, { x, y, scale });
  showView();
}

function glideView(x, y, scale) {
  if (calm.matches || document.hidden || isLarge) return moveView(x, y, scale);
  const from = { ...view };
  const began = performance.now();
  cancelAnimationFrame(gliding);
  const tick = (time) => {
    const t = Math.min(1, Math.max(0, (time - began) / 260));
    const eased = 1 - (1 - t) ** 3;
    Object.assign(view, { x: from.x + (x - from.x) * eased, y: from.y + (y - from.y) * eased, scale: from.scale + (scale - from.scale) * eased });
    showView();
    if (t < 1) gliding = requestAnimationFrame(tick);
  };
  gliding = requestAnimationFrame(tick);
}

function fitTo([left, top, right, bottom], most) {
  const { width, height } = room;
  const margin = Math.min(36, width / 14);
  const scale = Math.min(most, (width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top));
  return [width / 2 - (scale * (left + right)) / 2, height / 2 - (scale * (top + bottom)) / 2, Math.max(scale, 0.01)];
}

const READABLE = 0.62;

// No more empty room than there must be: a graph smaller than the stage stands in its middle.
function within([x, y, scale]) {
  const { width, height } = room;
  const clamp = (offset, low, high, room) => {
    const margin = 24;
    if ((high - low) * scale + 2 * margin <= room) return (room - (low + high) * scale) / 2;
    return Math.max(room - margin - high * scale, Math.min(margin - low * scale, offset));
  };
  return [clamp(x, bounds[0], bounds[2], width), clamp(y, bounds[1], bounds[3], height), scale];
}

function fit() {
  const [x, y, scale] = fitTo(bounds, 1.25);
  view.fitted = scale;
  glideView(x, y, scale);
}

function zoomAt(x, y, factor) {
  const scale = Math.min(4, Math.max(Math.min(view.fitted, 0.2) / 2, view.scale * factor));
  moveView(x - ((x - view.x) * scale) / view.scale, y - ((y - view.y) * scale) / view.scale, scale);
}

function zoomMiddle(factor) {
  const { width, height } = room;
  zoomAt(width / 2, height / 2, factor);
}

let following = false;
let inside = nodes[0]; // the node that has the keyboard's focus when the graph has it

function setFollowing(on) {
  following = on;
  document.getElementById("follow").setAttribute("aria-pressed", String(on));
}

// Bring a node into view with its operands, at a size that can be read.
function follow(node) {
  if (!node) return;
  const isSeen = (box) => {
    const [left, top, right, bottom] = box.map((at, k) => (k % 2 ? view.y : view.x) + at * view.scale);
    return left >= 8 && top >= 8 && right <= room.width - 8 && bottom <= room.height - 8;
  };
  const near = around([node, ...node.operands].slice(0, 9).map((n) => n.box));
  if (view.scale >= READABLE && isSeen(isLarge ? node.box : near)) return;
  // A large graph keeps its scale, as each new one lays out every text; and where the operands are too far
  // apart to be seen at once, the node itself is what counts.
  const scale = Math.max(view.scale, 0.9);
  const target = fitTo(near, scale);
  const [x, y] = node.at;
  const middle = [room.width / 2 - x * scale, room.height / 2 - y * scale, scale];
  glideView(...within(target[2] >= (isLarge ? scale : 0.45) ? target : middle));
}

// ---------------------------------------------------------------------------------------------------
// The panel

const panel = { now: document.getElementById("now"), node: document.getElementById("node"), leaves: document.getElementById("leaves") };
const PATHS = 8;
let highlighted = new Set();

function highlight(path) {
  const before = highlighted;
  highlighted = new Set(path);
  edges.forEach((edge) => {
    if (before.has(edge.program) || highlighted.has(edge.program)) paintEdge(edge);
  });
}

function describeNode() {
  highlight([]);
  const node = selected ?? steps[now].node;
  const heading = element("h2", {}, selected ? "Selected" : "This node");
  if (!node) {
    panel.node.replaceChildren(heading, element("p", { class: "why" }, "Click a node, or walk to it with Tab and ↑ ↓, to see its formula, its local derivatives and every path of its gradient."));
    return;
  }
  if (selected) {
    const close = element("button", { class: "plain", "aria-label": "Deselect" }, "×");
    close.addEventListener("click", () => select(null));
    heading.append(close);
  }
  panel.node.replaceChildren(heading, ...(node.single ? describeValue(node) : describeGroup(node)));
}

function describeGroup(node) {
  return [
    line(bold(node.title), ` stands for ${count(node.values.length, "node")}`),
    line("data ", bold(dataShown(node) ? range(node.exits.map((i) => passes.shown.data[i])) : "not yet computed", "number")),
    line("gradient ", bold(node.reached && node.completeStep <= now ? range(node.exits.map((i) => passes.shown.gradient[i])) : "not yet complete", "number")),
  ];
}

function describeValue(node) {
  const i = node.values[0];
  const name = nameOf(i, 200);
  const known = dataShown(node);
  const complete = node.completeStep <= now;
  const gradient = gradientNow(node);
  const parts = [];
  const kinds = { input: "a leaf", parameter: "a parameter", constant: "a constant", operation: passes.row(i).name };
  parts.push(
    element("div", { class: "title" }, bold(name), element("span", { class: "kind" }, [kinds[node.kind], node === outputNode ? "the output" : "", contextOf(i)].filter((text) => text).join(", "))),
    element(
      "dl",
      { class: "facts" },
      element("dt", {}, "data"),
      element("dd", { id: "full-data" }, known ? exact(passes.data[i]) : "not yet computed"),
      element("dt", {}, "grad"),
      element("dd", { id: "full-gradient" }, gradient === null ? (node.reached ? "nothing has arrived yet" : "nothing flows to it") : exact(gradient) + (complete ? "" : " so far")),
    ),
  );
  if (node.computes) {
    parts.push(element("h3", {}, "Formula"), line(bold(name), ` = ${formulaOf(i)}`));
    if (known) parts.push(line(element("span", { class: "indent" }, `= ${numbersOf(i)}`), " = ", num(passes.shown.data[i])));
    if (passes.row(i).problem) parts.push(element("p", { class: "why" }, `Computed in Python: ${passes.row(i).problem}.`));
    parts.push(element("h3", {}, "Local derivatives"));
    const list = passes.parents[i].slice(0, 40).map((parent, argument) => {
      const formula = fill(passes.row(i).derivatives[argument], i, (j) => nameOf(j));
      const value = passes.shown.derivative[passes.first[i] + argument];
      return line(`∂${nameOf(i)}/∂${nameOf(parent)}`, ` = ${formula}`, ...(known && formula !== format(value) ? [" = ", bold(format(value), "number")] : []));
    });
    parts.push(...list);
    if (passes.parents[i].length > 40) parts.push(line(`… and ${passes.parents[i].length - 40} more`));
  }
  const received = passes.received[i];
  if (node !== outputNode && received.length) {
    parts.push(element("h3", {}, "Gradient: what each use of it adds"));
    for (const edge of received.slice(0, 24)) {
      const child = passes.child[edge];
      const from = element("span", { class: "note" }, ` from ${nameOf(child)}`);
      parts.push(
        arrived(edge)
          ? line(...addition(edge), from)
          : element("p", { class: "line waiting" }, `${nameOf(child)}.grad × ∂${nameOf(child)}/∂${nameOf(i)}`, from, ", not yet"),
      );
    }
    if (received.length > 24) parts.push(line(`… and ${received.length - 24} more uses`));
    if (received.length > 1 && gradient !== null) parts.push(element("p", { class: "line total" }, complete ? "sum = " : "so far = ", num(gradient)));
    parts.push(...describePaths(i, complete));
  }
  return parts;
}

function describePaths(i, complete) {
  const { paths, total } = passes.pathsToOutput(i, PATHS);
  const heading = element("h3", {}, total === 1 ? "The path to the output" : `Sum over ${format(total)} paths to the output`);
  if (!complete) return [heading, element("p", { class: "why" }, "Along each path the local derivatives are multiplied; the products add up to the gradient. Step on until it is complete.")];
  const lines = paths.map((path) => {
    const products = path.map((edge) => passes.shown.derivative[edge]);
    const product = products.reduceRight((all, d) => all * d, 1);
    const stops = [nameOf(i, 10), ...path.map((edge) => nameOf(passes.child[edge], 10))];
    const shown = (list) => (list.length > 7 ? [...list.slice(0, 3), "…", ...list.slice(-3)] : list);
    const item = element(
      "button",
      { class: "path" },
      element("span", { class: "stops" }, shown(stops).join(" → ")),
      element("span", { class: "product" }, `${shown(products.map(format)).join(" × ")} = `, num(product)),
    );
    for (const event of ["pointerenter", "focus"]) item.addEventListener(event, () => highlight(path));
    for (const event of ["pointerleave", "blur"]) item.addEventListener(event, () => highlight([]));
    item.addEventListener("click", () => highlight(path));
    return item;
  });
  if (total > paths.length) lines.push(element("p", { class: "why" }, `These are the first ${paths.length}; the gradient is the sum of all ${format(total)}, computed without walking them one by one. That is what backpropagation is for.`));
  else if (total > 1) lines.push(element("p", { class: "line total" }, "sum = ", num(passes.shown.gradient[i])));
  return [heading, ...lines];
}

function exact(x) {
  return x !== x ? "nan" : String(x).replace("Infinity", "inf").replace("-", MINUS);
}

// ---------------------------------------------------------------------------------------------------
// Leaves that can be edited

const LEAVES = 60;
const leaves = passes.parents.map((_, i) => i).filter((i) => passes.isLeaf(i) && !isConstant(i));
const editors = new Map();

function isLocked(i) {
  return passes.problems[i] !== "";
}

// One hundredth of the number's size, as a power of ten: the step of dragging.
function stepSize(x) {
  return 10 ** (Math.floor(Math.log10(Math.min(Math.max(Math.abs(x), 0.1), 1e100))) - 2);
}

function rounded(x, step) {
  return Number(x.toFixed(Math.max(0, -Math.round(Math.log10(step)))));
}

function compute() {
  passes.run();
  measure();
  paintAll();
  refresh();
}

function isEditable(node) {
  return node.single && !node.computes && node.kind !== "constant";
}

function setLeaf(i, x) {
  if (isLocked(i) || x !== x) return;
  passes.data[i] = x;
  compute();
}

// Drag a handle sideways to change a leaf; a press that does not move is a click.
function drag(i, handle, clicked) {
  let start = null;
  handle.addEventListener("pointerdown", (event) => {
    if (event.button || isLocked(i)) return;
    const x = passes.data[i];
    start = { at: event.clientX, x, step: stepSize(x), moved: false };
    handle.setPointerCapture(event.pointerId);
    event.stopPropagation();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!start) return;
    const distance = Math.round(event.clientX - start.at);
    if (!start.moved && Math.abs(distance) < 4) return;
    start.moved = true;
    setLeaf(i, rounded(start.x + distance * start.step, start.step));
  });
  for (const name of ["pointerup", "pointercancel"])
    handle.addEventListener(name, () => {
      if (start && !start.moved) clicked();
      start = null;
    });
}

// Arrow keys change a leaf by a tenth of its size; in the number field, up and down alone.
function nudge(event, i) {
  const directions = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
  const times = directions[event.key];
  if (!times || isLocked(i) || (event.target.tagName === "INPUT" && /Left|Right/.test(event.key))) return;
  const step = 10 * stepSize(passes.data[i]);
  setLeaf(i, rounded(passes.data[i] + times * step, step));
  event.preventDefault();
  event.stopPropagation();
}

function buildLeaves() {
  const reset = element("button", { class: "plain", id: "reset" }, "reset");
  reset.addEventListener("click", () => {
    leaves.forEach((i) => (passes.data[i] = passes.given.get(i)));
    compute();
  });
  // What the user named comes first, then the parameters, then the rest.
  const rank = (i) => (!program.labels[i] ? 2 : nodes[nodeOf[i]].kind === "parameter" || contextOf(i) ? 1 : 0);
  const shown = leaves.toSorted((i, j) => rank(i) - rank(j) || i - j).slice(0, LEAVES);
  panel.leaves.replaceChildren(
    element("h2", {}, "Leaves", reset),
    element("p", { class: "why" }, "Type a number, or drag ↔ or the leaf itself in the graph: both passes are computed again."),
    element("p", { class: "line", id: "result" }),
    ...shown.map(editorOf),
  );
  if (leaves.length > LEAVES) panel.leaves.append(element("p", { class: "why" }, `${count(leaves.length - LEAVES, "more leaf").replace("leafs", "leaves")}: click one in the graph to edit it.`));
}

function editorOf(i) {
  const name = nameOf(i, 60);
  const id = `leaf-${i}`;
  const input = element("input", { id, type: "number", step: "any", inputmode: "decimal" });
  const handle = element("span", { class: "handle", role: "slider", tabindex: "0", "aria-label": `Drag ${name} ${contextOf(i)}`.trim(), title: "Drag, or use the arrow keys" }, "↔");
  const gradient = element("span", { class: "leaf-gradient" });
  const box = element("div", { class: "leaf" }, element("label", { for: id, title: name }, name, contextOf(i) ? element("small", {}, contextOf(i)) : null), handle, input, gradient);
  if (isLocked(i)) {
    input.disabled = true;
    handle.setAttribute("aria-disabled", "true");
    box.classList.add("locked");
    box.append(element("p", { class: "why" }, `Read-only: ${passes.problems[i]}, so the page cannot compute what follows from it.`));
  }
  input.addEventListener("input", () => {
    if (input.value !== "") setLeaf(i, Number(input.value));
  });
  input.addEventListener("blur", () => refreshLeaf(i));
  for (const control of [input, handle]) control.addEventListener("keydown", (event) => nudge(event, i));
  drag(i, handle, () => handle.focus());
  editors.set(i, { input, handle, gradient, box });
  return box;
}

function refreshLeaf(i) {
  const { input, handle, gradient } = editors.get(i);
  const x = passes.data[i];
  const node = nodes[nodeOf[i]];
  if (document.activeElement !== input || (input.value !== "" && Number(input.value) !== x)) input.value = Number.isFinite(x) ? String(x) : "";
  input.placeholder = exact(x);
  handle.setAttribute("aria-valuenow", String(x));
  handle.setAttribute("aria-valuetext", format(x));
  gradient.replaceChildren("grad ", node.reached && node.completeStep <= now ? num(passes.shown.gradient[i]) : "–");
}

function refreshLeaves() {
  document.getElementById("result").replaceChildren(bold(nameOf(passes.output)), " = ", num(passes.shown.data[passes.output]));
  for (const i of editors.keys()) refreshLeaf(i);
}

// ---------------------------------------------------------------------------------------------------
// Playing

function refresh() {
  panel.now.replaceChildren(...explain().filter((part) => part !== null));
  describeNode();
  refreshLeaves();
}

function showStep(before) {
  if (Math.abs(now - before) === 1) {
    const changed = new Set([...touched(before), ...touched(now)]);
    const lines = new Set([before, now].flatMap((s) => (steps[s].node ? steps[s].node.into : [])));
    changed.forEach(paintNode);
    lines.forEach(paintEdge);
  } else paintAll();
  if (following) follow(steps[now].node);
  refresh();
}

function stepInWords() {
  const { phase, node } = steps[now];
  if (phase === "leaves") return "the leaves";
  return `${phase === "seed" ? "backward begins" : phase} at ${node.single ? nameOf(node.values[0]) : node.title}`;
}

function select(node) {
  const before = selected;
  selected = node;
  for (const changed of [before, node]) {
    if (!changed) continue;
    paintNode(changed);
    [...changed.into, ...changed.from].forEach(paintEdge);
  }
  describeNode();
  if (node && isEditable(node)) {
    const i = node.values[0];
    if (!editors.has(i)) panel.leaves.append(editorOf(i));
    refreshLeaf(i);
    editors.get(i).box.scrollIntoView({ block: "nearest" });
  }
}

// ---------------------------------------------------------------------------------------------------
// Mouse, touch and keyboard

function connect() {
  const buttons = {
    "zoom-in": () => zoomMiddle(1.3),
    "zoom-out": () => zoomMiddle(1 / 1.3),
    fit: () => (setFollowing(false), fit()),
    follow: () => (setFollowing(!following), following && follow(steps[now].node ?? selected)),
  };
  for (const id in buttons) document.getElementById(id).addEventListener("click", buttons[id]);
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
      Escape: () => select(null),
    },
  });
  connectStage();
}

function connectStage() {
  const touches = new Map();
  let pinch = 0;
  stage.addEventListener("pointerdown", (event) => {
    const rect = stage.getBoundingClientRect();
    touches.set(event.pointerId, [event.clientX - rect.left, event.clientY - rect.top]);
    const hit = event.target.closest("[data-node]");
    stage.dragged = false;
    if (!hit) stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
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
  const release = (event) => {
    touches.delete(event.pointerId);
    pinch = 0;
  };
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) stage.addEventListener(name, release);
  stage.addEventListener("click", (event) => {
    if (stage.dragged) return;
    const hit = event.target.closest("[data-node]");
    if (hit && hit.classList.contains("editable")) return; // its own handler tells a click from a drag
    const node = hit ? nodes[Number(hit.dataset.node)] : null;
    if (node !== selected) select(node);
  });
  // Within a notebook the wheel scrolls the notebook; there Ctrl zooms.
  const embedded = window.parent !== window;
  stage.addEventListener(
    "wheel",
    (event) => {
      if (embedded && !event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const rect = stage.getBoundingClientRect();
      zoomAt(event.clientX - rect.left, event.clientY - rect.top, Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)));
    },
    { passive: false },
  );
  // One tab stop for the whole graph; up and down walk it in topological order.
  inside.element.setAttribute("tabindex", "0");
  stage.addEventListener("focusin", (event) => {
    const hit = event.target.closest("[data-node]");
    if (!hit) return;
    inside.element.setAttribute("tabindex", "-1");
    inside = nodes[Number(hit.dataset.node)];
    inside.element.setAttribute("tabindex", "0");
    inside.element.setAttribute("aria-label", spoken(inside));
    if (hit.matches(":focus-visible")) follow(inside);
  });
  stage.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) {
      const next = nodes[Math.min(nodes.length - 1, Math.max(0, inside.index + by))];
      next.element.setAttribute("aria-label", spoken(next));
      next.element.style.display = ""; // what is out of sight cannot be focused
      next.away = false;
      next.element.focus({ preventScroll: true });
    } else if (event.key === "Enter" || event.key === " ") select(inside);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

function spoken(node) {
  if (!node.single) return `${node.title}, ${node.values.length} nodes`;
  const i = node.values[0];
  const formula = node.computes ? ` = ${formulaOf(i)}` : `, ${node.kind}`;
  const gradient = gradientNow(node);
  return `${nameOf(i, 60)}${formula}, data ${dataShown(node) ? format(passes.shown.data[i]) : "not yet computed"}${gradient === null ? "" : `, gradient ${format(gradient)}`}`;
}

// ---------------------------------------------------------------------------------------------------

nodes.forEach((node) => (node.operands = new Set(node.into.map((edge) => nodes[edge.source]))));
stage.classList.toggle("large", isLarge);
drawClusters();
edges.forEach(drawEdge);
nodes.forEach(drawNode);
nodes.filter((node) => isEditable(node) && !isLocked(node.values[0])).forEach((node) => drag(node.values[0], node.element, () => select(node)));
document.getElementById("note").textContent = picture.note;
document.getElementById("phases").style.setProperty("--turn", `${(100 * (seedStep - 0.5)) / Math.max(1, lastStep)}%`);
document.getElementById("timeline").style.setProperty("--turn", `${(100 * (seedStep - 0.5)) / Math.max(1, lastStep)}%`);
measure();
buildLeaves();
connect();
paintAll();
refresh();
function showAll() {
  moveView(...fitTo(bounds, 1.25));
  view.fitted = view.scale;
}

Object.assign(room, { width: stage.clientWidth, height: stage.clientHeight });
showAll();
setFollowing(view.scale < READABLE);
new ResizeObserver(() => {
  Object.assign(room, { width: stage.clientWidth, height: stage.clientHeight });
  if (view.scale === view.fitted) showAll();
}).observe(stage);
