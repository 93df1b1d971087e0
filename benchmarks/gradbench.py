"""GradBench's twelve evaluations in scalars, as their user would write them, beside JAX: value and derivatives of each.

    pip install -e ".[demo,native,oracles]" && python benchmarks/gradbench.py

The evaluations are those of gradbench/gradbench: the mathematics is in the README of each; numbers are drawn at
random here. Three come from ``adbench.py``. Each is computed by whom it is in a process of its own, on one thread, in
float64: all results are compared with JAX's to 1e-9 by the norm of each piece. *build* is the CPU time from the
function of scalars to its first result (for JAX: to its first, with ``jit``), *call* that of one more, *times JAX* the
ratio of the calls; *statements* counts the array program's; beside it
stands which target computes. ``--only lse ode`` runs parts, ``--largest`` the largest
sizes too, ``--limit 60`` ends what takes more seconds.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adbench import Adjustment, gmm, lstm
from compiled import medians
from workloads import Read, Run, Workload, flat, jax_module, pieces
from workloads import jax as jax_of
from workloads import microgrid as microgrid_by

import microgrid as mg
from microgrid.compiler import stages, targets

import numpy as np  # isort: skip - `compiled` says how many threads there are, before NumPy is loaded

CLOSE = 1e-9


@dataclass
class Task:
    """What to compute: ``ours(target)`` and ``jax()`` return how, and how to read what that returns."""

    ours: Callable[[str | None], tuple[Run, Read]]
    jax: Callable[[], tuple[Run, Read]]


def by_parameters(work: Workload) -> Task:
    """The value and the gradient of a workload."""
    return Task(lambda target: microgrid_by(target)(work), lambda: jax_of(work))


def adjustment(*sizes: int) -> Task:
    """The Jacobian of bundle adjustment."""
    work = Adjustment(*sizes)
    return Task(work.ours, work.jax)


def pair(scalars: Callable[..., Any], arrays: Callable[..., Any], arguments: Sequence[np.ndarray]) -> Task:
    """The results of a function that takes its derivatives itself, of lists of scalars or of JAX's arrays."""

    def ours(target: str | None) -> tuple[Run, Read]:
        kernel = mg.compile(scalars, batch=False, reduce=None, target=target).kernel(*arguments)
        nothing = np.empty(0)
        return lambda: kernel.value(nothing, *arguments), flat

    def with_jax() -> tuple[Run, Read]:
        jax_module()
        import jax
        import jax.numpy as jnp

        step, given = jax.jit(arrays), [jnp.array(a) for a in arguments]
        return lambda: jax.block_until_ready(step(*given)), flat

    return Task(ours, with_jax)


# ---------------------------------------------------------------------------------------------------
# The evaluations


def hello() -> Task:
    """x² of a number."""
    return by_parameters(
        Workload(
            "", lambda m, _, x: x * x, np.empty(0), (1.5,), None, None, lambda m, xs: xs[0] * xs[0], [np.array(1.5)]
        )
    )


def det(n: int) -> Task:
    """A determinant, by its expansion along the first row again and again."""
    matrix = np.random.default_rng(0).normal(size=(n, n))

    def expanded(rows: Any, columns: Sequence[int]) -> Any:
        if not columns:
            return 1.0
        terms = [
            rows[0][c] * expanded(rows[1:], [*columns[:k], *columns[k + 1 :]]) * (-1.0) ** k
            for k, c in enumerate(columns)
        ]
        return sum(terms)

    return by_parameters(
        Workload(
            "",
            lambda m, p: expanded([p[n * i : n * (i + 1)] for i in range(n)], range(n)),
            flat(matrix),
            (),
            None,
            None,
            lambda m, xs: expanded(xs[0], range(n)),
            [matrix],
        )
    )


