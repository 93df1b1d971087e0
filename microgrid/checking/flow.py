"""The flow along the edges of a graph in a backward pass, as flat lists, for ``why``."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import compress
from typing import NamedTuple

from microgrid.engine import Value, topological_order
from microgrid.ops import Op, mul
from microgrid.ops.op import SUM
from microgrid.reverse import receivers

OWN = -1
"""In the place of an argument: the node's own sum of flows. Arguments themselves are 0 or more."""


class Edge(NamedTuple):
    """The edge from a node to its operand ``argument``, or with ``OWN`` the sum of the flows to the node."""

    node: int
    argument: int


class Flow:
    """The graph of some outputs with the gradient of their sum by every node, at the present data.

    Attributes:
        nodes: the graph in topological order.
        position: the place of each node in it.
        operands: for each node the positions of its parents.
        locals: its local derivatives, one for each parent.
        values: the number at each node.
        gradients: ∂(Σ outputs)/∂node.
        sizes: Σ |flow| into each node: far above the gradient where paths cancel.
        open: whether anything flows to each node; ``None`` if something flows to all.
        alive: whether a path that is not cut by a constant 0 leads to an output.
        zero: for each node to which a 0 flows, the nearest edge that makes it 0.
        cut: for each node the edge nearest the output at which a constant 0 cuts the flow to it.
        bad: the same for a flow that became infinite or nan.
    """

    def __init__(self, outputs: Sequence[Value]) -> None:
        self.outputs = outputs
        self.nodes = topological_order(*outputs)
        self.position = position = {node: i for i, node in enumerate(self.nodes)}
        self.values = [node._data for node in self.nodes]
        self.operands = [tuple([position[parent] for parent in node.parents]) for node in self.nodes]
        self.locals = [self._locals(node, operands) for node, operands in zip(self.nodes, self.operands, strict=True)]
        self.open = [receivers(node) if node.op.cuts else None for node in self.nodes]
        count = len(self.nodes)
        self.gradients, self.sizes, self.alive = [0.0] * count, [0.0] * count, [False] * count
        self.zero: list[Edge | None] = [None] * count
        self.cut: list[Edge | None] = [None] * count
        self.bad: list[Edge | None] = [None] * count
        for output in outputs:
            self.gradients[position[output]] += 1.0
            self.alive[position[output]] = True
        self._sweep()

    def _locals(self, node: Value, operands: tuple[int, ...]) -> tuple[float, ...]:
        if node.op is mul:  # most nodes are products or sums
            return self.values[operands[1]], self.values[operands[0]]
        if type(node.op) is Op and node.op.form == SUM:
            return (1.0,) * len(operands)
        return node.local_derivatives() if operands else ()

    def _sweep(self) -> None:
        gradients, sizes, alive, zero, cut, bad = self.gradients, self.sizes, self.alive, self.zero, self.cut, self.bad
        for i in reversed(range(len(self.nodes))):
            operands = self.operands[i]
            if not operands:
                continue
            gradient, lives, mask = gradients[i], alive[i], self.open[i]
            if lives and not gradient and sizes[i]:
                zero[i] = Edge(i, OWN)
            if bad[i] is None and not math.isfinite(gradient):
                bad[i] = Edge(i, OWN)
            for k, (j, derivative) in enumerate(zip(operands, self.locals[i], strict=True)):
                if not lives or (mask and not mask[k]):
                    if cut[j] is None:
                        cut[j] = Edge(i, k) if lives else cut[i]
                    continue
                alive[j] = True
                flow = gradient * derivative
                if flow:
                    gradients[j] += flow
                    sizes[j] += abs(flow)
                    if bad[j] is None and not math.isfinite(flow):
                        bad[j] = bad[i] or Edge(i, k)
                elif zero[j] is None:
                    zero[j] = zero[i] if derivative and not gradient else Edge(i, k)

    def first_zero(self, i: int) -> Edge | None:
        """An edge at which the flow to a node became 0: where it was cut, if all of it was."""
        return self.zero[i] if self.alive[i] else self.cut[i]

    def depends(self, start: int) -> list[bool]:
        """For each node whether it depends on the start, itself included, along paths that matter.

        Edges that the constant 0 cuts matter only if no other path leads to an output.
        """
        depends = [False] * len(self.nodes)
        depends[start] = True
        alive, found = self.alive[start], depends.__getitem__
        for i in range(start + 1, len(self.nodes)):
            mask = self.open[i] if alive else None
            depends[i] = any(map(found, self.operands[i] if mask is None else compress(self.operands[i], mask)))
        return depends

    def arriving(self, i: int) -> list[float]:
        """The flows to a node along each edge."""
        return [
            self.gradients[c] * self.locals[c][k]
            for c in range(i, len(self.nodes))
            if self.alive[c] and i in self.operands[c]
            for k, j in enumerate(self.operands[c])
            if j == i and not self.is_cut(c, k)
        ]

    @cached_property
    def child(self) -> list[int | None]:
        """For each node the first node computed from it."""
        child: list[int | None] = [None] * len(self.nodes)
        for i in reversed(range(len(self.nodes))):
            for j in self.operands[i]:
                child[j] = i
        return child

    @cached_property
    def strongest(self) -> list[Edge | None]:
        """For each node the first edge of that path to an output whose |product of local derivatives| is the largest.

        Products are compared by their logarithms, which neither overflow nor underflow.
        """
        logarithms = [-math.inf] * len(self.nodes)
        step: list[Edge | None] = [None] * len(self.nodes)
        for output in self.outputs:
            logarithms[self.position[output]] = 0.0
        for i in reversed(range(len(self.nodes))):
            so_far = logarithms[i]
            if so_far == -math.inf:
                continue
            mask = self.open[i]
            for k, (j, derivative) in enumerate(zip(self.operands[i], self.locals[i], strict=True)):
                if derivative and (mask is None or mask[k]):
                    along = so_far + (0.0 if math.isnan(derivative) else math.log(abs(derivative)))
                    if along > logarithms[j]:
                        logarithms[j], step[j] = along, Edge(i, k)
        return step

    def path(self, i: int) -> list[Edge]:
        """The edges of the strongest path to the output, from the output on."""
        step = self.strongest
        found = []
        edge = step[i]
        while edge is not None:
            found.append(edge)
            edge = step[edge.node]
        return found[::-1]

    def along(self, edge: Edge) -> float:
        """The flow along an edge; the gradient itself for the sum of flows."""
        gradient = self.gradients[edge.node]
        return gradient if edge.argument < 0 else gradient * self.locals[edge.node][edge.argument]

    def is_cut(self, i: int, k: int) -> bool:
        """Whether the row says that nothing ever flows from a node to its operand k."""
        mask = self.open[i]
        return mask is not None and not mask[k]


def first_not_finite(values: Sequence[float], operands: Sequence[tuple[int, ...]]) -> Callable[[int], int | None]:
    """Return a function of a node i that finds the origin of a nan, or else of an infinity, in it or its operands.

    It returns ``None`` if all of these are finite. A nan made of infinities is followed to the first of them.
    """
    kinds = []
    for like in (math.isnan, math.isinf):
        first = list(range(len(values)))
        for j, mine in enumerate(operands):
            found = next((k for k in mine if like(values[k])), None)
            if found is not None:
                first[j] = first[found]
        kinds.append((like, first))

    def at(i: int) -> int | None:
        place: int | None = None
        for like, first in kinds:
            found = next((j for j in (*operands[i], i) if like(values[j])), None)
            if found is not None:
                place = i = first[found]
        return place

    return at
