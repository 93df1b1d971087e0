"""Regular structures are found: the number of array statements does not depend on the size."""

import math
import random
import re
from itertools import pairwise

import numpy as np
import pytest
from programs import fold, formed, states

import microgrid as mg
from microgrid.compiler import compile
from microgrid.compiler.task import VALUE, Task


def weights(n, seed=0):
    rng = random.Random(seed)
    return [mg.Value(rng.uniform(-1, 1)) for _ in range(n)]


def dot(n):
    w = weights(n)
    return lambda x: mg.dot(w, x), w


def convolution(n):
    w = weights(3)
    return lambda x: mg.total([mg.tanh(mg.dot(w, x[i : i + 3])) for i in range(n - 2)]), w


def stencil(n):
    w = weights(1)
    return lambda x: mg.total([(x[i - 1] - 2.0 * x[i] + x[i + 1]) ** 2 * w[0] for i in range(1, n - 1)]), w


def pairwise_distances(n):
    w = weights(2)
    scaled = lambda x: [x[k] * w[k % 2] for k in range(n)]  # noqa: E731
    return lambda x: mg.total([mg.sqrt((a - b) ** 2 + 0.1) for a in scaled(x) for b in scaled(x)]), w


def attention(n):
    w = weights(3)

    def f(x):
        queries, keys, values = [[t * weight for t in x] for weight in w]
        rows = [mg.softmax([q * k for k in keys]) for q in queries]
        return mg.total([mg.dot(row, values) ** 2 for row in rows])

    return f, w


def network(n):
    w = weights(n * n + n + n)

    def f(x):
        hidden = [mg.relu(mg.dot(w[i * n : (i + 1) * n], x) + w[n * n + i]) for i in range(n)]
        return mg.logsumexp([h * v for h, v in zip(hidden, w[n * n + n :], strict=True)])

    return f, w


def recurrent(n):
    """A recurrent network of n units over four steps: what is serial is time, not the units."""
    w = weights(n * n + n)

    def f(x):
        state = [0.1 * t for t in x]
        for _ in range(4):
            state = [mg.tanh(mg.dot(w[i * n : (i + 1) * n], state) + w[n * n + i]) for i in range(n)]
        return mg.total(state)

    return f, w


