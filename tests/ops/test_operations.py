"""Every row of the table of operations against 50-digit arithmetic and against central differences.

A new row joins by itself. Where a row cannot be right to the last digits, ``EXCEPTIONS`` says so and why.
"""

import math
import pydoc
import re
from collections.abc import Callable, Sequence
from itertools import chain, combinations, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact import DEFINITIONS, FACTORIES, exact, ulp
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

import microgrid as mg
from microgrid import ops
from microgrid.calculus import gradient_graph
from microgrid.engine import Value
from microgrid.ops import Op
from microgrid.strategies import arguments

EPSILON = 2.0**-52
LARGEST = 2.0**1023 * (2 - EPSILON)
UNITS = (4, 16, 16)
"""How many units in the last place of the exact result the forward value and the derivatives may be off."""

Bound = Callable[..., Any]


def _polygamma_terms(n: int) -> Bound:
    """ψ⁽ⁿ⁾ near its zeros: the size of the terms whose difference it is; left of 0 powers of cot(πx) by reflection."""

    def bound(y: Any, x: float) -> Any:
        reflected = math.pi ** (n + 1) * math.factorial(n) + (n + 1) * abs(y)
        return EPSILON * (4 * (1 + mp.log1p(abs(x))) + (reflected if x < 0 else 0))

    return bound


def _power_terms(order: int) -> Bound:
    def bound(y: Any, x: float, n: float) -> Any:
        if mpf(x) ** -order > LARGEST or abs(n * mp.log(x)) > 700:
            return mp.inf
        return EPSILON * (2 + abs(n)) * (2 + abs(mp.log(x))) * abs(y)

    return bound


def _beyond(y: Any) -> Any:
    """No bound where y or 1/y is no float."""
    return mp.inf if y > LARGEST or y * LARGEST < 1 else 0


EXCEPTIONS: dict[tuple[str, int], tuple[str, Bound]] = {
    ("sum_of", 0): (
        "the sums on the way are rounded, from left to right",
        lambda y, *xs: EPSILON * len(xs) * sum(map(abs, map(mpf, xs))),
    ),
    ("power", 1): ("n − 1 is rounded; xⁿ or xⁿ⁻¹ overflows where n·xⁿ⁻¹ does not", _power_terms(1)),
    ("power", 2): ("n − 2 is rounded; xⁿ or xⁿ⁻² overflows where n(n − 1)xⁿ⁻² does not", _power_terms(2)),
    ("silu", 1): ("a sum with a zero at −1.278", lambda y, x: EPSILON),
    ("silu", 2): ("a sum with zeros at ±2.4", lambda y, x: EPSILON),
    ("gelu", 1): ("a sum with a zero at −0.752; x² is rounded", lambda y, x: EPSILON * (1 + mpf(x) ** 2 * abs(y))),
    ("gelu", 2): ("2 − x² has zeros at ±√2; x² is rounded", lambda y, x: EPSILON * (1 + mpf(x) ** 2 * abs(y))),
    ("erf", 1): ("exp(−x²): x² is rounded", lambda y, x: EPSILON * mpf(x) ** 2 * abs(y)),
    ("erf", 2): ("exp(−x²): x² is rounded", lambda y, x: EPSILON * mpf(x) ** 2 * abs(y)),
    ("erfc", 1): ("exp(−x²): x² is rounded", lambda y, x: EPSILON * mpf(x) ** 2 * abs(y)),
    ("erfc", 2): ("exp(−x²): x² is rounded", lambda y, x: EPSILON * mpf(x) ** 2 * abs(y)),
    ("atan2", 0): ("mpmath has no −0; the table of special values has", lambda y, a, b: 7 if a == 0 else 0),
    ("atan2", 1): ("√(a² + b²) overflows", lambda y, a, b: _beyond(mp.hypot(a, b))),
    ("atan2", 2): ("a² − b² over (a² + b²)²: zero at |a| = |b|", lambda y, a, b: 4 * EPSILON / mp.hypot(a, b) ** 2),
    ("hypot", 1): ("a/y where y overflows", lambda y, a, b: _beyond(mp.hypot(a, b))),
    ("hypot", 2): ("b²/y³ where y overflows", lambda y, a, b: _beyond(mp.hypot(a, b))),
    ("hypot_of", 2): ("1/y − a²/y³", lambda y, *xs: 4 * EPSILON / mp.norm(xs)),
    ("gamma", 0): ("the math module's has 16 units", lambda y, x: 16 * EPSILON * abs(y)),
    ("gamma", 1): (
        "Γ(x) times digamma",
        lambda y, x: abs(mp.gamma(x)) * _polygamma_terms(0)(mp.digamma(x), x) + _beyond(mp.gamma(x)),
    ),
    ("gamma", 2): (
        "Γ(x) times digamma squared and polygamma",
        lambda y, x: abs(mp.gamma(x)) * _polygamma_terms(1)(mp.polygamma(1, x), x) + _beyond(mp.gamma(x)),
    ),
    ("lgamma", 0): ("zeros at 1, 2 and left of −2", lambda y, x: 4 * EPSILON),
    ("lgamma", 1): ("digamma", _polygamma_terms(0)),
    ("digamma", 0): ("a zero at 1.4616 and one between each two poles", _polygamma_terms(0)),
    ("digamma", 2): ("polygamma", _polygamma_terms(2)),
}
"""By the name of the row and the order of the derivative: why it is further off somewhere, and the absolute
error that is allowed in addition, as a function of the exact result and the arguments. All are measured."""


