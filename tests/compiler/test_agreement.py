"""All modes of differentiation agree, on programs of all rows, at any numbers, inf and nan included.

The model is in ``bounds.py``: it says what must come out, and how far rounding may move it.
"""

import math
from collections import Counter
from functools import cached_property
from itertools import pairwise

import numpy as np
import pytest
from bounds import Ball, Graph
from hypothesis import given
from hypothesis import strategies as st
from programs import AS_PYTHON, FORMS, ON_ARRAYS, ROWS, any_number, choices, formed, max_of, naming, wild_cases

import microgrid as mg
from microgrid.compiler import compile
from microgrid.compiler.targets import python
from microgrid.compiler.task import VALUE
from microgrid.strategies import expressions


def value_of(x):
    return x if isinstance(x, mg.Value) else mg.engine.constant(x)


class Eager:
    """A case as one ordinary graph: all samples, on leaves of their own, and the parameters; and its derivatives."""

    def __init__(self, case, name, reduce, batched):
        self.parameters = [mg.Value(x) for x in case.parameters]
        samples = len(case.batch[0]) if batched else 1
        leaf = lambda x: [mg.Value(t) for t in x] if isinstance(x, list) else mg.Value(x)  # noqa: E731
        self.arguments = [[leaf(x) for x in argument[:samples]] for argument in case.batch]
        f = case.function(self.parameters, name)
        rows = []
        for sample in zip(*self.arguments, strict=True):
            outputs = f(*sample)
            rows.append([value_of(x) for x in (outputs if name == "g" else [outputs])])
        if reduce is not None and batched:
            folded = [mg.total(column) for column in zip(*rows, strict=True)]
            rows = [[x / samples if reduce == "mean" else x for x in folded]]
        self.rows = rows
        graph = Graph([output for row in rows for output in row], compiled=True)
        self.outputs = [graph.balls[output] for row in rows for output in row]
        self.gradients = [[graph.reverse(output) for output in row] for row in rows]

    @cached_property
    def weighted(self):
        """The gradient of the weighted sum of the outputs, for each row."""
        sums = [mg.total([x * weight for x, weight in zip(row, WEIGHTS, strict=False)]) for row in self.rows]
        graph = Graph(sums, compiled=True)
        return [[graph.reverse(output)] for output in sums]

    @cached_property
    def first(self):
        """The gradient of the mean of the first outputs."""
        first = mg.mean([row[0] for row in self.rows])
        return Graph([first], compiled=True).reverse(first)

    def leaves_of(self, argument, sample=None):
        """The leaves of an argument, of one sample or of all, flat."""
        found = self.arguments[argument] if sample is None else self.arguments[argument][sample : sample + 1]
        return [leaf for x in found for leaf in (x if isinstance(x, list) else [x])]


class Tally(Counter):
    """Counts the numbers compared, and those about which nothing can be said."""

    def check(self, numbers, balls, what):
        numbers = np.ravel(numbers).tolist()
        assert len(numbers) == len(balls), (what, numbers, balls)
        for number, ball in zip(numbers, balls, strict=True):
            self["compared"] += 1
            self["uncertain"] += ball.e == math.inf
            assert ball.may_be(number), f"{what}: {number!r}, must be {ball!r}"

    def agree(self, a, b, finite, what):
        """Two directions give one number, unless on the way an infinite term, or a product that overflows, arises."""
        self["directions"] += 1
        if a.e == math.inf or b.e == math.inf or Ball(a.x, a.e + b.e).may_be(b.x):
            return
        self["excused"] += 1
        assert not finite, f"{what}: {a!r} and {b!r}"

    def some_is_certain(self):
        """Neither of the two excuses may swallow what is to be tested."""
        assert self["uncertain"] <= 0.1 * self["compared"], self
        assert self["excused"] <= 0.1 * self["directions"], self


def at(derivatives, nodes):
    """The derivatives by nodes, or of them; 0 where no path leads."""
    return [derivatives.get(node, Ball(0.0)) for node in nodes]


WEIGHTS = [1.0, -2.0, 0.5]
SOME = [[0.0, -2.0, 0.0], [1.0, 0.0, 0.5], [0.0, 0.0, 0.0]]
"""Of each sample's outputs, the weights: those whose weight is 0 are left out."""


