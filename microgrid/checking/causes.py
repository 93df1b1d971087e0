"""Where gradients become 0, infinite or nan in the backward pass, and the cause."""

import math
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from functools import cached_property

from microgrid.checking.flow import OWN, Edge, Flow, first_not_finite
from microgrid.checking.units import Units
from microgrid.ops import Op, Operation, absolute, mul, relu, stop_gradient


class Cause(StrEnum):
    """The cause of a gradient that is 0, small, large, infinite or nan."""

    NOTHING = "nothing wrong"
    NO_PATH = "no path"
    STOPPED = "stopped"
    """at ``stop_gradient``"""
    STEP = "a step"
    """a comparison, floor, sign, the condition of where: its local derivative is the constant 0"""
    OFF = "off"
    """a ReLU with a negative input"""
    NOT_CHOSEN = "not chosen"
    """the other branch of where, the smaller of a maximum, a value that clip holds"""
    KINK = "a kink"
    """|x| at 0"""
    SATURATED = "saturated"
    FLAT = "flat"
    """a smooth operation where its slope is 0, as x² at 0"""
    ZERO_FACTOR = "times zero"
    CANCELLED = "paths cancel"
    SMALL_FACTORS = "small factors"
    LARGE_FACTORS = "large factors"
    OVERFLOW = "overflow"
    INFINITE_DERIVATIVE = "infinite slope"
    ZERO_TIMES_INFINITY = "0 · ∞"
    INFINITIES_CANCEL = "∞ − ∞"
    NAN = "nan arises"


OF_ROWS: dict[Operation, Cause] = {relu: Cause.OFF, absolute: Cause.KINK, mul: Cause.ZERO_FACTOR}
"""The cause of a slope of 0 of these operations."""


