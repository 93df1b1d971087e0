"""check: what it says of right derivatives, of wrong ones, and of those that nobody can decide."""

import html
import inspect
import io
import itertools
import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microgrid as mg
from microgrid import Op, Value, losses, nn, ops
from microgrid.checking import CheckError, Verdict, check
from microgrid.checking.analytic import complex_forward
from microgrid.checking.gradient import EVALUATIONS
from microgrid.checking.judging import Primitive
from microgrid.checking.noise import Noisy
from microgrid.checking.report import Derivative, Fault, Report

PASS, FAIL, KINK, DOMAIN, UNRESOLVED = Verdict


def line_of(function, marker):
    """The number of the source line that carries a comment."""
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if f"# {marker}" in line)


# Right derivatives pass, at points where a guessed tolerance would fail them


@pytest.mark.parametrize("method", ["auto", "difference"])
@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: mg.sin(1e6 * x), 1.0),
        (lambda x: mg.sin(2 * math.pi * 1000 * x), 0.0),
        (lambda x: x**9, 1e-3),
        (lambda x: x**9, 1e-30),
        (lambda x: x**2 + 1, 1e-30),
        (lambda x: (x + 1e16) - 1e16, 1.0),
        (lambda x: x + 1e16, 1.0),
        (lambda x: mg.total([x, 1e16, -1e16]), 1.0),
        (lambda x: 1 / (x - 1), 1 + 1e-8),
        (lambda x: mg.tan(x), math.pi / 2 - 1e-7),
        (lambda x: mg.log(x), 1e-300),
        (lambda x: mg.exp(x), 700.0),
        (lambda x: mg.tanh(x), 20.0),
        (lambda x: mg.sin(x), 1e10),
        (lambda x: x * x, 1e150),
        (lambda x: mg.exp(x) - mg.expm1(x), 2.0),
        (lambda x: x * mg.exp(-x * x), 26.0),
        (lambda x: mg.where(x > 0, mg.sqrt(x), 0.0 * x), 1e-12),
        (lambda x: mg.maximum(x, x), 2.0),
        (lambda x: mg.where(mg.equal(mg.less(x, 1.0), 1.0), x * x, 3 * x), 0.5),
        (lambda x: x, 3.0),
        (lambda x: x * 1e-220, 1.0),
        (lambda x: mg.sqrt(mg.less(x, -1.0)) + x, 2.0),
    ],
)
def test_a_right_derivative_passes_where_it_is_hard_to_compute(f, x, method):
    report = check(f, x, method=method)
    if method == "difference" and report.derivatives[0].verdict is UNRESOLVED:
        assert "rounding" in report.derivatives[0].reason  # tanh(20) is 1 to all its digits
        assert report.derivatives[0].backward == pytest.approx(check(f, x).derivatives[0].numeric, abs=1e-15)
    else:
        report.raise_()


OPAQUE = Op("mine", lambda x: math.erf(x), (lambda y, x: 2 / math.sqrt(math.pi) * mg.exp(-x * x),))
"""A user's own operation: nobody knows how it continues to complex numbers."""


def test_a_derivative_of_which_rounding_leaves_nothing_is_unresolved_and_says_why():
    cancelling = check(lambda x: x * 1e16 + x - x * 1e16, 1.0)
    assert not cancelling
    assert cancelling["x"].verdict is UNRESOLVED
    assert re.match(r"backward\(\) itself is known to ±\d\d only: ", cancelling["x"].reason)
    assert check(lambda x: x * 1e16 + x - x * 1e16, 1e6)["x"].verdict is UNRESOLVED
    tail = check(lambda x: OPAQUE(x) / 3, 7.0)
    assert tail["x"].verdict is UNRESOLVED
    assert re.match(r"rounding in the function \(±\de−16 of 0\.333333\) leaves", tail["x"].reason)
    tiny = check(mg.sin, 1e6, step=1e-12, method="difference")
    assert tiny["x"].verdict is UNRESOLVED
    assert tiny["x"].reason == "no step gives a finite difference"
    coarse = check(lambda x: mg.total([x, 1e16, -1e16]), 1.0, step=0.1, method="difference")
    assert "rounding in the function" in coarse["x"].reason


@pytest.mark.parametrize("wrong", [-1.0, 0.0, 1.001, 2.0])
def test_nothing_passes_because_its_neighbourhood_is_rough(wrong):
    op = Op("off", lambda x: x, (wrong,))
    for f in (lambda x: op(x) * 1e-3 + 1e6, lambda x: mg.sin(1e6 * op(x)), lambda x: op(x) ** 9):
        assert check(f, 0.7).fault.op == "off"
    assert check(lambda x: op(x) + 1e16, 1.0)["x"].verdict in (FAIL, UNRESOLVED)


def test_a_local_derivative_that_takes_floats_only_is_checked():
    square = Op("square", lambda x: x * x, (lambda y, x: 2.0 * x + 0.0 * x.is_integer(),))
    whole = Op("whole", lambda x: x * x, (lambda y, x: 2.0 * x + 0.0 * round(x),))
    for op in (square, whole):
        check(op, 0.7).raise_()


# Kinks, jumps and the ends of domains


@pytest.mark.parametrize("method", ["auto", "difference"])
@pytest.mark.parametrize(
    ("f", "x", "op"),
    [
        (lambda x: mg.relu(x), 0.0, "relu"),
        (lambda x: mg.relu(1e-10 * x), 0.0, "relu"),
        (lambda x: mg.abs(x - 2), 2.0, "abs"),
        (lambda x: mg.maximum(x, 2 - x), 1.0, "maximum"),
        (lambda x: mg.floor(x) * 1.0, 3.0, "floor"),
        (lambda x: mg.clip(x, 0.0, 1.0), 1.0, "clip"),
        (lambda x: mg.where(mg.less(x, 1.0), x, 2 * x), 1.0, "where"),
        (lambda x: 1 - mg.relu(x), 0.0, "relu"),
    ],
)
def test_a_kink_is_no_failure_and_is_named_with_its_line(f, x, op, method):
    report = check(f, x, method=method)
    row = report["x"]
    assert row.verdict is KINK
    assert not report
    assert report.fault is None
    assert row.method == ("complex" if method == "auto" else "difference")
    assert row.reason.startswith(f"{op}(")
    assert "test_checking.py:" in row.reason
    assert re.search("at this very point; (the function jumps from .*; )?the slope is", row.reason)
    assert check(f, x, method=method, allow=["KINK"])


@pytest.mark.parametrize("method", ["auto", "difference"])
def test_a_kink_nearby_is_stepped_around(method):
    assert check(lambda x: mg.relu(x) * x, 1e-9, method=method)
    if method == "difference":
        row = check(lambda x: mg.relu(x) * x, 1e-9, method=method)["x"]
        assert "has a kink within" in row.reason
        row = check(lambda x: mg.relu(x - 1e3) * x, 1000.2, method=method)["x"]
        assert row.reason.endswith(" has a kink within 0.41; steps of 0.026 stay clear of it")
        assert check(lambda x: mg.relu(x - 1) * x, 1.05, method=method).raise_()["x"].reason == ""
        assert check(lambda x: mg.sqrt(x), 1e-5, method=method).raise_()["x"].reason == ""


def test_with_a_step_of_ones_own_a_kink_within_it_is_reported():
    f = lambda x: mg.relu(x - 1.0)  # noqa: E731 - its line is the message's
    for method in ("auto", "difference"):
        assert check(f, 1.00005, step=1e-4, method=method)["x"].verdict is KINK
        assert check(f, 1.0005, step=1e-4, method=method)


def test_ties_behind_stop_gradient_or_in_a_branch_not_taken_are_no_kinks():
    check(lambda xs: mg.logsumexp(xs), [1.0, 1.0, 0.0]).raise_()
    check(lambda xs: mg.softmax(xs)[0], [1.0, 1.0, 1.0]).raise_()
    check(lambda x: mg.where(mg.Value(0.0), mg.abs(x), 3 * x), 0.0).raise_()


def test_what_a_sum_loses_is_lost_to_the_complex_step_as_well():
    row = check(lambda x: mg.total([x, 1e16, -1e16]) * x, 3.0, method="complex")["x"]
    assert row.verdict is UNRESOLVED
    assert row.allowed > 1.0


def test_stop_gradient_counts_as_a_constant():
    row = check(lambda x: x * mg.stop_gradient(x), 3.0).raise_()["x"]
    assert row.backward == 3.0


def test_slopes_that_conventions_get_wrong_are_said_to_be_so():
    row = check(lambda x: mg.relu(x) - mg.relu(-x), 0.0)["x"]
    assert row.verdict is KINK
    assert "by convention, and they do not add up" in row.reason
    steeper = check(lambda x: mg.relu(x) - 2 * mg.relu(-x), 0.0)["x"]
    assert steeper.verdict is KINK
    assert "not between them" in steeper.reason
    tie = check(lambda x, low: mg.clip(x, low, low), (-5.0, 1.0))["low"]
    assert tie.verdict is KINK
    assert "by convention" in tie.reason


@pytest.mark.parametrize("at", [0.0, 1.0, -1e-3, 2e3])
@pytest.mark.parametrize("curvature", [0.0, 0.3])
@pytest.mark.parametrize(("left", "right"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_a_kink_that_no_operation_tells_of_is_seen(at, curvature, left, right):
    def own(slope):
        return mg.Op(
            "own",
            lambda x: (x - at) * ((right if x > at else left) + curvature * (x - at) / max(1.0, abs(at))),
            (lambda y, x: mg.where(mg.equal(x, at), slope, 0.5),),
        )

    for slope in (left, right, (left + right) / 2):  # the last is what central differences say
        row = check(own(slope), at)["x"]
        assert row.verdict is KINK
        assert "changes its branch at this very point" in row.reason
        assert "no operation in this graph declares a kink here; if one is yours, pass kink= to its Op" in row.reason
    for slope in (min(left, right) - 0.2, max(left, right) + 0.2):  # that of neither side
        assert check(own(slope), at).fault.op == "own"
    row = check(own(math.nan), at)["x"]
    assert row.verdict is KINK
    assert row.reason.endswith("and backward() gives nan: give its derivative there a number, by where()")


@pytest.mark.parametrize(
    ("at", "left", "right", "side"),
    [
        (1e3, 0.9, 1.0, lambda d: d - 3 * d * d),
        (3e5, -1.24, -2.24, lambda d: d + d * d),
        (0.4011, 0.45, -0.55, lambda d: d + 100 * d * d),
        (1.0, 0.7235601616329039, 0.7245601616329039, lambda d: d),  # the steps are rounded to different lengths
        (1.0, -1.77, -2.77, lambda d: math.tanh(10 * d) / 10),
        (3e5, -1.95, 3.05, lambda d: math.atan(13 * d) / 13),  # flat farther off
    ],
)
def test_a_slope_of_one_side_of_a_kink_is_never_called_wrong_however_the_sides_curve(at, left, right, side):
    def own(slope):
        return mg.Op("own", lambda x: (right if x > at else left) * side(x - at), (slope,))

    for slope in (left, right):
        row = check(own(slope), at)["x"]
        assert row.verdict is KINK
        assert f"the slope is {left:.4g} on the left and {right:.4g} on the right".replace("-", "−") in row.reason
    assert check(own(max(left, right) + 1.0), at).fault.op == "own"


@pytest.mark.parametrize(
    ("forward", "slope", "at"),
    [
        # beside 0 steps by a power of 2 lose the same digits, so that their slopes agree
        *[(lambda x, c=c: (x * c + x) - x * c, 1.0, 0.0) for c in (1549.066, 14188.27, 1841234.09, 170775825.67)],
        (lambda x: (x * x + 14188.272384269869) - 14188.272384269869, 2.492113829067069, 1.2460569145335345),
        # it moves in stairs, of few steps
        (lambda x: math.hypot(18194931666705.297, x) - 18194931666705.297, -1.176e-22, -2.14e-9),
        (lambda x: (math.exp(-x * x) + 146220536041544.25) - 146220536041544.25, -0.52754, 1.2460569145335345),
    ],
)
def test_a_right_slope_is_never_called_wrong_for_digits_that_are_lost_inside_a_function(forward, slope, at):
    assert check(Op("lossy", forward, (slope,)), at)["x"].verdict in (PASS, UNRESOLVED)


@pytest.mark.parametrize("c", [1549.066, 14188.27, 1841234.09])
def test_digits_lost_inside_a_function_do_not_excuse_a_wrong_slope(c):
    for slope in (-1.0, 1.001):
        assert check(Op("lossy", lambda x: (x * c + x) - x * c, (slope,)), 0.0).fault.op == "lossy"


@pytest.mark.parametrize("period", [1.0, 1e-149, 1e-200, 1e-300, 2.0**-1022])
@pytest.mark.parametrize("op", [mg.mod, mg.fmod, mg.remainder])
def test_teeth_that_are_smaller_than_any_step_are_not_taken_for_a_plain(op, period):
    assert check(lambda x: op(x, period), 0.0)["x"].verdict in (PASS, KINK)


@given(st.sampled_from(["ramp", "corner"]), st.floats(1.0, 4.0), st.sampled_from([1e-30, -1e-30, -1e-12, 3e-7]))
def test_a_right_derivative_just_beside_a_kink_that_no_operation_tells_of_is_never_called_wrong(kind, factor, near):
    left = 0.0 if kind == "ramp" else -1.0
    own = mg.Op("own", lambda x: x if x > 0 else left * x, (lambda y, x: mg.where(mg.greater(x, 0.0), 1.0, left),))
    assert check(own, factor * near)["x"].verdict in (PASS, KINK)
    assert check(lambda x: 1e-3 * own(x), factor * near)["x"].verdict in (PASS, KINK)


@pytest.mark.parametrize("method", ["auto", "difference"])
@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: mg.elu(x), 0.0),
        (lambda x: mg.sin(3 * mg.elu(x - 3.7)), 3.7),
        (lambda x: mg.elu(1e-20 * x), 0.0),
        (lambda x: mg.elu(x - 1e8), 1e8),
        (lambda x: mg.abs(x * x), 0.0),
        (lambda x: mg.maximum(2 * x - 1, x * x), 1.0),
        (lambda x: mg.where(mg.less(mg.abs(x), 1.0), x * x / 2, mg.abs(x) - 0.5), 1.0),
    ],
)
def test_branches_that_meet_with_one_slope_have_a_first_derivative_whatever_the_second_has(f, x, method):
    report = check(f, x, method=method, order=2)
    assert report["x"].verdict is PASS
    assert report["∂²/∂x²"].verdict in (PASS, KINK)  # elu bends; in the second a convention may err: x² = |x²|