def check_kernel(case, eager, form, reduce, name, by, tally):
    """A kernel's value, gradients, weighted gradients, bound step and call agree with the model."""
    batched = form in ON_ARRAYS
    batch = case.batch if batched else [argument[0] for argument in case.batch]
    parameters = [mg.Value(x) for x in case.parameters]
    compiled = compile(case.function(parameters, name), reduce=reduce, batch=batched)
    kernel = formed(compiled.kernel(*batch), form)
    theta = kernel.read()
    place = {p: k for k, p in enumerate(parameters)}
    mine = [eager.parameters[place[p]] for p in kernel.parameters]
    outputs, expected = eager.outputs, eager.gradients
    several = reduce is None and batched

    def check_gradient(gradient, expected, by, what):
        by_theta, by_arguments = {"parameters": (gradient, None), "arguments": (None, gradient)}.get(by, gradient)
        if by_theta is not None:
            wanted = [x for row in expected for found in row for x in at(found, mine)]
            tally.check(by_theta, wanted, f"{what} by parameters")
        for k in range(3) if by_arguments is not None else ():
            wanted = [
                x
                for sample, row in enumerate(expected)
                for found in row
                for x in at(found, eager.leaves_of(k, sample if several else None))
            ]
            tally.check(by_arguments[k], wanted, f"{what} by argument {k}")

    tally.check(kernel.value(theta, *batch), outputs, "value")
    value, gradient = kernel.value_and_grad(theta, *batch, by=by)
    tally.check(value, outputs, "value with gradient")
    check_gradient(gradient, expected, by, "gradient")
    if name == "g":
        value, gradient = kernel.value_and_grad(theta, *batch, by=by, seed=WEIGHTS[: len(expected[0])])
        check_gradient(gradient, eager.weighted, by, "weighted gradient")
    if name == "g" and several:
        kept = [row[: len(expected[0])] for row in SOME[: len(eager.rows)]]
        value, gradient = kernel.value_and_grad(theta, *batch, by=by, seed=kept)
        some = [
            value_of(mg.total([x * weight for x, weight in zip(row, weights, strict=True) if weight]))
            for row, weights in zip(eager.rows, kept, strict=True)
        ]
        graph = Graph(some, compiled=True)
        check_gradient(gradient, [[graph.reverse(output)] for output in some], by, "gradient of some outputs")
    if (name == "g") == several:
        found = np.full(len(theta), 7.0)
        value = kernel.bind(theta, found)(*batch)
        tally.check(value, outputs, "bound value")
        tally.check(found, at(eager.first, mine), "bound gradient")
    leaf = lambda x: [leaf(t) for t in x] if isinstance(x, list) else mg.Value(x)  # noqa: E731
    arguments = [batch[0], *[leaf(x) for x in batch[1:]]]
    results, _ = mg.calculus.flatten(kernel(*arguments))
    values, _ = mg.calculus.flatten(arguments[1:])
    wanted = [x for k in (1, 2) for x in eager.leaves_of(k, None if batched else 0)]
    rows = [found for row in expected for found in row]
    for result, output, row in zip(results, outputs, rows, strict=True):
        tally.check([result.data], [output], "value of a call")
        if result.is_leaf:
            continue
        for x in [*parameters, *values]:
            x.grad = 0.0
        result.backward()
        gradient = [x.grad for x in [*kernel.parameters, *values]]
        tally.check(gradient, at(row, [*mine, *wanted]), "backward of a call")
        played = mg.gradient_graph(result, [*kernel.parameters, *values])
        tally.check([x.data for x in played], at(row, [*mine, *wanted]), "graph of gradients of a call")


@pytest.mark.parametrize("batched", [True, False])
def test_a_kernel_of_any_form_agrees_with_the_model(batched):
    forms = [form for form in FORMS if (form in ON_ARRAYS) == batched]
    runs = [(form, 2000) for form in forms] + [(form, 3) for form in forms if form in AS_PYTHON]
    tallies = {run: Tally() for run in runs}

    @given(
        wild_cases(),
        st.sampled_from(["mean", "sum", None]),
        st.sampled_from("fg"),
        st.sampled_from(["parameters", "arguments", "both"]),
    )
    def check(case, reduce, name, by):
        eager = Eager(case, name, reduce, batched)
        for (form, lines), tally in tallies.items():
            with naming((form, lines)), pytest.MonkeyPatch.context() as patch:
                patch.setattr(python, "LINES", lines)
                check_kernel(case, eager, form, reduce, name, by, tally)

    check()
    for tally in tallies.values():
        tally.some_is_certain()


