"""Derivatives as functions: against closed forms, against each other, and nested."""

import itertools
import math
import operator
import sys
import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

import microgrid as mg
from microgrid import Value
from microgrid.recording import watch
from microgrid.strategies import SMOOTH, expressions

numbers = st.floats(-3, 3)


class Point(NamedTuple):
    x: float
    y: float


def polynomial(v):
    return v[0] ** 2 * v[1] + mg.sin(v[1] * v[0]) + 3 * v[2]


def polynomial_gradient(a, b, c):
    return [2 * a * b + b * math.cos(a * b), a * a + a * math.cos(a * b), 3.0]


@given(st.lists(numbers, min_size=3, max_size=3))
def test_grad_of_a_list_is_a_list(point):
    assert mg.grad(polynomial)(point) == pytest.approx(polynomial_gradient(*point))


@given(st.lists(numbers, min_size=3, max_size=3), st.lists(numbers, min_size=3, max_size=3))
def test_hessian_jacobian_hvp_and_jvp_agree(point, direction):
    hessian = np.array(mg.hessian(polynomial)(point))
    assert hessian == pytest.approx(hessian.T)
    assert np.array(mg.jacobian(mg.grad(polynomial))(point)) == pytest.approx(hessian)
    assert mg.hvp(polynomial, point, direction) == pytest.approx(hessian @ direction)
    value, slope = mg.jvp(polynomial, point, direction)
    assert value == polynomial(point)
    assert slope == pytest.approx(np.dot(mg.grad(polynomial)(point), direction))


@pytest.mark.parametrize("order", range(1, 6))
def test_grad_nests_to_any_order(order):
    f = mg.exp
    g = lambda x: mg.exp(2 * x)  # noqa: E731 - it is rebound in the loop
    for _ in range(order):
        f, g = mg.grad(f), mg.grad(g)
    assert f(0.5) == pytest.approx(math.exp(0.5))
    assert g(0.5) == pytest.approx(2**order * math.e)


def test_an_inner_derivative_sees_only_its_own_argument():
    assert mg.grad(lambda x: x * mg.grad(lambda y: x + y)(x))(5.0) == 1.0
    assert mg.grad(lambda x: x * mg.grad(lambda y: x * y)(2.0))(5.0) == 10.0


def test_an_outer_derivative_sees_through_an_inner_one():
    assert mg.grad(lambda w: mg.grad(lambda x: w * x * x)(2.0))(3.0) == 4.0
    assert mg.grad(lambda w: mg.jvp(lambda x: w * x * x, 2.0, 1.0)[1])(3.0) == 4.0
    assert mg.grad(lambda w: mg.jvp(lambda x: x * x, 2.0, w)[1])(3.0) == 4.0
    assert mg.grad(lambda w: mg.hvp(lambda x: w * x**3, 2.0, 1.0))(3.0) == 12.0


def test_a_value_from_outside_keeps_its_graph():
    w = Value(3.0)
    gradient = mg.grad(lambda x: w * x * x)(2.0)
    assert isinstance(gradient, Value)
    gradient.backward()
    assert w.grad == 4.0


def test_a_value_as_argument_gives_values():
    x = Value(3.0)
    value, gradient = mg.value_and_grad(lambda v: v**3)(x)
    assert (value.data, gradient.data) == (27.0, 27.0)
    gradient.backward()
    assert x.grad == 18.0


def test_no_users_gradient_is_touched():
    x = Value(3.0)
    x.grad = 5.0
    mg.grad(lambda v: v * x)(2.0)
    mg.gradient_graph(x * x, [x])
    assert x.grad == 5.0


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (2.0, 4.0),
        ([2.0, [1.0]], [4.0, [2.0]]),
        ((2.0,), (4.0,)),
        ({"b": 2.0, "a": [1.0, 0.0]}, {"b": 4.0, "a": [2.0, 0.0]}),
        (Point(1.0, 2.0), Point(2.0, 4.0)),
        (3, 6.0),
    ],
)
def test_the_gradient_has_the_structure_of_the_argument(argument, expected):
    def sum_of_squares(structure):
        leaves, _ = mg.calculus.flatten(structure)
        return mg.total(x * x for x in leaves)

    gradient = mg.grad(sum_of_squares)(argument)
    assert gradient == expected
    assert type(gradient) is type(expected)


