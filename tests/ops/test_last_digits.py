"""First and second derivatives of every row, right to the last digits wherever a float can say them.

A derivative may be off by 1e-12 of itself, and by what half a unit in the last place of the arguments would
change it. Nothing else is allowed: not a saturated tail, not a term that cancels, not an overflow on the way.
A new row joins by itself.
"""

import math
import random
from collections.abc import Iterator

import pytest
from exact import exact
from mpmath import mp, mpf

from microgrid import ops
from microgrid.calculus import gradient_graph
from microgrid.engine import Value
from microgrid.ops import Interval, Op

SMALLEST, LARGEST = 2.0**-1000, 2.0**1023 * (2 - 2.0**-52)
POWERS = (-300, -200, -154, -100, -81, -50, -30, *range(-20, -2, 2), -1, 6, 8, 12, 16, 30, 50, 81, 100, 154, 200, 300)
SIZES = [10.0**k for k in POWERS] + [1.0, 2.0, math.pi, 17.3, 26.0, 40.0, 350.0, 708.0, 744.0]
"""Powers of 10; and where exponentials and normal distributions leave the floats."""


def points(domain: Interval, generator: random.Random) -> list[float]:
    """Numbers of a domain: of all sizes and both signs, ordinary ones, and neighbours of 0, of ±1 and of its ends."""
    sizes = [*SIZES, *(10 ** generator.uniform(-2, 3) for _ in range(16))]
    ends = {0.0, -1.0, 1.0, *filter(math.isfinite, (domain.low, domain.high))}
    beside = [end + way * 10.0**k for end in ends for way in (-1, 1) for k in (-14, -11, -8, -5, -2)]
    neighbours = [math.nextafter(end, way) for end in ends for way in (-math.inf, math.inf)]
    return [x for x in [*sizes, *(-x for x in sizes), *beside, *neighbours] if domain.low < x < domain.high]


def arguments(op: Op) -> Iterator[tuple[float, ...]]:
    """Yield points of the domain: all of ``points`` for one argument, random pairs of them for several."""
    generator = random.Random(op.name)
    numbers = [points(domain, generator) for domain in op.domain]
    if op.arity == 1:
        yield from zip(*numbers, strict=True)
        return
    ordinary = [[x for x in xs if 1e-3 < abs(x) < 1e3] for xs in numbers]
    for k in range(150 if op.arity == 2 else 12):
        yield tuple(generator.choice(xs) for xs in (ordinary if k % 2 else numbers))


def excused(op: Op, xs: tuple[float, ...], *by: int) -> mpf:
    """Return what half a unit in the last place of the arguments changes of a derivative, twice over and in sum."""
    return 4 * mpf(2) ** -53 * sum(abs(mpf(x) * exact(op, xs, *by, k)) for k, x in enumerate(xs))


def is_right(op: Op, computed: float, xs: tuple[float, ...], *by: int) -> bool:
    right = exact(op, xs, *by)
    if mp.isnan(right) or not SMALLEST <= abs(right) <= LARGEST:
        return True
    error = abs(mpf(computed) - right)
    return bool(error <= mpf("1e-12") * abs(right) or error <= mpf("1e-12") * abs(right) + excused(op, xs, *by))


def has_kink_beside(op: Op, xs: tuple[float, ...]) -> bool:
    if op.kink is None:
        return False
    return any(
        op.kink(*xs) != op.kink(*xs[:i], math.nextafter(x, way), *xs[i + 1 :])
        for i, x in enumerate(xs)
        for way in (-math.inf, math.inf)
    )


def wrong(op: Op) -> Iterator[str]:
    """Yield every derivative that is off, in words."""
    for xs in arguments(op):
        if not math.isfinite(op(*xs)) or has_kink_beside(op, xs):
            continue
        leaves = [Value(x) for x in xs]
        first = gradient_graph(op(*leaves), leaves)
        for i, derivative in enumerate(first):
            second = gradient_graph(derivative, leaves)
            found = {(i,): derivative.data} | {(i, j): second[j].data for j in range(op.arity)}
            for by, number in found.items():
                if not is_right(op, number, xs, *by):
                    right = exact(op, xs, *by)
                    yield (
                        f"{op.name}{xs}, derivative by {by}: {number!r}, exactly {mp.nstr(right, 17)}, "
                        f"{mp.nstr(abs(mpf(number) - right) / abs(right), 2)} of it off"
                    )


@pytest.mark.parametrize("op", [*ops.rows(), *ops.HIDDEN.values()], ids=lambda op: op.name)
def test_first_and_second_derivatives_are_right_to_the_last_digits(op: Op) -> None:
    assert list(wrong(op)) == []


def limit(op: Op, sign: int, order: int) -> float | None:
    """Return where a derivative of this order goes as x goes to ±∞, if it goes anywhere; infinities included."""
    far = [exact(op, (sign * 10.0**k,), *(0,) * order) for k in (100, 200, 300)]
    if any(mp.isnan(x) or mp.im(x) for x in far):
        return None
    if max(map(abs, far)) < 1e-40:
        return 0.0
    if abs(far[1] - far[2]) < 1e-9 * abs(far[2]):
        return float(far[2])
    return float(mp.sign(far[2]) * math.inf) if abs(far[0]) < abs(far[1]) < abs(far[2]) else None


UNARY = [op for op in ops.rows() if op.arity == 1 and op is not ops.stop_gradient]


@pytest.mark.parametrize("op", UNARY, ids=lambda op: op.name)
def test_at_infinity_and_on_the_way_the_first_three_derivatives_are_their_limits(op: Op) -> None:
    for sign in (1, -1):
        x = Value(sign * math.inf)
        derivative = op(x)
        if math.isnan(derivative.data):  # outside the domain, or as sine has none
            continue
        for order in (1, 2, 3):
            (derivative,) = gradient_graph(derivative, [x])
            expected = limit(op, sign, order)
            assert expected is None or derivative.data == expected, (sign, order, derivative.data, expected)
        far = Value(sign * 1e200)
        derivative = op(far)
        for order in (1, 2, 3) if far.data in op.domain[0] else ():
            (derivative,) = gradient_graph(derivative, [far])
            assert not math.isnan(derivative.data) or mp.isnan(exact(op, (far.data,), *(0,) * order)), (far, order)