def check_derivatives(program, tally):
    """First and second derivatives of a program of scalars, by every way of the package, agree with the model."""
    output, leaves = program.graph()
    count, point = len(leaves), list(program.at)
    everything = tuple(range(count))
    graph = Graph([output])
    reverse, forward = graph.reverse(output), [graph.forward(leaf) for leaf in leaves]
    gradient, slopes = at(reverse, leaves), [at(found, [output])[0] for found in forward]
    output.backward()
    tally.check([leaf.grad for leaf in leaves], gradient, "backward")
    first = mg.gradient_graph(output, leaves)
    tally.check([x.data for x in first], gradient, "graph of gradients")
    tally.check(mg.grad(program, everything)(*point), gradient, "grad")
    for i in everything:
        along = lambda x, i=i: program(*point[:i], x, *point[i + 1 :])  # noqa: E731
        tally.check([mg.jvp(along, point[i], 1.0)[1]], slopes[i : i + 1], "jvp")
        tally.check([mg.jvp(along, mg.Value(point[i]), 1.0)[1].data], slopes[i : i + 1], "graph of jvp")
        tally.agree(gradient[i], slopes[i], graph.is_finite(leaves[i], output), f"forward and reverse by {i}")

    graph = Graph(first)
    rows = [at(graph.reverse(x), leaves) for x in first]
    columns = [at(graph.forward(leaf), first) for leaf in leaves]
    flat = [x for row in rows for x in row]
    second = [mg.gradient_graph(x, leaves) for x in first]
    tally.check([x.data for row in second for x in row], flat, "graph of second derivatives")
    tally.check(mg.hessian(lambda v: program(*v))(point), flat, "hessian")
    for j in everything:
        along = lambda x, j=j: mg.grad(program, everything)(*point[:j], x, *point[j + 1 :])  # noqa: E731
        tally.check([*mg.jvp(along, point[j], 1.0)[1]], columns[j], "forward over reverse")
        for i in everything:
            finite = graph.is_finite(leaves[j], first[i])
            tally.agree(rows[i][j], columns[j][i], finite, f"second derivatives by {i}, {j}")

    graph = Graph(first, compiled=True)
    flat = [ball for x in first for ball in at(graph.reverse(x), leaves)]
    balls = Graph([x for row in second for x in row]).balls
    entries = [balls[x] for row in second for x in row]
    for form in FORMS:
        batched = form in ON_ARRAYS
        kernel = compile(lambda v: [*mg.grad(program, everything)(*v)], reduce=None, batch=batched)
        kernel = formed(kernel.kernel([point] if batched else point), form)
        _, (found,) = kernel.value_and_grad([], [point] if batched else point, by="arguments")
        tally.check(found, flat, f"second derivatives, {form}")
        kernel = compile(mg.hessian(lambda v: program(*v)), reduce=None, batch=batched)
        kernel = formed(kernel.kernel([point] if batched else point), form)
        found = kernel.value([], [point] if batched else point)
        tally.check(found, entries, f"hessian, {form}")


def test_every_way_to_a_derivative_of_any_program_agrees_at_any_numbers():
    tally = Tally()

    @given(expressions(ROWS, max_steps=5, data=any_number, largest=math.inf) | choices())
    def check(program):
        check_derivatives(program, tally)

    check()
    tally.some_is_certain()


@pytest.mark.parametrize("reduce", ["mean", "sum", None])
@pytest.mark.parametrize(
    "f",
    [
        lambda x, c: mg.total([t + c for t in x] * 2),
        lambda x, c: mg.total([(t + c) + (t + c) for t in x]),
        lambda x, c: mg.total([2 * (3.0 * t + c) for t in x]),
        lambda x, c: mg.total([a + b for a, b in pairwise([t + c for t in x])]),
        lambda x, c: mg.total([c - t for t in x]) - c,
    ],
)
def test_a_number_shared_by_all_samples_and_members_has_the_gradient_of_each(f, reduce):
    c, x = mg.Value(0.5), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    results = [f(sample, c) for sample in x]
    expected = mg.mean(results) if reduce == "mean" else mg.total(results)
    expected.backward()
    slope, c.grad = c.grad, 0.0
    compiled = compile(lambda x: f(x, c), reduce=reduce)
    kernel = compiled.kernel(x)
    by_theta = kernel.value_and_grad([0.5], x)[1]
    by_both = kernel.value_and_grad([0.5], x, by="both")[1][0]
    assert [by_theta.sum(), by_both.sum()] == [slope, slope]
    for result in [compiled(x)] if reduce else compiled(x):
        result.backward()
    assert c.grad == slope
    if reduce:
        found = np.zeros(1)
        kernel.bind(np.array([0.5]), found)(x)
        assert found.tolist() == [slope]