@given(
    st.sampled_from([0.0, 1.0, -1e-3, 2e3]),
    st.sampled_from([0.0, 1.0, -0.7, 30.0]),
    st.sampled_from([0.0, 1.0, -3.0]),
    st.sampled_from([0.0, 1e-9, 1e-5, -1.0, 2.0]),  # rounding may hide the second
    st.sampled_from([0.0, 1e-9, 1e-6, -1.0]),
    st.booleans(),
)
def test_one_slope_on_both_sides_passes_two_slopes_or_a_jump_are_a_kink_and_another_slope_fails(
    at, slope, curvature, bend, jump, between
):
    def own(given):
        def forward(x):
            d = x - at
            side = (d > 0) - (d < 0) * between  # of the jump: all on the right, or half on each side
            return slope * d + (d > 0) * (bend + curvature * d) * d + jump * side

        return mg.Op("own", forward, (given,), kink=lambda x: (x > at) - (x < at))

    row = check(own(lambda y, x: slope + mg.greater(x, at) * (bend + 2 * curvature * (x - at))), at)["x"]
    assert row.verdict in (PASS, KINK)
    if jump or abs(bend) > 1e-6:
        assert row.verdict is KINK
    elif slope and not bend:
        assert row.verdict is PASS
        assert check(own(lambda y, x: slope + 0.1), at).fault.op == "own"


@pytest.mark.parametrize("forward", [lambda x: math.sqrt(abs(x)), lambda x: math.cbrt(abs(x))])
@pytest.mark.parametrize("slope", [1.0, math.inf, math.nan])
def test_a_cusp_that_no_operation_tells_of_is_seen(forward, slope):
    assert check(Op("own", forward, (slope,)), 0.0)["x"].verdict is KINK


def test_kinks_that_cancel_in_the_whole_are_seen_in_its_parts():
    first, second = [
        mg.Op(name, lambda x: max(x - 1.0, 0.0), (lambda y, x: mg.greater(x, 1.0),)) for name in ("first", "second")
    ]
    row = check(lambda x: first(x) - second(2 - x), 1.0)["x"]
    assert row.verdict is KINK
    assert row.reason.startswith("first(x=1) (")
    assert "by convention" in row.reason


@pytest.mark.parametrize("method", ["auto", "difference"])
@pytest.mark.parametrize(
    ("f", "x", "reason"),
    [
        (lambda x: mg.sqrt(x), 0.0, "sqrt(x=0)"),
        (lambda x: mg.asin(x), 1.0, "asin(x=1)"),
        (lambda x: mg.cbrt(x), 0.0, "grows without bound"),
        (lambda x: mg.log(x) * 2, -1.0, "log(x=−1) is nan"),
        (lambda x: 1 / x, 0.0, "the function is ∞ at this point: div(1, x=0) is ∞, made at "),
        (lambda x: x * 2, math.inf, "the function is ∞ at this point: x is ∞"),
        (lambda x: (2 - x * 1e200) * x * 1e200, 2.0, "the function is −∞ at this point: mul(−4e+200, 1e+200) is −∞"),
    ],
)
def test_the_end_of_a_domain_is_named(f, x, reason, method):
    report = check(f, x, method=method)
    assert report["x"].verdict is DOMAIN
    assert reason in report["x"].reason.split("test_checking.py")[0]  # what follows quotes the line of the table
    assert not report


# It always ends