def allowed_error(op: Op, correct: Any, xs: tuple[float, ...], order: int) -> Any:
    if op.recipe and op.recipe[0] is ops.polygamma_of:
        bound = _polygamma_terms(int(op.recipe[1][0]) + order)
    else:
        _, bound = EXCEPTIONS.get((_name(op), order), ("", lambda y, *xs: 0))
    return UNITS[order] * ulp(correct) + bound(correct, *xs)


def check_against_exact(op: Op, computed: float, xs: tuple[float, ...], *by: int) -> None:
    correct = exact(op, xs, *by)
    if mp.isnan(correct):  # no derivative here: the table of special values has these points
        return
    allowed = allowed_error(op, correct, xs, len(by))
    if math.isnan(computed) and len(by) == 2 and max(abs(correct), allowed) > LARGEST:
        return  # the difference of two infinities
    # beyond the largest float comes infinity: both count as one unit above it
    beyond = mp.ldexp(1, 1024)
    error = abs(min(max(mpf(computed), -beyond), beyond) - min(max(correct, -beyond), beyond))
    assert error <= allowed, (
        f"{op.name} at {xs}, derivative by {by}: {computed!r}, exactly {mp.nstr(correct, 20)}; "
        f"{mp.nstr(error / ulp(correct), 3)} units off"
    )


def check_against_central_difference(op: Op, computed: float, xs: tuple[float, ...], *by: int) -> bool:
    """Difference the forward value, or the first derivative if two are given; say whether that says anything."""
    *before, i = by

    def function(x: float) -> float:
        zs = (*xs[:i], x, *xs[i + 1 :])
        return op.local_derivatives(op(*zs), *zs)[before[0]] if before else op(*zs)

    def noise(y: float) -> float:
        return 2 * float(allowed_error(op, mpf(y), xs, len(before)))

    x, y, third = xs[i], function(xs[i]), float(exact(op, xs, *before, i, i, i, size=True))
    if not (math.isfinite(y) and math.isfinite(third)):
        return False
    # the step at which truncation h²|f'''|/6 and rounding are least together, as a power of two: x ± h is exact
    scale = max(min(1.0, abs(x) or 1.0) / 1024, 5e-324)
    best = math.cbrt(3 * noise(y)) / math.cbrt(third) if third and y else scale  # of an exact 0 there is a bound only
    h = 2.0 ** math.floor(math.log2(max(min(best, scale), 5e-324)))
    low, high = x - h, x + h
    beside = [(*xs[:i], z, *xs[i + 1 :]) for z in (low, high)]
    if (
        not high - x == x - low == h
        or not all(_inside(op, zs) for zs in beside)
        or (op.kink is not None and op.kink(*beside[0]) != op.kink(*beside[1]))
    ):
        return False
    numeric = (function(high) - function(low)) / (high - low)
    if not math.isfinite(numeric):
        return False
    size = max(abs(y), abs(function(low)), abs(function(high)))
    allowed = 4 * (h * h * third / 6 + noise(size) / h)
    assert not abs(computed - numeric) > allowed, (
        f"{op.name} at {xs}, derivative by {by}: {computed!r}, by central differences {numeric!r} ± {allowed:.1g}"
    )
    return allowed < 1e-3 * max(1.0, abs(computed))


def _name(op: Op) -> str:
    return op.recipe[0].__name__ if op.recipe else op.name


def _inside(op: Op, xs: tuple[float, ...]) -> bool:
    return all(domain.low < x < domain.high for x, domain in zip(xs, op.domain, strict=True))


def _has_kink_beside(op: Op, xs: tuple[float, ...]) -> bool:
    beside = product(*[(math.nextafter(x, -math.inf), x, math.nextafter(x, math.inf)) for x in xs])
    return op.kink is not None and len({op.kink(*zs) for zs in beside}) > 1