def test_numpy_arrays_come_back_as_arrays():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    gradient = mg.grad(lambda m: (m * m).sum())(a)
    assert gradient.dtype == float
    assert gradient.tolist() == (2 * a).tolist()
    hessian = mg.hessian(lambda m: (m**3).sum())(a)
    assert hessian.shape == (2, 2, 2, 2)
    assert np.einsum("ijij->ij", hessian).tolist() == (6 * a).tolist()
    v = np.array([1.0, 2.0])
    assert mg.jacobian(lambda u: np.exp(u) * u[0])(v).shape == (2, 2)
    assert mg.jacobian(np.square)(v[1:]).tolist() == [[4.0]]
    assert mg.grad(lambda nothing: 1.0)(np.empty((0, 2))).shape == (0, 2)
    w = Value(1.0)
    assert mg.grad(lambda u: (u * w).sum())(v).dtype == object


def test_argnums_choose_the_arguments():
    def f(x, y, *, scale=1.0):
        return scale * x * y * y

    assert mg.grad(f)(2.0, 3.0) == 9.0
    assert mg.grad(f, argnums=1)(2.0, 3.0) == 12.0
    assert mg.grad(f, argnums=-1)(2.0, 3.0) == 12.0
    assert mg.grad(f, argnums=-2)(2.0, 3.0) == 9.0
    assert mg.grad(f, argnums=(1, 0))(2.0, 3.0, scale=2.0) == (24.0, 18.0)
    assert mg.value_and_grad(f, argnums=(0,))(2.0, 3.0) == (18.0, (9.0,))
    assert mg.hvp(f, (2.0, 3.0), (1.0, 0.0)) == (0.0, 6.0)
    assert mg.hessian(f, argnums=1)(2.0, 3.0) == 4.0


def test_what_does_not_depend_on_the_argument_has_gradient_zero():
    assert mg.grad(lambda x: 3.0)(1.0) == 0.0
    assert mg.value_and_grad(lambda x: Value(3.0) * 1.0)(1.0)[1].data == 0.0
    assert mg.jacobian(lambda v: [v[0], 7.0])([1.0, 2.0]) == [[1.0, 0.0], [0.0, 0.0]]
    assert mg.jvp(lambda x: [3.0, x], 1.0, 2.0) == ([3.0, 1.0], [0.0, 2.0])
    x, y = Value(1.0), Value(2.0)
    assert [g.data for g in mg.gradient_graph(x * 2, [y, x])] == [0.0, 2.0]


def test_gradient_graph_takes_interior_nodes_as_inputs():
    x = Value(3.0)
    h = x * x
    y = h * h + x
    by_h, by_x, by_y = mg.gradient_graph(y, [h, x, y])
    assert (by_h.data, by_x.data, by_y.data) == (18.0, 109.0, 1.0)


def test_derivatives_are_right_inside_no_grad():
    with mg.no_grad():
        assert mg.grad(lambda x: x**3)(2.0) == 12.0
        assert mg.jvp(lambda x: x**3, 2.0, 1.0) == (8.0, 12.0)
        x = Value(2.0)
    with mg.no_grad():
        assert mg.grad(mg.grad(lambda v: v**3))(x).data == 12.0


def test_a_function_of_python_loops_and_branches():
    def power(x, n=5):
        result = 1.0
        for _ in range(n):
            result = result * x if x > 0 else result * -x
        return result

    assert mg.grad(power)(2.0) == 80.0
    assert mg.grad(power)(-2.0) == -80.0


@pytest.mark.no_cover  # long, and what it runs is covered by others
def test_a_chain_of_a_hundred_thousand_nodes_has_second_derivatives():
    def chain(x):
        for _ in range(100_000):
            x = x * 1.00001 + 0.000001 * x * x
        return x

    first = mg.grad(chain)
    h = 1e-5
    assert mg.grad(first)(0.5) == pytest.approx((first(0.5 + h) - first(0.5 - h)) / (2 * h), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mg.grad(lambda x: [x, x])(1.0), TypeError, "must return one number.*jacobian"),
        (lambda: mg.grad(lambda x: None)(1.0), TypeError, "expected one real number, got None"),
        (lambda: mg.grad(lambda x: [x] * 100)(1.0), TypeError, r"\.\.\.: return a single Value"),
        (lambda: mg.grad(mg.exp, argnums=1)(1.0), ValueError, "argnums=1 asks for argument 1"),
        (lambda: mg.grad(mg.exp, argnums=(0, 2))(1.0), ValueError, r"argnums=\(0, 2\) asks for argument 2"),
        (lambda: mg.grad(mg.exp, argnums=-2)(1.0), ValueError, "argnums=-2 asks for argument -2"),
        (lambda: mg.grad(lambda x: x)("1"), TypeError, "expected one real number"),
        (lambda: mg.grad(mg.exp, argnums="x"), TypeError, "argnums must be the position.*got 'x'"),
        (lambda: mg.grad(mg.hypot, argnums=(0, 1.0)), TypeError, r"argnums must be the position.*got \(0, 1\.0\)"),
        (lambda: mg.jacobian(mg.exp, argnums=True), TypeError, "argnums must be the position.*got True"),
        (lambda: mg.gradient_graph(Value(1.0), Value(2.0)), TypeError, "takes the inputs as a list of Values"),
        (lambda: mg.gradient_graph(Value(1.0), [2.0]), TypeError, r"takes the inputs as a list of Values; got \[2\.0"),
        (lambda: mg.jvp(mg.exp, 1.0, (1.0, 2.0)), ValueError, r"1 number\(s\) and tangents 2"),
        (lambda: mg.jvp(mg.hypot, (1.0, 2.0), (1.0,)), ValueError, r"2 number\(s\) and tangents 1"),
    ],
)
def test_wrong_calls_name_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