HOSTILE = {
    "tanh": math.tanh,
    "reciprocal": lambda x: ops.div.forward(1.0, x),
    "exponential": ops.exp.forward,
    "constant": lambda x: 2.5,
    "zero": lambda x: 0.0,
    "steps": lambda x: ops.floor.forward(x * 1e3),
    "chaos": lambda x: math.sin(1e15 * x) if abs(x) < 1e290 else math.nan,
    "noise": lambda x: hash(x if x == x else 0.5) % 1009 / 1009.0,  # the hash of a nan is that of the object
    "rough": lambda x: ops.add.forward(x, 1e12) - 1e12,
    "nowhere": lambda x: math.nan if x else 1.0,
    "unbounded": lambda x: math.inf if x > 0 else x,
    "cusp": lambda x: ops.sqrt.forward(abs(x)),
    "overflow": lambda x: x * x * x,
    "tiny": lambda x: x * 1e-320,
    "needle": lambda x: 1.0 if abs(x) < 1e-200 else 0.0,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("x", [math.inf, -math.inf, math.nan, 0.0, 5e-324, -1e-310, 1e-200, 0.3, 1e17, -1e300, 1.7e308])
def test_every_check_ends_within_the_evaluations_that_are_promised(name, x):
    evaluations = 0

    def forward(number):
        nonlocal evaluations
        evaluations += 1
        return HOSTILE[name](number)

    for slope in (0.0, 1.0, math.nan, math.inf):
        for f, order in ((Op("own", forward, (slope,)), 1), (Op("own", forward, (lambda y, x, s=slope: x * s,)), 2)):
            evaluations = 0
            report = check(f, x, order=order)
            assert report.derivatives[0].verdict in Verdict
            assert evaluations <= EVALUATIONS * (order + order), report  # each row, and its one local derivative


@pytest.mark.parametrize(
    "f", [mg.tanh, lambda x: 1 / x, lambda x: mg.exp(-x), lambda x: mg.where(x > 0, 1.0 * x, 2.0 * x) / x / x, mg.atan]
)
@pytest.mark.parametrize("x", [math.inf, math.nan])
def test_an_infinite_number_has_none_beside_it(f, x):
    for method in ("auto", "complex", "difference"):
        report = check(f, x, method=method)
        assert report.derivatives[0].verdict is DOMAIN
        assert report.derivatives[0].reason


def test_a_model_with_an_infinite_weight_is_checked_by_the_others():
    model = nn.MLP(2, [3, 1])
    weights = model.parameters()
    weights[0].data = math.inf
    report = check(lambda: mg.tanh(model([0.5, -1.0])), model, sample=20)
    assert report.derivatives[0].verdict is DOMAIN
    assert report.derivatives[0].reason.startswith("an infinite number, or nan, has none beside it")
    assert report.derivatives[-1].name == "direction 20"
    assert all(row.reason or row.verdict is PASS for row in report.derivatives)


def test_another_path_through_python_is_a_kink_named_with_its_line():
    def f(x, w):
        if x > 1:
            return w * 3
        y = x * 2
        return mg.sin(y) * w  # differs

    report = check(f, x=1.0, w=0.5)
    assert report["x"].verdict is KINK
    said = "the function takes another path through its code at ±8.9e−16: its graph differs from mul(x=1, 2) ("
    assert report["x"].reason.startswith(said)
    assert report["w"].verdict is PASS
    assert check(f, x=1.0 - 1e-9, w=0.5)


@pytest.mark.parametrize(
    ("f", "node"),
    [
        (lambda x: x * x if x < 1 else mg.sin(x), "sin(x=1)"),
        (lambda x: (x * 2 + 3) * x if x > 1 else x * 2 + 3, "add(mul(x, 2)=2, 3)"),
        (lambda x: x * 2 if x > 1 else x, "x"),
        (lambda x: x * x if x > 1 else mg.Value(3.0) * x, "mul(3, x=1)"),
    ],
)
def test_another_path_is_told_by_the_operation_from_which_it_differs(f, node):
    row = check(f, 1.0)["x"]
    assert row.verdict is KINK
    assert f"its graph differs from {node} (" in row.reason


# Wrong derivatives are found, named and located


WRONG = {
    "sign": Op("wrong", math.tanh, (lambda y, x: y * y - 1,)),
    "factor": Op("wrong", math.tanh, (lambda y, x: 0.5 * (1 - y * y),)),
    "constant": Op("wrong", math.tanh, (1.0,)),
    "lost": Op("wrong", math.tanh, (0.0,)),
    "of x for y": Op("wrong", math.tanh, (lambda y, x: 1 - x * x,)),
    "half the domain": Op("wrong", lambda x: x * abs(x), (lambda y, x: 2 * x,)),
    "small": Op("wrong", math.tanh, (lambda y, x: (1 - y * y) * (1 + 1e-7),)),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("method", ["auto", "difference"])
def test_a_wrong_local_derivative_is_named_with_operands_and_line(kind, method):
    wrong = WRONG[kind]

    def f(x, w):
        a = mg.sin(x) * w
        h = a - 1.5
        b = wrong(h) + a  # faulty
        return mg.exp(b) * x

    report = check(f, x=0.4, w=2.0, method=method)
    assert not report
    assert {row.verdict for row in report.derivatives} == {FAIL}
    fault = report.fault
    assert (fault.op, fault.argument) == ("wrong", 0)
    assert fault.operands == (math.sin(0.4) * 2.0 - 1.5,)
    assert fault.origin.line == line_of(f, "faulty")
    assert fault.origin.file == __file__
    assert fault.right == pytest.approx(
        (
            check(lambda x: x * abs(x) if kind == "half the domain" else mg.tanh(x), fault.operands[0])
            .derivatives[0]
            .backward
        ),
        rel=1e-6,
    )
    assert f"test_checking.py:{line_of(f, 'faulty')}" in str(report)
    assert fault.definition.file == __file__ if callable(wrong.partials[0]) else fault.definition is None


def test_the_first_wrong_operation_is_the_fault_even_if_the_next_lets_nothing_through():
    flat = Op("flat", lambda x: x * x, (lambda y, x: 0.0 * x,))
    assert check(lambda x: flat(WRONG["sign"](x)), 0.5).fault.op == "wrong"


def test_the_first_wrong_operation_is_the_fault_and_the_right_argument_is_named():
    late = Op("late", lambda x: x * x, (lambda y, x: x,))
    early = Op("early", lambda a, b: a / b, (lambda y, a, b: ops.div(1.0, b), lambda y, a, b: ops.div(y, b)))

    def f(a, b):
        q = early(a, b)  # faulty
        return late(q)

    report = check(f, a=1.5, b=0.7)
    assert (report.fault.op, report.fault.argument) == ("early", 1)
    assert report.fault.origin.line == line_of(f, "faulty")
    assert "by b is wrong" in report.fault.what
    assert "the sign is wrong" in report.fault.what
    assert report["a"].reason.startswith("The local derivative of late")


class Assigning:
    """An operation whose backward step assigns where it must add."""

    def __init__(self):
        self.row = Op("assigning", lambda x: x, (1.0,))

    def __call__(self, x):
        return Value.__apply__(self, (x,))

    def __getattr__(self, name):
        return getattr(self.row, name)

    def backpropagate(self, node):
        node.first.grad = node.grad


def test_a_gradient_that_is_assigned_instead_of_added_is_an_error_of_accumulation():
    op = Assigning()

    def f(x):
        h = x * 2
        return op(h) + h * h

    report = check(f, 3.0)
    assert report["x"].verdict is FAIL
    assert "accumulated wrongly" in report.fault.what
    assert report.fault.op == "mul"
    assert report.fault.argument is None
    assert "Every local derivative is right" in str(report)


def test_what_no_gradient_can_pass_does_not_spoil_the_sum_over_the_paths():
    op = Assigning()

    def f(x):
        h = x * 2
        return op(h) + h * h + mg.sqrt(mg.less(h, -1.0))  # the root's infinite slope ends at the comparison

    assert (
        "accumulated wrongly: backward() gives 1, and the products over its paths add up to 13"
        in check(f, 3.0).fault.what
    )


def test_a_node_that_only_a_dead_path_uses_does_not_take_the_blame_for_an_error_of_accumulation():
    op = Assigning()

    def f(x):
        u = x * 2
        h = mg.sin(u)
        return op(x) + h * h + mg.less(mg.cos(h), -1.0)

    fault = check(f, 3.0).fault
    assert (fault.op, fault.given) == ("leaf", 1.0)
    assert "accumulated wrongly" in fault.what


def test_a_wrong_local_derivative_is_the_fault_before_an_error_of_accumulation():
    op = Assigning()

    def f(w, x):
        h = w * 2
        return op(h) + h * h + WRONG["sign"](x)

    report = check(f, (3.0, 0.5))
    assert [row.name for row in report.failures] == ["w", "x"]
    assert report.fault.op == "wrong"


def test_a_kink_beside_the_point_is_told_with_the_slopes_of_both_its_sides():
    row = check(lambda x: mg.leaky_relu(x, 0.4321) * math.pi, -5e-5, step=1.2e-4)["x"]
    assert row.verdict is KINK
    assert "within ±0.00012 of this point; the slope is 1.357 on the left and 3.142 on the right" in row.reason
    row = check(lambda x: mg.relu(x - 1e6), 1e6)["x"]
    assert "at this very point" in row.reason
    row = check(mg.relu, 0.0, step=1e-10)["x"]
    assert "within ±1e−10 of this point" in row.reason


@pytest.mark.parametrize(
    ("f", "said"),
    [
        (lambda x: mg.floor(x) + x, "the function jumps from 1 to 2; the slope is 1 on both sides"),
        (lambda x: mg.floor(x) * x, "the function jumps from 0 to 1; the slope is 0 on the left and 1 on the right"),
        (
            lambda x: mg.where(mg.less(x, 1.0), 2 * x, 3 * x + 1),
            "the function jumps from 2 to 4; the slope is 2 on the left and",
        ),
        (lambda x: mg.relu(x - 1) - mg.relu(1 - x), "at this very point; the slope is 1 on both sides"),
        (lambda x: mg.relu(x - 1), "at this very point; the slope is 0 on the left and 1 on the right"),
    ],
)
def test_a_jump_is_told_with_the_numbers_on_both_its_sides(f, said):
    row = check(f, 1.0)["x"]
    assert row.verdict is KINK
    assert said in row.reason
    assert ("jumps" in row.reason) is ("jumps" in said)


@pytest.mark.parametrize(
    ("slope", "between"),
    [(-1.0, True), (0.3, True), (1.0, True), (-1.0001, True), (1.0001, True), (-1.00012, False), (1.00012, False)],
)
def test_a_derivative_at_a_kink_lies_between_the_slopes_of_its_sides_to_four_digits(slope, between):
    row = check(Op("vee", abs, (slope,), kink=lambda x: x > 0), 0.0)["x"]
    assert row.verdict is KINK
    assert ("which is not between them" in row.reason) is not between
    row = check(Op("steep", lambda x: abs(x) + 3 * x, (math.pi + slope,), kink=lambda x: x > 0), 0.0)["x"]
    assert "the slope is 2 on the left and 4 on the right" in row.reason
    assert (f"backward() gives {math.pi + slope:.4g}, which" in row.reason) is (math.pi + slope > 4)


@pytest.mark.parametrize(
    ("slope", "said"),
    [
        (2.000001, "the row gives 2.000001, but the slope of its forward function is 2 (1.0000005 times what"),
        (2.0000002468, "(1.000000123 times what it should be)"),
        (2.0018, "(1.0009 times what it should be)"),
        (2.00469, "(1.002 times what it should be)"),
        (-2.0000018, "(the sign is wrong)"),
        (-2.0000022, "(−1.0000011 times what it should be)"),
        (math.nan, "the row gives nan, but the slope of its forward function is 2."),
    ],
)
def test_a_wrong_local_derivative_is_told_with_the_digits_that_differ(slope, said):
    assert said in check(Op("double", lambda x: 2.0 * x, (slope,)), 3.0).fault.what


def test_a_wrong_operand_is_named_by_its_label_or_by_its_place():
    product = Op("product", lambda a, b: a * b, (lambda y, a, b: b, lambda y, a, b: 3 * a))
    square = Op("square", lambda x: x * x, (lambda y, x: 3 * x,))
    assert "of product by x2 is wrong" in check(product, (2.0, 3.0)).fault.what
    assert "of product by argument 2 is wrong" in check(lambda x: product(x, x * 2), 3.0).fault.what
    assert "of square by its argument is wrong" in check(lambda x: square(x * x), 3.0).fault.what
    flat = Op("flat", lambda x: 5.0, (2.0,))
    assert check(flat, 3.0).fault.what.endswith("the slope of its forward function is 0.")


# Compiled functions


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_compiled_functions_are_checked_as_they_are(dtype):
    cube = mg.compile(lambda x: x * x * 3, batch=False, dtype=dtype)
    assert check(cube, 2.0).raise_()["x"].backward == 12.0
    waves = mg.compile(lambda x: mg.sin(x) * x, dtype=dtype)
    report = check(waves, [1.0, 2.5, 3.0])
    assert [row.name for row in report.derivatives] == ["x[0]", "x[1]", "x[2]"]
    assert {row.verdict for row in report.derivatives} <= ({PASS} if dtype == "float64" else {PASS, UNRESOLVED})
    assert check(lambda x: mg.compile(lambda z: z * z)([x, x * 2]), 1.5).raise_()
    kink = check(mg.compile(mg.relu), [0.0, 1.0])
    assert [row.verdict for row in kink.derivatives] == [KINK, PASS]


def test_a_compiled_loss_is_checked_by_the_parameters_of_its_model():
    model, batch = model_and_batch()
    loss = mg.compile(lambda x, t: (model(x) - t) ** 2)
    inputs, targets = [x for x, _ in batch], [t for _, t in batch]
    report = check(lambda: loss(inputs, targets) * 2, model).raise_()
    assert [row.name for row in report.derivatives] == [name for name, _ in model.named_parameters()]
    check(lambda: loss(inputs, targets), model.parameters()[:3], order=2).raise_()
    assert "8 directions" in str(check(lambda: loss(inputs, targets), model, sample=8).raise_())


def test_a_wrong_derivative_within_a_compiled_function_is_found():
    for kind in ("sign", "factor", "lost", "small"):
        wrong = mg.compile(lambda x, kind=kind: WRONG[kind](x) * x, batch=False)
        report = check(lambda x, wrong=wrong: mg.exp(wrong(x)), 0.4)
        assert report["x"].verdict is FAIL
        assert (report.fault.op, report.fault.operands) == (WRONG[kind].name, (0.4,))
        assert "WRONG[kind](x)" in str(report.fault.origin)
        assert (report.fault.definition is None) == (kind == "lost")
        assert report.fault.within.op.name == "compiled"
        assert "within the compiled function" in str(report)
        assert "<svg" in report._repr_html_()


@pytest.mark.parametrize("reduce", ["mean", "sum", None])
def test_a_wrong_operation_of_a_compiled_loss_is_named_with_its_line(reduce):
    (model, rows), gain = model_and_batch(), Value(0.7, "gain")

    def error(x, t):
        hidden = WRONG["sign"](gain * x[0])
        return (model([hidden, x[1]]) - t) ** 2

    loss = mg.compile(error, reduce=reduce)
    xs, ts = [x for x, _ in rows], [t for _, t in rows]
    total = (lambda: mg.total(loss(xs, ts))) if reduce is None else (lambda: loss(xs, ts))
    report = check(total, [gain, *model.parameters()])
    assert [row.name for row in report.failures] == ["gain"]
    assert report.fault.op == WRONG["sign"].name
    assert report.fault.operands == (0.7 * 0.3,)
    assert 'hidden = WRONG["sign"](gain * x[0])' in str(report.fault.origin)
    assert report["gain"].reason == report.fault.what


def test_a_wrong_operation_is_named_in_functions_within_functions_and_in_graphs():
    inner = mg.compile(lambda v: WRONG["sign"](v) * 2, batch=False)
    outer = mg.compile(lambda v: mg.exp(inner(v)), batch=False)
    at_random = mg.compile(lambda v: WRONG["sign"](v[0]) + nn.Dropout(0.5, seed=1)(v)[1], batch=False)
    x = Value(0.4, "x")
    for f in (outer, lambda v: inner(mg.tanh(v))):
        assert check(f, 0.4).fault.op == WRONG["sign"].name
    for graph in (outer(x), mg.compile(WRONG["sign"](x) * 3)(), at_random([x, 1.0])):
        assert check(graph).fault.op == WRONG["sign"].name


def test_a_wrong_second_derivative_within_a_compiled_function_is_found():
    bent = Op("bent", lambda x: x * x * x, (lambda y, x: 3.0 * x * mg.stop_gradient(x),))
    f = mg.compile(lambda x: mg.sin(x) + bent(2 * x), batch=False)
    report = check(f, 0.4, order=2)
    assert [row.name for row in report.failures] == ["∂²/∂x²"]
    assert (report.fault.op, report.fault.operands) == ("bent", (0.8,))
    assert "bent(2 * x)" in str(report.fault.origin)
    assert report.fault.what.startswith("The second derivative of bent by arguments 1 and 1 is wrong")
    assert report.fault.within.op.name == "compiled"


def test_a_compiled_function_that_is_wrong_itself_is_named():
    square = mg.compile(lambda v: v * v, batch=False)

    class Wrong(type(square(Value(1.0)).op)):
        __slots__ = ()

        def local_derivatives(self, y, *xs):
            return tuple(2.0 * slope for slope in super().local_derivatives(y, *xs))

        def backpropagate(self, node):
            node.first.grad += node.grad * self.local_derivatives(node.data, node.first.data)[0]

    x = Value(3.0, "x")
    y = square(x)
    y.op = Wrong(y.op.kernel, 0, y.op.arrays, y.op.places)
    report = check(y)
    assert (report.fault.op, report.fault.within) == ("compiled", None)
    assert report.fault.what.endswith(
        "Every operation within is right by itself: it is the compiled program that errs."
    )


@pytest.mark.parametrize("reduce", ["mean", "sum", None])
def test_leaves_that_cannot_matter_are_those_that_cannot_in_the_function_that_is_compiled(reduce):
    model = nn.MLP(5, [4, 3], seed=0)
    batch = [[0.5 * i, 0.0, 1.0 - i, 0.0, i % 2] for i in range(4)]
    targets = [0, 1, 2, 0]

    def error(x, t):
        return losses.cross_entropy(model(x), t)

    def total(results):
        return mg.total(results) if reduce is None else results

    loss = mg.compile(error, reduce=reduce)
    compiled = check(lambda: total(loss(batch, targets)), model, sample=8).raise_()
    eager = check(lambda: mg.total(map(error, batch, targets)), model, sample=8).raise_()
    assert compiled.notes == eager.notes
    assert compiled.notes[0].startswith("8 leaves cannot matter here, and backward() gives 0: layers.0.neurons.0.w.1, ")
    assert [row.name for row in compiled.derivatives] == [row.name for row in eager.derivatives]


@pytest.mark.parametrize(
    ("f", "matters"),
    [
        (lambda x, y: y * 3.0, False),
        (lambda x, y: y + mg.exp(mg.stop_gradient(x)), False),
        (lambda x, y: y + mg.where(mg.less(x, 1.0), 2.0, 3.0), False),
        (lambda x, y: y + mg.floor(x) * mg.sign(x), False),
        (lambda x, y: y + x * (mg.exp(Value(0.0)) - 1.0), False),
        (lambda x, y: y + x * mg.less(y, 1.0), True),
        (lambda x, y: y + x * 0.0 + 0.0 * Op("mine", math.tanh, (0.0,))(x), False),
        (lambda x, y: y + Op("mine", math.tanh, (0.0,))(x), True),
        (lambda x, y: y + x * x, True),
    ],
)
def test_what_cannot_matter_within_a_compiled_function_is_what_cannot_as_it_is(f, matters):
    for x in (0.3, 0.0) if matters else (0.3,):
        point = {"x": x, "y": 2.0}
        compiled, eager = check(mg.compile(f, batch=False), **point), check(f, **point)
        assert compiled.notes == eager.notes
        assert len(compiled.derivatives) == 1 + matters


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: mg.greater(x, 2.0) + y,
        lambda x, y: mg.erf(mg.less_equal(x, y)),
        lambda x, y: mg.floor(x) + y,
        lambda x, y: mg.ceil(mg.sinh(mg.fmod(x, y))),
    ],
)
def test_a_leaf_at_a_jump_within_a_compiled_function_matters(f):
    point = {"x": 2.0, "y": 2.0}
    rows, eager = check(mg.compile(f, batch=False), **point).derivatives, check(f, **point).derivatives
    assert [(row.name, row.verdict is PASS) for row in rows] == [(row.name, row.verdict is PASS) for row in eager]
    assert {row.verdict for row in rows} - {PASS} <= {KINK, UNRESOLVED}
    assert rows[0].verdict is not PASS


