"""The eager engine beside its peers: time, memory, and what is left behind.

    pip install -e ".[demo,test]" && python benchmarks/eager.py

The peers are micrograd 0.1.0, the bare ``Value`` of ``gpt.py``, and loops in plain Python that do the least that can be
done: the interpreter's floor. ``--against PATH`` adds another microgrid, such as another checkout or a build:
the folder that holds the package. Each figure is measured in a process of its own, the contenders in turn, with the
garbage collector on; times are CPU time, and of each process the median of the steps is taken. The last column of a
row is the median, over the rounds, of the other's figure by ours: over 1 where ours is better. On a busy machine it is
steadier than the times.
"""

import argparse
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

CHAIN = 1_000_000
WORD = "marl"
"""A forward pass of the GPT on it makes some 42,000 nodes."""


class Node:
    """The least that a node can be: the floor records these, with no operator on the way."""

    __slots__ = ("data", "first", "grad", "left", "mark", "right", "second")

    def __init__(self, data: float, first: Any, second: Any, left: float, right: float) -> None:
        self.data = data
        self.grad = 0.0
        self.first = first
        self.second = second
        self.left = left
        self.right = right
        self.mark = 0


class Link:
    """As small an object of four attributes as Python makes, for the floor of a chain."""

    __slots__ = ("data", "first", "grad", "op")

    def __init__(self, data: float, op: str, first: Any) -> None:
        self.data = data
        self.grad = 0.0
        self.op = op
        self.first = first


def value_class(library: str) -> Any:
    if library == "bare":
        return importlib.import_module("gpt").Value
    return importlib.import_module(f"{library}.engine").Value