# random programs


@given(expressions(SMOOTH, max_steps=6, largest=10.0))
def test_every_way_to_a_derivative_of_a_program_agrees(program):
    output, leaves = program.graph()
    output.backward()
    gradient = [leaf.grad for leaf in leaves]
    at, direction = program.at, tuple((-0.5) ** i for i in range(len(leaves)))
    assert [g.data for g in mg.gradient_graph(output, leaves)] == approx(gradient)
    assert mg.jvp(program, at, direction)[1] == approx(math.fsum(map(operator.mul, gradient, direction)))

    def along(*xs):  # the derivative along the direction; its gradient is the Hessian times the direction
        return mg.dot(mg.grad(program, tuple(range(len(xs))))(*xs), direction)

    product = mg.hvp(program, at, direction)
    assert list(product) == approx(list(mg.grad(along, tuple(range(len(at))))(*at)))


def approx(numbers):
    return pytest.approx(numbers, rel=1e-9, abs=1e-9)


def test_nothing_flows_through_a_derivative_of_zero_not_even_an_infinite_gradient():
    assert mg.grad(lambda x: 1 / mg.floor(x))(0.5) == 0.0
    x = Value(0.5)
    assert mg.gradient_graph(1 / mg.floor(x), [x])[0].data == 0.0


@pytest.mark.parametrize("constant", [mg.stop_gradient, mg.floor, lambda v: mg.where(mg.less(v, 1.0), 0.0, 1.0)])
def test_nothing_is_pushed_through_a_constant_either(constant):
    """The square root of 0 has an infinite slope; a constant moves it not at all."""
    f = lambda v: mg.sqrt(constant(v)) + v * v  # noqa: E731
    for v in (0.0, Value(0.0)):
        slope = mg.jvp(f, v, 1.0)[1]
        assert getattr(slope, "data", slope) == 0.0
    assert mg.jvp(lambda v: mg.sqrt(mg.floor(v)), 0.5, 1.0) == (0.0, 0.0)
    assert mg.hvp(f, 0.0, 1.0) == 2.0


def test_a_derivative_that_happens_to_be_zero_is_a_number_like_any_other_in_every_direction():
    f = lambda v: mg.where(mg.greater(v, 0.0), mg.sqrt(v), 0.0)  # noqa: E731
    safe = lambda v: mg.where(mg.greater(v, 0.0), mg.sqrt(mg.where(mg.greater(v, 0.0), v, 1.0)), 0.0)  # noqa: E731
    for g, expected in ((f, math.nan), (safe, 0.0)):
        x = Value(0.0)
        y = g(x)
        y.backward()
        slopes = [x.grad, mg.gradient_graph(y, [x])[0].data, mg.grad(g)(0.0), mg.jvp(g, 0.0, 1.0)[1]]
        slopes.append(mg.jvp(g, Value(0.0), 1.0)[1].data)
        assert slopes == pytest.approx([expected] * 5, nan_ok=True)


AT_A_VALUE = [
    lambda f, x: mg.grad(f)(x),
    lambda f, x: mg.jvp(f, x, 1.0)[1],
    lambda f, x: mg.jacobian(lambda v: [f(v)])(x)[0],
    lambda f, x: mg.hessian(f)(x),
]