def test_a_compiled_function_that_holds_a_number_is_not_called_wrong():
    def f(x):
        return mg.sin(x) + mg.stop_gradient(x * 2) * x

    check(f, 0.5).raise_()
    row = check(mg.compile(f, batch=False), 0.5)["x"]
    assert row.verdict is UNRESOLVED
    assert re.match(r"stop_gradient\(mul\(x, 2\)=1\) \(.*test_checking.py.*\) holds a number that moves", row.reason)
    assert row.reason.endswith("check the function that was compiled, as it is")
    check(mg.compile(lambda x: mg.logsumexp([x, 2 * x]), batch=False), 0.5).raise_()
    check(mg.compile(lambda x: mg.stop_gradient(mg.exp(Value(2.0))) * x, batch=False), 0.5).raise_()


def test_a_compiled_function_on_a_kink_is_not_called_wrong():
    row = check(mg.compile(lambda x, y: mg.floor(x) + y, batch=False), x=2.0, y=2.0)["x"]
    assert row.verdict is KINK
    assert row.reason.startswith("floor(")
    assert "test_checking.py" in row.reason
    assert "stands on a kink" in row.reason


def test_an_operation_made_anew_in_each_call_is_the_same_operation():
    report = check(lambda v: Op("e", math.exp, (lambda y, x: y,))(v), 0.5).raise_()
    assert report["v"].backward == math.exp(0.5)
    follows = check(lambda v: Op("e", lambda x, c=v.data: c * x, (v.data,))(v), 0.5)
    assert "The number 0.25 follows the inputs" in follows.fault.what


# Zeros, tiny and huge arguments


@pytest.mark.parametrize(
    ("f", "x"),
    [
        *[(lambda v: Op("e", lambda z: math.exp(z), (0.0,))(v), x) for x in (4e-31, -1e-100, 5e-324, 1e-17, 1e-9)],
        (Op("f", lambda x: math.sqrt(1 + math.atan(x) ** 2), (0.0,)), -2.4e-10),
        *[(Op("f", lambda x: 1 + x * x, (0.0,)), x) for x in (1e-30, -1e-18, 1e-300, 1e-7)],
        *[(Op("f", lambda x: math.cos(x), (lambda y, x: 0.0 * y,)), x) for x in (1e-30, -1e-18, 1e-300)],
        *[(Op("f", lambda x: x * x, (0.0,)), x) for x in (1e-30, 1e-200, 1e-323, 1e150)],
        *[(Op("f", lambda x: math.tanh(x), (0.0,)), x) for x in (19.5, -25.0, 300.0, 1e30)],
        *[(Op("f", lambda x: math.atan(x), (0.0,)), x) for x in (1e9, -1e17, 1e30, 1e200, 1e300)],
        (Op("f", lambda x: x + 1e20, (0.0,)), 1.0),
        (Op("f", lambda x: 1 + 1e-20 * x, (0.0,)), 1.0),
    ],
)
def test_a_derivative_of_zero_does_not_pass_where_it_is_only_too_small_to_be_seen(f, x):
    for method in ("auto", "difference"):
        assert check(f, x, method=method).derivatives[0].verdict in (FAIL, UNRESOLVED)


@pytest.mark.parametrize(
    ("forward", "x"),
    [
        (lambda x: float(math.floor(x)), 3.5),
        (lambda x: float(math.floor(x)), 0.5),
        (lambda x: math.copysign(1.0, x), -2.0),
        (lambda x: min(max(x, -1.0), 1.0), 5.0),
        (lambda x: max(x, 0.0), -1.0),
        (lambda x: max(x, 0.0), -1e-3),
        (lambda x: 3.25, 1e300),
        (lambda x: math.cos(x), 0.0),
        (lambda x: x * x, 0.0),
        (lambda x: (x - 0.75) ** 2 + 2, 0.75),
    ],
)
def test_a_derivative_that_is_zero_passes(forward, x):
    assert check(Op("flat", forward, (0.0,)), x).raise_().derivatives[0].numeric == 0.0


SMOOTH = {
    "sine": (math.sin, lambda y, x: mg.cos(x)),
    "cosine": (math.cos, lambda y, x: -mg.sin(x)),
    "square": (lambda x: x * x, lambda y, x: 2 * x),
    "hill": (lambda x: 1 + x * x, lambda y, x: 2 * x),
    "root": (lambda x: math.hypot(1.0, x), lambda y, x: x / y),
    "logarithm": (lambda x: math.log(abs(x)) if x else -math.inf, lambda y, x: ops.div(1.0, x)),
    "arc": (lambda x: math.sqrt(1 + math.atan(x) ** 2), lambda y, x: mg.atan(x) / y * ops.div(1.0, 1 + x * x)),
    "line": (lambda x: 0.25 * x + 1, lambda y, x: 0.25),
    "logistic": (lambda x: 1 / (1 + math.exp(min(-x, 700.0))), lambda y, x: 0.25 * mg.cosh(0.5 * x) ** -2),
    "bell": (lambda x: math.exp(-x * x), lambda y, x: -2 * x * y),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_no_wrong_derivative_passes_and_no_right_one_fails_at_ordinary_tiny_and_huge_points(name):
    forward, partial = SMOOTH[name]
    draw = random.Random(name)
    size = [lambda: draw.uniform(0.01, 4), lambda: 10 ** draw.uniform(-30, -3), lambda: 10 ** draw.uniform(-323, -30)]
    size += [lambda: 10 ** draw.uniform(1, 30), lambda: 10 ** draw.uniform(30, 150), lambda: 5e-324]
    wrong = {
        "lost": 0.0,
        "sign": lambda y, x: -partial(y, x),
        "factor": lambda y, x: 1.001 * partial(y, x),
        "offset": lambda y, x: partial(y, x) + 1e-3,
        "one": 1.0,
    }
    for _ in range(12):
        x = draw.choice([-1.0, 1.0]) * draw.choice(size)()
        right = check(Op("own", lambda x: forward(x), (partial,)), x).derivatives[0]
        assert right.verdict is not FAIL, right
        for kind, other in wrong.items():
            row = check(Op("own", lambda x: forward(x), (other,)), x).derivatives[0]
            if abs(row.backward - right.backward) > 5e-4 * abs(right.backward) + 1e-320:
                assert row.verdict is not PASS, (kind, row)


# A user-defined kink beneath something smooth


@pytest.mark.parametrize("forward", [math.hypot, lambda a, b: math.sqrt(a * a + b * b)])
@pytest.mark.parametrize(
    "f", [lambda r: r, mg.cosh, lambda r: r * r, lambda r: mg.exp(-r * r), lambda r: 1 - r, mg.sqrt, lambda r: r**4]
)
@pytest.mark.parametrize(
    "inner", [lambda x, y: (x, y), lambda x, y: (x * x, y), lambda x, y: (mg.abs(x), y), lambda x, y: (x + y, x - y)]
)
def test_a_point_of_ones_own_without_a_slope_is_a_kink_whatever_is_above_it(forward, f, inner):
    length = Op("length", forward, (lambda y, a, b: ops.div(a, y), lambda y, a, b: ops.div(b, y)))
    report = check(lambda x, y: f(length(*inner(x, y))), (0.0, 0.0))
    assert {row.verdict for row in report.derivatives} <= {KINK, PASS}
    assert report["y"].verdict is KINK
    assert math.isnan(report["y"].backward)


def test_a_wrong_gradient_is_explained_before_what_a_second_backward_makes_of_it(monkeypatch):
    def backward(self):
        self.grad = 1.0
        for node in reversed(mg.topological_order(self)):
            for parent, derivative in zip(node.parents, node.local_derivatives(), strict=True):
                parent.grad = node.grad * derivative

    monkeypatch.setattr(Value, "backward", backward)
    report = check(lambda x, y: x * y + x, (2.0, 3.0))
    assert "accumulated wrongly: backward() gives 3, and the products over its paths add up to 4" in report.fault.what
    assert "A second backward() added 0" in report["y"].reason


def test_a_lost_edge_of_a_repeated_operand_is_an_error_of_accumulation(monkeypatch):
    def backward(self):
        self.grad = 1.0
        for node in reversed(mg.topological_order(self)):
            for parent, derivative in dict(zip(node.parents, node.local_derivatives(), strict=True)).items():
                parent.grad += node.grad * derivative

    monkeypatch.setattr(Value, "backward", backward)
    report = check(lambda x: x * x, 3.0)
    assert "accumulated wrongly" in report.fault.what
    assert (report.fault.given, report.fault.right) == (3.0, 6.0)


def test_a_second_backward_that_does_not_add_the_same_fails(monkeypatch):
    def backward(self):
        for node in mg.topological_order(self):
            node.grad = 0.0
        right(self)

    right = Value.backward
    monkeypatch.setattr(Value, "backward", backward)
    report = check(lambda x, w: x * w, (2.0, 3.0))
    assert {row.verdict for row in report.derivatives} == {FAIL}
    assert "A second backward() added 0" in report.fault.what
    assert (report.fault.op, report.fault.argument, report.fault.given, report.fault.right) == ("leaf", None, 0.0, 3.0)


def test_a_backward_that_does_nothing_fails(monkeypatch):
    monkeypatch.setattr(Value, "backward", lambda self: None)
    for f in (lambda x: x, lambda x: 3 * x):
        report = check(f, 2.0)
        assert report["x"].verdict is FAIL
        assert "accumulated wrongly" in report.fault.what


@pytest.mark.parametrize("stray", [0.5, -0.5])
def test_a_gradient_of_what_the_output_does_not_depend_on_fails(monkeypatch, stray):
    def backward(self):
        right(self)
        alone.grad += stray

    right, alone, x = Value.backward, Value(1.0, label="alone"), Value(2.0, label="x")
    monkeypatch.setattr(Value, "backward", backward)
    report = check(x * 3, [x, alone])
    assert (report["x"].verdict, report["alone"].verdict) == (PASS, FAIL)
    assert f"gives {stray}, and the products over its paths add up to 0".replace("-", "−") in report.fault.what


def test_a_second_backward_that_adds_no_number_fails(monkeypatch):
    def backward(self):
        if self.grad:
            mg.topological_order(self)[0].grad = math.nan
        else:
            right(self)

    right = Value.backward
    monkeypatch.setattr(Value, "backward", backward)
    assert "A second backward() added nan to the gradient of x, the first 12" in check(lambda x: x**3, 2.0).fault.what


def test_a_second_backward_that_adds_more_fails_too(monkeypatch):
    def backward(self):
        right(self)
        calls.append(right(self) if calls else None)

    calls, right = [], Value.backward
    monkeypatch.setattr(Value, "backward", backward)
    assert "A second backward() added 6 to the gradient of x, the first 3" in check(lambda x: 3 * x, 2.0).fault.what


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * x.data,
        lambda x: x * -x.data,
        lambda x: x * math.exp(x.data),
        lambda x: mg.Value(x.data * 2) * x,
        lambda x: x**x.data,
        lambda x: mg.Value(x.data),
        lambda x: math.sin(x.data),
    ],
)
def test_a_number_taken_out_of_the_graph_is_found(f):
    report = check(f, 1.5)
    assert report["x"].verdict is FAIL
    assert "taken out of the graph" in report.fault.what
    assert check(f, 1.5, method="difference").fault
    assert "The number 0 follows the inputs" in check(lambda x: mg.Value(x.data), 0.0).fault.what


@pytest.mark.parametrize(
    ("f", "at"), [(lambda x: x * x.data, 1e12), (lambda x: x * x.data if 0.9 < x.data < 1.1 else x, 1.0)]
)
def test_a_number_taken_out_of_the_graph_is_found_among_large_numbers_and_between_branches(f, at):
    assert "taken out of the graph" in check(f, at).fault.what


def test_a_direction_is_walked_by_its_step_and_no_further():
    def f(*xs):
        there = all(x.data == 1.0 or 1e-4 < abs(x.data - 1.0) < 0.11 for x in xs)
        return sum(xs) if there else xs[0]

    directions = check(f, (1.0,) * 5, sample=3, step=0.1).derivatives[-3:]
    assert all(row.name.startswith("direction") and row.verdict is PASS for row in directions)


def test_sums_that_differ_by_their_order_only_are_no_wrong_accumulation():
    report = check(lambda x: x * 0.1 + (x * 0.7 + x * 0.2) + x.data, 0.3)
    assert "taken out of the graph" in report.fault.what


def test_a_number_taken_out_of_the_graph_that_changes_nothing_is_no_fault():
    def logsumexp(xs):
        top = max(x.data for x in xs)
        return mg.log(mg.total(mg.exp(x - top) for x in xs)) + top

    check(logsumexp, [1.0, 2.0, -1.0]).raise_()


def test_a_nan_that_comes_back_from_a_branch_not_taken_is_a_failure_with_a_remedy():
    report = check(lambda x: mg.where(x > 0, mg.sqrt(x), 0.0), -1.0)
    assert report["x"].verdict is FAIL
    assert report.fault.op == "sqrt"
    assert "with where()" in report.fault.what
    assert check(lambda x: mg.sqrt(mg.where(x > 0, x, 0.0) + 1e-6), -1.0)
    report = check(lambda x: mg.where(x > 2, mg.asin(x), 3 * x), 1.0)
    assert report.fault.what.startswith("The local derivative of asin by x is ∞ here, and so the gradient is nan, ")
    later = check(lambda x: mg.where(x > 0, mg.sqrt(mg.sin(x)), 0.0), -1.0)
    assert later.fault.op == "sqrt"
    out_of_log = check(lambda x: mg.where(x > 0, mg.sqrt(mg.log(x)), 0.0), -1.0)
    assert out_of_log.fault.op == "log"