@contextmanager
def timed(seconds: dict[str, list[float]], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    seconds.setdefault(name, []).append(time.process_time() - start)


def medians(seconds: dict[str, list[float]]) -> dict[str, Any]:
    return {name: 1e3 * statistics.median(each) for name, each in seconds.items()}


def gpt(library: str, steps: int) -> dict[str, Any]:
    """The GPT of ``gpt.py`` on one word: width 16, 4 heads, context 16, one layer."""
    program: Any = importlib.import_module("gpt")
    program.Value = value_class(library)
    weights = program.parameters()
    parts = program.numbers(weights)
    seconds: dict[str, list[float]] = {}
    for _ in range(steps):
        for p in parts:
            p.grad = 0
        with timed(seconds, "both"):
            with timed(seconds, "forward"):
                loss = program.loss_of(WORD, weights)
            with timed(seconds, "backward"):
                loss.backward()
        number = loss.data
        with timed(seconds, "release"):
            del loss
    return medians(seconds) | {"loss": number, "slope": sum(p.grad * p.grad for p in parts)}


def nodes_below(root: Any, children: Callable[[Any], Any]) -> list[Any]:
    """Every node of a graph, children before their parents."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in children(node))
    return order


def floor(library: str, steps: int) -> dict[str, Any]:
    """What plain Python takes at least for the graph of ``gpt``, its shape being known.

    Forward makes an object with its local gradients for each node, as if all were products; a search orders them, with
    a mark in the node for a set; backward goes through that order.
    """
    program: Any = importlib.import_module("gpt")
    order = nodes_below(program.loss_of(WORD, program.parameters()), lambda node: node._children)
    order.sort(key=lambda node: bool(node._children))  # leaves first, else as it was
    place = {id(node): k for k, node in enumerate(order)}
    leaf_count = sum(not node._children for node in order)
    shape = [(place[id(n._children[0])], place[id(n._children[-1])]) for n in order[leaf_count:]]
    count = len(order)
    del order, place
    seconds: dict[str, list[float]] = {}
    for step in range(1, steps + 1):
        made = [Node(1.0, None, None, 0.0, 0.0) for _ in range(leaf_count)]
        with timed(seconds, "both"):
            with timed(seconds, "forward"):
                for i, j in shape:
                    a, b = made[i], made[j]
                    x, y = a.data, b.data
                    made.append(Node(x * y, a, b, y, x))
            with timed(seconds, "order"):
                ordered: list[Any] = []
                stack: list[Any] = [made[-1]]
                while stack:
                    node = stack.pop()
                    if node is None:
                        ordered.append(stack.pop())
                    elif node.mark != step:
                        node.mark = step
                        if node.first is None:
                            ordered.append(node)
                        else:
                            stack += (node, None, node.second, node.first)
            with timed(seconds, "sweep"):
                for node in reversed(ordered):
                    if node.first is not None:
                        gradient = node.grad
                        node.first.grad += gradient * node.left
                        node.second.grad += gradient * node.right
        del node, ordered, a, b, made
    result = medians(seconds)
    return result | {"backward": result["order"] + result["sweep"], "nodes": count}


def moons_step(library: str, steps: int) -> dict[str, Any]:
    """The moons step of micrograd, as its own notebook has it: 100 samples, 2-16-16-1, hinge loss and L2."""
    import numpy as np
    from sklearn.datasets import make_moons

    Value = value_class(library)  # noqa: N806 - the name of its class
    MLP = importlib.import_module(f"{library}.nn").MLP  # noqa: N806
    np.random.seed(1337)
    random.seed(1337)
    X, y = make_moons(n_samples=100, noise=0.1)
    y = y * 2 - 1
    model = MLP(2, [16, 16, 1])
    seconds: dict[str, list[float]] = {}
    for k in range(steps):
        with timed(seconds, "step"):
            inputs = [list(map(Value, xrow)) for xrow in X]
            scores = list(map(model, inputs))
            losses = [(1 + -yi * scorei).relu() for yi, scorei in zip(y, scores, strict=True)]
            total_loss = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())
            model.zero_grad()
            total_loss.backward()
        for p in model.parameters():
            p.data -= (1.0 - 0.9 * k / 100) * p.grad
    return medians(seconds) | {"loss": total_loss.data}


def chain(library: str, steps: int) -> dict[str, Any]:
    """A chain of a million sines: forward, backward, bytes a node, and Values left once the last name is gone.

    The floor is a loop that makes as many ``Link`` objects.
    """
    import gc
    import math
    import resource

    seconds: dict[str, list[float]] = {}
    if library == "floor":
        link = Link(0.5, "", None)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with timed(seconds, "forward"):
            for _ in range(CHAIN):
                link = Link(math.sin(link.data), "sin", link)
        recorded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        link.grad = link.data * 0.5
        return medians(seconds) | {
            "bytes": sys.getsizeof(link) + sys.getsizeof(link.data) + sys.getsizeof(link.grad),
            "resident": 1024 * (recorded - before) / CHAIN,
        }
    Value = value_class(library)  # noqa: N806
    x = Value(0.5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    y = x
    with timed(seconds, "forward"):
        for _ in range(CHAIN):
            y = y.sin()
    recorded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with timed(seconds, "backward"):
        y.backward()
    seconds["both"] = [seconds["forward"][0] + seconds["backward"][0]]
    size = sys.getsizeof(y)
    size += sys.getsizeof(y.data) if y.data is y.data else 0  # else the float stands in the object, and is made anew
    size += sys.getsizeof(y.grad) if y.grad is y.grad else 0
    gc.disable()
    del y
    left = sum(type(thing) is Value for thing in gc.get_objects())
    return medians(seconds) | {
        "bytes": size,
        "resident": 1024 * (recorded - before) / CHAIN,
        "left": max(left - 1, 0),  # x; nodes that the collector never sees are not counted
    }


def bare_node(library: str, steps: int) -> dict[str, Any]:
    """The bytes of a node of ``gpt.py``: itself, its two tuples, and its floats."""
    import resource

    Value = value_class("bare")  # noqa: N806
    x = Value(0.5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    y = x
    for _ in range(CHAIN):
        y = Value(y.data * 0.999, (y,), (y.data * 0.5,))
    recorded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parts = (y, y._children, y._local_grads, y._local_grads[0], y.data, 0.5 * y.data)
    size = sum(map(sys.getsizeof, parts))
    return {"bytes": size, "resident": 1024 * (recorded - before) / CHAIN}


def tracing(library: str, steps: int) -> dict[str, Any]:
    """A network of 784-50-10: its trace, and the first gradient, for which arrays are found and code is made."""
    import numpy as np

    import microgrid as mg

    seconds: dict[str, list[float]] = {}
    for _ in range(steps):
        random.seed(1)
        model = mg.nn.MLP(784, [50, 10])
        images, digits = np.random.default_rng(0).random((4, 784)), np.arange(4)

        def loss(image: Any, digit: Any, model: Any = model) -> Any:
            return mg.losses.cross_entropy(model(image), digit)

        with timed(seconds, "trace"):
            kernel = mg.compile(loss).kernel(images, digits)
        with timed(seconds, "build"):
            kernel.value_and_grad(kernel.read(), images, digits)
    return medians(seconds)


def graph(library: str, steps: int) -> dict[str, Any]:
    """A graph of some 10,000 nodes: layers of 20 on 20 others. It is checked, drawn, and differentiated as a graph."""
    import microgrid as mg

    draw = random.Random(1)
    weights = [[mg.Value(draw.gauss(0, 0.3)) for _ in range(20)] for _ in range(20)]
    x = [mg.Value(draw.gauss(0, 1)) for _ in range(20)]
    layer = x
    while len(mg.topological_order(*layer)) < 9_600:
        layer = [mg.tanh(sum(w * xi for w, xi in zip(row, layer, strict=True))) for row in weights]
    y: Any = sum(layer)
    seconds: dict[str, list[float]] = {}
    for _ in range(steps):
        with timed(seconds, "check"):
            report = mg.check(y, x[:5], progress=False)
        with timed(seconds, "draw"):
            mg.draw(y)
        with timed(seconds, "draw whole"):
            mg.draw(y, limit=None)
        with timed(seconds, "gradient_graph"):
            mg.gradient_graph(y, x)
    assert report, report
    return medians(seconds) | {"nodes": len(mg.topological_order(y))}


def starting(library: str, steps: int) -> dict[str, Any]:
    """What ``import microgrid`` adds to ``python -c pass``, its bytecode being cached: CPU milliseconds."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def seconds(code: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    seconds("import microgrid")
    return {"import": 1e3 * statistics.median(seconds("import microgrid") - seconds("pass") for _ in range(3 * steps))}


def build(library: str, steps: int) -> dict[str, Any]:
    import microgrid

    return {"file": microgrid.__file__, "compiled": bool(getattr(microgrid, "__compiled__", False))}


class Row(NamedTuple):
    """A row of the table: what is shown, the figure and its key, and the peer that it stands beside."""

    title: str
    figure: str
    key: str
    peer: str = ""
    peer_figure: str = ""
    peer_key: str = ""


ROWS = (
    Row("GPT forward, ms", "gpt", "forward", "bare"),
    Row("GPT backward, ms", "gpt", "backward", "bare"),
    Row("GPT forward and backward, ms", "gpt", "both", "bare"),
    Row("GPT, its graph freed, ms", "gpt", "release"),  # the bare one leaves a cycle to the collector
    Row("GPT forward, ms", "gpt", "forward", "floor", "floor"),
    Row("GPT backward, ms", "gpt", "backward", "floor", "floor"),
    Row("   the order alone", "gpt", "", "floor", "floor", "order"),
    Row("   the sweep alone", "gpt", "", "floor", "floor", "sweep"),
    Row("GPT forward and backward, ms", "gpt", "both", "floor", "floor"),
    Row("moons step, ms", "moons_step", "step", "micrograd"),
    Row("chain of 1,000,000 forward, ms", "chain", "forward", "floor"),
    Row("chain of 1,000,000 backward, ms", "chain", "backward"),
    Row("chain, both, by the floor's forward", "chain", "both", "floor", "", "forward"),
    Row("bytes a node and its floats", "chain", "bytes", "bare", "bare_node"),
    Row("bytes a node, resident", "chain", "resident", "bare", "bare_node"),
    Row("bytes a node and its floats", "chain", "bytes", "floor"),
    Row("Values left behind by a chain", "chain", "left"),
    Row("784-50-10: the trace, ms", "tracing", "trace"),
    Row("784-50-10: the first gradient, ms", "tracing", "build"),
    Row("check of a 10,000-node graph, ms", "graph", "check"),
    Row("draw, in outline, ms", "graph", "draw"),
    Row("draw, whole, ms", "graph", "draw whole"),
    Row("gradient_graph, ms", "graph", "gradient_graph"),
    Row("import microgrid, ms", "starting", "import"),
)
STEPS = {"gpt": 9, "floor": 9, "moons_step": 9, "tracing": 3, "graph": 3, "starting": 3}
FIGURES = ("gpt", "floor", "moons_step", "chain", "bare_node", "tracing", "graph", "starting", "build")


def in_a_process(figure: str, library: str, path: str | None = None) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", figure, "--library", library]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    if path is not None:
        environment["PYTHONPATH"] = path
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)  # type: ignore[no-any-return]