class Causes:
    """The causes of gradients that are 0, infinite or nan, at the edges of a graph."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.units = Units(flow)

    @cached_property
    def first_not_finite(self) -> Callable[[int], int | None]:
        """The function of a node that finds the origin of its infinity or nan."""
        return first_not_finite(self.flow.values, self.flow.operands)

    @cached_property
    def saturation(self) -> dict[Operation, float]:
        """The logarithm of the slope at 0 of each operation that saturates, as tanh does, and −∞ of the others."""
        return {op: _saturation(op) for op in {node.op for node in self.flow.nodes}}

    def deaths(self, start: int) -> list[Edge]:
        """The edges at which the flow to a node becomes 0, nearest the output first.

        Of all edges with 0 on some path these are the first seen from the output, or the first seen from the node,
        whichever are fewer kinds: if its own ReLU is off, other ReLUs further on do not matter.
        """
        flow, depends = self.flow, self.flow.depends(start)
        later = [i for i in range(start, len(flow.nodes)) if depends[i] and flow.alive[i]]
        if not flow.alive[start]:
            cuts = [i for i in reversed(later) if flow.open[i] is not None]
            pairs = [(i, k) for i in cuts for k, j in reversed([*enumerate(flow.operands[i])]) if depends[j]]
            return [Edge(i, k) for i, k in pairs if flow.is_cut(i, k)]
        far = [Edge(i, OWN) for i in later if flow.sizes[i] and not flow.gradients[i]]
        reached, near = {start}, []
        for i in later:
            gradient, derivatives = flow.gradients[i], flow.locals[i]
            for k, j in enumerate(flow.operands[i]):
                if depends[j]:
                    if gradient and not gradient * derivatives[k]:
                        far.append(Edge(i, k))
                    if j in reached and not flow.is_cut(i, k):
                        if derivatives[k]:
                            reached.add(i)
                        else:
                            near.append(Edge(i, k))
        if any(flow.position[output] in reached for output in flow.outputs):
            near = far
        chosen = min(far, near, key=lambda found: len(set(map(self.key, found))))
        return sorted(chosen, reverse=True)

    def births(self, start: int) -> list[Edge]:
        """The edges, nearest the output first, at which the flow to a node becomes infinite or nan."""
        flow, found = self.flow, []
        depends = flow.depends(start)
        arrived: dict[int, float] = {}
        for i in reversed(range(start, len(flow.nodes))):
            if not depends[i] or not flow.alive[i]:
                continue
            gradient = flow.gradients[i]
            if not math.isfinite(gradient) and math.isnan(gradient) != math.isnan(arrived.get(i, 0.0)):
                found.append(Edge(i, OWN))  # ∞ − ∞
            elif math.isinf(gradient) and i not in arrived:
                found.append(Edge(i, OWN))  # a sum of finite numbers
            for k, j in enumerate(flow.operands[i]):
                if depends[j] and not flow.is_cut(i, k):
                    along = gradient * flow.locals[i][k]
                    if not math.isfinite(along):
                        arrived[j] = along if not math.isnan(arrived.get(j, 0.0)) else math.nan
                        if math.isfinite(gradient) or math.isnan(along) != math.isnan(gradient):
                            found.append(Edge(i, k))
        if math.isnan(flow.gradients[start]):  # the nan itself, before the infinities that led to it
            found.sort(key=lambda edge: not math.isnan(flow.along(edge)))
        return found

    def key(self, edge: Edge, layers: bool = False) -> tuple[Cause, str, str]:
        """The key by which edges are grouped: the cause, the operation, and the unit or the layer."""
        cause, i = self.cause(edge), edge.node
        if cause is Cause.ZERO_FACTOR:  # what comes of one 0 belongs together
            i = self.zero_source(self.other(edge))
        module = self.units.layer_of.get(i) if layers else None
        return cause, self.flow.nodes[i].op.name, module or self.units.unit(i)

    def cause(self, edge: Edge) -> Cause:
        """The cause of a flow along an edge that is 0, infinite or nan."""
        flow, (i, k) = self.flow, edge
        gradient, along = flow.gradients[i], flow.along(edge)
        if k < 0:
            if math.isnan(gradient):
                return Cause.INFINITIES_CANCEL
            return Cause.LARGE_FACTORS if math.isinf(gradient) else Cause.CANCELLED
        if flow.is_cut(i, k):
            if flow.nodes[i].op.connected[k]:
                return Cause.NOT_CHOSEN
            return Cause.STOPPED if flow.nodes[i].op is stop_gradient else Cause.STEP
        op, derivative = flow.nodes[i].op, flow.locals[i][k]
        if math.isfinite(along):
            if derivative:
                return Cause.SMALL_FACTORS
            if op in OF_ROWS:
                return OF_ROWS[op]
            if self.saturation[op] > -math.inf:
                return Cause.SATURATED
            return Cause.NOT_CHOSEN if op.kink is not None and self.stays(edge) else Cause.FLAT
        if math.isnan(along) and not math.isnan(derivative):
            return Cause.ZERO_TIMES_INFINITY
        if math.isfinite(derivative):
            return Cause.LARGE_FACTORS
        at = self.place(edge)
        of_its_own = math.isfinite(flow.values[at])
        if math.isnan(derivative if of_its_own else flow.values[at]):
            return Cause.NAN
        return Cause.INFINITE_DERIVATIVE if of_its_own or self.is_pole(at) else Cause.OVERFLOW

    def place(self, edge: Edge) -> int:
        """The node of the cause: if the local derivative is not finite, the one with the first such number."""
        flow, (i, k) = self.flow, edge
        place = None if k < 0 or math.isfinite(flow.locals[i][k]) else self.first_not_finite(i)
        return i if place is None else place

    def stays(self, edge: Edge) -> bool:
        """Whether moving an operand changes nothing, on one side at least, as if it is not chosen."""
        (i, k), values = edge, self.flow.values
        xs = [values[j] for j in self.flow.operands[i]]
        step = 1e-3 * max(1.0, abs(xs[k]))
        forward = self.flow.nodes[i].op.forward
        return any(forward(*xs[:k], x, *xs[k + 1 :]) == values[i] for x in (xs[k] - step, xs[k] + step))

    def is_pole(self, i: int) -> bool:
        """Whether an infinity is a pole of the function, at 0 or an end of its domain, and not an overflow."""
        node = self.flow.nodes[i]
        pairs = zip(node.parents, node.op.domain, strict=True)
        return any(not x.data or x.data not in domain for x, domain in pairs)

    def zero_source(self, i: int) -> int:
        """Follow a 0 up through products to its origin."""
        while self.flow.nodes[i].op is mul:
            zero = next((j for j in self.flow.operands[i] if not self.flow.values[j]), None)
            if zero is None:
                break
            i = zero
        return i

    def other(self, edge: Edge) -> int:
        """The other operand of a product."""
        return self.flow.operands[edge.node][1 - edge.argument]


def _saturation(op: Operation) -> float:
    """The logarithm of its slope at 0, if it tends to a limit at an end of the line and its slope to 0; else −∞."""
    if not isinstance(op, Op) or op.arity != 1:
        return -math.inf
    with suppress(Exception):  # a user-defined row may not take infinities
        found = {x: (op(x), abs(op.local_derivatives(op(x), x)[0])) for x in (0.0, math.inf, -math.inf)}
        slope = found.pop(0.0)[1]
        if 0.0 < slope < math.inf and any(math.isfinite(y) and not flat for y, flat in found.values()):
            return math.log(slope)
    return -math.inf
