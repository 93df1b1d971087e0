"""Which numbers of a graph are nothing but rounding, so that a picture shows 0 and not 1.1102e-16.

Every result is rounded to 53 bits, and every operation passes on the errors of its operands times its
local derivatives. Added up along the graph, once forward and once back, this bounds the error of each number
to first order (Higham, Accuracy and Stability of Numerical Algorithms, 2002, chapter 3). A number that is
smaller than its own bound says nothing; ``sin(math.pi)`` is one, a vanishing gradient of 1e-20 is not.
"""

from collections.abc import Sequence

from microgrid.engine import Value

UNIT = 2.0**-53
"""The largest relative error of one rounding."""

SMALL = 1e-12
"""Only below this may a number be called nothing, whatever the bound: near a kink the bound is too wide."""


class Rounding:
    """The numbers of a graph with those that are only rounding replaced by 0.

    Args:
        order: the nodes, as ``topological_order`` gives them.
    """

    def __init__(self, order: Sequence[Value]) -> None:
        self._data: dict[Value, float] = {}
        self._gradient: dict[Value, float] = dict.fromkeys(order, 0.0)
        self._derivatives: dict[Value, tuple[float, ...]] = {}
        self._flows: dict[Value, tuple[float, ...]] = {}
        for node in order:
            self._data[node] = UNIT * abs(node.data) + sum(
                [abs(d) * self._data[p] for d, p in zip(node.local_derivatives(), node.parents, strict=True)]
            )
        for node in reversed(order):
            self._back(node)

    def _back(self, node: Value) -> None:
        derivatives, flows = node.local_derivatives(), []
        parents, gradient, error = node.parents, node.grad, self._gradient[node] + UNIT * abs(node.grad)
        moved = self._moved(node)
        for parent, d, d_moved, partial in zip(parents, derivatives, moved, node.op.partials, strict=True):
            constant_zero = not callable(partial) and not partial  # sends nothing back, not 0 × inf
            d_error = abs(d_moved - d)
            flow = 0.0 if constant_zero else gradient * d
            flow_error = error * abs(d) + abs(gradient) * d_error
            self._gradient[parent] += flow_error
            flows.append(_settled(flow, flow_error))
        self._derivatives[node] = tuple(
            [_settled(d, abs(d_moved - d)) for d, d_moved in zip(derivatives, moved, strict=True)]
        )
        self._flows[node] = tuple(flows)

    def _moved(self, node: Value) -> tuple[float, ...]:
        """The local derivatives where every number is off by its error: how well they are known."""
        try:
            return node.op.local_derivatives(
                node.data + self._data[node], *[parent.data + self._data[parent] for parent in node.parents]
            )
        except (ArithmeticError, ValueError):  # a row of the user's may raise where it is not defined
            return node.local_derivatives()

    def data(self, node: Value) -> float:
        """Return the node's number."""
        return _settled(node.data, self._data[node])

    def gradient(self, node: Value) -> float:
        """Return the node's gradient."""
        return _settled(node.grad, self._gradient[node])

    def local_derivatives(self, node: Value) -> tuple[float, ...]:
        """Return ∂node/∂parent for each parent."""
        return self._derivatives[node]

    def flows(self, node: Value) -> tuple[float, ...]:
        """Return what ``backward()`` sends to each parent: the gradient times the local derivative."""
        return self._flows[node]


def _settled(number: float, error: float) -> float:
    return 0.0 if abs(number) <= error and abs(number) < SMALL else number
