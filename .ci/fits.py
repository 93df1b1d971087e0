"""Fit the coefficients of microgrid/compiler/targets/native/vectors.py and compare: python .ci/fits.py.

Polynomials are minimax by Remez's exchange; quotients of polynomials follow from least squares, weighted anew in each
round by the denominator (Sanathanan & Koerner 1963) and by the error (Lawson 1961).
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from mpmath import mp, mpf

from microgrid.compiler.targets.native import vectors

mp.dps = 60
Real = Any
Function = Callable[[Real], Real]


def nodes(low: Real, high: Real, count: int) -> list[Real]:
    """The zeros of a Chebyshev polynomial."""
    middle, half = (low + high) / 2, (high - low) / 2
    return [middle - half * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)]


def polynomial(f: Function, weight: Function, low: Real, high: Real, degree: int) -> list[Real]:
    """The polynomial with the smallest largest weight(x)·|f(x) − p(x)|, from the lowest power on."""
    count = degree + 2
    low, high = mpf(low), mpf(high)
    points = nodes(low, high, count)
    grid = [low, *nodes(low, high, 24 * count), high]
    while True:
        rows = [[x**k for k in range(degree + 1)] + [(-1) ** i / weight(x)] for i, x in enumerate(points)]
        *p, level = mp.lu_solve(mp.matrix(rows), mp.matrix([f(x) for x in points]))
        errors = [(x, weight(x) * (f(x) - mp.polyval(p[::-1], x))) for x in grid]
        extrema = [max(run, key=lambda e: abs(e[1])) for _, run in groupby(errors, lambda e: e[1] > 0)]
        if len(extrema) > count:
            extrema = extrema[1:] if abs(extrema[0][1]) < abs(extrema[-1][1]) else extrema[:-1]
        if len(extrema) != count or max(abs(e) for _, e in extrema) < 1.02 * abs(level):
            return p
        points = [x for x, _ in extrema]


def quotient(f: Function, weight: Function, points: Sequence[Real], top: int, bottom: int) -> list[list[Real]]:
    """P and q, q(0) = 1, of a nearly smallest largest weight(x)·|f(x) − p(x)/q(x)| at the points."""
    best: Real = mp.inf
    found: list[list[Real]] = []
    under, emphasis = [mpf(1)] * len(points), [mpf(1)] * len(points)
    for _ in range(8):
        rows, values = [], []
        for x, d, e in zip(points, under, emphasis, strict=True):
            scale = weight(x) / d * mp.sqrt(e)
            rows.append([scale * x**k for k in range(top + 1)] + [-scale * f(x) * x**k for k in range(1, bottom + 1)])
            values.append(scale * f(x))
        solution = list(mp.qr_solve(mp.matrix(rows), mp.matrix(values))[0])
        p, q = solution[: top + 1], [mpf(1), *solution[top + 1 :]]
        under = [abs(mp.polyval(q[::-1], x)) for x in points]
        errors = [weight(x) * abs(f(x) - mp.polyval(p[::-1], x) / mp.polyval(q[::-1], x)) for x in points]
        if max(errors) < best:
            best, found = max(errors), [p, q]
        emphasis = [e * error / max(errors) for e, error in zip(emphasis, errors, strict=True)]
        emphasis = [e * len(points) / mp.fsum(emphasis) + mpf(10) ** -9 for e in emphasis]
    return found


def of_root(f: Function, at_zero: Real, near: float = 1e-25) -> Function:
    """A function of √z, as a function of z."""
    return lambda z: at_zero if z < near else f(mp.sqrt(z))


def erfcx(x: Real) -> Real:
    """exp(x²)·erfc x."""
    return mp.exp(x * x) * mp.erfc(x)


TINY = mpf(10) ** -9
log2, half = mp.log(2), mpf(1) / 2
artanh = of_root(lambda s: (2 * mp.atanh(s) / s - 2) / s**2, mpf(2) / 3)
artanh_tail = of_root(lambda s: (artanh(s * s) - mpf(2) / 3) / s**2, mpf(2) / 5, 1e-15)
largest_s = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mpf("1.0001")
erf = of_root(lambda x: mp.erf(x) / x, 2 / mp.sqrt(mp.pi))
quarter = (mp.pi / 4) ** 2 * mpf("1.0001")

FITS = {
    "EXP": polynomial(
        lambda r: half if abs(r) < 1e-25 else (mp.expm1(r) - r) / r**2,
        lambda r: abs(r) + TINY,
        -log2 / 2 * mpf("1.0001"),
        log2 / 2 * mpf("1.0001"),
        9,
    ),
    "EXP2": polynomial(
        lambda r: log2**2 / 2 if abs(r) < 1e-25 else (mp.expm1(r * log2) - r * log2) / r**2,
        lambda r: r * r + TINY,
        mpf("-0.50001"),
        mpf("0.50001"),
        9,
    ),
    "LOG": polynomial(artanh, lambda z: z / 2 + TINY, 0, largest_s, 6),
    "LOG_TAIL": polynomial(artanh_tail, lambda z: z * z / 2 + TINY / 1000, 0, largest_s, 7),
    "SIN": polynomial(of_root(lambda y: (mp.sin(y) / y - 1) / y**2, -mpf(1) / 6), lambda z: z + TINY, 0, quarter, 5),
    "COS": polynomial(
        of_root(lambda y: (mp.cos(y) - 1 + y * y / 2) / y**4, mpf(1) / 24), lambda z: z * z + TINY, 0, quarter, 5
    ),
    "ARCSIN": polynomial(
        of_root(lambda s: (mp.asin(s) / s - 1) / s**2, mpf(1) / 6), lambda z: z + TINY, 0, mpf("0.25001"), 11
    ),
    "ARCTAN": polynomial(
        of_root(lambda t: (mp.atan(t) / t - 1) / t**2, -mpf(1) / 3),
        lambda z: z + TINY,
        0,
        mp.tan(mp.pi / 8) ** 2 * mpf("1.001"),
        10,
    ),
    "TANH": polynomial(
        of_root(lambda x: (mp.tanh(x) / x - 1) / x**2, -mpf(1) / 3), lambda z: z + TINY, 0, mpf("0.0901"), 6
    ),
    "ERF": [c - (k == 0) for k, c in enumerate(polynomial(erf, lambda z: 1 / erf(z), 0, 1, 11))],
    "ERF_TAIL": polynomial(
        lambda u: erfcx(u + mpf("1.5")),
        lambda u: mp.exp(-(u + mpf("1.5")) ** 2) / mp.erf(u + mpf("1.5")),
        mpf("-0.51"),
        mpf("4.45"),
        19,
    ),
    "ERFC_TAIL": quotient(
        lambda x: 1 / erfcx(x) - mp.sqrt(mp.pi) * x,
        erfcx,
        [mpf("0.87") * (28 / mpf("0.87")) ** u for u in nodes(mpf(0), mpf(1), 114)],
        8,
        9,
    ),
    "CBRT": polynomial(mp.cbrt, lambda x: 1 / mp.cbrt(x), 2 ** mpf("-1.55"), 2 ** mpf("1.55"), 6),
}  # fmt: skip
for name, coefficients in FITS.items():
    rows = coefficients if isinstance(coefficients[0], list) else [coefficients]
    fitted = tuple(tuple(map(float, row)) for row in rows)
    print(name, *fitted, sep="\n    ")
    written = getattr(vectors, name)
    assert fitted == (written if rows is coefficients else (written,)), f"{name} is another in vectors.py"