@pytest.mark.parametrize("op", list(ops.rows()), ids=lambda op: op.name)
def test_row_agrees_with_50_digits_and_with_central_differences(op: Op) -> None:
    resolved = set[int]()

    @given(arguments(op, near=True), st.data())
    def check(xs: tuple[float, ...], data: st.DataObject) -> None:
        y = op(*xs)
        if not mp.isfinite(exact(op, xs)):  # a pole: the table of special values has it
            return
        check_against_exact(op, y, xs)
        if not _inside(op, xs) or _has_kink_beside(op, xs):
            return
        i = data.draw(st.integers(0, op.arity - 1), label="first derivative by argument")
        j = data.draw(st.integers(0, op.arity - 1), label="second derivative by argument")
        leaves = [Value(x) for x in xs]
        first = gradient_graph(op(*leaves), leaves)[i]
        assert first.data == pytest.approx(op.local_derivatives(y, *xs)[i], rel=0, abs=0, nan_ok=True)
        check_against_exact(op, first.data, xs, i)
        if mp.isnan(exact(op, xs, i)):
            return
        second = gradient_graph(first, leaves)[j].data
        check_against_exact(op, second, xs, i, j)
        if op is not ops.stop_gradient:  # whose derivative is not that of its forward value
            resolved.update(
                order
                for order in (1, 2)
                if check_against_central_difference(op, (first.data, second)[order - 1], xs, *(i, j)[:order])
            )

    check()
    assert resolved == {1, 2} or op is ops.stop_gradient


@pytest.mark.parametrize("op", [op for op in ops.rows() if op.arity == 1], ids=lambda op: op.name)
def test_the_domain_is_where_value_and_derivative_are_numbers(op: Op) -> None:
    for x in (-2.5, -1.5, -0.5, -1e-9, 1e-9, 0.5, 1.5, 2.5):
        assert (x in op.domain[0]) == (mp.im(exact(op, (x,))) == 0 and math.isfinite(op(x)))
    for end in filter(math.isfinite, (op.domain[0].low, op.domain[0].high)):
        assert end not in op.domain[0] or math.isfinite(op(end))


def with_derivatives(op: Op, xs: Sequence[float]) -> list[float]:
    """Return the operation at xs with its first and second derivatives."""
    leaves = [Value(x) for x in xs]
    y = op(*leaves)
    first = gradient_graph(y, leaves)
    second = [derivative for slope in first for derivative in gradient_graph(slope, leaves)]
    return [node.data for node in (y, *first, *second)]


@pytest.mark.parametrize("op", [op for op in ops.rows() if op.arity <= 3], ids=lambda op: op.name)
def test_where_a_row_or_a_derivative_jumps_its_kink_tells(op: Op) -> None:
    for xs in product((-1.0, 0.0, 1.0), repeat=op.arity):
        for i in range(op.arity):
            points = [(*xs[:i], xs[i] + step, *xs[i + 1 :]) for step in (-1e-9, 0.0, 1e-9)]
            # the tip of hypot's cone is one point, so no predicate tells that a step leads over it
            for a, b in pairwise(points) if op in (ops.hypot, ops.hypot_of(3)) else combinations(points, 2):
                numbers = [with_derivatives(op, zs) for zs in (a, b)]
                jumps = numbers[0] != pytest.approx(numbers[1], abs=1e-3)
                if jumps and all(abs(x) < 100 for x in chain(*numbers)) and _inside(op, a) and _inside(op, b):
                    assert op.kink is not None, (a, b)
                    assert op.kink(*a) != op.kink(*b), (a, b)


COARSE = (ops.less, ops.less_equal, ops.greater, ops.greater_equal, ops.equal, ops.not_equal, ops.clip, ops.atan2)
"""Rows that tell more branches apart than there are: at a tie, for any order of low and high, around the origin."""


@pytest.mark.parametrize("op", [op for op in ops.rows() if op.kink and op not in COARSE], ids=lambda op: op.name)
def test_a_kink_is_only_where_a_row_or_a_derivative_jumps(op: Op) -> None:
    assert op.kink is not None
    for xs in product((-1.3, -0.4, 0.7), repeat=op.arity):
        for i in range(op.arity):
            low, high = [[*xs[:i], x, *xs[i + 1 :]] for x in (xs[i], xs[i] + 1.95)]
            if op.kink(*low) == op.kink(*high):
                continue
            while high[i] - low[i] > 1e-12:
                middle = [*xs[:i], (low[i] + high[i]) / 2, *xs[i + 1 :]]
                low, high = (middle, high) if op.kink(*middle) == op.kink(*low) else (low, middle)
            assert with_derivatives(op, low) != pytest.approx(with_derivatives(op, high), rel=1e-3), (low, high)


@pytest.mark.parametrize(
    ("op", "a", "b"),
    [
        (ops.hypot, (1.0, 1.0), (1.0, 2.0)),
        (ops.hypot, (-1.0, -1.0), (-1.0, -2.0)),
        (ops.hypot, (0.0, 1.0), (0.0, 2.0)),
        (ops.hypot, (-1.0, 0.0), (-1.0, 1.0)),
        (ops.hypot, (1.0, 0.0), (1.0, 1.0)),
        (ops.hypot, (0.0, -1.0), (1.0, -1.0)),
        (ops.atan2, (1.0, 0.5), (-1.0, 0.5)),
        (ops.atan2, (1.0, -1.0), (2.0, -2.0)),
        (ops.elu_of(1.0), (0.5,), (2.0,)),
        (ops.power_of(2.0), (-1.0,), (1.0,)),
        (ops.power_of(0.0), (-1.0,), (1.0,)),
    ],
)
def test_no_kink_is_declared_where_a_row_is_smooth(op: Op, a: tuple[float, ...], b: tuple[float, ...]) -> None:
    assert op.kink is None or op.kink(*a) == op.kink(*b)


