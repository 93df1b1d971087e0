"""A number of a graph along a line through the point, and how far rounding moves it."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from random import Random
from typing import NamedTuple

from microgrid import ops
from microgrid.checking.noise import SAMPLES
from microgrid.checking.program import Program, advance

RATIO = 4.0
LEVELS = 64
"""Steps fall by the ratio, at most so often; with the numbers below these bound how often a function is evaluated."""
ROWS = 32
STRIDE = 6


class Obstacle(NamedTuple):
    """Why the function cannot be used at some point: another smooth branch, or a number that is not finite."""

    position: int | None
    """of the node in the program; ``None`` for the slope itself, or for a kink that no operation declares"""
    is_kink: bool = False


Measure = Callable[[list[float], Random | None], float]
"""A number read off the values of a program: its output, or something computed from them."""


def output_of(values: list[float], random: Random | None) -> float:
    """The output itself."""
    return values[-1]


Kink = tuple[int, Callable[..., object], tuple[int, ...], object]
"""The position of a node, what tells its branch, the positions of its operands, and the branch at the point."""


class Line:
    """A number of a program as a function of t, with the nodes of a direction moved by t times their part of it.

    Attributes:
        base: the number at t = 0.
        scale: the size of the numbers that are moved.
        size: the same, or 1 if that is more.
        smallest: the smallest step that moves them.
        nearest: the step at which a kink at the point itself shows.
        beside: the step for the slopes of its sides.
    """

    def __init__(
        self,
        program: Program,
        direction: Mapping[int, float],
        measure: Measure = output_of,
        *,
        second: bool = False,
        seed: int,
    ) -> None:
        self.program = program
        self.direction = dict(direction)
        self.measure = measure
        self.seed = seed
        self.plan = program.plan_from(direction)
        self.base = measure(program.values, None)
        self.scale = max(abs(program.values[i]) for i in direction)
        self.size = max(self.scale, 1.0)
        self.beside = 1e-6 * self.size
        self.smallest = max(4.0 * math.ulp(program.values[i]) / abs(c) for i, c in direction.items())
        self.nearest = self.smallest if self.scale else 1e-150  # the square of a step from 0 must not vanish
        relevant = program.relevant(second)
        self.kinks = []
        for i, _, operands, _ in self.plan:
            kink = program.nodes[i].op.kink
            if kink is not None and relevant[i]:
                self.kinks.append((i, kink, operands, kink(*[program.values[j] for j in operands])))

    def at(self, t: float, random: Random | None = None) -> tuple[float, float] | Obstacle:
        """Return the actual step, after rounding, and the number there; or the obstacle."""
        values, made = self.program.values.copy(), 0.0
        for i, c in self.direction.items():
            values[i] += t * c
            made += c * (values[i] - self.program.values[i])  # a direction is of length 1
        advance(values, self.plan, random)
        for i, kink, operands, branch in self.kinks:
            if random is None and kink(*[values[j] for j in operands]) != branch:
                return Obstacle(i, is_kink=True)
        y = self.measure(values, random)
        if math.isfinite(y):
            return made, y
        return Obstacle(next((i for i, *_ in self.plan if not math.isfinite(values[i])), None))

    def branches(self, kinks: Iterable[Kink], t: float) -> list[object]:
        """Return the present branch of each of some kinks."""
        values = self.program.values.copy()
        for i, c in self.direction.items():
            values[i] += t * c
        advance(values, self.plan)
        return [kink(*[values[j] for j in operands]) for _, kink, operands, _ in kinks]

    def obstacle(self, step: float) -> Obstacle | None:
        """The obstacle on either side, at this distance."""
        sides = [self.at(step), self.at(-step)]
        return next((side for side in sides if isinstance(side, Obstacle)), None)

    def samples(self, multiples: Iterable[int], step: float) -> list[float]:
        """The numbers at these multiples of a step; none if there is an obstacle at one of them."""
        numbers = []
        for k in multiples:
            point = self.at(k * step)
            if isinstance(point, Obstacle):
                return []
            numbers.append(point[1])
        return numbers

    @cached_property
    def may_hide_kinks(self) -> bool:
        """Whether some operation on the way is not a row of the table: only those declare all their kinks."""
        return any(not ops.in_table(self.program.nodes[i].op) for i, *_ in self.plan)

    @cached_property
    def noise(self) -> float:
        """How far the number may be off by rounding alone."""
        spread = self.visible_rounding()
        if self.may_hide_kinks:
            spread = max(spread, _hidden_rounding(self))
        return 2.0 * spread + math.ulp(self.base)  # ulp(0) is the error of underflow

    def visible_rounding(self) -> float:
        """The spread of the outcome under random rounding."""
        random = Random(self.seed)
        points = [self.at(0.0, random) for _ in range(SAMPLES)]
        numbers = [self.base, *[point[1] for point in points if not isinstance(point, Obstacle)]]
        return max(abs(y - self.base) for y in numbers)


def _hidden_rounding(line: Line) -> float:
    """The rounding inside a user's forward function, where random rounding cannot reach: of ``(x + 1e6) - 1e6``.

    Differences of sixth order remove what is smooth over a few small steps, and leave √(12!) / 6! times
    the deviation of the noise (Hamming, 1962; Moré & Wild, 2011). The steps are odd multiples of the smallest,
    so that no argument is rounded. Some may match the grid of the rounded results, whose width is a power of two,
    and show no noise; the widest may show the function itself. So of four steps in a row the largest deviation
    counts, and of all such rows the smallest.
    """
    step = _first_to_move(line)
    found: list[float] = []
    seen = {line.base}
    for _ in range(ROWS):
        values = line.samples(range(9), step)  # to one side: the function may be even, or have a kink here
        seen.update(values)
        if len(set(values)) >= 7:
            sixth = _differences(values, 6)
            found.append(math.hypot(*sixth) / math.sqrt(924.0 * len(sixth)))
        step = 5.0 * step + 2.0 * line.smallest
        if len(found) == 8 or step >= 1e6 * line.size:
            break
    hidden = 3.0 * min([max(found[i : i + 4]) for i in range(max(len(found) - 3, 1))]) if found else 0.0
    if len(found) < 4:  # a staircase is rounded to the height of its steps
        stairs = [b - a for a, b in itertools.pairwise(sorted(seen))]
        hidden = max(hidden, min(stairs) if len(stairs) > 2 else 0.0)
    return hidden if found else max(hidden, math.ulp(max(abs(line.base), 1.0)))


def _first_to_move(line: Line) -> float:
    """A step just below the smallest that moves the number, in large strides: beside 0 there are many to try."""
    step = line.smallest
    while step < 5.0**-STRIDE * line.size and len(set(line.samples(range(-2, 7), 5.0**STRIDE * step))) == 1:
        step *= 5.0**STRIDE
    return step


def _differences(numbers: list[float], order: int) -> list[float]:
    for _ in range(order):
        numbers = [b - a for a, b in itertools.pairwise(numbers)]
    return numbers