@pytest.mark.parametrize("fold", [mg.logsumexp, max_of, mg.total, mg.mean, lambda xs: mg.dot(xs, xs)])
def test_a_power_that_is_one_keeps_its_samples(fold):
    x = np.arange(6.0).reshape(2, 3)
    one = fold([1.0, 1.0, 1.0])
    for reduce in ("mean", "sum", None):
        kernel = formed(compile(lambda x: fold([t**0.0 for t in x]), reduce=reduce).kernel(x), "lifted")
        value, (gradient,) = kernel.value_and_grad([], x, by="arguments")
        assert value == pytest.approx({"mean": one, "sum": 2 * one, None: [one, one]}[reduce])
        assert gradient.tolist() == np.zeros((2, 3)).tolist()


@pytest.mark.parametrize("form", FORMS)
def test_an_output_whose_derivative_is_infinite_leaves_the_others_alone(form):
    batched = form in ON_ARRAYS
    point = np.array([0.0, 2.0])
    kernel = compile(lambda x: [mg.sqrt(x[0]), x[0] * x[1], x[1]], reduce=None, batch=batched)
    kernel = formed(kernel.kernel(point[None] if batched else point), form)
    _, (rows,) = kernel.value_and_grad([], point[None] if batched else point, by="arguments")
    assert rows.reshape(3, 2).tolist() == [[math.inf, 0.0], [2.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("target", ["numpy", "native"])
def test_an_output_that_is_left_out_opens_no_gate_of_the_others(target):
    w, x = mg.Value(0.0), [1.0, 2.0]

    def f(x):
        root = mg.sqrt(w)
        return [mg.take([root, x * w], mg.less(0.5, x)), root]

    kernel = compile(f, reduce=None, target=target).kernel(x)
    found = np.zeros(1)
    kernel.bind(np.zeros(1), found)(x)
    weighted = kernel.value_and_grad([0.0], x, seed=[[3.0, 0.0], [0.0, 1.0]])[1]
    assert [*found, *weighted.ravel()] == [1.5, 3.0, math.inf]
    rows = kernel(x)
    (rows[0][0] + rows[1][0]).backward()
    assert w.grad == 3.0


@pytest.mark.parametrize("batched", [True, False])
def test_nothing_flows_back_through_a_constant_in_a_loop_or_an_array(batched):
    def f(x):
        roots = [mg.sqrt(t) for t in x]
        for _ in range(20):
            roots = [mg.sqrt(t) for t in roots]
        return roots[0] + mg.stop_gradient(roots[1]) + mg.floor(roots[2]) + x[1]

    point = [1.0, 0.0, 0.0]
    kernel = compile(f, batch=batched).kernel([point] if batched else point)
    _, (found,) = kernel.value_and_grad([], [point] if batched else point, by="arguments")
    assert found.reshape(-1).tolist() == [2.0**-21, 1.0, 0.0]


def test_a_bound_gradient_is_written_whole_whatever_was_done_to_it_between_the_steps():
    w = [mg.Value(1.0), mg.Value(2.0)]
    kernel = formed(compile(lambda x: w[0] * x + mg.floor(w[1])).kernel([1.0]), "lifted")
    found = np.full(2, 7.0)
    step = kernel.bind(np.array([1.0, 2.0]), found)
    for _ in range(2):
        step([3.0])
        assert sorted(found.tolist()) == [0.0, 3.0]
        found += 5.0


def test_a_long_program_that_reads_in_no_regular_order_is_cut_in_parts():
    def f(x):
        y = [x[k] for k in (0, 2, 3, 5, 1, 4, 9, 7)]
        for _ in range(300):
            y = [mg.sin(a) for a in y]
        return mg.total(y)

    x = np.random.default_rng(0).normal(size=(5, 10))
    kernel = compile(f).kernel(x)
    expected = mg.mean([f(list(row)) for row in x])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(python, "LINES", 100)
        assert kernel.value([], x) == pytest.approx(float(expected), rel=1e-12)
    assert "part2()" in kernel.executable(VALUE).text("source")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_twice_is_one_expression_whose_gradient_is_added_up_before_an_infinite_slope(form):
    point = [0.0] if form in ON_ARRAYS else 0.0
    kernel = compile(lambda x: 2.0 * mg.sqrt(x) - mg.sqrt(x), batch=form in ON_ARRAYS).kernel(point)
    _, (found,) = formed(kernel, form).value_and_grad([], point, by="arguments")
    assert np.ravel(found).tolist() == [math.inf]


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_how_often_a_choice_was_made_is_a_sum_of_numbers(reduce):
    w, x = mg.Value(0.5), np.array([0.1, 0.7, 0.9])
    kernel = compile(lambda x: 2.0 * mg.where(mg.less(w, x), w, x), reduce=reduce).kernel(x)
    assert kernel.value_and_grad([0.5], x)[1].tolist() == pytest.approx([4.0 if reduce == "sum" else 4.0 / 3.0])