@pytest.mark.parametrize(
    ("op", "a", "b"),
    [
        (ops.power_of(-1.0), (-0.5,), (0.5,)),
        (ops.lgamma, (-0.5,), (0.5,)),
        (ops.lgamma, (-1.5,), (-0.5,)),
        (ops.atan2, (-1.0, 0.0), (1.0, 0.0)),
        (ops.atan2, (-1.0, -0.5), (1.0, -0.5)),
    ],
)
def test_a_kink_tells_on_which_side_of_a_pole_or_a_jump_a_point_lies(op: Op, a: Any, b: Any) -> None:
    assert op.kink is not None
    assert op.kink(*a) != op.kink(*b)


def test_a_row_with_a_constant_shows_it_in_its_symbol() -> None:
    assert [ops.power_of(n).symbol for n in (2.0, -0.5, 1e20)] == ["x²", "x⁻⁰·⁵", "x^1e+20"]
    assert ops.polygamma_of(12).symbol == "ψ⁽¹²⁾"
    assert [ops.power_log_of(k).symbol for k in (1, 2, 10)] == ["xⁿ·log x", "xⁿ·log² x", "xⁿ·log¹⁰ x"]


@pytest.mark.parametrize(
    "op", [op for op in [*ops.rows(), ops.direction_of(3), ops.power_log_of(2)] if op.recipe], ids=lambda op: op.name
)
def test_a_row_of_a_constant_is_made_once(op: Op) -> None:
    assert op.recipe is not None
    make, constants = op.recipe
    assert make(*constants) is op


def test_a_power_of_0_is_one_row_whatever_the_sign_of_the_0() -> None:
    assert ops.power_of(-0.0) is ops.power_of(0.0)
    assert ops.base_of(-0.0) is not ops.base_of(0.0)  # which differ where the exponent is negative
    for make in (ops.elu_of, ops.leaky_relu_of):
        assert [math.copysign(1.0, make(zero)(-1.0)) for zero in (0.0, -0.0)] == [-1.0, 1.0]


def test_at_0_with_the_exponent_0_all_derivatives_of_a_power_are_0() -> None:
    leaves = [Value(0.0), Value(0.0)]
    first = gradient_graph(ops.power(*leaves), leaves)
    second = [derivative for slope in first for derivative in gradient_graph(slope, leaves)]
    assert {derivative.data for derivative in (*first, *second)} == {0.0}


def test_where_gamma_overflows_all_its_derivatives_are_infinite() -> None:
    for x in (172.0, 173.5, 1e300):
        leaf = Value(x)
        derivative = ops.gamma(leaf)
        for _ in range(4):
            (derivative,) = gradient_graph(derivative, [leaf])
            assert derivative.data == math.inf


def test_a_power_times_a_logarithm_has_its_sign_at_the_pole() -> None:
    assert [ops.power_log_of(k)(0.0, -1.0) for k in (1, 2, 3)] == [-math.inf, math.inf, -math.inf]


def test_the_length_of_one_number_is_its_absolute_value_with_its_derivative_at_0() -> None:
    for x in (-3.0, 0.0, 2.5):
        assert ops.hypot(x) == abs(x)
        leaf = Value(x)
        assert gradient_graph(ops.hypot(leaf), [leaf])[0].data == ops.sign(x)


def test_every_row_has_a_definition_of_its_own() -> None:
    for name in map(_name, ops.rows()):
        assert name in DEFINITIONS or name in FACTORIES or name == "polygamma_of" or callable(getattr(mp, name, None))


def test_every_exception_is_of_a_row() -> None:
    assert {name for name, _ in EXCEPTIONS} <= set(map(_name, ops.rows()))