def test_a_gradient_that_overflows_on_its_way_back_is_named():
    report = check(lambda x: x * 1e-200 * 1e200 * 1e200, 1.0)
    assert report["x"].verdict is FAIL
    assert report.fault.what.startswith(
        "The gradient of mul(x=1, 1e−200) overflows on its way back: it is ∞, a product"
    )
    assert report.fault.argument is None


def test_a_backward_that_ends_in_nan_without_a_cause_is_an_error_of_accumulation(monkeypatch):
    def backward(self):
        right(self)
        mg.topological_order(self)[0].grad = math.nan

    right = Value.backward
    monkeypatch.setattr(Value, "backward", backward)
    report = check(lambda x: x * x * x, 2.0)
    assert report["x"].verdict is FAIL
    assert (
        "accumulated wrongly: backward() gives nan, and the products over its paths add up to 12" in report.fault.what
    )


def test_the_operation_that_overflows_is_blamed_and_not_the_one_that_is_given_infinity():
    def f(x, y):
        huge = mg.exp(x)  # faulty
        return mg.atan2(huge, y)

    report = check(f, (1000.0, 2.0))
    assert report["y"].verdict is FAIL
    assert report.fault.op == "exp"
    assert report.fault.origin.line == line_of(f, "faulty")
    assert "is ∞ here, and so the gradient is nan" in report.fault.what


def test_where_an_operation_is_not_defined_its_nan_is_no_fault():
    row = check(lambda a, b: a**b, (-0.5, 1e17))["b"]  # every float nearby is a whole number
    assert row.verdict is DOMAIN
    assert "outside of the domain of power: its derivative there is nan" in row.reason
    for point in ((-0.5, 1e17), (0.0, 0.0)):
        second = check(lambda a, b: a**b, point, order=2)
        assert second["∂²/∂a²"].verdict is PASS  # at 0, too, a⁰ is 1
        assert second["∂²/∂b²"].verdict is DOMAIN


def test_a_function_that_floats_are_too_coarse_to_follow_is_unresolved():
    own = Op("mine", lambda x: math.sin(x), (lambda y, x: mg.cos(x),))
    assert check(own, 4e16)["x"].verdict is UNRESOLVED
    assert "rough or fast for floats" in check(own, 4e16)["x"].reason
    assert check(mg.sin, 4e16, order=2)["∂²/∂x²"].verdict is UNRESOLVED
    assert check(mg.sin, 4e16)
    assert check(Op("late", lambda x: x * x, (lambda y, x: x,)), 4e16)["x"].verdict is FAIL


@pytest.mark.parametrize("exponent", range(0, 60, 3))
def test_no_function_is_so_fast_that_its_right_derivative_is_called_wrong(exponent):
    """Of sin x at 2ᵏ and of sin 2ᵏx at 1 the floats show less and less, and large steps show something else."""
    speed, uniform = 2.0**exponent, random.Random(exponent).uniform
    far = Op("far", math.sin, (lambda y, x: mg.cos(x),))
    fast = Op("fast", lambda x: math.sin(speed * x), (lambda y, x: speed * mg.cos(speed * x),))
    wrong = Op("wrong", fast.forward, (lambda y, x: -speed * mg.cos(speed * x),))
    lost = Op("lost", fast.forward, (0.0,))
    for _ in range(6):
        x = uniform(1.0, 2.0)
        for op, at in ((far, speed * x), (fast, x)):
            row = check(op, at)["x"]
            assert row.verdict is PASS or (row.verdict is UNRESOLVED and exponent > 25), row
        assert check(wrong, x)["x"].verdict is FAIL or exponent > 25
        assert check(lost, x)["x"].verdict is FAIL or exponent > 30


@pytest.mark.parametrize("method", ["auto", "difference"])
@pytest.mark.parametrize("f", [lambda x: 1 / x, lambda x: x / x / x])
def test_a_slope_beyond_the_largest_float_is_no_fault(f, method):
    row = check(f, 1e-300, method=method)["x"]
    assert row.verdict is DOMAIN
    assert row.reason == "the slope is not a finite number beside this point"


@pytest.mark.parametrize("method", ["auto", "difference"])
@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x * x, 0.0),
        (lambda x: mg.cos(x), 0.0),
        (lambda x: mg.relu(x), -1.0),
        (lambda x: Op("floor", math.floor, (0.0,))(x) * 1e300, 3.5),
        (lambda x: Op("one", lambda x: x * 0.0 + 1, (0.0,))(x), 2.0),
    ],
)
def test_a_derivative_of_zero_passes_where_the_function_moves_at_no_step(f, x, method):
    row = check(f, x, method=method).raise_()["x"]
    assert row.backward == row.numeric == row.error == row.relative == 0.0


@pytest.mark.parametrize("x", [1e-281, 1e-131, 1e-17])
def test_a_derivative_of_zero_does_not_pass_for_want_of_digits(x):
    lost = Op("lost", math.sin, (0.0,))
    even = Op("even", lambda x: math.hypot(x, x), (lambda y, x: 0.0 * x,))
    for f in (lost, even, lambda x: lost(x) + 1.0, lambda x: -lost(x)):
        assert check(f, x)["x"].verdict is FAIL


# Second derivatives


def test_second_derivatives_pass_and_have_names():
    report = check(lambda x, w: mg.sin(x * w) * mg.exp(x), x=0.5, w=2.0, order=2).raise_()
    assert [row.name for row in report.derivatives] == ["x", "w", "∂²/∂x²", "∂²/∂x∂w", "∂²/∂w∂x", "∂²/∂w²"]
    check(lambda x: mg.relu(x) * x, 2.0, order=2).raise_()
    check(lambda x, unused: x**3, (2.0, 1.0), order=2).raise_()
    check(lambda x: mg.log(mg.exp(x)), 0.5, order=2).raise_()
    cancelling = check(lambda x: x * x * 1e14 + x * x - x * x * 1e14, 1e3, order=2)
    assert cancelling["∂²/∂x²"].verdict is UNRESOLVED
    kink = check(lambda x: mg.relu(x) ** 2, 0.0, order=2)
    assert (kink["x"].verdict, kink["∂²/∂x²"].verdict) == (PASS, KINK)


CURVATURES = {
    "of the left side": lambda d, left, right: mg.where(mg.less_equal(d, 0.0), left, right) * d,
    "of the right side": lambda d, left, right: mg.where(mg.less(d, 0.0), left, right) * d,
    "of both, in the mean": lambda d, left, right: left * mg.minimum(d, 0.0) + right * mg.maximum(d, 0.0),
}


@settings(max_examples=3 * settings().max_examples)
@given(
    st.sampled_from(sorted(CURVATURES)),
    st.sampled_from([-2.0, -0.5, 0.0, 0.1, 1.0, 2.0]),
    st.sampled_from([-1.0, 0.0, 0.3, 2.0]),
    st.sampled_from([-1.0, 0.0, 1.0, 7.0]),
    st.sampled_from([0.0, 1.0, -1e-3, 2e3]),
)
def test_a_jump_of_a_second_derivative_that_no_operation_tells_of_is_seen(taken, left, right, slope, at):
    def forward(x):
        return (slope + 0.5 * (left if x < at else right) * (x - at)) * (x - at)

    own = Op("own", forward, (lambda y, x: slope + CURVATURES[taken](x - at, left, right),))
    row = check(own, at, order=2)["∂²/∂x²"]
    among = check(lambda x: 3.0 * own(x) + mg.sin(x), at, order=2)["∂²/∂x²"]
    if left == right:
        assert row.verdict is among.verdict is PASS
        return
    assert row.verdict is KINK
    assert "no operation in this graph declares a kink here; if one is yours, pass kink= to its Op" in row.reason
    assert among.verdict in (KINK, UNRESOLVED)
    assert check(own, at + 0.25 * max(abs(at), 1.0), order=2)["∂²/∂x²"].verdict is PASS


@pytest.mark.parametrize(
    ("f", "at"),
    [
        (lambda x: x * x / 2 if abs(x) < 1 else abs(x) - 0.5, 1.0),
        (lambda x: x * x / 2 if abs(x) < 1 else abs(x) - 0.5, -1.0),
        (lambda x: mg.where(abs(x) < 1, x * x / 2, abs(x) - 0.5), 1.0),
        (lambda x: x * x if x > 0 else -x * x, 0.0),
        (lambda x: x * x * (1.0 if x > 0 else -1.0), 0.0),
        (lambda x: x * abs(x), 0.0),
        (lambda x: x / (1 + abs(x)), 0.0),
        (lambda x: x * (x if x < 1 else 1.0) + (0.0 if x < 1 else mg.log(x)), 1.0),
    ],
)
def test_a_jump_of_a_second_derivative_by_code_of_python_is_seen(f, at):
    assert check(f, at, order=2)["∂²/∂x²"].verdict is KINK
    check(f, at + 0.25, order=2).raise_()


def test_a_local_derivative_that_leaves_the_graph_is_found_in_second_order():
    cut = Op("cut", math.exp, (lambda y, x: math.exp(getattr(x, "data", x)),))
    check(lambda x: cut(x) * x, -0.3).raise_()
    report = check(lambda x: cut(x) * x, -0.3, order=2)
    assert report["∂²/∂x²"].verdict is FAIL
    assert (report.fault.op, report.fault.argument) == ("cut", 0)
    assert (report.fault.given, report.fault.right) == (0.0, pytest.approx(math.exp(-0.3)))
    assert "of cut by arguments 1 and 1 is wrong: on Values it is 0, but" in report.fault.what
    assert "on floats changes at 0.74081822" in report.fault.what
    assert "Write the partial with operations of the table" in report.fault.what
    half = Op(
        "half",
        lambda a, b: a * a * b * b,
        (lambda y, a, b: 2 * a * b * b, lambda y, a, b: 2 * a * a * getattr(b, "data", b)),
    )
    report = check(half, (0.5, 0.4), order=2)
    assert [row.name for row in report.failures] == ["∂²/∂x2²"]
    assert report["∂²/∂x1∂x2"].value == (0.5, 0.4)
    assert report["∂²/∂x2∂x1"].value == (0.4, 0.5)
    assert report["∂²/∂x1²"].value == 0.5
    assert report.fault.argument == 1
    assert "of half by arguments 2 and 2 is wrong: on Values it is 0, but" in report.fault.what


def test_within_a_compiled_function_the_first_wrong_second_derivative_is_named():
    first, last = [
        Op(name, math.exp, (lambda y, x: math.exp(getattr(x, "data", x)),), array="xp.exp({0})")
        for name in ("first", "last")
    ]
    compiled = mg.compile(lambda x: last(0.5 * first(x)), batch=False)
    assert check(compiled, -0.3, order=2).fault.op == "first"


def test_a_kink_elsewhere_is_no_excuse_for_a_gradient_that_is_no_number():
    report = check(lambda x: mg.relu(x) * x + mg.sqrt(x**4), 0.0)
    assert report["x"].verdict is FAIL
    assert report.fault.op == "sqrt"


def test_wrong_first_derivatives_keep_the_second_from_being_checked():
    report = check(lambda x: WRONG["sign"](x), 0.3, order=2)
    assert len(report.derivatives) == 1
    assert any("second derivatives were not checked" in note for note in report.notes)


# What can be checked: functions, graphs, models


@pytest.mark.parametrize(
    ("f", "args", "names"),
    [
        (lambda x: x * 2, (3.0,), ["x"]),
        (lambda x, w: x * w, ((3.0, 2.0),), ["x", "w"]),
        (lambda x, w: x * w, ([3.0, 2.0],), ["x", "w"]),
        (lambda p: p[0] * p[1], ((3.0, 2.0),), ["p[0]", "p[1]"]),
        (lambda xs: mg.total(xs), ([1, 2, 3],), ["xs[0]", "xs[1]", "xs[2]"]),
        (lambda m: m[0][1] * m[1][0], ([[1.0, 2.0], [3.0, 4.0]],), ["m[0][1]", "m[1][0]"]),
        (lambda p: p["a"] * p["b"][0], ({"a": 1.0, "b": [2.0]},), ["p['a']", "p['b'][0]"]),
        (lambda a, b: a * b, ({"a": 1.0, "b": 2.0},), ["a", "b"]),
        (lambda *xs: mg.total(xs), ((1.0, 2.0, 3.0),), ["xs[0]", "xs[1]", "xs[2]"]),
        (lambda a, *rest: a * mg.total(rest), ((1.0, 2.0, 3.0),), ["a", "rest[0]", "rest[1]"]),
        (lambda a, w: a * w, ((Value(2.0), 3.0),), ["a", "w"]),
        (lambda a: mg.total(a.flat), (np.array([[1.0, 2.0]]),), ["a[0][0]", "a[0][1]"]),
        (lambda x: x * x, (Value(2.0, label="speed"),), ["speed"]),
        (mg.hypot, ((3.0, 4.0),), ["x1", "x2"]),
        (mg.hypot, ([3.0, 4.0],), ["x1", "x2"]),
        (mg.tanh, (0.5,), ["x"]),
    ],
)
def test_functions_are_checked_at_points_of_any_structure(f, args, names):
    report = check(f, *args).raise_()
    assert [row.name for row in report.derivatives] == names


