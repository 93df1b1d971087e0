"""Numeric derivatives that carry their own error.

A tolerance that is guessed is either too tight for ``sin(1e6·x)`` or too loose for ``x⁹`` at 0.001. Here
each number that takes part says how far it can be trusted:

* **the function's own rounding** by random rounding: the graph is evaluated again with each result moved
  by a random fraction of its last place, and the spread of the outcomes is the noise of the outcome
  (Vignes, 1978; Parker, 1997). It needs no derivative, and it sees the cancellation in 1e16 + x − 1e16. What
  happens inside a forward function of a user it does not see: there differences of sixth order decide;
* **the truncation of a difference** by extrapolation: central differences over a ladder of steps,
  extrapolated to step 0 (Richardson, 1911); how much two neighbours in the tableau differ is the error
  (Ridders, 1982);
* **the rounding of the reverse sweep** by random rounding of the sweep.

Where every operation on the way is analytic, the complex step replaces the differences; see ``analytic``.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from functools import cached_property
from random import Random
from typing import Any, NamedTuple

from microgrid import ops
from microgrid.checking.analytic import complex_forward
from microgrid.engine import Value, topological_order
from microgrid.given import Given
from microgrid.ops import Op, Operation, Operators, as_float

UNIT = 2.0**-53
"""The largest relative error of one rounded operation."""

SAMPLES = 4
"""How many times a result is computed anew with random rounding."""

RATIO = 4.0
COLUMNS = 6
LEVELS = 64
RESOLVED = 1e-4
"""A derivative is known if its error is below this fraction of it: four digits tell wrong from right."""

# How far things are tried; with LEVELS these bound how often a function is evaluated: see ``check``.
ROWS = 32
STRIDE = 6
WIDENINGS = 40
DIGITS = 53
BISECTIONS = 12
CUSP = 6
GRADUAL = 2.0**20
"""What begins to move by fewer units in the last place than this, saturates; by more, it jumps or bends."""

COMPLEX_STEP = float.fromhex("0x1p-332")  # about 1e-100: its square vanishes beside any number
LARGEST = float.fromhex("0x1p1000")
SMALLEST_STEP = float.fromhex("0x1p-900")  # about 1e-271: a slope of 1 times it keeps its digits


NEGLIGIBLE = 1e-9
"""What is this fraction of the terms that cancel in a derivative, or of its own size beside the point, is nothing."""


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
    def __apply__(cls, op: Operation, arguments: tuple[Any, ...]) -> "Noisy":
        random = next(x.random for x in arguments if isinstance(x, cls))
        xs = [as_float(x) for x in arguments]
        y = op.forward(*xs)
        return cls(y if _is_exact(op, y, xs) else rounded(y, random), random)

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


def _is_exact(op: Operation, y: float, xs: list[float]) -> bool:
    """Whether nothing is rounded: in a choice, a comparison, a product with a power of 2, a sum with no remainder."""
    if op is ops.mul:
        return any(math.frexp(abs(x))[0] == 0.5 for x in xs)
    if op in (ops.add, ops.sub):
        a, b = xs[0], y - xs[0]
        remainder = (xs[1] if op is ops.add else -xs[1]) - b + (a - (y - b))  # Knuth's sum of two
        return not remainder
    return y in xs or not any(op.connected)


def is_program(op: Operation) -> bool:
    """Return whether an operation is a whole program, as the call of a compiled function is."""
    return hasattr(op, "passing")


def local_derivative(op: Operation, i: int, y: float, xs: list[float], random: Random | None = None) -> float:
    """Return ∂y/∂xs[i] as the row gives it, as a float; with random rounding inside if asked for."""
    if is_program(op):
        return local_derivatives(op, y, xs, random)[i]
    if random is None:
        return _partial(op.partials[i], y, xs)
    return _partial(op.partials[i], y, xs, [Noisy(x, random) for x in (y, *xs)])


def local_derivatives(op: Operation, y: float, xs: list[float], random: Random | None = None) -> tuple[float, ...]:
    """Return ∂y/∂xs as the row gives it.

    An operation that is a whole program, as a compiled function is, gives all of them at once; its rounding is that of
    its operands.
    """
    if not is_program(op):
        noisy = () if random is None else [Noisy(x, random) for x in (y, *xs)]
        return tuple([_partial(partial, y, xs, noisy) for partial in op.partials])
    if random is not None:
        coarser = op.unit / UNIT  # type: ignore[attr-defined]
        xs = [rounded(x, random, coarser * x) for x in xs]
    return tuple(map(as_float, op.local_derivatives(y, *xs)))


def _partial(partial: Any, y: float, xs: Sequence[float], noisy: Sequence[Noisy] = ()) -> float:
    if not callable(partial):
        return as_float(partial)
    if noisy:
        try:
            return as_float(partial(*noisy))
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
    """of the node in the program; ``None`` for the slope itself, or for a kink that no operation declares"""
    is_kink: bool = False


class Program:
    """A graph as flat lists, to be evaluated again and again with one pass over plain floats.

    Nodes of ``stop_gradient`` are held at their value: the derivative is defined with them constant.

    Attributes:
        nodes: the graph in topological order, after any leaves that it does not reach; the output is the last.
        operands: for each node the positions of its parents.
        recorded: the number that each node holds.
    """

    def __init__(self, output: Value, leaves: Iterable[Value] = ()) -> None:
        order = topological_order(output)
        reached = set(order)
        self.nodes = [leaf for leaf in leaves if leaf not in reached] + order
        self.position = {node: i for i, node in enumerate(self.nodes)}
        self.operands = [tuple([self.position[parent] for parent in node.parents]) for node in self.nodes]
        self.recorded = [node.data for node in self.nodes]
        self._traits: dict[Operation, _Traits] = {}

    def _traits_of(self, op: Operation) -> "_Traits":
        traits = self._traits.get(op)
        if traits is None:
            traits = self._traits[op] = _traits_of(op)
        return traits

    @cached_property
    def plan(self) -> "Plan":
        """The steps that compute all nodes anew."""
        return [
            (i, self._forward(node), self.operands[i], self._traits_of(node.op).rounding)
            for i, node in enumerate(self.nodes)
            if self.operands[i] and node.op is not ops.stop_gradient
        ]

    def _forward(self, node: Value) -> Callable[..., float]:
        return forward_of(node) if isinstance(node.op, Given) else self._traits_of(node.op).forward

    @cached_property
    def values(self) -> list[float]:
        """The number at each node, as it follows from the leaves."""
        values = self.recorded.copy()
        advance(values, self.plan)
        return values

    @cached_property
    def locals(self) -> list[tuple[float, ...]]:
        """The local derivatives at each node."""
        return [self._locals(i, self.values) for i in range(len(self.nodes))]

    @cached_property
    def _steps(self) -> "dict[int, Step]":
        return {step[0]: step for step in self.plan}

    @cached_property
    def _children(self) -> list[list[int]]:
        children: list[list[int]] = [[] for _ in self.nodes]
        for i, _, operands, _ in self.plan:
            for j in operands:
                children[j].append(i)
        return children

    def _locals(self, i: int, values: list[float], random: Random | None = None) -> tuple[float, ...]:
        if not self.operands[i]:
            return ()
        node, op = self.nodes[i], self.nodes[i].op
        if isinstance(op, Given):
            slopes = node.local_derivatives()
            return slopes if random is None else tuple([rounded(slope, random) for slope in slopes])
        constant = self._traits_of(op).constant
        return constant or local_derivatives(op, values[i], [values[j] for j in self.operands[i]], random)

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
        return self._structure if second else self._relevant

    @cached_property
    def _relevant(self) -> list[bool]:
        return self._reached(lambda i: list(map(bool, self.locals[i])))

    @cached_property
    def _structure(self) -> list[bool]:
        return self._reached(lambda i: self.nodes[i].op.connected)

    def _reached(self, edges: Callable[[int], Sequence[bool]]) -> list[bool]:
        """Which nodes the output is reached from, along the edges of each node that are open."""
        reached = [False] * len(self.nodes)
        reached[-1] = True
        for i in reversed(range(len(self.nodes))):
            if reached[i] and self.operands[i]:
                for j, is_open in zip(self.operands[i], edges(i), strict=True):
                    if is_open:
                        reached[j] = True
        return reached

    def live(self, moved: Iterable[int], steps: bool) -> list[bool]:
        """For each node, whether anything can come of moving it: what the rows of the table say before any number.

        Nothing passes a comparison, a step or ``stop_gradient``, nor a product with a 0 that does not move. What
        rows of a user's own say is to be checked, so it counts for nothing here. With ``steps``, comparisons and
        steps count as if something passed.
        """
        moving = {*moved, *[i for i, *_ in self.plan_from(moved)]}

        def rule(op: Operation, zeros: Sequence[bool]) -> Sequence[bool]:
            if op is ops.mul:
                return [not zero for zero in reversed(zeros)]
            is_open = steps or not ops.in_table(op)
            return [True] * len(zeros) if is_open and op is not ops.stop_gradient else op.connected

        def edges(i: int) -> Sequence[bool]:
            op, operands = self.nodes[i].op, self.operands[i]
            if is_program(op) and operands:
                moves, xs = [j in moving for j in operands], [self.values[j] for j in operands]
                return op.passing(moves, xs, rule)  # type: ignore[attr-defined, no-any-return]
            return rule(op, [j not in moving and not self.values[j] for j in operands])

        return self._reached(edges)

    def gradients(self, values: list[float] | None = None, random: Random | None = None) -> list[float]:
        """Return ∂output/∂node of every node, by a reverse sweep that shares no code with the engine's."""
        gradients = [0.0] * len(self.nodes)
        gradients[-1] = 1.0
        for i, derivatives in self._backwards(values, random):
            gradient = gradients[i]
            for k, j in self._carrying(i):
                product = gradient * derivatives[k]
                before = gradients[j]
                if random is not None and derivatives[k] != 1.0:
                    product = rounded(product, random)
                gradients[j] = before + product if random is None or not before else rounded(before + product, random)
        return gradients

    def _backwards(
        self, values: list[float] | None = None, random: Random | None = None
    ) -> Iterator[tuple[int, tuple[float, ...]]]:
        """The nodes that the output depends on, from it down, with their local derivatives."""
        live = self._structure
        for i in reversed(range(len(self.nodes))):
            if self.operands[i] and live[i]:
                yield i, self.locals[i] if values is None else self._locals(i, values, random)

    def _carrying(self, i: int) -> Iterable[tuple[int, int]]:
        """The operands that a gradient flows to: their numbers and positions."""
        op, pairs = self.nodes[i].op, enumerate(self.operands[i])
        return itertools.compress(pairs, op.connected) if op.cuts else pairs

    def tangents(self, direction: Mapping[int, float]) -> list[float]:
        """How fast each node changes along a direction, by its local derivatives: the forward sweep."""
        tangents = [0.0] * len(self.nodes)
        for i, speed in direction.items():
            tangents[i] = speed
        for i, _, operands, _ in self.plan_from(direction):
            tangents[i] = sum(
                [slope * tangents[j] for j, slope in zip(operands, self.locals[i], strict=True) if tangents[j]]
            )
        return tangents

    def terms(self) -> list[float]:
        """The sum over all paths of the absolute products of their local derivatives, at each node: what may cancel."""
        terms = [0.0] * len(self.nodes)
        terms[-1] = 1.0
        for i, derivatives in self._backwards():
            for k, j in self._carrying(i):
                terms[j] += terms[i] * abs(derivatives[k])
        return terms

    def gradients_in_another_order(self) -> list[float]:
        """The same sweep, visiting the nodes breadth first: what must not matter."""
        live = self._structure
        waiting = [0] * len(self.nodes)
        for i, operands in enumerate(self.operands):
            for _, j in self._carrying(i) if operands and live[i] else ():
                waiting[j] += 1
        gradients = [0.0] * len(self.nodes)
        gradients[-1] = 1.0
        queue = [len(self.nodes) - 1]
        for i in queue:  # the list grows while it is read
            for k, j in reversed(list(self._carrying(i)) if self.operands[i] else []):
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


