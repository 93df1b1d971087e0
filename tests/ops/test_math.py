"""Every real function of the math module, NumPy's functions and Python's operators, on Values."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exact import DEFINITIONS, derivative
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

import microgrid as mg
from microgrid import Value, ops
from microgrid.drawing.program import Program

# ---------------------------------------------------------------------------------------------------
# The math module

POINTS: dict[str, tuple[Any, ...]] = {
    "acosh": (1.7,),
    "atan2": (0.3, -0.7),
    "copysign": (0.3, -0.7),
    "dist": ([0.3, 1.2, -0.5], [1.1, -0.2, 0.4]),
    "fmod": (7.3, -2.1),
    "hypot": (0.3, -1.2, 0.5, 0.8),
    "log": (0.6, 2.5),
    "pow": (0.6, 2.5),
    "prod": ([0.3, 1.2, -0.5],),
    "remainder": (7.7, 2.1),
}
"""Arguments for the functions that take others than one number between −1 and 1."""

NO_ROW = {
    **dict.fromkeys(("comb", "factorial", "gcd", "isqrt", "lcm", "perm"), "of integers"),
    **dict.fromkeys(("isclose", "isfinite", "isinf", "isnan", "isnormal", "issubnormal", "signbit"), "True or False"),
    **dict.fromkeys(("nextafter", "ulp"), "of how floats are stored, which no derivative knows"),
    **dict.fromkeys(("frexp", "modf"), "two results; trunc(x) and fmod(x, 1) are those of modf"),
    "ldexp": "of an integer: x * 2.0**i",
    "fsum": "total, whose sums are rounded; an exact sum has no form in arrays",
    "sumprod": "dot, whose products are rounded, in Python 3.12",
    "fma": "x*y + z with one rounding, which no other language of ours has, in Python 3.13",
    **dict.fromkeys(("fmax", "fmin"), "maximum and minimum, which do not lose a nan, in Python 3.15"),
}
"""What has no place among derivatives of real numbers, or another name here, and why."""

EXACT: dict[str, Callable[..., Any]] = {
    **DEFINITIONS,
    "dist": lambda *xs: mp.norm([a - b for a, b in zip(xs[: len(xs) // 2], xs[len(xs) // 2 :], strict=True)]),
    "fabs": abs,
    "hypot": lambda *xs: mp.norm(xs),
    "log": lambda x, base: mp.log(x) / mp.log(base),
    "pow": mp.power,
    "prod": lambda *xs: math.prod(xs),
}

FUNCTIONS = [name for name in dir(math) if callable(getattr(math, name)) and name[0] != "_" and name not in NO_ROW]


def at(name: str) -> tuple[list[float], Callable[..., Any]]:
    """Return numbers, and the function of this package of so many, as the math module takes them."""
    arguments = POINTS.get(name, (0.3,))
    shapes = [len(argument) if isinstance(argument, list) else 0 for argument in arguments]

    def function(*xs: Any) -> Any:
        rest = list(xs)
        given = [[rest.pop(0) for _ in range(size)] if size else rest.pop(0) for size in shapes]
        return getattr(mg, name)(*given)

    return [x for argument in arguments for x in (argument if isinstance(argument, list) else [argument])], function


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_real_function_of_math_has_its_name_here_and_the_same_numbers(name: str) -> None:
    xs, function = at(name)
    computed = getattr(mg, name)(*POINTS.get(name, (0.3,)))
    assert type(computed) is float
    assert computed == pytest.approx(getattr(math, name)(*POINTS.get(name, (0.3,))), rel=1e-15)
    assert function(*map(Value, xs)).data == computed
    assert name in mg.__all__


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_real_function_of_math_has_its_first_and_second_derivatives(name: str) -> None:
    xs, function = at(name)
    formula = EXACT.get(name) or getattr(mp, name)
    leaves = [Value(x) for x in xs]
    gradient = mg.gradient_graph(function(*leaves), leaves)
    for i, slope in enumerate(gradient):
        orders = [int(i == j) for j in range(len(xs))]
        assert slope.data == pytest.approx(float(derivative(formula, tuple(xs), tuple(orders))), rel=1e-13, abs=1e-300)
        for k, curvature in enumerate(mg.gradient_graph(slope, leaves)):
            both = tuple(order + (k == j) for j, order in enumerate(orders))
            correct = float(derivative(formula, tuple(xs), both))
            assert curvature.data == pytest.approx(correct, rel=1e-12, abs=1e-300), (i, k)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_real_function_of_math_is_compiled_drawn_checked_and_explored(name: str) -> None:
    xs, function = at(name)
    leaves = [Value(x, label=f"x{i}") for i, x in enumerate(xs)]
    output = function(*leaves)
    output.backward()
    kernel = mg.compile(lambda x: function(*x), reduce=None).kernel([xs, xs])
    values, (gradients,) = kernel.value_and_grad([], [xs, xs], by="arguments")
    assert values == pytest.approx([output.data] * 2, rel=1e-14)
    assert gradients.tolist() == [pytest.approx([leaf.grad for leaf in leaves], rel=1e-13)] * 2
    assert mg.draw(output).dot
    assert [row["problem"] for row in Program(output).json()["rows"] if "problem" in row] == [""] * len(
        {node.op for node in mg.topological_order(output)}
    )
    assert not mg.check(function, tuple(xs)).failures


def test_what_is_left_out_of_math_is_there_and_argued() -> None:
    here = {name for name in NO_ROW if hasattr(mg, name)}
    assert here == set()
    assert all(NO_ROW.values())
    late = {"sumprod", "fma", "fmax", "fmin", "isnormal", "issubnormal", "signbit"}
    assert {name for name in NO_ROW if not hasattr(math, name)} <= late


@pytest.mark.parametrize(
    "xs", [(), (-3.0,), (3.0, -4.0), (1e200, 1e200, 1e200), (5e-324,) * 4, (math.inf, math.nan, 1.0)]
)
def test_hypot_takes_any_number_of_arguments_to_the_last_digit(xs: tuple[float, ...]) -> None:
    assert mg.hypot(*xs) == math.hypot(*xs)


def test_a_coordinate_of_zero_takes_no_part_in_a_distance() -> None:
    assert mg.grad(lambda p: mg.dist(p, [0.0, 0.0, 0.0]))([0.0, 0.0, 5.0]) == [0.0, 0.0, 1.0]
    assert mg.hessian(lambda p: mg.hypot(*p))([0.0, 0.0, 5.0])[0][0] == 0.2


def test_hypot_of_very_many_arguments_is_compiled() -> None:
    X = np.arange(1.0, 601.0).reshape(2, 300)
    loss = mg.compile(lambda x: mg.hypot(*x), reduce=None)
    assert [y.data for y in loss(X)] == pytest.approx([math.hypot(*row) for row in X.tolist()], rel=1e-14)


def test_a_logarithm_takes_one_base() -> None:
    assert mg.log(8.0, 2) == math.log(8.0, 2) == 3.0
    with pytest.raises(TypeError, match=r"log takes x, or x and a base; got 3 arguments: \(1.0, 2.0, 3.0\)"):
        mg.log(1.0, 2.0, 3.0)


def test_points_of_two_dimensions_have_no_distance() -> None:
    with pytest.raises(ValueError, match=r"dist\(\) takes two points of one dimension; got 2 and 3 numbers"):
        mg.dist([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="got 2 and 1 numbers"):
        mg.dist([1.0, 2.0], [1.0])


def test_pow_keeps_a_constant_out_of_the_graph_as_the_operator_does() -> None:
    x = Value(-2.0)
    assert mg.pow(x, 3).op is ops.power_of(3.0)
    assert mg.pow(3, x).op is ops.base_of(3.0)
    assert mg.pow(x, x).op is ops.power
    assert mg.pow(0.0, -1) == math.inf
    assert [mg.prod([]), mg.prod([2, 3.0]), mg.prod([2.0], start=4)] == [1.0, 6.0, 8.0]


# ---------------------------------------------------------------------------------------------------
# Python's operators and built-in functions

OPERATORS: dict[str, tuple[Callable[[Any, Any], Any], ops.Op]] = {
    "%": (operator.mod, ops.mod),
    "//": (operator.floordiv, ops.floor_divide),
    "fmod": (mg.fmod, ops.fmod),
    "remainder": (mg.remainder, ops.remainder),
}


class Plain(ops.Operators):
    """A user-defined number type."""

    def __init__(self, data: float) -> None:
        self.data = data

    @classmethod
    def __apply__(cls, op: ops.Op, arguments: tuple[Any, ...]) -> "Plain":
        return cls(op.forward(*[ops.as_float(getattr(x, "data", x)) for x in arguments]))


@pytest.mark.parametrize("name", OPERATORS)
@given(a=st.floats(-100.0, 100.0), b=st.floats(-100.0, 100.0).filter(lambda b: abs(b) > 0.1))
def test_division_with_a_remainder_is_pythons_with_the_quotient_as_its_derivative(
    name: str, a: float, b: float
) -> None:
    function, op = OPERATORS[name]
    x, y = Value(a), Value(b)
    expected = getattr(math, name, function)(a, b)
    for result in (function(x, y), function(a, y), function(x, b), function(Plain(a), b), function(a, Plain(b))):
        assert repr(result.data) == repr(expected)
        assert not isinstance(result, Value) or result.op is op
    function(x, y).backward()
    if name == "//":
        assert (x.grad, y.grad) == (0.0, 0.0)
    else:
        assert x.grad == 1.0
        assert y.grad == -round((mpf(a) - mpf(expected)) / mpf(b))
        assert mg.hessian(lambda v: function(*v))([a, b]) == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(("a", "b"), [(7.5, 2.0), (-7.5, 2.0), (7.5, -2.0)])
def test_divmod_is_the_quotient_and_the_remainder(a: float, b: float) -> None:
    for kind in (Value, Plain):
        for pair in (divmod(kind(a), b), divmod(a, kind(b)), divmod(kind(a), kind(b))):
            assert (pair[0].data, pair[1].data) == divmod(a, b)


def test_division_by_zero_is_that_of_ieee_754() -> None:
    assert math.isnan((Value(1.0) % 0.0).data)
    assert (Value(-1.0) // 0.0).data == -math.inf
    assert math.isnan((0.0 // Value(0.0)).data)


ROUNDINGS = {
    "round(v)": (round, ops.rounded),
    "round(v, 1)": (lambda v: round(v, 1), ops.round_of(1)),
    "round(v, -1)": (lambda v: round(v, -1), ops.round_of(-1)),
    "math.floor": (math.floor, ops.floor),
    "math.ceil": (math.ceil, ops.ceil),
    "math.trunc": (math.trunc, ops.trunc),
}


@pytest.mark.parametrize("name", ROUNDINGS)
@given(x=st.floats(-1e6, 1e6) | st.integers(-9, 9).map(lambda n: n / 2))
def test_rounding_stays_in_the_graph_and_sends_no_gradient_back(name: str, x: float) -> None:
    function, op = ROUNDINGS[name]
    v = Value(x)
    rounded = function(v)
    assert rounded.op is op
    assert rounded.data == function(x) == function(Plain(x)).data
    (mg.sqrt(rounded * 0.0) + 2.0 * v).backward()
    assert v.grad == 2.0, "an infinite derivative after it has no path through it"


@pytest.mark.parametrize("name", [*OPERATORS, *ROUNDINGS, "divmod"])
def test_division_and_rounding_are_compiled(name: str) -> None:
    function = (
        (lambda a, b: sum(divmod(a, b)))
        if name == "divmod"
        else OPERATORS[name][0]
        if name in OPERATORS
        else lambda a, b: ROUNDINGS[name][0](a) * b
    )
    a, b = np.array([7.25, -7.25, 2.5, 15.0]), np.array([2.0, 2.0, -0.75, 4.0])
    values = mg.compile(function, reduce=None)(a, b)
    assert [y.data for y in values] == [float(function(x, y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]


def test_an_int_of_a_value_would_cut_the_graph() -> None:
    with pytest.raises(TypeError, match=r"write int\(v.data\) for the plain number, or mg.trunc\(v\)"):
        int(Value(2.5))


# ---------------------------------------------------------------------------------------------------
# Methods and NumPy

NO_METHOD = {"identity": "v itself"}


@pytest.mark.parametrize("op", [op for op in ops.TABLE.values() if op.arity == 1], ids=lambda op: op.name)
def test_every_operation_of_one_number_is_a_method(op: ops.Op) -> None:
    assert op.name in NO_METHOD or getattr(Value(0.5), op.name)().op is op


@pytest.mark.parametrize("name", ["leaky_relu", "elu", "degrees", "radians"])
def test_functions_with_an_option_are_methods(name: str) -> None:
    assert getattr(Value(-0.5), name)().data == getattr(mg, name)(-0.5)


NO_LOOP = ("copysign", "divmod", "float_power", "frexp", "heaviside", "isfinite", "isinf", "isnan", "isnat", "ldexp",
           "logaddexp", "logaddexp2", "modf", "nextafter", "signbit", "spacing")  # fmt: skip
"""For these NumPy has no loop over objects, whatever their methods are."""

NOT_REAL = ("bitwise", "shift", "invert", "gcd", "lcm", "logical", "matmul", "matvec", "vecmat", "vecdot")
"""Of integers, of truth, and of matrices."""

BY_COMPARISON = ("maximum", "minimum", "fmax", "fmin", "sign", "equal", "not_equal", "less", "less_equal", "greater",
                 "greater_equal")  # fmt: skip
"""These NumPy computes itself, by comparing: maximum gives one of the two, the others plain numbers."""

UFUNCS = {name: f for name, f in vars(np).items() if isinstance(f, np.ufunc)}
OURS = [
    name for name in UFUNCS if name not in (*NO_LOOP, *BY_COMPARISON) and not any(word in name for word in NOT_REAL)
]


@pytest.mark.parametrize("name", OURS)
def test_every_function_of_numpy_works_on_values_and_on_arrays_of_them(name: str) -> None:
    ufunc = UFUNCS[name]
    xs = np.array([1.3, 1.7]) if "cosh" in name else np.array([0.3, 0.7])
    arguments = (xs, *[np.array([1.9, 0.4])] * (ufunc.nin - 1))
    expected = ufunc(*arguments)
    values = [np.array([Value(x) for x in argument]) for argument in arguments]
    results = ufunc(*values)
    assert [y.data for y in results] == pytest.approx(expected.tolist(), rel=1e-15)
    assert ufunc(*[array[0] for array in values]).data == results[0].data
    moved = lambda *xs: ufunc(*xs) + mg.total(xs)  # noqa: E731 - of a step alone there is nothing to check
    assert mg.check(moved, tuple(float(argument[0]) for argument in arguments), allow=["KINK"])


def test_every_function_of_numpy_is_accounted_for() -> None:
    known = (*OURS, *BY_COMPARISON, *NO_LOOP)
    assert [name for name in UFUNCS if name not in known and not any(word in name for word in NOT_REAL)] == []
    assert all(not any("O" in kind for kind in UFUNCS[name].types) for name in NO_LOOP)


STATISTICS = {
    "mean": np.mean, "var": np.var, "std": np.std, "sum": np.sum, "prod": np.prod, "cumsum": np.cumsum,
    "clip": lambda x: np.clip(x, 0.4, 1.0), "round": np.round, "round to 1": lambda x: np.round(x, 1),
    "norm": lambda x: np.sqrt(x @ x), "diff": np.diff, "max": np.max, "dot": lambda x: np.dot(x, x),
}  # fmt: skip


@pytest.mark.parametrize("name", STATISTICS)
def test_numpys_functions_of_arrays_work_on_values(name: str) -> None:
    function = STATISTICS[name]
    xs = [0.31, 0.74, 1.28]
    result = function(np.array([Value(x) for x in xs]))
    numbers = [ops.as_float(getattr(y, "data", y)) for y in np.ravel(np.array(result, object))]
    assert numbers == pytest.approx(np.ravel(function(np.array(xs))).tolist(), rel=1e-14)


def test_a_product_takes_its_start_by_name() -> None:
    assert mg.prod([3.0, Value(4.0)], start=2.0).data == 24.0
    with pytest.raises(TypeError):
        mg.prod([3.0, 4.0], 2.0)  # type: ignore[misc]


def test_the_length_of_a_vector_has_its_direction_as_gradient_on_arrays_too() -> None:
    points = np.array([[2.0, 3.0, 6.0], [0.0, 5.0, 0.0], [1e200, -1e200, 0.0]])
    kernel = mg.compile(lambda p: mg.hypot(*p), reduce=None).kernel(points)
    value, (gradient,) = kernel.value_and_grad([], points, by="arguments")
    lengths = np.array([math.hypot(*point) for point in points])
    assert value == pytest.approx(lengths, rel=1e-15)
    assert gradient == pytest.approx(points / lengths[:, None], rel=1e-15)
