"""Numeric derivatives that carry their own error.

A tolerance that is guessed is either too tight for ``sin(1e6·x)`` or too loose for ``x⁹`` at 0.001. Here
each number that takes part says how far it can be trusted:

* **the function's own rounding** by random rounding: the graph is evaluated again with each result moved
  by a random fraction of its last place, and the spread of the outcomes is the noise of the outcome
  (Vignes, 1978; Parker, 1997). It needs no derivative, and it sees the cancellation in 1e16 + x − 1e16. What
  happens inside a forward function of a user it does not see: there differences of sixth order tell;
* **the truncation of a difference** by extrapolation: central differences over a ladder of steps,
  extrapolated to step 0 (Richardson, 1911); how much two neighbours in the tableau differ is the error
  (Ridders, 1982);
* **the rounding of the reverse sweep** by random rounding of the sweep.

Where every operation on the way is analytic, the complex step replaces the differences; see ``analytic``.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from functools import cached_property
from random import Random
from typing import Any, NamedTuple

from microgrid import ops
from microgrid.checking.analytic import complex_forward
from microgrid.engine import Value, topological_order
from microgrid.ops import Op, Operators, as_float

UNIT = 2.0**-53
"""The largest relative error of one rounded operation."""

SAMPLES = 4
"""How many times a result is computed anew with random rounding."""

RATIO = 4.0
COLUMNS = 6
LEVELS = 64
RESOLVED = 1e-4
"""A derivative is known if its error is below this fraction of it: four digits tell wrong from right."""

COMPLEX_STEP = float.fromhex("0x1p-332")  # about 1e-100: its square vanishes beside any number
SMALLEST_STEP = float.fromhex("0x1p-900")  # about 1e-271: a slope of 1 times it keeps its digits


def resolution(scale: float, negligible: float) -> float:
    """The error below which a derivative of this size counts as known."""
    return max(negligible, RESOLVED * scale, math.ulp(0.0))


# ---------------------------------------------------------------------------------------------------
# Random rounding


def rounded(y: float, random: Random, size: float = 0.0) -> float:
    """Return y moved by up to two units in its last place, or in that of ``size``; 0, inf and nan stay."""
    return y + math.ulp(size or y) * (4.0 * random.random() - 2.0) if (y or size) and math.isfinite(y) else y


class Noisy(Operators):
    """A number whose every operation rounds at random: it flows through the table as a Value does."""

    __slots__ = ("data", "random")

    def __init__(self, data: float, random: Random) -> None:
        self.data = data
        self.random = random

    @classmethod
    def __apply__(cls, op: Op, arguments: tuple[Any, ...]) -> "Noisy":
        random = next(x.random for x in arguments if isinstance(x, cls))
        return cls(rounded(op.forward(*[as_float(x) for x in arguments]), random), random)

    def __float__(self) -> float:
        return self.data

    def __bool__(self) -> bool:
        return bool(self.data)

    def __lt__(self, other: Any) -> bool:
        return self.data < as_float(other)

    def __le__(self, other: Any) -> bool:
        return self.data <= as_float(other)

    def __gt__(self, other: Any) -> bool:
        return self.data > as_float(other)

    def __ge__(self, other: Any) -> bool:
        return self.data >= as_float(other)


def local_derivative(op: Op, i: int, y: float, xs: list[float], random: Random | None = None) -> float:
    """Return ∂y/∂xs[i] as the row gives it, as a float; with random rounding inside if asked for."""
    partial = op.partials[i]
    if not callable(partial):
        return as_float(partial)
    if random is not None:
        try:
            return as_float(partial(Noisy(y, random), *[Noisy(x, random) for x in xs]))
        except (TypeError, AttributeError):  # a partial that takes floats only: its inner rounding stays unknown
            pass
    return as_float(partial(y, *xs))


# ---------------------------------------------------------------------------------------------------
# A graph as flat lists


@contextmanager
def restored(values: Iterable[Value]) -> Iterator[None]:
    """Put back the data and the gradients of these Values at the end, come what may."""
    before = [(value, value.data, value.grad) for value in values]
    try:
        yield
    finally:
        for value, data, gradient in before:
            value.data = data
            value.grad = gradient


class Obstacle(NamedTuple):
    """Why the function cannot be used at some point: another smooth branch, or not a finite number."""

    position: int | None
    """of the node in the program; ``None`` for the slope itself, or for a kink that no operation tells of"""
    is_kink: bool = False


class Program:
    """A graph as flat lists, to be evaluated again and again with one pass over plain floats.

    Nodes of ``stop_gradient`` are held at their value: the derivative is defined with them constant.

    Attributes:
        nodes: the graph in topological order, after any leaves that it does not reach; the output is the last.
        operands: for each node the positions of its parents.
        values: the number at each node.
        locals: the local derivatives at each node.
    """

    def __init__(self, output: Value, leaves: Iterable[Value] = ()) -> None:
        order = topological_order(output)
        reached = set(order)
        self.nodes = [leaf for leaf in leaves if leaf not in reached] + order
        self.position = {node: i for i, node in enumerate(self.nodes)}
        self.operands = [tuple([self.position[parent] for parent in node.parents]) for node in self.nodes]
        self.values = [node.data for node in self.nodes]
        self._steps: dict[int, Step] = {}
        self._children: list[list[int]] = [[] for _ in self.nodes]
        for i, operands in enumerate(self.operands):
            op = self.nodes[i].op
            if operands and op is not ops.stop_gradient:
                self._steps[i] = (i, op.forward, operands, _rounding_of(op))
                for j in operands:
                    self._children[j].append(i)
        self.plan = list(self._steps.values())
        advance(self.values, self.plan)
        self.locals = [self._locals(i, self.values) for i in range(len(self.nodes))]
        self._relevant: dict[bool, list[bool]] = {}

    def _locals(self, i: int, values: list[float], random: Random | None = None) -> tuple[float, ...]:
        op, xs = self.nodes[i].op, [values[j] for j in self.operands[i]]
        return tuple([local_derivative(op, k, values[i], xs, random) for k in range(len(xs))])

    def plan_from(self, moved: Iterable[int]) -> "Plan":
        """The steps that compute again whatever depends on the moved nodes, and nothing else."""
        found: set[int] = set()
        stack = list(moved)
        while stack:
            for i in self._children[stack.pop()]:
                if i not in found:
                    found.add(i)
                    stack.append(i)
        return [self._steps[i] for i in sorted(found)]

    def relevant(self, second: bool) -> list[bool]:
        """For each node, whether a change there reaches the output to first order.

        An edge whose local derivative is 0 at this point stops it: the branch that ``where`` did not
        choose has no say. For second derivatives, only edges whose derivative is the constant 0 do.
        """
        if second not in self._relevant:
            relevant = [False] * len(self.nodes)
            relevant[-1] = True
            for i in reversed(range(len(self.nodes))):
                if relevant[i]:
                    derivatives = self.nodes[i].op.partials if second else self.locals[i]
                    for k, j in enumerate(self.operands[i]):
                        if callable(derivatives[k]) or derivatives[k] != 0:
                            relevant[j] = True
            self._relevant[second] = relevant
        return self._relevant[second]

    def gradients(self, values: list[float] | None = None, random: Random | None = None) -> list[float]:
        """Return ∂output/∂node of every node, by a reverse sweep that shares no code with the engine's."""
        gradients = [0.0] * len(self.nodes)
        gradients[-1] = 1.0
        for i in reversed(range(len(self.nodes))):
            operands, partials = self.operands[i], self.nodes[i].op.partials
            derivatives = self.locals[i] if values is None or not operands else self._locals(i, values, random)
            for k, j in enumerate(operands):
                if callable(partials[k]) or partials[k]:
                    product = gradients[i] * derivatives[k]
                    gradients[j] += product if random is None else rounded(product, random)
                    if random is not None:
                        gradients[j] = rounded(gradients[j], random)
        return gradients

    def gradients_in_another_order(self) -> list[float]:
        """The same sweep, visiting the nodes breadth first: what must not matter."""
        waiting = [0] * len(self.nodes)
        for operands in self.operands:
            for j in operands:
                waiting[j] += 1
        gradients = [0.0] * len(self.nodes)
        gradients[-1] = 1.0
        queue = [len(self.nodes) - 1]
        for i in queue:  # the list grows while it is read
            for k in reversed(range(len(self.operands[i]))):
                j = self.operands[i][k]
                gradients[j] += gradients[i] * self.locals[i][k]
                waiting[j] -= 1
                if not waiting[j]:
                    queue.append(j)
        return gradients

    def rounding_of_gradients(self, seed: int) -> list[float]:
        """How far the reverse sweep may be off at each node, by rounding alone."""
        exact = self.gradients()
        spread = [8.0 * UNIT * abs(gradient) for gradient in exact]
        random = Random(seed)
        for _ in range(SAMPLES):
            values = self.values.copy()
            advance(values, self.plan, random)
            for i, gradient in enumerate(self.gradients(values, random)):
                spread[i] = max(spread[i], 2.0 * abs(gradient - exact[i]))
        return spread