@pytest.mark.parametrize(
    ("within", "derivative"),
    [
        *[(mg.grad, derivative) for derivative in AT_A_VALUE],
        *[(lambda f: lambda w: f(Value(w)), derivative) for derivative in AT_A_VALUE],
        (mg.grad, lambda f, x: mg.grad(lambda t: t * x)(1.0)),
    ],
)
def test_a_derivative_does_not_visit_what_was_computed_before_it(derivative, within):
    def lines(steps):
        """How many lines of the calculus and of its walks over graphs run."""
        count = 0

        def follow(frame, event, argument):
            nonlocal count
            count += event == "line" and frame.f_code.co_filename.endswith(("calculus.py", "engine.py"))
            return follow

        def f(w):
            x = 0.5 * w
            for _ in range(steps):
                x = x - 0.01 * derivative(lambda v: mg.sin(v * w), x)
            return x

        within(f)(1.3)  # unseen, so that nothing of what is counted is done the first time
        before = sys.gettrace()
        sys.settrace(follow)
        try:
            within(f)(1.3)
        finally:
            sys.settrace(before)
        return count

    once, twice, fourfold = lines(10), lines(20), lines(40)
    assert fourfold - twice == pytest.approx(2 * (twice - once), rel=0.01)


def test_derivatives_of_plain_numbers_are_plain_numbers_also_where_one_uses_another():
    def f(w):
        beside, within = mg.grad(lambda x: x * x)(3.0), mg.grad(lambda x: x * x * w)(2.0)
        assert type(beside) is float
        assert type(within) is Value
        return beside * within

    for derivative in (mg.grad(f), mg.jacobian(f), lambda w: mg.jvp(f, w, 1.0)[1]):
        assert repr(derivative(5.0)) == "24.0"


def test_an_argument_without_derivative_does_not_hide_the_next_one():
    x = Value(3.0)
    y = mg.where(mg.greater(x, 0.0), x * x, -x)
    assert mg.gradient_graph(y, [x])[0].data == 6.0


def test_a_local_derivative_of_one_or_minus_one_makes_no_product_in_the_gradient_graph():
    a, b, c = Value(2.0), Value(3.0), Value(4.0)
    by_a, by_b = mg.gradient_graph((a - b) * c, [a, b])
    assert by_a is c
    assert (by_b.op, by_b.parents) == (mg.ops.neg, (c,))