def lse(n: int, online: bool = False) -> Task:
    """The logarithm log Σ exp(xᵢ), shifted by the maximum that a loop found; or by the one so far, in one loop."""
    x = 10.0 * np.random.default_rng(0).random(n)

    def scalars(m: Any, p: Any) -> Any:
        top = p[0]
        for t in p[1:]:
            top = m.maximum(top, t)
        return m.log(sum(m.exp(t - top) for t in p)) + top

    def in_one_loop(m: Any, p: Any) -> Any:
        top, total = p[0], 1.0
        for t in p[1:]:
            before, top = top, m.maximum(top, t)
            total = total * m.exp(before - top) + m.exp(t - top)
        return m.log(total) + top

    def arrays(m: Any, leaves: Any) -> Any:
        top = leaves[0].max()
        return m.log(m.exp(leaves[0] - top).sum()) + top

    return by_parameters(Workload("", in_one_loop if online else scalars, x, (), None, None, arrays, [x]))


def llsq(n: int, k: int) -> Task:
    """½ Σᵢ (sᵢ − Σⱼ xⱼ tᵢʲ)² of a polynomial of k coefficients through n points of a step."""
    x = np.random.default_rng(0).normal(size=k)
    points = [-1.0 + 2.0 * i / (n - 1) for i in range(n)]

    def scalars(m: Any, p: Any) -> Any:
        result = 0.0
        for t in points:
            residual, power = math.copysign(1.0, t), 1.0
            for c in p:
                residual = residual - c * power
                power = power * t
            result = result + 0.5 * residual * residual
        return result

    powers = np.vander(points, k, increasing=True)
    signs = np.copysign(1.0, points)

    def arrays(m: Any, leaves: Any) -> Any:
        residuals = signs - powers @ leaves[0]
        return 0.5 * (residuals * residuals).sum()

    return by_parameters(Workload("", scalars, x, (), None, None, arrays, [x]))


def kmeans(k: int, n: int, d: int) -> Task:
    """Σᵢ minⱼ |pᵢ − cⱼ|² of n points and k centres in d dimensions."""
    rng = np.random.default_rng(0)
    centres, points = rng.random((k, d)), rng.random((n, d))

    def scalars(m: Any, c: Any, point: Any) -> Any:
        least = math.inf
        for j in range(k):
            least = m.minimum(least, sum((s - t) ** 2 for s, t in zip(point, c[j * d : (j + 1) * d], strict=True)))
        return least

    def arrays(m: Any, leaves: Any, points: Any) -> Any:
        return ((points[:, None, :] - leaves[0]) ** 2).sum(2).min(1).sum()

    return by_parameters(
        Workload(
            "", scalars, flat(centres), (points,), None, None, arrays, [centres], (points,), samples=n, reduce="sum"
        )
    )


def kmeans_step(k: int, n: int, d: int) -> Task:
    """Newton's step of the same: its gradient, and its Hessian times 1, which is diagonal."""
    rng = np.random.default_rng(0)

    def of_scalars(centres: Any, points: Any) -> Any:
        def cost(c: Any) -> Any:
            total = 0.0
            for i in range(n):
                least = math.inf
                for j in range(k):
                    distance = sum((points[i * d + a] - c[j * d + a]) ** 2 for a in range(d))
                    least = mg.minimum(least, distance)
                total = total + least
            return total

        return [*mg.grad(cost)(centres), *mg.hvp(cost)(centres, [1.0] * (k * d))]

    def of_arrays(centres: Any, points: Any) -> Any:
        import jax
        import jax.numpy as jnp

        def cost(c: Any) -> Any:
            return ((points.reshape(n, 1, d) - c.reshape(k, d)) ** 2).sum(2).min(1).sum()

        return jax.jvp(jax.grad(cost), (centres,), (jnp.ones(k * d),))

    return pair(of_scalars, of_arrays, [rng.random(k * d), rng.random(n * d)])