def forward_of(node: Value) -> Callable[..., float]:
    """The forward function of a node.

    One that was given as a number has none. Its tangent at its operands is as good where random rounding moves these;
    elsewhere only the function that made the node can be run again.
    """
    if not isinstance(node.op, Given):
        return node.op.forward
    y, operands, slopes = node.data, [parent.data for parent in node.parents], node.local_derivatives()
    return lambda *xs: y + sum([d * (x - was) for x, was, d in zip(xs, operands, slopes, strict=True) if x != was])


class Rounding(Enum):
    """How an operation rounds its result."""

    RESULT = auto()
    """in the last place of the result"""
    OPERANDS = auto()
    """in the last place of the largest operand: a sum of many, whose partial sums may be large"""
    NONE = auto()
    """not at all: comparisons and other steps"""


class _Traits(NamedTuple):
    """What is the same at every node of an operation."""

    rounding: Rounding
    constant: tuple[float, ...]
    """the local derivatives, if all are plain numbers"""
    forward: Callable[..., float]
    """computes it; of a row of a user's own it is the row, which says so if its forward function raises"""


def _traits_of(op: Operation) -> _Traits:
    partials = op.partials
    constant = () if any(map(callable, partials)) else tuple([as_float(partial) for partial in partials])
    forward = op if type(op) is Op and not ops.in_table(op) else op.forward
    if not any(op.connected):
        return _Traits(Rounding.NONE, constant, forward)
    return _Traits(Rounding.OPERANDS if constant and op.arity > 2 else Rounding.RESULT, constant, forward)


