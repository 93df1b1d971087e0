"""What stands around a kernel, beside the bare kernel: predictions, calls, lists, gradients, learning.

    pip install -e ".[native]" && python benchmarks/around.py

A network of 784-50-10 has 39,760 parameters. Each row has the bare kernel's CPU time, and the median of the ratios of
two times that were measured one after the other.
"""

import functools
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import microgrid as mg
from microgrid import losses, nn, optim
from microgrid.data import minibatches

TURNS = 9


def seconds(run: Callable[[], Any], calls: int) -> float:
    """CPU time of one of so many calls."""
    start = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - start) / calls


def compare(what: str, run: Callable[[], Any], bare: Callable[[], Any], limit: str, calls: int = 0) -> None:
    """Print how many times as long something takes as what it is built on."""
    run(), bare()
    calls = calls or max(3, int(3e-3 / max(seconds(bare, 3), 1e-7)))
    times = [(seconds(bare, calls), seconds(run, max(calls // 3, 1))) for _ in range(TURNS)]
    kernel, ratio = (statistics.median(x) for x in zip(*[(b, r / b) for b, r in times], strict=True))
    more = 1e6 * kernel * (ratio - 1)
    print(f"| {what:58} | {1e6 * kernel:10.1f} | {ratio:7.2f} | {more:10.1f} | {limit} |", flush=True)


def memory(run: Callable[[], Any]) -> float:
    """Megabytes that a call takes at most, its result included."""
    tracemalloc.start()
    try:
        _ = run()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def main() -> None:
    """Print a table."""
    generator = np.random.default_rng(0)
    X, digits = generator.random((2000, 784)), generator.integers(0, 10, 2000)
    Y = np.eye(10)[digits]
    model = nn.MLP(784, [50, 10], init="he", seed=0)
    f = mg.compile(model, reduce=None)
    kernel = f.kernel(X)
    theta = kernel.read()
    bare = functools.partial(kernel.value, theta, X)
    print(f"| {'':58} | kernel, µs | times | more, µs | at most |")
    compare("2,000 images: compiled.predict(X)", lambda: f.predict(X), bare, "30")
    compare("2,000 images: model.predict(X)", lambda: model.predict(X), bare, "30")
    compare("2,000 images: compiled(X), 20,000 Values", lambda: f(X), bare, "30")
    with mg.no_grad():
        compare("the same under no_grad", lambda: f(X), bare, "30")
    print(f"memory: predict {memory(lambda: f.predict(X)):.1f} MB, 20,000 Values {memory(lambda: f(X)):.1f} MB (50)")

    loss = mg.compile(lambda x, y: losses.cross_entropy(model(x), y))
    batch, lists = (X[:32], Y[:32]), (X[:32].tolist(), Y[:32].tolist())
    kernel = loss.kernel(*batch)
    theta = kernel.read()
    compare("32 images in lists: loss(X, Y)", lambda: loss(*lists), lambda: kernel.value(theta, *lists), "3")
    for size in (32, 256, 2000):
        batch = X[:size], Y[:size]
        step = functools.partial(kernel.bind(theta, np.empty_like(theta)), *batch)
        run = functools.partial(lambda x, y: loss(x, y).backward(), *batch)
        compare(f"{size} images: loss(X, Y).backward()", run, step, "3")

    w = mg.Value(2.0)
    small = mg.compile(lambda x: (w * x) ** 2 + x, batch=False)
    kernel = small.kernel(3.0)
    theta = kernel.read()
    compare("a function of one number: f(x)", lambda: small(3.0), lambda: kernel.value(theta, 3.0), "5 µs more")

    learn = mg.training_step(loss, optim.Adam(model.parameters()))

    other = nn.MLP(784, [50, 10], init="he", seed=0)
    optimizer = optim.Adam(other.parameters())
    epochs = functools.partial(mg.fit, other, X, Y, optimizer=optimizer, accuracy=None, quiet=True)

    def loops() -> None:
        with learn:
            for _ in range(10):
                for x, y in minibatches(X, Y, 32, generator):
                    learn(x, y)

    # What fit does once, checks and compiling, is no part of its loop.
    loops()
    epochs(epochs=1)
    pairs = []
    for _ in range(3):
        fit = seconds(lambda: epochs(epochs=11), 1) - seconds(lambda: epochs(epochs=1), 1)
        pairs.append((fit, seconds(loops, 1) / fit))
    fit, ratio = (statistics.median(x) for x in zip(*pairs, strict=True))
    steps = 10 * -(-len(X) // 32)
    print(f"a loop of one's own, Adam, batches of 32: {ratio:.2f} times fit's {1e6 * fit / steps:.0f} µs a step (1.2)")


if __name__ == "__main__":
    main()
