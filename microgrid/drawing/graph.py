"""What a picture of a computation graph is made of: nodes, edges and clusters, as plain data.

Nothing here knows of Graphviz, SVG or HTML: the static picture and the interactive page are both
made from a ``Graph``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from microgrid.engine import Value, topological_order
from microgrid.ops import CONSTANT


@dataclass(frozen=True, slots=True)
class Node:
    """One box of a picture: one Value, or several drawn as one.

    Attributes:
        values: the Values it stands for, in topological order; usually one.
        kind: ``"input"`` (a leaf), ``"parameter"`` (a leaf that a module trains), ``"constant"``,
            ``"operation"``, or ``"group"`` for several Values drawn as one.
        title: what a group is called; empty for a single Value, which has its own label.
        cluster: the index in ``Graph.clusters`` of the inmost cluster around it, or ``None``.
        is_output: whether the picture was asked of this Value.
    """

    values: tuple[Value, ...]
    kind: str
    title: str = ""
    cluster: int | None = None
    is_output: bool = False

    @property
    def value(self) -> Value:
        """The Value, or the last one of a group."""
        return self.values[-1]


@dataclass(frozen=True, slots=True)
class Edge:
    """One use of an operand: ``x * x`` has two edges from ``x``.

    Attributes:
        source: the index of the operand in ``Graph.nodes``.
        target: the index of the result.
        argument: which argument of the operation it is, from 0.
        derivative: the local derivative ∂target/∂source for this argument.
        flow: the gradient that flows back along it: the gradient of the target × the local derivative.
        count: how many uses are drawn as this one; above 1 next to groups, where the two numbers are 0.
    """

    source: int
    target: int
    argument: int = 0
    derivative: float = 0.0
    flow: float = 0.0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Cluster:
    """A frame around the nodes of a neuron, a layer or a network; ``parent`` is the frame around it."""

    title: str
    module: Any
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A picture's content. Nodes stand in topological order: every edge leads to a later node."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    total: int = field(default=0)
    """How many Values the whole computation graph has, drawn or not."""


def extract(outputs: Sequence[Value]) -> Graph:
    """Return the graph of everything that the outputs depend on, one node per Value."""
    order = topological_order(*outputs)
    wanted = set(outputs)
    index = {value: i for i, value in enumerate(order)}
    nodes = [Node((value,), _kind(value), is_output=value in wanted) for value in order]
    edges = [edge for value in order if value.first is not None for edge in _edges(value, index)]
    return Graph(tuple(nodes), tuple(edges), total=len(order))


def _kind(value: Value) -> str:
    if value.first is not None:
        return "operation"
    return "constant" if value.op is CONSTANT else "input"


def _edges(value: Value, index: dict[Value, int]) -> list[Edge]:
    target = index[value]
    return [
        Edge(index[parent], target, argument, derivative, flow_back(value, argument, derivative))
        for argument, (parent, derivative) in enumerate(zip(value.parents, value.local_derivatives(), strict=True))
    ]


def flow_back(value: Value, argument: int, derivative: float) -> float:
    """Return what ``backward()`` sends along one edge: nothing, not 0 × inf, where the derivative is always 0."""
    partial = value.op.partials[argument]
    return value.grad * derivative if callable(partial) or partial else 0.0


def reaches(value: Value, limit: int) -> bool:
    """Return whether a graph has more than ``limit`` nodes, without walking further than that."""
    seen = {value}
    stack = [value]
    while stack and len(seen) <= limit:
        new = set(stack.pop().parents) - seen
        seen |= new
        stack.extend(new)
    return len(seen) > limit
