"""Loops of which a step is traced once: over inputs, or until a condition holds, each sample by its own."""

import pickle

import numpy as np
import pytest
from bounds import Graph
from hypothesis import given
from hypothesis import strategies as st
from programs import any_number

import microgrid as mg
from microgrid import nn
from microgrid.compiler import TraceError
from microgrid.compiler.ir import Scan
from microgrid.compiler.passes.memory import is_computed
from microgrid.compiler.targets.native.target import loop_program
from tests.compiler.test_agreement import Tally, at

TARGETS = ["numpy", "native"]
STARTS = np.array([2.0, 3.0, 1e6, 1e-4, 1.0])


def root(a):
    return mg.iterate(lambda x: (x + a / x) / 2.0, 1.0, until=lambda x, y: abs(y - x) < 1e-14, at_most=50)


def of_two_numbers(a):
    """Of two numbers; the condition, of the state alone, holds of some starts at once."""

    def step(s):
        return {"x": s["x"] * 0.7 + mg.sin(s["n"]), "n": s["n"] + a}

    return mg.iterate(step, {"x": a, "n": 0.0}, until=lambda s: s["x"] < 1.5, at_most=9)["x"]


def power(a):
    matrix = [[2.0, a], [a, 1.0]]

    def step(v):
        image = [mg.dot(row, v) for row in matrix]
        return [x / mg.sqrt(mg.dot(image, image)) for x in image]

    return mg.iterate(step, [1.0, 1.0], until=lambda u, v: mg.dist(u, v) < 1e-9, at_most=200)[0]


def fixed(a):
    return mg.iterate(lambda x: mg.cos(a * x), 1.0, until=lambda x, y: abs(x - y) < 3e-16, at_most=900, implicit=True)


def two_loops(a):
    first = root(a + 1.0)
    return root(first) * mg.iterate(lambda x: x * first, a, until=lambda x: x > 5.0, at_most=4)


def within(a):
    """A loop in a step of a loop."""

    def inner(x):
        return mg.iterate(lambda y: y * 0.5, x, until=lambda y: y < 0.3, at_most=4)

    return mg.iterate(lambda x: inner(x) + a, a, until=lambda x, y: abs(x - y) < 1e-3, at_most=6)


def filtered(a):
    """A state of several numbers; what a step gives is new, a state, an input, something from outside."""
    inputs = [(a, 0.3), (0.2, a), (a * a, 1.5)]

    def step(s, x):
        gain = s["p"] / (s["p"] + x[1])
        new = {"m": s["m"] + gain * (x[0] - s["m"]), "p": (1.0 - gain) * s["p"] + a}
        return new, (gain * 2.0, new["m"], s["p"], x[0], a, 3.0)

    state, outputs = mg.scan(step, {"m": 0.5, "p": 1.0}, inputs)
    return state["m"] * state["p"] + mg.total([mg.sin(x) for output in outputs for x in output])


def of_some_steps(a):
    """Steps of which a gradient comes from some alone, and would be infinite at others: √ at 0 behind the third."""

    def step(s, _):
        root = mg.sqrt(s[0])
        return (s[0] - 1.0, s[0] * s[2], a, s[3] + root), root

    (last, late, _, count), given = mg.scan(step, (a, a, a, 0.0), range(4))
    return given[0] * last + mg.stop_gradient(given[2] + count) + late


def around_and_within(a):
    """A loop over inputs in a step, and one that ends by a condition."""

    def outer(s, x):
        inner, seen = mg.scan(lambda u, v: (u * v + s, u), x, [a, s])
        return s * 0.1 + inner, mg.iterate(lambda y: y * 0.5, seen[1], until=lambda y: y < 0.3, at_most=2)

    state, outputs = mg.scan(outer, a, [0.1, a])
    return state + mg.total(outputs)


def chosen(a):
    """What a loop ends with, or gives, goes on if it is chosen; behind √0 one has an infinite slope."""
    last, seen = mg.scan(lambda s, x: (mg.sqrt(s * x), s * s), a, [a, 0.5])
    none = mg.scan(lambda s, x: (mg.sqrt(s) * x, None), a - a, [a, 2.0])[0]
    return mg.exp(mg.take([last, seen[1], none], mg.floor(a)))