DIFFERENCES = {
    "a number that underflows, or the sign of a zero": """
        log1p(5e-324) = 5e-324; 1.0
        log1p(-5e-324) = -5e-324; 1.0
        relu(-0.0) = 0.0; 0.0
        sum[5](-0.0, -0.0, -0.0, -0.0, -0.0) = -0.0; 1.0, 1.0, 1.0, 1.0, 1.0
    """,
    "the angle has no limit at the origin, and nan says so, as in JAX; PyTorch says 0": """
        atan2(0.0, 0.0) = 0.0; nan, nan
        atan2(0.0, -0.0) = 3.141592653589793; nan, nan
        atan2(-0.0, 0.0) = -0.0; nan, nan
        atan2(-0.0, -0.0) = -3.141592653589793; nan, nan
    """,
    "PyTorch squares numbers whose squares are no floats": """
        atan2(5e-324, 5e-324) = 0.7853981633974483; inf, -inf
        atan2(5e-324, 1e+300) = 0.0; 1e-300, -0.0
        atan2(1e+300, 5e-324) = 1.5707963267948966; 0.0, -1e-300
        atan2(1e+300, 1e+300) = 0.7853981633974483; 4.999999999999999e-301, -4.999999999999999e-301
        atan2(-1e+300, 1e+300) = -0.7853981633974483; 4.999999999999999e-301, 4.999999999999999e-301
        atan2(1e+300, 3.0) = 1.5707963267948966; 0.0, -1e-300
        asinh(1e+300) = 691.4686750787736; 1e-300
        asinh(-1e+300) = -691.4686750787736; 1e-300
        acosh(1e+300) = 691.4686750787736; 1e-300
    """,
    "nan outside the domain, where PyTorch differentiates a formula of which only part is defined": """
        acosh(-1.0) = nan; nan
        acosh(-2.0) = nan; nan
        acosh(-1e+300) = nan; nan
        acosh(-inf) = nan; nan
    """,
    "PyTorch's trigamma is right to 9 digits": """
        digamma(0.5) = -1.9635100260214235; 4.934802200544679
        digamma(1.0) = -0.577215664901533; 1.6449340668482264
        polygamma[1](0.5) = 4.934802200544679; -16.82879664423432
        polygamma[1](1.0) = 1.6449340668482264; -2.4041138063191885
    """,
    "PyTorch takes no notice of poles left of 0, and has nan at inf": """
        digamma(-1.0) = nan; inf
        digamma(-2.0) = nan; inf
        digamma(-1e+300) = nan; inf
        polygamma[1](-0.0) = inf; inf
        polygamma[1](-1.0) = inf; nan
        polygamma[1](-2.0) = inf; nan
        polygamma[1](-1e+300) = inf; nan
        polygamma[1](inf) = 0.0; 0.0
        polygamma[1](-inf) = nan; nan
        polygamma[2](-0.0) = inf; inf
        polygamma[2](-1.0) = nan; inf
        polygamma[2](-2.0) = nan; inf
        polygamma[2](-1e+300) = nan; inf
        polygamma[2](inf) = 0.0; 0.0
        polygamma[2](-inf) = nan; nan
    """,
    "of 0 and −0 the last, as NumPy: so does PyTorch in vectors, but not in the rest of a vector's length": """
        maximum(0.0, -0.0) = -0.0; 0.5, 0.5
        maximum(-0.0, 0.0) = 0.0; 0.5, 0.5
        minimum(0.0, -0.0) = -0.0; 0.5, 0.5
        minimum(-0.0, 0.0) = 0.0; 0.5, 0.5
    """,
    "nan stays nan": """
        abs(nan) = nan; nan
        sign(nan) = nan; 0.0
        elu[1.0](nan) = nan; nan
        elu[0.5](nan) = nan; nan
    """,
    "the limit, where PyTorch has ∞ / ∞ or 0 · ∞": """
        power(inf, -2.0) = 0.0; -0.0, 0.0
        power(inf, -0.5) = 0.0; -0.0, 0.0
        power(inf, -inf) = 0.0; nan, 0.0
        hypot(0.0, inf) = inf; 0.0, 1.0
        hypot(0.0, -inf) = inf; 0.0, -1.0
        hypot(-0.0, inf) = inf; -0.0, 1.0
        hypot(-0.0, -inf) = inf; -0.0, -1.0
        hypot(1.0, inf) = inf; 0.0, 1.0
        hypot(1.0, -inf) = inf; 0.0, -1.0
        hypot(-2.0, inf) = inf; -0.0, 1.0
        hypot(-2.0, -inf) = inf; -0.0, -1.0
        hypot(inf, 0.0) = inf; 1.0, 0.0
        hypot(inf, -0.0) = inf; 1.0, -0.0
        hypot(inf, 1.0) = inf; 1.0, 0.0
        hypot(inf, -2.0) = inf; 1.0, -0.0
        hypot(-inf, 0.0) = inf; -1.0, 0.0
        hypot(-inf, -0.0) = inf; -1.0, -0.0
        hypot(-inf, 1.0) = inf; -1.0, 0.0
        hypot(-inf, -2.0) = inf; -1.0, -0.0
        hypot[3](0.0, inf, 0.0) = inf; 0.0, 1.0, 0.0
        hypot[3](0.0, inf, 1.0) = inf; 0.0, 1.0, 0.0
        hypot[3](1.0, inf, 0.0) = inf; 0.0, 1.0, 0.0
        hypot[3](1.0, inf, 1.0) = inf; 0.0, 1.0, 0.0
        silu(inf) = inf; 1.0
        silu(-inf) = -0.0; 0.0
        gelu(inf) = inf; 1.0
        gelu(-inf) = -0.0; 0.0
    """,
    "C's pow(), which PyTorch replaces by sqrt": """
        power[0.5](-0.0) = 0.0; inf
        power[0.5](-inf) = inf; 0.0
        power[1.5](-inf) = inf; inf
    """,
    "the sign of a remainder that is 0 is that of the divisor, as in Python": """
        mod(0.0, -2.0) = -0.0; 1.0, 0.0
        mod(0.0, -inf) = -0.0; 1.0, 0.0
        mod(-0.0, 1.0) = 0.0; 1.0, 0.0
        mod(-0.0, inf) = 0.0; 1.0, 0.0
        mod(-2.0, 1.0) = 0.0; 1.0, 2.0
        mod(-1e+300, 1e+300) = 0.0; 1.0, 1.0
    """,
    "nan by the divisor where the remainder is nan": """
        fmod(1.0, 0.0) = nan; 1.0, nan
        fmod(1.0, -0.0) = nan; 1.0, nan
        fmod(-2.0, 0.0) = nan; 1.0, nan
        fmod(-2.0, -0.0) = nan; 1.0, nan
        fmod(inf, 0.0) = nan; 1.0, nan
        fmod(inf, -0.0) = nan; 1.0, nan
        fmod(inf, 1.0) = nan; 1.0, nan
        fmod(inf, -2.0) = nan; 1.0, nan
        fmod(-inf, 0.0) = nan; 1.0, nan
        fmod(-inf, -0.0) = nan; 1.0, nan
        fmod(-inf, 1.0) = nan; 1.0, nan
        fmod(-inf, -2.0) = nan; 1.0, nan
    """,
    "the sign of a nan means nothing: it is not the same on every processor": """
        copysign(0.0, nan) = nan; nan, 0.0
        copysign(-0.0, nan) = nan; nan, 0.0
        copysign(1.0, nan) = nan; nan, 0.0
        copysign(-2.0, nan) = nan; nan, 0.0
        copysign(inf, nan) = nan; nan, 0.0
        copysign(-inf, nan) = nan; nan, 0.0
    """,
    "±1, where PyTorch divides y by x": """
        copysign(inf, 0.0) = inf; 1.0, 0.0
        copysign(inf, -0.0) = -inf; -1.0, 0.0
        copysign(inf, 1.0) = inf; 1.0, 0.0
        copysign(inf, -2.0) = -inf; -1.0, 0.0
        copysign(inf, inf) = inf; 1.0, 0.0
        copysign(inf, -inf) = -inf; -1.0, 0.0
        copysign(-inf, 0.0) = inf; -1.0, 0.0
        copysign(-inf, -0.0) = -inf; 1.0, 0.0
        copysign(-inf, 1.0) = inf; -1.0, 0.0
        copysign(-inf, -2.0) = -inf; 1.0, 0.0
        copysign(-inf, inf) = inf; -1.0, 0.0
        copysign(-inf, -inf) = -inf; 1.0, 0.0
    """,
    "as for two numbers, where PyTorch's norm is another function": """
        hypot[3](0.0, 0.0, 0.0) = 0.0; nan, nan, nan
        hypot[3](0.0, inf, nan) = inf; 0.0, nan, nan
        hypot[3](1.0, inf, nan) = inf; 0.0, nan, nan
        hypot[3](nan, inf, 1.0) = inf; nan, nan, 0.0
        hypot[3](nan, inf, 0.0) = inf; nan, nan, 0.0
        hypot[3](nan, inf, nan) = inf; nan, nan, nan
    """,
    "PyTorch has no Γ": """
        gamma(0.0) = inf; -inf
        gamma(-0.0) = -inf; -inf
        gamma(5e-324) = inf; -inf
        gamma(-5e-324) = -inf; -inf
        gamma(0.5) = 1.772453850905516; -3.480230906913262
        gamma(1.0) = 1.0; -0.577215664901533
        gamma(-1.0) = nan; nan
        gamma(-2.0) = nan; nan
        gamma(171.0) = 7.257415615307994e+306; 3.7293948187436453e+307
        gamma(172.0) = inf; inf
        gamma(1e+300) = inf; inf
        gamma(-1e+300) = nan; nan
        gamma(inf) = inf; inf
        gamma(-inf) = nan; nan
        gamma(nan) = nan; nan
    """,
    "PyTorch has no remainder of IEEE 754": """
        remainder(1.0, -2.0) = 1.0; 1.0, 0.0
        remainder(-1.0, 2.0) = -1.0; 1.0, 0.0
        remainder(3.0, 2.0) = -1.0; 1.0, -2.0
        remainder(-0.0, 1.0) = -0.0; 1.0, 0.0
        remainder(4.0, -2.0) = 0.0; 1.0, 2.0
        remainder(1e+300, 3.0) = 0.0; 1.0, -3.3333333333333335e+299
        remainder(5e-324, 1e+300) = 5e-324; 1.0, 0.0
        remainder(-2.0, inf) = -2.0; 1.0, 0.0
        remainder(1.0, 0.0) = nan; 1.0, nan
        remainder(inf, 1.0) = nan; 1.0, nan
        remainder(1.0, nan) = nan; 1.0, nan
    """,
    "PyTorch has no cube root": """
        cbrt(0.0) = 0.0; inf
        cbrt(-0.0) = -0.0; inf
        cbrt(5e-324) = 1.7031839360032601e-108; 1.149094221479581e+215
        cbrt(-5e-324) = -1.7031839360032601e-108; 1.149094221479581e+215
        cbrt(8.0) = 2.0; 0.08333333333333333
        cbrt(-8.0) = -2.0; 0.08333333333333333
        cbrt(1e+300) = 1e+100; 3.333333333333333e-201
        cbrt(-1e+300) = -1e+100; 3.333333333333333e-201
        cbrt(inf) = inf; 0.0
        cbrt(-inf) = -inf; 0.0
        cbrt(nan) = nan; nan
    """,
}
"""Where a row is not PyTorch's, and why, with what it is."""


