"""Compiled kernels beside NumPy written by hand, torch and jax: time of one value and gradient, time to compile.

    pip install -e ".[demo,oracles]" && python benchmarks/compiled.py

All are measured in one process, ten runs each in turn, and the medians are compared: on a busy machine the ratios are
steadier than the times. ``--only digits moons`` runs parts; ``--micrograd`` adds its step on the moons.
"""

import argparse
import gc
import math
import os
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # one core for everyone

import numpy as np  # noqa: E402 - NumPy reads those when it is loaded

import microgrid as mg  # noqa: E402
from microgrid.compiler import Kernel, compile  # noqa: E402

Run = Callable[[], Any]
IN_A_ROW = 10
"""So often one is run before the next has its turn: a training loop finds its own data in the cache, too."""


@dataclass
class Problem:
    """A function in scalars; and the same value and gradient by others, as functions of nothing.

    ``build`` compiles and returns the kernel and its run. A run returns the value and all derivatives, flat.
    """

    name: str
    build: Callable[[], tuple[Kernel, Run]]
    others: dict[str, Callable[[], Run]]


def network(sizes: list[int], seed: int = 0) -> tuple[list[Any], Callable[[Any], Any]]:
    rng = random.Random(seed)
    layers = [
        [([mg.Value(rng.gauss(0, 1) * math.sqrt(2 / m)) for _ in range(m)], mg.Value(0.0)) for _ in range(n)]
        for m, n in pairwise(sizes)
    ]

    def scores(x: Any) -> Any:
        for depth, layer in enumerate(layers):
            x = [mg.total([w * t for w, t in zip(weights, x, strict=True)] + [b]) for weights, b in layer]
            if depth < len(layers) - 1:
                x = [mg.relu(t) for t in x]
        return x

    return layers, scores


