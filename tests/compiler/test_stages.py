"""The stages one by one: programs, simplification, array statements."""

import random
from itertools import pairwise

import numpy as np
import pytest

import microgrid as mg
from microgrid import ops
from microgrid.compiler import compile
from microgrid.compiler.ir import NOT, ArrayProgram, Map
from microgrid.compiler.passes.builder import Builder
from microgrid.compiler.passes.differentiate import gradients
from microgrid.compiler.passes.rules import BEFORE, LAST
from microgrid.compiler.program import LARGEST, SUM, from_graph
from microgrid.compiler.simplify import simplify


def rows_of(output, *inputs):
    program, _ = from_graph([output], [inputs])
    return [row.name for row in simplify(program).rows if row.partials or row in (SUM, LARGEST)]


def test_equal_nodes_become_one_and_dead_ones_go():
    x = mg.Value(2.0)
    assert mg.exp(x) is not mg.exp(x)
    assert rows_of(mg.exp(x) * mg.exp(x), x) == ["exp", "mul"]
    program, _ = from_graph([x * 3.0], [[x]])
    assert len(simplify(program)) == 3


def test_equal_products_with_a_parameter_become_one_and_others_stay():
    x, w, v = mg.Value(2.0), mg.Value(3.0), mg.Value(5.0)
    assert rows_of(mg.exp(w * x) * mg.sin(w * x), x) == ["mul", "exp", "sin", "mul"]
    assert rows_of(mg.exp(ops.identity(w) * x) * mg.sin(ops.identity(w) * x), x) == ["mul", "exp", "sin", "mul"]
    assert rows_of(mg.exp(w * x) * mg.sin(v * x), x) == ["mul", "exp", "mul", "sin", "mul"]
    assert rows_of(mg.exp(w * w) * mg.sin(w * w), x) == ["mul", "exp", "sin", "mul"]


def test_constants_are_computed_but_a_product_with_zero_stays():
    x = mg.Value(2.0)
    two = mg.engine.constant(2.0)
    assert rows_of(mg.sin(two) * two + x, x) == ["add"]
    assert rows_of(x * 0.0, x) == ["mul"]
    assert np.isnan(compile(x * 0.0, inputs=[x]).value([], [np.inf]))


def test_chains_of_additions_become_one_sum_and_shared_ones_stay():
    xs = [mg.Value(float(k)) for k in range(5)]
    left, right = xs[0], xs[4]
    for x in xs[1:]:
        left = left + x
    for x in reversed(xs[:4]):
        right = x + right
    assert rows_of(left, *xs) == rows_of(right, *xs) == ["sum"]
    shared = xs[0] + xs[1]
    assert rows_of((shared + xs[2]) * shared, *xs) == ["add", "add", "mul"]


def test_chains_of_maxima_become_one_only_where_no_gradient_passes():
    xs = [mg.Value(float(k)) for k in range(4)]
    largest = mg.maximum(mg.maximum(mg.maximum(xs[0], xs[1]), xs[2]), xs[3])
    assert rows_of(largest, *xs) == ["maximum"] * 3
    assert rows_of(mg.stop_gradient(largest), *xs) == ["largest", "stop_gradient"]


def test_a_program_reads_as_text():
    x = mg.Value(1.0)
    program, _ = from_graph([mg.sin(x) * 2.0], [[x]])
    assert program.dump() == "%0 = argument[0](0)\n%1 = sin(%0)\n%2 = constant(2.0)\n%3 = mul(%1, %2)\nreturn %3"
    assert program.dump(limit=1) == "%0 = argument[0](0)\n... and 3 more\nreturn %3"


@pytest.mark.parametrize(
    ("points", "shape", "strides"),
    [([0, 1, 2], (3,), (1,)), ([[5, 3], [9, 7]], (2, 2), (4, -2)), ([[4, 4]], (1, 2), (0, 0)), ([0, 1, 3], (3,), ())],
)
def test_a_map_is_regular_if_strides_describe_it(points, shape, strides):
    points = np.array(points)
    found = Map.of(points)
    assert (found.shape, found.strides, found.regular) == (shape, strides, bool(strides))
    assert np.array_equal(found.points(), points)


