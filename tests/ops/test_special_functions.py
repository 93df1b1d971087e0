"""The special functions over the whole range of floats, where powers of x overflow and vanish."""

import math

import pytest
from mpmath import mp

import microgrid as mg
from microgrid import ops


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [1e300, 1e155, 1e-155, 1e-300, 5e-324])
def test_polygamma_never_raises_and_meets_its_limits(n: int, size: float) -> None:
    op = ops.polygamma_of(n) if n else ops.digamma
    at_right, at_left = op(size), op(-size)
    if size > 1:  # log x for n = 0, and (−1)ⁿ⁺¹ (n − 1)! / xⁿ beyond
        expected = math.log(size) if n == 0 else (-1) ** (n + 1) * math.factorial(n - 1) * ops.power(size, -n)
        assert at_right == pytest.approx(expected, rel=1e-12)
    else:  # the pole (−1)ⁿ⁺¹ n! / xⁿ⁺¹, seen from both sides
        pole = (-1) ** (n + 1) * math.factorial(n) * ops.power(size, -n - 1)
        assert at_right == pytest.approx(pole, rel=1e-12)
        assert at_left == pytest.approx(pole * (-1) ** (n + 1), rel=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 20, 59])
def test_polygamma_of_any_order_is_right_to_the_last_digits_right_of_0(n: int) -> None:
    op = ops.polygamma_of(n) if n else ops.digamma
    for x in (0.3, 4.0, 15.9, 16.0 + n, 16.0 + 3 * n, 30.25, 100.0):  # the series begins at 16 + 3n
        assert op(x) == pytest.approx(float(mp.polygamma(n, x)), rel=1e-15, abs=0)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_polygamma_of_low_orders_is_right_left_of_0(n: int) -> None:
    op = ops.polygamma_of(n) if n else ops.digamma
    for x in (-0.3, -0.7, -2.75, -7.4):
        assert op(x) == pytest.approx(float(mp.polygamma(n, x)), rel=1e-13, abs=0)


def test_gelu_is_right_to_the_last_digits_in_its_tail() -> None:
    for x in (-35.0, -30.0, -10.0, -1.0, 1.0, 10.0):
        assert ops.gelu(x) == pytest.approx(float(x * mp.ncdf(x)), rel=1e-15, abs=0)


@pytest.mark.parametrize("target", ["eager", "numpy", "native"])
def test_lgamma_is_right_to_the_last_digits_beside_its_zeros(target: str) -> None:
    steps = [sign * 10.0**-k for sign in (1, -1) for k in range(1, 16)] + [0.0, 0.499, -0.499, 2.0**-52, -(2.0**-53)]
    points = [zero + step for zero in (1.0, 2.0) for step in steps]
    kernel = None if target == "eager" else mg.compile(mg.lgamma, reduce=None, target=target).kernel(points)
    found = list(map(mg.lgamma, points)) if kernel is None else kernel.value([], points).ravel().tolist()
    for x, y in zip(points, found, strict=True):
        assert y == pytest.approx(float(mp.loggamma(x)), rel=1e-15, abs=0)
