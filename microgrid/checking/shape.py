"""The shape of a function along a line, near the point: flat, bent, or smooth past a branch."""

import itertools
import math
from collections.abc import Iterable
from copy import copy
from typing import NamedTuple

from microgrid.checking.line import LEVELS, RATIO, Line, Obstacle
from microgrid.checking.noise import UNIT

WIDENINGS = 40
DIGITS = 53
BISECTIONS = 12
CUSP = 6
SIDES = 8
GRADUAL = 2.0**20
"""A number that begins to move by fewer units in the last place than this saturates; by more, it jumps or bends."""


def is_flat(line: Line, distance: float) -> bool:
    """Whether the number is constant over a hundredth of the size of the argument or of 1.

    An obstacle at this distance limits that. Beside an argument much smaller than 1, only tiny numbers move.

    A number that saturates is constant too, but its slope is not 0: its change begins in the last place and
    grows little by little. A flat function jumps, or bends, or stays constant.
    """
    here = {line.base}
    sizes = [size for size in (line.size, line.scale) if size > 1e-12]
    flat = [size for size in sizes if set(line.samples(range(-3, 4), min(0.003 * size, 0.06 * distance))) == here]
    if not flat:
        return False
    if line.visible_rounding() > GRADUAL * math.ulp(line.base):  # rounding keeps it from moving
        return False
    outwards = [0.01 * flat[0] * RATIO**k for k in range(WIDENINGS)]
    towards_zero = []
    if len(line.direction) == 1:
        (start,) = [line.program.values[i] / c for i, c in line.direction.items()]
        towards_zero = [-start * (1.0 - 2.0**-k) for k in range(1, DIGITS)]
        if line.scale > 2.0**DIGITS:  # what lies nearer to 0 than the last place of the argument
            towards_zero.append(-start)
    return not any(_sets_in(line, steps) for steps in (outwards, [-step for step in outwards], towards_zero))


def _sets_in(line: Line, steps: Iterable[float]) -> bool:
    """Whether the number begins to move along these steps by little more than its last place."""
    still = 0.0
    for step in steps:
        if _moves(line, step):
            little = (step - still) / 64.0
            for _ in range(BISECTIONS):
                middle = still + 0.5 * (step - still)
                if _moves(line, middle):
                    step = middle
                else:
                    still = middle
            is_blurred = abs(step - still) < 4.0 * line.smallest
            return is_blurred or _moves(line, step + little) < GRADUAL * math.ulp(line.base)
        still = step
    return False


def _moves(line: Line, step: float) -> float:
    """How far the number moves by a step; 0 if there is an obstacle."""
    point = line.at(step)
    return 0.0 if isinstance(point, Obstacle) else abs(point[1] - line.base)


def bend(line: Line, step: float) -> float:
    """How much the slopes on both sides differ, as near the point as can be resolved: at an undeclared kink.

    0 if they do not, as at a smooth point; infinity if they differ more, the nearer: a cusp.
    """
    bends: list[float] = []
    step = max(min(step, line.beside), 16.0 * RATIO**CUSP * line.smallest)  # all of them are needed
    for _ in range(LEVELS):
        if step < 16.0 * line.smallest:  # a step must not be rounded much
            break
        sides = [side for side in (line.at(step), line.at(-step)) if not isinstance(side, Obstacle)]
        if len(sides) == 2:
            right, left = [(y - line.base) / made for made, y in sides]  # over the actual steps
            if not abs(right - left) * step > 4.0 * line.noise:
                break
            bends.append(abs(right - left))
        step /= RATIO
    for last in (bends[-3:], bends[-4:-1]):  # the last step may end just beyond a kink beside the point
        if len(last) == 3 and max(last) < 2.0 * min(last):
            return last[-1]
    growing = itertools.pairwise(bends[-CUSP:])
    # noise of constant size grows by the ratio of the steps
    return math.inf if len(bends) >= CUSP and all(a < b < 0.8 * RATIO * a for a, b in growing) else 0.0


def across(line: Line) -> tuple[Line, float] | None:
    """The same line past the branches that meet at the point itself, if they meet with one slope; else ``None``.

    The slopes to both sides, over two steps in a row, differ the less, the smaller the steps, until rounding
    hides how much: by how much they may differ still is the second result.
    """
    smooth = copy(line)
    while (here := smooth.obstacle(line.nearest)) is not None and here.is_kink:
        smooth.kinks = [kink for kink in smooth.kinks if kink[0] != here.position]
    spreads: list[float] = []
    before: list[float] = []
    unseen, step = math.inf, 0.1 * line.size
    while step > 16.0 * line.smallest and len(spreads) < LEVELS:
        sides = [side for side in (smooth.at(step), smooth.at(-step)) if not isinstance(side, Obstacle)]
        if len(sides) == 2:
            slopes = [(y - line.base) / made for made, y in sides]
            spread = max(*slopes, *before) - min(*slopes, *before)
            rounding = (4.0 * line.noise + 8.0 * UNIT * max([abs(y) for _, y in sides])) / step
            unseen = max(spread, rounding)
            if before and spread <= rounding:
                break
            spreads.append(spread)
            before = slopes
        step /= RATIO
    meet = all(b < 0.75 * a for a, b in itertools.pairwise(spreads[-3:]))
    passed = [kink for kink in line.kinks if kink not in smooth.kinks]
    # of teeth smaller than the steps these see any but those that meet here
    same = passed and all(
        smooth.branches(passed, step * side) == smooth.branches(passed, line.nearest * side) for side in (1.0, -1.0)
    )
    return (smooth, unseen) if meet and same else None


class Side(NamedTuple):
    """The number and the slope on one side of a point, continued to it, and how far the slope may be off."""

    number: float = math.nan
    slope: float = math.nan
    error: float = math.inf


def one_sided(line: Line, distance: float) -> list[Side]:
    """The function on the left and on the right, continued to the point from this distance on."""
    through = copy(line)
    through.kinks = []
    return [_continued(through, distance, side) for side in (-1.0, 1.0)]


def _continued(line: Line, distance: float, side: float) -> Side:
    """A side as a parabola through three points continues it: a straight line takes its curvature for slope.

    The steps fall, though not below the distance, until the two agree to six digits and reach the number at the point
    (a curve that is flat farther off does not), or rounding takes over. Beside a jump the largest step tells most.
    """
    best, least, step = Side(), math.inf, max(line.beside, distance)
    for _ in range(SIDES):
        points = [point for k in (1.0, 2.0, 3.0) if not isinstance(point := line.at(k * side * step), Obstacle)]
        if len(points) == 3:
            (a, fa), (b, fb), (c, fc) = points
            straight = (fb - fa) / (b - a)  # Newton's form
            curvature = ((fc - fb) / (c - b) - straight) / (c - a)
            error = abs(curvature * (a + b)) + 4.0 * line.noise / step
            found = Side(fa - straight * a + curvature * a * b, straight - curvature * (a + b), error)
            doubt = error + abs(found.number - line.base) / step
            if doubt < least:
                best, least = found, doubt
        step /= RATIO**3
        if least <= 1e-6 * abs(best.slope) or step < max(distance, 16.0 * line.smallest):
            break
    return best
