// The page's side: an editor, a console, and what Python's thread prints and shows.
// @ts-check

const EXAMPLES = {
  "A neuron": `import microgrid as mg
from microgrid import Value

x1, x2 = Value(2.0, "x1"), Value(0.0, "x2")
w1, w2, b = Value(-3.0, "w1"), Value(1.0, "w2"), Value(6.88, "b")
y = mg.tanh(x1 * w1 + x2 * w2 + b)
y.backward()
mg.draw(y)
`,
  "The price of apples": `import microgrid as mg
from microgrid import Value

apple, apples, tax = Value(100, "apple"), Value(2, "apples"), Value(1.1, "tax")
price = apple * apples * tax
mg.explore(price)
`,
  "A wrong derivative is named": `import math
import microgrid as mg

wrong = mg.Op("cube", lambda x: x**3, (lambda y, x: 3 * x,))  # 3 x, not 3 x²
mg.check(lambda x: wrong(x) + mg.sin(x), 2.0)
`,
  "Why is this gradient zero?": `import microgrid as mg
from microgrid import Value

a, w = Value(1.0, "a"), Value(-8.0, "w")
mg.why(mg.relu(a * w) * 3)
`,
  "An exercise of the course": `from microgrid import exercises

def backward(x, dout):  # of ReLU: what goes back to x when dout comes?
    return 1.0 if x > 0 else 0.0  # not right yet

exercises.relu(backward)
`,
  "A line, learned": `import random
from microgrid import Value, losses, optim

a, b = Value(0.0, "a"), Value(0.0, "b")
adam = optim.Adam([a, b], 0.1)
draw = random.Random(0)
for step in range(201):
    xs = [draw.uniform(-1, 1) for _ in range(10)]
    loss = losses.mean_squared_error([a * x + b for x in xs], [3 * x - 2 for x in xs])
    adam.zero_grad()
    loss.backward()
    adam.step()
    if step % 50 == 0:
        print(f"step {step:3d}  loss {loss.data:.6f}  a = {a.data:.4f}  b = {b.data:.4f}")
`,
  "Two moons, learned": `import microgrid as mg
from microgrid import data, nn, optim

X, y = data.moons(100, noise=0.1, seed=0)
model = nn.MLP(2, [8, 8, 2], init="he", seed=0)
watcher = mg.watch(model, X, y)
history = mg.fit(model, X, y, optimizer=optim.Adam(model.parameters(), 0.03), epochs=25, after_epoch=watcher, quiet=True)
print(f"loss {history.loss[-1]:.3f}, right {history.accuracy[-1]:.0%}", history.not_compiled)
watcher
`,
  "From scalars to arrays": `import microgrid as mg
from microgrid import data, losses, nn

X, y = data.moons(200)
model = nn.MLP(2, [16, 16, 2], init="he", seed=0)

@mg.compile
def loss(point, moon):
    return losses.cross_entropy(model(point), moon)

kernel = loss.kernel(X, y)
value, gradient = kernel.value_and_grad(kernel.read(), X, y)
print(f"loss {value:.3f}, {len(gradient)} derivatives")
print(kernel.dump("arrays"))
`,
  "Softmax with loss": `import math
import microgrid as mg
from microgrid import Value, losses

scores = [Value(math.log(p), f"a{i}") for i, p in enumerate((0.3, 0.2, 0.5))]
loss = losses.cross_entropy(scores, 1)
loss.backward()
print([round(a.grad, 3) for a in scores])
mg.draw(loss)
`,
};

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);
const editor = element("try-editor");
const results = element("try-results");
const state = element("try-state");
const line = element("try-line");
const choice = element("try-examples");

/** @param {string} text */
const packed = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
/** @param {string} text */
const unpacked = (text) => new TextDecoder().decode(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));

for (const name of Object.keys(EXAMPLES)) choice.append(new Option(name));
editor.value = EXAMPLES["A neuron"];
if (location.hash.startsWith("#code=")) {
  try {
    editor.value = unpacked(location.hash.slice(6));
  } catch {
    state.textContent = "The link is damaged: the first example stands here instead.";
  }
}
choice.addEventListener("change", () => {
  editor.value = EXAMPLES[/** @type {keyof typeof EXAMPLES} */ (choice.value)];
});

/** @type {Worker} */
let python;
let busy = false;

function begin() {
  state.textContent = "Python is loading …";
  python = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  python.onmessage = ({ data }) => answers[/** @type {keyof typeof answers} */ (data.kind)](data.content);
  python.onerror = (error) => answers.failed(error.message || "the worker could not be started");
  setBusy(true);
}

/** @param {boolean} now */
function setBusy(now) {
  busy = now;
  element("try-run").disabled = now;
  element("try-stop").disabled = !now;
}

/** @param {string} text @param {string} kind */
function addText(text, kind) {
  const last = results.lastElementChild;
  if (kind === "text" && last?.className === "text") {
    last.textContent += text;
    return;
  }
  const part = document.createElement("pre");
  part.className = kind;
  part.textContent = text;
  results.append(part);
}

const answers = {
  /** @param {string} version */
  ready(version) {
    state.textContent = `microgrid ${version} is ready. Ctrl+Enter runs.`;
    setBusy(false);
  },
  /** @param {string} why */
  failed(why) {
    state.textContent = `Python could not be loaded (${why}). The page must be served, it cannot run from disk.`;
  },
  /** @param {string} text */
  text: (text) => addText(text, "text"),
  /** @param {string} text */
  error: (text) => addText(text, "error"),
  /** @param {string} shown */
  html(shown) {
    const part = document.createElement("div");
    part.className = "shown";
    part.innerHTML = shown;
    results.append(part);
  },
  done() {
    state.textContent = "Ready. Ctrl+Enter runs.";
    setBusy(false);
  },
};

/** @param {string} code @param {boolean} fresh */
function run(code, fresh) {
  if (busy || !code.trim()) return;
  if (fresh) results.replaceChildren();
  state.textContent = "Running …";
  setBusy(true);
  python.postMessage(code);
}

element("try-run").addEventListener("click", () => run(editor.value, true));
element("try-stop").addEventListener("click", () => {
  python.terminate();
  addText("Stopped. Python starts anew, with none of its names.", "error");
  begin();
});
element("try-share").addEventListener("click", async () => {
  location.hash = `code=${packed(editor.value)}`;
  try {
    await navigator.clipboard.writeText(location.href);
    state.textContent = "The link is in the clipboard.";
  } catch {
    state.textContent = "The link is in the address bar.";
  }
});
editor.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run(editor.value, true);
  }
});
/** @type {string[]} */
const lines = [];
let place = 0;
line.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  if (event.key === "Enter" && !busy && line.value.trim()) {
    addText(`>>> ${line.value}`, "typed");
    lines.push(line.value);
    place = lines.length;
    run(line.value, false);
    line.value = "";
  } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    place = Math.min(Math.max(place + (event.key === "ArrowUp" ? -1 : 1), 0), lines.length);
    line.value = lines[place] ?? "";
    event.preventDefault();
  }
});
begin();
