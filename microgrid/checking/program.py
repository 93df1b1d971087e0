"""A graph as flat lists, evaluated again and again: forwards, backwards, and with random rounding."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from random import Random
from typing import NamedTuple

from microgrid import ops
from microgrid.checking.noise import SAMPLES, UNIT, is_program, local_derivatives, rounded
from microgrid.engine import Value, topological_order
from microgrid.given import Given
from microgrid.ops import ARITHMETIC, Op, Operation, as_float
from microgrid.reverse import receivers


class Rounding(Enum):
    """The rounding of an operation's result."""

    RESULT = auto()
    """in the last place of the result"""
    OPERANDS = auto()
    """in the last place of the largest operand: a sum of many, whose partial sums may be large"""
    NONE = auto()
    """not at all: comparisons and other steps"""


class _Traits(NamedTuple):
    """The traits that all nodes of an operation share."""

    rounding: Rounding
    constant: tuple[float, ...]
    """the local derivatives, if all are plain numbers"""
    forward: Callable[..., float]
    """computes it; for a user-defined row it is the row, which names itself if its forward function raises"""


def _traits_of(op: Operation) -> _Traits:
    partials = op.partials
    constant = () if any(map(callable, partials)) else tuple([as_float(partial) for partial in partials])
    forward = op if type(op) is Op and not ops.in_table(op) else op.forward
    if not any(op.connected):
        return _Traits(Rounding.NONE, constant, forward)
    return _Traits(Rounding.OPERANDS if constant and op.arity > 2 else Rounding.RESULT, constant, forward)


Step = tuple[int, Callable[..., float], tuple[int, ...], Rounding]
"""The position of a node, its forward function, the positions of its operands, and how it rounds."""
Plan = list[Step]


def advance(values: list[float], plan: Plan, random: Random | None = None) -> None:
    """Evaluate the steps of a plan in place; with random rounding of each result if asked for."""
    if random is None:
        for i, forward, operands, _ in plan:
            values[i] = forward(*[values[j] for j in operands])
        return
    for i, forward, operands, rounding in plan:
        xs = [values[j] for j in operands]
        y = forward(*xs)
        if rounding is Rounding.RESULT and y not in xs:  # a choice among operands does not round
            y = rounded(y, random)
        elif rounding is Rounding.OPERANDS:
            y = rounded(y, random, max(map(abs, xs)))
        values[i] = y


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

    @cached_property
    def _traits(self) -> dict[Operation, _Traits]:
        return {op: _traits_of(op) for op in {node.op for node in self.nodes if node.parents}}

    @cached_property
    def plan(self) -> Plan:
        """The steps that compute all nodes anew."""
        return [
            (i, self._forward(node), self.operands[i], self._traits[node.op].rounding)
            for i, node in enumerate(self.nodes)
            if self.operands[i] and node.op is not ops.stop_gradient
        ]

    def _forward(self, node: Value) -> Callable[..., float]:
        return forward_of(node) if isinstance(node.op, Given) else self._traits[node.op].forward

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
        constant = self._traits[op].constant
        return constant or local_derivatives(op, values[i], [values[j] for j in self.operands[i]], random)

    def plan_from(self, moved: Iterable[int]) -> Plan:
        """The steps that compute only the nodes that depend on the moved ones."""
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

        An edge whose local derivative is 0 at this point stops it, as to the branch that ``where`` did not
        choose. For second derivatives, only edges whose derivative is the constant 0 do.
        """
        return self._structure if second else self._relevant

    @cached_property
    def _relevant(self) -> list[bool]:
        return self._reached(lambda i: list(map(bool, self.locals[i])))

    @cached_property
    def _structure(self) -> list[bool]:
        return self._reached(lambda i: receivers(self.nodes[i]))

    def _reached(self, edges: Callable[[int], Sequence[bool]]) -> list[bool]:
        """For each node, whether it reaches the output along open edges."""
        reached = [False] * len(self.nodes)
        reached[-1] = True
        for i in reversed(range(len(self.nodes))):
            if reached[i] and self.operands[i]:
                for j, is_open in zip(self.operands[i], edges(i), strict=True):
                    if is_open:
                        reached[j] = True
        return reached

    def live(self, moved: Iterable[int], steps: bool) -> list[bool]:
        """For each node, whether moving it can matter, by the rows of the table alone, whatever the numbers.

        Nothing passes a comparison, a step or ``stop_gradient``, nor a product with a 0 that does not move.
        User-defined rows are what is checked, so they are not trusted here. With ``steps``, comparisons and steps count
        as if something passed.
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
        """The operands to which a gradient flows: their argument numbers and positions."""
        node, pairs = self.nodes[i], enumerate(self.operands[i])
        return itertools.compress(pairs, receivers(node)) if node.op.cuts else pairs

    def tangents(self, direction: Mapping[int, float]) -> list[float]:
        """The rate of change of each node along a direction, by local derivatives: the forward sweep."""
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
        """The same sweep, visiting the nodes breadth first, which must not matter."""
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


@dataclass
class Sweep:
    """A backward pass through a graph.

    Attributes:
        gradients: of each node, as ``backward()`` gives them.
        rounding: how far each may be off by rounding.
        terms: the size of the terms that cancel in each.
    """

    program: Program
    gradients: list[float]
    rounding: list[float]
    terms: list[float]

    def along(self, direction: Mapping[int, float]) -> tuple[float, float, float]:
        """The derivative along a direction, how far it may be off, and the terms that cancel in it."""
        return (
            sum([c * self.gradients[i] for i, c in direction.items()]),
            sum([abs(c) * self.rounding[i] for i, c in direction.items()]),
            sum([abs(c) * self.terms[i] for i, c in direction.items()]),
        )


def backward(program: Program, seed: int) -> Sweep:
    """Call ``backward()`` on the output of a graph after setting its gradients to 0."""
    for node in program.nodes:
        node.grad = 0.0
    try:
        program.nodes[-1].backward()
    except ARITHMETIC:
        for node in program.nodes:
            node.local_derivatives()  # the one that raises says so, naming its operation
        raise
    gradients = [node.grad for node in program.nodes]
    return Sweep(program, gradients, program.rounding_of_gradients(seed), program.terms())


def forward_of(node: Value) -> Callable[..., float]:
    """The forward function of a node.

    A node given as a number has none. Its tangent plane at its operands replaces it for random rounding; otherwise only
    the function that made the node can be run again.
    """
    if not isinstance(node.op, Given):
        return node.op.forward
    y, operands, slopes = node.data, [parent.data for parent in node.parents], node.local_derivatives()
    return lambda *xs: y + sum([d * (x - was) for x, was, d in zip(xs, operands, slopes, strict=True) if x != was])


@contextmanager
def restored(values: Iterable[Value]) -> Iterator[None]:
    """Restore the data and the gradients of these Values at the end, even after an error."""
    before = [(value, value.data, value.grad) for value in values]
    try:
        yield
    finally:
        for value, data, gradient in before:
            value.data = data
            value.grad = gradient
