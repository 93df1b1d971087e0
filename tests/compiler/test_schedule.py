"""From arrays to loops: what a reader of ``dump("loops")`` sees, and that the interpreter gets the right numbers."""

from itertools import pairwise

import loop_interpreter
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microgrid as mg
from microgrid.compiler import compile
from microgrid.compiler.targets.native.loop_ir import For, Let, Store
from microgrid.compiler.targets.native.target import loop_program
from microgrid.compiler.task import Task

BY_PARAMETERS = Task.gradient("parameters")
TERMS = [
    lambda t, x: t * t,
    lambda t, x: t**3 * x,
    lambda t, x: mg.relu(t) * x,
    lambda t, x: mg.maximum(t, 2.0 * x) - x,
    lambda t, x: mg.where(mg.less(t, x), t * x, t),
    lambda t, x: mg.sin(t) * x,
]


def run(kernel, *batch, tile=8):
    """The value and the gradient by the parameters, by the interpreter of loops."""
    program = loop_program(kernel.stages, BY_PARAMETERS)
    arguments, size = kernel.signature.arguments(batch)
    outs = [np.full((), np.nan), np.full(len(kernel.parameters), np.nan)]
    loop_interpreter.run(program, kernel.read(), np.empty(0), arguments, outs, size, tile)
    return program, *outs


def chain(terms, offsets, weights, size):
    """A sum over all places of a number that is made of neighbours, and a kernel of it."""
    rng = np.random.default_rng(size)
    xs = [mg.Value(x) for x in rng.normal(size=size)]

    def f():
        total = 0.0
        for k in range(size - max(offsets)):
            t = mg.total([w * xs[k + offset] for w, offset in zip(weights, offsets, strict=True)])
            total = total + mg.total([TERMS[term](t, xs[k + offsets[-1]]) for term in terms])
        return total

    return compile(f, batch=False, target="numpy").kernel()


@given(
    st.lists(st.integers(0, len(TERMS) - 1), min_size=1, max_size=2),
    st.lists(st.integers(0, 9), min_size=2, max_size=4, unique=True).map(sorted),
    st.integers(20, 70),
)
def test_sums_into_neighbours_are_those_of_numpy(terms, offsets, size):
    kernel = chain(terms, offsets, [0.5, -1.5, 2.0, 1.25][: len(offsets)], size)
    _, value, gradient = run(kernel)
    expected, slopes = kernel.value_and_grad(kernel.read())
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-12, atol=1e-12 * np.abs(slopes).max())


def test_a_member_that_neighbours_add_to_is_written_once_if_that_is_cheap():
    def written(terms):
        program, *_ = run(chain(terms, [0, 1], [2.0, -1.0], 40))
        stores = [s for s in program.walk() if isinstance(s, Store) and s.address.buffer.role == "output"]
        return [s for s in stores if s.address.buffer.position == 1]

    assert not any(s.adds for s in written([0]))
    assert any(s.adds for s in written([5]))  # a sine would be computed twice


def test_of_two_neighbours_the_one_with_less_arithmetic_is_computed_twice():
    def operations(square):
        xs = [mg.Value(x) for x in np.random.default_rng(0).normal(size=40)]
        squares = [square(a, b) for a, b in pairwise(xs)]
        program, *_ = run(compile(lambda: mg.total(squares), batch=False, target="numpy").kernel())
        return max(sum(isinstance(x, Let) for x in s.body) for s in program.before if isinstance(s, For))

    assert operations(lambda a, b: (a * a - 2.0 * b) ** 2) == operations(lambda a, b: (2.0 * a - b * b) ** 2)


def test_a_layer_is_one_loop_with_its_bias_activation_and_the_sums_of_the_way_back():
    layers = [[mg.Value(0.1 * (k + j)) for k in range(3)] for j in range(4)]
    f = lambda x: mg.total([mg.tanh(mg.dot(w[:2], x) + w[2]) for w in layers])  # noqa: E731
    batch = np.random.default_rng(0).normal(size=(21, 2))
    kernel = compile(f, target="numpy").kernel(batch)
    program, value, gradient = run(kernel, batch)
    expected, slopes = kernel.value_and_grad(kernel.read(), batch)
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-12)
    loops = [s for s in program.tile if isinstance(s, For)]
    assert len(loops) == 2  # forward with the slopes of the biases; the gradient of the weights
    text = program.dump()
    assert text.count("dot(") == 2
    assert text.count("tanh(") == text.count("sech2(") == 1


def test_buffers_of_a_tile_share_memory_and_the_text_is_the_same_each_time():
    sizes = [5, 9, 7, 9, 6, 1]
    rng = np.random.default_rng(0)
    weights = [[[mg.Value(x) for x in rng.normal(size=m)] for _ in range(n)] for m, n in pairwise(sizes)]

    def f(x):
        for layer in weights:
            x = [mg.tanh(mg.dot(w, x)) for w in layer]
        return x[0]

    batch = rng.normal(size=(19, 5))
    kernel = compile(f, target="numpy").kernel(batch)
    program, value, gradient = run(kernel, batch)
    expected, slopes = kernel.value_and_grad(kernel.read(), batch)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-11)
    buffers = [b for b in program.buffers if b.role == "local" and b.batched]
    stored = sum(sizes) + 2 * sum(sizes[1:-1])  # each layer's numbers, slopes, and what comes back to them
    assert sum(b.members for b in buffers) < stored
    assert loop_program(compile(f, target="numpy").kernel(batch).stages, BY_PARAMETERS).dump() == program.dump()
