"""The work that ``compiled.py`` times: functions of scalars, and what others make of them.

A workload is written once in scalars, for microgrid, CasADi and ddx-ad; once in arrays, for jax and torch; and by hand,
value and gradient, in NumPy and in C (``c/``). All of them return the value and the gradient, piece by piece: of a
network the weights and the biases of each layer.
"""

import ctypes
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

import microgrid as mg

Run = Callable[[], Any]
Read = Callable[[Any], np.ndarray]
"""Makes one flat array of what a run returned: the value, and the gradient in the order of the workload's leaves."""

GCC = ["gcc", "-std=gnu11", "-O3", "-march=native", "-mprefer-vector-width=512", "-fPIC"]


@dataclass
class Workload:
    """A function, what it is differentiated by, and who else computes it.

    Attributes:
        name: what the table calls it.
        scalars: ``scalars(m, parameters, *sample)`` in the operations of a module ``m``.
        parameters: their numbers; if there are none, it is differentiated by the arguments.
        batch: an array for each argument, with an axis over samples in front if there are ``samples``.
        by_hand: value and gradient in NumPy, or in plain floats.
        c: given the C function ``run``, value and gradient by it.
        arrays: ``arrays(m, leaves, *data)`` on whole arrays: by ``leaves`` it is differentiated.
        leaves, data: the arrays for it.
        source: the C file, and the sizes that it is compiled for.
        samples: how many; 0 if the arguments have no such axis.
        reduce: what becomes of the samples' values.
        without: rivals for whom it is too large.
    """

    name: str
    scalars: Callable[..., Any]
    parameters: np.ndarray
    batch: tuple[Any, ...]
    by_hand: Run | None
    c: Callable[[Any], Run] | None
    arrays: Callable[..., Any]
    leaves: list[np.ndarray]
    data: tuple[np.ndarray, ...] = ()
    source: tuple[str, ...] = ()
    samples: int = 0
    reduce: Literal["mean", "sum"] | None = "mean"
    without: set[str] = field(default_factory=set)

    @property
    def of_numbers(self) -> bool:
        """Whether it is called with plain numbers, and gives such."""
        return not self.samples and not len(self.parameters)


def flat(result: Any) -> np.ndarray:
    """Return all numbers of nested results in order."""
    if isinstance(result, (tuple, list)):
        return np.concatenate([flat(part) for part in result])
    return np.ravel(np.asarray(result.detach() if hasattr(result, "detach") else result))


def pieces(result: Any) -> list[np.ndarray]:
    """Return the arrays of nested results."""
    return [piece for part in result for piece in pieces(part)] if isinstance(result, (tuple, list)) else [flat(result)]


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


# ---------------------------------------------------------------------------------------------------
# The workloads


def readme() -> Workload:
    """The expression of micrograd's README, of two plain numbers."""

    def scalars(m: Any, _: Any, a: Any, b: Any) -> Any:
        c = a + b
        d = a * b + b**3
        c += c + 1
        c += 1 + c + (-a)
        d += d * 2 + m.relu(b + a)
        d += 3 * d + m.relu(b - a)
        e = c - d
        f = e**2
        return f / 2.0 + 10.0 / f

    def by_hand(a: float = -4.0, b: float = 2.0) -> Any:
        up, down = a + b > 0.0, b - a > 0.0
        d = 12.0 * (a * b + b * b * b) + 4.0 * up * (a + b) + down * (b - a)
        e = 3.0 * a + 4.0 * b + 3.0 - d
        f = e * e
        by_e = e - 20.0 / (f * e)
        return (
            0.5 * f + 10.0 / f,
            by_e * (3.0 - (12.0 * b + 4.0 * up - down)),
            by_e * (4.0 - (12.0 * (a + 3.0 * b * b) + 4.0 * up + down)),
        )

    def c(run: Any) -> Run:
        run.argtypes = [ctypes.c_double, ctypes.c_double, ctypes.c_void_p]
        out = (ctypes.c_double * 3)()
        at = ctypes.addressof(out)

        def call(a: float = -4.0, b: float = 2.0) -> Any:
            run(a, b, at)
            return out[:]

        return call

    return Workload(
        "the expression of micrograd's README",
        scalars,
        np.empty(0),
        (-4.0, 2.0),
        by_hand,
        c,
        lambda m, leaves: scalars(m, None, *leaves),
        [np.array(-4.0), np.array(2.0)],
        source=("readme.c",),
    )