def triangle(n):
    """Row k of a triangular matrix times the first k + 1 numbers."""
    w = weights(n * (n + 1) // 2)
    rows = [w[k * (k + 1) // 2 :][: k + 1] for k in range(n)]
    return lambda x: mg.total([mg.tanh(mg.dot(row, x[: len(row)])) for row in rows]), w


def causal_attention(n):
    """A position attends to itself and to those before it."""
    w = weights(3)

    def f(x):
        queries, keys, values = [[t * weight for t in x] for weight in w]
        rows = [mg.softmax([q * k for k in keys[: i + 1]]) for i, q in enumerate(queries)]
        return mg.total([mg.dot(row, values[: len(row)]) ** 2 for row in rows])

    return f, w


def neighbours(n):
    """Each node of a graph takes the sum of those that it is joined to, of which there are one to four."""
    w, rng = weights(n), random.Random(1)
    joined = [rng.sample(range(n), 1 + k % 4) for k in range(n)]
    return lambda x: mg.total([mg.sin(mg.total([w[j] * x[j] for j in mine])) for mine in joined]), w


def largest_so_far(n):
    w = weights(n)

    def f(x):
        scaled = [a * b for a, b in zip(w, x, strict=True)]
        return mg.total([mg.logsumexp(scaled[: k + 1]) for k in range(n)])

    return f, w


@pytest.mark.parametrize(
    ("structure", "at_most"),
    [(dot, 5), (convolution, 10), (stencil, 9), (pairwise_distances, 18), (attention, 28), (network, 24),
     (recurrent, 47), (triangle, 14), (causal_attention, 49), (neighbours, 16),
     (largest_so_far, 29)],
)  # fmt: skip
def test_a_regular_structure_lifts_whatever_its_size(structure, at_most):
    counts = []
    for n in (8, 13):
        f, parameters = structure(n)
        x = np.random.default_rng(1).uniform(-1, 1, (5, n))
        kernel = compile(f).kernel(x)
        counts.append(len(kernel.statements()))
        value, gradient = kernel.value_and_grad(kernel.read(), x)
        expected = mg.mean([f([mg.Value(t) for t in sample]) for sample in x.tolist()])
        expected.backward()
        at = dict(zip(map(id, kernel.parameters), gradient.tolist(), strict=True))
        assert value == pytest.approx(expected.data, rel=1e-12)
        assert [at.get(id(p), 0.0) for p in parameters] == pytest.approx([p.grad for p in parameters], rel=1e-11)
    assert counts[0] == counts[1] <= at_most


def test_the_network_of_the_design_becomes_products_of_matrices():
    f, _ = network(30)
    kernel = compile(f).kernel(np.ones((2, 30)))
    assert kernel.source.count("matmul") >= 4
    assert len(kernel.source.splitlines()) < 80
    assert kernel.traced > 1800


FOLDS = {
    "differences": lambda x: fold(lambda s, t: s - t * t, 1.0, x),
    "the largest": lambda x: fold(mg.maximum, x[0], x[1:]),
    "the smallest, from the other side": lambda x: fold(lambda s, t: mg.minimum(t, s), math.inf, x),
    "the largest of many at once": lambda x: mg.maximum(*x) * mg.maximum(*[s * t for s, t in pairwise(x)]),
    "a product": lambda x: fold(lambda s, t: s * t, x[0], x[1:]),
    "Horner's rule": lambda x: fold(lambda s, t: s * x[0] + t, 0.0, x),
    "an alternating recurrence": lambda x: fold(lambda s, t: t - 0.9 * s, 1.0, x),
    "a choice": lambda x: fold(lambda s, t: mg.where(mg.greater(t, 0.3), t * t, s), x[0], x[1:]),
    "prefix sums": lambda x: mg.total([mg.sin(s) for s in states(lambda s, t: s + t, 0.0, x)]),
    "running minima": lambda x: mg.dot(states(mg.minimum, x[0], x[1:]), x),
    "a logarithm of a sum of exponentials in one loop": lambda x: in_one_loop(x),
    "products of running sums": lambda x: mg.total(
        states(lambda s, t: s * mg.tanh(t), 1.0, states(lambda s, t: s + t, 1.0, x))
    ),
    "one fold for each of many": lambda x: mg.total([fold(mg.maximum, t, [t * s for s in x]) for t in x[:7]]),
}


def in_one_loop(x):
    top, total = x[0], 1.0
    for t in x[1:]:
        before, top = top, mg.maximum(top, t)
        total = total * mg.exp(before - top) + mg.exp(t - top)
    return mg.log(total) + top


@pytest.mark.parametrize("form", ["lifted", "native"])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("name", FOLDS)
def test_a_fold_takes_as_many_statements_whatever_its_length_and_shares_ties_as_the_engine_does(name, batch, form):
    f, counts = FOLDS[name], []
    for n in (300, 400):
        # Numbers with one digit, of which many are equal; those of the last sample all are.
        x = np.vstack([np.random.default_rng(1).normal(size=(2, n)).round(1) * 0.9, np.full(n, 0.5)])
        x = x[: 3 if batch else 1]
        kernel = formed(compile(f, batch=batch, reduce="sum").kernel(x if batch else x[0]), form)
        counts.append(len(kernel.statements("arguments")))
        value, (gradient,) = kernel.value_and_grad([], x if batch else x[0], by="arguments")
        leaves = [[mg.Value(t) for t in sample] for sample in x.tolist()]
        expected = mg.total([f(sample) for sample in leaves])
        expected.backward()
        assert value == pytest.approx(expected.data, rel=1e-12)
        wanted = np.array([[t.grad for t in sample] for sample in leaves])
        scale = np.abs(wanted).max(axis=1, keepdims=True)
        assert np.abs(gradient.reshape(wanted.shape) - wanted).max(where=scale > 0, initial=0.0) <= 1e-12 * scale.max()
    assert counts[0] == counts[1] <= 45


def test_a_chain_that_changes_on_its_way_is_cut_there_and_a_short_one_is_written_out():
    def f(x):
        first = fold(lambda s, t: s * t, x[0], x[1:20])
        second = fold(lambda s, t: s * mg.sin(t), first, x[20:])
        return second + fold(lambda s, t: s * t, x[0], x[1:4])

    x = np.random.default_rng(2).uniform(0.9, 1.1, (3, 60))
    kernel = compile(f).kernel(x)
    assert [node.name for node in kernel.statements("value")].count("accumulate") == 2
    value, (gradient,) = kernel.value_and_grad([], x, by="arguments")
    leaves = [[mg.Value(t) for t in sample] for sample in x.tolist()]
    expected = mg.mean([f(sample) for sample in leaves])
    expected.backward()
    assert value == pytest.approx(expected.data, rel=1e-13)
    assert gradient == pytest.approx(np.array([[t.grad for t in sample] for sample in leaves]), rel=1e-12)


@pytest.mark.parametrize("name", ["differences", "a product", "Horner's rule", "prefix sums", "running minima"])
def test_the_hessian_of_a_fold_times_a_direction_takes_as_many_statements_whatever_its_length(name):
    f, counts = FOLDS[name], []
    for n in (30, 50):
        x, direction = np.random.default_rng(1).uniform(-1.0, 1.0, (2, 3, n))
        kernel = compile(lambda x, p: mg.hvp(f, x, p), reduce=None).kernel(x, direction)
        counts.append(len(kernel.statements("value")))
        expected = [mg.hvp(f, a, b) for a, b in zip(x.tolist(), direction.tolist(), strict=True)]
        assert formed(kernel, "lifted").value([], x, direction) == pytest.approx(
            np.array(expected), rel=1e-11, abs=1e-13
        )
    assert counts[0] == counts[1] <= 45


def newton(x, w):
    """√w by Newton's iteration."""
    for _ in range(40):
        x = 0.5 * (x + w[0] / x)
    return x


def two_steps_back(x, w):
    """A recurrence of second order whose states are all summed."""
    states = [x, x * w[0]]
    for _ in range(60):
        states.append(mg.sin(states[-1]) * w[0] - states[-2] * w[1])
    return mg.total(states)


def a_weight_for_each_step(x, w):
    for k in range(50):
        x = mg.tanh(x * w[k]) + w[50 + k]
    return x * w[0]


def far_back(x, w):
    """Each state needs the one nine steps before, and the first one."""
    states = [x + 0.01 * k for k in range(9)]
    for k in range(60):
        states.append(mg.cos(states[k]) * w[1] + states[8] * 0.1)
    return states[-1] * states[-2]


def two_loops(x, w):
    for _ in range(40):
        x = mg.sin(x * w[0])
    y = x
    for _ in range(40):
        y = mg.exp(-y * y) + x * 0.5
    return y + mg.total([t * t for t in w])


@pytest.mark.parametrize("recurrence", [newton, two_steps_back, a_weight_for_each_step, far_back, two_loops])
def test_a_recurrence_becomes_a_loop_of_plain_floats(recurrence):
    w = [mg.Value(1.0 + 0.003 * k) for k in range(100)]
    kernel = compile(lambda x: recurrence(x, w), batch=False).kernel(0.7)
    assert kernel.stages.scalar
    formed(kernel, "loops")
    leaf = mg.Value(0.7)
    expected = recurrence(leaf, w)
    expected.backward()
    value, (by_theta, (by_x,)) = kernel.value_and_grad(kernel.read(), 0.7, by="both")
    assert value == kernel.value(kernel.read(), 0.7) == pytest.approx(expected.data, rel=1e-12)
    assert by_x == pytest.approx(leaf.grad, rel=1e-10, abs=1e-300)
    assert by_theta == pytest.approx([p.grad for p in kernel.parameters], rel=1e-10, abs=1e-300)
    assert "for i in range" in kernel.executable(VALUE).text("source")
    assert len(kernel.source.splitlines()) < 110


def test_a_long_recurrence_takes_the_text_of_one_step():
    def f(x):
        for _ in range(3000):
            x = mg.sin(x) * 1.1
        return x

    kernel = compile(f, batch=False).kernel(0.5)
    value, (gradient,) = kernel.value_and_grad([], 0.5, by="arguments")
    x, slope = 0.5, 1.0
    for _ in range(3000):
        x, slope = math.sin(x) * 1.1, slope * math.cos(x) * 1.1
    assert value == pytest.approx(x, rel=1e-12)
    assert gradient == pytest.approx(slope, rel=1e-9)
    assert len(kernel.executable(Task.gradient("arguments")).text("source").splitlines()) < 40


def test_the_constants_of_a_gradient_meet_and_a_reciprocal_is_a_division():
    x = np.array([0.5, -1.5, 2.0])
    kernel = compile(lambda x: 0.25 * mg.erf(0.75 * x) / (2.0 * x), reduce=None).kernel(x)
    value, (slope,) = kernel.value_and_grad([], x, by="arguments")
    z = 0.75 * x
    bell = 0.25 * 0.75 * 2.0 / math.sqrt(math.pi) * np.exp(-z * z)
    assert slope == pytest.approx(bell / (2.0 * x) - value / x, rel=1e-12)
    backward = kernel.executable(Task.gradient("arguments")).text("source").partition("divide(")[2]
    assert backward.count("divide(1.0") == 0
    assert len([line for line in backward.splitlines() if re.search(r"multiply\([\d.(-]", line)]) == 2  # one a term


def test_what_repeats_itself_is_a_loop_from_a_hundred_nodes_on_and_what_does_not_is_written_out():
    def chain(steps):
        def f(x):
            for step in steps:
                x = step(x)
            return x

        return compile(f, batch=False).kernel(0.3).source

    assert "for i in range" in chain([mg.sin, mg.tanh] * 50)
    assert "for i in range" not in chain([mg.sin, mg.tanh] * 5)
    assert "for i in range" not in chain(random.Random(2).choices([mg.sin, mg.tanh, mg.cos], k=100))


def test_a_long_program_that_repeats_nothing_is_cut_in_parts():
    rng = random.Random(1)
    w = weights(3)
    steps = [
        rng.choice([mg.sin, mg.tanh, mg.cos, mg.sigmoid, lambda x: x * w[0], lambda x: x + w[1]]) for _ in range(4000)
    ]

    def f(x):
        for step in steps:
            x = step(x)
        return x

    for form in ("loops", "floats"):
        kernel = compile(f, batch=False).kernel(0.3)
        formed(kernel, form)
        assert kernel.source.count("def part") > 2
        leaf = mg.Value(0.3)
        expected = f(leaf)
        expected.backward()
        value, (by_theta, (by_x,)) = kernel.value_and_grad(kernel.read(), 0.3, by="both")
        assert value == pytest.approx(expected.data, rel=1e-12)
        assert by_x == pytest.approx(leaf.grad, rel=1e-9, abs=1e-300)
        assert by_theta == pytest.approx([p.grad for p in kernel.parameters], rel=1e-9, abs=1e-300)
        for p in w:
            p.grad = 0.0


def test_floats_that_python_refuses_are_inf_and_nan_in_a_loop_too():
    def f(x):
        for _ in range(30):
            x = mg.exp(x) / (x - x)
        return x

    kernel = compile(f, batch=False).kernel(0.5)
    formed(kernel, "loops")
    value, (gradient,) = kernel.value_and_grad([], 0.5, by="arguments")
    leaf = mg.Value(0.5)
    expected = f(leaf)
    expected.backward()
    assert np.array_equal([value, gradient], [expected.data, leaf.grad], equal_nan=True)


def test_what_is_not_regular_becomes_gathers():
    rng = random.Random(0)
    w = weights(40)
    pairs = [(rng.randrange(40), rng.randrange(12)) for _ in range(200)]
    f = lambda x: mg.total([mg.tanh(w[i] * x[j]) for i, j in pairs])  # noqa: E731
    x = np.random.default_rng(0).normal(size=(3, 12))
    kernel = compile(f).kernel(x)
    value, gradient = kernel.value_and_grad(kernel.read(), x)
    expected = mg.mean([f(sample) for sample in x.tolist()])
    expected.backward()
    assert "take(" in kernel.source
    assert len(kernel.statements()) < 20
    assert value == pytest.approx(expected.data, rel=1e-12)
    assert gradient == pytest.approx([p.grad for p in kernel.parameters], rel=1e-12)


@pytest.mark.parametrize("n", [2, 4, 40])
def test_second_derivatives_compile_constant_ones_among_them(n):
    def rosenbrock(v):
        return mg.total([100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(v)])

    x = np.random.default_rng(0).normal(size=(3, n))
    kernel = compile(mg.hessian(rosenbrock), reduce=None).kernel(x)
    found = kernel.value([], x).reshape(3, n, n)
    for sample, matrix in zip(x.tolist(), found, strict=True):
        assert matrix == pytest.approx(np.array(mg.hessian(rosenbrock)(sample)), rel=1e-12)
    if n == 40:
        assert len(kernel.statements("value")) < 30


def test_the_outputs_of_a_layer_are_one_array_and_its_jacobian_takes_no_longer_text():
    def statements(n):
        w = [weights(n, seed=k) for k in range(n)]
        kernel = compile(lambda x: [mg.tanh(mg.dot(row, x)) for row in w], reduce=None).kernel(np.ones((2, n)))
        x = np.random.default_rng(0).normal(size=(3, n))
        matrix = np.array([[v.data for v in row] for row in w])
        assert kernel.value(kernel.read(), x) == pytest.approx(np.tanh(x @ matrix.T), rel=1e-12)
        seed = np.linspace(-1.0, 1.0, n)
        _, (by_x,) = kernel.value_and_grad(kernel.read(), x, by="arguments", seed=seed)
        assert by_x == pytest.approx((seed * (1.0 - np.tanh(x @ matrix.T) ** 2)) @ matrix, rel=1e-9, abs=1e-12)
        return [len(kernel.statements(by)) for by in ("value", "arguments", "both")]

    assert statements(6) == statements(20)
    assert statements(20)[0] == 2  # a product of matrices and a tanh


def test_the_two_halves_of_the_derivative_of_half_a_square_are_one_product():
    x, y = np.array([0.5, -1.5, 2.0]), np.array([3.0, 1.0, -2.0])
    kernel = compile(lambda x, y: y * (0.5 * x * x), reduce=None).kernel(x, y)
    _, (by_x, by_y) = kernel.value_and_grad([], x, y, by="arguments")
    assert by_x == pytest.approx(x * y, rel=1e-15)
    assert by_y == pytest.approx(0.5 * x * x, rel=1e-15)
    assert len(kernel.statements("arguments")) == 4  # half of x, its square, times y; and x·y


@pytest.mark.parametrize("batched", [False, True])
def test_sums_of_many_lengths_stay_products_of_matrices_where_each_sample_would_keep_their_terms(batched):
    lower = [[mg.Value(0.1 * (r + c)) for c in range(r + 1)] for r in range(8)]

    def whitened(x):
        return mg.total(
            [mg.dot(lower[r], [t * (1.0 + k) for t in x[: r + 1]]) ** 2 for k in range(12) for r in range(8)]
        )

    x = np.linspace(-1.0, 1.0, 8)
    kernel = mg.compile(whitened, batch=batched, target="numpy").kernel(np.tile(x, (5, 1)) if batched else x)
    assert ("segment_sum" in kernel.dump("arrays")) != batched