def test_an_operation_is_checked_at_a_point_under_its_own_name():
    assert check(mg.hypot, (3.0, 4.0)).summary == "hypot: 2 PASS"
    assert check(mg.ops.leaky_relu_of(0.5), -2.0).summary == "leaky_relu[0.5]: 1 PASS"
    assert "The local derivative of wrong by x is wrong" in check(WRONG["sign"], 0.5).fault.what


def test_a_report_is_titled_with_the_name_of_the_function():
    def cube(x):
        return x * x * x

    assert check(cube, 2.0).title == "cube"
    assert check(lambda x: x * x, 2.0).title == "function"
    assert check(Value(2.0, label="speed") * 1.0).title == "graph"


def test_arguments_go_by_name():
    report = check(lambda x, w, b=1.0: x * w[0] + w[1] + b, x=2.0, w=[3.0, 5.0]).raise_()
    rows = [(row.name, row.value, row.backward) for row in report.derivatives]
    assert rows == [("x", 2.0, 3.0), ("w[0]", 3.0, 2.0), ("w[1]", 5.0, 1.0)]


def test_a_graph_is_checked_by_all_its_leaves_or_by_some():
    x, w = Value(2.0, label="x"), Value(-3.0)
    y = (x * w + 1).tanh() * x
    assert [row.name for row in check(y).raise_().derivatives] == ["x", "leaf 2"]
    assert [row.name for row in check(y, [x]).raise_().derivatives] == ["x"]
    assert [row.name for row in check(y, x).raise_().derivatives] == ["x"]
    assert [row.name for row in check(y, {"weight": w}).raise_().derivatives] == ["weight"]
    y.backward()
    check(y).raise_()
    alone = Value(1.0, label="alone")
    unrelated = check(y, [x, alone]).raise_()
    assert [row.name for row in unrelated.derivatives] == ["x"]
    assert unrelated.notes == ["1 leaf cannot matter here, and backward() gives 0: alone"]
    itself = check(alone, alone).raise_()["alone"]
    assert (itself.backward, itself.reason) == (1.0, "")


def test_a_fault_in_a_graph_without_recorded_lines_says_how_to_record_them():
    x = Value(0.5, label="x")
    assert "mg.record_lines()" in str(check(WRONG["sign"](x)))
    with mg.record_lines():
        y = WRONG["sign"](x)
    assert "test_checking.py" in str(check(y))


def model_and_batch():
    model = nn.MLP(2, [3, 1])
    generator = random.Random(3)
    for parameter in model.parameters():
        parameter.data = generator.gauss(0.0, 1.0)
    return model, [([0.3, -0.7], 1.0), ([-1.1, 0.2], -1.0)]


def test_a_model_is_checked_with_a_batch_by_its_parameters():
    model, batch = model_and_batch()

    def loss():
        return mg.mean([(model(x) - t) ** 2 for x, t in batch])

    report = check(loss, model).raise_()
    assert [row.name for row in report.derivatives] == [name for name, _ in model.named_parameters()]
    assert len(check(loss, model.parameters()).raise_().derivatives) == len(model.parameters())
    assert len(check(loss, dict(model.named_parameters())).raise_().derivatives) == len(model.parameters())
    assert len(check(loss).raise_().derivatives) == len(model.parameters())
    assert len(check(loss, iter(model.parameters())).raise_().derivatives) == len(model.parameters())


def test_a_sample_of_leaves_and_of_directions_is_drawn_by_its_seed():
    model, batch = model_and_batch()

    def loss(op=ops.identity):
        return mg.mean([(op(model(x)) - t) ** 2 for x, t in batch])

    report = check(loss, model, sample=2, seed=5).raise_()
    assert [row.name for row in report.derivatives][2:] == ["direction 1", "direction 2"]
    assert "2 of 13 leaves" in str(report)
    assert str(check(loss, model, sample=2, seed=5)) == str(report)
    assert str(check(loss, model, sample=2, seed=6)) != str(report)
    wrong = check(lambda: loss(WRONG["sign"]), model, sample=1)
    assert wrong["direction 1"].verdict is FAIL
    assert wrong.fault.op == "wrong"
    assert len(check(loss, model, sample=100, order=1).derivatives) == 13 + 100
    assert check(lambda x, y, z: x * y * z * z, (1.0, 2.0, 3.0), sample=2, order=2)


def test_directions_have_length_one_and_are_named_in_a_note():
    alone = check(lambda x: 3 * x, 2.0, sample=1).raise_()
    assert abs(alone["direction 1"].backward) == 3.0
    assert alone.notes == ["1 of 1 leaves and 1 directions, drawn at random"]
    report = check(lambda x, y: 3 * x + 4 * y, (2.0, 1.0), sample=40, method="difference").raise_()
    slopes = [row.backward for row in report.derivatives[2:]]
    assert len(slopes) == 40
    assert 4.9 < max(map(abs, slopes)) <= 5.0
    assert abs(math.fsum(slopes)) < 40.0
    nothing = check(lambda: Value(2.0) * 3, sample=2)
    assert nothing.derivatives == []
    assert nothing.notes[0] == "0 of 0 leaves and 0 directions, drawn at random"
    pairs = check(lambda x, y, z: x * y * z, (1.0, 2.0, 3.0), sample=2, order=2).derivatives[4:]
    assert len(pairs) == 4
    assert len(check(lambda x, y: x * y, (1.0, 2.0), sample=2, order=2).derivatives) == 4 + 4


def test_a_function_without_leaves_passes_nothing():
    report = check(lambda: mg.Value(2.0) * 3)
    assert not report
    assert "no leaf" in str(report)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: y * 3.0,
        lambda x, y: y + mg.exp(mg.stop_gradient(x)),
        lambda x, y: y + mg.where(mg.less(x, 1.0), 2.0, 3.0),
        lambda x, y: y + mg.floor(x) * mg.sign(x),
        lambda x, y: y * mg.stop_gradient(x),
        lambda x, y: y + 0.0 * mg.tanh(x * x),
        lambda x, y: y + (x * Value(0.0) + x * mg.floor(0.5)) * 3,
    ],
)
@pytest.mark.parametrize("x", [1e-20, 0.3])
def test_leaves_that_cannot_matter_are_counted_and_not_shown_as_passes(f, x):
    report = check(f, x=x, y=2.0, order=2).raise_()
    assert [row.name for row in report.derivatives] == ["y", "∂²/∂y²"]
    assert report.notes == ["1 leaf cannot matter here, and backward() gives 0: x"]
    nothing = check(lambda x: f(x, Value(2.0)), x)
    assert not nothing
    assert nothing.summary == "function: nothing to check"
    many = check(lambda a: f(a[0], Value(2.0)), [x] * 7)
    assert many.notes == [
        "7 leaves cannot matter here, and backward() gives 0: a[0], a[1], a[2], a[3], a[4] and 2 more"
    ]


def test_what_only_a_number_or_a_row_of_ones_own_says_is_checked():
    lost = Op("lost", math.exp, (0.0,))
    for f in (
        lambda x: lost(x),
        lambda x: x * x,  # multiplied by a 0 that moves
        lambda x: mg.relu(x - 1),
        lambda x: mg.where(mg.less(x, 1.0), 2.0, x),
        lambda x: mg.floor(x) * 1.0,  # beside a jump
    ):
        assert len(check(f, 0.0).derivatives) == 1


def test_a_sample_is_drawn_from_what_matters():
    weights = [Value(float(i % 7) - 3, label=f"w{i}") for i in range(300)]
    pixels = [0.0 if i % 10 else 0.5 for i in range(300)]
    report = check(lambda: mg.tanh(mg.total([w * x for w, x in zip(weights, pixels, strict=True)])), weights, sample=8)
    report.raise_()
    assert {row.backward for row in report.derivatives} != {0.0}
    assert all(int(row.name[1:]) % 10 == 0 for row in report.derivatives[:8])
    assert report.notes[0].startswith("270 leaves cannot matter here")
    assert report.notes[1] == "8 of 30 leaves and 8 directions, drawn at random"
    both = Value(2.0, label="name"), Value(3.0, label="name")  # one name, and one of them matters
    assert [row.value for row in check(both[0] * 0.0 + both[1]).derivatives] == [3.0]


def test_the_directions_share_the_leaves_out():
    weights = [Value(1.0 + i / 1000, label=f"w{i}") for i in range(600)]
    wrong = Op("wrong", lambda x: x * x, (lambda y, x: 2.001 * x,))
    for k in (0, 299, 599):

        def f(k=k):
            return mg.total([(wrong if i == k else ops.power_of(2.0))(w) for i, w in enumerate(weights)])

        found = check(f, weights, sample=3)
        assert [row.name for row in found.failures if row.name.startswith("direction")] != []
        assert found.fault.op == "wrong"


# Nothing is lost


def test_data_and_gradients_are_as_before():
    x, w, other = Value(2.0), Value(3.0), Value(5.0)
    h = x * w
    y = h + other * x
    for value, gradient in ((x, 0.25), (w, 7.0), (other, -1.0), (h, 4.0), (y, 9.0)):
        value.grad = gradient
    check(y, [x, w])
    check(y, order=2)
    check(lambda: x * w * other, [x])
    check(lambda a: a * w, x)
    check(lambda: x * x.data * other, [x])
    assert [v.grad for v in (x, w, other, h, y)] == [0.25, 7.0, -1.0, 4.0, 9.0]
    assert [v.data for v in (x, w, other)] == [2.0, 3.0, 5.0]


def test_data_and_gradients_are_restored_when_the_function_raises():
    x = Value(2.0)
    x.grad = 0.5
    calls = []

    def f():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return x * 2

    with pytest.raises(KeyboardInterrupt):
        check(f, [x])
    assert (x.data, x.grad) == (2.0, 0.5)


def test_the_graph_is_recorded_even_within_no_grad():
    with mg.no_grad():
        check(lambda x: x * x, 2.0).raise_()


# Bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check(3.0, 1.0), TypeError, "takes a function or a Value"),
        (lambda: check(nn.MLP, 1.0), TypeError, "takes a function or a Value, got <class"),
        (lambda: check(nn.MLP(2, [1])), TypeError, r"MLP\(x.*cannot be called with no argument: give its input"),
        (lambda: check(nn.MLP(2, [1]), nn.MLP(2, [1])), TypeError, "expected one real number, got MLP of"),
        (
            lambda: check(lambda x, y: x),
            TypeError,
            r"function\(x, y\) cannot be called with no argument: give the point",
        ),
        (
            lambda: check(lambda x, y: x, (1.0, 2.0, 3.0)),
            TypeError,
            "cannot be called with 3 arguments: give the point",
        ),
        (lambda: check(lambda x: x, 1.0, y=2.0), TypeError, "cannot be called with 1 argument and y="),
        (lambda: check(mg.hypot, 3.0), TypeError, "hypot.* cannot be called with 1 argument"),
        (
            lambda: check(lambda x, y: x * y, 0.7, -1.3),
            TypeError,
            r"point as one argument; got 2: write check\(f, \(0\.7, -1\.3\)\); options go by name, as in order=2",
        ),
        (
            lambda: check(Value(1.0, "x") * 2, Value(1.0), 3.0),
            TypeError,
            r"write check\(y, \[Value\(.*, 3\.0\]\); options",
        ),
        (lambda: check(lambda x: x, 1.0, seed="a"), TypeError, "seed='a': give a whole number"),
        (lambda: check(lambda x: x, 1.0, sample=2.5), ValueError, "a whole one of at least 1"),
        (lambda: check(lambda x: x, 1.0, step="small"), ValueError, "step='small': give a positive number"),
        (lambda: check(lambda x: x, 1.0, allow=None), ValueError, "allow=None: give a list of verdicts"),
        (lambda: check(lambda x: x, 1.0, order=True), ValueError, "order=True: give 1"),
        (lambda: check(lambda x: x, 1.0, method=["auto"]), ValueError, "choose 'auto'"),
        (lambda: check(lambda x: [x], 1.0), TypeError, "must return one number"),
        (lambda: check(lambda x: "y" * 99, 1.0), TypeError, rf"it returned '{'y' * 76}\.\.\.: check each"),
        (lambda: check(lambda x: x, "2"), TypeError, "expected one real number"),
        (lambda: check(lambda x: x, 1.0, method="fd"), ValueError, "'auto', 'complex' or 'difference'"),
        (lambda: check(lambda x: x, 1.0, order=3), ValueError, "order=3"),
        (lambda: check(lambda x: x, 1.0, sample=0), ValueError, "at least 1"),
        (lambda: check(lambda x: x, 1.0, step=0.0), ValueError, "positive"),
        (lambda: check(lambda x: x, 1.0, step=-1e-3), ValueError, "positive"),
        (lambda: check(lambda x: x, 1.0, step=math.inf), ValueError, "positive"),
        (lambda: check(lambda x: x, 1.0, allow="KINK"), ValueError, "list of verdicts"),
        (lambda: check(lambda x: x, 1.0, allow=["OK"]), ValueError, "PASS, FAIL, KINK"),
        (lambda: check(Value(1.0) * 2, 3.0), TypeError, "give Values, or a module"),
        (lambda: check(Value(1.0) * 2, [(Value(1.0),)]), TypeError, "give Values, or a module"),
        (lambda: check(Value(1.0) * 2, [("x", Value(1.0), 2)]), TypeError, "give Values, or a module"),
        (lambda: check(Value(1.0) * 2, x=3.0), TypeError, "no arguments to set"),
        (lambda: check(lambda: Value(1.0) * 2, [Value(1.0) * 2]), ValueError, "not a leaf"),
        (lambda: check(lambda x: x, Value(1.0) * 2), ValueError, "not a leaf"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_graph_with_stale_data_is_refused():
    x = Value(2.0)
    y = x * 3
    x.data = 5.0
    with pytest.raises(ValueError, match=r"mul\(5, 3\) is 15 now, but .* holds 6: .* call y\.forward\(\) first"):
        check(y)
    check(y.forward()).raise_()
    x.data = math.nan
    with pytest.raises(ValueError, match="is nan now, but the graph holds 15"):
        check(y)
    assert check(y.forward())["leaf 1"].verdict is DOMAIN


def test_a_random_function_is_refused():
    generator = random.Random(0)
    with pytest.raises(ValueError, match="fix the seed"):
        check(lambda x: x * generator.random(), 1.0)
    for step in (1, -1):
        counter = itertools.count(1, step)
        with pytest.raises(ValueError, match="other numbers when it was run again at the same point"):
            check(lambda x, counter=counter: x * next(counter), 1.0)
        lengths = itertools.count(5, step)
        with pytest.raises(ValueError, match="gave another graph"):
            check(lambda x, lengths=lengths: mg.prod([x] * next(lengths)), 1.0)
    generator.seed(4)
    with pytest.raises(ValueError, match="fix the seed"):
        check(lambda x: x * x if generator.randrange(2) else mg.sin(x) + 1, 1.0, seed=1)


@pytest.mark.parametrize(
    ("width", "slope", "x"),
    [(7.698192593160679, 1.0, 0.7457322304227548), (1.33482226189356, 1.000001, 0.2950295562486148)],
)
def test_ripples_that_differences_see_by_chance_only_do_not_make_a_slope_wrong(width, slope, x):
    rippled = mg.Op("rippled", lambda x: x + 1e-3 / width * math.sin(1e9 * x), (lambda y, x: slope,))
    assert check(lambda x: rippled(x), x)["x"].verdict is UNRESOLVED


def test_the_complex_step_says_where_it_cannot_go():
    row = check(lambda x: OPAQUE(x), 0.5, method="complex")["x"]
    assert row.verdict is UNRESOLVED
    assert "analytic" in row.reason
    assert check(lambda x: mg.sin(x), 0.5, method="complex")["x"].method == "complex"
    assert [check(lambda x: mg.sin(x), x)["x"].method for x in (0.5, 0.0, -1e-9)] == ["complex"] * 3
    assert check(lambda x: mg.sin(x), 0.5, method="difference")["x"].method == "difference"


# The report


def failing_report():
    return check(lambda x, y: WRONG["sign"](x) * y, x=0.5, y=2.0)


def test_a_report_reads_as_a_table_with_every_column():
    text = str(failing_report())
    first, _, head, rule, *rows = text.splitlines()
    assert first == "function: 1 PASS, 1 FAIL"
    assert head.split() == ["value", "backward", "numeric", "error", "relative", "allowed", "verdict"]
    assert set(rule) == {"─"}
    assert rows[0].split()[:2] == ["x", "0.5"]
    assert rows[0].endswith("✗ FAIL")
    assert rows[1].endswith("✓ PASS")
    assert text.count("The local derivative of wrong") == 1
    assert "\n    wrong(x=0.5) = 0.4621171573\n    made at" in text
    assert repr(failing_report()) == text


LAID_OUT = """\
f: 1 PASS, 1 FAIL, 7 KINK, 1 DOMAIN, 1 UNRESOLVED

     value  backward       numeric  error  relative  allowed  verdict
──────────────────────────────────────────────────────────────────────────
x      0.5     −0.75          0.75    1.5         2    1e−12  ✗ FAIL
w    1, −2         —             —      —         —        —  ⊘ DOMAIN
a0                 0             0      0         0        —  ∠ KINK
a1                 0             0      0         0        —  ∠ KINK
a2                 0             0      0         0        —  ∠ KINK
a3                 0             0      0         0        —  ∠ KINK
a4                 0             0      0         0        —  ∠ KINK
a5                 0             0      0         0        —  ∠ KINK
a6                 0             0      0         0        —  ∠ KINK
b   1e+300         ∞  0.3333333333      —         —        0  ? UNRESOLVED
c        1         2   2.000000002  2e−09     1e−09    1e−08  ✓ PASS

✗ The sum is <wrong>.
    sum[6](x=0.666667, 0.333333, 0, 4, … 2 more) = 21.33333333
    made at a line that was not recorded: build the graph within mg.record_lines(), or check the function

• w has no limit
• a0, a1, a2, a3, a4 and 2 more: a tie
• b: rough
• a note"""


def test_a_report_says_the_same_in_text_in_a_notebook_and_in_colour():
    from rich.console import Console

    node = mg.total([Value(2 / 3, label="x"), *map(Value, (1 / 3, -0.0, 4.0, 5.0, 34 / 3))])
    rows = [
        Derivative("x", 0.5, -0.75, 0.75, 1e-12, FAIL, "The sum is <wrong>."),
        Derivative("w", (1.0, -2.0), math.nan, math.nan, math.inf, DOMAIN, "w has no limit"),
        *[Derivative(f"a{i}", math.nan, -0.0, 0.0, math.inf, KINK, "a tie") for i in range(7)],
        Derivative("b", 1e300, math.inf, 1 / 3, 0.0, UNRESOLVED, "rough"),
        Derivative("c", 1.0, 2.0, 2.0 * (1 + 1e-9), 1e-8, PASS),
    ]
    report = Report("f", rows, Fault(node, None, 1.0, 2.0, "The sum is <wrong>."), node, ["a note"])
    assert str(report) == LAID_OUT

    terminal = io.StringIO()
    Console(width=110, file=terminal).print(report)
    coloured = terminal.getvalue()
    page = html.unescape(report._repr_html_().split("</style>", 1)[1])
    shown = [re.findall(r"<td>(?:<span[^>]*>)?(.*?)(?:</span>)?</td>", row) for row in page.split("<tr")[2:]]
    assert len(re.findall(r'<td><span style="background:#[0-9a-f]{6}">', page)) == len(rows)
    rows_of_text = [" ".join(line.split()) for line in LAID_OUT.splitlines()[4:15]]
    assert [" ".join(" ".join(row).split()) for row in shown] == rows_of_text
    assert [" ".join(line.split()) for line in coloured.splitlines()[4:15]] == rows_of_text
    assert LAID_OUT.splitlines()[4] in coloured  # numbers on the right of their columns, as in the text
    words_of_page = " ".join(html.unescape(re.sub("<[^>]*>", " ", report._repr_html_())).split())
    for line in LAID_OUT.splitlines()[16:]:
        assert line.strip(" •") in words_of_page
        assert line.strip() in " ".join(coloured.split())
    assert "<li>a note</li></ul></div>" in page
    assert str(Report("f", rows[2:7])).endswith("• a0, a1, a2, a3, a4: a tie")
    assert str(Report("f", rows[2:8])).endswith("• a0, a1, a2, a3, a4 and 1 more: a tie")
    assert str(Fault(mg.total([Value(1.0)] * 4), None, 1.0, 2.0, "")).splitlines()[1] == "    sum[4](1, 1, 1, 1) = 4"
    five = str(Fault(mg.total([Value(1.0)] * 5), None, 1.0, 2.0, "")).splitlines()[1]
    assert five == "    sum[5](1, 1, 1, 1, … 1 more) = 5"
    assert rows[2].relative == 0.0
    assert Derivative("x", 0.0, math.inf, math.inf, 0.0, PASS).error == 0.0
    assert Derivative("x", 0.0, math.nan, math.nan, 0.0, PASS).error == 0.0


NARROW = """\
f: 1 FAIL, 1 KINK

        value   backward    numeric  error  allowed  verdict
────────────────────────────────────────────────────────────
x         0.5      −0.75       0.75    1.5    1e−12  ✗ FAIL
longer    100  0.6666666  0.6666666      0    1e−12  ∠ KINK
                     667        667

✗ The sum is <wrong>.
  add(x=0.666667, 0.333333) = 1
  made at a line that was not recorded: build the graph
  within mg.record_lines(), or check the function

• longer: a tie
• a note that is so long that it has to go on in a second
  line, under its text
"""


def test_a_report_is_laid_out_for_a_narrow_terminal():
    from rich.console import Console

    node = Value(2 / 3, label="x") + 1 / 3
    rows = [
        Derivative("x", 0.5, -0.75, 0.75, 1e-12, FAIL, "The sum is <wrong>."),
        Derivative("longer", 100.0, 2 / 3, 2 / 3, 1e-12, KINK, "a tie"),
    ]
    note = "a note that is so long that it has to go on in a second line, under its text"
    report = Report("f", rows, Fault(node, None, 1.0, 2.0, "The sum is <wrong>."), node, [note])
    terminal = io.StringIO()
    Console(width=60, file=terminal).print(report)
    assert re.sub(" +\n", "\n", terminal.getvalue()) == NARROW


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0.00012345, "0.00012"),
        (0.996, "1"),
        (1.0, "1"),
        (1.26, "1.3"),
        (105.0, "105"),
        (999999.0, "999999"),
        (1e6, "1e+06"),
        (1234567.0, "1.2e+06"),
        (-0.0, "0"),
        (-105.0, "−105"),
        (-1e-7, "−1e−07"),
    ],
)
def test_errors_have_two_digits_or_all_those_before_the_point(number, said):
    row = Derivative("x", 1.0, 2.0, 3.0, number, PASS)
    assert str(Report("f", [row])).splitlines()[-1].split()[-3] == said


def test_a_notebook_shows_the_fact_the_advice_and_the_counts():
    node = Value(2.0) * 3.0
    rows = [
        Derivative("x", 0.5, -0.75, 0.75, 1e-12, FAIL, "A fact. An advice."),
        Derivative("w", 1.0, math.nan, math.nan, math.inf, DOMAIN, "A bound"),
    ]
    report = Report("f", rows, Fault(node, None, 1.0, 2.0, "A fact. An advice."), node)
    page = report._repr_html_()
    assert "<b>✗ A fact.</b> An advice.<" in page
    assert 'f<span style="background:#c2410c">1 FAIL</span><span style="background:#475569">1 DOMAIN</span></p>' in page
    assert "<ul><li>w: A bound</li></ul>" in page
    bare = Report("f", rows[:1], Fault(node, None, 1.0, 2.0, "A fact."), node)
    assert "<b>✗ A fact.</b> <" in bare._repr_html_()
    assert "<p class=summary>f: nothing to check</p>" in Report("f")._repr_html_()


def test_the_line_of_a_wrong_local_derivative_is_told_whatever_its_module_is_called():
    partial = lambda y, x: 3 * x  # noqa: E731 - its line is the message's
    partial.__module__ = "a_module_before_microgrid"
    assert check(Op("square", lambda x: x * x, (partial,)), 3.0).fault.definition.file == __file__


def test_a_report_raises_with_itself_as_the_message():
    report = failing_report()
    with pytest.raises(AssertionError, match="The local derivative of wrong by x is wrong") as caught:
        report.raise_()
    assert caught.type is CheckError
    assert caught.value.report is report
    assert str(report) in str(caught.value)
    passing = check(lambda x: x * x, 2.0)
    assert passing.raise_() is passing


def test_rows_are_found_by_name():
    report = failing_report()
    assert [row.name for row in report.failures] == ["x"]
    assert report["y"].relative < 1e-10
    assert report["x"].relative == pytest.approx(2.0)
    with pytest.raises(KeyError, match="there are x, y"):
        report["z"]


def test_a_failure_can_not_be_allowed():
    report = failing_report()
    assert not check(lambda x: WRONG["sign"](x), 0.5, allow=["FAIL", "KINK"])
    assert report.summary == "function: 1 PASS, 1 FAIL"


def test_a_report_of_many_leaves_says_each_reason_once():
    text = str(check(lambda xs: mg.total([mg.relu(x) for x in xs]) * 0.0, [0.0] * 8))
    assert "xs[0], xs[1], xs[2], xs[3], xs[4] and 3 more" in text or "xs[0]" in text


