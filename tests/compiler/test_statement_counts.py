"""How many statements programs become, forward and backward together: none becomes more than it was."""

import random
from itertools import accumulate, pairwise

import numpy as np
import pytest

import microgrid as mg
from microgrid.compiler import compile


def numbers(n, seed=0, low=-1.0, high=1.0):
    rng = random.Random(seed)
    return [rng.uniform(low, high) for _ in range(n)]


def weights(n, seed=0):
    return [mg.Value(x) for x in numbers(n, seed)]


def matrix(rows, columns, seed=0):
    flat = weights(rows * columns, seed)
    return [flat[k * columns : (k + 1) * columns] for k in range(rows)]


def neuron():
    w = weights(3)
    return lambda x: mg.tanh(mg.dot(w[:2], x) + w[2]), [numbers(2)], False


def readme():
    def f(a, b):
        c, d = a + b, a * b + b**3
        c += c + 1
        c += 1 + c + (-a)
        d += d * 2 + mg.relu(b + a)
        d += 3 * d + mg.relu(b - a)
        e = (c - d) ** 2
        return e / 2.0 + 10.0 / e

    return f, [-4.0, 2.0], False


def moons():
    model = mg.nn.MLP(2, [16, 16, 1], seed=1)
    data = np.random.default_rng(0)
    loss = lambda x, y: mg.relu(1.0 - y * mg.total([model(x)]))  # noqa: E731
    return loss, [data.normal(size=(20, 2)), data.choice([-1.0, 1.0], 20)], True


def digits():
    model = mg.nn.MLP(64, [32, 10], seed=1)
    data = np.random.default_rng(0)
    loss = lambda x, y: mg.logsumexp(model(x)) - mg.dot(model(x), y)  # noqa: E731
    return loss, [data.normal(size=(20, 64)), np.eye(10)[data.integers(10, size=20)]], True


def softmax():
    w = matrix(6, 4)
    loss = lambda x: -mg.log(mg.softmax([mg.dot(row, x) for row in w])[2])  # noqa: E731
    return loss, [np.ones((5, 4))], True


def rosenbrock():
    p = weights(100)
    return lambda: mg.total([100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(p)]), [], False


def black_scholes():
    def cdf(x):
        return 0.5 * (1.0 + mg.erf(x * 0.5**0.5))

    def price(s, k, t, r, v):
        spread = v * mg.sqrt(t)
        d = (mg.log(s / k) + (r + 0.5 * v * v) * t) / spread
        return s * cdf(d) - k * mg.exp(-r * t) * cdf(d - spread)

    return price, [np.full(7, x) for x in (90.0, 100.0, 1.0, 0.02, 0.3)], True


def quotient():
    return lambda x, y: mg.sin(x / y), [np.ones(4), np.ones(4)], True


def chain():
    (w,) = weights(1)

    def f(x):
        for _ in range(200):
            x = mg.sin(x) * w
        return x

    return f, [np.ones(4)], True


def recurrent(steps, units=8):
    u, w = matrix(units, units, 1), matrix(units, 3, 2)

    def f(xs):
        state = [0.0] * units
        for x in xs:
            state = [mg.tanh(mg.dot(a, state) + mg.dot(b, x)) for a, b in zip(u, w, strict=True)]
        return mg.total(state)

    return f, [np.ones((4, steps, 3))], True


def attention(n):
    w = weights(3)

    def f(x):
        queries, keys, values = [[t * weight for t in x] for weight in w]
        return mg.total([mg.dot(mg.softmax([q * k for k in keys]), values) ** 2 for q in queries])

    return f, [np.ones((5, n))], True


def prefix_sums(n):
    w = weights(n)
    return (
        lambda x: mg.total([mg.tanh(s) for s in accumulate(a * b for a, b in zip(w, x, strict=True))]),
        [np.ones((5, n))],
        True,
    )


def triangle(n):
    w = matrix(n, n)
    return lambda x: mg.total([mg.tanh(mg.dot(w[k][: k + 1], x[: k + 1])) for k in range(n)]), [np.ones((5, n))], True


def convolution():
    w = weights(3)
    return lambda x: mg.total([mg.tanh(mg.dot(w, x[i : i + 3])) for i in range(10)]), [np.ones((5, 12))], True


def of_one():
    """Sums, products and a softmax of one number each, as layers of one unit have them."""
    w = weights(3)

    def f(x):
        return mg.total([mg.dot([a], [b]) * mg.softmax([a])[0] for a, b in zip(w, x, strict=True)])

    return f, [np.ones((4, 3))], True


