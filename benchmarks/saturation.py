"""What it costs that the derivatives of tanh and sigmoid keep their digits where they saturate.

    pip install -e ".[demo]" && python benchmarks/saturation.py

Beside the rows of the table stand rows with the textbook's derivatives 1 − y² and y(1 − y), which lose digits as y
nears 1. Both are measured in one process, in turn, in CPU time; the median of the ratios is steadier than the times.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402 - NumPy reads those when it is loaded

import microgrid as mg  # noqa: E402
from microgrid import Op, ops  # noqa: E402
from microgrid.compiler import compile  # noqa: E402

TEXTBOOK = {
    ops.tanh: Op("tanh", ops.tanh.forward, (lambda y, x: 1.0 - y * y,), ufunc="tanh"),
    ops.sigmoid: Op("sigmoid", ops.sigmoid.forward, (lambda y, x: y * (1.0 - y),), ufunc="sigmoid"),
}
Run = Callable[[], Any]


def chain(op: Op, spread: float = 1.0) -> Run:
    """A graph of 20,000 nodes one upon the other, built and run backward."""
    x = mg.Value(0.5)

    def run() -> None:
        y = x
        for _ in range(10_000):
            y = op(y * spread)
        y.backward()

    return run


def saturated_chain(op: Op) -> Run:
    """The same with operands around ±5, where y alone does not tell the derivative."""
    return chain(op, 5.0)


def network(op: Op) -> tuple[list[mg.Value], Callable[[Any], Any]]:
    """The 2-16-16-1 network of the moons."""
    generator = np.random.default_rng(0)
    weights = [
        [list(map(mg.Value, row)) for row in generator.normal(0, 1, shape)] for shape in ((16, 3), (16, 17), (1, 17))
    ]

    def scores(x: Any) -> Any:
        for depth, layer in enumerate(weights):
            x = [mg.dot(row, [*x, 1.0]) for row in layer]
            if depth < 2:
                x = list(map(op, x))
        return x[0]

    return [w for layer in weights for row in layer for w in row], scores


def eager_network(op: Op) -> Run:
    """The network on 10 points, built and run backward."""
    _, scores = network(op)
    points = np.random.default_rng(1).normal(size=(10, 2)).tolist()
    return lambda: mg.total(scores(x) for x in points).backward()


def compiled_network(op: Op) -> Run:
    """The value and the gradient of the network on 100 points, compiled; 100 times."""
    _, scores = network(op)
    rng = np.random.default_rng(1)
    xs, ys = rng.normal(size=(100, 2)), rng.choice([-1.0, 1.0], 100)
    kernel = compile(lambda x, y: mg.softplus(-y * scores(x))).kernel(xs, ys)
    step = kernel.bind(kernel.read(), np.empty(len(kernel.parameters)))

    def run() -> None:
        for _ in range(100):
            step(xs, ys)

    return run


def measure(make: Callable[[Op], Run], op: Op, rounds: int) -> tuple[float, float]:
    """The median milliseconds of the table's row, and the median of its time over the textbook's."""
    runs = [make(op), make(TEXTBOOK[op])]
    seconds: list[list[float]] = []
    for _ in range(rounds + 1):
        seconds.append([])
        for run in runs:
            start = time.process_time()
            run()
            seconds[-1].append(time.process_time() - start)
    del seconds[0]  # which warms up
    return 1e3 * statistics.median(a for a, _ in seconds), statistics.median(a / b for a, b in seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41, help="how often each is run (default 41)")
    options = parser.parse_args()
    for make in (chain, saturated_chain, eager_network, compiled_network):
        for op in TEXTBOOK:
            milliseconds, ratio = measure(make, op, options.rounds)
            print(f"{make.__name__:17}{op.name:8} {milliseconds:8.2f} ms, {ratio:.3f} of the textbook's time")


if __name__ == "__main__":
    main()