def special_values(text: str) -> dict[str, list[float]]:
    """Return the value and the derivatives for each point of lines like ``exp(0.0) = 1.0; 1.0``."""
    lines = [line.strip().split(" = ") for line in text.splitlines() if line.strip()]
    return {point: [float(x) for x in re.split("[;,]", numbers)] for point, numbers in lines}


PYTORCH = special_values((Path(__file__).parents[1] / "support" / "special_values.txt").read_text())
OURS = special_values("".join(DIFFERENCES.values()))


def same(a: float, b: float) -> bool:
    """The same number to 13 digits, nan for nan."""
    return a == b or math.isclose(a, b, rel_tol=1e-13) or (math.isnan(a) and math.isnan(b))


def agrees(op: Op, point: str, expected: list[float]) -> bool:
    """Whether value, with the sign of a zero, and derivatives at a point of the table are as expected."""
    xs = [float(x) for x in point[len(op.name) + 1 : -1].split(",")]
    y = op(*xs)
    computed = [y, *op.local_derivatives(y, *xs)]
    return all(map(same, computed, expected)) and (y != 0 or math.copysign(1, y) == math.copysign(1, expected[0]))


def points_of(op: Op) -> list[str]:
    """The special values of another row of so many arguments, as text: new rows are tried there, too."""
    like = {1: "exp", 2: "mul", 3: "where", 5: "sum[5]"}[op.arity]
    return [point.removeprefix(like) for point in PYTORCH if point.startswith(f"{like}(")]