def grid(n):
    """The sums of each point's two to four neighbours."""
    (w,) = weights(1)

    def f(x):
        sums = [
            mg.total([x[i + di][j + dj] for di, dj in ((-1, 0), (0, -1), (0, 1), (1, 0))
                      if 0 <= i + di < n and 0 <= j + dj < n])
            for i in range(n) for j in range(n)
        ]  # fmt: skip
        return mg.total([mg.tanh(s * w) for s in sums])

    return f, [np.ones((5, n, n))], True


def pairwise_distances():
    (w,) = weights(1)
    f = lambda x: mg.total([mg.sqrt((a - b) ** 2 + w) for a in x for b in x])  # noqa: E731
    return f, [np.ones((5, 9))], True


def gradient_of_a_network():
    model = mg.nn.MLP(3, [8, 8, 1], seed=1)
    slope = mg.grad(lambda x: model(x))
    return lambda x: mg.total([g * g for g in slope(x)]), [np.ones((5, 3))], True


def gpt(length, width=16, heads=4, letters=27, context=16):
    """The loss of a document: a transformer of one layer that reads its tokens one by one, with a cache."""
    size = width // heads
    embedding = matrix(context, width, 1)
    q, k, v, out = (matrix(width, width, seed) for seed in range(2, 6))
    up, down, head = matrix(4 * width, width, 6), matrix(width, 4 * width, 7), matrix(letters, width, 8)

    def times(w, x):
        return [mg.dot(row, x) for row in w]

    def plus(x, y):
        return [a + b for a, b in zip(x, y, strict=True)]

    def scaled(x):
        scale = (mg.mean([a * a for a in x]) + 1e-5) ** -0.5
        return [a * scale for a in x]

    def attended(queries, keys, values):
        shares = mg.softmax([mg.dot(queries, key) / size**0.5 for key in keys])
        return [mg.dot(shares, column) for column in zip(*values, strict=True)]

    def loss(tokens, labels):
        keys, values, losses = [], [], []
        for token, label, position in zip(tokens, labels, embedding, strict=False):
            x = scaled(plus(token, position))
            y = scaled(x)
            queries = times(q, y)
            keys.append(times(k, y))
            values.append(times(v, y))
            parts = [slice(j, j + size) for j in range(0, width, size)]
            found = [attended(queries[p], [key[p] for key in keys], [value[p] for value in values]) for p in parts]
            x = plus(times(out, [a for part in found for a in part]), x)
            x = plus(times(down, [mg.relu(a) ** 2 for a in times(up, scaled(x))]), x)
            scores = times(head, x)
            losses.append(mg.logsumexp(scores) - mg.dot(label, scores))
        return mg.mean(losses)

    data = np.random.default_rng(0)
    return loss, [data.normal(size=(length, width)), np.eye(letters)[data.integers(letters, size=length)]], False


def gpt_on_a_batch(length):
    loss, data, _ = gpt(length)
    return loss, [np.stack([x, x[::-1], x]) for x in data], True


COUNTS = {
    neuron: {(): 9}, readme: {(): 51}, moons: {(): 31}, digits: {(): 29}, softmax: {(): 17}, rosenbrock: {(): 15},
    black_scholes: {(): 70}, quotient: {(): 9}, chain: {(): 1399}, convolution: {(): 8}, pairwise_distances: {(): 9},
    gradient_of_a_network: {(): 25}, recurrent: {(4,): 46, (8,): 90}, attention: {(8,): 27},
    prefix_sums: {(8,): 49, (16,): 17}, triangle: {(8,): 8, (16,): 8}, gpt: {(8,): 109, (16,): 109},
    gpt_on_a_batch: {(8,): 118, (16,): 118}, of_one: {(): 17},
    grid: {(4,): 9, (9,): 31},
}  # fmt: skip
"""For each program, by what it is made with, how many statements it was at most."""


def statements(function, arguments, batch):
    kernel = compile(function, batch=batch).kernel(*arguments)
    return len(kernel.stages.array_program(kernel.stages.own_task).statements)


@pytest.mark.parametrize(
    ("program", "given", "at_most"), [(p, given, n) for p, counts in COUNTS.items() for given, n in counts.items()]
)
def test_no_program_becomes_more_statements_than_it_was(program, given, at_most):
    assert statements(*program(*given)) <= at_most
