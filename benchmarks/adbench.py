"""ADBench's three problems in scalars: a Gaussian mixture, bundle adjustment, an LSTM; beside JAX and PyTorch.

    pip install -e ".[demo,native,oracles]" && python benchmarks/adbench.py

The problems are those of F. Šrajer, Z. Kukelova, A. Fitzgibbon, A benchmark of selected algorithmic differentiation
tools on some problems in computer vision and machine learning, Optimization Methods and Software 33 (2018), and of the
program of that name, which added the LSTM; the sizes too, with numbers drawn at random. All run in one process, on one
thread, in turn; times are CPU time, and all derivatives are compared first. ``--only gmm lstm`` runs parts, and
``--length 64`` makes the LSTM's text shorter.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

from compiled import TARGETS, compile_times, differences, first, medians, name_of, suitable
from workloads import Read, Run, Workload, flat, installed, jax, jax_module, microgrid, pieces, torch, torch_module

import microgrid as mg

import numpy as np  # isort: skip - `compiled` says how many threads there are, before NumPy is loaded


def gmm(n: int = 1_000, d: int = 10, k: int = 25) -> Workload:
    """The negated log-likelihood of k Gaussians in d dimensions at n points, with a Wishart prior of their precisions.

    A component has a logarithm of its weight α, a mean μ, and a factor Q of its precision: lower triangular, with
    exp(q) on its diagonal and the rest of it column by column. With γ = 1 and m = 0 in the prior it is

        Σ_i log Σ_k exp(α_k + Σ q_k − ½ |Q_k (x_i − μ_k)|²) − n log Σ_k exp α_k
            + Σ_k (½ γ² |Q_k|² − m Σ q_k) + constant.
    """
    rng = np.random.default_rng(0)
    below = d * (d - 1) // 2
    alphas, means, factors = rng.normal(size=k), rng.random((k, d)), rng.normal(size=(k, d + below))
    points = rng.normal(size=(n, d))
    gamma, m0 = 1.0, 0.0
    freedom = d + m0 + 1
    prior = freedom * d * (math.log(gamma) - 0.5 * math.log(2)) - (
        0.25 * d * (d - 1) * math.log(math.pi) + sum(math.lgamma(0.5 * (freedom - j)) for j in range(d))
    )
    constant = -n * d * 0.5 * math.log(2 * math.pi) - k * prior
    place = {(row, column): t for t, (column, row) in enumerate((c, r) for c in range(d) for r in range(c + 1, d))}

    def scalars(m: Any, p: Any, x: Any) -> Any:
        a, mu, f = p[:k], p[k : k + k * d], p[k + k * d :]
        logs, squares = [], []
        for c in range(k):
            mean, q, lower = mu[c * d : (c + 1) * d], f[c * (d + below) :][:d], f[c * (d + below) + d :][:below]
            diagonal = [m.exp(t) for t in q]
            off = [s - t for s, t in zip(x, mean, strict=True)]
            y = [
                m.total([diagonal[r] * off[r], *[lower[place[r, column]] * off[column] for column in range(r)]])
                for r in range(d)
            ]
            logs.append(a[c] + m.total(q) - 0.5 * m.total([t * t for t in y]))
            squares += [0.5 * gamma**2 * t * t for t in (*diagonal, *lower)]
            squares += [-m0 * t for t in q] if m0 else []
        return m.logsumexp(logs) - m.logsumexp(a) + (m.total(squares) + constant) * (1.0 / n)

    matrix = np.full((d, d), below)  # which number of `lower` stands where; behind them is a zero
    for (row, column), t in place.items():
        matrix[row, column] = t

    def arrays(m: Any, leaves: Any, x: Any) -> Any:
        a, mu, f = leaves
        q, lower = f[:, :d], f[:, d:]
        diagonal, sums = m.exp(q), q.sum(1)
        full = m.concatenate([lower, 0.0 * lower[:, :1]], 1)[:, matrix]
        off = x[:, None, :] - mu
        y = diagonal * off + (full @ off[..., None])[..., 0]
        inner = m.logsumexp(a + sums - 0.5 * (y * y).sum(2), 1).sum() - n * m.logsumexp(a, 0)
        return inner + 0.5 * gamma**2 * ((diagonal**2).sum() + (lower**2).sum()) - m0 * sums.sum() + constant

    return Workload(
        f"Gaussian mixture d {d}, k {k}, n {n:,}",
        scalars,
        flat([alphas, means, factors]),
        (points,),
        None,
        None,
        arrays,
        [alphas, means, factors],
        (points,),
        samples=n,
        reduce="sum",
    )


def lstm(length: int = 1_024, layers: int = 2, b: int = 14) -> Workload:
    """Minus the mean log-likelihood of a text of characters with b bits each, by LSTMs whose gates act bit by bit."""
    rng = np.random.default_rng(0)
    main, extra = rng.normal(size=(2 * layers, 4 * b)), rng.normal(size=(3, b))
    states = rng.normal(size=(2 * layers, b))
    text = rng.integers(0, 2, size=(length, b)).astype(float)

    def cell(m: Any, w: Sequence[Any], bias: Sequence[Any], hidden: Any, memory: Any, x: Any) -> Any:
        """Of one bit, or of arrays of all bits: the next hidden state and memory."""
        forget = m.sigmoid(x * w[0] + bias[0])
        into = m.sigmoid(hidden * w[1] + bias[1])
        out = m.sigmoid(x * w[2] + bias[2])
        change = m.tanh(hidden * w[3] + bias[3])
        memory = memory * forget + into * change
        return out * m.tanh(memory), memory

    def scalars(m: Any, p: Any) -> Any:
        weights = [[p[(4 * r + gate) * b :][:b] for gate in range(4)] for r in range(2 * layers)]
        scale, slope, shift = (p[8 * layers * b + r * b :][:b] for r in range(3))
        state = [row.tolist() for row in states]
        terms = []
        for given, wanted in zip(text[:-1].tolist(), text[1:].tolist(), strict=True):
            x = [s * t for s, t in zip(given, scale, strict=True)]
            for layer in range(layers):
                w, bias = weights[2 * layer], weights[2 * layer + 1]
                both = [
                    cell(m, [g[j] for g in w], [g[j] for g in bias], state[2 * layer][j], state[2 * layer + 1][j], x[j])
                    for j in range(b)
                ]
                state[2 * layer], state[2 * layer + 1] = [h for h, _ in both], [c for _, c in both]
                x = state[2 * layer]
            y = [t * s + u for t, s, u in zip(x, slope, shift, strict=True)]
            norm = m.log(m.total([m.exp(t) for t in y]) + 2.0)
            terms += [target * (t - norm) for target, t in zip(wanted, y, strict=True) if target]
        return m.total(terms) * (-1.0 / (b * (length - 1)))

    def arrays(m: Any, leaves: Any, given: Any, wanted: Any, *states: Any) -> Any:
        weights, (scale, slope, shift) = leaves[0].reshape(2 * layers, 4, b), leaves[1]

        def step(state: Any, pair: Any) -> Any:
            x, after = pair[0] * scale, []
            for layer in range(layers):
                after += cell(m, weights[2 * layer], weights[2 * layer + 1], state[2 * layer], state[2 * layer + 1], x)
                x = after[-2]
            y = x * slope + shift
            return after, (pair[1] * (y - m.log(m.exp(y).sum() + 2.0))).sum()

        return m.scan(step, list(states), (given, wanted))[1].sum() * (-1.0 / (b * (length - 1)))

    return Workload(
        f"LSTM l {layers}, c {length:,}",
        scalars,
        flat([main, extra]),
        (),
        None,
        None,
        arrays,
        [main, extra],
        (text[:-1], text[1:], *states),
    )


class Adjustment:
    """Bundle adjustment: the Jacobian of the errors of all observations, as blocks by camera, point and weight.

    A camera is a rotation vector, a centre, a focal length, a principal point and two coefficients of its distortion.
    """

    def __init__(self, cameras: int = 49, points: int = 7_776, observations: int = 31_843) -> None:
        rng = np.random.default_rng(0)
        self.name = f"bundle adjustment, {observations:,} observations"
        self.cameras = np.column_stack(
            [
                0.5 * rng.normal(size=(cameras, 3)),
                rng.normal(size=(cameras, 3)),
                rng.uniform(400, 900, (cameras, 1)),
                rng.normal(size=(cameras, 2)),
                0.01 * rng.normal(size=(cameras, 2)),
            ]
        )
        self.points = rng.normal(size=(points, 3)) + np.array([0.0, 0.0, 10.0])
        self.weights = rng.random(observations)
        self.features = 100.0 * rng.normal(size=(observations, 2))
        self.seen_by = rng.integers(0, cameras, observations)
        self.seen = rng.integers(0, points, observations)

    @staticmethod
    def error(m: Any, camera: Any, point: Any, weight: Any, feature: Any) -> list[Any]:
        """The weighted error of one observation, in scalars."""
        turn, centre, (focal, x0, y0, k1, k2) = camera[0:3], camera[3:6], [camera[j] for j in range(6, 11)]
        x = [point[j] - centre[j] for j in range(3)]
        angle = m.sqrt(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2])  # nobody looks along an axis
        cosine, sine = m.cos(angle), m.sin(angle)
        axis = [t / angle for t in turn]
        cross = [axis[j - 2] * x[j - 1] - axis[j - 1] * x[j - 2] for j in range(3)]
        along = (axis[0] * x[0] + axis[1] * x[1] + axis[2] * x[2]) * (1.0 - cosine)
        u, v, depth = (x[j] * cosine + cross[j] * sine + axis[j] * along for j in range(3))
        u, v = u / depth, v / depth
        square = u * u + v * v
        factor = focal * (1.0 + k1 * square + k2 * square * square)
        return [weight * (u * factor + x0 - feature[0]), weight * (v * factor + y0 - feature[1])]

    def gathered(self, cameras: Any, points: Any) -> tuple[Any, Any]:
        """Return the camera and the point of each observation."""
        return cameras[self.seen_by], points[self.seen]

    def ours(self, target: str | None) -> tuple[Run, Read]:
        """Return our Jacobian of all observations at once."""
        options: Any = {"target": target} if target else {}
        error = mg.compile(lambda *sample: self.error(mg, *sample), reduce=None, **options)
        given = (*self.gathered(self.cameras, self.points), self.weights, self.features)
        kernel, nothing = error.kernel(*given), np.empty(0)

        def run() -> Any:
            given = (*self.gathered(self.cameras, self.points), self.weights, self.features)
            value, by = kernel.value_and_grad(nothing, *given, by="arguments")
            return value, by[:3]

        return run, flat

    def jax(self) -> tuple[Run, Read]:
        """Return JAX's, by reverse mode of one observation, mapped over all."""
        import jax
        import jax.numpy as jnp

        module = jax_module()

        def both(*sample: Any) -> Any:
            value = module.stack(self.error(module, *sample))
            return value, value

        jacobian = jax.vmap(jax.jacrev(both, argnums=(0, 1, 2), has_aux=True))

        @jax.jit
        def step(cameras: Any, points: Any, weights: Any, features: Any) -> Any:
            by, value = jacobian(*self.gathered(cameras, points), weights, features)
            return value, by

        given = [jnp.array(a) for a in (self.cameras, self.points, self.weights, self.features)]
        return lambda: jax.block_until_ready(step(*given)), flat

    def torch(self) -> tuple[Run, Read]:
        """Return PyTorch's, in the same way."""
        import torch

        module = torch_module()

        def both(*sample: Any) -> Any:
            value = module.stack(self.error(module, *sample))
            return value, value

        jacobian = torch.func.vmap(torch.func.jacrev(both, argnums=(0, 1, 2), has_aux=True))
        given = [torch.tensor(a) for a in (self.cameras, self.points, self.weights, self.features)]

        def run() -> Any:
            by, value = jacobian(*self.gathered(*given[:2]), *given[2:])
            return value, by

        return run, flat