def ode(n: int, steps: int) -> Task:
    """Σ y of y₀′ = x₀, yᵢ′ = xᵢ yᵢ₋₁ after time 1, from 0, by so many steps of Runge and Kutta."""
    x = np.random.default_rng(0).uniform(1.0, 2.0, n)
    h = 1.0 / steps

    def scalars(m: Any, p: Any) -> Any:
        def slope(y: Any) -> Any:
            return [p[0], *[a * b for a, b in zip(p[1:], y, strict=False)]]

        y: Any = [0.0] * n
        for _ in range(steps):
            k1 = slope(y)
            k2 = slope([a + h / 2 * k for a, k in zip(y, k1, strict=True)])
            k3 = slope([a + h / 2 * k for a, k in zip(y, k2, strict=True)])
            k4 = slope([a + h * k for a, k in zip(y, k3, strict=True)])
            y = [a + h / 6 * (p + 2 * q + 2 * r + s) for a, p, q, r, s in zip(y, k1, k2, k3, k4, strict=True)]
        return m.total(y)

    def arrays(m: Any, leaves: Any) -> Any:
        def slope(y: Any) -> Any:
            return m.concatenate([leaves[0][:1], leaves[0][1:] * y[:-1]])

        def step(y: Any, _: Any) -> Any:
            k1 = slope(y)
            k2 = slope(y + h / 2 * k1)
            k3 = slope(y + h / 2 * k2)
            k4 = slope(y + h * k3)
            return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), 0.0

        return m.scan(step, 0.0 * leaves[0], np.zeros(steps))[0].sum()

    return by_parameters(Workload("", scalars, x, (), None, None, arrays, [x]))


FINGERS, JOINTS = 5, 4