def dense(rng: np.random.Generator, sizes: Sequence[int]) -> list[np.ndarray]:
    """Weights and biases of the layers, one after the other."""
    return [
        a for m, n in pairwise(sizes) for a in (rng.normal(size=(n, m)) * math.sqrt(2 / m), 0.1 * rng.normal(size=n))
    ]


def scores(m: Any, p: Sequence[Any], x: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
    """A network with ReLUs in scalars."""
    start, hidden = 0, list(x)
    for depth, (k, n) in enumerate(pairwise(sizes)):
        bias = start + k * n
        rows = [p[start + k * j : start + k * (j + 1)] for j in range(n)]
        hidden = [
            m.total([w * t for w, t in zip(row, hidden, strict=True)] + [p[bias + j]]) for j, row in enumerate(rows)
        ]
        if depth < len(sizes) - 2:
            hidden = [m.relu(t) for t in hidden]
        start = bias + n
    return hidden


def layers(m: Any, leaves: Sequence[Any], x: Any) -> Any:
    """The same in arrays, a row for each sample."""
    for w, b in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
        x = m.relu(x @ w.T + b)
    return x @ leaves[-2].T + leaves[-1]


def moons() -> Workload:
    """The demo of micrograd: 2-16-16-1, hinge loss and L2, on 100 points."""
    sizes, samples, decay = [2, 16, 16, 1], 100, 1e-4
    rng = np.random.default_rng(0)
    leaves = dense(rng, sizes)
    xs, ys = rng.normal(size=(samples, 2)), rng.choice([-1.0, 1.0], samples)
    w1, b1, w2, b2, w3, b3 = leaves

    def scalars(m: Any, p: Any, x: Any, y: Any) -> Any:
        return m.relu(1.0 - y * scores(m, p, x, sizes)[0]) + decay * m.total([w * w for w in p])

    def arrays(m: Any, leaves: Any, x: Any, y: Any) -> Any:
        return m.relu(1.0 - y * layers(m, leaves, x)[:, 0]).mean() + decay * sum((p * p).sum() for p in leaves)

    def by_hand() -> Any:
        h1 = np.maximum(xs @ w1.T + b1, 0.0)
        h2 = np.maximum(h1 @ w2.T + b2, 0.0)
        margin = 1.0 - ys * (h2 @ w3[0] + b3[0])
        value = np.maximum(margin, 0.0).mean() + decay * sum((w * w).sum() for w in leaves)
        d = -ys * (margin > 0) / samples
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

    theta = flat(leaves)
    return Workload(
        "moons 2-16-16-1, batch 100",
        scalars,
        theta,
        (xs, ys),
        by_hand,
        c_of_network(theta, xs, ys),
        arrays,
        leaves,
        (xs, ys),
        ("moons.c",),
        samples,
    )


def c_of_network(theta: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> Callable[[Any], Run]:
    def c(run: Any) -> Run:
        run.restype = ctypes.c_double
        gradient = np.empty_like(theta)
        at = [pointer(a) for a in (theta, xs, ys, gradient)]
        return lambda: (run(*at), gradient)

    return c


def classifier(name: str, sizes: list[int], without: Sequence[str] = ()) -> Workload:
    """A network with softmax cross-entropy, on a batch of 100."""
    samples, rng = 100, np.random.default_rng(0)
    leaves = dense(rng, sizes)
    xs = rng.random((samples, sizes[0]))
    ys = np.eye(sizes[-1])[rng.integers(0, sizes[-1], samples)]
    w1, b1, w2, b2 = leaves

    def scalars(m: Any, p: Any, x: Any, y: Any) -> Any:
        z = scores(m, p, x, sizes)
        return m.logsumexp(z) - m.dot(y, z)

    def arrays(m: Any, leaves: Any, x: Any, y: Any) -> Any:
        z = layers(m, leaves, x)
        return (m.logsumexp(z, 1) - (z * y).sum(1)).mean()

    def by_hand() -> Any:
        h = np.maximum(xs @ w1.T + b1, 0.0)
        z = h @ w2.T + b2
        top = z.max(axis=1, keepdims=True)
        e = np.exp(z - top)
        s = e.sum(axis=1, keepdims=True)
        value = (np.log(s) + top).mean() - (z * ys).sum() / samples
        d = (e / s - ys) / samples
        d1 = (d @ w2) * (h > 0)
        return value, [d1.T @ xs, d1.sum(axis=0), d.T @ h, d.sum(axis=0)]

    theta = flat(leaves)
    return Workload(
        name,
        scalars,
        theta,
        (xs, ys),
        by_hand,
        c_of_network(theta, xs, ys),
        arrays,
        leaves,
        (xs, ys),
        ("classifier.c", *[f"-D{letter}={size}" for letter, size in zip("MHC", sizes, strict=True)]),
        samples,
        without=set(without),
    )


def rosenbrock(n: int, without: Sequence[str] = ()) -> Workload:
    """Σ 100 (x[i+1] − x[i]²)² + (1 − x[i])² of n numbers."""
    x = np.random.default_rng(0).normal(size=n)

    def scalars(m: Any, p: Any) -> Any:
        return m.total([100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(p)])

    def arrays(m: Any, leaves: Any) -> Any:
        a, b = leaves[0][:-1], leaves[0][1:]
        return (100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2).sum()

    def by_hand() -> Any:
        a, b = x[:-1], x[1:]
        d, e = b - a * a, 1.0 - a
        gradient = np.zeros_like(x)
        gradient[:-1] = -400.0 * d * a - 2.0 * e
        gradient[1:] += 200.0 * d
        return (100.0 * d * d + e * e).sum(), gradient

    def c(run: Any) -> Run:
        run.restype = ctypes.c_double
        gradient = np.empty(n)
        at = [ctypes.c_long(n), pointer(x), pointer(gradient)]
        return lambda: (run(*at), gradient)

    name = f"Rosenbrock n = {n:,}"
    return Workload(name, scalars, x, (), by_hand, c, arrays, [x], source=("rosenbrock.c",), without=set(without))


def black_scholes(n: int) -> Workload:
    """The price of a call and its five Greeks (delta, dual delta, theta, rho, vega) in n scenarios."""
    rng = np.random.default_rng(0)
    market = [
        rng.uniform(80, 120, n),
        rng.uniform(80, 120, n),
        rng.uniform(0.1, 2, n),
        rng.uniform(0.0, 0.05, n),
        rng.uniform(0.1, 0.5, n),
    ]

    def price(m: Any, s: Any, k: Any, t: Any, r: Any, v: Any) -> Any:
        def cdf(x: Any) -> Any:
            return 0.5 * (1.0 + m.erf(x * math.sqrt(0.5)))

        spread = v * m.sqrt(t)
        d1 = (m.log(s / k) + (r + 0.5 * v * v) * t) / spread
        return s * cdf(d1) - k * m.exp(-r * t) * cdf(d1 - spread)

    def by_hand() -> Any:
        from scipy.special import ndtr

        s, k, t, r, v = market
        root = np.sqrt(t)
        spread = v * root
        d1 = (np.log(s / k) + (r + 0.5 * v * v) * t) / spread
        n1, n2, discounted = ndtr(d1), ndtr(d1 - spread), k * np.exp(-r * t)
        density = s * np.exp(-0.5 * d1 * d1) * (1 / math.sqrt(2 * math.pi))
        rho = discounted * n2
        return s * n1 - rho, [n1, -rho / k, density * v / (2 * root) + r * rho, t * rho, density * root]

    def c(run: Any) -> Run:
        out = [np.empty(n) for _ in range(6)]
        at = [ctypes.c_long(n), *map(pointer, market + out)]

        def call() -> Any:
            run(*at)
            return out

        return call

    return Workload(
        f"Black-Scholes and its 5 Greeks, {n:,} scenarios",
        lambda m, _, *sample: price(m, *sample),
        np.empty(0),
        tuple(market),
        by_hand,
        c,
        lambda m, leaves: price(m, *leaves),
        market,
        source=("black_scholes.c",),
        samples=n,
        reduce=None,
    )


def chain(n: int) -> Workload:
    """A recurrence: x = sin(x) · 1.1, n times. Its slope is subnormal after 3,400 of them, which costs Intel's time."""
    start = np.array([0.5])

    def scalars(m: Any, p: Any) -> Any:
        x = p[0]
        for _ in range(n):
            x = m.sin(x) * 1.1
        return x

    def by_hand() -> Any:
        x, slope = 0.5, 1.0
        for _ in range(n):
            slope *= 1.1 * math.cos(x)
            x = 1.1 * math.sin(x)
        return x, slope

    def c(run: Any) -> Run:
        out = np.empty(2)
        at = [ctypes.c_long(n), ctypes.c_double(0.5), pointer(out)]

        def call() -> Any:
            run(*at)
            return out

        return call

    return Workload(
        f"chain x = sin(x) * 1.1, {n:,} times",
        scalars,
        start,
        (),
        by_hand,
        c,
        lambda m, leaves: m.scan(lambda x, _: (m.sin(x) * 1.1, _), leaves[0][0], np.zeros(n))[0],
        [start],
        source=("chain.c",),
        without={"torch", "CasADi's C", "ddx-ad"},
    )


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "readme": readme,
    "moons": moons,
    "digits": lambda: classifier("digits 64-32-10, batch 100", [64, 32, 10]),
    "mnist": lambda: classifier("784-50-10, batch 100", [784, 50, 10], ["CasADi", "CasADi's C", "ddx-ad"]),
    "rosenbrock4": lambda: rosenbrock(10_000, ["ddx-ad"]),
    "rosenbrock5": lambda: rosenbrock(100_000, ["CasADi's C", "ddx-ad"]),
    "black-scholes": lambda: black_scholes(100_000),
    "chain3": lambda: chain(3_000),
    "chain5": lambda: chain(100_000),
}


# ---------------------------------------------------------------------------------------------------
# Who computes them


def microgrid(target: str | None) -> Callable[[Workload], tuple[Run, Read]]:
    def make(work: Workload) -> tuple[Run, Read]:
        leaves = [mg.Value(x) for x in work.parameters.tolist()]
        options: Any = {"target": target} if target else {}
        compiled = mg.compile(
            lambda *sample: work.scalars(mg, leaves, *sample), reduce=work.reduce, batch=bool(work.samples), **options
        )
        kernel = compiled.kernel(*work.batch)
        if work.of_numbers and hasattr(kernel, "function"):
            run = kernel.function()
            return lambda: run(*work.batch), flat
        if not leaves:
            nothing = np.empty(0)
            return lambda: kernel.value_and_grad(nothing, *work.batch, by="arguments"), flat
        place = {id(leaf): k for k, leaf in enumerate(leaves)}
        order = [1 + place[id(p)] for p in kernel.parameters]
        assert sorted(order) == list(range(1, len(leaves) + 1))
        theta, gradient = kernel.read(), np.empty(len(leaves))
        step, batch = kernel.bind(theta, gradient), work.batch

        def read(result: Any) -> np.ndarray:
            numbers = flat(result)
            numbers[order] = numbers[1:].copy()
            return numbers

        return lambda: (step(*batch), gradient), read

    return make


def by_hand(work: Workload) -> tuple[Run, Read]:
    assert work.by_hand
    return work.by_hand, flat


def c(*flags: str) -> Callable[[Workload], tuple[Run, Read]]:
    def make(work: Workload) -> tuple[Run, Read]:
        assert work.c
        file, *sizes = work.source
        library = shared_library(Path(__file__).parent / "c" / file, (*flags, *sizes))
        return work.c(library.run), flat

    return make


def shared_library(source: Path, flags: Sequence[str] = ()) -> ctypes.CDLL:
    """Compile a C file. It is linked without the flags: a -ffast-math there changes how the process rounds."""
    folder = Path(tempfile.mkdtemp(prefix="microgrid-c-"))
    made, library = folder / "made.o", folder / "made.so"
    subprocess.run([*GCC, *flags, "-c", str(source), "-o", str(made)], check=True)
    subprocess.run(["gcc", "-shared", str(made), "-o", str(library), "-lmvec", "-lm"], check=True)
    return ctypes.CDLL(str(library))


NUMPY_NAMES = "exp log sqrt sin cos tanh concatenate stack maximum minimum where"


def jax_module() -> Any:
    """JAX's functions under the names that ``arrays`` of a workload use; ``scan`` as ``lax.scan``."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # it takes half as long where one waits for each result
    return SimpleNamespace(
        relu=lambda x: jnp.maximum(x, 0.0),
        logsumexp=jax.nn.logsumexp,
        sigmoid=jax.nn.sigmoid,
        erf=jax.scipy.special.erf,
        scan=jax.lax.scan,
        stop_gradient=jax.lax.stop_gradient,
        **{name: getattr(jnp, name) for name in NUMPY_NAMES.split()},
    )


def torch_module() -> Any:
    """The same of PyTorch."""
    import torch

    torch.set_num_threads(1)

    def scan(step: Any, carry: Any, xs: Any) -> Any:
        ys = []
        for x in zip(*xs, strict=True) if isinstance(xs, tuple) else xs:
            carry, y = step(carry, x)
            ys.append(y)
        return carry, torch.stack(ys)

    names = f"relu logsumexp sigmoid erf {NUMPY_NAMES}"
    return SimpleNamespace(
        scan=scan, stop_gradient=lambda x: x.detach(), **{name: getattr(torch, name) for name in names.split()}
    )


def jax(work: Workload) -> tuple[Run, Read]:
    import jax
    import jax.numpy as jnp

    module = jax_module()

    @jax.jit
    def step(leaves: Any, *data: Any) -> Any:
        value, back = jax.vjp(lambda leaves: work.arrays(module, leaves, *data), leaves)
        return value, back(jnp.ones_like(value))

    leaves, data = [jnp.array(a) for a in work.leaves], [jnp.array(a) for a in work.data]
    return lambda: jax.block_until_ready(step(leaves, *data)), flat


def torch(work: Workload) -> tuple[Run, Read]:
    import torch

    module = torch_module()
    leaves, data = [torch.tensor(a, requires_grad=True) for a in work.leaves], [torch.tensor(a) for a in work.data]

    def run() -> Any:
        value = work.arrays(module, leaves, *data)
        return value, torch.autograd.grad(value.sum(), leaves)

    return run, flat


def casadi(compiled: bool) -> Callable[[Workload], tuple[Run, Read]]:
    """CasADi's virtual machine, or the C that it writes, compiled by gcc."""

    def make(work: Workload) -> tuple[Run, Read]:
        import casadi

        module = SimpleNamespace(
            relu=lambda x: casadi.fmax(x, 0.0),
            total=sum,
            dot=lambda a, b: sum(s * t for s, t in zip(a, b, strict=True)),
            logsumexp=lambda xs: casadi.logsumexp(casadi.vertcat(*xs)),
            **{name: getattr(casadi, name) for name in ("exp", "log", "sqrt", "sin", "erf")},
        )
        theta = casadi.SX.sym("p", len(work.parameters))
        arrays = [np.asarray(a) for a in work.batch]
        symbols = [casadi.SX.sym(f"x{k}", a[0].size if work.samples else 1) for k, a in enumerate(arrays)]
        sample = [casadi.vertsplit(x) if a.ndim > 1 else x for x, a in zip(symbols, arrays, strict=True)]
        value = work.scalars(module, casadi.vertsplit(theta) if len(work.parameters) else [], *sample)
        weight = 1.0 / work.samples if work.samples and work.reduce else 1.0
        leaves = [theta] if len(work.parameters) else symbols
        gradients = casadi.vertsplit(
            casadi.gradient(value * weight, casadi.vertcat(*leaves)), [0, *np.cumsum([x.numel() for x in leaves])]
        )
        f = casadi.Function("f", [theta, *symbols], [value * weight, *gradients])
        if work.samples:
            summed = list(range(f.n_out())) if work.reduce else []
            f = f.map("f", "serial", work.samples, [0], summed)
        if compiled:
            folder = Path(tempfile.mkdtemp(prefix="microgrid-casadi-"))
            generator = casadi.CodeGenerator("made.c")
            generator.add(f)
            generator.generate(f"{folder}/")
            subprocess.run([*GCC, "-w", "-shared", f"{folder}/made.c", "-o", f"{folder}/made.so", "-lm"], check=True)
            f = casadi.external("f", f"{folder}/made.so")
        buffers, run = f.buffer()
        view: Any = memoryview  # of an array, which is a buffer from Python 3.12 on only by its types
        given = [view(np.ravel(a).astype(float)) for a in (work.parameters, *arrays)]
        results = [view(np.empty(f.numel_out(k))) for k in range(f.n_out())]
        for k, a in enumerate(given):
            buffers.set_arg(k, a)
        for k, a in enumerate(results):
            buffers.set_res(k, a)

        def call() -> Any:
            run()
            return results

        def numbers(a: float = -4.0, b: float = 2.0) -> Any:
            given[1][0], given[2][0] = a, b
            run()
            return [r[0] for r in results]

        call.kept = numbers.kept = buffers, given  # type: ignore[attr-defined]
        return numbers if work.of_numbers else call, flat

    return make


def ddx(work: Workload) -> tuple[Run, Read]:
    import ddx

    module = SimpleNamespace(
        relu=lambda x: ddx.max(x, 0.0),
        total=sum,
        dot=lambda a, b: sum(s * t for s, t in zip(a, b, strict=True)),
        logsumexp=lambda xs: ddx.log(sum(ddx.exp(x) for x in xs)),
        **{name: getattr(ddx, name) for name in ("exp", "log", "sqrt", "sin", "erf")},
    )
    arrays = [np.asarray(a) for a in work.batch]
    count = len(work.parameters)
    symbol = ddx.param if count else ddx.var

    @ddx.equation  # type: ignore[untyped-decorator] # it is not installed where types are checked
    def f() -> Any:
        p = [ddx.var(f"p{k}") for k in range(count)]
        sample = [
            [symbol(f"x{k}_{j}") for j in range(a.shape[1])] if a.ndim > 1 else symbol(f"x{k}")
            for k, a in enumerate(arrays)
        ]
        return work.scalars(module, p, *sample)

    if not work.samples:
        call = f.buffer(np.array([*work.parameters, *arrays], dtype=float))

        def numbers(a: float = -4.0, b: float = 2.0) -> Any:
            call.x[0], call.x[1] = a, b
            call()
            return call.value, call.jacobian.tolist()

        return numbers if work.of_numbers else lambda: (call(), call.value, call.jacobian)[1:], flat
    rows = [np.repeat(work.parameters[:, None], work.samples, 1), *[a.reshape(work.samples, -1).T for a in arrays]]
    call = f.buffer(np.ascontiguousarray(np.concatenate(rows)))
    if work.reduce is None:
        return lambda: (call(), call.value, call.jacobian)[1:], flat
    return lambda: (call(), call.value.mean(), call.jacobian.mean(axis=-1))[1:], flat


NEEDS = {
    "by hand, NumPy": (),
    "C": ("gcc",),
    "C, -ffast-math": ("gcc",),
    "jax": ("jax",),
    "torch": ("torch",),
    "CasADi": ("casadi",),
    "CasADi's C": ("casadi", "gcc"),
    "ddx-ad": ("ddx",),
}


def installed(makers: dict[str, Any]) -> dict[str, Any]:
    """Return those of the makers for whom all is there that they need."""
    have = lambda name: shutil.which(name) if name == "gcc" else find_spec(name)  # noqa: E731
    return {who: make for who, make in makers.items() if all(map(have, NEEDS[who]))}


RIVALS: dict[str, Callable[[Workload], tuple[Run, Read]]] = installed(
    {
        "by hand, NumPy": by_hand,
        "C": c(),
        "C, -ffast-math": c("-ffast-math"),
        "jax": jax,
        "torch": torch,
        "CasADi": casadi(False),
        "CasADi's C": casadi(True),
        "ddx-ad": ddx,
    }
)