Make = Callable[[], tuple[Run, Read]]


def problem(name: str, length: int) -> tuple[str, dict[str, Make]]:
    """Its title, and who solves it."""
    if name == "ba":
        task = Adjustment()
        ours = {name_of(target): lambda target=target: task.ours(target) for target in TARGETS}
        return task.name, {**ours, **installed({"jax": task.jax, "torch": task.torch})}
    work = gmm() if name == "gmm" else lstm(length)
    ours = {name_of(target): lambda target=target: microgrid(target)(work) for target in TARGETS}
    return work.name, {**ours, **installed({"jax": lambda: jax(work), "torch": lambda: torch(work)})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=["gmm", "ba", "lstm"], help="run these")
    parser.add_argument("--turns", type=int, default=15, help="how often each has its turn (default 15)")
    parser.add_argument("--length", type=int, default=1_024, help="characters of the LSTM's text (default 1,024)")
    parser.add_argument("--first", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first:
        name, who = options.first
        first(problem(name, options.length)[1][who])
        return
    print("| value and derivatives | by | ms | off | compile s | cached s |\n|---|---|--:|--:|--:|--:|")
    for name in options.only or ["gmm", "ba", "lstm"]:
        title, makers = problem(name, options.length)
        made = suitable(makers)
        wanted = pieces(made[list(made)[-1]][0]())
        off = differences({who: read(run()) for who, (run, read) in made.items()}, wanted)
        for who, time in medians({who: run for who, (run, _) in made.items()}, options.turns).items():
            compiled = compile_times([__file__, "--length", str(options.length)], name, who)
            print(f"| {title:40} | {who:18} | {1e3 * time:9.3f} | {off[who]:7.0e} | {compiled} |", flush=True)


if __name__ == "__main__":
    main()
