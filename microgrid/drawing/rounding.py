"""The numbers of a picture, and which of them are mere rounding noise: the picture shows 0, not 1.1102e-16.

Every result is rounded to 53 bits, and every operation passes on the errors of its operands times its
local derivatives. Added up along the graph, once forward and once back, this bounds the error of each number
to first order (Higham, Accuracy and Stability of Numerical Algorithms, 2002, chapter 3). A number
smaller than its own bound means nothing; ``sin(math.pi)`` is one, a vanishing gradient of 1e-20 is not.
"""

import math
from collections.abc import Iterable, Sequence

from microgrid.engine import Value
from microgrid.given import Given

UNIT = 2.0**-52
"""The distance from 1 to the next float: twice the error of one rounding, so that it moves a number."""

SMALL = 1e-12
"""Only numbers below this count as noise, whatever the bound: near a kink the bound is too wide."""


class Numbers:
    """The numbers of a picture for each Value.

    Args:
        order: the nodes whose rounding noise is found, as ``topological_order`` gives them. Their
            operands beyond it count as exact. The numbers of all other nodes are shown as they are.
        live: the nodes that send gradients back.
    """

    def __init__(self, order: Sequence[Value] = (), live: Iterable[Value] = ()) -> None:
        self._live = set(live)
        self._data_errors: dict[Value, float] = {}
        self._gradient_errors: dict[Value, float] = dict.fromkeys(order, 0.0)
        self._derivative_errors: dict[Value, list[float]] = {}
        for node in order:
            self._data_errors[node] = _rounding(node.data) + sum(
                [
                    abs(derivative) * self._data_error(parent)
                    for derivative, parent in zip(_derivatives(node), node.parents, strict=True)
                ]
            )
        for node in reversed(order):
            self._derivative_errors[node] = [
                abs(there - here) for there, here in zip(self._moved(node), _derivatives(node), strict=True)
            ]
            for parent, error in zip(node.parents, self._flow_errors(node), strict=True):
                if parent in self._gradient_errors:
                    self._gradient_errors[parent] += error

    def data(self, node: Value) -> float:
        """Return the node's number."""
        return _settled(node.data, self._data_errors.get(node, 0.0))

    def gradient(self, node: Value) -> float:
        """Return the node's gradient."""
        return _settled(node.grad, self._gradient_errors.get(node, 0.0))

    def local_derivatives(self, node: Value) -> tuple[float, ...]:
        """Return ∂node/∂parent for each parent."""
        errors = self._derivative_errors.get(node)
        derivatives = _derivatives(node)
        return tuple(map(_settled, derivatives, errors)) if errors else derivatives

    def flows(self, node: Value) -> tuple[float, ...]:
        """Return the flow of ``backward()`` to each parent: the gradient times the local derivative."""
        # What is always 0 sends nothing back, not 0 × inf.
        flows = [
            node.grad * derivative if node in self._live and connected else 0.0
            for derivative, connected in zip(_derivatives(node), node.op.connected, strict=True)
        ]
        return tuple(map(_settled, flows, self._flow_errors(node)) if node in self._derivative_errors else flows)

    def _data_error(self, node: Value) -> float:
        return self._data_errors.get(node, _rounding(node.data))

    def _moved(self, node: Value) -> tuple[float, ...]:
        """The local derivatives with every number off by its error, to see how well they are known."""
        try:
            return node.op.local_derivatives(
                node.data + self._data_error(node), *[parent.data + self._data_error(parent) for parent in node.parents]
            )
        except (ArithmeticError, ValueError):  # a row of the user's may raise where it is not defined
            return _derivatives(node)

    def _flow_errors(self, node: Value) -> list[float]:
        error = self._gradient_errors[node] + UNIT * abs(node.grad)
        return [
            error * abs(derivative) + abs(node.grad) * derivative_error
            for derivative, derivative_error in zip(_derivatives(node), self._derivative_errors[node], strict=True)
        ]


def _rounding(number: float) -> float:
    """By how much a result is off by its own rounding; one that is infinite is not rounded."""
    return UNIT * abs(number) if math.isfinite(number) else 0.0


def _derivatives(node: Value) -> tuple[float, ...]:
    """The local derivatives; nan where the user has not given them yet."""
    if isinstance(node.op, Given) and not node.op.is_known:
        return (math.nan,) * node.op.arity
    return node.local_derivatives()


def _settled(number: float, error: float) -> float:
    return 0.0 if abs(number) <= error and abs(number) < SMALL else number