def test_a_report_is_coloured_in_a_terminal():
    from rich.console import Console

    console = Console(width=120, force_terminal=True, color_system="standard", record=True)
    console.print(failing_report())
    console.print(check(lambda x: mg.relu(x), 0.0))
    plain = console.export_text(clear=False)
    for line in str(failing_report()).splitlines()[2:6]:
        assert re.sub(r"[\s─]+", " ", line).strip() in re.sub(r"[\s─]+", " ", plain)
    text = console.export_text(styles=True)
    for coloured in (
        "[1;31m1 FAIL",
        "[1;32m1 PASS",
        "[1;31m✗ FAIL",
        "[32m✓ PASS",
        "[33m∠ KINK",
        "[1;31mThe local derivative of wrong",
    ):
        assert f"\x1b{coloured}" in text
    assert "changes its branch" in " ".join(text.split())


def test_a_report_drops_a_column_before_it_breaks_numbers():
    from rich.console import Console

    def printed(width):
        console = Console(width=width, record=True)
        console.print(failing_report())
        return console.export_text()

    numbers = [number for number in str(failing_report()).split() if re.fullmatch(r"−?\d\.\d{9}", number)]
    assert len(numbers) == 3
    assert all(number in printed(66) for number in numbers)
    wide = max(len(line.rstrip()) for line in printed(200).splitlines()[1:4])
    assert "relative" in printed(wide)
    assert "relative" not in printed(wide - 1)


def test_a_remark_says_which_derivative_it_is_about():
    report = check(lambda a, b: a + b * 1e16 + b - b * 1e16, (1.0, 1.0))
    assert "• b: backward() itself is known to" in str(report)


def test_numbers_are_written_as_people_do():
    report = check(Op("late", lambda x: x * x, (lambda y, x: x,)), 105.0)
    assert [row.error for row in report.derivatives] == [pytest.approx(105.0)]
    assert " 105 " in str(report).split("relative")[1]
    assert str(check(lambda x: x * x, 2 / 3)).splitlines()[4].split()[:3] == ["x", "0.666667", "1.333333333"]
    assert str(check(mg.relu, 0.0)).splitlines()[4].split() == ["x", "0", "0", *"————", "∠", "KINK"]


def test_a_report_in_a_notebook_is_safe_html_with_the_picture_of_the_faulty_node(monkeypatch):
    seen = []

    def picture(value, mark=None):
        seen.append((value, mark, mark.grad, mark.first.grad))
        return {"image/svg+xml": "<svg>graph</svg>"}

    monkeypatch.setattr("microgrid.recording.pictures", [picture])
    x = Value(0.5, label="<b>x</b>")
    x.grad = 5.0
    y = WRONG["sign"](x)
    report = check(y)
    page = report._repr_html_()
    assert "<svg>graph</svg>" in page
    assert seen == [(y, y, 1.0, math.tanh(0.5) ** 2 - 1)]
    assert (x.grad, y.grad) == (5.0, 0.0)
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page
    assert "✗ FAIL" in page
    monkeypatch.setattr("microgrid.recording.pictures", [])
    assert "<svg" not in report._repr_html_()
    assert "<blockquote>" in Report("f", report.derivatives, report.fault)._repr_html_()  # without a graph to draw
    passing = check(lambda x: x * x, 1.0)._repr_html_()
    assert "blockquote>" not in passing.split("</style>")[1]


def test_a_long_check_shows_its_progress(monkeypatch, capsys):
    import time

    ticks = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: 0.5 * next(ticks))
    monkeypatch.setenv("FORCE_COLOR", "1")
    check(lambda xs: mg.total(x * x for x in xs), [1.0] * 5).raise_()
    shown = capsys.readouterr().err
    assert "checking" in shown
    assert shown.endswith("\x1b[2K")  # nothing of it is left in the terminal
    check(lambda xs: mg.total(x * x for x in xs), [1.0] * 5, progress=False).raise_()
    assert capsys.readouterr().err == ""
    done = []
    monkeypatch.setattr("rich.progress.Progress.update", lambda self, task, completed: done.append(completed))
    check(lambda xs: mg.total(x * x for x in xs), [1.0] * 5).raise_()
    assert done == [3, 4]  # from beyond the first second on


# Properties


SAFE = [op for op in ops.rows() if op.arity]


@st.composite
def programs(draw):
    """A straight-line program over earlier results, as a list of operations with their operands."""
    steps = []
    for i in range(draw(st.integers(1, 6))):
        op = draw(st.sampled_from(SAFE))
        steps.append((op, [draw(st.integers(0, i + 1)) for _ in range(op.arity)]))
    return steps


def run(steps, xs, replace=None):
    values = list(xs)
    for i, (op, operands) in enumerate(steps):
        op = replace[1] if replace and replace[0] == i else op
        values.append(op(*[values[j] for j in operands]))
    return values[-1]


points = st.tuples(*[st.floats(-3, 3) | st.floats(-1e4, 1e4)] * 2)


@settings(max_examples=300, deadline=None)
@given(programs(), points, st.sampled_from(["auto", "difference"]))
def test_no_right_program_fails_except_by_a_gradient_that_is_no_number(steps, at, method):
    report = check(lambda a, b: run(steps, (a, b)), at, method=method)
    for row in report.failures:
        assert not math.isfinite(row.backward), str(report)
    str(report)


@settings(max_examples=200, deadline=None)
@given(programs(), points, st.data())
def test_a_wrong_derivative_in_a_random_program_is_blamed_on_nothing_else(steps, at, data):
    i = data.draw(st.integers(0, len(steps) - 1))
    op = steps[i][0]
    wrong = Op("wrong", op.forward, tuple([_scaled(p) for p in op.partials]), domain=op.domain, kink=op.kink)
    report = check(lambda a, b: run(steps, (a, b), (i, wrong)), at)
    if report.fault and all(math.isfinite(row.backward) for row in report.failures):
        assert report.fault.op == "wrong", str(report)
    right = check(lambda a, b: run(steps, (a, b)), at)
    for before in right.derivatives:
        after = report[before.name]
        if before.verdict is PASS and not math.isclose(before.backward, after.backward, rel_tol=1e-3, abs_tol=1e-9):
            assert after.verdict in (FAIL, KINK, UNRESOLVED), str(report)


def _scaled(partial):
    return (lambda *numbers: 1.5 * partial(*numbers)) if callable(partial) else 1.5 * partial


@pytest.mark.parametrize("op", [op for op in ops.rows() if complex_forward(op)], ids=lambda op: op.name)
def test_the_complex_step_and_differences_agree_on_every_analytic_row(op):
    generator = random.Random(op.name)
    methods = set()
    for _ in range(10):
        xs = tuple(generator.uniform(max(d.low, -3.0), min(d.high, 3.0)) or 0.5 for d in op.domain)
        xs = tuple(x if x > d.low else x + 1.1 for x, d in zip(xs, op.domain, strict=True))
        for i in range(op.arity):
            if math.isfinite(op(*xs)):
                row = Primitive(op, xs, seed=0).first(i)
                assert row.verdict is PASS, (xs, row)
                if not 0 < abs(row.backward) < 0.1:  # beside a zero, as of Γ′ at 1.46, a difference knows as much
                    methods.add(row.method)
    assert methods == {"complex"}


@given(st.floats(0.1, 3), st.floats(0.1, 3))
def test_numbers_that_round_at_random_stay_within_a_few_units_of_the_result(a, b):
    generator = random.Random(1)
    x, y = Noisy(a, generator), Noisy(b, generator)

    def expression(x, y):
        return ((1 + x) * y - x / y + (2 - y) / (3 * x) + x**2 + 2**x + x**y + abs(-x) + 1 / x - 1) * 2

    exact, noisy = expression(a, b), [float(expression(x, y)) for _ in range(20)]
    assert noisy == pytest.approx([exact] * 20, rel=1e-12, abs=1e-12)
    assert len(set(noisy)) > 1
    assert (x < 10, x <= 10, x > 10, x >= 10, bool(x)) == (True, True, False, False, True)
    assert (x < 0, x <= 0, x > 0, x >= 0, bool(x * 0)) == (False, False, True, True, False)
    assert (x < x, x <= x, x > x, x >= x) == (False, True, False, True)


def test_a_numeric_derivative_without_a_culprit_is_doubted_itself():
    def f(x):  # all that happens, happens between two neighbouring floats
        return OPAQUE((x - 0.5) * 1e25 - 1.0) * 1e-25

    report = check(f, 0.5, order=2)
    assert report["x"].verdict is UNRESOLVED
    assert "every local derivative is right" in report["x"].reason
    assert report["∂²/∂x²"].verdict is UNRESOLVED
    assert "too rough" in report["∂²/∂x²"].reason


def test_functions_without_a_signature_are_checked():
    assert check(max, (Value(2.0), Value(1.0))).raise_().derivatives[0].backward == 1.0


@pytest.mark.parametrize(
    ("forward", "partial"),
    [
        (lambda x: (x + 1e6) - 1e6, lambda y, x: 1.0),
        (lambda x: (x + 1e9) - 1e9, lambda y, x: 1.0),
        (lambda x: 1.0 - math.cos(1e-4 * x), lambda y, x: 1e-4 * mg.sin(1e-4 * x)),
        (lambda x: math.sqrt(1e10 + x * x) - 1e5, lambda y, x: x * ops.div(1.0, mg.sqrt(1e10 + x * x))),
        (lambda x: math.sin(1e6 * x), lambda y, x: 1e6 * mg.cos(1e6 * x)),
    ],
    ids=["shift", "far shift", "cosine", "root", "fast sine"],
)
def test_cancellation_inside_a_forward_of_ones_own_is_no_fault_but_a_wrong_sign_is(forward, partial):
    right = Op("right", forward, (partial,))
    wrong = Op("wrong", forward, (lambda y, x: -partial(y, x),))
    draw = random.Random(0).uniform
    points = [draw(-3.0, 3.0) for _ in range(20)] + [1.968379670423393]
    assert not [x for x in points if any(row.verdict is FAIL for row in check(lambda v: right(v), x).derivatives)]
    found = [check(lambda v: wrong(v), x) for x in points]
    assert all(report["v"].verdict in (FAIL, UNRESOLVED) for report in found)
    assert sum(report["v"].verdict is FAIL for report in found) >= 15
    assert all(report.fault.node.op is wrong for report in found if report.fault)


def test_a_slope_that_is_known_to_four_digits_counts_before_a_smaller_error():
    """Far beyond the period of a function its slope is near 0, and so is the error of what is seen of it."""
    lost = Op("lost", lambda x: math.sin(2.0**27 * x), (0.0,))
    assert [check(lost, x)["x"].verdict for x in (1.738, 1.772, 1.027)] == [FAIL] * 3


@pytest.mark.parametrize("c", [1e2, 3e5, 2e8, 7e10])
@pytest.mark.parametrize(
    ("forward", "partial"),
    [
        (lambda x, c: (x * x + c) - c, lambda x, c: 2 * x),
        (lambda x, c: math.sqrt(c * c + x * x) - c, lambda x, c: x * ops.div(1.0, mg.sqrt(c * c + x * x))),
        (lambda x, c: 1 - math.cos(x / c), lambda x, c: mg.sin(x / c) / c),
        (lambda x, c: (math.exp(-x * x) + c) - c, lambda x, c: -2 * x * mg.exp(-x * x)),
    ],
    ids=["square", "root", "cosine", "bell"],
)
def test_what_is_lost_beside_a_larger_number_in_a_forward_of_ones_own_is_no_fault(forward, partial, c):
    own = Op("own", lambda x: forward(x, c), (lambda y, x: partial(x, c),))
    draw = random.Random(1)
    points = [0.0] + [draw.choice([-1, 1]) * 10 ** draw.uniform(-12, 3) for _ in range(15)]
    assert not [x for x in points if check(own, x)["x"].verdict is FAIL]


@pytest.mark.parametrize(
    ("forward", "slope"),
    [
        (lambda u: u + math.sin(u), lambda u: 1.0 + math.cos(u)),
        (lambda u: u + math.asinh(u), lambda u: 1.0 + 1.0 / math.hypot(1.0, u)),
        (lambda u: 2.0 * max(u, 0.0), lambda u: 2.0),
    ],
)
@pytest.mark.parametrize("scale", [1e-30, 1e-12])
def test_a_function_that_is_a_line_far_beyond_a_tiny_point_is_judged_at_the_point(forward, slope, scale):
    def operation(factor):
        return mg.Op("mine", lambda x: forward(x / scale), (lambda y, x: factor * slope(x / scale) / scale + 0.0 * x,))

    x = 0.47 * scale
    of_the_line = 1.0 / slope(0.47)  # through what is far on both sides
    assert mg.check(operation(1.0), x)
    assert mg.check(operation(of_the_line), x).derivatives[0].verdict == "FAIL"


@pytest.mark.parametrize("x", [1.5e-31, -2.9e-31, 4.3e-30])
def test_what_only_a_constant_hides_is_not_called_wrong_at_a_tiny_point(x):
    """The root bends at the size of x, where −0.4 rounds it away; further off its slope is another at every step."""
    root = Op("root", lambda x: 1e-10 * math.cbrt(x) - 0.4, (lambda y, x: 1e-10 / 3.0 * abs(x) ** (-2 / 3),))
    assert check(root, x)["x"].verdict is UNRESOLVED
    wrong = Op("wrong", lambda x: math.exp(x) - 0.4, (0.5,))
    assert check(wrong, x)["x"].verdict is FAIL
