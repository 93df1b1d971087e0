"""What stands around a kernel, beside the bare kernel: predictions, calls, lists, gradients, learning.

    pip install -e ".[native,jax]" && python benchmarks/around.py

A network of 784-50-10 has 39,760 parameters. Each row has the bare kernel's CPU time, and the median of the ratios of
two times that were measured one after the other.
"""

import functools
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable
from itertools import product
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


def chain(x: Any) -> Any:
    """Equations of which each has three neighbours in it."""
    return [(3.0 - 2.0 * b) * b - a - 2.0 * c + 1.0 for a, b, c in zip([0.0, *x], x, [*x[1:], 0.0], strict=False)]


def long_loops() -> None:
    """Print what a loop over many steps takes: an LSTM cell of 8 units over series of 32 samples."""
    units, rng = 8, np.random.default_rng(0)
    gates = nn.Layer(1 + units, 4 * units, nonlin=False, seed=0)

    def cell(state: Any, x: Any) -> Any:
        hidden, memory = state
        z = gates([x, *hidden])
        kept, added, new, shown = (z[k : k + units] for k in range(0, 4 * units, units))
        memory = [
            mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g) for f, c, i, g in zip(kept, memory, added, new, strict=True)
        ]
        return ([mg.sigmoid(o) * mg.tanh(c) for o, c in zip(shown, memory, strict=True)], memory), None

    def by_scan(xs: Any) -> Any:
        return mg.mean(mg.scan(cell, ([0.0] * units, [0.0] * units), xs)[0][0])

    def in_stretches(xs: Any) -> Any:
        return mg.mean(mg.scan(cell, ([0.0] * units, [0.0] * units), xs, checkpoint="sqrt")[0][0])

    def by_for(xs: Any) -> Any:
        state = [0.0] * units, [0.0] * units
        for x in xs:
            state, _ = cell(state, x)
        return mg.mean(state[0])

    print("| LSTM, 8 units, 32 samples | target | states | first call, s | call, ms | MB | first call of a for, s |")
    for steps in (10, 100, 1_000, 10_000):
        X = rng.normal(size=(32, steps))
        for target, (f, states) in product(("numpy", "native"), ((by_scan, "all"), (in_stretches, "√n"))):

            def gradient(f: Any, target: str = target, X: Any = X) -> Callable[[], Any]:
                kernel = mg.compile(f, target=target).kernel(X)
                return functools.partial(kernel.value_and_grad, kernel.read(), X)

            start = time.process_time()
            gradient(f)()
            first, run = time.process_time() - start, gradient(f)
            peak, call = memory(run), statistics.median([seconds(run, 1) for _ in range(TURNS)])
            unrolled = f"{seconds(lambda: gradient(by_for)(), 1):6.2f}" if steps <= 1_000 and f is by_scan else ""
            line = f"| {steps:6} steps | {target:6} | {states:3} | {first:6.2f} | {1e3 * call:8.2f}"
            print(f"{line} | {peak:6.0f} | {unrolled} |")


def sparse() -> None:
    """Print what sparse derivatives of a chain take, and what it takes to find out how they are computed."""
    x = np.linspace(-1.0, 0.0, 4_000)
    kernel = mg.compile(chain, batch=False).kernel(x)
    multipliers = np.ones(len(x))
    for what, run in (
        ("Jacobian", lambda: kernel.jacobian([], x, sparse=True)),
        ("Hessian", lambda: kernel.hessian([], x, seed=multipliers, sparse=True)),
    ):
        first = seconds(run, 1)
        again = statistics.median(seconds(run, 20) for _ in range(TURNS))
        print(f"a chain of 4,000 equations, sparse {what}: first {first:.2f} s, then {1e3 * again:.2f} ms a call (5)")


def on_jax() -> None:
    """Print what second derivatives take through JAX, beside a function written for it, and a step on eight devices."""
    os.environ |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    generator = np.random.default_rng(0)
    points, centres = generator.random((1_000, 8)), generator.random((10, 8))
    leaves = [[mg.Value(x) for x in row] for row in centres.tolist()]

    def squares(p: Any) -> list[Any]:
        return [mg.total([(a - b) ** 2 for a, b in zip(p, row, strict=True)]) for row in leaves]

    def squares_on_jax(theta: Any, p: Any) -> Any:
        return ((p[:, None] - theta.reshape(10, 8)) ** 2).sum(2)

    def finished(f: Any, *arguments: Any) -> Any:
        return jax.block_until_ready(f(*arguments))

    for what, ours, its in (
        ("k-means", lambda p: mg.minimum(*squares(p)), lambda t, p: squares_on_jax(t, p).min(1).mean()),
        (
            "log-sum-exp",
            lambda p: mg.logsumexp(squares(p)),
            lambda t, p: jax.nn.logsumexp(squares_on_jax(t, p), axis=1).mean(),
        ),
    ):
        functions = its, mg.compile(ours).kernel(points).to_jax()
        for name, derivative in (
            ("Hessian product", lambda f: lambda t, p: jax.jvp(lambda t: jax.grad(f)(t, p), (t,), (t,))[1]),
            ("Hessian", jax.hessian),
        ):
            at = jnp.array(centres.ravel()), points
            runs = [functools.partial(finished, jax.jit(derivative(f)), *at) for f in functions]
            first = [seconds(run, 1) for run in runs]
            times = [[seconds(run, 20) for run in runs] for _ in range(TURNS)]
            ratio = statistics.median(b / a for a, b in times)
            compiling = f"first {first[1]:.1f} s and {first[0]:.1f} s"
            print(f"{what}, {name} through to_jax(): {ratio:.2f} times JAX's own (3), {compiling}")

    X, y = generator.random((1_400, 64)), generator.integers(0, 10, 1_400)
    mesh = jax.sharding.Mesh(jax.devices(), ("batch",))
    spread, everywhere = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (["batch"], [])
    )

    def example(epochs: int) -> None:
        model = nn.MLP(64, [50, 10], seed=0)
        kernel = mg.compile(lambda x, t: losses.cross_entropy(model(x), t)).kernel(X[:1], y[:1])
        step = jax.jit(jax.value_and_grad(kernel.to_jax()), out_shardings=everywhere)
        optimizer, theta = optim.Adam(kernel.parameters), jax.device_put(kernel.read(), everywhere)
        for _ in range(epochs):
            for batch in minibatches(X, y, 56, generator):
                loss, gradient = step(theta, *[jax.device_put(part, spread) for part in batch])
                theta, _ = optimizer.update(theta, gradient), float(loss)

    def fit(epochs: int) -> None:
        mg.fit(nn.MLP(64, [50, 10], seed=0), X, y, epochs=epochs, batch_size=56, accuracy=None, quiet=True, mesh=mesh)

    def of_epochs(train: Callable[[int], None]) -> float:
        return seconds(lambda: train(9), 1) - seconds(lambda: train(1), 1)

    ratios = [of_epochs(fit) / of_epochs(example) for _ in range(5)]
    print(f"fit(mesh=…) on 8 virtual devices: {statistics.median(ratios):.2f} times a hand-written loop on JAX (1.3)")


def main() -> None:
    """Print a table."""
    sparse()
    on_jax()
    long_loops()
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
    print(f"a hand-written loop, Adam, batches of 32: {ratio:.2f} times fit's {1e6 * fit / steps:.0f} µs a step (1.2)")


if __name__ == "__main__":
    main()