class Rounding(Enum):
    """How an operation rounds its result."""

    RESULT = auto()
    """in the last place of the result"""
    OPERANDS = auto()
    """in the last place of the largest operand: a sum of many, whose partial sums may be large"""
    NONE = auto()
    """not at all: comparisons and other steps"""


def _rounding_of(op: Op) -> Rounding:
    constant = not any(map(callable, op.partials))
    if constant and not any(op.partials):
        return Rounding.NONE
    return Rounding.OPERANDS if constant and op.arity > 2 else Rounding.RESULT


Step = tuple[int, Callable[..., float], tuple[int, ...], Rounding]
"""The position of a node, its forward function, the positions of its operands, and how it rounds."""
Plan = list[Step]
_ComplexPlan = list[tuple[int, Callable[..., complex], tuple[int, ...], Rounding]]


def advance(values: list[float], plan: Plan, random: Random | None = None) -> None:
    """Evaluate the steps of a plan in place; with random rounding of each result if asked for."""
    if random is None:
        for i, forward, operands, _ in plan:
            values[i] = forward(*[values[j] for j in operands])
        return
    for i, forward, operands, rounding in plan:
        xs = [values[j] for j in operands]
        y = forward(*xs)
        if rounding is Rounding.RESULT and y not in xs:  # what only chooses among its operands does not round
            y = rounded(y, random)
        elif rounding is Rounding.OPERANDS:
            y = rounded(y, random, max(map(abs, xs)))
        values[i] = y


