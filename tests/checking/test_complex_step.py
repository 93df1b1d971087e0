"""The complex step against 50-digit arithmetic: a witness must be better than what it testifies of."""

import math
import random

import pytest
from exact import exact
from mpmath import mp

import microgrid as mg
from microgrid import Op, ops
from microgrid.checking import Verdict, check

ROWS = [
    op for op in [*ops.rows(), *ops.HIDDEN.values(), ops.power_log_of(2)] if op is not ops.stop_gradient
]  # a constant
LANDMARKS = (0.0, 1.0, -1.0, 0.5, 2.0, math.pi / 2)


def points(op: Op, count: int) -> list[tuple[float, ...]]:
    """Points of the domain: ordinary ones, of all sizes, and beside poles and ends of domains."""
    generator = random.Random(op.name)

    def draw() -> float:
        return generator.choice(
            [
                generator.uniform(-10, 10),
                generator.uniform(-40, 40),
                generator.choice([-1, 1]) * 10 ** generator.uniform(-20, 4),
                generator.choice(LANDMARKS) + generator.choice([-1, 1]) * 10 ** generator.uniform(-12, -1),
            ]
        )

    def inside(domain: mg.Interval) -> float:
        return next(x for x in iter(draw, None) if x in domain)

    found = iter(lambda: tuple(map(inside, op.domain)), None)
    return [xs for xs, _ in zip((xs for xs in found if math.isfinite(op(*xs))), range(count), strict=False)]


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)
def test_the_complex_step_has_fourteen_digits_on_every_row(op: Op) -> None:
    verdicts = []
    for xs in points(op, 40):
        for row in check(op, xs, method="complex").derivatives:
            i = int(row.name[1:] or 1) - 1
            verdicts.append(row.verdict)
            right = exact(op, xs, i)
            if row.verdict is Verdict.PASS and not mp.isnan(right):
                assert row.numeric == pytest.approx(float(right), rel=1e-14, abs=1e-15), (xs, i)
            assert row.verdict is not Verdict.UNRESOLVED or abs(right) < 1e-200, (xs, i)
    if any(op.connected):
        assert verdicts.count(Verdict.PASS) >= 0.9 * len(verdicts) > 0
    else:
        assert set(verdicts) <= {Verdict.KINK}  # of a step there is nothing to check but where it jumps
    assert set(verdicts) <= {Verdict.PASS, Verdict.KINK, Verdict.UNRESOLVED}


@pytest.mark.parametrize(
    ("op", "x"),
    [
        *[(ops.erf, x) for x in (-6.0, 1.25, 6.0, 20.0)],
        *[(ops.erfc, x) for x in (-6.0, 1.2500001, 10.0, 20.0)],
        *[(ops.gelu, x) for x in (-8.0, -25.0, 8.0, 1.8, -1e-200)],
        *[(ops.lgamma, x) for x in (-0.5, -999.5, 1e-12, 170.5, 1e15, 1e90)],
        *[(ops.digamma, x) for x in (-3.999, -999.5, 1e-12, 1e15)],
        *[(ops.polygamma_of(n), x) for n in (1, 2, 7) for x in (-3.999, -100.25, 1e-12, 40.0, 1e6)],
        *[(ops.power_of(n), x) for n in (3.0, 0.5, -2.5, 101.0) for x in (0.1, 1.5, 900.0)],
        *[(ops.base_of(0.5), x) for x in (-900.0, 500.0)],
        *[(ops.exp2, x) for x in (-500.0, 1000.0)],
        *[(ops.cbrt, x) for x in (-1e200, 1e-200)],
        *[(op, x) for op in (ops.sqrt, ops.log, ops.log1p, ops.atan, ops.sigmoid) for x in (1e-250, 1e-90)],
    ],
    ids=lambda x: getattr(x, "name", repr(x)),
)
def test_tails_and_tiny_arguments_are_resolved(op: Op, x: float) -> None:
    row = check(op, x).raise_()["x"]
    assert row.method == "complex"
    assert row.numeric == pytest.approx(float(exact(op, (x,), 0)), rel=1e-13)


@pytest.mark.parametrize(("n", "slope"), [(1.0, 1.0), (2.0, 0.0), (3.0, 0.0), (2.5, 0.0)])
def test_powers_of_zero_are_analytic_where_the_exponent_is_whole(n: float, slope: float) -> None:
    row = check(ops.power_of(n), 0.0, method="complex")["x"]
    assert row.verdict is (Verdict.PASS if n % 1 == 0 else Verdict.DOMAIN)
    assert row.numeric == slope or n % 1


def test_the_root_of_a_square_has_no_slope_at_zero() -> None:
    assert check(lambda x: (x * x) ** 0.5, 0.0, method="complex")["x"].verdict is Verdict.DOMAIN


@pytest.mark.parametrize("x", [1e-90, 1e-180, 1e-250])
def test_what_has_no_derivative_at_zero_is_seen_from_as_near_as_it_takes(x: float) -> None:
    row = check(lambda x: x**x, x).raise_()["x"]
    assert row.numeric == pytest.approx(1 + math.log(x), rel=1e-12)


@pytest.mark.parametrize("x", [1e-260, 1e-300, 3e-308, 1.1e-308, 5e-324])
def test_no_complex_step_is_larger_than_an_argument_that_is_too_tiny_for_one(x: float) -> None:
    row = check(ops.erf, x).raise_()["x"]
    assert row.method == "difference"
    assert row.numeric == pytest.approx(2 / math.sqrt(math.pi), rel=1e-12)
    for y in (1.0, 0.5, 1e-8):  # ∂(aᵇ)/∂a is b/a, as aᵇ is 1 to the last digit
        assert not check(ops.power, (x / y, x)).failures


def test_lengths_do_not_overflow_on_the_way() -> None:
    row = check(ops.hypot, (3e200, 4e200)).raise_()["x1"]
    assert row.numeric == pytest.approx(0.6, rel=1e-14)
    assert row.method == "complex"


@pytest.mark.parametrize(
    ("op", "x"), [(op, x) for op in (ops.lgamma, ops.digamma) for x in (-5000.3, -1000.5, 1e100, 1e200)]
)
def test_where_the_complex_step_would_be_inexact_differences_decide(op: Op, x: float) -> None:
    assert check(op, x)["x"].method == "difference"
    assert check(op, x, method="complex")["x"].verdict is Verdict.UNRESOLVED


def test_a_choice_among_equals_is_not_taken_for_rounding() -> None:
    """Comparisons and clip() return what they are given: random rounding must not make them jump."""
    row = check(lambda x: mg.where(mg.equal(mg.clip(x, -5.0, 5.0), x), x * x, 0.0), 3.0).raise_()["x"]
    assert row.allowed < 1e-13


def test_the_complex_step_allows_for_the_rounding_of_terms_that_cancel() -> None:
    row = check(lambda x: x * 1e5 - x * 99999, 0.7, method="complex").raise_()["x"]
    assert row.allowed * 2**53 == pytest.approx(2.1e6, rel=0.1)


def test_an_operation_of_the_user_that_is_the_length_of_three_numbers_is_checked_to_the_last_digits() -> None:
    length = Op("length", math.hypot, tuple([lambda y, *xs, i=i: ops.div(xs[i], y) for i in range(3)]))
    report = check(length, (1.0, 2.0, -2.0))
    assert {row.method for row in report.derivatives} == {"complex"}
    assert report