def test_a_view_of_a_view_is_one_view():
    outer, inner = Map((2,), 1, (2,)), Map((4,), 10, (3,))
    assert np.array_equal(outer.after(inner).points(), inner.points()[outer.points()])
    assert Map.whole((4,)).after(inner) == inner
    assert Map((3,), 0, (0,)).after(Map((2, 2), 7, (0, 0))) == Map((3,), 7, (0,))
    irregular = Map.of(np.array([[0, 1, 3], [0, 1, 3]]))
    assert irregular.repeats() == ()
    assert irregular.without([0]).points().tolist() == [0, 1, 3]


def test_the_rules_on_statements_keep_every_number():
    build = Builder(LAST)
    x, y = build.argument(0, 4, True), build.argument(1, 4, True)
    apply = build.apply
    assert apply(ops.mul, 1.0, x) is x
    assert apply(ops.mul, x, -1.0) is apply(ops.neg, x)
    assert apply(ops.neg, apply(ops.neg, x)) is x
    assert apply(ops.mul, apply(ops.neg, x), y) is apply(ops.neg, apply(ops.mul, x, y))
    assert apply(ops.add, x, apply(ops.neg, y)) is apply(ops.sub, x, y)
    assert apply(ops.add, apply(ops.neg, y), x) is apply(ops.sub, x, y)
    assert apply(ops.sub, x, apply(ops.neg, y)) is apply(ops.add, x, y)
    assert apply(ops.div, x, 1.0) is x
    assert apply(ops.power_of(1.0), x) is x
    assert apply(ops.power_of(0.0), x) == 1.0
    assert apply(ops.add, 2.0, 3.0) == 5.0
    assert apply(ops.stop_gradient, x) is x
    mask = apply(ops.less, x, y)
    assert apply(ops.sub, 1.0, mask).op is NOT
    assert apply(NOT, apply(NOT, mask)) is mask
    weight, count = build.batch_weight(), build.batch_size()
    assert apply(ops.mul, weight, count) == apply(ops.mul, count, weight) == 1.0
    assert build.sum(x, []) is x


def test_what_is_the_same_for_every_sample_is_counted():
    build = Builder(BEFORE)
    w = build.view(build.parameters(1), Map((), 0))
    weight = build.batch_weight()
    product = build.apply(ops.mul, weight, w)
    assert build.sum_samples(build.apply(ops.neg, product)) == build.apply(ops.neg, w)
    assert build.sum_samples(build.view(weight, Map((3,), 0, (0,)))) == 1.0
    counted = build.sum_samples(build.apply(ops.mul, w, w))
    assert "count()" in ArrayProgram.of([counted]).dump()


def test_a_weight_per_sample_counts_once_for_an_output_without_samples():
    build = Builder(BEFORE)
    w = build.view(build.parameters(1), Map((), 0))
    seeds = build.view(build.seed(1, True), Map((), 0))
    (gradient,) = gradients(build, [(build.apply(ops.mul, w, w), seeds)], [w])
    assert not gradient.batched


def check(f, parameters, x):
    kernel = compile(f).kernel(x)
    value, gradient = kernel.value_and_grad(kernel.read(), x)
    for p in parameters:
        p.grad = 0.0
    expected = mg.mean([f(list(sample)) for sample in x])
    expected.backward()
    assert value == pytest.approx(expected.data, rel=1e-12)
    assert gradient == pytest.approx([p.grad for p in kernel.parameters], rel=1e-11, abs=1e-13)
    return kernel


def test_sums_of_two_neighbours_are_written_as_additions():
    w = [mg.Value(0.1 * k) for k in range(12)]

    def f(x):
        hidden = [mg.tanh(t * s) for t, s in zip(w, x, strict=True)]
        return mg.total([(a + b) ** 2 for a, b in pairwise(hidden)])

    assert "add(v" in check(f, w, np.random.default_rng(0).normal(size=(3, 12))).source


def test_sums_of_terms_in_different_orders_lift_together():
    w = [mg.Value(0.1 * k) for k in range(12)]

    def f(x):
        mixed = [mg.sin(w[k] * x[k]) + mg.cos(w[k]) if k % 2 else mg.cos(w[k]) + mg.sin(w[k] * x[k]) for k in range(12)]
        return mg.total(mixed) * mg.total([t + s for t, s in pairwise(mixed)])

    assert len(check(f, w, np.random.default_rng(0).normal(size=(3, 12))).statements()) < 40