Measure = Callable[[list[float], Random | None], float]
"""A number read off the values of a program: its output, or something computed from them."""


def output_of(values: list[float], random: Random | None) -> float:
    """The output itself."""
    return values[-1]


class Line:
    """A number of a program as a function of t, where the nodes of a direction are moved by t times it.

    Attributes:
        base: the number at t = 0.
        scale: the size of what is moved.
        size: the same, or 1 if that is more.
        smallest: the smallest step that moves it.
        nearest: the step to look for a kink at the point itself.
        beside: the step to tell the slopes of its sides.
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

    def at(self, t: float, random: Random | None = None) -> "tuple[float, float] | Obstacle":
        """Return the step that was really made, after rounding, and the number there; or what is in the way."""
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

    def _visible_rounding(self) -> float:
        """How much the outcome spreads by random rounding."""
        random = Random(self.seed)
        points = [self.at(0.0, random) for _ in range(SAMPLES)]
        numbers = [self.base, *[point[1] for point in points if not isinstance(point, Obstacle)]]
        return max(abs(y - self.base) for y in numbers)

    @cached_property
    def noise(self) -> float:
        """How far the number may be off by rounding alone."""
        spread = self._visible_rounding()
        if any(not ops.is_own(self.program.nodes[i].op) for i, *_ in self.plan):
            spread = max(spread, self._hidden_rounding())
        return 2.0 * spread + math.ulp(self.base)  # ulp(0) is what underflow may lose

    @property
    def is_flat(self) -> bool:
        """Whether the number does not move at all, by a hundredth of the size of what is moved or of 1."""
        return set(self._in_a_row(range(-3, 4), 0.003 * self.size)) == {self.base}

    def _hidden_rounding(self) -> float:
        """The rounding inside a user's forward function, where random rounding cannot reach: of ``(x + 1e6) - 1e6``.

        Differences of sixth order leave nothing of what is smooth over a few small steps, and √(12!) / 6! times
        the deviation of what is not (Hamming, 1962; Moré & Wild, 2011). The steps are odd multiples of the smallest,
        so that no argument is rounded, and few of them fall in with the grid that results are rounded to, whose
        width is a power of two: these show none of the rounding. The widest may show the function itself. So of
        four steps in a row the largest deviation counts, and of all such rows the smallest.
        """
        step = self.smallest
        found: list[float] = []
        while len(found) < 8 and step < 1e6 * self.size:
            values = self._in_a_row(range(-2, 7), step)  # lopsided, for even functions
            if len(set(values)) >= 7:
                sixth = _differences(values, 6)
                found.append(math.hypot(*sixth) / math.sqrt(924.0 * len(sixth)))
            step = 5.0 * step + 2.0 * self.smallest
        if not found:  # what does not move at all may have been lost beside a number like 1
            return math.ulp(max(abs(self.base), 1.0))
        return 3.0 * min([max(found[i : i + 4]) for i in range(max(len(found) - 3, 1))])

    def _in_a_row(self, multiples: Iterable[int], step: float) -> list[float]:
        """The numbers at these multiples of a step; none if something is in the way of one of them."""
        numbers = []
        for k in multiples:
            point = self.at(k * step)
            if isinstance(point, Obstacle):
                return []
            numbers.append(point[1])
        return numbers

    def obstacle(self, step: float) -> Obstacle | None:
        """What is in the way on either side, at this distance."""
        sides = [self.at(step), self.at(-step)]
        return next((side for side in sides if isinstance(side, Obstacle)), None)

    def bends(self, step: float) -> bool:
        """Whether the slopes on both sides differ, and as much from nearer by: a kink that no operation tells of."""
        bends: list[float] = []
        step = min(step, self.beside)
        while abs(change := self._change(step)) > 4.0 * self.noise:
            bends.append(abs(change) / step)
            step /= RATIO
        last = bends[-3:]
        return len(last) == 3 and max(last) < 2.0 * min(last)

    def _change(self, step: float) -> float:
        """How far the number moves to both sides together."""
        sides = [self.at(step), self.at(-step)]
        return sum(side[1] - self.base for side in sides if not isinstance(side, Obstacle))

    def slopes(self, distance: float) -> tuple[float, float]:
        """The slopes on the left and on the right, from this distance on, roughly: for a message."""
        step = max(self.beside, distance)
        kinks, self.kinks = self.kinks, []
        points = [self.at(t) for t in (-2.0 * step, -step, step, 2.0 * step)]
        self.kinks = kinks
        left, right = [
            math.nan if isinstance(a, Obstacle) or isinstance(b, Obstacle) else (b[1] - a[1]) / (b[0] - a[0])
            for a, b in (points[:2], points[2:])
        ]
        return left, right


def _differences(numbers: list[float], order: int) -> list[float]:
    for _ in range(order):
        numbers = [b - a for a, b in itertools.pairwise(numbers)]
    return numbers


# ---------------------------------------------------------------------------------------------------
# The derivative of a line at 0


class Method(StrEnum):
    """How a numeric derivative is taken."""

    AUTO = auto()
    """by the complex step where every operation on the way is analytic, else by differences"""
    COMPLEX = auto()
    DIFFERENCE = auto()


@dataclass
class Estimate:
    """A numeric derivative, how far it may be off, and what was in the way of a better one."""

    value: float = math.nan
    error: float = math.inf
    method: Method = Method.DIFFERENCE
    step: float = math.nan
    obstacle: Obstacle | None = None
    distance: float = math.inf
    """The smallest step at which the obstacle was met."""

    def worth(self, negligible: float) -> float:
        """The error in units of what may be left for the derivative to be known: the smaller the better.

        Errors as such do not compare: far from a pole the slope is small, and so is the error of a wrong one.
        """
        return self.error / resolution(abs(self.value), negligible)

    def is_known(self, negligible: float) -> bool:
        """Whether it shows as many digits as it takes to tell wrong from right."""
        return self.worth(negligible) <= 1.0

    def rank(self, negligible: float) -> tuple[bool, float]:
        """The better, the smaller: by worth; of those that show too few digits, by the error alone."""
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
    step = min(COMPLEX_STEP, UNIT * line.scale or COMPLEX_STEP)
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
    return Estimate(exact, 2.0 * spread + 16.0 * UNIT * abs(exact), Method.COMPLEX, step)


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
    takes over. Steps that meet a kink or leave the domain are passed over. If rounding leaves too few
    digits, larger steps are tried, which for functions near a straight line give more.
    """
    start = largest or 0.1 * line.size
    best = _ladder(line, start, negligible)
    if largest is not None:
        return best
    if line.scale < 1e-3:  # steps beyond 0 take what is even, or has a pole there, for something else
        best = better(best, _ladder(line, 0.1 * line.scale, negligible), negligible)
    for other in (1e3 * start, 1e6 * start):
        if best.worth(negligible) > 0.01:
            wider = _ladder(line, other, negligible)
            # what is in the way of larger steps only is no reason against a derivative here
            wider.obstacle, wider.distance = best.obstacle, best.distance
            best = better(best, wider, negligible)
    return best


