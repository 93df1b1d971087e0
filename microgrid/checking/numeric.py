"""Numeric derivatives that carry their own error.

A tolerance that is guessed is either too tight for ``sin(1e6·x)`` or too loose for ``x⁹`` at 0.001. Here
each number that takes part says how far it can be trusted:

* **the function's own rounding** by random rounding, see ``noise``; inside a user's forward function, which that
  does not reach, by differences of sixth order, see ``line``;
* **the truncation of a difference** by extrapolation: central differences over a ladder of steps,
  extrapolated to step 0 (Richardson, 1911); how much two neighbours in the tableau differ is the error
  (Ridders, 1982);
* **the rounding of the reverse sweep** by random rounding of the sweep.

Where every operation on the way is analytic, the complex step replaces the differences; see ``analytic``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from random import Random
from typing import Any

from microgrid.checking.analytic import complex_forward
from microgrid.checking.line import LEVELS, RATIO, Line, Obstacle
from microgrid.checking.noise import SAMPLES, UNIT, rounded
from microgrid.checking.program import Rounding

COLUMNS = 6
RESOLVED = 1e-4
"""A derivative is known if its error is below this fraction of it: four digits tell wrong from right."""
NEGLIGIBLE = 1e-9
"""A derivative below this fraction of the terms that cancel in it, or of its size beside the point, counts as 0."""

COMPLEX_STEP = float.fromhex("0x1p-332")  # about 1e-100: its square vanishes beside any number
LARGEST = float.fromhex("0x1p1000")
SMALLEST_STEP = float.fromhex("0x1p-900")  # about 1e-271: a slope of 1 times it keeps its digits

_ComplexPlan = list[tuple[int, Callable[..., complex], tuple[int, ...], Rounding]]


class Method(StrEnum):
    """How a numeric derivative is taken."""

    AUTO = auto()
    """by the complex step where every operation on the way is analytic, else by differences"""
    COMPLEX = auto()
    DIFFERENCE = auto()


@dataclass
class Estimate:
    """A numeric derivative, its error, and the obstacle to a better one."""

    value: float = math.nan
    error: float = math.inf
    method: Method = Method.DIFFERENCE
    step: float = math.nan
    obstacle: Obstacle | None = None
    distance: float = math.inf
    """The smallest step at which the obstacle was met."""
    beside: float = 0.0
    """The size of the slope as far beside the point as the argument is from 0, and no farther than the step."""

    def worth(self, negligible: float) -> float:
        """The error relative to the largest with which the derivative counts as known: the smaller the better.

        Absolute errors cannot be compared: far from a pole the slope is small, and so is the error of a wrong one.
        """
        return self.error / self.resolution(negligible)

    def resolution(self, negligible: float, size: float = 0.0) -> float:
        """The error below which the derivative counts as known, be it 0, as at the top of a hill."""
        size = max(abs(self.value), size)
        return max(negligible, RESOLVED * size, NEGLIGIBLE * self.beside, math.ulp(0.0))

    def is_known(self, negligible: float) -> bool:
        """Whether it has enough digits to distinguish wrong from right."""
        return self.worth(negligible) <= 1.0

    def contradicts(self, other: "Estimate") -> bool:
        """Whether one of the two is wrong about its own error."""
        return abs(self.value - other.value) > self.error + other.error

    def rank(self, negligible: float) -> tuple[bool, float]:
        """The sort key, smaller if better: by worth; among those with too few digits, by the error alone."""
        return (False, self.worth(negligible)) if self.is_known(negligible) else (True, self.error)


def complex_step(line: Line) -> Estimate | None:
    """Return Im f(x + ih) / h, exact to rounding; ``None`` if an operation on the way is not analytic.

    Beside a tiny argument the step is smaller still, but not so small that slopes of 1 lose digits.
    """
    plan = []
    for i, _, operands, rounding in line.plan:
        forward = complex_forward(line.program.nodes[i].op)
        if forward is None:
            return None
        plan.append((i, forward, operands, rounding))
    step = min(COMPLEX_STEP, UNIT * line.scale) if line.scale else COMPLEX_STEP  # the product may underflow to 0
    if step < SMALLEST_STEP:
        return None
    try:
        exact = _imaginary(line, plan, step, None)
        random = Random(line.seed)
        others = [_imaginary(line, plan, step, random) for _ in range(SAMPLES)]
    except (ArithmeticError, ValueError):
        return None
    if not all(map(math.isfinite, [exact, *others])):
        return None
    spread = max(abs(other - exact) for other in others)
    beside = 0.0 if line.scale else step  # the square of the step is not 0 itself
    return Estimate(exact, 2.0 * spread + 16.0 * UNIT * abs(exact), Method.COMPLEX, step, beside=beside)


def _imaginary(line: Line, plan: _ComplexPlan, step: float, random: Random | None) -> float:
    """Im f(x + ih) / h; nan where the real part of an operation shows that the step is not small for it."""
    right = line.program.values
    values: list[Any] = list(right)
    for i, c in line.direction.items():
        values[i] = complex(values[i], step * c)
    for i, forward, operands, rounding in plan:
        zs = [values[j] for j in operands]
        z = forward(*zs)
        if random is None:
            if not abs(z.real - right[i]) <= 1e-13 * (abs(right[i]) or step):  # what is 0 may be the square of the step
                return math.nan
            z = complex(right[i], z.imag)
        elif rounding is Rounding.OPERANDS:
            z = complex(rounded(z.real, random, max(abs(x.real) for x in zs)), rounded(z.imag, random))
        elif rounding is Rounding.RESULT and z not in zs:
            z = complex(rounded(z.real, random), rounded(z.imag, random))
        values[i] = z
    return float(values[-1].imag / step)


def difference(line: Line, negligible: float, largest: float | None) -> Estimate:
    """Return the derivative from central differences, extrapolated to step 0, with its error.

    The steps fall from ``largest``, or from a tenth of the size of the argument and of 1, until rounding
    dominates. Steps that meet a kink or leave the domain are skipped. If rounding leaves too few
    digits, larger steps are tried, which give more for functions near a straight line.
    """
    start = largest or 0.1 * line.size
    best = _ladder(line, start, negligible)
    if largest is not None:
        return best
    if line.scale < 1e-3:  # steps beyond 0 mislead if the function is even, or has a pole there
        nearby = _ladder(line, 0.1 * line.scale, negligible)
        best = nearby if nearby.contradicts(best) else better(best, nearby, negligible)  # far off it may be a line
    for other in (1e3 * start, 1e6 * start):
        if best.worth(negligible) > 0.01:
            wider = _ladder(line, other, negligible)
            # what is in the way of larger steps only is no reason against a derivative here
            wider.obstacle, wider.distance = best.obstacle, best.distance
            if not wider.contradicts(best):  # far beyond its features, any function is flat
                best = better(best, wider, negligible)
    return best


def better(one: Estimate, other: Estimate, negligible: float) -> Estimate:
    """Return the one with more digits."""
    return min(one, other, key=lambda found: found.rank(negligible))


def _ladder(line: Line, first: float, negligible: float) -> Estimate:
    best, narrowest = Estimate(), Estimate()
    above: list[float] = []
    obstacle, distance = None, math.inf
    step = min(first * 1.0471975511965976, LARGEST)  # no round number: periods and grids of a function are round
    for _ in range(LEVELS):
        if step < line.smallest:
            break
        point = _central(line, step)
        if isinstance(point, Obstacle):
            obstacle, distance = point, step
            above = []
        else:
            slope, rounding, beside = point
            row = [slope]
            for j, coarser in enumerate(above[: COLUMNS - 1], start=1):
                row.append(row[-1] + (row[-1] - coarser) / (RATIO ** (2 * j) - 1.0))
                error = abs(row[j] - coarser) + rounding
                found = Estimate(row[j], error, step=step, beside=beside)
                best = min(best, found, key=lambda estimate: estimate.worth(negligible))
                narrowest = min(narrowest, found, key=lambda estimate: estimate.error)
            above = row
            if len(row) > 2 and (best.error <= max(1e-10 * abs(best.value), 0.1 * negligible) or rounding > best.error):
                break
        step /= RATIO
    chosen = best if best.is_known(negligible) else narrowest
    chosen.obstacle, chosen.distance = obstacle, distance
    return chosen


def _central(line: Line, step: float) -> tuple[float, float, float] | Obstacle:
    """The central difference over a step, its error by rounding, and the size of the slope beside the point."""
    right, left = line.at(step), line.at(-step)
    if isinstance(right, Obstacle):
        return right
    if isinstance(left, Obstacle):
        return left
    (a, fa), (b, fb) = right, (-left[0], left[1])
    # x ± step are rounded, so the two sides may differ a little in length; this weighs them accordingly.
    slope = (fa - fb) / (a + b) if a == b else ((fa - line.base) * (b / a) + (line.base - fb) * (a / b)) / (a + b)
    rounding = 2.0 * max(line.noise, 4.0 * UNIT * abs(fa), 4.0 * UNIT * abs(fb)) / (a + b)
    if step > line.scale:  # the argument itself is rounded in x ± step, so this is the slope a little off the point
        rounding += abs(fa - 2.0 * line.base + fb) / (a * b) * math.ulp(step)
    beside = max(abs(fa - line.base) / a, abs(fb - line.base) / b)
    beside *= min(line.scale / step, 1.0) if line.scale else 1.0
    return (slope, rounding, beside) if math.isfinite(slope) else Obstacle(None)