@pytest.mark.parametrize("slope", [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
def test_a_constant_local_derivative_multiplies_the_gradient(slope):
    op = mg.Op("scaled", forward=lambda x: slope * x, partials=(slope,))
    a, b = Value(2.0), Value(3.0)
    assert mg.gradient_graph(op(a) * b, [a])[0].data == 3.0 * slope


def test_derivatives_that_nobody_asks_for_are_not_computed():
    def never(y, a, b):
        raise AssertionError

    op = mg.Op("first", forward=lambda a, b: a * b, partials=(lambda y, a, b: b, never))
    a, b = Value(2.0), Value(3.0)
    assert mg.gradient_graph(op(a, b * b), [a])[0].data == 9.0


def test_a_node_to_which_no_gradient_flows_is_passed_over():
    x = Value(3.0)
    assert mg.gradient_graph(mg.stop_gradient(-(x * x)) * x, [x])[0].data == -9.0


def test_the_first_argument_is_differentiated_by_default():
    def f(x, y):
        return x * x * y**3

    assert mg.grad(f)(2.0, 5.0) == 2 * 2 * 125
    assert mg.value_and_grad(f)(2.0, 5.0) == (4 * 125, 2 * 2 * 125)
    assert mg.jacobian(f)(2.0, 5.0) == 2 * 2 * 125
    assert mg.hessian(f)(2.0, 5.0) == 2 * 125


@pytest.mark.parametrize("result", [lambda x: [x], lambda x: [x, x], lambda x: []])
def test_a_list_has_no_gradient_even_if_it_holds_one_number(result):
    with pytest.raises(TypeError, match=r"must return one number to have a gradient; it returned \["):
        mg.grad(result)(2.0)


def test_hvp_of_a_function_alone_is_what_scipy_minimises_with():
    def rosenbrock(x, scale=100.0):
        return mg.total(scale * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in itertools.pairwise(x))

    start = np.array([-1.2, 1.0, 0.7])
    direction = np.array([0.3, -0.4, 0.5])
    product = mg.hvp(rosenbrock)(start, direction)
    assert isinstance(product, np.ndarray)
    assert product.dtype == np.float64
    assert product == pytest.approx(mg.hessian(rosenbrock)(start) @ direction)
    assert mg.hvp(rosenbrock)(start, direction, 2.0) == pytest.approx(
        mg.hessian(lambda x: rosenbrock(x, 2.0))(start) @ direction
    )
    for args in ((), (10.0,)):
        found = optimize.minimize(
            rosenbrock,
            start,
            args=args,
            method="Newton-CG",
            jac=mg.grad(rosenbrock),
            hessp=mg.hvp(rosenbrock),
            options={"xtol": 1e-10},
        )
        assert found.x == pytest.approx([1.0, 1.0, 1.0], rel=1e-8)


def test_hvp_of_several_arguments_may_be_asked_for_later():
    assert mg.hvp(lambda x, y: x * x * y)((2.0, 3.0), (1.0, 0.0)) == (6.0, 4.0)


def test_a_point_without_a_direction_is_refused():
    with pytest.raises(TypeError, match=r"hvp\(f, x, p\) or hvp\(f\)\(x, p\)"):
        mg.hvp(mg.sin, 1.0)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_at_its_kink_elu_has_the_derivatives_of_its_left_side_in_every_order(zero):
    slope = mg.grad(lambda x: mg.elu(x, 2.0))
    assert [slope(zero), mg.grad(slope)(zero), mg.grad(mg.grad(slope))(zero)] == [2.0] * 3


@pytest.mark.parametrize(
    ("derivative", "expected"),
    [
        (lambda f: mg.grad(f)(0.5), 3.0 * math.cos(1.5)),
        (lambda f: mg.value_and_grad(f)(0.5)[1], 3.0 * math.cos(1.5)),
        (lambda f: mg.jacobian(f)(0.5), 3.0 * math.cos(1.5)),
        (lambda f: mg.jvp(f, 0.5, 1.0)[1], 3.0 * math.cos(1.5)),
        (lambda f: mg.hvp(f, 0.5, 1.0), -9.0 * math.sin(1.5)),
        (lambda f: mg.grad(mg.grad(f))(0.5), -9.0 * math.sin(1.5)),
    ],
)
def test_the_history_of_a_value_from_outside_is_not_walked(derivative, expected):
    x = w = Value(3.0)
    for _ in range(20_000):
        w = w * 1.0
    tracemalloc.start()
    try:
        found = derivative(lambda v: mg.sin(v * w))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000  # to visit the history takes millions
    assert found.data == pytest.approx(expected, rel=1e-14)
    found.backward()
    assert x.grad != 0.0


def test_many_results_of_one_compiled_call_are_differentiated_in_time_that_grows_with_their_number():
    pytest.importorskip("numpy")
    ws = [Value(0.1 * i) for i in range(300)]
    loss = mg.compile(lambda x: mg.total([w * x for w in ws]), reduce=None)
    samples = [0.01 * i for i in range(400)]
    gradient = mg.grad(lambda v: mg.total(loss(samples)) * v)(2.0)
    assert gradient.data == pytest.approx(sum(samples) * sum(w.data for w in ws))
    gradient.backward()
    assert ws[5].grad == pytest.approx(sum(samples))


def test_what_a_function_computes_and_leaves_out_is_no_reason_to_keep_a_graph():
    w = Value(3.0)
    noted = []

    def f(x):
        noted.append(w * x)
        return x * x

    assert type(mg.grad(f)(2.0)) is float
    assert type(mg.grad(lambda x: x * w)(2.0)) is Value
    assert type(mg.grad(lambda x: w)(2.0)) is Value
    assert type(mg.grad(lambda x: 5.0)(2.0)) is float


def test_a_jacobian_of_many_outputs_goes_forward_once_for_each_of_few_inputs():
    def f(x):
        y = x[0]
        for _ in range(30):
            y = mg.sin(y) + x[1]
        return [y * k + mg.stop_gradient(x[0]) for k in range(40)]

    nodes, point = [], [Value(0.5), Value(0.25)]
    with watch(nodes.append):
        found = mg.jacobian(f)(point)
    assert len(nodes) < 1_000  # in reverse it is 40 times the graph
    expected = [mg.gradient_graph(y, point) for y in f(point)]
    assert [[x.data for x in row] for row in found] == [
        pytest.approx([x.data for x in row], rel=1e-14) for row in expected
    ]
    assert mg.grad(lambda x: mg.jacobian(f)([x, 0.25])[3][0])(0.5) == pytest.approx(
        mg.grad(lambda x: mg.grad(lambda x: f([x, 0.25])[3])(x))(0.5), rel=1e-13
    )