def hand(n: int) -> Task:
    """Hand tracking: the Jacobian of the way from n vertices of a skin to points that were seen, by 26 parameters.

    A wrist and four bones in each of five fingers: bone b has the place T_b = T_parent · base_b · R(angles_b), and a
    vertex v with weights w_b stands at R·Σ_b w_b T_b B_b v + shift, where B_b takes v into the frame of bone b at rest.
    The parameters are the rotation vector of the hand, its shift, and four angles of each finger, of which two turn its
    first bone.
    """
    rng = np.random.default_rng(0)
    bones = 1 + FINGERS * JOINTS
    frames = np.concatenate([np.eye(3)[None] + 0.1 * rng.normal(size=(bones, 3, 3)), rng.normal(size=(bones, 3, 1))], 2)
    at_rest = rng.normal(size=(bones, 3, 4))
    theta = 0.5 * rng.normal(size=6 + 4 * FINGERS)
    weights = rng.random((n, bones)) * (rng.random((n, bones)) < 0.2)
    vertices, seen = rng.normal(size=(n, 3)), rng.normal(size=(n, 3))

    def product(a: Any, b: Any) -> Any:
        """Of two maps of space, 3×4: first b, then a."""
        return [
            [sum(a[i][k] * b[k][j] for k in range(3)) + (a[i][3] if j == 3 else 0.0) for j in range(4)]
            for i in range(3)
        ]

    def turn(m: Any, bend: Any, spread: Any) -> Any:
        """About the x axis, then about the z axis."""
        c, s, e, f = m.cos(bend), m.sin(bend), m.cos(spread), m.sin(spread)
        return [[e, -f * c, f * s, 0.0], [f, e * c, -e * s, 0.0], [0.0, s, c, 0.0]]

    def rotation(m: Any, v: Any) -> Any:
        """By the length of v, about v."""
        angle = m.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
        x, y, z = (t / angle for t in v)
        c, s = m.cos(angle), m.sin(angle)
        d = 1.0 - c
        return [
            [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
            [x * y * d + z * s, c + y * y * d, y * z * d - x * s],
            [x * z * d - y * s, y * z * d + x * s, c + z * z * d],
        ]

    def residual(m: Any, p: Any, weights: Any, vertex: Any, seen: Any) -> Any:
        places = [frames[0].tolist()]
        for finger in range(FINGERS):
            angles, place = p[6 + 4 * finger :][:4], places[0]
            for joint in range(JOINTS):
                turned = turn(m, angles[joint], angles[3]) if joint == 0 else turn(m, angles[joint - 1], 0.0)
                place = product(product(place, frames[1 + JOINTS * finger + joint].tolist()), turned)
                places.append(place)
        moved = [product(place, rest) for place, rest in zip(places, at_rest.tolist(), strict=True)]
        skin = [
            sum(w * (b[i][0] * vertex[0] + b[i][1] * vertex[1] + b[i][2] * vertex[2] + b[i][3])
                for w, b in zip(weights, moved, strict=True))
            for i in range(3)
        ]  # fmt: skip
        whole = rotation(m, p[:3])
        return [sum(whole[i][j] * skin[j] for j in range(3)) + p[3 + i] - seen[i] for i in range(3)]

    def ours(target: str | None) -> tuple[Run, Read]:
        leaves = [mg.Value(t) for t in theta.tolist()]
        f = mg.compile(lambda *sample: residual(mg, leaves, *sample), reduce=None, target=target)
        kernel = f.kernel(weights, vertices, seen)
        place = {id(leaf): k for k, leaf in enumerate(leaves)}
        order = [place[id(leaf)] for leaf in kernel.parameters]
        start = kernel.read()

        def read(result: Any) -> np.ndarray:
            value, by = result
            return flat([value, by[..., np.argsort(order)]])

        return lambda: kernel.value_and_grad(start, weights, vertices, seen), read

    def with_jax() -> tuple[Run, Read]:
        module = jax_module()
        import jax
        import jax.numpy as jnp

        def all_residuals(theta: Any) -> Any:
            places = [jnp.array(frames[0])]
            for finger in range(FINGERS):
                angles, place = theta[6 + 4 * finger :][:4], places[0]
                for joint in range(JOINTS):
                    turned = turn(module, angles[joint], angles[3]) if joint == 0 else None
                    turned = turned or turn(module, angles[joint - 1], 0.0)
                    for factor in (jnp.array(frames[1 + JOINTS * finger + joint]), stacked(turned)):
                        place = joined(place, factor)
                    places.append(place)
            moved = jax.vmap(joined)(jnp.stack(places), jnp.array(at_rest))
            ends = jnp.concatenate([jnp.array(vertices), jnp.ones((n, 1))], 1)
            skin = jnp.einsum("nb,bij,nj->ni", weights, moved, ends)
            return skin @ stacked(rotation(module, theta[:3])).T + theta[3:6] - seen

        def stacked(rows: Any) -> Any:
            return jnp.stack([jnp.stack([jnp.asarray(t) for t in row]) for row in rows])

        def joined(a: Any, b: Any) -> Any:
            return a[:, :3] @ b + jnp.concatenate([jnp.zeros((3, 3)), a[:, 3:]], 1)

        def both(theta: Any) -> Any:
            value = all_residuals(theta)
            return value, value

        step = jax.jit(jax.jacfwd(both, has_aux=True))
        given = jnp.array(theta)
        return lambda: jax.block_until_ready(step(given)), lambda result: flat([result[1], result[0]])

    return Task(ours, with_jax)


def saddle(steps: int) -> Task:
    """minₓ maxᵧ |x|² − |y|² in the plane, by steps down with steps up in each of them."""
    rate = 0.2

    def of_scalars(start: Any) -> Any:
        def inner(x: Any) -> Any:
            y = start[2:]
            for _ in range(steps):
                by = mg.grad(lambda y: x[0] ** 2 + x[1] ** 2 - (y[0] ** 2 + y[1] ** 2) + 0.1 * x[0] * y[1])(y)
                y = [a + rate * b for a, b in zip(y, by, strict=True)]
            return x[0] ** 2 + x[1] ** 2 - (y[0] ** 2 + y[1] ** 2) + 0.1 * x[0] * y[1]

        x = start[:2]
        for _ in range(steps):
            x = [a - rate * b for a, b in zip(x, mg.grad(inner)(x), strict=True)]
        return x

    def of_arrays(start: Any) -> Any:
        import jax

        def f(x: Any, y: Any) -> Any:
            return (x * x).sum() - (y * y).sum() + 0.1 * x[0] * y[1]

        def inner(x: Any) -> Any:
            up = jax.grad(f, argnums=1)
            return f(x, jax.lax.scan(lambda y, _: (y + rate * up(x, y), None), start[2:], length=steps)[0])

        return jax.lax.scan(lambda x, _: (x - rate * jax.grad(inner)(x), None), start[:2], length=steps)[0]

    return pair(of_scalars, of_arrays, [np.array([1.0, 1.3, 0.7, -0.4])])


def particle(steps: int, turns: int) -> Task:
    """Newton's steps for the place of a charge so that a particle, which falls past two, lands at 0."""

    def path(m: Any, slope: Any, w: Any, loop: Any) -> Any:
        """Where it crosses y = 0, squared; it stands still from there on."""

        def step(state: Any) -> Any:
            x, y, u, v = state
            a, b = slope(w, x, y)
            going = y + 0.1 * v > 0.0 if m is None else m.greater(y + 0.1 * v, 0.0)
            where = m.where
            return [
                where(going, x + 0.1 * u, x),
                where(going, y + 0.1 * v, y),
                where(going, u - 0.1 * a, u),
                where(going, v - 0.1 * b, v),
            ]

        x, y, u, v = loop(step, [0.0, 8.0, 0.75, 0.0])
        return (x - y / v * u) ** 2

    def potential(m: Any, w: Any, x: Any, y: Any) -> Any:
        return 1.0 / m.sqrt((x - 10.0) ** 2 + (y - 10.0 + w) ** 2) + 1.0 / m.sqrt((x - 10.0) ** 2 + y**2)

    def of_scalars(w: Any) -> Any:
        def loop(step: Any, state: Any) -> Any:
            for _ in range(steps):
                state = step(state)
            return state

        def slope(w: Any, x: Any, y: Any) -> Any:
            return mg.grad(lambda x, y: potential(mg, w, x, y), argnums=(0, 1))(x, y)

        first = mg.grad(lambda w: path(mg, slope, w, loop))
        for _ in range(turns):
            w = w - first(w) / mg.grad(first)(w)
        return w

    def of_arrays(w: Any) -> Any:
        module = jax_module()
        module.greater = lambda a, b: a > b
        import jax
        import jax.numpy as jnp

        def loop(step: Any, state: Any) -> Any:
            start = tuple(jnp.asarray(t) for t in state)
            return jax.lax.scan(lambda s, _: (tuple(step(s)), None), start, length=steps)[0]

        slope = jax.grad(lambda w, x, y: potential(module, w, x, y), argnums=(1, 2))
        first = jax.grad(lambda w: path(module, slope, w, loop))
        return jax.lax.scan(lambda w, _: (w - first(w) / jax.grad(first)(w), None), w, length=turns)[0]

    return pair(of_scalars, of_arrays, [np.array(0.5)])


EVALUATIONS: dict[str, Callable[[], Task]] = {
    "hello": hello,
    "det 4": lambda: det(4),
    "det 5": lambda: det(5),
    "lse 10,000": lambda: lse(10_000),
    "lse 160,000": lambda: lse(160_000),
    "lse in one loop 10,000": lambda: lse(10_000, online=True),
    "llsq 128×16": lambda: llsq(128, 16),
    "llsq 1,024×64": lambda: llsq(1_024, 64),
    "kmeans k 10, n 1,000, d 8": lambda: kmeans(10, 1_000, 8),
    "kmeans k 100, n 1,000, d 8": lambda: kmeans(100, 1_000, 8),
    "kmeans k 1,000, n 1,000, d 8": lambda: kmeans(1_000, 1_000, 8),
    "kmeans step k 10, n 200, d 2": lambda: kmeans_step(10, 200, 2),
    "gmm d 2, k 5, n 1,000": lambda: by_parameters(gmm(1_000, 2, 5)),
    "gmm d 10, k 25, n 1,000": lambda: by_parameters(gmm(1_000, 10, 25)),
    "gmm d 32, k 25, n 1,000": lambda: by_parameters(gmm(1_000, 32, 25)),
    "ba 21, 1,000, 5,000": lambda: adjustment(21, 1_000, 5_000),
    "ba 49, 7,776, 31,843": adjustment,
    "ode n 10, s 1": lambda: ode(10, 1),
    "ode n 10, s 10": lambda: ode(10, 10),
    "ode n 100, s 10": lambda: ode(100, 10),
    "ode n 100, s 100": lambda: ode(100, 100),
    "lstm c 16": lambda: by_parameters(lstm(16)),
    "lstm c 128": lambda: by_parameters(lstm(128)),
    "lstm c 1,024": lambda: by_parameters(lstm(1_024)),
    "ht 100": lambda: hand(100),
    "ht 544": lambda: hand(544),
    "saddle 10": lambda: saddle(10),
    "saddle 30": lambda: saddle(30),
    "particle 30": lambda: particle(30, 3),
    "particle 100": lambda: particle(100, 3),
}
LARGEST = {"lstm c 1,024", "ode n 100, s 100", "lse 160,000", "gmm d 32, k 25, n 1,000", "particle 100"}
BY = {"NumPy": "off", "native": ""}
"""What ``MICROGRID_NATIVE`` says: without native code a function runs on NumPy, or on Python's floats."""


# ---------------------------------------------------------------------------------------------------
# Measuring


def measure(name: str, who: str, path: str) -> None:
    """Build one, time it, write its numbers to a file and what it took to the standard output."""
    if who == "jax":
        jax_module()
    task = EVALUATIONS[name]()
    start = time.process_time()
    run, read = task.jax() if who == "jax" else task.ours(None)
    result = run()
    build = time.process_time() - start
    call = medians({who: run}, 5)[who]
    np.savez(path, read(result), *pieces(result))
    print(json.dumps({"build": build, "call": call, **noted}))


noted: dict[str, Any] = {"by": "", "statements": ""}
"""The target that computes, and how many statements its array program has, if one is made."""


def take_notes() -> None:
    """Note how our compiler computes what it is asked for."""
    choice: Any = targets.Choice
    stage: Any = stages

    def build(self: Any, task: Any) -> Any:
        noted["by"] = self.target.name
        return kept[0](self, task)

    def array_program(*args: Any) -> Any:
        program = kept[1](*args)
        noted["statements"] = len(program.statements)
        return program

    kept = choice.build, stage.array_program
    choice.build, stage.array_program = build, array_program


def measured(name: str, who: str, limit: float) -> tuple[dict[str, Any] | str, list[np.ndarray]]:
    """What one took, or why it did not, and its numbers."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/numbers.npz"
        command = [sys.executable, __file__, "--measure", name, who, path]
        environment = {**os.environ, "MICROGRID_NATIVE": BY.get(who, ""), "MICROGRID_CACHE": folder}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)
        except subprocess.TimeoutExpired:
            return f"more than {limit:.0f} s", []
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
            return reason, []
        with np.load(path) as found:
            return json.loads(done.stdout.splitlines()[-1]), list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="run those whose names begin so")
    parser.add_argument("--largest", action="store_true", help="the largest sizes too")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that one may take (default 60)")
    parser.add_argument("--by", nargs="+", choices=BY, default=list(BY), help="our targets (default both)")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        take_notes()
        measure(*options.measure)
        return
    print("| evaluation | | by | build s | call ms | times JAX | statements | off |")
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for name in EVALUATIONS:
        chosen = any(name.startswith(start) for start in options.only) if options.only else True
        if not chosen or (name in LARGEST and not options.largest and not options.only):
            continue
        wanted: list[np.ndarray] = []
        base = math.nan
        for who in ["jax", *options.by]:
            took, numbers = measured(name, who, options.limit)
            if isinstance(took, str):
                print(f"| {name:30} | {who:6} | {took} |", flush=True)
                continue
            off = ""
            if who == "jax":
                wanted, base = numbers, took["call"]
            elif wanted:
                ends = np.cumsum([piece.size for piece in wanted[1:]])[:-1]
                pairs = zip(np.split(numbers[0], ends), np.split(wanted[0], ends), strict=True)
                worst = max(float(np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-300)) for a, b in pairs)
                assert worst <= CLOSE, (name, who, worst)
                off = f"{worst:.0e}"
            row = f"{took['build']:8.2f} | {1e3 * took['call']:10.3f} | {took['call'] / base:8.2f}"
            by = took["by"] or who
            print(f"| {name:30} | {who:6} | {by:11} | {row} | {took['statements']:>6} | {off:>5} |", flush=True)


if __name__ == "__main__":
    main()