def contenders(figure: str, against: str | None) -> dict[str, tuple[str, str, str | None]]:
    """Who runs beside ours for a figure, by name: the function to call, the library, and where to look for it."""
    who: dict[str, tuple[str, str, str | None]] = {"ours": (figure, "microgrid", None)}
    if against is not None:
        who["against"] = (figure, "microgrid", against)
    for row in ROWS:
        if row.figure == figure and row.peer:
            who[row.peer] = (row.peer_figure or figure, row.peer, None)
    return who


def column(results: dict[str, list[dict[str, Any]]], name: str, key: str) -> str:
    return f"{statistics.median(one[key] for one in results[name]):,.1f}" if key and name in results else "–"


def ratio(results: dict[str, list[dict[str, Any]]], name: str, key: str, other_key: str) -> str:
    if not key or name not in results or not statistics.median(one[key] for one in results["ours"]):
        return "–"
    pairs = zip(results["ours"], results[name], strict=True)
    return f"{statistics.median(other[other_key] / ours[key] for ours, other in pairs):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes for each contender and figure (default 3)")
    parser.add_argument("--against", metavar="PATH", help="a folder with another microgrid in it, to run beside")
    parser.add_argument("--only", choices=sorted({row.figure for row in ROWS}), nargs="+", help="these figures only")
    parser.add_argument("--one", choices=FIGURES, help=argparse.SUPPRESS)
    parser.add_argument("--library", default="microgrid", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(globals()[options.one](options.library, STEPS.get(options.one, 1))))
        return
    for name, path in {"ours": None, "against": options.against}.items():
        if name == "ours" or path is not None:
            build = in_a_process("build", "microgrid", path)
            print(f"{name:8} {build['file']}, {'compiled' if build['compiled'] else 'pure Python'}")
    beside = options.against is not None
    head = f"\n{'':34}{'ours':>10}" + (f"{'against':>10}{'ratio':>8}" if beside else "") + f"{'peer':>10}{'ratio':>8}"
    print(head, flush=True)
    figure = ""
    results: dict[str, list[dict[str, Any]]] = {}
    for row in ROWS:
        if options.only and row.figure not in options.only:
            continue
        if row.figure != figure:
            figure = row.figure
            who = contenders(figure, options.against)
            results = {name: [] for name in who}
            for _ in range(options.rounds):
                for name, (function, library, path) in who.items():
                    results[name].append(in_a_process(function, library, path))
            if figure == "gpt":
                told = [one for name in results if name != "floor" for one in results[name]]
                losses = {f"{one['loss']:.12g}, gradient squared {one['slope']:.9g}" for one in told}
                assert len(losses) == 1, f"the losses of the GPT differ: {losses}"
        other_key = row.peer_key or row.key
        line = f"{row.title:34}{column(results, 'ours', row.key):>10}"
        if beside:
            line += f"{column(results, 'against', row.key):>10}{ratio(results, 'against', row.key, row.key):>8}"
        if row.peer:
            line += f"{column(results, row.peer, other_key):>10}{ratio(results, row.peer, row.key, other_key):>8}"
            line += f"  {row.peer}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