Kink = tuple[int, Callable[..., object], tuple[int, ...], object]
"""The position of a node, what tells its branch, the positions of its operands, and the branch at the point."""
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
    def may_hide_kinks(self) -> bool:
        """Whether some operation on the way is no row of the table: these declare all kinks."""
        return any(not ops.in_table(self.program.nodes[i].op) for i, *_ in self.plan)

    @cached_property
    def noise(self) -> float:
        """How far the number may be off by rounding alone."""
        spread = self._visible_rounding()
        if self.may_hide_kinks:
            spread = max(spread, self._hidden_rounding())
        return 2.0 * spread + math.ulp(self.base)  # ulp(0) is what underflow may lose

    def is_flat(self, distance: float) -> bool:
        """Whether the number does not move at all, by a hundredth of the size of what is moved or of 1.

        Or as far as there is nothing in the way, if something is at this distance. Beside an argument that is tiny
        beside 1 nothing moves that is not tiny too.

        A number that saturates does not move either, and its slope is not 0: it sets in with the last place, and
        grows little by little. What is flat jumps, or bends, or stays.
        """
        here = {self.base}
        sizes = [size for size in (self.size, self.scale) if size > 1e-12]
        flat = [size for size in sizes if set(self._in_a_row(range(-3, 4), min(0.003 * size, 0.06 * distance))) == here]
        if not flat:
            return False
        if self._visible_rounding() > GRADUAL * math.ulp(self.base):  # rounding keeps it from moving
            return False
        outwards = [0.01 * flat[0] * RATIO**k for k in range(WIDENINGS)]
        towards_zero = []
        if len(self.direction) == 1:
            (start,) = [self.program.values[i] / c for i, c in self.direction.items()]
            towards_zero = [-start * (1.0 - 2.0**-k) for k in range(1, DIGITS)]
            if self.scale > 2.0**DIGITS:  # what lies nearer to 0 than the last place of the argument
                towards_zero.append(-start)
        return not any(map(self._sets_in, (outwards, [-step for step in outwards], towards_zero)))

    def _sets_in(self, steps: Iterable[float]) -> bool:
        """Whether the number is seen to begin to move along these steps by little more than its last place."""
        still = 0.0
        for step in steps:
            if self._moves(step):
                little = (step - still) / 64.0
                for _ in range(BISECTIONS):
                    middle = still + 0.5 * (step - still)
                    if self._moves(middle):
                        step = middle
                    else:
                        still = middle
                is_blurred = abs(step - still) < 4.0 * self.smallest
                return is_blurred or self._moves(step + little) < GRADUAL * math.ulp(self.base)
            still = step
        return False

    def _moves(self, step: float) -> float:
        """How far the number moves by a step; not at all if something is in the way."""
        point = self.at(step)
        return 0.0 if isinstance(point, Obstacle) else abs(point[1] - self.base)

    def _hidden_rounding(self) -> float:
        """The rounding inside a user's forward function, where random rounding cannot reach: of ``(x + 1e6) - 1e6``.

        Differences of sixth order leave nothing of what is smooth over a few small steps, and √(12!) / 6! times
        the deviation of what is not (Hamming, 1962; Moré & Wild, 2011). The steps are odd multiples of the smallest,
        so that no argument is rounded, and few of them fall in with the grid that results are rounded to, whose
        width is a power of two: these show none of the rounding. The widest may show the function itself. So of
        four steps in a row the largest deviation counts, and of all such rows the smallest.
        """
        step = self._first_to_move()
        found: list[float] = []
        for _ in range(ROWS):
            values = self._in_a_row(range(9), step)  # to one side: the function may be even, or have a kink here
            if len(set(values)) >= 7:
                sixth = _differences(values, 6)
                found.append(math.hypot(*sixth) / math.sqrt(924.0 * len(sixth)))
            step = 5.0 * step + 2.0 * self.smallest
            if len(found) == 8 or step >= 1e6 * self.size:
                break
        if not found:  # what does not move at all may have been lost beside a number like 1
            return math.ulp(max(abs(self.base), 1.0))
        return 3.0 * min([max(found[i : i + 4]) for i in range(max(len(found) - 3, 1))])

    def _first_to_move(self) -> float:
        """A step just below the smallest that moves the number, in large strides: beside 0 there are many to try."""
        step = self.smallest
        while step < 5.0**-STRIDE * self.size and len(set(self._in_a_row(range(-2, 7), 5.0**STRIDE * step))) == 1:
            step *= 5.0**STRIDE
        return step

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

    def bends(self, step: float) -> float:
        """How much the slopes on both sides differ, from as near by as can be seen: at a kink that nothing declares.

        0 if they do not, as beside a point where all is smooth; infinity if they differ the more, the nearer: a cusp.
        """
        bends: list[float] = []
        step = min(step, self.beside)
        for _ in range(LEVELS):
            change = abs(self._change(step))
            if step < 16.0 * self.smallest or not change > 4.0 * self.noise:  # a step must not be rounded much
                break
            bends.append(change / step)
            step /= RATIO
        for last in (bends[-3:], bends[-4:-1]):  # the last step may end just beyond a kink beside the point
            if len(last) == 3 and max(last) < 2.0 * min(last):
                return last[-1]
        growing = itertools.pairwise(bends[-CUSP:])
        # what changes at random by as much at each step grows by the ratio of the steps
        return math.inf if len(bends) >= CUSP and all(a < b < 0.8 * RATIO * a for a, b in growing) else 0.0

    def across(self) -> "tuple[Line, float] | None":
        """The same line past the branches that meet at the point itself, if they meet with one slope; else ``None``.

        The slopes to both sides, over two steps in a row, differ the less, the smaller the steps, until rounding
        hides how much: by how much they may differ still is the second result.
        """
        line = copy(self)
        while (here := line.obstacle(self.nearest)) is not None and here.is_kink:
            line.kinks = [kink for kink in line.kinks if kink[0] != here.position]
        spreads: list[float] = []
        before: list[float] = []
        unseen, step = math.inf, 0.1 * self.size
        while step > 16.0 * self.smallest and len(spreads) < LEVELS:
            sides = [side for side in (line.at(step), line.at(-step)) if not isinstance(side, Obstacle)]
            if len(sides) == 2:
                slopes = [(y - self.base) / made for made, y in sides]
                spread = max(*slopes, *before) - min(*slopes, *before)
                rounding = (4.0 * self.noise + 8.0 * UNIT * max([abs(y) for _, y in sides])) / step
                unseen = max(spread, rounding)
                if before and spread <= rounding:
                    break
                spreads.append(spread)
                before = slopes
            step /= RATIO
        meet = all(b < 0.75 * a for a, b in itertools.pairwise(spreads[-3:]))
        passed = [kink for kink in self.kinks if kink not in line.kinks]
        # of teeth smaller than the steps these see any but those that meet here
        same = passed and all(
            line._branches(passed, step * side) == line._branches(passed, self.nearest * side) for side in (1.0, -1.0)
        )
        return (line, unseen) if meet and same else None

    def _branches(self, kinks: Iterable[Kink], t: float) -> list[object]:
        """On which branch each of some kinks is."""
        values = self.program.values.copy()
        for i, c in self.direction.items():
            values[i] += t * c
        advance(values, self.plan)
        return [kink(*[values[j] for j in operands]) for _, kink, operands, _ in kinks]

    def _change(self, step: float) -> float:
        """How far the number moves to both sides together."""
        sides = [self.at(step), self.at(-step)]
        return sum(side[1] - self.base for side in sides if not isinstance(side, Obstacle))

    def slopes(self, distance: float) -> tuple[float, float]:
        """The slopes on the left and on the right, from this distance on, roughly: for a message."""
        (_, left), (_, right) = self.sides(distance)
        return left, right

    def sides(self, distance: float) -> "tuple[tuple[float, float], tuple[float, float]]":
        """The number and the slope on the left and on the right, continued to the point from this distance on."""
        step = max(self.beside, distance)
        kinks, self.kinks = self.kinks, []
        points = [self.at(t) for t in (-2.0 * step, -step, step, 2.0 * step)]
        self.kinks = kinks
        found = []
        for near, far in ((points[1], points[0]), (points[2], points[3])):
            if isinstance(near, Obstacle) or isinstance(far, Obstacle):
                found.append((math.nan, math.nan))
            else:
                slope = (far[1] - near[1]) / (far[0] - near[0])
                found.append((near[1] - slope * near[0], slope))
        return found[0], found[1]


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
    beside: float = 0.0
    """The size of the slope as far beside the point as the argument is from 0, and no farther than the step."""

    def worth(self, negligible: float) -> float:
        """The error in units of what may be left for the derivative to be known: the smaller the better.

        Errors as such do not compare: far from a pole the slope is small, and so is the error of a wrong one.
        """
        return self.error / self.resolution(negligible)

    def resolution(self, negligible: float, size: float = 0.0) -> float:
        """The error below which the derivative counts as known, be it 0, as at the top of a hill."""
        return max(resolution(max(abs(self.value), size), negligible), NEGLIGIBLE * self.beside)

    def is_known(self, negligible: float) -> bool:
        """Whether it shows as many digits as it takes to tell wrong from right."""
        return self.worth(negligible) <= 1.0

    def contradicts(self, other: "Estimate") -> bool:
        """Whether one of the two is wrong about its own error."""
        return abs(self.value - other.value) > self.error + other.error

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
    takes over. Steps that meet a kink or leave the domain are passed over. If rounding leaves too few
    digits, larger steps are tried, which for functions near a straight line give more.
    """
    start = largest or 0.1 * line.size
    best = _ladder(line, start, negligible)
    if largest is not None:
        return best
    if line.scale < 1e-3:  # steps beyond 0 take what is even, or has a pole there, for something else
        nearby = _ladder(line, 0.1 * line.scale, negligible)
        best = nearby if nearby.contradicts(best) else better(best, nearby, negligible)  # far off it may be a line
    for other in (1e3 * start, 1e6 * start):
        if best.worth(negligible) > 0.01:
            wider = _ladder(line, other, negligible)
            # what is in the way of larger steps only is no reason against a derivative here
            wider.obstacle, wider.distance = best.obstacle, best.distance
            if not wider.contradicts(best):  # beyond all that happens, any function is at rest
                best = better(best, wider, negligible)
    return best


def better(one: Estimate, other: Estimate, negligible: float) -> Estimate:
    """Return the one of the two that shows more digits."""
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