def defined(op: Op, point: str) -> list[float | None]:
    """Return value and derivatives at a point by the expansion, else by the definition; None where neither tells."""
    xs = tuple(float(x) for x in point[1:-1].split(","))
    values: list[float | None] = [None] * (1 + op.arity)
    if op.expansion is not None:
        leaves = [Value(x) for x in xs]
        y = op.expansion(*leaves)
        values = [y.data, *[d.data if d.data == d.data else None for d in gradient_graph(y, leaves)]]
    elif all(map(math.isfinite, xs)) and "-0.0" not in point:  # mpmath has no −0
        numbers = [exact(op, xs), *[exact(op, xs, i) for i in range(op.arity)]]
        values = [None if mp.isnan(x) or mp.im(x) or abs(x) > LARGEST else float(mp.re(x)) for x in numbers]
    is_exact = op.expansion is not None or (_name(op), 1) not in EXCEPTIONS
    if not is_exact or not all(map(math.isfinite, xs)) or _has_kink_beside(op, xs) or not _inside(op, xs):
        values[1:] = [None] * op.arity
    return values


@pytest.mark.parametrize(
    ("op", "xs"),
    [
        *[(op, xs) for op in (ops.maximum, ops.minimum) for xs in ((0.0, -0.0), (-0.0, 0.0))],
        (ops.maximum_of(3), (-0.0, 0.0, -0.0)),
        *[(ops.clip, xs) for xs in ((-0.0, 0.0, 1.0), (0.0, -1.0, -0.0), (-0.0, -1.0, 1.0))],
    ],
)
def test_of_equal_numbers_the_last_is_chosen_so_a_zero_has_the_sign_that_it_has_in_a_kernel(
    op: Op, xs: tuple[float, ...]
) -> None:
    kernel = mg.compile(lambda *xs: 1.0 / op(*xs), reduce=None, target="numpy")
    (of_kernel,) = kernel(*[np.array([x]) for x in xs])
    assert of_kernel.data == ops.div(1.0, op(*xs))


@pytest.mark.parametrize("n", [0.0, 1.0, 2.0, 3.0, 1.5, -1.0])
def test_at_0_the_mixed_derivatives_of_a_power_do_not_depend_on_their_order(n: float) -> None:
    (_, by_base), (by_exponent, _) = mg.hessian(lambda v: v[0] ** v[1])([0.0, n])
    assert by_base == by_exponent == {1.0: 1.0, -1.0: math.inf}.get(n, 0.0)


@pytest.mark.parametrize("op", [op for op in ops.rows() if op.expansion and op.arity == 1], ids=lambda op: op.name)
@pytest.mark.parametrize("x", [0.0, -0.0, math.inf, -math.inf])
def test_a_zero_has_one_sign_in_a_row_and_in_its_expansion(op: Op, x: float) -> None:
    y, expanded = op(x), op.expansion(x)  # type: ignore[misc]
    assert y != 0.0 or (expanded == 0.0 and math.copysign(1.0, y) == math.copysign(1.0, expanded))