FUNCTIONS = {
    "chosen": (chosen, np.array([0.4, 1.7, 0.9])),
    "filtered": (filtered, np.array([0.4, 1.7])),
    "some steps": (of_some_steps, np.array([3.0, 4.0, 5.5])),
    "around and within": (around_and_within, np.array([0.4, 0.9])),
    "root": (root, STARTS),
    "state": (of_two_numbers, np.array([0.5, 1.7, 2.9, 40.0, 1.5])),
    "power": (power, np.array([0.1, 0.5, 0.9])),
    "fixed": (fixed, np.array([0.1, 0.5, 0.97])),
    "two": (two_loops, np.array([0.3, 2.5, 7.0])),
    "within": (within, np.array([0.1, 1.1, 0.4])),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_is_eager_sample_by_sample(name, target):
    f, xs = FUNCTIONS[name]
    compiled = mg.compile(f, reduce=None, target=target)
    np.testing.assert_allclose(compiled.predict(xs), [f(x) for x in xs.tolist()], rtol=1e-14)
    _, (gradient,) = compiled.kernel(xs).value_and_grad([], xs, by="arguments")
    np.testing.assert_allclose(gradient, [mg.grad(f)(x) for x in xs.tolist()], rtol=1e-9)
    one = mg.compile(f, batch=False, target=target)
    for x in xs[:2].tolist():
        assert mg.jvp(one, x, 1.0)[1] == pytest.approx(mg.grad(f)(x), rel=1e-9)
        assert mg.hessian(one)(x) == pytest.approx(mg.hessian(f)(x), rel=1e-8)


@pytest.mark.parametrize("target", TARGETS)
def test_parameters_of_a_step_get_the_gradient_of_all_samples(target):
    def f(q, p, a):
        return q * mg.iterate(lambda x: (x + p * a / x) / 2.0, q, until=lambda x, y: abs(y - x) < 1e-14, at_most=50)

    p, q = mg.Value(0.8, "p"), mg.Value(1.5, "q")
    kernel = mg.compile(lambda a: f(q, p, a), target=target).kernel(STARTS)
    assert kernel.parameters == [q, p]

    def eager(w):
        return mg.mean([f(*w, a) for a in STARTS.tolist()])

    value, gradient = kernel.value_and_grad([1.5, 0.8], STARTS)
    np.testing.assert_allclose(value, eager([1.5, 0.8]), rtol=1e-14)
    np.testing.assert_allclose(gradient, mg.grad(eager)([1.5, 0.8]), rtol=1e-12)
    np.testing.assert_allclose(kernel.hessian([1.5, 0.8], STARTS), mg.hessian(eager)([1.5, 0.8]), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("target", TARGETS)
def test_an_infinite_derivative_behind_the_end_sends_nothing_back(target):
    """√x at the state 0, where the loop ended, has the derivative ∞."""

    def f(a):
        return mg.iterate(lambda x: mg.sqrt(x) - 1.0, a, until=lambda x: x <= 0.0, at_most=5)

    xs = np.array([4.0, 1.0, 9.0, 25.0])
    _, (gradient,) = mg.compile(f, reduce=None, target=target).kernel(xs).value_and_grad([], xs, by="arguments")
    np.testing.assert_allclose(gradient, [mg.grad(f)(x) for x in xs.tolist()])
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("target", TARGETS)
def test_derivatives_within_a_compiled_function_go_through_the_steps(target):
    slope = mg.compile(lambda a: mg.grad(root)(a) * a, reduce=None, target=target)
    np.testing.assert_allclose(slope.predict(STARTS), np.sqrt(STARTS) / 2.0, rtol=1e-9)


@pytest.mark.parametrize("target", TARGETS)
def test_an_implicit_solution_that_was_not_found_is_nan(target):
    def f(a):
        return mg.iterate(lambda x: x / 2.0 + a, 0.0, until=lambda x, y: abs(x - y) < 1e-9, at_most=5, implicit=True)

    found = mg.compile(f, reduce=None, target=target).predict(np.array([1.0, 1e-9]))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(2e-9)


def test_a_step_is_traced_once_however_many_there_may_be():
    calls = []

    def f(a):
        def step(x):
            calls.append(x)
            return (x + a / x) / 2.0

        return mg.iterate(step, 1.0, until=lambda x, y: abs(y - x) < 1e-14, at_most=10_000)

    kernel = mg.compile(f).kernel(STARTS)
    assert len(calls) <= 2  # a function is traced twice, to see that it does the same again
    assert len(kernel.dump("arrays").splitlines()) < 30


def test_numpy_makes_as_many_steps_as_the_slowest_sample_needs():
    steps = []
    probe = mg.Op("probe", lambda x: steps.append(x) or x, (1.0,))

    def f(a):
        return mg.iterate(lambda x: probe(x) / 2.0, a, until=lambda x: x < 1.0, at_most=1000)

    compiled = mg.compile(f, reduce=None, target="numpy")
    kernel = compiled.kernel(np.array([8.0, 1.5]))
    steps.clear()
    kernel.value([], np.array([8.0, 1.5]))
    assert len(steps) <= 2 * 5


def test_a_function_with_a_loop_is_pickled():
    loss = mg.compile(root).kernel(STARTS)
    assert pickle.loads(pickle.dumps(loss)).value([], STARTS) == loss.value([], STARTS)


def test_what_is_the_same_loop_is_traced_to_the_same_program():
    kernels = [mg.compile(root).kernel(STARTS) for _ in range(2)]
    assert kernels[0].program == kernels[1].program


def test_a_program_with_a_loop_is_not_known_by_its_rows_names():
    stages = mg.compile(root).kernel([2.0]).stages
    assert stages.recorded.rows
    assert not stages.digest
    assert mg.compile(lambda x: x * x + 1.0).kernel([2.0]).stages.digest


def test_conditions_are_joined_by_functions_and_and_or_are_refused_with_the_remedy():
    def f(a, until):
        return mg.iterate(lambda x: x / 2.0, a, until=until, at_most=9)

    both = mg.compile(lambda a: f(a, lambda x: mg.minimum(x < 2.0, x < 1.0)), reduce=None)
    assert both.predict(np.array([8.0])) == 0.5
    with pytest.raises(TraceError, match=r"whether it holds, as and, or, not.*join conditions by mg.minimum"):
        mg.compile(lambda a: f(a, lambda x: x < 2.0 and x < 1.0))(STARTS)


@pytest.mark.parametrize("reduce", ["mean", "sum", None])
def test_what_stands_beside_a_loop_of_any_condition_runs_natively(reduce):
    """Names that the schedule makes are no node's."""
    p = mg.Value(0.3)

    def f(x, y):
        larger, negative = mg.maximum(p, x[0]), -x[0]
        loop = mg.iterate(lambda s: mg.sin(s) * x[0] + 0.7, p, until=lambda s, t: abs(t - s) < 0.0521, at_most=7)
        return larger + negative + loop + p * x[0]

    batch = STARTS[:, None], STARTS[:, None]
    kernels = [mg.compile(f, reduce=reduce, target=target).kernel(*batch) for target in TARGETS]
    for by in ("parameters", "arguments", "both"):
        value, gradients = zip(*[kernel.value_and_grad([0.3], *batch, by=by) for kernel in kernels], strict=True)
        np.testing.assert_allclose(*value, rtol=1e-12)
        parts = [np.concatenate([part.ravel() for part in flat(gradient)]) for gradient in gradients]
        np.testing.assert_allclose(*parts, rtol=1e-12)


def flat(gradient):
    """The arrays of a gradient, one after the other."""
    return [part for x in gradient for part in flat(x)] if isinstance(gradient, tuple | list) else [gradient]


@pytest.mark.parametrize("target", TARGETS)
def test_a_recurrent_cell_over_the_series_of_each_sample_has_the_engines_gradients(target):
    cell, rng = nn.Layer(2 + 3, 3, nonlin="tanh", seed=0), np.random.default_rng(0)
    X, theta = rng.normal(size=(3, 4, 2)), [p.data for p in cell.parameters()]

    def loss(xs, start):
        def step(h, x):
            h = cell([*x, *h])
            return h, h[0] * h[1]

        h, given = mg.scan(step, [start, 0.0, 0.0], xs)
        return h[2] + mg.total(given[1:])

    def eager(theta, X, starts):
        for p, x in zip(cell.parameters(), theta, strict=True):
            p.data = getattr(x, "data", x)
        return mg.mean([loss(x, y) for x, y in zip(X, starts, strict=True)])

    batch = X, X[:, 0, 0]
    kernel = mg.compile(loss, target=target).kernel(*batch)
    value, (by_theta, by_batch) = kernel.value_and_grad(theta, *batch, by="both")
    expected = eager(theta, X.tolist(), X[:, 0, 0].tolist())
    assert value == pytest.approx(expected.data, rel=1e-14)
    slopes = mg.gradient_graph(expected, cell.parameters())
    np.testing.assert_allclose(by_theta, [x.data for x in slopes], rtol=1e-12)
    by_eager = mg.grad(lambda X, starts: eager(theta, X, starts), (0, 1))(*[x.tolist() for x in batch])
    for mine, its in zip(by_batch, by_eager, strict=True):
        np.testing.assert_allclose(mine, np.vectorize(lambda x: x.data)(its), rtol=1e-12)
    again = mg.gradient_graph(mg.total([x * x for x in slopes]), cell.parameters())
    product = kernel.hessian(theta, *batch) @ (2.0 * by_theta)
    np.testing.assert_allclose(product, [x.data for x in again], rtol=1e-10)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("step", [lambda p, s, x: p * p, lambda p, s, x: p * p + 0.0 * x, lambda p, s, x: p * p * s])
def test_a_parameter_in_a_state_that_samples_may_share_has_the_gradient_of_all_of_them(step, target):
    p, xs = mg.Value(0.7), np.array([[0.3, 1.0], [0.5, -2.0], [0.9, 1.5]])

    def f(sample):
        return mg.scan(lambda s, x: (step(p, s, x), None), sample[0], sample[1:])[0]

    kernel = mg.compile(f, target=target).kernel(xs)
    mean = 1.0 if step(1.0, 0.0, 0.0) else xs[:, 0].mean()
    found = (*kernel.value_and_grad([0.7], xs), kernel.hessian([0.7], xs).ravel())
    for mine, expected in zip(found, [0.49 * mean, [1.4 * mean], [2.0 * mean]], strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-14)


def rings(checkpoint, p, xs, start, used=slice(None)):
    """Steps of two inputs each that read parameters; one output is a number of the state, one has a pole at 0."""

    def step(s, x):
        a = mg.tanh(p[0] * s[0] + x[0] * s[1] + p[1])
        return [a, mg.sin(s[1] * x[1]) - p[2] * s[0]], (a, mg.sqrt((s[0] - start) * x[0]))

    state, outputs = mg.scan(step, [start, 0.5], xs, checkpoint=checkpoint)
    return state[0] * state[1] + mg.total([a * b for a, b in outputs[used]])


def of_rings(checkpoint, target, batch, used, tasks):
    """The value and the gradients by each of some arguments, and the Hessian matrix if it is among them."""
    p, rng = [mg.Value(x) for x in (0.7, -0.3, 0.4)], np.random.default_rng(3)
    xs, start = rng.uniform(0.5, 1.0, size=(3, 7, 2)), np.array([-1.5, -2.0, -1.2])
    given = (xs, start) if batch else (xs[0], start[0])
    f = mg.compile(lambda xs, start: rings(checkpoint, p, xs, start, used), target=target, batch=batch)
    kernel = f.kernel(*given)
    found = [kernel.value_and_grad(kernel.theta, *given, by=by) for by in tasks if by != "hessian"]
    found += [kernel.hessian(kernel.theta, *given)] * ("hessian" in tasks)
    assert kernel.target == target
    return np.concatenate([np.ravel(x) for x in flat(tuple(found))])


@pytest.mark.parametrize(
    ("target", "batch", "used", "lengths", "tasks"),
    [
        ("numpy", True, slice(0, 0), [1, 2, 3, 7, 100, "sqrt"], ["parameters", "hessian"]),
        ("numpy", True, slice(1, None), [np.int64(3)], ["parameters", "arguments", "both", "hessian"]),
        ("numpy", False, slice(5, 0, -2), ["sqrt"], ["arguments", "both"]),
        ("native", True, slice(0, 0), [3], ["both", "hessian"]),
        ("native", False, slice(1, 2), ["sqrt"], ["arguments"]),
    ],
)
def test_a_loop_in_stretches_has_the_numbers_of_one_whose_states_are_all_stored(target, batch, used, lengths, tasks):
    expected = of_rings(None, "numpy", batch, used, tasks)
    assert np.isfinite(expected).all()
    for length in lengths:
        np.testing.assert_allclose(of_rings(length, target, batch, used, tasks), expected, rtol=1e-12, atol=1e-13)


def numbers_stored(program):
    """How many numbers a program computes; those of a step count once."""
    return sum(x.size + (numbers_stored(x.body) if isinstance(x, Scan) else 0) for x in program.nodes if is_computed(x))


def test_of_a_loop_in_stretches_the_states_before_each_are_stored_and_those_within_one():
    cell = nn.Layer(1 + 4, 4, nonlin="tanh", seed=0)

    def stored(steps, checkpoint):
        def f(xs):
            return mg.total(mg.scan(lambda h, x: (cell([x, *h]), h[0] * x), [0.0] * 4, xs, checkpoint=checkpoint)[0])

        kernel = mg.compile(f, target="native").kernel(np.ones((2, steps)))
        task = kernel._task("parameters")
        buffers = loop_program(kernel.stages, task).buffers
        local = sum(b.members for b in buffers if b.role == "local" and not b.name.startswith("packed"))
        return np.array([numbers_stored(kernel.stages.array_program(task)), local])

    for length, steps, count in (("sqrt", 100, 20), ("sqrt", 1600, 80), (5, 1600, 325), (400, 1600, 404)):
        states = stored(steps, length)
        assert (states > 4 * count).all()
        assert (states < 80 * count).all()
    assert (stored(1600, None) > 9 * stored(1600, "sqrt")).all()
    assert (stored(6400, "sqrt") < 2.2 * stored(1600, "sqrt")).all()


def test_a_loop_in_a_step_is_traced_once_and_makes_a_program_of_one_size():
    sizes, calls = [], []

    def step(u, v):
        calls.append(u)
        return mg.sin(u) * v, None

    for count in (5, 50):
        f = mg.compile(lambda xs, ys: mg.scan(lambda s, x: (mg.scan(step, s + x, ys)[0], None), 0.0, xs)[0])
        kernel = f.kernel(np.ones((2, count)), np.ones((2, 2 * count)))
        sizes.append(len(kernel.dump("arrays").splitlines()))
    assert sizes[0] == sizes[1] < 60
    assert len(calls) <= 4


def test_a_step_over_ten_thousand_inputs_is_traced_once():
    calls = []

    def f(xs):
        def step(s, x):
            calls.append(x)
            return (mg.sin(s[0]) + x, s[0]), None

        return mg.scan(step, (0.0, 0.0), xs)[0][1]

    kernel = mg.compile(f).kernel(np.ones((2, 10_000)))
    assert len(calls) <= 2  # a function is traced twice, to see that it does the same again
    assert len(kernel.dump("arrays").splitlines()) < 30


def test_each_step_drops_what_it_drops():
    drop, ones = nn.Dropout(0.5, seed=0).train(), np.ones(20)
    found = mg.compile(lambda xs: mg.scan(lambda s, x: (s, drop(x)), 0.0, xs)[1], batch=False)(ones)
    assert [x.data for x in found] == nn.Dropout(0.5, seed=0).train()(ones.tolist())


def test_a_token_of_each_step_chooses_a_row():
    table = [[mg.Value(1.0), mg.Value(2.0)], [mg.Value(3.0), mg.Value(4.0)]]

    def read(tokens):
        return mg.scan(lambda s, k: ([x / 2.0 + y for x, y in zip(s, mg.take(table, k), strict=True)], None),
                       [0.0, 0.0], tokens)[0]  # fmt: skip

    found = mg.compile(read, reduce=None).predict(np.array([[0, 1, 1], [1, 0, 0]]))
    np.testing.assert_allclose(found, [[x.data for x in read(row)] for row in ([0, 1, 1], [1, 0, 0])])


def test_inputs_of_several_structures_are_refused_where_a_loop_is_compiled():
    with pytest.raises(ValueError, match=r"inputs of one structure where it is compiled; got .* and \["):
        mg.compile(lambda a: mg.scan(lambda s, x: (s, None), a, [a, [a]])[0])(STARTS)


@pytest.mark.parametrize("loop", [root, filtered])
def test_a_compiled_function_may_go_back_through_the_graph_of_a_loop(loop):
    def slope(a):
        inner = mg.exp(a)
        result = loop(inner)
        return mg.gradient_graph(mg.sin(result) * a, [inner, result])

    xs = np.array([0.2, 0.7])
    found = [[x.data for x in slope(mg.Value(a))] for a in xs.tolist()]
    np.testing.assert_allclose(mg.compile(slope, reduce=None).predict(xs), found, rtol=1e-9)


STEPS = ["{a}", "mg.sqrt({a})", "{a} * {b}", "{a} + {b}", "{a} / {b}", "mg.log({a})", "mg.tanh({a})", "mg.exp({a})",
         "mg.floor({a})", "mg.stop_gradient({a}) * {b}", "mg.where(mg.less({a}, {b}), {a}, {b})"]  # fmt: skip


@st.composite
def loops_and_what_is_read(draw):
    """A loop over inputs as text; some numbers of the last state and of what some steps give are added up."""
    size, steps = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    names = [*[f"s[{k}]" for k in range(size)], "t", "p"]

    def some():
        return draw(st.sampled_from(STEPS)).format(a=draw(st.sampled_from(names)), b=draw(st.sampled_from(names)))

    first = [draw(st.sampled_from(["p", "1.0", "0.0", "x[0]"])) for _ in range(size)]
    last = draw(st.lists(st.integers(0, size - 1), max_size=2, unique=True))
    given = draw(st.lists(st.integers(0, steps - 1), min_size=not last, max_size=steps, unique=True))
    read = ", ".join([*[f"last[{k}]" for k in last], *[f"given[{k}]" for k in given]])
    step = f"lambda s, t: (({', '.join([some() for _ in range(size)])},), {some()})"
    text = f"last, given = mg.scan({step}, ({', '.join(first)},), x)\n    return mg.total([{read}])"
    numbers = draw(st.lists(any_number | st.sampled_from([0.0, 1.0, 2.0]), min_size=steps, max_size=steps))
    return f"def f(p, x):\n    {text}\n", draw(any_number), numbers


def test_whatever_is_read_of_a_loop_its_gradient_is_the_engines():
    tally = Tally()

    @given(loops_and_what_is_read(), st.sampled_from(["parameters", "arguments", "both"]), st.booleans())
    def check(case, by, batch):
        text, number, numbers = case
        namespace = {"mg": mg}
        exec(text, namespace)
        f, parameter, leaf = namespace["f"], mg.Value(number), [mg.Value(x) for x in numbers]
        try:
            output = f(parameter, leaf)
        except (ZeroDivisionError, OverflowError):  # of plain numbers
            return
        if not isinstance(output, mg.Value):
            return
        graphs = [Graph([output]), Graph([output], compiled=True)]  # equal nodes are one, unless one is in a loop
        x = np.array([numbers] if batch else numbers)
        kernel = mg.compile(lambda x: f(parameter, x), batch=batch, target="numpy").kernel(x)
        value, gradient = kernel.value_and_grad(kernel.read(), x, by=by)
        tally.check(value, [graphs[0].balls[output]], "value")
        slopes = [graph.reverse(output) for graph in graphs]

        def agree(found, leaves, what):
            pairs = zip(found, *[at(mine, leaves) for mine in slopes], strict=True)
            tally.check(found, [one if one.may_be(number) else other for number, one, other in pairs], what)

        by_theta, by_arguments = {"parameters": (gradient, None), "arguments": (None, gradient)}.get(by, gradient)
        if by_theta is not None:
            agree(by_theta, [parameter] * len(kernel.parameters), "by the parameter")
        if by_arguments is not None:
            agree(np.ravel(by_arguments[0]), leaf, "by the inputs")

    check()
    tally.some_is_certain()