def test_a_class_of_known_numbers_lifts():
    w = [mg.Value(0.1 * k + 1) for k in range(12)]

    def f(x):
        ones = [t**0 for t in w]
        return mg.total(ones) * mg.total(w) + mg.total([mg.tanh(t * s) for t, s in zip(ones, x, strict=True)])

    check(f, w, np.random.default_rng(0).normal(size=(3, 12)))


def test_members_in_a_strange_order_are_sorted_into_slices():
    w = [mg.Value(0.1 * k) for k in range(16)]
    order = [3, 0, 7, 1, 15, 2, 9, 4, 8, 5, 14, 6, 10, 13, 11, 12]
    f = lambda x: mg.total(w) + mg.total([(mg.tanh(w[k] * x[k]) + w[k]) ** 2 for k in order])  # noqa: E731
    assert "take" not in check(f, w, np.random.default_rng(0).normal(size=(2, 16))).source


def test_maxima_over_rows_and_constants_lift():
    w = [mg.Value(0.3 * k - 1) for k in range(12)]

    def f(x):
        rows = [[w[3 * i + j] * x[j] for j in range(3)] for i in range(4)]
        tops = [mg.stop_gradient(mg.maximum(mg.maximum(mg.maximum(r[0], r[1]), r[2]), 0.25)) for r in rows]
        lows = [mg.stop_gradient(mg.minimum(mg.minimum(r[0], r[1]), mg.minimum(r[2], 0.25))) for r in rows]
        return mg.total([t * r[0] - b for t, b, r in zip(tops, lows, rows, strict=True)])

    check(f, w, np.random.default_rng(0).normal(size=(3, 3)))


def test_members_read_many_times_in_no_order_are_summed_by_segments():
    rng = np.random.default_rng(3)
    w = [mg.Value(t) for t in rng.normal(size=30)]
    picks = [(int(a), int(b)) for a, b in rng.integers(0, 30, (300, 2))]

    def f(x):
        hidden = [mg.tanh(t * x[0]) for t in w]
        return mg.total([mg.exp(-hidden[a] * hidden[b]) for a, b in picks])

    kernel = check(f, w, rng.normal(size=(3, 1)))
    assert "reduceat" in kernel.source


def test_a_long_program_over_a_batch_is_cut_in_parts():
    w = mg.Value(0.9)
    functions = random.Random(0).choices([mg.sin, mg.tanh, mg.cos], k=900)

    def f(x):
        state = x[0]
        for k in range(900):
            state = functions[k](state * w) + x[k % 2]
        return state

    kernel = check(f, [w], np.array([[0.3, 0.1], [1.0, -0.2]]))
    assert "part1()" in kernel.source


def test_a_function_that_python_cannot_describe_and_a_name_that_is_not_there_yet():
    with pytest.raises(mg.TraceError if hasattr(mg, "TraceError") else TypeError, match=r"mg\.minimum"):
        compile(min)([1.0], [2.0])

    def make():
        def f(x):
            return x * (later if x is None else 2.0)

        result = compile(f)([1.0, 2.0]).data
        later = 1.0
        return result, later

    assert make() == (3.0, 1.0)


def test_a_compiled_node_has_a_domain_and_a_partial_for_each_parent():
    w = mg.Value(3.0)
    call = compile(lambda x: [w * w * x, w])([2.0])[0]
    assert call.op.domain == (ops.REALS,)
    (partial,) = call.op.partials
    assert partial(call.data, 3.0) == partial(call.data, 3.0) == pytest.approx(12.0)


def test_second_derivatives_by_values_among_the_arguments():
    from microgrid.calculus import gradient_graph

    w, x = mg.Value(3.0), mg.Value(2.0)
    call = compile(lambda x: mg.exp(w * x[0]) * x[1] + 2.0)([[x, 0.5]])
    (first,) = gradient_graph(call, [x])
    (second,) = gradient_graph(first, [w])
    assert second.data == pytest.approx(0.5 * np.exp(6.0) * (1 + 6.0))


def test_several_outputs_kept_apart_have_gradients():
    w = mg.Value(3.0)
    outputs = compile(lambda x: [w * x, w * w], reduce=None)([1.0, 2.0])
    outputs[1][0].backward()
    assert w.grad == 2.0
    outputs[1][1].backward()
    assert w.grad == 8.0