@pytest.mark.parametrize("op", [op for op in ops.rows() if op is not ops.stop_gradient], ids=lambda op: op.name)
def test_special_values_are_those_of_the_expansion_or_of_the_definition(op: Op) -> None:
    wrong = []
    for point in points_of(op):
        xs = [float(x) for x in point[1:-1].split(",")]
        y = op(*xs)
        found = [y, *op.local_derivatives(y, *xs)]
        expected = defined(op, point)
        if not all(x is None or same(x, number) for x, number in zip(expected, found, strict=True)):
            wrong.append((point, expected, found))
    assert wrong == []


IN_TABLE = {point.split("(")[0] for point in PYTORCH | OURS}


@pytest.mark.parametrize("op", [op for op in ops.rows() if op.name in IN_TABLE], ids=lambda op: op.name)
def test_special_values_are_those_of_pytorch(op: Op) -> None:
    points = {point: y for point, y in (PYTORCH | OURS).items() if point.startswith(f"{op.name}(")}
    assert [point for point, expected in points.items() if not agrees(op, point, expected)] == []


def test_every_special_value_is_of_a_row() -> None:
    assert {op.name for op in ops.rows()} >= IN_TABLE


def test_every_difference_from_pytorch_is_one() -> None:
    rows = {op.name: op for op in ops.rows()}
    alike = [point for point in OURS if point in PYTORCH and agrees(rows[point.split("(")[0]], point, PYTORCH[point])]
    assert alike == []


def test_a_row_is_documented_by_its_own_words():
    for op in (mg.tanh, mg.where, ops.power_of(3.0)):
        assert op.__doc__ == op.doc
        assert op.doc.split(";")[0] in re.sub(r"\s+", " ", pydoc.plain(pydoc.render_doc(op)))
    assert Op.__doc__.startswith("One operation")
    assert Op("mine", abs, (1.0,)).__doc__ == Op.__doc__


def test_the_safe_form_in_the_words_of_where_is_code_that_runs_and_is_safe():
    form = re.search(r"for √x or 0 write (.*)$", mg.where.__doc__)[1]
    assert mg.grad(lambda x: eval(form, vars(mg) | {"mg": mg, "x": x}))(0.0) == 0.0
    assert mg.grad(lambda x: eval(form, vars(mg) | {"mg": mg, "x": x}))(4.0) == 0.25


@pytest.mark.parametrize(
    "error", [OverflowError("math range error"), ValueError("math domain error"), ZeroDivisionError("by 0")]
)
def test_a_forward_function_that_raises_is_named_with_the_remedy(error):
    def forward(x):
        if x > 2.0:
            raise error
        return x

    op = Op("mine", forward, (1.0,))
    for f in (
        lambda: op(3.0),
        lambda: op(Value(3.0)),
        lambda: op(3),
        lambda: mg.check(op, 3.0),
        lambda: mg.check(lambda x: op(x) * 2, 2.0),
    ):
        with pytest.raises(
            type(error), match=r"operation 'mine': forward\(.*\) raises .*; return inf or nan instead"
        ) as raised:
            f()
        assert str(error) in str(raised.value)
        assert str(raised.value).count("operation") == 1


def test_a_partial_that_raises_is_named_with_the_remedy():
    op = Op("mine", abs, (lambda y, x: x / y,))
    x = Value(0.0, "x")
    y = op(x) * 2.0
    for f in (
        lambda: mg.why(y),
        lambda: mg.precision(y),
        lambda: mg.check(y),
        lambda: mg.jvp(op, 0.0, 1.0),
    ):
        with pytest.raises(
            ZeroDivisionError, match=r"operation 'mine': a partial, called with \(y, \*xs\), raises .*; write div"
        ):
            f()


@pytest.mark.parametrize(
    ("numbers", "shares"),
    [((1.0, 3.0, 2.0), (0, 1, 0)), ((2.0, 2.0, 2.0), (1 / 3,) * 3), ((5.0, 1.0, 5.0, -math.inf), (0.5, 0, 0.5, 0))],
)
@pytest.mark.parametrize(("extreme", "sign"), [(ops.maximum, 1.0), (ops.minimum, -1.0)])
def test_of_the_extreme_of_many_equals_share_the_gradient(
    extreme: Op, sign: float, numbers: tuple[float, ...], shares: tuple[float, ...]
) -> None:
    numbers = tuple(sign * x for x in numbers)
    leaves = [Value(x) for x in numbers]
    y = extreme(*leaves)
    y.backward()
    assert y.data == sign * max(sign * x for x in numbers)
    assert [leaf.grad for leaf in leaves] == pytest.approx(shares, abs=0)
    assert extreme(*numbers) == y.data
    assert extreme(leaves[0]) is leaves[0]
    assert type(extreme(2)) is float


@pytest.mark.parametrize("op", [ops.base_of(-2.0), ops.power_of(-3.0), ops.leaky_relu_of(-0.5), ops.elu_of(-1.5)])
def test_the_code_of_a_row_with_a_negative_constant_is_that_row(op: Op) -> None:
    for x in (-2.0, 2.0):
        assert eval(op.python.format("x"), {"mg": mg, "x": x}) == op(x)