def better(one: Estimate, other: Estimate, negligible: float) -> Estimate:
    """Return the one of the two that shows more digits."""
    return min(one, other, key=lambda found: found.rank(negligible))


def _ladder(line: Line, first: float, negligible: float) -> Estimate:
    best, narrowest = Estimate(), Estimate()
    above: list[float] = []
    obstacle, distance = None, math.inf
    step = first * 1.0471975511965976  # no round number: periods and grids of a function are round
    while step >= max(line.smallest, first * RATIO**-LEVELS):
        point = _central(line, step)
        if isinstance(point, Obstacle):
            obstacle, distance = point, step
            above = []
        else:
            slope, rounding = point
            row = [slope]
            for j, coarser in enumerate(above[: COLUMNS - 1], start=1):
                row.append(row[-1] + (row[-1] - coarser) / (RATIO ** (2 * j) - 1.0))
                error = abs(row[j] - coarser) + rounding
                found = Estimate(row[j], error, step=step)
                best = min(best, found, key=lambda estimate: estimate.worth(negligible))
                narrowest = min(narrowest, found, key=lambda estimate: estimate.error)
            above = row
            if len(row) > 2 and (best.error <= max(1e-10 * abs(best.value), 0.1 * negligible) or rounding > best.error):
                break
        step /= RATIO
    chosen = best if best.is_known(negligible) else narrowest
    chosen.obstacle, chosen.distance = obstacle, distance
    return chosen


def _central(line: Line, step: float) -> tuple[float, float] | Obstacle:
    """The central difference over a step, and its error by rounding."""
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
    return (slope, rounding) if math.isfinite(slope) else Obstacle(None)