def matrices(theta: np.ndarray, sizes: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The flat parameters as W, b of each layer, as views."""
    result, start = [], 0
    for m, n in pairwise(sizes):
        rows = theta[start : start + (m + 1) * n].reshape(n, m + 1)
        result.append((rows[:, :m], rows[:, m]))
        start += (m + 1) * n
    return result


def classifier(name: str, sizes: list[int], batch: int) -> Problem:
    """A network of scalars with softmax cross-entropy, on a batch."""
    rng = np.random.default_rng(0)
    xs = rng.random((batch, sizes[0]))
    ys = np.eye(sizes[-1])[rng.integers(0, sizes[-1], batch)]
    _, scores = network(sizes)
    state: dict[str, np.ndarray] = {}

    def build() -> tuple[Kernel, Run]:
        def loss(x: Any, y: Any) -> Any:
            z = scores(x)
            return mg.logsumexp(z) - mg.dot(y, z)

        kernel = compile(loss).kernel(xs, ys)
        state["theta"], gradient = kernel.read(), np.empty(len(kernel.parameters))
        step = kernel.bind(state["theta"], gradient)
        return kernel, lambda: (step(xs, ys), gradient)

    def by_hand() -> Run:
        pairs = [(np.ascontiguousarray(w), b.copy()) for w, b in matrices(state["theta"], sizes)]

        def run() -> Any:
            h, hidden = xs, [xs]
            for depth, (w, b) in enumerate(pairs):
                h = h @ w.T + b
                if depth < len(pairs) - 1:
                    h = np.maximum(h, 0.0)
                    hidden.append(h)
            top = h.max(axis=1, keepdims=True)
            e = np.exp(h - top)
            s = e.sum(axis=1, keepdims=True)
            value = (np.log(s) + top).mean() - (h * ys).sum() / batch
            d = (e / s - ys) / batch
            found = []
            for depth in range(len(pairs) - 1, -1, -1):
                found.append((d.T @ hidden[depth], d.sum(axis=0)))
                if depth:
                    d = (d @ pairs[depth][0]) * (hidden[depth] > 0)
            return value, [g for w, b in reversed(found) for g in (np.column_stack([w, b]),)]

        def flat() -> Any:
            value, parts = run()
            return value, np.concatenate([p.ravel() for p in parts])

        run.checked = flat  # type: ignore[attr-defined]
        return run

    def torch_eager() -> Run:
        import torch

        torch.set_num_threads(1)
        x, y = torch.tensor(xs), torch.tensor(ys.argmax(1))
        pairs = [
            (torch.tensor(w.copy(), requires_grad=True), torch.tensor(b.copy(), requires_grad=True))
            for w, b in matrices(state["theta"], sizes)
        ]
        leaves = [t for pair in pairs for t in pair]

        def run() -> Any:
            h = x
            for depth, (w, b) in enumerate(pairs):
                h = torch.nn.functional.linear(h, w, b)
                if depth < len(pairs) - 1:
                    h = torch.relu(h)
            value = torch.nn.functional.cross_entropy(h, y)
            return value, torch.autograd.grad(value, leaves)

        return run

    def jax_jit() -> Run:
        jax, jnp = import_jax()

        def loss(pairs: Any, x: Any, y: Any) -> Any:
            for depth, (w, b) in enumerate(pairs):
                x = x @ w.T + b
                if depth < len(pairs) - 1:
                    x = jnp.maximum(x, 0.0)
            return jnp.mean(jax.nn.logsumexp(x, axis=1) - jnp.sum(x * y, axis=1))

        step = jax.jit(jax.value_and_grad(loss))
        pairs = [(jnp.array(w), jnp.array(b)) for w, b in matrices(state["theta"], sizes)]
        x, y = jnp.array(xs), jnp.array(ys)
        return lambda: jax.block_until_ready(step(pairs, x, y))

    return Problem(name, build, {"NumPy by hand": by_hand, "torch eager": torch_eager, "jax.jit": jax_jit})


def moons() -> Problem:
    """The demo of micrograd: 2-16-16-1, hinge loss and L2, on 100 points."""
    sizes, batch, decay = [2, 16, 16, 1], 100, 1e-4
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(batch, 2)), rng.choice([-1.0, 1.0], batch)
    layers, scores = network(sizes)
    parameters = [p for layer in layers for weights, b in layer for p in (*weights, b)]
    state: dict[str, np.ndarray] = {}

    def build() -> tuple[Kernel, Run]:
        def loss(x: Any, y: Any) -> Any:
            return mg.relu(1.0 - y * scores(x)[0]) + decay * mg.total([p * p for p in parameters])

        kernel = compile(loss).kernel(xs, ys)
        state["theta"], gradient = kernel.read(), np.empty(len(kernel.parameters))
        step = kernel.bind(state["theta"], gradient)
        return kernel, lambda: (step(xs, ys), gradient)

    def by_hand() -> Run:
        theta = state["theta"]
        (w1, b1), (w2, b2), (w3, b3) = ((np.ascontiguousarray(w), b.copy()) for w, b in matrices(theta, sizes))

        def run() -> Any:
            h1 = np.maximum(xs @ w1.T + b1, 0.0)
            h2 = np.maximum(h1 @ w2.T + b2, 0.0)
            margin = 1.0 - ys * (h2 @ w3[0] + b3[0])
            value = np.maximum(margin, 0.0).mean() + decay * sum((w * w).sum() for w in (w1, b1, w2, b2, w3, b3))
            d = -ys * (margin > 0) / batch
            d2 = np.outer(d, w3[0]) * (h2 > 0)
            d1 = (d2 @ w2) * (h1 > 0)
            return value, [
                d1.T @ xs + 2 * decay * w1,
                d1.sum(0) + 2 * decay * b1,
                d2.T @ h1 + 2 * decay * w2,
                d2.sum(0) + 2 * decay * b2,
                d @ h2 + 2 * decay * w3[0],
                d.sum() + 2 * decay * b3[0],
            ]

        def flat() -> Any:
            value, (g1, c1, g2, c2, g3, c3) = run()
            rows = [np.column_stack([g1, c1]), np.column_stack([g2, c2]), np.append(g3, c3)]
            return value, np.concatenate([r.ravel() for r in rows])

        run.checked = flat  # type: ignore[attr-defined]
        return run

    def torch_eager() -> Run:
        import torch

        torch.set_num_threads(1)
        x, y = torch.tensor(xs), torch.tensor(ys)
        leaves = [torch.tensor(t.copy(), requires_grad=True) for pair in matrices(state["theta"], sizes) for t in pair]

        def run() -> Any:
            h = torch.relu(torch.nn.functional.linear(x, leaves[0], leaves[1]))
            h = torch.relu(torch.nn.functional.linear(h, leaves[2], leaves[3]))
            s = torch.nn.functional.linear(h, leaves[4], leaves[5])[:, 0]
            value = torch.relu(1 - y * s).mean() + decay * sum((p * p).sum() for p in leaves)
            return value, torch.autograd.grad(value, leaves)

        return run

    def jax_jit() -> Run:
        jax, jnp = import_jax()

        def loss(p: Any, x: Any, y: Any) -> Any:
            h = jnp.maximum(x @ p[0].T + p[1], 0.0)
            h = jnp.maximum(h @ p[2].T + p[3], 0.0)
            s = (h @ p[4].T + p[5])[:, 0]
            return jnp.mean(jnp.maximum(1 - y * s, 0.0)) + decay * sum((t * t).sum() for t in p)

        step = jax.jit(jax.value_and_grad(loss))
        p = [jnp.array(t) for pair in matrices(state["theta"], sizes) for t in pair]
        x, y = jnp.array(xs), jnp.array(ys)
        return lambda: jax.block_until_ready(step(p, x, y))

    return Problem(
        "moons 2-16-16-1, batch 100", build, {"NumPy by hand": by_hand, "torch eager": torch_eager, "jax.jit": jax_jit}
    )


def rosenbrock(n: int) -> Problem:
    """Σ 100 (x[i+1] − x[i]²)² + (1 − x[i])² of n numbers."""
    x = np.random.default_rng(0).normal(size=n)

    def build() -> tuple[Kernel, Run]:
        leaves = [mg.Value(t) for t in x.tolist()]

        def f() -> Any:
            return mg.total([100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(leaves)])

        kernel = compile(f).kernel()
        theta, gradient = kernel.read(), np.empty(n)
        # The parameters stand in the order of their first use.
        place = {id(leaf): k for k, leaf in enumerate(leaves)}
        order = [place[id(p)] for p in kernel.parameters]
        assert sorted(order) == list(range(n))
        step = kernel.bind(theta, gradient)

        def run() -> Any:
            return step(), gradient

        def checked() -> Any:
            value, found = run()
            back = np.empty(n)
            back[order] = found
            return value, back

        run.checked = checked  # type: ignore[attr-defined]
        return kernel, run

    def by_hand() -> Run:
        def run() -> Any:
            a, b = x[:-1], x[1:]
            d, e = b - a * a, 1.0 - a
            value = (100.0 * d * d + e * e).sum()
            gradient = np.zeros_like(x)
            gradient[:-1] = -400.0 * d * a - 2.0 * e
            gradient[1:] += 200.0 * d
            return value, gradient

        run.checked = run  # type: ignore[attr-defined]
        return run

    def torch_eager() -> Run:
        import torch

        torch.set_num_threads(1)
        leaf = torch.tensor(x, requires_grad=True)

        def run() -> Any:
            value = (100.0 * (leaf[1:] - leaf[:-1] ** 2) ** 2 + (1.0 - leaf[:-1]) ** 2).sum()
            return value, torch.autograd.grad(value, leaf)

        return run

    def jax_jit() -> Run:
        jax, jnp = import_jax()
        step = jax.jit(jax.value_and_grad(lambda t: jnp.sum(100.0 * (t[1:] - t[:-1] ** 2) ** 2 + (1.0 - t[:-1]) ** 2)))
        t = jnp.array(x)
        return lambda: jax.block_until_ready(step(t))

    return Problem(
        f"Rosenbrock n = {n:,}", build, {"NumPy by hand": by_hand, "torch eager": torch_eager, "jax.jit": jax_jit}
    )


def black_scholes(n: int) -> Problem:
    """The price of a call and its five Greeks (delta, dual delta, theta, rho, vega) in n scenarios."""
    rng = np.random.default_rng(0)
    spot, strike = rng.uniform(80, 120, n), rng.uniform(80, 120, n)
    years, rate, volatility = rng.uniform(0.1, 2, n), rng.uniform(0.0, 0.05, n), rng.uniform(0.1, 0.5, n)
    market = (spot, strike, years, rate, volatility)

    def build() -> tuple[Kernel, Run]:
        def cdf(x: Any) -> Any:
            return 0.5 * (1.0 + mg.erf(x * math.sqrt(0.5)))

        def price(s: Any, k: Any, t: Any, r: Any, v: Any) -> Any:
            spread = v * mg.sqrt(t)
            d1 = (mg.log(s / k) + (r + 0.5 * v * v) * t) / spread
            return s * cdf(d1) - k * mg.exp(-r * t) * cdf(d1 - spread)

        kernel = compile(price, reduce=None).kernel(*market)
        nothing = np.zeros(0)
        return kernel, lambda: kernel.value_and_grad(nothing, *market, by="arguments")

    def by_hand() -> Run:
        from scipy.special import ndtr

        s, k, t, r, v = market

        def run() -> Any:
            root = np.sqrt(t)
            spread = v * root
            d1 = (np.log(s / k) + (r + 0.5 * v * v) * t) / spread
            d2 = d1 - spread
            n1, n2, discounted = ndtr(d1), ndtr(d2), k * np.exp(-r * t)
            density = s * np.exp(-0.5 * d1 * d1) * (1 / math.sqrt(2 * math.pi))
            value = s * n1 - discounted * n2
            rho = discounted * n2
            theta = density * v / (2 * root) + r * rho
            return value, [n1, -rho / k, theta, t * rho, density * root]

        run.checked = run  # type: ignore[attr-defined]
        return run

    def torch_eager() -> Run:
        import torch

        torch.set_num_threads(1)
        leaves = [torch.tensor(a, requires_grad=True) for a in market]

        def run() -> Any:
            s, k, t, r, v = leaves
            spread = v * torch.sqrt(t)
            d1 = (torch.log(s / k) + (r + 0.5 * v * v) * t) / spread
            value = s * torch.special.ndtr(d1) - k * torch.exp(-r * t) * torch.special.ndtr(d1 - spread)
            return value, torch.autograd.grad(value.sum(), leaves)

        return run

    def jax_jit() -> Run:
        jax, jnp = import_jax()
        from jax.scipy.special import ndtr

        def price(s: Any, k: Any, t: Any, r: Any, v: Any) -> Any:
            spread = v * jnp.sqrt(t)
            d1 = (jnp.log(s / k) + (r + 0.5 * v * v) * t) / spread
            return s * ndtr(d1) - k * jnp.exp(-r * t) * ndtr(d1 - spread)

        def both(*a: Any) -> Any:
            value, back = jax.vjp(price, *a)
            return value, back(jnp.ones(n))

        step = jax.jit(both)
        arrays = [jnp.array(a) for a in market]
        return lambda: jax.block_until_ready(step(*arrays))

    return Problem(
        f"Black-Scholes, {n:,} scenarios",
        build,
        {"NumPy by hand": by_hand, "torch eager": torch_eager, "jax.jit": jax_jit},
    )


def import_jax() -> Any:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    return jax, jnp


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "moons": moons,
    "digits": lambda: classifier("digits 64-32-10, batch 100", [64, 32, 10], 100),
    "mnist": lambda: classifier("784-50-10, batch 100", [784, 50, 10], 100),
    "rosenbrock": lambda: rosenbrock(100_000),
    "black-scholes": lambda: black_scholes(100_000),
}


def compare(problem: Problem, rounds: int, without: list[str]) -> dict[str, float]:
    """Compile; check against NumPy by hand; time all in turn; print a line each; return median seconds."""
    gc.collect()
    start = time.perf_counter()
    kernel, ours = problem.build()
    value, _ = ours()
    first = time.perf_counter() - start
    statements = len(kernel.statements("parameters" if kernel.parameters else "arguments"))
    print(f"\n{problem.name}: {kernel.traced:,} nodes -> {statements} statements; to the first gradient {first:.2f} s")
    runs = {"microgrid": ours}
    for name, make in problem.others.items():
        if name not in without:
            runs[name] = make()
    expected_value, expected = runs["NumPy by hand"].checked()  # type: ignore[attr-defined]
    value, gradient = getattr(ours, "checked", ours)()
    error = np.max(np.abs(np.asarray(value) - expected_value)) / np.max(np.abs(expected_value))
    gradients = gradient if isinstance(gradient, list) else [gradient]
    wanted = expected if isinstance(expected, list) else [expected]
    slope = max(np.max(np.abs(g - w)) / np.max(np.abs(w)) for g, w in zip(gradients, wanted, strict=True))
    assert max(error, slope) < 1e-11, (error, slope)
    for run in runs.values():
        for _ in range(5):
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds // IN_A_ROW):
        for name, run in runs.items():
            for _ in range(IN_A_ROW):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(all_of_it) for name, all_of_it in times.items()}
    for name, median in medians.items():
        ratio = medians["microgrid"] / median
        print(f"  {name:14} {1e6 * median:10.1f} us   microgrid takes {ratio:5.2f} of it")
    print(f"  greatest difference from NumPy by hand, relative: {max(error, slope):.1e}")
    return medians


def growth(kind: str, nodes: int) -> None:
    """Compile one graph of about so many nodes in this process and print its time and the peak of its memory."""
    if kind == "chain":
        steps = nodes // 3

        def f() -> Any:
            x = w * 1.0
            for _ in range(steps):
                x = mg.sin(x) * 1.1
            return x

        w = mg.Value(0.5)
    else:
        n = max(nodes // 9, 2)
        leaves = [mg.Value(0.01 * k) for k in range(n)]

        def f() -> Any:
            return mg.total([100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(leaves)])

    def compiled() -> int:
        kernel = compile(f).kernel()
        kernel.value_and_grad(kernel.read())
        return kernel.traced

    start = time.perf_counter()
    traced = compiled()
    seconds = time.perf_counter() - start
    tracemalloc.start()  # it counts every block, and takes its time for it: so not while the clock runs
    compiled()
    _, peak = tracemalloc.get_traced_memory()
    each = f"{1e6 * seconds / traced:7.1f} us and {peak / traced:6.0f} bytes a node"
    print(f"  {traced:9,} nodes  {seconds:7.2f} s  {each}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*PROBLEMS, "growth"], help="run these parts")
    parser.add_argument("--without", nargs="+", default=[], choices=["torch eager", "jax.jit"], help="leave these out")
    parser.add_argument("--rounds", type=int, default=200, help="times each is run (default 200)")
    parser.add_argument("--micrograd", action="store_true", help="compare the moons step with micrograd's")
    parser.add_argument("--nodes", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nodes:
        growth(options.kind, options.nodes)
        return
    for name, make in PROBLEMS.items():
        if not options.only or name in options.only:
            medians = compare(make(), options.rounds, options.without)
            if name == "mnist":
                print(f"  an epoch of 60,000 samples: {600 * medians['microgrid']:.2f} s")
            if name == "moons" and options.micrograd:
                from eager import in_a_process

                theirs = in_a_process("moons_step", "micrograd", 5)["milliseconds"]
                print(
                    f"  micrograd's step takes {theirs:.0f} ms: {theirs / 1e3 / medians['microgrid']:,.0f} times ours"
                )
    if not options.only or "growth" in options.only:
        for kind in ("sum", "chain"):
            what = {"sum": "a sum of many terms", "chain": "one long chain"}[kind]
            print(f"\ncompile time of {what}, each in a fresh process:", flush=True)
            for nodes in (100, 1_000, 10_000, 100_000):
                command = [sys.executable, __file__, "--nodes", str(nodes), "--kind", kind]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
